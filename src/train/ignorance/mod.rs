//! Ignorance: how far a learned reward may be off for want of data. Beside the method's own spread, which does not shrink
//! as data grows, this is the number that should.
//!
//! Three estimates, from the most principled to the cheapest: Laplace's approximation over the reward head (and the
//! adapters), an ensemble of runs with other seeds, and dropout at scoring.

mod features;
mod file;
mod head;
mod members;

pub use members::{Dropout, combine};

use super::dataset::EncodedRow;
use super::forward::TrunkStates;
use super::{Scorer, TrainError};
use crate::data::Rows;
use crate::objective::ScoreKind;
use crate::reward::{
    AnswerScore, Ignorance, IgnoranceKind, Layout, ScoreIgnorance, TokenReward, Uncertainty,
};
pub(super) use head::AnswerVariance;
use head::{HeadCurvature, HeadPosterior, check_rows, steps_and_features};
use serde::{Deserialize, Serialize};

/// How the prior variance is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PriorVariance {
    /// The one of largest evidence on the training pairs.
    Evidence,
    /// A given one, above 0.
    Given(f64),
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
        prior: PriorVariance,
    ) -> Result<Self, TrainError> {
        check_rows(rows, fingerprint)?;
        let gathered = HeadCurvature::gather(scorer, encoded).await?;
        let norm = gathered.squared_norm();
        let (variance, log_evidence) = match prior {
            PriorVariance::Given(variance) => {
                let log_det = crate::eval::laplace::log_det_of(&gathered.ggn, variance)?;
                let value = crate::eval::laplace::log_evidence(
                    gathered.log_likelihood,
                    norm,
                    log_det,
                    variance,
                );
                (variance, value)
            }
            PriorVariance::Evidence => {
                let choice = gathered.prior()?;
                if choice.at_border {
                    return Err(TrainError::Ignorance(format!(
                        "the training pairs do not fix a prior variance (the evidence is largest at {:e}, an end of the range searched): the head's weights are all but 0, or the labels taught it nothing. Train longer, or name one with --prior-variance",
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
                pairs: gathered.curvatures.len(),
                prior_variance: variance,
                prior: match prior {
                    PriorVariance::Evidence => "evidence".into(),
                    PriorVariance::Given(_) => "given".into(),
                },
                log_likelihood: gathered.log_likelihood,
                log_evidence,
            },
            curvature: gathered.ggn,
            centre: gathered.centre,
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
    kind: ScoreKind,
}

impl Posterior {
    /// Variances of every sequence of a batch whose trunk has run.
    pub(super) async fn variances(
        &self,
        scorer: &Scorer,
        layout: &Layout,
        trunk: &TrunkStates,
    ) -> Result<Vec<AnswerVariance>, TrainError> {
        let (steps, features) = steps_and_features(scorer, layout, trunk);
        self.head.variances(features, &steps, self.kind).await
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
        self.posterior = Some(Posterior {
            head: HeadPosterior::new(
                &fit.curvature,
                &fit.centre,
                summary.prior_variance,
                &self.device.device,
            )?,
            kind: summary.score,
        });
        self.provenance.ignorance = Some(Ignorance {
            kind: IgnoranceKind::LaplaceHead,
            detail: format!(
                "{} training pairs, prior variance {:.3e} ({}), trunk held fixed{}",
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
}

#[cfg(test)]
mod tests;
