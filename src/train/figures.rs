//! The figures of an evaluation. Training logs some of them after each evaluation, and `avascope eval` reports them with
//! intervals and floors: what a pair, a known reward or a labelled token is, is said here once for both.

use super::{Metrics, Scored};
use crate::eval::calibration::LEVELS;
use crate::eval::{
    self, Affine, CalibrationReport, EvalError, Gauge, LabelledTokens, Metric, gaussian_calibration,
};
use crate::objective::ScoreKind;
use crate::reward::{AnswerScore, Side, TokenRewardRecord, Uncertainty};
use std::cmp::Ordering;

/// z of the 95 % interval of a Gaussian.
const Z95: f64 = 1.959_963_984_540_054;

/// The pairs among records: (chosen, rejected), which follow each other.
pub fn pairs(records: &[TokenRewardRecord]) -> Vec<(&TokenRewardRecord, &TokenRewardRecord)> {
    records
        .chunks(2)
        .filter_map(|pair| match pair {
            [a, b] if a.side == Side::Chosen && b.side == Side::Rejected => Some((a, b)),
            _ => None,
        })
        .collect()
}

/// The pairs among records as (better, worse) by the rows' own labels; without a label the chosen answer is the better one.
/// Pairs that are labelled as ties are left out: neither order would be right.
pub fn judged_pairs(
    records: &[TokenRewardRecord],
) -> Vec<(&TokenRewardRecord, &TokenRewardRecord)> {
    let all = pairs(records).into_iter();
    all.filter_map(
        |(chosen, rejected)| match chosen.label.unwrap_or(1.0).total_cmp(&0.5) {
            Ordering::Greater => Some((chosen, rejected)),
            Ordering::Less => Some((rejected, chosen)),
            Ordering::Equal => None,
        },
    )
    .collect()
}

/// The score of an answer that `kind` names.
pub fn score_of(score: &AnswerScore, kind: ScoreKind) -> f32 {
    match kind {
        ScoreKind::Last => score.last,
        ScoreKind::Sum => score.sum,
        ScoreKind::Mean => score.mean,
    }
}

/// Tokens whose true reward is known, in the records' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownRewards {
    /// Their posterior means.
    pub means: Vec<f64>,
    /// Their posterior standard deviations.
    pub stds: Vec<f64>,
    /// Their true rewards.
    pub truths: Vec<f64>,
}

/// Collects the tokens whose true reward is known.
pub fn known_rewards(records: &[TokenRewardRecord]) -> KnownRewards {
    let mut known = KnownRewards::default();
    for token in records.iter().flat_map(|record| &record.tokens) {
        if let Some(truth) = token.true_mean {
            known.means.push(f64::from(token.mean));
            known.stds.push(f64::from(token.std));
            known.truths.push(f64::from(truth));
        }
    }
    known
}

/// Answers' recovered rewards, `[N]`, beside what is known of the same answers, `[N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered<Known> {
    /// The score that `ranking` names.
    pub scores: Vec<f64>,
    /// What is known.
    pub known: Vec<Known>,
}

/// Answers of which every token that covers text has a known reward: their scores, and the known rewards' sum (their mean
/// where the score is a mean).
pub fn known_returns(records: &[TokenRewardRecord], ranking: ScoreKind) -> Recovered<f64> {
    let of = |record: &TokenRewardRecord| -> Option<(f64, f64)> {
        let covering = record.tokens.iter().filter(|t| t.start < t.end);
        let truths: Vec<f64> = covering
            .map(|token| token.true_mean.map(f64::from))
            .collect::<Option<_>>()?;
        let sum: f64 = truths.iter().sum();
        let known = match ranking {
            _ if truths.is_empty() => return None,
            ScoreKind::Mean => sum / truths.len() as f64,
            ScoreKind::Last | ScoreKind::Sum => sum,
        };
        Some((f64::from(score_of(&record.score, ranking)), known))
    };
    let (scores, known) = records.iter().filter_map(of).unzip();
    Recovered { scores, known }
}

/// Answers with a label: their scores, and whether the label calls them undesirable. A rejected answer is one that is, and the
/// chosen one beside it is not, unless the pair's own label says otherwise; ties are left out.
pub fn answer_labels(records: &[TokenRewardRecord], ranking: ScoreKind) -> Recovered<bool> {
    let (scores, known) = records
        .iter()
        .filter_map(|record| {
            let label = match record.side {
                Side::Chosen => record.label.unwrap_or(1.0),
                Side::Rejected => record.label.unwrap_or(0.0),
                Side::Answer => record.label?,
            };
            let score = f64::from(score_of(&record.score, ranking));
            (label != 0.5).then_some((score, label < 0.5))
        })
        .unzip();
    Recovered { scores, known }
}

/// How two sets of answers, labelled one by one, stand to each other: every desirable answer beside every undesirable one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoSets {
    /// Desirable answers.
    pub desirable: usize,
    /// Undesirable answers.
    pub undesirable: usize,
    /// Share of the combinations in which the desirable answer scores higher; a tie counts as wrong.
    pub accuracy: f64,
    /// Share of the combinations with equal scores.
    pub ties: f64,
    /// Mean score of the desirable answers less that of the undesirable ones.
    pub margin: f64,
}

impl TwoSets {
    /// `None` where one set is empty. Answers of pairs do not count.
    pub fn of(records: &[TokenRewardRecord], ranking: ScoreKind) -> Option<Self> {
        let scores = |desirable: bool| -> Vec<f32> {
            let alone = records.iter().filter(|record| record.side == Side::Answer);
            let of = alone.filter(|record| record.label.is_some_and(|y| (y > 0.5) == desirable));
            of.map(|record| score_of(&record.score, ranking)).collect()
        };
        let (good, mut bad) = (scores(true), scores(false));
        let wide = |scores: &[f32]| mean(scores.iter().map(|score| f64::from(*score)));
        let margin = wide(&good)? - wide(&bad)?;
        bad.sort_by(f32::total_cmp);
        let (mut below, mut equal) = (0usize, 0usize);
        for score in &good {
            let lower = bad.partition_point(|other| other < score);
            below += lower;
            equal += bad[lower..]
                .iter()
                .take_while(|other| *other == score)
                .count();
        }
        let all = (good.len() * bad.len()) as f64;
        Some(Self {
            desirable: good.len(),
            undesirable: bad.len(),
            accuracy: below as f64 / all,
            ties: equal as f64 / all,
            margin,
        })
    }
}

/// Why intervals around learned rewards say nothing of a method without a standard deviation of its own.
pub const NO_SIGMA: &str = "the method trains no standard deviation";

/// Why rewards that point away from the known ones have no intervals.
pub const NO_POSITIVE_FACTOR: &str =
    "no positive factor brings the token rewards closer to the known ones";

/// Shares of known rewards inside the central 50, 80 and 95 % intervals, each with its level, after `gauge` was fitted:
/// `means` are the learned means as they are, `stds` the standard deviations of the same scale. A share is undefined,
/// with the reason, where `no_sigma` says why the standard deviations mean nothing, where the gauge is flat, and where a
/// standard deviation is 0.
///
/// # Errors
/// Lists of unequal length, numbers that are not finite, standard deviations below 0.
pub fn coverage_of_known(
    gauge: &Affine,
    means: &[f64],
    stds: &[f64],
    truths: &[f64],
    no_sigma: Option<&str>,
) -> Result<Vec<(f64, Metric)>, EvalError> {
    Ok(
        match calibration_of_known(gauge, means, stds, truths, no_sigma)? {
            Ok(report) => (report.coverage.iter())
                .map(|point| (point.expected, Metric::of(point.observed)))
                .collect(),
            Err(undefined) => LEVELS.map(|level| (level, undefined.clone())).to_vec(),
        },
    )
}

/// The calibration of N(mean, std^2) against known rewards, as in [`coverage_of_known`]; an undefined metric, which says why,
/// where there is none.
///
/// # Errors
/// As [`coverage_of_known`].
pub fn calibration_of_known(
    gauge: &Affine,
    means: &[f64],
    stds: &[f64],
    truths: &[f64],
    no_sigma: Option<&str>,
) -> Result<Result<CalibrationReport, Metric>, EvalError> {
    let reason = no_sigma
        .or((gauge.scale <= 0.0).then_some(NO_POSITIVE_FACTOR))
        .or((stds.contains(&0.0)).then_some("a standard deviation is 0"));
    if let Some(reason) = reason {
        return Ok(Err(Metric::undefined(reason)));
    }
    let scaled: Vec<f64> = stds.iter().map(|std| std * gauge.scale).collect();
    gaussian_calibration(&gauge.apply(means), &scaled, truths).map(Ok)
}

/// Tokens of one side's answers against their labelled spans, an entry an answer that has labels. Bad tokens should
/// score low and good ones high: the positives are the labelled tokens, and where spans mark what is bad (in rejected
/// answers, and in answers that stand alone) the score is minus the mean. Tokens that cover no text (EOS) are in no span
/// and left out.
pub fn labelled_tokens(records: &[TokenRewardRecord], side: Side) -> Vec<LabelledTokens> {
    let sign = if side == Side::Chosen { 1.0 } else { -1.0 };
    records
        .iter()
        .filter(|record| record.side == side)
        .filter_map(|record| {
            let (scores, labels) = record
                .tokens
                .iter()
                .filter(|token| token.start < token.end)
                .map(|token| Some((sign * f64::from(token.mean), token.labelled?)))
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .unzip();
            Some(LabelledTokens { scores, labels })
        })
        .collect()
}

/// How the temporal-difference residuals, divided by the posterior's standard deviation, are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residuals {
    /// Their mean; 0 where sigma describes them.
    pub mean: f64,
    /// Their variance; 1 where sigma describes them.
    pub variance: f64,
    /// The share inside the 95 % interval.
    pub coverage95: f64,
}

impl Residuals {
    /// `None` where there are none.
    pub fn of(z: &[f64]) -> Option<Self> {
        if z.is_empty() {
            return None;
        }
        let n = z.len() as f64;
        let mean = z.iter().sum::<f64>() / n;
        Some(Self {
            mean,
            variance: z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n,
            coverage95: z.iter().filter(|z| z.abs() <= Z95).count() as f64 / n,
        })
    }
}

/// Where scores, language and length stand: TRL's names for the rewards of both sides, the perplexity of each side's answers
/// (both rising says that the likelihood term is unstable), and the correlation of score and length in tokens.
fn spread(scored: &Scored, ranking: ScoreKind) -> Metrics {
    let mut found: Vec<(String, Option<f64>)> = Vec::new();
    let score = |record: &TokenRewardRecord| f64::from(score_of(&record.score, ranking));
    let all: Vec<f64> = scored.records.iter().map(score).collect();
    let fold = |f: fn(f64, f64) -> f64| all.iter().copied().reduce(f);
    found.push(("mean_reward".into(), mean(all.iter().copied())));
    found.push(("min_reward".into(), fold(f64::min)));
    found.push(("max_reward".into(), fold(f64::max)));
    for (side, name) in [
        (Side::Chosen, "chosen"),
        (Side::Rejected, "rejected"),
        (Side::Answer, "answer"),
    ] {
        let records = || scored.records.iter().filter(move |r| r.side == side);
        found.push((format!("rewards/{name}"), mean(records().map(score))));
        let said = scored
            .records
            .iter()
            .zip(&scored.log_policy)
            .filter(|(record, _)| record.side == side)
            .flat_map(|(_, log_probabilities)| log_probabilities)
            .map(|log_probability| -f64::from(*log_probability));
        found.push((format!("perplexity/{name}"), mean(said).map(f64::exp)));
    }
    let lengths: Vec<f64> = scored
        .records
        .iter()
        .map(|record| record.tokens.len() as f64)
        .collect();
    let length = eval::pearson(&all, &lengths).ok();
    found.push((
        "length_correlation".into(),
        length.and_then(|metric| metric.value),
    ));
    found
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| value.is_finite())?;
            Some((format!("eval_{name}"), value))
        })
        .collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), x| (count + 1, sum + x));
    (count > 0).then(|| sum / count as f64)
}

/// The figures of scored rows, each under `eval_`. A figure that is undefined (one class, constant input) is absent.
pub fn figures(scored: &Scored, ranking: ScoreKind) -> Metrics {
    let mut metrics = Metrics::new();
    if let Some(loss) = scored.terms.get("loss") {
        metrics.insert("eval_loss".into(), *loss);
    }
    let pairs = judged_pairs(&scored.records);
    if !pairs.is_empty() {
        let share = |holds: &dyn Fn(f32, f32) -> bool, kind: ScoreKind| {
            let count = pairs
                .iter()
                .filter(|(a, b)| holds(score_of(&a.score, kind), score_of(&b.score, kind)))
                .count();
            count as f64 / pairs.len() as f64
        };
        // A tie counts as wrong, as in RewardBench.
        let accuracy = |kind| share(&|chosen, rejected| chosen > rejected, kind);
        let margin: f64 = pairs
            .iter()
            .map(|(a, b)| f64::from(score_of(&a.score, ranking) - score_of(&b.score, ranking)))
            .sum();
        for (name, value) in [
            ("eval_accuracy", accuracy(ranking)),
            ("eval_accuracy_last", accuracy(ScoreKind::Last)),
            ("eval_accuracy_sum", accuracy(ScoreKind::Sum)),
            ("eval_accuracy_mean", accuracy(ScoreKind::Mean)),
            ("eval_margin", margin / pairs.len() as f64),
            ("eval_ties", share(&|a, b| a == b, ranking)),
        ] {
            metrics.insert(name.into(), value);
        }
    }
    if let Some(sets) = TwoSets::of(&scored.records, ranking) {
        for (name, value) in [
            ("eval_accuracy", sets.accuracy),
            ("eval_margin", sets.margin),
            ("eval_ties", sets.ties),
        ] {
            metrics.insert(name.into(), value);
        }
    }
    metrics.extend(spread(scored, ranking));

    let known = known_rewards(&scored.records);
    for (name, metric) in [
        (
            "eval_truth/pearson",
            eval::pearson(&known.means, &known.truths),
        ),
        (
            "eval_truth/spearman",
            eval::spearman(&known.means, &known.truths),
        ),
    ] {
        if let Some(value) = metric.ok().and_then(|metric| metric.value) {
            metrics.insert(name.into(), value);
        }
    }
    // Without a sigma of the method's own there is nothing to cover with; the scale and offset that a preference leaves open
    // are taken out first.
    let any = |wanted: Uncertainty| {
        let mut records = scored.records.iter();
        records.any(|record| record.provenance.uncertainty == wanted)
    };
    let no_sigma = any(Uncertainty::PriorOnly).then_some(NO_SIGMA);
    let KnownRewards {
        means,
        stds,
        truths,
    } = &known;
    let shares = Gauge::PositiveAffine
        .fit(means, truths)
        .and_then(|gauge| coverage_of_known(&gauge, means, stds, truths, no_sigma));
    if let Some((_, share)) = shares.ok().and_then(|shares| shares.last().cloned())
        && let Some(share) = share.value
    {
        metrics.insert("eval_truth/coverage95".into(), share);
    }
    if let Some(residuals) = Residuals::of(&scored.z.concat()) {
        metrics.insert("eval_calibration/z_mean".into(), residuals.mean);
        metrics.insert("eval_calibration/z_var".into(), residuals.variance);
        metrics.insert("eval_calibration/coverage95".into(), residuals.coverage95);
    }
    for (name, side) in [
        ("eval_token_auc/rejected", Side::Rejected),
        ("eval_token_auc/chosen", Side::Chosen),
    ] {
        let answers = labelled_tokens(&scored.records, side);
        let scores: Vec<f64> = answers.iter().flat_map(|a| a.scores.clone()).collect();
        let labels: Vec<bool> = answers.iter().flat_map(|a| a.labels.clone()).collect();
        let auc = eval::roc_auc(&scores, &labels);
        if let Some(value) = auc.ok().and_then(|auc| auc.value) {
            metrics.insert(name.into(), value);
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing::trained;
    use serde_json::json;

    #[test]
    fn coverage_is_a_number_or_a_stated_reason() {
        let truths = [0.0, 1.0, 2.0, 3.0];
        let right = [0.1, 0.9, 2.2, 2.9];
        let wrong = [3.0, 2.0, 1.0, 0.0];
        let stds = [0.5; 4];
        let of = |means: &[f64], stds: &[f64], no_sigma| {
            let gauge = Gauge::PositiveAffine.fit(means, &truths).expect("a map");
            coverage_of_known(&gauge, means, stds, &truths, no_sigma).expect("shares")
        };
        let levels =
            |all: &[(f64, Metric)]| all.iter().map(|(level, _)| *level).collect::<Vec<_>>();
        let known = of(&right, &stds, None);
        assert_eq!(levels(&known), LEVELS);
        assert_eq!(known[2].1.value, Some(1.0));
        // A map in other units covers as much.
        let other = |values: &[f64], offset: f64| -> Vec<f64> {
            values.iter().map(|v| 3.0 * v + offset).collect()
        };
        assert_eq!(of(&other(&right, 1.0), &other(&stds, 0.0), None), known);
        for (all, reason) in [
            (of(&right, &stds, Some(NO_SIGMA)), NO_SIGMA),
            (of(&wrong, &stds, None), NO_POSITIVE_FACTOR),
            (
                of(&right, &[0.5, 0.0, 0.5, 0.5], None),
                "a standard deviation is 0",
            ),
        ] {
            assert_eq!(levels(&all), LEVELS);
            for (_, metric) in all {
                let said = metric.undefined.unwrap_or_default();
                assert!(metric.value.is_none() && said.contains(reason), "{said}");
            }
        }
    }

    #[test]
    fn a_method_without_a_sigma_logs_no_coverage() {
        for (method, options, has) in [
            ("ava_p", json!({}), true),
            ("preference_probit", json!({}), true),
            ("ava_p", json!({"lambda": 0.0}), false),
            ("bradley_terry_sum", json!({}), false),
        ] {
            let run = trained(method, options.clone(), 1, 30);
            let metrics = pollster::block_on(run.evaluate()).expect("figures");
            assert!(metrics.contains_key("eval_truth/pearson"), "{method}");
            let covers = metrics.contains_key("eval_truth/coverage95");
            // A map that points away from the truth has no scale in which it could cover anything.
            let toward = metrics["eval_truth/pearson"] > 0.0;
            assert_eq!(covers, has && toward, "{method} {options}");
        }
    }
}
