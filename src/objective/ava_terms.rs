//! The terms that AVA-d and AVA-p are made of. All tensors are `[B, S]` unless said otherwise.
//!
//! With mean mu and rho = log sigma of a step's reward posterior:
//!
//! ```text
//! delta[s] = q[s] - gamma C[s] q[s+1]
//! KL[s]    = (exp(2 rho) + mu^2 - 1)/2 - rho                          to the prior N(0, 1)
//! log q[s] = -((delta[s] - mu) exp(-rho))^2/2 - rho - log(2 pi)/2
//! ```
//!
//! Source: AVA, arXiv 2411.09341, Eq. 4-5 and 13-17; AVRIL, arXiv 2102.06483.

use super::ava_config::{AvaConfig, CerScore, Terminal};
use crate::reward::Steps;
use burn::tensor::Tensor;

/// delta: what the reward posterior explains.
pub(super) fn td_target(steps: &Steps, gamma: f64) -> Tensor<2> {
    let [b, s] = steps.q.dims();
    let device = steps.q.device();
    let next = Tensor::cat(
        vec![
            steps.q.clone().slice([0..b, 1..s]),
            Tensor::zeros([b, 1], &device),
        ],
        1,
    );
    steps.q.clone() - (next * steps.bootstrap.clone()).mul_scalar(gamma)
}

/// KL of each step's posterior to the prior.
pub(super) fn kl(steps: &Steps) -> Tensor<2> {
    let variance = steps.log_std.clone().mul_scalar(2.0).exp();
    (variance + steps.mean.clone().square())
        .sub_scalar(1.0)
        .mul_scalar(0.5)
        - steps.log_std.clone()
}

/// log q of each step's TD target.
pub(super) fn log_q(steps: &Steps, delta: Tensor<2>) -> Tensor<2> {
    // Scaled before squaring: the square of a large residual would leave f32's range.
    let z = (delta - steps.mean.clone()) * (-steps.log_std.clone()).exp();
    z.square().mul_scalar(-0.5) - steps.log_std.clone() - (2.0 * std::f64::consts::PI).ln() * 0.5
}

/// The masks of the KL and TD terms, and of the likelihood.
pub(super) fn masks(steps: &Steps, cfg: &AvaConfig) -> (Tensor<2>, Tensor<2>) {
    match cfg.terminal {
        Terminal::Zero => (steps.mask.clone(), steps.mask.clone()),
        Terminal::Drop if cfg.ll_last => (steps.bootstrap.clone(), steps.mask.clone()),
        Terminal::Drop => (steps.bootstrap.clone(), steps.bootstrap.clone()),
    }
}

/// Sum over the steps of each row, `[B]`.
pub(super) fn row_sums(values: Tensor<2>, mask: &Tensor<2>) -> Tensor<1> {
    let [b, _] = values.dims();
    (values * mask.clone()).sum_dim(1).reshape([b])
}

/// Score and its variance of each row, `[B]` each. A sum's variance takes tokens as independent.
pub(super) fn scores(steps: &Steps, kind: CerScore) -> (Tensor<1>, Tensor<1>) {
    let variance = steps.log_std.clone().mul_scalar(2.0).exp();
    match kind {
        CerScore::Last => (
            row_sums(steps.mean.clone(), &steps.last),
            row_sums(variance, &steps.last),
        ),
        CerScore::Sum => (
            row_sums(steps.mean.clone(), &steps.mask),
            row_sums(variance, &steps.mask),
        ),
        CerScore::Mean => {
            let [b, _] = steps.mask.dims();
            let n = steps.mask.clone().sum_dim(1).reshape([b]).clamp_min(1.0);
            (
                row_sums(steps.mean.clone(), &steps.mask) / n.clone(),
                row_sums(variance, &steps.mask) / n.square(),
            )
        }
    }
}

/// What is logged of every posterior: moments over the steps that count.
pub(super) fn posterior_terms(steps: &Steps) -> Vec<(&'static str, Tensor<1>)> {
    let n = steps.mask.clone().sum().clamp_min(1.0);
    let average = |x: Tensor<2>| (x * steps.mask.clone()).sum() / n.clone();
    let mean = average(steps.mean.clone());
    let square = average(steps.mean.clone().square());
    vec![
        ("ava/mu_mean", mean.clone()),
        ("ava/mu_std", (square - mean.square()).clamp_min(0.0).sqrt()),
        ("ava/sigma_mean", average(steps.log_std.clone().exp())),
    ]
}

/// TRL's words for the scores of pairs: chosen rows are `0..p`, rejected ones `p..2p`.
pub(super) fn pair_terms(scores: &Tensor<1>, p: usize) -> Vec<(&'static str, Tensor<1>)> {
    let chosen = scores.clone().slice([0..p]);
    let rejected = scores.clone().slice([p..2 * p]);
    let margin = chosen.clone() - rejected.clone();
    vec![
        ("rewards/chosen", chosen.mean()),
        ("rewards/rejected", rejected.mean()),
        ("rewards/margins", margin.clone().mean()),
        (
            "rewards/accuracies",
            margin.greater_scalar(0.0).float().mean(),
        ),
    ]
}
