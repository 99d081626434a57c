//! AVA-d: Bayesian inverse reinforcement learning from demonstrations alone.
//!
//! ```text
//! loss = -(1/n) sum_{b,s} [ ll - kappa KL + lambda log q ]      each term over its own mask
//! ```
//!
//! Source: AVA, arXiv 2411.09341, Eq. 4 and 13-14. kappa and the division by n are ours (the paper has 1 and 1). With
//! lambda = kappa = 0, alpha = beta = 1 and n the number of steps, the loss is masked cross-entropy: supervised
//! fine-tuning.

use super::ava_config::{AvaConfig, CerScore, Normalise};
use super::ava_terms::{kl, log_q, masks, posterior_terms, td_target};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Options, Progress, RowKind, ScoreKind,
    merged_defaults,
};
use crate::reward::{Normaliser, Steps, StepsConfig};
use burn::tensor::Tensor;
use serde_json::{Value, json};

pub(super) const METHOD: Method = Method {
    name: "ava_d",
    title: "AVA-d: token rewards from demonstrations",
    citation: "Approximated Variational Bayesian Inverse Reinforcement Learning for Large Language Model Alignment, arXiv 2411.09341",
    build,
    defaults,
};

fn defaults() -> Value {
    merged_defaults(&[json!(StepsConfig::default()), json!(AvaConfig::default())])
}

fn build(options: &Value) -> Result<Box<dyn Objective>, ObjectiveError> {
    let mut options = Options::new(METHOD.name, options)?;
    let steps = options.take::<StepsConfig>()?;
    let ava = options.take::<AvaConfig>()?;
    options.finish()?;
    ava.check(METHOD.name)?;
    Ok(Box::new(AvaD { steps, ava }))
}

struct AvaD {
    steps: StepsConfig,
    ava: AvaConfig,
}

/// n: what the sums are divided by.
pub(super) fn divisor(normalise: Normalise, counts: Normaliser) -> f64 {
    match normalise {
        Normalise::Sum => 1.0,
        Normalise::Batch if counts.pairs > 0.0 => counts.pairs,
        Normalise::Batch => counts.rows.max(1.0),
        Normalise::Token => counts.steps.max(1.0),
    }
}

impl Objective for AvaD {
    fn rows(&self) -> RowKind {
        RowKind::Demonstrations
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.steps
    }

    fn warnings(&self) -> Vec<String> {
        self.ava.warnings()
    }

    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    fn has_posterior(&self) -> bool {
        true
    }

    fn td_target(&self, steps: &Steps) -> Option<Tensor<2>> {
        Some(td_target(steps, self.ava.gamma))
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let lambda = self.ava.lambda_at(progress);
        let n = divisor(self.ava.normalise, steps.counts);
        let (m_td, m_ll) = masks(steps, &self.ava);
        let ll = (steps.log_likelihood.clone() * m_ll).sum();
        let kl = (kl(steps) * m_td.clone()).sum();
        let log_q = (log_q(steps, td_target(steps, self.ava.gamma)) * m_td).sum();
        let f =
            ll.clone() - kl.clone().mul_scalar(self.ava.kappa) + log_q.clone().mul_scalar(lambda);
        let loss = -f.clone().div_scalar(n);

        let device = loss.device();
        let (score, _) = super::ava_terms::scores(steps, CerScore::Sum);
        let mut terms = vec![
            ("ava/elbo", f.div_scalar(n)),
            ("ava/log_likelihood", ll.clone().div_scalar(n)),
            (
                "ava/nll_per_token",
                -ll.div_scalar(steps.counts.steps.max(1.0)),
            ),
            ("ava/kl", kl.div_scalar(n)),
            ("ava/td_log_q", log_q.div_scalar(n)),
            ("ava/lambda", Tensor::full([1], lambda, &device)),
            ("rewards/chosen", score.mean()),
        ];
        terms.extend(posterior_terms(steps));
        Evaluation { loss, terms }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Golden};
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn every_golden_case_agrees_in_value_and_gradient() {
        golden::on_each_device(|device, tolerance| {
            let Some(golden) = Golden::open("ava_d") else {
                return;
            };
            for case in golden.case_names() {
                let objective = build(&golden.options(&case, &[])).unwrap();
                let (steps, leaves) = golden.steps(&case, &[""], objective.steps_config(), device);
                let evaluation = objective.evaluate(&steps, golden::AFTER_WARM_UP);
                golden.check(&case, "loss", evaluation.loss.clone(), tolerance);
                golden.check_gradients(&case, &leaves, evaluation.loss.backward(), tolerance);
            }
        });
    }

    #[test]
    fn each_step_has_the_golden_terms() {
        let Some(golden) = Golden::open("ava_d") else {
            return;
        };
        let device = Device::flex().autodiff();
        for case in golden.case_names() {
            let options = golden.options(&case, &[]);
            let mut taken = Options::new("ava_d", &options).unwrap();
            let steps_config = taken.take::<StepsConfig>().unwrap();
            let ava = taken.take::<AvaConfig>().unwrap();
            let (steps, _) = golden.steps(&case, &[""], &steps_config, &device);
            let (m_td, m_ll) = masks(&steps, &ava);
            let delta = td_target(&steps, ava.gamma);
            golden.check_masked(&case, "delta", delta.clone(), &m_td);
            golden.check_masked(&case, "kl", kl(&steps), &m_td);
            golden.check_masked(&case, "log_q", log_q(&steps, delta), &m_td);
            golden.check_masked(&case, "ll", steps.log_likelihood.clone(), &m_ll);
            golden.check_masked(&case, "mu_step", steps.mean.clone(), &steps.mask);
        }
    }

    #[test]
    fn without_prior_and_td_term_the_loss_is_cross_entropy() {
        let device = Device::flex().autodiff();
        let (layout, logits) = golden::random_batch(3, 6, 5, 1, &device);
        let objective = build(&json!({"lambda": 0.0, "kappa": 0.0})).unwrap();
        let steps =
            golden::steps_at_prior(&layout, logits.clone(), objective.steps_config(), &device);
        let loss = golden::scalar(objective.evaluate(&steps, golden::AFTER_WARM_UP).loss);
        let expected = golden::masked_cross_entropy(&layout, logits);
        assert!(
            (loss - expected).abs() < 1e-5 * expected.abs(),
            "{loss} {expected}"
        );
    }

    #[test]
    fn discounted_td_targets_telescope_to_the_first_value() {
        let device = Device::flex().autodiff();
        for gamma in [0.7f64, 1.0] {
            let (layout, logits) = golden::random_batch(4, 7, 5, 2, &device);
            let cfg = StepsConfig::default();
            let steps = golden::steps_at_prior(&layout, logits, &cfg, &device);
            let delta = golden::rows(td_target(&steps, gamma).inner());
            let q = golden::rows(steps.q.clone().inner());
            let mask = layout.step_mask();
            let s = layout.steps();
            for b in 0..layout.rows {
                let turn: Vec<usize> = (0..s).filter(|i| mask[b * s + i]).collect();
                let sum: f64 = turn
                    .iter()
                    .enumerate()
                    .map(|(k, i)| gamma.powi(k as i32) * f64::from(delta[b][*i]))
                    .sum();
                let first = f64::from(q[b][turn[0]]);
                assert!(
                    (sum - first).abs() < 1e-4,
                    "gamma {gamma} row {b}: {sum} {first}"
                );
            }
        }
    }

    #[test]
    fn a_constant_added_to_all_logits_of_a_position_changes_nothing() {
        let device = Device::flex().autodiff();
        let (layout, logits) = golden::random_batch(3, 6, 5, 3, &device);
        let objective = build(&Value::Null).unwrap();
        let loss = |logits| {
            let steps = golden::steps_at_prior(&layout, logits, objective.steps_config(), &device);
            golden::scalar(objective.evaluate(&steps, golden::AFTER_WARM_UP).loss)
        };
        let before = loss(logits.clone());
        let shift = Tensor::<3>::from_data(
            burn::tensor::TensorData::new(
                (0..18).map(|i| i as f32 * 0.3 - 2.0).collect::<Vec<_>>(),
                [3, 6, 1],
            ),
            &device,
        );
        let after = loss(logits + shift);
        assert!((before - after).abs() < 1e-5, "{before} {after}");
    }

    #[test]
    fn padding_and_batch_order_never_change_a_rows_loss() {
        let device = Device::flex().autodiff();
        let objective = build(&json!({"normalise": "sum"})).unwrap();
        let (layout, logits) = golden::random_batch(4, 7, 5, 4, &device);
        let loss = |layout: &crate::reward::Layout, logits: Tensor<3>| {
            let steps =
                golden::steps_with_garbage(layout, logits, objective.steps_config(), &device);
            golden::scalar(objective.evaluate(&steps, golden::AFTER_WARM_UP).loss)
        };
        let whole = loss(&layout, logits.clone());
        let alone: f64 = (0..4)
            .map(|b| {
                let (row, z) = golden::one_row(&layout, logits.clone(), b, 3);
                loss(&row, z)
            })
            .sum();
        assert!(
            (whole - alone).abs() < 1e-4 * whole.abs(),
            "{whole} {alone}"
        );
    }

    #[test]
    fn the_worked_example_comes_out_to_its_last_digit_of_f32() {
        let device = Device::flex().autodiff();
        let layout = crate::reward::Layout {
            rows: 1,
            tokens: 5,
            ids: vec![0, 2, 1, 3, 1],
            segments: vec![1; 5],
            response: vec![false, false, true, true, true],
            pairs: None,
        };
        let z = [
            0.1f32, -0.2, 0.7, 0.0, 1.0, 0.5, -0.5, 0.2, -0.3, 0.4, 0.1, 1.1, 0.6, 0.9, -1.0, 0.3,
            0.0, 0.0, 0.0, 0.0,
        ];
        let logits = Tensor::<1>::from_floats(z, &device).reshape([1, 5, 4]);
        let mean = Tensor::<2>::from_floats([[0.0, 0.1, -0.2, 0.3, 0.5]], &device);
        let raw = Tensor::<2>::from_floats([[0.0, -0.3, 0.0, -0.5, 0.2]], &device);
        for (options, expected) in [
            (
                json!({"terminal": "drop", "ll_last": false}),
                3.058_841_356_644_379_5,
            ),
            (json!({"terminal": "zero"}), 5.005_452_041_529_093),
            (
                json!({"terminal": "zero", "q_mode": "logits", "ll": "normalised"}),
                4.669_477_381_670_887,
            ),
        ] {
            let mut options = options;
            options["lambda"] = json!(0.5);
            options["normalise"] = json!("sum");
            let objective = build(&options).unwrap();
            let head = crate::reward::HeadOutput {
                mean: mean.clone(),
                raw: raw.clone(),
                weights: None,
            };
            let counts = Normaliser {
                steps: 3.0,
                rows: 1.0,
                pairs: 0.0,
            };
            let steps = crate::reward::steps_from_logits(
                &layout,
                logits.clone(),
                head,
                objective.steps_config(),
                counts,
                &device,
            );
            let loss = golden::scalar(objective.evaluate(&steps, golden::AFTER_WARM_UP).loss);
            assert!(
                (loss - expected).abs() < 3e-6 * expected,
                "{options}: {loss} {expected}"
            );
        }
    }
}
