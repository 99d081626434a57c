//! The configuration of a comparison, as its file says it.

use super::ignorance::IgnoranceEntry;
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Settings of [`TrainConfig`] that a comparison fixes by itself: given under `[train]` they would be ignored, so they
/// are refused there. Methods and options stand under `[[method]]`, seeds and shares at the top; there is no early
/// stopping, since every method has the same budget.
pub const FIXED_TRAIN_KEYS: &[&str] = &[
    "method",
    "options",
    "seed",
    "held_out",
    "eval_steps",
    "eval_rows",
    "early_stopping_patience",
];

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompareConfig {
    /// The folder that is written.
    pub out: String,
    /// Model: `world`, a directory or a file.
    pub model: String,
    /// The tokenizer that goes with it, where it is a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Rows: `world` or a file.
    pub data: String,
    /// Rows of the built-in world, where `data` is `world`.
    pub world_rows: usize,
    /// Seed of the built-in world's rows: the same rows for every seed of training.
    pub world_seed: u64,
    /// Test rows, where they have a file of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_data: Option<String>,
    /// Most rows to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Device.
    pub device: String,
    /// Share of the rows that only the final figures see, chosen by the hash of their content.
    pub test: f64,
    /// Share of the other rows on which tuned values are chosen, by another hash.
    pub validation: f64,
    /// Seeds; each method is trained with each.
    pub seeds: Vec<u64>,
    /// How many of the seeds, from the first, tuning may use; all where absent. The chosen values are then trained with
    /// the other seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tune_seeds: Option<usize>,
    /// Allows methods to have different numbers of tuning trials; the report says so.
    pub unequal_trials: bool,
    /// The label that all others are held against; the Bradley-Terry model on the sum of token scores where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Resamples of the test rows behind every interval and p-value.
    pub resamples: usize,
    /// What all methods share: steps, batch, learning rate, what trains.
    pub train: TrainConfig,
    /// The methods. In a [`Plan`](super::Plan) none is a star, and options hold those of the variants.
    #[serde(rename = "method")]
    pub methods: Vec<MethodEntry>,
    /// What every trained map is held against beside the figures of the test rows.
    #[serde(rename = "truth", skip_serializing_if = "Vec::is_empty")]
    pub truths: Vec<TruthEntry>,
    /// How every trained map's ignorance is estimated, beside the disagreement of its seeds.
    #[serde(rename = "ignorance", skip_serializing_if = "Vec::is_empty")]
    pub ignorance: Vec<IgnoranceEntry>,
}

impl Default for CompareConfig {
    fn default() -> Self {
        Self {
            out: "runs/compare".into(),
            model: "world".into(),
            tokenizer: None,
            data: "world".into(),
            world_rows: 3000,
            world_seed: 0,
            test_data: None,
            limit: None,
            device: "auto".into(),
            test: 0.2,
            validation: 0.1,
            seeds: Vec::new(),
            tune_seeds: None,
            unequal_trials: false,
            baseline: None,
            // A p-value below 0.05 / 50 can be told: enough for Holm's correction over fifty systems.
            resamples: 2000,
            train: TrainConfig::default(),
            methods: Vec::new(),
            truths: Vec::new(),
            ignorance: Vec::new(),
        }
    }
}

/// The name that stands for every method, in a `[[method]]` with `tune` at most: each with its default options, where it needs
/// no column of its own for them. A method that has a `[[method]]` of its own is left to that.
pub const EVERY_METHOD: &str = "*";

/// One system of the comparison: a trained method, and how its token rewards are read off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodEntry {
    /// The method's name; `avascope methods` lists them. Or [`EVERY_METHOD`].
    pub name: String,
    /// The name in the report; the method's (with its variant and its credit) where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How token rewards are read off; `own` is the method's own token reward.
    #[serde(default = "own")]
    pub credit: String,
    /// A variant of the method under its source's name, such as `w/o irl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The method's switches, laid over those of the variant; absent ones keep the method's defaults.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, Value>,
    /// Values to choose among, by setting: every combination is a trial.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tune: BTreeMap<String, Vec<Value>>,
}

/// A truth that every trained map is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthEntry {
    /// Its name in [`crate::train::TRUTHS`].
    pub kind: String,
    /// Its own file; without one the test rows serve, where the truth allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Most rows or traces to use, from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl TruthEntry {
    /// The entry in words: `spans on rows.jsonl`.
    pub fn words(&self) -> String {
        format!("{} on {}", self.kind, self.data())
    }

    /// What its rows or entries are called.
    pub fn data(&self) -> &str {
        self.file.as_deref().unwrap_or("the test rows")
    }
}

impl MethodEntry {
    /// A method with its default options, read by its own token rewards.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.into(),
            label: None,
            credit: own(),
            variant: None,
            options: serde_json::Map::new(),
            tune: BTreeMap::new(),
        }
    }
}

fn own() -> String {
    "own".into()
}
