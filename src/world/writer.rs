//! Writers of the synthetic language: a stochastic grammar whose every choice of a word is as good as its writer.
//!
//! A writer of skill `k` chooses among the words that the grammar allows with probability in proportion to
//! (how common the word is there) x exp(`k` x its true reward there). Skill 0 follows the grammar alone, a high skill is
//! a demonstrator, a negative one is a saboteur. The writer looks one word ahead, never further. The length of an answer
//! is drawn before its words, so that skill and length do not depend on each other.

use super::language::{Entry, LEXICON, Language, Reader, TokenTruth, WordClass, find};
use crate::random::Rng;

/// Skill of the writer of demonstrations: eleven times out of twelve it takes the better of two words that
/// differ by 0.8.
pub const DEMONSTRATOR_SKILL: f64 = 3.0;

/// Skill of an ordinary answer is drawn anew for each answer, uniformly between these: answers vary in quality. The
/// middle lies above 0 because stutters and open promises pull the return of longer answers down; here lengthening an
/// answer changes its expected return by almost nothing.
const ORDINARY_SKILL: [f64; 2] = [-0.9, 1.1];

/// Fewest and most words of an answer, its last full stop included.
pub(super) const ANSWER_WORDS: [usize; 2] = [5, 16];
/// How often an ordinary writer says a word twice in a row; a skilled one less (the stutter's reward counts).
const STUTTER: f64 = 0.02;

/// A prompt with an answer and the answer's known rewards.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenAnswer {
    /// For example `review the soup : `. The space at its end keeps prompt and answer apart when they are joined.
    pub prompt: String,
    /// Words separated by single spaces; 5 to 16 of them, the last one `.`.
    pub answer: String,
    /// The known reward of every word of the answer.
    pub truths: Vec<TokenTruth>,
}

impl WrittenAnswer {
    /// The true return: the sum of the mean rewards.
    #[must_use]
    pub fn true_return(&self) -> f64 {
        self.truths.iter().map(|t| f64::from(t.mean)).sum()
    }
}

/// An answer that is being written.
struct Draft<'a> {
    rng: &'a mut Rng,
    skill: f64,
    reader: Reader,
    answer: Vec<&'static str>,
    truths: Vec<TokenTruth>,
}

impl Draft<'_> {
    /// Draws one of `options`, each with its weight, tilted by skill, without writing it.
    fn pick(&mut self, options: &[(&'static str, f64)]) -> &'static str {
        let weights: Vec<f64> = options
            .iter()
            .map(|&(word, weight)| {
                let reward = find(word).map_or(0.0, |id| self.reader.peek(id));
                weight * (self.skill * f64::from(reward)).exp()
            })
            .collect();
        let at = self.rng.weighted(&weights).unwrap_or(0);
        options.get(at).map_or(".", |o| o.0)
    }

    /// Writes a word, and now and then the same word once more.
    fn push(&mut self, word: &'static str) {
        self.push_once(word);
        let odds = STUTTER * (-0.8 * self.skill).exp();
        // Every clause needs at most three more words after any word of it that may stutter.
        if word != "." && self.room() > 3 && self.rng.chance(odds) {
            self.push_once(word);
        }
    }

    fn push_once(&mut self, word: &'static str) {
        self.truths.push(self.reader.read(find(word)).truth);
        self.answer.push(word);
    }

    fn choose(&mut self, options: &[(&'static str, f64)]) {
        let word = self.pick(options);
        self.push(word);
    }

    fn choose_class(&mut self, allowed: impl Fn(&Entry) -> bool) {
        let options: Vec<_> = LEXICON
            .iter()
            .filter(|e| allowed(e))
            .map(|e| (e.text, 1.0))
            .collect();
        self.choose(&options);
    }

    /// A word of a pair; more often than others one whose partner stands in the text already, so that pairs meet.
    fn choose_pair_word(&mut self) {
        let pairs = LEXICON
            .iter()
            .enumerate()
            .filter(|(_, e)| e.class == WordClass::Pair);
        let options: Vec<_> = pairs
            .map(|(id, e)| (e.text, if self.reader.awaited(id) { 6.0 } else { 1.0 }))
            .collect();
        self.choose(&options);
    }

    /// Words that still fit before the last full stop.
    fn room(&self) -> usize {
        (ANSWER_WORDS[1] - 1).saturating_sub(self.answer.len())
    }

    /// Up to two of `not`, `never` and the intensifiers, if there is room for them and `after` more words.
    fn modifiers(&mut self, negator: &'static str, after: usize) {
        if self.room() > after + 1 && self.rng.chance(0.3) {
            self.push(negator);
        }
        if self.room() > after && self.rng.chance(0.4) {
            self.choose_class(|e| e.class == WordClass::Intensifier);
        }
    }

    /// `the soup was not very good [with salt [and pepper]]`
    fn description(&mut self, topic: &'static str) {
        let mut subjects = vec![("it", 3.0), (topic, 4.0)];
        let others = LEXICON
            .iter()
            .filter(|e| e.class == WordClass::Topic && e.text != topic);
        subjects.extend(others.map(|e| (e.text, 0.1)));
        subjects
            .extend(["staff", "owner", "guide", "place", "view", "price"].map(|noun| (noun, 0.5)));
        let subject = self.pick(&subjects);
        if subject != "it" {
            self.push("the");
        }
        self.push(subject);
        self.choose(&[("was", 2.0), ("felt", 1.0), ("seemed", 1.0)]);
        self.modifiers("not", 1);
        self.choose_class(|e| match e.class {
            WordClass::Sentiment => !matches!(e.text, "loved" | "enjoyed" | "hated" | "regretted"),
            WordClass::Contextual => true,
            _ => false,
        });
        if self.room() >= 2 && self.rng.chance(0.3) {
            self.push("with");
            self.choose_pair_word();
            if self.room() >= 2 && self.rng.chance(0.5) {
                self.push("and");
                self.choose_pair_word();
            }
        }
    }

    /// `we never really loved the soup`
    fn feeling(&mut self, topic: &'static str) {
        self.push("we");
        self.modifiers("never", 3);
        self.choose(&[
            ("loved", 1.0),
            ("enjoyed", 1.0),
            ("hated", 1.0),
            ("regretted", 1.0),
        ]);
        self.push("the");
        self.choose(&[(topic, 3.0), ("place", 1.0), ("view", 1.0), ("staff", 1.0)]);
    }

    /// `they promised a gift`, `we ordered a cake`
    fn debt(&mut self) {
        if self.rng.chance(0.5) {
            self.push("they");
            self.push("promised");
        } else {
            self.push("we");
            self.push("ordered");
        }
        self.push("a");
        self.choose(&[("cake", 1.0), ("gift", 1.0), ("table", 1.0)]);
    }

    /// `[later] they kept it`, `[later] it vanished`; also where nothing is owed, now and then.
    fn consequence(&mut self, promise: bool) {
        if self.room() > 3 && self.rng.chance(0.5) {
            self.choose(&[("later", 1.0), ("then", 1.0), ("today", 1.0)]);
        }
        if promise {
            self.push("they");
            self.choose(&[("kept", 1.0), ("broke", 1.0)]);
            self.push("it");
        } else {
            self.push("it");
            self.choose(&[("arrived", 1.0), ("vanished", 1.0)]);
        }
    }

    /// `there was rain`
    fn scene(&mut self) {
        self.push("there");
        self.push("was");
        self.choose_pair_word();
    }

    fn clause(&mut self, topic: &'static str) {
        let owed = [self.reader.owes("promised"), self.reader.owes("ordered")];
        let weights = [
            4.0,
            1.5,
            if owed[0] || owed[1] { 0.2 } else { 2.0 },
            if owed[0] { 6.0 } else { 0.15 },
            if owed[1] { 6.0 } else { 0.15 },
            1.0,
        ];
        match self.rng.weighted(&weights) {
            Some(1) => self.feeling(topic),
            Some(2) => self.debt(),
            Some(3) => self.consequence(true),
            Some(4) => self.consequence(false),
            Some(5) => self.scene(),
            _ => self.description(topic),
        }
    }
}

impl Language {
    /// A prompt: `review the soup : `, with any topic.
    #[must_use]
    pub fn prompt(&self, rng: &mut Rng) -> String {
        let verb = if rng.chance(0.5) {
            "review"
        } else {
            "describe"
        };
        let topics = self.topics();
        let topic = topics
            .get(rng.below(topics.len()))
            .copied()
            .unwrap_or("soup");
        format!("{verb} the {topic} : ")
    }

    /// An answer to `prompt` by a writer of the given skill (see the head of this file). A prompt without a topic of
    /// the language is answered as if it asked for the place. Skills beyond 50 in size, and NaN, are taken as 50, -50
    /// and 0.
    #[must_use]
    pub fn answer(&self, prompt: &str, skill: f64, rng: &mut Rng) -> WrittenAnswer {
        let mut reader = Reader::new();
        let mut topic = "place";
        for word in prompt.split_whitespace() {
            let id = find(word);
            reader.read(id);
            if let Some(entry) = id.map(|i| &LEXICON[i])
                && entry.class == WordClass::Topic
            {
                topic = entry.text;
            }
        }
        let target = 5 + rng.below(9);
        let skill = if skill.is_nan() {
            0.0
        } else {
            skill.clamp(-50.0, 50.0)
        };
        let mut draft = Draft {
            rng,
            skill,
            reader,
            answer: Vec::new(),
            truths: Vec::new(),
        };
        loop {
            draft.clause(topic);
            // Another clause only with room for a connector and most of a clause: clauses shorten themselves to fit.
            if draft.answer.len() + 1 >= target || draft.room() < 7 {
                break;
            }
            draft.choose(&[(".", 1.0), (",", 1.0), ("and", 1.0), ("but", 1.0)]);
        }
        draft.push(".");
        WrittenAnswer {
            prompt: prompt.to_owned(),
            answer: draft.answer.join(" "),
            truths: draft.truths,
        }
    }

    /// An answer by an ordinary writer: neither good nor bad on the whole, some better than others.
    #[must_use]
    pub fn ordinary_answer(&self, prompt: &str, rng: &mut Rng) -> WrittenAnswer {
        let skill = rng.range(ORDINARY_SKILL[0], ORDINARY_SKILL[1]);
        self.answer(prompt, skill, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn written(skill: Option<f64>, n: u64) -> Vec<WrittenAnswer> {
        (0..n)
            .map(|i| {
                let mut rng = Rng::stream(77, i);
                let prompt = Language.prompt(&mut rng);
                match skill {
                    Some(skill) => Language.answer(&prompt, skill, &mut rng),
                    None => Language.ordinary_answer(&prompt, &mut rng),
                }
            })
            .collect()
    }

    fn mean_return(answers: &[WrittenAnswer]) -> f64 {
        answers.iter().map(WrittenAnswer::true_return).sum::<f64>() / answers.len() as f64
    }

    #[test]
    fn answers_keep_their_length_end_and_truth_at_any_skill() {
        for skill in [
            None,
            Some(0.0),
            Some(DEMONSTRATOR_SKILL),
            Some(-50.0),
            Some(f64::NAN),
            Some(1e300),
        ] {
            for row in written(skill, 3000) {
                let words: Vec<&str> = row.answer.split(' ').collect();
                assert!(
                    (ANSWER_WORDS[0]..=ANSWER_WORDS[1]).contains(&words.len()),
                    "{}",
                    row.answer
                );
                assert_eq!(words.last(), Some(&"."));
                assert!(words.iter().all(|w| find(w).is_some()));
                assert_eq!(
                    row.truths,
                    Language.answer_rewards(&row.prompt, &row.answer)
                );
            }
        }
    }

    #[test]
    fn returns_rise_with_skill() {
        let returns: Vec<f64> = [-3.0, -1.0, 0.0, 1.0, 3.0]
            .iter()
            .map(|&k| mean_return(&written(Some(k), 3000)))
            .collect();
        println!("mean return at skill -3 -1 0 1 3: {returns:.2?}");
        assert!(returns.windows(2).all(|w| w[1] > w[0] + 0.5), "{returns:?}");
        assert!(returns[2].abs() < 0.5, "{returns:?}");
    }

    #[test]
    fn ordinary_answers_vary_and_demonstrations_are_better_than_nine_in_ten() {
        let mut ordinary: Vec<f64> = written(None, 4000)
            .iter()
            .map(WrittenAnswer::true_return)
            .collect();
        ordinary.sort_by(f64::total_cmp);
        let demonstrations = mean_return(&written(Some(DEMONSTRATOR_SKILL), 4000));
        println!(
            "ordinary 5/50/90/95 %: {:.2} {:.2} {:.2} {:.2}; demonstrations {demonstrations:.2}",
            ordinary[200], ordinary[2000], ordinary[3600], ordinary[3800]
        );
        assert!(demonstrations > ordinary[3600]);
        assert!(ordinary[3800] - ordinary[200] > 3.0);
    }

    #[test]
    fn most_token_rewards_lie_within_two() {
        let all: Vec<f32> = written(None, 4000)
            .iter()
            .flat_map(|r| r.truths.iter().map(|t| t.mean))
            .collect();
        let outside = all.iter().filter(|m| m.abs() > 2.0).count();
        assert!((outside as f64) < 0.01 * all.len() as f64);
        assert!(all.iter().all(|m| m.abs() <= 3.2 + 1e-6));
    }

    #[test]
    fn there_are_more_than_a_million_answers_to_every_prompt() {
        // Counted, not estimated: answers of two descriptions without "with", at most 6 + 1 + 6 + 1 words, all of which
        // the grammar can write. Different choices give different texts.
        let count = |class| LEXICON.iter().filter(|e| e.class == class).count();
        let verbs = 4;
        let adjectives = count(WordClass::Sentiment) - verbs + count(WordClass::Contextual);
        let subjects = 1 + count(WordClass::Topic) + 6;
        let descriptions = subjects * 3 * 2 * (1 + count(WordClass::Intensifier)) * adjectives;
        let connectors = 4;
        assert!(
            descriptions * connectors * descriptions > 100_000_000,
            "{descriptions}"
        );
        // The count's ends are really written: the longest form turns up among drawn answers.
        let longest = |row: &WrittenAnswer| {
            let words: Vec<&str> = row.answer.split(' ').collect();
            let class = |i: usize| Language.class(words[i]);
            words.len() == 14
                && [3, 10]
                    .iter()
                    .all(|&i| words[i] == "not" && class(i + 1) == Some(WordClass::Intensifier))
                && [5, 12].iter().all(|&i| {
                    matches!(class(i), Some(WordClass::Sentiment | WordClass::Contextual))
                })
        };
        assert!(written(None, 60_000).iter().any(longest));
    }

    #[test]
    fn drawn_answers_seldom_repeat() {
        // With N equally likely answers, n draws collide in n^2 / 2N pairs. Common answers collide more, so this is the
        // effective variety, far below the number of possible answers.
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        let mut n = 0.0;
        for row in written(None, 60_000) {
            if row.truths.len() >= 8 {
                n += 1.0;
                *counts.entry(row.prompt + &row.answer).or_default() += 1.0;
            }
        }
        let collisions: f64 = counts.values().map(|c| c * (c - 1.0) / 2.0).sum();
        let effective = n * n / (2.0 * collisions.max(1.0));
        println!(
            "{n} answers of 8 words or more, {collisions} collisions: as varied as {effective:.0} equally likely ones"
        );
        assert!(effective > 500_000.0);
    }

    #[test]
    fn every_word_and_every_rule_occurs() {
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        let mut classes: BTreeMap<WordClass, (usize, usize)> = BTreeMap::new();
        let rows = written(None, 5000);
        for row in &rows {
            let text = format!("{}{}", row.prompt, row.answer);
            let list: Vec<&str> = text.split_whitespace().collect();
            for (word, reading) in list.iter().zip(Language.readings(&list)) {
                *words.entry(LEXICON[find(word).unwrap()].text).or_default() += 1;
                let counts = classes.entry(reading.class).or_default();
                counts.0 += 1;
                counts.1 += usize::from(reading.cause.is_some());
            }
        }
        assert_eq!(words.len(), LEXICON.len());
        for class in [
            WordClass::Sentiment,
            WordClass::Contextual,
            WordClass::Consequence,
            WordClass::Pair,
        ] {
            assert!(classes[&class].1 >= 100, "{class:?}: {classes:?}");
        }
        println!("tokens and tokens with a cause: {classes:?}");
        assert!(classes[&WordClass::Stutter].0 >= 100);
    }
}
