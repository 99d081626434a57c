//! From the columns of one JSON object to one row. The shapes are those of TRL's `dataset_formats`, so that files made
//! for it can be read as they are; a value of `null` counts as an absent column.

use super::error::Problem;
use super::prompt::{shared_text, shared_turns};
use super::split::row_id;
use super::values::{
    booleans, content_of, kind, messages, number, numbers, spans, string_of, strings, truth,
};
use super::{Answer, Content, DemonstrationRow, PreferenceRow, Span, UnpairedRow};
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
            Some(if row.get("label").and_then(truth).is_some() {
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
            Self::Labelled => "prompt, completion, label (true or false, 1 or 0)",
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
    Unpaired(UnpairedRow),
}

/// Columns of an object; those that are `null`, and so count as absent, say so.
pub(super) fn found(row: &Columns) -> Vec<String> {
    row.iter()
        .map(|(name, value)| match value.is_null() {
            true => format!("{name} (null)"),
            false => name.clone(),
        })
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
        Shape::PromptCompletion | Shape::Labelled => {
            let (prompt, answer) = (content(row, "prompt")?, content(row, "completion")?);
            // The shape says that there is one.
            let label = row.remove("label").as_ref().and_then(truth);
            let row = demonstration(row, line, "completion", prompt, answer, None, notes)?;
            Ok(match label {
                Some(label) if shape == Shape::Labelled => Converted::Unpaired(row.labelled(label)),
                _ => Converted::Demonstration(row),
            })
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
            .map(Converted::Demonstration)
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
            .map(Converted::Demonstration)
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
                .map(Converted::Demonstration)
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
                .map(Converted::Demonstration)
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
        strength: match row.remove("strength") {
            None | Some(Value::Null) => None,
            Some(value) => Some(number("strength".into(), &value)?),
        },
        preference: preference(row)?,
    })
}

/// How sure it is that the chosen answer is the better one. Many files have a `label` of another kind beside their pairs: only
/// a number (or true, false) is taken for this one.
fn preference(row: &mut Columns) -> Result<Option<f32>, Problem> {
    for column in ["preference", "label"] {
        let value = match row.remove(column) {
            None | Some(Value::Null) => continue,
            Some(Value::Bool(value)) => f32::from(u8::from(value)),
            Some(value) if column == "label" && !value.is_number() => continue,
            Some(value) => number(column.into(), &value)?,
        };
        if !(0.0..=1.0).contains(&value) {
            return Err(Problem::BadNumber {
                column: column.into(),
                value: value.into(),
                needed: "the probability that `chosen` is the better answer, 0 to 1 (0.5: a tie); rename the column if it means something else",
            });
        }
        return Ok(Some(value));
    }
    Ok(None)
}

fn demonstration(
    row: &mut Columns,
    line: usize,
    column: &'static str,
    mut prompt: Content,
    mut content: Content,
    step_spans: Option<Vec<Span>>,
    notes: &mut Vec<Problem>,
) -> Result<DemonstrationRow, Problem> {
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
    Ok(DemonstrationRow {
        id,
        line,
        prompt,
        answer,
    })
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

fn text(row: &mut Columns, column: &str) -> Result<String, Problem> {
    string_of(column, row.remove(column).unwrap_or_default())
}
