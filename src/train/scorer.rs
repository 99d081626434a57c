//! Scoring rows: token-reward records, and the figures of an evaluation.

use super::dataset::{EncodedRow, layout};
use super::figures::figures;
use super::forward::{Pass, Reader, TrunkStates, read_steps, run_trunk, score_places};
use super::ignorance::{AnswerVariance, Posterior, annotate, annotate_margins};
use super::run::{LoadedModel, Run, count};
use super::trunk_cache::SharedStates;
use super::{Metrics, TrainConfig, TrainError, Trainable};
use crate::credit::{AnswerMask, CREDITS, Credit, Sequence};
use crate::device::OpenDevice;
use crate::objective::{Objective, Progress, RowKind, ScoreKind, Scores, TokenRewards};
use crate::reward::{
    AnswerScore, Layout, Provenance, RewardHead, SCHEMA, Steps, TokenReward, TokenRewardRecord,
    Trust, Uncertainty,
};
use crate::text::{EncodedAnswer, TextTokenizer};
use burn::tensor::Tensor;
use std::sync::Arc;

/// What one evaluation pass reads back from a batch.
pub struct Scored {
    /// One record an answer; both sides of a pair follow each other.
    pub records: Vec<TokenRewardRecord>,
    /// The objective's loss and terms on these rows, weighted by rows.
    pub terms: Metrics,
    /// Of each record (delta - mean)/std of every step, where the method has a temporal-difference target and the token
    /// rewards are its own; else empty lists.
    pub z: Vec<Vec<f64>>,
    /// Of each record, the log-probability of each of its tokens under the model's own policy; empty for an ensemble.
    pub log_policy: Vec<Vec<f32>>,
}

/// What is known of one answer once its batch was scored.
struct ScoredAnswer {
    record: TokenRewardRecord,
    log_policy: Vec<f32>,
    z: Vec<f64>,
}

/// A trained (or untrained) model that scores rows: no optimiser, no graph.
pub struct Scorer {
    pub(super) model: LoadedModel,
    pub(super) head: RewardHead,
    /// The policy before training, for methods whose token rewards are held against it.
    pub(super) reference: Option<crate::model::Decoder>,
    pub(super) objective: Arc<dyn Objective>,
    /// How a sequence's reward is spread over its tokens.
    pub(super) credit: &'static Credit,
    pub(super) device: OpenDevice,
    pub(super) provenance: Provenance,
    pub(super) batch_size: usize,
    /// Laplace's approximation, where one was set.
    pub(super) posterior: Option<Posterior>,
    /// States of the trunk that other scorers of it may have computed; none where it moves.
    pub(super) states: Option<SharedStates>,
}

impl Scorer {
    /// The model that a checkpoint holds: `model` is what its run began with. Tensors that the checkpoint trained
    /// replace those of `model`.
    pub async fn from_checkpoint(
        model: LoadedModel,
        bytes: &[u8],
        device: OpenDevice,
    ) -> Result<Self, TrainError> {
        Self::with_credit(model, bytes, device, &CREDITS[0]).await
    }

    /// The same, with token rewards by `credit` in place of the method's own.
    ///
    /// # Errors
    /// As [`Scorer::from_checkpoint`], and where the credit does not fit the run.
    pub async fn with_credit(
        model: LoadedModel,
        bytes: &[u8],
        device: OpenDevice,
        credit: &'static Credit,
    ) -> Result<Self, TrainError> {
        super::checkpoint::scorer(model, bytes, device, credit).await
    }

    /// How a sequence's reward is spread over its tokens.
    pub fn credit(&self) -> &'static Credit {
        self.credit
    }

    /// The score of an answer that ranks: the one that the method trains, or the sum of what a credit spread.
    pub fn ranking_score(&self) -> ScoreKind {
        if self.credit.is_own() {
            self.objective.ranking_score()
        } else {
            ScoreKind::Sum
        }
    }

    /// Rows (pairs or answers) that are scored together; at least one. It costs or saves memory and time, and changes
    /// no score beyond float noise.
    pub fn set_batch_size(&mut self, rows: usize) {
        self.batch_size = rows.max(1);
    }

    /// How the numbers are obtained.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Says how far the map may be trusted, once it was held against truths: `checked` names those that it passed.
    pub fn set_trust(&mut self, trust: Trust, checked: Vec<String>) {
        self.provenance.trust = trust;
        self.provenance.checked = checked;
    }

    /// The model, without autodiff.
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    /// The objective that trained it.
    pub fn objective(&self) -> &dyn Objective {
        self.objective.as_ref()
    }

    /// Token rewards of `rows`. Rows of like length are scored together; the order of the result is that of `rows`.
    pub async fn score(&self, rows: &[EncodedRow]) -> Result<Scored, TrainError> {
        let pad = pad_of(&self.model.tokenizer);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| rows[*row].tokens());

        let mut by_row: Vec<Vec<ScoredAnswer>> = (0..rows.len()).map(|_| Vec::new()).collect();
        let mut terms = Metrics::new();
        for batch in order.chunks(self.batch_size.max(1)) {
            let members: Vec<&EncodedRow> = batch.iter().map(|row| &rows[*row]).collect();
            let layout = layout(&members, pad);
            let normaliser = count(std::slice::from_ref(&layout));
            let device = &self.device.device;
            let trunk = self.trunk_states(&layout).await?;
            let variances = match &self.posterior {
                Some(posterior) => {
                    let variances = posterior.variances(self, &members, &layout, &trunk).await?;
                    if let Some(answer) = variances.iter().find(|v| !v.is_finite()) {
                        return Err(TrainError::Ignorance(format!(
                            "a variance left the range of numbers ({}): name another prior variance",
                            answer.sum
                        )));
                    }
                    Some(variances)
                }
                None => None,
            };
            let Pass {
                steps,
                head_mean,
                attention,
            } = read_steps(
                Reader {
                    decoder: &self.model.decoder,
                    head: &self.head,
                    objective: self.objective.as_ref(),
                    reference: self.reference.as_ref(),
                },
                &layout,
                normaliser,
                device,
                trunk,
            );
            let steps = steps.with_extras(super::extras::extras(
                self.objective.as_ref(),
                &members,
                &layout,
                &self.device.device,
            )?);
            // Pairs scored by a method of demonstrations (or the reverse) have no loss, but have rewards.
            let fits = layout.pairs.is_some() == (self.objective.rows() == RowKind::Pairs);
            if fits {
                // Past any warm-up: every term at its full weight.
                let progress = Progress::END;
                let evaluation = self.objective.evaluate(&steps, progress);
                let weight = members.len() as f64 / rows.len() as f64;
                let loss = super::read(evaluation.loss).await?;
                *terms.entry("loss".into()).or_insert(0.0) +=
                    weight * f64::from(loss.first().copied().unwrap_or(f32::NAN));
            }
            let rewards = self.objective.token_rewards(&steps);
            let rewards = match self.credit.is_own() {
                true => rewards,
                false => TokenRewards {
                    mean: self.credited(rewards.mean, &steps, head_mean, attention, &layout)?,
                    std: None,
                },
            };
            let mean = rewards.mean;
            // A method without a posterior keeps what the head began with: the prior.
            let std = rewards.std.unwrap_or_else(|| steps.mask.ones_like());
            let target = match self.credit.is_own() {
                true => self.objective.td_target(&steps),
                false => None,
            };
            let mean = super::read(mean).await?;
            let std = super::read(std).await?;
            let log_policy = super::read(steps.log_policy.clone()).await?;
            let target = match target {
                Some(target) => Some(super::read(target).await?),
                None => None,
            };
            let s = layout.steps();
            let mask = layout.step_mask();
            for (i, counts) in mask.iter().enumerate() {
                if *counts && !(mean[i].is_finite() && std[i].is_finite()) {
                    let row = members[(i / s) % members.len()];
                    return Err(TrainError::NonFiniteReward {
                        id: row.id.clone(),
                        line: row.line,
                        checkpoint: self.provenance.checkpoint.clone(),
                    });
                }
            }
            let sides = if layout.pairs.is_some() { 2 } else { 1 };
            for (k, row) in batch.iter().enumerate() {
                for side in 0..sides {
                    let sequence = side * members.len() + k;
                    let steps = sequence * s..(sequence + 1) * s;
                    let record = self.record(
                        &rows[*row],
                        side,
                        &mean[steps.clone()],
                        &std[steps.clone()],
                        variances.as_ref().map(|all| &all[sequence]),
                    );
                    let said = answer_tokens(&rows[*row].sides[side].encoded)
                        .map(|i| log_policy[steps.start + i - 1])
                        .collect();
                    let z = target.as_ref().map_or_else(Vec::new, |target| {
                        steps
                            .filter(|i| mask[*i])
                            .map(|i| f64::from((target[i] - mean[i]) / std[i]))
                            .collect()
                    });
                    by_row[*row].push(ScoredAnswer {
                        record,
                        log_policy: said,
                        z,
                    });
                }
            }
        }
        let (mut records, mut log_policy, mut z) = (Vec::new(), Vec::new(), Vec::new());
        for answer in by_row.into_iter().flatten() {
            records.push(answer.record);
            log_policy.push(answer.log_policy);
            z.push(answer.z);
        }
        annotate_margins(&mut records, self.ranking_score());
        Ok(Scored {
            records,
            terms,
            z,
            log_policy,
        })
    }

    pub(super) async fn trunk_states(&self, layout: &Layout) -> Result<TrunkStates, TrainError> {
        let (decoder, objective) = (&self.model.decoder, self.objective.as_ref());
        let device = &self.device.device;
        let attention = self.credit.needs.attention;
        match &self.states {
            // Attention is not kept: it is as large as all states together.
            Some(shared) if !attention => shared.states(decoder, objective, layout, device).await,
            _ => Ok(run_trunk(decoder, objective, layout, device, attention)),
        }
    }

    /// Token rewards `[B, S]` by the credit, from the method's own.
    fn credited(
        &self,
        own: Tensor<2>,
        steps: &Steps,
        head_mean: Tensor<2>,
        attention: Option<Tensor<4>>,
        layout: &Layout,
    ) -> Result<Tensor<2>, TrainError> {
        let device = &self.device.device;
        let (rows, tokens) = (layout.rows, layout.tokens);
        // The reward of step s belongs to token s+1.
        let zero = Tensor::<2>::zeros([rows, 1], device);
        let by_token = |x: Tensor<2>| Tensor::cat(vec![zero.clone(), x], 1);
        let mask = layout.step_mask();
        let answer: Vec<bool> = (0..rows * tokens)
            .map(|at| at % tokens > 0 && mask[at / tokens * (tokens - 1) + at % tokens - 1])
            .collect();

        let ranking = self.objective.ranking_score();
        let scores = Scores::from_rewards(steps, own.clone(), own.zeros_like());
        let own = by_token(own);
        let prefix = self.credit.needs.prefixes.then(|| match ranking {
            ScoreKind::Last => head_mean.gather(1, score_places(layout, device)),
            ScoreKind::Sum => own.clone().cumsum(1),
            ScoreKind::Mean => {
                let count = by_token(steps.mask.clone()).cumsum(1).clamp_min(1.0);
                own.clone().cumsum(1) / count
            }
        });
        let sequence = Sequence {
            own,
            reward: scores.get(ranking),
            prefix,
            answer: AnswerMask::new(&answer, rows, device),
            attention,
            log_policy: by_token(steps.log_policy.clone()),
            reference_log_policy: steps.reference_log_policy.clone().map(by_token),
            beta: self.objective.beta(),
        };
        let spread = (self.credit.spread)(&sequence).ok_or_else(|| {
            TrainError::Rows(format!(
                "the credit `{}` needs what this scorer does not compute: open it from its checkpoint with that credit",
                self.credit.name
            ))
        })?;
        Ok(spread.narrow(1, 1, layout.steps()))
    }

    fn record(
        &self,
        row: &EncodedRow,
        side: usize,
        mean: &[f32],
        std: &[f32],
        variance: Option<&AnswerVariance>,
    ) -> TokenRewardRecord {
        let part = &row.sides[side];
        let encoded = &part.encoded;
        let characters: Vec<char> = encoded.answer_text.chars().collect();
        // In a chat of several turns only the last answer is shown; earlier answers' tokens carry no offsets.
        let mut tokens: Vec<TokenReward> = answer_tokens(encoded)
            .map(|i| {
                let (start, end) =
                    encoded.offsets[i].unwrap_or((characters.len(), characters.len()));
                let covered: String = characters
                    .get(start..end)
                    .map(|part| part.iter().collect())
                    .unwrap_or_default();
                let truth = part.truth.as_ref().and_then(|truth| truth[i]);
                TokenReward {
                    id: encoded.ids[i],
                    text: if covered.is_empty() {
                        self.model
                            .tokenizer
                            .token(encoded.ids[i])
                            .unwrap_or_default()
                    } else {
                        covered
                    },
                    start,
                    end,
                    mean: mean.get(i - 1).copied().unwrap_or(f32::NAN),
                    std: std.get(i - 1).copied().unwrap_or(f32::NAN),
                    ignorance_std: None,
                    total_std: None,
                    true_mean: truth.map(|(mean, _)| mean),
                    true_std: truth.map(|(_, std)| std).filter(|std| std.is_finite()),
                    labelled: part.labelled.as_ref().map(|labelled| labelled[i]),
                }
            })
            .collect();
        let mut score = AnswerScore::from_tokens(&tokens);
        if let Some(variance) = variance {
            let own: Vec<f64> = answer_tokens(encoded)
                .map(|i| variance.tokens.get(i - 1).copied().unwrap_or(0.0))
                .collect();
            let uncertainty = self.provenance.uncertainty;
            annotate(&mut tokens, &mut score, uncertainty, &own, variance);
        }
        TokenRewardRecord {
            schema: SCHEMA.into(),
            id: row.id.clone(),
            side: row.side(side),
            label: row.label_of(side),
            prompt: row.prompt.clone(),
            answer: encoded.answer_text.clone(),
            truncated: encoded.truncated,
            provenance: self.provenance.clone(),
            score,
            tokens,
        }
    }
}

/// The answer's tokens that have a state before them, by their place in `ids`.
pub(super) fn answer_tokens(encoded: &EncodedAnswer) -> impl Iterator<Item = usize> {
    (1..encoded.ids.len()).filter(|i| encoded.resp[*i])
}

impl Run {
    /// The model as it is now, for scoring by the method's own token rewards.
    pub fn scorer(&self) -> Result<Scorer, TrainError> {
        self.scorer_with(&CREDITS[0])
    }

    /// The model as it is now, for scoring by `credit`.
    ///
    /// # Errors
    /// Where the credit does not fit the run, or asks for the policy before training and the run kept none.
    pub fn scorer_with(&self, credit: &'static Credit) -> Result<Scorer, TrainError> {
        let moves = !matches!(self.config.trainable, Trainable::Heads);
        credit.check(self.objective.as_ref(), moves)?;
        if credit.needs.reference && self.reference.is_none() {
            return Err(TrainError::Rows(format!(
                "`{}` keeps no copy of the policy before training, which the credit `{}` needs: write a checkpoint, and open that with this credit",
                self.config.method, credit.name
            )));
        }
        let mut model = self.model.clone();
        model.decoder.weights = model.decoder.weights.inner();
        if let Some(lora) = &mut model.decoder.lora {
            lora.weights = lora.weights.clone().inner();
        }
        let mut head = self.head.clone();
        head.weights = head.weights.inner();
        let objective = crate::objective::build(&self.config.method, &self.config.options)?;
        Ok(Scorer {
            provenance: provenance(
                &self.config,
                &self.model.name,
                self.step,
                &self.device,
                objective.as_ref(),
                credit,
            ),
            model,
            head,
            reference: self.reference.clone(),
            objective: objective.into(),
            credit,
            device: self.device.clone(),
            batch_size: self.config.batch_size,
            posterior: None,
            states: None,
        })
    }

    /// The same, sharing the states of a frozen trunk with other scorers, which must be of runs of one model on one device. Where
    /// the trunk moves, nothing is shared.
    ///
    /// # Errors
    /// As [`Run::scorer_with`].
    pub fn scorer_sharing(
        &self,
        credit: &'static Credit,
        states: &SharedStates,
    ) -> Result<Scorer, TrainError> {
        let mut scorer = self.scorer_with(credit)?;
        if matches!(self.config.trainable, Trainable::Heads) {
            scorer.states = Some(states.clone());
        }
        Ok(scorer)
    }

    /// Figures on the held-out rows (the first `eval_rows` of them), each under `eval_`.
    pub async fn evaluate(&self) -> Result<Metrics, TrainError> {
        let limit = match self.config.eval_rows {
            0 => self.held_out.len(),
            limit => limit.min(self.held_out.len()),
        };
        let scored = self.scorer()?.score(&self.held_out[..limit]).await?;
        Ok(figures(&scored, self.objective.ranking_score()))
    }
}

/// How the numbers of a run's model are obtained.
pub(super) fn provenance(
    config: &TrainConfig,
    model: &str,
    step: usize,
    device: &OpenDevice,
    objective: &dyn Objective,
    credit: &Credit,
) -> Provenance {
    Provenance {
        method: config.method.clone(),
        model: model.into(),
        checkpoint: match step {
            0 => "untrained".into(),
            step => format!("step {step} of {}, seed {}", config.steps, config.seed),
        },
        device: format!("{} ({})", device.info.backend, device.info.adapter),
        precision: device.info.precision.clone(),
        uncertainty: match credit.is_own() {
            true => objective.uncertainty(),
            false => Uncertainty::PriorOnly,
        },
        credit: credit.name.into(),
        ignorance: None,
        trust: Trust::Exploratory,
        checked: Vec::new(),
    }
}

/// The id that fills padding. Its value never matters: padding is masked everywhere.
pub(super) fn pad_of(tokenizer: &TextTokenizer) -> u32 {
    tokenizer.pad().or(tokenizer.eos()).unwrap_or(0)
}
