//! The reward head of TQR (transformer with Q and reward heads): two numbers a position, the posterior's mean and the
//! raw value of its spread. Source: AVA, arXiv 2411.09341, Eq. 8-10; the form (one linear layer on the hidden state
//! after the final norm) and the start at zero are ours: the posterior starts exactly at the prior N(0, 1).
//!
//! Q is read off the language model's head. AVA's ablation "w/o ptq" gives Q a fresh head of its own, Q = W h.

use super::{HeadValues, Layout, Rwt, StepsConfig, attention_received, reward_weights};
use crate::model::{Weight, Weights};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Name of the matrix `[H, 2]` in checkpoints.
pub const HEAD_WEIGHT: &str = "reward_head.weight";
/// Name of the bias `[2]` in checkpoints.
pub const HEAD_BIAS: &str = "reward_head.bias";

/// Name of the Q-head `[H, V]` in checkpoints.
pub const Q_HEAD: &str = "q_head.weight";

/// Standard deviation of a fresh Q-head: that of a fresh language model's matrices (GPT-2's initialisation).
const Q_HEAD_STD: f64 = 0.02;

/// Name of the learned prior's log-scales `[V]` in checkpoints.
const PRIOR_LOG_SCALE: &str = "reward_prior.log_scale";

/// Keeps the Q-head's numbers apart from those of the reward weights, which are drawn from the same seed.
const Q_HEAD_STREAM: u64 = 1;

/// Name of the prototypes `[H, K]` of a contrastive term.
const PROTOTYPES: &str = "prototypes.weight";

/// Keeps the prototypes' numbers apart from those of the other layers.
const PROTOTYPES_STREAM: u64 = 2;

/// Names of the reward weights' query and key layers `[H, d]`.
const WEIGHT_QUERY: &str = "reward_weights.query";
const WEIGHT_KEY: &str = "reward_weights.key";

/// A linear layer from hidden states to (mean, raw spread), with what a method asks for beside it.
#[derive(Clone, Debug)]
pub struct RewardHead {
    /// `reward_head.weight` `[H, 2]` and `reward_head.bias` `[2]`; queries and keys of reward weights, a Q-head, a learned
    /// prior's scales and prototypes where they were added.
    pub weights: Weights,
}

impl RewardHead {
    /// A head that gives the prior everywhere: weight 0, bias 0 (or `raw_bias` for a spread that is not a log).
    pub fn at_prior(hidden: usize, raw_bias: f32, device: &Device) -> Self {
        let mut weights = Weights::default();
        weights.insert(
            HEAD_WEIGHT,
            Weight::Matrix(Tensor::zeros([hidden, 2], device)),
        );
        weights.insert(
            HEAD_BIAS,
            Weight::Vector(Tensor::from_floats([0.0, raw_bias], device)),
        );
        Self { weights }
    }

    /// Adds the queries and keys of the reward weights, two bias-free layers `[H, width]`, drawn from `seed`.
    pub fn with_reward_weights(
        mut self,
        hidden: usize,
        width: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut random = crate::random::Rng::new(seed);
        for name in [WEIGHT_QUERY, WEIGHT_KEY] {
            // The usual scale of a linear layer: weights start near 1/L everywhere.
            let std = (1.0 / hidden as f64).sqrt();
            let values: Vec<f32> = (0..hidden * width)
                .map(|_| (std * random.normal()) as f32)
                .collect();
            let tensor = Tensor::from_data(TensorData::new(values, [hidden, width]), device);
            self.weights.insert(name, Weight::Matrix(tensor));
        }
        self
    }

    /// Adds a Q-head, a bias-free layer `[H, V]` drawn from `seed`: the same numbers on every device.
    pub fn with_q_head(
        mut self,
        hidden: usize,
        vocabulary: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut random = crate::random::Rng::stream(seed, Q_HEAD_STREAM);
        let values: Vec<f32> = (0..hidden * vocabulary)
            .map(|_| (Q_HEAD_STD * random.normal()) as f32)
            .collect();
        let tensor = Tensor::from_data(TensorData::new(values, [hidden, vocabulary]), device);
        self.weights.insert(Q_HEAD, Weight::Matrix(tensor));
        self
    }

    /// Adds a learned prior's log-scale for every token type, `[V]`, all 0: the scale is the method's `prior_scale`.
    pub fn with_token_prior(mut self, vocabulary: usize, device: &Device) -> Self {
        let table = Weight::Vector(Tensor::zeros([vocabulary], device));
        self.weights.insert(PRIOR_LOG_SCALE, table);
        self
    }

    /// The learned prior's log-scale for tokens `ids` `[N]`; `None` without that table.
    pub fn prior_log_scale(&self, ids: Tensor<1, Int>) -> Option<Tensor<1>> {
        self.weights.get(PRIOR_LOG_SCALE)?;
        Some(self.weights.vector(PRIOR_LOG_SCALE).select(0, ids))
    }

    /// Adds K prototypes `[H, K]`, drawn from `seed` in all directions alike.
    pub fn with_prototypes(
        mut self,
        hidden: usize,
        count: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut random = crate::random::Rng::stream(seed, PROTOTYPES_STREAM);
        // Of length about 1.
        let std = (1.0 / hidden as f64).sqrt();
        let values: Vec<f32> = (0..hidden * count)
            .map(|_| (std * random.normal()) as f32)
            .collect();
        let tensor = Tensor::from_data(TensorData::new(values, [hidden, count]), device);
        self.weights.insert(PROTOTYPES, Weight::Matrix(tensor));
        self
    }

    /// The prototypes `[H, K]`, where there are any.
    pub fn prototypes(&self) -> Option<Tensor<2>> {
        self.weights.get(PROTOTYPES)?;
        Some(self.weights.matrix(PROTOTYPES))
    }

    /// The Q-head's numbers `[N, V]` for hidden states `[N, H]`; `None` without that head.
    pub fn q_logits(&self, hidden: Tensor<2>) -> Option<Tensor<2>> {
        self.weights.get(Q_HEAD)?;
        Some(hidden.matmul(self.weights.matrix(Q_HEAD)))
    }

    /// The head's word on every position of hidden states `[B, T, H]`.
    pub fn forward(&self, hidden: Tensor<3>, layout: &Layout, cfg: &StepsConfig) -> HeadValues {
        let [b, t, h] = hidden.dims();
        let weight = self.weights.matrix(HEAD_WEIGHT);
        let bias = self.weights.vector(HEAD_BIAS);
        let flat = hidden.reshape([b * t, h]);
        let out = flat.clone().matmul(weight) + bias.unsqueeze::<2>();
        let output = HeadValues {
            mean: out.clone().slice([0..b * t, 0..1]).reshape([b, t]),
            log_std: out.slice([0..b * t, 1..2]).reshape([b, t]),
            weights: None,
        };
        if cfg.rwt == Rwt::Off || self.weights.get(WEIGHT_QUERY).is_none() {
            return output;
        }
        let project = |name: &str| {
            let weight = self.weights.matrix(name);
            let [_, width] = weight.dims();
            flat.clone().matmul(weight).reshape([b, t, width])
        };
        let weights = reward_weights(project(WEIGHT_QUERY), project(WEIGHT_KEY), layout, cfg);
        HeadValues {
            weights: Some(weights),
            ..output
        }
    }

    /// How much attention each answer token receives `[B, T]`, by the preference layer's queries and keys: the weights of
    /// a Preference Transformer, over answer positions only, so that the prompt takes none; `rwt_causal` and `rwt_sqrt_d` hold.
    /// `None` without that layer.
    pub fn preference_weights(
        &self,
        hidden: Tensor<3>,
        layout: &Layout,
        cfg: &StepsConfig,
    ) -> Option<Tensor<2>> {
        self.weights.get(WEIGHT_QUERY)?;
        let [b, t, h] = hidden.dims();
        let flat = hidden.reshape([b * t, h]);
        let project = |name: &str| {
            let weight = self.weights.matrix(name);
            let [_, width] = weight.dims();
            flat.clone().matmul(weight).reshape([b, t, width])
        };
        let (queries, keys) = (project(WEIGHT_QUERY), project(WEIGHT_KEY));
        let scale = match cfg.rwt_sqrt_d {
            true => 1.0 / (queries.dims()[2] as f64).sqrt(),
            false => 1.0,
        };
        let valid: Vec<bool> = layout
            .segments
            .iter()
            .zip(&layout.response)
            .map(|(segment, response)| *segment > 0 && *response)
            .collect();
        Some(attention_received(
            queries,
            keys,
            &layout.segments,
            &valid,
            cfg.rwt_causal,
            scale,
        ))
    }
}
