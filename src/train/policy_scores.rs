//! The log-probability that a model gives each token, as if it were a reward: a floor for every token map. A likely text
//! is not a good one, and a map that does no better than this has learned likelihood.

use super::run::{LoadedModel, fresh_head};
use super::scorer::Scorer;
use crate::credit::CREDITS;
use crate::device::OpenDevice;
use crate::objective::{Evaluation, Objective, Progress, RowKind, ScoreKind, Scores, TokenRewards};
use crate::reward::{Provenance, Steps, StepsConfig, Trust, Uncertainty};

/// log pi(token | text before it) in nats as the token's reward, no standard deviation. It trains nothing and is in no
/// list of methods; it only scores.
pub struct LogProbability {
    steps: StepsConfig,
    score: ScoreKind,
}

impl LogProbability {
    /// Answers ranked by the `score` of their tokens' log-probabilities: the sum favours short answers, the mean does not.
    pub fn new(score: ScoreKind) -> Self {
        Self {
            steps: StepsConfig::default(),
            score,
        }
    }
}

impl Objective for LogProbability {
    fn name(&self) -> &'static str {
        "log_probability"
    }

    fn rows(&self) -> RowKind {
        RowKind::Demonstrations
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.steps
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn ranking_score(&self) -> ScoreKind {
        self.score
    }

    /// The loss is the negative log-likelihood of a token, in nats.
    fn evaluate(&self, steps: &Steps, _progress: Progress) -> Evaluation {
        let sum = (steps.log_policy.clone() * steps.mask.clone()).sum();
        Evaluation {
            loss: sum.neg().div_scalar(steps.counts.steps.max(1.0)),
            terms: Vec::new(),
            scores: Scores::from_rewards(
                steps,
                steps.log_policy.clone(),
                steps.log_policy.zeros_like(),
            )
            .detach(),
        }
    }

    fn token_rewards(&self, steps: &Steps) -> TokenRewards {
        TokenRewards {
            mean: steps.log_policy.clone(),
            std: None,
        }
    }
}

impl Scorer {
    /// Scores rows by the log-probabilities of `model` itself, which is not trained.
    pub fn of_policy(
        model: LoadedModel,
        score: ScoreKind,
        device: OpenDevice,
        batch_size: usize,
    ) -> Self {
        let objective = LogProbability::new(score);
        let head = fresh_head(&objective, &model.decoder.config, 0, &device.device);
        let provenance = Provenance {
            method: objective.name().into(),
            model: model.name.clone(),
            checkpoint: "untrained".into(),
            device: format!("{} ({})", device.info.backend, device.info.adapter),
            precision: device.info.precision.clone(),
            uncertainty: Uncertainty::PriorOnly,
            credit: CREDITS[0].name.into(),
            ignorance: None,
            trust: Trust::Exploratory,
            checked: Vec::new(),
        };
        Self {
            model,
            head,
            reference: None,
            objective: std::sync::Arc::new(objective),
            device,
            provenance,
            batch_size: batch_size.max(1),
            credit: &CREDITS[0],
            posterior: None,
            states: None,
        }
    }
}
