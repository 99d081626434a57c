//! Words as people rate them: does the map order words as ten people did, and does its sigma follow how much they
//! disagreed?
//!
//! A word's reward is the mean, over its occurrences in the scored answers, of the mean reward of the tokens that it
//! covers; its sigma likewise. Source of the ratings: Hutto and Gilbert, "VADER", 2014.

use super::spans::ranges;
use super::{Floor, TruthFigure, TruthOptions, TruthResult, WordFloor};
use crate::data::LexiconEntry;
use crate::eval::{Bootstrap, Metric, Words, spearman};
use crate::reward::Uncertainty;
use crate::train::{EncodedRow, Scored, Scorer, TrainError, dataset::counted};
use std::collections::HashMap;

/// Fewer words than this are not ordered in any way worth stating.
const FEWEST_WORDS: usize = 10;

/// One occurrence of a word of the lexicon.
struct Occurrence {
    /// Which of the words that occur.
    word: usize,
    answer: usize,
    reward: f64,
    sigma: f64,
    likely: f64,
    floors: [f64; 2],
}

/// Holds word rewards against a human lexicon. Only single words are looked up (no emoticons, no phrases), in lower case;
/// where a lexicon holds a word twice the last entry counts, as in VADER's own reader.
///
/// # Errors
/// What scoring gives.
pub async fn lexicon(
    scorer: &Scorer,
    rows: &[EncodedRow],
    entries: &[LexiconEntry],
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let scored = scorer.score(rows).await?;
    of_scored(&scored, entries, scorer.provenance().uncertainty, options)
}

/// The same of answers that are scored already.
pub(super) fn of_scored(
    scored: &Scored,
    entries: &[LexiconEntry],
    uncertainty: Uncertainty,
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let (occurrences, humans) = occurrences(scored, entries, options.words);
    let answers = scored.records.len();
    let notes = vec![
        format!(
            "{} of the lexicon's {} entries occur, {} times; tokens are occurrences here",
            humans.len(),
            entries.len(),
            occurrences.len()
        ),
        format!("{} were scored", counted(answers, "answer")),
    ];
    let means: Vec<f64> = humans.iter().map(|entry| f64::from(entry.mean)).collect();
    let stds: Vec<f64> = humans.iter().map(|entry| f64::from(entry.std)).collect();
    let rank = |value: fn(&Occurrence) -> f64, truth: &[f64], bootstrap: &Bootstrap| {
        rank(&occurrences, answers, value, truth, bootstrap)
    };
    let off = Bootstrap::OFF;

    let mut floors = vec![
        Floor::new("chance", Metric::of(0.0)),
        Floor::new(
            "the model's own log-probability",
            rank(|o| o.likely, &means, &off)?,
        ),
    ];
    if options.words.is_some() {
        let [bradley_terry, odds] = WordFloor::NAMES;
        floors.extend([
            Floor::new(bradley_terry, rank(|o| o.floors[0], &means, &off)?),
            Floor::new(odds, rank(|o| o.floors[1], &means, &off)?),
        ]);
    }
    let reward = TruthFigure::deciding(
        "word reward against human mean",
        rank(|o| o.reward, &means, &options.bootstrap)?,
        floors,
    );
    let sigma = match uncertainty {
        Uncertainty::PriorOnly => Metric::undefined(
            "the map has no learned sigma: the method or the credit gives means only",
        ),
        _ => rank(|o| o.sigma, &stds, &options.bootstrap)?,
    };
    let sigma = TruthFigure::shown(
        "word sigma against human spread",
        sigma,
        vec![
            Floor::new("chance", Metric::of(0.0)),
            Floor::new(
                "the model's own surprise",
                rank(|o| -o.likely, &stds, &off)?,
            ),
        ],
    );
    Ok(TruthResult::new(
        "lexicon",
        vec![reward, sigma],
        answers,
        occurrences.len(),
        notes,
    )
    .with_evidence(humans.len()))
}

/// Every occurrence of a lexicon's word, and the entries that occur.
fn occurrences<'a>(
    scored: &Scored,
    entries: &'a [LexiconEntry],
    floor: Option<&WordFloor>,
) -> (Vec<Occurrence>, Vec<&'a LexiconEntry>) {
    let mut words = Words::default();
    let mut entry_of: HashMap<u32, &LexiconEntry> = HashMap::new();
    for entry in entries {
        let split = words.encode(&entry.word);
        let whole = entry.word.chars().any(char::is_alphanumeric);
        if let ([id], true) = (split.ids.as_slice(), whole) {
            entry_of.insert(*id, entry);
        }
    }
    let mut found = Vec::new();
    let mut humans = Vec::new();
    let mut place: HashMap<u32, usize> = HashMap::new();
    for (answer, (record, log_policy)) in scored.records.iter().zip(&scored.log_policy).enumerate()
    {
        let tokens = ranges(record);
        let weights = floor.map(|floor| floor.of_tokens(&record.answer, &tokens));
        let split = words.encode(&record.answer);
        for (id, (start, end)) in split.ids.iter().zip(&split.offsets) {
            let Some(entry) = entry_of.get(id) else {
                continue;
            };
            let covering: Vec<usize> = (0..tokens.len())
                .filter(|i| tokens[*i].0.max(*start) < tokens[*i].1.min(*end))
                .collect();
            // Cut away with the rest of a row that is too long.
            if covering.is_empty() {
                continue;
            }
            let mean = |of: &dyn Fn(usize) -> f64| {
                covering.iter().map(|i| of(*i)).sum::<f64>() / covering.len() as f64
            };
            let word = *place.entry(*id).or_insert_with(|| {
                humans.push(*entry);
                humans.len() - 1
            });
            found.push(Occurrence {
                word,
                answer,
                reward: mean(&|i| f64::from(record.tokens[i].mean)),
                sigma: mean(&|i| f64::from(record.tokens[i].std)),
                likely: mean(&|i| f64::from(log_policy[i])),
                floors: weights
                    .as_ref()
                    .map_or([0.0; 2], |w| [mean(&|i| w[i][0]), mean(&|i| w[i][1])]),
            });
        }
    }
    (found, humans)
}

/// Spearman's correlation, over words, of the mean of `value` over a word's occurrences with `truth` `[words]`; the
/// interval draws answers.
fn rank(
    occurrences: &[Occurrence],
    answers: usize,
    value: fn(&Occurrence) -> f64,
    truth: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Metric, TrainError> {
    if truth.len() < FEWEST_WORDS {
        return Ok(Metric::undefined(format!(
            "{} of the lexicon occur in the answers, and at least {FEWEST_WORDS} are needed",
            counted(truth.len(), "word")
        )));
    }
    let correlation = |drawn: Option<&[u32]>| {
        let mut sums = vec![(0.0, 0.0); truth.len()];
        for occurrence in occurrences {
            let times = drawn.map_or(1.0, |drawn| f64::from(drawn[occurrence.answer]));
            sums[occurrence.word].0 += times * value(occurrence);
            sums[occurrence.word].1 += times;
        }
        let (learned, human): (Vec<f64>, Vec<f64>) = sums
            .iter()
            .zip(truth)
            .filter(|((_, count), _)| *count > 0.0)
            .map(|((sum, count), truth)| (sum / count, *truth))
            .unzip();
        spearman(&learned, &human)
    };
    let interval = bootstrap.interval(answers, |drawn| correlation(Some(drawn)).ok()?.value)?;
    Ok(correlation(None)?.with_interval(interval))
}
