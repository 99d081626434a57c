//! A file's bytes without a copy of them in memory: what is only read once, such as a model's weights, is mapped.

use anyhow::{Context as _, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Deref;
use std::path::Path;

/// A file's bytes.
pub enum Bytes {
    /// In memory of their own.
    Read(Vec<u8>),
    /// Where the file lies: the system reads what is looked at, and may forget it again.
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Maps a file. What cannot be mapped (a pipe, an empty file, a file system without maps) is read.
///
/// # Errors
/// When the file cannot be read.
pub fn map(path: &Path) -> Result<Bytes> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    // SAFETY: the bytes are only read, and only as long as the map lives. Nothing keeps other programs from the file: one
    // that is cut while it is mapped ends the process, and one that is written over gives other numbers, as with every
    // loader of this kind. This program replaces files as a whole (`folder::write_atomic`), which leaves a map as it was.
    let mapped = unsafe { Mmap::map(&file) };
    match mapped {
        Ok(map) if !map.is_empty() => Ok(Bytes::Mapped(map)),
        _ => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).with_context(failed)?;
            Ok(Bytes::Read(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_mapped_and_stays_as_it_was_when_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, b"old").unwrap();
        let bytes = map(&path).unwrap();
        assert!(matches!(bytes, Bytes::Mapped(_)));
        assert_eq!(&*bytes, b"old");
        // A file that is mapped cannot be replaced on Windows.
        if cfg!(unix) {
            crate::folder::write_atomic(&path, b"another").unwrap();
            assert_eq!(&*bytes, b"old");
            assert_eq!(&*map(&path).unwrap(), b"another");
        }
    }

    #[test]
    fn what_cannot_be_mapped_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        fs::write(&path, b"").unwrap();
        assert!(map(&path).unwrap().is_empty());
        assert!(map(&folder.path().join("none")).is_err());
        assert!(map(folder.path()).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_gives_its_bytes_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::write(pipe, b"through").unwrap())
        };
        assert_eq!(&*map(&pipe).unwrap(), b"through");
        writer.join().unwrap();
    }
}
