//! What the tests of a comparison share: made-up records, assessments and results.

use super::*;
use crate::eval::Metric;
use crate::random::Rng;
use crate::reward::{
    AnswerScore, Provenance, Side, TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
use crate::train::DeviceInfo;
use serde_json::{Value, json};
use std::collections::BTreeMap;

mod checks;
mod plan;
mod seeds;
mod shown;
mod truths;

fn config(value: Value) -> CompareConfig {
    serde_json::from_value(value).expect("a configuration")
}

fn methods(names: &[&str]) -> Value {
    json!({"seeds": [0, 1], "method": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()})
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
        label: None,
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
