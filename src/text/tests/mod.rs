//! Tests of the whole room, against numbers made by other code and against plain reference implementations.

mod answers;
mod broken_files;
mod gguf;
mod llama2c;
mod oracles;
mod properties;

use super::{Encoding, Message, TextTokenizer};
use crate::test_data;

/// The tokenizer of an oracle folder, or `None` after saying that it is left out.
#[track_caller]
fn oracle(name: &str) -> Option<TextTokenizer> {
    let json = test_data::read(&format!("oracle/{name}/tokenizer.json"))?;
    let config = test_data::read(&format!("oracle/{name}/tokenizer_config.json"))?;
    // Not every one has a template.
    let template = test_data::folder().join(format!("oracle/{name}/chat_template.jinja"));
    let template = std::fs::read_to_string(template).ok();
    Some(TextTokenizer::from_hf(&json, Some(&config), template.as_deref()).unwrap())
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
    }
}

/// Every invariant that [`Encoding`]'s documentation promises.
fn assert_sound(text: &str, encoding: &Encoding) {
    let length = text.chars().count();
    assert_eq!(encoding.ids.len(), encoding.offsets.len());
    let mut covered = vec![false; length];
    let mut last = 0;
    for &(start, end) in &encoding.offsets {
        assert!(
            start <= end && end <= length,
            "({start}, {end}) outside {text:?}"
        );
        assert!(
            last <= start,
            "starts go back in {text:?}: {:?}",
            encoding.offsets
        );
        last = start;
        covered[start..end].fill(true);
    }
    assert!(
        covered.iter().all(|c| *c),
        "characters of {text:?} without a token: {:?}",
        encoding.offsets
    );
}

/// A byte-level tokenizer of single bytes, with the control tokens given.
fn byte_tokenizer(specials: &[&str], template: Option<&str>) -> TextTokenizer {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .collect();
    alphabet.sort();
    let vocab: serde_json::Map<String, serde_json::Value> = alphabet
        .iter()
        .enumerate()
        .map(|(id, c)| (c.to_string(), id.into()))
        .collect();
    let added: Vec<serde_json::Value> = specials
        .iter()
        .enumerate()
        .map(|(i, text)| {
            serde_json::json!({"id": vocab.len() + i, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let bytes = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = serde_json::json!({"version": "1.0", "added_tokens": added, "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    let mut config = serde_json::Map::new();
    if let Some(eos) = specials.first() {
        config.insert("eos_token".into(), (*eos).into());
    }
    TextTokenizer::from_hf(
        json.to_string().as_bytes(),
        Some(&serde_json::to_vec(&config).unwrap()),
        template,
    )
    .unwrap()
}
