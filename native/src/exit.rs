//! Exit codes: 0 fine, 1 below an asked threshold, 2 usage or configuration (a path that is not there, too), 3 data, 4
//! device, memory or a full disk, 130 interrupted after a good checkpoint.

use avascope::compare::CompareError;
use avascope::device::DeviceError;
use avascope::train::TrainError;
use avascope::world::GridError;
use avascope::world::birl::BirlError;
use avascope::world::d_shape::DShapeError;
use std::io::{self, ErrorKind};

/// A figure lies below the threshold that was asked for.
pub const BELOW_THRESHOLD: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// A file's content is wrong.
pub const DATA: u8 = 3;
/// The device or its memory failed, or the disk is full.
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

/// The code of an error, by the outermost cause that has one. A path that leads nowhere is a slip on the command line;
/// whatever else goes wrong with a file is the file's.
pub fn code_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of_cause).unwrap_or(DATA)
}

fn code_of_training(error: &TrainError) -> u8 {
    match error {
        TrainError::Setting { .. } | TrainError::Objective(_) | TrainError::Credit(_) => USAGE,
        TrainError::Device(_) => DEVICE,
        _ => DATA,
    }
}

/// A setting of a gridworld is on the command line; whatever else is wrong with one is its map's.
fn code_of_world(error: &GridError) -> u8 {
    match error {
        GridError::Setting { .. } => USAGE,
        _ => DATA,
    }
}

fn code_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(exit) = cause.downcast_ref::<Exit>() {
        return Some(exit.code);
    }
    if let Some(error) = cause.downcast_ref::<DeviceError>() {
        return Some(match error {
            DeviceError::Unknown { .. } => USAGE,
            _ => DEVICE,
        });
    }
    if let Some(error) = cause.downcast_ref::<TrainError>() {
        return Some(code_of_training(error));
    }
    if let Some(error) = cause.downcast_ref::<CompareError>() {
        return Some(match error {
            CompareError::Config(_) => USAGE,
            CompareError::Train { error, .. } => code_of_training(error),
            CompareError::Rows(_) | CompareError::Eval { .. } => DATA,
        });
    }
    if let Some(error) = cause.downcast_ref::<GridError>() {
        return Some(code_of_world(error));
    }
    match cause.downcast_ref::<BirlError>() {
        Some(BirlError::Grid(error)) => return Some(code_of_world(error)),
        Some(BirlError::Work { .. }) => return Some(USAGE),
        _ => {}
    }
    if let Some(DShapeError::Grid(error)) = cause.downcast_ref::<DShapeError>() {
        return Some(code_of_world(error));
    }
    let error = cause.downcast_ref::<io::Error>()?;
    Some(match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => USAGE,
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory => DEVICE,
        _ => DATA,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_code() {
        let code = |error: anyhow::Error| code_of(&error.context("outer words"));
        assert_eq!(code(with_code(BELOW_THRESHOLD, "x")), BELOW_THRESHOLD);
        assert_eq!(
            code(
                "gpuu"
                    .parse::<avascope::device::DeviceChoice>()
                    .unwrap_err()
                    .into()
            ),
            USAGE
        );
        assert_eq!(code(TrainError::Rows("x".into()).into()), DATA);
        assert_eq!(code(TrainError::Device("x".into()).into()), DEVICE);
        assert_eq!(code(io::Error::from(ErrorKind::NotFound).into()), USAGE);
        assert_eq!(code(io::Error::from(ErrorKind::StorageFull).into()), DEVICE);
        assert_eq!(
            code(io::Error::from(ErrorKind::FileTooLarge).into()),
            DEVICE
        );
        assert_eq!(code(anyhow::anyhow!("a damaged file")), DATA);
    }
}
