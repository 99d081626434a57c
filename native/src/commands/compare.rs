//! `avascope compare`.
//!
//! ```text
//! compare.json      what the folder belongs to: settings, rows, model, device
//! cells/            one file a system, trial and seed; the training in hand may have left a checkpoint
//! floors.json       the floors
//! results.json      everything, with a versioned schema
//! table.md          for people and pull requests
//! *.svg             the plots
//! report.html       table, plots and caveats in one file
//! ```

mod identity;
mod rows;
mod training;
mod truths;
mod words;

use self::identity::{IDENTITY, belongs, read, refuse_other, refuse_other_version, settings};
use self::rows::PreparedRows;
use self::truths::Sources;
use self::words::{duration, truths_in_words};
use super::{Lines, open_device, wait, watch_interrupts};
use crate::args::CompareArgs;
use crate::folder::RunFolder;
use crate::talk::say;
use crate::{exit, models};
use anyhow::{Context as _, Result};
use avascope::compare::{self, Cell, CellRecord, Floor, Inputs, ModelSummary, Plan};
use avascope::device::OpenDevice;
use avascope::train::{FrozenStates, LoadedModel, SharedStates, SkippedRow, TruthResult};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The floors, kept as finished trainings are.
const FLOORS: &str = "floors.json";
/// Compares methods.
pub fn run(args: CompareArgs) -> Result<()> {
    let mut config = read(&args.config)?;
    if let Some(out) = &args.out {
        config.out = out.display().to_string();
    }
    config.device = args.device.clone().unwrap_or(config.device);
    let plan = Plan::new(config)?;
    let out = PathBuf::from(&plan.config.out);
    let before = belongs(&out)?;
    let mut identity = settings(&plan.config);
    if let Some(before) = &before {
        refuse_other_version(&out, before)?;
        refuse_other(&out, before, &identity)?;
    }
    let truths = Sources::read(&plan)?;
    truths.identify(&mut identity);
    if let Some(before) = &before {
        refuse_other(&out, before, &identity)?;
    }

    let device = open_device(&plan.config.device)?;
    let tokenizer = plan.config.tokenizer.as_deref().map(Path::new);
    let model = models::open(&plan.config.model, tokenizer, &device)?;
    identity["model"] = json!(wait(compare::model_digest(&model))?);
    identity["tokenizer"] = json!(compare::tokenizer_digest(&model.tokenizer));
    identity["computed on"] = json!(device.info.backend);
    if let Some(before) = &before {
        refuse_other(&out, before, &identity)?;
    }
    let rows = PreparedRows::new(&plan, &model, truths)?;

    rows.identify(&mut identity);
    if let Some(before) = &before {
        refuse_other(&out, before, &identity)?;
    }
    let folder = RunFolder::open(&out)?;
    if before.is_none() {
        folder.write(IDENTITY, pretty(&identity)?.as_bytes())?;
    }
    let digest: String = Sha256::digest(serde_json::to_vec(&identity)?)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();

    let mut session = Session {
        interrupted: watch_interrupts("save the training in hand"),
        states: Vec::new(),
        measured: SharedStates::default(),
        began: Instant::now(),
        trained: 0,
        done: 0,
        total: plan.training_count().1,
        quiet: args.quiet,
        json: args.json,
        printed: Lines::default(),
        plan,
        folder,
        digest,
        device,
        model,
        rows,
    };
    session.introduce();
    let floors = session.floors()?;
    let mut cells = session.train(&session.plan.tuning_cells())?;
    let chosen: Vec<usize> = session
        .plan
        .systems
        .iter()
        .map(|system| {
            let own: Vec<&CellRecord> = cells.iter().filter(|c| c.system == system.label).collect();
            compare::choose_trial(&own, system.trials.len())
        })
        .collect();
    let last = session.plan.final_cells(&chosen);
    session.total = session.done + session.plan.trainings(&last).len();
    cells.extend(session.train(&last)?);
    let command = command(&args);
    session.report(&chosen, &cells, &floors, command)
}

/// The command that makes the comparison again.
fn command(args: &CompareArgs) -> String {
    let mut command = format!("avascope compare {}", args.config.display());
    if let Some(out) = &args.out {
        command.push_str(&format!(" --out {}", out.display()));
    }
    if let Some(device) = &args.device {
        command.push_str(&format!(" --device {device}"));
    }
    command
}

fn pretty(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// The floors in their file.
#[derive(Serialize, Deserialize)]
struct FloorsFile {
    comparison: String,
    floors: Vec<Floor>,
}

/// A comparison in progress.
struct Session {
    plan: Plan,
    folder: RunFolder,
    digest: String,
    device: OpenDevice,
    model: LoadedModel,
    rows: PreparedRows,
    interrupted: Arc<AtomicBool>,
    /// States of the frozen trunk over training rows, newest last.
    states: Vec<FrozenStates>,
    /// The same over all rows that maps are measured on.
    measured: SharedStates,
    began: Instant,
    /// Trainings of this call.
    trained: usize,
    /// Trainings that are finished, earlier calls' too.
    done: usize,
    /// All of them; before values are chosen, the most that there can be.
    total: usize,
    quiet: bool,
    json: bool,
    printed: Lines,
}

impl Session {
    fn say(&self, line: &str) {
        if !self.quiet {
            say!("{line}");
        }
    }

    fn introduce(&self) {
        let (device, data) = (&self.device.info, &self.rows.summary);
        self.say(&format!(
            "device    {} · {} · {}",
            device.backend, device.adapter, device.precision
        ));
        self.say(&format!(
            "model     {} · {} parameters",
            self.model.name,
            self.model.decoder.weights.parameters()
        ));
        self.say(&format!(
            "data      {} rows train, {} validate, {} test · {}",
            data.train.rows,
            data.validation.rows,
            data.test.rows,
            &data.fingerprint[..12.min(data.fingerprint.len())]
        ));
        let (least, most) = self.plan.training_count();
        self.say(&format!(
            "plan      {} systems, {} seeds, {}{most} trainings of {} steps",
            self.plan.systems.len(),
            self.plan.config.seeds.len(),
            if least < most { "at most " } else { "" },
            self.plan.config.train.steps
        ));
        if !self.plan.left_out.is_empty() {
            self.say(&format!(
                "note      `{}` does not stand for {}, which reads a column of its own (a strength or a margin); give it a `[[method]]` with options",
                compare::EVERY_METHOD,
                self.plan.left_out.join(", ")
            ));
        }
        let truths: Vec<String> = self.plan.config.truths.iter().map(|t| t.words()).collect();
        if !truths.is_empty() {
            self.say(&format!("truths    {}", truths.join("; ")));
        }
        let estimates: Vec<String> = self.plan.estimates.iter().map(|e| e.label()).collect();
        if !estimates.is_empty() {
            self.say(&format!("ignorance {}", estimates.join("; ")));
        }
        for rows in [&self.rows.train, &self.rows.validation, &self.rows.test] {
            if let Some(sentence) = SkippedRow::sentence(rows.skipped()) {
                say!("warning   {sentence}");
            }
        }
        for system in &self.plan.systems {
            // Checked when the plan was made.
            let warnings = system.trials[0].train.check().map(|o| o.warnings());
            for warning in warnings.unwrap_or_default() {
                say!("warning   {}: {warning}", system.label);
            }
        }
    }

    /// A file of the folder that belongs to this comparison, where it is there and whole.
    fn finished<T: for<'a> Deserialize<'a>>(
        &self,
        name: &str,
        digest_of: impl Fn(&T) -> &str,
    ) -> Result<Option<T>> {
        let path = self.folder.path().join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: T = serde_json::from_slice(&bytes).map_err(|error| {
            exit::with_code(
                exit::DATA,
                format!(
                    "{} is damaged ({error}); remove it, and it is made again",
                    path.display()
                ),
            )
        })?;
        if digest_of(&value) != self.digest {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{} belongs to another comparison; remove it, or choose another `out`",
                    path.display()
                ),
            ));
        }
        Ok(Some(value))
    }

    /// Writes a finished part, and hands it back as the file has it: a number read from a file may differ from the one
    /// written in its last bit, and a comparison that was cut must see the same numbers as one that was not.
    fn keep<T: Serialize + for<'a> Deserialize<'a>>(&self, name: &str, part: &T) -> Result<T> {
        let text = serde_json::to_string(part)?;
        self.folder.write(name, text.as_bytes())?;
        Ok(serde_json::from_str(&text)?)
    }

    fn floors(&mut self) -> Result<Vec<Floor>> {
        let found = self.finished(FLOORS, |file: &FloorsFile| &file.comparison)?;
        if let Some(file) = found {
            return Ok(file.floors);
        }
        self.say("floors    longer wins, unigram Bradley-Terry, the trunk's own log-probability");
        let floors = wait(compare::floors(
            self.model.clone(),
            self.device.clone(),
            self.plan.config.train.batch_size,
            self.rows.train.rows(),
            self.rows.test.rows(),
            self.plan.config.resamples,
        ))?;
        let file = FloorsFile {
            comparison: self.digest.clone(),
            floors,
        };
        Ok(self.keep(FLOORS, &file)?.floors)
    }

    /// Trains what is not there yet; one record a cell, in their order.
    fn train(&mut self, cells: &[Cell]) -> Result<Vec<CellRecord>> {
        let mut records: Vec<Option<CellRecord>> = vec![None; cells.len()];
        for places in self.plan.trainings(cells) {
            let own: Vec<Cell> = places.iter().map(|place| cells[*place]).collect();
            let mut found = Vec::with_capacity(own.len());
            for cell in &own {
                found.push(
                    self.finished(&self.file(*cell), |record: &CellRecord| &record.comparison)?,
                );
            }
            let all = own.iter().zip(&found);
            let missing: Vec<Cell> = all.filter(|(_, f)| f.is_none()).map(|(c, _)| *c).collect();
            let mut made = Vec::new();
            if !missing.is_empty() {
                if self.interrupted.load(Ordering::SeqCst) {
                    return Err(self.stopped());
                }
                for (cell, record) in missing.iter().zip(self.train_cells(own[0], &missing)?) {
                    made.push(self.keep(&self.file(*cell), &record)?);
                }
                self.forget_partial(own[0]);
                self.trained += 1;
            }
            self.done += 1;
            let mut made = made.into_iter();
            let mut first = true;
            for ((place, cell), found) in places.into_iter().zip(own).zip(found) {
                let (record, from) = match found {
                    Some(record) => (Some(record), Origin::File),
                    None if first => (made.next(), Origin::Training),
                    None => (made.next(), Origin::SameTraining),
                };
                first &= from == Origin::File;
                if let Some(record) = &record {
                    self.tell(cell, record, from);
                }
                records[place] = record;
            }
        }
        Ok(records.into_iter().flatten().collect())
    }

    fn tell(&mut self, cell: Cell, record: &CellRecord, from: Origin) {
        let accuracy = record.validation.as_ref().and_then(|v| v.accuracy.value);
        // An undecided truth says neither: null.
        let says: Vec<Option<bool>> = record.checks.iter().map(TruthResult::says).collect();
        if self.json {
            let line = json!({
                "type": "cell",
                "system": record.system,
                "trial": record.trial,
                "values": record.values,
                "seed": record.seed,
                "seconds": record.seconds,
                "validation_accuracy": accuracy,
                "failure": record.failure,
                "truths_passed": says,
                "resumed": from == Origin::File,
                "done": self.done,
                "total": self.total,
            });
            self.printed.line(&line.to_string());
        }
        let said = match (&record.failure, accuracy) {
            (Some(failure), _) => failure.clone(),
            (None, Some(accuracy)) => format!("validation accuracy {accuracy:.3}"),
            (None, None) => String::from("finished"),
        };
        let time = match from {
            Origin::File => "already there".to_string(),
            Origin::Training => format!("{:.1} s", record.seconds),
            Origin::SameTraining => "read off the same training".into(),
        };
        self.say(&format!(
            "{:>4}/{}  {}  {said}{}  {time}{}",
            self.done,
            self.total,
            self.plan.cell_words(cell),
            truths_in_words(&says),
            self.estimate()
        ));
    }

    /// How long the rest takes, by the trainings of this call.
    fn estimate(&self) -> String {
        let left = self.total.saturating_sub(self.done);
        if self.trained == 0 || left == 0 {
            return String::new();
        }
        let seconds = self.began.elapsed().as_secs_f64() / self.trained as f64 * left as f64;
        format!("  about {} left", duration(seconds))
    }

    fn stopped(&self) -> anyhow::Error {
        exit::with_code(
            exit::INTERRUPTED,
            format!(
                "interrupted after {} of {} trainings; call the same command again to go on",
                self.done, self.total
            ),
        )
    }

    /// Writes everything that people and programs read.
    fn report(
        &mut self,
        chosen: &[usize],
        cells: &[CellRecord],
        floors: &[Floor],
        command: String,
    ) -> Result<()> {
        let results = compare::results(Inputs {
            plan: &self.plan,
            chosen,
            cells,
            floors,
            data: self.rows.summary.clone(),
            model: ModelSummary {
                name: self.model.name.clone(),
                parameters: self.model.decoder.weights.parameters(),
            },
            device: self.device.info.clone(),
            command,
        });
        let plots = compare::plots(&results);
        for plot in &plots {
            self.folder.write(plot.file, plot.svg.as_bytes())?;
        }
        let table = compare::table(&results);
        self.folder.write("table.md", table.as_bytes())?;
        self.folder
            .write("report.html", compare::page(&results, &plots).as_bytes())?;
        self.folder
            .write("results.json", pretty(&results)?.as_bytes())?;
        let folder = self.folder.path().display().to_string();
        if self.json {
            let line = json!({"type": "finished", "folder": folder});
            self.printed.line(&line.to_string());
        }
        self.say(&format!(
            "wrote     {folder}/report.html (opens in any browser), table.md, results.json and {} plots",
            plots.len()
        ));
        std::mem::take(&mut self.printed).finish()
    }
}

/// Where a cell's record comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An earlier call.
    File,
    /// A training of this call.
    Training,
    /// The training of the cell before it.
    SameTraining,
}
