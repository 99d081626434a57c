//! Is one system better than another? Both are measured on the same resamples of the test rows and, where they have as
//! many seeds, on the same draws of seeds, so that what is hard about the rows cancels.

use super::summary::{Series, differences};
use super::truths::{Direction, percentiles};
use crate::eval::Metric;
use serde::{Deserialize, Serialize};

/// How a system stands to the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Better, after the correction for many comparisons.
    Ahead,
    /// Worse, after the same.
    Behind,
    /// Not told apart by these rows and seeds.
    NotDistinguishable,
    /// One of the two has no figure.
    Undefined,
}

impl Standing {
    /// The words of the table.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::NotDistinguishable => "not distinguishable",
            Self::Undefined => "undefined",
        }
    }
}

/// A system's difference to the baseline in one truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The system.
    pub system: String,
    /// system - baseline, with the interval of the paired resamples (not corrected for many comparisons).
    #[serde(flatten)]
    pub metric: Metric,
    /// Two-sided p-value of the paired resamples.
    pub p_value: Option<f64>,
    /// The same after Holm's correction over all systems in this truth.
    pub p_adjusted: Option<f64>,
    /// How the system stands to the baseline.
    pub standing: Standing,
}

/// All systems against the baseline in one truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The truth.
    pub truth: String,
    /// The baseline's label.
    pub baseline: String,
    /// What a better value is.
    pub direction: Direction,
    /// One entry a system but the baseline.
    pub differences: Vec<Difference>,
}

/// Level of Holm-corrected p-values below which a difference counts.
const SIGNIFICANT: f64 = 0.05;

/// Compares systems (`label`, series) with the baseline in one truth. `None` where a better value is not larger or
/// smaller, or the baseline has none.
pub(super) fn compare(
    truth: &str,
    baseline: (&str, &Series),
    systems: &[(&str, &Series)],
) -> Option<Comparison> {
    let direction = baseline.1.aggregate.direction;
    let sign = match direction {
        Direction::Higher => 1.0,
        Direction::Lower => -1.0,
        Direction::Target(_) | Direction::Neither => return None,
    };
    let reference = baseline.1.aggregate.metric.value?;
    if baseline.1.resampled.is_empty() {
        return None;
    }
    let mut entries: Vec<Difference> = systems
        .iter()
        .map(|(label, series)| {
            let undefined = |metric| Difference {
                system: (*label).into(),
                metric,
                p_value: None,
                p_adjusted: None,
                standing: Standing::Undefined,
            };
            let Some(value) = series.aggregate.metric.value else {
                return undefined(series.aggregate.metric.clone());
            };
            let draws = differences(&series.resampled, &baseline.1.resampled);
            let Some(p_value) = two_sided(&draws) else {
                return undefined(Metric::undefined("too few resamples have a value"));
            };
            Difference {
                system: (*label).into(),
                metric: Metric::of(value - reference).with_interval(percentiles(draws.into_iter())),
                p_value: Some(p_value),
                p_adjusted: None,
                standing: Standing::NotDistinguishable,
            }
        })
        .collect();
    let p_values: Vec<f64> = entries.iter().filter_map(|entry| entry.p_value).collect();
    let mut adjusted = holm(&p_values).into_iter();
    for entry in entries.iter_mut().filter(|entry| entry.p_value.is_some()) {
        entry.p_adjusted = adjusted.next();
        let better = sign * entry.metric.value.unwrap_or(0.0);
        if entry.p_adjusted.is_some_and(|p| p < SIGNIFICANT) {
            entry.standing = if better > 0.0 {
                Standing::Ahead
            } else {
                Standing::Behind
            };
        }
    }
    Some(Comparison {
        truth: truth.into(),
        baseline: baseline.0.into(),
        direction,
        differences: entries,
    })
}

/// Twice the smaller share of resampled differences on either side of zero, with one added to count and total so that no
/// p-value is zero (Davison and Hinkley 1997, 4.2). `None` where less than half of the resamples are defined.
fn two_sided(draws: &[Option<f64>]) -> Option<f64> {
    let defined: Vec<f64> = draws.iter().copied().flatten().collect();
    if defined.is_empty() || defined.len() * 2 < draws.len() {
        return None;
    }
    let share = |side: &dyn Fn(f64) -> bool| {
        let count = defined.iter().filter(|d| side(**d)).count();
        (count + 1) as f64 / (defined.len() + 1) as f64
    };
    Some((2.0 * share(&|d| d <= 0.0).min(share(&|d| d >= 0.0))).min(1.0))
}

/// Holm's correction (Holm 1979): sorted upwards, p times the number of hypotheses left, never falling; in the order
/// given. It bounds the probability of a single false claim among all.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, index) in order.into_iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        largest = largest.max((p_values[index] * left).min(1.0));
        adjusted[index] = largest;
    }
    adjusted
}
