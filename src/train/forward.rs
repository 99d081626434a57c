//! From a batch's tokens to `Steps`: trunk, LM head on the answers' positions only, reward head.

use super::TrainError;
use super::dataset::EncodedRow;
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
pub struct TrunkCache {
    enabled: bool,
    used: usize,
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

/// A batch's view of the cache: which answers it holds, in the layout's order.
pub struct CacheSlot<'a> {
    cache: &'a mut TrunkCache,
    /// (row, side) of each sequence, and its length in tokens.
    sequences: Vec<((usize, usize), usize)>,
}

impl TrunkCache {
    /// An empty cache; a disabled one is never filled.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            used: 0,
            answers: HashMap::new(),
        }
    }

    /// The slot for a batch of training rows, or `None` where nothing is cached.
    pub fn lookup(&mut self, batch: &[usize], rows: &[EncodedRow]) -> Option<CacheSlot<'_>> {
        if !self.enabled {
            return None;
        }
        let sides = batch
            .iter()
            .map(|row| rows[*row].sides.len())
            .max()
            .unwrap_or(1);
        let sequences = (0..sides)
            .flat_map(|side| batch.iter().map(move |row| (*row, side)))
            .filter_map(|(row, side)| {
                rows[row]
                    .sides
                    .get(side)
                    .map(|s| ((row, side), s.encoded.ids.len()))
            })
            .collect();
        Some(CacheSlot {
            cache: self,
            sequences,
        })
    }
}

/// `Steps` of a batch. `reference` is the policy that a method asks to be held against. Gradients flow into whatever tensors of decoder and head require them.
pub async fn steps_of(
    decoder: &Decoder,
    head: &RewardHead,
    objective: &dyn Objective,
    layout: &Layout,
    normaliser: Normaliser,
    device: &Device,
    cache: Option<CacheSlot<'_>>,
    reference: Option<&Decoder>,
) -> Result<Steps, TrainError> {
    let trunk = match cache {
        None => run_trunk(decoder, objective, layout, device),
        Some(slot) => {
            let complete = slot
                .sequences
                .iter()
                .all(|(key, _)| slot.cache.answers.contains_key(key));
            if complete {
                from_cache(&slot, layout, decoder.config.hidden_size, device)
            } else {
                let trunk = run_trunk(decoder, objective, layout, device);
                fill_cache(slot, &trunk, layout).await?;
                trunk
            }
        }
    };
    let attention = objective
        .needs_attention()
        .then(|| head.preference_weights(trunk.hidden.clone(), layout))
        .flatten();
    let output = head.forward(trunk.hidden, layout, objective.steps_config());
    let mut steps = assemble(
        layout,
        trunk.per_step,
        output,
        objective.steps_config(),
        normaliser,
        device,
    );
    if let Some(attention) = attention {
        // The reward of step s is read at position s+1, and so is its weight.
        steps = steps.with_attention(attention.narrow(1, 1, layout.steps()));
    }
    if let Some(reference) = reference {
        let states = run_trunk(reference, objective, layout, device);
        steps = steps.with_reference(states.per_step.log_policy);
    }
    Ok(steps)
}

struct TrunkStates {
    /// `[B, T, H]`.
    hidden: Tensor<3>,
    per_step: StepValues,
}

fn run_trunk(
    decoder: &Decoder,
    objective: &dyn Objective,
    layout: &Layout,
    device: &Device,
) -> TrunkStates {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let ids: Vec<i32> = layout.ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [b, t]), device);
    let output = decoder.forward(ids, &layout.segments, &ForwardOptions::default());

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
        per_step: StepValues {
            q: spread(values.q),
            log_likelihood: spread(values.log_likelihood),
            log_policy: spread(values.log_policy),
        },
    }
}

fn from_cache(slot: &CacheSlot<'_>, layout: &Layout, width: usize, device: &Device) -> TrunkStates {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let mut hidden = vec![0.0f32; b * t * width];
    let mut q = vec![0.0f32; b * s];
    let mut log_likelihood = q.clone();
    let mut log_policy = q.clone();
    for (row, (key, _)) in slot.sequences.iter().enumerate() {
        let Some(answer) = slot.cache.answers.get(key) else {
            continue;
        };
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
        per_step: StepValues {
            q: steps(q),
            log_likelihood: steps(log_likelihood),
            log_policy: steps(log_policy),
        },
    }
}

async fn fill_cache(
    slot: CacheSlot<'_>,
    trunk: &TrunkStates,
    layout: &Layout,
) -> Result<(), TrainError> {
    let (t, s) = (layout.tokens, layout.steps());
    let [_, _, width] = trunk.hidden.dims();
    let hidden = super::read(trunk.hidden.clone().inner()).await?;
    let q = super::read(trunk.per_step.q.clone().inner()).await?;
    let log_likelihood = super::read(trunk.per_step.log_likelihood.clone().inner()).await?;
    let log_policy = super::read(trunk.per_step.log_policy.clone().inner()).await?;
    for (row, (key, tokens)) in slot.sequences.iter().enumerate() {
        let size = tokens * width;
        if slot.cache.used + size > CACHE_LIMIT {
            slot.cache.enabled = false;
            break;
        }
        let steps = row * s..row * s + tokens.saturating_sub(1);
        let answer = CachedAnswer {
            hidden: hidden[row * t * width..row * t * width + size].to_vec(),
            q: q[steps.clone()].to_vec(),
            log_likelihood: log_likelihood[steps.clone()].to_vec(),
            log_policy: log_policy[steps].to_vec(),
        };
        if slot.cache.answers.insert(*key, answer).is_none() {
            slot.cache.used += size;
        }
    }
    Ok(())
}
