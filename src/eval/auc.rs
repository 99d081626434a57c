//! Do token scores find the labelled spans? ROC AUC and average precision, pooled over tokens and per row.
//!
//! Higher score means "more like the label": for spans of *bad* text hand in the negative of the token rewards.

use super::resample::Bootstrap;
use super::{EvalError, Metric, check_lengths, check_values};
use crate::data::Span;
use serde::{Deserialize, Serialize};

/// Labels of tokens from spans, both in code points of `text`, ends exclusive.
///
/// Rule: a token is positive when its range and a span share at least one character that is not white space. So a
/// token " word" next to a span that ends with the space before it is not positive, and a token of white space never is.
///
/// # Errors
/// A token or span that begins after its end or ends outside the text.
pub fn token_labels(
    text: &str,
    offsets: &[(usize, usize)],
    spans: &[Span],
) -> Result<Vec<bool>, EvalError> {
    let visible: Vec<bool> = text.chars().map(|c| !c.is_whitespace()).collect();
    let len = visible.len();
    let check = |what, index, start, end| {
        if start <= end && end <= len {
            Ok(())
        } else {
            Err(EvalError::Offsets {
                what,
                index,
                start,
                end,
                len,
            })
        }
    };
    let mut marked = vec![false; len];
    for (i, span) in spans.iter().enumerate() {
        check("span", i, span.start, span.end)?;
        marked[span.start..span.end].fill(true);
    }
    // before[i]: marked visible characters before i, so that each token costs one subtraction.
    let mut before = Vec::with_capacity(len + 1);
    before.push(0usize);
    for i in 0..len {
        before.push(before[i] + usize::from(marked[i] && visible[i]));
    }
    let label = |(i, &(start, end)): (usize, &(usize, usize))| {
        check("token", i, start, end)?;
        Ok(before[end] > before[start])
    };
    offsets.iter().enumerate().map(label).collect()
}

/// Probability that a positive scores above a negative, ties half (Mann-Whitney U over its range).
/// Undefined with one class only.
///
/// # Errors
/// Unequal lengths, nothing, NaN or infinite scores.
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> Result<Metric, EvalError> {
    let sorted = SortedTokens::new(&[LabelledTokens {
        scores: scores.to_vec(),
        labels: labels.to_vec(),
    }])?;
    Ok(sorted
        .auc(&[1])
        .map_or_else(|| sorted.one_class(), Metric::of))
}

/// Average precision: sum over thresholds of (recall step) x precision, ties taken as one threshold.
/// Undefined without a positive.
///
/// # Errors
/// As [`roc_auc`].
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Result<Metric, EvalError> {
    let sorted = SortedTokens::new(&[LabelledTokens {
        scores: scores.to_vec(),
        labels: labels.to_vec(),
    }])?;
    Ok(sorted
        .average_precision(&[1])
        .map_or_else(|| sorted.one_class(), Metric::of))
}

/// The tokens of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledTokens {
    /// One score a token; higher means "more like the label".
    pub scores: Vec<f64>,
    /// Is the token inside a labelled span?
    pub labels: Vec<bool>,
}

/// Token scores against span labels over many rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenAuc {
    /// Rows given.
    pub rows: usize,
    /// Rows that have both classes, over which `per_row` is a mean.
    pub rows_with_both_classes: usize,
    /// Tokens.
    pub tokens: usize,
    /// Tokens inside a span.
    pub positives: usize,
    /// AUC over all tokens together: also asks that scores compare between rows.
    pub pooled: Metric,
    /// Mean of the rows' own AUCs: a row's level cancels.
    pub per_row: Metric,
    /// Average precision over all tokens together; chance is positives / tokens.
    pub average_precision: Metric,
}

/// Pooled and per-row AUC, with intervals that resample rows (tokens of one row are not independent).
///
/// # Errors
/// No rows, a row without tokens, unequal lengths, NaN or infinite scores, a level outside (0, 1).
pub fn token_auc(rows: &[LabelledTokens], bootstrap: &Bootstrap) -> Result<TokenAuc, EvalError> {
    let sorted = SortedTokens::new(rows)?;
    let once = vec![1; rows.len()];
    let metric = |value: Option<f64>, interval| {
        value
            .map_or_else(|| sorted.one_class(), Metric::of)
            .with_interval(interval)
    };
    let pooled = metric(
        sorted.auc(&once),
        bootstrap.interval(rows.len(), |c| sorted.auc(c))?,
    );
    let precision = metric(
        sorted.average_precision(&once),
        bootstrap.interval(rows.len(), |c| sorted.average_precision(c))?,
    );
    let mut own = Vec::new();
    for row in rows {
        own.extend(roc_auc(&row.scores, &row.labels)?.value);
    }
    let per_row = if own.is_empty() {
        Metric::undefined(format!(
            "none of the {} rows has tokens inside and outside of spans",
            rows.len()
        ))
    } else {
        let interval = bootstrap.interval(own.len(), |counts| {
            Some(
                own.iter()
                    .zip(counts)
                    .map(|(a, c)| a * f64::from(*c))
                    .sum::<f64>()
                    / own.len() as f64,
            )
        })?;
        Metric::of(super::mean(&own)).with_interval(interval)
    };
    Ok(TokenAuc {
        rows: rows.len(),
        rows_with_both_classes: own.len(),
        tokens: sorted.entries.len(),
        positives: sorted.positives,
        pooled,
        per_row,
        average_precision: precision,
    })
}

/// All tokens in ascending order of score, sorted once: each resample is then one pass.
pub struct SortedTokens {
    /// (level of the score, row, label); equal scores share a level.
    entries: Vec<(u32, u32, bool)>,
    positives: usize,
}

impl SortedTokens {
    /// Sorts the tokens of `rows`.
    ///
    /// # Errors
    /// No rows, a row without tokens, unequal lengths, NaN or infinite scores.
    pub fn new(rows: &[LabelledTokens]) -> Result<Self, EvalError> {
        if rows.is_empty() {
            return Err(EvalError::Empty { what: "rows" });
        }
        let mut all = Vec::new();
        for (r, row) in rows.iter().enumerate() {
            check_lengths("token scores", &row.scores, "token labels", &row.labels)?;
            check_values("token scores", &row.scores)?;
            all.extend(
                row.scores
                    .iter()
                    .zip(&row.labels)
                    .map(|(s, l)| (*s, r as u32, *l)),
            );
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut entries: Vec<(u32, u32, bool)> = Vec::with_capacity(all.len());
        let mut level = 0u32;
        for i in 0..all.len() {
            // `!=` and not total_cmp: 0.0 and -0.0 are one score.
            level += u32::from(i > 0 && all[i].0 != all[i - 1].0);
            entries.push((level, all[i].1, all[i].2));
        }
        let positives = entries.iter().filter(|e| e.2).count();
        Ok(Self { entries, positives })
    }

    fn one_class(&self) -> Metric {
        let (n, p) = (self.entries.len(), self.positives);
        Metric::undefined(format!(
            "{p} positive and {} negative tokens; both are needed",
            n - p
        ))
    }

    /// (positives, negatives) at each distinct score, ascending; rows count as often as they were drawn.
    fn levels(&self, counts: &[u32]) -> Vec<(f64, f64)> {
        let mut out: Vec<(f64, f64)> = Vec::new();
        for &(level, row, positive) in &self.entries {
            if level as usize == out.len() {
                out.push((0.0, 0.0));
            }
            let weight = f64::from(counts[row as usize]);
            if let Some(last) = out.last_mut() {
                if positive {
                    last.0 += weight
                } else {
                    last.1 += weight
                }
            }
        }
        out
    }

    /// Pooled ROC AUC where row `i` counts `counts[i]` times (`[rows]`); `None` where a class is missing.
    pub fn auc(&self, counts: &[u32]) -> Option<f64> {
        let (mut wins, mut positives, mut negatives) = (0.0, 0.0, 0.0);
        for (p, n) in self.levels(counts) {
            wins += p * (negatives + n / 2.0);
            positives += p;
            negatives += n;
        }
        (positives > 0.0 && negatives > 0.0).then(|| wins / (positives * negatives))
    }

    fn average_precision(&self, counts: &[u32]) -> Option<f64> {
        let (mut above, mut positives, mut sum) = (0.0, 0.0, 0.0);
        for (p, n) in self.levels(counts).into_iter().rev() {
            above += p + n;
            positives += p;
            if p > 0.0 {
                sum += p * positives / above;
            }
        }
        (positives > 0.0).then(|| sum / positives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    #[test]
    fn a_token_is_positive_when_it_shares_a_visible_character_with_a_span() {
        let text = "an ugly  día";
        let offsets = [(0, 2), (2, 7), (7, 9), (9, 12), (3, 3)];
        assert_eq!(
            token_labels(text, &offsets, &[span(3, 9)]).unwrap(),
            [false, true, false, false, false]
        );
        // The span covers only the space before "ugly".
        assert_eq!(
            token_labels(text, &offsets, &[span(2, 3)]).unwrap(),
            [false; 5]
        );
        assert_eq!(
            token_labels(text, &offsets, &[span(11, 12), span(0, 1)]).unwrap(),
            [true, false, false, true, false]
        );
    }

    #[test]
    fn offsets_outside_the_text_are_an_error() {
        assert_eq!(
            token_labels("ab", &[(0, 3)], &[]),
            Err(EvalError::Offsets {
                what: "token",
                index: 0,
                start: 0,
                end: 3,
                len: 2
            })
        );
        assert!(token_labels("ab", &[], &[span(2, 1)]).is_err());
    }

    #[test]
    fn ties_are_at_mid_rank() {
        let auc = |s: &[f64], l: &[bool]| roc_auc(s, l).unwrap().value.unwrap();
        assert_eq!(auc(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]), 1.0);
        assert_eq!(auc(&[1.0, 1.0], &[false, true]), 0.5);
        assert_eq!(
            auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]),
            0.75
        );
        assert_eq!(auc(&[0.0, -0.0], &[true, false]), 0.5);
    }

    #[test]
    fn average_precision_matches_a_known_case() {
        let ap = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true])
            .unwrap()
            .value
            .unwrap();
        assert!((ap - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-15);
    }

    #[test]
    fn one_class_is_undefined_with_a_reason() {
        let got = roc_auc(&[1.0, 2.0], &[true, true]).unwrap();
        assert_eq!(got.value, None);
        assert_eq!(
            got.undefined.unwrap(),
            "undefined: 2 positive and 0 negative tokens; both are needed"
        );
        let rows = [LabelledTokens {
            scores: vec![1.0],
            labels: vec![false],
        }];
        let report = token_auc(&rows, &Bootstrap::default()).unwrap();
        assert!(
            report
                .per_row
                .undefined
                .unwrap()
                .contains("none of the 1 rows")
        );
        assert!(matches!(
            token_auc(&[], &Bootstrap::default()),
            Err(EvalError::Empty { .. })
        ));
        assert!(roc_auc(&[1.0], &[]).is_err() && roc_auc(&[f64::NAN], &[true]).is_err());
    }

    #[test]
    fn a_row_s_level_cancels_per_row_but_not_pooled() {
        let row = |level: f64| LabelledTokens {
            scores: vec![level, level + 1.0],
            labels: vec![false, true],
        };
        let report = token_auc(&[row(0.0), row(10.0)], &Bootstrap::default()).unwrap();
        assert_eq!(
            (report.per_row.value, report.pooled.value),
            (Some(1.0), Some(0.75))
        );
        assert_eq!(
            (
                report.tokens,
                report.positives,
                report.rows_with_both_classes
            ),
            (4, 2, 2)
        );
        assert!(report.pooled.interval.is_some());
    }

    proptest! {
        #[test]
        fn auc_counts_pairs_and_ignores_order_and_increasing_maps(
            tokens in prop::collection::vec((-4i32..4, any::<bool>()), 1..40), seed in any::<u64>()
        ) {
            let scores: Vec<f64> = tokens.iter().map(|t| f64::from(t.0)).collect();
            let labels: Vec<bool> = tokens.iter().map(|t| t.1).collect();
            let got = roc_auc(&scores, &labels).unwrap().value;
            // The definition itself, over all pairs.
            let (mut wins, mut pairs) = (0.0, 0.0);
            for p in tokens.iter().filter(|t| t.1) {
                for n in tokens.iter().filter(|t| !t.1) {
                    pairs += 1.0;
                    wins += if p.0 > n.0 { 1.0 } else if p.0 == n.0 { 0.5 } else { 0.0 };
                }
            }
            prop_assert_eq!(got.is_some(), pairs > 0.0);
            if let Some(got) = got {
                prop_assert!((got - wins / pairs).abs() < 1e-12);
                let mapped: Vec<f64> = scores.iter().map(|s| s.exp() - 7.0).collect();
                prop_assert_eq!(roc_auc(&mapped, &labels).unwrap().value, Some(got));
                let minus: Vec<f64> = scores.iter().map(|s| -s).collect();
                prop_assert!((roc_auc(&minus, &labels).unwrap().value.unwrap() - (1.0 - got)).abs() < 1e-12);
                let mut order: Vec<usize> = (0..tokens.len()).collect();
                crate::eval::resample::SplitMix64::new(seed).shuffle(&mut order);
                let s: Vec<f64> = order.iter().map(|i| scores[*i]).collect();
                let l: Vec<bool> = order.iter().map(|i| labels[*i]).collect();
                prop_assert_eq!(roc_auc(&s, &l).unwrap().value, Some(got));
            }
        }
    }
}
