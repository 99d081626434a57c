//! What an estimate of ignorance is worth, on the test rows.
//!
//! One that is worth something is large where the map is wrong and where training saw little, its intervals hold the truth as often as
//! they say, and a pair's margin over its ignorance tells right from wrong pairs better than the margin alone. Where rewards are
//! known, map and ignorance are brought to their units by the best positive scale and offset, which a preference leaves open;
//! that map, and all ranks, are those of all test rows, also on resamples.
//!
//! What coverage can be asked for: a posterior mean with its posterior's deviation has 0.95 inside 95 % intervals, before and after
//! the fit. A map that is the truth plus independent noise of just the stated size has less after it, since the fit of a map of
//! correlation r shrinks the interval by r^2 and the error by r: 2 Phi(1.96 r) - 1, which is 0.83 at r = 0.7.

use super::super::known::correlation;
use super::super::truths::{CHANCE, Direction, Probe, TruthResult, resample};
use crate::eval::correlation::mid_ranks;
use crate::eval::{EvalError, Gauge, LabelledTokens, Metric, SortedTokens};
use crate::train::NO_POSITIVE_FACTOR;
use std::rc::Rc;

/// A token's smallest standard deviation, in units of the true rewards: members that agree to the last bit would
/// otherwise claim a certainty that no interval can hold.
const LEAST_STD: f64 = 1e-6;

/// Half the width of a central 95 % interval, in standard deviations.
const Z95: f64 = 1.959_963_984_540_054;

/// What is known of a token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenFact {
    /// Its test row.
    pub row: usize,
    /// Its learned reward.
    pub mean: f64,
    /// The method's own spread, where it has one.
    pub own: Option<f64>,
    /// The standard deviation that is ignorance.
    pub ignorance: f64,
    /// Its known reward.
    pub truth: Option<f64>,
    /// How often training saw it in an answer.
    pub seen: Option<f64>,
}

/// What is known of a pair.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PairFact {
    /// Its test row.
    pub row: usize,
    /// Score of the chosen answer minus that of the rejected one.
    pub margin: f64,
    /// The margin's standard deviation that is ignorance.
    pub ignorance: f64,
}

/// The figures' names, in the order of the table.
pub(super) const CORRELATION: &str = "correlation of the map";
pub(super) const IGNORANCE: &str = "ignorance / spread of the map";
pub(super) const OWN_SPREAD: &str = "own spread / spread of the map";
pub(super) const COVERAGE_IGNORANCE: &str = "95 % coverage, ignorance";
pub(super) const COVERAGE_OWN: &str = "95 % coverage, own spread";
pub(super) const COVERAGE_TOTAL: &str = "95 % coverage, total";
pub(super) const WITH_ERROR: &str = "rank correlation with the error";
pub(super) const WITH_RARITY: &str = "rank correlation with rarity";
pub(super) const MARGINS: &str = "ignorance / size of margins";
pub(super) const RIGHT_PAIRS: &str = "AUC of right pairs, margin / ignorance";
pub(super) const RIGHT_ALONE: &str = "AUC of right pairs, margin alone";

pub(super) const NO_TRUTH: &str = "the test rows have no known token rewards";
const NO_OWN: &str = "the method has no spread of its own";
const NO_COUNTS: &str = "how often training saw a token is not kept for this estimate";
const NO_PAIRS: &str = "the test rows are no pairs";
const ONE_PAIR: &str = "there is one pair alone";
const NEVER_UNSURE: &str = "the ignorance of every pair's margin is 0";
const CONSTANT: &str = "one of the two is the same everywhere";

/// Numbers a row, summed over what counts in it.
type Sums = Vec<Vec<f64>>;

/// All figures of an estimate on `rows` test rows.
///
/// # Errors
/// Numbers that are not finite.
pub(super) fn measure(
    tokens: &[TokenFact],
    pairs: &[PairFact],
    rows: usize,
    resamples: usize,
) -> Result<Vec<TruthResult>, EvalError> {
    let mut probes = map_figures(tokens, rows);
    probes.extend(known_figures(tokens, rows)?);
    probes.push(rarity(tokens, rows));
    probes.extend(pair_figures(pairs, rows)?);
    let measured = resample(probes, rows, resamples);
    Ok(measured.into_iter().map(|m| m.result).collect())
}

fn probe<'a>(name: &str, direction: Direction, (unit, n): (&'static str, usize)) -> Probe<'a> {
    Probe {
        name: name.into(),
        unit,
        n,
        direction,
        floor: None,
        point: Metric::undefined(CONSTANT),
        statistic: Box::new(|_| None),
    }
}

/// A figure that is a function of sums over rows.
fn of_sums<'a>(
    blank: Probe<'a>,
    sums: Rc<Sums>,
    figure: impl Fn(&[f64]) -> Option<f64> + 'a,
) -> Probe<'a> {
    let at = move |counts: &mut dyn Iterator<Item = f64>| {
        let width = sums.first().map_or(0, Vec::len);
        let mut total = vec![0.0; width];
        for (row, count) in sums.iter().zip(counts) {
            for (sum, value) in total.iter_mut().zip(row) {
                *sum += count * value;
            }
        }
        figure(&total).filter(|value| value.is_finite())
    };
    let point = at(&mut std::iter::repeat(1.0));
    Probe {
        point: point.map_or_else(|| Metric::undefined(CONSTANT), Metric::of),
        statistic: Box::new(move |counts| at(&mut counts.iter().map(|count| f64::from(*count)))),
        ..blank
    }
}

/// Sums of `numbers` over the things of each row.
fn by_row<T, const N: usize>(
    things: &[T],
    rows: usize,
    row: impl Fn(&T) -> usize,
    numbers: impl Fn(usize, &T) -> [f64; N],
) -> Rc<Sums> {
    // Without rows one of zeros, so that every sum is there.
    let mut sums = vec![vec![0.0; N]; rows.max(1)];
    for (i, thing) in things.iter().enumerate() {
        if let Some(sum) = sums.get_mut(row(thing)) {
            for (sum, value) in sum.iter_mut().zip(numbers(i, thing)) {
                *sum += value;
            }
        }
    }
    Rc::new(sums)
}

fn undefined<'a>(mut probe: Probe<'a>, reason: &str) -> Probe<'a> {
    probe.point = Metric::undefined(reason);
    probe
}

/// Root mean square of a standard deviation over the standard deviation of the means: one for maps of any unit.
fn map_figures<'a>(tokens: &[TokenFact], rows: usize) -> Vec<Probe<'a>> {
    let means: Vec<f64> = tokens.iter().map(|token| token.mean).collect();
    let middle = match means.is_empty() {
        true => 0.0,
        false => crate::eval::mean(&means),
    };
    let of = |name: &str, std: &dyn Fn(&TokenFact) -> f64| {
        let sums = by_row(
            tokens,
            rows,
            |token| token.row,
            |_, token| {
                let mean = token.mean - middle;
                [1.0, mean, mean * mean, std(token).powi(2)]
            },
        );
        let blank = probe(name, Direction::Neither, ("tokens", tokens.len()));
        of_sums(blank, sums, |s| {
            let variance = s[2] / s[0] - (s[1] / s[0]).powi(2);
            (variance > 0.0).then(|| (s[3] / s[0] / variance).sqrt())
        })
    };
    let own = tokens.iter().all(|token| token.own.is_some()) && !tokens.is_empty();
    let ignorance = of(IGNORANCE, &|token| token.ignorance);
    let own_spread = of(OWN_SPREAD, &|token| token.own.unwrap_or(0.0));
    vec![
        ignorance,
        match own {
            true => own_spread,
            false => undefined(own_spread, NO_OWN),
        },
    ]
}

/// Against known rewards.
fn known_figures<'a>(tokens: &[TokenFact], rows: usize) -> Result<Vec<Probe<'a>>, EvalError> {
    let known: Vec<(&TokenFact, f64)> = tokens
        .iter()
        .filter_map(|token| Some((token, token.truth?)))
        .collect();
    let size = ("tokens", known.len());
    let blanks = || {
        [
            (CORRELATION, Direction::Higher),
            (COVERAGE_IGNORANCE, Direction::Target(0.95)),
            (COVERAGE_OWN, Direction::Target(0.95)),
            (COVERAGE_TOTAL, Direction::Target(0.95)),
            (WITH_ERROR, Direction::Higher),
        ]
        .map(|(name, direction)| probe(name, direction, size))
    };
    if known.is_empty() {
        return Ok(blanks().map(|probe| undefined(probe, NO_TRUTH)).into());
    }
    let (means, truths): (Vec<f64>, Vec<f64>) = known
        .iter()
        .map(|(token, truth)| (token.mean, *truth))
        .unzip();
    let row = |(token, _): &(&TokenFact, f64)| token.row;
    let [correlated, ignorance, own_spread, total, with_error] = blanks();
    let agree = products(&known, rows, row, &means, &truths);
    let correlated = from_chance(of_sums(correlated, agree, correlation_of));
    let map = Gauge::PositiveAffine.fit(&means, &truths)?;
    if map.scale <= 0.0 {
        let others = [ignorance, own_spread, total, with_error];
        let others = others.map(|probe| undefined(probe, NO_POSITIVE_FACTOR));
        return Ok([correlated].into_iter().chain(others).collect());
    }
    let mapped = map.apply(&means);
    let errors: Vec<f64> = mapped
        .iter()
        .zip(&truths)
        .map(|(mean, truth)| (truth - mean).abs())
        .collect();
    let own = known.iter().all(|(token, _)| token.own.is_some());
    let inside = |i: usize, variance: f64| {
        let std = (map.scale * variance.sqrt()).max(LEAST_STD);
        f64::from(u8::from(errors[i] <= Z95 * std))
    };
    let covered = by_row(&known, rows, row, |i, (token, _)| {
        let (own, ignorance) = (token.own.unwrap_or(0.0).powi(2), token.ignorance.powi(2));
        [
            1.0,
            inside(i, ignorance),
            inside(i, own),
            inside(i, own + ignorance),
        ]
    });
    let share = |place: usize| move |s: &[f64]| (s[0] > 0.0).then(|| s[place] / s[0]);
    let ignorances: Vec<f64> = known.iter().map(|(token, _)| token.ignorance).collect();
    let ranks = products(
        &known,
        rows,
        row,
        &mid_ranks(&ignorances),
        &mid_ranks(&errors),
    );
    let with_own = |probe, place| match own {
        true => of_sums(probe, Rc::clone(&covered), share(place)),
        false => undefined(probe, NO_OWN),
    };
    Ok(vec![
        correlated,
        of_sums(ignorance, Rc::clone(&covered), share(1)),
        with_own(own_spread, 2),
        with_own(total, 3),
        from_chance(of_sums(with_error, ranks, correlation_of)),
    ])
}

/// Whether ignorance is larger for tokens that training saw less often.
fn rarity<'a>(tokens: &[TokenFact], rows: usize) -> Probe<'a> {
    let blank = probe(WITH_RARITY, Direction::Higher, ("tokens", tokens.len()));
    let rare: Option<Vec<f64>> = tokens.iter().map(|token| Some(-token.seen?)).collect();
    let Some(rare) = rare.filter(|rare| !rare.is_empty()) else {
        return undefined(blank, NO_COUNTS);
    };
    let ignorance: Vec<f64> = tokens.iter().map(|token| token.ignorance).collect();
    let ranks = products(
        tokens,
        rows,
        |token| token.row,
        &mid_ranks(&ignorance),
        &mid_ranks(&rare),
    );
    from_chance(of_sums(blank, ranks, correlation_of))
}

/// Of pairs: how large (root mean squares), and whether it tells right pairs from wrong ones. Pairs that nobody can be unsure of, since
/// both answers are the same tokens, are left out of the latter.
fn pair_figures<'a>(pairs: &[PairFact], rows: usize) -> Result<Vec<Probe<'a>>, EvalError> {
    let size = ("pairs", pairs.len());
    let large = probe(MARGINS, Direction::Neither, size);
    let [over, alone] = [RIGHT_PAIRS, RIGHT_ALONE].map(|name| probe(name, Direction::Higher, size));
    if pairs.len() < 2 {
        let reason = match pairs.len() {
            0 => NO_PAIRS,
            _ => ONE_PAIR,
        };
        return Ok([large, over, alone]
            .map(|probe| undefined(probe, reason))
            .into());
    }
    let squares = by_row(
        pairs,
        rows,
        |pair| pair.row,
        |_, pair| [pair.margin.powi(2), pair.ignorance.powi(2)],
    );
    let large = of_sums(large, squares, |s| {
        (s[0] > 0.0).then(|| (s[1] / s[0]).sqrt())
    });
    let unsure: Vec<&PairFact> = pairs.iter().filter(|pair| pair.ignorance > 0.0).collect();
    if unsure.is_empty() {
        let others = [over, alone].map(|probe| undefined(probe, NEVER_UNSURE));
        return Ok([large].into_iter().chain(others).collect());
    }
    let right = |blank: Probe<'a>, score: &dyn Fn(&PairFact) -> f64| -> Result<_, EvalError> {
        let answers: Vec<LabelledTokens> = unsure
            .iter()
            .map(|pair| LabelledTokens {
                scores: vec![score(pair)],
                labels: vec![pair.margin > 0.0],
            })
            .collect();
        let sorted = SortedTokens::new(&answers)?;
        let places: Vec<usize> = unsure.iter().map(|pair| pair.row).collect();
        let point = sorted.auc(&vec![1; answers.len()]);
        Ok(from_chance(Probe {
            n: unsure.len(),
            point: point.map_or_else(
                || Metric::undefined("the pairs are all right or all wrong; both are needed"),
                Metric::of,
            ),
            statistic: Box::new(move |counts| {
                let own: Vec<u32> = places.iter().map(|row| counts[*row]).collect();
                sorted.auc(&own)
            }),
            ..blank
        }))
    };
    let over = right(over, &|pair| pair.margin.abs() / pair.ignorance)?;
    let alone = right(alone, &|pair| pair.margin.abs())?;
    Ok(vec![large, over, alone])
}

/// The same with chance for a floor: 0 of a correlation, a half of an AUC.
fn from_chance(probe: Probe<'_>) -> Probe<'_> {
    let chance = match probe.unit {
        "pairs" => 0.5,
        _ => 0.0,
    };
    Probe {
        floor: Some((CHANCE, chance)),
        ..probe
    }
}

/// n, sums, squares and products of two lists, centred, by row.
fn products<T>(
    things: &[T],
    rows: usize,
    row: impl Fn(&T) -> usize,
    x: &[f64],
    y: &[f64],
) -> Rc<Sums> {
    let (mx, my) = (crate::eval::mean(x), crate::eval::mean(y));
    by_row(things, rows, row, |i, _| {
        let (a, b) = (x[i] - mx, y[i] - my);
        [1.0, a, b, a * a, b * b, a * b]
    })
}

fn correlation_of(s: &[f64]) -> Option<f64> {
    correlation(s[0], [s[1], s[2], s[3], s[4], s[5]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    fn value(figures: &[TruthResult], name: &str) -> Option<f64> {
        let figure = figures.iter().find(|figure| figure.name == name);
        figure.unwrap_or_else(|| panic!("no {name}")).metric.value
    }

    /// Tokens whose errors have just the standard deviation that ignorance says, at twice the scale of the truth.
    fn honest(count: usize, claimed: f64) -> Vec<TokenFact> {
        let mut random = Rng::new(7);
        (0..count)
            .map(|i| {
                let truth = random.normal();
                let std = 0.15 + 0.08 * (i % 4) as f64;
                TokenFact {
                    row: i / 10,
                    mean: 2.0 * (truth + std * random.normal()) + 3.0,
                    own: None,
                    ignorance: 2.0 * claimed * std,
                    truth: Some(truth),
                    seen: Some((4 - i % 4) as f64),
                }
            })
            .collect()
    }

    #[test]
    fn ignorance_that_is_true_covers_and_goes_with_error_and_rarity() {
        let figures = measure(&honest(4000, 1.0), &[], 400, 200).unwrap();
        // The fit shrinks a noisy map towards its mean, and its intervals with it: a little less than 0.95.
        let covered = value(&figures, COVERAGE_IGNORANCE).unwrap();
        assert!((0.88..0.96).contains(&covered), "{covered}");
        assert!(value(&figures, WITH_ERROR).unwrap() > 0.15);
        assert!((value(&figures, WITH_RARITY).unwrap() - 1.0).abs() < 1e-9);
        assert!(value(&figures, COVERAGE_TOTAL).is_none());
        let small = measure(&honest(4000, 0.2), &[], 400, 200).unwrap();
        assert!(value(&small, COVERAGE_IGNORANCE).unwrap() < covered - 0.3);
        let [a, b] = [&small, &figures].map(|all| value(all, IGNORANCE).unwrap());
        assert!((b / a - 5.0).abs() < 1e-9);
        let interval = |name: &str| {
            let figure = figures.iter().find(|figure| figure.name == name).unwrap();
            figure.metric.interval.expect("an interval")
        };
        let found = interval(WITH_ERROR);
        assert!(found.low < value(&figures, WITH_ERROR).unwrap());
        assert!(found.high > found.low && found.high - found.low < 0.2);
    }

    #[test]
    fn a_margin_over_its_ignorance_tells_right_pairs_where_the_margin_does_not() {
        let pair = |row, margin: f64, ignorance| PairFact {
            row,
            margin,
            ignorance,
        };
        // Two right pairs that are sure, two wrong ones of the same size that are not.
        let pairs = [
            // The same answer twice: nobody is unsure of it.
            pair(4, 0.0, 0.0),
            pair(0, 1.0, 0.1),
            pair(1, 2.0, 0.2),
            pair(2, -1.0, 5.0),
            pair(3, -2.0, 5.0),
        ];
        let figures = measure(&[], &pairs, 5, 200).unwrap();
        assert_eq!(value(&figures, RIGHT_PAIRS), Some(1.0));
        assert_eq!(value(&figures, RIGHT_ALONE), Some(0.5));
        let expected = ((0.01 + 0.04 + 25.0 + 25.0) / 10.0f64).sqrt();
        assert!((value(&figures, MARGINS).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn what_there_is_nothing_to_say_about_is_undefined_with_a_reason() {
        let figures = measure(&[], &[], 0, 100).unwrap();
        assert!(figures.iter().all(|figure| figure.metric.value.is_none()));
        let flat: Vec<TokenFact> = honest(20, 1.0)
            .into_iter()
            .map(|token| TokenFact {
                mean: 1.0,
                ignorance: 0.0,
                ..token
            })
            .collect();
        let pairs = [PairFact {
            row: 0,
            margin: 0.5,
            ignorance: 0.0,
        }];
        let figures = measure(&flat, &pairs, 2, 100).unwrap();
        for figure in &figures {
            match &figure.metric.value {
                Some(value) => assert!(value.is_finite()),
                None => assert!(figure.metric.undefined.is_some(), "{}", figure.name),
            }
        }
        assert_eq!(value(&figures, RIGHT_PAIRS), None);
    }
}
