//! Truths that need the model or files of their own: asked of every trained map, and brought together over seeds.
//!
//! A system's map is `checked` when the map of every seed is, by the rule of `avascope eval`: it passed every truth that is
//! decided, at least one of them with people's labels. Else it is `exploratory`. What a truth asks and when it is passed is
//! [`crate::train::TRUTHS`]' own business.

use super::cell::CellRecord;
use super::plan::Plan;
use super::results::Results;
use super::summary::{deviation, mean_interval};
use crate::eval::{Bootstrap, Metric};
use crate::reward::Trust;
use crate::train::{
    Floor, Question, RULE, Scorer, TrainError, Truth, TruthFigure, TruthOptions, TruthResult,
    WordFloor,
};
use serde::{Deserialize, Serialize};

/// What every trained map is asked.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The truths, made ready, in the configuration's order.
    pub questions: Vec<Question>,
    /// The word model of the training rows, where they are pairs: a floor of some truths.
    pub words: Option<WordFloor>,
    /// Resamples behind the intervals.
    pub resamples: usize,
}

impl Checks {
    /// Asks every truth of a map.
    ///
    /// # Errors
    /// What scoring gives.
    pub async fn ask(&self, scorer: &Scorer) -> Result<Vec<TruthResult>, TrainError> {
        let options = TruthOptions {
            bootstrap: Bootstrap {
                draws: self.resamples,
                ..Bootstrap::default()
            },
            words: self.words.as_ref(),
        };
        let mut results = Vec::with_capacity(self.questions.len());
        for question in &self.questions {
            let result = question.ask(scorer, &options).await?;
            results.push(result.for_map_of(scorer.objective()));
        }
        Ok(results)
    }
}

/// What a truth says of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The map passed.
    Passed,
    /// It did not; nor does a map that is not there, because training diverged.
    NotPassed,
    /// Neither: too few answers bear on the truth, or it has no say on such a map.
    Undecided,
}

/// One truth with what it says of every system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its name.
    pub truth: String,
    /// Its file, or the test rows.
    pub data: String,
    /// What it asks.
    pub about: String,
    /// How `passed` is decided, of one seed.
    pub rule: String,
    /// Systems in the configuration's order.
    pub systems: Vec<CheckedSystem>,
}

/// One truth on one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckedSystem {
    /// The system's label.
    pub system: String,
    /// Passed where the map of every seed did, and not passed where any seed's did not.
    pub outcome: Outcome,
    /// Every seed.
    pub seeds: Vec<SeedCheck>,
    /// Answers (or traces) that were measured; the same for every seed.
    pub answers: usize,
    /// Tokens (or steps, or interventions: a note says which) that were measured.
    pub tokens: usize,
    /// Figures over seeds; those that decide first.
    pub figures: Vec<CheckFigure>,
    /// What was left out, and how numbers were made, in sentences.
    pub notes: Vec<String>,
}

/// One truth on one seed's map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedCheck {
    /// The seed.
    pub seed: u64,
    /// What the truth says of its map.
    pub outcome: Outcome,
    /// Why there is no map, where training diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A figure over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckFigure {
    /// What it is.
    pub name: String,
    /// Mean over seeds with the mean of the seeds' intervals, or why there is none.
    #[serde(flatten)]
    pub metric: Metric,
    /// Standard deviation over seeds (n - 1 in the denominator); absent with one value.
    pub std: Option<f64>,
    /// The value of every seed that has one.
    pub values: Vec<f64>,
    /// Floors, averaged over the seeds that have them.
    pub floors: Vec<Floor>,
    /// Whether the truth's verdict depends on it.
    pub decides: bool,
    /// Seeds whose figure lies above its floors.
    pub passed_seeds: Vec<u64>,
}

/// Every truth over the seeds of every system; `used[system]` are the cells of its chosen trial.
pub(super) fn checks(plan: &Plan, used: &[Vec<&CellRecord>]) -> Vec<CheckResult> {
    let entries = plan.config.truths.iter().zip(&plan.truths);
    entries
        .enumerate()
        .map(|(index, (entry, truth))| CheckResult {
            truth: truth.name.into(),
            data: entry.data().into(),
            about: truth.about.into(),
            rule: RULE.into(),
            systems: plan
                .systems
                .iter()
                .zip(used)
                .map(|(system, cells)| checked_system(&system.label, index, plan, cells))
                .collect(),
        })
        .collect()
}

fn checked_system(label: &str, index: usize, plan: &Plan, cells: &[&CellRecord]) -> CheckedSystem {
    // A training that diverged has no results.
    let found: Vec<(u64, &TruthResult)> = cells
        .iter()
        .filter_map(|cell| Some((cell.seed, cell.checks.get(index)?)))
        .collect();
    // Whether a seed passed is decided by its figures, not by the word of a file.
    let seeds: Vec<SeedCheck> = cells
        .iter()
        .map(|cell| SeedCheck {
            seed: cell.seed,
            outcome: match cell.checks.get(index).map(TruthResult::says) {
                Some(Some(true)) => Outcome::Passed,
                Some(None) => Outcome::Undecided,
                Some(Some(false)) | None => Outcome::NotPassed,
            },
            failure: cell.failure.clone(),
        })
        .collect();
    let first = found.first().map(|(_, result)| *result);
    let mut names: Vec<&str> = Vec::new();
    for figure in found.iter().flat_map(|(_, result)| &result.figures) {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    CheckedSystem {
        system: label.into(),
        outcome: over_all(&seeds, plan.config.seeds.len()),
        seeds,
        answers: first.map_or(0, |result| result.answers),
        tokens: first.map_or(0, |result| result.tokens),
        figures: names
            .into_iter()
            .filter_map(|name| over_seeds(name, &found))
            .collect(),
        notes: first.map_or_else(Vec::new, |result| {
            let verdict = result.undecided().then(|| result.verdict());
            verdict
                .into_iter()
                .chain(result.notes.iter().cloned())
                .collect()
        }),
    }
}

/// What a truth says of a system that was to be trained with so many seeds.
fn over_all(seeds: &[SeedCheck], wanted: usize) -> Outcome {
    let has = |outcome| seeds.iter().any(|seed| seed.outcome == outcome);
    if seeds.len() != wanted || has(Outcome::NotPassed) {
        Outcome::NotPassed
    } else if has(Outcome::Undecided) {
        Outcome::Undecided
    } else {
        Outcome::Passed
    }
}

/// A figure over the seeds that have it.
fn over_seeds(name: &str, seeds: &[(u64, &TruthResult)]) -> Option<CheckFigure> {
    let own: Vec<(u64, &TruthFigure)> = seeds
        .iter()
        .filter_map(|(seed, result)| Some((*seed, result.figures.iter().find(|f| f.name == name)?)))
        .collect();
    let (_, first) = own.first()?;
    let metrics: Vec<&Metric> = own.iter().map(|(_, figure)| &figure.metric).collect();
    let floors = first.floors.iter().map(|floor| {
        let same: Vec<&Metric> = own
            .iter()
            .filter_map(|(_, figure)| figure.floors.iter().find(|f| f.name == floor.name))
            .map(|floor| &floor.metric)
            .collect();
        Floor::new(&floor.name, mean_of(&same))
    });
    let values = values(&metrics);
    Some(CheckFigure {
        name: name.into(),
        metric: mean_of(&metrics),
        std: deviation(&values),
        values,
        floors: floors.collect(),
        decides: first.decides,
        passed_seeds: own
            .iter()
            .filter(|(_, figure)| figure.passes())
            .map(|(seed, _)| *seed)
            .collect(),
    })
}

fn values(metrics: &[&Metric]) -> Vec<f64> {
    metrics.iter().filter_map(|metric| metric.value).collect()
}

/// The mean of those that are defined, with the mean of their intervals; the first one's reason where none is.
pub(super) fn mean_of(metrics: &[&Metric]) -> Metric {
    let values = values(metrics);
    if values.is_empty() {
        return metrics.first().map_or_else(
            || Metric::undefined("it was not measured"),
            |metric| (*metric).clone(),
        );
    }
    let defined = metrics.iter().filter(|metric| metric.value.is_some());
    Metric::of(crate::eval::mean(&values))
        .with_interval(mean_interval(defined.map(|metric| metric.interval)))
}

/// How far the map of the system at `index` may be trusted: as far as the least trusted of its seeds' maps.
pub(super) fn trust(index: usize, checks: &[CheckResult], seeds: &[u64]) -> Trust {
    let of = |check: &CheckResult, seed: u64| {
        let seeds = &check.systems.get(index)?.seeds;
        let own = seeds.iter().find(|own| own.seed == seed)?;
        Some(own.outcome)
    };
    let is_checked = |seed: &u64| {
        let mut labelled = false;
        for check in checks {
            match of(check, *seed) {
                Some(Outcome::Passed) => labelled |= Truth::is_labelled(&check.truth),
                Some(Outcome::Undecided) => {}
                Some(Outcome::NotPassed) | None => return false,
            }
        }
        labelled
    };
    match !seeds.is_empty() && seeds.iter().all(is_checked) {
        true => Trust::Checked,
        false => Trust::Exploratory,
    }
}

/// What the two words mean here, in one sentence.
pub(super) fn meaning(results: &Results) -> String {
    if results.config.truths.is_empty() {
        return "Every map is exploratory: no `[[truth]]` was asked for, so nothing here shows that its token rewards are right in the places where a reader looks.".into();
    }
    let asked: Vec<String> = results
        .config
        .truths
        .iter()
        .map(|entry| entry.words())
        .collect();
    let labelled = (results.checks.iter()).any(|check| Truth::is_labelled(&check.truth));
    if !labelled {
        return format!(
            "Every map is exploratory: the truths that were asked for ({}) have no labels of people, and without one (edits, spans, steps or lexicon) nothing shows that token rewards are right.",
            asked.join("; ")
        );
    }
    format!(
        "A system's map is checked if it passed, with every seed, every truth that was asked for ({}) and is decided, at least one of them with people's labels, and otherwise exploratory: good for looking around, not shown to be right. An undecided truth counts neither way.",
        asked.join("; ")
    )
}

/// The word of a trust.
pub(super) fn word(trust: Trust) -> &'static str {
    match trust {
        Trust::Checked => "checked",
        Trust::Exploratory => "exploratory",
    }
}
