//! Exit codes: 0 fine, 1 below an asked threshold, 2 usage or configuration, 3 data, 4 device or memory, 130 interrupted
//! after a good checkpoint.

use avascope::device::DeviceError;
use avascope::train::TrainError;

/// A figure lies below the threshold that was asked for.
pub const BELOW_THRESHOLD: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A file's content is wrong.
pub const DATA: u8 = 3;
/// The device or its memory failed.
pub const DEVICE: u8 = 4;
/// Ctrl-C, after a complete checkpoint.
pub const INTERRUPTED: u8 = 130;

/// An error that knows its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// The code.
    pub code: u8,
    /// What to tell the person.
    pub message: String,
}

/// An error with a code.
pub fn with_code(code: u8, message: impl Into<String>) -> anyhow::Error {
    Exit {
        code,
        message: message.into(),
    }
    .into()
}

/// The code of an error, by the innermost cause that has one.
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(exit) = cause.downcast_ref::<Exit>() {
            return exit.code;
        }
        if cause.is::<DeviceError>() {
            return DEVICE;
        }
        if let Some(error) = cause.downcast_ref::<TrainError>() {
            return match error {
                TrainError::Setting { .. } | TrainError::Objective(_) => USAGE,
                TrainError::Device(_) => DEVICE,
                _ => DATA,
            };
        }
        if cause.is::<avascope::data::DataError>()
            || cause.is::<avascope::model::ModelError>()
            || cause.is::<avascope::text::TextError>()
        {
            return DATA;
        }
    }
    USAGE
}
