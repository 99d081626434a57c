//! Labelled parts of answers: token AUC of the map.
//!
//! Source of the measure: the area under the ROC curve over tokens, as in SemEval-2021 task 5's and fine-grained QA's
//! label files; a token is positive when it shares a visible character with a labelled span.

use super::{Floor, LEAST_ANSWERS, TruthFigure, TruthOptions, TruthResult, WordFloor};
use crate::eval::{EvalError, LabelledTokens, Metric, TokenAuc, token_auc};
use crate::reward::{Side, TokenRewardRecord};
use crate::train::{EncodedRow, Scored, Scorer, TrainError};

/// Parts that people changed between two answers of a pair. Rejected spans must be found. Chosen ones need not be, because
/// what stands in the place of a fault is often neutral; but a map that has them wholly below chance is turned round there.
///
/// # Errors
/// What scoring gives.
pub async fn edits(
    scorer: &Scorer,
    rows: &[EncodedRow],
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let scored = scorer.score(rows).await?;
    measure("edits", &scored, &[Side::Rejected, Side::Chosen], options)
}

/// Parts that people marked as bad in answers that stand alone (or in rejected ones).
///
/// # Errors
/// What scoring gives.
pub async fn spans(
    scorer: &Scorer,
    rows: &[EncodedRow],
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let scored = scorer.score(rows).await?;
    measure("spans", &scored, &[Side::Answer, Side::Rejected], options)
}

/// One side's tokens with labels, by what scores them.
#[derive(Default)]
struct Labelled {
    map: Vec<LabelledTokens>,
    surprise: Vec<LabelledTokens>,
    /// By the word floors.
    words: [Vec<LabelledTokens>; 2],
}

pub(super) fn measure(
    truth: &str,
    scored: &Scored,
    sides: &[Side],
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let mut figures = Vec::new();
    let (mut guards, mut shown) = (Vec::new(), Vec::new());
    let (mut answers, mut tokens) = (0, 0);
    let mut evidence = Vec::new();
    let mut notes = Vec::new();
    for side in sides {
        let labelled = collect(scored, *side, options.words);
        if labelled.map.is_empty() {
            continue;
        }
        let auc = token_auc(&labelled.map, &options.bootstrap)?;
        answers += auc.rows;
        tokens += auc.tokens;
        let name = match side {
            Side::Chosen => "chosen spans",
            Side::Rejected => "rejected spans",
            Side::Answer => "marked spans",
        };
        notes.push(format!(
            "{name}: {} of {} tokens are inside, in {} answers of which {} have tokens inside and outside",
            auc.positives, auc.tokens, auc.rows, auc.rows_with_both_classes
        ));
        let floors = floors(&labelled, |auc| auc.pooled.clone())?;
        let pooled = format!("token AUC, {name}");
        let with = |class: bool| {
            let has = |row: &&LabelledTokens| row.labels.contains(&class);
            labelled.map.iter().filter(has).count()
        };
        let behind = with(true).min(with(false));
        if *side != Side::Chosen {
            figures.push(TruthFigure::deciding(pooled, auc.pooled, floors));
            evidence.push(behind);
        } else if behind >= LEAST_ANSWERS {
            guards.push(TruthFigure::guarding(pooled, auc.pooled, floors));
        } else {
            shown.push(TruthFigure::shown(pooled, auc.pooled, floors));
        }
        shown.push(TruthFigure::shown(
            format!("token AUC within answers, {name}"),
            auc.per_row,
            self::floors(&labelled, |auc| auc.per_row.clone())?,
        ));
        let mut floors = self::floors(&labelled, |auc| auc.average_precision.clone())?;
        // Chance of an average precision is the share of positives, not a half.
        floors[0].metric = Metric::of(auc.positives as f64 / auc.tokens.max(1) as f64);
        shown.push(TruthFigure::shown(
            format!("average precision, {name}"),
            auc.average_precision,
            floors,
        ));
    }
    if figures.is_empty() {
        let reason = if shown.is_empty() {
            "no answer has labelled spans"
        } else {
            "only chosen answers have labelled spans, and what a better answer gained decides nothing"
        };
        figures.push(TruthFigure::deciding(
            "token AUC",
            Metric::undefined(reason),
            Vec::new(),
        ));
    }
    figures.extend(guards);
    figures.extend(shown);
    // Every side that decides must have enough.
    let evidence = evidence.into_iter().min().unwrap_or(0);
    Ok(TruthResult::new(truth, figures, answers, tokens, notes).with_evidence(evidence))
}

/// Chance first, then the floors there are.
fn floors(
    labelled: &Labelled,
    pick: impl Fn(&TokenAuc) -> Metric,
) -> Result<Vec<Floor>, EvalError> {
    let off = crate::eval::Bootstrap::OFF;
    let mut floors = vec![
        Floor::new("chance", Metric::of(0.5)),
        Floor::new(
            "the model's own surprise",
            pick(&token_auc(&labelled.surprise, &off)?),
        ),
    ];
    for (name, words) in WordFloor::NAMES.into_iter().zip(&labelled.words) {
        if !words.is_empty() {
            floors.push(Floor::new(name, pick(&token_auc(words, &off)?)));
        }
    }
    Ok(floors)
}

/// Answers of a side that have labels and text. Bad tokens should score low, so there the score is minus the reward.
fn collect(scored: &Scored, side: Side, words: Option<&WordFloor>) -> Labelled {
    let sign = if side == Side::Chosen { 1.0 } else { -1.0 };
    let mut labelled = Labelled::default();
    for (record, log_policy) in scored.records.iter().zip(&scored.log_policy) {
        if record.side != side {
            continue;
        }
        // Tokens that cover no text (EOS) are in no span.
        let places: Vec<usize> = (0..record.tokens.len())
            .filter(|i| record.tokens[*i].start < record.tokens[*i].end)
            .collect();
        let Some(labels) = places
            .iter()
            .map(|i| record.tokens[*i].labelled)
            .collect::<Option<Vec<bool>>>()
            .filter(|labels| !labels.is_empty())
        else {
            continue;
        };
        let scores = |of: &dyn Fn(usize) -> f64| LabelledTokens {
            scores: places.iter().map(|i| sign * of(*i)).collect(),
            labels: labels.clone(),
        };
        labelled
            .map
            .push(scores(&|i| f64::from(record.tokens[i].mean)));
        labelled
            .surprise
            .push(scores(&|i| f64::from(log_policy[i])));
        if let Some(words) = words {
            let weights = words.of_tokens(&record.answer, &ranges(record));
            for (floor, words) in labelled.words.iter_mut().enumerate() {
                words.push(scores(&|i| weights[i][floor]));
            }
        }
    }
    labelled
}

/// Code points of a record's tokens.
pub(super) fn ranges(record: &TokenRewardRecord) -> Vec<(usize, usize)> {
    record.tokens.iter().map(|t| (t.start, t.end)).collect()
}
