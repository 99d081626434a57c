//! An approximate posterior held against a reference: means, spreads, and how often the one's interval holds the other's
//! mean. Both are read as independent Gaussians, one an unknown.

use super::calibration::interval_half_width;
use super::{
    EvalError, Gauge, Metric, check_lengths, check_two, check_values, mean, pearson, spearman,
};
use serde::{Deserialize, Serialize};

/// Means and standard deviations of the same N unknowns.
#[derive(Clone, Copy, Debug)]
pub struct Gaussians<'a> {
    /// `[N]`.
    pub means: &'a [f64],
    /// `[N]`, above 0.
    pub stds: &'a [f64],
}

/// What two posteriors have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PosteriorAgreement {
    /// Unknowns.
    pub count: usize,
    /// Pearson's correlation of the means.
    pub pearson: Metric,
    /// Spearman's correlation of the means.
    pub spearman: Metric,
    /// Root mean square difference of the means.
    pub difference: Metric,
    /// The common summand that brings the approximate means closest to the reference.
    pub shift: f64,
    /// Root mean square difference of the means after it.
    pub difference_after_shift: Metric,
    /// Geometric mean of approximate over reference standard deviation: 1 when equally wide.
    pub std_ratio: Metric,
    /// Smallest ratio.
    pub least_std_ratio: f64,
    /// Largest ratio.
    pub greatest_std_ratio: f64,
    /// Share of reference means in the approximate 95 % interval.
    pub coverage: Metric,
    /// The same after the shift.
    pub coverage_after_shift: Metric,
}

/// Holds `approximate` against `reference`.
///
/// # Errors
/// Unequal lengths, nothing, NaN or infinite values, a standard deviation that is not positive.
pub fn posterior_agreement(
    approximate: Gaussians,
    reference: Gaussians,
) -> Result<PosteriorAgreement, EvalError> {
    check_two(
        "approximate means",
        approximate.means,
        "reference means",
        reference.means,
    )?;
    for side in [approximate, reference] {
        check_lengths("means", side.means, "stds", side.stds)?;
        check_values("stds", side.stds)?;
        if let Some(&value) = side.stds.iter().find(|s| **s <= 0.0) {
            return Err(EvalError::Range {
                what: "std",
                value,
                need: "above 0",
            });
        }
    }
    let (m, r) = (approximate.means, reference.means);
    let shift = Gauge::Shift.fit(m, r)?.shift;
    let half = interval_half_width(0.95)?;
    let off = |by: f64| -> Vec<f64> { m.iter().zip(r).map(|(a, b)| a + by - b).collect() };
    let root = |differences: &[f64]| {
        let squares: Vec<f64> = differences.iter().map(|d| d * d).collect();
        Metric::of(mean(&squares).sqrt())
    };
    let covered = |differences: &[f64]| {
        let inside = differences
            .iter()
            .zip(approximate.stds)
            .filter(|(d, s)| d.abs() <= half * **s)
            .count();
        Metric::of(inside as f64 / m.len() as f64)
    };
    let ratios: Vec<f64> = approximate
        .stds
        .iter()
        .zip(reference.stds)
        .map(|(a, b)| a / b)
        .collect();
    let logs: Vec<f64> = ratios.iter().map(|x| x.ln()).collect();
    let (raw, shifted) = (off(0.0), off(shift));
    Ok(PosteriorAgreement {
        count: m.len(),
        pearson: pearson(m, r)?,
        spearman: spearman(m, r)?,
        difference: root(&raw),
        shift,
        difference_after_shift: root(&shifted),
        std_ratio: Metric::of(mean(&logs).exp()),
        least_std_ratio: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        greatest_std_ratio: ratios.iter().copied().fold(0.0, f64::max),
        coverage: covered(&raw),
        coverage_after_shift: covered(&shifted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(m: &[f64], s: &[f64], rm: &[f64], rs: &[f64]) -> PosteriorAgreement {
        let of = |means, stds| Gaussians { means, stds };
        posterior_agreement(of(m, s), of(rm, rs)).unwrap()
    }

    #[test]
    fn a_posterior_agrees_with_itself() {
        let (m, s) = ([0.3, -1.0, 2.0], [0.5, 0.1, 1.0]);
        let same = agree(&m, &s, &m, &s);
        assert_eq!(same.pearson.value, Some(1.0));
        assert_eq!((same.difference.value, same.shift), (Some(0.0), 0.0));
        assert_eq!(same.coverage.value, Some(1.0));
        assert_eq!(same.std_ratio.value, Some(1.0));
    }

    #[test]
    fn a_shift_and_a_narrow_spread_show() {
        let reference = ([0.0, 1.0, 2.0, 3.0], [1.0; 4]);
        let result = agree(
            &[1.0, 2.0, 3.0, 4.5],
            &[0.5, 0.125, 0.5, 0.125],
            &reference.0,
            &reference.1,
        );
        assert!((result.shift + 1.125).abs() < 1e-12);
        // 1.96 x 0.5 is below 1: nothing is covered, and after the shift all whose error is -0.125 and none with 0.375.
        assert_eq!(result.coverage.value, Some(0.0));
        assert_eq!(result.coverage_after_shift.value, Some(0.75));
        assert!((result.std_ratio.value.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(
            (result.least_std_ratio, result.greatest_std_ratio),
            (0.125, 0.5)
        );
        assert!(result.spearman.value.unwrap() > 0.999 && result.pearson.value.unwrap() < 0.9999);
    }

    #[test]
    fn constant_means_have_no_correlation_and_bad_numbers_are_refused() {
        let flat = agree(&[0.0, 0.0], &[1.0, 1.0], &[0.0, 1.0], &[1.0, 1.0]);
        assert!(flat.pearson.undefined.is_some() && flat.coverage.value == Some(1.0));
        let of = |means, stds| Gaussians { means, stds };
        for (m, s) in [
            (&[][..], &[][..]),
            (&[1.0, 2.0], &[1.0]),
            (&[1.0, f64::NAN], &[1.0, 1.0]),
            (&[1.0, 2.0], &[1.0, 0.0]),
        ] {
            assert!(posterior_agreement(of(m, s), of(&[0.0, 0.0], &[1.0, 1.0])).is_err());
        }
    }
}
