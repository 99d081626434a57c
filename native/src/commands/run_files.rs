//! What a run's folder holds, and how a run is opened again for scoring.
//!
//! ```text
//! run.toml          the resolved configuration: flags, file and defaults together; `train --config` reads it
//! metrics.jsonl     every event, one JSON value a line
//! held_out.jsonl    the rows that never trained
//! checkpoints/      step-000050.safetensors, ...
//!   trust.json      what its token maps passed (`eval --truth`), by the digest of each checkpoint
//! final/            the trained model as a Hugging Face directory or PEFT adapter, the reward head, and trainer_state.json
//! ```

use super::open_device;
use crate::args::{IgnoranceArgs, IgnoranceChoice, RunArgs};
use crate::talk::say;
use crate::{exit, folder, models, settings};
use anyhow::{Context as _, Result};
use avascope::credit;
use avascope::data::{Content, Rows, split_by_hash};
use avascope::reward::Trust;
use avascope::text::EncodeOptions;
use avascope::train::{
    CheckpointSummary, EncodedRow, LoadedModel, Scored, Scorer, SkippedRow, TrainConfig,
    TrainError, TrustFile, checkpoint_digest, describe_checkpoint, encode_usable_rows,
    ignorance::{Dropout, LaplaceFit, combine},
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// A run as a file: where its model and rows come from, and its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// Model: `world`, a directory or a file.
    pub model: String,
    /// The tokenizer that goes with it, where it is a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Rows: `world` or a file.
    pub data: String,
    /// Answers to hold those of `data` against, where a method learns from two sets of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<PathBuf>,
    /// Rows of the built-in world, where `data` is `world`.
    pub world_rows: usize,
    /// Rows held out, where they have a file of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<PathBuf>,
    /// Most rows to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Device.
    pub device: String,
    /// The run's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// The configuration proper.
    pub train: TrainConfig,
}

impl Default for RunFile {
    fn default() -> Self {
        Self {
            model: models::WORLD.into(),
            tokenizer: None,
            data: models::WORLD.into(),
            against: None,
            world_rows: 3000,
            eval_data: None,
            limit: None,
            device: "auto".into(),
            out: None,
            train: TrainConfig::default(),
        }
    }
}

impl RunFile {
    /// Reads a TOML file; an unknown or ill-typed setting is an error with its line.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(settings::read(path)?.0)
    }

    /// Reads the file that a run wrote of itself, in which nothing is left to defaults: one that was cut, or emptied, is not
    /// taken for another run's settings.
    pub fn of_run(path: &Path) -> Result<Self> {
        let (file, table): (Self, _) = settings::read(path)?;
        let missing = ["model", "data", "train"]
            .iter()
            .find(|name| !table.contains_key(**name));
        match missing {
            None => Ok(file),
            Some(missing) => Err(exit::with_code(
                exit::DATA,
                format!(
                    "{} is not complete: it has no `{missing}`; write the run's settings into it again (`avascope train` takes them with --config)",
                    path.display()
                ),
            )),
        }
    }

    /// The same with paths that hold from any folder.
    pub fn with_absolute_paths(mut self) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        for source in [&mut self.model, &mut self.data] {
            // `world` is built in, and `-` is standard input.
            if source != models::WORLD && source != "-" {
                *source = absolute(Path::new(source)).display().to_string();
            }
        }
        for path in [
            &mut self.tokenizer,
            &mut self.against,
            &mut self.eval_data,
            &mut self.out,
        ] {
            *path = path.as_deref().map(absolute);
        }
        self
    }

    /// Refuses a path that is no UTF-8 text, before anything is made: the run's own file of settings could not hold it.
    pub fn check_paths(&self) -> Result<()> {
        let paths = [
            ("--out", &self.out),
            ("--tokenizer", &self.tokenizer),
            ("--eval-data", &self.eval_data),
        ];
        for (flag, path) in paths {
            if let Some(path) = path
                && path.to_str().is_none()
            {
                return Err(exit::with_code(
                    exit::USAGE,
                    format!(
                        "{flag} {}: this path is no UTF-8 text, and run.toml, which names it, is; choose another path, or rename the folder",
                        path.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The file as text.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// A run opened for scoring.
pub struct OpenRun {
    /// Scores rows.
    pub scorer: Scorer,
    /// The run's own settings.
    pub file: RunFile,
    /// How rows are made ready.
    pub encode: EncodeOptions,
    /// What the checkpoint says of itself.
    pub summary: CheckpointSummary,
    /// What tells this checkpoint from others: its digest.
    pub digest: String,
    /// Where results on truths are kept: beside the checkpoint.
    pub trust_path: PathBuf,
    checkpoint_path: PathBuf,
    folder: PathBuf,
    /// Where a Laplace fit of this checkpoint stands.
    laplace: PathBuf,
    asked: IgnoranceArgs,
    /// The other runs of an ensemble.
    members: Vec<OpenRun>,
}

/// The file of results on truths, beside the checkpoints.
const TRUST: &str = "trust.json";

impl OpenRun {
    /// Opens a run's folder with its last (or a named) checkpoint.
    pub fn open(args: &RunArgs) -> Result<Self> {
        let mut run = Self::open_alone(args)?;
        check_ignorance(&args.ignorance, &args.credit)?;
        match args.ignorance.ignorance {
            Some(IgnoranceChoice::Laplace) => run.open_laplace()?,
            Some(IgnoranceChoice::Ensemble) => run.open_members(args)?,
            Some(IgnoranceChoice::Dropout) => run
                .dropout()
                .check()
                .map_err(|error| exit::with_code(exit::USAGE, error.to_string()))?,
            None => {}
        }
        Ok(run)
    }

    /// The run itself, whatever is asked about its ignorance.
    pub fn open_alone(args: &RunArgs) -> Result<Self> {
        let folder = args.run.clone();
        let run_file = folder.join("run.toml");
        if !run_file.is_file() {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{} is no run's folder: it {}; `avascope train --out FOLDER` makes one",
                    folder.display(),
                    if folder.is_dir() {
                        "has no run.toml"
                    } else {
                        "does not exist"
                    }
                ),
            ));
        }
        let file = RunFile::of_run(&run_file)?;
        let credit = credit::by_name(&args.credit).map_err(TrainError::from)?;
        let checkpoint = match &args.checkpoint {
            Some(path) => path.clone(),
            None => folder::checkpoints(&folder).pop().ok_or_else(|| {
                exit::with_code(
                    exit::DATA,
                    format!(
                        "{} has no complete checkpoint yet; let the run reach one (`--save-steps`)",
                        folder.display()
                    ),
                )
            })?,
        };
        let bytes = fs::read(&checkpoint)
            .with_context(|| format!("cannot read {}", checkpoint.display()))?;
        let summary =
            describe_checkpoint(&bytes).with_context(|| checkpoint.display().to_string())?;
        let device = open_device(&args.device)?;
        let source = args
            .model
            .model
            .clone()
            .unwrap_or_else(|| file.model.clone());
        let tokenizer = args
            .model
            .tokenizer
            .clone()
            .or_else(|| file.tokenizer.clone());
        let model: LoadedModel = models::open(&source, tokenizer.as_deref(), &device)?;
        let encode = EncodeOptions {
            max_length: summary
                .config
                .max_length
                .min(model.decoder.config.max_position),
            truncation: summary.config.truncation,
            append_eos: true,
        };
        let mut scorer = super::wait(Scorer::with_credit(model, &bytes, device, credit))
            .with_context(|| checkpoint.display().to_string())?;
        if let Some(rows) = args.batch_size {
            scorer.set_batch_size(rows);
        }
        let stem = checkpoint.file_stem().unwrap_or_default().to_string_lossy();
        let mut run = Self {
            scorer,
            file,
            encode,
            summary,
            digest: checkpoint_digest(&bytes)?,
            trust_path: checkpoint.with_file_name(TRUST),
            laplace: folder.join(format!("ignorance/laplace-{stem}.safetensors")),
            checkpoint_path: checkpoint.clone(),
            folder,
            asked: args.ignorance.clone(),
            members: Vec::new(),
        };
        match run.trust_file() {
            Ok(trust) => run.judge(&trust),
            Err(error) => say!("warning   the map counts as exploratory: {error:#}"),
        }
        Ok(run)
    }

    /// The results on truths that are kept beside the checkpoint; empty where there are none.
    pub fn trust_file(&self) -> Result<TrustFile> {
        let path = &self.trust_path;
        if !path.exists() {
            return Ok(TrustFile::default());
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        TrustFile::read(&bytes).map_err(|reason| {
            exit::with_code(
                exit::DATA,
                format!(
                    "{} cannot be used: {reason}; move it away and hold the map against its truths again (`avascope eval --truth`)",
                    path.display()
                ),
            )
        })
    }

    /// Says on every record how far its map may be trusted: as far as the results of this checkpoint and this credit go.
    pub fn judge(&mut self, trust: &TrustFile) {
        let verdict = trust.verdict(&self.digest, self.scorer.credit().name);
        match verdict.trust {
            Trust::Checked => self.scorer.set_trust(Trust::Checked, verdict.checked),
            Trust::Exploratory => self.scorer.set_trust(Trust::Exploratory, Vec::new()),
        }
    }

    /// Where a Laplace fit of this checkpoint stands.
    pub fn laplace_path(&self) -> &Path {
        self.asked.laplace.as_deref().unwrap_or(&self.laplace)
    }

    fn open_laplace(&mut self) -> Result<()> {
        let path = self.laplace_path().to_path_buf();
        let bytes = fs::read(&path).map_err(|error| {
            exit::with_code(
                exit::USAGE,
                format!(
                    "cannot read {} ({error}); `avascope laplace {}` fits it",
                    path.display(),
                    self.folder.display()
                ),
            )
        })?;
        let fit = LaplaceFit::from_bytes(&bytes).with_context(|| path.display().to_string())?;
        let set = self.scorer.set_laplace(&fit, &self.digest);
        set.with_context(|| path.display().to_string())
    }

    fn open_members(&mut self, args: &RunArgs) -> Result<()> {
        for folder in &self.asked.members {
            let member = Self::open_alone(&RunArgs {
                run: folder.clone(),
                checkpoint: None,
                ..args.clone()
            })?;
            let (own, other) = (&self.summary.config, &member.summary.config);
            let wrong = |why: String| {
                Err(exit::with_code(
                    exit::USAGE,
                    format!("{} is no member of this ensemble: {why}", folder.display()),
                ))
            };
            if (&own.method, &own.options) != (&other.method, &other.options) {
                return wrong(format!(
                    "it trained `{}` with {}, and the first run `{}` with {}",
                    other.method, other.options, own.method, own.options
                ));
            }
            let known = |run: &Self| run.digest == member.digest;
            if known(self) || self.members.iter().any(known) {
                return wrong(
                    "it is the same checkpoint as another member, and adds nothing".into(),
                );
            }
            if self.summary.info.data_fingerprint != member.summary.info.data_fingerprint {
                say!(
                    "warning   {} trained on other rows than {}: their spread is not that of the seed alone",
                    folder.display(),
                    self.folder.display()
                );
            }
            self.members.push(member);
        }
        Ok(())
    }

    fn dropout(&self) -> Dropout {
        self.asked.dropout()
    }

    /// Token rewards of rows by every member of the ensemble, this run's first.
    pub fn score_each(&self, rows: &[EncodedRow]) -> Result<Vec<Scored>> {
        let mut all = vec![super::wait(self.scorer.score(rows))?];
        for member in &self.members {
            all.push(super::wait(member.scorer.score(rows))?);
        }
        Ok(all)
    }

    /// Token rewards of rows, with ignorance where it was asked for.
    pub fn score(&self, rows: &[EncodedRow]) -> Result<Scored> {
        use super::wait;
        match self.asked.ignorance {
            Some(IgnoranceChoice::Ensemble) => {
                let all = self.score_each(rows)?;
                Ok(combine(all, self.scorer.objective().ranking_score())?)
            }
            Some(IgnoranceChoice::Dropout) => {
                Ok(wait(self.scorer.score_with_dropout(rows, &self.dropout()))?)
            }
            Some(IgnoranceChoice::Laplace) | None => Ok(wait(self.scorer.score(rows))?),
        }
    }

    /// The rows that trained the run, as read and as tokens. `data` is where they are now, if not where the run found them.
    pub fn training_rows(&self, data: Option<&str>) -> Result<(Rows, Vec<EncodedRow>)> {
        let mut file = self.file.clone();
        if let Some(data) = data {
            file.data = data.into();
        }
        if file.data == "-" {
            return Err(exit::with_code(
                exit::USAGE,
                "the run read its rows from standard input; name them with --data FILE",
            ));
        }
        let demonstrations =
            self.scorer.objective().rows() == avascope::objective::RowKind::Demonstrations;
        let (rows, _) = training_rows(&file, demonstrations)?;
        let (usable, _) = encode_usable_rows(&rows, &self.scorer.model().tokenizer, &self.encode)?;
        Ok((rows, usable))
    }

    /// The run's held-out rows.
    pub fn held_out_path(&self) -> PathBuf {
        self.folder.join("held_out.jsonl")
    }

    /// What the rows to score are called: a file, or the run's held-out rows.
    pub fn data_name(&self, data: Option<&str>) -> String {
        match data {
            Some("-") => "standard input".into(),
            Some(data) => data.into(),
            None => format!("held-out rows ({})", self.held_out_path().display()),
        }
    }

    /// Rows to score as they are read: a file, or the run's held-out rows.
    pub fn read_rows(&self, data: Option<&str>, limit: Option<usize>) -> Result<Rows> {
        let rows = match data {
            Some(source) => read_source(source, self.file.world_rows, self.file.train.seed, false)?,
            None => {
                let path = self.held_out_path();
                if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
                    return Err(exit::with_code(
                        exit::USAGE,
                        "the run held no rows out; name a file with --data",
                    ));
                }
                crate::files::read_rows(&path)?
            }
        };
        Ok(take(rows, limit))
    }

    /// [`OpenRun::read_rows`], made ready.
    pub fn rows(&self, data: Option<&str>, limit: Option<usize>) -> Result<Vec<EncodedRow>> {
        self.usable(self.read_rows(data, limit)?)
    }

    /// Refuses an output that replaces the rows that are read.
    pub fn refuse_inputs(&self, out: Option<&Path>, data: Option<&str>) -> Result<()> {
        let rows = data.map_or_else(|| self.held_out_path(), PathBuf::from);
        folder::refuse_inputs(out, &[&rows, &self.checkpoint_path])
    }

    /// Rows made ready; those without an answer are named and left out.
    pub fn usable(&self, rows: Rows) -> Result<Vec<EncodedRow>> {
        let (usable, skipped) =
            encode_usable_rows(&rows, &self.scorer.model().tokenizer, &self.encode)?;
        if let Some(sentence) = SkippedRow::sentence(&skipped) {
            if usable.is_empty() {
                return Err(exit::with_code(
                    exit::DATA,
                    format!("no row is left: {sentence}"),
                ));
            }
            say!("warning   {sentence}");
        }
        Ok(usable)
    }
}

/// The rows that a run trains on and those that it holds out, as its settings say.
pub fn training_rows(file: &RunFile, demonstrations: bool) -> Result<(Rows, Rows)> {
    let fitting = |rows| match demonstrations {
        true => chosen_only(rows),
        false => rows,
    };
    let rows = match &file.against {
        Some(against) => two_sets(file, against)?,
        None => read_source(&file.data, file.world_rows, file.train.seed, demonstrations)?,
    };
    let rows = fitting(take(rows, file.limit));
    Ok(match &file.eval_data {
        Some(path) => {
            let held_out = fitting(crate::files::read_rows(path)?);
            if !demonstrations && matches!(held_out, Rows::Demonstrations(_)) {
                return Err(exit::with_code(
                    exit::DATA,
                    format!(
                        "{} holds demonstrations, and `{}` learns from pairs and is measured on pairs; give a file with the columns prompt, chosen and rejected, or leave --eval-data out",
                        path.display(),
                        file.train.method
                    ),
                ));
            }
            (rows, held_out)
        }
        None => split_by_hash(rows, file.train.held_out, "avascope"),
    })
}

/// The answers of `--data` as desirable ones, and those of `--against` as undesirable ones.
fn two_sets(file: &RunFile, against: &Path) -> Result<Rows> {
    let wrong = |source: &str, why: &str| {
        Err(exit::with_code(
            exit::USAGE,
            format!("--against: {source} {why}"),
        ))
    };
    const LABELLED: &str = "labels its answers one by one (column label); it holds both sets already, so give it as --data alone";
    let desirable = match read_source(&file.data, file.world_rows, file.train.seed, true)? {
        Rows::Unpaired(_) => return wrong(&file.data, LABELLED),
        rows => match chosen_only(rows) {
            Rows::Demonstrations(rows) => rows,
            _ => Vec::new(),
        },
    };
    let undesirable = match crate::files::read_rows(against)? {
        Rows::Demonstrations(rows) => rows,
        Rows::Unpaired(_) => return wrong(&against.display().to_string(), LABELLED),
        Rows::Preferences(_) => {
            return wrong(
                &against.display().to_string(),
                "holds pairs; give a file of answers alone (columns prompt, completion), such as a base model's, or the pairs as --data alone",
            );
        }
    };
    Ok(Rows::unpaired(desirable, undesirable))
}

/// Says how many rows to be measured on were trained on.
pub fn warn_of_known(train: &Rows, measured: &Rows) {
    let known = Known::of(train).count(measured);
    if known > 0 {
        say!(
            "warning   {known} of {} rows to be measured on were trained on: what is measured on them says nothing about new rows",
            measured.len()
        );
    }
}

/// What rows train: prompts with their answers, by hash.
struct Known {
    answers: HashSet<u64>,
    pairs: bool,
}

impl Known {
    fn of(train: &Rows) -> Self {
        Self {
            answers: answers(train).into_iter().flatten().collect(),
            pairs: matches!(train, Rows::Preferences(_)),
        }
    }

    /// Rows of which both answers (of pairs that pairs trained) or any answer is known.
    fn count(&self, rows: &Rows) -> usize {
        let both = self.pairs && matches!(rows, Rows::Preferences(_));
        let known = |row: &Vec<u64>| match both {
            true => row.iter().all(|answer| self.answers.contains(answer)),
            false => row.iter().any(|answer| self.answers.contains(answer)),
        };
        answers(rows).iter().filter(|row| known(row)).count()
    }
}

/// Of each row the hashes of its prompt with each answer.
fn answers(rows: &Rows) -> Vec<Vec<u64>> {
    let hash = |prompt: &Content, answer: &Content| {
        let mut hasher = DefaultHasher::new();
        format!("{prompt:?} {answer:?}").hash(&mut hasher);
        hasher.finish()
    };
    match rows {
        Rows::Preferences(rows) => rows
            .iter()
            .map(|row| {
                [&row.chosen, &row.rejected]
                    .map(|answer| hash(&row.prompt, &answer.content))
                    .to_vec()
            })
            .collect(),
        Rows::Demonstrations(rows) => rows
            .iter()
            .map(|row| vec![hash(&row.prompt, &row.answer.content)])
            .collect(),
        Rows::Unpaired(rows) => rows
            .iter()
            .map(|row| vec![hash(&row.prompt, &row.answer.content)])
            .collect(),
    }
}

/// A method of demonstrations given pairs learns from the chosen answers, and given answers labelled one by one from the
/// desirable ones.
fn chosen_only(rows: Rows) -> Rows {
    match &rows {
        Rows::Preferences(_) => say!(
            "note      the rows are pairs and demonstrations are wanted: the chosen answers are taken"
        ),
        Rows::Unpaired(all) => say!(
            "note      the rows are labelled one by one and demonstrations are wanted: the {} undesirable ones (label false) are left out",
            all.iter().filter(|row| !row.label).count()
        ),
        Rows::Demonstrations(_) => {}
    }
    rows.chosen_answers()
}

/// Flags that go with another estimate than the one asked for are a slip of the pen.
fn check_ignorance(args: &IgnoranceArgs, credit: &str) -> Result<()> {
    let wrong = |why: &str| Err(exit::with_code(exit::USAGE, why.to_string()));
    let chosen = args.ignorance;
    if chosen.is_some() && credit != "own" {
        return wrong(
            "--ignorance speaks of the method's own token rewards; leave --credit out, or --ignorance",
        );
    }
    if !args.members.is_empty() && chosen != Some(IgnoranceChoice::Ensemble) {
        return wrong("--member goes with --ignorance ensemble");
    }
    if args.laplace.is_some() && chosen != Some(IgnoranceChoice::Laplace) {
        return wrong("--laplace goes with --ignorance laplace");
    }
    if args.names_dropout() && chosen != Some(IgnoranceChoice::Dropout) {
        return wrong(
            "--dropout-rate, --dropout-samples and --dropout-seed go with --ignorance dropout",
        );
    }
    if args.members.is_empty() && chosen == Some(IgnoranceChoice::Ensemble) {
        return wrong(
            "an ensemble of one has no spread: name at least one more run of the same method with another seed (--member RUN)",
        );
    }
    Ok(())
}

/// Reads rows: the built-in world's, a file's, or standard input's.
pub fn read_source(
    source: &str,
    world_rows: usize,
    seed: u64,
    demonstrations: bool,
) -> Result<Rows> {
    if source == models::WORLD {
        check_world_rows(world_rows)?;
        return Ok(avascope::train::world_rows(
            world_rows,
            seed,
            demonstrations,
        ));
    }
    crate::files::read_rows(Path::new(source))
}

/// Most rows that are drawn from the built-in world: some gigabytes of text.
const MAX_WORLD_ROWS: usize = 1_000_000;

/// Refuses a number of rows of the built-in world that no machine holds.
pub fn check_world_rows(rows: usize) -> Result<()> {
    if (1..=MAX_WORLD_ROWS).contains(&rows) {
        return Ok(());
    }
    Err(exit::with_code(
        exit::USAGE,
        format!("{rows} rows of the built-in world were asked for; ask for 1 to {MAX_WORLD_ROWS}"),
    ))
}

/// The first `limit` rows.
pub fn take(rows: Rows, limit: Option<usize>) -> Rows {
    rows.first(limit.unwrap_or(usize::MAX))
}
