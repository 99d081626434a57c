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
