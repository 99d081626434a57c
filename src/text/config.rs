//! `tokenizer_config.json`: the special tokens' names, the chat template, and whether BOS and EOS are added.

use super::TextError;
use serde_json::{Map, Value};

const FILE: &str = "tokenizer_config.json";

/// What is used of the file, beside the file itself, which travels on to an export.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    /// The file as it came.
    pub(super) raw: Map<String, Value>,
    pub(super) bos: Option<String>,
    pub(super) eos: Option<String>,
    pub(super) pad: Option<String>,
    /// Every `*_token` entry, under its own name: chat templates see them.
    pub(super) specials: Vec<(String, String)>,
    /// `Some` where the file insists; then it wins over `tokenizer.json`'s post-processor, as in transformers' Llama class.
    pub(super) add_bos: Option<bool>,
    pub(super) add_eos: Option<bool>,
    pub(super) chat_template: Option<String>,
    /// `added_tokens_decoder`: id and text.
    pub(super) added_tokens: Vec<(u32, String)>,
}

fn broken(reason: impl ToString) -> TextError {
    TextError::Broken {
        file: FILE,
        reason: reason.to_string(),
    }
}

impl Config {
    /// Reads the file. `model_max_length` is left alone: many files hold 10^30 there, which no integer takes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::from_map(serde_json::from_slice(bytes).map_err(broken)?)
    }

    pub(super) fn from_map(raw: Map<String, Value>) -> Result<Self, TextError> {
        let mut specials = Vec::new();
        for (name, value) in raw.iter().filter(|(name, _)| name.ends_with("_token")) {
            if let Some(text) = token_text(name, value)? {
                specials.push((name.clone(), text));
            }
        }
        let special = |name: &str| {
            specials
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, text)| text.clone())
        };
        let mut added_tokens = Vec::new();
        if let Some(entries) = raw.get("added_tokens_decoder").and_then(Value::as_object) {
            for (id, entry) in entries {
                let id = id
                    .parse()
                    .map_err(|_| broken(format!("added_tokens_decoder has the id {id:?}")))?;
                if let Some(text) = token_text("added_tokens_decoder", entry)? {
                    added_tokens.push((id, text));
                }
            }
        }
        Ok(Self {
            bos: special("bos_token"),
            eos: special("eos_token"),
            pad: special("pad_token"),
            add_bos: raw.get("add_bos_token").and_then(Value::as_bool),
            add_eos: raw.get("add_eos_token").and_then(Value::as_bool),
            chat_template: raw.get("chat_template").map_or(Ok(None), chat_template)?,
            specials,
            added_tokens,
            raw,
        })
    }
}

/// A special token stands as a string, or as an object with `content`, or as null, or (`add_bos_token`) as a flag.
fn token_text(name: &str, value: &Value) -> Result<Option<String>, TextError> {
    match value {
        Value::Null | Value::Bool(_) => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Object(fields) => match fields.get("content").and_then(Value::as_str) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(broken(format!("{name} is an object without a \"content\""))),
        },
        _ => Err(broken(format!("{name} is neither a string nor an object"))),
    }
}

/// One template, or a list of named ones, of which `default` (or the only one) is taken.
fn chat_template(value: &Value) -> Result<Option<String>, TextError> {
    let named = match value {
        Value::Null => return Ok(None),
        Value::String(template) => return Ok(Some(template.clone())),
        Value::Array(named) => named,
        _ => {
            return Err(broken(
                "chat_template is neither a string nor a list of named templates",
            ));
        }
    };
    let text = |entry: &Value| {
        entry
            .get("template")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let default = named
        .iter()
        .find(|e| e.get("name").and_then(Value::as_str) == Some("default"));
    match (default, named.as_slice()) {
        (_, []) => Ok(None),
        (Some(entry), _) | (None, [entry]) => match text(entry) {
            Some(template) => Ok(Some(template)),
            None => Err(broken("a named chat template has no \"template\"")),
        },
        _ => Err(broken(format!(
            "none of its {} chat templates is called \"default\"",
            named.len()
        ))),
    }
}
