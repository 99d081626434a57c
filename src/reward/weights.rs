//! Reward weights: how much attention a token receives.
//!
//! ```text
//! p[i,t] = softmax_t( scale * q_i . k_t )          t over the valid keys of i's own segment
//! w[t]   = (1/L) sum_i p[i,t]                      i over the L valid positions;  sum_t w[t] = 1
//! ```
//!
//! Source: Preference Transformer, arXiv 2303.00957, section 4; AVA, arXiv 2411.09341, Eq. 11. Every w[t] averages over
//! all queries, so a token's weight also depends on the text after it.

use super::layout::Layout;
use super::steps::{RwtScale, StepsConfig};
use burn::tensor::{Bool, Device, Tensor, TensorData, activation};

/// w `[B, T]` from queries and keys `[B, T, d]`; 0 where `valid` is false.
///
/// `segments` and `valid` are `[B, T]`, row-major; a key is visible to a query of the same segment, and with `causal`
/// only to itself and later positions.
pub fn attention_received(
    queries: Tensor<3>,
    keys: Tensor<3>,
    segments: &[u32],
    valid: &[bool],
    causal: bool,
    scale: f64,
) -> Tensor<2> {
    let [rows, tokens, _] = queries.dims();
    let device = queries.device();
    let mut hidden = Vec::with_capacity(rows * tokens * tokens);
    let mut share = Vec::with_capacity(rows * tokens);
    for (segments, valid) in segments.chunks(tokens).zip(valid.chunks(tokens)) {
        let count = valid.iter().filter(|v| **v).count().max(1) as f32;
        for i in 0..tokens {
            share.push(if valid[i] { 1.0 / count } else { 0.0 });
            hidden.extend(
                (0..tokens)
                    .map(|t| !(valid[t] && segments[t] == segments[i] && !(causal && t > i))),
            );
        }
    }
    let hidden = boolean(hidden, [rows, tokens, tokens], &device);
    let share = Tensor::<3>::from_data(TensorData::new(share, [rows, 1, tokens]), &device);
    let scores = queries.matmul(keys.swap_dims(1, 2)).mul_scalar(scale);
    // A large finite value: a query without any visible key (padding) must not turn into NaN.
    let p = activation::softmax(scores.mask_fill(hidden, -1e30), 2);
    // w = share [1,T] x p [T,T]; queries on padding have share 0.
    share.matmul(p).reshape([rows, tokens])
}

/// The weights that AVA's `rwt` switch puts on the heads, `[B, T]`; 1 on padding.
pub fn reward_weights(
    queries: Tensor<3>,
    keys: Tensor<3>,
    layout: &Layout,
    cfg: &StepsConfig,
) -> Tensor<2> {
    let [rows, tokens, width] = queries.dims();
    let device = queries.device();
    let valid: Vec<bool> = layout.segments.iter().map(|s| *s > 0).collect();
    let scale = if cfg.rwt_sqrt_d {
        1.0 / (width as f64).sqrt()
    } else {
        1.0
    };
    let padding = boolean(valid.iter().map(|v| !v).collect(), [rows, tokens], &device);
    let lengths: Vec<f32> = valid
        .chunks(tokens)
        .map(|row| row.iter().filter(|v| **v).count() as f32)
        .collect();
    let w = attention_received(
        queries,
        keys,
        &layout.segments,
        &valid,
        cfg.rwt_causal,
        scale,
    );
    let w = match cfg.rwt_scale {
        RwtScale::Literal => w,
        RwtScale::Length => {
            w * Tensor::<2>::from_data(TensorData::new(lengths, [rows, 1]), &device)
        }
    };
    w.mask_fill(padding, 1.0)
}

fn boolean<const D: usize>(
    values: Vec<bool>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Bool> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden::values;

    #[test]
    fn zero_queries_give_the_plain_mean_and_padding_gets_nothing() {
        let device = Device::flex();
        let q = Tensor::<3>::zeros([1, 4, 2], &device);
        let k = Tensor::<3>::ones([1, 4, 2], &device);
        let valid = [false, true, true, true];
        let w = values(attention_received(q, k, &[0, 1, 1, 1], &valid, false, 1.0));
        assert_eq!(w[0], 0.0);
        for x in &w[1..] {
            assert!((x - 1.0 / 3.0).abs() < 1e-6);
        }
    }
}
