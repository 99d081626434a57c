//! The Gaussian posterior q(r) = N(mean, exp(log_std)^2) over the reward of a token.
//!
//! ```text
//! KL[q || N(0,1)] = (exp(2 rho) + mu^2 - 1)/2 - rho                  rho = log std
//! log q(x)        = -((x - mu) exp(-rho))^2 / 2 - rho - log(2 pi)/2
//! ```
//!
//! Source: AVRIL, arXiv 2102.06483 (posterior, KL, log density); the prior N(0,1) is AVA's, arXiv 2411.09341. The
//! log-std form is that of AVRIL's public code; softplus and the clamp are ours.

use super::steps::{SigmaParam, StepsConfig};
use burn::tensor::{Tensor, activation};

/// log(2 pi) / 2.
const HALF_LOG_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// The log standard deviation from the head's second output, clamped to `rho_min..=rho_max`. Any shape.
///
/// The clamp has zero gradient outside its range; [`clamped_fraction`] watches for it.
pub fn log_std<const D: usize>(raw: Tensor<D>, cfg: &StepsConfig) -> Tensor<D> {
    let rho = match cfg.sigma_param {
        SigmaParam::LogSd => raw,
        // softplus(x) = -log sigmoid(-x). Below -15 it is 3e-7: clamped there so that log(0) never meets the gradient.
        SigmaParam::Softplus => {
            let sigma = activation::log_sigmoid(raw.clamp_min(-15.0).neg()).neg();
            sigma.add_scalar(cfg.sigma_eps).log()
        }
    };
    rho.clamp(cfg.rho_min, cfg.rho_max)
}

/// KL[N(mean, exp(log_std)^2) || N(0,1)] per element: never negative, 0 only for the prior itself.
pub fn kl_to_standard_normal<const D: usize>(mean: Tensor<D>, log_std: Tensor<D>) -> Tensor<D> {
    let second_moment = log_std.clone().mul_scalar(2.0).exp() + mean.square();
    second_moment.sub_scalar(1.0).mul_scalar(0.5) - log_std
}

/// log N(x; mean, exp(log_std)^2) per element.
pub fn log_density<const D: usize>(x: Tensor<D>, mean: Tensor<D>, log_std: Tensor<D>) -> Tensor<D> {
    // Scaled before it is squared: the square of a large residual over a small variance stays in f32's range longer.
    let z = (x - mean) * log_std.clone().neg().exp();
    z.square().mul_scalar(-0.5) - log_std.add_scalar(HALF_LOG_TWO_PI)
}

/// The share of elements that the clamp holds at one of its ends, as a `[1]` tensor; `mask` is 0/1.
pub fn clamped_fraction(log_std: Tensor<2>, mask: Tensor<2>, cfg: &StepsConfig) -> Tensor<1> {
    let low = log_std.clone().lower_equal_elem(cfg.rho_min).float();
    let high = log_std.greater_equal_elem(cfg.rho_max).float();
    ((low + high) * mask.clone()).sum() / mask.sum().clamp_min(1.0)
}

/// The 95 % interval mean ± 1.96 std.
pub fn interval95(mean: f64, std: f64) -> (f64, f64) {
    (mean - 1.96 * std, mean + 1.96 * std)
}

/// How a difference of two uncertain scores becomes a probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Phi(d / sqrt(v)): both scores Gaussian, the higher one wins.
    Probit,
    /// sigma(d / sqrt(1 + pi v / 8)): MacKay's approximation of a logistic choice averaged over a Gaussian.
    Mackay,
}

/// The probability that the first of two answers is better, from the difference d of their mean scores and the
/// variance v of that difference. Never NaN for finite d and v >= 0: without variance and difference it is 1/2.
pub fn probability_better(difference: f64, variance: f64, link: Link) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match link {
        Link::Probit if difference == 0.0 => 0.5,
        Link::Probit => normal_cdf(difference / variance.max(0.0).sqrt()),
        Link::Mackay => {
            sigmoid(difference / (1.0 + std::f64::consts::PI * variance.max(0.0) / 8.0).sqrt())
        }
    }
}

/// Phi(x) to 1e-8, by the same fit that the training loss uses.
fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + z / 2.0);
    let fit = ERFCX_FIT.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = if z.is_finite() {
        0.5 * t * (fit - z * z).exp()
    } else {
        0.0
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// Coefficients, lowest power first, of a polynomial p(t) with erfc(z) = t exp(p(t) - z^2) for z >= 0 and
/// t = 1/(1 + z/2). Our own Chebyshev fit of log(exp(z^2) erfc(z) / t) on 0 < t <= 1; largest error 1.1e-8.
pub(crate) const ERFCX_FIT: [f64; 12] = [
    -1.265512124,
    0.9999999273,
    0.375020199,
    0.08259243328,
    -0.07473419464,
    -0.2337078895,
    0.3355402248,
    -1.225425168,
    2.398733727,
    -2.205107499,
    0.9913575967,
    -0.1787572438,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden;
    use burn::tensor::Device;

    #[test]
    fn kl_is_zero_at_the_prior_and_positive_elsewhere() {
        let device = Device::flex();
        let mean = Tensor::<1>::from_floats([0.0, 0.3, 0.0, -2.0], &device);
        let rho = Tensor::<1>::from_floats([0.0, 0.0, -0.4, 1.5], &device);
        let kl = golden::values(kl_to_standard_normal(mean, rho));
        assert_eq!(kl[0], 0.0);
        assert!(kl[1..].iter().all(|k| *k > 0.0));
    }

    #[test]
    fn normal_cdf_matches_known_quantiles() {
        for (x, p) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (1.96, 0.975_002_104_851_78),
            (-3.0, 0.001_349_898_031_630_095),
        ] {
            assert!((normal_cdf(x) - p).abs() < 2e-8);
        }
        assert_eq!(probability_better(0.0, 0.0, Link::Probit), 0.5);
        assert_eq!(probability_better(1.0, 0.0, Link::Probit), 1.0);
    }

    #[test]
    fn softplus_and_clamp_stay_finite_for_extreme_outputs() {
        let device = Device::flex().autodiff();
        let raw = Tensor::<1>::from_floats([-200.0, -3.0, 0.0, 200.0], &device).require_grad();
        let cfg = StepsConfig {
            sigma_param: SigmaParam::Softplus,
            sigma_eps: 0.0,
            ..StepsConfig::default()
        };
        let rho = log_std(raw.clone(), &cfg);
        let gradients = rho.clone().sum().backward();
        let gradient = raw.grad(&gradients).map(golden::values).unwrap_or_default();
        let rho = golden::values(rho);
        assert!(rho.iter().chain(&gradient).all(|x| x.is_finite()));
        assert_eq!((rho[0], rho[3]), (-5.0, 2.0));
    }
}
