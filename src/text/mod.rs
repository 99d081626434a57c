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
mod content;
mod error;
mod gguf;
mod llama2c;
mod offsets;
mod spm;
mod tokenizer;

#[cfg(test)]
mod tests;

pub use answer::{EncodeOptions, EncodedAnswer, Truncation, encode_answer};
pub use content::{Content, Message};
pub use error::TextError;
pub use tokenizer::{Encoding, TextTokenizer};
