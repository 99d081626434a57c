//! Rows made ready once and shared by any number of runs, and states of a frozen trunk that one run hands to the next.

use super::check::check_rows;
use super::dataset::{EncodedRow, SkippedRow, encode_usable_rows};
use super::run::{LoadedModel, Run};
use super::trunk_cache::{TrunkCache, reading};
use super::{TrainConfig, TrainError, Trainable};
use crate::data::Rows;
use crate::objective::{Objective, RowKind};
use crate::text::EncodeOptions;
use std::sync::Arc;

/// Tokenised rows of one kind. Copies share the rows.
#[derive(Clone, Debug)]
pub struct ReadyRows {
    pub(super) rows: Arc<Vec<EncodedRow>>,
    pub(super) skipped: Vec<SkippedRow>,
    pub(super) fingerprint: String,
    pub(super) kind: RowKind,
    /// Rows given, the skipped ones counted.
    pub(super) given: usize,
}

impl ReadyRows {
    /// Tokenises rows.
    ///
    /// # Errors
    /// A row that is wrong in another way than having no answer, by its line.
    pub fn encode(
        rows: &Rows,
        model: &LoadedModel,
        config: &TrainConfig,
    ) -> Result<Self, TrainError> {
        let (encoded, skipped) =
            encode_usable_rows(rows, &model.tokenizer, &config.encode_options(model))?;
        Ok(Self {
            rows: Arc::new(encoded),
            skipped,
            fingerprint: crate::data::fingerprint(rows),
            kind: kind_of(rows),
            given: rows.len(),
        })
    }

    /// The usable rows.
    pub fn rows(&self) -> &[EncodedRow] {
        &self.rows
    }

    /// The rows that have an answer without a token, and were left out.
    pub fn skipped(&self) -> &[SkippedRow] {
        &self.skipped
    }

    /// SHA-256 over the content of the rows that were given.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Pairs, demonstrations, or answers labelled one by one.
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// The same rows without any.
    pub fn none(&self) -> Self {
        Self {
            rows: Arc::default(),
            skipped: Vec::new(),
            fingerprint: String::new(),
            kind: self.kind,
            given: 0,
        }
    }

    pub(super) fn check(&self, objective: &dyn Objective, method: &str) -> Result<(), TrainError> {
        check_rows(self.given, self.kind, objective, method)
    }
}

/// What rows are.
pub(super) fn kind_of(rows: &Rows) -> RowKind {
    match rows {
        Rows::Preferences(_) => RowKind::Pairs,
        Rows::Demonstrations(_) => RowKind::Demonstrations,
        Rows::Unpaired(_) => RowKind::Unpaired,
    }
}

impl TrainConfig {
    /// How rows become tokens of this model.
    pub fn encode_options(&self, model: &LoadedModel) -> EncodeOptions {
        EncodeOptions {
            max_length: self.max_length.min(model.decoder.config.max_position),
            truncation: self.truncation,
            append_eos: true,
        }
    }
}

/// The states of a frozen trunk over a run's training rows, with what they depend on beside the trunk itself.
pub struct FrozenStates {
    key: String,
    cache: TrunkCache,
}

impl FrozenStates {
    /// Equal for two runs of one trunk that see the same states, bit for bit.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Run {
    /// What the states of this run's frozen trunk depend on; `None` where the trunk moves. The size of the batches in which
    /// states are computed is part of it (their last bits depend on it), and so is the way Q is made of the logits.
    pub fn frozen_key(&self) -> Option<String> {
        if !matches!(self.config.trainable, Trainable::Heads) {
            return None;
        }
        Some(format!(
            "{} batch {} length {} {:?} {}",
            self.info.data_fingerprint,
            self.config.batch_size,
            self.config.max_length,
            self.config.truncation,
            reading(self.objective.steps_config())
        ))
    }

    /// Takes over the states that an earlier run of the same trunk computed. Returns false, and changes nothing, where
    /// they are not this run's.
    pub fn use_frozen_states(&mut self, states: FrozenStates) -> bool {
        if self.frozen_key().as_ref() != Some(&states.key) {
            return false;
        }
        self.cache = states.cache;
        true
    }

    /// Hands the states of the frozen trunk on; the run computes them again should it go on.
    pub fn take_frozen_states(&mut self) -> Option<FrozenStates> {
        let key = self.frozen_key()?;
        let cache = std::mem::replace(&mut self.cache, TrunkCache::off());
        Some(FrozenStates { key, cache })
    }
}
