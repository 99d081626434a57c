//! A run: model, head, rows, objective, optimiser, and the step that page and command share.
//!
//! A run is a value: configuration, data and seed fix its losses on a device, also when it was stopped anywhere and
//! resumed. One optimiser step reads back from the device at its end (see `step`).

use super::check::{check_rows, check_vocabulary, two_sets};
use super::dataset::{EncodedRow, SkippedRow};
use super::optimizer::Optimizer;
use super::ready::{ReadyRows, kind_of};
use super::reference::Reference;
use super::row_warnings::row_warnings;
use super::sampler::Sampler;
use super::trunk_cache::TrunkCache;
use super::{
    Event, FinishReason, LoraConfig, Metrics, RunInfo, TrainConfig, TrainError, Trainable,
};
use crate::data::Rows;
use crate::device::OpenDevice;
use crate::model::{Decoder, Lora, ModelConfig};
use crate::objective::{Objective, RowKind};
use crate::reward::{Layout, Normaliser, QHead, RewardHead, Rwt};
use crate::text::TextTokenizer;
use burn::tensor::Device;
use std::sync::{Arc, OnceLock};

/// A model with its tokenizer, as it came from outside.
#[derive(Clone)]
pub struct LoadedModel {
    /// The name shown and recorded.
    pub name: String,
    /// The trunk and LM head.
    pub decoder: Decoder,
    /// Text in, ids out.
    pub tokenizer: TextTokenizer,
    /// The policy that this one is held against; its own start where none is named ([`LoadedModel::with_reference`]).
    pub reference: Option<Reference>,
}

/// Training in progress.
pub struct Run {
    pub(super) config: TrainConfig,
    pub(super) info: RunInfo,
    pub(super) objective: Box<dyn Objective>,
    pub(super) device: OpenDevice,
    pub(super) model: LoadedModel,
    pub(super) head: RewardHead,
    /// The policy that this one is held against, for methods that have one: a named model, or this one before training.
    pub(super) reference: Option<Decoder>,
    pub(super) optimizer: Optimizer,
    pub(super) train_rows: Arc<Vec<EncodedRow>>,
    /// Whether training rows are answers by themselves, the desirable ones in front: a batch holds as many of each.
    pub(super) unpaired: bool,
    pub(super) held_out: Arc<Vec<EncodedRow>>,
    pub(super) lengths: Vec<usize>,
    pub(super) sampler: Sampler,
    pub(super) cache: TrunkCache,
    pub(super) step: usize,
    pub(super) finished: Option<FinishReason>,
    /// Best held-out figure so far, the step that it was seen at, and evaluations since.
    pub(super) best: Option<f64>,
    pub(super) best_step: Option<usize>,
    pub(super) stale: usize,
    /// The frozen part's digest, once a checkpoint asked for it.
    pub(super) frozen_sha256: OnceLock<String>,
    /// The reference policy's, likewise.
    pub(super) reference_sha256: OnceLock<String>,
}

/// Share of unknown tokens in answers above which a run warns.
const MANY_UNKNOWN: f64 = 0.1;

/// Words on a vocabulary that does not fit the rows: all that it cannot write is one token, and has one reward.
pub(super) fn unknown_warning(rows: &[EncodedRow], unknown: Option<u32>) -> Option<String> {
    let unknown = unknown?;
    let answers = rows.iter().flat_map(|row| &row.sides);
    let (mut all, mut lost) = (0usize, 0usize);
    for side in answers {
        let encoded = &side.encoded;
        for (id, _) in encoded
            .ids
            .iter()
            .zip(&encoded.resp)
            .filter(|(_, answer)| **answer)
        {
            all += 1;
            lost += usize::from(*id == unknown);
        }
    }
    let share = lost as f64 / all.max(1) as f64;
    (share > MANY_UNKNOWN).then(|| {
        format!(
            "{:.0} % of the answers' tokens ({lost} of {all}) are the token for unknown text: the model's vocabulary does not fit these rows, and all such text shares one reward; choose a model for them (--model)",
            100.0 * share
        )
    })
}

impl Run {
    /// Makes a run ready: checks settings, tokenises, splits, initialises heads and adapters from the seed.
    pub fn new(
        config: TrainConfig,
        model: LoadedModel,
        train: Rows,
        held_out: Rows,
        device: OpenDevice,
    ) -> Result<Self, TrainError> {
        // Before anything is tokenised: what is wrong with the settings is said first.
        let objective = config.check()?;
        check_rows(
            train.len(),
            kind_of(&train),
            objective.as_ref(),
            &config.method,
        )?;
        check_vocabulary(&model)?;
        let train = ReadyRows::encode(&train, &model, &config)?;
        let held_out = ReadyRows::encode(&held_out, &model, &config)?;
        Self::with_rows(config, model, train, held_out, device)
    }

    /// The same with rows that are tokenised already, so that many runs can share them.
    pub fn with_rows(
        config: TrainConfig,
        mut model: LoadedModel,
        train: ReadyRows,
        held_out: ReadyRows,
        device: OpenDevice,
    ) -> Result<Self, TrainError> {
        let objective = config.check()?;
        train.check(objective.as_ref(), &config.method)?;
        check_vocabulary(&model)?;
        let options = config.encode_options(&model);
        let unpaired = train.kind == RowKind::Unpaired;
        let (train_rows, skipped, fingerprint) = (train.rows, train.skipped, train.fingerprint);
        let (held_out, held_out_skipped) = (held_out.rows, held_out.skipped);
        if let (true, Some(skipped)) = (train_rows.is_empty(), SkippedRow::sentence(&skipped)) {
            return Err(TrainError::Rows(format!(
                "no row is left to train on; {skipped}"
            )));
        }
        let mut train_rows = train_rows;
        let desirable = match unpaired {
            true => Some(two_sets(&mut train_rows, &config.method)?),
            false => None,
        };
        let flipped = super::check::clean_labels(objective.as_ref(), &mut train_rows)?;
        let margins = super::check::margins(objective.as_ref(), &train_rows, &held_out)?;
        let labels = super::check::labels(objective.as_ref(), &train_rows)?;
        let lengths: Vec<usize> = train_rows.iter().map(EncodedRow::tokens).collect();

        let brought = model.decoder.lora.as_ref().map(|lora| lora.config.clone());
        let autodiff = device.device.clone().autodiff();
        let reference = objective
            .needs_reference()
            .then(|| model.reference_policy());
        model.decoder = prepare_trunk(model.decoder, &config, &autodiff)?;
        let mut head = fresh_head(
            objective.as_ref(),
            &model.decoder.config,
            config.seed,
            &autodiff,
        );
        head.weights = head.weights.trainable(&autodiff, |_| true);

        let truncated_rows = train_rows
            .iter()
            .chain(held_out.iter())
            .filter(|row| row.truncated())
            .count();
        let mut warnings = objective.warnings();
        warnings.extend(margins);
        warnings.extend(labels);
        warnings.extend(SkippedRow::sentence(&skipped).map(|said| format!("training: {said}")));
        warnings.extend(
            SkippedRow::sentence(&held_out_skipped).map(|said| format!("held out: {said}")),
        );
        if flipped > 0 {
            warnings.push(format!(
                "{} of the {} training pairs, those of lowest strength, are learned with their labels swapped (`flip_fraction`)",
                flipped,
                train_rows.len()
            ));
        }
        warnings.extend(row_warnings(&train_rows, &options));
        warnings.extend(
            (row_warnings(&held_out, &options).iter()).map(|said| format!("held out: {said}")),
        );
        warnings.extend(unknown_warning(&train_rows, model.tokenizer.unknown()));
        if let (Some(lora), Trainable::Lora(wanted)) = (&brought, &config.trainable)
            && (lora.rank != wanted.r || lora.alpha != wanted.alpha)
        {
            warnings.push(format!(
                "the model brings an adapter of rank {} and alpha {}: it is trained on, and `trainable` has no say in its shape",
                lora.rank, lora.alpha
            ));
        }
        if held_out.is_empty() {
            warnings.push("no row is held out: nothing will be evaluated on unseen rows".into());
        }
        let lora_parameters = model
            .decoder
            .lora
            .as_ref()
            .map_or(0, |lora| lora.weights.parameters());
        let trunk_parameters = model.decoder.weights.parameters();
        let info = RunInfo {
            method: config.method.clone(),
            model: model.name.clone(),
            reference: (model.reference.as_ref())
                .filter(|_| reference.is_some())
                .map(|named| named.name.clone()),
            device: device.info.clone(),
            parameters: trunk_parameters + lora_parameters + head.weights.parameters(),
            trainable_parameters: head.weights.parameters()
                + match config.trainable {
                    Trainable::Full => trunk_parameters,
                    Trainable::Lora(_) => lora_parameters,
                    Trainable::Heads => 0,
                },
            train_rows: train_rows.len(),
            held_out_rows: held_out.len(),
            total_steps: config.steps,
            truncated_rows,
            seed: config.seed,
            data_fingerprint: fingerprint,
            warnings,
        };
        let sampler = Sampler::new(
            config.seed ^ SAMPLER_SALT,
            config.batch_size,
            config.group_by_length,
        );
        let sampler = match desirable {
            Some(desirable) => sampler.of_two_sets(desirable),
            None => sampler,
        };
        let cache = match config.trainable {
            Trainable::Heads => TrunkCache::new(
                config.batch_size,
                &train_rows,
                model.decoder.config.hidden_size,
            ),
            _ => TrunkCache::off(),
        };
        Ok(Self {
            optimizer: Optimizer::new(config.weight_decay),
            sampler,
            cache,
            config,
            info,
            objective,
            device,
            model,
            head,
            reference,
            train_rows,
            unpaired,
            held_out,
            lengths,
            step: 0,
            finished: None,
            best: None,
            best_step: None,
            stale: 0,
            frozen_sha256: OnceLock::new(),
            reference_sha256: OnceLock::new(),
        })
    }

    /// What the run is.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Steps taken.
    pub fn steps_taken(&self) -> usize {
        self.step
    }

    /// The step whose held-out figure was the best so far, where early stopping looks for it (`early_stopping_patience`): the
    /// checkpoint that a person wants of a run that stopped early.
    pub fn best_step(&self) -> Option<usize> {
        self.best_step
    }

    /// Why the run ended, once it has.
    pub fn finished(&self) -> Option<FinishReason> {
        self.finished
    }

    /// The rows that train, as the method has cleaned and ordered them.
    pub fn train_rows(&self) -> &[EncodedRow] {
        &self.train_rows
    }

    /// The rows that do not train.
    pub fn held_out(&self) -> &[EncodedRow] {
        &self.held_out
    }

    /// The model as it is now.
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    /// The reward head as it is now.
    pub fn head(&self) -> &RewardHead {
        &self.head
    }

    /// The first event of a run.
    pub fn started(&self) -> Event {
        Event::Started {
            step: self.step,
            run: self.info.clone(),
        }
    }

    /// The last event of a run that a person ends here. The run itself is not finished by it: a checkpoint of it can be gone
    /// on from.
    pub fn stopped(&self) -> Event {
        Event::Finished {
            step: self.step,
            reason: FinishReason::Stopped,
        }
    }

    /// Takes one optimiser step and, where the configuration says so, evaluates. Returns what happened.
    pub async fn advance(&mut self) -> Result<Vec<Event>, TrainError> {
        let mut events = Vec::new();
        self.advance_into(&mut events).await?;
        Ok(events)
    }

    /// [`advance`](Self::advance) for listeners that want to know what happened before an error, too: `events` gets the step
    /// that was taken before its evaluation failed, and, where a number left the range of f32, the failure itself.
    pub async fn advance_into(&mut self, events: &mut Vec<Event>) -> Result<(), TrainError> {
        let result = self.take_step(events).await;
        if let Err(error) = &result {
            events.extend(Event::failed(error, self.step));
        }
        result
    }

    async fn take_step(&mut self, events: &mut Vec<Event>) -> Result<(), TrainError> {
        if self.finished.is_some() {
            return Ok(());
        }
        let metrics = self.optimizer_step().await?;
        events.push(Event::Step {
            step: self.step,
            total_steps: self.config.steps,
            metrics,
        });
        let last = self.step >= self.config.steps;
        let due = self.config.eval_steps > 0 && self.step.is_multiple_of(self.config.eval_steps);
        if (due || last) && !self.held_out.is_empty() {
            let metrics = self.evaluate().await?;
            let stop = self.judge(&metrics);
            events.push(Event::Evaluation {
                step: self.step,
                metrics,
            });
            if stop && !last {
                self.finished = Some(FinishReason::EarlyStop);
            }
        }
        if last {
            self.finished = Some(FinishReason::Completed);
        }
        if let Some(reason) = self.finished {
            events.push(Event::Finished {
                step: self.step,
                reason,
            });
        }
        Ok(())
    }

    /// Whether the held-out figure has been stale for too long.
    fn judge(&mut self, metrics: &Metrics) -> bool {
        if self.config.early_stopping_patience == 0 {
            return false;
        }
        let figure = metrics
            .get("eval_accuracy")
            .copied()
            .or_else(|| metrics.get("eval_loss").map(|loss| -loss));
        let Some(figure) = figure else { return false };
        if self.best.is_none_or(|best| figure > best) {
            self.best = Some(figure);
            self.best_step = Some(self.step);
            self.stale = 0;
        } else {
            self.stale += 1;
        }
        self.stale >= self.config.early_stopping_patience
    }
}

/// Width of the reward weights' queries and keys: one head of the usual size.
pub(super) const REWARD_WEIGHT_WIDTH: usize = 64;

/// Keeps the row order apart from initial weights drawn from the same seed.
const SAMPLER_SALT: u64 = 0x5157_6e13_7a2f_90c4;

/// Counts over all micro-batches of an optimiser step.
pub(super) fn count(layouts: &[Layout]) -> Normaliser {
    layouts
        .iter()
        .map(Normaliser::of)
        .fold(Normaliser::default(), Normaliser::plus)
}

/// A reward head at the prior, with reward weights, a Q-head and a learned prior where the method uses them.
pub(super) fn fresh_head(
    objective: &dyn Objective,
    model: &ModelConfig,
    seed: u64,
    device: &Device,
) -> RewardHead {
    let (config, hidden) = (objective.steps_config(), model.hidden_size);
    let mut head = RewardHead::at_prior(hidden, config.raw_spread_at_prior(), device);
    if config.rwt != Rwt::Off || objective.needs_attention() {
        head = head.with_reward_weights(hidden, REWARD_WEIGHT_WIDTH, seed, device);
    }
    if config.q_head == QHead::Own {
        head = head.with_q_head(hidden, model.vocab_size, seed, device);
    }
    if objective.needs_token_prior() {
        head = head.with_token_prior(model.vocab_size, device);
    }
    if let Some(count) = objective.prototypes() {
        head = head.with_prototypes(hidden, count, seed, device);
    }
    head
}

pub(super) fn prepare_trunk(
    mut decoder: Decoder,
    config: &TrainConfig,
    device: &Device,
) -> Result<Decoder, TrainError> {
    match &config.trainable {
        Trainable::Full => {
            // An adapter that the model brings becomes part of the weights that train.
            decoder = Lora::merge(decoder);
            decoder.weights = decoder.weights.trainable(device, |_| true);
        }
        Trainable::Heads => {}
        Trainable::Lora(lora) => {
            if decoder.lora.is_none() {
                decoder.lora = Some(fresh_adapter(&decoder, lora, config.seed, device)?);
            }
            if let Some(lora) = &mut decoder.lora {
                lora.weights = lora.weights.clone().trainable(device, |_| true);
            }
        }
    }
    Ok(decoder)
}

/// An adapter that changes nothing yet.
pub(super) fn fresh_adapter(
    decoder: &Decoder,
    lora: &LoraConfig,
    seed: u64,
    device: &Device,
) -> Result<Lora, TrainError> {
    let config = crate::model::LoraConfig {
        rank: lora.r,
        alpha: lora.alpha,
        rslora: false,
        targets: lora.targets.clone(),
        fan_in_fan_out: decoder.config.architecture == crate::model::Architecture::Gpt2,
        base_model: None,
    };
    Lora::init(&decoder.config, config, seed, device)
        .map_err(|error| TrainError::Rows(error.to_string()))
}
