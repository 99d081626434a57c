//! Rows: preferences, demonstrations, spans; their readers and checks.

mod row;

pub use row::{Answer, Content, DemonstrationRow, PreferenceRow, Rows, Span};
