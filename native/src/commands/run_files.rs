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
//!
//! A checkpoint outside of such a folder, as the page downloads one, is opened as well: it holds its configuration, and of
//! the rest what a person must name.

mod file;
mod found;
mod rows;

pub use file::RunFile;
pub use found::{Checkpoint, needs_rows};
pub use rows::{check_world_rows, read_source, take, training_rows, warn_of_known};

use self::found::Found;
use super::file_record::sha256;
use super::open_device;
use crate::args::{IgnoranceArgs, IgnoranceChoice, RunArgs};
use crate::talk::say;
use crate::{exit, folder, models};
use anyhow::{Context as _, Result};
use avascope::credit;
use avascope::data::{Rows, fingerprint};
use avascope::objective::RowKind;
use avascope::reward::{Provenance, Trust};
use avascope::text::EncodeOptions;
use avascope::train::{
    CheckpointSummary, EncodedRow, LoadedModel, Scored, Scorer, SkippedRow, TrainError, TrustFile,
    checkpoint_digest, encode_usable_rows,
    ignorance::{Dropout, LaplaceFit, combine},
    row_warnings,
};
use avascope::world::rows_to_jsonl;
use std::fs;
use std::path::{Path, PathBuf};

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
    /// Whether there is a checkpoint and no run's folder around it.
    alone: bool,
    /// What the command line calls the run.
    named: PathBuf,
    /// Where a Laplace fit of this checkpoint stands.
    laplace: PathBuf,
    asked: IgnoranceArgs,
    /// The other runs of an ensemble.
    members: Vec<OpenRun>,
}

/// The file of results on truths, beside the checkpoints.
const TRUST: &str = "trust.json";

impl OpenRun {
    /// Opens a run's folder with its last (or a named) checkpoint, or a checkpoint's file.
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
        let credit = credit::by_name(&args.credit).map_err(TrainError::from)?;
        let Found {
            file,
            checkpoint,
            folder,
            alone,
        } = Found::by(args)?;
        let source = args
            .model
            .model
            .clone()
            .unwrap_or_else(|| file.model.clone());
        if source.is_empty() {
            return Err(checkpoint.needs_model());
        }
        let Checkpoint {
            path: checkpoint,
            bytes,
            summary,
        } = checkpoint;
        let device = open_device(&args.device)?;
        let tokenizer = args
            .model
            .tokenizer
            .clone()
            .or_else(|| file.tokenizer.clone());
        let reference = args.reference.as_ref().or(file.reference.as_ref());
        let model: LoadedModel = models::open_with_reference(
            &source,
            tokenizer.as_deref(),
            reference.map(String::as_str),
            &device,
        )
        .map_err(|error| match (&args.reference, &file.reference) {
            (None, Some(kept)) => error.context(format!(
                "the run was held against {kept}, and `--reference PATH` says where that model lies now"
            )),
            _ => error,
        })?;
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
        let uses_reference = scorer.objective().needs_reference() || credit.needs.reference;
        if args.reference.is_some() && !uses_reference {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "--reference goes with a method whose policy is held against another one (dpo), and `{}` is none",
                    summary.config.method
                ),
            ));
        }
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
            alone,
            named: args.run.clone(),
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
                    self.named.display()
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
            let rows = &member.summary.info.data_fingerprint;
            let twin = |run: &Self| {
                run.summary.config.seed == other.seed && run.summary.info.data_fingerprint == *rows
            };
            if twin(self) || self.members.iter().any(twin) {
                say!(
                    "warning   {} has the seed and the rows of another member: two states of one training differ by little, and ignorance comes out too small",
                    folder.display()
                );
            }
            if self.summary.info.reference != member.summary.info.reference {
                let of = |run: &Self| match &run.summary.info.reference {
                    Some(reference) => format!("`{reference}`"),
                    None => "its own start".into(),
                };
                say!(
                    "warning   {} was held against {}, and {} against {}: their spread is not that of the seed alone",
                    folder.display(),
                    of(&member),
                    self.named.display(),
                    of(self)
                );
            }
            if self.summary.info.data_fingerprint != member.summary.info.data_fingerprint {
                say!(
                    "warning   {} trained on other rows than {}: their spread is not that of the seed alone",
                    folder.display(),
                    self.named.display()
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

    /// Says what scored these rows: method, model, checkpoint, reference policy, device and precision.
    pub fn introduce(&self, provenance: &Provenance, rows: usize, data: &str) {
        let credit = match self.scorer.credit().is_own() {
            true => String::new(),
            false => format!(" spread by {}", provenance.credit),
        };
        let reference = match &self.summary.info.reference {
            Some(reference) => format!(" · held against {reference}"),
            None => String::new(),
        };
        say!(
            "{}{credit} on {}, {}{reference} · {} · {} · {rows} rows of {data}",
            provenance.method,
            provenance.model,
            provenance.checkpoint,
            provenance.device,
            provenance.precision,
        );
        if let Some(ignorance) = &provenance.ignorance {
            say!("ignorance by {}", ignorance.detail);
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
        if file.data.is_empty() {
            return Err(needs_rows(&self.named));
        }
        let (rows, _) = training_rows(&file, self.learns_from_demonstrations())?;
        let (usable, _) = encode_usable_rows(&rows, &self.scorer.model().tokenizer, &self.encode)?;
        Ok((rows, usable))
    }

    /// Whether the run's method learns from demonstrations.
    pub fn learns_from_demonstrations(&self) -> bool {
        self.scorer.objective().rows() == RowKind::Demonstrations
    }

    /// Where the run's folder has its held-out rows.
    fn held_out_path(&self) -> PathBuf {
        self.folder.join("held_out.jsonl")
    }

    /// The rows that the run held out: as its folder has them, or, where there is a checkpoint of the built-in world alone, as
    /// the world draws them again.
    fn held_out(&self) -> Result<Rows> {
        let none = || {
            exit::with_code(
                exit::USAGE,
                "the run held no rows out; name a file with --data",
            )
        };
        if !self.alone {
            let path = self.held_out_path();
            if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
                return Err(none());
            }
            return crate::files::read_rows(&path);
        }
        if self.file.data.is_empty() {
            return Err(needs_rows(&self.named));
        }
        let (train, held_out) = training_rows(&self.file, self.learns_from_demonstrations())?;
        if fingerprint(&train) != self.summary.info.data_fingerprint {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{} is a checkpoint alone, and the {} rows that the built-in world draws by its seed {} are not those that it was trained on: name rows with --data",
                    self.named.display(),
                    self.file.world_rows,
                    self.file.train.seed
                ),
            ));
        }
        match held_out.is_empty() {
            true => Err(none()),
            false => Ok(held_out),
        }
    }

    /// SHA-256 of the held-out rows, as a file of them has it.
    pub fn held_out_digest(&self) -> Result<String> {
        match self.alone {
            true => Ok(sha256(rows_to_jsonl(&self.held_out()?).as_bytes())),
            false => super::fetch::sha256_of(&self.held_out_path()),
        }
    }

    /// What the rows to score are called: a file, or the run's held-out rows.
    pub fn data_name(&self, data: Option<&str>) -> String {
        match data {
            Some("-") => "standard input".into(),
            Some(data) => data.into(),
            None if self.alone => "held-out rows (of the built-in world)".into(),
            None => format!("held-out rows ({})", self.held_out_path().display()),
        }
    }

    /// Rows to score as they are read: a file, or the run's held-out rows.
    pub fn read_rows(&self, data: Option<&str>, limit: Option<usize>) -> Result<Rows> {
        let rows = match data {
            Some(source) => read_source(source, self.file.world_rows, self.file.train.seed, false)?,
            None => self.held_out()?,
        };
        Ok(take(rows, limit))
    }

    /// [`OpenRun::read_rows`], made ready.
    pub fn rows(&self, data: Option<&str>, limit: Option<usize>) -> Result<Vec<EncodedRow>> {
        self.usable(self.read_rows(data, limit)?)
    }

    /// Refuses an output that replaces the rows that are read, or a file of this or another run.
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
        for sentence in row_warnings(&usable, &self.encode) {
            say!("warning   {sentence}");
        }
        Ok(usable)
    }
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
