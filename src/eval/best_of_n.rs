//! Best-of-n: what drawing n answers and keeping the best-scored one does, and what to subtract for a score's
//! standard deviation (own spread, ignorance or total).

use super::{EvalError, check_lengths, check_two, check_values, mean, variance};
use serde::{Deserialize, Serialize};

/// Upper bound on KL(best-of-n || base), in nats: log n - (n-1)/n (arXiv 2009.01325, appendix; only a bound for discrete
/// answers, arXiv 2401.01879). Label a plot "KL bound".
///
/// # Errors
/// n = 0.
pub fn kl_bound(n: usize) -> Result<f64, EvalError> {
    check_draws(n, usize::MAX)?;
    let n = n as f64;
    Ok(n.ln() - (n - 1.0) / n)
}

/// The law of best-of-n over a finite set of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExactLaw {
    /// Answers drawn.
    pub n: usize,
    /// Probability of each answer to be kept, `[K]`.
    pub distribution: Vec<f64>,
    /// KL from the base distribution, in nats.
    pub kl: f64,
    /// Its bound, [`kl_bound`].
    pub kl_bound: f64,
    /// Mean reward of the kept answer.
    pub expected_reward: f64,
    /// Probability to beat one base draw, ties half.
    pub win_rate: f64,
    /// n/(n+1), the most that the win rate can be.
    pub win_rate_bound: f64,
}

/// Exact law: P(score v is kept) = F(v)^n - F(v-)^n, shared among answers of that score in proportion to their base
/// probability (the first of the tied draws is kept).
///
/// # Errors
/// Unequal lengths, nothing, NaN, a negative probability, a total that is not 1 (to 1e-6), n = 0.
pub fn exact_law(probabilities: &[f64], rewards: &[f64], n: usize) -> Result<ExactLaw, EvalError> {
    check_two("probabilities", probabilities, "rewards", rewards)?;
    check_draws(n, usize::MAX)?;
    if let Some(value) = probabilities.iter().copied().find(|p| *p < 0.0) {
        return Err(EvalError::Range {
            what: "probability",
            value,
            need: "not negative",
        });
    }
    let total: f64 = probabilities.iter().sum();
    if (total - 1.0).abs() > 1e-6 {
        return Err(EvalError::Range {
            what: "sum of probabilities",
            value: total,
            need: "1",
        });
    }
    let mut order: Vec<usize> = (0..rewards.len()).collect();
    order.sort_by(|a, b| rewards[*a].total_cmp(&rewards[*b]));
    let mut distribution = vec![0.0; rewards.len()];
    let (mut below, mut win_rate) = (0.0f64, 0.0);
    for group in order.chunk_by(|a, b| rewards[*a] == rewards[*b]) {
        let here: f64 = group.iter().map(|i| probabilities[*i]).sum();
        let mass = power(below + here, n) - power(below, n);
        if here > 0.0 {
            group
                .iter()
                .for_each(|i| distribution[*i] = mass * probabilities[*i] / here);
        }
        win_rate += mass * (below + here / 2.0);
        below += here;
    }
    let kl = distribution
        .iter()
        .zip(probabilities)
        .filter(|(q, _)| **q > 0.0)
        .map(|(q, p)| q * (q / p).ln())
        .sum();
    let expected_reward = distribution.iter().zip(rewards).map(|(q, r)| q * r).sum();
    let win_rate_bound = n as f64 / (n as f64 + 1.0);
    Ok(ExactLaw {
        n,
        distribution,
        kl,
        kl_bound: kl_bound(n)?,
        expected_reward,
        win_rate,
        win_rate_bound,
    })
}

fn power(base: f64, n: usize) -> f64 {
    base.powf(n as f64)
}

/// One point of a best-of-n curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Answers drawn.
    pub n: usize,
    /// Mean score of the winner by the score that chose it.
    pub proxy: f64,
    /// Mean score of the winner by another judge.
    pub gold: f64,
    /// Bound on the KL that this n costs.
    pub kl_bound: f64,
}

/// Unbiased curve for n = 1..=N from N scored samples of one prompt: the mean over all subsets of size n. Never resamples
/// with replacement, which biases the maximum down. `gold` must come from another model than `proxy`.
///
/// The winner of a subset lies in the group of equal proxy scores at sorted places lo..hi with probability
/// (C(hi, n) - C(lo, n)) / C(N, n), and by symmetry it is each of the group equally often.
///
/// # Errors
/// Unequal lengths, nothing, NaN or infinite scores.
pub fn curve(proxy: &[f64], gold: &[f64]) -> Result<Vec<CurvePoint>, EvalError> {
    check_two("proxy", proxy, "gold", gold)?;
    let total = proxy.len();
    let mut order: Vec<usize> = (0..total).collect();
    order.sort_by(|a, b| proxy[*a].total_cmp(&proxy[*b]));
    let groups: Vec<(usize, f64, f64)> = order
        .chunk_by(|a, b| proxy[*a] == proxy[*b])
        .map(|g| {
            (
                g.len(),
                proxy[g[0]],
                g.iter().map(|i| gold[*i]).sum::<f64>() / g.len() as f64,
            )
        })
        .collect();
    let point = |n| {
        let (mut place, mut p, mut g) = (0, 0.0, 0.0);
        for &(size, proxy, gold) in &groups {
            let weight = subset_share(place + size, n, total) - subset_share(place, n, total);
            p += weight * proxy;
            g += weight * gold;
            place += size;
        }
        Ok(CurvePoint {
            n,
            proxy: p,
            gold: g,
            kl_bound: kl_bound(n)?,
        })
    };
    (1..=total).map(point).collect()
}

/// Unbiased mean of the largest of n out of the given samples.
///
/// # Errors
/// Nothing, NaN or infinite values, n = 0 or more than there are samples.
pub fn expected_maximum(samples: &[f64], n: usize) -> Result<f64, EvalError> {
    check_values("samples", samples)?;
    check_draws(n, samples.len())?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |k| subset_share(k, n, sorted.len());
    Ok(sorted
        .iter()
        .enumerate()
        .map(|(j, x)| x * (share(j + 1) - share(j)))
        .sum())
}

/// C(k, n) / C(total, n) as a product of factors at most 1, so that nothing overflows; 0 for k < n.
fn subset_share(k: usize, n: usize, total: usize) -> f64 {
    if k < n {
        0.0
    } else {
        (0..n)
            .map(|i| (k - i) as f64 / (total - i) as f64)
            .product()
    }
}

fn check_draws(n: usize, most: usize) -> Result<(), EvalError> {
    if n >= 1 && n <= most {
        return Ok(());
    }
    Err(EvalError::Range {
        what: "n",
        value: n as f64,
        need: "at least 1 and at most the number of samples",
    })
}

/// What is taken off a score for its standard deviation, ignorance in arXiv 2402.13210. The two penalties have different units: choose k
/// for each on held-out prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Penalty {
    /// mean.
    None,
    /// mean - k std.
    Std(f64),
    /// mean - k std^2.
    Variance(f64),
}

impl Penalty {
    /// Penalised scores, `[K]`.
    ///
    /// # Errors
    /// Unequal lengths, nothing, NaN, a negative std.
    pub fn apply(&self, means: &[f64], stds: &[f64]) -> Result<Vec<f64>, EvalError> {
        check_two("means", means, "stds", stds)?;
        if let Some(value) = stds.iter().copied().find(|s| *s < 0.0) {
            return Err(EvalError::Range {
                what: "std",
                value,
                need: "not negative",
            });
        }
        let score = |(m, s): (&f64, &f64)| match *self {
            Self::None => *m,
            Self::Std(k) => m - k * s,
            Self::Variance(k) => m - k * s * s,
        };
        Ok(means.iter().zip(stds).map(score).collect())
    }
}

/// The place of the largest score, the first of equal ones.
///
/// # Errors
/// Nothing, NaN or infinite scores.
pub fn best(scores: &[f64]) -> Result<usize, EvalError> {
    check_values("scores", scores)?;
    Ok((1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best }))
}

/// How the scores of several models become one (arXiv 2310.02743).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ensemble {
    /// Mean over models.
    Mean,
    /// The least over models.
    Worst,
    /// Mean - k times the population variance over models.
    MeanMinusVariance(f64),
    /// Mean - k times the population standard deviation over models.
    MeanMinusStd(f64),
}

impl Ensemble {
    /// Combined scores `[K]` from `scores[model][answer]`. Models with other scales are [`z_scored`] first.
    ///
    /// # Errors
    /// No models, rows of unequal length, NaN or infinite scores.
    pub fn combine(&self, scores: &[Vec<f64>]) -> Result<Vec<f64>, EvalError> {
        let Some(first) = scores.first() else {
            return Err(EvalError::Empty { what: "models" });
        };
        for model in scores {
            check_lengths(
                "scores of the first model",
                first,
                "scores of another model",
                model,
            )?;
            check_values("model scores", model)?;
        }
        let combine = |i: usize| {
            let column: Vec<f64> = scores.iter().map(|m| m[i]).collect();
            match *self {
                Self::Mean => mean(&column),
                Self::Worst => column.iter().copied().fold(f64::INFINITY, f64::min),
                Self::MeanMinusVariance(k) => mean(&column) - k * variance(&column),
                Self::MeanMinusStd(k) => mean(&column) - k * variance(&column).sqrt(),
            }
        };
        Ok((0..first.len()).map(combine).collect())
    }
}

/// (score - mean) / population std; all 0 when the scores are equal.
///
/// # Errors
/// Nothing, NaN or infinite scores.
pub fn z_scored(scores: &[f64]) -> Result<Vec<f64>, EvalError> {
    check_values("scores", scores)?;
    let (m, std) = (mean(scores), variance(scores).sqrt());
    Ok(scores
        .iter()
        .map(|s| if std > 0.0 { (s - m) / std } else { 0.0 })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{all_close, close, floats, golden, rows};
    use proptest::prelude::*;

    #[test]
    fn the_kl_bound_matches_the_golden_values() {
        let Some(file) = golden("best_of_n") else {
            return;
        };
        for point in file["expected"]["continuous_kl"].as_array().unwrap() {
            let n = point["n"].as_u64().unwrap() as usize;
            close(
                &file,
                "kl",
                kl_bound(n).unwrap(),
                point["value"].as_f64().unwrap(),
            );
        }
        assert!(kl_bound(0).is_err());
    }

    #[test]
    fn the_exact_law_matches_the_golden_values() {
        let Some(file) = golden("best_of_n") else {
            return;
        };
        let inputs = &file["inputs"]["discrete"];
        for expected in file["expected"]["discrete"].as_array().unwrap() {
            let n = expected["n"].as_u64().unwrap() as usize;
            let got = exact_law(
                &floats(&inputs["probabilities"]),
                &floats(&inputs["rewards"]),
                n,
            )
            .unwrap();
            all_close(
                &file,
                "distribution",
                &got.distribution,
                &floats(&expected["distribution"]),
            );
            let value = |key: &str| expected[key].as_f64().unwrap();
            close(&file, "kl_exact", got.kl, value("kl_exact"));
            close(&file, "kl_formula", got.kl_bound, value("kl_formula"));
            close(
                &file,
                "expected_reward",
                got.expected_reward,
                value("expected_reward"),
            );
            close(&file, "win_rate", got.win_rate, value("win_rate"));
            close(
                &file,
                "win_rate_bound",
                got.win_rate_bound,
                value("win_rate_bound"),
            );
        }
    }

    #[test]
    fn the_curve_matches_the_golden_values() {
        let Some(file) = golden("best_of_n") else {
            return;
        };
        let (proxy, gold) = (
            floats(&file["inputs"]["curve"]["proxy"]),
            floats(&file["inputs"]["curve"]["gold"]),
        );
        let got = curve(&proxy, &gold).unwrap();
        let expected = file["expected"]["curve"].as_array().unwrap();
        assert_eq!(got.len(), expected.len());
        for (point, expected) in got.iter().zip(expected) {
            close(
                &file,
                "proxy",
                point.proxy,
                expected["proxy"].as_f64().unwrap(),
            );
            close(
                &file,
                "gold",
                point.gold,
                expected["gold"].as_f64().unwrap(),
            );
            close(
                &file,
                "maximum",
                expected_maximum(&proxy, point.n).unwrap(),
                point.proxy,
            );
        }
    }

    #[test]
    fn penalised_and_ensemble_choices_match_the_golden_values() {
        let Some(file) = golden("best_of_n") else {
            return;
        };
        let (inputs, expected) = (&file["inputs"]["penalised"], &file["expected"]["penalised"]);
        let k = inputs["k"].as_f64().unwrap();
        let penalties = [
            ("mean", Penalty::None),
            ("std", Penalty::Std(k)),
            ("variance", Penalty::Variance(k)),
        ];
        for (name, penalty) in penalties {
            for (row, (mu, sd)) in rows(&inputs["mu"])
                .iter()
                .zip(rows(&inputs["sd"]))
                .enumerate()
            {
                let pick = best(&penalty.apply(mu, &sd).unwrap()).unwrap();
                assert_eq!(
                    pick as u64,
                    expected[name][row].as_u64().unwrap(),
                    "{name} {row}"
                );
            }
        }
        let (inputs, expected) = (&file["inputs"]["ensemble"], &file["expected"]["ensemble"]);
        let (scores, k) = (rows(&inputs["scores"]), inputs["k"].as_f64().unwrap());
        let pick = |e: Ensemble| best(&e.combine(&scores).unwrap()).unwrap() as u64;
        assert_eq!(pick(Ensemble::Mean), expected["mean"].as_u64().unwrap());
        assert_eq!(pick(Ensemble::Worst), expected["worst"].as_u64().unwrap());
        assert_eq!(
            pick(Ensemble::MeanMinusVariance(k)),
            expected["mean_minus_k_variance"].as_u64().unwrap()
        );
        let objective = Ensemble::MeanMinusVariance(k).combine(&scores).unwrap();
        all_close(
            &file,
            "objective",
            &objective,
            &floats(&expected["objective"]),
        );
    }

    #[test]
    fn small_cases_done_by_hand() {
        assert!((expected_maximum(&[4.0, 1.0, 2.0], 2).unwrap() - 10.0 / 3.0).abs() < 1e-15);
        assert!((kl_bound(4).unwrap() - 0.636_294_361_119_890_6).abs() < 1e-15);
        let (mu, sd) = ([1.0, 1.2], [0.1, 0.7]);
        assert_eq!(
            best(&Penalty::Std(0.5).apply(&mu, &sd).unwrap()).unwrap(),
            0
        );
        assert_eq!(
            best(&Penalty::Std(0.25).apply(&mu, &sd).unwrap()).unwrap(),
            1
        );
        assert_eq!(best(&[1.0, 3.0, 3.0]).unwrap(), 1);
        assert_eq!(z_scored(&[2.0, 2.0]).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn a_binary_answer_costs_at_most_log_two() {
        for n in [1, 2, 10, 1000] {
            let law = exact_law(&[0.5, 0.5], &[0.0, 1.0], n).unwrap();
            assert!(law.kl <= std::f64::consts::LN_2 + 1e-12 && law.kl <= law.kl_bound + 1e-12);
        }
    }

    #[test]
    fn bad_inputs_are_errors() {
        assert!(exact_law(&[0.5, 0.6], &[0.0, 1.0], 2).is_err());
        assert!(exact_law(&[1.5, -0.5], &[0.0, 1.0], 2).is_err());
        assert!(expected_maximum(&[1.0], 2).is_err() && curve(&[], &[]).is_err());
        assert!(Penalty::None.apply(&[1.0], &[-1.0]).is_err());
        assert!(
            Ensemble::Mean.combine(&[]).is_err()
                && Ensemble::Mean.combine(&[vec![1.0], vec![]]).is_err()
        );
    }

    proptest! {
        #[test]
        fn the_exact_law_is_a_distribution_below_its_bounds(
            weights in prop::collection::vec((0.01f64..1.0, -3i32..3), 1..8), n in 1usize..20
        ) {
            let total: f64 = weights.iter().map(|w| w.0).sum();
            let p: Vec<f64> = weights.iter().map(|w| w.0 / total).collect();
            let r: Vec<f64> = weights.iter().map(|w| f64::from(w.1)).collect();
            let law = exact_law(&p, &r, n).unwrap();
            prop_assert!((law.distribution.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(law.kl >= -1e-9 && law.kl <= law.kl_bound + 1e-9);
            prop_assert!(law.win_rate <= law.win_rate_bound + 1e-9);
        }
    }
}
