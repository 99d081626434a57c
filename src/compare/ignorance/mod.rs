//! Ignorance beside every system: how far its map may be off for want of data, by each way of estimating it that was asked
//! for (`[[ignorance]]`: Laplace, dropout), and by the disagreement of its seeds, which costs nothing more.
//!
//! A method's own spread is another number; the total has both variances. What each is good for is measured by the same
//! figures for all ([`figures`]).

mod ensemble;
mod figures;
mod view;

use super::cell::pair_scores;
use super::error::{CompareError, wrong};
use super::truths::TruthResult;
use crate::objective::ScoreKind;
use crate::reward::{Side, TokenRewardRecord, Uncertainty};
use crate::train::ignorance::{Dropout, Over, PriorVariance};
use crate::train::{EncodedRow, Scored, Scorer, TrainError, Trainable, pairs};
use figures::{PairFact, TokenFact, measure};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

pub(super) use ensemble::of_seeds;
pub use view::{IgnoranceFigure, IgnoranceResult};
pub(super) use view::{html, markdown, results};

/// A way of estimating ignorance, as the configuration says it. Settings that a kind does not have are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoranceEntry {
    /// `laplace` or `dropout`.
    pub kind: String,
    /// Of Laplace: the weights that it is over, `head` (the default) or `lora`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Of Laplace: the variance of each weight before any data; the one of largest evidence where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_variance: Option<f64>,
    /// Of dropout: the share of units that are dropped; 0.1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Of dropout: masks drawn; 32 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

/// A way of estimating ignorance, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Estimate {
    /// Laplace's approximation around the trained map.
    Laplace(Over, PriorVariance),
    /// Dropout at scoring.
    Dropout(Dropout),
}

const KINDS: [&str; 2] = ["laplace", "dropout"];
const OVER: [&str; 2] = ["head", "lora"];

impl Estimate {
    /// Checks an entry; `trainable` is what every system trains.
    ///
    /// # Errors
    /// What is wrong with it, without its place.
    fn of(entry: &IgnoranceEntry, trainable: &Trainable) -> Result<Self, CompareError> {
        let stray = match entry.kind.as_str() {
            "laplace" => [
                ("rate", entry.rate.is_some()),
                ("samples", entry.samples.is_some()),
            ],
            "dropout" => [
                ("over", entry.over.is_some()),
                ("prior_variance", entry.prior_variance.is_some()),
            ],
            "ensemble" => {
                return wrong(
                    "an ensemble needs no entry: the seeds of every system are shown as one; list more `seeds`",
                );
            }
            kind => return wrong(unknown("a kind", kind, &KINDS)),
        };
        if let Some((name, _)) = stray.iter().find(|(_, given)| *given) {
            return wrong(format!(
                "`{name}` has no say in `{}`; leave it out",
                entry.kind
            ));
        }
        if entry.kind == "dropout" {
            let dropout = Dropout {
                rate: entry.rate.unwrap_or(0.1),
                samples: entry.samples.unwrap_or(32),
                seed: 0,
            };
            dropout.check().map_err(|error| {
                CompareError::Config(match error {
                    TrainError::Ignorance(why) => why,
                    other => other.to_string(),
                })
            })?;
            return Ok(Self::Dropout(dropout));
        }
        let over = match entry.over.as_deref() {
            None | Some("head") => Over::Head,
            Some("lora") if matches!(trainable, Trainable::Lora(_)) => Over::Lora,
            Some("lora") => {
                return wrong(
                    "`over` is `lora`, and no adapter trains; set trainable = { mode = \"lora\" } under [train], or leave it out",
                );
            }
            Some(over) => return wrong(unknown("a value of `over`", over, &OVER)),
        };
        let prior = match entry.prior_variance {
            None => PriorVariance::Evidence,
            Some(variance) if variance.is_finite() && variance > 0.0 => {
                PriorVariance::Given(variance)
            }
            Some(variance) => {
                return wrong(format!(
                    "`prior_variance` is {variance}; use a number above 0"
                ));
            }
        };
        Ok(Self::Laplace(over, prior))
    }

    /// Its name in the report.
    pub fn label(&self) -> String {
        match self {
            Self::Laplace(over, prior) => {
                let over = match over {
                    Over::Head => "head",
                    Over::Lora => "head and adapters",
                };
                let prior = match prior {
                    PriorVariance::Evidence => "prior by evidence".into(),
                    PriorVariance::Given(variance) if (1e-4..1e5).contains(variance) => {
                        format!("prior variance {variance}")
                    }
                    PriorVariance::Given(variance) => format!("prior variance {variance:e}"),
                };
                format!("Laplace, {over}, {prior}")
            }
            Self::Dropout(dropout) => {
                format!("dropout {}, {} masks", dropout.rate, dropout.samples)
            }
        }
    }

    /// Token rewards of `rows` with this ignorance. `training` are the rows that trained the map.
    async fn score(
        &self,
        scorer: &Scorer,
        rows: &[EncodedRow],
        training: &[EncodedRow],
    ) -> Result<Scored, TrainError> {
        match self {
            Self::Laplace(..) if !scorer.credit().is_own() => Err(TrainError::Ignorance(format!(
                "Laplace's approximation speaks of a method's own token rewards, and these are by the credit `{}`",
                scorer.credit().name
            ))),
            Self::Laplace(over, prior) => {
                scorer
                    .score_with_laplace(rows, training, (*over, *prior))
                    .await
            }
            Self::Dropout(dropout) => scorer.score_with_dropout(rows, dropout).await,
        }
    }
}

/// "`x` is no kind; known: ...", the nearest first.
fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    let names = known.iter().map(|name| (*name).to_string());
    format!(
        "`{given}` is no such thing as {what}; known: {}",
        crate::plain::nearest_first(given, names).join(", ")
    )
}

/// The estimates of a configuration, in its order.
pub(super) fn estimates(
    entries: &[IgnoranceEntry],
    trainable: &Trainable,
) -> Result<Vec<Estimate>, CompareError> {
    let mut estimates: Vec<Estimate> = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let place = |error: CompareError| {
            CompareError::Config(format!("`[[ignorance]]` {}: {error}", i + 1))
        };
        let estimate = Estimate::of(entry, trainable).map_err(place)?;
        if estimates.contains(&estimate) {
            return Err(place(CompareError::Config(format!(
                "{} is listed twice; keep one",
                estimate.label()
            ))));
        }
        estimates.push(estimate);
    }
    Ok(estimates)
}

/// What one estimate says of one trained map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EstimateRecord {
    /// Its label.
    pub estimate: String,
    /// How the numbers came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The figures on the test rows, each with its interval over them.
    pub figures: Vec<TruthResult>,
}

/// Asks every estimate about a trained map. One that does not fit the method says so in its record.
///
/// # Errors
/// What scoring gives, and numbers that are not finite.
pub(super) async fn ask(
    estimates: &[Estimate],
    scorer: &Scorer,
    (test, training): (&[EncodedRow], &[EncodedRow]),
    resamples: usize,
) -> Result<Vec<EstimateRecord>, CompareError> {
    let mut all = Vec::with_capacity(estimates.len());
    let seen = counts(training);
    let place = |error| CompareError::Train {
        place: "ignorance".into(),
        error,
    };
    for estimate in estimates {
        let blank = EstimateRecord {
            estimate: estimate.label(),
            detail: None,
            failure: None,
            figures: Vec::new(),
        };
        let record = match estimate.score(scorer, test, training).await {
            Ok(scored) => {
                let (tokens, pairs) = facts(&scored.records, scorer.ranking_score(), &seen);
                let sides = test.first().map_or(1, |row| row.sides.len()).max(1);
                let rows = scored.records.len() / sides;
                let figures = measure(&tokens, &pairs, rows, resamples).map_err(|error| {
                    CompareError::Eval {
                        place: "ignorance".into(),
                        error,
                    }
                })?;
                let source = scored
                    .records
                    .into_iter()
                    .find_map(|record| record.provenance.ignorance);
                EstimateRecord {
                    detail: source.map(|source| source.detail),
                    figures,
                    ..blank
                }
            }
            // Not every method has a likelihood that could be approximated, and not every fit a prior variance or a curvature
            // that can be inverted.
            Err(TrainError::Ignorance(why)) => EstimateRecord {
                failure: Some(why),
                ..blank
            },
            Err(TrainError::Eval(why)) => EstimateRecord {
                failure: Some(why.to_string()),
                ..blank
            },
            Err(error) => return Err(place(error)),
        };
        all.push(record);
    }
    Ok(all)
}

/// How often each token stands in the answers of the training rows.
fn counts(training: &[EncodedRow]) -> HashMap<u32, u32> {
    let mut counts = HashMap::new();
    let answers = training.iter().flat_map(|row| &row.sides);
    for encoded in answers.map(|side| &side.encoded) {
        let tokens = encoded.ids.iter().zip(&encoded.resp);
        for (id, _) in tokens.filter(|(_, answer)| **answer) {
            *counts.entry(*id).or_insert(0) += 1;
        }
    }
    counts
}

/// What the figures are made of.
fn facts(
    records: &[TokenRewardRecord],
    ranking: ScoreKind,
    seen: &HashMap<u32, u32>,
) -> (Vec<TokenFact>, Vec<PairFact>) {
    let (mut tokens, mut row) = (Vec::new(), 0);
    for (i, record) in records.iter().enumerate() {
        // Both sides of a pair follow each other, chosen first.
        row += usize::from(i > 0 && record.side != Side::Rejected);
        let own_spread = record.provenance.uncertainty != Uncertainty::PriorOnly;
        for token in &record.tokens {
            let Some(ignorance) = token.ignorance_std else {
                continue;
            };
            tokens.push(TokenFact {
                row,
                mean: f64::from(token.mean),
                own: own_spread.then_some(f64::from(token.std)),
                ignorance: f64::from(ignorance),
                truth: token.true_mean.map(f64::from),
                seen: Some(f64::from(seen.get(&token.id).copied().unwrap_or(0))),
            });
        }
    }
    let scores = pair_scores(records, ranking);
    let pairs = pairs(records)
        .into_iter()
        .zip(scores)
        .enumerate()
        .filter_map(|(row, ((chosen, _), (a, b)))| {
            Some(PairFact {
                row,
                margin: a - b,
                ignorance: f64::from(chosen.score.ignorance?.margin?),
            })
        })
        .collect();
    (tokens, pairs)
}

#[cfg(test)]
mod tests;
