//! `avascope eval --truth`: a run's token map held against truths, and the results kept beside its checkpoint.

use super::run_files::{OpenRun, take, training_rows};
use super::{print_line, wait};
use crate::args::EvalArgs;
use crate::exit;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;
use avascope::data::{Rows, fingerprint, read_lexicon, read_traces};
use avascope::objective::RowKind;
use avascope::reward::{Provenance, Trust};
use avascope::train::{
    EncodedRow, InterventionPlan, SkippedRow, TRUTHS, TrustEntry, Truth, TruthOptions, TruthResult,
    WordFloor, edits, encode_traces, first_wrong_step, intervention, lexicon, spans,
};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A truth as asked for.
pub struct Wanted {
    truth: &'static Truth,
    file: Option<PathBuf>,
}

/// Reads `KIND` or `KIND=FILE`. Nothing is opened yet, so a slip of the pen costs no time.
pub fn parse(asked: &[String]) -> Result<Vec<Wanted>> {
    let usage = |message| Err(exit::with_code(exit::USAGE, message));
    let mut wanted = Vec::new();
    for asked in asked {
        let (name, file) = match asked.split_once('=') {
            Some((name, file)) => (name, Some(PathBuf::from(file))),
            None => (asked.as_str(), None),
        };
        let Some(truth) = TRUTHS.iter().find(|truth| truth.name == name) else {
            let known: Vec<String> = TRUTHS
                .iter()
                .map(|truth| format!("{} ({})", truth.name, truth.about))
                .collect();
            return usage(format!(
                "there is no truth `{name}`; known truths: {}",
                known.join("; ")
            ));
        };
        match &file {
            None if truth.needs_file => {
                return usage(format!(
                    "`--truth {name}` needs a file, `--truth {name}=FILE`: {}",
                    truth.about
                ));
            }
            Some(file) if !file.is_file() => {
                return usage(format!(
                    "`--truth {asked}`: there is no file {}",
                    file.display()
                ));
            }
            _ => {}
        }
        wanted.push(Wanted { truth, file });
    }
    Ok(wanted)
}

/// What the run was trained on, as far as truths must know it.
struct Seen {
    /// Every answer's text.
    answers: HashSet<String>,
    /// The word model of the rows, where they are pairs.
    words: Option<WordFloor>,
}

/// Holds the map against the truths and keeps the results.
pub fn measure(
    run: &mut OpenRun,
    args: &EvalArgs,
    wanted: &[Wanted],
    rows: &[EncodedRow],
) -> Result<Vec<TruthResult>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let seen = match seen(run) {
        Ok(seen) => Some(seen),
        Err(error) => {
            say!(
                "warning   results are shown and not kept: {error:#}. Nothing tells whether the truths' rows were trained on, and the word floor is missing"
            );
            None
        }
    };
    let options = TruthOptions {
        words: seen.as_ref().and_then(|seen| seen.words.as_ref()),
        ..TruthOptions::default()
    };
    // A damaged file is told before anything is computed.
    let mut trust = run.trust_file()?;
    let mut results = Vec::new();
    for wanted in wanted {
        let mut result = one(run, args, wanted, rows, seen.as_ref(), &options)?;
        if seen.is_none() {
            result
                .notes
                .push("the training rows are not at hand: rows may have been trained on".into());
        } else {
            trust.add(TrustEntry {
                checkpoint: run.digest.clone(),
                credit: run.scorer.credit().name.into(),
                data: data_name(args, wanted),
                result: result.clone(),
            });
        }
        results.push(result);
    }
    if seen.is_some() {
        write_atomic(&run.trust_path, &trust.to_json()?)?;
        say!("wrote {}", run.trust_path.display());
        run.judge(&trust);
        let verdict = trust.verdict(&run.digest, run.scorer.credit().name);
        for failed in verdict.failed {
            say!("not passed  {failed}");
        }
    }
    Ok(results)
}

/// Prints results for people.
pub fn print(results: &[TruthResult], provenance: &Provenance) -> Result<()> {
    for result in results {
        print_line(&format!(
            "\ntruth: {} · {} answers · {} tokens · {}",
            result.truth,
            result.answers,
            result.tokens,
            if result.passed {
                "passed"
            } else {
                "not passed"
            }
        ))?;
        for figure in &result.figures {
            print_line(&figure.to_string())?;
        }
        for note in &result.notes {
            print_line(&format!("  {note}"))?;
        }
    }
    if let Some(result) = results.first() {
        print_line(&format!("  {}", result.rule))?;
        print_line(&match provenance.trust {
            Trust::Checked => format!("map: checked · {}", provenance.checked.join("; ")),
            Trust::Exploratory => "map: exploratory".into(),
        })?;
    }
    Ok(())
}

/// What a truth's data are called in records: a file's own name, without its folder.
fn data_name(args: &EvalArgs, wanted: &Wanted) -> String {
    let name = |path: &Path| {
        path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    };
    match (&wanted.file, &args.data) {
        (Some(file), _) => name(file),
        (None, Some(data)) => name(Path::new(data)),
        (None, None) => "held-out rows".into(),
    }
}

fn one(
    run: &OpenRun,
    args: &EvalArgs,
    wanted: &Wanted,
    rows: &[EncodedRow],
    seen: Option<&Seen>,
    options: &TruthOptions<'_>,
) -> Result<TruthResult> {
    let unseen = |row: &EncodedRow| {
        seen.is_none_or(|seen| {
            !row.sides
                .iter()
                .any(|side| seen.answers.contains(&side.encoded.answer_text))
        })
    };
    let mut left_out = 0;
    let mut keep = |row: &EncodedRow| {
        let unseen = unseen(row);
        left_out += usize::from(!unseen);
        unseen
    };
    let own = |file: &Option<PathBuf>| -> Result<Vec<EncodedRow>> {
        match file {
            Some(file) => run.usable(take(crate::files::read_rows(file)?, args.limit)),
            None => Ok(rows.to_vec()),
        }
    };
    let scorer = &run.scorer;
    let mut result = match (wanted.truth.name, &wanted.file) {
        ("steps", Some(file)) => {
            let bytes = crate::files::read_bytes(file)?;
            let mut traces = read_traces(&bytes, &file.display().to_string())?;
            traces.truncate(args.limit.unwrap_or(usize::MAX));
            let (mut traces, skipped) =
                encode_traces(traces, &scorer.model().tokenizer, &run.encode)?;
            if let Some(sentence) = SkippedRow::sentence(&skipped) {
                say!("warning   {sentence}");
            }
            traces.retain(|trace| keep(&trace.row));
            wait(first_wrong_step(scorer, &traces, options))?
        }
        ("lexicon", Some(file)) => {
            let bytes = crate::files::read_bytes(file)?;
            let entries = read_lexicon(&bytes, &file.display().to_string())?;
            let rows: Vec<EncodedRow> = rows.iter().filter(|row| keep(row)).cloned().collect();
            wait(lexicon(scorer, &rows, &entries, options))?
        }
        (name, file) => {
            let mut rows = own(file)?;
            rows.retain(|row| keep(row));
            match name {
                "edits" => wait(edits(scorer, &rows, options))?,
                "spans" => wait(spans(scorer, &rows, options))?,
                _ => {
                    let plan = InterventionPlan {
                        tokens_per_answer: args.interventions,
                        seed: args.truth_seed,
                    };
                    wait(intervention(scorer, &rows, &plan, options))?
                }
            }
        }
    };
    if left_out > 0 {
        result.notes.push(format!(
            "{left_out} rows left out: an answer of theirs was trained on"
        ));
    }
    Ok(result)
}

/// Reads the run's training rows again, and makes sure that they are those it was trained on.
fn seen(run: &OpenRun) -> Result<Seen> {
    if run.file.data == "-" {
        anyhow::bail!("the run was trained on rows from standard input, which are gone");
    }
    let demonstrations = run.scorer.objective().rows() == RowKind::Demonstrations;
    let (train, _) = training_rows(&run.file, demonstrations)?;
    if fingerprint(&train) != run.summary.info.data_fingerprint {
        anyhow::bail!(
            "{} no longer holds the rows that the run was trained on",
            run.file.data
        );
    }
    let (answers, words) = match &train {
        Rows::Preferences(rows) => (
            rows.iter()
                .flat_map(|row| [&row.chosen, &row.rejected])
                .map(|answer| answer.content.answer_text().to_owned())
                .collect(),
            match WordFloor::fit(rows) {
                Ok(floor) => Some(floor),
                Err(error) => {
                    say!("warning   there is no word floor: {error}");
                    None
                }
            },
        ),
        Rows::Demonstrations(rows) => (
            rows.iter()
                .map(|row| row.answer.content.answer_text().to_owned())
                .collect(),
            None,
        ),
    };
    Ok(Seen { answers, words })
}
