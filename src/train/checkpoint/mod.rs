//! Checkpoints: one file, one format for page and command, complete or not at all.
//!
//! The file is a safetensors file. Its tensors are what trains (`trunk.`, `lora.`, `head.`) and the optimiser's moments
//! (`optimizer.<name>.exp_avg`, `.exp_avg_sq`); its metadata holds one JSON value under `avascope`: configuration, run
//! information, step, row order with its generator, early-stopping state, and a digest of the frozen trunk, so that a
//! resumed run gives the losses of one that never stopped; and under `sha256` a digest of all that, so that a damaged
//! file is told from a good one. A frozen trunk itself stays where it came from.

mod file;
mod fits;
mod state;

pub(super) use self::file::content_digest;
use self::file::{floats, open_checked, push, replaced, said};
use self::state::State;
use super::optimizer::Optimizer;
use super::run::{LoadedModel, Run, fresh_adapter, fresh_head};
use super::scorer::{Scorer, provenance};
use super::{FinishReason, RunInfo, TrainConfig, TrainError, Trainable};
use crate::credit::Credit;
use crate::device::OpenDevice;
use crate::model::{Lora, Weights};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

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
        let state = State::of(self, times).await?;
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
        let state = State::read(bytes)?;
        let changed = self.refuse_unfit(&state).await?;
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
        let mut optimizer = Optimizer::new(self.config.weight_decay);
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
}

/// The model of a checkpoint, without its optimiser.
pub(super) async fn scorer(
    mut model: LoadedModel,
    bytes: &[u8],
    device: OpenDevice,
    credit: &'static Credit,
) -> Result<Scorer, TrainError> {
    let state = State::read(bytes)?;
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
    if !state.same_trunk(&model).await? {
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
        states: None,
    })
}

/// What a checkpoint says of itself; tensors are not read.
pub fn describe_checkpoint(bytes: &[u8]) -> Result<CheckpointSummary, TrainError> {
    let state = State::read(bytes)?;
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
    said(bytes, "sha256")
        .map_err(|error| TrainError::Checkpoint(error.to_string()))?
        .ok_or_else(|| TrainError::Checkpoint("its header lacks its digest".into()))
}
