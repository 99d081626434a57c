//! The word floors: a Bradley-Terry model of single words, and their log-odds, both of the rows that trained the map.

use crate::data::{PreferenceRow, Rows};
use crate::eval::floors::{IdPair, UnigramLogOdds, WordIds};
use crate::eval::{EvalError, UnigramBradleyTerry, Words};

/// Penalties that are tried by cross-validation: the floor at its best, which is the fair one.
const PENALTIES: [f64; 5] = [0.01, 0.03, 0.1, 0.3, 1.0];
/// Folds of the cross-validation.
const FOLDS: usize = 3;

/// Two rewards for each word, learned from pairs alone: [`UnigramBradleyTerry`] and [`UnigramLogOdds`]. Neither is always
/// the better one: where one word settles a pair, counting says more of the others than a likelihood that is content.
#[derive(Clone, Debug)]
pub struct WordFloor {
    words: Words,
    model: UnigramBradleyTerry,
    odds: UnigramLogOdds,
}

impl WordFloor {
    /// The floors' names in results, in the order of [`WordFloor::of_tokens`].
    pub const NAMES: [&'static str; 2] = ["unigram Bradley-Terry", "unigram log-odds"];

    /// Fits on the rows that trained a map; `None` where they are no pairs.
    ///
    /// # Errors
    /// What [`WordFloor::fit`] gives.
    pub fn of_rows(rows: &Rows) -> Result<Option<Self>, EvalError> {
        match rows {
            Rows::Preferences(pairs) => Self::fit(pairs).map(Some),
            Rows::Demonstrations(_) | Rows::Unpaired(_) => Ok(None),
        }
    }

    /// Fits on pairs; the penalty is the best of a few by cross-validation.
    ///
    /// # Errors
    /// Fewer than three pairs, or no convergence.
    pub fn fit(rows: &[PreferenceRow]) -> Result<Self, EvalError> {
        let mut words = Words::default();
        // Pairs that call their answers equal say nothing of a word.
        let encoded: Vec<(WordIds, WordIds)> = rows
            .iter()
            .filter_map(|row| {
                let (better, worse) = row.judged()?;
                Some((
                    words.encode(better.content.answer_text()),
                    words.encode(worse.content.answer_text()),
                ))
            })
            .collect();
        let pairs: Vec<IdPair<'_>> = encoded
            .iter()
            .map(|(chosen, rejected)| IdPair {
                chosen: &chosen.ids,
                rejected: &rejected.ids,
            })
            .collect();
        let model = UnigramBradleyTerry::tune(&pairs, &PENALTIES, FOLDS, 0)?;
        let odds = UnigramLogOdds::fit(&pairs)?;
        Ok(Self { words, model, odds })
    }

    /// The rewards of a token that covers code points `start..end` of `text`, for each of `tokens`: the mean over its visible
    /// characters of the reward of the word that each is in.
    pub fn of_tokens(&self, text: &str, tokens: &[(usize, usize)]) -> Vec<[f64; 2]> {
        // Words that are new here get an id beyond the model's, whose weight is 0.
        let split = self.words.clone().encode(text);
        let mut by_character = vec![None; text.chars().count()];
        for (id, (start, end)) in split.ids.iter().zip(&split.offsets) {
            let rewards = [self.model.weight(*id), self.odds.weight(*id)];
            by_character[*start..*end].fill(Some(rewards));
        }
        tokens
            .iter()
            .map(|(start, end)| {
                let part = by_character.get(*start..*end).unwrap_or_default();
                let (sum, count) = part
                    .iter()
                    .flatten()
                    .fold(([0.0; 2], 0usize), |(sum, count), w| {
                        ([sum[0] + w[0], sum[1] + w[1]], count + 1)
                    });
                sum.map(|sum| sum / count.max(1) as f64)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Answer, Content};

    #[test]
    fn a_bad_word_weighs_on_every_token_of_it() {
        let answer = |text: &str| Answer {
            content: Content::Text(text.into()),
            spans: None,
            true_rewards: None,
            true_reward_std: None,
        };
        let rows: Vec<PreferenceRow> = (0..30)
            .map(|i| PreferenceRow {
                id: i.to_string(),
                line: i,
                prompt: Content::Text(String::new()),
                chosen: answer("a kind day"),
                rejected: answer("a rotten day"),
                margin: None,
                strength: None,
                preference: None,
            })
            .collect();
        let floor = WordFloor::fit(&rows).unwrap();
        // "rot", "ten", " kind", " new"
        let got = floor.of_tokens("rotten kind new", &[(0, 3), (3, 6), (6, 11), (11, 15)]);
        for floor in 0..2 {
            let got: Vec<f64> = got.iter().map(|rewards| rewards[floor]).collect();
            assert!(got[0] < -0.5 && got[0] == got[1], "{got:?}");
            assert!(got[2] > 0.5 && got[3] == 0.0, "{got:?}");
        }
        assert!(WordFloor::fit(&rows[..1]).is_err());
    }
}
