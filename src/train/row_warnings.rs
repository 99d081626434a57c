//! Sentences on rows that can be used and are not what they look like.

use super::dataset::{EncodedRow, counted};
use crate::text::{EncodeOptions, Truncation};

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
