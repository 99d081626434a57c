//! What can go wrong in a run, with the place and the way out.

use crate::objective::ObjectiveError;

/// Why a run cannot begin, go on or be resumed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is out of range.
    #[error("`{setting}` is {value}: {way_out}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        way_out: &'static str,
    },
    /// The method or one of its switches is unknown or out of range.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The credit is unknown or does not fit the run.
    #[error(transparent)]
    Credit(#[from] crate::credit::CreditError),
    /// Numbers that cannot be measured.
    #[error(transparent)]
    Eval(#[from] crate::eval::EvalError),
    /// A row cannot be used.
    #[error("line {line} (row {id}): {reason}")]
    Row {
        /// The row's id.
        id: String,
        /// Its line.
        line: usize,
        /// Why.
        reason: String,
    },
    /// The rows do not fit the method.
    #[error("{0}")]
    Rows(String),
    /// The vocabulary and the tokenizer disagree.
    #[error("{0}")]
    Vocabulary(String),
    /// A number left the range of f32. Nothing was saved after it.
    #[error(
        "{term} became {value} at step {step}{row}. {}", way_out(*step)
    )]
    NonFinite {
        /// The first term that is not finite.
        term: String,
        /// NaN or an infinity.
        value: f64,
        /// The step, counted from 1.
        step: usize,
        /// The row, where one can be named.
        row: String,
    },
    /// A token's reward is not a number.
    #[error(
        "a token reward of row {id} (line {line}) is not a finite number, with the weights of {checkpoint}: they left the range of f32. Use an earlier checkpoint, or train again with a lower learning rate"
    )]
    NonFiniteReward {
        /// The row's id.
        id: String,
        /// Its line.
        line: usize,
        /// What the weights are.
        checkpoint: String,
    },
    /// A checkpoint cannot be used.
    #[error("the checkpoint cannot be used: {0}")]
    Checkpoint(String),
    /// Ignorance cannot be estimated this way.
    #[error("ignorance: {0}")]
    Ignorance(String),
    /// The device failed.
    #[error("the device failed: {0}. Nothing was saved after the last checkpoint; resume from it")]
    Device(String),
}

/// What helps where a number left its range. At the first step no rate has moved anything yet.
fn way_out(step: usize) -> &'static str {
    match step {
        0 | 1 => {
            "Nothing had been learned by then, so no learning rate is at fault: begin again with milder switches of the method (`avascope methods` prints their defaults), or look at the rows and the model's own weights"
        }
        _ => {
            "Nothing was saved after the last good checkpoint: resume from it with a lower `learning_rate` or milder switches of the method, or, where there is none, begin again with them"
        }
    }
}
