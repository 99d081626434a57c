//! Rows: preferences, demonstrations, spans; their readers and checks.

mod check;
mod columns;
mod edit;
mod error;
mod jsonl;
mod lexicon;
mod prompt;
mod row;
mod split;
mod strict;
mod trace;
mod values;

pub use crate::text::Content;
pub use check::{CheckReport, Leak, LengthSummary, LongerWins, Quantiles, check};
pub use edit::{AlignError, Alignment, MAX_ALIGN_CELLS, Op, align};
pub use error::{DataError, MAX_ERRORS, MAX_LINE_BYTES, Place, Problem};
pub use jsonl::{
    read_json, read_json_report, read_jsonl, read_jsonl_report, read_values, read_values_report,
};
pub use lexicon::{LexiconEntry, LexiconError, read_lexicon};
pub use row::{Answer, DemonstrationRow, PreferenceRow, Rows, Span, UnpairedRow};
pub use split::{fingerprint, split_by_hash};
pub use strict::{StrictError, read_strict};
pub use trace::{TraceRow, read_traces};
