//! The normal distribution, accurate in both tails: erf, erfc, Phi, log Phi, the inverse of Phi, and P(chosen better).

use super::EvalError;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// log(2 pi) / 2.
pub const HALF_LOG_TWO_PI: f64 = 0.918_938_533_204_672_8;
const FRAC_1_SQRT_PI: f64 = 0.564_189_583_547_756_3;
/// Above this the continued fraction is used, below it the series: both are exact to rounding here.
const BORDER: f64 = 1.5;

/// Error function: 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
pub fn erf(x: f64) -> f64 {
    if x.abs() < BORDER {
        erf_series(x)
    } else {
        x.signum() * (1.0 - erfc_fraction(x.abs()))
    }
}

/// 1 - erf(x), without cancellation for large x.
pub fn erfc(x: f64) -> f64 {
    if x.abs() < BORDER {
        1.0 - erf_series(x)
    } else if x > 0.0 {
        erfc_fraction(x)
    } else {
        2.0 - erfc_fraction(-x)
    }
}

/// 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!: all terms have one sign, so nothing cancels.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() && n < 100.0 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 * FRAC_1_SQRT_PI * (-x * x).exp() * sum
}

fn erfc_fraction(x: f64) -> f64 {
    (-x * x).exp() * erfcx_fraction(x)
}

/// exp(x^2) erfc(x) for x >= 1.5, by Laplace's continued fraction
/// 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))) / sqrt(pi); 120 levels leave an error below exp(-2x sqrt(240)).
fn erfcx_fraction(x: f64) -> f64 {
    let tail = (1..=120)
        .rev()
        .fold(x, |tail, k| x + f64::from(k) / 2.0 / tail);
    FRAC_1_SQRT_PI / tail
}

/// Phi(x), the standard normal's distribution function.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// log Phi(x), finite far into the left tail, where Phi itself underflows.
pub fn log_normal_cdf(x: f64) -> f64 {
    let u = x * FRAC_1_SQRT_2;
    if u > 0.0 {
        (-0.5 * erfc(u)).ln_1p()
    } else if u > -BORDER {
        (0.5 * erfc(-u)).ln()
    } else {
        -u * u + (0.5 * erfcx_fraction(-u)).ln()
    }
}

/// log density of N(mean, std^2) at x; std > 0.
pub fn normal_log_density(x: f64, mean: f64, std: f64) -> f64 {
    let z = (x - mean) / std;
    -0.5 * z * z - std.ln() - HALF_LOG_TWO_PI
}

/// The x with Phi(x) = p.
///
/// Newton on log Phi, which is increasing and concave, from a point to the left of the root
/// (Phi(-s) <= exp(-s^2/2)/2): every step stays to the left and moves right, so it converges always.
///
/// # Errors
/// p is not strictly between 0 and 1.
pub fn inverse_normal_cdf(p: f64) -> Result<f64, EvalError> {
    if !(p > 0.0 && p < 1.0) {
        return Err(EvalError::Range {
            what: "probability",
            value: p,
            need: "strictly between 0 and 1",
        });
    }
    if p > 0.5 {
        return inverse_normal_cdf(1.0 - p).map(|x| -x);
    }
    let target = p.ln();
    let mut x = -(-2.0 * target).sqrt();
    for _ in 0..60 {
        let value = log_normal_cdf(x);
        let slope = (-0.5 * x * x - HALF_LOG_TWO_PI - value).exp();
        let step = (target - value) / slope;
        x += step;
        if step.abs() <= 1e-15 * (1.0 + x.abs()) {
            break;
        }
    }
    Ok(x)
}

/// 1 / (1 + exp(-x)) without overflow.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        x.exp() / (1.0 + x.exp())
    }
}

/// log sigma(x) = min(x, 0) - log(1 + exp(-|x|)).
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// MacKay's approximation of E[sigma(N(mean, variance))]: sigma(mean / sqrt(1 + pi variance / 8)). For P(chosen better)
/// give the mean and variance of the *difference* of the two scores.
pub fn mackay_probability(mean: f64, variance: f64) -> f64 {
    sigmoid(mean / (1.0 + PI * variance / 8.0).sqrt())
}

/// P(N(mean, variance) > 0); a step function at variance 0.
pub fn probit_probability(mean: f64, variance: f64) -> f64 {
    if variance > 0.0 {
        normal_cdf(mean / variance.sqrt())
    } else {
        0.5 + 0.5 * (mean / mean.abs().max(f64::MIN_POSITIVE))
    }
}

/// E[sigma(N(mean, variance))] by quadrature, to about 1e-14: the truth that [`mackay_probability`] approximates.
///
/// The trapezoid rule converges like exp(-2 pi d / h), where d is the distance of the nearest pole from the real
/// axis: pi / std for the logistic function.
pub fn expected_sigmoid(mean: f64, variance: f64) -> f64 {
    let std = variance.max(0.0).sqrt();
    if std > 1e3 {
        // The logistic function is a step at this scale; the error is of order 1 / std^2.
        return normal_cdf(mean / (variance + PI * PI / 3.0).sqrt());
    }
    let h = if std > 0.0 {
        (PI / std / 6.0).min(0.1)
    } else {
        0.1
    };
    let half = (10.0 / h).ceil() as i64;
    let (mut sum, mut weight) = (0.0, 0.0);
    for i in -half..=half {
        let z = i as f64 * h;
        let w = (-0.5 * z * z).exp();
        weight += w;
        sum += w * sigmoid(mean + std * z);
    }
    sum / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64, relative: f64) {
        assert!(
            (got - expected).abs() <= relative * expected.abs(),
            "got {got:e}, expected {expected:e}"
        );
    }

    #[test]
    fn erf_and_erfc_match_tables() {
        near(erf(0.5), 0.520_499_877_813_046_5, 1e-15);
        near(erf(1.0), 0.842_700_792_949_714_9, 1e-15);
        near(erf(-2.0), -0.995_322_265_018_952_7, 1e-15);
        near(erfc(1.4), 0.047_714_880_237_351_2, 1e-13);
        near(erfc(1.6), 0.023_651_616_655_356_0, 1e-13);
        near(erfc(3.0), 2.209_049_699_858_544e-5, 1e-13);
        near(erfc(10.0), 2.088_487_583_762_545e-45, 1e-12);
        assert_eq!(erf(0.0), 0.0);
        assert_eq!(erfc(f64::NEG_INFINITY), 2.0);
    }

    #[test]
    fn series_and_fraction_meet_at_the_border() {
        near(1.0 - erf_series(BORDER), erfc_fraction(BORDER), 1e-13);
    }

    #[test]
    fn log_phi_is_finite_far_left() {
        near(log_normal_cdf(0.0), -std::f64::consts::LN_2, 1e-15);
        near(log_normal_cdf(-5.0), -15.064_998_393_988_727, 1e-14);
        near(log_normal_cdf(-40.0), -804.608_442_013_754, 1e-12);
        near(log_normal_cdf(8.0), -6.220_960_574_271_785e-16, 1e-12);
        assert!(log_normal_cdf(-1e8).is_finite());
    }

    #[test]
    fn the_inverse_undoes_phi() {
        near(
            inverse_normal_cdf(0.975).unwrap(),
            1.959_963_984_540_054,
            1e-13,
        );
        for p in [1e-300, 1e-20, 1e-5, 0.2, 0.5, 0.7, 0.999_999] {
            let x = inverse_normal_cdf(p).unwrap();
            assert!(
                (log_normal_cdf(x) - p.ln()).abs() < 1e-12 * (1.0 + p.ln().abs()),
                "{p}"
            );
        }
        assert!(inverse_normal_cdf(0.0).is_err() && inverse_normal_cdf(f64::NAN).is_err());
    }

    #[test]
    fn log_sigmoid_never_overflows() {
        near(log_sigmoid(0.8), -0.371_100_665_947_777_7, 1e-15);
        assert_eq!(log_sigmoid(-1000.0), -1000.0);
        assert_eq!(sigmoid(-1000.0), 0.0);
    }

    #[test]
    fn probabilities_are_a_half_at_equal_scores() {
        for v in [0.0, 1.0, 1e9] {
            near(mackay_probability(0.0, v), 0.5, 1e-15);
            near(probit_probability(0.0, v), 0.5, 1e-15);
            near(expected_sigmoid(0.0, v), 0.5, 1e-12);
        }
        near(expected_sigmoid(1.3, 0.0), sigmoid(1.3), 1e-12);
        assert_eq!(probit_probability(-2.0, 0.0), 0.0);
    }
}
