//! Every answer token gets the same share, or the last one everything.
//!
//! ```text
//! uniform: r_i = R / n         sparse: r_i = R [i last]
//! ```
//!
//! Source: baselines of *Dense Reward for Free*, arXiv 2402.00782; github XanderJC/attention-based-credit@0a08591.

use super::abc::redistribute;
use super::{AnswerMask, Credit, Needs};
use burn::tensor::Tensor;

/// The entry in [`CREDITS`](super::CREDITS): the floor that says nothing about tokens.
pub const UNIFORM: Credit = Credit {
    name: "uniform",
    title: "The same share for every token (floor)",
    citation: "baseline of Dense Reward for Free, arXiv 2402.00782",
    needs: Needs::NOTHING,
    spread: |sequence| {
        let weights = uniform(&sequence.answer);
        let reward = sequence.reward.clone();
        Some(redistribute(reward, weights, &sequence.answer, 1.0))
    },
};

/// The entry in [`CREDITS`](super::CREDITS): the reward where a sequence reward model puts it.
pub const SPARSE: Credit = Credit {
    name: "sparse",
    title: "Everything on the last token (floor)",
    citation: "baseline of Dense Reward for Free, arXiv 2402.00782",
    needs: Needs::NOTHING,
    spread: |sequence| {
        let weights = sparse(&sequence.answer);
        let reward = sequence.reward.clone();
        Some(redistribute(reward, weights, &sequence.answer, 1.0))
    },
};

/// Equal weights `[B, T]` that sum to 1 over the answer.
pub fn uniform(mask: &AnswerMask) -> Tensor<2> {
    mask.mask.clone() / mask.mask.clone().sum_dim(1).clamp_min(1.0)
}

/// All weight on the last answer token `[B, T]`.
pub fn sparse(mask: &AnswerMask) -> Tensor<2> {
    mask.last.clone()
}
