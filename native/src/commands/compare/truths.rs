//! The truths of `[[truth]]`: their files are read and checked before anything is trained.

use super::super::truths::{check_file, read_data, ready, word_floor};
use anyhow::{Context as _, Result};
use avascope::compare::{Checks, CompareError, Plan};
use avascope::data::Rows;
use avascope::train::{EncodedRow, LoadedModel, Seen, TruthData};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The truths' own data, as read.
pub(super) struct Sources {
    /// One a truth, in the configuration's order.
    data: Vec<TruthData>,
    /// SHA-256 of each file, by its kind and a path that holds from any folder.
    digests: Map<String, Value>,
}

impl Sources {
    /// Reads the files; one that is not there is told before any is read.
    pub fn read(plan: &Plan) -> Result<Self> {
        let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
        for entry in &plan.config.truths {
            let asked = format!("`[[truth]]` of kind `{}`", entry.kind);
            check_file(path(&entry.file).as_deref(), &asked)?;
        }
        let mut sources = Self {
            data: Vec::new(),
            digests: Map::new(),
        };
        for (entry, truth) in plan.config.truths.iter().zip(&plan.truths) {
            let file = path(&entry.file);
            let (data, digest) = read_data(truth, file.as_deref())?;
            sources.data.push(data);
            if let Some((file, digest)) = file.zip(digest) {
                let place = std::path::absolute(&file).unwrap_or(file);
                let name = format!("{} on {}", entry.kind, place.display());
                sources.digests.insert(name, digest.into());
            }
        }
        Ok(sources)
    }

    /// Adds the files' digests to the comparison's identity. One without such files keeps the identity that it had before
    /// there were truths.
    pub fn identify(&self, identity: &mut Value) {
        if !self.digests.is_empty() {
            identity["files of truths"] = Value::Object(self.digests.clone());
        }
    }

    /// Makes the truths ready. `train` are the rows that methods train on, and `validation` those that tuned values are
    /// chosen on: an answer of theirs is asked of no map. `test` serve the truths that have no rows of their own.
    pub fn checks(
        self,
        plan: &Plan,
        model: &LoadedModel,
        train: &Rows,
        validation: &Rows,
        test: &[EncodedRow],
    ) -> Result<Checks> {
        let mut checks = Checks {
            resamples: plan.config.resamples,
            ..Checks::default()
        };
        if plan.truths.is_empty() {
            return Ok(checks);
        }
        let seen = match plan.tunes() {
            true => Seen::of(train).and_tuned_on(validation),
            false => Seen::of(train),
        };
        let encode = plan.config.train.encode_options(model);
        let entries = plan.config.truths.iter().zip(&plan.truths);
        for ((entry, truth), data) in entries.zip(self.data) {
            let words = || format!("`[[truth]]` {}", entry.words());
            let mut question =
                ready(truth, data, test, entry.limit, model, &encode).with_context(words)?;
            question.leave_out(&seen);
            if let Some(reason) = question.unanswerable() {
                return Err(CompareError::Rows(format!(
                    "{}: {reason}; bring other rows, or remove the truth",
                    words()
                ))
                .into());
            }
            checks.questions.push(question);
        }
        checks.words = word_floor(train);
        Ok(checks)
    }
}
