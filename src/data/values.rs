//! JSON values as what a column should hold. Every error names the column with its indices.

use super::columns::Columns;
use super::error::Problem;
use super::{Content, Span};
use crate::text::Message;
use serde_json::Value;

pub(super) fn content_of(column: &str, value: Value) -> Result<Content, Problem> {
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

pub(super) fn string_of(column: &str, value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(Problem::WrongType {
            column: column.into(),
            found: kind(&other),
            needed: "a string",
        }),
    }
}

pub(super) fn messages(column: &str, value: Value) -> Result<Vec<Message>, Problem> {
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

pub(super) fn array(
    column: &str,
    value: Value,
    needed: &'static str,
) -> Result<Vec<Value>, Problem> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(Problem::WrongType {
            column: column.into(),
            found: kind(&other),
            needed,
        }),
    }
}

pub(super) fn strings(column: &str, value: Value) -> Result<Vec<String>, Problem> {
    let values = array(column, value, "a list of strings")?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| string_of(&format!("{column}[{index}]"), value))
        .collect()
}

/// True or false, also as 1 and 0: tables that passed through other tools hold labels so, and a bad answer must not pass
/// for a good one because of it.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        _ => None,
    }
}

pub(super) fn booleans(column: &str, value: Value) -> Result<Vec<bool>, Problem> {
    let values = array(column, value, "a list of true and false")?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let column = || format!("{column}[{index}]");
            truth(&value).ok_or_else(|| Problem::WrongType {
                column: column(),
                found: kind(&value),
                needed: "true or false (or 1 or 0)",
            })
        })
        .collect()
}

pub(super) fn numbers(row: &mut Columns, column: &str) -> Result<Option<Vec<f32>>, Problem> {
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

pub(super) fn number(column: String, value: &Value) -> Result<f32, Problem> {
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

/// Spans of a text of `length` code points, before which `moved` code points of the column became the prompt.
pub(super) fn spans(
    column: &str,
    value: Value,
    length: usize,
    moved: usize,
) -> Result<Vec<Span>, Problem> {
    const NEEDED: &str = "a list of [start, end] in code points";
    let mut spans = Vec::new();
    for (index, value) in array(column, value, NEEDED)?.into_iter().enumerate() {
        let column = format!("{column}[{index}]");
        // Further entries (the kind of error, say) are allowed and not read.
        let ends = match &value {
            Value::Array(entries) if entries.len() >= 2 => [&entries[0], &entries[1]],
            Value::Array(_) => {
                return Err(Problem::WrongType {
                    column,
                    found: "a list of fewer than two entries",
                    needed: "[start, end]",
                });
            }
            _ => {
                return Err(Problem::WrongType {
                    column,
                    found: kind(&value),
                    needed: "[start, end]",
                });
            }
        };
        let end_at = |place: usize| {
            let whole = ends[place]
                .as_u64()
                .and_then(|end| usize::try_from(end).ok());
            whole.ok_or_else(|| Problem::WrongType {
                column: format!("{column}[{place}]"),
                found: match ends[place].as_f64() {
                    Some(number) if number < 0.0 => "a number below 0",
                    Some(number) if number.fract() != 0.0 => "a broken number",
                    Some(_) => "a number that is too large",
                    None => kind(ends[place]),
                },
                needed: "a whole number of code points, 0 or more",
            })
        };
        let (start, end) = (end_at(0)?, end_at(1)?);
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
