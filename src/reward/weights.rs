//! Reward weights: how much attention a position receives on average.
//!
//! w_t = (1/L) sum_i softmax_t'(q_i · k_t')_t over the L valid positions of a row (AVA, arXiv 2411.09341, Eq. 11, after
//! *Preference Transformer*, arXiv 2303.00957). Every w_t averages over all queries, so a token's weighted reward is
//! not a function of its prefix, also with causal keys.

use super::Layout;
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor, TensorData};

/// Switches of the weights.
#[derive(Clone, Copy, Debug)]
pub struct RewardWeights {
    /// A query sees keys at and before its own position only.
    pub causal: bool,
    /// Scores are divided by the square root of the key width.
    pub sqrt_d: bool,
    /// Weights are multiplied by L: their mean is 1 instead of their sum.
    pub length: bool,
}

/// Weights `[B, T]` from queries and keys `[B, T, d]`; 1 on padding.
pub fn reward_weights(
    queries: Tensor<3>,
    keys: Tensor<3>,
    layout: &Layout,
    switches: RewardWeights,
) -> Tensor<2> {
    let (b, t) = (layout.rows, layout.tokens);
    let device = queries.device();
    let [_, _, d] = queries.dims();
    let mut hidden = vec![true; b * t * t];
    let mut valid = vec![0.0f32; b * t];
    let mut lengths = vec![0.0f32; b];
    for row in 0..b {
        for i in 0..t {
            let segment = layout.segments[row * t + i];
            if segment == 0 {
                continue;
            }
            valid[row * t + i] = 1.0;
            lengths[row] += 1.0;
            for j in 0..t {
                let visible =
                    layout.segments[row * t + j] == segment && (!switches.causal || j <= i);
                hidden[(row * t + i) * t + j] = !visible;
            }
        }
    }
    let hidden = Tensor::<3, Bool>::from_data(TensorData::new(hidden, [b, t, t]), &device);
    let valid = Tensor::<2>::from_data(TensorData::new(valid, [b, t]), &device);
    let lengths = Tensor::<2>::from_data(TensorData::new(lengths, [b, 1]), &device).clamp_min(1.0);

    let mut scores = queries.matmul(keys.swap_dims(1, 2));
    if switches.sqrt_d {
        scores = scores.div_scalar((d as f64).sqrt());
    }
    // A large finite number: a row without any visible key stays finite, and its query counts for nothing below.
    let attention = softmax(scores.mask_fill(hidden, -1e30), 2);
    let received = (attention * valid.clone().reshape([b, t, 1]))
        .sum_dim(1)
        .reshape([b, t]);
    let weights = if switches.length {
        received
    } else {
        received / lengths
    };
    weights.mask_fill(valid.equal_scalar(0.0), 1.0)
}
