//! The reward posterior: the head, `Steps`, token-reward records.

mod head;
mod layout;
mod posterior;
mod prior;
mod record;
mod steps;
mod weights;

pub use head::{HEAD_BIAS, HEAD_WEIGHT, Q_HEAD, RewardHead};
pub use layout::Layout;
pub(crate) use posterior::ERFCX_FIT;
pub use posterior::{
    Link, clamped_fraction, interval95, kl_to_standard_normal, log_density, log_std,
    probability_better,
};
pub use prior::{Prior, PriorForm};
pub use record::{
    AnswerScore, Ignorance, IgnoranceKind, Provenance, SCHEMA, ScoreIgnorance, ScoreTotal, Side,
    TokenReward, TokenRewardRecord, Trust, Uncertainty,
};
pub use steps::{
    ActionValues, Extras, HeadValues, LikelihoodForm, Normaliser, QHead, QMode, RewardRead, Rwt,
    RwtScale, SigmaParam, StepIndex, StepValues, Steps, StepsConfig, action_values, assemble,
    weighted_action_values,
};
pub use weights::{attention_received, reward_weights};
