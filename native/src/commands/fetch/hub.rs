//! Models and data sets of the Hugging Face hub.
//!
//! The client keeps partial files and goes on where it stopped. It names each file of its cache by the hash that the hub gives
//! for it, and does not look whether the content has that hash; here every file is held against its name.

use super::{Fetched, cache_folder, check_hash, digest_of, sha256_of, target, wrong_hash};
use crate::args::FetchArgs;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use sha1::Sha1;
use std::fs;
use std::path::{Path, PathBuf};

/// What a model directory needs.
const MODEL_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "model.safetensors",
];

fn client() -> Result<Api> {
    ApiBuilder::from_env()
        .with_progress(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_retries(3)
        .build()
        .context("the Hugging Face client did not start")
}

/// One file of a data set: rows to train on.
pub(super) fn dataset_file(args: &FetchArgs, repository: &str, file: &str) -> Result<PathBuf> {
    let repo = client()?.repo(hf_hub::Repo::with_revision(
        repository.into(),
        hf_hub::RepoType::Dataset,
        args.revision.clone(),
    ));
    let cached = download(&repo, file, args.sha256.as_deref(), |error| {
        format!(
            "{repository} ({}) gave no `{file}`: {error}. Check the names, HF_TOKEN for a gated set, and HF_ENDPOINT for a mirror; run the same command again to go on",
            args.revision
        )
    })?;
    let folder = match &args.out {
        Some(out) => out.clone(),
        None => cache_folder()?
            .join("data")
            .join(repository.replace('/', "--")),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let to = folder.join(file.replace(['/', '\\'], "--"));
    place(&cached, &to)?;
    Ok(to)
}

/// A model's directory.
pub(super) fn model(args: &FetchArgs) -> Result<Fetched> {
    let repo = client()?.repo(hf_hub::Repo::with_revision(
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
    let wanted: Vec<&str> = info
        .siblings
        .iter()
        .map(|file| file.rfilename.as_str())
        .filter(|name| is_wanted(name))
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
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut files = Vec::new();
    for name in wanted {
        say!("{name}");
        let expected = args.sha256.as_deref();
        let expected = expected.filter(|_| name == "model.safetensors");
        let cached = download(&repo, name, expected, |error| {
            format!("{name}: {error}; run the same command again to go on")
        })?;
        let file = folder.join(name);
        place(&cached, &file)?;
        files.push(file);
    }
    Ok(Fetched {
        path: folder,
        files,
    })
}

/// Files of the model itself, in its own folder: a name that the hub gives must not lead anywhere else.
fn is_wanted(name: &str) -> bool {
    MODEL_FILES.contains(&name)
        || name.starts_with("model-")
            && name.ends_with(".safetensors")
            && !name.contains(['/', '\\'])
}

/// A file of the client's cache, downloaded where it is not there yet, with the hash that the hub and the person ask for. One
/// with another hash is taken out of the cache, so that fetching again really does so.
fn download(
    repo: &ApiRepo,
    name: &str,
    expected: Option<&str>,
    says: impl Fn(hf_hub::api::sync::ApiError) -> String,
) -> Result<PathBuf> {
    let pointer = repo
        .get(name)
        .map_err(|error| exit::with_code(exit::DATA, says(error)))?;
    let content =
        fs::canonicalize(&pointer).with_context(|| format!("cannot read {}", pointer.display()))?;
    check_content(&content, name)
        .and_then(|()| match expected {
            Some(expected) => check_hash(&content, expected),
            None => Ok(()),
        })
        .inspect_err(|_| {
            fs::remove_file(&content).ok();
            fs::remove_file(&pointer).ok();
        })?;
    Ok(content)
}

/// Holds a file of the cache against its name there: the SHA-256 of large files, Git's hash of small ones.
fn check_content(path: &Path, shown: &str) -> Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let is_hash = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (kind, found) = match name.len() {
        64 if is_hash => ("SHA-256", sha256_of(path)?),
        40 if is_hash => {
            let size = fs::metadata(path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .len();
            (
                "Git hash",
                digest_of::<Sha1>(path, &format!("blob {size}\0"))?,
            )
        }
        _ => {
            say!("note      {shown}: the hub gave no hash that its content could be held against");
            return Ok(());
        }
    };
    if found.eq_ignore_ascii_case(&name) {
        return Ok(());
    }
    Err(wrong_hash(Path::new(shown), kind, &found, &name))
}

/// Puts a file of the cache where the person wants it, without a second copy on the disk where the system allows that. A file
/// that is there with other content (of another revision, or changed by hand) is neither taken for the right one nor
/// written over.
fn place(content: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        let length = |path: &Path| fs::metadata(path).map(|file| file.len()).ok();
        if length(to) == length(content) && sha256_of(to)? == sha256_of(content)? {
            return Ok(());
        }
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} is there with other content than the hub's (another revision, or changed by hand); move it away, or choose another --out",
                to.display()
            ),
        ));
    }
    let failed = || format!("cannot write {}", to.display());
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let _ = fs::remove_file(&partial);
    if fs::hard_link(content, &partial).is_err() {
        fs::copy(content, &partial).with_context(failed)?;
    }
    fs::rename(&partial, to).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_folder_are_not_wanted() {
        for name in [
            "config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
        ] {
            assert!(is_wanted(name), "{name}");
        }
        for name in [
            "model-/../../../evil.safetensors",
            "model-\\..\\evil.safetensors",
            "onnx/model.safetensors",
            "pytorch_model.bin",
            "README.md",
        ] {
            assert!(!is_wanted(name), "{name}");
        }
    }

    #[test]
    fn a_file_is_put_in_place_once_and_another_one_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("old"), b"old").unwrap();
        fs::write(at("new"), b"new").unwrap();
        for _ in 0..2 {
            place(&at("old"), &at("here")).unwrap();
            assert_eq!(fs::read(at("here")).unwrap(), b"old");
        }
        let said = place(&at("new"), &at("here")).unwrap_err().to_string();
        assert!(said.contains("move it away"), "{said}");
        assert_eq!(fs::read(at("here")).unwrap(), b"old");
        assert!(!at("here.partial").exists());
    }
}
