//! The reward head of TQR (transformer with Q and reward heads): two numbers a position, the posterior's mean and the
//! raw value of its spread. Source: AVA, arXiv 2411.09341, Eq. 8-10; the form (one linear layer on the hidden state
//! after the final norm) and the start at zero are ours: the posterior starts exactly at the prior N(0, 1).

use crate::model::{Weight, Weights};
use burn::tensor::{Device, Tensor};

/// Name of the matrix `[H, 2]` in checkpoints.
pub const HEAD_WEIGHT: &str = "reward_head.weight";
/// Name of the bias `[2]` in checkpoints.
pub const HEAD_BIAS: &str = "reward_head.bias";

/// A linear layer from hidden states to (mean, raw spread).
#[derive(Clone, Debug)]
pub struct RewardHead {
    /// `reward_head.weight` `[H, 2]` and `reward_head.bias` `[2]`.
    pub weights: Weights,
}

impl RewardHead {
    /// A head that gives the prior everywhere: weight 0, bias 0 (or `raw_bias` for a spread that is not a log).
    pub fn at_prior(hidden: usize, raw_bias: f32, device: &Device) -> Self {
        let mut weights = Weights::default();
        weights.insert(HEAD_WEIGHT, Weight::Matrix(Tensor::zeros([hidden, 2], device)));
        weights.insert(HEAD_BIAS, Weight::Vector(Tensor::from_floats([0.0, raw_bias], device)));
        Self { weights }
    }

    /// Mean and raw spread, each `[B, T]`, from hidden states `[B, T, H]`.
    pub fn forward(&self, hidden: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        let [b, t, h] = hidden.dims();
        let weight = self.weights.matrix(HEAD_WEIGHT);
        let bias = self.weights.vector(HEAD_BIAS);
        let out = hidden.reshape([b * t, h]).matmul(weight) + bias.unsqueeze::<2>();
        let mean = out.clone().slice([0..b * t, 0..1]).reshape([b, t]);
        let raw = out.slice([0..b * t, 1..2]).reshape([b, t]);
        (mean, raw)
    }
}
