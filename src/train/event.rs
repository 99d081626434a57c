//! Training speaks in typed events. The page, the terminal and the log file are three listeners of the same events.

use super::TrainError;
pub use crate::device::DeviceInfo;
use crate::reward::TokenRewardRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Metric names (TRL's, and ours under `ava/`) to values. A metric that is undefined is absent.
pub type Metrics = BTreeMap<String, f64>;

/// What a run is, said once at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct RunInfo {
    /// The method's name.
    pub method: String,
    /// The model's name.
    pub model: String,
    /// The reference policy, where it is another model than this one before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub reference: Option<String>,
    /// The device.
    pub device: DeviceInfo,
    /// All parameters, heads included.
    pub parameters: usize,
    /// Those that train.
    pub trainable_parameters: usize,
    /// Rows that train.
    pub train_rows: usize,
    /// Rows held out by hash.
    pub held_out_rows: usize,
    /// Optimiser steps planned.
    pub total_steps: usize,
    /// Rows cut to fit the context.
    pub truncated_rows: usize,
    /// The seed.
    pub seed: u64,
    /// SHA-256 over the rows' content.
    pub data_fingerprint: String,
    /// What deserves attention before training, each with its reason.
    pub warnings: Vec<String>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// All planned steps were taken.
    Completed,
    /// The held-out metric stopped improving.
    EarlyStop,
    /// A person stopped it.
    Stopped,
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "snake_case")]
// The large variant is sent once a run: a box would save nothing and burden every reader.
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// A run begins, or goes on from `step`.
    Started {
        /// Steps already taken.
        step: usize,
        /// What the run is.
        run: RunInfo,
    },
    /// An optimiser step was taken.
    Step {
        /// Steps taken so far.
        step: usize,
        /// Steps planned.
        total_steps: usize,
        /// Its metrics.
        #[cfg_attr(test, ts(type = "Record<string, number>"))]
        metrics: Metrics,
    },
    /// Held-out rows were scored.
    Evaluation {
        /// Steps taken so far.
        step: usize,
        /// Metrics under `eval_`.
        #[cfg_attr(test, ts(type = "Record<string, number>"))]
        metrics: Metrics,
    },
    /// The watched row's tokens, with their rewards at this moment.
    Tokens {
        /// Steps taken so far.
        step: usize,
        /// One record an answer.
        records: Vec<TokenRewardRecord>,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// Steps taken so far.
        step: usize,
        /// Its name.
        name: String,
    },
    /// A number left the range of f32: with the weights as they are now the run cannot go on.
    Failed {
        /// The step that it was seen at, counted from 1.
        step: usize,
        /// The first term that is not finite.
        term: String,
        /// Where it was first seen, in words.
        row: String,
        /// What happened, and the way out.
        message: String,
    },
    /// The run ended.
    Finished {
        /// Steps taken.
        step: usize,
        /// Why.
        reason: FinishReason,
    },
}

impl Event {
    /// What a run of `step` taken steps tells of an error of its numbers. Other errors (of the device, say) leave its weights
    /// as they were, and are no event of the run.
    pub fn failed(error: &TrainError, step: usize) -> Option<Self> {
        let message = error.to_string();
        match error {
            TrainError::NonFinite {
                term, step, row, ..
            } => Some(Self::Failed {
                step: *step,
                term: term.clone(),
                // There it goes on from the sentence before.
                row: row.trim_start_matches(", ").into(),
                message,
            }),
            TrainError::NonFiniteReward { id, line, .. } => Some(Self::Failed {
                step,
                term: "token reward".into(),
                row: format!("row {id} (line {line})"),
                message,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_out_of_range_are_an_event_of_the_run() {
        let error = TrainError::NonFinite {
            term: "loss".into(),
            value: f64::NAN,
            step: 7,
            row: ", first seen in the reward of row a (line 2), step 3 of its answer".into(),
        };
        let event = Event::failed(&error, 6).expect("an event");
        assert!(matches!(
            &event,
            Event::Failed { step: 7, term, row, .. } if term == "loss" && row.starts_with("first seen")
        ));
        // It fits in the log, where JSON has no word for a NaN.
        let line = serde_json::to_string(&event).expect("JSON");
        assert!(line.starts_with(r#"{"type":"failed","step":7"#), "{line}");
        let read: Event = serde_json::from_str(&line).expect("an event");
        assert_eq!(read, event);

        let error = TrainError::NonFiniteReward {
            id: "b".into(),
            line: 4,
            checkpoint: "step 6 of 9, seed 0".into(),
        };
        assert!(matches!(
            Event::failed(&error, 6),
            Some(Event::Failed { step: 6, row, .. }) if row == "row b (line 4)"
        ));
        assert_eq!(Event::failed(&TrainError::Device("gone".into()), 6), None);
    }
}
