//! A step whose numbers left the range of f32: which term, and which row.

use super::Metrics;
use super::run::Run;
use crate::reward::Steps;

/// The norm of the gradient, among the metrics of a step.
const GRADIENT_NORM: &str = "grad_norm";

/// The first term that is not finite, with its value. A sum is named only where none of its parts is broken by itself, and
/// the gradient only where the loss is not.
pub(super) fn broken_term(metrics: &Metrics, norm: f64) -> Option<(String, f64)> {
    let is_sum = |name: &str| name == "loss" || name.ends_with("/elbo");
    let all = || metrics.iter().map(|(name, value)| (name.as_str(), *value));
    let (sums, parts) = (
        all().filter(|(name, _)| is_sum(name)),
        all().filter(|(name, _)| !is_sum(name)),
    );
    parts
        .chain(sums)
        .chain([(GRADIENT_NORM, norm)])
        .find(|(_, value)| !value.is_finite())
        .map(|(name, value)| (name.into(), value))
}

impl Run {
    /// Looks for the first row whose own numbers are not finite.
    pub(super) async fn name_broken_row(
        &self,
        term: &str,
        batches: &[Vec<usize>],
        kept: Vec<Steps>,
    ) -> String {
        for (batch, steps) in batches.iter().zip(kept) {
            for (what, tensor) in steps.numbers() {
                let [_, columns] = tensor.dims();
                let Ok(data) = tensor.into_data_async().await else {
                    continue;
                };
                let Ok(values) = data.try_into_vec_as::<f32>() else {
                    continue;
                };
                if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                    let sequence = at / columns.max(1);
                    let row = &self.train_rows[batch[sequence % batch.len()]];
                    return format!(
                        ", first seen in the {what} of row {} (line {}), step {} of its answer",
                        row.id,
                        row.line,
                        at % columns.max(1)
                    );
                }
            }
        }
        // What the model says of every row is finite: what was made of it is not.
        match term {
            GRADIENT_NORM => ", though the loss is finite in every row: its gradient left the range",
            _ => {
                ", though the model's numbers are finite in every row: a factor of that term, or of the loss, is too large"
            }
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::trained_in;
    use super::super::{TrainError, Trainable};
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_named_before_their_sums_and_the_gradient_last() {
        let metrics = |parts: [f64; 3]| -> Metrics {
            let names = ["loss", "ava/elbo", "ava/kl"];
            names.map(String::from).into_iter().zip(parts).collect()
        };
        let term = |parts, norm| broken_term(&metrics(parts), norm).map(|(name, _)| name);
        let nan = f64::NAN;
        assert_eq!(term([nan, nan, nan], nan).as_deref(), Some("ava/kl"));
        assert_eq!(term([nan, nan, 1.0], nan).as_deref(), Some("ava/elbo"));
        assert_eq!(term([nan, 1.0, 1.0], nan).as_deref(), Some("loss"));
        assert_eq!(term([1.0; 3], f64::INFINITY).as_deref(), Some("grad_norm"));
        assert_eq!(term([1.0; 3], 1.0), None);
    }

    /// A factor that is far too large breaks the sum of the terms, and no row is to blame.
    #[test]
    fn a_factor_that_is_too_large_is_told_from_broken_weights() {
        let options = json!({"kappa": 1e39, "lambda": 0.0});
        let mut run = trained_in(Trainable::Full, "ava_p", options, 0, 40);
        // The first step moves the posterior away from the prior, where the term is zero.
        let error = (0..3).find_map(|_| pollster::block_on(run.optimizer_step()).err());
        let Some(TrainError::NonFinite { term, row, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(term == "ava/elbo" || term == "loss", "{term}");
        assert!(
            row.contains("finite in every row") && row.contains("factor"),
            "{row}"
        );
    }
}
