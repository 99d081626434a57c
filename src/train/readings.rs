//! What a training step reads back, all at once at its end, and the names that it goes under: the method's terms, the figures
//! of TRL's reward trainer, and now and then how posterior and residuals are spread.

use super::{Metrics, TrainError};
use crate::objective::{Evaluation, Objective, RowKind};
use crate::reward::Steps;
use burn::tensor::{Tensor, Transaction};

/// Steps from one with details to the next. Details are dozens of small kernels, which a GPU should not launch at each step.
const DETAILED_EVERY: usize = 10;

/// Named numbers, still on the device.
type Named = (Vec<&'static str>, Tensor<1>);

/// The numbers of a step, gathered over its micro-batches.
pub(super) struct Readings {
    /// Of each micro-batch the loss and the other terms, and behind them the rows' scores and their variances.
    batches: Vec<Named>,
    /// The objective's diagnostics of the first micro-batch.
    details: Option<Named>,
    detailed: bool,
}

impl Readings {
    /// Of step number `step` (from 1) of `total`. The first step, every tenth and the last carry details.
    pub(super) fn new(step: usize, total: usize) -> Self {
        Self {
            batches: Vec::new(),
            details: None,
            detailed: step == 1 || step.is_multiple_of(DETAILED_EVERY) || step == total,
        }
    }

    /// Takes a micro-batch's numbers.
    pub(super) fn take(
        &mut self,
        evaluation: Evaluation,
        steps: &Steps,
        objective: &dyn Objective,
    ) {
        let ranking = objective.ranking_score();
        let mut names = vec!["loss"];
        let mut values = vec![evaluation.loss.inner()];
        for (name, value) in evaluation.terms {
            // The loss is read once, above.
            if name == "loss" {
                continue;
            }
            names.push(name);
            values.push(value.inner());
        }
        values.push(evaluation.scores.get(ranking).inner());
        values.push(evaluation.scores.variance(ranking).inner());
        self.batches.push((names, Tensor::cat(values, 0)));
        if self.detailed && self.details.is_none() {
            let (names, values): (Vec<_>, Vec<_>) = objective
                .diagnostics(steps)
                .into_iter()
                .map(|(name, value)| (name, value.inner()))
                .unzip();
            self.details = (!names.is_empty()).then(|| (names, Tensor::cat(values, 0)));
        }
    }

    /// Registers everything to be read back, behind the gradients' norm `[1]`; the names wait for it.
    pub(super) fn register(self, norm: Tensor<1>) -> (Transaction, Registered) {
        let mut transaction = Transaction::default().register(norm);
        let mut batches = Vec::new();
        for (names, values) in self.batches {
            batches.push(names);
            transaction = transaction.register(values);
        }
        let details = self.details.map(|(names, values)| {
            transaction = std::mem::take(&mut transaction).register(values);
            names
        });
        (transaction, Registered { batches, details })
    }
}

/// The names of what was registered, in its order.
pub(super) struct Registered {
    batches: Vec<Vec<&'static str>>,
    details: Option<Vec<&'static str>>,
}

impl Registered {
    /// Takes its numbers from those that were read. Returns the gradients' norm, the terms (shares of micro-batches added up),
    /// and what is told beside them; in the latter what is undefined is absent.
    pub(super) fn named(
        self,
        values: &mut impl Iterator<Item = Vec<f32>>,
        objective: &dyn Objective,
    ) -> (f32, Metrics, Metrics) {
        let norm = values.next().and_then(|v| v.first().copied());

        let mut terms = Metrics::new();
        let mut scores = RowScores::default();
        for names in &self.batches {
            let values = values.next().unwrap_or_default();
            let (shares, rows) = values.split_at(names.len().min(values.len()));
            for (name, value) in names.iter().zip(shares) {
                *terms.entry((*name).to_string()).or_insert(0.0) += f64::from(*value);
            }
            scores.push(rows, objective.rows());
        }
        let mut beside = scores.named(&terms, objective.informs_std());
        if let Some(names) = self.details {
            let details = names.into_iter().zip(values.next().unwrap_or_default());
            beside.extend(
                details
                    .filter(|(_, value)| value.is_finite())
                    .map(|(name, value)| (name.to_string(), f64::from(value))),
            );
        }
        (norm.unwrap_or(f32::NAN), terms, beside)
    }
}

/// Reads back everything that a transaction holds, in its order.
pub(super) async fn read_all(transaction: Transaction) -> Result<Vec<Vec<f32>>, TrainError> {
    let failed = |error: String| TrainError::Device(error);
    let read = transaction.execute_async().await;
    read.map_err(|error| failed(format!("{error:?}")))?
        .into_iter()
        .map(|data| data.try_into_vec_as::<f32>())
        .map(|values| values.map_err(|error| failed(format!("{error:?}"))))
        .collect()
}

/// Scores of the rows of a step, over all its micro-batches.
#[derive(Default)]
struct RowScores {
    scores: Vec<f64>,
    /// Standard deviations of chosen and of rejected answers' scores.
    chosen: Vec<f64>,
    rejected: Vec<f64>,
}

impl RowScores {
    /// Takes one micro-batch's scores, then as many variances: of pairs, the chosen answers come first.
    fn push(&mut self, values: &[f32], kind: RowKind) {
        let (scores, variances) = values.split_at(values.len() / 2);
        self.scores.extend(scores.iter().map(|x| f64::from(*x)));
        let chosen = match kind {
            RowKind::Pairs | RowKind::Unpaired => variances.len() / 2,
            RowKind::Demonstrations => variances.len(),
        };
        let stds = variances.iter().map(|x| f64::from(*x).max(0.0).sqrt());
        self.chosen.extend(stds.clone().take(chosen));
        self.rejected.extend(stds.skip(chosen));
    }

    /// The figures under TRL's names. `accuracy` and `margin` stand under `rewards/` already; those who know the reward
    /// trainer look for them there. Standard deviations are given where the method has them.
    fn named(&self, terms: &Metrics, with_std: bool) -> Metrics {
        let fold = |f: fn(f64, f64) -> f64| self.scores.iter().copied().reduce(f);
        let std = |values: &[f64]| mean(values).filter(|_| with_std);
        [
            ("accuracy", terms.get("rewards/accuracies").copied()),
            ("margin", terms.get("rewards/margins").copied()),
            ("mean_reward", mean(&self.scores)),
            ("min_reward", fold(f64::min)),
            ("max_reward", fold(f64::max)),
            ("rewards/std/chosen", std(&self.chosen)),
            ("rewards/std/rejected", std(&self.rejected)),
        ]
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value.filter(|value| value.is_finite())?;
            Some((name.to_string(), value))
        })
        .collect()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_all_micro_batches_are_counted_together() {
        let mut rows = RowScores::default();
        // Two pairs: chosen 1 and 2, rejected -1 and 0; then one pair: chosen 4, rejected -5.
        rows.push(&[1.0, 2.0, -1.0, 0.0, 4.0, 16.0, 1.0, 9.0], RowKind::Pairs);
        rows.push(&[4.0, -5.0, 36.0, 25.0], RowKind::Pairs);
        let terms = Metrics::from([("rewards/accuracies".to_string(), 0.75)]);
        let expected = [
            ("accuracy", 0.75),
            ("max_reward", 4.0),
            ("mean_reward", 1.0 / 6.0),
            ("min_reward", -5.0),
            ("rewards/std/chosen", 4.0),
            ("rewards/std/rejected", 3.0),
        ]
        .map(|(name, value)| (name.to_string(), value));
        assert_eq!(rows.named(&terms, true), Metrics::from(expected));
    }

    #[test]
    fn demonstrations_have_no_rejected_side_and_what_is_not_known_is_absent() {
        let mut rows = RowScores::default();
        rows.push(&[1.0, 3.0, 4.0, 4.0], RowKind::Demonstrations);
        let named = rows.named(&Metrics::new(), true);
        assert_eq!(named.get("rewards/std/chosen"), Some(&2.0));
        assert!(!named.contains_key("rewards/std/rejected"));
        let named = rows.named(&Metrics::new(), false);
        assert_eq!(
            named.keys().map(String::as_str).collect::<Vec<_>>(),
            ["max_reward", "mean_reward", "min_reward"]
        );
        assert!(RowScores::default().named(&Metrics::new(), true).is_empty());
    }
}
