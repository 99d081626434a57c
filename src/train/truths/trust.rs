//! What a map passed, kept beside its checkpoint and bound to the checkpoint's content.
//!
//! A map is `checked` when it passed every truth that it was held against, at least one of them with people's labels
//! (edits, spans, steps or lexicon); else it is `exploratory`. Interventions alone show that a map agrees with its own
//! model, which for sums of token rewards is partly built in: they can take the word away and not give it. Another
//! checkpoint, or another credit, is another map.

use super::{TRUTHS, Truth, TruthKind, TruthResult};
use crate::objective::Objective;
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
    /// The truths that too few answers bear on, or that have no say on such a map: they count neither way.
    pub undecided: Vec<String>,
}

impl TruthResult {
    /// Whether the map passed; `None` where the truth says neither, because too few answers bear on it or no figure decides.
    pub fn says(&self) -> Option<bool> {
        (self.decides() && !self.undecided()).then(|| self.passes())
    }

    /// The same as it counts for a map that `objective` trained: where a method learns from labels of the truth's own kind, the
    /// figures are shown and decide nothing, since they say how well it learned those.
    #[must_use]
    pub fn for_map_of(mut self, objective: &dyn Objective) -> Self {
        let of_edits = |truth: &Truth| truth.name == self.truth && truth.kind == TruthKind::Edits;
        let learned = objective.needs_edit_labels() && TRUTHS.iter().any(of_edits);
        if !learned || !self.decides() {
            return self;
        }
        for figure in &mut self.figures {
            figure.decides = false;
        }
        self.notes.push(format!(
            "`{}` learns from what was edited between two answers, which is what this truth asks for: it decides nothing of such a map",
            objective.name()
        ));
        self.passed = self.passes();
        self
    }

    fn decides(&self) -> bool {
        self.figures.iter().any(|figure| figure.decides)
    }
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
            match entry.result.says() {
                Some(true) => {
                    checked.push(words);
                    labelled |= Truth::is_labelled(&entry.result.truth);
                }
                Some(false) => failed.push(words),
                None => undecided.push(words),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Interval, Metric};
    use crate::objective::build;
    use crate::train::{Floor, TruthFigure};

    /// A result that passed by a single figure.
    fn passed(truth: &str, answers: usize) -> TruthResult {
        let interval = Interval {
            low: 0.8,
            high: 0.9,
            level: 0.95,
        };
        let metric = Metric::of(0.85).with_interval(Some(interval));
        let floors = vec![Floor::new("chance", Metric::of(0.5))];
        let figure = TruthFigure::deciding("token AUC", metric, floors);
        TruthResult::new(truth, vec![figure], answers, 60, Vec::new())
    }

    #[test]
    fn edits_decide_nothing_of_a_map_that_was_trained_on_edits() {
        let of = |method: &str, truth: &str| {
            let objective = build(method, &serde_json::Value::Null).expect("a method");
            passed(truth, 20).for_map_of(objective.as_ref())
        };
        for (method, truth, says) in [
            ("fine_grained", "edits", None),
            ("fine_grained", "spans", Some(true)),
            ("ava_p", "edits", Some(true)),
        ] {
            assert_eq!(of(method, truth).says(), says, "{method} {truth}");
        }
        assert_eq!(passed("spans", 9).says(), None);
        let own = of("fine_grained", "edits");
        // The figure is shown as it is, with the reason.
        assert_eq!(own.figures[0].metric.value, Some(0.85));
        assert!(!own.passed && own.notes[0].contains("`fine_grained` learns from what was edited"));
        let objective = build("fine_grained", &serde_json::Value::Null).expect("a method");
        assert_eq!(own.clone().for_map_of(objective.as_ref()), own);

        let mut file = TrustFile::default();
        let mut add = |result: TruthResult| {
            file.add(TrustEntry {
                checkpoint: "a".into(),
                credit: "own".into(),
                data: result.truth.clone(),
                result,
            });
            file.verdict("a", "own")
        };
        let verdict = add(own);
        assert_eq!(verdict.trust, Trust::Exploratory);
        assert_eq!((verdict.failed.len(), verdict.undecided.len()), (0, 1));
        // It does not stand in the way of another truth either.
        assert_eq!(add(passed("spans", 20)).trust, Trust::Checked);
    }
}
