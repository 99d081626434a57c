//! From cells to systems: the choice of tuned values, and figures over seeds.

use super::cell::CellRecord;
use super::truths::{Assessment, Direction, LEVEL, Measured, NamedFloor, percentiles};
use crate::eval::resample::SplitMix64;
use crate::eval::{Interval, Metric};
use serde::{Deserialize, Serialize};

/// How a figure stands to its floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better, beyond what the rows and seeds leave open.
    Above,
    /// Worse, beyond the same.
    Below,
    /// The rows and seeds do not tell them apart.
    NotDistinguishable,
    /// The truth has no floor.
    NoFloor,
    /// There is no figure.
    Undefined,
}

/// A truth's figure over the seeds of a system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The truth's name.
    pub name: String,
    /// Mean over seeds with its interval, or why there is none.
    #[serde(flatten)]
    pub metric: Metric,
    /// Standard deviation over seeds (n - 1 in the denominator); absent with one seed.
    pub std: Option<f64>,
    /// Seeds that have a value.
    pub seeds: usize,
    /// Each of those seeds' values.
    pub values: Vec<f64>,
    /// What the interval is over: `rows and seeds`, `rows`, `rows, averaged over seeds`.
    pub interval_over: Option<String>,
    /// How many things each seed measured.
    pub n: usize,
    /// What they are.
    pub unit: String,
    /// What a better value is.
    pub direction: Direction,
    /// The best floor's name and value.
    pub floor: Option<(String, f64)>,
    /// How the figure stands to that floor.
    pub verdict: Verdict,
}

/// An aggregate with its value on every resample of rows and seeds.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub aggregate: Aggregate,
    pub resampled: Vec<Option<f64>>,
}

/// Which of `trials` is chosen: no failed seed before any failed, then the higher mean validation accuracy, then the
/// higher standardised margin; where there are no pairs, the lower validation loss. Equal ones: the earlier. Test rows
/// have no say. `cells` are the tuning cells of one system.
pub fn choose_trial(cells: &[&CellRecord], trials: usize) -> usize {
    let mean = |trial: usize, pick: &dyn Fn(&super::Validation) -> Option<f64>| {
        let values: Vec<f64> = cells
            .iter()
            .filter(|cell| cell.trial == trial)
            .filter_map(|cell| cell.validation.as_ref().and_then(pick))
            .collect();
        if values.is_empty() {
            f64::NEG_INFINITY
        } else {
            crate::eval::mean(&values)
        }
    };
    let key = |trial: usize| {
        let failed = cells
            .iter()
            .filter(|cell| cell.trial == trial && cell.failure.is_some())
            .count();
        [
            -(failed as f64),
            mean(trial, &|v| v.accuracy.value),
            mean(trial, &|v| v.standardised_margin.value),
            mean(trial, &|v| v.loss.value.map(|loss| -loss)),
        ]
    };
    let mut best = 0;
    for trial in 1..trials {
        let ahead = key(trial)
            .iter()
            .zip(key(best))
            .map(|(a, b)| a.total_cmp(&b))
            .find(|order| order.is_ne());
        if ahead == Some(std::cmp::Ordering::Greater) {
            best = trial;
        }
    }
    best
}

/// The seeds of resample `draw`, with replacement: the same for every system that has as many.
fn drawn_seeds(draw: usize, seeds: usize) -> impl Iterator<Item = usize> {
    let mut random = SplitMix64::new(draw as u64);
    (0..seeds).map(move |_| random.below(seeds))
}

/// One truth over the seeds of a system; `failures` are the reasons of seeds that have no assessment.
pub(super) fn aggregate(name: &str, seeds: &[&Assessment], failures: &[&str]) -> Series {
    let found: Vec<&Measured> = seeds
        .iter()
        .filter_map(|seed| seed.truths.iter().find(|t| t.result.name == name))
        .collect();
    let defined: Vec<&Measured> = found
        .iter()
        .copied()
        .filter(|measured| measured.result.metric.value.is_some())
        .collect();
    let values: Vec<f64> = defined
        .iter()
        .filter_map(|measured| measured.result.metric.value)
        .collect();
    let blank = Aggregate {
        name: name.into(),
        metric: Metric::undefined("it was not measured"),
        std: None,
        seeds: values.len(),
        values: values.clone(),
        interval_over: None,
        n: found.first().map_or(0, |m| m.result.n),
        unit: found
            .first()
            .map_or_else(String::new, |m| m.result.unit.clone()),
        direction: found
            .first()
            .map_or(Direction::Neither, |m| m.result.direction),
        floor: None,
        verdict: Verdict::Undefined,
    };
    if values.is_empty() {
        let metric = match (failures.first(), found.first()) {
            (_, Some(measured)) => measured.result.metric.clone(),
            (Some(reason), None) => Metric::undefined(reason),
            (None, None) => blank.metric.clone(),
        };
        return Series {
            aggregate: Aggregate { metric, ..blank },
            resampled: Vec::new(),
        };
    }
    let mean = crate::eval::mean(&values);
    let std = deviation(&values);
    let draws = defined.iter().map(|m| m.resampled.len()).min().unwrap_or(0);
    let resampled: Vec<Option<f64>> = (0..draws)
        .map(|draw| {
            let sum: Option<f64> = drawn_seeds(draw, defined.len())
                .map(|seed| defined[seed].resampled[draw].map(f64::from))
                .sum();
            sum.map(|sum| sum / defined.len() as f64)
        })
        .collect();
    let (interval, over) = match (resampled.is_empty(), defined.len()) {
        (false, 1) => (percentiles(resampled.iter().copied()), "rows"),
        (false, _) => (percentiles(resampled.iter().copied()), "rows and seeds"),
        (true, _) => (
            mean_interval(defined.iter().map(|m| m.result.metric.interval)),
            "rows, averaged over seeds",
        ),
    };
    Series {
        aggregate: Aggregate {
            metric: Metric::of(mean).with_interval(interval),
            std,
            interval_over: interval.map(|_| over.into()),
            verdict: Verdict::NoFloor,
            ..blank
        },
        resampled,
    }
}

/// Standard deviation with n - 1 in the denominator; `None` of fewer than two values.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    (values.len() > 1).then(|| (crate::eval::variance(values) * n / (n - 1.0)).sqrt())
}

/// The mean of intervals, end by end, where all are there.
pub(super) fn mean_interval(intervals: impl Iterator<Item = Option<Interval>>) -> Option<Interval> {
    let all: Option<Vec<Interval>> = intervals.collect();
    let all = all.filter(|all| !all.is_empty())?;
    let n = all.len() as f64;
    Some(Interval {
        low: all.iter().map(|i| i.low).sum::<f64>() / n,
        high: all.iter().map(|i| i.high).sum::<f64>() / n,
        level: LEVEL,
    })
}

/// Names the best floor of a truth and says how `series` stands to it. `floors` are the floors' series of that truth;
/// `own` are those that the truth itself names.
pub(super) fn judge(series: &mut Series, floors: &[(&str, &Series)], own: &[NamedFloor]) {
    let sign = match series.aggregate.direction {
        Direction::Higher => 1.0,
        Direction::Lower => -1.0,
        Direction::Target(_) | Direction::Neither => return,
    };
    let Some(value) = series.aggregate.metric.value else {
        return;
    };
    let named = own
        .iter()
        .map(|floor| (floor.name.as_str(), floor.value, None));
    let measured = floors
        .iter()
        .filter_map(|(name, floor)| Some((*name, floor.aggregate.metric.value?, Some(*floor))));
    let mut best: Option<(&str, f64, Option<&Series>)> = None;
    for floor in named.chain(measured) {
        if best.is_none_or(|(_, before, _)| sign * floor.1 > sign * before) {
            best = Some(floor);
        }
    }
    let Some((name, floor, against)) = best else {
        return;
    };
    series.aggregate.floor = Some((name.into(), floor));
    let difference = match against {
        Some(floor) => percentiles(differences(&series.resampled, &floor.resampled).into_iter()),
        None => series.aggregate.metric.interval.map(|i| Interval {
            low: i.low - floor,
            high: i.high - floor,
            level: i.level,
        }),
    };
    series.aggregate.verdict = match difference {
        Some(i) if sign * i.low > 0.0 && sign * i.high > 0.0 => Verdict::Above,
        Some(i) if sign * i.low < 0.0 && sign * i.high < 0.0 => Verdict::Below,
        // Without resamples only the points can be compared, and that tells nothing for sure.
        _ if value.is_finite() => Verdict::NotDistinguishable,
        _ => Verdict::Undefined,
    };
}

/// a - b, draw by draw.
pub(super) fn differences(a: &[Option<f64>], b: &[Option<f64>]) -> Vec<Option<f64>> {
    a.iter().zip(b).map(|(a, b)| Some((*a)? - (*b)?)).collect()
}
