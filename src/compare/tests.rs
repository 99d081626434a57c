use super::summary::{Series, aggregate, judge};
use super::svg::{escape, tick_label, ticks};
use super::truths::{NamedFloor, percentiles};
use super::*;
use crate::eval::{LabelledTokens, Metric, gaussian_calibration, mean_squared_error, roc_auc};
use crate::eval::{pearson, spearman};
use crate::reward::{
    AnswerScore, Provenance, Side, TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
use crate::train::{DeviceInfo, TrainConfig};
use crate::world::Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;

mod checks;

fn config(value: Value) -> CompareConfig {
    serde_json::from_value(value).expect("a configuration")
}

fn methods(names: &[&str]) -> Value {
    json!({"seeds": [0, 1], "method": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()})
}

#[test]
fn what_is_wrong_with_a_plan_is_said_with_the_way_out() {
    for (value, words) in [
        (json!({"seeds": [0]}), vec!["no method", "[[method]]"]),
        (
            json!({"method": [{"name": "ava_p"}]}),
            vec!["`seeds` is empty"],
        ),
        (
            json!({"seeds": [3, 3], "method": [{"name": "ava_p"}]}),
            vec!["seed 3 is listed twice"],
        ),
        (
            methods(&["ava_q"]),
            vec!["ava_q: there is no method", "known methods: ava_d, ava_p"],
        ),
        (
            methods(&["dpo", "dpo"]),
            vec!["two systems are called `dpo`", "label"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "dpo"}, {"name": "dpo", "label": "again"}]}),
            vec!["`dpo` and `again` are the same method"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "dpo", "credit": "owm"}]}),
            vec!["owm", "own"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "options": {"lamda": 1}}]}),
            vec!["ava_p", "lamda", "lambda"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"lamda": [1]}}]}),
            vec!["lamda", "lambda", "learning_rate"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"steps": [1, 2]}}]}),
            vec!["`steps` cannot be tuned", "equal terms"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": []}}]}),
            vec!["`tune.learning_rate` is empty"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": [1, 1]}}]}),
            vec!["lists 1 twice"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": ["x"]}}]}),
            vec!["\"x\"", "no number"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": [-1]}}]}),
            vec!["`learning_rate` is -1"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "options": {"lambda": 1}, "tune": {"lambda": [1]}}]}),
            vec!["both under `options` and under `tune`"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}, {"name": "dpo", "tune": {"learning_rate": [1e-3, 1e-4]}}]}),
            vec!["`ava_p` has 1", "`dpo` has 2", "unequal_trials"],
        ),
        (
            json!({"seeds": [0], "baseline": "bt", "method": [{"name": "ava_p"}]}),
            vec!["`baseline` is `bt`", "labels: ava_p"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "intervention"}, {"kind": "span"}]}),
            vec!["`[[truth]]` 2", "no truth `span`", "known truths: spans ("],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "lexicon"}]}),
            vec!["`lexicon` needs a file", "VADER"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "edits", "limit": 0}]}),
            vec!["`limit` is 0"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "spans", "file": "a"}, {"kind": "spans", "file": "a", "limit": 3}]}),
            vec!["`[[truth]]` 2", "spans on a is listed twice"],
        ),
        (
            json!({"seeds": [0], "tune_seeds": 2, "method": [{"name": "ava_p"}]}),
            vec!["`tune_seeds` is 2"],
        ),
        (
            json!({"seeds": [0], "test": 1.0, "method": [{"name": "ava_p"}]}),
            vec!["`test` is 1"],
        ),
        (
            json!({"seeds": [0], "test": 0.0, "method": [{"name": "ava_p"}]}),
            vec!["`test` is 0"],
        ),
        (
            json!({"seeds": [0], "limit": 0, "method": [{"name": "ava_p"}]}),
            vec!["`limit` is 0"],
        ),
        (
            json!({"seeds": [0], "resamples": 1, "method": [{"name": "ava_p"}]}),
            vec!["`resamples` is 1"],
        ),
        (
            json!({"seeds": [0], "train": {"steps": 0}, "method": [{"name": "ava_p"}]}),
            vec!["ava_p", "`steps`"],
        ),
        (
            json!({"seeds": [0], "train": {"trainable": {"mode": "heads"}}, "method": [{"name": "dpo"}]}),
            vec!["dpo", "heads"],
        ),
    ] {
        let error = Plan::new(config(value.clone())).expect_err(&value.to_string());
        for word in words {
            assert!(error.to_string().contains(word), "no `{word}` in: {error}");
        }
    }
}

#[test]
fn a_plan_trains_every_trial_with_the_first_seeds_and_the_chosen_one_with_all() {
    let grid = json!({"learning_rate": [1e-3, 3e-3], "lambda": [0.5, 1.0]});
    let plan = Plan::new(config(json!({
        "seeds": [7, 8, 9], "tune_seeds": 1,
        "method": [
            {"name": "ava_p", "tune": grid},
            {"name": "bradley_terry_sum", "tune": {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]}},
        ],
    })))
    .unwrap();
    assert_eq!(plan.baseline, Some(1));
    assert_eq!(plan.tuning_cells().len(), 8);
    let last = plan.final_cells(&[3, 0]);
    assert_eq!(plan.tuning_cells().len() + last.len(), plan.cell_count());
    assert_eq!(
        last[0],
        Cell {
            system: 0,
            trial: 3,
            seed: 8
        }
    );
    let train = plan.train_config(last[0]);
    assert_eq!((train.seed, train.learning_rate), (8, 3e-3));
    assert_eq!(train.options["lambda"], json!(1.0));
    let names: std::collections::BTreeSet<String> = plan
        .tuning_cells()
        .into_iter()
        .chain(last)
        .map(|cell| plan.cell_name(cell))
        .collect();
    assert_eq!(names.len(), plan.cell_count());
}

/// A record of one answer whose tokens have true rewards and labels.
fn record(id: usize, side: Side, tokens: &[(f32, f32, f32, bool)]) -> TokenRewardRecord {
    let tokens: Vec<TokenReward> = tokens
        .iter()
        .enumerate()
        .map(|(i, (mean, std, truth, labelled))| TokenReward {
            id: i as u32,
            text: "w".into(),
            start: i,
            end: i + 1,
            mean: *mean,
            std: *std,
            ignorance_std: None,
            total_std: None,
            true_mean: Some(*truth),
            true_std: None,
            labelled: Some(*labelled),
        })
        .collect();
    TokenRewardRecord {
        schema: crate::reward::SCHEMA.into(),
        id: id.to_string(),
        side,
        prompt: String::new(),
        answer: "w".repeat(tokens.len()),
        truncated: false,
        provenance: Provenance {
            method: "test".into(),
            model: String::new(),
            checkpoint: String::new(),
            device: String::new(),
            precision: String::new(),
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

/// Pairs of answers whose learned rewards are the true ones times two and noise of the size `noise`.
fn answers(pairs: usize, noise: f64, seed: u64) -> Vec<TokenRewardRecord> {
    let mut truth = Rng::new(11);
    let mut random = Rng::new(seed);
    let mut records = Vec::new();
    for pair in 0..pairs {
        for side in [Side::Chosen, Side::Rejected] {
            let shift = if side == Side::Chosen { 0.3 } else { -0.3 };
            let tokens: Vec<(f32, f32, f32, bool)> = (0..5 + pair % 4)
                .map(|i| {
                    let value = shift + truth.normal();
                    let learned = 2.0 * value + noise * random.normal() + 1.0;
                    let labelled = if side == Side::Chosen {
                        value > 0.8
                    } else {
                        value < -0.8
                    };
                    (learned as f32, 0.5 + 0.1 * i as f32, value as f32, labelled)
                })
                .collect();
            records.push(record(pair, side, &tokens));
        }
    }
    records
}

fn assess(records: &[TokenRewardRecord], sigma: bool) -> Assessment {
    let scores = super::cell::pair_scores(records, crate::objective::ScoreKind::Sum);
    evaluate(
        &Readings {
            records,
            scores: &scores,
            no_tokens: None,
            no_sigma: (!sigma).then_some("there is no sigma"),
            residuals: &[],
        },
        400,
    )
    .unwrap()
}

fn value(assessment: &Assessment, name: &str) -> f64 {
    let truth = assessment.truths.iter().find(|t| t.result.name == name);
    let truth = truth.unwrap_or_else(|| panic!("no {name}"));
    truth.result.metric.value.unwrap()
}

#[test]
fn every_truth_is_what_the_evaluation_room_says_and_its_resamples_scatter_about_it() {
    let records = answers(60, 1.5, 1);
    let assessment = assess(&records, true);
    let known = crate::train::known_rewards(&records);
    let map = crate::eval::Gauge::PositiveAffine
        .fit(&known.means, &known.truths)
        .unwrap();
    let mapped = map.apply(&known.means);
    let stds: Vec<f64> = known.stds.iter().map(|s| s * map.scale).collect();
    let calibration = gaussian_calibration(&mapped, &stds, &known.truths).unwrap();
    let all: Vec<LabelledTokens> = crate::train::labelled_tokens(&records, Side::Rejected);
    let scores: Vec<f64> = all.iter().flat_map(|a| a.scores.clone()).collect();
    let labels: Vec<bool> = all.iter().flat_map(|a| a.labels.clone()).collect();
    let of = |metric: Metric| metric.value.unwrap();
    for (name, expected) in [
        (
            "token AUC, rejected spans",
            of(roc_auc(&scores, &labels).unwrap()),
        ),
        (
            "correlation with known rewards",
            of(pearson(&known.means, &known.truths).unwrap()),
        ),
        (
            "rank correlation with known rewards",
            of(spearman(&known.means, &known.truths).unwrap()),
        ),
        (
            "mean squared error",
            of(mean_squared_error(&mapped, &known.truths).unwrap()),
        ),
        (
            "coverage of 95 % intervals",
            calibration.coverage[2].observed,
        ),
        (
            "calibration error",
            of(calibration.expected_calibration_error.clone()),
        ),
        (
            "sharpness (root mean square of sigma)",
            of(calibration.sharpness.clone()),
        ),
    ] {
        assert!(
            (value(&assessment, name) - expected).abs() < 1e-12,
            "{name}"
        );
    }
    // The sums that resamples are made of must agree with the functions that give the points: a resample's mean is near
    // the point, and its interval holds it.
    for truth in assessment.truths.iter().filter(|t| !t.resampled.is_empty()) {
        let name = &truth.result.name;
        let point = truth.result.metric.value.unwrap();
        let interval = truth.result.metric.interval.unwrap();
        let draws: Vec<f64> = truth
            .resampled
            .iter()
            .flatten()
            .map(|v| f64::from(*v))
            .collect();
        assert_eq!(draws.len(), 400, "{name}");
        let width = interval.high - interval.low;
        assert!(width > 0.0, "{name}");
        // The calibration error is a mean of distances: resampling moves it upwards.
        let allowed = if name == "calibration error" {
            1.0
        } else {
            0.25
        };
        assert!(
            (crate::eval::mean(&draws) - point).abs() < allowed * width,
            "{name}: {point} against {}",
            crate::eval::mean(&draws)
        );
    }
    assert_eq!(assessment.reliability.len(), 19);
    assert!(!assessment.scatter.is_empty() && assessment.scatter.len() <= 300);
}

#[test]
fn what_cannot_be_measured_is_undefined_with_its_reason() {
    let records = answers(10, 0.5, 1);
    let readings = |no_tokens, no_sigma| Readings {
        records: &records,
        scores: &[],
        no_tokens,
        no_sigma,
        residuals: &[],
    };
    let reason = |assessment: &Assessment, name: &str| {
        let truth = assessment.truths.iter().find(|t| t.result.name == name);
        truth
            .and_then(|t| t.result.metric.undefined.clone())
            .unwrap()
    };
    let nothing = evaluate(&readings(Some("no tokens here"), None), 100).unwrap();
    assert!(
        nothing
            .truths
            .iter()
            .all(|t| t.result.metric.value.is_none())
    );
    assert!(reason(&nothing, "pair accuracy").contains("no pairs"));
    assert!(reason(&nothing, "mean squared error").contains("no tokens here"));
    let no_sigma = evaluate(&readings(None, Some("no sigma here")), 100).unwrap();
    assert!(reason(&no_sigma, "calibration error").contains("no sigma here"));
    assert!(no_sigma.reliability.is_empty());

    // Rewards that point the wrong way have no positive map; constant ones no correlation.
    let turned: Vec<TokenRewardRecord> = records
        .iter()
        .cloned()
        .map(|mut record| {
            record.tokens.iter_mut().for_each(|t| t.mean = -t.mean);
            record
        })
        .collect();
    assert!(reason(&assess(&turned, true), "calibration error").contains("no positive factor"));
    let constant: Vec<TokenRewardRecord> = records
        .iter()
        .cloned()
        .map(|mut record| {
            record.tokens.iter_mut().for_each(|t| t.mean = 1.0);
            record
        })
        .collect();
    let constant = assess(&constant, true);
    assert!(reason(&constant, "correlation with known rewards").contains("1 at all"));
    let text = serde_json::to_string(&constant).unwrap();
    let again: Assessment = serde_json::from_str(&text).unwrap();
    assert_eq!(again, constant);
}

#[test]
fn holm_multiplies_the_smallest_by_all_and_never_falls() {
    // By hand: 0.01 x 4, 0.02 x 3, max(0.06, 0.03 x 2), 0.9.
    let adjusted = holm(&[0.03, 0.01, 0.9, 0.02]);
    for (got, expected) in adjusted.iter().zip([0.06, 0.04, 0.9, 0.06]) {
        assert!((got - expected).abs() < 1e-15, "{adjusted:?}");
    }
    assert!(holm(&[]).is_empty());
    assert_eq!(holm(&[0.8, 0.9]), [1.0, 1.0]);
}

fn series(name: &str, seeds: &[Assessment]) -> Series {
    aggregate(name, &seeds.iter().collect::<Vec<_>>(), &[])
}

#[test]
fn the_better_system_is_ahead_the_same_one_is_not_told_apart_and_errors_count_the_other_way() {
    let good = [
        assess(&answers(80, 0.5, 1), true),
        assess(&answers(80, 0.5, 2), true),
    ];
    let poor = [
        assess(&answers(80, 4.0, 3), true),
        assess(&answers(80, 4.0, 4), true),
    ];
    for truth in ["correlation with known rewards", "mean squared error"] {
        let (good, poor) = (series(truth, &good), series(truth, &poor));
        let both = [("good", &good), ("same", &poor)];
        let comparison = super::paired::compare(truth, ("poor", &poor), &both).unwrap();
        let [ahead, same] = comparison.differences.as_slice() else {
            panic!("two systems");
        };
        assert_eq!(ahead.standing, Standing::Ahead, "{truth}");
        assert_eq!(
            (same.standing, same.p_value, same.metric.value),
            (Standing::NotDistinguishable, Some(1.0), Some(0.0))
        );
        let back = super::paired::compare(truth, ("good", &good), &[("poor", &poor)]).unwrap();
        assert_eq!(back.differences[0].standing, Standing::Behind, "{truth}");
        // The same draws the other way round.
        let (a, b) = (&ahead.metric, &back.differences[0].metric);
        assert!((a.value.unwrap() + b.value.unwrap()).abs() < 1e-12);
        assert!((a.interval.unwrap().low + b.interval.unwrap().high).abs() < 1e-12);
    }
    // A coverage has a target and no order.
    let coverage = series("coverage of 95 % intervals", &good);
    assert!(super::paired::compare("x", ("a", &coverage), &[("b", &coverage)]).is_none());
}

#[test]
fn figures_over_seeds_have_a_mean_a_spread_an_interval_and_a_floor() {
    let seeds = [
        assess(&answers(60, 0.5, 1), true),
        assess(&answers(60, 2.0, 2), true),
    ];
    let name = "correlation with known rewards";
    let (a, b) = (value(&seeds[0], name), value(&seeds[1], name));
    let mut both = series(name, &seeds);
    assert!((both.aggregate.metric.value.unwrap() - (a + b) / 2.0).abs() < 1e-12);
    // Of two values the standard deviation is their distance over the square root of two.
    assert!((both.aggregate.std.unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
    let one = series(name, &seeds[..1]);
    assert_eq!(one.aggregate.std, None);
    let width = |s: &Series| {
        let i = s.aggregate.metric.interval.unwrap();
        i.high - i.low
    };
    // Two seeds that differ leave more open than the rows of one.
    assert!(width(&both) > width(&one));

    let poor = series(name, &[assess(&answers(60, 6.0, 3), true)]);
    let chance = [NamedFloor {
        name: "chance".into(),
        value: 0.0,
    }];
    judge(&mut both, &[("poor", &poor)], &chance);
    assert_eq!(both.aggregate.verdict, Verdict::Above);
    assert_eq!(both.aggregate.floor.as_ref().unwrap().0, "poor");
    let mut low = poor.clone();
    judge(&mut low, &[("both", &both)], &chance);
    assert_eq!(low.aggregate.verdict, Verdict::Below);

    // A seed that failed leaves the others; all failed leave a reason.
    let failed = aggregate(name, &[], &["training diverged"]);
    assert_eq!(
        failed.aggregate.metric.undefined.as_deref(),
        Some("undefined: training diverged")
    );
    assert_eq!(failed.aggregate.verdict, Verdict::Undefined);
    assert!(percentiles([None, None, Some(1.0)].into_iter()).is_none());
}

fn cell(system: &str, trial: usize, seed: u64, accuracy: Option<f64>, margin: f64) -> CellRecord {
    CellRecord {
        validation: accuracy.map(|accuracy| Validation {
            rows: 10,
            accuracy: Metric::of(accuracy),
            standardised_margin: Metric::of(margin),
            loss: Metric::of(1.0),
        }),
        failure: accuracy
            .is_none()
            .then(|| "training diverged: loss left the range of numbers at step 3".into()),
        ..CellRecord::empty("digest", system, trial, BTreeMap::new(), seed)
    }
}

#[test]
fn values_are_chosen_on_validation_rows_alone() {
    let choose =
        |cells: &[CellRecord], trials| choose_trial(&cells.iter().collect::<Vec<_>>(), trials);
    let mut cells = vec![
        cell("a", 0, 0, Some(0.7), 1.0),
        cell("a", 0, 1, Some(0.7), 1.0),
        cell("a", 1, 0, Some(0.6), 9.0),
        cell("a", 1, 1, Some(0.9), 9.0),
    ];
    // The test rows prefer the other trial, and have no say.
    cells[0].assessment = assess(&answers(20, 0.0, 1), true);
    assert_eq!(choose(&cells, 2), 1);
    // A tie is broken by the margin, a tie of that by the order.
    let tie = |margin| {
        [
            cell("a", 0, 0, Some(0.7), 1.0),
            cell("a", 1, 0, Some(0.7), margin),
        ]
    };
    assert_eq!(choose(&tie(2.0), 2), 1);
    assert_eq!(choose(&tie(1.0), 2), 0);
    // A trial that diverged with any seed comes last.
    let diverged = [
        cell("a", 0, 0, Some(0.99), 1.0),
        cell("a", 0, 1, None, 0.0),
        cell("a", 1, 0, Some(0.6), 1.0),
        cell("a", 1, 1, Some(0.6), 1.0),
    ];
    assert_eq!(choose(&diverged, 2), 1);
}

/// A label with everything that a page or a table must escape.
const AWKWARD: &str = "a <script>|\"&'\u{1}";

/// Results of a small made-up comparison; one system has an awkward name, one diverged.
fn made_up() -> Results {
    made_up_with(json!([]), |_, _| Vec::new())
}

/// The same with truths and what each (system, seed) that did not diverge said of them.
fn made_up_with(
    truths: Value,
    checks: impl Fn(&str, u64) -> Vec<crate::train::TruthResult>,
) -> Results {
    let awkward = AWKWARD;
    let plan = Plan::new(config(json!({
        "seeds": [0, 1],
        "truth": truths,
        "method": [
            {"name": "bradley_terry_sum"},
            {"name": "ava_p", "label": awkward},
            {"name": "dpo"},
        ],
    })))
    .unwrap();
    let mut cells = Vec::new();
    for seed in [0, 1] {
        for (label, noise) in [("bradley_terry_sum", 2.0), (awkward, 0.5)] {
            let mut record = cell(label, 0, seed, Some(0.8), 1.0);
            record.assessment = assess(&answers(40, noise, 5 + seed), label == awkward);
            record.uncertainty = match label == awkward {
                true => Uncertainty::TdSpread,
                false => Uncertainty::PreferenceSpread,
            };
            record.checks = checks(label, seed);
            cells.push(record);
        }
        cells.push(cell("dpo", 0, seed, None, 0.0));
    }
    let floors = [Floor {
        name: "unigram".into(),
        about: "x".into(),
        penalty: Some((1.0, vec![1.0, 3.0])),
        failure: Some("too few pairs".into()),
        assessment: Assessment::default(),
    }];
    let part = PartSummary {
        rows: 40,
        skipped: 1,
        truncated: 2,
        fingerprint: "f".into(),
    };
    results(Inputs {
        plan: &plan,
        chosen: &[0, 0, 0],
        cells: &cells,
        floors: &floors,
        data: DataSummary {
            source: "rows.jsonl".into(),
            fingerprint: "0123456789abcdef0123".into(),
            train: part.clone(),
            validation: part.clone(),
            test: part,
            test_prompts_in_training: 3,
            test_rows_in_training: 0,
        },
        model: ModelSummary {
            name: "m".into(),
            parameters: 5,
        },
        device: DeviceInfo {
            asked: "cpu".into(),
            backend: "cpu".into(),
            adapter: "test".into(),
            precision: "f32".into(),
            note: None,
        },
        command: "avascope compare x.toml".into(),
    })
}

/// Whether tags open and close in turn, attributes are quoted, and nothing but the five entities begins with `&`.
fn well_formed(xml: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let (text, tail) = rest.split_at(at);
        if text.contains('>') {
            return Err(format!("`>` in {text:?}"));
        }
        for part in text.split('&').skip(1) {
            if !["amp;", "lt;", "gt;", "quot;", "#39;"]
                .iter()
                .any(|entity| part.starts_with(entity))
            {
                return Err(format!("&{part:?}"));
            }
        }
        let end = tail.find('>').ok_or("a tag without an end")?;
        let tag = &tail[1..end];
        if tag.matches('"').count() % 2 == 1 {
            return Err(format!("an odd quote in {tag:?}"));
        }
        let name = |tag: &str| tag.split_whitespace().next().unwrap_or("").to_string();
        if let Some(closing) = tag.strip_prefix('/') {
            let last = open.pop();
            if last.as_deref() != Some(closing) {
                return Err(format!("{closing} closes {last:?}"));
            }
        } else if !tag.ends_with('/') {
            open.push(name(tag));
        }
        rest = &tail[end + 1..];
    }
    if xml.chars().any(|c| c.is_control() && c != '\n') {
        return Err("a control character".into());
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("still open: {open:?}"))
    }
}

#[test]
fn plots_are_well_formed_and_hold_whatever_a_label_holds() {
    let results = made_up();
    let plots = plots(&results);
    let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
    assert_eq!(
        files,
        [
            "auc.svg",
            "accuracy.svg",
            "correlation.svg",
            "reliability.svg",
            "reward-against-truth.svg"
        ]
    );
    for plot in &plots {
        well_formed(&plot.svg).unwrap_or_else(|error| panic!("{}: {error}", plot.file));
        assert!(!plot.svg.contains("<script"), "{}", plot.file);
        assert!(!plot.svg.contains("NaN") && !plot.svg.contains("inf"));
    }
    assert!(well_formed("<a><b></a>").is_err() && well_formed("<a>&x</a>").is_err());
    // The diverged system stands in the plot without a number.
    assert!(plots[0].svg.contains(">undefined<"));
    assert!(plots[3].caption.contains("dpo (training diverged"));
}

#[test]
fn table_page_and_json_say_undefined_and_never_nan() {
    let results = made_up();
    let markdown = table(&results);
    let html = page(&results, &plots(&results));
    let json = serde_json::to_string(&results).unwrap();
    for text in [&markdown, &html, &json] {
        assert!(text.contains("undefined: training diverged"));
        for word in ["NaN", " inf", "-inf"] {
            assert!(!text.contains(word), "{word}");
        }
    }
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
    assert!(markdown.contains("\\|") && markdown.contains("ahead"));
    // Nothing is loaded from elsewhere; the only addresses name the drawing language.
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("src="));
    assert!(
        results
            .caveats
            .iter()
            .any(|c| c.contains("2 seeds say little"))
    );
    assert!(
        results
            .caveats
            .iter()
            .any(|c| c.contains("diverged with seeds 0, 1"))
    );
    let again: Results = serde_json::from_str(&json).unwrap();
    // Reading may change a number's last bit, and nothing else.
    for (read, written) in again.systems[1]
        .truths
        .iter()
        .zip(&results.systems[1].truths)
    {
        let (a, b) = (read.metric.value.unwrap(), written.metric.value.unwrap());
        assert_eq!(read.name, written.name);
        assert!((a - b).abs() < 1e-14 * b.abs().max(1.0));
    }
    assert_eq!(again.schema, SCHEMA);
    // Every row of a Markdown table has as many cells as its header.
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = markdown.lines().collect();
    for pair in lines.windows(2) {
        if pair[0].starts_with('|') && pair[1].starts_with('|') {
            assert_eq!(bars(pair[0]), bars(pair[1]), "{}\n{}", pair[0], pair[1]);
        }
    }
}

#[test]
fn a_training_that_diverged_is_a_record_and_any_other_error_is_an_error() {
    let record = || CellRecord::empty("d", "dpo", 0, BTreeMap::new(), 0);
    let diverged = crate::train::TrainError::NonFinite {
        term: "loss".into(),
        value: f64::NAN,
        step: 7,
        row: String::new(),
    };
    let failed = failed_cell(record(), diverged).unwrap();
    assert!(failed.failure.unwrap().contains("step 7"));
    let broken = crate::train::TrainError::Rows("no rows".into());
    assert!(failed_cell(record(), broken).is_err());
}

#[test]
fn ticks_are_round_and_text_is_safe() {
    let marks = ticks(0.27, 0.93, 6);
    let labels: Vec<String> = marks.iter().map(|mark| tick_label(*mark, &marks)).collect();
    // Steps of 0.11 are no round ones: the next is 0.2.
    assert_eq!(labels, ["0.4", "0.6", "0.8"]);
    assert_eq!(tick_label(-1e-17, &[-0.5, 0.0]), "0.0");
    assert_eq!(ticks(1.0, 1.0, 5), [1.0]);
    assert_eq!(escape("a<b>\"&'\u{7}\n"), "a&lt;b&gt;&quot;&amp;&#39; ");
}

#[test]
fn the_default_configuration_of_training_is_the_ordinary_one() {
    let plan = Plan::new(config(methods(&["ava_p"]))).unwrap();
    let train = &plan.systems[0].trials[0].train;
    let ordinary = TrainConfig::default();
    assert_eq!(
        (train.steps, train.batch_size, train.learning_rate),
        (ordinary.steps, ordinary.batch_size, ordinary.learning_rate)
    );
    // No evaluation and no early stopping inside a cell: the budget is spent whole.
    assert_eq!((train.eval_steps, train.early_stopping_patience), (0, 0));
}
