//! The border to the page: one typed protocol, and the engine that answers it (wasm32 only).

pub mod protocol;
