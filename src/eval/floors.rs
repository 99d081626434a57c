//! The floor that every claim is held against: a Bradley-Terry model of single words.
//!
//! A reward model that does not beat the word counts has learned word counts. The floor gives pair scores and token scores,
//! so that token AUC has a floor too.

use super::auc::LabelledTokens;
use super::gaussian::{log_sigmoid, sigmoid};
use super::optimise::minimise;
use super::resample::SplitMix64;
use super::{EvalError, PairAccuracy, check_values, pair_accuracy};
use std::collections::BTreeMap;
use std::collections::HashMap;

/// Lower-cased words with stable ids, for floors that need no tokenizer. A word is a run of letters, digits and
/// apostrophes; every other visible character is a word of its own.
#[derive(Clone, Debug, Default)]
pub struct Words {
    ids: HashMap<String, u32>,
}

/// A text as words: ids and code-point ranges, `[n]` each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordIds {
    /// One id a word.
    pub ids: Vec<u32>,
    /// Code points of each word, end exclusive.
    pub offsets: Vec<(usize, usize)>,
}

impl Words {
    /// Splits a text; words not seen before get the next id.
    pub fn encode(&mut self, text: &str) -> WordIds {
        let mut out = WordIds::default();
        let mut word = String::new();
        let mut start = 0;
        let part = |c: char| c.is_alphanumeric() || c == '\'' || c == '\u{2019}';
        for (i, c) in text.chars().enumerate() {
            if part(c) {
                if word.is_empty() {
                    start = i;
                }
                word.extend(c.to_lowercase());
                continue;
            }
            self.push(&mut word, (start, i), &mut out);
            if !c.is_whitespace() {
                word.extend(c.to_lowercase());
                self.push(&mut word, (i, i + 1), &mut out);
            }
        }
        self.push(&mut word, (start, text.chars().count()), &mut out);
        out
    }

    fn push(&mut self, word: &mut String, range: (usize, usize), out: &mut WordIds) {
        if word.is_empty() {
            return;
        }
        let next = self.ids.len() as u32;
        out.ids
            .push(*self.ids.entry(std::mem::take(word)).or_insert(next));
        out.offsets.push(range);
    }

    /// Distinct words so far.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// No word yet.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// A pair of answers as ids.
#[derive(Clone, Copy, Debug)]
pub struct IdPair<'a> {
    /// The better answer.
    pub chosen: &'a [u32],
    /// The other.
    pub rejected: &'a [u32],
}

/// Pairs on which penalties are compared, at most.
const MOST_TUNED_PAIRS: usize = 20_000;

/// Bradley-Terry on token counts: score(answer) = sum of one weight per token, P(chosen better) = sigma(difference).
#[derive(Clone, Debug, PartialEq)]
pub struct UnigramBradleyTerry {
    weights: BTreeMap<u32, f64>,
    /// The penalty it was fitted with.
    pub l2: f64,
}

impl UnigramBradleyTerry {
    /// Minimises sum over pairs of -log sigma(w . (counts(chosen) - counts(rejected))) + l2/2 |w|^2. The prior makes the
    /// optimum unique and finite also where a word separates the pairs perfectly.
    ///
    /// # Errors
    /// No pairs, an l2 that is not positive, no convergence.
    pub fn fit(pairs: &[IdPair<'_>], l2: f64) -> Result<Self, EvalError> {
        if pairs.is_empty() {
            return Err(EvalError::Empty { what: "pairs" });
        }
        if !(l2 > 0.0 && l2.is_finite()) {
            return Err(EvalError::Range {
                what: "l2",
                value: l2,
                need: "above 0",
            });
        }
        // Words whose counts agree in every pair get no weight and no column.
        let mut columns: BTreeMap<u32, usize> = BTreeMap::new();
        let mut rows: Vec<Vec<(usize, f64)>> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let mut difference: BTreeMap<u32, f64> = BTreeMap::new();
            pair.chosen
                .iter()
                .for_each(|id| *difference.entry(*id).or_default() += 1.0);
            pair.rejected
                .iter()
                .for_each(|id| *difference.entry(*id).or_default() -= 1.0);
            let mut row = Vec::new();
            for (id, count) in difference.into_iter().filter(|(_, c)| *c != 0.0) {
                let next = columns.len();
                row.push((*columns.entry(id).or_insert(next), count));
            }
            rows.push(row);
        }
        let weights = minimise(
            "unigram Bradley-Terry",
            vec![0.0; columns.len()],
            1e-5 * l2.max(1.0),
            2000,
            |w| {
                let mut value = 0.5 * l2 * w.iter().map(|v| v * v).sum::<f64>();
                let mut gradient: Vec<f64> = w.iter().map(|v| l2 * v).collect();
                for row in &rows {
                    let margin: f64 = row.iter().map(|(c, n)| w[*c] * n).sum();
                    value -= log_sigmoid(margin);
                    let pull = sigmoid(-margin);
                    row.iter().for_each(|(c, n)| gradient[*c] -= pull * n);
                }
                (value, gradient)
            },
        )?;
        Ok(Self {
            weights: columns
                .into_iter()
                .map(|(id, c)| (id, weights[c]))
                .collect(),
            l2,
        })
    }

    /// The fit whose penalty has the best cross-validated log-likelihood: the baseline at its best, which is the fair one.
    /// Folds are drawn once with `seed`, the same for every candidate, from at most 20,000 pairs: the
    /// penalty is the inverse variance of a prior on weights, which does not grow with the pairs. The fit that is kept is on all.
    ///
    /// # Errors
    /// No candidates, fewer pairs than folds, fewer than two folds, or as [`Self::fit`].
    pub fn tune(
        pairs: &[IdPair<'_>],
        candidates: &[f64],
        folds: usize,
        seed: u64,
    ) -> Result<Self, EvalError> {
        check_values("l2 candidates", candidates)?;
        if folds < 2 || folds > pairs.len() {
            return Err(EvalError::Range {
                what: "folds",
                value: folds as f64,
                need: "at least 2 and at most the number of pairs",
            });
        }
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        SplitMix64::new(seed).shuffle(&mut order);
        order.truncate(MOST_TUNED_PAIRS.max(folds));
        let mut best = (f64::NEG_INFINITY, candidates[0]);
        for &l2 in candidates {
            let mut total = 0.0;
            for fold in 0..folds {
                let held = |i: usize| i % folds == fold;
                let pick = |keep: &dyn Fn(usize) -> bool| -> Vec<IdPair<'_>> {
                    order
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| keep(*i))
                        .map(|(_, p)| pairs[*p])
                        .collect()
                };
                let model = Self::fit(&pick(&|i| !held(i)), l2)?;
                total += pick(&held)
                    .iter()
                    .map(|p| log_sigmoid(model.score(p.chosen) - model.score(p.rejected)))
                    .sum::<f64>();
            }
            if total > best.0 {
                best = (total, l2);
            }
        }
        Self::fit(pairs, best.1)
    }

    /// A token's weight; 0 for one that was not seen.
    pub fn weight(&self, id: u32) -> f64 {
        self.weights.get(&id).copied().unwrap_or(0.0)
    }

    /// The answer's score: the sum of its tokens' weights.
    pub fn score(&self, ids: &[u32]) -> f64 {
        ids.iter().map(|id| self.weight(*id)).sum()
    }

    /// One weight a token, `[T]`.
    pub fn token_scores(&self, ids: &[u32]) -> Vec<f64> {
        ids.iter().map(|id| self.weight(*id)).collect()
    }

    /// Pair accuracy on held-out pairs.
    ///
    /// # Errors
    /// No pairs.
    pub fn accuracy(&self, pairs: &[IdPair<'_>]) -> Result<PairAccuracy, EvalError> {
        let chosen: Vec<f64> = pairs.iter().map(|p| self.score(p.chosen)).collect();
        let rejected: Vec<f64> = pairs.iter().map(|p| self.score(p.rejected)).collect();
        pair_accuracy(&chosen, &rejected)
    }

    /// A row for [`super::token_auc`] against spans of bad text: the negative weights.
    pub fn badness(&self, ids: &[u32], labels: Vec<bool>) -> LabelledTokens {
        LabelledTokens {
            scores: ids.iter().map(|id| -self.weight(*id)).collect(),
            labels,
        }
    }
}

/// Log-odds of each token between the better and the worse answers: naive Bayes, with each answer a bag of tokens.
///
/// Where a Bradley-Terry model of a pair is content once the pair is told apart, counting is not: on pairs that one word
/// settles, such as detoxified sentences, its token map is the stronger floor (`docs/LOG.md`, 2026-11-26).
#[derive(Clone, Debug, PartialEq)]
pub struct UnigramLogOdds {
    weights: BTreeMap<u32, f64>,
}

/// Occurrences that are added to each count: Jeffreys' prior of a proportion.
const ADDED: f64 = 0.5;

impl UnigramLogOdds {
    /// Counts. The weight of token i is log((c_i + 0.5) / (r_i + 0.5)) - log((C + 0.5 V) / (R + 0.5 V)), with c and r its
    /// occurrences in chosen and rejected answers, C and R those of all tokens, and V the different tokens that occur.
    ///
    /// # Errors
    /// No pairs.
    pub fn fit(pairs: &[IdPair<'_>]) -> Result<Self, EvalError> {
        if pairs.is_empty() {
            return Err(EvalError::Empty { what: "pairs" });
        }
        let mut counts: BTreeMap<u32, [f64; 2]> = BTreeMap::new();
        for pair in pairs {
            for (side, ids) in [pair.chosen, pair.rejected].into_iter().enumerate() {
                ids.iter()
                    .for_each(|id| counts.entry(*id).or_default()[side] += 1.0);
            }
        }
        let of_all = |side: usize| {
            counts.values().map(|count| count[side]).sum::<f64>() + ADDED * counts.len() as f64
        };
        let all = (of_all(0) / of_all(1)).ln();
        let weights = counts
            .iter()
            .map(|(id, [c, r])| (*id, ((c + ADDED) / (r + ADDED)).ln() - all))
            .collect();
        Ok(Self { weights })
    }

    /// A token's weight; 0 for one that was not seen.
    pub fn weight(&self, id: u32) -> f64 {
        self.weights.get(&id).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Span;
    use crate::eval::{Bootstrap, token_auc, token_labels};
    use serde_json::Value;

    fn pair<'a>(chosen: &'a [u32], rejected: &'a [u32]) -> IdPair<'a> {
        IdPair { chosen, rejected }
    }

    #[test]
    fn words_are_lower_cased_with_code_point_offsets() {
        let mut words = Words::default();
        let got = words.encode("Él don't, EL  él");
        assert_eq!(got.offsets, [(0, 2), (3, 8), (8, 9), (10, 12), (14, 16)]);
        assert_eq!(got.ids, [0, 1, 2, 3, 0]);
        assert_eq!((words.len(), words.encode("  ").ids.len()), (4, 0));
    }

    #[test]
    fn one_word_has_the_closed_form_weight() {
        // N pairs with difference 1: N sigma(-w) = l2 w.
        let model = UnigramBradleyTerry::fit(&vec![pair(&[7, 1], &[1]); 10], 2.0).unwrap();
        let w = model.weight(7);
        assert!((10.0 * sigmoid(-w) - 2.0 * w).abs() < 1e-4, "{w}");
        assert_eq!((model.weight(1), model.weight(99)), (0.0, 0.0));
        assert_eq!(model.token_scores(&[1, 7]), [0.0, w]);
    }

    #[test]
    fn log_odds_have_their_closed_form_and_turn_with_the_sides() {
        // Token 1 on both sides, 7 in chosen answers alone, 8 in rejected ones alone.
        let (good, bad) = ([7, 1], [8, 8, 1]);
        let there = UnigramLogOdds::fit(&[pair(&good, &bad), pair(&good, &bad)]).unwrap();
        let all = ((4.0f64 + 1.5) / (6.0 + 1.5)).ln();
        for (id, c, r) in [(7, 2.0, 0.0), (8, 0.0, 4.0), (1, 2.0, 2.0)] {
            let weight: f64 = ((c + 0.5) / (r + 0.5f64)).ln() - all;
            assert!((there.weight(id) - weight).abs() < 1e-12, "{id}");
        }
        assert_eq!(there.weight(99), 0.0);
        let back = UnigramLogOdds::fit(&[pair(&bad, &good), pair(&bad, &good)]).unwrap();
        for id in [1, 7, 8] {
            assert!((there.weight(id) + back.weight(id)).abs() < 1e-12);
        }
        assert!(UnigramLogOdds::fit(&[]).is_err());
    }

    #[test]
    fn swapping_every_pair_negates_every_weight() {
        let a: Vec<(Vec<u32>, Vec<u32>)> = (0..40u32)
            .map(|i| (vec![i % 5, i % 3 + 5], vec![i % 4, (i * 7) % 6 + 3]))
            .collect();
        let there: Vec<_> = a.iter().map(|(c, r)| pair(c, r)).collect();
        let back: Vec<_> = a.iter().map(|(c, r)| pair(r, c)).collect();
        let (one, two) = (
            UnigramBradleyTerry::fit(&there, 0.5).unwrap(),
            UnigramBradleyTerry::fit(&back, 0.5).unwrap(),
        );
        for id in 0..12 {
            assert!((one.weight(id) + two.weight(id)).abs() < 1e-4, "{id}");
        }
    }

    #[test]
    fn tuning_takes_a_strong_penalty_for_noise_and_a_weak_one_for_signal() {
        let mut random = SplitMix64::new(3);
        let noise: Vec<(Vec<u32>, Vec<u32>)> = (0..200)
            .map(|_| (vec![random.below(50) as u32], vec![random.below(50) as u32]))
            .collect();
        let noise: Vec<_> = noise.iter().map(|(c, r)| pair(c, r)).collect();
        assert_eq!(
            UnigramBradleyTerry::tune(&noise, &[0.01, 100.0], 5, 0)
                .unwrap()
                .l2,
            100.0
        );
        let signal = vec![pair(&[1], &[2]); 100];
        assert_eq!(
            UnigramBradleyTerry::tune(&signal, &[0.01, 100.0], 5, 0)
                .unwrap()
                .l2,
            0.01
        );
        assert!(UnigramBradleyTerry::tune(&signal, &[1.0], 1, 0).is_err());
        assert!(UnigramBradleyTerry::tune(&signal, &[], 5, 0).is_err());
        assert!(
            UnigramBradleyTerry::fit(&[], 1.0).is_err()
                && UnigramBradleyTerry::fit(&signal, 0.0).is_err()
        );
    }

    fn spans(row: &Value, key: &str) -> Vec<Span> {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        row[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| Span {
                start: number(&s[0]),
                end: number(&s[1]),
            })
            .collect()
    }

    /// The floors that the data's own notes give for ParaDetox: 0.991 pair accuracy, 0.674 token AUC.
    #[test]
    fn the_floors_on_paradetox_are_near_the_stated_ones() {
        let Some(bytes) = crate::test_data::read("data/minpairs_paradetox.jsonl.gz") else {
            return;
        };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text)
            .unwrap();
        let rows: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let mut words = Words::default();
        let encoded: Vec<(WordIds, WordIds)> = rows
            .iter()
            .map(|r| {
                (
                    words.encode(r["chosen"].as_str().unwrap()),
                    words.encode(r["rejected"].as_str().unwrap()),
                )
            })
            .collect();
        let side = |test: bool| move |i: &usize| i.is_multiple_of(5) == test;
        let ids = |test: bool| -> Vec<IdPair<'_>> {
            (0..rows.len())
                .filter(side(test))
                .map(|i| pair(&encoded[i].0.ids, &encoded[i].1.ids))
                .collect()
        };
        let (train, held) = (ids(false), ids(true));
        let model = UnigramBradleyTerry::tune(&train, &[0.01, 0.03, 0.1, 0.3, 1.0], 3, 0).unwrap();
        let accuracy = model.accuracy(&held).unwrap();
        let tokens: Vec<LabelledTokens> = (0..rows.len())
            .filter(side(true))
            .filter(|i| !encoded[*i].1.ids.is_empty())
            .map(|i| {
                let (row, rejected) = (&rows[i], &encoded[i].1);
                let text = row["rejected"].as_str().unwrap();
                let labels =
                    token_labels(text, &rejected.offsets, &spans(row, "rejected_spans")).unwrap();
                model.badness(&rejected.ids, labels)
            })
            .collect();
        let auc = token_auc(
            &tokens,
            &Bootstrap {
                draws: 100,
                ..Bootstrap::default()
            },
        )
        .unwrap();
        println!(
            "ParaDetox: {} words, {} train, {} held out, l2 {}; accuracy {} (ties {}); token AUC pooled {}, per row {}; average precision {}",
            words.len(),
            train.len(),
            held.len(),
            model.l2,
            accuracy.accuracy,
            accuracy.ties,
            auc.pooled,
            auc.per_row,
            auc.average_precision
        );
        assert!(
            (accuracy.accuracy - 0.991).abs() < 0.01,
            "{}",
            accuracy.accuracy
        );
        assert!(
            (auc.pooled.value.unwrap() - 0.674).abs() < 0.05,
            "{}",
            auc.pooled
        );
        // Counting is the stronger token map: what the floor of log-odds is for.
        let counted = UnigramLogOdds::fit(&train).unwrap();
        let counts: Vec<LabelledTokens> = (0..rows.len())
            .filter(side(true))
            .filter(|i| !encoded[*i].1.ids.is_empty())
            .zip(&tokens)
            .map(|(i, fitted)| LabelledTokens {
                scores: (encoded[i].1.ids.iter())
                    .map(|id| -counted.weight(*id))
                    .collect(),
                labels: fitted.labels.clone(),
            })
            .collect();
        let by_counts = token_auc(&counts, &Bootstrap::OFF).unwrap().pooled;
        println!("ParaDetox: token AUC of log-odds, pooled {by_counts}");
        assert!(
            by_counts.value.unwrap() > auc.pooled.value.unwrap() + 0.02,
            "{by_counts}"
        );
    }
}
