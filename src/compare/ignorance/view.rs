//! Ignorance over seeds, and its section of the table and of the page.

use super::super::cell::CellRecord;
use super::super::checks::mean_of;
use super::super::plan::Plan;
use super::super::results::Results;
use super::super::summary::deviation;
use super::super::svg::escape;
use super::super::table::{cell, prose, spread};
use super::ensemble::LABEL;
use super::figures::{
    CORRELATION, COVERAGE_IGNORANCE, COVERAGE_OWN, COVERAGE_TOTAL, IGNORANCE, MARGINS, OWN_SPREAD,
    RIGHT_ALONE, RIGHT_PAIRS, WITH_ERROR, WITH_RARITY,
};
use super::{EstimateRecord, of_seeds};
use crate::eval::Metric;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The figures as the table shows them.
const COLUMNS: [&str; 11] = [
    CORRELATION,
    IGNORANCE,
    OWN_SPREAD,
    COVERAGE_IGNORANCE,
    COVERAGE_OWN,
    COVERAGE_TOTAL,
    WITH_ERROR,
    WITH_RARITY,
    MARGINS,
    RIGHT_PAIRS,
    RIGHT_ALONE,
];

/// One estimate of one system's ignorance, over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IgnoranceResult {
    /// The system's label.
    pub system: String,
    /// The estimate's label.
    pub estimate: String,
    /// Seeds that have figures; of the ensemble, its members.
    pub seeds: usize,
    /// Seeds that were asked.
    pub asked: usize,
    /// How the numbers of the first seed came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why there are none of the first seed that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Figures over seeds.
    pub figures: Vec<IgnoranceFigure>,
}

/// One figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IgnoranceFigure {
    /// What it is.
    pub name: String,
    /// Mean over seeds with the mean of their intervals over test rows, or why there is none.
    #[serde(flatten)]
    pub metric: Metric,
    /// Standard deviation over seeds (n - 1 in the denominator); absent with one value, and of the ensemble.
    pub std: Option<f64>,
    /// Seeds that have a value.
    pub seeds: usize,
}

/// Every estimate of every system; `used[system]` are the cells of its chosen trial.
pub fn results(plan: &Plan, used: &[Vec<&CellRecord>]) -> Vec<IgnoranceResult> {
    let mut all = Vec::new();
    for (system, cells) in plan.systems.iter().zip(used) {
        let good: Vec<&CellRecord> = cells
            .iter()
            .copied()
            .filter(|cell| cell.failure.is_none())
            .collect();
        for estimate in &plan.estimates {
            let label = estimate.label();
            let records: Vec<&EstimateRecord> = good
                .iter()
                .filter_map(|cell| cell.ignorance.iter().find(|r| r.estimate == label))
                .collect();
            all.extend(over_seeds(&system.label, &records));
        }
        let ensemble = of_seeds(&good, plan.config.resamples);
        all.extend(ensemble.map(|record| IgnoranceResult {
            seeds: match record.failure {
                None => good.len(),
                Some(_) => 0,
            },
            asked: good.len(),
            ..over_seeds(&system.label, &[&record]).unwrap_or_else(|| blank(&system.label, &record))
        }));
    }
    all
}

fn blank(system: &str, record: &EstimateRecord) -> IgnoranceResult {
    IgnoranceResult {
        system: system.into(),
        estimate: record.estimate.clone(),
        seeds: 0,
        asked: 1,
        detail: record.detail.clone(),
        failure: record.failure.clone(),
        figures: Vec::new(),
    }
}

/// An estimate over the seeds that have it; `None` where none was asked.
fn over_seeds(system: &str, records: &[&EstimateRecord]) -> Option<IgnoranceResult> {
    let first = records.first()?;
    let measured: Vec<&&EstimateRecord> = records.iter().filter(|r| r.failure.is_none()).collect();
    let failure = records.iter().find_map(|record| record.failure.clone());
    let Some(best) = measured.first() else {
        return Some(IgnoranceResult {
            asked: records.len(),
            ..blank(system, first)
        });
    };
    let figures = COLUMNS.iter().filter_map(|name| {
        let own: Vec<&Metric> = measured
            .iter()
            .filter_map(|record| record.figures.iter().find(|f| f.name == *name))
            .map(|figure| &figure.metric)
            .collect();
        let values: Vec<f64> = own.iter().filter_map(|metric| metric.value).collect();
        (!own.is_empty()).then(|| IgnoranceFigure {
            name: (*name).into(),
            metric: mean_of(&own),
            std: deviation(&values),
            seeds: values.len(),
        })
    });
    Some(IgnoranceResult {
        seeds: measured.len(),
        asked: records.len(),
        failure,
        figures: figures.collect(),
        ..blank(system, best)
    })
}

const TITLE: &str = "Ignorance: how far a map may be off for want of data";
const ABOUT: &str = "Ignorance is what more data should remove; own spread is the method's standard deviation, which is something \
else, and the total has both variances. Both are given over the standard deviation of the map itself, and over the root mean square of the margins, so that maps of any unit can be \
compared. 95 % intervals of a posterior mean hold 0.95 of the known rewards; a map that is the truth plus noise of the stated size holds \
fewer, since the fit to the known rewards shrinks it (0.83 where its correlation is 0.7). Ignorance that is worth something is larger where the map is wrong \
and where training saw little, and a pair's margin over its ignorance tells right pairs from wrong ones better than the margin alone. \
Mean ± standard deviation over seeds, with the mean of the seeds' own 95 % intervals over test rows; of the ensemble, one figure with its \
interval.";

/// Whether any estimate was asked for beside the seeds' own: then it is told why nothing came of it.
fn asked(results: &Results) -> bool {
    results.ignorance.iter().any(|line| line.estimate != LABEL)
}

/// The columns in which some system has a number.
fn columns(results: &Results) -> Vec<&'static str> {
    let has = |name: &&&str| {
        let figures = results.ignorance.iter().flat_map(|line| &line.figures);
        figures
            .filter(|figure| figure.name == ***name)
            .any(|figure| figure.metric.value.is_some())
    };
    COLUMNS.iter().filter(has).copied().collect()
}

fn lines(results: &Results, columns: &[&str]) -> Vec<Vec<String>> {
    let line = |result: &IgnoranceResult| {
        let estimate = format!(
            "{} ({} seed{})",
            result.estimate,
            result.seeds,
            if result.seeds == 1 { "" } else { "s" }
        );
        let mut line = vec![result.system.clone(), estimate];
        line.extend(columns.iter().map(|name| {
            let figure = result.figures.iter().find(|figure| figure.name == *name);
            match figure {
                Some(figure) if figure.metric.value.is_some() => {
                    let mut text = spread(&figure.metric, figure.std);
                    // The ensemble is one figure of all seeds.
                    if figure.seeds < result.seeds && result.estimate != LABEL {
                        let _ = write!(text, " ({} of {} seeds)", figure.seeds, result.seeds);
                    }
                    text
                }
                _ => "undefined".into(),
            }
        }));
        line
    };
    // Those without figures are told below, with the reason.
    let measured = results.ignorance.iter().filter(|r| !r.figures.is_empty());
    measured.map(line).collect()
}

/// How numbers came about, and then the reasons behind `undefined`, each once with what it leaves undefined and of whom.
fn notes(results: &Results) -> Vec<String> {
    let mut details = Named::default();
    let mut reasons = Named::default();
    for result in &results.ignorance {
        let (system, estimate) = (result.system.as_str(), result.estimate.as_str());
        if let Some(detail) = &result.detail {
            // A prior variance, say, is each seed's own.
            let of = match result.estimate == LABEL || result.seeds < 2 {
                true => "",
                false => ", first seed",
            };
            details.add(&format!("{estimate}{of}: {detail}"), system, None);
        }
        if let Some(failure) = &result.failure {
            let missing = result.asked - result.seeds.min(result.asked);
            let what = match result.seeds {
                0 => estimate.to_string(),
                _ => format!("{estimate}, {missing} of {} seeds", result.asked),
            };
            reasons.add(failure, system, Some(&what));
        }
        for figure in &result.figures {
            if let Some(reason) = &figure.metric.undefined {
                let reason = reason.trim_start_matches("undefined: ");
                reasons.add(reason, system, Some(&figure.name));
            }
        }
    }
    let details = details.0.into_iter();
    let details = details.map(|note| format!("{} ({})", note.words, note.systems.join(", ")));
    let reasons = reasons.0.into_iter().map(|note| {
        format!(
            "Undefined, because {}: {} ({})",
            note.words,
            note.what.join("; "),
            note.systems.join(", ")
        )
    });
    details.chain(reasons).collect()
}

/// Sentences, each once, with all that they are said of.
#[derive(Default)]
struct Named(Vec<Note>);

struct Note {
    words: String,
    systems: Vec<String>,
    what: Vec<String>,
}

impl Named {
    fn add(&mut self, words: &str, system: &str, what: Option<&str>) {
        let at = self.0.iter().position(|note| note.words == words);
        let at = at.unwrap_or_else(|| {
            self.0.push(Note {
                words: words.into(),
                systems: Vec::new(),
                what: Vec::new(),
            });
            self.0.len() - 1
        });
        let note = &mut self.0[at];
        for (list, name) in [(&mut note.systems, Some(system)), (&mut note.what, what)] {
            if let Some(name) = name
                && !list.iter().any(|known| known == name)
            {
                list.push(name.into());
            }
        }
    }
}

/// The section as Markdown; empty where nothing was measured.
pub fn markdown(results: &Results) -> String {
    let columns = columns(results);
    let notes = notes(results);
    if columns.is_empty() && !asked(results) {
        return String::new();
    }
    let header: Vec<&str> = ["system", "estimate"]
        .into_iter()
        .chain(columns.iter().copied())
        .collect();
    let mut text = format!(
        "\n## {TITLE}\n\n{ABOUT}\n\n| {} |\n|{}\n",
        header.join(" | "),
        "---|".repeat(header.len())
    );
    for line in lines(results, &columns) {
        let cells: Vec<String> = line.iter().map(|text| cell(text)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for (i, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}- {}", if i == 0 { "\n" } else { "" }, prose(note));
    }
    text
}

/// The section as HTML; empty where nothing was measured.
pub fn html(results: &Results) -> String {
    let columns = columns(results);
    let notes = notes(results);
    if columns.is_empty() && !asked(results) {
        return String::new();
    }
    let cells = |tag: &str, line: &[String]| -> String {
        line.iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
            .collect()
    };
    let header: Vec<String> = ["system", "estimate"]
        .into_iter()
        .chain(columns.iter().copied())
        .map(String::from)
        .collect();
    let mut html = format!(
        "<h2>{TITLE}</h2>\n<p class=\"about\">{ABOUT}</p>\n<div class=\"wide\"><table>\n<tr>{}</tr>\n",
        cells("th", &header)
    );
    for line in lines(results, &columns) {
        html.push_str("<tr>");
        for (i, text) in line.iter().enumerate() {
            let class = match (i, text.as_str()) {
                (0 | 1, _) => "",
                (_, "undefined") => "none",
                _ => "n",
            };
            // An interval under its value keeps a wide table narrow.
            let text = escape(text).replacen(" [", "<br>[", usize::from(i > 1));
            let _ = write!(html, "<td class=\"{class}\">{text}</td>");
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    if !notes.is_empty() {
        html.push_str("<ul>\n");
        for note in notes {
            let _ = writeln!(html, "<li>{}</li>", escape(&note));
        }
        html.push_str("</ul>\n");
    }
    html
}
