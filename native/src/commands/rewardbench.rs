//! `avascope rewardbench`.

mod file;
mod model;

use super::print_line;
use crate::args::RewardBenchArgs;
use crate::exit;
use crate::files::read_objects;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;
use avascope::eval::Bootstrap;
use avascope::eval::rewardbench::files::{
    PromptLine, ScoresFile, ScoresFileV2, SubsetFile, Summary, write, write_lines,
};
use avascope::eval::rewardbench::report_v2::{ReportV2, ScoredRowV2, report_v2};
use avascope::eval::rewardbench::{PRIOR_SETS, ScoredRow, report};
use serde_json::{Map, Value};
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

/// Reports on RewardBench and writes its files.
pub fn run(args: RewardBenchArgs) -> Result<()> {
    let prior = prior_sets(&args.prior)?;
    let (scores, source) = match (&args.scores, &args.run, &args.data) {
        (Some(path), ..) => {
            let name = Value::from(path.display().to_string());
            let source = Map::from_iter([("scores".into(), name)]);
            (file::read_scores(path, args.limit)?, source)
        }
        (None, Some(run), Some(data)) => model::score(&args, run, data)?,
        _ => {
            return Err(exit::with_code(
                exit::USAGE,
                "name a run with --data FILE, or a file with --scores FILE",
            ));
        }
    };
    let bootstrap = Bootstrap::default();
    let show = |report: &dyn Report| -> Result<()> {
        for sentence in report.strays() {
            say!("warning   {sentence}");
        }
        match args.json {
            true => print_line(&with_source(report.json()?, source.clone())?),
            false => print_line(&report.to_string()),
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
            show(&report)
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
            show(&report)
        }
        Scores::Bare(_) | Scores::BareV2(_) if args.out.is_some() => Err(exit::with_code(
            exit::USAGE,
            "rows without texts are too little for the public code's files: leave --out away, or give an eval-set-scores file",
        )),
        Scores::Bare(rows) => {
            let report = report(&rows, &prior, &bootstrap)?;
            show(&report)
        }
        Scores::BareV2(rows) => {
            let report = report_v2(&rows, &bootstrap)?;
            show(&report)
        }
    }
}

/// A report of either version.
trait Report: std::fmt::Display {
    fn json(&self) -> serde_json::Result<Value>;
    /// Sentences on subsets that the version does not have.
    fn strays(&self) -> Vec<String>;
}

impl Report for avascope::eval::rewardbench::Report {
    fn json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn strays(&self) -> Vec<String> {
        self.stray_subsets()
    }
}

impl Report for ReportV2 {
    fn json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn strays(&self) -> Vec<String> {
        self.stray_subsets()
    }
}

/// A report with what it is about: the file of scores, or the rows and the provenance of the run that scored them.
fn with_source(report: Value, source: Map<String, Value>) -> serde_json::Result<String> {
    let mut all = source;
    match report {
        Value::Object(report) => all.extend(report),
        other => drop(all.insert("report".into(), other)),
    }
    serde_json::to_string_pretty(&all)
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
