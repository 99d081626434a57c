//! Two classes: accuracy, precision, recall, F1.

use super::{EvalError, Metric, check_lengths, check_values};
use serde::{Deserialize, Serialize};

/// Counts of a two-class decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// True and said to be true.
    pub true_positives: usize,
    /// Not true but said to be.
    pub false_positives: usize,
    /// True but not said to be.
    pub false_negatives: usize,
    /// Neither.
    pub true_negatives: usize,
}

impl Confusion {
    /// Counts over pairs of (truth, prediction).
    ///
    /// # Errors
    /// Unequal lengths or nothing.
    pub fn new(truth: &[bool], predicted: &[bool]) -> Result<Self, EvalError> {
        check_lengths("truth", truth, "predicted", predicted)?;
        if truth.is_empty() {
            return Err(EvalError::Empty { what: "truth" });
        }
        let count = |t, p| {
            truth
                .iter()
                .zip(predicted)
                .filter(|(a, b)| (**a, **b) == (t, p))
                .count()
        };
        Ok(Self {
            true_positives: count(true, true),
            false_positives: count(false, true),
            false_negatives: count(true, false),
            true_negatives: count(false, false),
        })
    }

    /// Share of right decisions.
    pub fn accuracy(&self) -> Metric {
        let right = self.true_positives + self.true_negatives;
        ratio(
            right,
            right + self.false_positives + self.false_negatives,
            "nothing was decided",
        )
    }

    /// Share of the predicted that are true; undefined when nothing was predicted.
    pub fn precision(&self) -> Metric {
        ratio(
            self.true_positives,
            self.true_positives + self.false_positives,
            "nothing was predicted positive",
        )
    }

    /// Share of the true that were predicted; undefined when nothing is true.
    pub fn recall(&self) -> Metric {
        ratio(
            self.true_positives,
            self.true_positives + self.false_negatives,
            "nothing is positive",
        )
    }

    /// Harmonic mean of precision and recall, 2tp / (2tp + fp + fn); undefined when nothing is true or predicted.
    pub fn f1(&self) -> Metric {
        let twice = 2 * self.true_positives;
        ratio(
            twice,
            twice + self.false_positives + self.false_negatives,
            "nothing is positive or predicted positive",
        )
    }
}

fn ratio(part: usize, whole: usize, reason: &str) -> Metric {
    if whole == 0 {
        Metric::undefined(reason)
    } else {
        Metric::of(part as f64 / whole as f64)
    }
}

/// The label of max-margin IRL (arXiv 2410.12491): undesirable means a reward of at most 0.
///
/// # Errors
/// Nothing, NaN or infinite values.
pub fn undesirable(rewards: &[f64]) -> Result<Vec<bool>, EvalError> {
    check_values("rewards", rewards)?;
    Ok(rewards.iter().map(|r| *r <= 0.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{close, floats, golden};

    #[test]
    fn accuracy_and_f1_match_the_golden_values() {
        let Some(file) = golden("irl_margin") else {
            return;
        };
        let inputs = &file["inputs"]["metrics"];
        let truth = undesirable(&floats(&inputs["true_reward"])).unwrap();
        let learned = undesirable(&floats(&inputs["learned_reward"])).unwrap();
        let got = Confusion::new(&truth, &learned).unwrap();
        let expected = &file["expected"]["metrics"];
        close(
            &file,
            "accuracy",
            got.accuracy().value.unwrap(),
            expected["accuracy"].as_f64().unwrap(),
        );
        close(
            &file,
            "f1",
            got.f1().value.unwrap(),
            expected["f1"].as_f64().unwrap(),
        );
    }

    #[test]
    fn empty_denominators_are_undefined() {
        let none = Confusion::new(&[false], &[false]).unwrap();
        assert!(
            none.precision().undefined.is_some()
                && none.recall().undefined.is_some()
                && none.f1().undefined.is_some()
        );
        assert_eq!(none.accuracy().value, Some(1.0));
        assert!(Confusion::new(&[], &[]).is_err() && Confusion::new(&[true], &[]).is_err());
    }

    #[test]
    fn f1_is_the_harmonic_mean() {
        let c = Confusion {
            true_positives: 3,
            false_positives: 1,
            false_negatives: 2,
            true_negatives: 4,
        };
        let (p, r) = (c.precision().value.unwrap(), c.recall().value.unwrap());
        assert!((c.f1().value.unwrap() - 2.0 * p * r / (p + r)).abs() < 1e-15);
    }
}
