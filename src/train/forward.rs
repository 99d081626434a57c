//! From a batch's tokens to `Steps`: trunk, LM head on the answers' positions only, reward head.

use crate::model::{Decoder, Dropout, ForwardOptions, TrunkOutput};
use crate::objective::Objective;
use crate::reward::{
    ActionValues, Layout, Normaliser, RewardHead, Rwt, StepValues, Steps, StepsConfig,
    action_values, assemble, weighted_action_values,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

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
pub fn steps_of(
    reader: Reader<'_>,
    layout: &Layout,
    normaliser: Normaliser,
    device: &Device,
) -> Steps {
    let trunk = run_trunk(reader.decoder, reader.objective, layout, device, false);
    read_steps(reader, layout, normaliser, device, trunk).steps
}

/// [`Layout::score_places`] on the device, `[B, T]`.
pub(super) fn score_places(layout: &Layout, device: &Device) -> Tensor<2, Int> {
    let places: Vec<i32> = layout.score_places().iter().map(|p| *p as i32).collect();
    Tensor::from_data(
        TensorData::new(places, [layout.rows, layout.tokens]),
        device,
    )
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
        decoder,
        head,
        objective,
        reference,
    } = reader;
    let cfg = objective.steps_config();
    let preference = objective
        .needs_attention()
        .then(|| head.preference_weights(trunk.hidden.clone(), layout, cfg))
        .flatten();
    let attention = trunk.attention.take();
    let output = head.forward(trunk.hidden.clone(), layout, cfg);
    let head_mean = output.mean.clone();
    let per_step = match trunk.per_step {
        Some(values) => values,
        None => {
            let actions = Actions::of(layout, device);
            let hidden = actions.states(trunk.hidden);
            let logits = match head.q_logits(hidden.clone()) {
                Some(logits) => logits,
                None => decoder.logits(hidden),
            };
            let ids = actions.ids.clone();
            let values = match (&output.weights, cfg.rwt) {
                (Some(weights), Rwt::RewardAndQ) => {
                    weighted_action_values(logits, ids, actions.at_states(weights.clone()), cfg)
                }
                _ => action_values(logits, ids, cfg),
            };
            actions.per_step(values)
        }
    };
    let mut steps = assemble(layout, per_step, output, cfg, normaliser, device);
    if objective.needs_prefix_scores() {
        let scores = head_mean.clone().gather(1, score_places(layout, device));
        // The text before the token of step s ends at position s.
        steps = steps.with_prefix_scores(scores.narrow(1, 0, layout.steps()));
    }
    if objective.needs_token_prior() {
        // Also where the step mask is 0: what stands there is masked.
        let tokens: Vec<i32> = layout.ids.iter().map(|id| *id as i32).collect();
        let tokens = TensorData::new(tokens, [layout.rows, layout.tokens]);
        let acted = Tensor::<2, Int>::from_data(tokens, device).narrow(1, 1, layout.steps());
        let ids = acted.reshape([layout.rows * layout.steps()]);
        if let Some(log_scale) = head.prior_log_scale(ids) {
            let log_scale = log_scale.reshape([layout.rows, layout.steps()]);
            steps = steps.with_prior_log_scale(log_scale);
        }
    }
    if let Some(preference) = preference {
        // The reward of step s is read at position s+1, and so is its weight.
        steps = steps.with_attention(preference.narrow(1, 1, layout.steps()));
    }
    if let Some(reference) = reference {
        let (actions, output) = (
            Actions::of(layout, device),
            forward(reference, layout, device, &ForwardOptions::default()),
        );
        let values = language_model_values(reference, &actions, output.hidden, cfg);
        steps = steps.with_reference(values.log_policy);
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
    /// What the language model's head says of the actions; `None` where [`StepsConfig::q_after_heads`].
    pub(super) per_step: Option<StepValues>,
    /// `[B, heads, T, T]` of the last layer, where asked for.
    pub(super) attention: Option<Tensor<4>>,
}

/// Runs the trunk on a batch, and the LM head on its answers' positions where Q is read off it.
pub(super) fn run_trunk(
    decoder: &Decoder,
    objective: &dyn Objective,
    layout: &Layout,
    device: &Device,
    last_attention: bool,
) -> TrunkStates {
    let options = ForwardOptions {
        last_attention,
        dropout: None,
    };
    let output = forward(decoder, layout, device, &options);
    let cfg = objective.steps_config();
    let per_step = (!cfg.q_after_heads()).then(|| {
        let actions = Actions::of(layout, device);
        language_model_values(decoder, &actions, output.hidden.clone(), cfg)
    });
    TrunkStates {
        hidden: output.hidden,
        attention: output.attention,
        per_step,
    }
}

/// Features `[B, H]` of a batch's answers, the trunk's states at their last tokens, from one pass under each of two masks
/// of dropout.
pub(super) fn dropout_features(
    decoder: &Decoder,
    layout: &Layout,
    rate: f64,
    seeds: [u64; 2],
    device: &Device,
) -> [Tensor<2>; 2] {
    let (b, t) = (layout.rows, layout.tokens);
    // The action of step s is token s+1. An answer that was cut to nothing is taken at its first token.
    let ends: Vec<i32> = layout
        .last_steps()
        .iter()
        .enumerate()
        .map(|(row, step)| (row * t + step.map_or(0, |s| s + 1)) as i32)
        .collect();
    let ends = Tensor::<1, Int>::from_data(TensorData::new(ends, [b]), device);
    seeds.map(|seed| {
        let options = ForwardOptions {
            last_attention: false,
            dropout: Some(Dropout { rate, seed }),
        };
        let hidden = forward(decoder, layout, device, &options).hidden;
        let [_, _, width] = hidden.dims();
        hidden.reshape([b * t, width]).select(0, ends.clone())
    })
}

/// The trunk on a batch's tokens.
fn forward(
    decoder: &Decoder,
    layout: &Layout,
    device: &Device,
    options: &ForwardOptions,
) -> TrunkOutput {
    let shape = [layout.rows, layout.tokens];
    let ids: Vec<i32> = layout.ids.iter().map(|id| *id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), device);
    decoder.forward(ids, &layout.segments, options)
}

/// Q, likelihood and log B of a batch's actions by the LM head, from the trunk's states `[B, T, H]`.
fn language_model_values(
    decoder: &Decoder,
    actions: &Actions,
    hidden: Tensor<3>,
    cfg: &StepsConfig,
) -> StepValues {
    let (hidden, ids) = (actions.states(hidden), actions.ids.clone());
    let direct = cfg
        .reads_log_probabilities()
        .then(|| decoder.log_probabilities(hidden.clone(), ids.clone(), cfg.alpha))
        .flatten();
    actions.per_step(match direct {
        Some(q) => ActionValues::of_log_probabilities(q, cfg),
        None => action_values(decoder.logits(hidden), ids, cfg),
    })
}

/// A batch's N actions: the vocabulary is wide, and is read only where an answer's token is predicted.
struct Actions {
    /// b*T + s of every action's state, `[N]`.
    positions: Tensor<1, Int>,
    /// The tokens, `[N]`.
    ids: Tensor<1, Int>,
    /// Which of the N stands at b*S + s, `[B*S]`; any where none does.
    places: Tensor<1, Int>,
    /// Where none does, `[B, S]`.
    outside: Tensor<2, Bool>,
}

impl Actions {
    fn of(layout: &Layout, device: &Device) -> Self {
        let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
        let mask = layout.step_mask();
        let mut positions = Vec::new();
        let mut ids = Vec::new();
        let mut places = vec![0i32; b * s];
        for (place, counts) in mask.iter().enumerate() {
            if *counts {
                let (row, step) = (place / s, place % s);
                places[place] = positions.len() as i32;
                positions.push((row * t + step) as i32);
                ids.push(layout.ids[row * t + step + 1] as i32);
            }
        }
        // A batch of answers that were cut to nothing still has one position to compute; no step reads it.
        if positions.is_empty() {
            positions.push(0);
            ids.push(0);
        }
        let ints = |values: Vec<i32>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        let mask: Vec<f32> = mask.iter().map(|m| f32::from(u8::from(*m))).collect();
        let mask = Tensor::<2>::from_data(TensorData::new(mask, [b, s]), device);
        Self {
            positions: ints(positions),
            ids: ints(ids),
            places: ints(places),
            outside: mask.equal_scalar(0.0),
        }
    }

    /// The actions' rows `[N, H]` of states `[B, T, H]`.
    fn states(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [b, t, h] = hidden.dims();
        hidden.reshape([b * t, h]).select(0, self.positions.clone())
    }

    /// The actions' entries `[N]` of numbers `[B, T]` that stand at states.
    fn at_states(&self, numbers: Tensor<2>) -> Tensor<1> {
        let [b, t] = numbers.dims();
        numbers.reshape([b * t]).select(0, self.positions.clone())
    }

    /// What is known of the actions as `[B, S]`, 0 elsewhere.
    fn per_step(&self, values: ActionValues) -> StepValues {
        let spread = |values: Tensor<1>| {
            values
                .select(0, self.places.clone())
                .reshape(self.outside.dims())
                .mask_fill(self.outside.clone(), 0.0)
        };
        StepValues {
            q: spread(values.q),
            log_likelihood: spread(values.log_likelihood),
            log_policy: spread(values.log_policy),
        }
    }
}
