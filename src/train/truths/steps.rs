//! The first wrong step of a reasoning trace: does the map score it lowest?
//!
//! A step's score is the sum, or the mean, of its tokens' rewards. Which of the two decides is the method's own choice:
//! the sum where it ranks answers by a sum, else the mean. Source of the data: BIG-Bench-Mistake, arXiv 2311.08516.

use super::{Floor, TruthFigure, TruthOptions, TruthResult};
use crate::data::{Rows, Span, TraceRow};
use crate::eval::accuracy::bootstrap_share;
use crate::eval::{Bootstrap, LabelledTokens, Metric, token_auc};
use crate::objective::ScoreKind;
use crate::reward::TokenRewardRecord;
use crate::text::{EncodeOptions, TextTokenizer};
use crate::train::{
    EncodedRow, Scored, Scorer, SkippedRow, TrainError, dataset::counted, encode_usable_rows,
};

/// A trace made ready for the model.
#[derive(Clone, Debug)]
pub struct EncodedTrace {
    /// The trace as one answer.
    pub row: EncodedRow,
    /// Code points of each step in the answer's text.
    pub steps: Vec<Span>,
    /// The first wrong step, from 0; `None` where every step is right.
    pub first_wrong: Option<usize>,
}

/// Tokenises traces. Those without a token are handed back beside.
///
/// # Errors
/// A row that is broken in any other way, with its line.
pub fn encode_traces(
    traces: Vec<TraceRow>,
    tokenizer: &TextTokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedTrace>, Vec<SkippedRow>), TrainError> {
    let mut known = std::collections::HashMap::new();
    let mut rows = Vec::with_capacity(traces.len());
    for trace in traces {
        known.insert(trace.row.line, (trace.steps, trace.first_wrong));
        rows.push(trace.row);
    }
    let (rows, skipped) = encode_usable_rows(&Rows::Demonstrations(rows), tokenizer, options)?;
    let traces = rows
        .into_iter()
        .filter_map(|row| {
            let (steps, first_wrong) = known.remove(&row.line)?;
            Some(EncodedTrace {
                row,
                steps,
                first_wrong,
            })
        })
        .collect();
    Ok((traces, skipped))
}

/// One trace as numbers, by step.
struct Measured {
    sum: Vec<f64>,
    mean: Vec<f64>,
    /// Mean log-probability under the model's own policy.
    likely: Vec<f64>,
    /// Code points.
    length: Vec<f64>,
    first_wrong: Option<usize>,
}

/// Holds the map against the first wrong steps. Traces of which a step has no token (the row was cut) are left out.
///
/// # Errors
/// What scoring gives.
pub async fn first_wrong_step(
    scorer: &Scorer,
    traces: &[EncodedTrace],
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let rows: Vec<EncodedRow> = traces.iter().map(|trace| trace.row.clone()).collect();
    let scored = scorer.score(&rows).await?;
    of_scored(traces, &scored, scorer.ranking_score(), options)
}

/// The same of traces that are scored already, one record a trace.
pub(super) fn of_scored(
    traces: &[EncodedTrace],
    scored: &Scored,
    ranking: ScoreKind,
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let measured: Vec<Measured> = traces
        .iter()
        .zip(scored.records.iter().zip(&scored.log_policy))
        .filter_map(|(trace, (record, log_policy))| measure(trace, record, log_policy))
        .collect();
    let mut notes = vec![
        "tokens are steps here; steps behind the first wrong one are neither right nor wrong and are left out of the AUC".into(),
    ];
    let left_out = traces.len() - measured.len();
    if left_out > 0 {
        notes.push(format!(
            "{} left out: a step has no token, because the row is longer than the model's context or the step is empty",
            counted(left_out, "trace")
        ));
    }
    let wrong: Vec<(&Measured, usize)> = measured
        .iter()
        .filter_map(|trace| Some((trace, trace.first_wrong?)))
        .collect();
    notes.push(format!(
        "{} with a wrong step, {} with none",
        counted(wrong.len(), "trace"),
        measured.len() - wrong.len()
    ));
    let steps = measured.iter().map(|trace| trace.sum.len()).sum();

    type Pick = fn(&Measured) -> &Vec<f64>;
    let by_sum: (&str, Pick) = ("sum", |trace| &trace.sum);
    let by_mean: (&str, Pick) = ("mean", |trace| &trace.mean);
    let ranks_by_sum = ranking == ScoreKind::Sum;
    let (decides, beside) = match ranks_by_sum {
        true => (by_sum, by_mean),
        false => (by_mean, by_sum),
    };
    let mut figures = Vec::new();
    let mut shown = Vec::new();
    for (decides, (name, pick)) in [(true, decides), (false, beside)] {
        let name_of_accuracy = format!("first wrong step found, by the {name}");
        let name_of_auc = format!("AUC of steps, by the {name}");
        let accuracy = accuracy(&wrong, &options.bootstrap, pick)?;
        let auc = auc(&measured, &options.bootstrap, |trace, i| -pick(trace)[i])?;
        let (of_accuracy, of_auc) = (accuracy_floors(&wrong)?, auc_floors(&measured)?);
        if decides {
            figures.push(TruthFigure::deciding(
                name_of_accuracy,
                accuracy,
                of_accuracy,
            ));
        } else {
            shown.push(TruthFigure::shown(name_of_accuracy, accuracy, of_accuracy));
        }
        shown.push(TruthFigure::shown(name_of_auc, auc, of_auc));
    }
    figures.extend(shown);
    Ok(TruthResult::new("steps", figures, measured.len(), steps, notes).with_evidence(wrong.len()))
}

/// The trace's steps as numbers; `None` where a step has no token.
fn measure(
    trace: &EncodedTrace,
    record: &TokenRewardRecord,
    log_policy: &[f32],
) -> Option<Measured> {
    let n = trace.steps.len();
    let (mut sum, mut likely, mut count) = (vec![0.0; n], vec![0.0; n], vec![0usize; n]);
    for (token, log_policy) in record.tokens.iter().zip(log_policy) {
        // By its last character: a token that begins with the line break before a step belongs to the step.
        let Some(last) = token.end.checked_sub(1).filter(|_| token.start < token.end) else {
            continue;
        };
        let step = trace.steps.partition_point(|step| step.end <= last);
        if trace.steps.get(step).is_some_and(|step| step.start <= last) {
            sum[step] += f64::from(token.mean);
            likely[step] += f64::from(*log_policy);
            count[step] += 1;
        }
    }
    if n == 0 || count.contains(&0) {
        return None;
    }
    let over = |values: &[f64]| {
        values
            .iter()
            .zip(&count)
            .map(|(v, n)| v / *n as f64)
            .collect()
    };
    Some(Measured {
        mean: over(&sum),
        likely: over(&likely),
        sum,
        length: trace
            .steps
            .iter()
            .map(|step| (step.end - step.start) as f64)
            .collect(),
        first_wrong: trace.first_wrong,
    })
}

/// How often the lowest step is the first wrong one. Steps of equal score share: a constant map finds the wrong step as
/// often as chance does.
fn accuracy(
    wrong: &[(&Measured, usize)],
    bootstrap: &Bootstrap,
    pick: impl Fn(&Measured) -> &Vec<f64>,
) -> Result<Metric, TrainError> {
    if wrong.is_empty() {
        return Ok(Metric::undefined("no trace has a wrong step"));
    }
    let hits: Vec<f64> = wrong
        .iter()
        .map(|(trace, at)| {
            let scores = pick(trace);
            let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
            let ties = scores.iter().filter(|score| **score == lowest).count();
            f64::from(u8::from(scores[*at] == lowest)) / ties as f64
        })
        .collect();
    let n = hits.len();
    let interval = bootstrap.interval(n, |drawn| {
        let sum: f64 = hits.iter().zip(drawn).map(|(h, d)| h * f64::from(*d)).sum();
        Some(sum / n as f64)
    })?;
    Ok(Metric::of(hits.iter().sum::<f64>() / n as f64).with_interval(interval))
}

fn accuracy_floors(wrong: &[(&Measured, usize)]) -> Result<Vec<Floor>, TrainError> {
    let share = |hit: &dyn Fn(&Measured, usize) -> bool| -> Result<Metric, TrainError> {
        let hits: Vec<bool> = wrong.iter().map(|(trace, at)| hit(trace, *at)).collect();
        if hits.is_empty() {
            return Ok(Metric::undefined("no trace has a wrong step"));
        }
        Ok(bootstrap_share(&hits, &Bootstrap::OFF)?)
    };
    let chance = match wrong.len() {
        0 => Metric::undefined("no trace has a wrong step"),
        n => Metric::of(
            wrong
                .iter()
                .map(|(trace, _)| 1.0 / trace.sum.len() as f64)
                .sum::<f64>()
                / n as f64,
        ),
    };
    let longest = |trace: &Measured| {
        let most = trace.length.iter().copied().fold(0.0, f64::max);
        trace.length.iter().position(|length| *length == most)
    };
    Ok(vec![
        Floor::new("chance", chance),
        Floor::new("first step", share(&|_, at| at == 0)?),
        Floor::new("last step", share(&|trace, at| at + 1 == trace.sum.len())?),
        Floor::new(
            "longest step",
            share(&|trace, at| longest(trace) == Some(at))?,
        ),
        Floor::new(
            "the model's own surprise",
            accuracy(wrong, &Bootstrap::OFF, |trace| &trace.likely)?,
        ),
    ])
}

/// AUC of the first wrong steps among the steps up to them and all steps of right traces; higher score: more wrong.
fn auc(
    measured: &[Measured],
    bootstrap: &Bootstrap,
    score: impl Fn(&Measured, usize) -> f64,
) -> Result<Metric, TrainError> {
    let rows: Vec<LabelledTokens> = measured
        .iter()
        .map(|trace| {
            let steps = trace.first_wrong.map_or(trace.sum.len(), |at| at + 1);
            LabelledTokens {
                scores: (0..steps).map(|i| score(trace, i)).collect(),
                labels: (0..steps).map(|i| trace.first_wrong == Some(i)).collect(),
            }
        })
        .collect();
    if rows.is_empty() {
        return Ok(Metric::undefined("no trace was measured"));
    }
    Ok(token_auc(&rows, bootstrap)?.pooled)
}

fn auc_floors(measured: &[Measured]) -> Result<Vec<Floor>, TrainError> {
    let off = Bootstrap::OFF;
    Ok(vec![
        Floor::new("chance", Metric::of(0.5)),
        Floor::new("later steps", auc(measured, &off, |_, i| i as f64)?),
        Floor::new(
            "longer steps",
            auc(measured, &off, |trace, i| trace.length[i])?,
        ),
        Floor::new(
            "the model's own surprise",
            auc(measured, &off, |trace, i| -trace.likely[i])?,
        ),
    ])
}
