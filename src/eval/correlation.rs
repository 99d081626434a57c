//! Agreement of two lists of numbers: Pearson, Spearman, Kendall's tau-b, mean squared error and R^2 after a gauge.

use super::{EvalError, Metric, check_two, check_values, mean};
use serde::{Deserialize, Serialize};

/// Pearson's correlation. Undefined when a side is constant.
///
/// # Errors
/// Unequal lengths, nothing, NaN or infinite values.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<Metric, EvalError> {
    check_two("x", x, "y", y)?;
    if let Some(reason) = constant(x, y) {
        return Ok(reason);
    }
    let (x, y) = (standardised(x), standardised(y));
    let product: f64 = x.iter().zip(&y).map(|(a, b)| a * b).sum();
    Ok(Metric::of(product.clamp(-1.0, 1.0)))
}

/// Spearman's rank correlation, ties at mid-rank. Undefined when a side is constant.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<Metric, EvalError> {
    check_two("x", x, "y", y)?;
    if let Some(reason) = constant(x, y) {
        return Ok(reason);
    }
    pearson(&mid_ranks(x), &mid_ranks(y))
}

/// Kendall's tau-b in n log n (Knight 1966): pairs that y's merge sort must swap are discordant.
/// Undefined when a side is constant.
///
/// # Errors
/// As [`pearson`].
pub fn kendall_tau_b(x: &[f64], y: &[f64]) -> Result<Metric, EvalError> {
    check_two("x", x, "y", y)?;
    if let Some(reason) = constant(x, y) {
        return Ok(reason);
    }
    // Adding 0 turns -0.0 into 0.0, so that total_cmp agrees with ==.
    let mut pairs: Vec<(f64, f64)> = x.iter().zip(y).map(|(a, b)| (a + 0.0, b + 0.0)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let n = pairs.len() as u64;
    let all = n * (n - 1) / 2;
    let ties_x = tied(pairs.iter().map(|p| p.0));
    let ties_both = tied(pairs.iter().copied());
    let mut y: Vec<f64> = pairs.iter().map(|p| p.1).collect();
    let discordant = sort_counting(&mut y);
    let ties_y = tied(y.iter().copied());
    let untied = all + ties_both - ties_x - ties_y;
    let numerator = untied as f64 - 2.0 * discordant as f64;
    let denominator = ((all - ties_x) as f64 * (all - ties_y) as f64).sqrt();
    Ok(Metric::of((numerator / denominator).clamp(-1.0, 1.0)))
}

/// Pairs inside runs of equal neighbours.
fn tied<T: PartialEq>(sorted: impl Iterator<Item = T>) -> u64 {
    let (mut total, mut run, mut last) = (0, 0, None);
    for item in sorted {
        run = if last.as_ref() == Some(&item) {
            run + 1
        } else {
            0
        };
        total += run;
        last = Some(item);
    }
    total
}

/// Merge sort that counts inversions (strict).
fn sort_counting(values: &mut [f64]) -> u64 {
    let n = values.len();
    if n < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(n / 2);
    let mut swaps = sort_counting(left) + sort_counting(right);
    let mut merged = Vec::with_capacity(n);
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if right[j] < left[i] {
            swaps += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    swaps
}

/// Ranks from 0; equal values share the mean of their ranks.
pub fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let end = start
            + order[start..]
                .iter()
                .take_while(|i| values[**i] == value)
                .count()
                .max(1);
        for i in &order[start..end] {
            ranks[*i] = (start + end - 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

fn constant(x: &[f64], y: &[f64]) -> Option<Metric> {
    let same = |v: &[f64]| v.iter().all(|a| *a == v[0]);
    match (x.len(), same(x), same(y)) {
        (1, ..) => Some(Metric::undefined("one value has no correlation")),
        (n, true, true) => Some(Metric::undefined(format!(
            "both sides are constant over {n} values"
        ))),
        (n, true, false) => Some(Metric::undefined(format!(
            "the first side is {} at all {n} values",
            x[0]
        ))),
        (n, false, true) => Some(Metric::undefined(format!(
            "the second side is {} at all {n} values",
            y[0]
        ))),
        _ => None,
    }
}

/// Centred and scaled to length 1; scaling by the largest deviation first keeps squares in range.
fn standardised(values: &[f64]) -> Vec<f64> {
    let m = mean(values);
    let centred: Vec<f64> = values.iter().map(|v| v - m).collect();
    let largest = centred.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let scaled: Vec<f64> = centred.iter().map(|v| v / largest).collect();
    let length = scaled.iter().map(|v| v * v).sum::<f64>().sqrt();
    scaled.iter().map(|v| v / length).collect()
}

/// x -> scale x + shift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Affine {
    /// Factor, not negative.
    pub scale: f64,
    /// Summand.
    pub shift: f64,
}

/// What may be changed in a learned reward before it is compared with the true one: exactly what the objective leaves
/// undetermined, and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gauge {
    /// Nothing: compare as it is.
    Identity,
    /// The best common summand.
    Shift,
    /// The best positive factor and summand (a Bradley-Terry reward's free unit and zero).
    PositiveAffine,
    /// A map known from elsewhere, such as one fitted on other rows.
    Given(Affine),
}

impl Gauge {
    /// The map that brings `learned` closest to `truth` in squared error, within this gauge. When they point in opposite
    /// directions no positive factor helps: the answer is then scale 0, the limit of ever smaller factors.
    ///
    /// # Errors
    /// Unequal lengths, nothing, NaN or infinite values; a given map with a negative or non-finite factor.
    pub fn fit(&self, learned: &[f64], truth: &[f64]) -> Result<Affine, EvalError> {
        check_two("learned", learned, "truth", truth)?;
        let (ml, mt) = (mean(learned), mean(truth));
        match *self {
            Self::Identity => Ok(Affine {
                scale: 1.0,
                shift: 0.0,
            }),
            Self::Shift => Ok(Affine {
                scale: 1.0,
                shift: mt - ml,
            }),
            Self::PositiveAffine => {
                let (mut cross, mut square) = (0.0, 0.0);
                for (l, t) in learned.iter().zip(truth) {
                    cross += (l - ml) * (t - mt);
                    square += (l - ml) * (l - ml);
                }
                let scale = if square > 0.0 {
                    (cross / square).max(0.0)
                } else {
                    0.0
                };
                Ok(Affine {
                    scale,
                    shift: mt - scale * ml,
                })
            }
            Self::Given(map) => {
                check_values("given gauge", &[map.scale, map.shift])?;
                if map.scale < 0.0 {
                    return Err(EvalError::Range {
                        what: "gauge scale",
                        value: map.scale,
                        need: "not negative",
                    });
                }
                Ok(map)
            }
        }
    }
}

impl Affine {
    /// The map applied to every value.
    pub fn apply(&self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|v| self.scale * v + self.shift).collect()
    }
}

/// Mean of (prediction - truth)^2.
///
/// # Errors
/// As [`pearson`].
pub fn mean_squared_error(prediction: &[f64], truth: &[f64]) -> Result<Metric, EvalError> {
    check_two("prediction", prediction, "truth", truth)?;
    let sum: f64 = prediction
        .iter()
        .zip(truth)
        .map(|(p, t)| (p - t) * (p - t))
        .sum();
    Ok(Metric::of(sum / truth.len() as f64))
}

/// 1 - squared error / squared deviation of the truth from its mean; 0 for the constant mean, negative below it.
/// Undefined when the truth is constant.
///
/// # Errors
/// As [`pearson`].
pub fn r_squared(prediction: &[f64], truth: &[f64]) -> Result<Metric, EvalError> {
    let error = mean_squared_error(prediction, truth)?;
    if truth.iter().all(|t| *t == truth[0]) {
        return Ok(Metric::undefined(format!(
            "the truth is {} at all {} values",
            truth[0],
            truth.len()
        )));
    }
    Ok(error.map(|e| 1.0 - e / super::variance(truth)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{close, floats, golden};
    use proptest::prelude::*;

    #[test]
    fn correlations_match_the_golden_values() {
        let Some(file) = golden("irl_margin") else {
            return;
        };
        let (inputs, expected) = (&file["inputs"]["metrics"], &file["expected"]["metrics"]);
        let (x, y) = (
            floats(&inputs["true_reward"]),
            floats(&inputs["learned_reward"]),
        );
        let check = |name: &str, got: Metric| {
            close(
                &file,
                name,
                got.value.unwrap(),
                expected[name].as_f64().unwrap(),
            )
        };
        check("pearson", pearson(&x, &y).unwrap());
        check("spearman", spearman(&x, &y).unwrap());
        check("kendall_tau_b", kendall_tau_b(&x, &y).unwrap());
    }

    #[test]
    fn a_constant_side_is_undefined_with_a_reason() {
        for f in [pearson, spearman, kendall_tau_b] {
            let got = f(&[2.0, 2.0], &[1.0, 3.0]).unwrap();
            assert_eq!(
                got.undefined.as_deref(),
                Some("undefined: the first side is 2 at all 2 values")
            );
            assert!(f(&[1.0], &[1.0]).unwrap().value.is_none());
            assert!(
                f(&[1.0], &[1.0, 2.0]).is_err()
                    && f(&[], &[]).is_err()
                    && f(&[f64::INFINITY], &[1.0]).is_err()
            );
        }
        assert!(
            r_squared(&[1.0, 2.0], &[3.0, 3.0])
                .unwrap()
                .undefined
                .is_some()
        );
    }

    #[test]
    fn mid_ranks_share() {
        assert_eq!(mid_ranks(&[3.0, 1.0, 3.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
        assert_eq!(mid_ranks(&[0.0, -0.0]), [0.5, 0.5]);
    }

    #[test]
    fn the_best_affine_map_never_turns_the_reward_round() {
        let truth = [1.0, 2.0, 3.0];
        let map = Gauge::PositiveAffine.fit(&[0.0, 0.5, 1.0], &truth).unwrap();
        assert!((map.scale - 2.0).abs() < 1e-12 && (map.shift - 1.0).abs() < 1e-12);
        assert!(
            mean_squared_error(&map.apply(&[0.0, 0.5, 1.0]), &truth)
                .unwrap()
                .value
                .unwrap()
                < 1e-24
        );
        let turned = Gauge::PositiveAffine.fit(&[1.0, 0.5, 0.0], &truth).unwrap();
        assert_eq!(
            turned,
            Affine {
                scale: 0.0,
                shift: 2.0
            }
        );
        assert_eq!(
            r_squared(&turned.apply(&[1.0, 0.5, 0.0]), &truth)
                .unwrap()
                .value,
            Some(0.0)
        );
        assert_eq!(
            Gauge::Shift.fit(&[5.0, 7.0], &[0.0, 1.0]).unwrap(),
            Affine {
                scale: 1.0,
                shift: -5.5
            }
        );
        assert!(
            Gauge::Given(Affine {
                scale: -1.0,
                shift: 0.0
            })
            .fit(&[1.0], &[1.0])
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn kendall_equals_the_count_over_all_pairs(pairs in prop::collection::vec((-4i32..4, -4i32..4), 2..50)) {
            let x: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let y: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            let (mut c, mut a, mut b) = (0i64, 0i64, 0i64);
            for i in 0..pairs.len() {
                for j in 0..i {
                    let (u, v) = ((pairs[i].0 - pairs[j].0).signum(), (pairs[i].1 - pairs[j].1).signum());
                    c += i64::from(u * v);
                    a += i64::from(u != 0);
                    b += i64::from(v != 0);
                }
            }
            let got = kendall_tau_b(&x, &y).unwrap().value;
            prop_assert_eq!(got.is_some(), a > 0 && b > 0);
            if let Some(got) = got {
                prop_assert!((got - c as f64 / ((a * b) as f64).sqrt()).abs() < 1e-12);
            }
        }

        #[test]
        fn correlations_are_symmetric_and_keep_positive_affine_maps(
            pairs in prop::collection::vec((-9i32..9, -9i32..9), 2..30), scale in 0.1f64..50.0, shift in -9.0f64..9.0
        ) {
            let x: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let y: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            let mapped: Vec<f64> = x.iter().map(|v| scale * v + shift).collect();
            for f in [pearson, spearman, kendall_tau_b] {
                if let Some(got) = f(&x, &y).unwrap().value {
                    prop_assert!((-1.0..=1.0).contains(&(got * (1.0 - 1e-12))));
                    prop_assert!((f(&y, &x).unwrap().value.unwrap() - got).abs() < 1e-12);
                    prop_assert!((f(&mapped, &y).unwrap().value.unwrap() - got).abs() < 1e-9);
                }
            }
        }
    }
}
