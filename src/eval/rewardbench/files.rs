//! The public code's files, as it writes them: JSON with sorted keys and an indent of four; one line a row for prompts.

use super::{Report, ScoredRow};
use crate::eval::{EvalError, check_values};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Per-subset results (`eval-set/<model>.json`): the three names, then one number a subset at the same level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubsetFile {
    /// Model name or path.
    pub model: String,
    /// `Seq. Classifier`, `DPO`, ...
    pub model_type: String,
    /// Name of the template, `tokenizer` where the tokenizer's own was used.
    pub chat_template: Option<String>,
    /// Accuracy by subset (version 2: the Ties score under `Ties`).
    #[serde(flatten)]
    pub subsets: BTreeMap<String, f64>,
}

/// Scores by column (`eval-set-scores/<model>.json`): every column has one entry a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoresFile {
    /// Model name or path.
    pub model: String,
    /// See [`SubsetFile::model_type`].
    pub model_type: String,
    /// See [`SubsetFile::chat_template`].
    pub chat_template: Option<String>,
    /// Chosen texts, or chats as lists of messages.
    pub text_chosen: Vec<Value>,
    /// Rejected texts or chats.
    pub text_rejected: Vec<Value>,
    /// Row ids: numbers in version 1.
    pub id: Vec<Value>,
    /// Subset of each row.
    pub subset: Vec<String>,
    /// 1 right, 0 wrong (0.5 where a judge called a tie).
    pub results: Vec<f64>,
    /// Score of each chosen answer.
    pub scores_chosen: Vec<f64>,
    /// Score of each rejected answer.
    pub scores_rejected: Vec<f64>,
}

/// Version 2's scores by column: several answers a row, the right ones first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoresFileV2 {
    /// Model name or path.
    pub model: String,
    /// See [`SubsetFile::model_type`].
    pub model_type: String,
    /// See [`SubsetFile::chat_template`].
    pub chat_template: Option<String>,
    /// The answers' texts, or chats.
    pub text: Vec<Vec<Value>>,
    /// Row ids; `ref:<n>` and `tied:<n>` in Ties.
    pub id: Vec<String>,
    /// Subset of each row.
    pub subset: Vec<String>,
    /// See [`super::v2::best_of_several`]; 1 or 0 in Ties.
    pub results: Vec<f64>,
    /// Scores of the answers.
    pub scores: Vec<Vec<f64>>,
    /// How many answers, from the front, are right.
    pub num_correct: Vec<usize>,
}

/// Summary of a run over any preference set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Share of rows that are right.
    pub accuracy: f64,
    /// Rows.
    pub num_prompts: usize,
    /// Model name or path.
    pub model: String,
    /// Reference model of a DPO-type reward.
    pub ref_model: Option<String>,
    /// Tokenizer name or path.
    pub tokenizer: Option<String>,
    /// Name of the chat template.
    pub chat_template: Option<String>,
    /// Accuracy by subset, for RewardBench itself.
    pub extra_results: Option<BTreeMap<String, f64>>,
}

/// One line a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptLine {
    /// The prompt, text or messages.
    pub prompt: Value,
    /// 1 right, 0 wrong.
    pub results: f64,
    /// Score of the chosen answer.
    pub scores_chosen: f64,
    /// Score of the rejected answer.
    pub scores_rejected: f64,
    /// The chosen text.
    pub text_chosen: Value,
    /// The rejected text.
    pub text_rejected: Value,
}

impl SubsetFile {
    /// From a version 2 report; subsets without rows are not in the file.
    pub fn from_report_v2(
        report: &super::report_v2::ReportV2,
        model: &str,
        model_type: &str,
        chat_template: Option<&str>,
    ) -> Self {
        let subsets = report.subsets.iter();
        Self {
            model: model.to_string(),
            model_type: model_type.to_string(),
            chat_template: chat_template.map(str::to_string),
            subsets: subsets
                .filter_map(|s| Some((s.subset.clone(), s.score.value?)))
                .collect(),
        }
    }

    /// From a report.
    pub fn from_report(
        report: &Report,
        model: &str,
        model_type: &str,
        chat_template: Option<&str>,
    ) -> Self {
        let number = |s: &super::SubsetResult| Some((s.subset.clone(), s.accuracy.value?));
        Self {
            model: model.to_string(),
            model_type: model_type.to_string(),
            chat_template: chat_template.map(str::to_string),
            subsets: report.subsets.iter().filter_map(number).collect(),
        }
    }
}

impl ScoresFileV2 {
    /// The rows, for [`super::report_v2::report_v2`].
    ///
    /// # Errors
    /// Columns of unequal length, scores that are not finite.
    pub fn rows(&self) -> Result<Vec<super::report_v2::ScoredRowV2>, EvalError> {
        let n = self.subset.len();
        let columns = [
            ("text", self.text.len()),
            ("id", self.id.len()),
            ("results", self.results.len()),
            ("scores", self.scores.len()),
            ("num_correct", self.num_correct.len()),
        ];
        if let Some((second, second_len)) = columns.into_iter().find(|c| c.1 != n) {
            return Err(EvalError::Lengths {
                first: "subset",
                first_len: n,
                second,
                second_len,
            });
        }
        for scores in &self.scores {
            check_values("scores", scores)?;
        }
        Ok((0..n)
            .map(|i| super::report_v2::ScoredRowV2 {
                id: self.id[i].clone(),
                subset: self.subset[i].clone(),
                num_correct: self.num_correct[i],
                scores: self.scores[i].clone(),
            })
            .collect())
    }
}

impl ScoresFile {
    /// The rows, for [`super::report`].
    ///
    /// # Errors
    /// Columns of unequal length, scores that are not finite.
    pub fn rows(&self) -> Result<Vec<ScoredRow>, EvalError> {
        let n = self.subset.len();
        let columns = [
            ("text_chosen", self.text_chosen.len()),
            ("text_rejected", self.text_rejected.len()),
            ("id", self.id.len()),
            ("results", self.results.len()),
            ("scores_chosen", self.scores_chosen.len()),
            ("scores_rejected", self.scores_rejected.len()),
        ];
        if let Some((second, second_len)) = columns.into_iter().find(|c| c.1 != n) {
            return Err(EvalError::Lengths {
                first: "subset",
                first_len: n,
                second,
                second_len,
            });
        }
        check_values("scores_chosen", &self.scores_chosen)?;
        check_values("scores_rejected", &self.scores_rejected)?;
        let row = |((subset, c), r): ((&String, &f64), &f64)| ScoredRow {
            subset: subset.clone(),
            scores_chosen: *c,
            scores_rejected: *r,
        };
        Ok(self
            .subset
            .iter()
            .zip(&self.scores_chosen)
            .zip(&self.scores_rejected)
            .map(row)
            .collect())
    }
}

/// Reads one of the files above.
///
/// # Errors
/// Not JSON, or a column is missing or of another kind; the message says which.
pub fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, EvalError> {
    serde_json::from_slice(bytes).map_err(|e| EvalError::File {
        what: what.to_string(),
        reason: e.to_string(),
    })
}

/// Reads JSON Lines of prompts; empty lines are skipped.
///
/// # Errors
/// As [`read`], with the number of the line.
pub fn read_lines(what: &str, bytes: &[u8]) -> Result<Vec<PromptLine>, EvalError> {
    let lines = bytes
        .split(|b| *b == b'\n')
        .enumerate()
        .filter(|(_, l)| !l.trim_ascii().is_empty());
    lines
        .map(|(i, line)| read(&format!("{what}, line {}", i + 1), line))
        .collect()
}

/// Writes one of the files above as the public code does: sorted keys, indent of four.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn write<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>, EvalError> {
    let bad = |e: serde_json::Error| EvalError::File {
        what: what.to_string(),
        reason: e.to_string(),
    };
    let mut value = serde_json::to_value(value).map_err(bad)?;
    value.sort_all_objects();
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut out, format,
        ))
        .map_err(bad)?;
    Ok(out)
}

/// Writes prompts as JSON Lines.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn write_lines(what: &str, lines: &[PromptLine]) -> Result<Vec<u8>, EvalError> {
    let mut out = Vec::new();
    for line in lines {
        let text = serde_json::to_vec(line).map_err(|e| EvalError::File {
            what: what.to_string(),
            reason: e.to_string(),
        })?;
        out.extend(text);
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Bootstrap;

    #[test]
    fn a_subset_file_has_its_numbers_beside_its_names() {
        let text = br#"{"alpacaeval-easy": 0.95, "chat_template": "tulu", "hep-cpp": 1, "model": "m", "model_type": "DPO"}"#;
        let file: SubsetFile = read("results", text).unwrap();
        assert_eq!(file.subsets["hep-cpp"], 1.0);
        let written = String::from_utf8(write("results", &file).unwrap()).unwrap();
        assert!(
            written
                .starts_with("{\n    \"alpacaeval-easy\": 0.95,\n    \"chat_template\": \"tulu\""),
            "{written}"
        );
        assert_eq!(
            read::<SubsetFile>("again", written.as_bytes()).unwrap(),
            file
        );
    }

    #[test]
    fn a_scores_file_goes_to_a_report_and_back() {
        let text = br#"{"model":"m","model_type":"Seq. Classifier","chat_template":null,"text_chosen":["a",[{"role":"user","content":"b"}]],
            "text_rejected":["c","d"],"id":[30,31],"subset":["hep-cpp","donotanswer"],"results":[1,0],
            "scores_chosen":[1.5,-2],"scores_rejected":[0.5,-1.0]}"#;
        let file: ScoresFile = read("scores", text).unwrap();
        let report =
            super::super::report(&file.rows().unwrap(), &BTreeMap::new(), &Bootstrap::OFF).unwrap();
        assert_eq!(report.accuracy.value, Some(0.5));
        let subsets = SubsetFile::from_report(&report, "m", "DPO", None);
        assert_eq!(subsets.subsets.len(), 2);
        let again: ScoresFile = read("scores", &write("scores", &file).unwrap()).unwrap();
        assert_eq!(again, file);
        let mut broken = file;
        broken.id.pop();
        assert!(matches!(
            broken.rows(),
            Err(EvalError::Lengths {
                second: "id",
                second_len: 1,
                ..
            })
        ));
    }

    #[test]
    fn summaries_prompts_and_version_two_round_trip() {
        let summary = Summary {
            accuracy: 0.5,
            num_prompts: 2,
            model: "m".into(),
            ref_model: None,
            tokenizer: Some("t".into()),
            chat_template: None,
            extra_results: None,
        };
        assert_eq!(
            read::<Summary>("s", &write("s", &summary).unwrap()).unwrap(),
            summary
        );
        let line = PromptLine {
            prompt: "p".into(),
            results: 1.0,
            scores_chosen: 0.1,
            scores_rejected: -0.2,
            text_chosen: "c".into(),
            text_rejected: "r".into(),
        };
        let bytes = write_lines("l", &[line.clone(), line.clone()]).unwrap();
        assert_eq!(read_lines("l", &bytes).unwrap(), [line.clone(), line]);
        let v2 = br#"{"model":"m","model_type":"x","chat_template":"tokenizer","text":[["a","b"]],"id":["tied:0"],
            "subset":["Ties"],"results":[1],"scores":[[1.0,0.5]],"num_correct":[1]}"#;
        let file: ScoresFileV2 = read("v2", v2).unwrap();
        assert_eq!(
            read::<ScoresFileV2>("v2", &write("v2", &file).unwrap()).unwrap(),
            file
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read_lines("prompts.jsonl", b"\n{\"prompt\":1}\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("prompts.jsonl, line 2: missing field"),
            "{error}"
        );
    }
}
