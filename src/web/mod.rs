//! The border to the page: one typed protocol, and the engine that answers it. Only `engine` is wasm32's own.

#[cfg(target_family = "wasm")]
mod engine;
pub mod protocol;
pub mod session;
