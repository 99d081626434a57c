//! Per-row scores of the posterior, and the terms that every method logs about them.

use super::Term;
use super::math::{row_sum, sides};
use crate::reward::{Normaliser, Steps, StepsConfig, clamped_fraction, log_density};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Which scalar stands for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreKind {
    /// The mean at the last step.
    Last,
    /// The sum of means over the steps.
    Sum,
    /// The mean of means over the steps; indifferent to length.
    Mean,
}

/// Scores of rows, `[B]` each.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Mean of the last step's reward.
    pub last: Tensor<1>,
    /// Sum of the steps' means.
    pub sum: Tensor<1>,
    /// Mean of the steps' means; 0 for a row without steps.
    pub mean: Tensor<1>,
    /// Variance of the last step's reward.
    pub last_variance: Tensor<1>,
    /// Variance of the sum, tokens taken as independent.
    pub sum_variance: Tensor<1>,
    /// Variance of the mean, tokens taken as independent.
    pub mean_variance: Tensor<1>,
}

impl Scores {
    /// Scores of the posterior in `Steps`, with gradients.
    pub fn of(steps: &Steps) -> Self {
        Self::from_rewards(
            steps,
            steps.mean.clone(),
            steps.log_std.clone().mul_scalar(2.0).exp(),
        )
    }

    /// Scores of any token rewards and variances `[B, S]`; what stands outside the mask does not count but is finite.
    pub fn from_rewards(steps: &Steps, mean: Tensor<2>, variance: Tensor<2>) -> Self {
        let lengths = row_sum(steps.mask.clone()).clamp_min(1.0);
        let at_last = |x: Tensor<2>| row_sum(x * steps.last.clone());
        let over_steps = |x: Tensor<2>| row_sum(x * steps.mask.clone());
        let (sum, sum_variance) = (over_steps(mean.clone()), over_steps(variance.clone()));
        Self {
            last: at_last(mean),
            mean: sum.clone() / lengths.clone(),
            sum,
            last_variance: at_last(variance),
            mean_variance: sum_variance.clone() / lengths.square(),
            sum_variance,
        }
    }

    /// The score of one kind.
    pub fn get(&self, kind: ScoreKind) -> Tensor<1> {
        match kind {
            ScoreKind::Last => self.last.clone(),
            ScoreKind::Sum => self.sum.clone(),
            ScoreKind::Mean => self.mean.clone(),
        }
    }

    /// The variance of the score of one kind.
    pub fn variance(&self, kind: ScoreKind) -> Tensor<1> {
        match kind {
            ScoreKind::Last => self.last_variance.clone(),
            ScoreKind::Sum => self.sum_variance.clone(),
            ScoreKind::Mean => self.mean_variance.clone(),
        }
    }

    /// The same numbers without their history.
    pub fn detach(self) -> Self {
        Self {
            last: self.last.detach(),
            sum: self.sum.detach(),
            mean: self.mean.detach(),
            last_variance: self.last_variance.detach(),
            sum_variance: self.sum_variance.detach(),
            mean_variance: self.mean_variance.detach(),
        }
    }
}

/// `rewards/*` of pairs for one kind of score: shares of the batch's means. A tie is no win; its rate stands beside.
pub fn reward_terms(scores: Tensor<1>, pairs: usize, counts: Normaliser) -> Vec<Term> {
    let (chosen, rejected) = sides(scores.detach(), pairs);
    let share = |x: Tensor<1>| x.sum().div_scalar(counts.pairs.max(1.0));
    let margins = chosen.clone() - rejected.clone();
    vec![
        ("rewards/chosen", share(chosen)),
        ("rewards/rejected", share(rejected)),
        (
            "rewards/accuracies",
            share(margins.clone().greater_elem(0.0).float()),
        ),
        (
            "rewards/ties",
            share(margins.clone().equal_elem(0.0).float()),
        ),
        ("rewards/margins", share(margins)),
    ]
}

/// Terms about the posterior of one micro-batch.
pub fn posterior_terms(steps: &Steps, cfg: &StepsConfig) -> Vec<Term> {
    let (mu, rho) = (steps.mean.clone().detach(), steps.log_std.clone().detach());
    let sigma = rho.clone().exp();
    let (mu_mean, mu_std, _) = moments(mu, &steps.mask);
    let smallest = sigma.clone().mask_fill(steps.outside.clone(), 1e30).min();
    vec![
        ("ava/mu_mean", mu_mean),
        ("ava/mu_std", mu_std),
        ("ava/sigma_mean", masked_mean(sigma, &steps.mask)),
        ("ava/sigma_min", smallest),
        (
            "ava/rho_clamped_fraction",
            clamped_fraction(rho, steps.mask.clone(), cfg),
        ),
    ]
}

/// Terms about the residual delta of one micro-batch, 0/1 `m_td` saying where it counts: its moments, its z-scores under
/// the posterior (calibrated: mean 0, variance 1, 95 % inside 1.96), and the last steps' share of -log q.
pub fn residual_terms(steps: &Steps, delta: Tensor<2>, m_td: Tensor<2>) -> Vec<Term> {
    let delta = delta.detach();
    let (mu, rho) = (steps.mean.clone().detach(), steps.log_std.clone().detach());
    let nll = log_density(delta.clone(), mu.clone(), rho.clone()).neg() * m_td.clone();
    let z = (delta.clone() - mu) * rho.neg().exp();
    let covered = z.clone().abs().lower_equal_elem(1.96).float();
    let (delta_mean, delta_std, _) = moments(delta, &m_td);
    let (z_mean, _, z_variance) = moments(z, &m_td);
    let total = nll.clone().sum();
    // Divided by 1 where the total is 0: without steps there is no share.
    let total = total.clone().mask_fill(total.equal_elem(0.0), 1.0);
    vec![
        ("calibration/z_mean", z_mean),
        ("calibration/z_var", z_variance),
        ("calibration/coverage95", masked_mean(covered, &m_td)),
        ("ava/delta_mean", delta_mean),
        ("ava/delta_std", delta_std),
        (
            "ava/td_share_last_step",
            (nll * steps.last.clone()).sum() / total,
        ),
    ]
}

fn masked_mean(x: Tensor<2>, mask: &Tensor<2>) -> Tensor<1> {
    (x * mask.clone()).sum() / mask.clone().sum().clamp_min(1.0)
}

/// Mean, standard deviation and variance over the mask.
fn moments(x: Tensor<2>, mask: &Tensor<2>) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let mean = masked_mean(x.clone(), mask);
    let off = x - mean.clone().unsqueeze();
    let variance = masked_mean(off.square(), mask);
    (mean, variance.clone().sqrt(), variance)
}
