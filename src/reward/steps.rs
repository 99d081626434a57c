//! `Steps`: the per-token numbers that every method reads. Everything to the right of it works on `[B, S]` tensors and
//! never sees the vocabulary, the model or a file.
//!
//! Source: AVA, arXiv 2411.09341, Eq. 8-14. Choices that the paper leaves open are switches of [`StepsConfig`]; the
//! defaults are the ones this project recommends.

use super::Layout;
use super::weights::{RewardWeights, reward_weights};
use burn::tensor::activation::{log_softmax, softmax, softplus};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How Q is read from the language model's logits z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QMode {
    /// log softmax(alpha z): the state's soft value is fixed at 0.
    #[default]
    LogSoftmax,
    /// alpha z: keeps a free constant per state.
    Logits,
    /// log softmax(alpha softmax(z)): Eq. 12 to the letter; needs a large alpha.
    #[serde(rename = "paper_prob")]
    PaperProb,
}

/// The likelihood term of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LikelihoodForm {
    /// log softmax(beta Q)[a]: beta is an inverse temperature.
    Normalised,
    /// beta Q[a], Eq. 13: with a log-softmax Q, beta is the likelihood's weight.
    #[default]
    PaperEq13,
}

/// Where the reward of a step is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardRead {
    /// At position s+1: a function of the state and the action.
    #[default]
    NextState,
    /// At position s: Eq. 9-10 to the letter; it cannot see the action.
    State,
}

/// How the head's raw number becomes the posterior's spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaParam {
    /// The raw number is log sigma.
    #[default]
    LogSd,
    /// sigma = softplus(raw) + `sigma_eps`.
    Softplus,
}

/// Which head outputs the reward weights of Eq. 11 multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightOn {
    /// None ("w/o rwt").
    #[default]
    Off,
    /// Mean and sigma.
    Reward,
    /// Mean, sigma and Q: the paper to the letter.
    RewardAndQ,
}

/// The scale of the reward weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightScale {
    /// They sum to 1 over a row.
    #[default]
    Literal,
    /// Their mean over a row is 1.
    Length,
}

/// The switches that decide what a step's numbers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepsConfig {
    /// Form of Q.
    pub q_mode: QMode,
    /// Temperature of Q.
    pub alpha: f64,
    /// Weight or inverse temperature of the likelihood.
    pub beta: f64,
    /// Form of the likelihood.
    pub ll: LikelihoodForm,
    /// Where rewards are read.
    pub reward_read: RewardRead,
    /// Form of sigma.
    pub sigma_param: SigmaParam,
    /// Smallest sigma under `softplus`.
    pub sigma_eps: f64,
    /// Hard limits of log sigma; the gradient outside them is zero. `null` sets none.
    pub rho_clamp: Option<[f64; 2]>,
    /// Reward weights.
    pub rwt: WeightOn,
    /// Their scale.
    pub rwt_scale: WeightScale,
    /// Whether a query sees earlier keys only.
    pub rwt_causal: bool,
    /// Whether scores are divided by the square root of the key width.
    pub rwt_sqrt_d: bool,
}

impl Default for StepsConfig {
    fn default() -> Self {
        Self {
            q_mode: QMode::LogSoftmax,
            alpha: 1.0,
            beta: 1.0,
            ll: LikelihoodForm::PaperEq13,
            reward_read: RewardRead::NextState,
            sigma_param: SigmaParam::LogSd,
            sigma_eps: 1e-3,
            // f32 stays safe: sigma between 0.0067 and 7.4.
            rho_clamp: Some([-5.0, 2.0]),
            rwt: WeightOn::Off,
            rwt_scale: WeightScale::Literal,
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

    /// The raw number at which sigma is 1, so that an untrained head is the prior.
    pub fn raw_spread_at_prior(&self) -> f32 {
        match self.sigma_param {
            SigmaParam::LogSd => 0.0,
            // softplus(x) = 1 - eps.
            SigmaParam::Softplus => (1.0 - self.sigma_eps).exp_m1().ln() as f32,
        }
    }
}

/// Counts over a whole optimiser step, so that the losses of its micro-batches simply add up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normaliser {
    /// Steps that count.
    pub steps: f64,
    /// Sequences.
    pub rows: f64,
    /// Pairs.
    pub pairs: f64,
}

/// What the vocabulary says of N chosen actions, each `[N]`.
#[derive(Clone, Debug)]
pub struct ActionValues {
    /// Q of the action.
    pub q: Tensor<1>,
    /// The likelihood term.
    pub log_likelihood: Tensor<1>,
    /// Log-probability of the action under the policy whose unlikelihood is trained: softmax(beta Q) for the
    /// normalised likelihood, softmax(Q) otherwise.
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
}

/// Reads N actions from logits `[N, V]`. `q_weight` `[N]` multiplies Q (reward weights on Q).
pub fn action_values(
    logits: Tensor<2>,
    actions: Tensor<1, Int>,
    q_weight: Option<Tensor<1>>,
    cfg: &StepsConfig,
) -> ActionValues {
    let [n, _] = logits.dims();
    let actions = actions.reshape([n, 1]);
    let alpha = cfg.alpha;
    let scaled = |z: Tensor<2>, factor: f64| {
        if factor == 1.0 {
            z
        } else {
            z.mul_scalar(factor)
        }
    };

    if cfg.reads_log_probabilities() && q_weight.is_none() {
        let q = log_softmax(scaled(logits, alpha), 1)
            .gather(1, actions)
            .reshape([n]);
        return ActionValues::of_log_probabilities(q, cfg);
    }

    let mut q_row = match cfg.q_mode {
        QMode::LogSoftmax => log_softmax(scaled(logits, alpha), 1),
        QMode::Logits => scaled(logits, alpha),
        QMode::PaperProb => log_softmax(scaled(softmax(logits, 1), alpha), 1),
    };
    if let Some(weight) = q_weight {
        q_row = q_row * weight.reshape([n, 1]);
    }
    let q = q_row.clone().gather(1, actions.clone()).reshape([n]);
    let inverse_temperature = match cfg.ll {
        LikelihoodForm::Normalised => cfg.beta,
        LikelihoodForm::PaperEq13 => 1.0,
    };
    let log_policy = log_softmax(scaled(q_row, inverse_temperature), 1)
        .gather(1, actions)
        .reshape([n]);
    let log_likelihood = match cfg.ll {
        LikelihoodForm::Normalised => log_policy.clone(),
        LikelihoodForm::PaperEq13 => q.clone().mul_scalar(cfg.beta),
    };
    ActionValues {
        q,
        log_likelihood,
        log_policy,
    }
}

/// [`ActionValues`] in their places, each `[B, S]`, zero where no step counts.
#[derive(Clone, Debug)]
pub struct PerStep {
    /// Q of the action.
    pub q: Tensor<2>,
    /// The likelihood term.
    pub log_likelihood: Tensor<2>,
    /// The policy's log-probability.
    pub log_policy: Tensor<2>,
}

/// The per-token numbers of a batch, each `[B, S]`. Values where `mask` is 0 mean nothing and may be anything finite.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Q of the action.
    pub q: Tensor<2>,
    /// The likelihood term.
    pub log_likelihood: Tensor<2>,
    /// The policy's log-probability of the action.
    pub log_policy: Tensor<2>,
    /// The reward posterior's mean.
    pub mean: Tensor<2>,
    /// Its log standard deviation.
    pub log_std: Tensor<2>,
    /// M: 1 where the step counts, else 0.
    pub mask: Tensor<2>,
    /// C: 1 where the next step may be used as bootstrap, else 0.
    pub bootstrap: Tensor<2>,
    /// 1 at the last answer step of each row, else 0.
    pub last: Tensor<2>,
    /// P, when rows `0..P` are chosen and rows `P..2P` their rejected counterparts.
    pub pairs: Option<usize>,
    /// The reference policy's log-probability, where a method asks for it.
    pub reference_log_policy: Option<Tensor<2>>,
    /// Per pair `[P]`: the annotators' margin, where the rows have one.
    pub margin: Option<Tensor<1>>,
    /// Counts over the optimiser step.
    pub counts: Normaliser,
}

impl Steps {
    /// The same numbers without their graph.
    pub fn detached(&self) -> Self {
        let mut steps = self.clone();
        for tensor in [
            &mut steps.q,
            &mut steps.log_likelihood,
            &mut steps.log_policy,
            &mut steps.mean,
            &mut steps.log_std,
            &mut steps.mask,
            &mut steps.bootstrap,
            &mut steps.last,
        ] {
            *tensor = tensor.clone().inner();
        }
        steps.reference_log_policy = steps.reference_log_policy.map(Tensor::inner);
        steps.margin = steps.margin.map(Tensor::inner);
        steps
    }
}

/// What the reward head says of every position: mean and raw spread `[B, T]`, and, with reward weights, queries and
/// keys `[B, T, d]`.
pub struct HeadOutput {
    /// Posterior mean before weighting.
    pub mean: Tensor<2>,
    /// Raw spread: see [`SigmaParam`].
    pub raw: Tensor<2>,
    /// Reward weights `[B, T]`, where they are on.
    pub weights: Option<Tensor<2>>,
}

impl HeadOutput {
    /// Adds reward weights from queries and keys, where the configuration asks for them.
    pub fn weighted(
        mut self,
        queries: Tensor<3>,
        keys: Tensor<3>,
        layout: &Layout,
        cfg: &StepsConfig,
    ) -> Self {
        if cfg.rwt != WeightOn::Off {
            let switches = RewardWeights {
                causal: cfg.rwt_causal,
                sqrt_d: cfg.rwt_sqrt_d,
                length: cfg.rwt_scale == WeightScale::Length,
            };
            self.weights = Some(reward_weights(queries, keys, layout, switches));
        }
        self
    }
}

/// Puts a batch's `Steps` together.
pub fn assemble(
    layout: &Layout,
    values: PerStep,
    head: HeadOutput,
    cfg: &StepsConfig,
    counts: Normaliser,
    device: &Device,
) -> Steps {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let (mut mean, mut log_std) = (head.mean, head.raw);
    log_std = match (cfg.sigma_param, cfg.rho_clamp) {
        (SigmaParam::Softplus, _) => softplus(log_std, 1.0).add_scalar(cfg.sigma_eps).log(),
        (SigmaParam::LogSd, Some([low, high])) => log_std.clamp(low, high),
        (SigmaParam::LogSd, None) => log_std,
    };
    if let Some(weights) = head.weights {
        mean = mean * weights.clone();
        log_std = log_std + weights.log();
    }
    let read = match cfg.reward_read {
        RewardRead::NextState => 1..t,
        RewardRead::State => 0..s,
    };
    let mask_values = layout.step_mask();
    let upload = |values: &[bool]| {
        let values: Vec<f32> = values.iter().map(|v| f32::from(u8::from(*v))).collect();
        Tensor::<2>::from_data(TensorData::new(values, [b, s]), device)
    };
    let mut last = vec![false; b * s];
    for (row, step) in layout.last_steps().into_iter().enumerate() {
        if let Some(step) = step {
            last[row * s + step] = true;
        }
    }
    let mask = upload(&mask_values);
    // A select, not a product: padding may hold infinities, and 0 times infinity is NaN, in value and in gradient.
    let unused = mask.clone().equal_scalar(0.0);
    let masked = |x: Tensor<2>| x.mask_fill(unused.clone(), 0.0);
    Steps {
        q: masked(values.q),
        log_likelihood: masked(values.log_likelihood),
        log_policy: masked(values.log_policy),
        mean: masked(mean.slice([0..b, read.clone()])),
        log_std: masked(log_std.slice([0..b, read])),
        mask,
        bootstrap: upload(&layout.bootstrap_mask()),
        last: upload(&last),
        pairs: layout.pairs,
        reference_log_policy: None,
        margin: None,
        counts,
    }
}

/// All positions at once: logits `[B, T, V]`. The training loop computes only answer positions; this is the plain
/// reference that it is tested against, and what golden values are held to.
pub fn steps_from_logits(
    layout: &Layout,
    logits: Tensor<3>,
    head: HeadOutput,
    cfg: &StepsConfig,
    counts: Normaliser,
    device: &Device,
) -> Steps {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let [_, _, v] = logits.dims();
    let mut actions = Vec::with_capacity(b * s);
    for row in layout.ids.chunks(t.max(1)) {
        actions.extend(row.iter().skip(1).map(|id| (*id).min(v as u32 - 1) as i32));
    }
    let actions = Tensor::<1, Int>::from_data(TensorData::new(actions, [b * s]), device);
    let q_weight = match (&head.weights, cfg.rwt) {
        (Some(weights), WeightOn::RewardAndQ) => {
            Some(weights.clone().slice([0..b, 0..s]).reshape([b * s]))
        }
        _ => None,
    };
    let rows = logits.slice([0..b, 0..s, 0..v]).reshape([b * s, v]);
    let values = action_values(rows, actions, q_weight, cfg);
    let place = |x: Tensor<1>| x.reshape([b, s]);
    let values = PerStep {
        q: place(values.q),
        log_likelihood: place(values.log_likelihood),
        log_policy: place(values.log_policy),
    };
    assemble(layout, values, head, cfg, counts, device)
}
