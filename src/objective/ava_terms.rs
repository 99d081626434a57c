//! The terms that AVA-d and AVA-p share.
//!
//! ```text
//! delta[s] = q[s] - gamma C[s] q[s+1]
//! KL[s]    = KL[ N(mu, sigma^2) || prior ]          N(0,1) as published
//! logq[s]  = log N(delta[s]; mu, sigma^2)
//! ```
//!
//! Source: AVA, arXiv 2411.09341, Eq. 5-14. ll counts on m_ll, KL and logq on m_td: all steps with `terminal = zero` (the
//! value after the last token is 0), only steps with a successor with `terminal = drop` (as printed).

use super::math::next_step;
use super::options::{ObjectiveError, check};
use super::{Progress, Term, options, posterior_terms, residual_terms};
use crate::reward::{
    LikelihoodForm, Normaliser, Prior, QMode, Rwt, Steps, StepsConfig, log_density,
};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// What happens at the last step of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// The value after it is 0.
    Zero,
    /// It has no KL and no TD term.
    Drop,
}

/// What the sums are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// 1.
    Sum,
    /// Demonstrations or pairs of the whole batch.
    Batch,
    /// Steps of the whole batch.
    Token,
}

/// The switches of the shared terms. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AvaOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// Discount. 0.95: at 1 the TD targets of an answer sum to the first token's log-probability.
    pub gamma: f64,
    /// Weight of the TD term. 0.25: below kappa, with a margin.
    pub lambda: f64,
    /// The first part of training over which lambda rises from 0: an untrained model's residuals are large.
    pub lambda_warmup: f64,
    /// Weight of the KL to the prior.
    pub kappa: f64,
    /// The prior of a token's reward.
    #[serde(flatten)]
    pub prior: Prior,
    /// zero: the last token is trained; right when it is an end-of-text token.
    pub terminal: Terminal,
    /// Whether the last step keeps its likelihood under `drop`.
    pub ll_last: bool,
    /// token: the learning rate does not depend on length and batch size.
    pub normalise: Normalise,
}

impl Default for AvaOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            gamma: 0.95,
            lambda: 0.25,
            lambda_warmup: 0.1,
            kappa: 1.0,
            prior: Prior::default(),
            terminal: Terminal::Zero,
            ll_last: true,
            normalise: Normalise::Token,
        }
    }
}

impl AvaOptions {
    /// Ranges; the error names the first option outside its own.
    pub(super) fn check(&self, method: &'static str) -> Result<(), ObjectiveError> {
        options::check_steps(&self.steps, method)?;
        options::check_prior(&self.prior, method)?;
        let at_least_zero = |x: f64| x.is_finite() && x >= 0.0;
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        check(unit(self.gamma), method, "gamma", self.gamma, "0 to 1")?;
        check(
            unit(self.lambda_warmup),
            method,
            "lambda_warmup",
            self.lambda_warmup,
            "0 to 1",
        )?;
        check(
            at_least_zero(self.lambda),
            method,
            "lambda",
            self.lambda,
            "0 or more",
        )?;
        check(
            at_least_zero(self.kappa),
            method,
            "kappa",
            self.kappa,
            "0 or more",
        )
    }

    /// Settings that are allowed and unwise.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.lambda >= self.kappa && self.lambda > 0.0 {
            warnings.push(format!(
                "lambda {} is not below kappa {}: the log sigma of the TD term then cancels or outweighs the prior's, so \
                 sigma collapses to its clamp and rewards saturate or follow the residual; keep lambda below kappa",
                self.lambda, self.kappa
            ));
        }
        if self.steps.q_mode == QMode::Logits && self.steps.ll == LikelihoodForm::PaperEq13 {
            warnings.push(
                "q_mode logits with ll paper_eq13 has no normaliser: the likelihood is unbounded; use ll normalised"
                    .to_owned(),
            );
        }
        if self.steps.rwt != Rwt::Off {
            warnings.push(
                "rwt is on: a token's reward then depends on the text after it and changes while an answer is written"
                    .to_owned(),
            );
            if !self.steps.rwt_sqrt_d {
                warnings.push(
                    "rwt without rwt_sqrt_d: attention scores grow with the model's width, so that in a wide one a token gets all of the weight and others a spread of nothing, on which the TD term overflows"
                        .to_owned(),
                );
            }
        }
        warnings
    }

    /// Posterior and residual terms of one micro-batch.
    pub(super) fn diagnostics(&self, steps: &Steps) -> Vec<Term> {
        let terms = AvaTerms::of(steps, self);
        let mut named = posterior_terms(steps, &self.steps);
        named.extend(residual_terms(steps, terms.delta, terms.m_td));
        named
    }

    /// lambda under its warm-up.
    pub(super) fn lambda_at(&self, progress: Progress) -> f64 {
        self.lambda * progress.warm_up(self.lambda_warmup)
    }

    /// n of the spec, `groups` being the demonstrations or the pairs of the whole batch.
    pub(super) fn divisor(&self, counts: Normaliser, groups: f64) -> f64 {
        match self.normalise {
            Normalise::Sum => 1.0,
            Normalise::Batch => groups.max(1.0),
            Normalise::Token => counts.steps.max(1.0),
        }
    }
}

/// Per-step terms `[B, S]`, 0 where they do not count.
pub struct AvaTerms {
    /// The likelihood term.
    pub ll: Tensor<2>,
    /// KL to the prior.
    pub kl: Tensor<2>,
    /// Log density of the residual under the posterior.
    pub log_q: Tensor<2>,
    /// The residual q[s] - gamma C[s] q[s+1].
    pub delta: Tensor<2>,
    /// Where ll counts, 0/1.
    pub m_ll: Tensor<2>,
    /// Where the other terms count, 0/1.
    pub m_td: Tensor<2>,
}

impl AvaTerms {
    /// The terms of all rows.
    pub fn of(steps: &Steps, options: &AvaOptions) -> Self {
        let m_td = match options.terminal {
            Terminal::Zero => steps.mask.clone(),
            Terminal::Drop => steps.bootstrap.clone(),
        };
        let m_ll = if options.terminal == Terminal::Zero || options.ll_last {
            steps.mask.clone()
        } else {
            steps.bootstrap.clone()
        };
        let q = steps.q.clone();
        let next = next_step(q.clone()) * steps.bootstrap.clone();
        let delta = q - next.mul_scalar(options.gamma);
        let (mean, rho) = (steps.mean.clone(), steps.log_std.clone());
        Self {
            ll: steps.log_likelihood.clone() * m_ll.clone(),
            kl: options
                .prior
                .kl(mean.clone(), rho.clone(), steps.prior_log_scale.clone())
                * m_td.clone(),
            log_q: log_density(delta.clone(), mean, rho) * m_td.clone(),
            delta: delta * m_td.clone(),
            m_ll,
            m_td,
        }
    }
}

/// A constant as a term: this micro-batch's share of it by rows, so that the shares add up to the constant.
pub(super) fn constant(steps: &Steps, value: f64) -> Tensor<1> {
    let rows = steps.mask.dims()[0] as f64 / steps.counts.rows.max(1.0);
    Tensor::full(
        [1],
        value * rows,
        (&steps.mask.device(), steps.mask.dtype()),
    )
}
