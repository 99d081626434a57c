//! AVA-d: token rewards from demonstrations.
//!
//! ```text
//! loss = -(1/n) sum_{b,s} [ ll - kappa KL + lambda log q(delta) ]        each term over its own mask
//! ```
//!
//! Source: *Approximated Variational Bayesian Inverse Reinforcement Learning for Large Language Model Alignment*, arXiv
//! 2411.09341, Eq. 5-14. kappa, n and the terminal rule are ours (the paper has kappa 1, a sum, and drops the last step).

use super::ava_terms::{AvaOptions, AvaTerms, constant};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores, Variant,
    options,
};
use crate::reward::{Steps, StepsConfig};
use burn::tensor::Tensor;
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "ava_d",
    title: "AVA-d: demonstrations",
    citation: "AVA, arXiv 2411.09341, Eq. 5-14",
    build: |options| Ok(Box::new(AvaD::new(options)?)),
    defaults: options::defaults::<AvaOptions>,
    // The paper's table has AVA-p alone. These are the parts of it that AVA-d has, too; neg and cer are not among them.
    variants: &[
        Variant {
            name: "with rwt",
            options: &[("rwt", "reward_and_q")],
            note: "both heads weighted by attention (Eq. 11), as in the paper's full system; weights of mean 1",
        },
        Variant {
            name: "w/o rwt",
            options: &[("rwt", "off")],
            note: "without attention weighting; the default here",
        },
        Variant {
            name: "w/o irl",
            options: &[("lambda", "0.0"), ("kappa", "0.0")],
            note: "without the inverse-RL terms: supervised fine-tuning alone, and every reward stays at the prior",
        },
        Variant {
            name: "w/o td",
            options: &[("lambda", "0.0")],
            note: "without the TD term alone; the prior stays, and every reward with it (not in the paper)",
        },
        Variant {
            name: "w/o ptq",
            options: &[
                ("q_head", "own"),
                ("q_mode", "logits"),
                ("ll", "normalised"),
            ],
            note: "Q from a fresh head of its own in place of the pretrained LM head",
        },
        Variant {
            name: "as printed",
            options: &[
                ("q_mode", "paper_prob"),
                ("alpha", "10.0"),
                ("ll", "paper_eq13"),
                ("terminal", "drop"),
                ("ll_last", "false"),
                ("reward_read", "state"),
                ("rwt", "reward_and_q"),
                ("rwt_scale", "literal"),
                ("normalise", "sum"),
            ],
            note: "every formula as printed; alpha, beta, gamma and lambda are not in the paper and stay ours",
        },
    ],
};

/// AVA-d with its options.
pub struct AvaD {
    options: AvaOptions,
}

impl AvaD {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: AvaOptions = options::parse("ava_d", options)?;
        options.check("ava_d")?;
        Ok(Self { options })
    }
}

impl Objective for AvaD {
    fn name(&self) -> &'static str {
        "ava_d"
    }

    fn rows(&self) -> RowKind {
        RowKind::Demonstrations
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn needs_token_prior(&self) -> bool {
        self.options.prior.is_learned()
    }

    /// Without the residual term only the prior speaks of sigma.
    fn informs_std(&self) -> bool {
        self.options.lambda > 0.0
    }

    fn diagnostics(&self, steps: &Steps) -> Vec<super::Term> {
        self.options.diagnostics(steps)
    }

    fn td_target(&self, steps: &Steps) -> Option<Tensor<2>> {
        (self.options.lambda > 0.0).then(|| AvaTerms::of(steps, &self.options).delta)
    }

    fn warnings(&self) -> Vec<String> {
        self.options.warnings()
    }

    /// No comparison trains a score here; the sum is what the paper's policy step maximises (Eq. 19).
    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let terms = AvaTerms::of(steps, &self.options);
        let lambda = self.options.lambda_at(progress);
        let (ll, kl, log_q) = (terms.ll.sum(), terms.kl.sum(), terms.log_q.sum());
        let objective = ll.clone() - kl.clone().mul_scalar(self.options.kappa)
            + log_q.clone().mul_scalar(lambda);
        let n = self.options.divisor(steps.counts, steps.counts.rows);
        let share = |x: Tensor<1>| x.detach().div_scalar(steps.counts.steps.max(1.0));
        let loss = objective.clone().neg().div_scalar(n);
        let nll = (steps.log_policy.clone() * terms.m_ll).sum().neg();
        Evaluation {
            terms: vec![
                ("loss", loss.clone().detach()),
                ("ava/ll_chosen", share(ll)),
                ("ava/nll_per_token", share(nll)),
                ("ava/elbo", share(objective)),
                ("ava/kl", share(kl)),
                ("ava/td_logq", share(log_q)),
                ("ava/lambda", constant(steps, lambda)),
            ],
            loss,
            scores: Scores::of(steps).detach(),
        }
    }
}

#[cfg(test)]
mod tests;
