//! Rows made ready for training: tokenised once, checked once, drawn in an order that a seed fixes.

use super::TrainError;
use crate::data::{Answer, Content, Rows};
use crate::reward::{Layout, Side};
use crate::text::{EncodeOptions, EncodedAnswer, TextError, TextTokenizer, encode_answer};

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
