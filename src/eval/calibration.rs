//! Is a stated standard deviation right, whichever it is (own spread, ignorance or total)? Coverage, calibration
//! curve and error, z-scores, sharpness, negative log-likelihood.

use super::gaussian::{inverse_normal_cdf, normal_cdf, normal_log_density};
use super::{EvalError, Metric, check_lengths, check_two, check_values, mean, variance};
use serde::{Deserialize, Serialize};

/// Levels of the central intervals that are reported.
pub const LEVELS: [f64; 3] = [0.5, 0.8, 0.95];

/// One point of a calibration curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// What was promised: the level of an interval, or the mean probability in a bin.
    pub expected: f64,
    /// What was found: the share covered, or the share that came true.
    pub observed: f64,
    /// Values behind the point.
    pub count: usize,
}

/// Calibration of Gaussians against truths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Values.
    pub count: usize,
    /// Coverage of the central 50, 80 and 95 % intervals, mean +- z std.
    pub coverage: Vec<CalibrationPoint>,
    /// Coverage at levels 0.05, 0.10, ..., 0.95.
    pub curve: Vec<CalibrationPoint>,
    /// Mean of |observed - expected| over the curve.
    pub expected_calibration_error: Metric,
    /// Mean of z = (truth - mean)/std: 0 when unbiased.
    pub z_mean: Metric,
    /// Variance of z about its mean: 1 when calibrated, above 1 when overconfident.
    pub z_variance: Metric,
    /// Root mean square of the stated std: smaller is sharper, and only worth something when calibrated.
    pub sharpness: Metric,
    /// Mean of -log N(truth; mean, std^2), in nats: a proper score, lower is better.
    pub negative_log_likelihood: Metric,
}

/// Calibration of N(mean, std^2) against `truth`, all `[N]`.
///
/// # Errors
/// Unequal lengths, nothing, NaN or infinite values, a std that is not positive.
pub fn gaussian_calibration(
    means: &[f64],
    stds: &[f64],
    truth: &[f64],
) -> Result<CalibrationReport, EvalError> {
    check_two("means", means, "truth", truth)?;
    check_lengths("means", means, "stds", stds)?;
    check_values("stds", stds)?;
    if let Some(value) = stds.iter().copied().find(|s| *s <= 0.0) {
        return Err(EvalError::Range {
            what: "std",
            value,
            need: "above 0",
        });
    }
    let z: Vec<f64> = means
        .iter()
        .zip(stds)
        .zip(truth)
        .map(|((m, s), t)| (t - m) / s)
        .collect();
    // Smallest central level that covers each truth: 2 Phi(|z|) - 1.
    let covering: Vec<f64> = z.iter().map(|z| 1.0 - 2.0 * normal_cdf(-z.abs())).collect();
    let n = z.len();
    let at = |level: f64| {
        let inside = covering.iter().filter(|c| **c <= level).count();
        CalibrationPoint {
            expected: level,
            observed: inside as f64 / n as f64,
            count: n,
        }
    };
    let curve: Vec<CalibrationPoint> = (1..20).map(|i| at(f64::from(i) / 20.0)).collect();
    let gaps: Vec<f64> = curve
        .iter()
        .map(|p| (p.observed - p.expected).abs())
        .collect();
    let squares: Vec<f64> = stds.iter().map(|s| s * s).collect();
    let logs: Vec<f64> = means
        .iter()
        .zip(stds)
        .zip(truth)
        .map(|((m, s), t)| -normal_log_density(*t, *m, *s))
        .collect();
    Ok(CalibrationReport {
        count: n,
        coverage: LEVELS.iter().map(|l| at(*l)).collect(),
        curve,
        expected_calibration_error: Metric::of(mean(&gaps)),
        z_mean: Metric::of(mean(&z)),
        z_variance: Metric::of(variance(&z)),
        sharpness: Metric::of(mean(&squares).sqrt()),
        negative_log_likelihood: Metric::of(mean(&logs)),
    })
}

/// Half-width of the central interval at `level`, in standard deviations (1.96 at 0.95).
///
/// # Errors
/// The level is not in (0, 1).
pub fn interval_half_width(level: f64) -> Result<f64, EvalError> {
    super::resample::check_level(level)?;
    inverse_normal_cdf(0.5 + level / 2.0)
}

/// Calibration of probabilities: per bin of equal width, mean probability against share that came true. Empty bins are
/// left out.
///
/// # Errors
/// Unequal lengths, nothing, a probability outside [0, 1], no bins or more than 10,000.
pub fn probability_curve(
    probabilities: &[f64],
    outcomes: &[bool],
    bins: usize,
) -> Result<Vec<CalibrationPoint>, EvalError> {
    check_lengths("probabilities", probabilities, "outcomes", outcomes)?;
    check_values("probabilities", probabilities)?;
    if let Some(value) = probabilities
        .iter()
        .copied()
        .find(|p| !(0.0..=1.0).contains(p))
    {
        return Err(EvalError::Range {
            what: "probability",
            value,
            need: "between 0 and 1",
        });
    }
    if bins == 0 || bins > 10_000 {
        return Err(EvalError::Range {
            what: "bins",
            value: bins as f64,
            need: "between 1 and 10000",
        });
    }
    let mut sums = vec![(0.0, 0usize, 0usize); bins];
    for (p, outcome) in probabilities.iter().zip(outcomes) {
        let bin = &mut sums[((p * bins as f64) as usize).min(bins - 1)];
        bin.0 += p;
        bin.1 += usize::from(*outcome);
        bin.2 += 1;
    }
    let point = |&(sum, hits, count): &(f64, usize, usize)| CalibrationPoint {
        expected: sum / count as f64,
        observed: hits as f64 / count as f64,
        count,
    };
    Ok(sums.iter().filter(|b| b.2 > 0).map(point).collect())
}

/// Expected calibration error of probabilities (arXiv 1706.04599, Eq. 5): mean of |observed - expected| over values.
///
/// # Errors
/// As [`probability_curve`].
pub fn expected_calibration_error(
    probabilities: &[f64],
    outcomes: &[bool],
    bins: usize,
) -> Result<Metric, EvalError> {
    let curve = probability_curve(probabilities, outcomes, bins)?;
    let total: f64 = curve
        .iter()
        .map(|p| p.count as f64 * (p.observed - p.expected).abs())
        .sum();
    Ok(Metric::of(total / probabilities.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact quantiles of N(0, 1): a sample without noise.
    fn quantiles(n: usize) -> Vec<f64> {
        (0..n)
            .map(|i| inverse_normal_cdf((i as f64 + 0.5) / n as f64).unwrap())
            .collect()
    }

    #[test]
    fn a_right_gaussian_covers_what_it_promises() {
        let z = quantiles(2000);
        let truth: Vec<f64> = z.iter().map(|z| 3.0 + 2.0 * z).collect();
        let got = gaussian_calibration(&[3.0; 2000], &[2.0; 2000], &truth).unwrap();
        for point in &got.coverage {
            assert!((point.observed - point.expected).abs() < 1e-3, "{point:?}");
        }
        assert!(got.expected_calibration_error.value.unwrap() < 1e-3);
        assert!(
            got.z_mean.value.unwrap().abs() < 1e-9
                && (got.z_variance.value.unwrap() - 1.0).abs() < 5e-3
        );
        assert_eq!(got.sharpness.value, Some(2.0));
        // Entropy of N(0, 4).
        let entropy = 0.5 + 2f64.ln() + crate::eval::gaussian::HALF_LOG_TWO_PI;
        assert!((got.negative_log_likelihood.value.unwrap() - entropy).abs() < 3e-3);
    }

    #[test]
    fn an_overconfident_gaussian_is_found_out() {
        let got = gaussian_calibration(&[0.0; 500], &[0.5; 500], &quantiles(500)).unwrap();
        assert!((got.z_variance.value.unwrap() - 4.0).abs() < 0.05);
        // P(|z| < 1.96/2) = 0.673.
        assert!((got.coverage[2].observed - 0.673).abs() < 5e-3);
        assert!(got.expected_calibration_error.value.unwrap() > 0.15);
    }

    #[test]
    fn bad_inputs_are_errors() {
        assert!(matches!(
            gaussian_calibration(&[0.0], &[0.0], &[0.0]),
            Err(EvalError::Range { what: "std", .. })
        ));
        assert!(gaussian_calibration(&[0.0], &[1.0, 1.0], &[0.0]).is_err());
        assert!(gaussian_calibration(&[], &[], &[]).is_err());
        assert!(expected_calibration_error(&[1.1], &[true], 10).is_err());
        assert!(expected_calibration_error(&[0.1], &[true], 0).is_err());
    }

    #[test]
    fn expected_calibration_error_weighs_bins_by_count() {
        // Bin [0.2, 0.3): three values, one true (gap 1/3 - 0.25); probability 1 lands in the last bin (gap 0).
        let got =
            expected_calibration_error(&[0.25, 0.25, 0.25, 1.0], &[true, false, false, true], 10)
                .unwrap();
        assert!((got.value.unwrap() - 0.75 * (1.0 / 3.0 - 0.25)).abs() < 1e-15);
    }

    #[test]
    fn half_widths_are_the_familiar_ones() {
        assert!((interval_half_width(0.95).unwrap() - 1.959_963_984_540_054).abs() < 1e-12);
        assert!(interval_half_width(0.0).is_err());
    }
}
