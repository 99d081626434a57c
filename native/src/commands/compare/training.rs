//! One training of a comparison: run, measured by every system that is read off it, kept where a call is cut.

use super::super::wait;
use super::Session;
use super::words::duration;
use crate::talk::say;
use anyhow::{Context as _, Result};
use avascope::compare::{self, Cell, CellRecord, CompareError};
use avascope::train::{Event, Run, TrainError};
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Seconds between two lines about a training that takes long.
const PATIENCE: f64 = 20.0;

/// Frozen-trunk states that are kept for later cells: pairs and demonstrations, or two readings of Q.
const KEPT_STATES: usize = 2;

impl Session {
    pub(super) fn file(&self, cell: Cell) -> String {
        format!("cells/{}.json", self.plan.cell_name(cell))
    }

    pub(super) fn partial(&self, cell: Cell) -> String {
        format!("cells/{}.partial.safetensors", self.plan.cell_name(cell))
    }

    pub(super) fn forget_partial(&self, cell: Cell) {
        // It may never have been there.
        let _ = fs::remove_file(self.folder.path().join(self.partial(cell)));
    }

    /// Trains once and measures `cells`, which differ by their credit alone. `first` is the first cell of that training, which
    /// names its checkpoint whichever of them are missing.
    pub(super) fn train_cells(&mut self, first: Cell, cells: &[Cell]) -> Result<Vec<CellRecord>> {
        let began = Instant::now();
        let words = self.plan.cell_words(first);
        let rows = self.rows.of(self.plan.systems[first.system].rows);
        let mut run = Run::with_rows(
            self.plan.train_config(first),
            self.model.clone(),
            rows.clone(),
            rows.none(),
            self.device.clone(),
        )
        .with_context(|| words.clone())?;
        self.restore(&mut run, first);
        self.hand_states(&mut run);
        let mut last_loss = None;
        let trained = self.take_steps(&mut run, first, &mut last_loss);
        let blank = |cell: Cell| {
            let system = &self.plan.systems[cell.system];
            CellRecord {
                trainable_parameters: run.info().trainable_parameters,
                last_loss,
                ..CellRecord::empty(
                    &self.digest,
                    &system.label,
                    cell.trial,
                    system.trials[cell.trial].values.clone(),
                    cell.seed,
                )
            }
        };
        let failure = match trained {
            Ok(()) => None,
            Err(error) => {
                let failed = diverged(blank(first), error).with_context(|| words)?;
                failed.failure
            }
        };
        let training = began.elapsed();
        if failure.is_none() && training.as_secs_f64() > PATIENCE {
            self.say(&format!(
                "          {}  trained, now measured",
                self.plan.cell_words(first)
            ));
        }
        let mut records = Vec::with_capacity(cells.len());
        for cell in cells {
            let began = Instant::now();
            let record = CellRecord {
                failure: failure.clone(),
                ..blank(*cell)
            };
            let mut record = match &failure {
                Some(_) => record,
                None => self
                    .measure(&run, *cell, record.clone())
                    .or_else(|error| diverged(record, error))
                    .with_context(|| self.plan.cell_words(*cell))?,
            };
            record.seconds = (training + began.elapsed()).as_secs_f64();
            records.push(record);
        }
        if failure.is_none() {
            self.keep_states(&mut run);
        }
        Ok(records)
    }

    /// Measures a run as a cell's credit reads it.
    fn measure(&self, run: &Run, cell: Cell, record: CellRecord) -> Result<CellRecord> {
        let credit = self.plan.systems[cell.system].credit;
        let scorer = run.scorer_sharing(credit, &self.measured)?;
        Ok(wait(compare::assess_cell(
            record,
            &scorer,
            self.rows.validation.rows(),
            (self.rows.test.rows(), run.train_rows()),
            (
                &self.rows.checks,
                &self.plan.estimates,
                self.plan.config.resamples,
            ),
        ))?)
    }

    fn take_steps(&self, run: &mut Run, cell: Cell, last_loss: &mut Option<f64>) -> Result<()> {
        let (mut spoke, first) = (Instant::now(), run.steps_taken());
        let began = Instant::now();
        let save_steps = run.config().save_steps;
        while run.finished().is_none() {
            for event in wait(run.advance())? {
                if let Event::Step { metrics, .. } = event {
                    *last_loss = metrics.get("loss").copied();
                }
            }
            let step = run.steps_taken();
            let stop = self.interrupted.load(Ordering::SeqCst);
            let due = save_steps > 0 && step.is_multiple_of(save_steps);
            if run.finished().is_none() && (stop || due) {
                self.folder
                    .write(&self.partial(cell), &wait(run.checkpoint())?)?;
                if stop {
                    return Err(self.stopped());
                }
            }
            if spoke.elapsed().as_secs_f64() > PATIENCE {
                spoke = Instant::now();
                let rate = (step - first) as f64 / began.elapsed().as_secs_f64().max(1e-9);
                let steps = run.config().steps;
                self.say(&format!(
                    "          {}  step {step}/{steps}  {rate:.2} steps/s  {} left of this training",
                    self.plan.cell_words(cell),
                    duration((steps - step) as f64 / rate.max(1e-9))
                ));
            }
        }
        Ok(())
    }

    /// Goes on from the checkpoint that an interrupted call left. One that cannot be used is left aside: the training
    /// begins anew, which gives the same numbers.
    fn restore(&self, run: &mut Run, cell: Cell) {
        let path = self.folder.path().join(self.partial(cell));
        let Ok(bytes) = fs::read(&path) else {
            return;
        };
        match wait(run.restore(&bytes)) {
            Ok(_) => self.say(&format!(
                "resumed   {} after step {}",
                self.plan.cell_words(cell),
                run.steps_taken()
            )),
            Err(error) => say!("warning   {}: {error}; begun anew", path.display()),
        }
    }

    /// Gives a run the frozen trunk's states that an earlier one computed, where they are the same.
    fn hand_states(&mut self, run: &mut Run) {
        let key = run.frozen_key();
        let found = self
            .states
            .iter()
            .position(|states| Some(states.key()) == key.as_deref());
        if let Some(index) = found {
            run.use_frozen_states(self.states.remove(index));
        }
    }

    fn keep_states(&mut self, run: &mut Run) {
        if let Some(states) = run.take_frozen_states() {
            self.states.push(states);
            let extra = self.states.len().saturating_sub(KEPT_STATES);
            self.states.drain(..extra);
        }
    }
}

/// The record of a training that diverged; any other error as it is.
fn diverged(record: CellRecord, error: anyhow::Error) -> Result<CellRecord> {
    let error = match error.downcast::<TrainError>() {
        Ok(error) => error,
        Err(error) => match error.downcast::<CompareError>() {
            Ok(CompareError::Train { error, .. }) => error,
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    Ok(compare::failed_cell(record, error)?)
}
