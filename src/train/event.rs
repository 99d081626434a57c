//! Training speaks in typed events. The page, the terminal and the log file are three listeners of the same events.

use crate::reward::TokenRewardRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Metric names (TRL's, and ours under `ava/`) to values. A metric that is undefined is absent.
pub type Metrics = BTreeMap<String, f64>;

/// The device that computes, in plain words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct DeviceInfo {
    /// What was asked for: `auto`, `gpu`, `cpu`, ...
    pub asked: String,
    /// The backend that was chosen: `webgpu`, `vulkan`, `metal`, `dx12`, `cuda`, `rocm`, `cpu`.
    pub backend: String,
    /// The adapter's own name, or the processor.
    pub adapter: String,
    /// The arithmetic: `f32`.
    pub precision: String,
    /// Why this one, where it is not what was asked for first.
    pub note: Option<String>,
}

/// What a run is, said once at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RunInfo {
    /// The method's name.
    pub method: String,
    /// The model's name.
    pub model: String,
    /// The device.
    pub device: DeviceInfo,
    /// All parameters, heads included.
    pub parameters: usize,
    /// Those that train.
    pub trainable_parameters: usize,
    /// Rows that train.
    pub train_rows: usize,
    /// Rows held out by hash.
    pub held_out_rows: usize,
    /// Optimiser steps planned.
    pub total_steps: usize,
    /// Rows cut to fit the context.
    pub truncated_rows: usize,
    /// The seed.
    pub seed: u64,
    /// SHA-256 over the rows' content.
    pub data_fingerprint: String,
    /// What deserves attention before training, each with its reason.
    pub warnings: Vec<String>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// All planned steps were taken.
    Completed,
    /// The held-out metric stopped improving.
    EarlyStop,
    /// A person stopped it.
    Stopped,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "snake_case")]
// The large variant is sent once a run: a box would save nothing and burden every reader.
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// A run begins, or goes on from `step`.
    Started {
        /// Steps already taken.
        step: usize,
        /// What the run is.
        run: RunInfo,
    },
    /// An optimiser step was taken.
    Step {
        /// Steps taken so far.
        step: usize,
        /// Steps planned.
        total_steps: usize,
        /// Its metrics.
        #[cfg_attr(test, ts(type = "Record<string, number>"))]
        metrics: Metrics,
    },
    /// Held-out rows were scored.
    Evaluation {
        /// Steps taken so far.
        step: usize,
        /// Metrics under `eval_`.
        #[cfg_attr(test, ts(type = "Record<string, number>"))]
        metrics: Metrics,
    },
    /// The watched row's tokens, with their rewards at this moment.
    Tokens {
        /// Steps taken so far.
        step: usize,
        /// One record an answer.
        records: Vec<TokenRewardRecord>,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// Steps taken so far.
        step: usize,
        /// Its name.
        name: String,
    },
    /// Something deserves attention.
    Warning {
        /// What, and why.
        message: String,
    },
    /// The run ended.
    Finished {
        /// Steps taken.
        step: usize,
        /// Why.
        reason: FinishReason,
    },
}
