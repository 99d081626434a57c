//! The data sets' rows as they are published: `allenai/reward-bench` (one chosen, one rejected answer) and
//! `allenai/reward-bench-2` (lists of right and wrong answers). Columns that are not named here are not read.

use crate::data::Content;
use crate::eval::EvalError;
use crate::plain::plain_words;
use serde::Deserialize;
use serde_json::Value;

/// Which of the two data sets a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `allenai/reward-bench`.
    V1,
    /// `allenai/reward-bench-2`.
    V2,
}

/// One row: right answers first.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchRow {
    /// Line or row in its file, from 1.
    pub line: usize,
    /// The row's id as it stands: a number in version 1, text in version 2.
    pub id: Value,
    /// Its subset.
    pub subset: String,
    /// The prompt.
    pub prompt: Content,
    /// The answers, right ones first.
    pub answers: Vec<String>,
    /// How many, from the front, are right.
    pub num_correct: usize,
}

#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    id: Value,
    subset: String,
    prompt: Content,
    chosen: OneOrMany,
    rejected: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Reads rows of one version; the first row decides which. `objects` are (line, JSON object), `name` the file's name for
/// messages.
///
/// # Errors
/// No rows; a row that lacks a column or has it in another kind; rows of both versions in one file.
pub fn read_rows(
    objects: Vec<(usize, Value)>,
    name: &str,
) -> Result<(Version, Vec<BenchRow>), EvalError> {
    let mut version = None;
    let mut rows = Vec::with_capacity(objects.len());
    for (line, object) in objects {
        let bad = |reason: String| EvalError::File {
            what: format!("{name}, line {line}"),
            reason,
        };
        let row: Published = serde_json::from_value(object).map_err(|error| {
            bad(format!(
                "{}; needed: id, subset, prompt, chosen and rejected (texts in version 1, lists of texts in version 2)",
                plain_words(&error.to_string())
            ))
        })?;
        let (found, right, wrong) = match (row.chosen, row.rejected) {
            (OneOrMany::One(right), OneOrMany::One(wrong)) => {
                (Version::V1, vec![right], vec![wrong])
            }
            (OneOrMany::Many(right), OneOrMany::Many(wrong)) => (Version::V2, right, wrong),
            _ => {
                return Err(bad(
                    "one of chosen and rejected is a text and the other a list; both must be of one kind".into(),
                ));
            }
        };
        if *version.get_or_insert(found) != found {
            return Err(bad(
                "the rows before are of the other version of RewardBench; give each version its own file".into(),
            ));
        }
        if right.is_empty() || wrong.is_empty() {
            return Err(bad(
                "it needs at least one right and one wrong answer".into()
            ));
        }
        rows.push(BenchRow {
            line,
            id: row.id,
            subset: row.subset,
            prompt: row.prompt,
            num_correct: right.len(),
            answers: right.into_iter().chain(wrong).collect(),
        });
    }
    match version {
        Some(version) => Ok((version, rows)),
        None => Err(EvalError::Empty {
            what: "RewardBench rows",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_published_shapes_are_read() {
        let one = json!({"id": 30, "subset": "hep-cpp", "prompt": "p", "chosen": "a", "rejected": "b", "chosen_model": "m"});
        let (version, rows) = read_rows(vec![(1, one.clone())], "f").unwrap();
        assert_eq!(
            (version, rows[0].answers.len(), rows[0].num_correct),
            (Version::V1, 2, 1)
        );
        assert_eq!(rows[0].id, json!(30));
        let two = json!({"id": "tied:0", "subset": "Ties", "prompt": "p", "chosen": ["a", "b"], "rejected": ["c"], "num_correct": 2});
        let (version, rows) = read_rows(vec![(1, two.clone())], "f").unwrap();
        assert_eq!(
            (version, rows[0].answers.join(""), rows[0].num_correct),
            (Version::V2, "abc".into(), 2)
        );
        for (objects, part) in [
            (vec![(1, one.clone()), (2, two)], "line 2"),
            (vec![(3, json!({"subset": "x"}))], "line 3"),
            (
                vec![(
                    1,
                    json!({"subset": "x", "prompt": "p", "chosen": "a", "rejected": ["b"]}),
                )],
                "one of chosen",
            ),
            (
                vec![(
                    1,
                    json!({"subset": "x", "prompt": "p", "chosen": [], "rejected": ["b"]}),
                )],
                "at least one right",
            ),
            (vec![], "empty"),
        ] {
            let error = read_rows(objects, "f").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
