//! Pair accuracy: how often the chosen answer's score is strictly above the rejected one's.

use super::gaussian::inverse_normal_cdf;
use super::resample::{Bootstrap, check_level};
use super::{EvalError, Interval, Metric, check_lengths, check_two};
use serde::{Deserialize, Serialize};

/// Counts of right, wrong and tied pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairAccuracy {
    /// Pairs.
    pub pairs: usize,
    /// score(chosen) > score(rejected).
    pub right: usize,
    /// Equal scores: counted here and, for the accuracy, as not right.
    pub ties: usize,
    /// right / pairs.
    pub accuracy: f64,
    /// ties / pairs.
    pub tie_rate: f64,
}

impl PairAccuracy {
    /// The accuracy with its 95 % Wilson interval.
    pub fn metric(&self) -> Metric {
        Metric::of(self.accuracy).with_interval(wilson(self.right, self.pairs, 0.95).ok())
    }
}

/// Accuracy over pairs; scores `[N]` each. A tie is wrong and is counted.
///
/// # Errors
/// Unequal lengths, no pairs, NaN or infinite scores.
pub fn pair_accuracy(chosen: &[f64], rejected: &[f64]) -> Result<PairAccuracy, EvalError> {
    let right = pair_outcomes(chosen, rejected)?
        .iter()
        .filter(|r| **r)
        .count();
    let ties = chosen.iter().zip(rejected).filter(|(c, r)| c == r).count();
    let pairs = chosen.len();
    Ok(PairAccuracy {
        pairs,
        right,
        ties,
        accuracy: right as f64 / pairs as f64,
        tie_rate: ties as f64 / pairs as f64,
    })
}

/// Per pair: is the chosen answer strictly above?
///
/// # Errors
/// As [`pair_accuracy`].
pub fn pair_outcomes(chosen: &[f64], rejected: &[f64]) -> Result<Vec<bool>, EvalError> {
    check_two("chosen scores", chosen, "rejected scores", rejected)?;
    Ok(chosen.iter().zip(rejected).map(|(c, r)| c > r).collect())
}

/// Share of `true` with its percentile bootstrap interval.
///
/// # Errors
/// No outcomes, or a level outside (0, 1).
pub fn bootstrap_share(outcomes: &[bool], bootstrap: &Bootstrap) -> Result<Metric, EvalError> {
    if outcomes.is_empty() {
        return Err(EvalError::Empty { what: "outcomes" });
    }
    let n = outcomes.len() as f64;
    let share = outcomes.iter().filter(|r| **r).count() as f64 / n;
    let interval = bootstrap.interval(outcomes.len(), |counts| {
        let right: u64 = counts
            .iter()
            .zip(outcomes)
            .filter(|(_, r)| **r)
            .map(|(c, _)| u64::from(*c))
            .sum();
        Some(right as f64 / n)
    })?;
    Ok(Metric::of(share).with_interval(interval))
}

/// Wilson's score interval of a share (Wilson 1927): stays inside [0, 1] and has a width at 0 and at 1.
///
/// # Errors
/// No trials, more successes than trials, a level outside (0, 1).
pub fn wilson(successes: usize, trials: usize, level: f64) -> Result<Interval, EvalError> {
    check_level(level)?;
    if trials == 0 {
        return Err(EvalError::Empty { what: "trials" });
    }
    if successes > trials {
        return Err(EvalError::Range {
            what: "successes",
            value: successes as f64,
            need: "at most the number of trials",
        });
    }
    let z = inverse_normal_cdf(0.5 + level / 2.0)?;
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let spread = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / spread;
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / spread;
    // At p = 0 and p = 1 the ends are exactly 0 and 1; rounding may put them just outside.
    Ok(Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
        level,
    })
}

/// Two methods on the same pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// accuracy(a) - accuracy(b), with the bootstrap interval over pairs.
    pub difference: Metric,
    /// Pairs that only a has right.
    pub only_a: usize,
    /// Pairs that only b has right.
    pub only_b: usize,
    /// Two-sided exact McNemar test: probability of a split at least this uneven if neither were better.
    pub p_value: f64,
}

/// Compares two methods pair by pair, which removes the pairs' common difficulty.
///
/// # Errors
/// Unequal lengths, no pairs, a level outside (0, 1).
pub fn compare_methods(
    a: &[bool],
    b: &[bool],
    bootstrap: &Bootstrap,
) -> Result<PairedComparison, EvalError> {
    check_lengths("outcomes of a", a, "outcomes of b", b)?;
    if a.is_empty() {
        return Err(EvalError::Empty { what: "outcomes" });
    }
    let gain: Vec<i64> = a
        .iter()
        .zip(b)
        .map(|(a, b)| i64::from(*a) - i64::from(*b))
        .collect();
    let only_a = gain.iter().filter(|g| **g > 0).count();
    let only_b = gain.iter().filter(|g| **g < 0).count();
    let n = gain.len() as f64;
    let interval = bootstrap.interval(gain.len(), |counts| {
        Some(
            gain.iter()
                .zip(counts)
                .map(|(g, c)| g * i64::from(*c))
                .sum::<i64>() as f64
                / n,
        )
    })?;
    let difference = Metric::of((only_a as f64 - only_b as f64) / n).with_interval(interval);
    Ok(PairedComparison {
        difference,
        only_a,
        only_b,
        p_value: sign_test(only_a, only_b),
    })
}

/// Two-sided exact sign test: 2 P(Binomial(a + b, 1/2) <= min(a, b)), at most 1.
fn sign_test(a: usize, b: usize) -> f64 {
    let n = a + b;
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut total = log_term.exp();
    for k in 1..=a.min(b) {
        log_term += ((n - k + 1) as f64).ln() - (k as f64).ln();
        total += log_term.exp();
    }
    (2.0 * total).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tie_is_wrong_and_counted() {
        let got = pair_accuracy(&[1.0, 0.0, 2.0, 2.0], &[0.0, 1.0, 2.0, 1.0]).unwrap();
        assert_eq!(
            (got.right, got.ties, got.accuracy, got.tie_rate),
            (2, 1, 0.5, 0.25)
        );
    }

    #[test]
    fn wrong_inputs_are_named() {
        assert!(matches!(
            pair_accuracy(&[], &[]),
            Err(EvalError::Empty {
                what: "chosen scores"
            })
        ));
        assert!(matches!(
            pair_accuracy(&[1.0], &[]),
            Err(EvalError::Lengths {
                first_len: 1,
                second_len: 0,
                ..
            })
        ));
        assert!(matches!(
            pair_accuracy(&[1.0], &[f64::NAN]),
            Err(EvalError::NotFinite {
                what: "rejected scores",
                index: 0,
                ..
            })
        ));
        assert!(
            wilson(0, 0, 0.95).is_err()
                && wilson(2, 1, 0.95).is_err()
                && wilson(1, 2, 1.5).is_err()
        );
    }

    #[test]
    fn wilson_matches_the_textbook() {
        // 8 of 10 at 95 %: 0.490 to 0.943; 0 of 10: 0 to 0.278 (z^2/(n + z^2)).
        let i = wilson(8, 10, 0.95).unwrap();
        assert!(
            (i.low - 0.4901625).abs() < 1e-6 && (i.high - 0.9433178).abs() < 1e-6,
            "{i:?}"
        );
        let i = wilson(0, 10, 0.95).unwrap();
        assert!(
            i.low == 0.0 && (i.high - 3.841_458_820_694_124 / 13.841_458_820_694_124).abs() < 1e-12,
            "{i:?}"
        );
    }

    #[test]
    fn the_sign_test_is_exact() {
        assert!((sign_test(9, 1) - 22.0 / 1024.0).abs() < 1e-15);
        assert_eq!(sign_test(0, 0), 1.0);
        assert_eq!(sign_test(5, 5), 1.0);
        assert!(sign_test(40_000, 40_000).is_finite());
    }

    #[test]
    fn a_method_that_wins_everywhere_is_ahead() {
        let got = compare_methods(&[true; 20], &[false; 20], &Bootstrap::default()).unwrap();
        assert_eq!(
            (got.difference.value, got.only_a, got.only_b),
            (Some(1.0), 20, 0)
        );
        assert!(got.p_value < 1e-5);
    }

    #[test]
    fn wilson_and_bootstrap_agree_on_many_pairs() {
        let outcomes: Vec<bool> = (0..1000).map(|i| i % 10 < 7).collect();
        let boot = bootstrap_share(&outcomes, &Bootstrap::default())
            .unwrap()
            .interval
            .unwrap();
        let exact = wilson(700, 1000, 0.95).unwrap();
        assert!((boot.low - exact.low).abs() < 0.006 && (boot.high - exact.high).abs() < 0.006);
    }

    proptest! {
        #[test]
        fn negation_maps_accuracy_to_one_minus_accuracy_minus_ties(
            pairs in prop::collection::vec((-5i32..5, -5i32..5), 1..60)
        ) {
            let c: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let r: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            let minus = |v: &[f64]| v.iter().map(|x| -x).collect::<Vec<_>>();
            let a = pair_accuracy(&c, &r).unwrap();
            let b = pair_accuracy(&minus(&c), &minus(&r)).unwrap();
            prop_assert!((b.accuracy - (1.0 - a.accuracy - a.tie_rate)).abs() < 1e-12);
            let up = |v: &[f64]| v.iter().map(|x| x.exp() + 3.0).collect::<Vec<_>>();
            prop_assert_eq!(pair_accuracy(&up(&c), &up(&r)).unwrap(), a);
        }
    }
}
