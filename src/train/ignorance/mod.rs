//! Ignorance: how far a learned reward may be off for want of data. Beside the method's own spread, which does not shrink
//! as data grows, this is the number that should.
//!
//! Three estimates, from the most principled to the cheapest: Laplace's approximation over the reward head (and the
//! adapters), an ensemble of runs with other seeds, and dropout at scoring.

mod features;
mod file;
mod head;
mod lora;
mod members;

pub use members::{Dropout, combine};

use super::dataset::EncodedRow;
use super::forward::TrunkStates;
use super::{Scored, Scorer, TrainError};
use crate::data::Rows;
use crate::eval::laplace::{choose_prior_variance, log_det_of, log_evidence};
use crate::objective::ScoreKind;
use crate::reward::{
    AnswerScore, Ignorance, IgnoranceKind, Layout, ScoreIgnorance, ScoreTotal, Side, TokenReward,
    TokenRewardRecord, Uncertainty,
};
pub(super) use head::AnswerVariance;
use head::{HeadCurvature, HeadPosterior, check_rows, steps_and_features};
use lora::{Factors, LoraCurvature, LoraPosterior};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the prior variance is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PriorVariance {
    /// The one of largest evidence on the training pairs.
    Evidence,
    /// A given one, above 0.
    Given(f64),
}

/// Which weights the approximation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The reward head's mean; the trunk is held fixed.
    Head,
    /// The head and every adapter matrix.
    Lora,
}

/// What a Laplace file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaplaceSummary {
    /// The digest of the checkpoint it belongs to.
    pub checkpoint: String,
    /// The method that trained it.
    pub method: String,
    /// The score that comparisons read.
    pub score: ScoreKind,
    /// The weights it is over.
    pub over: Over,
    /// Training pairs counted.
    pub pairs: usize,
    /// s2: the variance of each weight before any data.
    pub prior_variance: f64,
    /// How s2 was chosen: `evidence` or `given`.
    pub prior: String,
    /// log p of the training labels.
    pub log_likelihood: f64,
    /// log evidence at s2.
    pub log_evidence: f64,
}

/// Laplace's approximation around a trained run.
#[derive(Clone, Debug)]
pub struct LaplaceFit {
    summary: LaplaceSummary,
    curvature: crate::eval::matrix::Matrix,
    centre: Vec<f64>,
    /// Factors of every adapter matrix by name; empty for the head alone.
    adapters: BTreeMap<String, Factors>,
}

impl LaplaceFit {
    /// One pass over the rows that trained `scorer`. `rows` are those rows as they were read, `encoded` as tokens;
    /// `checkpoint` and `fingerprint` are what the checkpoint says of itself.
    ///
    /// # Errors
    /// A method without a preference likelihood on its reward head, other rows than the run's, a prior variance that the
    /// rows do not fix.
    pub async fn new(
        scorer: &Scorer,
        (rows, encoded): (&Rows, &[EncodedRow]),
        (checkpoint, fingerprint): (&str, &str),
        (over, prior): (Over, PriorVariance),
    ) -> Result<Self, TrainError> {
        check_rows(rows, fingerprint)?;
        Self::of(scorer, encoded, checkpoint, (over, prior)).await
    }

    /// The same of rows that are known to be those that trained `scorer`.
    async fn of(
        scorer: &Scorer,
        encoded: &[EncodedRow],
        checkpoint: &str,
        (over, prior): (Over, PriorVariance),
    ) -> Result<Self, TrainError> {
        let gathered = HeadCurvature::gather(scorer, encoded).await?;
        let mut norm = gathered.squared_norm();
        let mut adapters = BTreeMap::new();
        if over == Over::Lora {
            let more = LoraCurvature::gather(scorer, encoded, &gathered.curvatures).await?;
            norm += more.squared_norm;
            adapters = more.factors;
        }
        let log_det = |s2: f64| Ok(log_det_of(&gathered.ggn, s2)? + lora::log_det(&adapters, s2)?);
        let (variance, evidence) = match prior {
            PriorVariance::Given(variance) => {
                let fit = gathered.log_likelihood;
                (
                    variance,
                    log_evidence(fit, norm, log_det(variance)?, variance),
                )
            }
            PriorVariance::Evidence => {
                let choice = choose_prior_variance(gathered.log_likelihood, norm, log_det)?;
                if choice.at_border {
                    let why = match choice.variance < 1.0 {
                        true => {
                            "the head's weights are all but 0, or the labels taught it nothing. Train longer"
                        }
                        false => {
                            "the head's weights are very large. Train with a lower learning rate"
                        }
                    };
                    return Err(TrainError::Ignorance(format!(
                        "the training pairs do not fix a prior variance (the evidence is largest at {:e}, an end of the range searched): {why}, or name a prior variance",
                        choice.variance
                    )));
                }
                (choice.variance, choice.log_evidence)
            }
        };
        Ok(Self {
            summary: LaplaceSummary {
                checkpoint: checkpoint.into(),
                method: scorer.objective.name().into(),
                score: scorer.objective.ranking_score(),
                over,
                pairs: gathered.curvatures.len(),
                prior_variance: variance,
                prior: match prior {
                    PriorVariance::Evidence => "evidence".into(),
                    PriorVariance::Given(_) => "given".into(),
                },
                log_likelihood: gathered.log_likelihood,
                log_evidence: evidence,
            },
            curvature: gathered.ggn,
            centre: gathered.centre,
            adapters,
        })
    }

    /// What it says of itself.
    pub fn summary(&self) -> &LaplaceSummary {
        &self.summary
    }
}

/// A fit on the device, as a scorer asks it.
pub(super) struct Posterior {
    head: HeadPosterior,
    lora: Option<LoraPosterior>,
    kind: ScoreKind,
}

impl Posterior {
    /// Variances of every sequence of a batch whose trunk has run, in the layout's order.
    pub(super) async fn variances(
        &self,
        scorer: &Scorer,
        members: &[&EncodedRow],
        layout: &Layout,
        trunk: &TrunkStates,
    ) -> Result<Vec<AnswerVariance>, TrainError> {
        let (steps, features) = steps_and_features(scorer, layout, trunk);
        let mut variances = self.head.variances(features, &steps, self.kind).await?;
        let Some(lora) = &self.lora else {
            return Ok(variances);
        };
        for (k, row) in members.iter().enumerate() {
            // The layout is side after side, and in each the rows.
            let places: Vec<usize> = (0..row.sides.len())
                .map(|side| side * members.len() + k)
                .collect();
            let mut answers: Vec<AnswerVariance> = places
                .iter()
                .map(|place| std::mem::take(&mut variances[*place]))
                .collect();
            lora.add_to(scorer, row, self.kind, &mut answers).await?;
            for (place, answer) in places.into_iter().zip(answers) {
                variances[place] = answer;
            }
        }
        Ok(variances)
    }
}

impl Scorer {
    /// From now on records carry the ignorance of `fit`.
    ///
    /// # Errors
    /// A fit of another checkpoint than `checkpoint`, or of another head.
    pub fn set_laplace(&mut self, fit: &LaplaceFit, checkpoint: &str) -> Result<(), TrainError> {
        let summary = &fit.summary;
        if summary.checkpoint != checkpoint {
            return Err(TrainError::Ignorance(
                "it was fitted to another checkpoint; fit it again (`avascope laplace RUN`)".into(),
            ));
        }
        let wanted = self.model.decoder.config.hidden_size + 1;
        if fit.centre.len() != wanted {
            return Err(TrainError::Ignorance(format!(
                "it holds {} head weights, and this model has {wanted}",
                fit.centre.len()
            )));
        }
        let lora = match summary.over {
            Over::Head => None,
            Over::Lora => Some(LoraPosterior::new(
                self,
                &fit.adapters,
                summary.prior_variance,
            )?),
        };
        self.posterior = Some(Posterior {
            head: HeadPosterior::new(
                &fit.curvature,
                &fit.centre,
                summary.prior_variance,
                &self.device.device,
            )?,
            lora,
            kind: summary.score,
        });
        let (kind, held) = match summary.over {
            Over::Head => (IgnoranceKind::LaplaceHead, "trunk held fixed"),
            Over::Lora => (
                IgnoranceKind::LaplaceLora,
                "over the head and the adapters' Kronecker factors",
            ),
        };
        self.provenance.ignorance = Some(Ignorance {
            kind,
            detail: format!(
                "{} training pairs, prior variance {:.3e} ({}), {held}{}",
                summary.pairs,
                summary.prior_variance,
                if summary.prior == "evidence" {
                    "of largest evidence"
                } else {
                    "given"
                },
                match summary.score {
                    ScoreKind::Sum => "",
                    ScoreKind::Last | ScoreKind::Mean => ", against the average training token",
                }
            ),
        });
        Ok(())
    }
}

impl Scorer {
    /// Token rewards of `rows` with the ignorance of a fit to `training`, the rows that trained this map.
    ///
    /// # Errors
    /// As [`LaplaceFit::new`] and [`Scorer::score`].
    pub async fn score_with_laplace(
        &self,
        rows: &[EncodedRow],
        training: &[EncodedRow],
        (over, prior): (Over, PriorVariance),
    ) -> Result<Scored, TrainError> {
        // The fit is of the very map that it is asked about.
        const THIS_MAP: &str = "in memory";
        let mut scorer = self.copied();
        let fit = LaplaceFit::of(&scorer, training, THIS_MAP, (over, prior)).await?;
        scorer.set_laplace(&fit, THIS_MAP)?;
        scorer.score(rows).await
    }
}

/// Writes variances into an answer's tokens and score. `std` keeps its own meaning; the total is given where both are known.
pub(super) fn annotate(
    tokens: &mut [TokenReward],
    score: &mut AnswerScore,
    uncertainty: Uncertainty,
    token_variances: &[f64],
    answer: &AnswerVariance,
) {
    let root = |v: f64| v.max(0.0).sqrt() as f32;
    for (token, variance) in tokens.iter_mut().zip(token_variances) {
        token.ignorance_std = Some(root(*variance));
        token.total_std = match uncertainty {
            Uncertainty::PriorOnly => None,
            _ => Some(root(f64::from(token.std).powi(2) + variance)),
        };
    }
    score.ignorance = Some(ScoreIgnorance {
        last: root(answer.last),
        sum: root(answer.sum),
        mean: root(answer.mean),
        margin: answer.margin.map(root),
    });
    let own = |kind| own_variance(tokens, score, kind);
    score.total = (uncertainty != Uncertainty::PriorOnly).then(|| ScoreTotal {
        last: root(own(ScoreKind::Last) + answer.last),
        sum: root(own(ScoreKind::Sum) + answer.sum),
        mean: root(own(ScoreKind::Mean) + answer.mean),
        margin: None,
    });
}

/// The variance of a score under the method's own posterior, tokens taken as independent.
fn own_variance(tokens: &[TokenReward], score: &AnswerScore, kind: ScoreKind) -> f64 {
    let sum = f64::from(score.sum_std);
    match kind {
        ScoreKind::Last => tokens.last().map_or(0.0, |t| f64::from(t.std).powi(2)),
        ScoreKind::Sum => sum.powi(2),
        ScoreKind::Mean => (sum / tokens.len().max(1) as f64).powi(2),
    }
}

/// Writes the totals of the pairs' margins, once both sides of every pair are annotated. `ranking` is the score whose
/// difference a margin is.
pub(super) fn annotate_margins(records: &mut [TokenRewardRecord], ranking: ScoreKind) {
    for at in 1..records.len() {
        let [.., a, b] = &mut records[..=at] else {
            continue;
        };
        if (a.side, b.side) != (Side::Chosen, Side::Rejected) {
            continue;
        }
        let own: f64 = [&*a, &*b]
            .map(|r| own_variance(&r.tokens, &r.score, ranking))
            .iter()
            .sum();
        for record in [a, b] {
            let ignorance = record
                .score
                .ignorance
                .and_then(|ignorance| ignorance.margin);
            if let (Some(total), Some(ignorance)) = (&mut record.score.total, ignorance) {
                total.margin = Some((own + f64::from(ignorance).powi(2)).sqrt() as f32);
            }
        }
    }
}

#[cfg(test)]
mod lora_tests;
#[cfg(test)]
mod tests;
