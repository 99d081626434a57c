//! A run's settings as a file.

use crate::{exit, models, settings};
use anyhow::Result;
use avascope::train::{CheckpointSummary, TrainConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A run as a file: where its model and rows come from, and its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// Model: `world`, a directory or a file; empty where only a checkpoint is known, which does not tell it.
    pub model: String,
    /// The tokenizer that goes with it, where it is a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// The policy that the model's is held against, where a method has one and it is not the model's own start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Rows: `world` or a file; empty as `model` is.
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
    /// Checkpoints that are kept, the newest ones; 0 keeps all.
    pub save_total_limit: usize,
    /// The configuration proper.
    pub train: TrainConfig,
}

impl Default for RunFile {
    fn default() -> Self {
        Self {
            model: models::WORLD.into(),
            tokenizer: None,
            reference: None,
            data: models::WORLD.into(),
            against: None,
            world_rows: 3000,
            eval_data: None,
            limit: None,
            device: "auto".into(),
            out: None,
            // One to go on from, and the one before it: with the moments of the optimiser each is three times what trains.
            save_total_limit: 2,
            train: TrainConfig::default(),
        }
    }
}

impl RunFile {
    /// Reads a TOML file, and whether it says after how many steps a checkpoint is written; an unknown or ill-typed setting is
    /// an error with its line.
    pub fn read(path: &Path) -> Result<(Self, bool)> {
        let (file, table) = settings::read(path)?;
        let train = table.get("train").and_then(toml::Value::as_table);
        let says = train.is_some_and(|train| train.contains_key("save_steps"));
        Ok((file, says))
    }

    /// What a checkpoint tells of its run. Where its model is the built-in one its rows are taken to be the world's, too,
    /// until their fingerprint says otherwise; any other model and its rows are for a person to name.
    pub fn of_checkpoint(summary: &CheckpointSummary) -> Self {
        let (config, info) = (&summary.config, &summary.info);
        let source = match info.model == models::WORLD_MODEL {
            true => models::WORLD,
            false => "",
        };
        Self {
            model: source.into(),
            data: source.into(),
            world_rows: info.train_rows.saturating_add(info.held_out_rows),
            train: config.clone(),
            ..Self::default()
        }
    }

    /// Reads the file that a run wrote of itself, in which nothing is left to defaults: one that was cut, or emptied, is not
    /// taken for another run's settings.
    pub fn of_run(path: &Path) -> Result<Self> {
        let (mut file, table): (Self, _) = settings::read(path)?;
        // A run from before there was a limit keeps what it has.
        if !table.contains_key("save_total_limit") {
            file.save_total_limit = 0;
        }
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
        let sources = [&mut self.model, &mut self.data];
        for source in sources.into_iter().chain(&mut self.reference) {
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
            ("--against", &self.against),
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
