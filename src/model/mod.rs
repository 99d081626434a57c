//! Decoders, adapters, and the import of safetensors, GGUF and llama2.c files.

pub mod gguf;
