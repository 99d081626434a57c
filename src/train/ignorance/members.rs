//! Several models' words on the same rows: an ensemble of runs, or one model under dropout.
//!
//! ```text
//! mean = mean_m mean_m            ignorance^2 = (1/(M-1)) sum_m (mean_m - mean)^2        std^2 = mean_m std_m^2
//! ```
//!
//! Ensemble: *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, arXiv 1612.01474; for reward
//! models arXiv 2310.02743. Dropout: Gal and Ghahramani, arXiv 1506.02142. A sample is one mask of hidden units for all
//! tokens of all rows, so that it is one function (arXiv 1512.05287): then batch, padding and order change nothing, and
//! what tokens share is counted in an answer's score.

use super::{AnswerVariance, annotate, annotate_margins};
use crate::model::{Weight, Weights};
use crate::objective::ScoreKind;
use crate::random::Rng;
use crate::reward::{
    AnswerScore, HEAD_WEIGHT, Ignorance, IgnoranceKind, Side, TokenRewardRecord, Trust,
};
use crate::train::{Metrics, Scored, Scorer, TrainError, score_of};
use burn::tensor::{Tensor, TensorData};

/// Every sample's records are kept until all are there.
const MOST_SAMPLES: usize = 1024;

/// Dropout at scoring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of the units that are dropped, above 0 and below 1.
    pub rate: f64,
    /// Masks drawn, at least 2.
    pub samples: usize,
    /// Seed of the masks.
    pub seed: u64,
}

impl Dropout {
    /// Refuses settings that give no spread.
    ///
    /// # Errors
    /// A rate outside 0 to 1, fewer than two samples.
    pub fn check(&self) -> Result<(), TrainError> {
        if !(self.rate > 0.0 && self.rate < 1.0) {
            return Err(TrainError::Ignorance(format!(
                "a dropout rate of {} drops nothing or everything; use a number above 0 and below 1",
                self.rate
            )));
        }
        if self.samples > MOST_SAMPLES {
            return Err(TrainError::Ignorance(format!(
                "{} dropout samples are too many to keep; draw at most {MOST_SAMPLES} (32 is usual)",
                self.samples
            )));
        }
        if self.samples < 2 {
            return Err(TrainError::Ignorance(
                "one dropout sample has no spread; draw at least 2 (32 is usual)".into(),
            ));
        }
        Ok(())
    }

    /// The scorer under one mask: hidden states before the reward head, and the inputs of every adapter. Units that stay
    /// are scaled by 1/(1-rate), so that the mean stays.
    fn sample(&self, scorer: &Scorer, index: usize) -> Scorer {
        let mut rng = Rng::stream(self.seed, index as u64);
        let mut masked = scorer.copied();
        let head = mask_rows(scorer.head.weights.clone(), self.rate, &mut rng, |name| {
            name == HEAD_WEIGHT
        });
        masked.head.weights = head;
        if let Some(lora) = &mut masked.model.decoder.lora {
            lora.weights = mask_rows(lora.weights.clone(), self.rate, &mut rng, |name| {
                name.ends_with("lora_A.weight")
            });
            // What is masked is below the states that others keep.
            masked.states = None;
        }
        masked
    }
}

/// Drops rows of the matrices that `chosen` names: dropping row i of W is dropping input i of x W. The head's second
/// column (the raw spread) is kept whole: the mean's ignorance is asked for, not the spread's.
fn mask_rows(weights: Weights, rate: f64, rng: &mut Rng, chosen: impl Fn(&str) -> bool) -> Weights {
    weights.map_each(|name, weight| match weight {
        Weight::Matrix(w) if chosen(name) => {
            let [rows, _] = w.dims();
            let kept = (1.0 / (1.0 - rate)) as f32;
            let mask: Vec<f32> = (0..rows)
                .map(|_| if rng.chance(rate) { 0.0 } else { kept })
                .collect();
            let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows, 1]), &w.device());
            Weight::Matrix(if name == HEAD_WEIGHT {
                let mean = w.clone().narrow(1, 0, 1) * mask;
                Tensor::cat(vec![mean, w.narrow(1, 1, 1)], 1)
            } else {
                w * mask
            })
        }
        weight => weight,
    })
}

impl Scorer {
    /// Token rewards with the ignorance that dropout shows: means are those of the whole model, the spread that of the
    /// samples.
    ///
    /// # Errors
    /// As [`Dropout::check`] and [`Scorer::score`].
    pub async fn score_with_dropout(
        &self,
        rows: &[crate::train::EncodedRow],
        dropout: &Dropout,
    ) -> Result<Scored, TrainError> {
        dropout.check()?;
        let mut shared = self.copied();
        if shared.model.decoder.lora.is_none() {
            // Every mask is above the trunk: all samples read the same states.
            shared.states.get_or_insert_default();
        }
        let mut whole = shared.score(rows).await?;
        let mut samples = Vec::with_capacity(dropout.samples);
        for index in 0..dropout.samples {
            samples.push(dropout.sample(&shared, index).score(rows).await?.records);
        }
        let adapters = match self.model.decoder.lora {
            Some(_) => " and the adapters' inputs",
            None => "",
        };
        let source = Ignorance {
            kind: IgnoranceKind::Dropout,
            detail: format!(
                "{} masks of rate {}, seed {}, on the hidden states before the reward head{adapters}",
                dropout.samples, dropout.rate, dropout.seed
            ),
        };
        // By a credit an answer's score is the sum of what it spread.
        spread(&mut whole.records, &samples, self.ranking_score(), &source)?;
        let mut tokens = whole.records.iter().flat_map(|record| &record.tokens);
        if tokens.all(|token| token.ignorance_std == Some(0.0)) {
            return Err(TrainError::Ignorance(format!(
                "no mask changes a token reward: those of `{}` do not read the reward head, and there are no adapters to mask; an ensemble of seeds needs neither",
                self.objective.name()
            )));
        }
        Ok(whole)
    }

    /// The same model, without what was set for reporting.
    pub(super) fn copied(&self) -> Self {
        Self {
            model: self.model.clone(),
            head: self.head.clone(),
            reference: self.reference.clone(),
            objective: self.objective.clone(),
            credit: self.credit,
            device: self.device.clone(),
            provenance: self.provenance.clone(),
            batch_size: self.batch_size,
            posterior: None,
            states: self.states.clone(),
        }
    }
}

/// One answer to the same rows from an ensemble's members. Members must be runs of one method that rank by `ranking`.
///
/// # Errors
/// Fewer than two members, members that scored other rows or read them with another tokenizer.
pub fn combine(members: Vec<Scored>, ranking: ScoreKind) -> Result<Scored, TrainError> {
    if members.len() < 2 {
        return Err(TrainError::Ignorance(
            "an ensemble of one has no spread: name at least one more run of the same method with another seed (--member)"
                .into(),
        ));
    }
    let n = members.len() as f64;
    let mut terms = Metrics::new();
    for member in &members {
        for (name, value) in &member.terms {
            *terms.entry(name.clone()).or_insert(0.0) += value / n;
        }
    }
    let all: Vec<Vec<TokenRewardRecord>> = members.into_iter().map(|m| m.records).collect();
    let mut records = all[0].clone();
    check_same(&all)?;
    let checkpoints: Vec<String> = all
        .iter()
        .filter_map(|member| Some(member.first()?.provenance.checkpoint.clone()))
        .collect();
    let source = Ignorance {
        kind: IgnoranceKind::Ensemble,
        detail: format!("{} runs: {}", all.len(), checkpoints.join("; ")),
    };
    for (i, record) in records.iter_mut().enumerate() {
        for (t, token) in record.tokens.iter_mut().enumerate() {
            let over = |f: fn(f64, f64) -> f64| {
                let each = all.iter().map(|member| {
                    let token = &member[i].tokens[t];
                    f(f64::from(token.mean), f64::from(token.std))
                });
                each.sum::<f64>() / n
            };
            token.mean = over(|mean, _| mean) as f32;
            token.std = over(|_, std| std * std).sqrt() as f32;
        }
        record.score = AnswerScore::from_tokens(&record.tokens);
        record.provenance.checkpoint = format!("ensemble of {}", all.len());
        // What a member's map passed says nothing of the members' average.
        record.provenance.trust = Trust::Exploratory;
        record.provenance.checked = Vec::new();
    }
    spread(&mut records, &all, ranking, &source)?;
    Ok(Scored {
        records,
        terms,
        // A residual belongs to one model's posterior.
        z: Vec::new(),
        // Neither does an ensemble have one policy.
        log_policy: Vec::new(),
    })
}

fn check_same(members: &[Vec<TokenRewardRecord>]) -> Result<(), TrainError> {
    let ids = |record: &TokenRewardRecord| record.tokens.iter().map(|t| t.id).collect::<Vec<_>>();
    let first = &members[0];
    for member in members {
        let same = member.len() == first.len()
            && member
                .iter()
                .zip(first)
                .all(|(a, b)| a.id == b.id && a.side == b.side && ids(a) == ids(b));
        if !same {
            return Err(TrainError::Ignorance(
                "the members did not read the same tokens from the same rows: they must share rows, tokenizer and length limit".into(),
            ));
        }
    }
    Ok(())
}

/// Writes the members' spread into `records`: sample variances (M - 1).
fn spread(
    records: &mut [TokenRewardRecord],
    members: &[Vec<TokenRewardRecord>],
    ranking: ScoreKind,
    source: &Ignorance,
) -> Result<(), TrainError> {
    check_same(members)?;
    let variance = |values: Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)
    };
    let over = |f: &dyn Fn(&[TokenRewardRecord]) -> f32| {
        variance(members.iter().map(|member| f64::from(f(member))).collect())
    };
    let sides: Vec<Side> = records.iter().map(|record| record.side).collect();
    for (i, record) in records.iter_mut().enumerate() {
        // Both sides of a pair follow each other, chosen first.
        let pair = match record.side {
            Side::Chosen => Some((i, i + 1)),
            Side::Rejected => i.checked_sub(1).map(|before| (before, i)),
            Side::Answer => None,
        }
        .filter(|(a, b)| {
            sides.get(*a) == Some(&Side::Chosen) && sides.get(*b) == Some(&Side::Rejected)
        });
        let tokens: Vec<f64> = (0..record.tokens.len())
            .map(|t| over(&|member| member[i].tokens[t].mean))
            .collect();
        let answer = AnswerVariance {
            tokens: Vec::new(),
            last: over(&|member| member[i].score.last),
            sum: over(&|member| member[i].score.sum),
            mean: over(&|member| member[i].score.mean),
            margin: pair.map(|(a, b)| {
                over(&|member| {
                    score_of(&member[a].score, ranking) - score_of(&member[b].score, ranking)
                })
            }),
        };
        let uncertainty = record.provenance.uncertainty;
        annotate(
            &mut record.tokens,
            &mut record.score,
            uncertainty,
            &tokens,
            &answer,
        );
        record.provenance.ignorance = Some(source.clone());
    }
    annotate_margins(records, ranking);
    Ok(())
}
