//! The truths that a system's scores are held against. Each gives a number, its interval over the test rows, and its
//! value on every resample of those rows: the resamples are the same for all systems, seeds and floors, so that two of
//! them can be compared draw by draw, whatever the truth is.
//!
//! A further truth of the same scores is one line in [`evaluate`]; one that needs the model itself (deleting tokens,
//! say) is one line in [`assess_cell`](super::assess_cell), and brings its own interval.

use super::known::known;
use crate::eval::calibration::CalibrationPoint;
use crate::eval::resample::{SplitMix64, quantile};
use crate::eval::{EvalError, Interval, Metric, SortedTokens, pair_accuracy};
use crate::reward::{Side, TokenRewardRecord};
use crate::train::{Residuals, labelled_tokens};
use serde::{Deserialize, Serialize};

/// Confidence level of all intervals.
pub(super) const LEVEL: f64 = 0.95;

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
    /// Of each record its standardised temporal-difference residuals; empty where the method has none.
    pub residuals: &'a [Vec<f64>],
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
    /// The test row of each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_rows: Vec<u32>,
}

/// The value of a truth where each row counts as often as this says; `None` where it is undefined.
type Statistic<'a> = Box<dyn Fn(&[u32]) -> Option<f64> + 'a>;

/// A truth that resamples rows: how often each row counts in, the value out.
pub(super) struct Probe<'a> {
    pub name: String,
    pub unit: &'static str,
    pub n: usize,
    pub direction: Direction,
    /// What can be had without any map, by its name.
    pub floor: Option<(&'static str, f64)>,
    pub point: Metric,
    pub statistic: Statistic<'a>,
}

/// The floor of a map that says nothing.
pub(super) const CHANCE: &str = "chance";

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
    probes.push(residual_coverage(readings.residuals, sides));
    assessment.truths = resample(probes, rows.len(), resamples);
    Ok(assessment)
}

/// Values of all probes on the same resamples.
pub(super) fn resample(probes: Vec<Probe<'_>>, rows: usize, resamples: usize) -> Vec<Measured> {
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
                    .floor
                    .map(|(name, value)| NamedFloor {
                        name: name.into(),
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
        floor: Some((CHANCE, 0.5)),
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
        floor: Some((CHANCE, 0.5)),
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

/// Name of the truth about what AVA's sigma is.
pub(super) const TD_RESIDUALS: &str = "TD residuals inside 95 % intervals";

/// Whether sigma describes the temporal-difference residuals, which is what AVA's sigma is. A row has `sides` answers.
fn residual_coverage<'a>(residuals: &[Vec<f64>], sides: usize) -> Probe<'a> {
    // Of each row the residuals inside, and all of them.
    let rows: Vec<(f64, f64)> = residuals
        .chunks(sides)
        .map(|answers| {
            let all = answers.concat();
            let share = Residuals::of(&all).map_or(0.0, |found| found.coverage95);
            (share * all.len() as f64, all.len() as f64)
        })
        .collect();
    let share = move |counts: &mut dyn Iterator<Item = f64>| {
        let (inside, all) = rows
            .iter()
            .zip(counts)
            .fold((0.0, 0.0), |(inside, all), (row, count)| {
                (inside + count * row.0, all + count * row.1)
            });
        (all > 0.0).then(|| inside / all)
    };
    Probe {
        name: TD_RESIDUALS.into(),
        unit: "tokens",
        n: residuals.iter().map(Vec::len).sum(),
        direction: Direction::Target(0.95),
        floor: None,
        point: match share(&mut std::iter::repeat(1.0)) {
            Some(share) => Metric::of(share),
            None => Metric::undefined("the method has no temporal-difference residuals"),
        },
        statistic: Box::new(move |counts| share(&mut counts.iter().map(|count| f64::from(*count)))),
    }
}
