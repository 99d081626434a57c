//! Two reports that put the rest together: token rewards against known truths, and scores of pairs.

use super::accuracy::{PairAccuracy, pair_accuracy, pair_outcomes};
use super::calibration::{CalibrationReport, gaussian_calibration};
use super::correlation::{
    Affine, Gauge, kendall_tau_b, mean_squared_error, pearson, r_squared, spearman,
};
use super::floors::longer_wins;
use super::resample::Bootstrap;
use super::{EvalError, Metric, check_lengths, check_values};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Token rewards of one or many answers beside what is known of them, `[N]` each.
#[derive(Clone, Copy, Debug)]
pub struct TokenTruth<'a> {
    /// Learned mean.
    pub mean: &'a [f64],
    /// Learned standard deviation.
    pub std: &'a [f64],
    /// The true reward.
    pub true_mean: &'a [f64],
    /// The true reward's own standard deviation (human disagreement), where known.
    pub true_std: Option<&'a [f64]>,
    /// TD residuals of the same steps, where the objective has them: calibrates sigma for what it is (`ava.md` 8.10).
    pub delta: Option<&'a [f64]>,
}

/// How well token rewards and their standard deviations match the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenTruthReport {
    /// Tokens.
    pub tokens: usize,
    /// Pearson's correlation of mean and truth.
    pub pearson: Metric,
    /// Spearman's rank correlation.
    pub spearman: Metric,
    /// Kendall's tau-b.
    pub kendall: Metric,
    /// What was allowed to be fitted.
    pub gauge: Gauge,
    /// The map that was fitted within it, applied to means and (its factor) to standard deviations below.
    pub map: Affine,
    /// Mean squared error before the map.
    pub mse_raw: Metric,
    /// Mean squared error after the map.
    pub mse: Metric,
    /// R^2 after the map.
    pub r_squared: Metric,
    /// Calibration of N(mean, std^2) after the map against the true mean; `None` when the map has factor 0.
    pub calibration: Option<CalibrationReport>,
    /// Why there is no calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_undefined: Option<String>,
    /// Spearman's correlation of learned std and absolute error: does the model know where it errs?
    pub std_against_error: Metric,
    /// Spearman's correlation of learned and true std; undefined where the truth has none.
    pub std_against_true_std: Metric,
    /// Calibration of N(mean, std^2), without any map, against the TD residuals.
    pub residual_calibration: Option<CalibrationReport>,
}

impl TokenTruthReport {
    /// The report, with the truth compared after `gauge`.
    ///
    /// # Errors
    /// Unequal lengths, nothing, NaN or infinite values, a std that is not positive, a negative true std.
    pub fn new(truth: &TokenTruth<'_>, gauge: Gauge) -> Result<Self, EvalError> {
        let TokenTruth {
            mean,
            std,
            true_mean,
            true_std,
            delta,
        } = *truth;
        check_lengths("mean", mean, "true_mean", true_mean)?;
        check_lengths("mean", mean, "std", std)?;
        check_values("std", std)?;
        if let Some(value) = std.iter().copied().find(|s| *s <= 0.0) {
            return Err(EvalError::Range {
                what: "std",
                value,
                need: "above 0",
            });
        }
        let map = gauge.fit(mean, true_mean)?;
        let mapped = map.apply(mean);
        let errors: Vec<f64> = mapped
            .iter()
            .zip(true_mean)
            .map(|(m, t)| (m - t).abs())
            .collect();
        let (calibration, calibration_undefined) = if map.scale > 0.0 {
            let stds: Vec<f64> = std.iter().map(|s| s * map.scale).collect();
            (Some(gaussian_calibration(&mapped, &stds, true_mean)?), None)
        } else {
            (
                None,
                Some(
                    "undefined: no positive factor brings the rewards closer to the truth"
                        .to_string(),
                ),
            )
        };
        let std_against_true_std = match true_std {
            Some(known) => {
                check_lengths("mean", mean, "true_std", known)?;
                check_values("true_std", known)?;
                if let Some(value) = known.iter().copied().find(|s| *s < 0.0) {
                    return Err(EvalError::Range {
                        what: "true_std",
                        value,
                        need: "not negative",
                    });
                }
                spearman(std, known)?
            }
            None => Metric::undefined("the truth has no standard deviations"),
        };
        Ok(Self {
            tokens: mean.len(),
            pearson: pearson(mean, true_mean)?,
            spearman: spearman(mean, true_mean)?,
            kendall: kendall_tau_b(mean, true_mean)?,
            gauge,
            map,
            mse_raw: mean_squared_error(mean, true_mean)?,
            mse: mean_squared_error(&mapped, true_mean)?,
            r_squared: r_squared(&mapped, true_mean)?,
            calibration,
            calibration_undefined,
            std_against_error: spearman(std, &errors)?,
            std_against_true_std,
            residual_calibration: match delta {
                Some(delta) => Some(gaussian_calibration(mean, std, delta)?),
                None => None,
            },
        })
    }
}

impl fmt::Display for TokenTruthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tokens              {}", self.tokens)?;
        writeln!(f, "pearson             {}", self.pearson)?;
        writeln!(f, "spearman            {}", self.spearman)?;
        writeln!(f, "kendall tau-b       {}", self.kendall)?;
        writeln!(
            f,
            "map                 {:.4} x reward + {:.4}",
            self.map.scale, self.map.shift
        )?;
        writeln!(
            f,
            "mse                 {} (before the map {})",
            self.mse, self.mse_raw
        )?;
        writeln!(f, "R^2                 {}", self.r_squared)?;
        match (&self.calibration, &self.calibration_undefined) {
            (Some(calibration), _) => write_calibration(f, calibration)?,
            (None, reason) => writeln!(
                f,
                "calibration         {}",
                reason.as_deref().unwrap_or("undefined")
            )?,
        }
        writeln!(f, "std against error   {}", self.std_against_error)?;
        write!(f, "std against truth's {}", self.std_against_true_std)?;
        if let Some(residual) = &self.residual_calibration {
            writeln!(f, "\nagainst TD residuals:")?;
            write_calibration(f, residual)?;
        }
        Ok(())
    }
}

fn write_calibration(f: &mut fmt::Formatter<'_>, calibration: &CalibrationReport) -> fmt::Result {
    for point in &calibration.coverage {
        writeln!(
            f,
            "coverage of {:>2.0} %    {:.4}",
            100.0 * point.expected,
            point.observed
        )?;
    }
    writeln!(
        f,
        "calibration error   {}",
        calibration.expected_calibration_error
    )?;
    writeln!(
        f,
        "z mean, variance    {}, {}",
        calibration.z_mean, calibration.z_variance
    )?;
    writeln!(f, "sharpness           {}", calibration.sharpness)?;
    writeln!(
        f,
        "neg. log-likelihood {}",
        calibration.negative_log_likelihood
    )
}

/// Scores of the two answers of every pair by one reading, `[N]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct PairScores {
    /// `last`, `sum`, `mean`, or another name.
    pub name: String,
    /// Chosen answers.
    pub chosen: Vec<f64>,
    /// Rejected answers.
    pub rejected: Vec<f64>,
}

/// One reading's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreResult {
    /// Its name.
    pub name: String,
    /// Counts.
    pub pairs: PairAccuracy,
    /// Accuracy with its bootstrap interval; a tie is wrong.
    pub accuracy: Metric,
    /// Mean of score(chosen) - score(rejected).
    pub mean_margin: Metric,
    /// Spearman's correlation of score and length over all answers: a score that follows length is suspect.
    pub score_against_length: Metric,
}

/// Pair accuracy by each reading, beside "the longer answer wins".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairReport {
    /// Pairs.
    pub pairs: usize,
    /// One entry a reading, in the order given.
    pub scores: Vec<ScoreResult>,
    /// The floor: the longer answer is taken for the better one.
    pub longer_wins: PairAccuracy,
}

impl PairReport {
    /// The report; lengths in response tokens, `[N]` each.
    ///
    /// # Errors
    /// No pairs, unequal lengths, NaN or infinite scores, a level outside (0, 1).
    pub fn new(
        scores: &[PairScores],
        chosen_lengths: &[usize],
        rejected_lengths: &[usize],
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvalError> {
        let floor = longer_wins(chosen_lengths, rejected_lengths)?;
        let lengths: Vec<f64> = chosen_lengths
            .iter()
            .chain(rejected_lengths)
            .map(|l| *l as f64)
            .collect();
        let mut results = Vec::with_capacity(scores.len());
        for reading in scores {
            check_lengths(
                "chosen scores",
                &reading.chosen,
                "chosen lengths",
                chosen_lengths,
            )?;
            let outcomes = pair_outcomes(&reading.chosen, &reading.rejected)?;
            let margins: Vec<f64> = reading
                .chosen
                .iter()
                .zip(&reading.rejected)
                .map(|(c, r)| c - r)
                .collect();
            let all = [reading.chosen.as_slice(), &reading.rejected].concat();
            results.push(ScoreResult {
                name: reading.name.clone(),
                pairs: pair_accuracy(&reading.chosen, &reading.rejected)?,
                accuracy: super::accuracy::bootstrap_share(&outcomes, bootstrap)?,
                mean_margin: Metric::of(super::mean(&margins)),
                score_against_length: spearman(&all, &lengths)?,
            });
        }
        Ok(Self {
            pairs: floor.pairs,
            scores: results,
            longer_wins: floor,
        })
    }
}

impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} pairs", self.pairs)?;
        for score in &self.scores {
            writeln!(
                f,
                "{:<12} accuracy {}  ties {}  margin {}  against length {}",
                score.name,
                score.accuracy,
                score.pairs.ties,
                score.mean_margin,
                score.score_against_length
            )?;
        }
        write!(
            f,
            "{:<12} accuracy {}  ties {}",
            "longer wins",
            self.longer_wins.metric(),
            self.longer_wins.ties
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth<'a>(mean: &'a [f64], std: &'a [f64], true_mean: &'a [f64]) -> TokenTruth<'a> {
        TokenTruth {
            mean,
            std,
            true_mean,
            true_std: None,
            delta: None,
        }
    }

    #[test]
    fn a_reward_in_other_units_is_perfect_after_the_gauge() {
        let (learned, known) = ([0.0, 1.0, 2.0, 4.0], [1.0, 3.0, 5.0, 9.0]);
        let got = TokenTruthReport::new(&truth(&learned, &[0.5; 4], &known), Gauge::PositiveAffine)
            .unwrap();
        assert!((got.pearson.value.unwrap() - 1.0).abs() < 1e-12 && got.mse.value.unwrap() < 1e-20);
        assert_eq!((got.map.scale, got.kendall.value), (2.0, Some(1.0)));
        // The standard deviation takes the factor: 0.5 becomes 1.
        assert!((got.calibration.unwrap().sharpness.value.unwrap() - 1.0).abs() < 1e-12);
        assert!(got.std_against_true_std.undefined.is_some());
    }

    #[test]
    fn a_reward_that_points_the_other_way_has_no_calibration() {
        let got = TokenTruthReport::new(
            &truth(&[2.0, 1.0], &[1.0; 2], &[0.0, 1.0]),
            Gauge::PositiveAffine,
        )
        .unwrap();
        assert!(got.calibration.is_none() && got.calibration_undefined.is_some());
        assert_eq!(got.r_squared.value, Some(0.0));
        assert!(got.to_string().contains("no positive factor"));
    }

    #[test]
    fn true_stds_and_residuals_are_used_when_there() {
        let (mean, std, known) = ([0.0, 1.0, 3.0], [0.1, 0.2, 0.3], [0.1, 0.8, 3.3]);
        let full = TokenTruth {
            true_std: Some(&std),
            delta: Some(&known),
            ..truth(&mean, &std, &known)
        };
        let got = TokenTruthReport::new(&full, Gauge::Identity).unwrap();
        assert!((got.std_against_true_std.value.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(got.residual_calibration.as_ref().unwrap().count, 3);
        let json = serde_json::to_string(&got).unwrap();
        assert_eq!(
            serde_json::from_str::<TokenTruthReport>(&json)
                .unwrap()
                .tokens,
            3
        );
        assert!(got.to_string().contains("against TD residuals"));
    }

    #[test]
    fn wrong_arrays_are_named() {
        let error = |t: TokenTruth<'_>| TokenTruthReport::new(&t, Gauge::Identity).unwrap_err();
        assert!(matches!(
            error(truth(&[1.0], &[1.0, 1.0], &[1.0])),
            EvalError::Lengths { second: "std", .. }
        ));
        assert!(matches!(
            error(truth(&[1.0], &[0.0], &[1.0])),
            EvalError::Range { what: "std", .. }
        ));
        assert!(matches!(
            error(truth(&[], &[], &[])),
            EvalError::Empty { .. }
        ));
        assert!(matches!(
            error(truth(&[f64::NAN], &[1.0], &[1.0])),
            EvalError::NotFinite { .. }
        ));
        let bad = TokenTruth {
            true_std: Some(&[-1.0]),
            ..truth(&[1.0], &[1.0], &[1.0])
        };
        assert!(matches!(
            error(bad),
            EvalError::Range {
                what: "true_std",
                ..
            }
        ));
    }

    #[test]
    fn the_pair_report_holds_every_reading_beside_the_floor() {
        let reading = |name: &str, chosen: &[f64], rejected: &[f64]| PairScores {
            name: name.into(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
        };
        let scores = [
            reading("last", &[1.0, 2.0], &[0.0, 2.0]),
            reading("sum", &[3.0, 4.0], &[1.0, 2.0]),
        ];
        let got = PairReport::new(&scores, &[3, 4], &[1, 2], &Bootstrap::default()).unwrap();
        assert_eq!(
            (got.scores[0].accuracy.value, got.scores[0].pairs.ties),
            (Some(0.5), 1)
        );
        assert_eq!(
            (got.longer_wins.accuracy, got.scores[1].mean_margin.value),
            (1.0, Some(2.0))
        );
        assert!((got.scores[1].score_against_length.value.unwrap() - 1.0).abs() < 1e-12);
        assert!(got.to_string().contains("longer wins"));
        assert!(PairReport::new(&scores, &[3], &[1], &Bootstrap::default()).is_err());
        assert!(PairReport::new(&[], &[], &[], &Bootstrap::default()).is_err());
    }
}
