//! AVA-p: Bayesian inverse reinforcement learning from preference pairs, with a contrastive expected return (CER).
//!
//! ```text
//! F_p  = sum ll(+) - neg - kappa sum KL + lambda sum log q        KL, log q over both answers or the chosen one
//! loss = -F_p / n - cer_weight * sum_pairs cer(d) / n_pairs        d = score(+) - score(-)
//! neg  = sum ll(-)  |  max(sum ll(-), -floor) per row  |  -w sum_s log(1 - B_s)  |  0
//! cer  = sigma(d)  |  log sigma(d)  |  log Phi(d / sqrt(v+ + v-))  |  log sigma(d / sqrt(1 + pi (v+ + v-)/8))
//! ```
//!
//! Source: AVA, arXiv 2411.09341, Eq. 15-18. The paper's rejected term is unbounded and its contrast has no gradient for
//! badly wrong pairs; the bounded forms, kappa, and the division are ours.

use super::ava_config::{AvaConfig, Cer, CerScore, KlTdOn, Negative, Normalise, PairConfig};
use super::ava_d::divisor;
use super::ava_terms::{
    kl, log_q, masks, pair_terms, posterior_terms, row_sums, scores, td_target,
};
use super::numerics::{log_normal_cdf, log_sigmoid, log1m_exp};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Options, Progress, RowKind, ScoreKind,
    merged_defaults,
};
use crate::reward::{LikelihoodForm, Steps, StepsConfig};
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use serde_json::{Value, json};

pub(super) const METHOD: Method = Method {
    name: "ava_p",
    title: "AVA-p: token rewards from preference pairs",
    citation: "Approximated Variational Bayesian Inverse Reinforcement Learning for Large Language Model Alignment, arXiv 2411.09341",
    build,
    defaults,
};

fn defaults() -> Value {
    merged_defaults(&[
        json!(StepsConfig::default()),
        json!(AvaConfig::default()),
        json!(PairConfig::default()),
    ])
}

fn build(options: &Value) -> Result<Box<dyn Objective>, ObjectiveError> {
    let mut options = Options::new(METHOD.name, options)?;
    let steps = options.take::<StepsConfig>()?;
    let ava = options.take::<AvaConfig>()?;
    let pair = options.take::<PairConfig>()?;
    options.finish()?;
    ava.check(METHOD.name)?;
    for (name, value) in [
        ("neg_floor", pair.neg_floor),
        ("cer_weight", pair.cer_weight),
    ] {
        if !value.is_finite() || value < 0.0 {
            return Err(ObjectiveError::BadOption {
                method: METHOD.name,
                reason: format!("{name} is {value}, and must be at least 0"),
            });
        }
    }
    Ok(Box::new(AvaP { steps, ava, pair }))
}

struct AvaP {
    steps: StepsConfig,
    ava: AvaConfig,
    pair: PairConfig,
}

/// The contrast of each pair from the difference of scores and the sum of their variances, `[P]` each.
pub(super) fn contrast(form: Cer, d: Tensor<1>, variance: Tensor<1>) -> Tensor<1> {
    match form {
        Cer::Sigmoid => sigmoid(d),
        Cer::LogSigmoid => log_sigmoid(d),
        Cer::Probit => log_normal_cdf(d / variance.sqrt()),
        Cer::Mackay => log_sigmoid(
            d / variance
                .mul_scalar(std::f64::consts::PI / 8.0)
                .add_scalar(1.0)
                .sqrt(),
        ),
    }
}

impl AvaP {
    /// neg of each rejected row, `[P]`.
    fn negative(&self, steps: &Steps, m_ll: &Tensor<2>, p: usize) -> Tensor<1> {
        let rejected = |x: Tensor<1>| x.slice([p..2 * p]);
        match self.pair.neg {
            Negative::None => rejected(row_sums(steps.log_likelihood.clone(), m_ll)).zeros_like(),
            Negative::Paper => rejected(row_sums(steps.log_likelihood.clone(), m_ll)),
            Negative::Floor => rejected(row_sums(steps.log_likelihood.clone(), m_ll))
                .clamp_min(-self.pair.neg_floor),
            Negative::Unlikelihood => {
                // Under the normalised likelihood beta is inside B; otherwise it is the term's weight.
                let weight = match self.steps.ll {
                    LikelihoodForm::Normalised => 1.0,
                    LikelihoodForm::PaperEq13 => self.steps.beta,
                };
                rejected(row_sums(log1m_exp(steps.log_policy.clone()), m_ll)).mul_scalar(-weight)
            }
        }
    }
}

impl Objective for AvaP {
    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.steps
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.ava.warnings();
        if self.pair.neg == Negative::Paper && self.ava.normalise == Normalise::Sum {
            warnings.push(
                "`neg = paper` is unbounded: the loss falls without end as the rejected answers' likelihood goes to 0. Watch both perplexities, or use `unlikelihood` or `floor`"
                    .into(),
            );
        }
        warnings
    }

    fn ranking_score(&self) -> ScoreKind {
        match self.pair.cer_score {
            CerScore::Last => ScoreKind::Last,
            CerScore::Sum => ScoreKind::Sum,
            CerScore::Mean => ScoreKind::Mean,
        }
    }

    fn has_posterior(&self) -> bool {
        true
    }

    fn td_target(&self, steps: &Steps) -> Option<Tensor<2>> {
        Some(td_target(steps, self.ava.gamma))
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let [b, _] = steps.q.dims();
        let p = steps.pairs.unwrap_or(b / 2);
        let lambda = self.ava.lambda_at(progress);
        let n = divisor(self.ava.normalise, steps.counts);
        let (m_td, m_ll) = masks(steps, &self.ava);

        let ll = row_sums(steps.log_likelihood.clone(), &m_ll);
        let ll_chosen = ll.clone().slice([0..p]).sum();
        let negative = self.negative(steps, &m_ll, p).sum();
        let over = |x: Tensor<2>| {
            let rows = row_sums(x, &m_td);
            match self.pair.kl_td_on {
                KlTdOn::Both => rows.sum(),
                KlTdOn::Chosen => rows.slice([0..p]).sum(),
            }
        };
        let kl = over(kl(steps));
        let log_q = over(log_q(steps, td_target(steps, self.ava.gamma)));
        let f = ll_chosen.clone() - negative - kl.clone().mul_scalar(self.ava.kappa)
            + log_q.clone().mul_scalar(lambda);

        let (score, variance) = scores(steps, self.pair.cer_score);
        let d = score.clone().slice([0..p]) - score.clone().slice([p..2 * p]);
        let v = variance.clone().slice([0..p]) + variance.slice([p..2 * p]);
        let cer = contrast(self.pair.cer, d, v).sum();
        let n_pairs = match self.ava.normalise {
            Normalise::Sum => 1.0,
            _ => steps.counts.pairs.max(1.0),
        };
        let loss =
            -f.clone().div_scalar(n) - cer.clone().mul_scalar(self.pair.cer_weight / n_pairs);

        let device = loss.device();
        let mut terms = vec![
            ("ava/elbo", f.div_scalar(n)),
            ("ava/log_likelihood", ll_chosen.clone().div_scalar(n)),
            ("ava/ll_chosen", ll_chosen.div_scalar(n)),
            ("ava/ll_rejected", ll.slice([p..2 * p]).sum().div_scalar(n)),
            ("ava/kl", kl.div_scalar(n)),
            ("ava/td_log_q", log_q.div_scalar(n)),
            ("ava/cer", cer.div_scalar(n_pairs)),
            ("ava/lambda", Tensor::full([1], lambda, &device)),
        ];
        terms.extend(pair_terms(&score, p));
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
            let Some(golden) = Golden::open("ava_p") else {
                return;
            };
            for case in golden.case_names() {
                let objective = build(&golden.options(&case, &[])).unwrap();
                let (steps, leaves) =
                    golden.steps(&case, &["_pos", "_neg"], objective.steps_config(), device);
                let evaluation = objective.evaluate(&steps, golden::AFTER_WARM_UP);
                golden.check(&case, "loss", evaluation.loss.clone(), tolerance);
                golden.check_gradients(&case, &leaves, evaluation.loss.backward(), tolerance);
            }
        });
    }

    #[test]
    fn swapping_a_pair_keeps_kl_and_td_and_turns_the_contrast() {
        let Some(golden) = Golden::open("ava_p") else {
            return;
        };
        let device = Device::flex().autodiff();
        let case = "terminal_zero_logsigmoid";
        let objective = build(&golden.options(case, &[])).unwrap();
        let term = |sides: &[&str], name: &str| {
            let (steps, _) = golden.steps(case, sides, objective.steps_config(), &device);
            let evaluation = objective.evaluate(&steps, golden::AFTER_WARM_UP);
            let all = evaluation.terms;
            golden::scalar(all.into_iter().find(|(n, _)| *n == name).unwrap().1)
        };
        let (as_is, swapped) = (["_pos", "_neg"], ["_neg", "_pos"]);
        for name in ["ava/kl", "ava/td_log_q"] {
            let (a, b) = (term(&as_is, name), term(&swapped, name));
            assert!((a - b).abs() < 1e-4 * a.abs(), "{name}: {a} {b}");
        }
        let (a, b) = (
            term(&as_is, "rewards/margins"),
            term(&swapped, "rewards/margins"),
        );
        assert!((a + b).abs() < 1e-5, "{a} {b}");
    }

    #[test]
    fn a_lambda_at_or_above_kappa_is_warned_of() {
        assert!(build(&Value::Null).unwrap().warnings().is_empty());
        let warnings = build(&json!({"lambda": 1.0})).unwrap().warnings();
        assert!(warnings[0].contains("not below kappa"), "{warnings:?}");
    }

    #[test]
    fn the_loss_falls_along_its_negative_gradient() {
        // A directional derivative by central differences in f32: step 1e-2, tolerance 1e-2.
        let Some(golden) = Golden::open("ava_p") else {
            return;
        };
        let device = Device::flex().autodiff();
        for case in ["recommended", "probit_on_sum", "unlikelihood"] {
            let objective = build(&golden.options(case, &[])).unwrap();
            golden.check_direction(case, &["_pos", "_neg"], objective.as_ref(), &device);
        }
    }
}
