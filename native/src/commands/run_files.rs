//! What a run's folder holds, and how a run is opened again for scoring.
//!
//! ```text
//! run.toml          the resolved configuration: flags, file and defaults together; `train --config` reads it
//! metrics.jsonl     every event, one JSON value a line
//! held_out.jsonl    the rows that never trained
//! checkpoints/      step-000050.safetensors, ...
//! final/            the trained model as a Hugging Face directory or PEFT adapter, and the reward head
//! ```

use super::open_device;
use crate::args::RunArgs;
use crate::talk::say;
use crate::{exit, folder, models};
use anyhow::{Context as _, Result};
use avascope::data::Rows;
use avascope::text::EncodeOptions;
use avascope::train::{
    EncodedRow, LoadedModel, Scorer, SkippedRow, TrainConfig, describe_checkpoint,
    encode_usable_rows,
};
use serde::{Deserialize, Serialize};
use std::fs;
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
        let text = fs::read_to_string(path).map_err(|error| {
            exit::with_code(
                exit::USAGE,
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
        toml::from_str(&text).map_err(|error| {
            exit::with_code(
                exit::USAGE,
                format!("{}: {}", path.display(), error.to_string().trim_end()),
            )
        })
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
        for path in [&mut self.tokenizer, &mut self.eval_data, &mut self.out] {
            *path = path.as_deref().map(absolute);
        }
        self
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
    folder: PathBuf,
}

impl OpenRun {
    /// Opens a run's folder with its last (or a named) checkpoint.
    pub fn open(args: &RunArgs) -> Result<Self> {
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
        let file = RunFile::read(&run_file)?;
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
        let mut scorer = super::wait(Scorer::from_checkpoint(model, &bytes, device))
            .with_context(|| checkpoint.display().to_string())?;
        if let Some(rows) = args.batch_size {
            scorer.set_batch_size(rows);
        }
        Ok(Self {
            scorer,
            file,
            encode,
            folder,
        })
    }

    /// Rows to score: a file, or the run's held-out rows.
    pub fn rows(&self, data: Option<&str>, limit: Option<usize>) -> Result<Vec<EncodedRow>> {
        let rows = match data {
            Some(source) => read_source(source, self.file.world_rows, self.file.train.seed, false)?,
            None => {
                let path = self.folder.join("held_out.jsonl");
                if fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
                    return Err(exit::with_code(
                        exit::USAGE,
                        "the run held no rows out; name a file with --data",
                    ));
                }
                crate::files::read_rows(&path)?
            }
        };
        let rows = take(rows, limit);
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
    let limit = limit.unwrap_or(usize::MAX);
    match rows {
        Rows::Preferences(mut rows) => {
            rows.truncate(limit);
            Rows::Preferences(rows)
        }
        Rows::Demonstrations(mut rows) => {
            rows.truncate(limit);
            Rows::Demonstrations(rows)
        }
    }
}
