//! Text in, ids and spans out: tokenizers, chat templates, offsets.

use serde::{Deserialize, Serialize};

/// One turn of a conversation, as chat templates read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// The turn's text.
    pub content: String,
}

/// What is cut from a row that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// Prompt tokens from the left, then answer tokens from the right.
    #[default]
    KeepEnd,
    /// Tokens from the right.
    KeepStart,
    /// Nothing: such a row is an error.
    Error,
}
