//! The shapes of a row, whichever file it came from.

use crate::text::Message;
use serde::{Deserialize, Serialize};

/// A prompt or an answer: plain text, or the turns of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Turns that a chat template renders.
    Messages(Vec<Message>),
}

impl Content {
    /// The text that spans count in: the text itself, or the last assistant turn (the last turn where there is none).
    pub fn answer_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Messages(turns) => turns
                .iter()
                .rfind(|turn| turn.role == "assistant")
                .or(turns.last())
                .map_or("", |turn| turn.content.as_str()),
        }
    }

    /// The pieces of text: one, or one a turn.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (text, turns) = match self {
            Self::Text(text) => (Some(text.as_str()), [].as_slice()),
            Self::Messages(turns) => (None, turns.as_slice()),
        };
        text.into_iter()
            .chain(turns.iter().map(|turn| turn.content.as_str()))
    }

    /// True when there is no text, or only white space.
    pub fn is_blank(&self) -> bool {
        self.texts().all(|text| text.trim().is_empty())
    }
}

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

/// The rows of one file, all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Preference pairs.
    Preferences(Vec<PreferenceRow>),
    /// Demonstrations.
    Demonstrations(Vec<DemonstrationRow>),
}

impl Rows {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Preferences(rows) => rows.len(),
            Self::Demonstrations(rows) => rows.len(),
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
        }
        self
    }

    /// Demonstrations: of pairs the chosen answers, demonstrations as they are.
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
            rows => rows,
        }
    }
}
