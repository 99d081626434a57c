//! What a checkpoint is refused for: another trunk, tokenizer, reference policy or data, or settings that change what its
//! tensors mean.

use super::state::{State, TokenizerMark};
use crate::model::Decoder;
use crate::train::run::{LoadedModel, Run};
use crate::train::trunk_digest::{
    reference_digest, settings_of, starts_digest, trunk_digest, weights_digest,
};
use crate::train::{TrainConfig, TrainError, Trainable};

/// Settings without which a checkpoint's tensors, or its row order, mean nothing.
const FIXED: [&str; 8] = [
    "method",
    "seed",
    "batch_size",
    "trainable",
    "max_length",
    "truncation",
    "group_by_length",
    "held_out",
];

/// Settings that have no say in any loss: when checkpoints are written.
const WITHOUT_EFFECT: [&str; 1] = ["save_steps"];

/// A setting that differs.
pub(super) struct Change {
    pub(super) setting: String,
    pub(super) from: String,
    pub(super) to: String,
}

fn changes(from: &TrainConfig, to: &TrainConfig) -> Vec<Change> {
    let object = |config: &TrainConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let to = object(to);
    object(from)
        .into_iter()
        .filter(|(setting, _)| !WITHOUT_EFFECT.contains(&setting.as_str()))
        .filter_map(|(setting, from)| {
            let to = to.get(&setting)?;
            (from != *to).then(|| Change {
                setting,
                from: from.to_string(),
                to: to.to_string(),
            })
        })
        .collect()
}

impl State {
    /// Refuses a model whose tokenizer makes other ids of a text than the one that the run was trained with.
    pub(super) fn check_tokenizer(&self, model: &LoadedModel) -> Result<(), TrainError> {
        let Some(trained) = &self.tokenizer else {
            return Ok(());
        };
        let given = TokenizerMark::of(model);
        if *trained == given {
            return Ok(());
        }
        Err(TrainError::Checkpoint(format!(
            "it was trained with the tokenizer of `{}` ({} tokens), and the tokenizer given with `{}` ({} tokens) reads text otherwise (other words, another end of text, or other rules of splitting): its token rewards would belong to other tokens; open it with the model and tokenizer that its run began with",
            self.info.model, trained.tokens, model.name, given.tokens
        )))
    }

    /// Refuses another reference policy than the one that the run was trained against.
    pub(super) async fn check_reference(
        &self,
        model: &LoadedModel,
        reference: &Decoder,
    ) -> Result<(), TrainError> {
        let found = settings_of(&reference.config);
        let settings = self.reference_settings.as_ref();
        let same = match &self.reference_sha256 {
            Some(kept) => *kept == reference_digest(reference).await?,
            // The trunk, whose digest is kept, was the reference: the same model may be named.
            None => {
                model.reference.is_none()
                    || reference_digest(reference).await? == weights_digest(&model.decoder).await?
            }
        };
        if same && settings.is_none_or(|kept| *kept == found) {
            return Ok(());
        }
        let way_out = match &self.info.reference {
            Some(name) => {
                format!("name the one that its run was held against (`--reference`, `{name}`)")
            }
            None => format!(
                "open the model that its run began with (`{}`), and name no other reference",
                self.info.model
            ),
        };
        Err(TrainError::Checkpoint(format!(
            "its reference policy was another model than `{}` is now (other weights, or another config.json): {way_out}",
            model.reference_name()
        )))
    }

    /// Refuses a model whose configuration makes other numbers of the same weights.
    pub(super) fn check_settings(&self, model: &LoadedModel) -> Result<(), TrainError> {
        let found = settings_of(&model.decoder.config);
        match &self.model_settings {
            Some(kept) if *kept != found => Err(TrainError::Checkpoint(format!(
                "it was trained with a model of other settings ({kept}) than `{}` has now ({found}): open the model, and the config.json, that its run began with",
                model.name
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a model's frozen part is the one that a checkpoint was made with.
    pub(super) async fn same_trunk(&self, model: &LoadedModel) -> Result<bool, TrainError> {
        let trainable = &self.config.trainable;
        Ok(match (trainable, &self.frozen_sha256) {
            (Trainable::Full, _) => true,
            (_, Some(whole)) => *whole == trunk_digest(model, trainable).await?,
            (_, None) => self.frozen_digest == Some(starts_digest(model, trainable).await?),
        })
    }
}

impl Run {
    /// Refuses a checkpoint of other rows, another trunk, or settings without which its tensors mean nothing.
    /// Returns the settings that differ and may.
    pub(super) async fn refuse_unfit(&self, state: &State) -> Result<Vec<Change>, TrainError> {
        let differs = |what: &str, here: String, there: String| {
            Err(TrainError::Checkpoint(format!(
                "its {what} is {there}, and this run's {here}; go on with the checkpoint's own settings, model and rows, or start a new run"
            )))
        };
        let changed = changes(&state.config, &self.config);
        if let Some(change) = changed.iter().find(|c| FIXED.contains(&c.setting.as_str())) {
            return differs(
                &format!("`{}`", change.setting),
                change.to.clone(),
                change.from.clone(),
            );
        }
        if state.info.data_fingerprint != self.info.data_fingerprint {
            return differs(
                "data fingerprint",
                self.info.data_fingerprint.clone(),
                state.info.data_fingerprint.clone(),
            );
        }
        state.check_tokenizer(&self.model)?;
        state.check_settings(&self.model)?;
        let fits = state.sampler.fits(
            self.train_rows.len(),
            self.config.batch_size,
            self.config.group_by_length,
        );
        if !fits || !state.sampler.same_sets(&self.sampler) {
            return Err(TrainError::Checkpoint(
                "its row order does not fit these rows: the tokenizer or the length limit is another one; go on with the model that the run began with".into(),
            ));
        }
        let same = match &state.frozen_sha256 {
            Some(whole) => self.frozen_sha256().await?.as_ref() == Some(whole),
            None => state.same_trunk(&self.model).await?,
        };
        if !same {
            return differs(
                "frozen trunk",
                format!("`{}`", self.model.name),
                format!("another one (`{}` when it began)", state.info.model),
            );
        }
        if let Some(reference) = &self.reference {
            state.check_reference(&self.model, reference).await?;
        }
        Ok(changed)
    }

    /// The digest of the frozen part, worked out once: it does not change.
    pub(super) async fn frozen_sha256(&self) -> Result<Option<String>, TrainError> {
        if matches!(self.config.trainable, Trainable::Full) {
            return Ok(None);
        }
        if let Some(known) = self.frozen_sha256.get() {
            return Ok(Some(known.clone()));
        }
        let digest = trunk_digest(&self.model, &self.config.trainable).await?;
        Ok(Some(self.frozen_sha256.get_or_init(|| digest).clone()))
    }

    /// The digest of the reference policy where nothing else tells it: it is a model of its own, or the trunk itself trains.
    /// Worked out once.
    pub(super) async fn reference_sha256(&self) -> Result<Option<String>, TrainError> {
        let apart = self.model.reference.is_some();
        let told = !apart && !matches!(self.config.trainable, Trainable::Full);
        let (Some(reference), false) = (&self.reference, told) else {
            return Ok(None);
        };
        if let Some(known) = self.reference_sha256.get() {
            return Ok(Some(known.clone()));
        }
        let digest = reference_digest(reference).await?;
        Ok(Some(self.reference_sha256.get_or_init(|| digest).clone()))
    }

    /// What earlier versions read in its place.
    pub(super) async fn frozen_starts(&self) -> Result<Option<String>, TrainError> {
        Ok(match self.config.trainable {
            Trainable::Full => None,
            _ => Some(starts_digest(&self.model, &self.config.trainable).await?),
        })
    }
}
