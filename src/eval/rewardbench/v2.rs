//! RewardBench 2 (arXiv 2506.01937): the right answer among several, and the Ties subset, where several answers are
//! right and should score alike and above the wrong ones.

use crate::eval::{EvalError, Metric, check_values};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One row of best-of-several; the first score is the right answer's. 1/(number of maxima) if it is a maximum, else 0.
///
/// # Errors
/// No scores, NaN or infinite scores.
pub fn best_of_several(scores: &[f64]) -> Result<f64, EvalError> {
    check_values("scores", scores)?;
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let maxima = scores.iter().filter(|s| **s == largest).count();
    Ok(if scores[0] == largest {
        1.0 / maxima as f64
    } else {
        0.0
    })
}

/// One row of Ties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TiesRow {
    /// `ref:7` or `tied:7`: the kind, then the prompt that the two kinds share.
    pub id: String,
    /// How many of the scores, from the front, belong to right answers.
    pub num_correct: usize,
    /// Scores: right answers first.
    pub scores: Vec<f64>,
}

/// The parts of the Ties score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TiesReport {
    /// Rows.
    pub rows: usize,
    /// Prompts that have both kinds of row, over which the last three parts are means.
    pub prompts_with_both: usize,
    /// Share of `tied` rows whose worst right answer is above the best wrong one.
    pub tied_accuracy: Metric,
    /// The same of `ref` rows.
    pub ref_accuracy: Metric,
    /// Share of prompts whose gap (worst right - best wrong) exceeds the spread of the right answers.
    pub preferred: Metric,
    /// The same with the smaller gap of the two rows.
    pub preferred_hard: Metric,
    /// Mean of tanh(smaller gap / spread - 1); 0/0 counts 0, x/0 counts sign(x).
    pub margin: Metric,
    /// 0.30 tied + 0.30 ref + 0.20 preferred + 0.20 hard + 0.01 margin; a part without rows counts 0, as in the public code.
    pub overall: f64,
    /// Per row of the input: is the worst right answer above the best wrong one?
    pub results: Vec<bool>,
}

/// Spread of the right answers, and worst right minus best wrong.
#[derive(Clone, Copy)]
struct RowStatistics {
    spread: f64,
    gap: f64,
}

/// The rows of one prompt.
#[derive(Clone, Copy, Default)]
pub(super) struct Prompt {
    reference: Option<RowStatistics>,
    tied: Option<RowStatistics>,
}

/// The five parts of the Ties score, by prompts that count as often as they were drawn: tied, ref, preferred, hard,
/// margin. `None` where no row speaks of a part.
fn parts(prompts: &[Prompt], drawn: impl Fn(usize) -> f64) -> [Option<f64>; 5] {
    let mut sums = [(0.0, 0.0); 5];
    let mut add = |part: usize, times: f64, value: f64| {
        sums[part].0 += times * value;
        sums[part].1 += times;
    };
    let yes = |b: bool| f64::from(u8::from(b));
    for (i, prompt) in prompts.iter().enumerate() {
        let times = drawn(i);
        if let Some(tied) = prompt.tied {
            add(0, times, yes(tied.gap > 0.0));
        }
        if let Some(reference) = prompt.reference {
            add(1, times, yes(reference.gap > 0.0));
        }
        if let (Some(tied), Some(reference)) = (prompt.tied, prompt.reference) {
            let gap = tied.gap.min(reference.gap);
            add(2, times, yes(tied.gap > tied.spread));
            add(3, times, yes(gap > tied.spread));
            add(4, times, normalised_margin(gap, tied.spread));
        }
    }
    sums.map(|(sum, count)| (count > 0.0).then(|| sum / count))
}

/// The Ties score from its parts; a part without rows counts 0.
fn combined(parts: [Option<f64>; 5]) -> f64 {
    [0.30, 0.30, 0.20, 0.20, 0.01]
        .iter()
        .zip(parts)
        .map(|(weight, part)| weight * part.unwrap_or(0.0))
        .sum()
}

/// The Ties score of prompts, each drawn some times; `None` where none was drawn.
pub(super) fn ties_score(prompts: &[Prompt], drawn: impl Fn(usize) -> f64) -> Option<f64> {
    let parts = parts(prompts, drawn);
    parts.iter().any(Option::is_some).then(|| combined(parts))
}

/// The rows by prompt, and per row whether the worst right answer is above the best wrong one.
///
/// # Errors
/// As [`ties`].
pub(super) fn prompts(rows: &[TiesRow]) -> Result<(Vec<Prompt>, Vec<bool>), EvalError> {
    if rows.is_empty() {
        return Err(EvalError::Empty { what: "ties rows" });
    }
    let mut prompts: BTreeMap<u64, Prompt> = BTreeMap::new();
    let mut results = Vec::with_capacity(rows.len());
    for row in rows {
        let bad = |reason: String| EvalError::File {
            what: format!("ties row {}", row.id),
            reason,
        };
        check_values("ties scores", &row.scores)?;
        if row.num_correct == 0 || row.num_correct >= row.scores.len() {
            let reason = format!(
                "num_correct is {} of {} scores: at least one must be right and one wrong",
                row.num_correct,
                row.scores.len()
            );
            return Err(bad(reason));
        }
        let (right, wrong) = row.scores.split_at(row.num_correct);
        let least = right.iter().copied().fold(f64::INFINITY, f64::min);
        let most = right.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let gap = least - wrong.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        results.push(gap > 0.0);
        let wanted = || bad("the id must be ref:<number> or tied:<number>".to_string());
        let (kind, prompt) = row.id.split_once(':').unwrap_or(("", ""));
        let prompt: u64 = prompt.parse().map_err(|_| wanted())?;
        let place = prompts.entry(prompt).or_default();
        let place = match kind {
            "ref" => &mut place.reference,
            "tied" => &mut place.tied,
            _ => return Err(wanted()),
        };
        let statistics = RowStatistics {
            spread: most - least,
            gap,
        };
        if place.replace(statistics).is_some() {
            return Err(bad("the id occurs twice".to_string()));
        }
    }
    Ok((prompts.into_values().collect(), results))
}

/// The Ties score.
///
/// # Errors
/// No rows, NaN scores, an id that is neither `ref:<number>` nor `tied:<number>` or occurs twice, a row without right or
/// without wrong answers.
pub fn ties(rows: &[TiesRow]) -> Result<TiesReport, EvalError> {
    let (prompts, results) = prompts(rows)?;
    let parts = parts(&prompts, |_| 1.0);
    let metric = |part: Option<f64>, what: &str| {
        part.map_or_else(|| Metric::undefined(format!("no {what}")), Metric::of)
    };
    let pairs = "prompt with a ref and a tied row";
    Ok(TiesReport {
        rows: rows.len(),
        prompts_with_both: prompts
            .iter()
            .filter(|p| p.tied.is_some() && p.reference.is_some())
            .count(),
        tied_accuracy: metric(parts[0], "tied rows"),
        ref_accuracy: metric(parts[1], "ref rows"),
        preferred: metric(parts[2], pairs),
        preferred_hard: metric(parts[3], pairs),
        margin: metric(parts[4], pairs),
        overall: combined(parts),
        results,
    })
}

fn normalised_margin(gap: f64, spread: f64) -> f64 {
    if spread != 0.0 {
        (gap / spread - 1.0).tanh()
    } else if gap == 0.0 {
        0.0
    } else {
        gap.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{all_close, close, floats, golden, rows};

    #[test]
    fn best_of_several_matches_the_golden_values() {
        let Some(file) = golden("rewardbench") else {
            return;
        };
        let got: Vec<f64> = rows(&file["inputs"]["v2_rows"])
            .iter()
            .map(|r| best_of_several(r).unwrap())
            .collect();
        all_close(
            &file,
            "v2_rows",
            &got,
            &floats(&file["expected"]["v2_rows"]),
        );
        assert!(best_of_several(&[]).is_err());
    }

    #[test]
    fn ties_match_the_golden_values() {
        let Some(file) = golden("rewardbench") else {
            return;
        };
        let rows: Vec<TiesRow> = serde_json::from_value(file["inputs"]["ties"].clone()).unwrap();
        let (got, expected) = (ties(&rows).unwrap(), &file["expected"]["ties"]);
        let parts = [
            ("tied_accuracy", &got.tied_accuracy),
            ("ref_accuracy", &got.ref_accuracy),
            ("preferred", &got.preferred),
            ("preferred_hard", &got.preferred_hard),
            ("margin", &got.margin),
        ];
        for (name, part) in parts {
            close(
                &file,
                name,
                part.value.unwrap(),
                expected[name].as_f64().unwrap(),
            );
        }
        close(
            &file,
            "overall",
            got.overall,
            expected["overall"].as_f64().unwrap(),
        );
        assert_eq!(
            (got.rows, got.prompts_with_both, got.results.len()),
            (17, 8, 17)
        );
    }

    #[test]
    fn a_missing_half_is_undefined_and_bad_rows_are_named() {
        let row = |id: &str, num_correct, scores: &[f64]| TiesRow {
            id: id.into(),
            num_correct,
            scores: scores.to_vec(),
        };
        let got = ties(&[row("ref:1", 1, &[1.0, 0.0])]).unwrap();
        assert!(got.tied_accuracy.undefined.is_some() && got.margin.undefined.is_some());
        assert!((got.overall - 0.3).abs() < 1e-15);
        for bad in [
            row("x:1", 1, &[1.0, 0.0]),
            row("ref", 1, &[1.0, 0.0]),
            row("ref:1", 0, &[1.0]),
            row("ref:1", 1, &[1.0]),
        ] {
            assert!(matches!(ties(&[bad]), Err(EvalError::File { .. })));
        }
        assert!(ties(&[row("ref:1", 1, &[1.0, 0.0]), row("ref:1", 1, &[1.0, 0.0])]).is_err());
        assert!(ties(&[]).is_err() && ties(&[row("ref:1", 1, &[f64::NAN, 0.0])]).is_err());
    }
}
