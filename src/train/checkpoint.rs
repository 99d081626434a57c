//! Checkpoints: one file, one format for page and command, complete or not at all.
//!
//! The file is a safetensors file. Its tensors are what trains (`trunk.`, `lora.`, `head.`) and the optimiser's moments
//! (`optimizer.<name>.exp_avg`, `.exp_avg_sq`); its metadata holds one JSON value under `avascope`: configuration, run
//! information, step, row order with its generator, early-stopping state, and a digest of the frozen trunk, so that a
//! resumed run gives the losses of one that never stopped; and under `sha256` a digest of all that, so that a damaged
//! file is told from a good one. A frozen trunk itself stays where it came from.

use super::dataset::Sampler;
use super::run::{LoadedModel, Run, fresh_adapter, fresh_head};
use super::scorer::{Scorer, provenance};
use super::trunk_digest::{
    hex, reference_digest, settings_of, starts_digest, trunk_digest, weights_digest,
};
use super::{FinishReason, RunInfo, TrainConfig, TrainError, Trainable};
use crate::credit::Credit;
use crate::device::OpenDevice;
use crate::model::{Decoder, Lora, Weight, Weights};
use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Version of the format; another one is refused with both numbers.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    config: TrainConfig,
    info: RunInfo,
    step: usize,
    finished: Option<FinishReason>,
    sampler: Sampler,
    best: Option<f64>,
    /// Absent where nothing looks for the best step, and in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best_step: Option<usize>,
    stale: usize,
    times: BTreeMap<String, usize>,
    /// Of the first numbers of the frozen trunk's tensors; for versions that know no other.
    frozen_digest: Option<String>,
    /// Of all of them; absent in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frozen_sha256: Option<String>,
    /// Of the reference policy, where the whole trunk trains and the method is held against what it was; absent in files
    /// from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference_sha256: Option<String>,
    /// What else a model's numbers depend on, in words: of the trunk, and of a reference that is a model of its own. Absent in
    /// files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model_settings: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference_settings: Option<String>,
    /// What tells the tokenizer from others; absent in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokenizer: Option<TokenizerMark>,
}

/// The tokenizer that made the ids which a checkpoint was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TokenizerMark {
    /// [`TextTokenizer::digest`](crate::text::TextTokenizer::digest).
    digest: String,
    /// Tokens in its vocabulary.
    tokens: usize,
}

impl TokenizerMark {
    fn of(model: &LoadedModel) -> Self {
        Self {
            digest: model.tokenizer.digest(),
            tokens: model.tokenizer.vocab_size(),
        }
    }
}

impl State {
    /// Refuses a model whose tokenizer makes other ids of a text than the one that the run was trained with.
    fn check_tokenizer(&self, model: &LoadedModel) -> Result<(), TrainError> {
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
}

impl State {
    /// Refuses another reference policy than the one that the run was trained against.
    async fn check_reference(
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
    fn check_settings(&self, model: &LoadedModel) -> Result<(), TrainError> {
        let found = settings_of(&model.decoder.config);
        match &self.model_settings {
            Some(kept) if *kept != found => Err(TrainError::Checkpoint(format!(
                "it was trained with a model of other settings ({kept}) than `{}` has now ({found}): open the model, and the config.json, that its run began with",
                model.name
            ))),
            _ => Ok(()),
        }
    }
}

/// What a checkpoint says of itself, without its tensors.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointSummary {
    /// The configuration of its run.
    pub config: TrainConfig,
    /// What its run is.
    pub info: RunInfo,
    /// Steps taken.
    pub step: usize,
}

impl Run {
    /// Writes everything that a resumed run needs.
    pub async fn checkpoint(&self) -> Result<Vec<u8>, TrainError> {
        let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (prefix, weights) in self.trained() {
            for (name, weight) in weights.iter() {
                push(&mut tensors, format!("{prefix}.{name}"), weight, self.step).await?;
            }
        }
        let (moments, times) = self.optimizer.export();
        for (name, weight) in &moments {
            push(&mut tensors, format!("optimizer.{name}"), weight, self.step).await?;
        }
        let state = State {
            version: VERSION,
            config: self.config.clone(),
            info: self.info.clone(),
            step: self.step,
            finished: self.finished,
            sampler: self.sampler.clone(),
            best: self.best,
            best_step: self.best_step,
            stale: self.stale,
            times,
            frozen_digest: self.frozen_starts().await?,
            frozen_sha256: self.frozen_sha256().await?,
            reference_sha256: self.reference_sha256().await?,
            model_settings: Some(settings_of(&self.model.decoder.config)),
            reference_settings: (self.reference.as_ref())
                .filter(|_| self.model.reference.is_some())
                .map(|reference| settings_of(&reference.config)),
            tokenizer: Some(TokenizerMark::of(&self.model)),
        };
        let json = serde_json::to_string(&state)
            .map_err(|error| TrainError::Checkpoint(error.to_string()))?;
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let sha256 = content_digest(
            &json,
            tensors
                .iter()
                .map(|(name, shape, bytes)| (name.as_str(), shape.as_slice(), bytes.as_slice())),
        );
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.clone(), bytes)
                    .map(|view| (name.as_str(), view))
                    .map_err(|error| TrainError::Checkpoint(format!("{name}: {error}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let metadata = HashMap::from([
            ("avascope".to_string(), json),
            ("sha256".to_string(), sha256),
        ]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| TrainError::Checkpoint(error.to_string()))
    }

    /// Goes on from a checkpoint of the same rows and trunk. On an error the run is as it was.
    ///
    /// With the checkpoint's own configuration the losses are those of a run that never stopped. Settings that fix
    /// neither what trains nor which rows are drawn (rates, plan, intervals, the method's switches) may differ; then a
    /// warning of the run says which, because its losses are no longer those.
    pub async fn restore(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let state = read_state(bytes)?;
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
                state.info.data_fingerprint,
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
            None => same_trunk(&state, &self.model).await?,
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

        let file = open_checked(bytes)?;
        let mut restored = Vec::new();
        for (prefix, weights) in self.trained() {
            let read = replaced(&file, prefix, weights, &self.device.device)?;
            restored.push((
                prefix,
                read.trainable(&self.device.device.clone().autodiff(), |_| true),
            ));
        }
        let shapes: BTreeMap<String, Vec<usize>> = restored
            .iter()
            .flat_map(|(prefix, weights)| {
                let key = if *prefix == "lora" { "lora." } else { "" };
                weights
                    .iter()
                    .map(move |(name, weight)| (format!("{key}{name}"), weight.shape()))
            })
            .collect();
        let mut optimizer = super::optimizer::Optimizer::new(self.config.weight_decay);
        for (name, time) in &state.times {
            let shape = shapes.get(name).ok_or_else(|| {
                TrainError::Checkpoint(format!(
                    "it holds moments of `{name}`, which does not train here"
                ))
            })?;
            let first = floats(&file, &format!("optimizer.{name}.exp_avg"), shape)?;
            let second = floats(&file, &format!("optimizer.{name}.exp_avg_sq"), shape)?;
            optimizer.import(name, *time, shape, first, second, &self.device.device);
        }

        // Everything was read and checked: from here nothing can fail.
        for (prefix, weights) in restored {
            match prefix {
                "trunk" => self.model.decoder.weights = weights,
                "lora" => {
                    if let Some(lora) = &mut self.model.decoder.lora {
                        lora.weights = weights;
                    }
                }
                _ => self.head.weights = weights,
            }
        }
        self.optimizer = optimizer;
        self.sampler = state.sampler;
        self.step = state.step;
        // A plan of more steps goes on where the shorter one was complete.
        self.finished = state
            .finished
            .filter(|reason| *reason != FinishReason::Completed || self.step >= self.config.steps);
        if !changed.is_empty() {
            let list: Vec<String> = changed
                .iter()
                .map(|c| format!("{} {} -> {}", c.setting, c.from, c.to))
                .collect();
            self.info.warnings.push(format!(
                "resumed with other settings than the checkpoint's ({}): the losses are not those of a run that never stopped",
                list.join(", ")
            ));
        }
        self.best = state.best;
        self.best_step = state.best_step;
        self.stale = state.stale;
        Ok(())
    }

    /// The tensors that train, by the part of the model they belong to.
    fn trained(&self) -> Vec<(&'static str, &Weights)> {
        let mut parts = vec![("head", &self.head.weights)];
        match (&self.config.trainable, &self.model.decoder.lora) {
            (Trainable::Full, _) => parts.push(("trunk", &self.model.decoder.weights)),
            (Trainable::Lora(_), Some(lora)) => parts.push(("lora", &lora.weights)),
            _ => {}
        }
        parts
    }

    /// The digest of the frozen part, worked out once: it does not change.
    async fn frozen_sha256(&self) -> Result<Option<String>, TrainError> {
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
    async fn reference_sha256(&self) -> Result<Option<String>, TrainError> {
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
    async fn frozen_starts(&self) -> Result<Option<String>, TrainError> {
        Ok(match self.config.trainable {
            Trainable::Full => None,
            _ => Some(starts_digest(&self.model, &self.config.trainable).await?),
        })
    }
}

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
struct Change {
    setting: String,
    from: String,
    to: String,
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

/// The model of a checkpoint, without its optimiser.
pub(super) async fn scorer(
    mut model: LoadedModel,
    bytes: &[u8],
    device: OpenDevice,
    credit: &'static Credit,
) -> Result<Scorer, TrainError> {
    let state = read_state(bytes)?;
    state.check_tokenizer(&model)?;
    state.check_settings(&model)?;
    let objective = crate::objective::build(&state.config.method, &state.config.options)?;
    let moves = !matches!(state.config.trainable, Trainable::Heads);
    credit.check(objective.as_ref(), moves)?;
    // As training did: the reference is the named one, or the model as it came with the adapter that it may bring.
    let needs_reference = objective.needs_reference() || credit.needs.reference;
    let reference = needs_reference.then(|| model.reference_policy());
    if let Some(reference) = &reference {
        state.check_reference(&model, reference).await?;
    }
    if let Trainable::Lora(lora) = &state.config.trainable
        && model.decoder.lora.is_none()
    {
        let adapter = fresh_adapter(&model.decoder, lora, state.config.seed, &device.device)?;
        model.decoder.lora = Some(adapter);
    }
    if matches!(state.config.trainable, Trainable::Full) {
        // As training did: an adapter that the model brings became part of the weights.
        model.decoder = Lora::merge(model.decoder);
    }
    if !same_trunk(&state, &model).await? {
        return Err(TrainError::Checkpoint(format!(
            "it was trained on another trunk than `{}`: open the model that its run began with (`{}`)",
            model.name, state.info.model
        )));
    }
    let mut head = fresh_head(
        objective.as_ref(),
        &model.decoder.config,
        state.config.seed,
        &device.device,
    );
    let file = open_checked(bytes)?;
    head.weights = replaced(&file, "head", &head.weights, &device.device)?;
    match &state.config.trainable {
        Trainable::Full => {
            model.decoder.weights =
                replaced(&file, "trunk", &model.decoder.weights, &device.device)?;
        }
        Trainable::Lora(_) => {
            if let Some(lora) = &mut model.decoder.lora {
                lora.weights = replaced(&file, "lora", &lora.weights, &device.device)?;
            }
        }
        Trainable::Heads => {}
    }
    Ok(Scorer {
        provenance: provenance(
            &state.config,
            &model.name,
            state.step,
            &device,
            objective.as_ref(),
            credit,
        ),
        model,
        head,
        reference,
        objective: objective.into(),
        credit,
        device,
        batch_size: state.config.batch_size,
        posterior: None,
    })
}

/// The file's tensors in place of `weights`, each checked against the shape it replaces.
fn replaced(
    file: &SafeTensors<'_>,
    prefix: &str,
    weights: &Weights,
    device: &Device,
) -> Result<Weights, TrainError> {
    let mut read = Weights::new();
    for (name, weight) in weights.iter() {
        let values = floats(file, &format!("{prefix}.{name}"), &weight.shape())?;
        read.insert_host(name, values, &weight.shape(), device);
    }
    Ok(read)
}

/// Whether a model's frozen part is the one that a checkpoint was made with.
async fn same_trunk(state: &State, model: &LoadedModel) -> Result<bool, TrainError> {
    let trainable = &state.config.trainable;
    Ok(match (trainable, &state.frozen_sha256) {
        (Trainable::Full, _) => true,
        (_, Some(whole)) => *whole == trunk_digest(model, trainable).await?,
        (_, None) => state.frozen_digest == Some(starts_digest(model, trainable).await?),
    })
}

/// SHA-256 over a checkpoint's JSON and its tensors in the order of their names.
pub(super) fn content_digest<'a>(
    json: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut digest = Sha256::new();
    digest.update(json.as_bytes());
    for (name, shape, bytes) in tensors {
        digest.update(format!("\n{name} {shape:?} "));
        digest.update(bytes);
    }
    hex(&digest.finalize())
}

/// What a checkpoint says of itself; tensors are not read.
pub fn describe_checkpoint(bytes: &[u8]) -> Result<CheckpointSummary, TrainError> {
    let state = read_state(bytes)?;
    Ok(CheckpointSummary {
        config: state.config,
        info: state.info,
        step: state.step,
    })
}

/// The digest that a checkpoint carries: what belongs to a checkpoint names it. The tensors are held against it.
///
/// # Errors
/// Damage, or no checkpoint of ours.
pub fn checkpoint_digest(bytes: &[u8]) -> Result<String, TrainError> {
    open_checked(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)
        .map_err(|error| TrainError::Checkpoint(error.to_string()))?;
    let entry = header.metadata().as_ref().and_then(|m| m.get("sha256"));
    entry
        .cloned()
        .ok_or_else(|| TrainError::Checkpoint("its header lacks its digest".into()))
}

fn read_state(bytes: &[u8]) -> Result<State, TrainError> {
    let broken = |reason: String| {
        TrainError::Checkpoint(format!("{reason}; it is cut short or not one of ours"))
    };
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| broken(error.to_string()))?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("avascope"))
        .ok_or_else(|| broken("its header has no `avascope` entry".into()))?;
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let version: Version = serde_json::from_str(json).map_err(|error| broken(error.to_string()))?;
    if version.version != VERSION {
        return Err(TrainError::Checkpoint(format!(
            "it is of format version {}, and this program reads version {VERSION}",
            version.version
        )));
    }
    serde_json::from_str(json).map_err(|error| broken(error.to_string()))
}

/// Opens the file and holds its content against its own digest.
fn open_checked(bytes: &[u8]) -> Result<SafeTensors<'_>, TrainError> {
    let broken =
        |reason: String| TrainError::Checkpoint(format!("{reason}; use an earlier checkpoint"));
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| broken(error.to_string()))?;
    let said = |key: &str| {
        let entries = header.metadata().as_ref()?;
        entries.get(key).cloned()
    };
    let (Some(json), Some(sha256)) = (said("avascope"), said("sha256")) else {
        return Err(broken("its header lacks its digest".into()));
    };
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let found = content_digest(
        &json,
        tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data())),
    );
    if found != sha256 {
        return Err(broken(
            "its content does not match its own SHA-256: the file was damaged after it was written"
                .into(),
        ));
    }
    Ok(file)
}

fn floats(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainError> {
    let view = file
        .tensor(name)
        .map_err(|_| TrainError::Checkpoint(format!("tensor `{name}` is missing")))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(TrainError::Checkpoint(format!(
            "tensor `{name}` is {:?} {:?}, and this run's is F32 {shape:?}",
            view.dtype(),
            view.shape()
        )));
    }
    // A file's bytes start anywhere, so they are copied rather than cast in place.
    Ok(view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

async fn push(
    tensors: &mut Vec<(String, Vec<usize>, Vec<u8>)>,
    name: String,
    weight: &Weight,
    step: usize,
) -> Result<(), TrainError> {
    let values = weight
        .to_host(&name)
        .await
        .map_err(|error| TrainError::Device(error.to_string()))?;
    // A checkpoint that cannot be gone on from would only take the place of a good one.
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(TrainError::NonFinite {
            term: format!("tensor `{name}`"),
            value: f64::from(*value),
            step,
            row: ", and no checkpoint of it was written".into(),
        });
    }
    tensors.push((name, weight.shape(), bytemuck::cast_slice(&values).to_vec()));
    Ok(())
}
