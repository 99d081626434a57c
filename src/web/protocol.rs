//! What the page may ask of the engine, and what it answers. The page's TypeScript types are generated from these
//! enums; bulk bytes (files, checkpoints) travel beside a message, never inside it.

use crate::device::DeviceChoice;
use crate::reward::TokenRewardRecord;
use crate::train::{DeviceInfo, Event, FinishReason, RunInfo, TrainConfig};
use serde::{Deserialize, Serialize};

/// A request. Buffers that belong to it are named beside each variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Opens the device. First of all requests.
    OpenDevice {
        /// Which.
        choice: DeviceChoice,
    },
    /// Uses the built-in world: its model, and rows drawn from its true rewards.
    UseWorld {
        /// Seed of the rows.
        seed: u64,
        /// Rows to draw.
        rows: usize,
        /// Demonstrations instead of preference pairs.
        demonstrations: bool,
    },
    /// Opens a model. Buffers: the files, in the order of `files` (a safetensors directory, or one GGUF).
    OpenModel {
        /// The name shown for it.
        name: String,
        /// File names.
        files: Vec<String>,
    },
    /// Opens rows. Buffers: one file, JSON Lines or a JSON array.
    OpenData {
        /// The file's name, used in errors.
        name: String,
    },
    /// Makes a run ready: tokenises, splits, initialises. Answered by `Configured`.
    Configure {
        /// The run's configuration.
        config: TrainConfig,
    },
    /// Takes up to `steps` optimiser steps. Answered by `Events`.
    Train {
        /// How many.
        steps: usize,
    },
    /// Ends the run here: the held-out rows are scored once more. Answered by `Events`. A checkpoint of a run that was ended so
    /// can be gone on from.
    Stop,
    /// Watches a held-out row: it is scored now and after each `Train`. Answered by `Tokens`.
    Watch {
        /// Which held-out row, from 0.
        row: usize,
    },
    /// Scores a person's own answer. Answered by `Tokens`.
    Score {
        /// The prompt.
        prompt: String,
        /// The answer.
        answer: String,
    },
    /// Writes a checkpoint. Answered by `Saved` and one buffer.
    Save,
    /// Goes on from a checkpoint. Buffers: one checkpoint, and, where there is one, the file of results on truths that lies beside
    /// it (`trust.json`): they say how far the map of this very checkpoint may be trusted. Answered by `Restored`.
    Restore {
        /// Settings to go on with in place of the checkpoint's own: other learning rates, say. Those that fix what trains, or
        /// which rows are drawn, must be its own.
        config: Option<TrainConfig>,
    },
    /// The lists that the page builds its controls from. Answered by `Catalogue`.
    Describe,
}

/// A method a person can pick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct MethodInfo {
    /// Its name in configurations.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Where it comes from.
    pub citation: String,
    /// Whether it learns from pairs (else from demonstrations).
    pub pairs: bool,
    /// Its switches with their defaults.
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    pub defaults: serde_json::Value,
}

/// The rows that are open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct DataInfo {
    /// The file's or world's name.
    pub name: String,
    /// How many rows.
    pub rows: usize,
    /// Pairs (else demonstrations).
    pub pairs: bool,
    /// Accuracy of "the longer answer wins", for pairs.
    pub longer_wins: Option<f64>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "snake_case")]
// One is made for a request, and sent at once: a box would save nothing and burden every reader.
#[allow(clippy::large_enum_variant)]
pub enum Reply {
    /// The device is open.
    Device {
        /// Which, and why.
        device: DeviceInfo,
    },
    /// A model is open.
    Model {
        /// Its name.
        name: String,
        /// Its architecture and sizes, in words.
        summary: String,
        /// Its parameters.
        parameters: usize,
    },
    /// Rows are open.
    Data(DataInfo),
    /// A run is ready.
    Configured {
        /// What it is.
        run: RunInfo,
        /// Short titles of the held-out rows that can be watched.
        watchable: Vec<String>,
    },
    /// What happened.
    Events {
        /// In order.
        events: Vec<Event>,
        /// Whether the run has ended.
        finished: bool,
        /// What broke off the request after these events; they happened all the same.
        error: Option<String>,
    },
    /// Token rewards.
    Tokens {
        /// One record an answer.
        records: Vec<TokenRewardRecord>,
    },
    /// A checkpoint is in the buffer beside this message.
    Saved {
        /// The file name to offer.
        name: String,
        /// Steps taken.
        step: usize,
    },
    /// A run goes on. What the page shows of it is the checkpoint's, whatever was set up before.
    Restored {
        /// Steps taken.
        step: usize,
        /// Why it had ended, if it had.
        finished: Option<FinishReason>,
        /// Its configuration.
        config: TrainConfig,
        /// What it is.
        run: RunInfo,
        /// Short titles of the held-out rows that can be watched.
        watchable: Vec<String>,
        /// Its rows: the built-in world draws them anew where the method learns from the other kind.
        data: DataInfo,
    },
    /// The lists.
    Catalogue {
        /// Methods, in their order of teaching.
        methods: Vec<MethodInfo>,
        /// The default configuration.
        config: TrainConfig,
    },
    /// The request could not be carried out; nothing was lost.
    Error {
        /// What, where, and the way out.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use ts_rs::TS;

    /// `AVASCOPE_WRITE_TYPES=1 cargo test protocol_types` writes the file that this test otherwise compares.
    #[test]
    fn protocol_types_are_those_of_the_page() {
        use crate::{device, reward, text, train};
        let config = ts_rs::Config::new().with_large_int("number");
        let declarations = [
            text::Truncation::decl(&config),
            reward::Side::decl(&config),
            reward::Uncertainty::decl(&config),
            reward::Trust::decl(&config),
            reward::IgnoranceKind::decl(&config),
            reward::Ignorance::decl(&config),
            reward::Provenance::decl(&config),
            reward::TokenReward::decl(&config),
            reward::ScoreIgnorance::decl(&config),
            reward::ScoreTotal::decl(&config),
            reward::AnswerScore::decl(&config),
            reward::TokenRewardRecord::decl(&config),
            train::Schedule::decl(&config),
            train::LoraConfig::decl(&config),
            train::Trainable::decl(&config),
            train::TrainConfig::decl(&config),
            train::DeviceInfo::decl(&config),
            train::RunInfo::decl(&config),
            train::FinishReason::decl(&config),
            train::Event::decl(&config),
            device::DeviceChoice::decl(&config),
            super::Request::decl(&config),
            super::MethodInfo::decl(&config),
            super::DataInfo::decl(&config),
            super::Reply::decl(&config),
        ];
        let mut text = String::from(
            "// Generated from src/web/protocol.rs by `AVASCOPE_WRITE_TYPES=1 cargo test --release protocol_types`. Do not edit.\n\n",
        );
        for declaration in declarations {
            text.push_str(&format!("export {declaration}\n\n"));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/src/lib/protocol.gen.ts");
        if std::env::var_os("AVASCOPE_WRITE_TYPES").is_some() {
            std::fs::write(path, &text).expect("the page's folder is writable");
        }
        let current = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            current, text,
            "the page's types are stale: see the first line of {path}"
        );
    }
}
