//! The reward posterior: the head, `Steps`, token-reward records.

mod layout;

pub use layout::Layout;
