//! Labels of pairs from the data to the loss: 1, 0 and 0.5 for a tie.

use super::testing::cpu;
use super::{Run, TrainConfig, TrainError, Trainable, judged_pairs, world_model, world_rows};
use crate::data::{PreferenceRow, Rows};

fn pairs() -> Vec<PreferenceRow> {
    match world_rows(24, 5, false) {
        Rows::Preferences(rows) => rows,
        rows => panic!("{rows:?}"),
    }
}

fn run_on(rows: Vec<PreferenceRow>, method: &str) -> Result<Run, TrainError> {
    let device = cpu();
    let config = TrainConfig {
        method: method.into(),
        steps: 6,
        batch_size: 8,
        learning_rate: 2e-3,
        eval_steps: 0,
        trainable: Trainable::Full,
        ..TrainConfig::default()
    };
    let model = world_model(&device.device).expect("the built-in model");
    let held_out = Rows::Preferences(rows[..8].to_vec());
    Run::new(config, model, Rows::Preferences(rows), held_out, device)
}

/// The loss of each of six steps, and by how much the chosen answers then score higher on average.
fn trained(rows: Vec<PreferenceRow>) -> (Vec<f64>, f64) {
    let mut run = run_on(rows, "pref_transformer").expect("a run");
    let losses = (0..6)
        .map(|_| pollster::block_on(run.optimizer_step()).expect("a step")["loss"])
        .collect();
    let figures = pollster::block_on(run.evaluate()).expect("figures");
    let margin = figures["eval_rewards/chosen"] - figures["eval_rewards/rejected"];
    (losses, margin)
}

fn labelled(label: f32) -> Vec<PreferenceRow> {
    let mut rows = pairs();
    rows.iter_mut().for_each(|row| row.preference = Some(label));
    rows
}

#[test]
fn a_label_of_0_trains_as_the_answers_the_other_way_round() {
    let plain = trained(pairs());
    assert_eq!(trained(labelled(1.0)), plain);
    let mut swapped = pairs();
    for row in &mut swapped {
        std::mem::swap(&mut row.chosen, &mut row.rejected);
    }
    let (turned, swapped) = (trained(labelled(0.0)), trained(swapped));
    // Rows of a batch stand in another order: what is left is float noise.
    for (a, b) in turned.0.iter().zip(&swapped.0) {
        assert!((a - b).abs() < 1e-4, "{turned:?} {swapped:?}");
    }
    assert!(
        (turned.1 + swapped.1).abs() < 1e-4,
        "{turned:?} {swapped:?}"
    );
    assert!(plain.1 > 1e-3 && turned.1 < -1e-3, "{plain:?} {turned:?}");
}

#[test]
fn a_tie_costs_least_where_the_answers_score_alike() {
    // -[log sigma(d) + log sigma(-d)] / 2 is least, log 2, at d = 0, where an untrained head begins.
    for loss in trained(labelled(0.5)).0 {
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-4, "{loss}");
    }
    // Half of the pairs tied: their share of the loss stays near log 2 while the others' falls.
    let mut half = pairs();
    half.iter_mut()
        .step_by(2)
        .for_each(|row| row.preference = Some(0.5));
    let half = trained(half).0;
    assert!(
        half[5] < half[0] && half.iter().all(|loss| loss.is_finite()),
        "{half:?}"
    );
}

#[test]
fn methods_that_read_no_labels_say_so_and_refuse_the_ones_they_would_turn_round() {
    let run = run_on(labelled(0.5), "bradley_terry").expect("a run");
    let warnings = run.info().warnings.join(" ");
    assert!(
        warnings.contains("24 of the 24 training pairs"),
        "{warnings}"
    );
    let mut rows = pairs();
    rows[10].preference = Some(0.0);
    let error = run_on(rows.clone(), "bradley_terry")
        .err()
        .expect("refused");
    let error = error.to_string();
    assert!(
        error.contains("line 11") && error.contains("pref_transformer"),
        "{error}"
    );
    let run = run_on(rows, "pref_transformer").expect("a run");
    assert!(!run.info().warnings.join(" ").contains("label"));
}

#[test]
fn figures_judge_by_the_label_and_leave_ties_out() {
    let mut rows = pairs();
    rows[0].preference = Some(0.5);
    rows[1].preference = Some(0.0);
    let run = run_on(rows, "pref_transformer").expect("a run");
    let scorer = run.scorer().expect("a scorer");
    let scored = pollster::block_on(scorer.score(run.held_out())).expect("scores");
    let judged = judged_pairs(&scored.records);
    assert_eq!(judged.len(), 7);
    assert_eq!(judged[0].0.label, Some(1.0));
    assert_eq!(judged[0].0.side, crate::reward::Side::Rejected);
    assert_eq!(judged[1].0.label, None);
}
