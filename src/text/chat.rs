//! Chat templates, rendered as transformers' `apply_chat_template` renders them.
//!
//! Source: Hugging Face transformers, `utils/chat_template_utils.py`: Jinja with `trim_blocks` and `lstrip_blocks`, loop
//! controls, Python's string methods, `raise_exception`, a `tojson` that escapes nothing for HTML, the special tokens as
//! variables. `strftime_now` is left undefined: templates that test for it then take their fixed date, and a run gives
//! the same rows on every day.

use super::{Message, TextError};
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use std::collections::BTreeMap;

/// Marks an error as the template's own refusal.
const REFUSAL: &str = "raise_exception: ";

/// A template and the special tokens that it may name.
pub(super) struct ChatTemplate {
    source: String,
    specials: Vec<(String, String)>,
}

impl ChatTemplate {
    pub(super) fn new(source: &str, specials: &[(String, String)]) -> Self {
        Self {
            source: without_generation_tags(source),
            specials: specials.to_vec(),
        }
    }

    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{REFUSAL}{message}"),
                ))
            },
        );
        env.add_filter("tojson", tojson);
        let template = env
            .template_from_named_str("chat_template", &self.source)
            .map_err(|e| failed(&e))?;
        let mut context: BTreeMap<&str, Value> = self
            .specials
            .iter()
            .map(|(name, text)| (name.as_str(), Value::from(text.as_str())))
            .collect();
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", add_generation_prompt.into());
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        template
            .render(Value::from_serialize(&context))
            .map_err(|e| failed(&e))
    }
}

fn failed(error: &Error) -> TextError {
    let detail = error.detail().unwrap_or_default();
    if let Some(reason) = detail.strip_prefix(REFUSAL) {
        return TextError::TemplateRefused {
            reason: reason.to_owned(),
        };
    }
    let reason = if error.kind() == ErrorKind::UnknownFunction && detail.contains("strftime_now") {
        "it asks for today's date (strftime_now), which would make every day's rows differ; write a fixed date into the \
         template"
            .to_owned()
    } else {
        error.to_string()
    };
    TextError::TemplateFailed { reason }
}

/// transformers' `{% generation %}` tags mark the assistant's text and print nothing. They become blocks that Jinja
/// knows, whitespace controls kept.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (head, tag) = rest.split_at(open);
        out.push_str(head);
        let Some(close) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, tail) = tag.split_at(close + 2);
        let word = tag
            .trim_start_matches("{%")
            .trim_end_matches("%}")
            .trim_matches(['-', '+'])
            .trim();
        match word {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps(value, ensure_ascii=False)`; with `indent`, over several lines.
fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    use serde::Serialize;
    let bad = |e: serde_json::Error| Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut out = Vec::new();
    match kwargs.get::<Option<usize>>("indent")? {
        Some(width) => {
            // A template asks for 2 or 4; more than 64 is an attack on memory.
            let indent = vec![b' '; width.min(64)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            value
                .serialize(&mut serde_json::Serializer::with_formatter(
                    &mut out, formatter,
                ))
                .map_err(bad)?;
        }
        None => {
            value
                .serialize(&mut serde_json::Serializer::with_formatter(
                    &mut out, OneLine,
                ))
                .map_err(bad)?;
        }
    }
    String::from_utf8(out)
        .map(Value::from_safe_string)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// Python's separators: `", "` and `": "`.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}
