use super::super::cell::{CellRecord, TestScore};
use super::super::known::CORRELATED;
use super::super::truths::{Direction, Measured};
use super::figures::{
    COVERAGE_IGNORANCE, COVERAGE_OWN, COVERAGE_TOTAL, IGNORANCE, MARGINS, RIGHT_PAIRS, WITH_RARITY,
};
use super::*;
use crate::credit::{CREDITS, by_name};
use crate::device::{DeviceChoice, open};
use crate::eval::Metric;
use crate::train::{LoraConfig, Run, TrainConfig, world_model, world_rows};
use pollster::block_on;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn entry(value: Value) -> IgnoranceEntry {
    serde_json::from_value(value).expect("an entry")
}

fn checked(entries: Value, trainable: &Trainable) -> Result<Vec<Estimate>, String> {
    let entries: Vec<IgnoranceEntry> = serde_json::from_value(entries).expect("entries");
    estimates(&entries, trainable).map_err(|error| error.to_string())
}

#[test]
fn what_is_wrong_with_an_entry_is_told_with_its_place() {
    let lora = Trainable::Lora(LoraConfig::default());
    let good = json!([
        {"kind": "laplace"},
        {"kind": "laplace", "over": "lora", "prior_variance": 0.5},
        {"kind": "dropout", "rate": 0.2, "samples": 4},
    ]);
    let labels: Vec<String> = checked(good, &lora)
        .unwrap()
        .iter()
        .map(Estimate::label)
        .collect();
    assert_eq!(
        labels,
        [
            "Laplace, head, prior by evidence",
            "Laplace, head and adapters, prior variance 0.5",
            "dropout 0.2, 4 masks"
        ]
    );
    for (bad, trainable, words) in [
        (
            json!([{"kind": "dropuot"}]),
            &lora,
            "`[[ignorance]]` 1: `dropuot` is no such thing as a kind; known: dropout, laplace",
        ),
        (json!([{"kind": "ensemble"}]), &lora, "list more `seeds`"),
        (
            json!([{"kind": "laplace"}, {"kind": "dropout", "over": "head"}]),
            &lora,
            "`[[ignorance]]` 2: `over` has no say in `dropout`",
        ),
        (
            json!([{"kind": "laplace", "samples": 3}]),
            &lora,
            "`samples` has no say in `laplace`",
        ),
        (
            json!([{"kind": "laplace", "over": "lora"}]),
            &Trainable::Heads,
            "no adapter trains",
        ),
        (
            json!([{"kind": "laplace", "over": "haed"}]),
            &lora,
            "known: head, lora",
        ),
        (
            json!([{"kind": "laplace", "prior_variance": 0.0}]),
            &lora,
            "use a number above 0",
        ),
        (
            json!([{"kind": "dropout", "rate": 1.0}]),
            &lora,
            "above 0 and below 1",
        ),
        (
            json!([{"kind": "dropout", "samples": 1}]),
            &lora,
            "at least 2",
        ),
        (
            json!([{"kind": "dropout", "samples": 9_223_372_036_854_775_807u64}]),
            &lora,
            "at most 1024",
        ),
        (
            json!([{"kind": "laplace"}, {"kind": "laplace", "over": "head"}]),
            &lora,
            "listed twice",
        ),
    ] {
        let said = checked(bad.clone(), trainable).expect_err("it is wrong");
        assert!(said.contains(words), "{bad}: {said}");
    }
}

fn figure(record: &EstimateRecord, name: &str) -> Metric {
    let found = record.figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no {name}")).metric.clone()
}

fn value(record: &EstimateRecord, name: &str) -> f64 {
    let metric = figure(record, name);
    metric
        .value
        .unwrap_or_else(|| panic!("{name}: {:?}", metric.undefined))
}

/// A cell whose test rows have a token each, (mean, own spread, truth), and scores.
fn cell(seed: u64, known: &[[f32; 3]], scores: &[[f32; 2]]) -> CellRecord {
    let mut record = CellRecord::empty("c", "system", 0, BTreeMap::new(), seed);
    record.assessment.known = known.to_vec();
    record.assessment.known_rows = (0..known.len() as u32).collect();
    record.scores = scores
        .iter()
        .enumerate()
        .map(|(row, scores)| TestScore {
            id: row.to_string(),
            scores: scores.to_vec(),
        })
        .collect();
    record
}

#[test]
fn disagreement_of_seeds_own_spread_and_total_are_three_numbers() {
    // Two members that differ by 2 on each token: variance 2, mean in the middle, which is the truth.
    let scores = [[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]];
    let a = cell(
        0,
        &[[1.0, 0.5, 2.0], [-3.0, 0.5, -2.0], [0.0, 0.5, 1.0]],
        &scores,
    );
    let b = cell(
        1,
        &[[3.0, 0.5, 2.0], [-1.0, 0.5, -2.0], [2.0, 0.5, 1.0]],
        // The same margins at another scale: no disagreement.
        &scores.map(|[a, b]| [10.0 * a, 10.0 * b]),
    );
    let record = of_seeds(&[&a, &b], 100).expect("there is something to measure");
    let means = [2.0f64, -2.0, 1.0];
    let middle = means.iter().sum::<f64>() / 3.0;
    let spread = (means.iter().map(|m| (m - middle).powi(2)).sum::<f64>() / 3.0).sqrt();
    assert!((value(&record, IGNORANCE) - 2f64.sqrt() / spread).abs() < 1e-6);
    assert_eq!(value(&record, COVERAGE_IGNORANCE), 1.0);
    assert_eq!(value(&record, COVERAGE_TOTAL), 1.0);
    assert!(value(&record, MARGINS) < 1e-6);
    assert!(figure(&record, WITH_RARITY).undefined.is_some());
}

#[test]
fn members_that_agree_on_a_wrong_reward_cover_nothing_and_one_seed_is_no_ensemble() {
    let known = [[1.0, 0.0, 2.0], [0.0, 0.0, 3.0], [5.0, 0.0, 3.5]];
    let scores = [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]];
    let a = cell(0, &known, &scores);
    let record = of_seeds(&[&a, &cell(1, &known, &scores)], 100).expect("a record");
    assert_eq!(value(&record, COVERAGE_IGNORANCE), 0.0);
    assert!(figure(&record, COVERAGE_OWN).value.is_none());
    assert!(figure(&record, RIGHT_PAIRS).value.is_none());
    let alone = of_seeds(&[&a], 100).expect("a record");
    assert!(alone.failure.is_some_and(|why| why.contains("one seed")));
    assert!(of_seeds(&[], 100).is_none());
    // Of one seed no scale is positive: what tokens say is undefined, and pairs still speak.
    let mut away = cell(1, &[], &scores);
    away.assessment.truths.push(Measured::alone(TruthResult {
        name: CORRELATED.into(),
        metric: Metric::of(-0.2),
        n: 3,
        unit: "tokens".into(),
        direction: Direction::Higher,
        floors: Vec::new(),
    }));
    let record = of_seeds(&[&a, &away], 100).expect("a record");
    let why = figure(&record, COVERAGE_IGNORANCE).undefined;
    assert!(why.is_some_and(|why| why.contains("of some seed")));
    assert!(value(&record, MARGINS) < 1e-6);
    // No rewards are known, and no margins are there: nothing to measure.
    let bare = |seed| cell(seed, &[], &[]);
    let nothing = of_seeds(&[&bare(0), &bare(1)], 100).expect("a record");
    assert!(
        nothing
            .failure
            .is_some_and(|why| why.contains("neither pairs"))
    );
}

#[test]
fn a_trained_map_is_asked_by_every_estimate_and_says_why_where_one_does_not_fit() {
    let device = block_on(open(DeviceChoice::Cpu)).expect("a CPU");
    let config = TrainConfig {
        method: "bradley_terry_sum".into(),
        steps: 120,
        learning_rate: 2e-3,
        eval_steps: 0,
        ..TrainConfig::default()
    };
    let model = world_model(&device.device).expect("the world's decoder");
    let rows = |count, seed| world_rows(count, seed, false);
    let mut run = Run::new(config, model, rows(200, 3), rows(40, 4), device).expect("a run");
    while run.finished().is_none() {
        block_on(run.advance()).expect("a step");
    }
    let asked = json!([
        {"kind": "laplace", "prior_variance": 1.0},
        {"kind": "dropout", "rate": 0.1, "samples": 3},
    ]);
    let estimates = checked(asked, &Trainable::Heads).unwrap();
    let ask = |credit| {
        let scorer = run.scorer_with(credit).expect("a scorer");
        let parts = (run.held_out(), run.train_rows());
        block_on(super::ask(&estimates, &scorer, parts, 50)).expect("records")
    };
    let own = ask(&CREDITS[0]);
    for record in &own {
        assert!(record.failure.is_none() && record.detail.is_some());
        assert!(value(record, IGNORANCE) > 0.0, "{}", record.estimate);
        assert!((0.0..=1.0).contains(&value(record, COVERAGE_IGNORANCE)));
        // Bradley-Terry has no spread of its own.
        assert!(figure(record, COVERAGE_TOTAL).undefined.is_some());
        assert!(value(record, WITH_RARITY).abs() <= 1.0);
        assert!(value(record, MARGINS) > 0.0);
        let interval = figure(record, IGNORANCE).interval.expect("an interval");
        assert!(
            interval.low <= value(record, IGNORANCE) && value(record, IGNORANCE) <= interval.high
        );
    }
    let uniform = ask(by_name("uniform").expect("a credit"));
    assert!(
        uniform[0]
            .failure
            .as_ref()
            .is_some_and(|why| why.contains("uniform"))
    );
    assert!(uniform[1].failure.is_none());
    // What an entry leaves out is as documented.
    assert_eq!(
        Estimate::of(&entry(json!({"kind": "dropout"})), &Trainable::Heads)
            .unwrap()
            .label(),
        "dropout 0.1, 32 masks"
    );
}
