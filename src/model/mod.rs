//! Decoders, adapters, and the import of safetensors, GGUF and llama2.c files.
//!
//! A model is a [`ModelConfig`], a flat map of named [`Weights`], and a forward function chosen by the architecture.
//! Names are Hugging Face's, so that importers, adapters, optimisers and exporters speak of the same things.

mod attention;
mod config;
mod decoder;
mod dropout;
mod error;
mod generate;
pub mod gguf;
mod gpt2;
pub(crate) mod host;
pub mod huggingface;
mod import;
mod llama;
pub mod llama2c;
mod lora;
mod random;
pub mod safetensors;
mod shapes;
mod slabs;
#[cfg(test)]
pub(crate) mod tests;
mod weights;

pub use config::{Architecture, ModelConfig, RopeScaling};
pub use decoder::{Decoder, ForwardOptions, TrunkOutput};
pub use dropout::Dropout;
pub use error::ModelError;
pub use generate::{GenerateOptions, Generated};
pub(crate) use lora::linear_layers;
pub use lora::{ExportedLora, Lora, LoraConfig};
pub use shapes::{expected_shapes, is_transposed};
pub(crate) use slabs::weight_slabs;
pub use weights::{Weight, Weights};
