//! Where a run is found: in its folder, or in a checkpoint alone, such as the page downloads.

use super::RunFile;
use crate::args::RunArgs;
use crate::files::Bytes;
use crate::{exit, files, folder};
use anyhow::{Context as _, Result};
use avascope::train::{CheckpointSummary, TrainError, checkpoint_digest, describe_checkpoint};
use std::path::{Path, PathBuf};

/// A run's settings and one of its checkpoints.
pub(super) struct Found {
    /// The settings: the run's own file, or what the checkpoint tells of them.
    pub file: RunFile,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The run's folder; of a checkpoint alone the folder that it lies in.
    pub folder: PathBuf,
    /// Whether the checkpoint is all that there is.
    pub alone: bool,
}

/// A checkpoint as a file, with what it says of itself.
pub struct Checkpoint {
    /// Its file.
    pub path: PathBuf,
    /// The file's bytes.
    pub bytes: Bytes,
    /// What it says of itself.
    pub summary: CheckpointSummary,
}

impl Checkpoint {
    /// Opens a file. Its tensors are not looked at yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is no checkpoint.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = files::map_safetensors(path)?;
        let summary = describe_checkpoint(&bytes).with_context(|| path.display().to_string())?;
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            summary,
        })
    }

    /// Opens the newest checkpoint of a run's folder, if it has one.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; and one that holds another step than its name says, since by their names the newest is told.
    pub fn newest(run: &Path) -> Result<Option<Self>> {
        let newest = folder::checkpoints(run).pop();
        newest.map(|path| Self::open_own(&path)).transpose()
    }

    /// Opens a checkpoint under the name that its run gave it.
    fn open_own(path: &Path) -> Result<Self> {
        let checkpoint = Self::open(path)?;
        let step = checkpoint.summary.step;
        match folder::step_of(path) {
            Some(named) if named != step => Err(exit::with_code(
                exit::DATA,
                format!(
                    "{0} holds step {step}, and its name says step {named}: no run wrote it under that name. Move it out of that folder, or name it by hand as a file (`avascope score {0}`, `avascope train --resume-from {0} --out OTHER`)",
                    path.display()
                ),
            )),
            _ => Ok(checkpoint),
        }
    }

    /// An error about the newest checkpoint of a run, with the newest one beside it that is whole and the way to go on from
    /// that. Errors of another kind than damage, which an older one would not mend, stay as they are.
    pub fn or_older(error: anyhow::Error, run: &Path) -> anyhow::Error {
        if error.downcast_ref::<TrainError>().is_none() {
            return error;
        }
        let mut found = folder::checkpoints(run);
        found.pop();
        let is_whole = |path: &PathBuf| {
            Self::open_own(path).is_ok_and(|older| checkpoint_digest(&older.bytes).is_ok())
        };
        match found.into_iter().rev().find(is_whole) {
            None => error,
            Some(older) => exit::with_code(
                exit::code_of(&error),
                format!(
                    "{error:#}. {0} beside it is whole: go on from that in another folder with `avascope train --resume-from {0} --out OTHER --config {1}`",
                    older.display(),
                    run.join("run.toml").display()
                ),
            ),
        }
    }

    /// What to tell a person who must name the model.
    pub fn needs_model(&self) -> anyhow::Error {
        exit::with_code(
            exit::USAGE,
            format!(
                "{} is a checkpoint alone, and was trained on `{}`: say with --model where that model lies",
                self.path.display(),
                self.summary.info.model
            ),
        )
    }

    /// Refuses another method than the one that the checkpoint's run trains: its rows, too, may be others, but they are not
    /// the cause.
    pub fn check_method(&self, wanted: &str) -> Result<()> {
        let own = &self.summary.config.method;
        if own == wanted {
            return Ok(());
        }
        Err(exit::with_code(
            exit::DATA,
            format!(
                "{}: its method is `{own}`, and `{wanted}` is asked for; a run goes on with its own method: leave --method out, or begin another run without --resume-from",
                self.path.display()
            ),
        ))
    }

    /// What to tell a person whose rows are not those that trained it.
    pub fn other_rows(&self, found: &str, source: &str) -> anyhow::Error {
        let info = &self.summary.info;
        exit::with_code(
            exit::DATA,
            format!(
                "{}: the rows of {source} are not those that it was trained on ({} rows trained and {} were held out, with the fingerprint {}; these have {}). Name its own with --data, with the same --limit, --held-out and --eval-data; rows of the built-in world that were drawn with another seed than the run's are written by `avascope data world --rows N --seed SEED`",
                self.path.display(),
                info.train_rows,
                info.held_out_rows,
                short(&info.data_fingerprint),
                short(found),
            ),
        )
    }
}

/// What to tell a person who must name the rows.
pub fn needs_rows(checkpoint: &Path) -> anyhow::Error {
    exit::with_code(
        exit::USAGE,
        format!(
            "{} is a checkpoint alone, and does not say where its rows lie: name rows with --data",
            checkpoint.display()
        ),
    )
}

/// The beginning of a hash, by which people tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

impl Found {
    /// Finds what the command line names: a run's folder with its last (or a named) checkpoint, or a checkpoint's file.
    pub fn by(args: &RunArgs) -> Result<Self> {
        if !args.run.is_dir() && args.run.exists() {
            return Self::by_checkpoint(args);
        }
        let folder = args.run.clone();
        let run_file = folder.join("run.toml");
        if !run_file.is_file() {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{} is no run's folder and no checkpoint: it {}; `avascope train --out FOLDER` makes a run",
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
        let checkpoint = match &args.checkpoint {
            Some(path) => Checkpoint::open(path)?,
            None => Checkpoint::newest(&folder)?.ok_or_else(|| {
                exit::with_code(
                    exit::DATA,
                    format!(
                        "{} has no complete checkpoint yet; let the run reach one (`--save-steps`)",
                        folder.display()
                    ),
                )
            })?,
        };
        Ok(Self {
            file,
            checkpoint,
            folder,
            alone: false,
        })
    }

    /// A checkpoint's file. One in a run's own folder belongs to that run; any other stands alone.
    fn by_checkpoint(args: &RunArgs) -> Result<Self> {
        if let Some(other) = &args.checkpoint {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{} is a checkpoint already, and --checkpoint names {}; name one of them, or a run's folder",
                    args.run.display(),
                    other.display()
                ),
            ));
        }
        let checkpoint = Checkpoint::open(&args.run)?;
        if let Some(folder) = run_around(&args.run) {
            return Ok(Self {
                file: RunFile::of_run(&folder.join("run.toml"))?,
                checkpoint,
                folder,
                alone: false,
            });
        }
        Ok(Self {
            file: RunFile::of_checkpoint(&checkpoint.summary),
            folder: args.run.parent().unwrap_or(Path::new("")).to_path_buf(),
            checkpoint,
            alone: true,
        })
    }
}

/// The run in whose folder a checkpoint lies.
fn run_around(checkpoint: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(checkpoint).ok()?;
    let checkpoints = whole.parent()?;
    let run = checkpoints.parent()?;
    let is_run = checkpoints.ends_with("checkpoints") && run.join("run.toml").is_file();
    is_run.then(|| run.to_path_buf())
}
