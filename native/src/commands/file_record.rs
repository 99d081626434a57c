//! Files as `--json` names them: where they lie, their size, and the hash of their content.

use super::fetch::sha256_of;
use anyhow::{Context as _, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;

/// A file and what tells its content from others.
#[derive(Debug, PartialEq, Serialize)]
pub struct FileRecord {
    path: String,
    bytes: u64,
    sha256: String,
}

impl FileRecord {
    /// A file as it lies on the disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let found =
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            path: path.display().to_string(),
            bytes: found.len(),
            sha256: sha256_of(path)?,
        })
    }

    /// A file that was just written: a pipe cannot be read again.
    pub fn written(path: &Path, bytes: &[u8]) -> Self {
        Self {
            path: path.display().to_string(),
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        }
    }
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"hello\n").unwrap();
        let record = FileRecord::of(&path).unwrap();
        assert_eq!(record, FileRecord::written(&path, b"hello\n"));
        assert_eq!(record.bytes, 6);
        assert!(record.sha256.starts_with("5891b5b5"));
    }
}
