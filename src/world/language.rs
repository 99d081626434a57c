//! The synthetic language: about eighty words, and a law that says what every word of a text is worth.
//!
//! A text is a prompt up to and including the first `:` and an answer after it. Every whitespace-separated word is one
//! token. The true reward of an answer's token is a stated function of the words up to and including it, so a causal
//! model can learn it exactly; nothing later can change it. The law, with all numbers in [`LEXICON`] and the constants
//! below:
//!
//! 1. **Sentiment.** `good`, `awful`, `loved`, ... carry a base value. Said a second time in an answer it is worth 0.
//! 2. **Negation.** `not` and `never` flip the next sentiment word of the same clause; two of them flip twice.
//! 3. **Intensity.** `very`, `really`, `rather`, `slightly` scale the next sentiment word of the same clause.
//! 4. **Context.** `cold` praises a beer and damns everything else; `loud` praises a band or a song.
//! 5. **Topic.** Naming the prompt's topic for the first time is worth something, naming another topic costs as much.
//! 6. **Delayed consequence.** `promised` is worth 0; a later `kept` pays and a later `broke` punishes, and so do
//!    `arrived` and `vanished` after `ordered`. Without the earlier word the later one is worth 0. A full stop while a
//!    promise is open costs a little.
//! 7. **Only together.** `salt` and `pepper` are worth 0 each; the word that completes the pair is paid. `milk` and
//!    `lemon` likewise, with a punishment. Each pair counts once an answer.
//! 8. **Stutter.** A word that repeats the one before it costs, whatever it is, and does nothing else.
//!
//! A clause ends at `,`, `.` and `but`. Single evaluations of a token are spread around the mean with a standard
//! deviation that its word class fixes: opinions differ more about consequences than about commas.

use serde::{Deserialize, Serialize};

use WordClass::{
    Consequence, Contextual, Function, Intensifier, Negator, Noun, Opener, Pair, Punctuation,
    Sentiment, Topic,
};

/// The class of a word: what kind of reward it can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordClass {
    /// Any word of the prompt: no reward.
    Prompt,
    /// `.` and `,` and `:`.
    Punctuation,
    /// Articles, pronouns, conjunctions, `was`, `with`, adverbs of time, and words outside the language.
    Function,
    /// What a prompt can ask about.
    Topic,
    /// People and things that are never a topic.
    Noun,
    /// Words with a base value.
    Sentiment,
    /// Words whose sign depends on what they are said of.
    Contextual,
    /// Words that flip.
    Negator,
    /// Words that scale.
    Intensifier,
    /// Words that open a debt.
    Opener,
    /// Words that settle a debt.
    Consequence,
    /// Words that count only together with another.
    Pair,
    /// A word that repeats the one before it.
    Stutter,
}

impl WordClass {
    /// Standard deviation of a single evaluation of a token of this class.
    #[must_use]
    pub fn std(self) -> f32 {
        match self {
            Self::Prompt => 0.0,
            Self::Punctuation | Self::Function => 0.05,
            Self::Noun | Self::Negator | Self::Intensifier | Self::Opener => 0.1,
            Self::Topic | Self::Stutter => 0.15,
            Self::Sentiment => 0.3,
            Self::Pair => 0.4,
            Self::Contextual => 0.5,
            Self::Consequence => 0.6,
        }
    }
}

/// The known reward of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenTruth {
    /// Expected reward; a function of the text up to and including the token. Mostly in `[-2, 2]`.
    pub mean: f32,
    /// Standard deviation of a single evaluation around the mean.
    pub std: f32,
}

/// The known reward of one token and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The reward.
    pub truth: TokenTruth,
    /// The class that set it.
    pub class: WordClass,
    /// Position in the text of the earlier word that this reward depends on most directly (negator, else intensifier;
    /// promise; partner; subject of a contextual word). `None` where the word speaks for itself.
    pub cause: Option<usize>,
}

/// One word type. `value` is the base value, factor or payment; `link` numbers the debt or the pair.
pub(super) struct Entry {
    pub(super) text: &'static str,
    pub(super) class: WordClass,
    pub(super) value: f32,
    pub(super) link: usize,
}

const fn word(text: &'static str, class: WordClass) -> Entry {
    valued(text, class, 0.0, 0)
}

const fn valued(text: &'static str, class: WordClass, value: f32, link: usize) -> Entry {
    Entry {
        text,
        class,
        value,
        link,
    }
}

/// Debt numbers.
const PROMISE: usize = 0;
const ORDER: usize = 1;

/// All words. Their order is the tokenizer's, after its special tokens.
pub(super) const LEXICON: &[Entry] = &[
    word(".", Punctuation),
    word(",", Punctuation),
    word(":", Punctuation),
    word("review", Function),
    word("describe", Function),
    word("the", Function),
    word("a", Function),
    word("it", Function),
    word("we", Function),
    word("they", Function),
    word("there", Function),
    word("was", Function),
    word("felt", Function),
    word("seemed", Function),
    word("and", Function),
    word("but", Function),
    word("with", Function),
    word("later", Function),
    word("then", Function),
    word("today", Function),
    word("soup", Topic),
    word("beer", Topic),
    word("bread", Topic),
    word("film", Topic),
    word("song", Topic),
    word("band", Topic),
    word("hotel", Topic),
    word("room", Topic),
    word("train", Topic),
    word("garden", Topic),
    word("staff", Noun),
    word("owner", Noun),
    word("guide", Noun),
    word("place", Noun),
    word("view", Noun),
    word("price", Noun),
    word("cake", Noun),
    word("gift", Noun),
    word("table", Noun),
    valued("superb", Sentiment, 1.6, 0),
    valued("great", Sentiment, 1.2, 0),
    valued("lovely", Sentiment, 1.0, 0),
    valued("good", Sentiment, 0.8, 0),
    valued("kind", Sentiment, 0.7, 0),
    valued("fresh", Sentiment, 0.6, 0),
    valued("clean", Sentiment, 0.5, 0),
    valued("fine", Sentiment, 0.4, 0),
    valued("awful", Sentiment, -1.6, 0),
    valued("broken", Sentiment, -1.2, 0),
    valued("rude", Sentiment, -1.0, 0),
    valued("bad", Sentiment, -0.8, 0),
    valued("dirty", Sentiment, -0.7, 0),
    valued("stale", Sentiment, -0.6, 0),
    valued("dull", Sentiment, -0.5, 0),
    valued("poor", Sentiment, -0.4, 0),
    valued("loved", Sentiment, 1.1, 0),
    valued("enjoyed", Sentiment, 0.7, 0),
    valued("hated", Sentiment, -1.1, 0),
    valued("regretted", Sentiment, -0.7, 0),
    valued("cold", Contextual, 0.8, 0),
    valued("loud", Contextual, 0.7, 1),
    word("not", Negator),
    word("never", Negator),
    valued("very", Intensifier, 1.5, 0),
    valued("really", Intensifier, 1.25, 0),
    valued("rather", Intensifier, 0.75, 0),
    valued("slightly", Intensifier, 0.5, 0),
    valued("promised", Opener, 0.0, PROMISE),
    valued("kept", Consequence, 1.4, PROMISE),
    valued("broke", Consequence, -1.4, PROMISE),
    valued("ordered", Opener, 0.0, ORDER),
    valued("arrived", Consequence, 0.9, ORDER),
    valued("vanished", Consequence, -0.9, ORDER),
    valued("salt", Pair, 1.0, 0),
    valued("pepper", Pair, 1.0, 0),
    valued("milk", Pair, -1.0, 1),
    valued("lemon", Pair, -1.0, 1),
    valued("sun", Pair, 1.2, 2),
    valued("sea", Pair, 1.2, 2),
    valued("rain", Pair, -1.2, 3),
    valued("picnic", Pair, -1.2, 3),
];

/// What the contextual word number `link` praises.
const PRAISED: [&[&str]; 2] = [&["beer"], &["band", "song"]];

/// First naming of the prompt's topic; another topic costs as much.
const TOPIC_REWARD: f32 = 0.5;
/// A full stop while a promise is open.
const OPEN_PROMISE_COST: f32 = -0.4;
/// A word that repeats the one before it.
const STUTTER_COST: f32 = -0.8;
/// Intensifiers multiply up to here, so that a heap of them stays bounded.
const LARGEST_SCALE: f32 = 2.0;

/// Position of a word in the lexicon.
pub(super) fn find(text: &str) -> Option<usize> {
    LEXICON.iter().position(|entry| entry.text == text)
}

/// Reads a text word by word and says what each is worth. Small, so that a writer can try a word on a copy first.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    position: usize,
    in_answer: bool,
    /// Lexicon index of the word before.
    last: Option<usize>,
    /// Lexicon index of the prompt's topic.
    topic: Option<usize>,
    topic_named: bool,
    /// Last topic or noun: lexicon index and position.
    subject: Option<(usize, usize)>,
    /// Bit i: sentiment word i was said in this answer.
    said: u128,
    flipped: bool,
    negator: Option<usize>,
    scale: f32,
    intensifier: Option<usize>,
    /// Position of the word that opened each debt.
    debts: [Option<usize>; 2],
    /// First word of each pair: lexicon index and position.
    halves: [Option<(usize, usize)>; 4],
    pair_done: [bool; 4],
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            position: 0,
            in_answer: false,
            last: None,
            topic: None,
            topic_named: false,
            subject: None,
            said: 0,
            flipped: false,
            negator: None,
            scale: 1.0,
            intensifier: None,
            debts: [None; 2],
            halves: [None; 4],
            pair_done: [false; 4],
        }
    }

    /// Whether a promise or an order waits for its consequence.
    pub(super) fn owes(&self, opener: &str) -> bool {
        find(opener).is_some_and(|i| self.debts[LEXICON[i].link].is_some())
    }

    /// Whether the pair word `id` would complete its pair.
    pub(super) fn awaited(&self, id: usize) -> bool {
        LEXICON.get(id).is_some_and(|e| {
            e.class == Pair
                && !self.pair_done[e.link]
                && self.halves[e.link].is_some_and(|(first, _)| first != id)
        })
    }

    /// The expected reward of `id` as the next word, without reading it.
    pub(super) fn peek(&self, id: usize) -> f32 {
        self.clone().read(Some(id)).truth.mean
    }

    /// Reads the next word (`None`: a word outside the language).
    pub(super) fn read(&mut self, id: Option<usize>) -> Reading {
        let here = self.position;
        self.position += 1;
        let entry = id.and_then(|i| LEXICON.get(i));
        let (class, mean, cause) = match (id, entry) {
            (Some(id), Some(entry)) if !self.in_answer => {
                match entry.text {
                    ":" => self.in_answer = true,
                    _ if entry.class == Topic => {
                        self.topic = Some(id);
                        self.subject = Some((id, here));
                    }
                    _ => {}
                }
                (WordClass::Prompt, 0.0, None)
            }
            _ if !self.in_answer => (WordClass::Prompt, 0.0, None),
            (Some(id), Some(_)) if self.last == Some(id) => {
                (WordClass::Stutter, STUTTER_COST, here.checked_sub(1))
            }
            (Some(id), Some(entry)) => {
                let (mean, cause) = self.worth(id, entry, here);
                (entry.class, mean, cause)
            }
            _ => (Function, 0.0, None),
        };
        self.last = id;
        Reading {
            truth: TokenTruth {
                mean,
                std: class.std(),
            },
            class,
            cause,
        }
    }

    /// Mean reward and cause of a known word of the answer; updates what later words depend on.
    fn worth(&mut self, id: usize, entry: &Entry, here: usize) -> (f32, Option<usize>) {
        match entry.class {
            Sentiment => {
                let again = self.said >> id & 1 == 1;
                self.said |= 1 << id;
                let (factor, cause) = self.take_modifiers();
                if again {
                    (0.0, None)
                } else {
                    (entry.value * factor, cause)
                }
            }
            Contextual => {
                let (factor, cause) = self.take_modifiers();
                let again = self.said >> id & 1 == 1;
                self.said |= 1 << id;
                let praised = self
                    .subject
                    .is_some_and(|(s, _)| PRAISED[entry.link].contains(&LEXICON[s].text));
                let value = if praised { entry.value } else { -entry.value };
                let subject = self.subject.map(|(_, at)| at);
                if again {
                    (0.0, None)
                } else {
                    (value * factor, cause.or(subject))
                }
            }
            Topic => {
                self.subject = Some((id, here));
                match self.topic {
                    Some(topic) if topic != id => (-TOPIC_REWARD, None),
                    Some(_) if !self.topic_named => {
                        self.topic_named = true;
                        (TOPIC_REWARD, None)
                    }
                    _ => (0.0, None),
                }
            }
            Noun => {
                self.subject = Some((id, here));
                (0.0, None)
            }
            Negator => {
                self.flipped = !self.flipped;
                self.negator = Some(here);
                (0.0, None)
            }
            Intensifier => {
                self.scale = (self.scale * entry.value).min(LARGEST_SCALE);
                self.intensifier = Some(here);
                (0.0, None)
            }
            Opener => {
                self.debts[entry.link] = Some(here);
                (0.0, None)
            }
            Consequence => match self.debts[entry.link].take() {
                Some(opened) => (entry.value, Some(opened)),
                None => (0.0, None),
            },
            Pair => match self.halves[entry.link] {
                Some((first, at)) if first != id && !self.pair_done[entry.link] => {
                    self.pair_done[entry.link] = true;
                    (entry.value, Some(at))
                }
                None => {
                    self.halves[entry.link] = Some((id, here));
                    (0.0, None)
                }
                Some(_) => (0.0, None),
            },
            Punctuation | Function => {
                if matches!(entry.text, "," | "." | "but") {
                    self.take_modifiers();
                }
                match self.debts[PROMISE] {
                    Some(opened) if entry.text == "." => (OPEN_PROMISE_COST, Some(opened)),
                    _ => (0.0, None),
                }
            }
            WordClass::Prompt | WordClass::Stutter => (0.0, None),
        }
    }

    /// The factor of the waiting negators and intensifiers, and the position of the one that says most; uses them up.
    fn take_modifiers(&mut self) -> (f32, Option<usize>) {
        let factor = if self.flipped {
            -self.scale
        } else {
            self.scale
        };
        let cause = self.negator.take().or(self.intensifier.take());
        self.intensifier = None;
        self.flipped = false;
        self.scale = 1.0;
        (factor, cause)
    }
}

/// The synthetic language: words, law and writers. Cheap to make; all state is in the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Language;

impl Language {
    /// The language.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// All words, without the tokenizer's special tokens.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        LEXICON.iter().map(|entry| entry.text).collect()
    }

    /// The words that a prompt can ask about.
    #[must_use]
    pub fn topics(&self) -> Vec<&'static str> {
        LEXICON
            .iter()
            .filter(|e| e.class == Topic)
            .map(|e| e.text)
            .collect()
    }

    /// The class of a word when it stands alone in an answer; `None` for a word outside the language.
    #[must_use]
    pub fn class(&self, word: &str) -> Option<WordClass> {
        find(word).map(|i| LEXICON[i].class)
    }

    /// The known reward of every word of a text.
    ///
    /// `words` is the whole text, prompt and answer. Everything up to and including the first `:` is prompt, with mean
    /// and spread 0. A text without `:` is all prompt. Words outside the language are worth 0.
    #[must_use]
    pub fn true_rewards(&self, words: &[&str]) -> Vec<TokenTruth> {
        self.readings(words).into_iter().map(|r| r.truth).collect()
    }

    /// Like [`Language::true_rewards`], with each word's class and the earlier word its reward depends on.
    #[must_use]
    pub fn readings(&self, words: &[&str]) -> Vec<Reading> {
        let mut reader = Reader::new();
        words.iter().map(|w| reader.read(find(w))).collect()
    }

    /// The known rewards of an answer's words alone, given its prompt (which ends with `:`).
    #[must_use]
    pub fn answer_rewards(&self, prompt: &str, answer: &str) -> Vec<TokenTruth> {
        let mut words: Vec<&str> = prompt.split_whitespace().collect();
        let skip = words.len();
        words.extend(answer.split_whitespace());
        self.true_rewards(&words).split_off(skip)
    }

    /// The true return of an answer: the sum of its mean rewards.
    #[must_use]
    pub fn true_return(&self, prompt: &str, answer: &str) -> f64 {
        self.answer_rewards(prompt, answer)
            .iter()
            .map(|t| f64::from(t.mean))
            .sum()
    }

    /// One evaluator's rewards for a text: each truth's mean plus its spread times a normal draw.
    #[must_use]
    pub fn evaluate_once(&self, truths: &[TokenTruth], rng: &mut crate::random::Rng) -> Vec<f32> {
        truths
            .iter()
            .map(|t| t.mean + t.std * rng.normal() as f32)
            .collect()
    }
}

#[cfg(test)]
#[path = "language_tests.rs"]
mod tests;
