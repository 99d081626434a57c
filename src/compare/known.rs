//! Token rewards against known ones: whether they go together, what their sign decides, and how far their intervals reach.
//!
//! Correlations are of the rewards as they are. Errors, coverage and sharpness are after the best positive scale and offset,
//! which a preference leaves open. "Undesirable" is a known reward of at most 0, as max-margin IRL has it (arXiv 2410.12491),
//! decided by the reward's own sign and again after that scale and offset. The map and, for Spearman, the ranks are those of
//! all test rows, also on resamples.

use super::kendall::Kendall;
use super::truths::{Assessment, CHANCE, Direction, Probe, Readings};
use crate::eval::correlation::mid_ranks;
use crate::eval::gaussian::normal_cdf;
use crate::eval::{
    CalibrationReport, EvalError, Gauge, Metric, RewardRecovery, gaussian_calibration,
    mean_squared_error,
};
use crate::reward::TokenRewardRecord;
use crate::train::{KnownRewards, NO_POSITIVE_FACTOR, known_rewards};
use std::rc::Rc;

/// Most points of a scatter plot that a cell keeps.
const SCATTER_POINTS: usize = 300;

/// Most tokens with a known reward that a cell keeps for the ensemble of its seeds.
const KNOWN_TOKENS: usize = 3000;

/// Name of the first of them.
pub(super) const CORRELATED: &str = "correlation with known rewards";

const NO_TRUTH: &str = "the test rows have no known token rewards";

/// The floor of a decision: most tokens may be undesirable.
const ALL_UNDESIRABLE: &str = "every token called undesirable";

/// What is measured.
#[derive(Clone, Copy)]
enum Known {
    Pearson,
    Spearman,
    Kendall,
    /// F1 of "undesirable", by the reward's own sign.
    Undesirable,
    /// The same after scale and offset.
    UndesirableFitted,
    SquaredError,
    /// Of the central intervals of a level.
    Coverage(Level),
    CalibrationError,
    Sharpness,
}

/// A level of which coverage is told.
#[derive(Clone, Copy)]
enum Level {
    Half,
    FourFifths,
    NineteenTwentieths,
}

impl Level {
    /// Its place among the levels of [`CalibrationReport::coverage`].
    fn of_report(self) -> usize {
        match self {
            Self::Half => 0,
            Self::FourFifths => 1,
            Self::NineteenTwentieths => 2,
        }
    }

    /// Its place among 5 %, 10 %, ..., 95 %.
    fn of_twentieths(self) -> usize {
        match self {
            Self::Half => 9,
            Self::FourFifths => 15,
            Self::NineteenTwentieths => 18,
        }
    }
}

/// Everything that is measured, in the order of the tables.
const KNOWN: [(Known, &str, Direction); 11] = [
    (Known::Pearson, CORRELATED, Direction::Higher),
    (
        Known::Spearman,
        "rank correlation with known rewards",
        Direction::Higher,
    ),
    (
        Known::Kendall,
        "Kendall correlation with known rewards",
        Direction::Higher,
    ),
    (
        Known::Undesirable,
        "F1, undesirable tokens",
        Direction::Higher,
    ),
    (
        Known::UndesirableFitted,
        "F1, undesirable tokens, fitted zero",
        Direction::Higher,
    ),
    (Known::SquaredError, "mean squared error", Direction::Lower),
    (
        Known::Coverage(Level::Half),
        "coverage of 50 % intervals",
        Direction::Target(0.5),
    ),
    (
        Known::Coverage(Level::FourFifths),
        "coverage of 80 % intervals",
        Direction::Target(0.8),
    ),
    (
        Known::Coverage(Level::NineteenTwentieths),
        "coverage of 95 % intervals",
        Direction::Target(0.95),
    ),
    (
        Known::CalibrationError,
        "calibration error",
        Direction::Lower,
    ),
    (
        Known::Sharpness,
        "sharpness (root mean square of sigma)",
        Direction::Neither,
    ),
];

/// Adds everything of [`KNOWN`] to the probes, and what plots are drawn from to the assessment.
pub(super) fn known<'a>(
    readings: &Readings<'_>,
    rows: &[&[TokenRewardRecord]],
    probes: &mut Vec<Probe<'a>>,
    assessment: &mut Assessment,
) -> Result<(), EvalError> {
    let all = known_rewards(readings.records);
    let n = all.truths.len();
    let probe = |name: &str, direction, point| Probe {
        name: name.into(),
        unit: "tokens",
        n,
        direction,
        floor: None,
        point,
        statistic: Box::new(|_: &[u32]| None),
    };
    if let Some(reason) = readings.no_tokens.or((n == 0).then_some(NO_TRUTH)) {
        for (_, name, direction) in KNOWN {
            probes.push(probe(name, direction, Metric::undefined(reason)));
        }
        return Ok(());
    }
    let map = Gauge::PositiveAffine.fit(&all.means, &all.truths)?;
    let mapped = map.apply(&all.means);
    let stds: Vec<f64> = all.stds.iter().map(|std| std * map.scale).collect();
    let no_sigma = readings
        .no_sigma
        .or((map.scale <= 0.0).then_some(NO_POSITIVE_FACTOR));
    let calibration = match no_sigma {
        None => Some(gaussian_calibration(&mapped, &stds, &all.truths)?),
        Some(_) => None,
    };
    let of_calibration = |pick: &dyn Fn(&CalibrationReport) -> Metric| match &calibration {
        Some(report) => pick(report),
        None => Metric::undefined(no_sigma.unwrap_or(NO_POSITIVE_FACTOR)),
    };
    let recovery = RewardRecovery::of_rewards(&all.means, &all.truths)?;
    let error = mean_squared_error(&mapped, &all.truths)?;
    let point = |known| match known {
        Known::Pearson => recovery.pearson.clone(),
        Known::Spearman => recovery.spearman.clone(),
        Known::Kendall => recovery.kendall.clone(),
        Known::Undesirable => recovery.as_recovered.f1.clone(),
        Known::UndesirableFitted => match &recovery.after_gauge {
            Some(decision) => decision.f1.clone(),
            None => Metric::undefined(NO_POSITIVE_FACTOR),
        },
        Known::SquaredError => error.clone(),
        Known::Coverage(level) => of_calibration(&|report| {
            let share = &report.coverage[level.of_report()];
            Metric::of(share.observed)
        }),
        Known::CalibrationError => {
            of_calibration(&|report| report.expected_calibration_error.clone())
        }
        Known::Sharpness => of_calibration(&|report| report.sharpness.clone()),
    };
    let all_undesirable = f1(
        recovery.undesirable as f64,
        (n - recovery.undesirable) as f64,
    );
    let floor = |known| match known {
        Known::Pearson | Known::Spearman | Known::Kendall => Some((CHANCE, 0.0)),
        Known::Undesirable | Known::UndesirableFitted => {
            all_undesirable.map(|f1| (ALL_UNDESIRABLE, f1))
        }
        _ => None,
    };
    let counted = Rc::new(Counted {
        sums: sums(rows, &all, &mapped, &stds),
        kendall: Kendall::new(&all.means, &all.truths, &rows_of_tokens(rows)),
    });
    for (known, name, direction) in KNOWN {
        let counted = Rc::clone(&counted);
        probes.push(Probe {
            floor: floor(known),
            statistic: Box::new(move |counts| counted.measure(known, counts)),
            ..probe(name, direction, point(known))
        });
    }
    assessment.scatter = scatter(&all.truths, &mapped);
    assessment.reliability = calibration.map(|report| report.curve).unwrap_or_default();
    if map.scale > 0.0 {
        let has_sigma = readings.no_sigma.is_none();
        let kept = || (0..n).step_by(n.div_ceil(KNOWN_TOKENS).max(1));
        let of_tokens = rows_of_tokens(rows);
        assessment.known_rows = kept().map(|i| of_tokens[i] as u32).collect();
        assessment.known = kept()
            .map(|i| {
                let std = if has_sigma { stds[i] } else { 0.0 };
                [mapped[i] as f32, std as f32, all.truths[i] as f32]
            })
            .collect();
    }
    Ok(())
}

/// What a resample of rows is measured from.
struct Counted {
    sums: Vec<Sums>,
    kendall: Kendall,
}

/// Sums over one row's tokens, from which correlations, errors and coverage follow.
#[derive(Clone, Default)]
struct Sums {
    tokens: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    /// The same of ranks.
    ranks: [f64; 5],
    /// Undesirable tokens that are called so, and tokens that are one of both alone.
    own: [f64; 2],
    /// The same after scale and offset.
    fitted: [f64; 2],
    squared_error: f64,
    variance: f64,
    /// Tokens inside the central intervals at 5 %, 10 %, ..., 95 %.
    inside: [f64; 19],
}

impl Counted {
    /// The value where each row counts `counts` times.
    fn measure(&self, known: Known, counts: &[u32]) -> Option<f64> {
        let total = |pick: &dyn Fn(&Sums) -> f64| -> f64 {
            self.sums
                .iter()
                .zip(counts)
                .map(|(sums, count)| f64::from(*count) * pick(sums))
                .sum()
        };
        let n = total(&|s| s.tokens);
        if n <= 0.0 {
            return None;
        }
        let share = |level: usize| total(&|s| s.inside[level]) / n;
        match known {
            Known::Pearson => correlation(
                n,
                [
                    total(&|s| s.x),
                    total(&|s| s.y),
                    total(&|s| s.xx),
                    total(&|s| s.yy),
                    total(&|s| s.xy),
                ],
            ),
            Known::Spearman => correlation(n, [0, 1, 2, 3, 4].map(|i| total(&|s| s.ranks[i]))),
            Known::Kendall => self.kendall.of(counts),
            Known::Undesirable => f1(total(&|s| s.own[0]), total(&|s| s.own[1])),
            Known::UndesirableFitted => f1(total(&|s| s.fitted[0]), total(&|s| s.fitted[1])),
            Known::SquaredError => Some(total(&|s| s.squared_error) / n),
            Known::Coverage(level) => Some(share(level.of_twentieths())),
            Known::CalibrationError => {
                let gaps = (0..19).map(|level| (share(level) - (level + 1) as f64 / 20.0).abs());
                Some(gaps.sum::<f64>() / 19.0)
            }
            Known::Sharpness => Some((total(&|s| s.variance) / n).sqrt()),
        }
    }
}

/// Pearson's correlation from sums; `None` where a side is constant.
pub(super) fn correlation(n: f64, [x, y, xx, yy, xy]: [f64; 5]) -> Option<f64> {
    let (vx, vy) = (xx - x * x / n, yy - y * y / n);
    (n > 1.0 && vx > 1e-12 * xx && vy > 1e-12 * yy)
        .then(|| ((xy - x * y / n) / (vx * vy).sqrt()).clamp(-1.0, 1.0))
}

/// F1 from how many are positive and called so, and how many are one of both alone; `None` where there is neither.
fn f1(both: f64, one: f64) -> Option<f64> {
    let all = 2.0 * both + one;
    (all > 0.0).then(|| 2.0 * both / all)
}

/// Of each token with a known reward its row.
fn rows_of_tokens(rows: &[&[TokenRewardRecord]]) -> Vec<usize> {
    let mut of_tokens = Vec::new();
    for (row, records) in rows.iter().enumerate() {
        let tokens = records.iter().flat_map(|record| &record.tokens);
        let known = tokens.filter(|token| token.true_mean.is_some()).count();
        of_tokens.extend(std::iter::repeat_n(row, known));
    }
    of_tokens
}

/// Per row the sums over its tokens with a known reward. Means and truths are taken from their own averages first, so
/// that little is lost in the differences.
fn sums(
    rows: &[&[TokenRewardRecord]],
    all: &KnownRewards,
    mapped: &[f64],
    stds: &[f64],
) -> Vec<Sums> {
    let centred = |values: &[f64]| {
        let mean = crate::eval::mean(values);
        values.iter().map(|value| value - mean).collect::<Vec<_>>()
    };
    let x = centred(&all.means);
    let y = centred(&all.truths);
    let rank_x = centred(&mid_ranks(&all.means));
    let rank_y = centred(&mid_ranks(&all.truths));
    let mut every = vec![Sums::default(); rows.len()];
    for (i, row) in rows_of_tokens(rows).into_iter().enumerate() {
        let sums = &mut every[row];
        sums.tokens += 1.0;
        sums.x += x[i];
        sums.y += y[i];
        sums.xx += x[i] * x[i];
        sums.yy += y[i] * y[i];
        sums.xy += x[i] * y[i];
        let (p, q) = (rank_x[i], rank_y[i]);
        for (sum, value) in sums.ranks.iter_mut().zip([p, q, p * p, q * q, p * q]) {
            *sum += value;
        }
        let undesirable = all.truths[i] <= 0.0;
        for (decisions, reward) in [(&mut sums.own, all.means[i]), (&mut sums.fitted, mapped[i])] {
            match (undesirable, reward <= 0.0) {
                (true, true) => decisions[0] += 1.0,
                (true, false) | (false, true) => decisions[1] += 1.0,
                (false, false) => {}
            }
        }
        let error = all.truths[i] - mapped[i];
        sums.squared_error += error * error;
        sums.variance += stds[i] * stds[i];
        // Smallest central level that covers the truth: 2 Phi(|z|) - 1.
        let covering = 1.0 - 2.0 * normal_cdf(-(error / stds[i]).abs());
        for (level, inside) in sums.inside.iter_mut().enumerate() {
            *inside += f64::from(u8::from(covering <= (level + 1) as f64 / 20.0));
        }
    }
    every
}

/// Points for a plot, spread evenly over the range of true rewards: where most tokens have the same one, points drawn at
/// random would show little else.
fn scatter(truths: &[f64], learned: &[f64]) -> Vec<(f32, f32)> {
    const BINS: usize = 30;
    let (low, high) = truths
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), t| {
            (low.min(*t), high.max(*t))
        });
    let width = ((high - low) / BINS as f64).max(f64::MIN_POSITIVE);
    let mut bins: Vec<Vec<usize>> = vec![Vec::new(); BINS];
    for (i, truth) in truths.iter().enumerate() {
        bins[(((truth - low) / width) as usize).min(BINS - 1)].push(i);
    }
    let most = SCATTER_POINTS / BINS;
    bins.iter()
        .flat_map(|bin| bin.iter().step_by(bin.len().div_ceil(most).max(1)))
        .map(|i| (truths[*i] as f32, learned[*i] as f32))
        .collect()
}
