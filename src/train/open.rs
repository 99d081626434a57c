//! A model with its tokenizer from the bytes of its files, for page and command alike.

use super::TrainError;
use super::run::LoadedModel;
use crate::model::{self, Decoder, ModelError, gguf, huggingface, llama2c};
use crate::text::TextTokenizer;
use burn::tensor::Device;
use std::collections::BTreeMap;

/// Files by name (without folders), as opened from a directory, a file picker or a drop.
pub type Files<'a> = BTreeMap<String, &'a [u8]>;

/// Why files are not a model.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing that looks like a model.
    #[error(
        "no model among {found:?}: give one .gguf file, a llama2.c .bin file with its tokenizer .bin, or a directory's config.json, model.safetensors (or its shards and index) and tokenizer.json"
    )]
    NoModel {
        /// The files that were given.
        found: Vec<String>,
    },
    /// More than one file that could be meant.
    #[error("several {what}: {}; give one of them alone", found.join(", "))]
    Several {
        /// What they are.
        what: &'static str,
        /// Their names.
        found: Vec<String>,
    },
    /// A llama2.c model and a tokenizer that is not its own.
    #[error("{model} with {tokenizer}: {error}")]
    Pair {
        /// The model's file.
        model: String,
        /// The tokenizer's file.
        tokenizer: String,
        /// What does not fit.
        error: Box<crate::text::TextError>,
    },
    /// A file is missing.
    #[error("`{missing}` is missing beside {found:?}")]
    Missing {
        /// The file.
        missing: &'static str,
        /// The files that were given.
        found: Vec<String>,
    },
    /// The model's own files are wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer's files are wrong.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// Vocabulary and tokenizer disagree.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Opens whatever `files` hold: one GGUF, a llama2.c pair, or a Hugging Face directory.
pub fn open_model(
    name: &str,
    files: &Files<'_>,
    device: &Device,
) -> Result<LoadedModel, OpenError> {
    let found = || files.keys().cloned().collect::<Vec<_>>();
    let file = |wanted: &'static str| {
        files
            .get(wanted)
            .copied()
            .ok_or_else(|| OpenError::Missing {
                missing: wanted,
                found: found(),
            })
    };
    let (decoder, tokenizer) =
        if let Some((_, bytes)) = one_of("GGUF models", files, |name| name.ends_with(".gguf"))? {
            let file = gguf::Gguf::parse(bytes)?;
            let opened = file.decoder(device)?;
            let tokenizer = match files.get("tokenizer.json") {
                Some(json) => {
                    TextTokenizer::from_hf(json, files.get("tokenizer_config.json").copied(), None)?
                }
                None => TextTokenizer::from_gguf(&file.metadata)?,
            };
            (opened, tokenizer)
        } else if files.contains_key("config.json") {
            let decoder = open_hugging_face(files, device)?;
            let template = files
                .get("chat_template.jinja")
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let tokenizer = TextTokenizer::from_hf(
                file("tokenizer.json")?,
                files.get("tokenizer_config.json").copied(),
                template.as_deref(),
            )?;
            (decoder, tokenizer)
        } else if let Some(((model, weights), (tokenizer, tokens))) = llama2c_pair(files)? {
            let decoder = llama2c::load(weights, device)?;
            let read = TextTokenizer::from_llama2c(tokens, decoder.config.vocab_size);
            let tokenizer = read.map_err(|error| OpenError::Pair {
                model: model.into(),
                tokenizer: tokenizer.into(),
                error: Box::new(error),
            })?;
            (decoder, tokenizer)
        } else {
            return Err(OpenError::NoModel { found: found() });
        };
    if tokenizer.vocab_size() > decoder.config.vocab_size {
        return Err(TrainError::Vocabulary(format!(
            "the tokenizer of `{name}` has {} entries and the model's embedding {}: they belong to different models",
            tokenizer.vocab_size(),
            decoder.config.vocab_size
        ))
        .into());
    }
    Ok(LoadedModel {
        name: name.into(),
        decoder,
        tokenizer,
        reference: None,
    })
}

fn open_hugging_face(files: &Files<'_>, device: &Device) -> Result<Decoder, OpenError> {
    let found = || files.keys().cloned().collect::<Vec<_>>();
    let config = files
        .get("config.json")
        .copied()
        .ok_or_else(|| OpenError::Missing {
            missing: "config.json",
            found: found(),
        })?;
    let mut decoder = match (
        files.get("model.safetensors"),
        files.get("model.safetensors.index.json"),
    ) {
        (Some(weights), _) => huggingface::load(config, weights, device)?,
        (None, Some(index)) => huggingface::load_sharded(config, index, files, device)?,
        (None, None) => {
            return Err(OpenError::Missing {
                missing: "model.safetensors",
                found: found(),
            });
        }
    };
    if let (Some(config), Some(weights)) = (
        files.get("adapter_config.json"),
        files.get("adapter_model.safetensors"),
    ) {
        decoder.lora = Some(model::Lora::load(&decoder.config, config, weights, device)?);
    }
    Ok(decoder)
}

/// A file with its name.
type Named<'a> = (&'a str, &'a [u8]);

/// The one file whose name, in small letters, is of a kind; `None` where there is none.
fn one_of<'a>(
    what: &'static str,
    files: &'a Files<'_>,
    is: impl Fn(&str) -> bool,
) -> Result<Option<Named<'a>>, OpenError> {
    let mut found = files.iter().filter(|(name, _)| is(&name.to_lowercase()));
    let Some((name, bytes)) = found.next() else {
        return Ok(None);
    };
    let others: Vec<String> = found.map(|(name, _)| name.clone()).collect();
    if others.is_empty() {
        return Ok(Some((name, bytes)));
    }
    Err(OpenError::Several {
        what,
        found: std::iter::once(name.clone()).chain(others).collect(),
    })
}

/// A llama2.c model and its tokenizer: of two .bin files the one called `tok...` is the tokenizer.
fn llama2c_pair<'a>(files: &'a Files<'_>) -> Result<Option<(Named<'a>, Named<'a>)>, OpenError> {
    let of = |what, tokenizer: bool| {
        one_of(what, files, |name| {
            name.ends_with(".bin") && name.starts_with("tok") == tokenizer
        })
    };
    let model = of("llama2.c models", false)?;
    let tokenizer = of("llama2.c tokenizers", true)?;
    Ok(model.zip(tokenizer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_files_could_be_meant_both_are_named() {
        let device = Device::flex();
        let said = |names: &[&str]| {
            let files: Files<'_> = (names.iter())
                .map(|name| (name.to_string(), &b"x"[..]))
                .collect();
            match open_model("x", &files, &device) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        for (names, part) in [
            (
                &["a.gguf", "B.GGUF"][..],
                "several GGUF models: B.GGUF, a.gguf; give one",
            ),
            (
                &["a.bin", "b.bin", "tok.bin"],
                "several llama2.c models: a.bin, b.bin",
            ),
            (
                &["a.bin", "tok105.bin", "tokenizer.bin"],
                "several llama2.c tokenizers: tok105.bin, tokenizer.bin",
            ),
            (&["a.bin", "tokenizer.json"], "no model among"),
        ] {
            let found = said(names);
            assert!(found.contains(part), "{found}");
        }
    }
}
