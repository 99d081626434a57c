//! Preference likelihood under the reward posterior: every token's standard deviation takes part in the comparison.
//!
//! ```text
//! d = sum mu(+) - sum mu(-),  v = sum sigma^2(+) + sum sigma^2(-)        tokens taken as independent
//! preference_probit:    log p = log Phi( d / sqrt(noise + v) )
//! preference_logistic:  log p = log sigma( d / sqrt(1 + pi v / 8) )
//! loss = -mean_b log p + kappa (1/n) sum KL[q || N(0,1)] + likelihood_weight (language-model part of Bradley-Terry)
//! ```
//!
//! Source: ours, from AVA's posterior (arXiv 2411.09341, Eq. 5-10) and the probit (Thurstone 1927) or MacKay's averaged
//! logistic (*The evidence framework applied to classification networks*, 1992). It is AVA-p without its residual and
//! likelihood terms; the observation noise 1 fixes the scale, so that a token whose reward the pairs do not need
//! consistently keeps a wide posterior, held at 1 by the prior.

use super::ava_p::{Cer, contrast};
use super::bradley_terry::likelihood_loss;
use super::comparison::{self, Comparison, PairFit};
use super::math::{log_standard_normal_cdf, sides};
use super::options::{self, check, check_steps};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores,
    reward_terms,
};
use crate::reward::{Prior, Steps, StepsConfig, Uncertainty};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The probit entry in [`METHODS`](super::METHODS).
pub const PROBIT: Method = Method {
    name: "preference_probit",
    title: "Preference likelihood, probit",
    citation: "Thurstone 1927, with the posterior of AVA, arXiv 2411.09341",
    build: |options| Ok(Box::new(Preference::probit(options)?)),
    defaults: options::defaults::<ProbitOptions>,
    variants: &[],
};

/// The logistic entry in [`METHODS`](super::METHODS).
pub const LOGISTIC: Method = Method {
    name: "preference_logistic",
    title: "Preference likelihood, averaged logistic",
    citation: "MacKay 1992, with the posterior of AVA, arXiv 2411.09341",
    build: |options| Ok(Box::new(Preference::logistic(options)?)),
    defaults: options::defaults::<LogisticOptions>,
    variants: &[],
};

/// Options of both. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogisticOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// Weight of the KL to the prior per step; 1 as in AVA-p.
    pub kappa: f64,
    /// The prior of a token's reward.
    #[serde(flatten)]
    pub prior: Prior,
    /// Weight of the likelihood part; 0.1 where the language model is shared and trained along.
    pub likelihood_weight: f64,
}

impl Default for LogisticOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            kappa: 1.0,
            prior: Prior::default(),
            likelihood_weight: 0.0,
        }
    }
}

/// Options of the probit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbitOptions {
    /// What both have.
    #[serde(flatten)]
    pub shared: LogisticOptions,
    /// Variance of the judge: 1 sets the scale. 0 is the `probit` comparison of AVA-p.
    pub noise: f64,
}

impl Default for ProbitOptions {
    fn default() -> Self {
        Self {
            shared: LogisticOptions::default(),
            noise: 1.0,
        }
    }
}

/// A preference likelihood with its options.
pub struct Preference {
    name: &'static str,
    options: LogisticOptions,
    /// The probit's noise; `None` for the logistic.
    noise: Option<f64>,
}

impl Preference {
    /// The probit, from options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn probit(options: &Value) -> Result<Self, ObjectiveError> {
        let name = "preference_probit";
        let ProbitOptions { shared, noise } = options::parse(name, options)?;
        check(
            noise.is_finite() && noise >= 0.0,
            name,
            "noise",
            noise,
            "0 or more",
        )?;
        Self::checked(name, shared, Some(noise))
    }

    /// The averaged logistic, from options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn logistic(options: &Value) -> Result<Self, ObjectiveError> {
        let name = "preference_logistic";
        Self::checked(name, options::parse(name, options)?, None)
    }

    fn checked(
        name: &'static str,
        options: LogisticOptions,
        noise: Option<f64>,
    ) -> Result<Self, ObjectiveError> {
        check_steps(&options.steps, name)?;
        options::check_prior(&options.prior, name)?;
        let at_least_zero = |x: f64| x.is_finite() && x >= 0.0;
        let (k, w) = (options.kappa, options.likelihood_weight);
        check(at_least_zero(k), name, "kappa", k, "0 or more")?;
        check(at_least_zero(w), name, "likelihood_weight", w, "0 or more")?;
        Ok(Self {
            name,
            options,
            noise,
        })
    }
}

impl Objective for Preference {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn informs_std(&self) -> bool {
        true
    }

    fn needs_token_prior(&self) -> bool {
        self.options.prior.is_learned()
    }

    /// There is no residual term: the comparison and the prior train sigma.
    fn uncertainty(&self) -> Uncertainty {
        Uncertainty::PreferenceSpread
    }

    fn warnings(&self) -> Vec<String> {
        if self.noise == Some(0.0) && self.options.kappa == 0.0 {
            return vec![
                "with noise 0 and kappa 0 only ratios of means to standard deviations matter: their scale drifts"
                    .to_owned(),
            ];
        }
        Vec::new()
    }

    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        Some(match self.noise {
            Some(noise) => comparison::probit(pair.difference, pair.variance + noise),
            None => comparison::mackay(pair.difference, pair.variance),
        })
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let pairs = steps.pair_count();
        let scores = Scores::of(steps);
        let (chosen, rejected) = sides(scores.sum.clone(), pairs);
        let (v_chosen, v_rejected) = sides(scores.sum_variance.clone(), pairs);
        let (d, v) = (chosen - rejected, v_chosen + v_rejected);
        let log_p = match self.noise {
            Some(noise) => log_standard_normal_cdf(d / v.add_scalar(noise).sqrt()),
            None => contrast(Cer::Mackay, d, || v),
        };
        let preference = log_p.sum().neg().div_scalar(steps.counts.pairs.max(1.0));
        let kl = kl_per_step(&self.options.prior, steps);
        let mut loss = preference.clone() + kl.clone().mul_scalar(self.options.kappa);
        let mut terms = vec![
            ("preference_loss", preference.detach()),
            ("ava/kl", kl.detach()),
        ];
        if self.options.likelihood_weight > 0.0 {
            let nll = likelihood_loss(steps);
            terms.push(("likelihood_loss", nll.clone().detach()));
            loss = loss + nll.mul_scalar(self.options.likelihood_weight);
        }
        let scores = scores.detach();
        terms.push(("loss", loss.clone().detach()));
        terms.extend(reward_terms(scores.sum.clone(), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

/// (1/n) sum KL[q || prior] over the steps that count, n those of the whole batch; `[1]`.
pub(super) fn kl_per_step(prior: &Prior, steps: &Steps) -> Tensor<1> {
    let kl = prior.kl(
        steps.mean.clone(),
        steps.log_std.clone(),
        steps.prior_log_scale.clone(),
    );
    (kl * steps.mask.clone())
        .sum()
        .div_scalar(steps.counts.steps.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, close, leaf, random_pairs, scalar, tensor, values};
    use super::*;
    use burn::tensor::Device;
    use serde_json::json;

    #[test]
    fn without_noise_it_is_ava_p_with_only_comparison_and_prior() {
        let device = Device::flex();
        let (layout, out) = random_pairs(&device);
        let run = |method: &str, options: Value| {
            let objective = super::super::build(method, &options).expect("options");
            let steps = golden::steps(&layout, &out, objective.steps_config());
            let result = objective.evaluate(&steps, Progress::END);
            let nll = scalar(&likelihood_loss(&steps));
            (scalar(&result.loss), nll)
        };
        for (method, cer, options) in [
            (
                "preference_probit",
                "probit",
                json!({"noise": 0.0, "likelihood_weight": 1.0}),
            ),
            (
                "preference_logistic",
                "mackay",
                json!({"likelihood_weight": 1.0}),
            ),
        ] {
            let (loss, _) = run(method, options);
            let (ava, _) = run("ava_p", json!({"lambda": 0.0, "cer": cer}));
            assert!((loss - ava).abs() < 1e-5, "{method}: {loss} against {ava}");
        }
    }

    #[test]
    fn gradients_reach_every_answer_token_and_agree_with_finite_differences() {
        let device = Device::flex().autodiff();
        let (layout, out) = random_pairs(&device);
        for method in ["preference_probit", "preference_logistic"] {
            let objective = super::super::build(method, &json!({})).expect("options");
            let log_std = out.log_std.clone().detach().require_grad();
            let loss = |log_std: Tensor<2>| {
                let out = golden::Outputs {
                    log_std,
                    ..out.clone()
                };
                let steps = golden::steps(&layout, &out, objective.steps_config());
                objective.evaluate(&steps, Progress::END).loss
            };
            let gradients = loss(log_std.clone()).backward();
            let slope = golden::gradient(&log_std, &gradients);
            let steps = golden::steps(&layout, &out, objective.steps_config());
            let trained = slope.iter().filter(|g| **g != 0.0).count() as f64;
            assert_eq!(trained, steps.counts.steps);
            golden::directional(&log_std, &slope, 1e-2, |x| scalar(&loss(x)));
        }
    }

    #[test]
    fn at_the_prior_with_equal_lengths_a_pair_is_undecided() {
        let device = Device::flex();
        let d = leaf::<1>(&json!([0.0]), &device.clone().autodiff());
        let v = tensor::<1>(&json!([6.0]), &device.autodiff());
        let log_p = log_standard_normal_cdf(d.clone() / v.add_scalar(1.0).sqrt());
        let gradients = log_p.backward();
        close("log p", &values(log_p), &[0.5f64.ln()], 1e-6, 0.0);
        let slope = (2.0 / std::f64::consts::PI).sqrt() / 7f64.sqrt();
        close(
            "slope",
            &golden::gradient(&d, &gradients),
            &[slope],
            1e-6,
            0.0,
        );
    }
}
