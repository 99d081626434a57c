//! What can be wrong with a file of rows, said so that a person can mend it.

use std::fmt;

/// Longest line that is read: 16 MiB. A longer one is nearly always a file that is not JSON Lines.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// How many errors, and how many notes, a report keeps; the rest are counted in [`Problem::MoreErrors`].
pub const MAX_ERRORS: usize = 1000;

/// Where in the file a problem lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of text, counted from 1.
    Line(usize),
    /// A row of a table or an array, counted from 1.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::Row(row) => write!(f, ", row {row}"),
        }
    }
}

/// One problem of one file, with its place.
///
/// Notes ([`DataError::is_note`]) tell something worth knowing about rows that were kept; they
/// never make a file fail.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{file}{place}: {problem}")]
pub struct DataError {
    /// The file's name as it was given.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// What is wrong and what to do.
    pub problem: Problem,
}

impl DataError {
    /// True for notes: the rows were read all the same.
    pub fn is_note(&self) -> bool {
        matches!(
            self.problem,
            Problem::EmptyAnswer { .. } | Problem::IdenticalAnswers
        )
    }
}

/// The problems themselves. Text columns count code points from 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// The line does not parse.
    #[error(
        "not JSON at column {column}: {why}; each line must be one JSON object, e.g. {{\"prompt\": \"..\", ..}}"
    )]
    BrokenJson {
        /// Column of the line.
        column: usize,
        /// The parser's words.
        why: String,
    },
    /// A key that stands twice in one object.
    #[error(
        "the key `{key}` stands twice in one object (the second time before column {column}); one of the two would be lost: remove one, or rename it"
    )]
    DuplicateKey {
        /// Column of the line.
        column: usize,
        /// The key, cut where it is long.
        key: String,
    },
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8 at column {column}: byte 0x{byte:02X}; save the file as UTF-8")]
    InvalidUtf8 {
        /// Column of the line.
        column: usize,
        /// The first byte that does not fit.
        byte: u8,
    },
    /// A UTF-16 byte order mark.
    #[error("the file is UTF-16 (it starts with its byte order mark); save it as UTF-8")]
    Utf16,
    /// Half of a surrogate pair in a `\u` escape; such a string is no Unicode text.
    #[error(
        "lone surrogate {escape} at column {column}; write the character itself, or both halves of its pair"
    )]
    LoneSurrogate {
        /// Column of the line.
        column: usize,
        /// The escape as written.
        escape: String,
    },
    /// A line beyond [`MAX_LINE_BYTES`].
    #[error(
        "the line has {bytes} bytes, more than the limit of {limit}; is the file JSON Lines, one row per line?"
    )]
    LineTooLong {
        /// The line's size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A JSON value that is not an object.
    #[error("found {found} where a row, a JSON object such as {{\"text\": \"..\"}}, is needed")]
    NotAnObject {
        /// What stands there.
        found: &'static str,
    },
    /// No known shape fits the columns.
    #[error(
        "columns found: {}; needed: chosen + rejected (with or without prompt), prompt + completion, prompt + \
         completion + label, messages, text, prompt + completions + labels, or steps + mistake_index; rename the columns, and fill those \
         that are null",
        list(found)
    )]
    UnknownShape {
        /// Columns, those without a value marked.
        found: Vec<String>,
    },
    /// A row that is no reasoning trace.
    #[error(
        "no trace; needed: steps (a list of texts), mistake_index (from 0, or null where no step is wrong), and prompt where there is one"
    )]
    NoTrace,
    /// A row of another shape than the first row of the file.
    #[error(
        "columns found: {}; needed as in the first row: {needed}; put rows of other shapes into their own file",
        list(found)
    )]
    OtherShape {
        /// Columns with a value.
        found: Vec<String>,
        /// Columns of the file's shape.
        needed: &'static str,
    },
    /// A value of the wrong type.
    #[error("column `{column}` holds {found}, needed: {needed}")]
    WrongType {
        /// The column, with indices.
        column: String,
        /// What stands there.
        found: &'static str,
        /// What should.
        needed: &'static str,
    },
    /// Messages without an answer.
    #[error(
        "column `{column}` has no turn with the role `assistant` to learn from; rename the answering role to `assistant`"
    )]
    NoAssistantTurn {
        /// The column.
        column: String,
    },
    /// One answer as text, the other as messages.
    #[error(
        "`chosen` and `rejected` differ in kind; give both as strings or both as lists of messages"
    )]
    MixedAnswers,
    /// A number out of range for f32, or a negative deviation.
    #[error("column `{column}` holds {value}, needed: {needed}")]
    BadNumber {
        /// The column, with indices.
        column: String,
        /// The number.
        value: f64,
        /// What should stand there.
        needed: &'static str,
    },
    /// A span whose end lies before its start.
    #[error(
        "column `{column}` has the span [{start}, {end}] that ends before it starts; write [start, end] with the end exclusive"
    )]
    SpanReversed {
        /// The column, with indices.
        column: String,
        /// First code point.
        start: usize,
        /// One past the last.
        end: usize,
    },
    /// A span beyond the text.
    #[error(
        "column `{column}` has the span [{start}, {end}] but the text has {length} code points; count code points \
         (not bytes) of the answer without its prompt"
    )]
    SpanOutside {
        /// The column, with indices.
        column: String,
        /// First code point.
        start: usize,
        /// One past the last.
        end: usize,
        /// Code points in the text.
        length: usize,
    },
    /// Two lists that must run side by side.
    #[error(
        "`{left}` has {left_length} entries and `{right}` has {right_length}; both must have the same number"
    )]
    LengthsDiffer {
        /// A column.
        left: &'static str,
        /// Its entries.
        left_length: usize,
        /// Another column.
        right: &'static str,
        /// Its entries.
        right_length: usize,
    },
    /// A step index beyond the steps.
    #[error(
        "`mistake_index` is {index} but there are {steps} steps; count steps from 0, or write null when none is wrong"
    )]
    MistakeOutside {
        /// The index.
        index: u64,
        /// How many steps.
        steps: usize,
    },
    /// Nothing to read.
    #[error("no rows; check that the right file was given")]
    NoRows,
    /// Errors and notes beyond [`MAX_ERRORS`].
    #[error(
        "{count} more errors and notes are not shown; mend the first ones, they often share a cause"
    )]
    MoreErrors {
        /// How many.
        count: usize,
    },
    /// Note: an answer without text. Kept: a model must know what an empty answer is worth.
    #[error(
        "`{column}` is empty or only white space; the row is kept, remove it if the answer was lost"
    )]
    EmptyAnswer {
        /// The column.
        column: &'static str,
    },
    /// Note: a pair that says nothing.
    #[error(
        "`chosen` and `rejected` are identical; the row is kept, but nothing can be learned from it: remove it"
    )]
    IdenticalAnswers,
}

fn list(found: &[String]) -> String {
    if found.is_empty() {
        return "none".into();
    }
    // A file can bring any number of columns of any length; a sentence cannot.
    let mut text = found
        .iter()
        .take(20)
        .map(|name| name.chars().take(40).collect::<String>())
        .collect::<Vec<_>>()
        .join(", ");
    if found.len() > 20 {
        text.push_str(", ..");
    }
    text
}
