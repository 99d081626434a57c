//! What the seeds of one system know together: their mean map, and how far they disagree about a token.
//!
//! Disagreement is ignorance: how far a mean may be off for want of data (deep ensembles, Lakshminarayanan et al.,
//! arXiv 1612.01474). A method's own spread is another number, and the total has both variances. Here all three are held
//! against known token rewards.

use super::cell::CellRecord;
use super::results::Results;
use super::svg::escape;
use super::table::{cell, number};
use crate::eval::{CalibrationReport, Metric, gaussian_calibration, mean, pearson};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// A token's smallest standard deviation, in units of the true rewards: members that agree to the last bit would
/// otherwise claim a certainty that no interval can hold.
const LEAST_STD: f64 = 1e-6;

/// The seeds of one system as one ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    /// Members.
    pub seeds: usize,
    /// Tokens that were compared.
    pub tokens: usize,
    /// Correlation of the mean map with the known rewards.
    pub correlation: Metric,
    /// Root mean square of the members' disagreement, in units of the true rewards.
    pub ignorance: Metric,
    /// Root mean square of the method's own spread, in the same units.
    pub own_spread: Metric,
    /// Share of known rewards inside the 95 % interval of ignorance alone.
    pub coverage_ignorance: Metric,
    /// The same of the method's own spread alone, around the mean map.
    pub coverage_own: Metric,
    /// The same of both together.
    pub coverage_total: Metric,
}

impl Ensemble {
    /// Of the cells of one system's chosen trial. `None` where no rewards are known.
    pub fn of(cells: &[&CellRecord]) -> Option<Self> {
        let members: Vec<&CellRecord> = cells
            .iter()
            .copied()
            .filter(|cell| !cell.assessment.known.is_empty())
            .collect();
        let tokens = members.first()?.assessment.known.len();
        // All cells measure the same test rows; a record of another length is none of theirs.
        let members: Vec<&CellRecord> = members
            .into_iter()
            .filter(|cell| cell.assessment.known.len() == tokens)
            .collect();
        let seeds = members.len();
        if seeds < 2 {
            return Some(Self::undefined(
                seeds,
                tokens,
                "one seed is no ensemble; give two or more",
            ));
        }
        let at = |token: usize, column: usize| -> Vec<f64> {
            members
                .iter()
                .map(|cell| f64::from(cell.assessment.known[token][column]))
                .collect()
        };
        let (mut means, mut truths) = (Vec::new(), Vec::new());
        let (mut disagreement, mut own) = (Vec::new(), Vec::new());
        for token in 0..tokens {
            let values = at(token, 0);
            let middle = mean(&values);
            let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
            means.push(middle);
            disagreement.push(squares / (seeds - 1) as f64);
            own.push(mean(
                &at(token, 1).iter().map(|std| std * std).collect::<Vec<_>>(),
            ));
            truths.push(f64::from(members[0].assessment.known[token][2]));
        }
        let has_own = own.iter().all(|variance| *variance > 0.0);
        let cover = |variances: Vec<f64>| -> Metric {
            let stds: Vec<f64> = variances
                .iter()
                .map(|variance| variance.sqrt().max(LEAST_STD))
                .collect();
            gaussian_calibration(&means, &stds, &truths)
                .map(|report: CalibrationReport| Metric::of(report.coverage[2].observed))
                .unwrap_or_else(|error| Metric::undefined(error.to_string()))
        };
        let no_own = || Metric::undefined("not every member has a standard deviation of its own");
        let total = || own.iter().zip(&disagreement).map(|(a, b)| a + b).collect();
        Some(Self {
            seeds,
            tokens,
            correlation: pearson(&means, &truths)
                .unwrap_or_else(|error| Metric::undefined(error.to_string())),
            ignorance: Metric::of(mean(&disagreement).sqrt()),
            own_spread: match has_own {
                true => Metric::of(mean(&own).sqrt()),
                false => no_own(),
            },
            coverage_ignorance: cover(disagreement.clone()),
            coverage_own: if has_own {
                cover(own.clone())
            } else {
                no_own()
            },
            coverage_total: if has_own { cover(total()) } else { no_own() },
        })
    }

    fn undefined(seeds: usize, tokens: usize, reason: &str) -> Self {
        let none = || Metric::undefined(reason);
        Self {
            seeds,
            tokens,
            correlation: none(),
            ignorance: none(),
            own_spread: none(),
            coverage_ignorance: none(),
            coverage_own: none(),
            coverage_total: none(),
        }
    }

    fn figures(&self) -> [&Metric; 6] {
        [
            &self.correlation,
            &self.ignorance,
            &self.own_spread,
            &self.coverage_ignorance,
            &self.coverage_own,
            &self.coverage_total,
        ]
    }
}

const TITLE: &str = "The seeds as one ensemble: ignorance, own spread, total";
const ABOUT: &str = "Each seed's map is brought to the true rewards by its own best positive scale and offset; the means are \
averaged. Ignorance is the seeds' disagreement, own spread the method's standard deviation, and the total has both variances. \
An honest 95 % interval holds 0.95 of the known rewards.";
const HEADER: [&str; 7] = [
    "system",
    "correlation of the mean map",
    "ignorance (rms)",
    "own spread (rms)",
    "95 % coverage, ignorance",
    "95 % coverage, own spread",
    "95 % coverage, total",
];

fn lines(results: &Results) -> Vec<[String; 7]> {
    let shown = |metric: &Metric| metric.value.map_or_else(|| "undefined".into(), number);
    results
        .systems
        .iter()
        .filter_map(|system| {
            let ensemble = system.ensemble.as_ref()?;
            let mut line: [String; 7] = Default::default();
            line[0] = format!("{} ({} seeds)", system.label, ensemble.seeds);
            for (place, metric) in line[1..].iter_mut().zip(ensemble.figures()) {
                *place = shown(metric);
            }
            Some(line)
        })
        .collect()
}

/// The reasons behind `undefined`, each once.
fn reasons(results: &Results) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    let ensembles = results.systems.iter().filter_map(|s| s.ensemble.as_ref());
    for metric in ensembles.flat_map(|ensemble| ensemble.figures()) {
        if let Some(reason) = &metric.undefined
            && !reasons.contains(reason)
        {
            reasons.push(reason.clone());
        }
    }
    reasons
}

/// The section as Markdown; empty where no rewards are known.
pub(super) fn markdown(results: &Results) -> String {
    let lines = lines(results);
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n## {TITLE}\n\n{ABOUT}\n\n| {} |\n|{}\n",
        HEADER.join(" | "),
        "---|".repeat(HEADER.len())
    );
    for line in lines {
        let cells = line.map(|text| cell(&text));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for reason in reasons(results) {
        let _ = writeln!(
            text,
            "\nUndefined: {}.",
            reason.trim_start_matches("undefined: ")
        );
    }
    text
}

/// The section as HTML; empty where no rewards are known.
pub(super) fn html(results: &Results) -> String {
    let lines = lines(results);
    if lines.is_empty() {
        return String::new();
    }
    let cells = |tag: &str, line: &[String]| -> String {
        line.iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
            .collect()
    };
    let mut html = format!(
        "<h3>{TITLE}</h3>\n<p class=\"about\">{ABOUT}</p>\n<div class=\"wide\"><table>\n<tr>{}</tr>\n",
        cells("th", &HEADER.map(String::from))
    );
    for line in lines {
        let _ = writeln!(html, "<tr>{}</tr>", cells("td", &line));
    }
    html.push_str("</table></div>\n");
    for reason in reasons(results) {
        let reason = reason.trim_start_matches("undefined: ");
        let _ = writeln!(
            html,
            "<p class=\"about\">Undefined: {}.</p>",
            escape(reason)
        );
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn cell(seed: u64, known: Vec<[f32; 3]>) -> CellRecord {
        let mut record = CellRecord::empty("c", "system", 0, BTreeMap::new(), seed);
        record.assessment.known = known;
        record
    }

    #[test]
    fn disagreement_own_spread_and_total_are_three_numbers() {
        // Two members that differ by 2 on each token: variance 2, mean in the middle, which is the truth.
        let a = cell(0, vec![[1.0, 0.5, 2.0], [-3.0, 0.5, -2.0], [0.0, 0.5, 1.0]]);
        let b = cell(1, vec![[3.0, 0.5, 2.0], [-1.0, 0.5, -2.0], [2.0, 0.5, 1.0]]);
        let ensemble = Ensemble::of(&[&a, &b]).expect("rewards are known");
        let value = |metric: &Metric| metric.value.expect("a value");
        assert!((value(&ensemble.ignorance) - 2f64.sqrt()).abs() < 1e-6);
        assert!((value(&ensemble.own_spread) - 0.5).abs() < 1e-6);
        assert!((value(&ensemble.correlation) - 1.0).abs() < 1e-9);
        assert_eq!(value(&ensemble.coverage_total), 1.0);
    }

    #[test]
    fn confident_members_that_agree_on_a_wrong_reward_cover_nothing() {
        let a = cell(0, vec![[1.0, 0.1, 2.0], [0.0, 0.1, 3.0]]);
        let b = cell(1, vec![[1.0, 0.1, 2.0], [0.0, 0.1, 3.0]]);
        let ensemble = Ensemble::of(&[&a, &b]).expect("rewards are known");
        assert_eq!(ensemble.coverage_ignorance.value, Some(0.0));
        assert_eq!(ensemble.coverage_total.value, Some(0.0));
    }

    #[test]
    fn one_seed_or_no_own_spread_is_undefined_and_says_why() {
        let a = cell(0, vec![[1.0, 0.0, 2.0], [0.5, 0.0, 1.0]]);
        let b = cell(1, vec![[2.0, 0.0, 2.0], [0.0, 0.0, 1.0]]);
        let alone = Ensemble::of(&[&a]).expect("rewards are known");
        assert_eq!(alone.correlation.value, None);
        assert!(
            alone
                .correlation
                .undefined
                .is_some_and(|r| r.contains("one seed"))
        );
        let both = Ensemble::of(&[&a, &b]).expect("rewards are known");
        assert_eq!(both.coverage_own.value, None);
        assert_eq!(both.coverage_total.value, None);
        assert!(both.coverage_ignorance.value.is_some());
        assert!(Ensemble::of(&[]).is_none());
    }
}
