//! What a prompt or an answer is before it is tokens.

use serde::{Deserialize, Serialize};

/// One turn of a conversation, as chat templates read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// The turn's text.
    pub content: String,
}

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
