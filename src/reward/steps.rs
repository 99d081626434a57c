//! From logits and head outputs to `Steps`: the per-step numbers that every objective reads.
//!
//! ```text
//! Q[s,.] = log_softmax(alpha z[s])              q_mode = logsoftmax
//!          alpha z[s]                           q_mode = logits
//!          log_softmax(alpha softmax(z[s]))     q_mode = paper_prob (AVA Eq. 12, read literally)
//! ll[s]  = log softmax(beta Q[s])[a]            ll = normalised
//!          beta Q[s,a]                          ll = paper_eq13 (AVA Eq. 13)
//! log B  = log softmax(beta Q[s])[a] (normalised) or log softmax(Q[s])[a] (paper_eq13)
//! ```
//!
//! Source: AVA, arXiv 2411.09341, Eq. 9-14; the switches that the paper does not have are ours.
//!
//! Step s has the tokens `0..=s` as its state and `ids[s+1]` as its action. Everything outside the step mask is zero in
//! `Steps`, put there by a select and not by a product, so that padding may hold inf or NaN, in values and gradients.

use super::layout::Layout;
use super::posterior;
use burn::tensor::{Bool, DType, Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// What Q is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QMode {
    /// log_softmax(alpha z): the soft value is 0, so constants per state drop out.
    #[serde(rename = "logsoftmax")]
    LogSoftmax,
    /// alpha z: keeps the free constant per state.
    Logits,
    /// log_softmax(alpha softmax(z)): Eq. 12 as printed; wants a large alpha.
    PaperProb,
}

/// Whose numbers Q is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QHead {
    /// The language model's own head, pretrained.
    Lm,
    /// A fresh linear layer `[H, V]` that trains with the reward head (AVA's ablation "w/o ptq").
    Own,
}

/// The form of the log-likelihood term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LikelihoodForm {
    /// beta is an inverse temperature.
    Normalised,
    /// beta is the weight of the likelihood (Eq. 13).
    PaperEq13,
}

/// Where the reward of step s is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardRead {
    /// Head position s+1: the reward of token i stands at position i and sees the token.
    NextState,
    /// Head position s: a state-only reward.
    State,
}

/// How the head's second output becomes a standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaParam {
    /// The output is log sigma.
    LogSd,
    /// sigma = softplus(output) + `sigma_eps`.
    Softplus,
}

/// What the reward weights multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rwt {
    /// Nothing.
    Off,
    /// Mean and standard deviation of the reward.
    Reward,
    /// Q as well (AVA Eq. 11 as printed).
    RewardAndQ,
}

/// The size of the reward weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RwtScale {
    /// Weights sum to 1.
    Literal,
    /// Weights have mean 1.
    Length,
}

/// The switches of everything before the objective. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepsConfig {
    /// lm: Q starts from what the language model knows.
    pub q_head: QHead,
    /// logsoftmax: no free constant per state.
    pub q_mode: QMode,
    /// Temperature of Q. 1: Q is the log-policy and the sampling policy is the language model.
    pub alpha: f64,
    /// Weight (`paper_eq13`) or inverse temperature (`normalised`) of the likelihood.
    pub beta: f64,
    /// paper_eq13: the same as `normalised` at beta 1 with a log-softmax Q, and then beta is simply a weight.
    pub ll: LikelihoodForm,
    /// next_state: two tokens after one prefix can have two rewards, and the last token has one.
    pub reward_read: RewardRead,
    /// -5: sigma is at least 0.0067, which f32 bears.
    pub rho_min: f64,
    /// 2: sigma is at most 7.4.
    pub rho_max: f64,
    /// log_sd: AVRIL's form.
    pub sigma_param: SigmaParam,
    /// Smallest sigma of `softplus`.
    pub sigma_eps: f64,
    /// off: with weights a token's reward changes when the text goes on.
    pub rwt: Rwt,
    /// length: mean 1, so that sigma keeps its scale.
    pub rwt_scale: RwtScale,
    /// Whether a query sees only earlier keys. off: as published.
    pub rwt_causal: bool,
    /// Whether the scores are divided by the square root of the key width. off: as published.
    pub rwt_sqrt_d: bool,
}

impl Default for StepsConfig {
    fn default() -> Self {
        Self {
            q_head: QHead::Lm,
            q_mode: QMode::LogSoftmax,
            alpha: 1.0,
            beta: 1.0,
            ll: LikelihoodForm::PaperEq13,
            reward_read: RewardRead::NextState,
            rho_min: -5.0,
            rho_max: 2.0,
            sigma_param: SigmaParam::LogSd,
            sigma_eps: 1e-3,
            rwt: Rwt::Off,
            rwt_scale: RwtScale::Length,
            rwt_causal: false,
            rwt_sqrt_d: false,
        }
    }
}

impl StepsConfig {
    /// Whether Q is a log-softmax that beta does not touch: then the actions' log-probabilities are all that is read
    /// from the vocabulary (without reward weights on Q).
    pub fn reads_log_probabilities(&self) -> bool {
        let beta_is_weight = self.ll == LikelihoodForm::PaperEq13 || self.beta == 1.0;
        self.q_mode == QMode::LogSoftmax && beta_is_weight
    }

    /// Whether Q depends on what the heads say (a head of its own, or reward weights on Q), so that it can only be read
    /// after them.
    pub fn q_after_heads(&self) -> bool {
        self.q_head == QHead::Own || self.rwt == Rwt::RewardAndQ
    }

    /// The raw number at which sigma is 1, so that an untrained head is the prior.
    pub fn raw_spread_at_prior(&self) -> f32 {
        match self.sigma_param {
            SigmaParam::LogSd => 0.0,
            // softplus(x) = 1 - eps.
            SigmaParam::Softplus => (1.0 - self.sigma_eps).exp_m1().ln() as f32,
        }
    }
}

/// Counts over the whole batch (all accumulated micro-batches of all processes). Losses and terms are divided by these,
/// so that those of micro-batches simply add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Normaliser {
    /// Steps that count, both sides of a pair together.
    pub steps: f64,
    /// Sequences; a pair is two.
    pub rows: f64,
    /// Pairs, 0 for demonstrations.
    pub pairs: f64,
    /// Steps whose next step counts too: the (s, a, s', a') of inverse reinforcement learning.
    pub transitions: f64,
}

impl Normaliser {
    /// The counts of one layout; [`Normaliser::plus`] adds the others of the batch.
    pub fn of(layout: &Layout) -> Self {
        Self {
            steps: layout.step_mask().iter().filter(|m| **m).count() as f64,
            rows: layout.rows as f64,
            pairs: layout.pairs.unwrap_or(0) as f64,
            transitions: layout.bootstrap_mask().iter().filter(|c| **c).count() as f64,
        }
    }

    /// The sum of two counts.
    pub fn plus(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            rows: self.rows + other.rows,
            pairs: self.pairs + other.pairs,
            transitions: self.transitions + other.transitions,
        }
    }
}

/// Which positions need the vocabulary: the N steps of a layout, in row order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepIndex {
    /// b*T + s: the row of the flattened hidden states `[B*T, H]` whose logits predict the action.
    pub states: Vec<i64>,
    /// b*S + s: where the result goes in `[B, S]`.
    pub slots: Vec<i64>,
    /// ids[s+1].
    pub actions: Vec<i64>,
}

impl StepIndex {
    /// The steps of a layout.
    pub fn of(layout: &Layout) -> Self {
        let (t, s) = (layout.tokens, layout.steps());
        let mut index = Self {
            states: Vec::new(),
            slots: Vec::new(),
            actions: Vec::new(),
        };
        for (slot, _) in layout.step_mask().iter().enumerate().filter(|(_, m)| **m) {
            let state = slot / s * t + slot % s;
            index.states.push(state as i64);
            index.slots.push(slot as i64);
            index.actions.push(i64::from(layout.ids[state + 1]));
        }
        index
    }

    /// The three lists as device tensors `[N]`: states, slots, actions.
    pub fn tensors(&self, device: &Device) -> [Tensor<1, Int>; 3] {
        [&self.states, &self.slots, &self.actions]
            .map(|list| Tensor::from_data(TensorData::new(list.clone(), [list.len()]), device))
    }
}

/// Vocabulary-level results at N positions, each `[N]`.
#[derive(Clone, Debug)]
pub struct ActionValues {
    /// Q of the action taken.
    pub q: Tensor<1>,
    /// The likelihood term ll.
    pub log_likelihood: Tensor<1>,
    /// log B of the action: the normalised log-policy.
    pub log_policy: Tensor<1>,
}

impl ActionValues {
    /// Of Q `[N]`, the log-probability of each action at temperature 1/alpha, under a configuration that
    /// [`StepsConfig::reads_log_probabilities`].
    pub fn of_log_probabilities(q: Tensor<1>, cfg: &StepsConfig) -> Self {
        let log_likelihood = if cfg.beta == 1.0 {
            q.clone()
        } else {
            q.clone().mul_scalar(cfg.beta)
        };
        Self {
            log_policy: q.clone(),
            log_likelihood,
            q,
        }
    }

    /// Spreads the N results over `[rows, steps]` at `slots` (b*S + s, each at most once); 0 elsewhere.
    pub fn scatter(self, slots: Tensor<1, Int>, rows: usize, steps: usize) -> StepValues {
        let spread = |x: Tensor<1>| {
            Tensor::<1>::zeros([rows * steps], (&x.device(), x.dtype()))
                .select_assign(0, slots.clone(), x, IndexingUpdateOp::Add)
                .reshape([rows, steps])
        };
        StepValues {
            q: spread(self.q),
            log_likelihood: spread(self.log_likelihood),
            log_policy: spread(self.log_policy),
        }
    }
}

/// The same, per step `[B, S]`; anything outside the step mask.
#[derive(Clone, Debug)]
pub struct StepValues {
    /// Q of the action taken.
    pub q: Tensor<2>,
    /// The likelihood term ll.
    pub log_likelihood: Tensor<2>,
    /// log B of the action.
    pub log_policy: Tensor<2>,
}

impl StepValues {
    /// As [`ActionValues::of_log_probabilities`], of Q `[B, S]`.
    pub fn of_log_probabilities(q: Tensor<2>, cfg: &StepsConfig) -> Self {
        Self {
            log_likelihood: scaled(q.clone(), cfg.beta),
            log_policy: q.clone(),
            q,
        }
    }
}

/// q, ll and log B of `actions` `[N]` from `logits` `[N, V]`.
pub fn action_values(
    logits: Tensor<2>,
    actions: Tensor<1, Int>,
    cfg: &StepsConfig,
) -> ActionValues {
    values(logits, actions, None, cfg)
}

/// The same with a reward weight `[N]` on every row of Q (`rwt = reward_and_q`); weights must be positive.
pub fn weighted_action_values(
    logits: Tensor<2>,
    actions: Tensor<1, Int>,
    weights: Tensor<1>,
    cfg: &StepsConfig,
) -> ActionValues {
    values(logits, actions, Some(weights), cfg)
}

fn values(
    logits: Tensor<2>,
    actions: Tensor<1, Int>,
    weights: Option<Tensor<1>>,
    cfg: &StepsConfig,
) -> ActionValues {
    // Log-sum-exp needs f32 or wider, also under a half-precision model.
    let logits = match logits.dtype() {
        DType::F32 | DType::F64 => logits,
        _ => logits.cast(FloatDType::F32),
    };
    let base = match cfg.q_mode {
        QMode::PaperProb => burn::tensor::activation::softmax(logits, 1),
        _ => logits,
    };
    // z[a] - logsumexp(z) touches [N, V] less often than a whole log_softmax and a gather from it.
    let taken = base
        .clone()
        .gather(1, actions.unsqueeze_dim(1))
        .mul_scalar(cfg.alpha);
    let q = match cfg.q_mode {
        QMode::Logits => taken.clone(),
        _ => taken.clone() - log_sum_exp(scaled(base.clone(), cfg.alpha)),
    };
    let weights: Option<Tensor<2>> = weights.map(|w| w.unsqueeze_dim(1));
    let temperature = match cfg.ll {
        LikelihoodForm::Normalised => cfg.beta,
        LikelihoodForm::PaperEq13 => 1.0,
    };
    // A log-softmax Q is its own log-policy; only a temperature, a weight or raw logits ask for a second pass.
    let normalised = cfg.q_mode != QMode::Logits && temperature == 1.0 && weights.is_none();
    let log_policy = if normalised {
        q.clone()
    } else {
        let mut wide = scaled(base, cfg.alpha * temperature);
        let mut narrow = taken.mul_scalar(temperature);
        if let Some(w) = &weights {
            wide = wide * w.clone();
            narrow = narrow * w.clone();
        }
        narrow - log_sum_exp(wide)
    };
    let q = match weights {
        Some(w) => q * w,
        None => q,
    };
    let log_likelihood = match cfg.ll {
        LikelihoodForm::Normalised => log_policy.clone(),
        LikelihoodForm::PaperEq13 => scaled(q.clone(), cfg.beta),
    };
    let flat = |x: Tensor<2>| x.squeeze_dim::<1>(1);
    ActionValues {
        q: flat(q),
        log_likelihood: flat(log_likelihood),
        log_policy: flat(log_policy),
    }
}

fn scaled(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 {
        x
    } else {
        x.mul_scalar(factor)
    }
}

/// log sum exp over V: `[N, V]` to `[N, 1]`. The maximum is a constant to the gradient: it cancels.
fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    let top = x.clone().detach().max_dim(1);
    (x - top.clone()).exp().sum_dim(1).log() + top
}

/// The reward head's outputs at every position, `[B, T]`.
#[derive(Clone, Debug)]
pub struct HeadValues {
    /// First output: the mean.
    pub mean: Tensor<2>,
    /// Second output, before `sigma_param` and the clamp.
    pub log_std: Tensor<2>,
    /// [`reward_weights`](super::reward_weights), where `rwt` is not off.
    pub weights: Option<Tensor<2>>,
}

/// What some methods need beside the steps; each is documented where it is read.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// `[P]` how much better the chosen answer was said to be (Bradley-Terry's row margin).
    pub margin: Option<Tensor<1>>,
    /// `[P]` probability that the chosen answer is the better one; 1 where absent (Preference Transformer).
    pub label: Option<Tensor<1>>,
    /// `[P]` mean score difference over an ensemble of reward models (Secrets of RLHF II).
    pub strength: Option<Tensor<1>>,
    /// `[P]` -1 for pairs whose label is flipped, else 1 (Secrets of RLHF II).
    pub sign: Option<Tensor<1>>,
    /// `[B, S]` +1 for good tokens, -1 for bad ones, 0 for the others (token supervision). 0 outside the mask.
    pub token_labels: Option<Tensor<2>>,
    /// Pairs with any token label in the whole batch; counted in this micro-batch where absent.
    pub labelled_pairs: Option<f64>,
    /// Two dropout passes' features `[B, H]` of the rows (contrastive terms).
    pub features: Option<[Tensor<2>; 2]>,
    /// Prototypes `[H, K]` of features (SwAV).
    pub prototypes: Option<Tensor<2>>,
}

/// Per-step numbers, `[B, S]` unless said. Made by [`assemble`]; 0 outside the step mask.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Q of the action taken.
    pub q: Tensor<2>,
    /// The likelihood term ll.
    pub log_likelihood: Tensor<2>,
    /// log B of the action.
    pub log_policy: Tensor<2>,
    /// Mean of the reward posterior.
    pub mean: Tensor<2>,
    /// Log standard deviation of the reward posterior, clamped.
    pub log_std: Tensor<2>,
    /// M as 0/1: the step counts.
    pub mask: Tensor<2>,
    /// C as 0/1: the next step may be looked at.
    pub bootstrap: Tensor<2>,
    /// 1 at the last step of each row, else 0.
    pub last: Tensor<2>,
    /// Where M is 0.
    pub outside: Tensor<2, Bool>,
    /// P: rows `0..P` are chosen, `P..2P` rejected.
    pub pairs: Option<usize>,
    /// The reference policy's log B; see [`Steps::with_reference`].
    pub reference_log_policy: Option<Tensor<2>>,
    /// Credit weights, where a method asks for them; see [`Steps::with_attention`].
    pub attention: Option<Tensor<2>>,
    /// The head's mean for the text before each step's token; see [`Steps::with_prefix_scores`].
    pub prefix_scores: Option<Tensor<2>>,
    /// Log of the prior's learned scale for each step's token type; see [`Steps::with_prior_log_scale`].
    pub prior_log_scale: Option<Tensor<2>>,
    /// What some methods need beside.
    pub extras: Extras,
    /// Counts over the whole batch.
    pub counts: Normaliser,
}

impl Steps {
    /// Q, likelihood, mean, log-std and mask without their graph, by name: what a broken step is searched in.
    pub fn numbers(&self) -> [(&'static str, Tensor<2>); 4] {
        [
            ("log-probability", &self.q),
            ("log-likelihood", &self.log_likelihood),
            ("reward mean", &self.mean),
            ("reward log-std", &self.log_std),
        ]
        .map(|(name, tensor)| (name, tensor.clone().inner()))
    }

    /// Adds the reference policy's log-probabilities `[B, S]`. No gradient flows into them.
    pub fn with_reference(mut self, log_policy: Tensor<2>) -> Self {
        let clean = log_policy.detach().mask_fill(self.outside.clone(), 0.0);
        self.reference_log_policy = Some(clean);
        self
    }

    /// Adds credit weights `[B, S]`, indexed by step.
    pub fn with_attention(mut self, weights: Tensor<2>) -> Self {
        self.attention = Some(weights.mask_fill(self.outside.clone(), 0.0));
        self
    }

    /// Adds the head's mean for the text before each step's token `[B, S]`: the prompt's at an answer's first token, the
    /// answer's so far at its others ([`Layout::score_places`]).
    pub fn with_prefix_scores(mut self, scores: Tensor<2>) -> Self {
        self.prefix_scores = Some(scores.mask_fill(self.outside.clone(), 0.0));
        self
    }

    /// Adds l_w of each step's token `[B, S]`, from the table of a learned [`Prior`](super::Prior).
    pub fn with_prior_log_scale(mut self, log_scale: Tensor<2>) -> Self {
        self.prior_log_scale = Some(log_scale.mask_fill(self.outside.clone(), 0.0));
        self
    }

    /// Adds what some methods need beside.
    pub fn with_extras(mut self, extras: Extras) -> Self {
        self.extras = extras;
        self
    }

    /// P; half the rows where the layout did not say.
    pub fn pair_count(&self) -> usize {
        self.pairs.unwrap_or(self.mask.dims()[0] / 2)
    }
}

/// `Steps` from step values `[B, S]` and head outputs `[B, T]` of one layout with T >= 2. `counts` are those of the whole
/// batch.
pub fn assemble(
    layout: &Layout,
    values: StepValues,
    head: HeadValues,
    cfg: &StepsConfig,
    counts: Normaliser,
    device: &Device,
) -> Steps {
    let shape = [layout.rows, layout.steps()];
    let steps = layout.steps();
    let mask = layout.step_mask();
    let mut last = vec![0f32; mask.len()];
    for (row, step) in layout.last_steps().iter().enumerate() {
        if let Some(step) = step {
            last[row * steps + step] = 1.0;
        }
    }
    let numbers = |v: Vec<f32>| Tensor::<2>::from_data(TensorData::new(v, shape), device);
    let zero_one = |v: &[bool]| numbers(v.iter().map(|m| f32::from(u8::from(*m))).collect());
    let outside: Vec<bool> = mask.iter().map(|m| !m).collect();
    let outside = Tensor::<2, Bool>::from_data(TensorData::new(outside, shape), device);
    let inside = |x: Tensor<2>| x.mask_fill(outside.clone(), 0.0);
    let first = match cfg.reward_read {
        RewardRead::NextState => 1,
        RewardRead::State => 0,
    };
    let read = |x: Tensor<2>| x.narrow(1, first, steps);
    // Selected before the exponentials and logarithms and again after them: garbage never meets arithmetic.
    let mut mean = inside(read(head.mean));
    let mut log_std = posterior::log_std(inside(read(head.log_std)), cfg);
    if let (false, Some(weights)) = (cfg.rwt == Rwt::Off, head.weights) {
        let w = read(weights).mask_fill(outside.clone(), 1.0);
        mean = mean * w.clone();
        log_std = log_std + w.log();
    }
    Steps {
        q: inside(values.q),
        log_likelihood: inside(values.log_likelihood),
        log_policy: inside(values.log_policy),
        mean,
        log_std: inside(log_std),
        mask: zero_one(&mask),
        bootstrap: zero_one(&layout.bootstrap_mask()),
        last: numbers(last),
        outside,
        pairs: layout.pairs,
        reference_log_policy: None,
        attention: None,
        prefix_scores: None,
        prior_log_scale: None,
        extras: Extras::default(),
        counts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden::values as read_back;

    #[test]
    fn a_constant_per_position_changes_only_raw_logits() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.1, -0.4, 2.0], [1.0, 0.0, -1.0]], &device);
        let moved = logits.clone() + Tensor::<2>::from_floats([[3.0], [-7.0]], &device);
        let actions = Tensor::<1, Int>::from_ints([2, 0], &device);
        for ll in [LikelihoodForm::Normalised, LikelihoodForm::PaperEq13] {
            let cfg = StepsConfig {
                alpha: 0.7,
                beta: 1.4,
                ll,
                ..StepsConfig::default()
            };
            let a = action_values(logits.clone(), actions.clone(), &cfg);
            let b = action_values(moved.clone(), actions.clone(), &cfg);
            for (x, y) in read_back(a.q).iter().zip(read_back(b.q)) {
                assert!((x - y).abs() < 1e-5);
            }
        }
        let cfg = StepsConfig {
            q_mode: QMode::Logits,
            ll: LikelihoodForm::Normalised,
            ..StepsConfig::default()
        };
        let a = action_values(logits, actions.clone(), &cfg);
        let b = action_values(moved, actions, &cfg);
        let shift: Vec<f64> = read_back(b.q)
            .iter()
            .zip(read_back(a.q))
            .map(|(y, x)| y - x)
            .collect();
        assert!((shift[0] - 3.0).abs() < 1e-5 && (shift[1] + 7.0).abs() < 1e-5);
        for (x, y) in read_back(a.log_policy).iter().zip(read_back(b.log_policy)) {
            assert!((x - y).abs() < 1e-5);
        }
    }

    #[test]
    fn large_logits_stay_finite() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[3e4, -3e4, 0.0]], &device);
        let actions = Tensor::<1, Int>::from_ints([1], &device);
        let v = action_values(logits, actions, &StepsConfig::default());
        assert_eq!(read_back(v.log_policy), [-6e4]);
    }
}
