//! One training's truths against the evaluation room, and what cannot be measured.

use super::*;
use crate::eval::{
    LabelledTokens, RewardRecovery, gaussian_calibration, kendall_tau_b, mean_squared_error,
    pearson, roc_auc, spearman,
};

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
    let recovery = RewardRecovery::of_rewards(&known.means, &known.truths).unwrap();
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
            "Kendall correlation with known rewards",
            of(kendall_tau_b(&known.means, &known.truths).unwrap()),
        ),
        ("F1, undesirable tokens", of(recovery.as_recovered.f1)),
        (
            "F1, undesirable tokens, fitted zero",
            of(recovery.after_gauge.unwrap().f1),
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
    // Learned rewards are 1 too high here: their own sign calls too few tokens undesirable.
    let own = value(&assessment, "F1, undesirable tokens");
    assert!(own + 0.02 < value(&assessment, "F1, undesirable tokens, fitted zero"));
    // To call every token undesirable is right for those that are.
    let share = recovery.undesirable as f64 / recovery.count as f64;
    for truth in &assessment.truths {
        let name = truth.result.name.as_str();
        let floor = if name.starts_with("F1") {
            Some(2.0 * share / (1.0 + share))
        } else if name.contains("correlation") {
            Some(0.0)
        } else {
            (name.contains("AUC") || name.contains("accuracy")).then_some(0.5)
        };
        let stated = truth.result.floors.first().map(|floor| floor.value);
        match (floor, stated) {
            (Some(floor), Some(stated)) => assert!((floor - stated).abs() < 1e-12, "{name}"),
            (floor, stated) => assert_eq!(floor, stated, "{name}"),
        }
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
    let turned = assess(&turned, true);
    for name in ["calibration error", "F1, undesirable tokens, fitted zero"] {
        assert!(
            reason(&turned, name).contains("no positive factor"),
            "{name}"
        );
    }
    // Their own sign still decides.
    assert!(value(&turned, "F1, undesirable tokens") < 0.7);
    assert!(value(&turned, "Kendall correlation with known rewards") < 0.0);
    let constant: Vec<TokenRewardRecord> = records
        .iter()
        .cloned()
        .map(|mut record| {
            record.tokens.iter_mut().for_each(|t| t.mean = 1.0);
            record
        })
        .collect();
    let constant = assess(&constant, true);
    for name in [
        "correlation with known rewards",
        "Kendall correlation with known rewards",
    ] {
        assert!(reason(&constant, name).contains("1 at all"), "{name}");
    }
    let text = serde_json::to_string(&constant).unwrap();
    assert!(!text.contains("NaN"));
    let again: Assessment = serde_json::from_str(&text).unwrap();
    assert_eq!(again, constant);
    // Nothing is undesirable, and nothing is called so.
    let good: Vec<TokenRewardRecord> = records
        .iter()
        .cloned()
        .map(|mut record| {
            for (i, token) in record.tokens.iter_mut().enumerate() {
                token.mean = 1.0 + i as f32;
                token.true_mean = Some(2.0 + i as f32);
            }
            record
        })
        .collect();
    let good = assess(&good, true);
    assert!(reason(&good, "F1, undesirable tokens").contains("nothing is positive"));
}
