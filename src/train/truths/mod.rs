//! Truths that no method saw: what a trained token map is held against.
//!
//! | truth | what it asks |
//! |---|---|
//! | [`edits`] | do the rewards find what people changed between two answers? |
//! | [`spans`] | do they find the parts that people marked as wrong or toxic? |
//! | [`first_wrong_step`] | does the step that people marked as the first wrong one score lowest? |
//! | [`lexicon`] | do they order words as people do, and does sigma follow how much people disagree? |
//! | [`intervention`] | does the answer's score change by what the map says when a token is taken away or replaced? |
//!
//! Each gives a [`TruthResult`]: figures with intervals (percentile bootstrap over answers, because tokens of one answer
//! are not independent), each beside its floors. A figure passes its [`Bar`]: as a rule, the lower end of its interval lies
//! above every floor that is defined, chance included. A map passes a truth when every figure that decides passes. With
//! fewer than [`LEAST_ANSWERS`] behind it a truth is undecided, whatever its figures.

mod floors;
mod intervention;
mod lexicon;
mod question;
mod spans;
mod steps;
mod trust;

pub use floors::WordFloor;
pub use intervention::{InterventionPlan, intervention};
pub use lexicon::lexicon;
pub use question::{Question, Seen, TruthData};
pub use spans::{edits, spans};
pub use steps::{EncodedTrace, encode_traces, first_wrong_step};
pub use trust::{TRUST_SCHEMA, TrustEntry, TrustFile, Verdict};

use crate::eval::{Bootstrap, EvalError, Metric};
use serde::{Deserialize, Serialize};

/// How `passed` is decided, in words.
pub const RULE: &str = "passed: the lower end of the 95 % interval (bootstrap over answers) lies above chance and above every floor that is named (of what chosen answers gained, which is often neutral: the upper end not below chance), with at least 10 answers behind it; with fewer a truth is undecided";

/// Fewest answers that decide a truth; of marked parts, as many with a token inside and as many with one outside. A map of
/// no worth is right in all of so many independent answers with a chance of 1 in 1000, and a bootstrap over fewer has
/// hardly any width.
pub const LEAST_ANSWERS: usize = 10;

/// Which truth it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthKind {
    /// [`edits`].
    Edits,
    /// [`spans`].
    Spans,
    /// [`first_wrong_step`].
    Steps,
    /// [`lexicon`].
    Lexicon,
    /// [`intervention`].
    Intervention,
}

/// A truth that [`TRUTHS`] lists.
#[derive(Debug, PartialEq, Eq)]
pub struct Truth {
    /// Which it is.
    pub kind: TruthKind,
    /// Name in commands and results.
    pub name: &'static str,
    /// What it asks and of which file, for people.
    pub about: &'static str,
    /// Whether it needs a file of its own; where not, the rows that are scored anyway serve.
    pub needs_file: bool,
    /// Whether people's labels stand on its other side. Only such a truth can make a map `checked`.
    pub labelled: bool,
}

/// The truths.
pub const TRUTHS: &[Truth] = &[
    Truth {
        kind: TruthKind::Edits,
        name: "edits",
        about: "pairs with chosen_spans and rejected_spans: token AUC on what was edited",
        needs_file: false,
        labelled: true,
    },
    Truth {
        kind: TruthKind::Spans,
        name: "spans",
        about: "answers with bad_spans or spans: token AUC on the marked parts",
        needs_file: false,
        labelled: true,
    },
    Truth {
        kind: TruthKind::Steps,
        name: "steps",
        about: "traces with steps and mistake_index: does the first wrong step score lowest?",
        needs_file: true,
        labelled: true,
    },
    Truth {
        kind: TruthKind::Lexicon,
        name: "lexicon",
        about: "a lexicon in VADER's format, with the scored rows: rank correlation with human word ratings",
        needs_file: true,
        labelled: true,
    },
    Truth {
        kind: TruthKind::Intervention,
        name: "intervention",
        about: "any rows: tokens deleted, swapped or rewritten by the policy, and the answer scored again",
        needs_file: false,
        labelled: false,
    },
];

/// There is no truth of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no truth `{name}`; known truths: {known}")]
pub struct UnknownTruth {
    /// What was asked for.
    pub name: String,
    /// All truths with what they ask, the nearest name first.
    pub known: String,
}

impl Truth {
    /// Whether `name` is a truth with people's labels.
    pub fn is_labelled(name: &str) -> bool {
        TRUTHS
            .iter()
            .any(|truth| truth.name == name && truth.labelled)
    }

    /// The truth of that name.
    ///
    /// # Errors
    /// [`UnknownTruth`], which lists the known ones.
    pub fn by_name(name: &str) -> Result<&'static Self, UnknownTruth> {
        let find = |name: &str| TRUTHS.iter().find(|truth| truth.name == name);
        find(name).ok_or_else(|| {
            let names = TRUTHS.iter().map(|truth| truth.name.to_owned());
            let known: Vec<String> = crate::objective::nearest_first(name, names)
                .iter()
                .filter_map(|name| find(name))
                .map(|truth| format!("{} ({})", truth.name, truth.about))
                .collect();
            UnknownTruth {
                name: name.into(),
                known: known.join("; "),
            }
        })
    }
}

/// What all truths read beside their rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct TruthOptions<'a> {
    /// How intervals are made.
    pub bootstrap: Bootstrap,
    /// A Bradley-Terry model of single words, fitted on the rows that trained the map: the floor that every map must
    /// beat. Where absent it is not among the floors.
    pub words: Option<&'a WordFloor>,
}

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// What it is.
    pub name: String,
    /// The same figure of it.
    #[serde(flatten)]
    pub metric: Metric,
}

impl Floor {
    /// A floor by its name.
    pub fn new(name: &str, metric: Metric) -> Self {
        Self {
            name: name.into(),
            metric,
        }
    }
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// The lower end of the interval lies above every floor.
    #[default]
    AboveFloors,
    /// The upper end of the interval does not lie below chance, the first floor: for what need not be found, but must not
    /// be turned round.
    NotBelowChance,
}

impl Bar {
    fn is_above_floors(&self) -> bool {
        *self == Self::AboveFloors
    }
}

/// One figure beside its floors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthFigure {
    /// What it is.
    pub name: String,
    /// The number with its interval, or why there is none.
    #[serde(flatten)]
    pub metric: Metric,
    /// What it is held against.
    pub floors: Vec<Floor>,
    /// Whether the truth's verdict depends on it; others are shown beside.
    pub decides: bool,
    /// What it must reach.
    #[serde(default, skip_serializing_if = "Bar::is_above_floors")]
    pub bar: Bar,
    /// [`TruthFigure::passes`], for readers of the file.
    pub passed: bool,
}

impl TruthFigure {
    /// A figure that decides.
    pub fn deciding(name: impl Into<String>, metric: Metric, floors: Vec<Floor>) -> Self {
        Self::new(name.into(), metric, floors, true, Bar::AboveFloors)
    }

    /// A figure that decides by not being worse than chance, the first floor.
    pub fn guarding(name: impl Into<String>, metric: Metric, floors: Vec<Floor>) -> Self {
        Self::new(name.into(), metric, floors, true, Bar::NotBelowChance)
    }

    /// A figure that is only shown.
    pub fn shown(name: impl Into<String>, metric: Metric, floors: Vec<Floor>) -> Self {
        Self::new(name.into(), metric, floors, false, Bar::AboveFloors)
    }

    fn new(name: String, metric: Metric, floors: Vec<Floor>, decides: bool, bar: Bar) -> Self {
        let mut figure = Self {
            name,
            metric,
            floors,
            decides,
            bar,
            passed: false,
        };
        figure.passed = figure.passes();
        figure
    }

    /// Whether the interval reaches the figure's [`Bar`]; of floors that are defined there must be one. A figure without an
    /// interval does not pass: a single answer proves nothing.
    pub fn passes(&self) -> bool {
        let Some(interval) = self.metric.interval else {
            return false;
        };
        let mut floors = self.floors.iter().filter_map(|floor| floor.metric.value);
        floors.next().is_some_and(|first| match self.bar {
            Bar::AboveFloors => interval.low > floors.fold(first, f64::max),
            Bar::NotBelowChance => interval.high >= first,
        })
    }
}

impl std::fmt::Display for TruthFigure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<34} {}", self.name, self.metric)?;
        let floors: Vec<String> = self
            .floors
            .iter()
            .map(|floor| match floor.metric.value {
                Some(value) => format!("{} {value:.4}", floor.name),
                None => format!("{} {}", floor.name, floor.metric),
            })
            .collect();
        if !floors.is_empty() {
            write!(f, "   against {}", floors.join(", "))?;
        }
        if self.decides {
            let said = match (self.bar, self.passed) {
                (Bar::AboveFloors, true) => "passed",
                (Bar::AboveFloors, false) => "not passed",
                (Bar::NotBelowChance, true) => "passed: not below chance",
                (Bar::NotBelowChance, false) => "not passed: below chance",
            };
            write!(f, "   {said}")?;
        }
        Ok(())
    }
}

/// A map held against one truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthResult {
    /// Its name in [`TRUTHS`].
    pub truth: String,
    /// The figures; those that decide first.
    pub figures: Vec<TruthFigure>,
    /// Answers (or traces) that were measured.
    pub answers: usize,
    /// Answers behind the verdict; of marked parts, the fewer of those with a token inside and those with one outside.
    /// Results of earlier versions do not say it, and count as undecided.
    #[serde(default)]
    pub evidence: usize,
    /// Tokens (or steps, or interventions: a note says which) that were measured.
    pub tokens: usize,
    /// What was left out, and how numbers were made, in sentences.
    pub notes: Vec<String>,
    /// How `passed` is decided.
    pub rule: String,
    /// Whether every figure that decides passed.
    pub passed: bool,
}

impl TruthResult {
    /// From figures; every answer counts as evidence.
    pub fn new(
        truth: &str,
        figures: Vec<TruthFigure>,
        answers: usize,
        tokens: usize,
        notes: Vec<String>,
    ) -> Self {
        let mut result = Self {
            truth: truth.into(),
            figures,
            answers,
            evidence: answers,
            tokens,
            notes,
            rule: RULE.into(),
            passed: false,
        };
        result.passed = result.passes();
        result
    }

    /// The same where only so many answers bear on the verdict.
    #[must_use]
    pub fn with_evidence(mut self, answers: usize) -> Self {
        self.evidence = answers;
        self.passed = self.passes();
        self
    }

    /// Whether too few answers stand behind the figures to say anything.
    pub fn undecided(&self) -> bool {
        self.evidence < LEAST_ANSWERS
    }

    /// The verdict in words.
    pub fn verdict(&self) -> String {
        match self.says() {
            Some(true) => "passed".into(),
            Some(false) => "not passed".into(),
            None if self.undecided() => format!(
                "undecided: {} answers bear on it, and at least {LEAST_ANSWERS} are needed",
                self.evidence
            ),
            None => "undecided: it has no say on a map of this method".into(),
        }
    }

    /// Whether every figure that decides passes, of which there must be one, with enough answers behind it.
    pub fn passes(&self) -> bool {
        if self.undecided() {
            return false;
        }
        let mut deciding = self
            .figures
            .iter()
            .filter(|figure| figure.decides)
            .peekable();
        deciding.peek().is_some() && deciding.all(TruthFigure::passes)
    }

    /// The first figure: what stands for the truth where one number is wanted.
    pub fn main(&self) -> Option<&TruthFigure> {
        self.figures.first()
    }
}

/// `statistic` of numbers that belong to answers, `[N]` each, with its interval over answers. `answer_of[i]` is below
/// `answers`.
fn clustered(
    bootstrap: &Bootstrap,
    answers: usize,
    answer_of: &[usize],
    x: &[f64],
    y: &[f64],
    statistic: impl Fn(&[f64], &[f64]) -> Result<Metric, EvalError>,
) -> Result<Metric, EvalError> {
    if x.is_empty() {
        return Ok(Metric::undefined("nothing to compare"));
    }
    let mut failed = None;
    let interval = bootstrap.interval(answers, |drawn| {
        let (mut a, mut b) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
        for (i, answer) in answer_of.iter().enumerate() {
            for _ in 0..drawn[*answer] {
                a.push(x[i]);
                b.push(y[i]);
            }
        }
        if a.is_empty() {
            return None;
        }
        match statistic(&a, &b) {
            Ok(metric) => metric.value,
            Err(error) => {
                failed = Some(error);
                None
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(statistic(x, y)?.with_interval(interval)),
    }
}

#[cfg(test)]
mod tests;
