//! Text in, ids and spans out: tokenizers, chat templates, offsets.
//!
//! [`TextTokenizer`] reads the three ways in which models carry their vocabulary (Hugging Face's `tokenizer.json`,
//! llama2.c's `tok.bin`, GGUF metadata) into one engine, the `tokenizers` crate, which runs the same code natively and
//! in a page. [`encode_answer`] turns a prompt and its answer into one row of ids with the answer's tokens marked.
//!
//! What this room does not do: it never trains a vocabulary, never pads and never batches.

mod answer;
mod chat;
mod checks;
mod config;
mod error;
mod gguf;
mod llama2c;
mod offsets;
mod spm;
mod tokenizer;

#[cfg(test)]
mod tests;

pub use answer::{EncodeOptions, EncodedAnswer, Truncation, encode_answer};
pub use error::TextError;
pub use tokenizer::{Encoding, TextTokenizer};

use serde::{Deserialize, Serialize};

/// One turn of a conversation, as chat templates read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// The turn's text.
    pub content: String,
}
