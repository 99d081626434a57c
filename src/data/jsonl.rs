//! Reads rows from JSON Lines, from a JSON array, or from values that another reader made.
//!
//! Accepted shapes, by columns (the first row decides for the file):
//!
//! | columns | rows |
//! |---|---|
//! | `prompt, chosen, rejected` | preferences; strings or lists of messages |
//! | `chosen, rejected` | preferences; what both share at the front is the prompt |
//! | `prompt, completion` | demonstrations |
//! | `prompt, completion, label` | answers by themselves: label true (or 1) desirable, false (or 0) undesirable |
//! | `messages` | demonstrations; the answer begins at the first assistant turn |
//! | `text` (`prompt` if there is one) | demonstrations |
//! | `prompt, completions, labels` | demonstrations, one step a line, with a span for each wrong step |
//! | `steps, mistake_index` (`prompt` if there is one) | the same with the first wrong step |
//!
//! Truth beside them: `chosen_spans`, `rejected_spans`, `chosen_rewards`, `rejected_rewards`, `chosen_reward_std`,
//! `rejected_reward_std`, `margin`, `strength`, and `preference` or a number as `label` (the probability that `chosen` is the
//! better answer: 1, 0, or 0.5 for a tie); for demonstrations `spans` (or `bad_spans`), `rewards`, `reward_std`. Other columns
//! are not read. A UTF-8 byte order mark, CRLF and blank lines are fine; a NUL written as `\u0000` is text like any other.

use super::Rows;
use super::columns::{Converted, Shape, convert, found};
use super::error::{DataError, MAX_ERRORS, MAX_LINE_BYTES, Place, Problem};
use super::strict::{StrictError, read_strict};
use super::values::kind;
use serde_json::Value;

const UTF8_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// Reads JSON Lines; `name` is the file's name for messages.
///
/// # Errors
/// The first broken line. Empty and identical answers are not errors: [`read_jsonl_report`] notes them.
pub fn read_jsonl(bytes: &[u8], name: &str) -> Result<Rows, DataError> {
    let mut reader = RowReader::new(name, true);
    lines(bytes, &mut reader);
    reader.strict()
}

/// Reads what can be read of JSON Lines, and collects every broken line and every note.
///
/// No rows come back when not one could be read. At most [`MAX_ERRORS`] errors and as many notes are kept.
pub fn read_jsonl_report(bytes: &[u8], name: &str) -> (Option<Rows>, Vec<DataError>) {
    let mut reader = RowReader::new(name, false);
    lines(bytes, &mut reader);
    reader.finish()
}

/// Reads a JSON array of rows, or JSON Lines when the text does not begin with `[`.
///
/// # Errors
/// As [`read_jsonl`].
pub fn read_json(bytes: &[u8], name: &str) -> Result<Rows, DataError> {
    let mut reader = RowReader::new(name, true);
    array_or_lines(bytes, &mut reader);
    reader.strict()
}

/// [`read_json`] that goes on after errors, as [`read_jsonl_report`].
pub fn read_json_report(bytes: &[u8], name: &str) -> (Option<Rows>, Vec<DataError>) {
    let mut reader = RowReader::new(name, false);
    array_or_lines(bytes, &mut reader);
    reader.finish()
}

/// Reads rows that are JSON values already (from a table file, say), numbered from 1.
///
/// # Errors
/// As [`read_jsonl`].
pub fn read_values(values: impl IntoIterator<Item = Value>, name: &str) -> Result<Rows, DataError> {
    let mut reader = RowReader::new(name, true);
    for (index, value) in values.into_iter().enumerate() {
        reader.push(Place::Row(index + 1), index + 1, value);
        if reader.done() {
            break;
        }
    }
    reader.strict()
}

/// [`read_values`] that goes on after errors, as [`read_jsonl_report`].
pub fn read_values_report(
    values: impl IntoIterator<Item = Value>,
    name: &str,
) -> (Option<Rows>, Vec<DataError>) {
    let mut reader = RowReader::new(name, false);
    for (index, value) in values.into_iter().enumerate() {
        reader.push(Place::Row(index + 1), index + 1, value);
    }
    reader.finish()
}

fn array_or_lines(bytes: &[u8], reader: &mut RowReader) {
    let body = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return lines(bytes, reader);
    }
    match read_strict(body) {
        // The text begins with a bracket: what was read is an array.
        Ok(values) => {
            let Value::Array(values) = values else {
                return reader.push(Place::File, 1, values);
            };
            for (index, value) in values.into_iter().enumerate() {
                reader.push(Place::Row(index + 1), index + 1, value);
                if reader.done() {
                    return;
                }
            }
        }
        Err(error) => {
            let line = body
                .split(|byte| *byte == b'\n')
                .nth(error.error.line().saturating_sub(1))
                .unwrap_or_default();
            let problem = match str::from_utf8(line) {
                Ok(text) => broken(text, &error),
                Err(bad) => invalid_utf8(line, bad),
            };
            reader.fail(Place::Line(error.error.line()), problem);
        }
    }
}

fn lines(bytes: &[u8], reader: &mut RowReader) {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return reader.fail(Place::File, Problem::Utf16);
    }
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        // A mark also stands inside files that were put together from marked ones.
        let line = line.strip_prefix(UTF8_MARK).unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse(line) {
            Ok(value) => reader.push(Place::Line(index + 1), index + 1, value),
            Err(problem) => reader.fail(Place::Line(index + 1), problem),
        }
        if reader.done() {
            return;
        }
    }
}

fn parse(line: &[u8]) -> Result<Value, Problem> {
    if line.len() > MAX_LINE_BYTES {
        return Err(Problem::LineTooLong {
            bytes: line.len(),
            limit: MAX_LINE_BYTES,
        });
    }
    let text = str::from_utf8(line).map_err(|bad| invalid_utf8(line, bad))?;
    // A lone carriage return at the end is white space to JSON.
    read_strict(text.as_bytes()).map_err(|error| broken(text, &error))
}

fn invalid_utf8(line: &[u8], bad: std::str::Utf8Error) -> Problem {
    let (good, rest) = line.split_at_checked(bad.valid_up_to()).unwrap_or_default();
    Problem::InvalidUtf8 {
        column: String::from_utf8_lossy(good).chars().count() + 1,
        byte: rest.first().copied().unwrap_or_default(),
    }
}

/// Most characters of a key that an error shows.
const SHOWN: usize = 60;

fn broken(line: &str, error: &StrictError) -> Problem {
    let at = column(line, error.error.column().saturating_sub(1));
    if let Some(key) = &error.duplicate {
        return Problem::DuplicateKey {
            column: at,
            key: key.chars().take(SHOWN).collect(),
        };
    }
    if let Some((at, escape)) = lone_surrogate(line) {
        return Problem::LoneSurrogate {
            column: column(line, at),
            escape,
        };
    }
    let why = error.to_string();
    // The place is told in our own words, counted in characters.
    let why = why.split(" at line ").next().unwrap_or_default().to_owned();
    Problem::BrokenJson { column: at, why }
}

/// The column (code points from 1) of a byte of the line.
fn column(line: &str, byte: usize) -> usize {
    line.char_indices().take_while(|(at, _)| *at < byte).count() + 1
}

/// The first `\u` escape that is half of a surrogate pair: its byte and its text.
fn lone_surrogate(line: &str) -> Option<(usize, String)> {
    let unit = |at: usize| {
        let digits = line.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(next) = line.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        match unit(at) {
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => return Some((at, line.get(at..at + 6)?.to_owned())),
            // Two bytes: `\\` must not be read as the start of another escape.
            _ => at += 2,
        }
    }
    None
}

/// Collects rows and what is wrong with them.
struct RowReader {
    file: String,
    stop_early: bool,
    shape: Option<Shape>,
    rows: Option<Rows>,
    errors: Vec<DataError>,
    notes: usize,
    failures: usize,
    more: usize,
}

impl RowReader {
    fn new(file: &str, stop_early: bool) -> Self {
        Self {
            file: file.to_owned(),
            stop_early,
            shape: None,
            rows: None,
            errors: vec![],
            notes: 0,
            failures: 0,
            more: 0,
        }
    }

    /// True when reading further is of no use.
    fn done(&self) -> bool {
        self.stop_early && self.failures > 0
    }

    fn fail(&mut self, place: Place, problem: Problem) {
        let error = DataError {
            file: self.file.clone(),
            place,
            problem,
        };
        // Counted apart, so that many notes never hide an error.
        let kept = if error.is_note() {
            &mut self.notes
        } else {
            &mut self.failures
        };
        if *kept < MAX_ERRORS {
            *kept += 1;
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    fn push(&mut self, place: Place, number: usize, value: Value) {
        let Value::Object(row) = value else {
            return self.fail(
                place,
                Problem::NotAnObject {
                    found: kind(&value),
                },
            );
        };
        let shape = match (self.shape, Shape::detect(&row)) {
            (None, None) => return self.fail(place, Problem::UnknownShape { found: found(&row) }),
            (None, Some(shape)) => *self.shape.insert(shape),
            (Some(shape), detected) if detected == Some(shape) => shape,
            (Some(shape), _) => {
                return self.fail(
                    place,
                    Problem::OtherShape {
                        found: found(&row),
                        needed: shape.needed(),
                    },
                );
            }
        };
        let mut notes = vec![];
        let converted = convert(row, shape, number, &mut notes);
        for note in notes {
            self.fail(place, note);
        }
        match converted {
            Err(problem) => self.fail(place, problem),
            Ok(Converted::Pair(row)) => {
                if let Rows::Preferences(rows) =
                    self.rows.get_or_insert_with(|| Rows::Preferences(vec![]))
                {
                    rows.push(row);
                }
            }
            Ok(Converted::Demonstration(row)) => {
                if let Rows::Demonstrations(rows) = self
                    .rows
                    .get_or_insert_with(|| Rows::Demonstrations(vec![]))
                {
                    rows.push(row);
                }
            }
            Ok(Converted::Unpaired(row)) => {
                if let Rows::Unpaired(rows) =
                    self.rows.get_or_insert_with(|| Rows::Unpaired(vec![]))
                {
                    rows.push(row);
                }
            }
        }
    }

    fn finish(mut self) -> (Option<Rows>, Vec<DataError>) {
        if self.rows.is_none() && self.failures == 0 {
            self.fail(Place::File, Problem::NoRows);
        }
        if self.more > 0 {
            let problem = Problem::MoreErrors { count: self.more };
            self.errors.push(DataError {
                file: self.file,
                place: Place::File,
                problem,
            });
        }
        (self.rows, self.errors)
    }

    fn strict(self) -> Result<Rows, DataError> {
        let file = self.file.clone();
        let (rows, errors) = self.finish();
        let first = errors
            .into_iter()
            .find(|error| !error.is_note() && !matches!(error.problem, Problem::MoreErrors { .. }));
        match (first, rows) {
            (Some(error), _) => Err(error),
            (None, Some(rows)) => Ok(rows),
            (None, None) => Err(DataError {
                file,
                place: Place::File,
                problem: Problem::NoRows,
            }),
        }
    }
}

#[cfg(test)]
#[path = "jsonl_tests.rs"]
mod tests;
