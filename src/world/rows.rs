//! Rows of the synthetic language: demonstrations, noisy preferences, plain text; and what is known about them.

use super::language::{Language, TokenTruth, WordClass};
use super::writer::{DEMONSTRATOR_SKILL, WrittenAnswer};
use crate::data::{Answer, Content, DemonstrationRow, PreferenceRow, Rows, Span};
use crate::random::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How the annotator of the synthetic preferences errs. Both kinds of error are known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreferenceNoise {
    /// P(first is labelled better) = sigmoid(`inverse_temperature` x (its true return - the other's)), the Bradley-Terry
    /// law. Infinite: the annotator always sees the better one. 0: coin tosses.
    pub inverse_temperature: f64,
    /// Probability that the finished label is turned round, whatever the answers; in `[0, 0.5]`.
    pub flip: f64,
}

impl Default for PreferenceNoise {
    /// Careful annotators who still err: differences of return count threefold, one label in fifty is turned round.
    fn default() -> Self {
        Self {
            inverse_temperature: 3.0,
            flip: 0.02,
        }
    }
}

/// A noise that no annotator can have.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NoiseError {
    /// Negative or NaN.
    #[error("inverse_temperature is {0}; it must be 0 (coin tosses) or more, up to infinity")]
    InverseTemperature(f64),
    /// Not a probability up to one half.
    #[error("flip is {0}; it must lie in 0..=0.5 (beyond one half the labels mean their opposite)")]
    Flip(f64),
}

impl PreferenceNoise {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The field that is out of range.
    pub fn check(&self) -> Result<(), NoiseError> {
        if self.inverse_temperature.is_nan() || self.inverse_temperature < 0.0 {
            return Err(NoiseError::InverseTemperature(self.inverse_temperature));
        }
        if !(0.0..=0.5).contains(&self.flip) {
            return Err(NoiseError::Flip(self.flip));
        }
        Ok(())
    }

    /// Probability that the label prefers an answer whose true return is larger by `difference`.
    #[must_use]
    pub fn label_probability(&self, difference: f64) -> f64 {
        // An infinite inverse temperature times a difference of 0 would be NaN; a tie is a coin toss.
        let p = if difference == 0.0 {
            0.5
        } else {
            1.0 / (1.0 + (-self.inverse_temperature * difference).exp())
        };
        self.flip + (1.0 - 2.0 * self.flip) * p
    }
}

fn id(i: usize) -> String {
    format!("world-{i:06}")
}

fn answer(written: WrittenAnswer) -> Answer {
    Answer {
        content: Content::Text(written.answer),
        spans: None,
        true_rewards: Some(written.truths.iter().map(|t| t.mean).collect()),
        true_reward_std: Some(written.truths.iter().map(|t| t.std).collect()),
    }
}

impl Language {
    /// `n` demonstrations by the skilled writer. Row i depends on the seed and on i only.
    #[must_use]
    pub fn demonstrations(&self, n: usize, seed: u64) -> Vec<DemonstrationRow> {
        (0..n)
            .map(|i| {
                let mut rng = Rng::stream(seed, i as u64);
                let prompt = self.prompt(&mut rng);
                let written = self.answer(&prompt, DEMONSTRATOR_SKILL, &mut rng);
                DemonstrationRow {
                    id: id(i),
                    line: i + 1,
                    prompt: Content::Text(prompt),
                    answer: answer(written),
                }
            })
            .collect()
    }

    /// `n` answers by the ordinary writer, who neither seeks nor avoids reward: what a base model is to the demonstrator.
    /// Row i depends on the seed and on i only.
    #[must_use]
    pub fn base_answers(&self, n: usize, seed: u64) -> Vec<DemonstrationRow> {
        (0..n)
            .map(|i| {
                let mut rng = Rng::stream(seed, i as u64);
                let prompt = self.prompt(&mut rng);
                let written = self.ordinary_answer(&prompt, &mut rng);
                DemonstrationRow {
                    id: format!("base-{i:06}"),
                    line: i + 1,
                    prompt: Content::Text(prompt),
                    answer: answer(written),
                }
            })
            .collect()
    }

    /// `n` pairs of different answers to one prompt, both by the ordinary writer, labelled with the stated noise. Row i
    /// depends on the seed, the noise and i only; the answers do not depend on the noise.
    ///
    /// # Errors
    /// A noise out of range.
    pub fn preferences(
        &self,
        n: usize,
        seed: u64,
        noise: PreferenceNoise,
    ) -> Result<Vec<PreferenceRow>, NoiseError> {
        noise.check()?;
        Ok((0..n)
            .map(|i| {
                let mut rng = Rng::stream(seed, i as u64);
                let prompt = self.prompt(&mut rng);
                let first = self.ordinary_answer(&prompt, &mut rng);
                let mut second = self.ordinary_answer(&prompt, &mut rng);
                while second.answer == first.answer {
                    second = self.ordinary_answer(&prompt, &mut rng);
                }
                let p = noise.label_probability(first.true_return() - second.true_return());
                let (chosen, rejected) = if rng.chance(p) {
                    (first, second)
                } else {
                    (second, first)
                };
                PreferenceRow {
                    id: id(i),
                    line: i + 1,
                    prompt: Content::Text(prompt),
                    chosen: answer(chosen),
                    rejected: answer(rejected),
                    margin: None,
                    strength: None,
                    preference: None,
                }
            })
            .collect())
    }

    /// `n` plain texts (prompt and answer) for pretraining: three in four by the ordinary writer, one by a skilled one,
    /// so that a language model knows good writing without preferring it.
    #[must_use]
    pub fn corpus(&self, n: usize, seed: u64) -> Vec<String> {
        (0..n)
            .map(|i| {
                let mut rng = Rng::stream(seed, i as u64);
                let prompt = self.prompt(&mut rng);
                let written = if rng.chance(0.25) {
                    self.answer(&prompt, DEMONSTRATOR_SKILL, &mut rng)
                } else {
                    self.ordinary_answer(&prompt, &mut rng)
                };
                written.prompt + &written.answer
            })
            .collect()
    }

    /// Spans of the words of an answer whose true reward is below `threshold`: what a perfect annotator would mark as
    /// errors. Code points, neighbouring words apart. `truths` belongs to the words of `answer`.
    #[must_use]
    pub fn error_spans(&self, answer: &str, truths: &[TokenTruth], threshold: f32) -> Vec<Span> {
        let mut spans = Vec::new();
        let (mut start, mut words) = (None, truths.iter());
        let mut mark = |start: usize, end: usize| {
            if words.next().is_some_and(|t| t.mean < threshold) {
                spans.push(Span { start, end });
            }
        };
        let mut length = 0;
        for (i, c) in answer.chars().enumerate() {
            length = i + 1;
            match (c.is_whitespace(), start) {
                (true, Some(from)) => {
                    mark(from, i);
                    start = None;
                }
                (false, None) => start = Some(i),
                _ => {}
            }
        }
        if let Some(from) = start {
            mark(from, length);
        }
        spans
    }

    /// What the true rewards of these answers look like, class by class, for documentation. Rows whose prompt or answer
    /// is a chat are skipped.
    #[must_use]
    pub fn class_statistics(&self, rows: &Rows) -> BTreeMap<WordClass, ClassStatistics> {
        let mut means: BTreeMap<WordClass, Vec<f32>> = BTreeMap::new();
        let mut add = |prompt: &Content, answer: &Answer| {
            if let (Content::Text(prompt), Content::Text(answer)) = (prompt, &answer.content) {
                let text = format!("{prompt} {answer}");
                let words: Vec<&str> = text.split_whitespace().collect();
                for reading in self.readings(&words) {
                    means
                        .entry(reading.class)
                        .or_default()
                        .push(reading.truth.mean);
                }
            }
        };
        match rows {
            Rows::Preferences(rows) => rows.iter().for_each(|row| {
                add(&row.prompt, &row.chosen);
                add(&row.prompt, &row.rejected);
            }),
            Rows::Demonstrations(rows) => rows.iter().for_each(|row| add(&row.prompt, &row.answer)),
            Rows::Unpaired(rows) => rows.iter().for_each(|row| add(&row.prompt, &row.answer)),
        }
        means.remove(&WordClass::Prompt);
        means
            .into_iter()
            .filter_map(|(class, values)| Some((class, ClassStatistics::of(values, class.std())?)))
            .collect()
    }
}

/// Distribution of the true mean rewards of one word class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassStatistics {
    /// Tokens.
    pub count: usize,
    /// Average of the true means.
    pub mean: f32,
    /// Their percentiles 5, 25, 50, 75 and 95 (nearest rank).
    pub percentiles: [f32; 5],
    /// The known spread of single evaluations of this class.
    pub evaluation_std: f32,
}

impl ClassStatistics {
    fn of(mut values: Vec<f32>, evaluation_std: f32) -> Option<Self> {
        values.sort_by(f32::total_cmp);
        let last = values.len().checked_sub(1)?;
        let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
        Some(Self {
            count: values.len(),
            mean: (sum / values.len() as f64) as f32,
            percentiles: [5, 25, 50, 75, 95]
                .map(|p| values[(values.len() * p).div_ceil(100).saturating_sub(1).min(last)]),
            evaluation_std,
        })
    }
}

/// The best that any reward model can do on noisy pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairCeiling {
    /// Pairs with known rewards.
    pub pairs: usize,
    /// Share of them whose label agrees with the true returns; equal returns count one half.
    pub accuracy: f64,
    /// What that share is on average over labels drawn with this noise.
    pub expected_accuracy: f64,
    /// Mean negative log-probability of the labels under the true returns and the true noise, in nats: the smallest
    /// expected log-loss.
    pub log_loss: f64,
}

fn known_return(answer: &Answer) -> Option<f64> {
    answer
        .true_rewards
        .as_ref()
        .map(|rewards| rewards.iter().map(|&r| f64::from(r)).sum())
}

/// How well the true return itself predicts the noisy labels. `None` when no row carries true rewards.
#[must_use]
pub fn pair_ceiling(rows: &[PreferenceRow], noise: PreferenceNoise) -> Option<PairCeiling> {
    let (mut pairs, mut right, mut expected, mut loss) = (0usize, 0.0, 0.0, 0.0);
    for row in rows {
        if let (Some(chosen), Some(rejected)) =
            (known_return(&row.chosen), known_return(&row.rejected))
        {
            let difference = chosen - rejected;
            pairs += 1;
            right += if difference == 0.0 {
                0.5
            } else {
                f64::from(u8::from(difference > 0.0))
            };
            expected += noise.label_probability(difference.abs());
            loss -= noise.label_probability(difference).ln();
        }
    }
    let n = pairs as f64;
    (pairs > 0).then(|| PairCeiling {
        pairs,
        accuracy: right / n,
        expected_accuracy: expected / n,
        log_loss: loss / n,
    })
}

/// How often the longer answer won.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthBalance {
    /// Pairs of different length.
    pub pairs: usize,
    /// Share of them whose chosen answer is the longer one.
    pub longer_wins: f64,
}

/// How often the longer answer is the chosen one, by words; a reward that only counted words would have this accuracy.
/// `None` without two texts of different length.
#[must_use]
pub fn longer_wins(rows: &[PreferenceRow]) -> Option<LengthBalance> {
    let words = |answer: &Answer| match &answer.content {
        Content::Text(text) => Some(text.split_whitespace().count()),
        Content::Messages(_) => None,
    };
    let (mut pairs, mut wins) = (0usize, 0usize);
    for row in rows {
        if let (Some(chosen), Some(rejected)) = (words(&row.chosen), words(&row.rejected))
            && chosen != rejected
        {
            pairs += 1;
            wins += usize::from(chosen > rejected);
        }
    }
    (pairs > 0).then(|| LengthBalance {
        pairs,
        longer_wins: wins as f64 / pairs as f64,
    })
}

/// Rows as JSON lines, one object a line, with the columns that the reader knows: `id`, `prompt`, then `chosen` and
/// `rejected` or `completion` (with its `label`, where answers are labelled one by one), and where known their `_spans`,
/// `_rewards`, `_reward_std` (for an answer alone without prefix), `margin`, `strength` and `preference`. Numbers keep their shortest form that reads back to the same value.
#[must_use]
pub fn rows_to_jsonl(rows: &Rows) -> String {
    fn put(object: &mut Map<String, Value>, column: &str, prefix: &str, answer: &Answer) {
        object.insert(column.to_owned(), json!(answer.content));
        for (name, value) in [
            ("spans", answer.spans.as_ref().map(|v| json!(v))),
            ("rewards", answer.true_rewards.as_ref().map(|v| numbers(v))),
            (
                "reward_std",
                answer.true_reward_std.as_ref().map(|v| numbers(v)),
            ),
        ] {
            if let Some(value) = value {
                object.insert(format!("{prefix}{name}"), value);
            }
        }
    }
    /// An f32 that is turned into an f64 would print as 0.800000011920929.
    fn numbers(values: &[f32]) -> Value {
        values
            .iter()
            .map(|v| {
                v.to_string()
                    .parse::<f64>()
                    .map_or(Value::Null, |v| json!(v))
            })
            .collect()
    }
    fn line(id: &str, prompt: &Content) -> Map<String, Value> {
        Map::from_iter([
            ("id".to_owned(), json!(id)),
            ("prompt".to_owned(), json!(prompt)),
        ])
    }
    let mut text = String::new();
    let mut end = |object: Map<String, Value>| {
        text.push_str(&Value::Object(object).to_string());
        text.push('\n');
    };
    match rows {
        Rows::Preferences(rows) => {
            for row in rows {
                let mut object = line(&row.id, &row.prompt);
                put(&mut object, "chosen", "chosen_", &row.chosen);
                put(&mut object, "rejected", "rejected_", &row.rejected);
                if let Some(margin) = row.margin {
                    object.insert("margin".to_owned(), numbers(&[margin])[0].clone());
                }
                if let Some(strength) = row.strength {
                    object.insert("strength".to_owned(), numbers(&[strength])[0].clone());
                }
                if let Some(preference) = row.preference {
                    object.insert("preference".to_owned(), numbers(&[preference])[0].clone());
                }
                end(object);
            }
        }
        Rows::Demonstrations(rows) => {
            for row in rows {
                let mut object = line(&row.id, &row.prompt);
                put(&mut object, "completion", "", &row.answer);
                end(object);
            }
        }
        Rows::Unpaired(rows) => {
            for row in rows {
                let mut object = line(&row.id, &row.prompt);
                put(&mut object, "completion", "", &row.answer);
                object.insert("label".to_owned(), json!(row.label));
                end(object);
            }
        }
    }
    text
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
