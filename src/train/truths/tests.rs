use super::*;
use crate::data::{LexiconEntry, Span};
use crate::objective::ScoreKind;
use crate::reward::{
    AnswerScore, Provenance, SCHEMA, Side, TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
use crate::text::EncodedAnswer;
use crate::train::dataset::EncodedSide;
use crate::train::testing::trained;
use crate::train::{EncodedRow, Metrics, Scored};
use serde_json::json;

mod question;

/// A record of words: (text, mean, labelled); words stand one space apart, and the space belongs to the word behind it.
fn record(id: usize, side: Side, words: &[(&str, f32, Option<bool>)]) -> TokenRewardRecord {
    let mut answer = String::new();
    let mut tokens = Vec::new();
    for (i, (word, mean, labelled)) in words.iter().enumerate() {
        let start = answer.chars().count();
        if i > 0 {
            answer.push(' ');
        }
        answer.push_str(word);
        tokens.push(TokenReward {
            id: i as u32,
            text: (*word).into(),
            start,
            end: answer.chars().count(),
            mean: *mean,
            std: 0.5 + mean.abs(),
            ignorance_std: None,
            total_std: None,
            true_mean: None,
            true_std: None,
            labelled: *labelled,
        });
    }
    TokenRewardRecord {
        schema: SCHEMA.into(),
        id: id.to_string(),
        side,
        label: None,
        prompt: String::new(),
        answer,
        truncated: false,
        provenance: Provenance {
            method: "m".into(),
            model: "m".into(),
            checkpoint: "c".into(),
            device: "d".into(),
            precision: "f32".into(),
            uncertainty: Uncertainty::TdSpread,
            credit: "own".into(),
            ignorance: None,
            trust: Trust::Exploratory,
            checked: Vec::new(),
        },
        score: AnswerScore::from_tokens(&tokens),
        tokens,
    }
}

/// Records whose tokens the policy finds equally likely.
fn scored(records: Vec<TokenRewardRecord>) -> Scored {
    let log_policy = records.iter().map(|r| vec![-1.0; r.tokens.len()]).collect();
    Scored {
        records,
        terms: Metrics::new(),
        z: Vec::new(),
        log_policy,
    }
}

fn answers(bad: f32, good: f32) -> Vec<TokenRewardRecord> {
    (0..20)
        .map(|i| {
            let noise = (i % 5) as f32 * 0.01;
            record(
                i,
                Side::Answer,
                &[
                    ("one", good + noise, Some(false)),
                    ("bad", bad - noise, Some(true)),
                    ("two", good - noise, Some(false)),
                ],
            )
        })
        .collect()
}

#[test]
fn a_map_that_marks_the_spans_passes_and_its_opposite_does_not() {
    let options = TruthOptions::default();
    let sides = [Side::Answer, Side::Rejected];
    let measure = |records| spans::measure("spans", &scored(records), &sides, &options).unwrap();
    let right = measure(answers(-1.0, 1.0));
    assert!(right.passed && right.main().unwrap().metric.value == Some(1.0));
    assert_eq!((right.answers, right.tokens), (20, 60));
    let wrong = measure(answers(1.0, -1.0));
    assert!(!wrong.passed && wrong.main().unwrap().metric.value == Some(0.0));
    let flat = measure(
        answers(0.0, 0.0)
            .into_iter()
            .map(|mut r| {
                r.tokens.iter_mut().for_each(|t| t.mean = 1.0);
                r
            })
            .collect(),
    );
    assert!(!flat.passed && flat.main().unwrap().metric.value == Some(0.5));
}

#[test]
fn few_answers_decide_nothing_and_a_kinder_draw_does_not_replace_a_failure() {
    assert!(RULE.contains(&format!("at least {LEAST_ANSWERS} answers")));
    let options = TruthOptions::default();
    let of = |records: Vec<TokenRewardRecord>| {
        spans::measure("spans", &scored(records), &[Side::Answer], &options).unwrap()
    };
    let first = |n: usize| answers(-1.0, 1.0).into_iter().take(n).collect::<Vec<_>>();
    let few = of(first(LEAST_ANSWERS - 1));
    assert!(few.undecided() && !few.passed && !few.passes());
    assert!(
        few.verdict().starts_with("undecided: 9 answers"),
        "{}",
        few.verdict()
    );
    assert!(few.main().unwrap().passed, "the figure alone would pass");
    let enough = of(first(LEAST_ANSWERS));
    assert!(enough.passed && enough.verdict() == "passed");
    // Many answers, of which few have a marked token, are few.
    let mut unmarked = answers(-1.0, 1.0);
    for record in &mut unmarked[3..] {
        record
            .tokens
            .iter_mut()
            .for_each(|token| token.labelled = Some(false));
    }
    let rare = of(unmarked);
    assert_eq!((rare.answers, rare.evidence, rare.passed), (20, 3, false));

    // Undecided results count neither way; a failure stays beside a later draw with another label.
    let mut file = TrustFile::default();
    let mut add = |data: &str, result: &TruthResult| {
        file.add(TrustEntry {
            checkpoint: "a".into(),
            credit: "own".into(),
            data: data.into(),
            result: result.clone(),
        });
        file.verdict("a", "own")
    };
    let verdict = add("x", &few);
    assert_eq!(
        (verdict.trust, verdict.undecided.len()),
        (Trust::Exploratory, 1)
    );
    assert_eq!(add("y", &enough).trust, Trust::Checked);
    assert_eq!(add("z", &of(answers(1.0, -1.0))).trust, Trust::Exploratory);
    let verdict = add("z, the first 10", &enough);
    assert_eq!(
        (verdict.trust, verdict.failed.len()),
        (Trust::Exploratory, 1)
    );
}

#[test]
fn one_class_and_no_labels_are_stated_undefined() {
    let options = TruthOptions::default();
    let one_class = vec![record(
        0,
        Side::Answer,
        &[("a", 0.0, Some(true)), ("b", 1.0, Some(true))],
    )];
    let none = vec![record(0, Side::Answer, &[("a", 0.0, None)])];
    for (records, reason) in [(one_class, "0 negative"), (none, "no answer has labelled")] {
        let result = spans::measure("spans", &scored(records), &[Side::Answer], &options).unwrap();
        let main = result.main().unwrap();
        let undefined = main.metric.undefined.as_deref().unwrap_or_default();
        assert!(
            undefined.starts_with("undefined: ") && undefined.contains(reason),
            "{undefined}"
        );
        assert!(!result.passed && main.metric.value.is_none());
        assert!(!serde_json::to_string(&result).unwrap().contains("NaN"));
    }
}

#[test]
fn edits_want_rejected_spans_low_and_chosen_spans_high() {
    // What the edited word of a chosen answer is worth, and how many chosen answers say where theirs stands.
    let measured = |gained: f32, labelled: usize| {
        let mut records = Vec::new();
        for i in 0..10 {
            let words = |good: f32, known: bool| {
                let label = |inside| known.then_some(inside);
                [("x", 0.0, label(false)), ("y", good, label(true))]
            };
            records.push(record(i, Side::Chosen, &words(gained, i < labelled)));
            records.push(record(i, Side::Rejected, &words(-1.0, true)));
        }
        let sides = [Side::Rejected, Side::Chosen];
        let options = TruthOptions::default();
        spans::measure("edits", &scored(records), &sides, &options).unwrap()
    };
    let value = |result: &TruthResult, name: &str| {
        let figure = result.figures.iter().find(|f| f.name == name).unwrap();
        (figure.metric.value, figure.decides, figure.passed)
    };
    let result = measured(1.0, 10);
    assert!(result.passed);
    let rejected = value(&result, "token AUC, rejected spans");
    assert_eq!(rejected, (Some(1.0), true, true));
    let chosen = value(&result, "token AUC, chosen spans");
    assert_eq!(chosen, (Some(1.0), true, true));
    // A policy that is as surprised by every token gives no floor above chance.
    assert_eq!(result.figures[0].floors[1].metric.value, Some(0.5));

    // What was gained is neutral: nothing to find, and nothing turned round.
    let result = measured(0.0, 10);
    assert!(result.passed && value(&result, "token AUC, chosen spans").0 == Some(0.5));
    // The map has it for a fault.
    let result = measured(-1.0, 10);
    assert!(!result.passed && value(&result, "token AUC, rejected spans").2);
    let words = result.figures[1].to_string();
    assert!(words.ends_with("not passed: below chance"), "{words}");
    // Too few chosen answers have labels to say that: they are shown, and the rejected ones decide.
    let result = measured(-1.0, LEAST_ANSWERS - 1);
    assert!(result.passed && !result.undecided());
    assert!(!value(&result, "token AUC, chosen spans").1);
    // And a file of before, in which the bar is not named, is read as it was meant.
    let json = serde_json::to_value(&measured(1.0, 10).figures[0]).unwrap();
    assert!(json.get("bar").is_none());
    assert!(
        serde_json::from_value::<TruthFigure>(json)
            .unwrap()
            .passes()
    );
}

#[test]
fn a_floor_above_the_interval_fails_a_figure() {
    let interval = |low, high| {
        Metric::of((low + high) / 2.0).with_interval(Some(crate::eval::Interval {
            low,
            high,
            level: 0.95,
        }))
    };
    let floor = |value| Floor::new("f", Metric::of(value));
    let passes = |metric: Metric, floors| TruthFigure::deciding("x", metric, floors).passed;
    assert!(passes(interval(0.6, 0.8), vec![floor(0.5)]));
    assert!(!passes(interval(0.6, 0.8), vec![floor(0.5), floor(0.65)]));
    assert!(!passes(interval(0.6, 0.8), vec![]));
    assert!(!passes(
        interval(0.6, 0.8),
        vec![Floor::new("f", Metric::undefined("x"))]
    ));
    assert!(!passes(Metric::of(0.9), vec![floor(0.5)]));
    assert!(!passes(Metric::undefined("x"), vec![floor(0.5)]));
}

/// A trace of `n` one-word steps, with the reward of each.
fn trace(
    id: usize,
    rewards: &[f32],
    first_wrong: Option<usize>,
) -> (EncodedTrace, TokenRewardRecord) {
    let words: Vec<(&str, f32, Option<bool>)> =
        rewards.iter().map(|r| ("step", *r, None)).collect();
    let record = record(id, Side::Answer, &words);
    let steps = (0..rewards.len())
        .map(|i| Span {
            start: i * 5,
            end: i * 5 + 4,
        })
        .collect();
    let row = EncodedRow {
        id: id.to_string(),
        line: id,
        prompt: String::new(),
        sides: vec![EncodedSide {
            encoded: EncodedAnswer {
                ids: vec![0; rewards.len() + 1],
                resp: vec![true; rewards.len() + 1],
                offsets: vec![None; rewards.len() + 1],
                answer_text: record.answer.clone(),
                truncated: false,
            },
            truth: None,
            labelled: None,
        }],
        margin: None,
        strength: None,
        flipped: false,
        label: None,
    };
    (
        EncodedTrace {
            row,
            steps,
            first_wrong,
        },
        record,
    )
}

#[test]
fn the_first_wrong_step_is_the_lowest_of_a_map_that_knows() {
    let options = TruthOptions::default();
    let mut both: Vec<_> = (0..30)
        .map(|i| {
            let at = 1 + i % 3;
            let mut rewards = [1.0f32; 5];
            rewards[at] = -1.0;
            // What stands behind the first wrong step counts for nothing in the AUC.
            rewards[4] = if i % 2 == 0 { -0.5 } else { 1.0 };
            trace(i, &rewards, Some(at))
        })
        .collect();
    both.push(trace(30, &[1.0, 1.0], None));
    let (traces, records): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    let measure = |records: Vec<TokenRewardRecord>| {
        steps::of_scored(&traces, &scored(records), ScoreKind::Sum, &options).unwrap()
    };
    let result = measure(records.clone());
    assert!(result.passed);
    assert_eq!(
        result.main().unwrap().name,
        "first wrong step found, by the sum"
    );
    assert_eq!((result.answers, result.tokens), (31, 152));
    for figure in &result.figures {
        assert_eq!(figure.metric.value, Some(1.0), "{figure}");
    }
    let floor = |name: &str| {
        let floors = &result.main().unwrap().floors;
        floors.iter().find(|f| f.name == name).unwrap().metric.value
    };
    assert!((floor("chance").unwrap() - 0.2).abs() < 1e-12);
    assert_eq!(
        (floor("first step"), floor("last step")),
        (Some(0.0), Some(0.0))
    );
    // A constant map finds the step as often as chance does.
    let flat = measure(
        records
            .into_iter()
            .map(|mut r| {
                r.tokens.iter_mut().for_each(|t| t.mean = 0.5);
                r
            })
            .collect(),
    );
    assert!(!flat.passed);
    assert!((flat.main().unwrap().metric.value.unwrap() - 0.2).abs() < 1e-12);
}

#[test]
fn traces_with_a_step_that_was_cut_away_are_counted_and_left_out() {
    let options = TruthOptions::default();
    let (whole, kept) = trace(0, &[1.0, 0.0], Some(1));
    let (cut, mut short) = trace(1, &[1.0, 0.0], Some(1));
    short.tokens.remove(0);
    let result = steps::of_scored(
        &[whole, cut],
        &scored(vec![kept, short]),
        ScoreKind::Mean,
        &options,
    )
    .unwrap();
    assert_eq!(result.answers, 1);
    assert!(
        result
            .notes
            .iter()
            .any(|note| note.starts_with("1 trace left out")),
        "{:?}",
        result.notes
    );
    let none = steps::of_scored(&[], &scored(Vec::new()), ScoreKind::Mean, &options).unwrap();
    assert!(
        none.main()
            .unwrap()
            .metric
            .undefined
            .as_deref()
            .unwrap()
            .contains("no trace has a wrong step")
    );
}

fn entry(word: &str, mean: f32, std: f32) -> LexiconEntry {
    LexiconEntry {
        word: word.into(),
        mean,
        std,
        ratings: [0; 10],
    }
}

#[test]
fn words_are_ordered_as_people_order_them() {
    let names: Vec<String> = (0..12).map(|i| format!("word{i}")).collect();
    // |mean| decides sigma in `record`, so human spread follows it.
    let mean = |i: usize| i as f32 - 6.5;
    let mut entries: Vec<LexiconEntry> = names
        .iter()
        .enumerate()
        .map(|(i, name)| entry(name, mean(i), mean(i).abs()))
        .collect();
    // Twice in the lexicon: the last counts. Phrases, emoticons and absent words are not looked up.
    entries.insert(0, entry("word0", 9.0, 0.0));
    entries.extend([
        entry(":)", 2.0, 0.1),
        entry("two words", 1.0, 0.1),
        entry("absent", 1.0, 0.1),
    ]);
    let records: Vec<TokenRewardRecord> = (0..24)
        .map(|i| {
            let (a, b) = (i % 12, (i * 5 + 1) % 12);
            let (upper, lower) = (names[a].to_uppercase(), names[b].clone());
            record(
                i,
                Side::Answer,
                &[
                    (&upper, mean(a), None),
                    ("plain", 0.0, None),
                    (&lower, mean(b), None),
                ],
            )
        })
        .collect();
    let options = TruthOptions::default();
    let measure = |uncertainty| {
        lexicon::of_scored(&scored(records.clone()), &entries, uncertainty, &options).unwrap()
    };
    let result = measure(Uncertainty::TdSpread);
    assert!(result.passed, "{:?}", result.figures);
    assert_eq!(result.figures[0].metric.value, Some(1.0));
    assert!(result.figures[1].metric.value.unwrap() > 0.999);
    assert_eq!(result.tokens, 48);
    assert!(
        result.notes[0].starts_with("12 of the lexicon's 16 entries"),
        "{:?}",
        result.notes
    );
    let prior = measure(Uncertainty::PriorOnly);
    assert!(prior.figures[1].metric.undefined.is_some() && prior.passed);
    let few = lexicon::of_scored(
        &scored(records.clone()),
        &entries[..3],
        Uncertainty::TdSpread,
        &options,
    )
    .unwrap();
    assert!(
        few.figures[0]
            .metric
            .undefined
            .as_deref()
            .unwrap()
            .contains("at least 10")
    );
}

#[test]
fn interventions_are_drawn_by_seed_and_counted() {
    let run = trained("bradley_terry_sum", json!({}), 25, 80);
    let scorer = run.scorer().unwrap();
    let rows = &run.held_out()[..20];
    let options = TruthOptions::default();
    let measure = |seed, scorer: &crate::train::Scorer| {
        let plan = InterventionPlan {
            tokens_per_answer: 3,
            seed,
        };
        pollster::block_on(intervention(scorer, rows, &plan, &options)).unwrap()
    };
    let one = measure(1, &scorer);
    assert_eq!(one, measure(1, &scorer));
    assert_ne!(one, measure(2, &scorer));
    assert_eq!(one.answers, 40);
    assert!(one.tokens > 300 && one.tokens <= 360, "{}", one.tokens);
    // A sum of token rewards loses the deleted token's own: the map must say so better than a shuffled one.
    let deleted = one.main().unwrap();
    assert!(
        deleted.name.contains("deleted") && deleted.passed,
        "{deleted}"
    );

    // A map that says the same of every token of an answer predicts no more than its own shuffle.
    let uniform = run
        .scorer_with(crate::credit::by_name("uniform").unwrap())
        .unwrap();
    let flat = measure(1, &uniform);
    assert!(!flat.passed);
    for figure in flat.figures.iter().filter(|f| f.decides) {
        let shuffled = figure.floors[1].metric.value.unwrap();
        assert!(
            (figure.metric.value.unwrap() - shuffled).abs() < 0.02,
            "{figure}"
        );
    }
}

#[test]
fn a_map_is_checked_only_for_its_own_checkpoint_and_credit_and_only_if_all_passed() {
    let options = TruthOptions::default();
    let sides = [Side::Answer];
    let of =
        |bad, good| spans::measure("spans", &scored(answers(bad, good)), &sides, &options).unwrap();
    let entry = |checkpoint: &str, data: &str, result| TrustEntry {
        checkpoint: checkpoint.into(),
        credit: "own".into(),
        data: data.into(),
        result,
    };
    let (passed, failed) = (of(-1.0, 1.0), of(1.0, -1.0));
    let mut file = TrustFile::default();
    assert_eq!(file.verdict("a", "own").trust, Trust::Exploratory);
    file.add(entry("a", "x.jsonl", passed.clone()));
    let verdict = file.verdict("a", "own");
    assert_eq!(verdict.trust, Trust::Checked);
    assert!(
        verdict.checked[0].starts_with("spans on x.jsonl, token AUC"),
        "{:?}",
        verdict.checked
    );
    assert_eq!(file.verdict("b", "own").trust, Trust::Exploratory);
    assert_eq!(file.verdict("a", "red").trust, Trust::Exploratory);

    let mut again = TrustFile::read(&file.to_json().unwrap()).unwrap();
    assert_eq!(again, file);
    again.add(entry("a", "y.jsonl", failed.clone()));
    let verdict = again.verdict("a", "own");
    assert_eq!(
        (verdict.trust, verdict.checked.len(), verdict.failed.len()),
        (Trust::Exploratory, 0, 1)
    );
    // Measured again, the old result goes.
    again.add(entry("a", "y.jsonl", passed));
    assert_eq!(
        (again.verdict("a", "own").trust, again.entries.len()),
        (Trust::Checked, 2)
    );

    // Interventions have no labels of people: alone they make no map checked, and failed they take the word away.
    let named = |truth: &str, mut result: TruthResult| {
        result.truth = truth.into();
        result
    };
    let (labelled, unlabelled) = (of(-1.0, 1.0), named("intervention", of(-1.0, 1.0)));
    let mut file = TrustFile::default();
    file.add(entry("a", "x.jsonl", unlabelled.clone()));
    let verdict = file.verdict("a", "own");
    assert_eq!(
        (verdict.trust, verdict.checked.len()),
        (Trust::Exploratory, 0)
    );
    file.add(entry(
        "a",
        "x.jsonl",
        named("no longer known", labelled.clone()),
    ));
    assert_eq!(file.verdict("a", "own").trust, Trust::Exploratory);
    for truth in ["edits", "spans", "steps", "lexicon"] {
        let mut file = file.clone();
        file.add(entry("a", "x.jsonl", named(truth, labelled.clone())));
        let verdict = file.verdict("a", "own");
        assert_eq!(
            (verdict.trust, verdict.checked.len()),
            (Trust::Checked, 3),
            "{truth}"
        );
        file.add(entry("a", "y.jsonl", named("intervention", failed.clone())));
        assert_eq!(
            file.verdict("a", "own").trust,
            Trust::Exploratory,
            "{truth}"
        );
    }

    // The file's own word is not taken.
    let mut claimed = failed;
    claimed.passed = true;
    claimed
        .figures
        .iter_mut()
        .for_each(|figure| figure.passed = true);
    let mut file = TrustFile::default();
    file.add(entry("a", "x.jsonl", claimed));
    assert_eq!(file.verdict("a", "own").trust, Trust::Exploratory);
    assert!(TrustFile::read(b"{}").is_err());
    assert!(
        TrustFile::read(br#"{"schema":"avascope.trust/9","entries":[]}"#)
            .unwrap_err()
            .contains("trust/9")
    );
}

#[test]
fn the_readers_take_the_span_files_shapes_and_name_spans_outside_the_text() {
    let toxic = br#"{"id":"t","text":"you fool","bad_spans":[[4,8]]}"#;
    let qa = br#"{"id":"q","prompt":"who?","context":"long","text":"he did","bad_spans":[[0,2,"Irrelevant"]],"corrected":"she"}"#;
    for (bytes, prompt, span) in [(&toxic[..], "", (4, 8)), (&qa[..], "who?", (0, 2))] {
        let crate::data::Rows::Demonstrations(rows) = crate::data::read_jsonl(bytes, "f").unwrap()
        else {
            panic!("demonstrations");
        };
        assert_eq!(rows[0].prompt.answer_text(), prompt);
        assert_eq!(
            rows[0].answer.spans.as_deref(),
            Some(&[Span::from(span)][..])
        );
    }
    let outside = b"{\"text\":\"ok\",\"bad_spans\":[]}\n{\"text\":\"abc\",\"bad_spans\":[[1,9]]}";
    let error = crate::data::read_jsonl(outside, "f.jsonl")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 2") && error.contains("bad_spans"),
        "{error}"
    );
}
