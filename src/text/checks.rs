//! Looks through a `tokenizer.json` before the tokenizers crate does: that crate takes some malformed files and then
//! panics when it is used, and a file from outside must not do that.

use super::TextError;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const FILE: &str = "tokenizer.json";

/// The parts that are looked at. Vocabulary and merges, nearly all of the file, are passed over.
#[derive(Deserialize)]
struct Probe {
    model: ModelProbe,
    added_tokens: Option<Vec<AddedProbe>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct ModelProbe {
    #[serde(rename = "type")]
    kind: Option<String>,
    continuing_subword_prefix: Option<String>,
}

/// An entry of `added_tokens`: its id is a claim that the built tokenizer is compared with.
#[derive(Deserialize)]
pub(super) struct AddedProbe {
    pub(super) id: u32,
    pub(super) content: String,
}

#[derive(Deserialize)]
struct TemplateProbe {
    #[serde(default)]
    single: Vec<BTreeMap<String, PieceProbe>>,
    #[serde(default)]
    special_tokens: BTreeMap<String, SpecialProbe>,
}

#[derive(Deserialize)]
struct PieceProbe {
    id: String,
}

#[derive(Deserialize)]
struct SpecialProbe {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

fn broken(reason: impl ToString) -> TextError {
    TextError::Broken {
        file: FILE,
        reason: reason.to_string(),
    }
}

/// The `added_tokens` of the file, if the tokenizers crate can be trusted with it.
pub(super) fn check_tokenizer_json(bytes: &[u8]) -> Result<Vec<AddedProbe>, TextError> {
    let probe: Probe = serde_json::from_slice(bytes).map_err(broken)?;
    // A prefix is cut off every merged token by byte count, whether the token has it or not.
    if probe
        .model
        .continuing_subword_prefix
        .is_some_and(|p| !p.is_empty())
        && probe.model.kind.as_deref() != Some("WordPiece")
    {
        return Err(TextError::Unsupported {
            what: "a continuing_subword_prefix".into(),
            supported: "BPE vocabularies without one",
        });
    }
    walk(&probe.normalizer, "normalizers", &|kind, _| match kind {
        // The compiled table is followed without bounds checks that hold for files from outside.
        "Precompiled" => Err("a precompiled SentencePiece normalizer".into()),
        _ => Ok(()),
    })?;
    walk(
        &probe.pre_tokenizer,
        "pretokenizers",
        &|kind, part| match kind {
            "FixedLength" if part.get("length").and_then(Value::as_u64) == Some(0) => {
                Err("a FixedLength pre-tokenizer of length 0".into())
            }
            _ => Ok(()),
        },
    )?;
    walk(&probe.decoder, "decoders", &|kind, part| match kind {
        // Underflows on a token shorter than what is to be cut.
        "Strip" if part.get("stop").and_then(Value::as_u64).unwrap_or(0) > 0 => {
            Err("a Strip decoder that cuts at the end".into())
        }
        _ => Ok(()),
    })?;
    walk(&probe.post_processor, "processors", &|kind, part| {
        if kind != "TemplateProcessing" {
            return Ok(());
        }
        let template = TemplateProbe::deserialize(part).map_err(|e| e.to_string())?;
        for (name, piece) in template.single.iter().flatten() {
            match name.as_str() {
                "Sequence" if piece.id == "A" => {}
                "SpecialToken" if template.special_tokens.contains_key(&piece.id) => {}
                _ => {
                    return Err(format!(
                        "a template with the unknown part {name} {:?}",
                        piece.id
                    ));
                }
            }
        }
        match template
            .special_tokens
            .iter()
            .find(|(_, s)| s.ids.len() != s.tokens.len())
        {
            Some((name, _)) => Err(format!(
                "a template whose special token {name:?} has more ids than names"
            )),
            None => Ok(()),
        }
    })?;
    Ok(probe.added_tokens.unwrap_or_default())
}

/// Calls `check(type, part)` on a part and on the parts of a `Sequence` inside it.
fn walk(
    part: &Value,
    children: &str,
    check: &dyn Fn(&str, &Value) -> Result<(), String>,
) -> Result<(), TextError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    check(kind, part).map_err(|what| TextError::Unsupported {
        what,
        supported: "the parts that Llama, GPT-2 and Qwen tokenizers use",
    })?;
    match part.get(children).and_then(Value::as_array) {
        Some(parts) => parts.iter().try_for_each(|p| walk(p, children, check)),
        None => Ok(()),
    }
}
