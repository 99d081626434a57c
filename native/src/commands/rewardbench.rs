//! `avascope rewardbench`.

use super::run_files::OpenRun;
use super::{print_line, wait};
use crate::args::{RewardBenchArgs, RunArgs};
use crate::exit;
use crate::files::{read_bytes, read_objects};
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::{Context as _, Result};
use avascope::data::{Answer, Content, DemonstrationRow, Rows};
use avascope::eval::Bootstrap;
use avascope::eval::rewardbench::files::{
    PromptLine, ScoresFile, ScoresFileV2, SubsetFile, Summary, read, write, write_lines,
};
use avascope::eval::rewardbench::report_v2::{ScoredRowV2, report_v2};
use avascope::eval::rewardbench::rows::{BenchRow, Version, read_rows};
use avascope::eval::rewardbench::{PRIOR_SETS, ScoredRow, report};
use avascope::plain::plain_words;
use avascope::text::Message;
use avascope::train::{SkippedRow, encode_usable_rows, score_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Scores in the public code's own form.
enum Scores {
    V1(ScoresFile, Vec<Value>),
    V2(ScoresFileV2),
    /// Rows without texts, from JSON Lines: enough for a report, too little for the public code's files.
    Bare(Vec<ScoredRow>),
    BareV2(Vec<ScoredRowV2>),
}

/// What the files say of the model.
struct Model {
    name: String,
    kind: String,
    chat_template: Option<String>,
}

/// Reports on RewardBench and writes its files.
pub fn run(args: RewardBenchArgs) -> Result<()> {
    let prior = prior_sets(&args.prior)?;
    let scores = match (&args.scores, &args.run, &args.data) {
        (Some(path), ..) => read_scores(path, args.limit)?,
        (None, Some(run), Some(data)) => score(&args, run, data)?,
        _ => {
            return Err(exit::with_code(
                exit::USAGE,
                "name a run with --data FILE, or a file with --scores FILE",
            ));
        }
    };
    let bootstrap = Bootstrap::default();
    let show = |json: Result<String, serde_json::Error>, text: String| -> Result<()> {
        match args.json {
            true => print_line(&json?),
            false => print_line(&text),
        }
    };
    let write_to = |folder: &Path, name: &str, bytes: Vec<u8>| -> Result<()> {
        let path = folder.join(name);
        write_atomic(&path, &bytes)?;
        say!("wrote {}", path.display());
        Ok(())
    };
    match scores {
        Scores::V1(mut file, prompts) => {
            let rows = file.rows()?;
            let report = report(&rows, &prior, &bootstrap)?;
            file.results = rows
                .iter()
                .map(|row| right(row.scores_chosen > row.scores_rejected))
                .collect();
            if let Some(out) = &args.out {
                let name = file_name(&file.model);
                let template = file.chat_template.as_deref();
                let subsets =
                    SubsetFile::from_report(&report, &file.model, &file.model_type, template);
                write_to(
                    out,
                    &format!("eval-set/{name}.json"),
                    write("subsets", &subsets)?,
                )?;
                write_to(
                    out,
                    &format!("eval-set-scores/{name}.json"),
                    write("scores", &file)?,
                )?;
                let summary = Summary {
                    accuracy: report.accuracy.value.unwrap_or(0.0),
                    num_prompts: report.rows,
                    model: file.model.clone(),
                    ref_model: None,
                    tokenizer: None,
                    chat_template: file.chat_template.clone(),
                    extra_results: Some(subsets.subsets),
                };
                write_to(
                    out,
                    &format!("{name}-summary.json"),
                    write("summary", &summary)?,
                )?;
                if !prompts.is_empty() {
                    let lines = prompt_lines(&file, prompts);
                    write_to(
                        out,
                        &format!("{name}-prompts.jsonl"),
                        write_lines("prompts", &lines)?,
                    )?;
                }
            }
            show(serde_json::to_string_pretty(&report), report.to_string())
        }
        Scores::V2(mut file) => {
            let report = report_v2(&file.rows()?, &bootstrap)?;
            file.results = report.results.clone();
            if let Some(out) = &args.out {
                let name = file_name(&file.model);
                let template = file.chat_template.as_deref();
                let subsets =
                    SubsetFile::from_report_v2(&report, &file.model, &file.model_type, template);
                write_to(
                    out,
                    &format!("eval-set/{name}.json"),
                    write("subsets", &subsets)?,
                )?;
                write_to(
                    out,
                    &format!("eval-set-scores/{name}.json"),
                    write("scores", &file)?,
                )?;
            }
            show(serde_json::to_string_pretty(&report), report.to_string())
        }
        Scores::Bare(_) | Scores::BareV2(_) if args.out.is_some() => Err(exit::with_code(
            exit::USAGE,
            "rows without texts are too little for the public code's files: leave --out away, or give an eval-set-scores file",
        )),
        Scores::Bare(rows) => {
            let report = report(&rows, &prior, &bootstrap)?;
            show(serde_json::to_string_pretty(&report), report.to_string())
        }
        Scores::BareV2(rows) => {
            let report = report_v2(&rows, &bootstrap)?;
            show(serde_json::to_string_pretty(&report), report.to_string())
        }
    }
}

/// 1 right, 0 wrong, as the files write it.
fn right(right: bool) -> f64 {
    f64::from(u8::from(right))
}

fn prompt_lines(file: &ScoresFile, prompts: Vec<Value>) -> Vec<PromptLine> {
    prompts
        .into_iter()
        .enumerate()
        .map(|(i, prompt)| PromptLine {
            prompt,
            results: file.results[i],
            scores_chosen: file.scores_chosen[i],
            scores_rejected: file.scores_rejected[i],
            text_chosen: file.text_chosen[i].clone(),
            text_rejected: file.text_rejected[i].clone(),
        })
        .collect()
}

/// A model's name as a file's: what separates folders becomes a dash.
fn file_name(model: &str) -> String {
    let name: String = model
        .chars()
        .map(|c| {
            if matches!(c, '/' | '\\' | ':') {
                '-'
            } else {
                c
            }
        })
        .collect();
    match name.trim_start_matches('.') {
        "" => "model".into(),
        name => name.into(),
    }
}

fn prior_sets(given: &[String]) -> Result<BTreeMap<String, f64>> {
    given
        .iter()
        .map(|given| {
            let parsed = given.split_once('=').and_then(|(name, value)| {
                let value: f64 = value.parse().ok()?;
                (PRIOR_SETS.contains(&name) && (0.0..=1.0).contains(&value))
                    .then(|| (name.to_string(), value))
            });
            parsed.ok_or_else(|| {
                exit::with_code(
                    exit::USAGE,
                    format!(
                        "`--prior {given}`: NAME=ACCURACY is needed, with an accuracy from 0 to 1 and one of {}",
                        PRIOR_SETS.join(", ")
                    ),
                )
            })
        })
        .collect()
}

/// The objects of a file, which holds at least one.
fn objects_of(path: &Path) -> Result<Vec<(usize, Value)>> {
    let objects = read_objects(path)?;
    match objects.is_empty() {
        true => Err(no_rows(path)),
        false => Ok(objects),
    }
}

fn no_rows(path: &Path) -> anyhow::Error {
    exit::with_code(
        exit::DATA,
        format!(
            "{} holds no rows; check that the right file was given",
            path.display()
        ),
    )
}

/// A file of scores: the public code's, told by its columns, or JSON Lines.
fn read_scores(path: &Path, limit: Option<usize>) -> Result<Scores> {
    let bytes = read_bytes(path)?;
    let name = path.display().to_string();
    let limit = limit.unwrap_or(usize::MAX);
    if let Ok(Value::Object(columns)) = serde_json::from_slice(&bytes)
        && columns.get("subset").is_some_and(Value::is_array)
    {
        if columns
            .get("subset")
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
        {
            return Err(no_rows(path));
        }
        return Ok(if columns.contains_key("scores") {
            let mut file: ScoresFileV2 = read(&name, &bytes)?;
            // Columns are held against each other before they are cut.
            file.rows()?;
            file.text.truncate(limit);
            file.id.truncate(limit);
            file.subset.truncate(limit);
            file.results.truncate(limit);
            file.scores.truncate(limit);
            file.num_correct.truncate(limit);
            Scores::V2(file)
        } else {
            let mut file: ScoresFile = read(&name, &bytes)?;
            file.rows()?;
            file.text_chosen.truncate(limit);
            file.text_rejected.truncate(limit);
            file.id.truncate(limit);
            file.subset.truncate(limit);
            file.results.truncate(limit);
            file.scores_chosen.truncate(limit);
            file.scores_rejected.truncate(limit);
            Scores::V1(file, Vec::new())
        });
    }
    let mut objects = objects_of(path)?;
    objects.truncate(limit);
    let v2 = objects
        .first()
        .is_some_and(|(_, row)| row.get("scores").is_some());
    fn each<T: serde::de::DeserializeOwned>(
        objects: Vec<(usize, Value)>,
        name: &str,
    ) -> Result<Vec<T>> {
        objects
            .into_iter()
            .map(|(line, object)| {
                serde_json::from_value(object).map_err(|error| {
                    anyhow::anyhow!("{name}, line {line}: {}", plain_words(&error.to_string()))
                })
            })
            .collect()
    }
    if !v2 {
        return Ok(Scores::Bare(each(objects, &name)?));
    }
    let lines: Vec<usize> = objects.iter().map(|(line, _)| *line).collect();
    let rows: Vec<ScoredRowV2> = each(objects, &name)?;
    for (line, row) in lines.into_iter().zip(&rows) {
        row.check()
            .map_err(|reason| anyhow::anyhow!("{name}, line {line}: {reason}"))?;
    }
    Ok(Scores::BareV2(rows))
}

/// Scores the published rows with a run: every answer by itself, by the score that the run ranks by.
fn score(args: &RewardBenchArgs, folder: &Path, data: &Path) -> Result<Scores> {
    let mut objects = objects_of(data)?;
    objects.truncate(args.limit.unwrap_or(usize::MAX));
    let (version, rows) = read_rows(objects, &data.display().to_string())?;
    let run = OpenRun::open(&RunArgs {
        run: folder.into(),
        checkpoint: args.checkpoint.clone(),
        model: args.model.clone(),
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
    Ok(match version {
        Version::V1 => v1(model, &kept)?,
        Version::V2 => v2(model, &kept),
    })
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
