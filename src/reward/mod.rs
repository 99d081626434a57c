//! The reward posterior: the head, `Steps`, token-reward records.

mod head;
mod layout;
mod record;
mod steps;
mod weights;

pub use head::{HEAD_BIAS, HEAD_WEIGHT, RewardHead};
pub use layout::Layout;
pub use record::{
    AnswerScore, Provenance, SCHEMA, Side, TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
pub use steps::{
    ActionValues, HeadOutput, LikelihoodForm, Normaliser, PerStep, QMode, RewardRead, SigmaParam,
    Steps, StepsConfig, WeightOn, WeightScale, action_values, assemble, steps_from_logits,
};
pub use weights::{RewardWeights, reward_weights};
