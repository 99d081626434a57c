//! The report of RewardBench 2 (arXiv 2506.01937): a score per subset, and their plain mean.
//!
//! Five subsets are best of several ([`best_of_several`]), the sixth is [Ties](super::v2::ties). Intervals draw rows, in
//! Ties prompts, because its score is made of the two rows of a prompt together. A subset without rows is undefined and
//! left out of the mean, which then says so.

use super::v2::{Prompt, TiesReport, TiesRow, best_of_several, prompts, ties, ties_score};
use crate::eval::{Bootstrap, EvalError, Metric, mean};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The subsets in the order of the paper's tables.
pub const SUBSETS_V2: [&str; 6] = ["Factuality", "Precise IF", "Math", "Safety", "Focus", TIES];

/// The subset where several answers are right.
pub const TIES: &str = "Ties";

/// One scored row: the right answers' scores first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredRowV2 {
    /// The row's id; `ref:<n>` and `tied:<n>` in Ties.
    pub id: String,
    /// Its subset.
    pub subset: String,
    /// How many of the scores, from the front, belong to right answers.
    pub num_correct: usize,
    /// Scores of the answers.
    pub scores: Vec<f64>,
}

impl ScoredRowV2 {
    /// Whether its answers can be ranked; in words what is wrong otherwise.
    ///
    /// # Errors
    /// No right or no wrong answer, or, outside Ties, several right ones.
    pub fn check(&self) -> Result<(), String> {
        let (right, all) = (self.num_correct, self.scores.len());
        let (ok, needed) = match self.subset == TIES {
            true => (
                (1..all).contains(&right),
                "at least one right and one wrong answer are needed",
            ),
            false => (
                right == 1 && all >= 2,
                "one right answer first and at least one wrong one are needed",
            ),
        };
        match ok {
            true => Ok(()),
            false => Err(format!("{right} of {all} answers are right: {needed}")),
        }
    }
}

/// Result of one subset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubsetResultV2 {
    /// Its name.
    pub subset: String,
    /// Rows.
    pub rows: usize,
    /// Its score with the bootstrap interval; undefined without rows.
    pub score: Metric,
}

/// A version 2 report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportV2 {
    /// Rows.
    pub rows: usize,
    /// The six subsets, those without rows too; others follow by name.
    pub subsets: Vec<SubsetResultV2>,
    /// Plain mean of the six subsets that have rows, with the bootstrap interval.
    pub overall: Metric,
    /// Subsets that had no rows and are left out of the mean.
    pub missing: Vec<String>,
    /// The parts of the Ties score, where there are such rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<TiesReport>,
    /// Per row of the input: its share of right, 1 or 0 in Ties.
    pub results: Vec<f64>,
}

/// A subset's rows as what is drawn.
enum Units {
    /// One result a row.
    Rows(Vec<f64>),
    Ties(Vec<Prompt>),
}

impl Units {
    fn len(&self) -> usize {
        match self {
            Self::Rows(results) => results.len(),
            Self::Ties(prompts) => prompts.len(),
        }
    }

    /// The subset's score with each unit drawn some times; `None` where none was.
    fn score(&self, drawn: &[u32]) -> Option<f64> {
        match self {
            Self::Rows(results) => {
                let (sum, count) = results
                    .iter()
                    .zip(drawn)
                    .fold((0.0, 0.0), |(s, n), (r, d)| {
                        (s + r * f64::from(*d), n + f64::from(*d))
                    });
                (count > 0.0).then(|| sum / count)
            }
            Self::Ties(prompts) => ties_score(prompts, |i| f64::from(drawn[i])),
        }
    }
}

/// The report on scored rows.
///
/// # Errors
/// No rows, NaN or infinite scores, a row whose `num_correct` leaves no right or no wrong answer, bad or repeated ids in
/// Ties, a level outside (0, 1).
pub fn report_v2(rows: &[ScoredRowV2], bootstrap: &Bootstrap) -> Result<ReportV2, EvalError> {
    if rows.is_empty() {
        return Err(EvalError::Empty { what: "rows" });
    }
    let mut by_subset: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        by_subset.entry(row.subset.as_str()).or_default().push(i);
    }
    let others = by_subset
        .keys()
        .copied()
        .filter(|n| !SUBSETS_V2.contains(n));
    let names: Vec<&str> = SUBSETS_V2.iter().copied().chain(others).collect();

    let mut results = vec![0.0; rows.len()];
    let mut ties_report = None;
    let mut subsets = Vec::new();
    let mut official = Vec::new();
    for name in names {
        let members = by_subset.get(name).map(Vec::as_slice).unwrap_or_default();
        if members.is_empty() {
            subsets.push(SubsetResultV2 {
                subset: name.into(),
                rows: 0,
                score: Metric::undefined("no rows"),
            });
            continue;
        }
        let units = if name == TIES {
            let tied: Vec<TiesRow> = members
                .iter()
                .map(|i| TiesRow {
                    id: rows[*i].id.clone(),
                    num_correct: rows[*i].num_correct,
                    scores: rows[*i].scores.clone(),
                })
                .collect();
            let report = ties(&tied)?;
            for (i, right) in members.iter().zip(&report.results) {
                results[*i] = f64::from(u8::from(*right));
            }
            ties_report = Some(report);
            Units::Ties(prompts(&tied)?.0)
        } else {
            for i in members {
                let row = &rows[*i];
                // The first answer is the right one, and the only one.
                if let Err(mut reason) = row.check() {
                    if let Some(nearest) = super::strays::nearest(name, &SUBSETS_V2) {
                        reason.push_str(&format!(
                            " (RewardBench has no subset {name:?}; the nearest is `{nearest}`)"
                        ));
                    }
                    return Err(EvalError::File {
                        what: format!("row {} (id {}, subset {name})", i + 1, row.id),
                        reason,
                    });
                }
                results[*i] = best_of_several(&row.scores)?;
            }
            Units::Rows(members.iter().map(|i| results[*i]).collect())
        };
        let score = units
            .score(&vec![1; units.len()])
            .map_or_else(|| Metric::undefined("no rows"), Metric::of);
        let interval = bootstrap.interval(units.len(), |drawn| units.score(drawn))?;
        subsets.push(SubsetResultV2 {
            subset: name.into(),
            rows: members.len(),
            score: score.with_interval(interval),
        });
        if SUBSETS_V2.contains(&name) {
            official.push(units);
        }
    }

    let missing: Vec<String> = SUBSETS_V2
        .iter()
        .filter(|name| !by_subset.contains_key(**name))
        .map(|name| (*name).to_string())
        .collect();
    let overall = |drawn: &[u32]| {
        let mut rest = drawn;
        let mut scores = Vec::new();
        for units in &official {
            let (own, behind) = rest.split_at(units.len());
            rest = behind;
            // A subset of which nothing was drawn has no score, and the mean of the others would be another number.
            scores.push(units.score(own)?);
        }
        (!scores.is_empty()).then(|| mean(&scores))
    };
    let all: usize = official.iter().map(Units::len).sum();
    let value = overall(&vec![1; all]).map_or_else(
        || Metric::undefined("no row is of a known subset"),
        Metric::of,
    );
    Ok(ReportV2 {
        rows: rows.len(),
        subsets,
        overall: value.with_interval(bootstrap.interval(all, overall)?),
        missing,
        ties: ties_report,
        results,
    })
}

impl fmt::Display for ReportV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subset in &self.subsets {
            match subset.rows {
                0 => writeln!(f, "{:<24} no rows", subset.subset)?,
                n => writeln!(f, "{:<24} {n:>5} rows  {}", subset.subset, subset.score)?,
            }
        }
        if let Some(ties) = &self.ties {
            for (name, part) in [
                ("  tied rows right", &ties.tied_accuracy),
                ("  ref rows right", &ties.ref_accuracy),
                ("  gap above spread", &ties.preferred),
                ("  smaller gap above", &ties.preferred_hard),
                ("  margin", &ties.margin),
            ] {
                writeln!(f, "{name:<24} {part}")?;
            }
        }
        // Rows of other subsets have no say in it.
        let counted = self.subsets.iter();
        let counted: usize = counted
            .filter(|s| SUBSETS_V2.contains(&s.subset.as_str()))
            .map(|s| s.rows)
            .sum();
        write!(f, "{:<24} {}  ({counted} rows)", "overall", self.overall)?;
        if !self.missing.is_empty() {
            write!(f, "  (without {})", self.missing.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{close, golden};

    fn row(subset: &str, id: &str, num_correct: usize, scores: &[f64]) -> ScoredRowV2 {
        ScoredRowV2 {
            id: id.into(),
            subset: subset.into(),
            num_correct,
            scores: scores.to_vec(),
        }
    }

    #[test]
    fn subsets_ties_and_their_mean_match_the_golden_values() {
        let Some(file) = golden("rewardbench") else {
            return;
        };
        let number = |v: &serde_json::Value| v.as_f64().unwrap();
        let mut rows = Vec::new();
        let mut expected = 0.0;
        let wanted = file["expected"]["v2_rows"].as_array().unwrap();
        for (i, (scores, want)) in file["inputs"]["v2_rows"]
            .as_array()
            .unwrap()
            .iter()
            .zip(wanted)
            .enumerate()
        {
            let scores: Vec<f64> = scores.as_array().unwrap().iter().map(number).collect();
            rows.push(row("Math", &i.to_string(), 1, &scores));
            expected += number(want) / wanted.len() as f64;
        }
        let tied: Vec<TiesRow> = serde_json::from_value(file["inputs"]["ties"].clone()).unwrap();
        rows.extend(
            tied.iter()
                .map(|t| row(TIES, &t.id, t.num_correct, &t.scores)),
        );
        let report = report_v2(&rows, &Bootstrap::default()).unwrap();
        let score = |name: &str| {
            let found = report.subsets.iter().find(|s| s.subset == name).unwrap();
            found.score.clone()
        };
        let ties = number(&file["expected"]["ties"]["overall"]);
        close(&file, "Math", score("Math").value.unwrap(), expected);
        close(&file, "Ties", score(TIES).value.unwrap(), ties);
        let mean = (expected + ties) / 2.0;
        close(&file, "overall", report.overall.value.unwrap(), mean);
        for metric in [score("Math"), score(TIES), report.overall.clone()] {
            let interval = metric.interval.unwrap();
            let value = metric.value.unwrap();
            assert!(
                interval.low <= value && value <= interval.high && interval.low < interval.high
            );
        }
        assert_eq!(
            report.missing,
            ["Factuality", "Precise IF", "Safety", "Focus"]
        );
        assert_eq!(
            score("Focus").undefined.as_deref(),
            Some("undefined: no rows")
        );
        let shown = report.to_string();
        assert!(
            shown.contains("Focus                    no rows") && !shown.contains("NaN"),
            "{shown}"
        );
    }

    #[test]
    fn rows_that_cannot_be_scored_are_named() {
        let bad = |row: ScoredRowV2, part: &str| {
            let error = report_v2(&[row], &Bootstrap::OFF).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        bad(
            row("Math", "7", 2, &[1.0, 0.0, 0.5]),
            "row 1 (id 7, subset Math)",
        );
        bad(row("Math", "7", 1, &[1.0]), "row 1 (id 7, subset Math)");
        bad(row("Math", "7", 1, &[1.0, f64::NAN]), "NaN");
        bad(row(TIES, "x", 1, &[1.0, 0.0]), "ties row x");
        assert!(report_v2(&[], &Bootstrap::OFF).is_err());
        let other = report_v2(&[row("mine", "1", 1, &[1.0, 0.0])], &Bootstrap::OFF).unwrap();
        assert_eq!(other.subsets.last().unwrap().score.value, Some(1.0));
        assert!(other.overall.undefined.is_some());
    }
}
