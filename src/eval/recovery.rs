//! How well a recovered reward agrees with a reference, as inverse reinforcement learning from text is judged.
//!
//! ```text
//! label 1 = undesirable = reward <= 0        accuracy and F1 of label 1, recovered against reference
//! Pearson, Spearman, Kendall's tau-b         of the recovered reward and the reference
//! ```
//!
//! Source: *Insights from the Inverse*, arXiv 2410.12491; github ai4ai-lab/irl_for_llms@1597c93. The threshold at 0 reads the
//! recovered reward as it is. A loss of differences alone leaves the zero free, so beside known rewards the same decision is
//! also given after the scale (not negative) and offset of least squares (ours).

use super::classification::{Confusion, undesirable};
use super::correlation::{Gauge, kendall_tau_b, pearson, spearman};
use super::{EvalError, Metric, check_lengths, check_two, check_values};
use serde::{Deserialize, Serialize};

/// Accuracy and F1 of "undesirable".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Share of right decisions.
    pub accuracy: Metric,
    /// F1 of the undesirable class; undefined where nothing is undesirable and nothing was taken for it.
    pub f1: Metric,
}

impl Decision {
    fn new(truth: &[bool], recovered: &[f64]) -> Result<Self, EvalError> {
        let confusion = Confusion::new(truth, &undesirable(recovered)?)?;
        Ok(Self {
            accuracy: confusion.accuracy(),
            f1: confusion.f1(),
        })
    }
}

/// A recovered reward beside its reference, over `[N]` tokens or answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardRecovery {
    /// N.
    pub count: usize,
    /// How many of them the reference calls undesirable: to call everything so is right as often.
    pub undesirable: usize,
    /// The recovered reward's own sign against the reference.
    pub as_recovered: Decision,
    /// The same after the best scale and offset; `None` where the reference is labels, which fix neither.
    pub after_gauge: Option<Decision>,
    /// Pearson's correlation; with labels the point-biserial one.
    pub pearson: Metric,
    /// Spearman's rank correlation.
    pub spearman: Metric,
    /// Kendall's tau-b.
    pub kendall: Metric,
}

impl RewardRecovery {
    /// Against known rewards, `[N]` each.
    ///
    /// # Errors
    /// Unequal lengths, nothing, NaN or infinite values.
    pub fn of_rewards(recovered: &[f64], known: &[f64]) -> Result<Self, EvalError> {
        check_two("recovered rewards", recovered, "known rewards", known)?;
        let truth = undesirable(known)?;
        let map = Gauge::PositiveAffine.fit(recovered, known)?;
        let after_gauge = match map.scale > 0.0 {
            true => Decision::new(&truth, &map.apply(recovered))?,
            false => {
                let none = || Metric::undefined("no positive factor brings it closer to the known");
                Decision {
                    accuracy: none(),
                    f1: none(),
                }
            }
        };
        Ok(Self {
            after_gauge: Some(after_gauge),
            ..Self::beside(recovered, known, &truth)?
        })
    }

    /// Against labels, `[N]` each: true where a token or answer is undesirable. Correlations are with 1 for what is not.
    ///
    /// # Errors
    /// Unequal lengths, nothing, NaN or infinite values.
    pub fn of_labels(recovered: &[f64], is_undesirable: &[bool]) -> Result<Self, EvalError> {
        check_values("recovered rewards", recovered)?;
        check_lengths("recovered rewards", recovered, "labels", is_undesirable)?;
        let known: Vec<f64> = is_undesirable
            .iter()
            .map(|bad| f64::from(u8::from(!bad)))
            .collect();
        Self::beside(recovered, &known, is_undesirable)
    }

    fn beside(recovered: &[f64], known: &[f64], truth: &[bool]) -> Result<Self, EvalError> {
        Ok(Self {
            count: recovered.len(),
            undesirable: truth.iter().filter(|bad| **bad).count(),
            as_recovered: Decision::new(truth, recovered)?,
            after_gauge: None,
            pearson: pearson(recovered, known)?,
            spearman: spearman(recovered, known)?,
            kendall: kendall_tau_b(recovered, known)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{close, floats, golden};

    #[test]
    fn all_five_match_the_golden_values() {
        let Some(file) = golden("irl_margin") else {
            return;
        };
        let inputs = &file["inputs"]["metrics"];
        let report = RewardRecovery::of_rewards(
            &floats(&inputs["learned_reward"]),
            &floats(&inputs["true_reward"]),
        )
        .unwrap();
        for (name, got) in [
            ("accuracy", &report.as_recovered.accuracy),
            ("f1", &report.as_recovered.f1),
            ("pearson", &report.pearson),
            ("spearman", &report.spearman),
            ("kendall_tau_b", &report.kendall),
        ] {
            let want = file["expected"]["metrics"][name].as_f64().unwrap();
            close(&file, name, got.value.unwrap(), want);
        }
    }

    #[test]
    fn an_offset_moves_the_decision_and_not_the_one_after_the_gauge() {
        let known = [-2.0, -1.0, 1.0, 2.0];
        let shifted = known.map(|r| 3.0 * r + 100.0);
        let report = RewardRecovery::of_rewards(&shifted, &known).unwrap();
        assert_eq!(report.as_recovered.accuracy.value, Some(0.5));
        assert_eq!(report.as_recovered.f1.value, Some(0.0));
        let after = report.after_gauge.unwrap();
        assert_eq!(
            (after.accuracy.value, after.f1.value),
            (Some(1.0), Some(1.0))
        );
        assert!((report.pearson.value.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(report.kendall.value, Some(1.0));
    }

    #[test]
    fn labels_are_decided_by_the_sign_and_ordered_by_the_reward() {
        let report =
            RewardRecovery::of_labels(&[-1.0, 0.0, 0.5, 2.0], &[true, true, false, false]).unwrap();
        assert_eq!((report.count, report.undesirable), (4, 2));
        assert_eq!(report.as_recovered.f1.value, Some(1.0));
        assert!(report.after_gauge.is_none());
        assert!(report.spearman.value.unwrap() > 0.8);
        let turned = RewardRecovery::of_labels(&[1.0, 2.0, -3.0], &[true, true, false]).unwrap();
        assert_eq!(turned.as_recovered.accuracy.value, Some(0.0));
        assert!(turned.pearson.value.unwrap() < 0.0);
    }

    #[test]
    fn what_has_no_value_says_why() {
        let one_class = RewardRecovery::of_labels(&[0.5, 2.0], &[false, false]).unwrap();
        assert_eq!(one_class.as_recovered.accuracy.value, Some(1.0));
        for metric in [&one_class.as_recovered.f1, &one_class.pearson] {
            let reason = metric.undefined.as_deref().unwrap();
            assert!(reason.starts_with("undefined: "), "{reason}");
        }
        let constant = RewardRecovery::of_rewards(&[1.0, 1.0], &[-1.0, 1.0]).unwrap();
        assert!(constant.kendall.undefined.is_some());
        assert!(constant.after_gauge.unwrap().f1.undefined.is_some());
        assert!(RewardRecovery::of_rewards(&[], &[]).is_err());
        assert!(RewardRecovery::of_rewards(&[f64::NAN], &[1.0]).is_err());
        assert!(RewardRecovery::of_labels(&[1.0], &[]).is_err());
    }
}
