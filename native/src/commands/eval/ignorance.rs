//! Figures about ignorance: how large it is, whether it is honest, and what it does to a comparison.

use super::Figure;
use anyhow::Result;
use avascope::eval::gaussian::{log_sigmoid, mackay_probability};
use avascope::eval::{Gauge, Metric, spearman};
use avascope::objective::ScoreKind;
use avascope::reward::TokenRewardRecord;
use avascope::train::{self, coverage_of_known, score_of};

/// Why there is no total.
const NO_TOTAL: &str =
    "the method learns no spread of its own, so there is nothing to add ignorance to";

/// Why a token with a known reward may have no ignorance.
const ABSENT: &str = "not every token carries ignorance";

/// The figures of records that carry ignorance; none where they do not.
pub(super) fn figures(records: &[TokenRewardRecord], ranking: ScoreKind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |name: &str, metric: Metric, note: &str| {
        figures.push(Figure {
            group: "ignorance: how far the map may be off for want of data",
            name: name.into(),
            metric,
            note: (!note.is_empty()).then(|| note.into()),
        });
    };
    let tokens = || records.iter().flat_map(|record| &record.tokens);
    let ignorance: Vec<f64> = tokens()
        .filter_map(|t| t.ignorance_std.map(f64::from))
        .collect();
    if ignorance.is_empty() {
        return Ok(figures);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    add(
        "ignorance std of a token, mean",
        Metric::of(mean(&ignorance)),
        "how far the token's mean may be off for want of data; in units of reward",
    );
    let spread: Vec<f64> = tokens().map(|t| f64::from(t.std)).collect();
    let total: Vec<f64> = tokens()
        .filter_map(|t| t.total_std.map(f64::from))
        .collect();
    if total.is_empty() {
        add(
            "total std of a token, mean",
            Metric::undefined(NO_TOTAL),
            "",
        );
    } else {
        add(
            "own spread of a token, mean",
            Metric::of(mean(&spread)),
            "not ignorance",
        );
        add(
            "total std of a token, mean",
            Metric::of(mean(&total)),
            "root of both squares",
        );
        add(
            "rank correlation of the two",
            spearman(&ignorance, &spread)?,
            "Spearman of ignorance and own spread over tokens",
        );
    }

    // Only tokens with a known reward.
    let known: Vec<_> = tokens().filter(|t| t.true_mean.is_some()).collect();
    if !known.is_empty() {
        let of = |f: &dyn Fn(&avascope::reward::TokenReward) -> Option<f32>| -> Option<Vec<f64>> {
            known.iter().map(|t| f(t).map(f64::from)).collect()
        };
        let means: Vec<f64> = known.iter().map(|t| f64::from(t.mean)).collect();
        let truth = of(&|t| t.true_mean).unwrap_or_default();
        let gauge = Gauge::PositiveAffine.fit(&means, &truth)?;
        let errors: Vec<f64> = (gauge.apply(&means).iter().zip(&truth))
            .map(|(a, b)| (a - b).abs())
            .collect();
        for (name, stds, absent) in [
            ("ignorance", of(&|t| t.ignorance_std), ABSENT),
            ("total", of(&|t| t.total_std), NO_TOTAL),
        ] {
            let reason = stds.is_none().then_some(absent);
            let stds = stds.unwrap_or_default();
            add(
                &format!("rank correlation, {name} std and error"),
                match reason {
                    Some(reason) => Metric::undefined(reason),
                    None => spearman(&stds, &errors)?,
                },
                "Spearman over tokens with known rewards; above 0: larger where the map is wrong",
            );
            for (level, share) in coverage_of_known(&gauge, &means, &stds, &truth, reason)? {
                add(
                    &format!("coverage of {:.0} % intervals, {name}", level * 100.0),
                    share,
                    "known rewards inside mean ± z·std, after the best scale and offset",
                );
            }
        }
    }

    let pairs = train::judged_pairs(records);
    let margins: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|(a, b)| {
            let difference = score_of(&a.score, ranking) - score_of(&b.score, ranking);
            Some((f64::from(difference), f64::from(a.score.ignorance?.margin?)))
        })
        .collect();
    if !margins.is_empty() {
        let average = |f: &dyn Fn(f64, f64) -> f64| {
            margins.iter().map(|(d, std)| f(*d, *std)).sum::<f64>() / margins.len() as f64
        };
        add(
            "ignorance std of a pair's margin, mean",
            Metric::of(average(&|_, std| std)),
            "of the difference of the two ranking scores",
        );
        add(
            "log probability of a label",
            Metric::of(average(&|d, _| log_sigmoid(d))),
            "log σ(margin), mean over pairs: as if nothing were unknown",
        );
        add(
            "the same, ignorance counted",
            Metric::of(average(&|d, std| mackay_probability(d, std * std).ln())),
            "MacKay's average of σ over the margin's ignorance; higher is better",
        );
    }
    Ok(figures)
}
