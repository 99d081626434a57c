//! Padding, batch and order never change a row's scores: for every listed method with its own token rewards, and for every
//! listed credit on a sequence reward model and on a sum of token rewards.

use super::dataset::EncodedSide;
use super::testing::{cpu, trained};
use super::{EncodedRow, Run, Scorer, world_model};
use crate::credit::{CREDITS, Credit};
use crate::objective::METHODS;
use crate::reward::TokenRewardRecord;
use crate::text::EncodedAnswer;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// One scorer to try, with its name for messages.
struct Subject {
    name: String,
    scorer: Scorer,
    pairs: bool,
}

// A scorer holds tensors of the processor's backend only, and every property runs on one thread at a time.
struct Shared(Vec<Subject>);

fn scorer_of(run: &Run, credit: &'static Credit) -> Scorer {
    let bytes = pollster::block_on(run.checkpoint()).expect("a checkpoint");
    let device = cpu();
    let model = world_model(&device.device).expect("the built-in model");
    pollster::block_on(Scorer::with_credit(model, &bytes, device, credit)).expect("a scorer")
}

/// Every method and every named variant of one with its own token rewards, then every credit that fits on three kinds of score.
fn subjects() -> &'static Shared {
    static SUBJECTS: OnceLock<Shared> = OnceLock::new();
    SUBJECTS.get_or_init(|| {
        let mut subjects = Vec::new();
        for method in METHODS {
            let run = trained(method.name, Value::Null, 3, 40);
            let pairs = run.held_out()[0].sides.len() == 2;
            subjects.push(Subject {
                name: method.name.into(),
                scorer: run.scorer().expect("a scorer"),
                pairs,
            });
        }
        for method in METHODS {
            for variant in method.variants {
                let run = trained(method.name, variant.options(), 3, 40);
                let pairs = run.held_out()[0].sides.len() == 2;
                subjects.push(Subject {
                    name: format!("{} {}", method.name, variant.name),
                    scorer: run.scorer().expect("a scorer"),
                    pairs,
                });
            }
        }
        for (method, options) in [
            ("bradley_terry", json!({})),
            ("bradley_terry", json!({"score": "mean"})),
            ("bradley_terry_sum", json!({})),
        ] {
            let run = trained(method, options.clone(), 3, 40);
            for credit in CREDITS {
                subjects.push(Subject {
                    name: format!("{method} {options} by {}", credit.name),
                    scorer: scorer_of(&run, credit),
                    pairs: true,
                });
            }
        }
        Shared(subjects)
    })
}

/// An answer of random tokens behind a prompt of random tokens; some have a second turn behind another's words.
fn side(prompt: Vec<u32>, answer: Vec<u32>, gap: Vec<u32>, more: Vec<u32>) -> EncodedSide {
    let mut ids = prompt;
    let mut resp = vec![false; ids.len()];
    for (part, inside) in [(answer, true), (gap, false), (more, true)] {
        resp.extend(vec![inside; part.len()]);
        ids.extend(part);
    }
    EncodedSide {
        encoded: EncodedAnswer {
            offsets: vec![None; ids.len()],
            resp,
            ids,
            answer_text: String::new(),
            truncated: false,
        },
        truth: None,
        labelled: None,
    }
}

/// Known ids of the world's vocabulary.
const IDS: std::ops::Range<u32> = 4..60;

fn sides(shortest_prompt: usize) -> impl Strategy<Value = EncodedSide> {
    let ids = |n: std::ops::Range<usize>| prop::collection::vec(IDS, n);
    (ids(shortest_prompt..8), ids(1..10), ids(0..4), ids(0..4))
        .prop_map(|(prompt, answer, gap, more)| side(prompt, answer, gap, more))
}

fn row(id: usize, sides: Vec<EncodedSide>) -> EncodedRow {
    EncodedRow {
        id: id.to_string(),
        line: id + 1,
        prompt: String::new(),
        sides,
        margin: None,
        strength: None,
        flipped: false,
        label: None,
    }
}

fn score(scorer: &Scorer, rows: &[EncodedRow]) -> Vec<TokenRewardRecord> {
    pollster::block_on(scorer.score(rows))
        .expect("scores")
        .records
}

/// The largest difference of two lists of records, relative to their own size.
fn apart(a: &[TokenRewardRecord], b: &[TokenRewardRecord]) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut apart = 0f32;
    for (a, b) in a.iter().zip(b) {
        assert_eq!(
            (&a.id, a.side, a.tokens.len()),
            (&b.id, b.side, b.tokens.len())
        );
        let numbers = |r: &TokenRewardRecord| {
            let tokens = r.tokens.iter().flat_map(|t| [t.mean, t.std]);
            tokens
                .chain([r.score.last, r.score.sum, r.score.mean])
                .collect::<Vec<f32>>()
        };
        for (x, y) in numbers(a).into_iter().zip(numbers(b)) {
            apart = apart.max((x - y).abs() / x.abs().max(y.abs()).max(1.0));
        }
    }
    apart
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn padding_batch_and_order_change_no_score(
        drawn in prop::collection::vec((sides(1), sides(1)), 3..8),
        batch in 2usize..8,
        turn in 1usize..7,
        padding in 0usize..30,
    ) {
        for subject in &subjects().0 {
            let rows: Vec<EncodedRow> = drawn
                .iter()
                .enumerate()
                .map(|(i, (a, b))| match subject.pairs {
                    true => row(i, vec![a.clone(), b.clone()]),
                    false => row(i, vec![a.clone()]),
                })
                .collect();
            let alone: Vec<TokenRewardRecord> =
                rows.iter().flat_map(|row| score(&subject.scorer, std::slice::from_ref(row))).collect();

            // Another order, in one batch with a longer row that pads all others.
            let n = rows.len();
            let mut turned: Vec<EncodedRow> = (0..n).map(|i| rows[(i + turn) % n].clone()).collect();
            let long = side(vec![5; 3], vec![7; 20 + padding], vec![], vec![]);
            turned.push(row(n, vec![long; if subject.pairs { 2 } else { 1 }]));
            let mut together = score(&subject.scorer, &turned);
            let sides = together.len() / turned.len();
            together.truncate(sides * n);
            let mut back: Vec<TokenRewardRecord> = Vec::new();
            for i in 0..n {
                let at = (i + n - turn % n) % n * sides;
                back.extend_from_slice(&together[at..at + sides]);
            }
            let difference = apart(&alone, &back);
            prop_assert!(difference < 2e-4, "{}: {difference}", subject.name);

            // One after the other in small batches.
            let mut small = score(&subject.scorer, &rows[..n.min(batch)]);
            small.extend(score(&subject.scorer, &rows[n.min(batch)..]));
            let difference = apart(&alone, &small);
            prop_assert!(difference < 2e-4, "{}: {difference}", subject.name);
        }
    }

}

// Few cases: a batch of pairs and a batch of single answers differ in their shape, not in their words.
proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    /// A truth asks for single answers whatever the method was trained on, and they get what they would have in a pair.
    #[test]
    fn an_answer_alone_is_scored_as_in_a_pair(
        drawn in prop::collection::vec((sides(1), sides(1)), 1..6),
    ) {
        for subject in subjects().0.iter().filter(|subject| subject.pairs) {
            let both: Vec<EncodedRow> =
                drawn.iter().enumerate().map(|(i, (a, b))| row(i, vec![a.clone(), b.clone()])).collect();
            let single: Vec<EncodedRow> =
                drawn.iter().enumerate().map(|(i, (a, _))| row(i, vec![a.clone()])).collect();
            let in_pairs: Vec<TokenRewardRecord> = score(&subject.scorer, &both).into_iter().step_by(2).collect();
            let mut alone = score(&subject.scorer, &single);
            for (alone, paired) in alone.iter_mut().zip(&in_pairs) {
                alone.side = paired.side;
            }
            let difference = apart(&in_pairs, &alone);
            prop_assert!(difference < 2e-4, "{}: {difference}", subject.name);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// What every credit promises about its sum, on a trained model: ABC, uniform and sparse give the sequence's reward
    /// back, RED the difference to the prompt's, whichever way the sequence is scored.
    #[test]
    fn credits_sum_to_the_sequence_s_reward(drawn in prop::collection::vec(sides(2), 2..6)) {
        let rows: Vec<EncodedRow> =
            drawn.into_iter().enumerate().map(|(i, side)| row(i, vec![side])).collect();
        let subjects = &subjects().0;
        for of in ["bradley_terry {}", "bradley_terry {\"score\":\"mean\"}", "bradley_terry_sum {}"] {
            let by = |credit: &str| {
                let name = format!("{of} by {credit}");
                let subject = subjects.iter().find(|s| s.name == name).expect("a subject");
                score(&subject.scorer, &rows)
            };
            let own = by("own");
            let reward: Vec<f32> = own
                .iter()
                .map(|record| match of {
                    "bradley_terry {}" => record.score.last,
                    "bradley_terry_sum {}" => record.score.sum,
                    _ => record.score.mean,
                })
                .collect();
            for credit in ["abc", "abc_d", "uniform", "sparse"] {
                for (record, reward) in by(credit).iter().zip(&reward) {
                    let difference = (record.score.sum - reward).abs();
                    prop_assert!(difference < 1e-4 * reward.abs().max(1.0), "{of} {credit}: {difference}");
                }
            }
            let red = by("red");
            for (i, (record, reward)) in red.iter().zip(&reward).enumerate() {
                // The prompt's own score: the head's word after it, or nothing where tokens are added up.
                let prompt = match of {
                    "bradley_terry {}" => prompt_score(subjects, of, &rows[i]),
                    _ => 0.0,
                };
                let difference = (record.score.sum - (reward - prompt)).abs();
                prop_assert!(difference < 1e-4 * reward.abs().max(1.0), "{of} red: {difference}");
            }
        }
    }
}

/// The score of a row's prompt, by the model that reads it as an answer: its last token's own reward.
fn prompt_score(subjects: &[Subject], of: &str, row: &EncodedRow) -> f32 {
    let encoded = &row.sides[0].encoded;
    let first = encoded.resp.iter().position(|r| *r).expect("an answer");
    let mut ids = encoded.ids[..first].to_vec();
    let at = ids.len() - 1;
    let answer = vec![ids.remove(at)];
    let alone = self::row(0, vec![side(ids, answer, vec![], vec![])]);
    let name = format!("{of} by own");
    let subject = subjects.iter().find(|s| s.name == name).expect("a subject");
    score(&subject.scorer, &[alone])[0].score.last
}

#[test]
fn red_telescopes_over_every_prefix_of_one_answer() {
    let run = trained("bradley_terry", json!({}), 3, 40);
    let (own, red) = (
        scorer_of(&run, &CREDITS[0]),
        run.scorer_with(crate::credit::by_name("red").expect("red"))
            .expect("a scorer"),
    );
    let ids: Vec<u32> = (10..22).collect();
    let whole = score(
        &red,
        &[row(
            0,
            vec![side(ids[..3].to_vec(), ids[3..].to_vec(), vec![], vec![])],
        )],
    );
    // Each prefix scored by itself: the last token's own reward.
    let of_prefix = |n: usize| {
        let row = row(
            0,
            vec![side(
                ids[..n - 1].to_vec(),
                vec![ids[n - 1]],
                vec![],
                vec![],
            )],
        );
        score(&own, &[row])[0].score.last
    };
    let mut moved = 0f32;
    for (i, token) in whole[0].tokens.iter().enumerate() {
        let difference = of_prefix(4 + i) - of_prefix(3 + i);
        assert!(
            (token.mean - difference).abs() < 2e-5,
            "{i}: {} {difference}",
            token.mean
        );
        moved = moved.max(difference.abs());
    }
    assert!(moved > 1e-4, "a trained model scores prefixes differently");
    assert_eq!(whole[0].provenance.credit, "red");
}

#[test]
fn an_implicit_credit_needs_a_policy_that_moved_and_one_that_was_kept() {
    let run = trained("bradley_terry", json!({}), 3, 40);
    let implicit = crate::credit::by_name("implicit-dpo").expect("implicit");
    let error = run
        .scorer_with(implicit)
        .err()
        .expect("no reference")
        .to_string();
    assert!(error.contains("checkpoint"), "{error}");
    // DPO's own token rewards are the implicit ones, of its own beta.
    let dpo = trained("dpo", json!({"beta": 0.25}), 3, 40);
    let rows = &dpo.held_out()[..2];
    let means = |scorer: &Scorer, rows: &[EncodedRow]| -> Vec<f32> {
        let records = score(scorer, rows);
        let tokens = records.iter().flat_map(|record| &record.tokens);
        tokens.map(|token| token.mean).collect()
    };
    let own = means(&dpo.scorer().expect("a scorer"), rows);
    let spread = means(&scorer_of(&dpo, implicit), rows);
    assert!(own.iter().zip(&spread).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(own.iter().any(|mean| mean.abs() > 2e-4));
    // Of another method it is the log-ratio, until the run sets a beta: a weight of 2 on a likelihood that is off moves
    // nothing else.
    let by_beta = |beta: f64| {
        let run = trained("bradley_terry", json!({"beta": beta}), 3, 40);
        means(&scorer_of(&run, implicit), &run.held_out()[..2])
    };
    let (one, two) = (by_beta(1.0), by_beta(2.0));
    assert!(
        one.iter()
            .zip(&two)
            .all(|(a, b)| (2.0 * a - b).abs() < 1e-4 * b.abs().max(1e-2))
    );
    assert!(one.iter().any(|mean| mean.abs() > 1e-3));
}
