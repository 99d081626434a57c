//! Rows made ready for training: tokenised once, checked once, drawn in an order that a seed fixes.

use super::TrainError;
use crate::data::{Answer, Content, Rows};
use crate::random::Rng;
use crate::reward::{Layout, Side};
use crate::text::{
    EncodeOptions, EncodedAnswer, TextError, TextTokenizer, Truncation, encode_answer,
};

/// One answer of a row: its tokens, and what is known about them.
#[derive(Clone, Debug)]
pub struct EncodedSide {
    /// Ids, answer mask and offsets.
    pub encoded: EncodedAnswer,
    /// Per token of `encoded`: the known (mean, std) of its reward.
    pub truth: Option<Vec<Option<(f32, f32)>>>,
    /// Per token of `encoded`: whether a labelled span covers it.
    pub labelled: Option<Vec<bool>>,
}

/// A row: a pair has two sides, chosen first; a demonstration one.
#[derive(Clone, Debug)]
pub struct EncodedRow {
    /// The row's id.
    pub id: String,
    /// Line in its file.
    pub line: usize,
    /// The prompt, for people.
    pub prompt: String,
    /// Chosen and rejected, or the one answer.
    pub sides: Vec<EncodedSide>,
    /// The annotators' margin, where the row has one.
    pub margin: Option<f32>,
    /// An ensemble's mean score difference, where the row has one.
    pub strength: Option<f32>,
    /// Whether training takes the label as turned round.
    pub flipped: bool,
    /// The row's own label: of a pair the probability that the chosen answer is the better one (0.5: a tie), of an answer by
    /// itself 1 where it is desirable and 0 where not.
    pub label: Option<f32>,
}

impl EncodedRow {
    /// The longest side's tokens.
    pub fn tokens(&self) -> usize {
        self.sides
            .iter()
            .map(|side| side.encoded.ids.len())
            .max()
            .unwrap_or(0)
    }

    /// Which side `index` is.
    pub fn side(&self, index: usize) -> Side {
        match (self.sides.len(), index) {
            (2, 0) => Side::Chosen,
            (2, _) => Side::Rejected,
            _ => Side::Answer,
        }
    }

    /// What the row's own label says of side `index`: 1 good, 0 bad.
    pub fn label_of(&self, index: usize) -> Option<f32> {
        match index {
            0 => self.label,
            _ => self.label.map(|label| 1.0 - label),
        }
    }

    /// Whether the row's label calls its one answer desirable; `None` where it has no label, or two answers.
    pub fn desirable(&self) -> Option<bool> {
        match (self.sides.len(), self.label) {
            (1, Some(label)) => Some(label > 0.5),
            _ => None,
        }
    }

    /// Whether both answers of a pair are the same tokens, so that nothing tells them apart.
    pub fn identical(&self) -> bool {
        matches!(self.sides.as_slice(), [a, b] if a.encoded.ids == b.encoded.ids)
    }

    /// Whether any side was cut to fit the context.
    pub fn truncated(&self) -> bool {
        self.sides.iter().any(|side| side.encoded.truncated)
    }
}

/// "line 3", "lines 3, 5 and 9", "lines 3, 5, 9 and 4 more".
pub(super) fn lines(rows: &[&EncodedRow]) -> String {
    const SHOWN: usize = 3;
    let lines: Vec<String> = rows.iter().map(|row| row.line.to_string()).collect();
    let (shown, more) = match lines.len() {
        n if n > SHOWN + 1 => (&lines[..SHOWN], format!("{} more", n - SHOWN)),
        _ => match lines.split_last() {
            Some((last, [])) => return format!("line {last}"),
            Some((last, first)) => (first, last.clone()),
            None => return "no line".into(),
        },
    };
    format!("lines {} and {more}", shown.join(", "))
}

/// Sentences on rows that can be used and are not what they look like: cut ones, and pairs whose answers no model can tell
/// apart. Each names lines.
pub fn row_warnings(rows: &[EncodedRow], options: &EncodeOptions) -> Vec<String> {
    let cut: Vec<&EncodedRow> = rows.iter().filter(|row| row.truncated()).collect();
    let kept = match options.truncation {
        Truncation::KeepStart => "their starts were kept",
        _ => {
            "prompts lost tokens from the left, and where that was not enough answers from the right"
        }
    };
    let cut = (!cut.is_empty()).then(|| {
        format!(
            "{} longer than {} tokens ({}): {kept} (`truncation`, `max_length`)",
            counted(cut.len(), "row"),
            options.max_length,
            lines(&cut)
        )
    });
    cut.into_iter()
        .chain(alike(rows, options.max_length))
        .collect()
}

/// A sentence on pairs whose answers no model can tell apart, by what makes them alike; `None` where there are none.
fn alike(rows: &[EncodedRow], max_length: usize) -> Option<String> {
    let (mut same, mut cut, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| row.identical()) {
        let texts: Vec<&String> = row.sides.iter().map(|s| &s.encoded.answer_text).collect();
        if texts.windows(2).all(|pair| pair[0] == pair[1]) {
            same.push(row);
        } else if row.truncated() {
            cut.push(row);
        } else {
            unknown.push(row);
        }
    }
    let parts: Vec<String> = [
        (same, "with two identical answers".to_string()),
        (
            cut,
            format!("whose answers differ only in what was cut off behind {max_length} tokens (`max_length`)"),
        ),
        (
            unknown,
            "whose answers are other texts and the same tokens to this model's tokenizer".to_string(),
        ),
    ]
    .into_iter()
    .filter(|(rows, _)| !rows.is_empty())
    .map(|(rows, what)| format!("{} {what} ({})", counted(rows.len(), "pair"), lines(&rows)))
    .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "{}: nothing tells such answers apart, so they only add noise; remove the pairs",
            parts.join(", ")
        )
    })
}

/// A row that was left out because one of its answers has no token: it is empty, or was cut away whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// The row's id.
    pub id: String,
    /// Line in its file.
    pub line: usize,
    /// Why, and what to do.
    pub reason: String,
}

impl SkippedRow {
    /// One sentence on all skipped rows, with the first lines; `None` where none was skipped.
    pub fn sentence(skipped: &[Self]) -> Option<String> {
        const SHOWN: usize = 3;
        if skipped.is_empty() {
            return None;
        }
        let shown: Vec<String> = skipped
            .iter()
            .take(SHOWN)
            .map(|row| format!("line {} (row {}): {}", row.line, row.id, row.reason))
            .collect();
        let more = match skipped.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "{} skipped, an answer without a token teaches nothing: {}{more}",
            counted(skipped.len(), "row"),
            shown.join("; ")
        ))
    }
}

/// "1 row", "2 rows".
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Why a row cannot be used.
enum Unusable {
    /// An answer without a token: training and scoring go on without the row, and say so.
    NoAnswer(String),
    /// Anything else: the row is wrong, and somebody should know before training begins.
    Broken(String),
}

/// Tokenises every row. The first unusable row is an error that names its line.
pub fn encode_rows(
    rows: &Rows,
    tokenizer: &TextTokenizer,
    options: &EncodeOptions,
) -> Result<Vec<EncodedRow>, TrainError> {
    encode_each(rows, tokenizer, options)
        .map(|(id, line, row)| {
            row.map_err(|error| match error {
                Unusable::NoAnswer(reason) | Unusable::Broken(reason) => TrainError::Row {
                    id: id.into(),
                    line,
                    reason,
                },
            })
        })
        .collect()
}

/// Tokenises every row and hands back those that have answers, and those that do not. A few empty answers, or prompts
/// that fill the whole context, do not stop a run over a large file; they are counted and named, never dropped in
/// silence. A row that is wrong in any other way is an error that names its line.
pub fn encode_usable_rows(
    rows: &Rows,
    tokenizer: &TextTokenizer,
    options: &EncodeOptions,
) -> Result<(Vec<EncodedRow>, Vec<SkippedRow>), TrainError> {
    let mut usable = Vec::new();
    let mut skipped = Vec::new();
    for (id, line, row) in encode_each(rows, tokenizer, options) {
        let id = id.to_string();
        match row {
            Ok(row) => usable.push(row),
            Err(Unusable::NoAnswer(reason)) => skipped.push(SkippedRow { id, line, reason }),
            Err(Unusable::Broken(reason)) => return Err(TrainError::Row { id, line, reason }),
        }
    }
    Ok((usable, skipped))
}

/// Every row's id, line and tokens.
fn encode_each<'a>(
    rows: &'a Rows,
    tokenizer: &'a TextTokenizer,
    options: &'a EncodeOptions,
) -> Box<dyn Iterator<Item = (&'a str, usize, Result<EncodedRow, Unusable>)> + 'a> {
    let side = |prompt, answer| encode_side(prompt, answer, tokenizer, options);
    match rows {
        Rows::Preferences(rows) => Box::new(rows.iter().map(move |row| {
            let encoded = side(&row.prompt, &row.chosen).and_then(|chosen| {
                Ok(EncodedRow {
                    id: row.id.clone(),
                    line: row.line,
                    prompt: for_people(&row.prompt),
                    sides: vec![chosen, side(&row.prompt, &row.rejected)?],
                    margin: row.margin,
                    strength: row.strength,
                    flipped: false,
                    label: row.preference,
                })
            });
            (row.id.as_str(), row.line, encoded)
        })),
        Rows::Demonstrations(rows) => Box::new(rows.iter().map(move |row| {
            let encoded = side(&row.prompt, &row.answer)
                .map(|answer| single(&row.id, row.line, &row.prompt, answer, None));
            (row.id.as_str(), row.line, encoded)
        })),
        Rows::Unpaired(rows) => Box::new(rows.iter().map(move |row| {
            let label = f32::from(u8::from(row.label));
            let encoded = side(&row.prompt, &row.answer)
                .map(|answer| single(&row.id, row.line, &row.prompt, answer, Some(label)));
            (row.id.as_str(), row.line, encoded)
        })),
    }
}

/// A row of one answer, with its label where it has one.
fn single(
    id: &str,
    line: usize,
    prompt: &Content,
    answer: EncodedSide,
    label: Option<f32>,
) -> EncodedRow {
    EncodedRow {
        id: id.to_owned(),
        line,
        prompt: for_people(prompt),
        sides: vec![answer],
        margin: None,
        strength: None,
        flipped: false,
        label,
    }
}

/// A prompt as one text.
fn for_people(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Messages(turns) => turns
            .iter()
            .map(|turn| turn.content.as_str())
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn encode_side(
    prompt: &Content,
    answer: &Answer,
    tokenizer: &TextTokenizer,
    options: &EncodeOptions,
) -> Result<EncodedSide, Unusable> {
    let encoded =
        encode_answer(tokenizer, prompt, &answer.content, options).map_err(
            |error| match error {
                TextError::EmptyAnswer | TextError::NoAnswerLeft { .. } => {
                    Unusable::NoAnswer(error.to_string())
                }
                error => Unusable::Broken(error.to_string()),
            },
        )?;
    let characters: Vec<char> = encoded.answer_text.chars().collect();
    let covered = |offset: &Option<(usize, usize)>| offset.filter(|(start, end)| start < end);

    let truth = match &answer.true_rewards {
        None => None,
        Some(rewards) => {
            let tokens: Vec<usize> = (0..encoded.ids.len())
                .filter(|i| covered(&encoded.offsets[*i]).is_some())
                .collect();
            if tokens.len() != rewards.len() && !encoded.truncated {
                return Err(Unusable::Broken(format!(
                    "{} known rewards stand beside an answer of {} tokens; give one reward a token of this model's tokenizer, or take the columns of rewards out of the rows (the built-in world's rows go with the built-in model, `world`)",
                    rewards.len(),
                    tokens.len()
                )));
            }
            let mut truth = vec![None; encoded.ids.len()];
            for (k, i) in tokens.into_iter().enumerate() {
                let std = answer
                    .true_reward_std
                    .as_ref()
                    .and_then(|stds| stds.get(k).copied());
                truth[i] = rewards.get(k).map(|mean| (*mean, std.unwrap_or(f32::NAN)));
            }
            Some(truth)
        }
    };
    let labelled = answer.spans.as_ref().map(|spans| {
        encoded
            .offsets
            .iter()
            .map(|offset| {
                covered(offset).is_some_and(|(start, end)| {
                    spans.iter().any(|span| {
                        let shared = start.max(span.start)..end.min(span.end);
                        shared.start < shared.end
                            && characters
                                .get(shared)
                                .is_some_and(|part| part.iter().any(|c| !c.is_whitespace()))
                    })
                })
            })
            .collect()
    });
    Ok(EncodedSide {
        encoded,
        truth,
        labelled,
    })
}

/// Lays rows out as B padded sequences; pairs as all chosen, then all rejected.
pub fn layout(rows: &[&EncodedRow], pad: u32) -> Layout {
    let sides = rows.iter().map(|row| row.sides.len()).max().unwrap_or(1);
    let sequences: Vec<&EncodedAnswer> = (0..sides)
        .flat_map(|side| rows.iter().filter_map(move |row| row.sides.get(side)))
        .map(|side| &side.encoded)
        .collect();
    let tokens = sequences
        .iter()
        .map(|s| s.ids.len())
        .max()
        .unwrap_or(0)
        .max(2);
    let mut layout = Layout {
        rows: sequences.len(),
        tokens,
        ids: vec![pad; sequences.len() * tokens],
        segments: vec![0; sequences.len() * tokens],
        response: vec![false; sequences.len() * tokens],
        pairs: (sides == 2).then_some(rows.len()),
    };
    for (b, sequence) in sequences.iter().enumerate() {
        let at = b * tokens;
        let end = at + sequence.ids.len();
        layout.ids[at..end].copy_from_slice(&sequence.ids);
        layout.segments[at..end].fill(1);
        layout.response[at..end].copy_from_slice(&sequence.resp);
    }
    layout
}

/// The layout of `rows` of which the first half are desirable answers and the second half as many undesirable ones: pairs of
/// answers that have nothing to do with each other.
pub fn unpaired_layout(rows: &[&EncodedRow], pad: u32) -> Layout {
    Layout {
        pairs: Some(rows.len() / 2),
        ..layout(rows, pad)
    }
}

/// The order in which rows are drawn: epochs of shuffled batches. Its state is part of a checkpoint, so that a resumed
/// run draws what an unbroken one would have drawn.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sampler {
    rng: Rng,
    /// Batches of the current epoch, each a list of row numbers.
    batches: Vec<Vec<usize>>,
    next: usize,
    /// Epochs begun.
    epoch: usize,
    batch_size: usize,
    group_by_length: bool,
    /// Where rows are of two sets, each drawn by itself: how many, from the first on, are of the first set. A batch then
    /// holds `batch_size` rows of each, those of the first set in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_set: Option<usize>,
}

/// Rows of like length are gathered from windows of this many batches: enough to save most padding, and few enough
/// that the order stays close to random.
const WINDOW: usize = 16;

impl Sampler {
    /// A sampler at the start of its first epoch.
    pub fn new(seed: u64, batch_size: usize, group_by_length: bool) -> Self {
        Self {
            rng: Rng::new(seed),
            batches: Vec::new(),
            next: 0,
            epoch: 0,
            batch_size: batch_size.max(1),
            group_by_length,
            first_set: None,
        }
    }

    /// The same for rows of two sets: rows `0..first` and the rows behind them, drawn independently of each other.
    pub fn of_two_sets(self, first: usize) -> Self {
        Self {
            first_set: Some(first),
            ..self
        }
    }

    /// Whether the state, read from a file, draws from `rows` rows in batches of `batch_size`.
    pub fn fits(&self, rows: usize, batch_size: usize, group_by_length: bool) -> bool {
        let sets = match self.first_set {
            None => 1,
            Some(_) => 2,
        };
        // Rows of a batch are of one set, or half of them of each.
        let in_place = |batch: &[usize]| match self.first_set {
            None => true,
            Some(first) => {
                let (a, b) = batch.split_at(batch.len() / 2);
                a.len() == b.len() && a.iter().all(|r| *r < first) && b.iter().all(|r| *r >= first)
            }
        };
        self.batch_size == batch_size
            && self.group_by_length == group_by_length
            && self.next <= self.batches.len()
            && self.batches.iter().all(|batch| {
                !batch.is_empty()
                    && batch.len() <= sets * batch_size
                    && batch.iter().all(|row| *row < rows)
                    && in_place(batch)
            })
    }

    /// Whether both draw from the same sets.
    pub fn same_sets(&self, other: &Self) -> bool {
        self.first_set == other.first_set
    }

    /// Epochs begun so far, as a real number of passes over the rows.
    pub fn epochs(&self) -> f64 {
        if self.epoch == 0 {
            return 0.0;
        }
        (self.epoch - 1) as f64 + self.next as f64 / self.batches.len().max(1) as f64
    }

    /// The next batch's row numbers. `lengths` are the rows' lengths in tokens.
    pub fn next_batch(&mut self, lengths: &[usize]) -> Vec<usize> {
        if self.next >= self.batches.len() {
            self.begin_epoch(lengths);
        }
        let batch = self.batches.get(self.next).cloned().unwrap_or_default();
        self.next += 1;
        batch
    }

    fn begin_epoch(&mut self, lengths: &[usize]) {
        self.batches = match self.first_set {
            None => {
                let order = self.passes(0..lengths.len(), lengths.len());
                let mut batches = self.cut(order, lengths);
                self.rng.shuffle(&mut batches);
                batches
            }
            Some(first) => self.two_sets(first, lengths),
        };
        self.next = 0;
        self.epoch += 1;
    }

    /// An epoch over two sets: every row of the larger one once, and the smaller one as often as it takes. Which rows of the
    /// one meet which of the other is left to chance alone, also where batches are of like length.
    fn two_sets(&mut self, first: usize, lengths: &[usize]) -> Vec<Vec<usize>> {
        let first = first.min(lengths.len());
        let longest = first.max(lengths.len() - first);
        let [good, bad] = [0..first, first..lengths.len()].map(|set| {
            let order = self.passes(set, longest);
            let mut batches = self.cut(order, lengths);
            // Only whole batches change places, so that both sets' short ones stay beside each other.
            let short = batches.pop_if(|batch| batch.len() < self.batch_size);
            self.rng.shuffle(&mut batches);
            batches.extend(short);
            // Rows of a batch stand in the order of their lengths.
            batches.iter_mut().for_each(|batch| self.rng.shuffle(batch));
            batches
        });
        let both = good.into_iter().zip(bad);
        let mut batches: Vec<Vec<usize>> = both.map(|(a, b)| [a, b].concat()).collect();
        self.rng.shuffle(&mut batches);
        batches
    }

    /// `count` rows of a set, in as many shuffled passes over it as it takes.
    fn passes(&mut self, set: std::ops::Range<usize>, count: usize) -> Vec<usize> {
        let mut order = Vec::with_capacity(count);
        while order.len() < count && !set.is_empty() {
            let mut pass: Vec<usize> = set.clone().collect();
            self.rng.shuffle(&mut pass);
            order.extend(pass);
        }
        order.truncate(count);
        order
    }

    /// Rows in batches, sorted by length within windows where that is asked for.
    fn cut(&self, mut order: Vec<usize>, lengths: &[usize]) -> Vec<Vec<usize>> {
        if self.group_by_length {
            for window in order.chunks_mut(WINDOW * self.batch_size) {
                window.sort_by_key(|row| lengths[*row]);
            }
        }
        let batches = order.chunks(self.batch_size).map(<[usize]>::to_vec);
        batches.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_draws_every_row_once() {
        let lengths: Vec<usize> = (0..103).map(|i| i % 17).collect();
        let mut sampler = Sampler::new(3, 8, true);
        for _ in 0..2 {
            let mut seen: Vec<usize> = (0..13).flat_map(|_| sampler.next_batch(&lengths)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..103).collect::<Vec<_>>());
        }
    }

    #[test]
    fn two_sets_of_different_sizes_are_drawn_independently() {
        // 5 rows of the one, 23 of the other.
        let lengths: Vec<usize> = (0..28).map(|i| i % 7).collect();
        let mut sampler = Sampler::new(4, 4, true).of_two_sets(5);
        let mut partners = std::collections::BTreeSet::new();
        let mut meetings = 0;
        for _ in 0..3 {
            let mut large = Vec::new();
            let mut small = [0usize; 5];
            for _ in 0..6 {
                let batch = sampler.next_batch(&lengths);
                let (good, bad) = batch.split_at(batch.len() / 2);
                assert!(good.len() == bad.len() && good.len() <= 4);
                assert!(good.iter().all(|r| *r < 5) && bad.iter().all(|r| *r >= 5));
                good.iter().for_each(|r| small[*r] += 1);
                large.extend_from_slice(bad);
                partners.extend(good.iter().copied().zip(bad.iter().copied()));
                meetings += good.len();
            }
            large.sort_unstable();
            assert_eq!(large, (5..28).collect::<Vec<_>>());
            // 23 draws in passes over 5 rows: each four or five times.
            assert!(small.iter().all(|n| (4..=5).contains(n)), "{small:?}");
        }
        // Nobody has a fixed partner: few of the meetings repeat.
        assert!(partners.len() * 2 > meetings, "{}", partners.len());
        let again: Sampler =
            serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
        assert!(again.fits(28, 4, true) && again.same_sets(&sampler));
        let other = Sampler {
            first_set: Some(6),
            ..again
        };
        assert!(!other.fits(28, 4, true) && !other.same_sets(&sampler));
        // A set without rows gives no batches, and no endless search for some.
        let mut without = Sampler::new(4, 4, false).of_two_sets(0);
        without.begin_epoch(&[1, 2]);
        assert!(without.batches.is_empty());
    }

    #[test]
    fn a_sampler_that_points_outside_the_rows_is_told() {
        let lengths = [3usize; 10];
        let mut sampler = Sampler::new(1, 4, false);
        sampler.next_batch(&lengths);
        assert!(sampler.fits(10, 4, false));
        assert!(!sampler.fits(9, 4, false));
        assert!(!sampler.fits(10, 8, false));
        assert!(!sampler.fits(10, 4, true));
    }

    #[test]
    fn a_sampler_read_back_from_json_goes_on_as_if_never_stopped() {
        let lengths: Vec<usize> = (0..50).collect();
        let mut sampler = Sampler::new(9, 4, true);
        for _ in 0..7 {
            sampler.next_batch(&lengths);
        }
        let mut resumed: Sampler =
            serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
        for _ in 0..30 {
            assert_eq!(sampler.next_batch(&lengths), resumed.next_batch(&lengths));
        }
    }
}
