//! The prior over a token's reward, and the divergence of the posterior N(mu, sigma^2) from it. With rho = log sigma:
//!
//! ```text
//! normal    p = N(0, s0^2):      KL = log s0 - rho + (exp(2 rho) + mu^2) / (2 s0^2) - 1/2
//! laplace   p = Laplace(0, b):   KL = log(2 b) - rho - (1 + log 2 pi) / 2 + E|r| / b
//!                                E|r| = sigma sqrt(2/pi) exp(-z^2) + mu erf(z),   z = mu / (sigma sqrt 2)
//! token_type  p = N(0, s_w^2):   the normal one with a scale of its own for every token type w, s_w = s0 exp(l_w)
//! ```
//!
//! Source: `normal` with s0 = 1 is AVA's prior, arXiv 2411.09341, and AVRIL's, arXiv 2102.06483. The scale, `laplace` and
//! `token_type` are ours. `token_type` is automatic relevance determination (MacKay 1994; Neal 1996) over the vocabulary:
//! l_w trains with everything else, which is type-II maximum likelihood, and at its optimum s_w^2 is the mean of
//! mu^2 + sigma^2 over the type's tokens. A type that carries no reward gets a narrow prior, and then a stray reward on one
//! of its tokens is dear; what one word did is not spread over full stops and articles.
//! A normal prior makes many small rewards cheaper than one large one (n tokens that share a reward R pay
//! R^2/n in place of R^2), so it spreads what one word did over the words after it; a Laplace prior charges the same for
//! both, as the lasso does (Tibshirani 1996; Park and Casella, *The Bayesian Lasso*, 2008).

use super::posterior::kl_to_standard_normal;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The form of the prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorForm {
    /// N(0, `prior_scale`^2).
    Normal,
    /// Laplace(0, `prior_scale`): most rewards near zero, some large.
    Laplace,
    /// N(0, s^2) with a learned s for every token type, `prior_scale` before training.
    TokenType,
}

/// The prior over a token's reward. Each default has its reason beside it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prior {
    /// normal: AVA's.
    pub prior: PriorForm,
    /// Standard deviation s0 (`normal`; `token_type` before training) or scale b (`laplace`). 1: AVA's.
    pub prior_scale: f64,
}

impl Default for Prior {
    fn default() -> Self {
        Self {
            prior: PriorForm::Normal,
            prior_scale: 1.0,
        }
    }
}

/// Learned scales stay within a factor of e^7 of `prior_scale`: sigma's own limits are narrower, and no square overflows.
const LOG_SCALE_LIMIT: f64 = 7.0;

impl Prior {
    /// Whether the prior has a table of learned scales, [`Steps::prior_log_scale`](super::Steps::prior_log_scale).
    pub fn is_learned(&self) -> bool {
        self.prior == PriorForm::TokenType
    }

    /// KL[N(mean, exp(log_std)^2) || prior] per element, in nats; never negative. `log_scale` is the table's l_w for each
    /// element: only `token_type` reads it, and takes 0, the table before training, where there is none.
    pub fn kl<const D: usize>(
        &self,
        mean: Tensor<D>,
        log_std: Tensor<D>,
        log_scale: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let scale = self.prior_scale;
        match self.prior {
            PriorForm::TokenType => {
                let log_scale = log_scale.unwrap_or_else(|| mean.zeros_like());
                let log_scale = log_scale
                    .clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
                    .add_scalar(scale.ln());
                kl_to_standard_normal(mean * log_scale.clone().neg().exp(), log_std - log_scale)
            }
            // Both divided by s0: the divergence does not change when everything is rescaled.
            PriorForm::Normal => {
                kl_to_standard_normal(mean.div_scalar(scale), log_std.sub_scalar(scale.ln()))
            }
            PriorForm::Laplace => {
                let constant = (2.0 * scale).ln() - 0.5 * (1.0 + (2.0 * std::f64::consts::PI).ln());
                expected_size(mean, log_std.clone()).div_scalar(scale)
                    - log_std.sub_scalar(constant)
            }
        }
    }
}

/// E|r| of r ~ N(mean, exp(log_std)^2), per element.
fn expected_size<const D: usize>(mean: Tensor<D>, log_std: Tensor<D>) -> Tensor<D> {
    let z = mean.clone()
        * log_std
            .clone()
            .neg()
            .exp()
            .mul_scalar(std::f64::consts::FRAC_1_SQRT_2);
    // Beyond 6 standard deviations erf is 1 and the exponential 0 in f32; the clamp keeps the square in range.
    let z = z.clamp(-6.0, 6.0);
    let root = (2.0 / std::f64::consts::PI).sqrt();
    log_std.exp().mul_scalar(root) * z.clone().square().neg().exp() + mean * z.erf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden;
    use burn::tensor::Device;

    fn laplace(scale: f64) -> Prior {
        Prior {
            prior: PriorForm::Laplace,
            prior_scale: scale,
        }
    }

    /// The divergence as the integral it is, by the trapezoid rule in f64.
    fn by_integration(prior: Prior, mean: f64, log_std: f64) -> f64 {
        let std = log_std.exp();
        let (steps, width) = (40_000, 24.0 * std);
        let log_p = |r: f64| match prior.prior {
            PriorForm::Normal | PriorForm::TokenType => {
                -0.5 * (r / prior.prior_scale).powi(2)
                    - prior.prior_scale.ln()
                    - 0.5 * (2.0 * std::f64::consts::PI).ln()
            }
            PriorForm::Laplace => -r.abs() / prior.prior_scale - (2.0 * prior.prior_scale).ln(),
        };
        (0..=steps)
            .map(|i| {
                let r = mean - width / 2.0 + width * i as f64 / steps as f64;
                let log_q = -0.5 * ((r - mean) / std).powi(2)
                    - log_std
                    - 0.5 * (2.0 * std::f64::consts::PI).ln();
                log_q.exp() * (log_q - log_p(r)) * width / steps as f64
            })
            .sum()
    }

    #[test]
    fn the_divergence_is_its_integral() {
        let device = Device::flex();
        let normal = Prior {
            prior: PriorForm::Normal,
            prior_scale: 2.5,
        };
        for prior in [
            Prior::default(),
            normal,
            laplace(1.0),
            laplace(0.3),
            token_type(0.4),
        ] {
            for (mean, log_std) in [
                (0.0, 0.0),
                (0.7, -1.0),
                (-3.0, 0.4),
                (2.0, -2.5),
                (1e-3, 0.1),
            ] {
                let wanted = by_integration(prior, mean, log_std);
                let m = Tensor::<1>::from_floats([mean as f32], &device);
                let r = Tensor::<1>::from_floats([log_std as f32], &device);
                let got = golden::values(prior.kl(m, r, None))[0];
                assert!(
                    (got - wanted).abs() < 2e-5 * (1.0 + wanted.abs()),
                    "{prior:?} at ({mean}, {log_std}): {got}, the integral {wanted}"
                );
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences_and_stay_finite_far_out() {
        let device = Device::flex().autodiff();
        for prior in [laplace(0.5), Prior::default()] {
            for (mean, log_std) in [(0.4f32, -0.3f32), (-2.0, 0.5), (0.0, 0.0)] {
                let m = Tensor::<1>::from_floats([mean], &device).require_grad();
                let r = Tensor::<1>::from_floats([log_std], &device).require_grad();
                let gradients = prior.kl(m.clone(), r.clone(), None).sum().backward();
                let read =
                    |x: &Tensor<1>| x.grad(&gradients).map(golden::values).unwrap_or_default()[0];
                let (mean, log_std, h) = (f64::from(mean), f64::from(log_std), 1e-4);
                let central = |plus: f64, minus: f64| (plus - minus) / (2.0 * h);
                let by_mean = central(
                    by_integration(prior, mean + h, log_std),
                    by_integration(prior, mean - h, log_std),
                );
                let by_std = central(
                    by_integration(prior, mean, log_std + h),
                    by_integration(prior, mean, log_std - h),
                );
                assert!((read(&m) - by_mean).abs() < 1e-3, "{prior:?} {mean}");
                assert!((read(&r) - by_std).abs() < 1e-3, "{prior:?} {log_std}");
            }
            let m = Tensor::<1>::from_floats([1e6, -1e6], &device).require_grad();
            let r = Tensor::<1>::from_floats([-5.0, 2.0], &device).require_grad();
            let gradients = prior.kl(m.clone(), r.clone(), None).sum().backward();
            for x in [m, r] {
                let gradient = x.grad(&gradients).map(golden::values).unwrap_or_default();
                assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
            }
        }
    }

    fn token_type(scale: f64) -> Prior {
        Prior {
            prior: PriorForm::TokenType,
            prior_scale: scale,
        }
    }

    #[test]
    fn a_scale_of_the_type_s_own_is_the_normal_prior_of_that_scale() {
        let device = Device::flex().autodiff();
        for (mean, log_std, log_scale) in [(0.7, -1.0, 0.0), (-2.0, 0.4, -1.2), (0.1, 0.0, 0.9)] {
            let at = |x: f64| Tensor::<1>::from_floats([x as f32], &device).require_grad();
            let (m, r, l) = (at(mean), at(log_std), at(log_scale));
            let kl = token_type(2.0).kl(m.clone(), r.clone(), Some(l.clone()));
            let same = |log_scale: f64| {
                let normal = Prior {
                    prior: PriorForm::Normal,
                    prior_scale: 2.0 * log_scale.exp(),
                };
                by_integration(normal, mean, log_std)
            };
            let wanted = same(log_scale);
            let got = golden::values(kl.clone())[0];
            assert!(
                (got - wanted).abs() < 2e-5 * (1.0 + wanted.abs()),
                "{got} {wanted}"
            );
            // The scale's own gradient, which is what makes it a learned prior.
            let slope = golden::gradient(&l, &kl.sum().backward())[0];
            let central = (same(log_scale + 1e-4) - same(log_scale - 1e-4)) / 2e-4;
            assert!(
                (slope - central).abs() < 1e-3 * (1.0 + central.abs()),
                "{slope} {central}"
            );
        }
    }

    #[test]
    fn the_best_scale_is_the_root_mean_square_of_what_the_type_s_tokens_are_worth() {
        let device = Device::flex().autodiff();
        let means = [1.5f32, -0.5, 0.2];
        let rho = -1.0f32;
        let second_moment = means.iter().map(|m| m * m).sum::<f32>() / 3.0 + (2.0 * rho).exp();
        let l = Tensor::<1>::full([1], 0.5 * second_moment.ln(), &device).require_grad();
        let m = Tensor::<1>::from_floats(means, &device);
        let r = Tensor::<1>::full([3], rho, &device);
        let kl = token_type(1.0).kl(m, r, Some(l.clone().expand([3]))).sum();
        let slope = golden::gradient(&l, &kl.backward())[0];
        assert!(slope.abs() < 1e-5, "{slope}");
    }

    #[test]
    fn a_normal_prior_spreads_a_reward_and_a_laplace_prior_does_not_care() {
        // One token with reward 4, or four with 1 each: the price beyond what untouched tokens pay.
        let device = Device::flex();
        let price = |prior: Prior, means: [f32; 4]| {
            let m = Tensor::<1>::from_floats(means, &device);
            let rho = Tensor::<1>::full([4], -3.0, &device);
            golden::values(prior.kl(m, rho, None).sum())[0]
        };
        let (one, four, none) = ([4.0, 0.0, 0.0, 0.0], [1.0; 4], [0.0; 4]);
        let normal = |means| price(Prior::default(), means) - price(Prior::default(), none);
        assert!((normal(one) / normal(four) - 4.0).abs() < 1e-3);
        let sparse = |means| price(laplace(1.0), means) - price(laplace(1.0), none);
        // Not quite 1: |r| has a rounded tip at rho = -3, which each token that leaves zero gets back.
        assert!(sparse(one) / sparse(four) > 1.0 && sparse(one) / sparse(four) < 1.05);
    }
}
