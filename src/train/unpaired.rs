//! Max-margin IRL from two sets of answers that nothing pairs: of different sizes, to different prompts, drawn independently.

use super::testing::cpu;
use super::{
    Event, Run, TrainConfig, TrainError, Trainable, world_base_answers, world_model, world_rows,
};
use crate::data::{Answer, Content, DemonstrationRow, Rows, split_by_hash};
use crate::random::Rng;
use crate::world::{DEMONSTRATOR_SKILL, Language};
use serde_json::{Value, json};

fn answers(rows: Rows) -> Vec<DemonstrationRow> {
    match rows {
        Rows::Demonstrations(rows) => rows,
        rows => panic!("{rows:?}"),
    }
}

/// Demonstrations of the built-in world, and half as many answers of its ordinary writer to other prompts.
fn two_sets(demonstrations: usize) -> Rows {
    Rows::unpaired(
        answers(world_rows(demonstrations, 3, true)),
        answers(world_base_answers(demonstrations / 2, 40)),
    )
}

/// Answers of a writer who seeks what the demonstrator avoids. The ordinary writer's answers overlap with the demonstrator's,
/// and telling them apart takes more steps than a test should.
fn worst_answers(n: usize, seed: u64) -> Vec<DemonstrationRow> {
    let language = Language::new();
    (0..n)
        .map(|i| {
            let mut rng = Rng::stream(seed, i as u64);
            let prompt = language.prompt(&mut rng);
            let written = language.answer(&prompt, -DEMONSTRATOR_SKILL, &mut rng);
            DemonstrationRow {
                id: format!("worst-{i}"),
                line: i + 1,
                prompt: Content::Text(prompt),
                answer: Answer {
                    content: Content::Text(written.answer),
                    spans: None,
                    true_rewards: Some(written.truths.iter().map(|t| t.mean).collect()),
                    true_reward_std: None,
                },
            }
        })
        .collect()
}

fn config(options: Value, steps: usize) -> TrainConfig {
    TrainConfig {
        method: "irl_margin".into(),
        options,
        steps,
        batch_size: 8,
        learning_rate: 2e-3,
        eval_steps: 0,
        eval_rows: 0,
        trainable: Trainable::Full,
        ..TrainConfig::default()
    }
}

fn run_on(rows: Rows, config: TrainConfig) -> Result<Run, TrainError> {
    let device = cpu();
    let (train, held_out) = split_by_hash(rows, 0.25, "unpaired");
    let model = world_model(&device.device).expect("the built-in model");
    Run::new(config, model, train, held_out, device)
}

fn advance(run: &mut Run, steps: usize) -> Vec<f64> {
    (0..steps)
        .map(|_| {
            let events = pollster::block_on(run.advance()).expect("a step");
            let loss = events.iter().find_map(|event| match event {
                Event::Step { metrics, .. } => metrics.get("loss").copied(),
                _ => None,
            });
            loss.expect("a loss")
        })
        .collect()
}

#[test]
fn all_four_losses_learn_from_two_sets_of_the_built_in_world() {
    for (kind, score) in [
        ("max_margin", "mean"),
        ("logistic", "mean"),
        ("hinge", "sum"),
        ("squared", "mean"),
    ] {
        let rows = Rows::unpaired(answers(world_rows(160, 3, true)), worst_answers(80, 40));
        let options = json!({"kind": kind, "score": score});
        let mut run = run_on(rows, config(options, 40)).expect("a run");
        let before = pollster::block_on(run.evaluate()).expect("figures");
        // An untrained head scores everything alike: every combination is a tie, and a tie is wrong.
        assert_eq!((before["eval_accuracy"], before["eval_ties"]), (0.0, 1.0));
        let losses = advance(&mut run, 40);
        assert!(losses.iter().all(|loss| loss.is_finite()), "{kind}");
        if kind == "squared" {
            // It pulls the scores together: at the start they are, and it has nothing to learn.
            assert!(losses[39] < 1e-3, "{}", losses[39]);
            continue;
        }
        let after = pollster::block_on(run.evaluate()).expect("figures");
        let end = losses[30..].iter().sum::<f64>() / 10.0;
        assert!(end < losses[0], "{kind}: {losses:?}");
        assert!(after["eval_accuracy"] > 0.68, "{kind}: {after:?}");
        assert!(after["eval_margin"] > 0.0, "{kind}: {after:?}");
        assert!(after["eval_truth/pearson"] > 0.0, "{kind}: {after:?}");
    }
}

#[test]
fn a_resumed_run_draws_from_both_sets_as_one_that_never_stopped() {
    for trainable in [Trainable::Full, Trainable::Heads] {
        let config = TrainConfig {
            trainable,
            ..config(json!({"kind": "logistic", "score": "mean"}), 14)
        };
        let new = || run_on(two_sets(40), config.clone()).expect("a run");
        let mut whole = new();
        let losses = advance(&mut whole, 14);
        let mut first = new();
        advance(&mut first, 6);
        let bytes = pollster::block_on(first.checkpoint()).expect("a checkpoint");
        let mut second = new();
        pollster::block_on(second.restore(&bytes)).expect("restored");
        assert_eq!(advance(&mut second, 8), losses[6..]);
    }
}

#[test]
fn what_is_missing_of_two_sets_is_said_with_the_way_out() {
    let refused = |rows: Rows, method: &str| {
        let config = TrainConfig {
            method: method.into(),
            ..config(json!({}), 2)
        };
        let error = run_on(rows, config).err().expect("refused");
        error.to_string()
    };
    let good = || answers(world_rows(20, 3, true));
    let error = refused(Rows::unpaired(good(), Vec::new()), "irl_margin");
    assert!(
        error.contains("no undesirable answer (label false)"),
        "{error}"
    );
    let error = refused(Rows::unpaired(Vec::new(), good()), "irl_margin");
    assert!(
        error.contains("no desirable answer (label true)"),
        "{error}"
    );
    let error = refused(Rows::Demonstrations(good()), "irl_margin");
    assert!(error.contains("--against"), "{error}");
    let error = refused(two_sets(20), "bradley_terry");
    assert!(
        error.contains("labelled one by one") && error.contains("irl_margin"),
        "{error}"
    );
    let error = refused(two_sets(20), "ava_d");
    assert!(error.contains("learns from demonstrations"), "{error}");
}

#[test]
fn records_carry_the_labels_of_their_rows() {
    let run = run_on(two_sets(40), config(json!({}), 2)).expect("a run");
    let scorer = run.scorer().expect("a scorer");
    let scored = pollster::block_on(scorer.score(run.held_out())).expect("scores");
    let labels: Vec<Option<f32>> = scored.records.iter().map(|r| r.label).collect();
    let wanted: Vec<Option<f32>> = run.held_out().iter().map(|row| row.label).collect();
    assert_eq!(labels, wanted);
    assert!(labels.contains(&Some(0.0)) && labels.contains(&Some(1.0)));
}
