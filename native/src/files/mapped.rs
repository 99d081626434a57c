//! A file's bytes without a copy of them in memory: what is only read once, such as a model's weights, is mapped.

use anyhow::{Context as _, Result};
use memmap2::Mmap;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
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
    map_or(path, |file, bytes| file.read_to_end(bytes).map(drop))
}

/// [`map`] of a safetensors file. What cannot be mapped is read no further than it says itself that it goes: a device may
/// never end. What is wrong with the bytes is for their reader to say.
///
/// # Errors
/// When the file cannot be read.
pub fn map_safetensors(path: &Path) -> Result<Bytes> {
    map_or(path, read_safetensors)
}

/// Longest header that is read: the reader of the format takes none that is longer.
const LONGEST_HEADER: u64 = 100_000_000;

/// Reads the length of the header, the header, and as many bytes as its tensors take; and one more where there is one, so
/// that a file that goes on behind its tensors is told from a whole one. Ends early where that makes no sense.
fn read_safetensors(from: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    Read::by_ref(from).take(8).read_to_end(bytes)?;
    let Ok(length) = <[u8; 8]>::try_from(bytes.as_slice()) else {
        return Ok(());
    };
    let length = u64::from_le_bytes(length);
    if length == 0 || length > LONGEST_HEADER {
        return Ok(());
    }
    Read::by_ref(from).take(length).read_to_end(bytes)?;
    let header = serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(&bytes[8..]);
    let Ok(header) = header else {
        return Ok(());
    };
    let ends = header
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let end = ends.max().unwrap_or(0);
    Read::by_ref(from)
        .take(end.saturating_add(1))
        .read_to_end(bytes)?;
    Ok(())
}

fn map_or(
    path: &Path,
    read: impl FnOnce(&mut File, &mut Vec<u8>) -> io::Result<()>,
) -> Result<Bytes> {
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
            read(&mut file, &mut bytes).with_context(failed)?;
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

    #[test]
    fn a_stream_is_read_as_far_as_its_header_says_and_one_byte_more() {
        let read = |start: &[u8]| {
            let mut bytes = Vec::new();
            let mut endless = start.chain(io::repeat(0));
            read_safetensors(&mut endless, &mut bytes).unwrap();
            bytes.len()
        };
        assert_eq!(read(b""), 8);
        assert_eq!(read(&[255; 8]), 8);
        let file = |header: &str| {
            let length = header.len() as u64;
            [&length.to_le_bytes()[..], header.as_bytes()].concat()
        };
        assert_eq!(read(&file("no header")), 17);
        assert_eq!(read(&file("{} ")), 12);
        let header = r#"{"__metadata__":{"a":"b"},"t":{"dtype":"F32","shape":[3],"data_offsets":[8,20]},"u":{"data_offsets":[0,8]}}"#;
        assert_eq!(read(&file(header)), 8 + header.len() + 20 + 1);
        // One that ends before that is cut there.
        let mut bytes = Vec::new();
        read_safetensors(&mut &file(header)[..30], &mut bytes).unwrap();
        assert_eq!(bytes.len(), 30);
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
