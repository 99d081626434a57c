//! Evaluation on the host, in f64: accuracy, token truth, calibration, floors, RewardBench, best-of-n, Laplace.
//!
//! Nothing here knows a model, a device or a file: slices of numbers come in, [`Metric`]s and reports go out. A number
//! that is not defined for the given input (an AUC with one class, a correlation with a constant) is a [`Metric`]
//! without a value and with the reason; a malformed input (unequal lengths, NaN, nothing at all) is an [`EvalError`].

use serde::{Deserialize, Serialize};
use std::fmt;

pub mod accuracy;
pub mod auc;
pub mod best_of_n;
pub mod calibration;
pub mod classification;
pub mod correlation;
pub mod floors;
pub mod gaussian;
pub mod laplace;
pub mod matrix;
pub mod optimise;
pub mod posteriors;
pub mod recovery;
pub mod resample;
pub mod rewardbench;
pub mod strength;

pub use accuracy::{
    PairAccuracy, PairedComparison, compare_methods, pair_accuracy, pair_outcomes, wilson,
};
pub use auc::{
    LabelledTokens, SortedTokens, TokenAuc, average_precision, roc_auc, token_auc, token_labels,
};
pub use calibration::{CalibrationReport, expected_calibration_error, gaussian_calibration};
pub use classification::Confusion;
pub use correlation::{Affine, Gauge, kendall_tau_b, mean_squared_error, pearson, spearman};
pub use floors::{UnigramBradleyTerry, UnigramLogOdds, Words};
pub use posteriors::{Gaussians, PosteriorAgreement, posterior_agreement};
pub use recovery::{Decision, RewardRecovery};
pub use resample::Bootstrap;
pub use strength::{DoubtfulPairs, Strength, preference_strength};

/// What is wrong with the numbers that were given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// Nothing to measure.
    #[error("{what} is empty: give at least one")]
    Empty {
        /// Name of the input.
        what: &'static str,
    },
    /// Two inputs that belong together have unequal lengths.
    #[error("{first} has length {first_len} but {second} has length {second_len}: they must match")]
    Lengths {
        /// Name of the one.
        first: &'static str,
        /// Its length.
        first_len: usize,
        /// Name of the other.
        second: &'static str,
        /// Its length.
        second_len: usize,
    },
    /// NaN or infinite.
    #[error(
        "{what}[{index}] is {value}: every value must be finite; find the row that produced it"
    )]
    NotFinite {
        /// Name of the input.
        what: &'static str,
        /// Where (flat index).
        index: usize,
        /// The value.
        value: f64,
    },
    /// Outside its range.
    #[error("{what} is {value}, but must be {need}")]
    Range {
        /// Name of the input.
        what: &'static str,
        /// The value.
        value: f64,
        /// What would be right.
        need: &'static str,
    },
    /// A token's or a span's code points lie outside the text.
    #[error("{what} {index} covers code points {start}..{end}, but the text has {len}")]
    Offsets {
        /// `token` or `span`.
        what: &'static str,
        /// Which one.
        index: usize,
        /// First code point.
        start: usize,
        /// One past the last.
        end: usize,
        /// Code points in the text.
        len: usize,
    },
    /// A matrix that should be positive definite is not.
    #[error(
        "{what} is not positive definite: pivot {pivot} is {value}; check the features, or use a smaller prior variance"
    )]
    NotPositiveDefinite {
        /// Name of the matrix.
        what: &'static str,
        /// Row of the failing pivot.
        pivot: usize,
        /// Its value.
        value: f64,
    },
    /// An optimum was not reached.
    #[error(
        "{what}: no optimum after {steps} steps (largest gradient {gradient}); allow more steps or regularise more"
    )]
    NotConverged {
        /// What was fitted.
        what: &'static str,
        /// Steps taken.
        steps: usize,
        /// Largest absolute gradient left.
        gradient: f64,
    },
    /// A file that is not what it should be.
    #[error("{what}: {reason}")]
    File {
        /// Which file or row.
        what: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// An interval of confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, such as 0.95.
    pub level: f64,
}

/// A number, or the reason why there is none. JSON: `value` is null exactly when `undefined` is present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The number; `None` when it is not defined. Never NaN.
    pub value: Option<f64>,
    /// Its interval, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// Why there is no number; begins with `undefined: `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
}

impl Metric {
    /// A number; one that is not finite becomes undefined.
    pub fn of(value: f64) -> Self {
        if value.is_finite() {
            Self {
                value: Some(value),
                interval: None,
                undefined: None,
            }
        } else {
            Self::undefined(format!("the computation gave {value}"))
        }
    }

    /// No number, because of `reason`.
    pub fn undefined(reason: impl fmt::Display) -> Self {
        Self {
            value: None,
            interval: None,
            undefined: Some(format!("undefined: {reason}")),
        }
    }

    /// The same number with an interval; an undefined metric stays without one.
    pub fn with_interval(mut self, interval: Option<Interval>) -> Self {
        self.interval = if self.value.is_some() { interval } else { None };
        self
    }

    /// The number after `f`, the reason unchanged.
    pub fn map(self, f: impl FnOnce(f64) -> f64) -> Self {
        match self.value {
            Some(value) => Self::of(f(value)),
            None => self,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.interval) {
            (Some(value), Some(i)) => write!(f, "{value:.4} [{:.4}, {:.4}]", i.low, i.high),
            (Some(value), None) => write!(f, "{value:.4}"),
            (None, _) => f.write_str(self.undefined.as_deref().unwrap_or("undefined")),
        }
    }
}

/// Every value finite, at least one.
pub(crate) fn check_values(what: &'static str, values: &[f64]) -> Result<(), EvalError> {
    if values.is_empty() {
        return Err(EvalError::Empty { what });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(EvalError::NotFinite {
            what,
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

/// The same length.
pub(crate) fn check_lengths<A, B>(
    first: &'static str,
    a: &[A],
    second: &'static str,
    b: &[B],
) -> Result<(), EvalError> {
    if a.len() == b.len() {
        return Ok(());
    }
    Err(EvalError::Lengths {
        first,
        first_len: a.len(),
        second,
        second_len: b.len(),
    })
}

/// Same length, not empty, all finite.
pub(crate) fn check_two(
    first: &'static str,
    a: &[f64],
    second: &'static str,
    b: &[f64],
) -> Result<(), EvalError> {
    check_lengths(first, a, second, b)?;
    check_values(first, a)?;
    check_values(second, b)
}

/// Sample mean; callers have checked that there is at least one value.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of squared deviations (population variance), by two passes.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let m = mean(values);
    values.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
pub(crate) mod testing {
    //! Reading golden files.
    pub(crate) use crate::test_data::golden;
    use serde_json::Value;

    pub fn floats(value: &Value) -> Vec<f64> {
        value
            .as_array()
            .expect("an array")
            .iter()
            .map(|v| v.as_f64().expect("a number"))
            .collect()
    }

    pub fn rows(value: &Value) -> Vec<Vec<f64>> {
        value
            .as_array()
            .expect("an array")
            .iter()
            .map(floats)
            .collect()
    }

    /// Within the golden file's own f64 tolerance.
    pub fn close(file: &Value, what: &str, got: f64, expected: f64) {
        let tolerance = |key: &str| file["tolerance"][key].as_f64().expect("a tolerance");
        let allowed = tolerance("f64_abs") + tolerance("f64_rel") * expected.abs();
        assert!(
            (got - expected).abs() <= allowed,
            "{what}: got {got}, expected {expected}"
        );
    }

    pub fn all_close(file: &Value, what: &str, got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len(), "{what}: lengths");
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            close(file, &format!("{what}[{i}]"), *g, *e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undefined_metric_is_null_with_a_reason_in_json() {
        let json = serde_json::to_string(&Metric::undefined("one class")).unwrap();
        assert_eq!(json, r#"{"value":null,"undefined":"undefined: one class"}"#);
        assert_eq!(
            serde_json::to_string(&Metric::of(0.5)).unwrap(),
            r#"{"value":0.5}"#
        );
    }

    #[test]
    fn a_metric_is_never_nan() {
        assert_eq!(Metric::of(f64::NAN).value, None);
        assert_eq!(Metric::of(1.0).map(|v| v / 0.0).value, None);
    }

    #[test]
    fn errors_name_the_input_and_its_lengths() {
        let error = check_two("chosen", &[1.0], "rejected", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "chosen has length 1 but rejected has length 0: they must match"
        );
        let error = check_values("scores", &[0.0, f64::NAN]).unwrap_err();
        assert!(error.to_string().starts_with("scores[1] is NaN"), "{error}");
    }
}
