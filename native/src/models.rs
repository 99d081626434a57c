//! Models named on the command line: the built-in one, a directory, a GGUF or a llama2.c file.

use crate::exit;
use crate::files::{Bytes, map};
use anyhow::{Context as _, Result};
use avascope::device::OpenDevice;
use avascope::train::{Files, LoadedModel, OpenError, describe_checkpoint, open_model};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the built-in world's model and rows.
pub const WORLD: &str = "world";
/// What the built-in model is called in records and checkpoints, the page's among them.
pub const WORLD_MODEL: &str = "world decoder";

/// Opens a model. `source` is `world`, a directory or a file.
pub fn open(source: &str, tokenizer: Option<&Path>, device: &OpenDevice) -> Result<LoadedModel> {
    if source == WORLD {
        if let Some(tokenizer) = tokenizer {
            return Err(misplaced(
                tokenizer,
                "the built-in model `world` has a vocabulary of its own",
            ));
        }
        return avascope::train::world_model(&device.device)
            .map_err(|error| exit::with_code(exit::DATA, format!("{source}: {error}")));
    }
    let path = Path::new(source);
    let mut paths = Vec::new();
    if path.is_dir() {
        if path.join("run.toml").is_file() && !path.join("config.json").is_file() {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "{source} is a run and no model: {source}/final is the model that it trained in full, and `avascope convert {source} FOLDER` makes a model of any run"
                ),
            ));
        }
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {source}"))? {
            paths.push(entry?.path());
        }
        paths.retain(|path| path.is_file() && is_model_file(path));
    } else if path.is_file() {
        paths.push(path.to_path_buf());
        if is_bin(path) && tokenizer.is_none() {
            paths.extend(tokenizers_beside(path));
        }
    } else if path.exists() {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{source} is no plain file and no folder, and a model is looked into more than once: save what comes through it as a file, and name that"
            ),
        ));
    } else {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "there is no model at `{source}`; use `world`, a Hugging Face directory, a .gguf file or a llama2.c .bin file (`avascope fetch smollm2` downloads one)"
            ),
        ));
    }
    let has = |name: &str| paths.iter().any(|path| file_name(path) == name);
    if has("adapter_config.json") && !has("config.json") {
        return Err(exit::with_code(
            exit::DATA,
            format!(
                "{source} holds an adapter and no model: put it beside the files of the model it was trained on, or use `avascope convert RUN FOLDER`, which adds an adapter into its model"
            ),
        ));
    }
    let mut contents: BTreeMap<String, Bytes> = BTreeMap::new();
    for path in &paths {
        contents.insert(file_name(path), bytes_of(path)?);
    }
    if let Some(path) = tokenizer {
        let bytes = read(path)?;
        let name = if is_bin(path) {
            if !paths.iter().any(|path| is_bin(path)) {
                return Err(misplaced(
                    path,
                    &format!(
                        "a .bin tokenizer goes with a llama2.c .bin model, and {source} is none"
                    ),
                ));
            }
            // In place of those that lie beside the model, under a name that says what it is.
            contents.retain(|name, _| !is_tokenizer_bin(name));
            format!("tokenizer {}", file_name(path))
        } else if bytes.trim_ascii_start().starts_with(b"{") {
            "tokenizer.json".into()
        } else {
            return Err(misplaced(
                path,
                "it is neither a llama2.c tokenizer (.bin) nor a tokenizer.json",
            ));
        };
        contents.insert(name, Bytes::Read(bytes));
    }
    let files: Files<'_> = contents
        .iter()
        .map(|(name, bytes)| (name.clone(), &**bytes))
        .collect();
    let name = path
        .file_name()
        .map_or_else(|| source.into(), |n| n.to_string_lossy().into_owned());
    open_model(&name, &files, &device.device).map_err(|error| {
        let way_out = match error {
            OpenError::Several { .. } if tokenizer.is_none() => {
                ": name the model's own file with --model, and a llama2.c model's tokenizer with --tokenizer"
            }
            OpenError::NoModel { .. }
                if path.is_file() && files.values().any(|bytes| is_checkpoint(bytes)) =>
            {
                return exit::with_code(
                    exit::DATA,
                    format!(
                        "{source} is a checkpoint and no model: `avascope score`, `eval` and `inspect` take it as it is, `avascope train --resume-from {source}` goes on from it, and `avascope convert RUN FOLDER` makes a model of its run's folder"
                    ),
                );
            }
            _ => "",
        };
        exit::with_code(exit::DATA, format!("{source}: {error}{way_out}"))
    })
}

/// Opens a model, and the one whose policy it is held against where one is named: with its own tokenizer, except where both
/// are llama2.c files, whose tokenizer is a file beside them.
pub fn open_with_reference(
    source: &str,
    tokenizer: Option<&Path>,
    reference: Option<&str>,
    device: &OpenDevice,
) -> Result<LoadedModel> {
    let model = open(source, tokenizer, device)?;
    let Some(reference) = reference else {
        return Ok(model);
    };
    let tokenizer = tokenizer.filter(|path| is_bin(path) && is_bin(Path::new(reference)));
    let mut other = open(reference, tokenizer, device).with_context(|| "the reference policy")?;
    // The last part of a path is `final` for every run.
    other.name = reference.into();
    model
        .with_reference(other)
        .map_err(|error| exit::with_code(exit::DATA, format!("--reference {reference}: {error}")))
}

/// Whether bytes are a checkpoint of this program.
fn is_checkpoint(bytes: &[u8]) -> bool {
    describe_checkpoint(bytes).is_ok()
}

/// A tokenizer that would not be read.
fn misplaced(tokenizer: &Path, why: &str) -> anyhow::Error {
    exit::with_code(
        exit::USAGE,
        format!(
            "--tokenizer {}: {why}; leave --tokenizer out, or name one that fits the model",
            tokenizer.display()
        ),
    )
}

fn is_model_file(path: &Path) -> bool {
    let name = file_name(path);
    let named = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "adapter_config.json",
        "model.safetensors.index.json",
    ];
    named.contains(&name.as_str())
        || name.ends_with(".safetensors")
            && !name.starts_with("reward_head")
            && !name.starts_with("optimizer")
        || name.ends_with(".gguf")
        || name.ends_with(".bin") && !name.starts_with("pytorch_model")
}

/// The llama2.c tokenizers that lie beside a model's file.
fn tokenizers_beside(model: &Path) -> Vec<PathBuf> {
    let folder = model
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_tokenizer_bin(&file_name(path)) && file_name(path) != file_name(model))
        .collect()
}

fn is_bin(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "bin")
}

fn is_tokenizer_bin(name: &str) -> bool {
    name.to_lowercase().starts_with("tok") && name.ends_with(".bin")
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file of a model. Weights are mapped, so that they are never in memory twice, as the file has them and as the model has
/// them; the other files are small.
fn bytes_of(path: &Path) -> Result<Bytes> {
    let of_weights = ["safetensors", "gguf", "bin"];
    match path.extension() {
        Some(end) if of_weights.iter().any(|of| end.eq_ignore_ascii_case(of)) => map(path),
        _ => Ok(Bytes::Read(read(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_mapped_and_small_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mapped) in [
            ("model.safetensors", true),
            ("a.gguf", true),
            ("B.GGUF", true),
            ("stories.bin", true),
            ("config.json", false),
            ("chat_template.jinja", false),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            let bytes = bytes_of(&path).unwrap();
            assert_eq!(matches!(bytes, Bytes::Mapped(_)), mapped, "{name}");
            assert_eq!(&*bytes, name.as_bytes());
        }
    }

    #[test]
    fn the_built_in_model_has_the_name_that_its_checkpoints_carry() {
        let device = crate::commands::open_device("cpu").unwrap();
        assert_eq!(open(WORLD, None, &device).unwrap().name, WORLD_MODEL);
    }
}
