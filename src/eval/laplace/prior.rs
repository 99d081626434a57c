//! The prior variance that makes the data likeliest: empirical Bayes by the Laplace evidence (MacKay 1992).

use super::super::EvalError;
use super::super::matrix::Matrix;
use super::{identity_plus, log_evidence};

/// Decades of s2 that are searched.
const LOWEST: f64 = -6.0;
const HIGHEST: f64 = 6.0;

/// A prior variance and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorChoice {
    /// s2.
    pub variance: f64,
    /// log evidence there.
    pub log_evidence: f64,
    /// Whether it stands at an end of the range 1e-6 to 1e6: then the data do not fix it.
    pub at_border: bool,
}

/// The s2 in 1e-6 to 1e6 of the largest LL - |theta|^2/(2 s2) - logdet(I + s2 H)/2. `log_det` gives the last factor: a grid
/// of quarter decades, then a golden-section search around its best point.
///
/// # Errors
/// Whatever `log_det` says.
pub fn choose_prior_variance(
    log_likelihood: f64,
    squared_norm: f64,
    log_det: impl Fn(f64) -> Result<f64, EvalError>,
) -> Result<PriorChoice, EvalError> {
    let value = |decade: f64| -> Result<f64, EvalError> {
        let s2 = 10f64.powf(decade);
        Ok(log_evidence(log_likelihood, squared_norm, log_det(s2)?, s2))
    };
    let steps = ((HIGHEST - LOWEST) * 4.0) as usize;
    let mut best = (LOWEST, f64::NEG_INFINITY);
    for i in 0..=steps {
        let decade = LOWEST + 0.25 * i as f64;
        let v = value(decade)?;
        if v > best.1 {
            best = (decade, v);
        }
    }
    let at_border = best.0 == LOWEST || best.0 == HIGHEST;
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = ((best.0 - 0.25).max(LOWEST), (best.0 + 0.25).min(HIGHEST));
    for _ in 0..24 {
        let width = ratio * (high - low);
        let (a, b) = (high - width, low + width);
        if value(a)? >= value(b)? {
            high = b;
        } else {
            low = a;
        }
    }
    let middle = 0.5 * (low + high);
    let v = value(middle)?;
    if v > best.1 {
        best = (middle, v);
    }
    Ok(PriorChoice {
        variance: 10f64.powf(best.0),
        log_evidence: best.1,
        at_border,
    })
}

/// logdet(I + s2 H) of a whole matrix.
///
/// # Errors
/// H is not square or not positive semi-definite.
pub fn log_det_of(ggn: &Matrix, prior_variance: f64) -> Result<f64, EvalError> {
    Ok(identity_plus(ggn, prior_variance)?.log_det())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_variance_is_a_peak_and_matches_mackays_fixed_point() {
        let ggn = Matrix::from_rows(&[vec![30.0, 4.0], vec![4.0, 6.0]]).unwrap();
        let theta = [0.8, -0.5];
        let norm: f64 = theta.iter().map(|t| t * t).sum();
        let choice = choose_prior_variance(-20.0, norm, |s2| log_det_of(&ggn, s2)).unwrap();
        assert!(!choice.at_border);
        for factor in [0.9, 1.1] {
            let s2 = choice.variance * factor;
            let log_det = log_det_of(&ggn, s2).unwrap();
            assert!(log_evidence(-20.0, norm, log_det, s2) < choice.log_evidence);
        }
        // At the peak |theta|^2 / s2 = sum_i s2 h_i / (1 + s2 h_i), the effective number of parameters.
        let (mean, half) = (18.0, (12.0f64 * 12.0 + 16.0).sqrt());
        let effective: f64 = [mean + half, mean - half]
            .iter()
            .map(|h| choice.variance * h / (1.0 + choice.variance * h))
            .sum();
        assert!((norm / choice.variance - effective).abs() < 1e-4);
    }

    #[test]
    fn parameters_at_zero_leave_it_at_the_border() {
        let ggn = Matrix::from_rows(&[vec![1.0]]).unwrap();
        let choice = choose_prior_variance(-1.0, 0.0, |s2| log_det_of(&ggn, s2)).unwrap();
        assert!(choice.at_border && choice.variance <= 1e-6 * 1.01);
    }
}
