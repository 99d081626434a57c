//! AVRIL on a gridworld's tables, trained and held against the exact posterior.

mod avril;
mod study;

pub use avril::{AvrilTable, AvrilTableConfig, train_avril_table};
pub use study::{Growth, Sampled, StateReward, Study, growth};
