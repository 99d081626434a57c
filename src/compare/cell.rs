//! What one training leaves: its settings, what validation and test rows said, and why it failed where it did.

use super::checks::Checks;
use super::error::CompareError;
use super::ignorance::{self, Estimate, EstimateRecord};
use super::truths::{Assessment, Readings, evaluate};
use crate::eval::{EvalError, Metric, pair_accuracy};
use crate::objective::ScoreKind;
use crate::reward::{TokenRewardRecord, Uncertainty};
use crate::train::{self, EncodedRow, Scored, Scorer, TrainError, pairs, score_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What validation rows say of a cell. Tuned values are chosen by this and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Rows.
    pub rows: usize,
    /// Pair accuracy by the score that the method trains; undefined where the rows are no pairs.
    pub accuracy: Metric,
    /// Mean of score(chosen) - score(rejected) over its standard deviation: breaks ties of the accuracy, whatever the
    /// scores' unit is.
    pub standardised_margin: Metric,
    /// The method's loss; what is chosen by where there are no pairs.
    pub loss: Metric,
}

/// The scores of a test row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestScore {
    /// The row's id.
    pub id: String,
    /// Its answers' scores by the reading that the method trains: chosen and rejected, or the one answer's.
    pub scores: Vec<f32>,
}

/// One system's reading of a finished training with all that was measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Digest of the comparison that the cell belongs to.
    pub comparison: String,
    /// The system's label.
    pub system: String,
    /// Index of the trial.
    pub trial: usize,
    /// The tuned values of the trial.
    pub values: BTreeMap<String, Value>,
    /// The seed.
    pub seed: u64,
    /// Seconds that training and measuring took. Cells that are read off one training count it each.
    pub seconds: f64,
    /// Parameters that trained.
    pub trainable_parameters: usize,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// Why there are no figures, where training left the range of its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What the standard deviations are.
    pub uncertainty: Uncertainty,
    /// Figures on validation rows, where there are any.
    pub validation: Option<Validation>,
    /// Truths on test rows.
    pub assessment: Assessment,
    /// The truths of `[[truth]]` in the configuration's order; empty where training failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<train::TruthResult>,
    /// How far the map may be off for want of data, by every estimate that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignorance: Vec<EstimateRecord>,
    /// Scores of the test rows, in their order.
    pub scores: Vec<TestScore>,
}

impl CellRecord {
    /// A record without figures, to be filled by [`assess_cell`] or [`failed_cell`].
    pub fn empty(
        comparison: &str,
        system: &str,
        trial: usize,
        values: BTreeMap<String, Value>,
        seed: u64,
    ) -> Self {
        Self {
            comparison: comparison.into(),
            system: system.into(),
            trial,
            values,
            seed,
            seconds: 0.0,
            trainable_parameters: 0,
            last_loss: None,
            failure: None,
            uncertainty: Uncertainty::PriorOnly,
            validation: None,
            assessment: Assessment::default(),
            checks: Vec::new(),
            ignorance: Vec::new(),
            scores: Vec::new(),
        }
    }
}

/// The record of a training that diverged: a value to be reported, not the end of the comparison. Any other error is
/// handed back.
///
/// # Errors
/// `error` itself, where it is not a number out of range.
pub fn failed_cell(mut record: CellRecord, error: TrainError) -> Result<CellRecord, TrainError> {
    match error {
        TrainError::NonFinite { term, step, .. } => {
            record.failure = Some(format!(
                "training diverged: {term} left the range of numbers at step {step}"
            ));
            Ok(record)
        }
        TrainError::NonFiniteReward { .. } => {
            record.failure =
                Some("training diverged: a token reward left the range of numbers".into());
            Ok(record)
        }
        other => Err(other),
    }
}

/// Measures a trained system by the credit of its scorer: validation rows for choosing values, test rows for every
/// figure, the truths that were asked for, and the ignorance of a map that `training` rows trained.
///
/// # Errors
/// A device that failed, or numbers that are not finite.
pub async fn assess_cell(
    mut record: CellRecord,
    scorer: &Scorer,
    validation: &[EncodedRow],
    (test, training): (&[EncodedRow], &[EncodedRow]),
    (checks, estimates, resamples): (&Checks, &[Estimate], usize),
) -> Result<CellRecord, CompareError> {
    let place = record.system.clone();
    let train = |error| CompareError::Train {
        place: place.clone(),
        error,
    };
    let eval = |error| CompareError::Eval {
        place: place.clone(),
        error,
    };
    let ranking = scorer.ranking_score();
    record.uncertainty = scorer.provenance().uncertainty;
    if !validation.is_empty() {
        let scored = scorer.score(validation).await.map_err(train)?;
        record.validation = Some(validate(&scored, ranking, validation.len()).map_err(eval)?);
    }
    let scored = scorer.score(test).await.map_err(train)?;
    let readings = Readings {
        records: &scored.records,
        scores: &pair_scores(&scored.records, ranking),
        no_tokens: None,
        no_sigma: (record.uncertainty == Uncertainty::PriorOnly).then_some(train::NO_SIGMA),
        residuals: &scored.z,
    };
    record.assessment = evaluate(&readings, resamples).map_err(eval)?;
    record.scores = test_scores(&scored.records, ranking);
    record.checks = checks.ask(scorer).await.map_err(train)?;
    let rows = (test, training);
    record.ignorance = ignorance::ask(estimates, scorer, rows, resamples).await?;
    Ok(record)
}

/// (chosen, rejected) by one reading, a pair each.
pub(super) fn pair_scores(records: &[TokenRewardRecord], ranking: ScoreKind) -> Vec<(f64, f64)> {
    let of = |record: &TokenRewardRecord| f64::from(score_of(&record.score, ranking));
    pairs(records)
        .into_iter()
        .map(|(chosen, rejected)| (of(chosen), of(rejected)))
        .collect()
}

/// Scores of every row by one reading.
fn test_scores(records: &[TokenRewardRecord], ranking: ScoreKind) -> Vec<TestScore> {
    let mut rows: Vec<TestScore> = Vec::new();
    for record in records {
        let score = score_of(&record.score, ranking);
        match rows.last_mut() {
            // Both sides of a pair follow each other; an id alone may come twice in a file.
            Some(last) if record.side == crate::reward::Side::Rejected => last.scores.push(score),
            _ => rows.push(TestScore {
                id: record.id.clone(),
                scores: vec![score],
            }),
        }
    }
    rows
}

fn validate(scored: &Scored, ranking: ScoreKind, rows: usize) -> Result<Validation, EvalError> {
    let scores = pair_scores(&scored.records, ranking);
    let (accuracy, standardised_margin) = if scores.is_empty() {
        let none = || Metric::undefined("the validation rows are no pairs");
        (none(), none())
    } else {
        let (chosen, rejected): (Vec<f64>, Vec<f64>) = scores.iter().copied().unzip();
        let margins: Vec<f64> = scores.iter().map(|(a, b)| a - b).collect();
        let deviation = crate::eval::variance(&margins).sqrt();
        let margin = if deviation > 0.0 {
            Metric::of(crate::eval::mean(&margins) / deviation)
        } else {
            Metric::undefined("all margins are equal")
        };
        (
            Metric::of(pair_accuracy(&chosen, &rejected)?.accuracy),
            margin,
        )
    };
    Ok(Validation {
        rows,
        accuracy,
        standardised_margin,
        loss: scored.terms.get("loss").map_or_else(
            || Metric::undefined("the method has no loss on rows of this kind"),
            |loss| Metric::of(*loss),
        ),
    })
}
