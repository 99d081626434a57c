//! From a batch's tokens to `Steps`: trunk, LM head on the answers' positions only, reward head.

use super::TrainError;
use super::dataset::{EncodedRow, layout};
use crate::model::{Decoder, ForwardOptions};
use crate::objective::Objective;
use crate::reward::{
    ActionValues, Layout, Normaliser, RewardHead, StepValues, Steps, action_values, assemble,
};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::HashMap;

/// Largest cache of frozen-trunk states, in numbers. Two GiB: beyond it rows are computed again at each visit.
const CACHE_LIMIT: usize = 1 << 29;

/// States of a frozen trunk, kept per answer so that a run of heads computes each once.
///
/// The last bits of a state depend on the batch in which it was computed. A resumed run must give the losses of one
/// that never stopped, so a row's states are always computed in one and the same batch: its batch of the first epoch.
pub struct TrunkCache {
    /// The first epoch's batches; empty where nothing is cached.
    groups: Vec<Vec<usize>>,
    /// Of each row, which of `groups` it is in.
    group_of: Vec<usize>,
    answers: HashMap<(usize, usize), CachedAnswer>,
}

/// What a frozen trunk says of one answer.
struct CachedAnswer {
    /// `[T', H]`, T' the answer's own tokens.
    hidden: Vec<f32>,
    /// Per step `[T'-1]`, zero where the step mask is zero.
    q: Vec<f32>,
    log_likelihood: Vec<f32>,
    log_policy: Vec<f32>,
}

/// The cache as one batch of training rows sees it.
pub struct CacheSlot<'a> {
    cache: &'a mut TrunkCache,
    batch: &'a [usize],
    rows: &'a [EncodedRow],
}

impl TrunkCache {
    /// A cache that is never filled: the trunk moves.
    pub fn off() -> Self {
        Self {
            groups: Vec::new(),
            group_of: Vec::new(),
            answers: HashMap::new(),
        }
    }

    /// An empty cache of the states `[T, width]` of `rows`, computed in the batches `groups`. It stays off where the
    /// states of all rows would not fit: whether it is on must not depend on where a run was stopped.
    pub fn new(groups: Vec<Vec<usize>>, rows: &[EncodedRow], width: usize) -> Self {
        let numbers = rows
            .iter()
            .flat_map(|row| &row.sides)
            .map(|side| side.encoded.ids.len().saturating_mul(width))
            .fold(0usize, usize::saturating_add);
        if numbers > CACHE_LIMIT {
            return Self::off();
        }
        let mut group_of = vec![0; rows.len()];
        for (group, members) in groups.iter().enumerate() {
            for row in members {
                group_of[*row] = group;
            }
        }
        Self {
            groups,
            group_of,
            answers: HashMap::new(),
        }
    }

    /// The slot of a batch of training rows, or `None` where nothing is cached.
    pub fn lookup<'a>(
        &'a mut self,
        batch: &'a [usize],
        rows: &'a [EncodedRow],
    ) -> Option<CacheSlot<'a>> {
        (!self.groups.is_empty()).then_some(CacheSlot {
            cache: self,
            batch,
            rows,
        })
    }
}

impl<'a> CacheSlot<'a> {
    /// The batch's answers in the layout's order; missing ones are computed first.
    async fn answers(
        self,
        decoder: &Decoder,
        objective: &dyn Objective,
        device: &Device,
    ) -> Result<Vec<&'a CachedAnswer>, TrainError> {
        let Self { cache, batch, rows } = self;
        for row in batch {
            if cache.answers.contains_key(&(*row, 0)) {
                continue;
            }
            let group = &cache.groups[cache.group_of[*row]];
            let members: Vec<&EncodedRow> = group.iter().map(|row| &rows[*row]).collect();
            // What fills the padding does not matter: it is masked everywhere.
            let layout = layout(&members, 0);
            let trunk = run_trunk(decoder, objective, &layout, device, false);
            let answers = read_answers(&trunk, &layout).await?;
            // The layout's order: side after side, and in each the rows.
            let places = (0..answers.len()).map(|i| (group[i % group.len()], i / group.len()));
            cache.answers.extend(places.zip(answers));
        }
        let cache: &'a TrunkCache = cache;
        let sides = batch.iter().map(|row| rows[*row].sides.len()).max();
        (0..sides.unwrap_or(0))
            .flat_map(|side| batch.iter().map(move |row| (*row, side)))
            .map(|place| {
                cache.answers.get(&place).ok_or_else(|| {
                    // Every row is in one group, and groups hold pairs or single answers, never both.
                    TrainError::Rows(format!("row {} has no states in the cache", place.0))
                })
            })
            .collect()
    }
}

/// What turns tokens into steps.
pub struct Reader<'a> {
    /// The trunk and LM head.
    pub decoder: &'a Decoder,
    /// The reward head.
    pub head: &'a RewardHead,
    /// Says how steps are read.
    pub objective: &'a dyn Objective,
    /// The policy that the objective asks to be held against, where it does.
    pub reference: Option<&'a Decoder>,
}

/// `Steps` of a batch. Gradients flow into whatever tensors of decoder and head require them.
pub async fn steps_of(
    reader: Reader<'_>,
    layout: &Layout,
    normaliser: Normaliser,
    device: &Device,
    cache: Option<CacheSlot<'_>>,
) -> Result<Steps, TrainError> {
    let (decoder, objective) = (reader.decoder, reader.objective);
    let trunk = match cache {
        None => run_trunk(decoder, objective, layout, device, false),
        Some(slot) => {
            let answers = slot.answers(decoder, objective, device).await?;
            from_cache(&answers, layout, decoder.config.hidden_size, device)
        }
    };
    Ok(read_steps(reader, layout, normaliser, device, trunk).steps)
}

/// What a credit needs beside the steps.
pub(super) struct Pass {
    /// The steps.
    pub(super) steps: Steps,
    /// The head's mean at every position `[B, T]`, unmasked: the score of the text up to that token.
    pub(super) head_mean: Tensor<2>,
    /// The trunk's last-layer attention `[B, heads, T, T]`, where the trunk was asked for it. States from a cache have
    /// none.
    pub(super) attention: Option<Tensor<4>>,
}

/// `Steps` of a batch whose trunk has run. Other heads on the same states cost next to nothing.
pub(super) fn read_steps(
    reader: Reader<'_>,
    layout: &Layout,
    normaliser: Normaliser,
    device: &Device,
    mut trunk: TrunkStates,
) -> Pass {
    let Reader {
        decoder: _,
        head,
        objective,
        reference,
    } = reader;
    let preference = objective
        .needs_attention()
        .then(|| head.preference_weights(trunk.hidden.clone(), layout))
        .flatten();
    let attention = trunk.attention.take();
    let output = head.forward(trunk.hidden, layout, objective.steps_config());
    let head_mean = output.mean.clone();
    let mut steps = assemble(
        layout,
        trunk.per_step,
        output,
        objective.steps_config(),
        normaliser,
        device,
    );
    if let Some(preference) = preference {
        // The reward of step s is read at position s+1, and so is its weight.
        steps = steps.with_attention(preference.narrow(1, 1, layout.steps()));
    }
    if let Some(reference) = reference {
        let states = run_trunk(reference, objective, layout, device, false);
        steps = steps.with_reference(states.per_step.log_policy);
    }
    Pass {
        steps,
        head_mean,
        attention,
    }
}

/// What the trunk says of a batch.
#[derive(Clone)]
pub(super) struct TrunkStates {
    /// After the final norm, `[B, T, H]`.
    pub(super) hidden: Tensor<3>,
    per_step: StepValues,
    /// `[B, heads, T, T]` of the last layer, where asked for.
    attention: Option<Tensor<4>>,
}

/// Runs the trunk on a batch, and the LM head on its answers' positions.
pub(super) fn run_trunk(
    decoder: &Decoder,
    objective: &dyn Objective,
    layout: &Layout,
    device: &Device,
    last_attention: bool,
) -> TrunkStates {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let ids: Vec<i32> = layout.ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), device);
    let output = decoder.forward(ids, &layout.segments, &ForwardOptions { last_attention });

    // The vocabulary is wide: its logits are computed only where an answer's token is predicted.
    let mask = layout.step_mask();
    let mut positions = Vec::new();
    let mut actions = Vec::new();
    let mut places = vec![0i32; b * s];
    for (place, counts) in mask.iter().enumerate() {
        if *counts {
            let (row, step) = (place / s, place % s);
            places[place] = positions.len() as i32;
            positions.push((row * t + step) as i32);
            actions.push(layout.ids[row * t + step + 1] as i32);
        }
    }
    // A batch of answers that were cut to nothing still has one position to compute; no step reads it.
    if positions.is_empty() {
        positions.push(0);
        actions.push(0);
    }
    let n = positions.len();
    let ints = |values: Vec<i32>| {
        let len = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
    };
    let hidden = output
        .hidden
        .clone()
        .reshape([b * t, decoder.config.hidden_size]);
    let hidden = hidden.select(0, ints(positions));
    debug_assert_eq!(hidden.dims()[0], n);
    let (cfg, actions) = (objective.steps_config(), ints(actions));
    let direct = cfg
        .reads_log_probabilities()
        .then(|| decoder.log_probabilities(hidden.clone(), actions.clone(), cfg.alpha))
        .flatten();
    let values = match direct {
        Some(q) => ActionValues::of_log_probabilities(q, cfg),
        None => action_values(decoder.logits(hidden), actions, cfg),
    };
    let places = ints(places);
    let mask: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [b, s]), device).equal_scalar(0.0);
    let spread = |values: Tensor<1>| {
        values
            .select(0, places.clone())
            .reshape([b, s])
            .mask_fill(mask.clone(), 0.0)
    };
    TrunkStates {
        hidden: output.hidden,
        attention: output.attention,
        per_step: StepValues {
            q: spread(values.q),
            log_likelihood: spread(values.log_likelihood),
            log_policy: spread(values.log_policy),
        },
    }
}

fn from_cache(
    answers: &[&CachedAnswer],
    layout: &Layout,
    width: usize,
    device: &Device,
) -> TrunkStates {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let mut hidden = vec![0.0f32; b * t * width];
    let mut q = vec![0.0f32; b * s];
    let mut log_likelihood = q.clone();
    let mut log_policy = q.clone();
    for (row, answer) in answers.iter().enumerate() {
        let at = row * t * width;
        hidden[at..at + answer.hidden.len()].copy_from_slice(&answer.hidden);
        let at = row * s;
        q[at..at + answer.q.len()].copy_from_slice(&answer.q);
        log_likelihood[at..at + answer.q.len()].copy_from_slice(&answer.log_likelihood);
        log_policy[at..at + answer.q.len()].copy_from_slice(&answer.log_policy);
    }
    let steps = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [b, s]), device);
    TrunkStates {
        hidden: Tensor::from_data(TensorData::new(hidden, [b, t, width]), device),
        attention: None,
        per_step: StepValues {
            q: steps(q),
            log_likelihood: steps(log_likelihood),
            log_policy: steps(log_policy),
        },
    }
}

/// The states of every sequence of a layout, in its order.
async fn read_answers(
    trunk: &TrunkStates,
    layout: &Layout,
) -> Result<Vec<CachedAnswer>, TrainError> {
    let (t, s) = (layout.tokens, layout.steps());
    let [_, _, width] = trunk.hidden.dims();
    let hidden = super::read(trunk.hidden.clone().inner()).await?;
    let q = super::read(trunk.per_step.q.clone().inner()).await?;
    let log_likelihood = super::read(trunk.per_step.log_likelihood.clone().inner()).await?;
    let log_policy = super::read(trunk.per_step.log_policy.clone().inner()).await?;
    let answers = (0..layout.rows).map(|row| {
        let tokens = layout.segments[row * t..(row + 1) * t]
            .iter()
            .filter(|segment| **segment > 0)
            .count();
        let steps = row * s..row * s + tokens.saturating_sub(1);
        CachedAnswer {
            hidden: hidden[row * t * width..(row * t + tokens) * width].to_vec(),
            q: q[steps.clone()].to_vec(),
            log_likelihood: log_likelihood[steps.clone()].to_vec(),
            log_policy: log_policy[steps].to_vec(),
        }
    });
    Ok(answers.collect())
}
