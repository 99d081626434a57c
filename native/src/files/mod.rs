//! Files for the command: rows from JSON Lines, JSON and Parquet, gzipped or not. What a file holds is told by its
//! first bytes, so a wrong ending does no harm.

mod mapped;
mod parquet;

pub use mapped::{Bytes, map, map_safetensors};

use anyhow::{Context as _, Result, bail, ensure};
use avascope::data::{DataError, Problem, Rows, read_json_report, read_strict, read_values_report};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::Path;

/// Most bytes of one file, after decompression: 4 GiB. A gzip of a few megabytes can hold terabytes of zeros.
pub const MAX_BYTES: u64 = 4 << 30;

const GZIP: &[u8] = &[0x1F, 0x8B];
const PARQUET: &[u8] = b"PAR1";

/// Reads a whole file, decompressed where it is a gzip; `-` is standard input.
///
/// # Errors
/// When the file cannot be read, the gzip is damaged, or more than [`MAX_BYTES`] come out.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let name = shown(path);
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(open(path)?)
    };
    read_limited(reader, MAX_BYTES).with_context(|| format!("cannot read {name}"))
}

/// Reads preference pairs or demonstrations from `.jsonl`, `.json` (an array), either of them gzipped, or `.parquet`;
/// `-` is standard input.
///
/// # Errors
/// When the file cannot be read, or holds a row that is broken; the message names the place of the first.
pub fn read_rows(path: &Path) -> Result<Rows> {
    let (rows, problems) = read_rows_report(path)?;
    let mut errors = problems.into_iter().filter(is_error);
    match (errors.next(), rows) {
        (None, Some(rows)) => Ok(rows),
        (None, None) => bail!("{} holds no rows", shown(path)),
        (Some(first), _) => {
            let more = errors.count();
            let error = anyhow::Error::from(first);
            Err(if more == 0 {
                error
            } else {
                error.context(format!(
                    "{} broken rows (`avascope data check {}` lists them); the first",
                    more + 1,
                    shown(path)
                ))
            })
        }
    }
}

/// Whether a problem makes a file unusable. What a report leaves out is counted in an entry of its own, which may stand
/// for notes only: errors are always listed first.
pub fn is_error(problem: &DataError) -> bool {
    !problem.is_note() && !matches!(problem.problem, Problem::MoreErrors { .. })
}

/// [`read_rows`] that goes on after broken rows and hands back every error and note.
///
/// # Errors
/// Only when the file itself cannot be read.
pub fn read_rows_report(path: &Path) -> Result<(Option<Rows>, Vec<DataError>)> {
    Ok(match content(path)? {
        Content::Bytes(bytes) => read_json_report(&bytes, &shown(path)),
        Content::Table(values) => read_values_report(values, &shown(path)),
    })
}

/// Reads JSON objects with the line or row that each stands at: JSON Lines, a JSON array, or a Parquet table.
///
/// # Errors
/// When the file cannot be read, or a line is no JSON; the message names the line.
pub fn read_objects(path: &Path) -> Result<Vec<(usize, serde_json::Value)>> {
    let bytes = match content(path)? {
        Content::Table(values) => return Ok((1..).zip(values).collect()),
        Content::Bytes(bytes) => bytes,
    };
    let bad = |line: usize, error: avascope::data::StrictError| {
        anyhow::anyhow!("{}, line {line}: {error}", shown(path))
    };
    if bytes.trim_ascii_start().starts_with(b"[") {
        let value = read_strict(&bytes).map_err(|error| bad(error.error.line(), error))?;
        return Ok(match value {
            serde_json::Value::Array(values) => (1..).zip(values).collect(),
            value => vec![(1, value)],
        });
    }
    (1..)
        .zip(bytes.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| {
            let value = read_strict(line).map_err(|error| bad(at, error))?;
            Ok((at, value))
        })
        .collect()
}

enum Content {
    Bytes(Vec<u8>),
    Table(Vec<serde_json::Value>),
}

fn content(path: &Path) -> Result<Content> {
    // A pipe gives its bytes once: it is not looked into first.
    if path != Path::new("-") && path.is_file() {
        let mut file = open(path)?;
        let mut magic = Vec::new();
        Read::by_ref(&mut file)
            .take(PARQUET.len() as u64)
            .read_to_end(&mut magic)
            .with_context(|| format!("cannot read {}", shown(path)))?;
        if magic == PARQUET {
            file.rewind()
                .with_context(|| format!("cannot read {}", shown(path)))?;
            let values = parquet::read_values(file)
                .with_context(|| format!("cannot read {}", shown(path)))?;
            return Ok(Content::Table(values));
        }
    }
    let bytes = read_bytes(path)?;
    // Parquet is read from its end, which a pipe or a gzip does not offer.
    ensure!(
        !bytes.starts_with(PARQUET),
        "{} is Parquet inside a gzip or a pipe; save it as a plain .parquet file and give its path",
        shown(path)
    );
    Ok(Content::Bytes(bytes))
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".into()
    } else {
        path.display().to_string()
    }
}

fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("cannot open {}", shown(path)))?;
    let meta = file
        .metadata()
        .with_context(|| format!("cannot read {}", shown(path)))?;
    ensure!(
        !meta.is_dir(),
        "{} is a folder; give one of its files",
        shown(path)
    );
    Ok(file)
}

/// Reads all, a gzip decompressed, but never more than `limit` bytes.
fn read_limited(mut reader: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    Read::by_ref(&mut reader)
        .take(GZIP.len() as u64)
        .read_to_end(&mut head)?;
    let gzipped = head == GZIP;
    let whole = std::io::Cursor::new(head).chain(reader);
    let mut bytes = Vec::new();
    if gzipped {
        MultiGzDecoder::new(whole)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .context("the gzip is damaged or cut off; get the file again")?;
    } else {
        whole
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > limit {
        let state = if gzipped { " after decompression" } else { "" };
        bail!(
            "more than {limit} bytes{state}, the most that is read at once; split the file into smaller ones"
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
