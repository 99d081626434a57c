//! Every answer token gets the same share, or the last one everything.
//!
//! ```text
//! uniform: r_i = R / n         sparse: r_i = R [i last]
//! ```
//!
//! Source: baselines of *Dense Reward for Free*, arXiv 2402.00782; github XanderJC/attention-based-credit@0a08591.

use super::AnswerMask;
use burn::tensor::Tensor;

/// Equal weights `[B, T]` that sum to 1 over the answer.
pub fn uniform(mask: &AnswerMask) -> Tensor<2> {
    mask.mask.clone() / mask.mask.clone().sum_dim(1).clamp_min(1.0)
}

/// All weight on the last answer token `[B, T]`.
pub fn sparse(mask: &AnswerMask) -> Tensor<2> {
    mask.last.clone()
}
