//! Scores by a run.

use super::{Scores, objects_of, right};
use crate::args::{RewardBenchArgs, RunArgs};
use crate::commands::run_files::OpenRun;
use crate::commands::wait;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use avascope::data::{Answer, Content, DemonstrationRow, Rows};
use avascope::eval::rewardbench::files::{ScoresFile, ScoresFileV2};
use avascope::eval::rewardbench::rows::{BenchRow, Version, read_rows};
use avascope::text::Message;
use avascope::train::{SkippedRow, encode_usable_rows, score_of};
use serde_json::{Map, Value};
use std::path::Path;

/// What the files say of the model.
struct Model {
    name: String,
    kind: String,
    chat_template: Option<String>,
}

/// Scores the published rows with a run: every answer by itself, by the score that the run ranks by.
pub(super) fn score(
    args: &RewardBenchArgs,
    folder: &Path,
    data: &Path,
) -> Result<(Scores, Map<String, Value>)> {
    let mut objects = objects_of(data)?;
    objects.truncate(args.limit.unwrap_or(usize::MAX));
    let (version, rows) = read_rows(objects, &data.display().to_string())?;
    let run = OpenRun::open(&RunArgs {
        run: folder.into(),
        checkpoint: args.checkpoint.clone(),
        model: args.model.clone(),
        reference: args.reference.clone(),
        device: args.device.clone(),
        batch_size: args.batch_size,
        ignorance: Default::default(),
        credit: args.credit.clone(),
    })?;
    let scorer = &run.scorer;
    let chat = scorer.model().tokenizer.has_chat_template() && !args.no_chat_template;
    let provenance = scorer.provenance();
    let model = Model {
        name: args
            .name
            .clone()
            .unwrap_or_else(|| format!("{} {}", provenance.model, provenance.method)),
        kind: match (provenance.method.as_str(), provenance.credit.as_str()) {
            ("dpo", _) | (_, "implicit_dpo") => "DPO",
            _ => "Custom Classifier",
        }
        .into(),
        chat_template: chat.then(|| "tokenizer".into()),
    };

    // Answers get their number as id, by which they are found again behind the tokenizer.
    let mut answers = Vec::new();
    for row in &rows {
        for answer in &row.answers {
            answers.push(DemonstrationRow {
                id: answers.len().to_string(),
                line: row.line,
                prompt: prompt(&row.prompt, chat),
                answer: Answer {
                    content: Content::Text(answer.clone()),
                    spans: None,
                    true_rewards: None,
                    true_reward_std: None,
                },
            });
        }
    }
    let total = answers.len();
    let answers = Rows::Demonstrations(answers);
    let (encoded, skipped) = encode_usable_rows(&answers, &scorer.model().tokenizer, &run.encode)?;
    let truncated = encoded.iter().filter(|row| row.truncated()).count();
    if truncated > 0 {
        say!(
            "warning   {truncated} of {total} answers are longer than {} tokens with their prompts and were cut",
            run.encode.max_length
        );
    }
    let scored = wait(scorer.score(&encoded))?;
    let ranking = scorer.ranking_score();
    let mut scores: Vec<Option<f64>> = vec![None; total];
    for (row, record) in encoded.iter().zip(&scored.records) {
        let answer: usize = row.id.parse().context("an answer lost its number")?;
        scores[answer] = Some(f64::from(score_of(&record.score, ranking)));
    }
    let mut at = 0;
    let mut kept: Vec<(&BenchRow, Vec<f64>)> = Vec::new();
    let mut left_out = Vec::new();
    for row in &rows {
        let own = &scores[at..at + row.answers.len()];
        at += row.answers.len();
        match own.iter().copied().collect::<Option<Vec<f64>>>() {
            Some(own) => kept.push((row, own)),
            None => left_out.push(row.line),
        }
    }
    if !left_out.is_empty() {
        say!(
            "warning   {} rows left out, the first at line {}: an answer without a token has no score. {}",
            left_out.len(),
            left_out[0],
            skipped
                .first()
                .map_or("", |row: &SkippedRow| row.reason.as_str())
        );
    }
    if kept.is_empty() {
        return Err(exit::with_code(
            exit::DATA,
            "no row is left: each has an answer without a token",
        ));
    }
    say!(
        "{} rows scored by {}, {} · {} · {} · data: {} · chat template: {}",
        kept.len(),
        model.name,
        provenance.checkpoint,
        provenance.device,
        provenance.precision,
        data.display(),
        model.chat_template.as_deref().unwrap_or("none")
    );
    let source = Map::from_iter([
        ("data".into(), data.display().to_string().into()),
        ("provenance".into(), serde_json::to_value(provenance)?),
        ("rows_left_out".into(), left_out.len().into()),
    ]);
    let scores = match version {
        Version::V1 => v1(model, &kept)?,
        Version::V2 => v2(model, &kept),
    };
    Ok((scores, source))
}

fn prompt(prompt: &Content, chat: bool) -> Content {
    match (prompt, chat) {
        (Content::Text(text), true) => Content::Messages(vec![Message {
            role: "user".into(),
            content: text.clone(),
        }]),
        (Content::Messages(turns), false) => Content::Text(
            turns
                .iter()
                .map(|turn| turn.content.as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        (prompt, _) => prompt.clone(),
    }
}

fn id_text(id: &Value) -> String {
    match id {
        Value::String(id) => id.clone(),
        id => id.to_string(),
    }
}

fn v1(model: Model, rows: &[(&BenchRow, Vec<f64>)]) -> Result<Scores> {
    let column = |pick: &dyn Fn(&BenchRow, &[f64]) -> f64| -> Vec<f64> {
        rows.iter().map(|(row, scores)| pick(row, scores)).collect()
    };
    let text = |answer: usize| -> Vec<Value> {
        rows.iter()
            .map(|(row, _)| row.answers[answer].clone().into())
            .collect()
    };
    let prompts = rows
        .iter()
        .map(|(row, _)| serde_json::to_value(&row.prompt))
        .collect::<Result<_, _>>()?;
    let file = ScoresFile {
        model: model.name,
        model_type: model.kind,
        chat_template: model.chat_template,
        text_chosen: text(0),
        text_rejected: text(1),
        id: rows.iter().map(|(row, _)| row.id.clone()).collect(),
        subset: rows.iter().map(|(row, _)| row.subset.clone()).collect(),
        results: column(&|_, scores| right(scores[0] > scores[1])),
        scores_chosen: column(&|_, scores| scores[0]),
        scores_rejected: column(&|_, scores| scores[1]),
    };
    Ok(Scores::V1(file, prompts))
}

fn v2(model: Model, rows: &[(&BenchRow, Vec<f64>)]) -> Scores {
    Scores::V2(ScoresFileV2 {
        model: model.name,
        model_type: model.kind,
        chat_template: model.chat_template,
        text: rows
            .iter()
            .map(|(row, _)| row.answers.iter().map(|text| text.clone().into()).collect())
            .collect(),
        id: rows.iter().map(|(row, _)| id_text(&row.id)).collect(),
        subset: rows.iter().map(|(row, _)| row.subset.clone()).collect(),
        // Filled from the report, which alone knows the rules.
        results: vec![0.0; rows.len()],
        scores: rows.iter().map(|(_, scores)| scores.clone()).collect(),
        num_correct: rows.iter().map(|(row, _)| row.num_correct).collect(),
    })
}
