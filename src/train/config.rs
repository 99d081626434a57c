//! A run's configuration: with the data's fingerprint and the seed it fixes the run's losses on a device.

use crate::text::Truncation;
use serde::{Deserialize, Serialize};

/// How the learning rate moves after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls in a straight line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    #[default]
    Cosine,
}

/// A low-rank adapter, in PEFT's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of the update.
    pub r: usize,
    /// The update is scaled by `alpha / r`.
    pub alpha: f64,
    /// Ends of the names of the linear layers that are adapted.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        // Rank 8 with alpha = 2r and all attention and MLP projections: the usual starting point for small models.
        Self {
            r: 8,
            alpha: 16.0,
            targets: [
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ]
            .map(String::from)
            .to_vec(),
        }
    }
}

/// What trains beside the reward head, which always does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trainable {
    /// Every parameter of the trunk.
    #[default]
    Full,
    /// Low-rank adapters on a frozen trunk.
    Lora(LoraConfig),
    /// Nothing of the trunk: its states are computed once and kept.
    Heads,
}

/// Everything a run depends on besides model, data and device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The method's name; `avascope methods` lists them.
    pub method: String,
    /// The method's own switches; absent ones keep the method's defaults.
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    pub options: serde_json::Value,
    /// Seed of initial heads, adapters and row order.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: usize,
    /// Rows (pairs or demonstrations) in a micro-batch.
    pub batch_size: usize,
    /// Micro-batches added up before an optimiser step.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate of the trunk or its adapters.
    pub learning_rate: f64,
    /// Peak learning rate of the reward head; the trunk's where absent.
    pub head_learning_rate: Option<f64>,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f64,
    /// Share of the steps in which the learning rate rises from zero.
    pub warmup_ratio: f64,
    /// How the learning rate moves after that.
    pub lr_scheduler_type: Schedule,
    /// Largest global gradient norm; larger ones are scaled down to it. Zero turns clipping off.
    pub max_grad_norm: f64,
    /// What trains.
    pub trainable: Trainable,
    /// Longest row in tokens.
    pub max_length: usize,
    /// What is cut from a longer row.
    pub truncation: Truncation,
    /// Whether rows of like length share a batch.
    pub group_by_length: bool,
    /// Share of the rows held out, chosen by the hash of their content.
    pub held_out: f64,
    /// Steps between evaluations; zero evaluates only at the end.
    pub eval_steps: usize,
    /// Most held-out rows scored at an evaluation; zero scores all.
    pub eval_rows: usize,
    /// Evaluations without a better held-out accuracy (pairs) or loss (demonstrations) before the run stops; zero never stops early.
    pub early_stopping_patience: usize,
    /// Steps between checkpoints; zero writes one at the end.
    pub save_steps: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            method: "ava_p".into(),
            options: serde_json::Value::Object(Default::default()),
            seed: 0,
            steps: 600,
            batch_size: 16,
            gradient_accumulation_steps: 1,
            // 2e-3 suits the built-in world's tiny model trained whole; pretrained trunks want 1e-5 (full) or 1e-4 (adapters).
            learning_rate: 2e-3,
            head_learning_rate: None,
            weight_decay: 0.01,
            warmup_ratio: 0.05,
            lr_scheduler_type: Schedule::Cosine,
            max_grad_norm: 1.0,
            trainable: Trainable::Full,
            max_length: 256,
            truncation: Truncation::KeepEnd,
            group_by_length: true,
            held_out: 0.1,
            eval_steps: 50,
            eval_rows: 200,
            early_stopping_patience: 0,
            save_steps: 0,
        }
    }
}
