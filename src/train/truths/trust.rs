//! What a map passed, kept beside its checkpoint and bound to the checkpoint's content.
//!
//! A map is `checked` when it passed every truth that it was held against, at least one of them with people's labels
//! (edits, spans, steps or lexicon); else it is `exploratory`. Interventions alone show that a map agrees with its own
//! model, which for sums of token rewards is partly built in: they can take the word away and not give it. Another
//! checkpoint, or another credit, is another map.

use super::{Truth, TruthResult};
use crate::reward::Trust;
use serde::{Deserialize, Serialize};

/// The schema's name and version, the first field of the file.
pub const TRUST_SCHEMA: &str = "avascope.trust/1";

/// One map against one truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustEntry {
    /// [`crate::train::checkpoint_digest`] of the checkpoint.
    pub checkpoint: String,
    /// The credit by which it was read.
    pub credit: String,
    /// The truth's data: the name, and what tells them from others of that name (content, most rows, what was drawn).
    pub data: String,
    /// What was found.
    pub result: TruthResult,
}

/// The results of a run's checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustFile {
    /// [`TRUST_SCHEMA`].
    pub schema: String,
    /// The results, in the order in which they were found.
    pub entries: Vec<TrustEntry>,
}

impl Default for TrustFile {
    fn default() -> Self {
        Self {
            schema: TRUST_SCHEMA.into(),
            entries: Vec::new(),
        }
    }
}

/// What the results say of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How far it may be trusted.
    pub trust: Trust,
    /// The truths that it passed, in words; empty unless it is checked.
    pub checked: Vec<String>,
    /// The truths that it did not pass, in words.
    pub failed: Vec<String>,
    /// The truths that too few answers bear on: they count neither way.
    pub undecided: Vec<String>,
}

impl TrustFile {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.schema != TRUST_SCHEMA {
            return Err(format!(
                "it is `{}`, and this program reads `{TRUST_SCHEMA}`",
                file.schema
            ));
        }
        Ok(file)
    }

    /// The file as text.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Adds a result; one of the same map, truth and data is replaced, which is why `data` names the content and the draw:
    /// a kinder one must stand beside an old failure, not over it.
    pub fn add(&mut self, entry: TrustEntry) {
        self.entries.retain(|old| {
            old.checkpoint != entry.checkpoint
                || old.credit != entry.credit
                || old.data != entry.data
                || old.result.truth != entry.result.truth
        });
        self.entries.push(entry);
    }

    /// What the results say of the map of `checkpoint` (its digest) by `credit`. Whether a result passed is decided here
    /// again from its figures, not taken from the file's word.
    pub fn verdict(&self, checkpoint: &str, credit: &str) -> Verdict {
        let (mut checked, mut failed, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
        let mut labelled = false;
        let entries = self.entries.iter();
        for entry in entries.filter(|e| e.checkpoint == checkpoint && e.credit == credit) {
            let words = sentence(entry);
            if entry.result.undecided() {
                undecided.push(words);
                continue;
            }
            match entry.result.passes() {
                true => {
                    checked.push(words);
                    labelled |= Truth::is_labelled(&entry.result.truth);
                }
                false => failed.push(words),
            }
        }
        let trust = match labelled && failed.is_empty() {
            true => Trust::Checked,
            false => Trust::Exploratory,
        };
        if trust == Trust::Exploratory {
            checked.clear();
        }
        Verdict {
            trust,
            checked,
            failed,
            undecided,
        }
    }
}

fn sentence(entry: &TrustEntry) -> String {
    let figure = entry.result.main().map_or_else(String::new, |figure| {
        format!(", {} {}", figure.name, figure.metric)
    });
    format!("{} on {}{figure}", entry.result.truth, entry.data)
}
