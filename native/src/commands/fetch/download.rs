//! One file over HTTP: what a broken download left is gone on with, and the whole is held against its hash.

use super::check_hash;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;

/// How often a download that breaks off goes on by itself, as long as each attempt brings something.
const ATTEMPTS: usize = 5;

/// A client that gives up where nobody answers: 30 s for a connection or an answer, 60 s between two pieces.
pub(super) fn client() -> Agent {
    let patience = Some(Duration::from_secs(30));
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(patience)
        .timeout_recv_response(patience)
        .timeout_per_read(Some(Duration::from_secs(60)))
        .user_agent(concat!("avascope/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Downloads `url` to a path: complete, with the SHA-256 that was asked for, or not at all. What came so far stays beside it
/// under `.partial`, and the next call begins behind it.
pub(super) fn download(client: &Agent, url: &str, to: &Path, sha256: Option<&str>) -> Result<()> {
    let partial = partial_of(to);
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let before = length(&partial);
        match piece(client, url, &partial) {
            Ok(()) => {
                if let Some(expected) = sha256 {
                    check_hash(&partial, expected)?;
                }
                return fs::rename(&partial, to)
                    .with_context(|| format!("cannot write {}", to.display()));
            }
            Err(Broken::Local(error)) => return Err(error),
            Err(Broken::Remote(error)) => last = Some(error),
        }
        // Nothing new came: asking again at once would not change that.
        if length(&partial) <= before {
            break;
        }
        say!(
            "note      {name} broke off after {} bytes and goes on",
            length(&partial)
        );
    }
    Err(exit::with_code(
        exit::DATA,
        format!(
            "{name} could not be downloaded whole: {}. {} bytes of it are kept; run the same command again to go on",
            last.unwrap_or_default(),
            length(&partial)
        ),
    ))
}

fn partial_of(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    partial.into()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Why a piece did not arrive.
enum Broken {
    /// The other side, or the way to it: asking again may help.
    Remote(String),
    /// This machine's disk.
    Local(anyhow::Error),
}

/// Asks for everything behind what is there, and appends it. An answer with the whole file begins anew.
fn piece(client: &Agent, url: &str, partial: &Path) -> Result<(), Broken> {
    let remote = |error: &dyn std::fmt::Display| Broken::Remote(error.to_string());
    let local = |error: std::io::Error| {
        Broken::Local(
            anyhow::Error::from(error).context(format!("cannot write {}", partial.display())),
        )
    };
    let have = length(partial);
    let mut answer = client
        .get(url)
        .header("Range", format!("bytes={have}-"))
        // The hash is that of the file as it lies there.
        .header("Accept-Encoding", "identity")
        .call()
        .map_err(|error| remote(&error))?;
    let range = answer.headers().get("content-range");
    let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
    let mut file = match answer.status() {
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("bytes {have}-")) => {
            let file = OpenOptions::new().create(true).append(true).open(partial);
            file.map_err(local)?
        }
        StatusCode::OK => File::create(partial).map_err(local)?,
        // Nothing lies behind what is there: it is whole, or it is not this file's.
        StatusCode::RANGE_NOT_SATISFIABLE if range == format!("bytes */{have}") => return Ok(()),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            fs::remove_file(partial).map_err(local)?;
            return Err(remote(&"the server gave another part than was asked for"));
        }
        status => return Err(remote(&format!("the server answers {status}"))),
    };
    let mut body = answer.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => file.write_all(&buffer[..n]).map_err(local)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                file.sync_all().map_err(local)?;
                return Err(remote(&error));
            }
        }
    }
    file.sync_all().map_err(local)
}
