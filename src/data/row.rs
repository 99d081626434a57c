//! The shapes of a row, whichever file it came from.

use crate::text::Content;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Code points `start..end` of an answer's text. JSON form: `[start, end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(usize, usize)", into = "(usize, usize)")]
pub struct Span {
    /// First code point.
    pub start: usize,
    /// One past the last code point.
    pub end: usize,
}

impl From<(usize, usize)> for Span {
    fn from((start, end): (usize, usize)) -> Self {
        Self { start, end }
    }
}

impl From<Span> for (usize, usize) {
    fn from(span: Span) -> Self {
        (span.start, span.end)
    }
}

/// One answer with what is known about its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer itself.
    pub content: Content,
    /// Labelled parts (edits, errors, toxicity), where the file has them.
    pub spans: Option<Vec<Span>>,
    /// The known reward of each token of the answer, without an end-of-text token (synthetic world).
    pub true_rewards: Option<Vec<f32>>,
    /// The known standard deviation of each of those rewards.
    pub true_reward_std: Option<Vec<f32>>,
}

/// A preference: `chosen` was judged better than `rejected` as an answer to `prompt`.
#[derive(Clone, Debug, PartialEq)]
pub struct PreferenceRow {
    /// The file's own id, or the hash of the row's content.
    pub id: String,
    /// Line (JSONL) or row (Parquet) in the file, counted from 1.
    pub line: usize,
    /// What both answers answer; empty text where the file has no prompt.
    pub prompt: Content,
    /// The better answer.
    pub chosen: Answer,
    /// The worse answer.
    pub rejected: Answer,
    /// How much better, where annotators said so.
    pub margin: Option<f32>,
    /// Mean difference of the two answers' scores over an ensemble of reward models (Secrets of RLHF II), where one was
    /// asked; `avascope data doubtful` writes it. Negative: the ensemble doubts the label.
    pub strength: Option<f32>,
    /// Probability that `chosen` is the better answer, where the file says so: 1 as the columns' names have it, 0.5 a tie,
    /// 0 the other way round. 1 where absent.
    pub preference: Option<f32>,
}

impl PreferenceRow {
    /// The better and the worse answer as the row's own label has it; `None` where that calls them equal.
    pub fn judged(&self) -> Option<(&Answer, &Answer)> {
        match self.preference.unwrap_or(1.0).total_cmp(&0.5) {
            Ordering::Greater => Some((&self.chosen, &self.rejected)),
            Ordering::Less => Some((&self.rejected, &self.chosen)),
            Ordering::Equal => None,
        }
    }
}

/// A demonstration: a good answer alone.
#[derive(Clone, Debug, PartialEq)]
pub struct DemonstrationRow {
    /// The file's own id, or the hash of the row's content.
    pub id: String,
    /// Line (JSONL) or row (Parquet) in the file, counted from 1.
    pub line: usize,
    /// What the answer answers.
    pub prompt: Content,
    /// The answer.
    pub answer: Answer,
}

/// An answer that was judged by itself, whatever else was answered: TRL's unpaired preference.
#[derive(Clone, Debug, PartialEq)]
pub struct UnpairedRow {
    /// The file's own id, or the hash of the row's content.
    pub id: String,
    /// Line (JSONL) or row (Parquet) in the file, counted from 1.
    pub line: usize,
    /// What the answer answers.
    pub prompt: Content,
    /// The answer.
    pub answer: Answer,
    /// True: a desirable answer. False: an undesirable one.
    pub label: bool,
}

impl DemonstrationRow {
    /// The same answer with a label.
    pub fn labelled(self, label: bool) -> UnpairedRow {
        UnpairedRow {
            id: self.id,
            line: self.line,
            prompt: self.prompt,
            answer: self.answer,
            label,
        }
    }
}

impl UnpairedRow {
    /// The same answer without its label.
    pub fn unlabelled(self) -> DemonstrationRow {
        DemonstrationRow {
            id: self.id,
            line: self.line,
            prompt: self.prompt,
            answer: self.answer,
        }
    }
}

/// The rows of one file, all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Preference pairs.
    Preferences(Vec<PreferenceRow>),
    /// Demonstrations.
    Demonstrations(Vec<DemonstrationRow>),
    /// Desirable and undesirable answers, each by itself.
    Unpaired(Vec<UnpairedRow>),
}

impl Rows {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Preferences(rows) => rows.len(),
            Self::Demonstrations(rows) => rows.len(),
            Self::Unpaired(rows) => rows.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `limit` rows.
    pub fn first(mut self, limit: usize) -> Self {
        match &mut self {
            Self::Preferences(rows) => rows.truncate(limit),
            Self::Demonstrations(rows) => rows.truncate(limit),
            Self::Unpaired(rows) => rows.truncate(limit),
        }
        self
    }

    /// Pairs whose own label is another than "chosen is better".
    pub fn relabelled(&self) -> usize {
        match self {
            Self::Preferences(rows) => {
                let other = |row: &&PreferenceRow| row.preference.is_some_and(|y| y != 1.0);
                rows.iter().filter(other).count()
            }
            Self::Demonstrations(_) | Self::Unpaired(_) => 0,
        }
    }

    /// Two sets of answers as one, evenly mixed: every stretch of rows holds both in about the proportion of the whole, so
    /// that the first rows of it, or of a split of it, do so too. Either set may be the larger one.
    pub fn unpaired(desirable: Vec<DemonstrationRow>, undesirable: Vec<DemonstrationRow>) -> Self {
        let place = |i: usize, of: usize| (i as f64 + 0.5) / of as f64;
        let (n, m) = (desirable.len(), undesirable.len());
        let good = desirable.into_iter().enumerate();
        let bad = undesirable.into_iter().enumerate();
        let mut rows: Vec<(f64, UnpairedRow)> = good
            .map(|(i, row)| (place(i, n), row.labelled(true)))
            .chain(bad.map(|(i, row)| (place(i, m), row.labelled(false))))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self::Unpaired(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// Demonstrations: of pairs the chosen answers, of answers by themselves the desirable ones, demonstrations as they are.
    pub fn chosen_answers(self) -> Self {
        match self {
            Self::Preferences(rows) => Self::Demonstrations(
                rows.into_iter()
                    .map(|row| DemonstrationRow {
                        id: row.id,
                        line: row.line,
                        prompt: row.prompt,
                        answer: row.chosen,
                    })
                    .collect(),
            ),
            Self::Unpaired(rows) => Self::Demonstrations(
                rows.into_iter()
                    .filter(|row| row.label)
                    .map(UnpairedRow::unlabelled)
                    .collect(),
            ),
            rows => rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sets_are_mixed_evenly_and_keep_their_order() {
        let set = |name: &str, n: usize| -> Vec<DemonstrationRow> {
            (0..n)
                .map(|i| DemonstrationRow {
                    id: format!("{name}{i}"),
                    line: i + 1,
                    prompt: Content::Text(String::new()),
                    answer: Answer {
                        content: Content::Text(format!("{name} {i}")),
                        spans: None,
                        true_rewards: None,
                        true_reward_std: None,
                    },
                })
                .collect()
        };
        let rows = Rows::unpaired(set("good", 8), set("bad", 4));
        let Rows::Unpaired(mixed) = &rows else {
            panic!("answers by themselves")
        };
        for part in mixed.chunks(3) {
            assert_eq!(part.iter().filter(|row| row.label).count(), 2);
        }
        let ids = |label| -> Vec<&str> {
            let of = mixed.iter().filter(|row| row.label == label);
            of.map(|row| row.id.as_str()).collect()
        };
        assert_eq!(ids(false), ["bad0", "bad1", "bad2", "bad3"]);
        assert_eq!(ids(true)[..3], ["good0", "good1", "good2"]);
        assert_eq!(rows.clone().first(6).len(), 6);
        let Rows::Demonstrations(good) = rows.chosen_answers() else {
            panic!("demonstrations")
        };
        assert_eq!(good, set("good", 8));
        assert!(Rows::unpaired(Vec::new(), Vec::new()).is_empty());
    }
}
