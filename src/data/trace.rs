//! Reads reasoning traces whose first wrong step people marked: JSON Lines of `steps` (a list of texts), `mistake_index`
//! (from 0; null: no step is wrong) and, where there is one, `prompt`, `id`, `subset`. Source of the format:
//! BIG-Bench-Mistake (Tyen et al. 2023, arXiv 2311.08516).

use super::error::{DataError, Place, Problem};
use super::{Answer, Content, DemonstrationRow, Rows, Span, read_jsonl};

/// One trace: the steps as one text, one step a line.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRow {
    /// The trace as an answer; its span, where there is one, is the first wrong step.
    pub row: DemonstrationRow,
    /// Code points of each step in the answer's text.
    pub steps: Vec<Span>,
    /// The first wrong step, from 0; `None` where every step is right.
    pub first_wrong: Option<usize>,
}

/// Reads traces; `name` is the file's name for messages.
///
/// # Errors
/// The first broken line, as [`read_jsonl`]; and rows that are no traces.
pub fn read_traces(bytes: &[u8], name: &str) -> Result<Vec<TraceRow>, DataError> {
    // The general reader checks types and ranges; the borders of the steps, which it does not keep, are read beside it.
    let rows = read_jsonl(bytes, name)?;
    let no_traces = |line| DataError {
        file: name.into(),
        place: Place::Line(line),
        problem: Problem::NoTrace,
    };
    let Rows::Demonstrations(rows) = rows else {
        return Err(no_traces(1));
    };
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    rows.into_iter()
        .map(|row| {
            let line = row.line;
            let steps = lines
                .get(line - 1)
                .and_then(|text| step_lengths(text))
                .ok_or_else(|| no_traces(line))?;
            let mut start = 0;
            let steps: Vec<Span> = steps
                .into_iter()
                .map(|length| {
                    let span = Span {
                        start,
                        end: start + length,
                    };
                    start = span.end + 1;
                    span
                })
                .collect();
            let Answer { spans, content, .. } = &row.answer;
            debug_assert!(matches!(content, Content::Text(_)));
            let wrong = spans.as_ref().and_then(|spans| spans.first().copied());
            let first_wrong = wrong.and_then(|wrong| steps.iter().position(|s| *s == wrong));
            Ok(TraceRow {
                row,
                steps,
                first_wrong,
            })
        })
        .collect()
}

/// Code points of each step of a line.
fn step_lengths(line: &[u8]) -> Option<Vec<usize>> {
    #[derive(serde::Deserialize)]
    struct Steps {
        steps: Vec<String>,
    }
    let line = line.strip_prefix(&[0xEF, 0xBB, 0xBF]).unwrap_or(line);
    let steps: Steps = serde_json::from_slice(line).ok()?;
    Some(steps.steps.iter().map(|s| s.chars().count()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_keep_their_borders_also_where_they_hold_line_breaks() {
        let text = "{\"prompt\":\"p\",\"steps\":[\"\u{e9}a\\nb\",\"\",\"cd\"],\"mistake_index\":2}\n\n{\"steps\":[\"x\"],\"mistake_index\":null}";
        let traces = read_traces(text.as_bytes(), "t.jsonl").unwrap();
        assert_eq!(
            traces[0].row.answer.content.answer_text(),
            "\u{e9}a\nb\n\ncd"
        );
        let spans: Vec<(usize, usize)> = traces[0].steps.iter().map(|s| (*s).into()).collect();
        assert_eq!(spans, [(0, 4), (5, 5), (6, 8)]);
        assert_eq!(traces[0].first_wrong, Some(2));
        assert_eq!((traces[1].first_wrong, traces[1].row.line), (None, 3));
    }

    #[test]
    fn what_is_no_trace_is_told_with_its_line() {
        for (text, part) in [
            (
                &br#"{"prompt":"a","chosen":"b","rejected":"c"}"#[..],
                "line 1",
            ),
            (br#"{"text":"a"}"#, "line 1"),
            (br#"{"steps":["a"],"mistake_index":3}"#, "line 1"),
            (
                b"{\"steps\":[\"a\"],\"mistake_index\":0}\n{\"steps\":[1],\"mistake_index\":0}",
                "line 2",
            ),
        ] {
            let error = read_traces(text, "t.jsonl").unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("t.jsonl"), "{error}");
        }
    }
}
