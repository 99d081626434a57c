//! `avascope eval --truth`: a run's token map held against truths, and the results kept beside its checkpoint.

use super::file_record::sha256;
use super::run_files::{OpenRun, training_rows};
use super::{print_line, wait};
use crate::args::{EvalArgs, IgnoranceChoice};
use crate::exit;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;
use avascope::data::{Rows, fingerprint, read_lexicon, read_traces};
use avascope::reward::{Provenance, Trust};
use avascope::text::EncodeOptions;
use avascope::train::{
    EncodedRow, InterventionPlan, LoadedModel, Question, Seen, SkippedRow, TrustEntry, Truth,
    TruthData, TruthKind, TruthOptions, TruthResult, WordFloor,
};
use std::path::{Path, PathBuf};

/// Tokens of an answer that interventions change where nothing is said.
const TOKENS: usize = 4;

/// A truth as asked for, with its file read.
pub struct Wanted {
    truth: &'static Truth,
    /// The file with the digest of what was read of it.
    file: Option<(PathBuf, String)>,
    data: TruthData,
}

/// Reads `KIND` or `KIND=FILE` of each, and then the files. The run is not opened yet, so a slip of the pen costs no time.
pub fn read(asked: &[String]) -> Result<Vec<Wanted>> {
    let usage = |message| exit::with_code(exit::USAGE, message);
    let mut named = Vec::new();
    for asked in asked {
        let (name, file) = match asked.split_once('=') {
            Some((name, file)) => (name, Some(PathBuf::from(file))),
            None => (asked.as_str(), None),
        };
        let truth = Truth::by_name(name).map_err(|error| usage(error.to_string()))?;
        if file.is_none() && truth.needs_file {
            return Err(usage(format!(
                "`--truth {name}` needs a file, `--truth {name}=FILE`: {}",
                truth.about
            )));
        }
        check_file(file.as_deref(), &format!("`--truth {asked}`"))?;
        named.push((truth, file));
    }
    let read = |(truth, file): (_, Option<PathBuf>)| {
        let (data, digest) = read_data(truth, file.as_deref())?;
        Ok(Wanted {
            truth,
            data,
            file: file.zip(digest),
        })
    };
    named.into_iter().map(read).collect()
}

/// Refuses truths for an ensemble: results are kept for one checkpoint's map, and its members' average is another map. And
/// settings of interventions where none are made.
pub fn check_map(args: &EvalArgs, wanted: &[Wanted]) -> Result<()> {
    let usage = |message: &str| Err(exit::with_code(exit::USAGE, message));
    let intervenes = |wanted: &Wanted| wanted.truth.kind == TruthKind::Intervention;
    if (args.interventions.is_some() || args.truth_seed.is_some()) && !wanted.iter().any(intervenes)
    {
        return usage("--interventions and --truth-seed go with --truth intervention");
    }
    if args.truths.is_empty() || args.run.ignorance.ignorance != Some(IgnoranceChoice::Ensemble) {
        return Ok(());
    }
    usage(
        "--truth holds the map of one checkpoint against a truth, and --ignorance ensemble shows the average of several; ask one of them at a time",
    )
}

/// Refuses a truth's file that is not there; `asked` is how it was asked for. A pipe is as good as a file.
pub(super) fn check_file(file: Option<&Path>, asked: &str) -> Result<()> {
    let wrong = |why| match file {
        Some(file) => Err(exit::with_code(
            exit::USAGE,
            format!("{asked}: {why} {}", file.display()),
        )),
        None => Ok(()),
    };
    match file.map(std::fs::metadata) {
        Some(Ok(found)) if found.is_dir() => wrong("one file is needed, and this is a folder:"),
        Some(Err(_)) => wrong("there is no file"),
        _ => Ok(()),
    }
}

/// Reads a truth's own file, with the SHA-256 that tells it from others: of the file, or of what came out of a pipe, which
/// can be read once.
pub(super) fn read_data(truth: &Truth, file: Option<&Path>) -> Result<(TruthData, Option<String>)> {
    let Some(file) = file else {
        return Ok((TruthData::None, None));
    };
    let name = file.display().to_string();
    let bytes = || crate::files::read_bytes(file);
    let (data, of_content) = match truth.kind {
        TruthKind::Steps => {
            let bytes = bytes()?;
            (
                TruthData::Traces(read_traces(&bytes, &name)?),
                sha256(&bytes),
            )
        }
        TruthKind::Lexicon => {
            let bytes = bytes()?;
            (
                TruthData::Lexicon(read_lexicon(&bytes, &name)?),
                sha256(&bytes),
            )
        }
        TruthKind::Edits | TruthKind::Spans | TruthKind::Intervention => {
            let rows = crate::files::read_rows(file)?;
            let fingerprint = fingerprint(&rows);
            (TruthData::Rows(rows), fingerprint)
        }
    };
    let digest = match file.is_file() {
        true => super::fetch::sha256_of(file)?,
        false => of_content,
    };
    Ok((data, Some(digest)))
}

/// Makes a truth ready for a model; rows without a token are named and left out. `scored` are the rows that are scored
/// anyway.
pub(super) fn ready(
    truth: &'static Truth,
    data: TruthData,
    scored: &[EncodedRow],
    limit: Option<usize>,
    model: &LoadedModel,
    encode: &EncodeOptions,
) -> Result<Question> {
    let (question, skipped) = Question::new(truth, data, scored, limit, &model.tokenizer, encode)?;
    if let Some(sentence) = SkippedRow::sentence(&skipped) {
        if question.is_empty() {
            return Err(exit::with_code(
                exit::DATA,
                format!("truth `{}`: no row is left: {sentence}", truth.name),
            ));
        }
        say!("warning   {sentence}");
    }
    Ok(question)
}

/// The word model of the rows that train a map, where they have one.
pub(super) fn word_floor(rows: &Rows) -> Option<WordFloor> {
    WordFloor::of_rows(rows).unwrap_or_else(|error| {
        say!("warning   there is no word floor: {error}");
        None
    })
}

/// Holds the map against the truths and keeps the results.
pub fn measure(
    run: &mut OpenRun,
    args: &EvalArgs,
    wanted: Vec<Wanted>,
    rows: &[EncodedRow],
) -> Result<Vec<TruthResult>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (seen, words) = match trained_on(run) {
        Ok(train) => (Some(Seen::of(&train)), word_floor(&train)),
        Err(error) => {
            say!(
                "warning   results are shown and not kept: {error:#}. Nothing tells whether the truths' rows were trained on, and the word floor is missing"
            );
            (None, None)
        }
    };
    let options = TruthOptions {
        words: words.as_ref(),
        ..TruthOptions::default()
    };
    let plan = InterventionPlan {
        tokens_per_answer: args.interventions.unwrap_or(TOKENS),
        seed: args.truth_seed.unwrap_or(0),
    };
    // A damaged file is told before anything is computed.
    let mut trust = run.trust_file()?;
    let mut results = Vec::new();
    for wanted in wanted {
        let data_name = data_name(run, args, &wanted)?;
        let mut question = ready(
            wanted.truth,
            wanted.data,
            rows,
            args.limit,
            run.scorer.model(),
            &run.encode,
        )?
        .with_interventions(plan);
        if let Some(seen) = &seen {
            question.leave_out(seen);
        }
        let mut result = wait(question.ask(&run.scorer, &options))?;
        if seen.is_none() {
            result
                .notes
                .push("the training rows are not at hand: rows may have been trained on".into());
        } else {
            trust.add(TrustEntry {
                checkpoint: run.digest.clone(),
                credit: run.scorer.credit().name.into(),
                data: data_name,
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
        for undecided in verdict.undecided {
            say!("undecided   {undecided}");
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
            result.verdict()
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
            Trust::Exploratory => format!("map: exploratory{}", why_exploratory(results)),
        })?;
    }
    Ok(())
}

/// Why a map is exploratory although nothing is wrong with it.
fn why_exploratory(results: &[TruthResult]) -> &'static str {
    match results
        .iter()
        .all(|result| result.passes() && !Truth::is_labelled(&result.truth))
    {
        true => {
            " · interventions alone make no map checked: hold it against people's labels, too (--truth edits, spans, steps or lexicon)"
        }
        // What was not passed, or is undecided, has been said.
        false => "",
    }
}

/// What a truth's data are called in records: a file's own name, without its folder, and in brackets what tells it from
/// another draw of that name: the content's digest, the most rows that were used, what interventions drew.
fn data_name(run: &OpenRun, args: &EvalArgs, wanted: &Wanted) -> Result<String> {
    let rows = || -> Result<String> {
        match args.data.as_deref() {
            Some(data) => file_name(Path::new(data)),
            None => Ok(with_digest("held-out rows", &run.held_out_digest()?)),
        }
    };
    let mut name = match (&wanted.file, wanted.truth.kind) {
        (Some((file, digest)), kind) => {
            let own = with_digest(&own_name(file), digest);
            match kind {
                TruthKind::Lexicon => format!("{own} with {}", rows()?),
                _ => own,
            }
        }
        (None, _) => rows()?,
    };
    if let Some(limit) = args.limit {
        name += &format!(", the first {limit}");
    }
    if wanted.truth.kind == TruthKind::Intervention {
        name += &format!(
            ", {} tokens an answer by seed {}",
            args.interventions.unwrap_or(TOKENS),
            args.truth_seed.unwrap_or(0)
        );
    }
    Ok(name)
}

/// A file's own name with the digest of its content; rows that are no file have a name alone.
fn file_name(path: &Path) -> Result<String> {
    let name = own_name(path);
    Ok(match path.is_file() {
        true => with_digest(&name, &super::fetch::sha256_of(path)?),
        false => name,
    })
}

/// A file's name without its folder.
fn own_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A name with the start of a SHA-256, enough to tell files of that name apart.
fn with_digest(name: &str, sha256: &str) -> String {
    format!("{name} (sha256 {})", &sha256[..12.min(sha256.len())])
}

/// The rows that the run was trained on, read again; an error where they are no longer the same.
pub(super) fn trained_on(run: &OpenRun) -> Result<Rows> {
    match run.file.data.as_str() {
        "-" => anyhow::bail!("the run was trained on rows from standard input, which are gone"),
        "" => anyhow::bail!("a checkpoint alone does not say where the rows of its run lie"),
        _ => {}
    }
    let (train, _) = training_rows(&run.file, run.learns_from_demonstrations())?;
    if fingerprint(&train) != run.summary.info.data_fingerprint {
        anyhow::bail!(
            "{} no longer holds the rows that the run was trained on",
            run.file.data
        );
    }
    Ok(train)
}
