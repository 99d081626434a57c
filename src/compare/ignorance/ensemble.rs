//! What the seeds of one system know together: their mean map, and how far they disagree.
//!
//! Disagreement is ignorance: how far a map may be off for want of data (deep ensembles, Lakshminarayanan et al.,
//! arXiv 1612.01474, which take the members' variance for that of their mean). Seeds need not share a scale, so maps are brought to the known rewards one by one, and margins are
//! divided by their own root mean square, before they are averaged.

use super::super::cell::CellRecord;
use super::super::known::CORRELATED;
use super::EstimateRecord;
use super::figures::{NO_TRUTH, PairFact, TokenFact, measure};
use crate::eval::{Metric, mean};

/// The estimate's name in the report.
pub const LABEL: &str = "the seeds as one ensemble";

const ONE_SEED_POINTS_AWAY: &str =
    "of some seed no positive factor brings the token rewards closer to the known ones";

/// The seeds of one system's chosen trial as one ensemble. `None` where no seed was trained.
pub fn of_seeds(cells: &[&CellRecord], resamples: usize) -> Option<EstimateRecord> {
    let blank = EstimateRecord {
        estimate: LABEL.into(),
        detail: None,
        failure: None,
        figures: Vec::new(),
    };
    let rows = cells.first()?.scores.len();
    // All cells measure the same test rows; a record of another length is none of theirs.
    let members: Vec<&CellRecord> = cells
        .iter()
        .copied()
        .filter(|cell| cell.scores.len() == rows)
        .collect();
    if members.len() < 2 {
        return Some(EstimateRecord {
            failure: Some(
                "one seed is no ensemble: it takes two or more whose training did not diverge"
                    .into(),
            ),
            ..blank
        });
    }
    let (tokens, pairs) = (tokens(&members), margins(&members));
    if tokens.is_empty() && pairs.is_empty() {
        return Some(EstimateRecord {
            failure: Some(
                "there are neither pairs of which every seed says something nor rewards that every seed's map can be brought to".into(),
            ),
            ..blank
        });
    }
    let blank = EstimateRecord {
        detail: Some(format!(
            "each seed's map is brought to the known rewards by itself ({} tokens), and its margins are divided by their own size, before they are averaged",
            tokens.len()
        )),
        ..blank
    };
    // What is kept of a seed's map are its tokens of known reward, where a positive scale fits it. Its correlation is there in
    // any case.
    let mut known = members
        .iter()
        .flat_map(|cell| &cell.assessment.truths)
        .map(|truth| truth.result.name == CORRELATED && truth.result.metric.value.is_some());
    let reason = match known.any(|known| known) {
        true => ONE_SEED_POINTS_AWAY,
        false => NO_TRUTH,
    };
    Some(match measure(&tokens, &pairs, rows, resamples) {
        Ok(mut figures) => {
            for figure in &mut figures {
                if figure.unit == "tokens" && tokens.is_empty() {
                    figure.metric = Metric::undefined(reason);
                }
            }
            EstimateRecord { figures, ..blank }
        }
        Err(error) => EstimateRecord {
            failure: Some(error.to_string()),
            ..blank
        },
    })
}

/// Mean and sample variance (n - 1).
fn moments(values: &[f64]) -> (f64, f64) {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (middle, squares / (values.len() - 1) as f64)
}

/// Tokens of known reward.
fn tokens(members: &[&CellRecord]) -> Vec<TokenFact> {
    let first = &members[0].assessment;
    let count = first.known.len();
    if count != first.known_rows.len()
        || members
            .iter()
            .any(|cell| cell.assessment.known.len() != count)
    {
        return Vec::new();
    }
    (0..count)
        .map(|token| {
            let column = |column: usize| -> Vec<f64> {
                let cells = members.iter();
                cells
                    .map(|cell| f64::from(cell.assessment.known[token][column]))
                    .collect()
            };
            let (middle, variance) = moments(&column(0));
            let squares: Vec<f64> = column(1).iter().map(|std| std * std).collect();
            TokenFact {
                row: first.known_rows[token] as usize,
                mean: middle,
                own: squares
                    .iter()
                    .all(|square| *square > 0.0)
                    .then(|| mean(&squares).sqrt()),
                ignorance: variance.sqrt(),
                truth: Some(f64::from(first.known[token][2])),
                seen: None,
            }
        })
        .collect()
}

/// The pairs' margins; none where the rows are no pairs, or a seed gives every pair the same score.
fn margins(members: &[&CellRecord]) -> Vec<PairFact> {
    let of = |cell: &CellRecord| -> Option<Vec<f64>> {
        let margins: Option<Vec<f64>> = cell
            .scores
            .iter()
            .map(|row| match row.scores[..] {
                [chosen, rejected] => Some(f64::from(chosen) - f64::from(rejected)),
                _ => None,
            })
            .collect();
        let margins = margins.filter(|margins| !margins.is_empty())?;
        let squares: Vec<f64> = margins.iter().map(|margin| margin * margin).collect();
        let size = mean(&squares).sqrt();
        (size > 0.0).then(|| margins.iter().map(|margin| margin / size).collect())
    };
    let all: Option<Vec<Vec<f64>>> = members.iter().map(|cell| of(cell)).collect();
    let Some(all) = all else {
        return Vec::new();
    };
    (0..all[0].len())
        .map(|row| {
            let (margin, variance) = moments(&all.iter().map(|m| m[row]).collect::<Vec<_>>());
            PairFact {
                row,
                margin,
                ignorance: variance.sqrt(),
            }
        })
        .collect()
}
