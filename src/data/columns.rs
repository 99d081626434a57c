//! From the columns of one JSON object to one row. The shapes are those of TRL's `dataset_formats`, so that files made
//! for it can be read as they are; a value of `null` counts as an absent column.

use super::error::Problem;
use super::prompt::{shared_text, shared_turns};
use super::split::row_id;
use super::{Answer, Content, DemonstrationRow, PreferenceRow, Span};
use crate::text::Message;
use serde_json::{Map, Value};

/// One JSON object.
pub(super) type Columns = Map<String, Value>;

/// What a file's rows look like; the first row decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Preference,
    ImplicitPreference,
    PromptCompletion,
    Labelled,
    Messages,
    Text,
    Stepwise,
    Mistake,
}

impl Shape {
    pub(super) fn detect(row: &Columns) -> Option<Self> {
        let has = |name: &str| row.get(name).is_some_and(|value| !value.is_null());
        if has("chosen") && has("rejected") {
            Some(if has("prompt") {
                Self::Preference
            } else {
                Self::ImplicitPreference
            })
        } else if has("steps") && row.contains_key("mistake_index") {
            // `null` has a meaning here: no step is wrong.
            Some(Self::Mistake)
        } else if has("prompt") && has("completions") && has("labels") {
            Some(Self::Stepwise)
        } else if has("prompt") && has("completion") {
            let labelled = matches!(row.get("label"), Some(Value::Bool(_)));
            Some(if labelled {
                Self::Labelled
            } else {
                Self::PromptCompletion
            })
        } else if has("messages") {
            Some(Self::Messages)
        } else if has("text") {
            Some(Self::Text)
        } else {
            None
        }
    }

    /// The columns a row of this shape needs.
    pub(super) fn needed(self) -> &'static str {
        match self {
            Self::Preference => "prompt, chosen, rejected",
            Self::ImplicitPreference => "chosen, rejected (and no prompt)",
            Self::PromptCompletion => "prompt, completion (and no true or false label)",
            Self::Labelled => "prompt, completion, label (true or false)",
            Self::Messages => "messages",
            Self::Text => "text",
            Self::Stepwise => "prompt, completions, labels",
            Self::Mistake => "steps, mistake_index",
        }
    }
}

/// What came of one object.
#[derive(Debug)]
pub(super) enum Converted {
    Pair(PreferenceRow),
    Demonstration(DemonstrationRow),
    /// Labelled false: no demonstration.
    Skipped,
}

/// Columns of an object that hold something.
pub(super) fn found(row: &Columns) -> Vec<String> {
    row.iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, _)| name.clone())
        .collect()
}

/// Turns an object of the given shape into a row. Notes about a kept row go to `notes`.
pub(super) fn convert(
    mut row: Columns,
    shape: Shape,
    line: usize,
    notes: &mut Vec<Problem>,
) -> Result<Converted, Problem> {
    let row = &mut row;
    match shape {
        Shape::Preference | Shape::ImplicitPreference => {
            pair(row, line, notes).map(Converted::Pair)
        }
        Shape::Labelled if row.get("label") == Some(&Value::Bool(false)) => Ok(Converted::Skipped),
        Shape::PromptCompletion | Shape::Labelled => {
            let (prompt, answer) = (content(row, "prompt")?, content(row, "completion")?);
            demonstration(row, line, "completion", prompt, answer, None, notes)
        }
        Shape::Messages => {
            let mut turns = messages("messages", row.remove("messages").unwrap_or_default())?;
            // Every assistant turn is learned from, so the answer begins at the first of them.
            let first = turns
                .iter()
                .position(|turn| turn.role == "assistant")
                .ok_or_else(|| Problem::NoAssistantTurn {
                    column: "messages".into(),
                })?;
            let answer = turns.split_off(first);
            demonstration(
                row,
                line,
                "messages",
                Content::Messages(turns),
                Content::Messages(answer),
                None,
                notes,
            )
        }
        Shape::Text => {
            let (prompt, answer) = (prompt_or_empty(row)?, text(row, "text")?);
            demonstration(
                row,
                line,
                "text",
                prompt,
                Content::Text(answer),
                None,
                notes,
            )
        }
        Shape::Stepwise => {
            let prompt = content(row, "prompt")?;
            let steps = strings("completions", row.remove("completions").unwrap_or_default())?;
            let labels = booleans("labels", row.remove("labels").unwrap_or_default())?;
            if steps.len() != labels.len() {
                return Err(Problem::LengthsDiffer {
                    left: "completions",
                    left_length: steps.len(),
                    right: "labels",
                    right_length: labels.len(),
                });
            }
            let (answer, spans) =
                join_steps(&steps, |index| !labels.get(index).copied().unwrap_or(true));
            demonstration(row, line, "completions", prompt, answer, Some(spans), notes)
        }
        Shape::Mistake => {
            let prompt = prompt_or_empty(row)?;
            let steps = strings("steps", row.remove("steps").unwrap_or_default())?;
            let wrong = match row.remove("mistake_index") {
                None | Some(Value::Null) => None,
                Some(value) => Some(value.as_u64().ok_or(Problem::WrongType {
                    column: "mistake_index".into(),
                    found: kind(&value),
                    needed: "the index of the first wrong step, counted from 0, or null",
                })?),
            };
            if let Some(index) = wrong.filter(|index| *index >= steps.len() as u64) {
                return Err(Problem::MistakeOutside {
                    index,
                    steps: steps.len(),
                });
            }
            let (answer, spans) = join_steps(&steps, |index| wrong == Some(index as u64));
            demonstration(row, line, "steps", prompt, answer, Some(spans), notes)
        }
    }
}

fn pair(
    row: &mut Columns,
    line: usize,
    notes: &mut Vec<Problem>,
) -> Result<PreferenceRow, Problem> {
    let (chosen, rejected) = (content(row, "chosen")?, content(row, "rejected")?);
    let prompt = match row.remove("prompt") {
        None | Some(Value::Null) => None,
        Some(value) => Some(content_of("prompt", value)?),
    };
    let (prompt, chosen, rejected, moved) = match (prompt, chosen, rejected) {
        (None, Content::Text(chosen), Content::Text(rejected)) => {
            let cut = shared_text(&chosen, &rejected);
            let (head, chosen) = chosen.split_at(cut);
            let (_, rejected) = rejected.split_at(cut);
            let moved = head.chars().count();
            (
                Content::Text(head.into()),
                Content::Text(chosen.into()),
                Content::Text(rejected.into()),
                moved,
            )
        }
        (None, Content::Messages(mut chosen), Content::Messages(mut rejected)) => {
            let shared = shared_turns(&chosen, &rejected);
            let answer = chosen.split_off(shared);
            rejected.drain(..shared);
            (
                Content::Messages(chosen),
                Content::Messages(answer),
                Content::Messages(rejected),
                0,
            )
        }
        (
            Some(Content::Text(prompt)),
            Content::Messages(mut chosen),
            Content::Messages(mut rejected),
        ) => {
            // Some files repeat the prompt as text beside full conversations: the turns then know more (roles).
            let shared = shared_turns(&chosen, &rejected);
            let repeated = chosen
                .iter()
                .take(shared)
                .any(|turn| turn.content == prompt);
            if repeated {
                let answer = chosen.split_off(shared);
                rejected.drain(..shared);
                (
                    Content::Messages(chosen),
                    Content::Messages(answer),
                    Content::Messages(rejected),
                    0,
                )
            } else {
                let prompt = vec![Message {
                    role: "user".into(),
                    content: prompt,
                }];
                (
                    Content::Messages(prompt),
                    Content::Messages(chosen),
                    Content::Messages(rejected),
                    0,
                )
            }
        }
        (Some(Content::Messages(prompt)), Content::Text(chosen), Content::Text(rejected)) => (
            Content::Messages(prompt),
            assistant(chosen),
            assistant(rejected),
            0,
        ),
        (Some(prompt), chosen @ Content::Text(_), rejected @ Content::Text(_))
        | (Some(prompt), chosen @ Content::Messages(_), rejected @ Content::Messages(_)) => {
            (prompt, chosen, rejected, 0)
        }
        (_, Content::Text(_), Content::Messages(_))
        | (_, Content::Messages(_), Content::Text(_)) => {
            return Err(Problem::MixedAnswers);
        }
    };
    for (column, answer) in [("chosen", &chosen), ("rejected", &rejected)] {
        needs_assistant(column, answer)?;
        if answer.is_blank() {
            notes.push(Problem::EmptyAnswer { column });
        }
    }
    if chosen == rejected {
        notes.push(Problem::IdenticalAnswers);
    }
    let id = id(row)?.unwrap_or_else(|| row_id(&prompt, &[&chosen, &rejected]));
    Ok(PreferenceRow {
        id,
        line,
        chosen: answer(
            row,
            chosen,
            ["chosen_spans", "chosen_rewards", "chosen_reward_std"],
            moved,
        )?,
        rejected: answer(
            row,
            rejected,
            ["rejected_spans", "rejected_rewards", "rejected_reward_std"],
            moved,
        )?,
        prompt,
        margin: match row.remove("margin") {
            None | Some(Value::Null) => None,
            Some(value) => Some(number("margin".into(), &value)?),
        },
    })
}

fn demonstration(
    row: &mut Columns,
    line: usize,
    column: &'static str,
    mut prompt: Content,
    mut content: Content,
    step_spans: Option<Vec<Span>>,
    notes: &mut Vec<Problem>,
) -> Result<Converted, Problem> {
    // One side as a chat makes the whole row a chat; an empty prompt is no turn.
    match (&mut prompt, &mut content) {
        (Content::Messages(_), Content::Text(text)) => content = assistant(std::mem::take(text)),
        (Content::Text(text), Content::Messages(_)) => {
            let content = std::mem::take(text);
            let turns = if content.is_empty() {
                vec![]
            } else {
                vec![Message {
                    role: "user".into(),
                    content,
                }]
            };
            prompt = Content::Messages(turns);
        }
        _ => {}
    }
    needs_assistant(column, &content)?;
    if content.is_blank() {
        notes.push(Problem::EmptyAnswer { column });
    }
    let id = id(row)?.unwrap_or_else(|| row_id(&prompt, &[&content]));
    let spans = if row.get("spans").is_some_and(|value| !value.is_null()) {
        "spans"
    } else {
        "bad_spans"
    };
    let mut answer = answer(row, content, [spans, "rewards", "reward_std"], 0)?;
    answer.spans = step_spans.or(answer.spans);
    Ok(Converted::Demonstration(DemonstrationRow {
        id,
        line,
        prompt,
        answer,
    }))
}

/// Reads the three truth columns of an answer. Spans count in the column's text as it stands in the file; `moved` code
/// points at its front became the prompt.
fn answer(
    row: &mut Columns,
    content: Content,
    [spans_column, rewards_column, std_column]: [&'static str; 3],
    moved: usize,
) -> Result<Answer, Problem> {
    let spans = match row.remove(spans_column) {
        None | Some(Value::Null) => None,
        Some(value) => Some(spans(
            spans_column,
            value,
            content.answer_text().chars().count(),
            moved,
        )?),
    };
    let true_rewards = numbers(row, rewards_column)?;
    let true_reward_std = numbers(row, std_column)?;
    if let Some(std) = &true_reward_std {
        let left_length = true_rewards.as_ref().map_or(0, Vec::len);
        if left_length != std.len() {
            return Err(Problem::LengthsDiffer {
                left: rewards_column,
                left_length,
                right: std_column,
                right_length: std.len(),
            });
        }
        if let Some((index, value)) = std.iter().enumerate().find(|(_, value)| **value < 0.0) {
            let column = format!("{std_column}[{index}]");
            return Err(Problem::BadNumber {
                column,
                value: (*value).into(),
                needed: "a standard deviation, 0 or more",
            });
        }
    }
    Ok(Answer {
        content,
        spans,
        true_rewards,
        true_reward_std,
    })
}

fn spans(column: &str, value: Value, length: usize, moved: usize) -> Result<Vec<Span>, Problem> {
    const NEEDED: &str = "a list of [start, end] in code points";
    let mut spans = Vec::new();
    for (index, value) in array(column, value, NEEDED)?.into_iter().enumerate() {
        let column = format!("{column}[{index}]");
        // Further entries (the kind of error, say) are allowed and not read.
        let ends = match &value {
            Value::Array(entries) => match entries.as_slice() {
                [start, end, ..] => start.as_u64().zip(end.as_u64()),
                _ => None,
            },
            _ => None,
        };
        let wrong = || Problem::WrongType {
            column: column.clone(),
            found: kind(&value),
            needed: "[start, end], 0 or more",
        };
        let (start, end) = ends.ok_or_else(wrong)?;
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
            return Err(wrong());
        };
        if start > end {
            return Err(Problem::SpanReversed { column, start, end });
        }
        if end > length + moved {
            return Err(Problem::SpanOutside {
                column,
                start,
                end,
                length: length + moved,
            });
        }
        let span = Span {
            start: start.saturating_sub(moved),
            end: end.saturating_sub(moved),
        };
        // What lies wholly in the shared prompt marks no part of the answer.
        if span.end > 0 || end == start {
            spans.push(span);
        }
    }
    Ok(spans)
}

/// Steps become one text, one step a line (TRL's default separator); each wrong step is a span.
fn join_steps(steps: &[String], wrong: impl Fn(usize) -> bool) -> (Content, Vec<Span>) {
    let (mut spans, mut start) = (Vec::new(), 0);
    for (index, step) in steps.iter().enumerate() {
        let end = start + step.chars().count();
        if wrong(index) {
            spans.push(Span { start, end });
        }
        start = end + 1;
    }
    (Content::Text(steps.join("\n")), spans)
}

fn assistant(content: String) -> Content {
    Content::Messages(vec![Message {
        role: "assistant".into(),
        content,
    }])
}

fn needs_assistant(column: &str, content: &Content) -> Result<(), Problem> {
    match content {
        Content::Messages(turns) if !turns.iter().any(|turn| turn.role == "assistant") => {
            Err(Problem::NoAssistantTurn {
                column: column.into(),
            })
        }
        _ => Ok(()),
    }
}

fn id(row: &mut Columns) -> Result<Option<String>, Problem> {
    match row.remove("id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id)),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(value) => Err(Problem::WrongType {
            column: "id".into(),
            found: kind(&value),
            needed: "a string or a number",
        }),
    }
}

fn prompt_or_empty(row: &mut Columns) -> Result<Content, Problem> {
    match row.remove("prompt") {
        None | Some(Value::Null) => Ok(Content::Text(String::new())),
        Some(value) => content_of("prompt", value),
    }
}

fn content(row: &mut Columns, column: &str) -> Result<Content, Problem> {
    content_of(column, row.remove(column).unwrap_or_default())
}

fn content_of(column: &str, value: Value) -> Result<Content, Problem> {
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(_) => messages(column, value).map(Content::Messages),
        other => Err(Problem::WrongType {
            column: column.into(),
            found: kind(&other),
            needed: "a string, or a list of {\"role\", \"content\"}",
        }),
    }
}

fn text(row: &mut Columns, column: &str) -> Result<String, Problem> {
    string_of(column, row.remove(column).unwrap_or_default())
}

fn string_of(column: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Problem::WrongType {
            column: column.into(),
            found: kind(&other),
            needed: "a string",
        }),
    }
}

fn messages(column: &str, value: Value) -> Result<Vec<Message>, Problem> {
    let mut turns = Vec::new();
    for (index, value) in array(column, value, "a list of {\"role\", \"content\"}")?
        .into_iter()
        .enumerate()
    {
        let Value::Object(mut turn) = value else {
            return Err(Problem::WrongType {
                column: format!("{column}[{index}]"),
                found: kind(&value),
                needed: "an object {\"role\": \"user\" or \"assistant\", \"content\": \"..\"}",
            });
        };
        let role = string_of(
            &format!("{column}[{index}].role"),
            turn.remove("role").unwrap_or_default(),
        )?;
        let name = format!("{column}[{index}].content");
        let content = match turn.remove("content").unwrap_or_default() {
            // The list form of multimodal chats: parts of text are one text.
            Value::Array(parts) => {
                parts
                    .into_iter()
                    .try_fold(String::new(), |mut all, part| match part {
                        Value::Object(mut part) => {
                            all.push_str(&string_of(
                                &format!("{name}[].text"),
                                part.remove("text").unwrap_or_default(),
                            )?);
                            Ok(all)
                        }
                        other => string_of(&name, other).map(|text| all + &text),
                    })?
            }
            other => string_of(&name, other)?,
        };
        turns.push(Message { role, content });
    }
    Ok(turns)
}

fn array(column: &str, value: Value, needed: &'static str) -> Result<Vec<Value>, Problem> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(Problem::WrongType {
            column: column.into(),
            found: kind(&other),
            needed,
        }),
    }
}

fn strings(column: &str, value: Value) -> Result<Vec<String>, Problem> {
    let values = array(column, value, "a list of strings")?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| string_of(&format!("{column}[{index}]"), value))
        .collect()
}

fn booleans(column: &str, value: Value) -> Result<Vec<bool>, Problem> {
    let values = array(column, value, "a list of true and false")?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let column = || format!("{column}[{index}]");
            value.as_bool().ok_or_else(|| Problem::WrongType {
                column: column(),
                found: kind(&value),
                needed: "true or false",
            })
        })
        .collect()
}

fn numbers(row: &mut Columns, column: &str) -> Result<Option<Vec<f32>>, Problem> {
    match row.remove(column) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => array(column, value, "a list of numbers")?
            .iter()
            .enumerate()
            .map(|(index, value)| number(format!("{column}[{index}]"), value))
            .collect::<Result<_, _>>()
            .map(Some),
    }
}

fn number(column: String, value: &Value) -> Result<f32, Problem> {
    let Some(wide) = value.as_f64() else {
        return Err(Problem::WrongType {
            column,
            found: kind(value),
            needed: "a number",
        });
    };
    let narrow = wide as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(Problem::BadNumber {
            column,
            value: wide,
            needed: "a number that fits 32-bit floats",
        })
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
