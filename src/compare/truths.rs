//! The truths that a system's scores are held against. Each gives a number, its interval over the test rows, and its
//! value on every resample of those rows: the resamples are the same for all systems, seeds and floors, so that two of
//! them can be compared draw by draw, whatever the truth is.
//!
//! A further truth of the same scores is one line in [`evaluate`]; one that needs the model itself (deleting tokens,
//! say) is one line in [`assess_cell`](super::assess_cell), and brings its own interval.

use crate::eval::calibration::CalibrationPoint;
use crate::eval::resample::{SplitMix64, quantile};
use crate::eval::{
    EvalError, Gauge, Interval, Metric, SortedTokens, gaussian_calibration, mean_squared_error,
    pair_accuracy, pearson, spearman,
};
use crate::reward::{Side, TokenRewardRecord};
use crate::train::{NO_POSITIVE_FACTOR, Residuals, known_rewards, labelled_tokens};
use serde::{Deserialize, Serialize};

/// Confidence level of all intervals.
pub(super) const LEVEL: f64 = 0.95;

/// Most points of a scatter plot that a cell keeps.
const SCATTER_POINTS: usize = 300;

/// Most tokens with a known reward that a cell keeps for the ensemble of its seeds.
const KNOWN_TOKENS: usize = 3000;

/// What a better value is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Larger.
    Higher,
    /// Smaller.
    Lower,
    /// Nearer to this.
    Target(f64),
    /// Neither: the number describes.
    Neither,
}

/// What one truth says of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthResult {
    /// The truth's name.
    pub name: String,
    /// The value with its interval over the test rows, or why there is none.
    #[serde(flatten)]
    pub metric: Metric,
    /// How many things were measured.
    pub n: usize,
    /// What they are: `pairs`, `tokens`.
    pub unit: String,
    /// What a better value is.
    pub direction: Direction,
    /// What anything must beat, where the truth itself knows it (chance, say); the comparison's own floors are measured
    /// beside the systems and need not stand here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<NamedFloor>,
}

/// A value that must be beaten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedFloor {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// A truth's result with its value on every resample of the test rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The result.
    #[serde(flatten)]
    pub result: TruthResult,
    /// One value a resample, `None` where undefined there; empty where the truth does not resample rows.
    pub resampled: Vec<Option<f32>>,
}

impl Measured {
    /// A result without resamples: it can be shown and averaged, and not be compared draw by draw.
    pub fn alone(result: TruthResult) -> Self {
        Self {
            result,
            resampled: Vec::new(),
        }
    }
}

/// What a system says of the test rows.
pub struct Readings<'a> {
    /// One record an answer in the rows' order; both sides of a pair follow each other.
    pub records: &'a [TokenRewardRecord],
    /// (chosen, rejected) scores by which the system ranks, a pair each; empty where the rows are demonstrations.
    pub scores: &'a [(f64, f64)],
    /// Why the records' token means are no token rewards of this system, where they are not.
    pub no_tokens: Option<&'static str>,
    /// Why the records' standard deviations say nothing of this system, where they do not.
    pub no_sigma: Option<&'static str>,
    /// Standardised temporal-difference residuals, where the method has them.
    pub residuals: &'a [f64],
}

/// All truths of one system, and what its plots are drawn from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    /// The truths, in the order of the table.
    pub truths: Vec<Measured>,
    /// Stated against found coverage of the token posterior; empty where undefined.
    pub reliability: Vec<CalibrationPoint>,
    /// (true reward, learned mean after the gauge) of some tokens; empty where undefined.
    pub scatter: Vec<(f32, f32)>,
    /// (learned mean and own standard deviation after the gauge, true reward) of tokens spread evenly over the test rows, the
    /// same tokens for every system; the deviation is 0 where there is none. Empty where undefined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<[f32; 3]>,
}

/// The value of a truth where each row counts as often as this says; `None` where it is undefined.
type Statistic<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + 'a>;

/// A truth that resamples rows: how often each row counts in, the value out.
struct Probe<'a> {
    name: String,
    unit: &'static str,
    n: usize,
    direction: Direction,
    chance: Option<f64>,
    point: Metric,
    statistic: Statistic<'a>,
}

/// Measures every truth. `resamples` resamples of the rows are drawn with a fixed seed.
///
/// # Errors
/// Numbers that are not finite.
pub fn evaluate(readings: &Readings<'_>, resamples: usize) -> Result<Assessment, EvalError> {
    let sides = if readings.records.iter().any(|r| r.side == Side::Answer) {
        1
    } else {
        2
    };
    let rows: Vec<&[TokenRewardRecord]> = readings.records.chunks(sides).collect();
    let mut assessment = Assessment::default();
    let mut probes = vec![
        pairs(readings)?,
        spans(readings, &rows, Side::Rejected, "token AUC, rejected spans")?,
        spans(readings, &rows, Side::Chosen, "token AUC, chosen spans")?,
    ];
    known(readings, &rows, &mut probes, &mut assessment)?;
    assessment.truths = resample(probes, rows.len(), resamples);
    assessment
        .truths
        .push(Measured::alone(residual_coverage(readings)));
    Ok(assessment)
}

/// Values of all probes on the same resamples.
fn resample(probes: Vec<Probe<'_>>, rows: usize, resamples: usize) -> Vec<Measured> {
    let mut random = SplitMix64::new(0);
    let mut counts = vec![0u32; rows];
    let mut values: Vec<Vec<Option<f32>>> = vec![Vec::with_capacity(resamples); probes.len()];
    for _ in 0..resamples {
        counts.fill(0);
        for _ in 0..rows {
            counts[random.below(rows)] += 1;
        }
        for (probe, values) in probes.iter().zip(&mut values) {
            if probe.point.value.is_some() {
                let value = (probe.statistic)(&counts).filter(|value| value.is_finite());
                values.push(value.map(|value| value as f32));
            }
        }
    }
    probes
        .into_iter()
        .zip(values)
        .map(|(probe, resampled)| Measured {
            result: TruthResult {
                name: probe.name,
                metric: probe.point.with_interval(percentiles(
                    resampled.iter().map(|value| value.map(f64::from)),
                )),
                n: probe.n,
                unit: probe.unit.into(),
                direction: probe.direction,
                floors: probe
                    .chance
                    .map(|value| NamedFloor {
                        name: "chance".into(),
                        value,
                    })
                    .into_iter()
                    .collect(),
            },
            resampled,
        })
        .collect()
}

/// The central interval of resampled values; `None` where less than half of them are defined.
pub(super) fn percentiles(values: impl ExactSizeIterator<Item = Option<f64>>) -> Option<Interval> {
    let all = values.len();
    let mut defined: Vec<f64> = values.flatten().collect();
    if defined.is_empty() || defined.len() * 2 < all {
        return None;
    }
    defined.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval {
        low: quantile(&defined, tail),
        high: quantile(&defined, 1.0 - tail),
        level: LEVEL,
    })
}

/// How often the better answer scores strictly above the other.
fn pairs<'a>(readings: &'a Readings<'_>) -> Result<Probe<'a>, EvalError> {
    let scores = readings.scores;
    let point = if scores.is_empty() {
        Metric::undefined("the test rows are no pairs")
    } else {
        let (chosen, rejected): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
        Metric::of(pair_accuracy(&chosen, &rejected)?.accuracy)
    };
    Ok(Probe {
        name: "pair accuracy".into(),
        unit: "pairs",
        n: scores.len(),
        direction: Direction::Higher,
        chance: Some(0.5),
        point,
        statistic: Box::new(move |counts| {
            let right: u32 = counts
                .iter()
                .zip(scores)
                .filter(|(_, (chosen, rejected))| chosen > rejected)
                .map(|(count, _)| *count)
                .sum();
            Some(f64::from(right) / scores.len() as f64)
        }),
    })
}

/// Whether tokens inside the labelled spans of one side stand out: pooled ROC AUC.
fn spans<'a>(
    readings: &Readings<'_>,
    rows: &[&[TokenRewardRecord]],
    side: Side,
    name: &str,
) -> Result<Probe<'a>, EvalError> {
    // Which test row each labelled answer is in.
    let mut places = Vec::new();
    let mut answers = Vec::new();
    for (row, records) in rows.iter().enumerate() {
        for answer in labelled_tokens(records, side) {
            if !answer.scores.is_empty() {
                places.push(row);
                answers.push(answer);
            }
        }
    }
    let n = answers.iter().map(|answer| answer.scores.len()).sum();
    let probe = |point, statistic| Probe {
        name: name.into(),
        unit: "tokens",
        n,
        direction: Direction::Higher,
        chance: Some(0.5),
        point,
        statistic,
    };
    if let Some(reason) = readings.no_tokens {
        return Ok(probe(Metric::undefined(reason), Box::new(|_| None)));
    }
    if answers.is_empty() {
        let reason = "the test rows have no labelled spans on this side";
        return Ok(probe(Metric::undefined(reason), Box::new(|_| None)));
    }
    let sorted = SortedTokens::new(&answers)?;
    let all = vec![1; answers.len()];
    let point = match sorted.auc(&all) {
        Some(value) => Metric::of(value),
        None => Metric::undefined(format!(
            "the {n} tokens are all inside or all outside of spans; both are needed"
        )),
    };
    Ok(probe(
        point,
        Box::new(move |counts| {
            let own: Vec<u32> = places.iter().map(|row| counts[*row]).collect();
            sorted.auc(&own)
        }),
    ))
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
    squared_error: f64,
    variance: f64,
    /// Tokens inside the central intervals at 5 %, 10 %, ..., 95 %.
    inside: [f64; 19],
}

/// Pearson's correlation from sums; `None` where a side is constant.
fn correlation(n: f64, [x, y, xx, yy, xy]: [f64; 5]) -> Option<f64> {
    let (vx, vy) = (xx - x * x / n, yy - y * y / n);
    (n > 1.0 && vx > 1e-12 * xx && vy > 1e-12 * yy)
        .then(|| ((xy - x * y / n) / (vx * vy).sqrt()).clamp(-1.0, 1.0))
}

/// Token rewards against known ones: correlation as they are; error, coverage and sharpness after the best positive
/// scale and offset, which a preference leaves open. The map and, for Spearman, the ranks are those of all test rows,
/// also on resamples.
fn known<'a>(
    readings: &Readings<'_>,
    rows: &[&[TokenRewardRecord]],
    probes: &mut Vec<Probe<'a>>,
    assessment: &mut Assessment,
) -> Result<(), EvalError> {
    let all = known_rewards(readings.records);
    let n = all.truths.len();
    let undefined = readings.no_tokens.or((n == 0).then_some(NO_TRUTH));
    let mut measures: Vec<(&str, Direction, Option<f64>, Metric)> = Vec::new();
    let names = KNOWN.map(|(name, _)| name);
    let mut rows_sums: Vec<Sums> = Vec::new();
    if let Some(reason) = undefined {
        for (name, direction) in KNOWN {
            measures.push((name, direction, None, Metric::undefined(reason)));
        }
    } else {
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
        let of_calibration = |pick: &dyn Fn(&crate::eval::CalibrationReport) -> Metric| match (
            &calibration,
            no_sigma,
        ) {
            (Some(report), _) => pick(report),
            (None, reason) => Metric::undefined(reason.unwrap_or(NO_POSITIVE_FACTOR)),
        };
        let coverage =
            |level: usize| of_calibration(&|report| Metric::of(report.coverage[level].observed));
        let points = [
            pearson(&all.means, &all.truths)?,
            spearman(&all.means, &all.truths)?,
            mean_squared_error(&mapped, &all.truths)?,
            coverage(0),
            coverage(1),
            coverage(2),
            of_calibration(&|report| report.expected_calibration_error.clone()),
            of_calibration(&|report| report.sharpness.clone()),
        ];
        for ((name, direction), point) in KNOWN.into_iter().zip(points) {
            let chance = matches!(name, PEARSON | SPEARMAN).then_some(0.0);
            measures.push((name, direction, chance, point));
        }
        rows_sums = sums(rows, &all, &mapped, &stds);
        assessment.reliability = calibration.map(|report| report.curve).unwrap_or_default();
        assessment.scatter = scatter(&all.truths, &mapped);
        if map.scale > 0.0 {
            let has_sigma = readings.no_sigma.is_none();
            assessment.known = (0..n)
                .step_by(n.div_ceil(KNOWN_TOKENS).max(1))
                .map(|i| {
                    let std = if has_sigma { stds[i] } else { 0.0 };
                    [mapped[i] as f32, std as f32, all.truths[i] as f32]
                })
                .collect();
        }
    }
    let rows_sums = std::rc::Rc::new(rows_sums);
    for (name, direction, chance, point) in measures {
        let sums = std::rc::Rc::clone(&rows_sums);
        let which = names.iter().position(|known| *known == name).unwrap_or(0);
        probes.push(Probe {
            name: name.into(),
            unit: "tokens",
            n,
            direction,
            chance,
            point,
            statistic: Box::new(move |counts| from_sums(which, &sums, counts)),
        });
    }
    Ok(())
}

/// Name of the truth about what AVA's sigma is.
pub(super) const TD_RESIDUALS: &str = "TD residuals inside 95 % intervals";
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

const NO_TRUTH: &str = "the test rows have no known token rewards";
const PEARSON: &str = "correlation with known rewards";
const SPEARMAN: &str = "rank correlation with known rewards";

/// The truths of known token rewards, in the order of [`from_sums`].
const KNOWN: [(&str, Direction); 8] = [
    (PEARSON, Direction::Higher),
    (SPEARMAN, Direction::Higher),
    ("mean squared error", Direction::Lower),
    ("coverage of 50 % intervals", Direction::Target(0.5)),
    ("coverage of 80 % intervals", Direction::Target(0.8)),
    ("coverage of 95 % intervals", Direction::Target(0.95)),
    ("calibration error", Direction::Lower),
    ("sharpness (root mean square of sigma)", Direction::Neither),
];

/// One of [`KNOWN`] from the rows' sums, each row counted `counts` times.
fn from_sums(which: usize, rows: &[Sums], counts: &[u32]) -> Option<f64> {
    let total = |pick: &dyn Fn(&Sums) -> f64| -> f64 {
        rows.iter()
            .zip(counts)
            .map(|(sums, count)| f64::from(*count) * pick(sums))
            .sum()
    };
    let n = total(&|s| s.tokens);
    if n <= 0.0 {
        return None;
    }
    let share = |level: usize| total(&|s| s.inside[level]) / n;
    match which {
        0 => correlation(
            n,
            [
                total(&|s| s.x),
                total(&|s| s.y),
                total(&|s| s.xx),
                total(&|s| s.yy),
                total(&|s| s.xy),
            ],
        ),
        1 => correlation(n, [0, 1, 2, 3, 4].map(|i| total(&|s| s.ranks[i]))),
        2 => Some(total(&|s| s.squared_error) / n),
        // Level 50 % is the tenth of 5 %, 10 %, ...
        3 => Some(share(9)),
        4 => Some(share(15)),
        5 => Some(share(18)),
        6 => {
            let gaps = (0..19).map(|level| (share(level) - (level + 1) as f64 / 20.0).abs());
            Some(gaps.sum::<f64>() / 19.0)
        }
        _ => Some((total(&|s| s.variance) / n).sqrt()),
    }
}

/// Per row the sums over its tokens with a known reward. Means and truths are taken from their own averages first, so
/// that little is lost in the differences.
fn sums(
    rows: &[&[TokenRewardRecord]],
    all: &crate::train::KnownRewards,
    mapped: &[f64],
    stds: &[f64],
) -> Vec<Sums> {
    use crate::eval::correlation::mid_ranks;
    use crate::eval::gaussian::normal_cdf;
    let centred = |values: &[f64]| {
        let mean = crate::eval::mean(values);
        values.iter().map(|value| value - mean).collect::<Vec<_>>()
    };
    let x = centred(&all.means);
    let y = centred(&all.truths);
    let rank_x = centred(&mid_ranks(&all.means));
    let rank_y = centred(&mid_ranks(&all.truths));
    let mut next = 0;
    rows.iter()
        .map(|records| {
            let mut sums = Sums::default();
            let tokens: usize = records
                .iter()
                .flat_map(|r| &r.tokens)
                .fold(0, |n, token| n + usize::from(token.true_mean.is_some()));
            for i in next..next + tokens {
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
                let error = all.truths[i] - mapped[i];
                sums.squared_error += error * error;
                sums.variance += stds[i] * stds[i];
                // Smallest central level that covers the truth: 2 Phi(|z|) - 1.
                let covering = 1.0 - 2.0 * normal_cdf(-(error / stds[i]).abs());
                for (level, inside) in sums.inside.iter_mut().enumerate() {
                    *inside += f64::from(u8::from(covering <= (level + 1) as f64 / 20.0));
                }
            }
            next += tokens;
            sums
        })
        .collect()
}

/// Whether sigma describes the temporal-difference residuals, which is what AVA's sigma is.
fn residual_coverage(readings: &Readings<'_>) -> TruthResult {
    TruthResult {
        name: TD_RESIDUALS.into(),
        metric: match Residuals::of(readings.residuals) {
            Some(residuals) => Metric::of(residuals.coverage95),
            None => Metric::undefined("the method has no temporal-difference residuals"),
        },
        n: readings.residuals.len(),
        unit: "tokens".into(),
        direction: Direction::Target(0.95),
        floors: Vec::new(),
    }
}
