//! Preference likelihoods as functions of a score difference alone: what Laplace's approximation needs of a method.
//!
//! ```text
//! logistic   log p = (1-e) log sigma(x) + e log sigma(-x),  x = d - margin        curvature  p (1-p)
//! mackay     log p = log sigma(d / c),  c = sqrt(1 + pi v / 8)                    curvature  p (1-p) / c^2
//! probit     log p = log Phi(z),  z = d / sqrt(noise + v),  g = phi(z)/Phi(z)     curvature  g (g + z) / (noise + v)
//! ```
//!
//! The curvature is minus the second derivative of log p in d; the tokens' spread v is held fixed. Source: logistic
//! regression's and probit regression's information, e.g. MacKay, *The evidence framework applied to classification
//! networks*, 1992.

use crate::eval::gaussian::{log_normal_cdf, log_sigmoid, normal_log_density, sigmoid};

/// The difference of two answers' ranking scores, as a preference likelihood reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Chosen minus rejected.
    pub difference: f64,
    /// The sum of the two scores' variances under the method's own posterior (tokens taken as independent).
    pub variance: f64,
    /// The row's margin, 0 where it has none.
    pub margin: f64,
    /// The row's own label: the probability that the chosen answer is the better one, 1 where it has none.
    pub label: f64,
}

/// What a preference likelihood says of one comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairFit {
    /// log p of the label.
    pub log_likelihood: f64,
    /// Minus the second derivative of log p in the difference; at least 0.
    pub curvature: f64,
}

impl PairFit {
    /// The same where the comparison's term has a weight in the loss.
    pub fn weighted(self, weight: f64) -> Self {
        Self {
            log_likelihood: weight * self.log_likelihood,
            curvature: weight * self.curvature,
        }
    }
}

/// The logistic of `x`, with a share `smoothing` of labels taken as wrong.
pub fn logistic(x: f64, smoothing: f64) -> PairFit {
    PairFit {
        log_likelihood: (1.0 - smoothing) * log_sigmoid(x) + smoothing * log_sigmoid(-x),
        curvature: sigmoid(x) * sigmoid(-x),
    }
}

/// MacKay's averaged logistic.
pub fn mackay(difference: f64, variance: f64) -> PairFit {
    let widening = 1.0 + std::f64::consts::PI * variance.max(0.0) / 8.0;
    let fit = logistic(difference / widening.sqrt(), 0.0);
    PairFit {
        curvature: fit.curvature / widening,
        ..fit
    }
}

/// The probit; `variance` is the noise's plus the scores', and must be above 0.
pub fn probit(difference: f64, variance: f64) -> PairFit {
    // The smallest positive number keeps a vanishing spread from dividing 0 by 0.
    let variance = variance.max(f64::MIN_POSITIVE);
    let z = difference / variance.sqrt();
    let log_likelihood = log_normal_cdf(z);
    let g = (normal_log_density(z, 0.0, 1.0) - log_likelihood).exp();
    // g + z cancels far out on the left, where it tends to 0 from above as 1/|z|.
    let slope = if z < -30.0 { -1.0 / z } else { g + z };
    PairFit {
        log_likelihood,
        curvature: (g * slope / variance).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curvatures_are_minus_the_second_difference_of_log_p() {
        type Form = Box<dyn Fn(f64) -> PairFit>;
        let h = 1e-3;
        for d in [-4.0, -0.7, 0.0, 0.3, 2.5] {
            let forms: [(&str, Form); 4] = [
                ("logistic", Box::new(|d| logistic(d, 0.0))),
                ("smoothed", Box::new(|d| logistic(d - 0.4, 0.2))),
                ("mackay", Box::new(|d| mackay(d, 3.0))),
                ("probit", Box::new(|d| probit(d, 1.7))),
            ];
            for (name, f) in forms {
                let l = |d: f64| f(d).log_likelihood;
                let second = (l(d + h) - 2.0 * l(d) + l(d - h)) / (h * h);
                let got = f(d).curvature;
                assert!((got + second).abs() < 1e-6, "{name} at {d}: {got} {second}");
            }
        }
    }

    #[test]
    fn far_out_everything_stays_finite() {
        for d in [-1e6, -40.0, 40.0, 1e6] {
            for fit in [logistic(d, 0.1), mackay(d, 0.0), probit(d, 1.0)] {
                assert!(fit.log_likelihood.is_finite() && fit.curvature.is_finite());
                assert!(fit.curvature >= 0.0);
            }
        }
        // Left of everything the probit's information tends to 1/variance.
        assert!((probit(-1e4, 2.0).curvature - 0.5).abs() < 1e-6);
    }
}
