//! A token's reward as a linear function of the reward head's weights.
//!
//! ```text
//! mean_s = a_s (w . h_s + b)        feature_s = a_s [h_s, 1], D = H + 1
//! ```
//!
//! a is what the method puts on the head's word: 1, a reward weight, or an attention weight. It is found by asking the
//! method itself, with the head's mean set to 1 and to 0 everywhere, so that no method needs code of its own here.

use crate::model::Weight;
use crate::objective::{Objective, ScoreKind, Scores, TokenRewards};
use crate::reward::{HEAD_BIAS, HEAD_WEIGHT, Layout, RewardHead, RewardRead, Steps};
use crate::train::forward::{Reader, TrunkStates, read_steps};
use crate::train::run::count;
use burn::tensor::{Device, Tensor};

/// What a batch's tokens are to the reward head.
pub(super) struct Features {
    /// `[B, S, D]`, 0 outside the step mask.
    pub(super) tokens: Tensor<3>,
    /// What the method makes of a head that says 0 everywhere, `[B, S]`.
    pub(super) offset: Tensor<2>,
}

impl Features {
    /// Of a batch whose trunk has run.
    pub(super) fn of(
        head: &RewardHead,
        objective: &dyn Objective,
        decoder: &crate::model::Decoder,
        layout: &Layout,
        trunk: &TrunkStates,
        device: &Device,
    ) -> Self {
        let answer = |level: f32| {
            let head = constant_head(head, level);
            let reader = Reader {
                decoder,
                head: &head,
                objective,
                reference: None,
            };
            let normaliser = count(std::slice::from_ref(layout));
            let steps = read_steps(reader, layout, normaliser, device, trunk.clone()).steps;
            (objective.token_rewards(&steps).mean, steps)
        };
        let (offset, steps) = answer(0.0);
        let factor = answer(1.0).0 - offset.clone();
        let first = match objective.steps_config().reward_read {
            RewardRead::NextState => 1,
            RewardRead::State => 0,
        };
        let (rows, s) = (layout.rows, layout.steps());
        let hidden = trunk.hidden.clone().narrow(1, first, s);
        let ones = Tensor::ones([rows, s, 1], device);
        let tokens = Tensor::cat(vec![hidden, ones], 2) * factor.unsqueeze_dim(2);
        let tokens = tokens.mask_fill(steps.outside.unsqueeze_dim(2), 0.0);
        Self { tokens, offset }
    }
}

/// The head with `level` as the mean of every position; its spread and its weights stay.
fn constant_head(head: &RewardHead, level: f32) -> RewardHead {
    let mut head = head.clone();
    let weight = head.weights.matrix(HEAD_WEIGHT);
    let bias = head.weights.vector(HEAD_BIAS);
    let first = Tensor::zeros_like(&weight.clone().narrow(1, 0, 1));
    let weight = Tensor::cat(vec![first, weight.narrow(1, 1, 1)], 1);
    let first = Tensor::full_like(&bias.clone().narrow(0, 0, 1), level);
    let bias = Tensor::cat(vec![first, bias.narrow(0, 1, 1)], 0);
    head.weights.insert(HEAD_WEIGHT, Weight::Matrix(weight));
    head.weights.insert(HEAD_BIAS, Weight::Vector(bias));
    head
}

/// The share of each step in an answer's score, `[B, S]`: 1 at the last step, 1 everywhere, or 1 over the length.
pub(super) fn shares(steps: &Steps, kind: ScoreKind) -> Tensor<2> {
    match kind {
        ScoreKind::Last => steps.last.clone(),
        ScoreKind::Sum => steps.mask.clone(),
        ScoreKind::Mean => steps.mask.clone() / steps.mask.clone().sum_dim(1).clamp_min(1.0),
    }
}

/// Scores of a method's token rewards, with their own posterior's variances (0 where it has none).
pub(super) fn scores_of(steps: &Steps, rewards: &TokenRewards) -> Scores {
    let variance = match &rewards.std {
        Some(std) => std.clone().square(),
        None => rewards.mean.zeros_like(),
    };
    Scores::from_rewards(steps, rewards.mean.clone(), variance)
}

/// `[B, S, D]` summed over the steps by shares `[B, S]`: `[B, D]`.
pub(super) fn pooled(tokens: Tensor<3>, shares: Tensor<2>) -> Tensor<2> {
    (tokens * shares.unsqueeze_dim(2)).sum_dim(1).squeeze_dim(1)
}
