//! The reward posterior: the head, `Steps`, token-reward records.

mod layout;
mod record;

pub use layout::Layout;
pub use record::{
    AnswerScore, Provenance, SCHEMA, Side, TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
