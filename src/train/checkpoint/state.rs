//! What a checkpoint keeps besides tensors: one JSON value in the file's metadata.

use super::file::said;
use crate::train::run::{LoadedModel, Run};
use crate::train::sampler::Sampler;
use crate::train::trunk_digest::settings_of;
use crate::train::{FinishReason, RunInfo, TrainConfig, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the format; another one is refused with both numbers.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) config: TrainConfig,
    pub(super) info: RunInfo,
    pub(super) step: usize,
    pub(super) finished: Option<FinishReason>,
    pub(super) sampler: Sampler,
    pub(super) best: Option<f64>,
    /// Absent where nothing looks for the best step, and in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) best_step: Option<usize>,
    pub(super) stale: usize,
    pub(super) times: BTreeMap<String, usize>,
    /// Of the first numbers of the frozen trunk's tensors; for versions that know no other.
    pub(super) frozen_digest: Option<String>,
    /// Of all of them; absent in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) frozen_sha256: Option<String>,
    /// Of the reference policy, where the whole trunk trains and the method is held against what it was; absent in files
    /// from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reference_sha256: Option<String>,
    /// What else a model's numbers depend on, in words: of the trunk, and of a reference that is a model of its own. Absent in
    /// files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model_settings: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reference_settings: Option<String>,
    /// What tells the tokenizer from others; absent in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tokenizer: Option<TokenizerMark>,
}

/// The tokenizer that made the ids which a checkpoint was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenizerMark {
    /// [`TextTokenizer::digest`](crate::text::TextTokenizer::digest).
    pub(super) digest: String,
    /// Tokens in its vocabulary.
    pub(super) tokens: usize,
}

impl TokenizerMark {
    pub(super) fn of(model: &LoadedModel) -> Self {
        Self {
            digest: model.tokenizer.digest(),
            tokens: model.tokenizer.vocab_size(),
        }
    }
}

impl State {
    /// The state of a run, with the number of updates of each tensor.
    pub(super) async fn of(run: &Run, times: BTreeMap<String, usize>) -> Result<Self, TrainError> {
        Ok(Self {
            version: VERSION,
            config: run.config.clone(),
            info: run.info.clone(),
            step: run.step,
            finished: run.finished,
            sampler: run.sampler.clone(),
            best: run.best,
            best_step: run.best_step,
            stale: run.stale,
            times,
            frozen_digest: run.frozen_starts().await?,
            frozen_sha256: run.frozen_sha256().await?,
            reference_sha256: run.reference_sha256().await?,
            model_settings: Some(settings_of(&run.model.decoder.config)),
            reference_settings: (run.reference.as_ref())
                .filter(|_| run.model.reference.is_some())
                .map(|reference| settings_of(&reference.config)),
            tokenizer: Some(TokenizerMark::of(&run.model)),
        })
    }

    /// Reads a file's state; tensors are not read.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TrainError> {
        let broken = |reason: String| {
            TrainError::Checkpoint(format!("{reason}; it is cut short or not one of ours"))
        };
        let json = said(bytes, "avascope")
            .map_err(|error| broken(error.to_string()))?
            .ok_or_else(|| broken("its header has no `avascope` entry".into()))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version =
            serde_json::from_str(&json).map_err(|error| broken(error.to_string()))?;
        if version.version != VERSION {
            return Err(TrainError::Checkpoint(format!(
                "it is of format version {}, and this program reads version {VERSION}",
                version.version
            )));
        }
        serde_json::from_str(&json).map_err(|error| broken(error.to_string()))
    }
}
