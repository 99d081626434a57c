//! Checkpoints: one file, one format for page and command, complete or not at all.
//!
//! The file is a safetensors file. Its tensors are what trains (`trunk.`, `lora.`, `head.`) and the optimiser's moments
//! (`optimizer.<name>.exp_avg`, `.exp_avg_sq`); its metadata holds one JSON value under `avascope`: configuration, run
//! information, step, row order with its generator, early-stopping state, and a digest of the frozen trunk, so that a
//! resumed run gives the losses of one that never stopped. A frozen trunk itself stays where it came from.

use super::dataset::Sampler;
use super::run::{LoadedModel, Run, fresh_adapter};
use super::scorer::{Scorer, provenance};
use super::{FinishReason, RunInfo, TrainConfig, TrainError, Trainable};
use crate::device::OpenDevice;
use crate::model::{Weight, Weights};
use crate::reward::RewardHead;
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
    stale: usize,
    times: BTreeMap<String, usize>,
    frozen_digest: Option<String>,
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
                push(&mut tensors, format!("{prefix}.{name}"), weight).await?;
            }
        }
        let (moments, times) = self.optimizer.export();
        for (name, weight) in &moments {
            push(&mut tensors, format!("optimizer.{name}"), weight).await?;
        }
        let state = State {
            version: VERSION,
            config: self.config.clone(),
            info: self.info.clone(),
            step: self.step,
            finished: self.finished,
            sampler: self.sampler.clone(),
            best: self.best,
            stale: self.stale,
            times,
            frozen_digest: self.frozen_digest().await?,
        };
        let json = serde_json::to_string(&state)
            .map_err(|error| TrainError::Checkpoint(error.to_string()))?;
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(Dtype::F32, shape.clone(), bytes)
                    .map(|view| (name.as_str(), view))
                    .map_err(|error| TrainError::Checkpoint(format!("{name}: {error}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let metadata = HashMap::from([("avascope".to_string(), json)]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| TrainError::Checkpoint(error.to_string()))
    }

    /// Goes on from a checkpoint of the same configuration, rows and trunk. On an error the run is as it was.
    pub async fn restore(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        let state = read_state(bytes)?;
        let differs = |what: &str, here: String, there: String| {
            Err(TrainError::Checkpoint(format!(
                "its {what} is {there}, this run's {here}; start a run with the checkpoint's own settings and rows"
            )))
        };
        if state.config != self.config {
            return differs("configuration", json(&self.config), json(&state.config));
        }
        if state.info.data_fingerprint != self.info.data_fingerprint {
            return differs(
                "data fingerprint",
                self.info.data_fingerprint.clone(),
                state.info.data_fingerprint,
            );
        }
        let digest = self.frozen_digest().await?;
        if digest != state.frozen_digest {
            return differs(
                "trunk's digest",
                format!("{digest:?}"),
                format!("{:?}", state.frozen_digest),
            );
        }

        let file = open(bytes)?;
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
        self.finished = state.finished;
        self.best = state.best;
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

    async fn frozen_digest(&self) -> Result<Option<String>, TrainError> {
        match self.config.trainable {
            Trainable::Full => Ok(None),
            _ => Ok(Some(digest_of(&self.model.decoder.weights).await?)),
        }
    }
}

/// The model of a checkpoint, without its optimiser.
pub(super) async fn scorer(
    mut model: LoadedModel,
    bytes: &[u8],
    device: OpenDevice,
) -> Result<Scorer, TrainError> {
    let state = read_state(bytes)?;
    let objective = crate::objective::build(&state.config.method, &state.config.options)?;
    if let Trainable::Lora(lora) = &state.config.trainable
        && model.decoder.lora.is_none()
    {
        let adapter = fresh_adapter(&model.decoder, lora, state.config.seed, &device.device)?;
        model.decoder.lora = Some(adapter);
    }
    let mut reference = objective.needs_reference().then(|| model.decoder.clone());
    if let Some(reference) = &mut reference {
        reference.lora = None;
    }
    let digest = match state.config.trainable {
        Trainable::Full => None,
        _ => Some(digest_of(&model.decoder.weights).await?),
    };
    if digest != state.frozen_digest {
        return Err(TrainError::Checkpoint(format!(
            "it was trained on another trunk than `{}`: open the model that its run began with (`{}`)",
            model.name, state.info.model
        )));
    }
    let hidden = model.decoder.config.hidden_size;
    let mut head = RewardHead::at_prior(hidden, 0.0, &device.device);
    if objective.steps_config().rwt != crate::reward::Rwt::Off || objective.needs_attention() {
        head = head.with_reward_weights(hidden, super::run::REWARD_WEIGHT_WIDTH, 0, &device.device);
    }
    let file = open(bytes)?;
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
        ),
        model,
        head,
        reference,
        objective,
        device,
        batch_size: state.config.batch_size,
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

/// SHA-256 over the first numbers of every tensor: enough to tell two trunks apart without reading them whole.
async fn digest_of(weights: &Weights) -> Result<String, TrainError> {
    let mut digest = Sha256::new();
    for (name, weight) in weights.iter() {
        digest.update(name.as_bytes());
        let head = match weight {
            Weight::Vector(t) => {
                let [n] = t.dims();
                super::read(t.clone().inner().slice([0..n.min(64)])).await?
            }
            Weight::Matrix(t) => {
                let [_, n] = t.dims();
                super::read(t.clone().inner().slice([0..1, 0..n.min(64)])).await?
            }
        };
        digest.update(bytemuck::cast_slice::<f32, u8>(&head));
    }
    Ok(hex(&digest.finalize()))
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

fn open(bytes: &[u8]) -> Result<SafeTensors<'_>, TrainError> {
    SafeTensors::deserialize(bytes).map_err(|error| {
        TrainError::Checkpoint(format!("{error}; it is cut short or not one of ours"))
    })
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
) -> Result<(), TrainError> {
    let values = weight
        .to_host(&name)
        .await
        .map_err(|error| TrainError::Device(error.to_string()))?;
    tensors.push((name, weight.shape(), bytemuck::cast_slice(&values).to_vec()));
    Ok(())
}

fn json(config: &TrainConfig) -> String {
    serde_json::to_string(config).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
