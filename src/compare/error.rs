//! What can go wrong in a comparison, with the place and the way out.

use crate::eval::EvalError;
use crate::train::TrainError;

/// Why a comparison cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The rows cannot carry the comparison.
    #[error("{0}")]
    Rows(String),
    /// A method or its settings are wrong, or its training failed in a way that is not the method's.
    #[error("{place}: {error}")]
    Train {
        /// Which system.
        place: String,
        /// Why.
        error: TrainError,
    },
    /// Numbers that should be measured are malformed.
    #[error("{place}: {error}")]
    Eval {
        /// Which system.
        place: String,
        /// Why.
        error: EvalError,
    },
}

/// The error of a configuration that is wrong.
pub(super) fn wrong<T>(message: impl Into<String>) -> Result<T, CompareError> {
    Err(CompareError::Config(message.into()))
}
