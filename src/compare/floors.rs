//! Floors: what every method must beat, on the same test rows. They need no training of the trunk.

use super::cell::pair_scores;
use super::error::CompareError;
use super::truths::{Assessment, Readings, evaluate};
use crate::device::OpenDevice;
use crate::eval::floors::{IdPair, UnigramBradleyTerry, UnigramLogOdds};
use crate::eval::{EvalError, Metric};
use crate::objective::ScoreKind;
use crate::reward::{AnswerScore, TokenRewardRecord};
use crate::train::{EncodedRow, EncodedSide, LoadedModel, Scorer, pairs};
use serde::{Deserialize, Serialize};

/// Penalties among which the unigram model's is chosen, by five-fold cross-validation on training rows.
const PENALTIES: [f64; 6] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0];
const FOLDS: usize = 5;

const NO_SIGMA: &str = "it has no standard deviation";

/// A floor with everything that was measured on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// The value that was chosen for it and the values tried, where there was a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<(f64, Vec<f64>)>,
    /// Why it could not be measured at all, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Truths on the test rows.
    pub assessment: Assessment,
}

/// All floors on the test rows; `train` are the rows that methods train on.
///
/// # Errors
/// A device that failed, or a model whose log-probabilities are not finite.
pub async fn floors(
    model: LoadedModel,
    device: OpenDevice,
    batch_size: usize,
    train: &[EncodedRow],
    test: &[EncodedRow],
    resamples: usize,
) -> Result<Vec<Floor>, CompareError> {
    let policy = Scorer::of_policy(model, ScoreKind::Sum, device, batch_size);
    let scored = policy
        .score(test)
        .await
        .map_err(|error| CompareError::Train {
            place: "the trunk's own log-probability".into(),
            error,
        })?;
    let records = &scored.records;
    let eval = |place: &str| {
        let place = place.to_string();
        move |error| CompareError::Eval { place, error }
    };
    let measure =
        |records: &[TokenRewardRecord], scores: &[(f64, f64)], no_tokens: Option<&'static str>| {
            let readings = Readings {
                records,
                scores,
                no_tokens,
                no_sigma: Some(NO_SIGMA),
                residuals: &[],
            };
            evaluate(&readings, resamples)
        };

    let length = |record: &TokenRewardRecord| record.answer.chars().count() as f64;
    let lengths: Vec<(f64, f64)> = pairs(records)
        .into_iter()
        .map(|(chosen, rejected)| (length(chosen), length(rejected)))
        .collect();
    let mut all = vec![Floor {
        name: "longer wins".into(),
        about: "the longer answer in characters is taken for the better one; a tie counts as wrong"
            .into(),
        penalty: None,
        failure: None,
        assessment: measure(
            records,
            &lengths,
            Some("length says nothing of single tokens"),
        )
        .map_err(eval("longer wins"))?,
    }];

    let name = "unigram Bradley-Terry";
    let mut floor = Floor {
        name: name.into(),
        about: "one weight a vocabulary entry, summed over the answer, fitted on the training rows; no context".into(),
        penalty: None,
        failure: None,
        assessment: Assessment::default(),
    };
    let answers = answers_of(train);
    let pairs: Vec<IdPair<'_>> = answers
        .iter()
        .map(|(chosen, rejected)| IdPair { chosen, rejected })
        .collect();
    match unigram(&pairs) {
        Ok(model) => {
            let weighed = weigh(records, |id| model.weight(id));
            floor.penalty = Some((model.l2, PENALTIES.to_vec()));
            floor.assessment = measure(&weighed, &pair_scores(&weighed, ScoreKind::Sum), None)
                .map_err(eval(name))?;
        }
        Err(reason) => floor.failure = Some(reason),
    }
    all.push(floor);

    let name = "unigram log-odds";
    let mut floor = Floor {
        name: name.into(),
        about: "log-odds of each vocabulary entry between the chosen and the rejected training answers, counted, summed over the answer; no context".into(),
        penalty: None,
        failure: None,
        assessment: Assessment::default(),
    };
    match UnigramLogOdds::fit(&pairs) {
        Ok(model) => {
            let weighed = weigh(records, |id| model.weight(id));
            floor.assessment = measure(&weighed, &pair_scores(&weighed, ScoreKind::Sum), None)
                .map_err(eval(name))?;
        }
        Err(reason) => floor.failure = Some(reason.to_string()),
    }
    all.push(floor);

    for (name, about, kind) in [
        (
            "log-probability, sum",
            "the untrained trunk's log-probability of the answer: likelier and shorter wins",
            ScoreKind::Sum,
        ),
        (
            "log-probability, mean",
            "the same a token, so that length does not count",
            ScoreKind::Mean,
        ),
    ] {
        all.push(Floor {
            name: name.into(),
            about: about.into(),
            penalty: None,
            failure: None,
            assessment: measure(records, &pair_scores(records, kind), None).map_err(eval(name))?,
        });
    }
    Ok(all)
}

/// Tokens of the chosen and the rejected answer of every pair.
fn answers_of(train: &[EncodedRow]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let ids = |side: &EncodedSide| -> Vec<u32> {
        let encoded = &side.encoded;
        (1..encoded.ids.len())
            .filter(|i| encoded.resp[*i])
            .map(|i| encoded.ids[i])
            .collect()
    };
    train
        .iter()
        .filter_map(|row| match row.sides.as_slice() {
            [chosen, rejected] => Some((ids(chosen), ids(rejected))),
            _ => None,
        })
        .collect()
}

/// The unigram model at its best penalty, or why there is none.
fn unigram(pairs: &[IdPair<'_>]) -> Result<UnigramBradleyTerry, String> {
    if pairs.len() < FOLDS {
        return Err(format!(
            "{} training pairs are too few to choose its penalty; {FOLDS} are needed",
            pairs.len()
        ));
    }
    UnigramBradleyTerry::tune(pairs, &PENALTIES, FOLDS, 0)
        .map_err(|error: EvalError| error.to_string())
}

/// The same answers with a weight of each vocabulary entry as token rewards.
fn weigh(records: &[TokenRewardRecord], weight: impl Fn(u32) -> f64) -> Vec<TokenRewardRecord> {
    records
        .iter()
        .cloned()
        .map(|mut record| {
            for token in &mut record.tokens {
                token.mean = weight(token.id) as f32;
            }
            record.score = AnswerScore::from_tokens(&record.tokens);
            record
        })
        .collect()
}

impl Floor {
    /// The value of a truth, or the reason why there is none.
    pub fn metric(&self, truth: &str) -> Metric {
        let found = self
            .assessment
            .truths
            .iter()
            .find(|t| t.result.name == truth);
        match (&self.failure, found) {
            (Some(reason), _) => Metric::undefined(reason),
            (None, Some(truth)) => truth.result.metric.clone(),
            (None, None) => Metric::undefined("it was not measured"),
        }
    }
}
