//! AVA-p: token rewards from preference pairs (chosen +, rejected -).
//!
//! ```text
//! F_p  = sum ll(+) - neg - kappa sum KL + lambda sum log q(delta)
//! loss = -F_p / n - cer_weight sum_b cer(d_b) / n_pairs           d_b = score(+) - score(-)
//!
//! neg: paper         sum ll(-)                        unbounded: goes to minus infinity with the rejected likelihood
//!      floor         max(sum ll(-), -neg_floor)       per row
//!      unlikelihood  -w sum_s log(1 - B_s)            w = 1 (normalised) or beta (paper_eq13)
//! cer: sigmoid       sigma(d)                         logsigmoid   log sigma(d)
//!      probit        log Phi(d / sqrt(v))             mackay       log sigma(d / sqrt(1 + pi v / 8))
//! ```
//!
//! v is the variance of the last step, or the sum over the steps of both sides, tokens taken as independent.
//!
//! Source: *Approximated Variational Bayesian Inverse Reinforcement Learning for Large Language Model Alignment*, arXiv
//! 2411.09341, Eq. 15-18 and Alg. 1 (`paper`, `sigmoid`, `last`); the other forms are ours.

use super::ava_terms::{AvaOptions, AvaTerms, Normalise, constant};
use super::comparison::{self, Comparison, PairFit};
use super::math::{log_one_minus_exp, log_standard_normal_cdf, row_sum, sides};
use super::options::{self, check};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores, Variant,
    reward_terms,
};
use crate::reward::{LikelihoodForm, Steps, StepsConfig, Uncertainty};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "ava_p",
    title: "AVA-p: preferences",
    citation: "AVA, arXiv 2411.09341, Eq. 15-18, Alg. 1",
    build: |options| Ok(Box::new(AvaP::new(options)?)),
    defaults: options::defaults::<AvaPOptions>,
    variants: VARIANTS,
};

/// The rows of the paper's ablation table, and its formulas as printed. The paper's full system weights both heads by
/// attention; the default here does not.
const VARIANTS: &[Variant] = &[
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
        name: "w/o neg",
        options: &[("neg", "none")],
        note: "without the rejected answers' likelihood",
    },
    Variant {
        name: "w/o irl",
        options: &[("lambda", "0.0"), ("kappa", "0.0")],
        note: "without the inverse-RL terms: neither the TD term nor the prior it is weighed against",
    },
    Variant {
        name: "w/o td",
        options: &[("lambda", "0.0")],
        note: "without the TD term alone; the prior stays (not in the paper)",
    },
    Variant {
        name: "w/o cer",
        options: &[("cer_weight", "0.0")],
        note: "without the contrastive expected return",
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
            ("neg", "paper"),
            ("cer", "sigmoid"),
            ("cer_score", "last"),
            ("normalise", "sum"),
        ],
        note: "every formula as printed; alpha, beta, gamma and lambda are not in the paper and stay ours",
    },
];

/// What the rejected answer's likelihood contributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Neg {
    /// Eq. 17 as printed.
    Paper,
    /// The same, with no gradient below a floor.
    Floor,
    /// log(1 - B) per token, as Eq. 16 has it for the sequence.
    Unlikelihood,
    /// Nothing.
    None,
}

/// Which rows have KL and TD terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlTdOn {
    /// Chosen and rejected.
    Both,
    /// Chosen only.
    Chosen,
}

/// The form of the contrastive expected return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cer {
    /// sigma(d): Eq. 18 as printed; no gradient for badly wrong pairs.
    Sigmoid,
    /// log sigma(d).
    #[serde(rename = "logsigmoid")]
    LogSigmoid,
    /// log Phi(d / sqrt(v)).
    Probit,
    /// log sigma(d / sqrt(1 + pi v / 8)).
    Mackay,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AvaPOptions {
    /// The terms shared with AVA-d.
    #[serde(flatten)]
    pub ava: AvaOptions,
    /// both: the comparison needs calibrated rewards on the rejected side too.
    pub kl_td_on: KlTdOn,
    /// unlikelihood: bounded for each token.
    pub neg: Neg,
    /// Smallest -log-likelihood per rejected row at which `floor` stops.
    pub neg_floor: f64,
    /// logsigmoid: wrong pairs keep their gradient.
    pub cer: Cer,
    /// sum: every token gets a preference signal of its own.
    pub cer_score: ScoreKind,
    /// Weight of the comparison; 1 as in Alg. 1.
    pub cer_weight: f64,
}

impl Default for AvaPOptions {
    fn default() -> Self {
        Self {
            ava: AvaOptions::default(),
            kl_td_on: KlTdOn::Both,
            neg: Neg::Unlikelihood,
            neg_floor: 50.0,
            cer: Cer::LogSigmoid,
            cer_score: ScoreKind::Sum,
            cer_weight: 1.0,
        }
    }
}

/// AVA-p with its options.
pub struct AvaP {
    options: AvaPOptions,
}

impl AvaP {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: AvaPOptions = options::parse("ava_p", options)?;
        options.ava.check("ava_p")?;
        let (floor, weight) = (options.neg_floor, options.cer_weight);
        check(floor.is_finite(), "ava_p", "neg_floor", floor, "finite")?;
        let ok = weight.is_finite() && weight >= 0.0;
        check(ok, "ava_p", "cer_weight", weight, "0 or more")?;
        Ok(Self { options })
    }

    /// Whether the comparison depends on the scores' variances.
    fn reads_variances(&self) -> bool {
        matches!(self.options.cer, Cer::Probit | Cer::Mackay)
    }

    /// neg per pair `[P]`, from the rejected rows.
    fn negative(&self, ll: &Tensor<1>, unlikelihood: impl FnOnce() -> Tensor<1>) -> Tensor<1> {
        match self.options.neg {
            Neg::Paper => ll.clone(),
            Neg::Floor => ll.clone().clamp_min(-self.options.neg_floor),
            Neg::None => ll.zeros_like(),
            Neg::Unlikelihood => unlikelihood().neg(),
        }
    }
}

/// The comparison term per pair `[P]`, to be ascended, from score differences d and their variances v.
pub(super) fn contrast(form: Cer, d: Tensor<1>, variance: impl FnOnce() -> Tensor<1>) -> Tensor<1> {
    match form {
        Cer::Sigmoid => activation::sigmoid(d),
        Cer::LogSigmoid => activation::log_sigmoid(d),
        Cer::Probit => log_standard_normal_cdf(d / variance().sqrt()),
        Cer::Mackay => {
            let widened = variance().mul_scalar(std::f64::consts::PI / 8.0);
            activation::log_sigmoid(d / widened.add_scalar(1.0).sqrt())
        }
    }
}

impl Objective for AvaP {
    fn name(&self) -> &'static str {
        "ava_p"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.ava.steps
    }

    fn needs_token_prior(&self) -> bool {
        self.options.ava.prior.is_learned()
    }

    fn informs_std(&self) -> bool {
        self.uncertainty() != Uncertainty::PriorOnly
    }

    /// Without the residual term sigma is the comparison's business where that reads variances, else the prior's alone.
    fn uncertainty(&self) -> Uncertainty {
        let compares = self.options.cer_weight > 0.0 && self.reads_variances();
        match (self.options.ava.lambda > 0.0, compares) {
            (true, _) => Uncertainty::TdSpread,
            (false, true) => Uncertainty::PreferenceSpread,
            (false, false) => Uncertainty::PriorOnly,
        }
    }

    fn diagnostics(&self, steps: &Steps) -> Vec<super::Term> {
        self.options.ava.diagnostics(steps)
    }

    fn td_target(&self, steps: &Steps) -> Option<Tensor<2>> {
        let ava = &self.options.ava;
        (ava.lambda > 0.0).then(|| AvaTerms::of(steps, ava).delta)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.options.ava.warnings();
        if self.options.neg == Neg::Paper {
            warnings.push(
                "neg paper is unbounded: the loss falls without end as the rejected likelihood does, and the language \
                 model with it; use unlikelihood or floor, or at least beta 0.1"
                    .to_owned(),
            );
        }
        if self.options.cer_score == ScoreKind::Mean && self.reads_variances() {
            warnings.push(
                "cer probit and mackay with cer_score mean hold a difference of means against the variance of the sums, \
                 as the specification has it: long answers count as less sure than they are; use cer_score sum or cer \
                 logsigmoid"
                    .to_owned(),
            );
        }
        if self.options.cer_score == ScoreKind::Last {
            warnings.push(
                "cer_score last gives the inner tokens no preference signal of their own; sum does"
                    .to_owned(),
            );
        }
        warnings
    }

    fn ranking_score(&self) -> ScoreKind {
        self.options.cer_score
    }

    /// As the loss has it: also where means are compared, the variance is that of the sums.
    fn comparison_variance(&self) -> ScoreKind {
        match self.options.cer_score {
            ScoreKind::Last => ScoreKind::Last,
            ScoreKind::Sum | ScoreKind::Mean => ScoreKind::Sum,
        }
    }

    /// The comparison alone: AVA's KL and residual terms are its prior and its dynamics, not data about preferences.
    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        let fit = match self.options.cer {
            Cer::Sigmoid => return None,
            Cer::LogSigmoid => comparison::logistic(pair.difference, 0.0),
            Cer::Probit => comparison::probit(pair.difference, pair.variance),
            Cer::Mackay => comparison::mackay(pair.difference, pair.variance),
        };
        Some(fit.weighted(self.options.cer_weight))
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let (options, ava, counts) = (&self.options, &self.options.ava, steps.counts);
        let pairs = steps.pair_count();
        let terms = AvaTerms::of(steps, ava);
        let lambda = ava.lambda_at(progress);
        let (ll_chosen, ll_rejected) = sides(row_sum(terms.ll), pairs);
        let negative = self.negative(&ll_rejected, || {
            let weight = match ava.steps.ll {
                LikelihoodForm::Normalised => 1.0,
                LikelihoodForm::PaperEq13 => ava.steps.beta,
            };
            let log_b = steps.log_policy.clone().narrow(0, pairs, pairs);
            let m_ll = terms.m_ll.clone().narrow(0, pairs, pairs);
            row_sum(log_one_minus_exp(log_b) * m_ll).mul_scalar(weight)
        });
        let counted = |x: Tensor<2>| match options.kl_td_on {
            KlTdOn::Both => x.sum(),
            KlTdOn::Chosen => x.narrow(0, 0, pairs).sum(),
        };
        let (kl, log_q) = (counted(terms.kl), counted(terms.log_q));
        let objective = (ll_chosen.clone() - negative).sum() - kl.clone().mul_scalar(ava.kappa)
            + log_q.clone().mul_scalar(lambda);

        let scores = Scores::of(steps);
        let (chosen, rejected) = sides(scores.get(options.cer_score), pairs);
        let cer = contrast(options.cer, chosen - rejected, || {
            let variance = scores.variance(self.comparison_variance());
            let (chosen, rejected) = sides(variance, pairs);
            chosen + rejected
        })
        .sum();
        let n_pairs = match ava.normalise {
            Normalise::Sum => 1.0,
            Normalise::Batch | Normalise::Token => counts.pairs.max(1.0),
        };
        let loss = objective
            .clone()
            .div_scalar(ava.divisor(counts, counts.pairs))
            .neg()
            - cer.clone().mul_scalar(options.cer_weight / n_pairs);

        let per_step = |x: Tensor<1>| x.detach().div_scalar(counts.steps.max(1.0));
        let per_pair = |x: Tensor<1>| x.detach().div_scalar(counts.pairs.max(1.0));
        let nll = (steps.log_policy.clone() * terms.m_ll).sum().neg();
        let scores = scores.detach();
        let mut named = vec![
            ("loss", loss.clone().detach()),
            ("ava/ll_chosen", per_pair(ll_chosen.sum())),
            ("ava/ll_rejected", per_pair(ll_rejected.sum())),
            ("ava/nll_per_token", per_step(nll)),
            ("ava/elbo", per_step(objective)),
            ("ava/kl", per_step(kl)),
            ("ava/td_logq", per_step(log_q)),
            ("ava/cer", per_pair(cer)),
            ("ava/lambda", constant(steps, lambda)),
        ];
        named.extend(reward_terms(scores.get(options.cer_score), pairs, counts));
        Evaluation {
            loss,
            terms: named,
            scores,
        }
    }
}

#[cfg(test)]
mod tests;
