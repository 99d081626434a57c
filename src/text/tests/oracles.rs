//! The numbers that transformers and tokenizers gave for the same files.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    tokenizer: Option<Cases>,
}

#[derive(Deserialize)]
struct Cases {
    texts: Vec<Case>,
    vocab_size: usize,
    chat: Option<Chat>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    ids_with_special: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    rendered: String,
    ids: Vec<u32>,
}

fn check(tok: &TextTokenizer, cases: &Cases, name: &str) {
    assert_eq!(tok.vocab_size(), cases.vocab_size, "{name}");
    for case in &cases.texts {
        let plain = tok.encode(&case.text, false).unwrap();
        assert_eq!(plain.ids, case.ids, "{name}: {:?}", case.text);
        assert_sound(&case.text, &plain);
        let special = tok.encode(&case.text, true).unwrap();
        assert_eq!(
            special.ids, case.ids_with_special,
            "{name}: {:?}",
            case.text
        );
        assert_sound(&case.text, &special);
        assert_eq!(
            tok.decode(&case.ids_with_special, true).unwrap(),
            case.decoded,
            "{name}"
        );
    }
    assert_eq!(cases.chat.is_some(), tok.has_chat_template(), "{name}");
    if let Some(chat) = &cases.chat {
        let rendered = tok.render_chat(&chat.messages, true).unwrap();
        assert_eq!(rendered, chat.rendered, "{name}");
        assert_eq!(
            tok.encode(&rendered, false).unwrap().ids,
            chat.ids,
            "{name}"
        );
    }
}

#[test]
fn every_oracle_tokenizer_gives_the_ids_of_its_reference_also_after_an_export() {
    let Some(oracles) = test_data::path("oracle") else {
        return;
    };
    let mut seen = 0;
    for folder in std::fs::read_dir(&oracles).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let expected = oracles.join(&name).join("expected.json");
        if !expected.exists() {
            continue;
        }
        let expected: Expected = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
        let Some(cases) = expected.tokenizer else {
            continue;
        };
        let tok = oracle(&name).unwrap();
        check(&tok, &cases, &name);
        let again = TextTokenizer::from_hf(
            &tok.to_tokenizer_json().unwrap(),
            Some(&tok.to_tokenizer_config_json().unwrap()),
            None,
        );
        check(&again.unwrap(), &cases, &name);
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} oracles with tokenizer cases");
}

#[test]
fn special_tokens_come_from_the_config() {
    let Some(tok) = oracle("llama_gqa_untied") else {
        return;
    };
    assert_eq!(
        (tok.bos(), tok.eos(), tok.pad()),
        (Some(313), Some(314), Some(315))
    );
    assert_eq!(tok.token(313).as_deref(), Some("<|begin_of_text|>"));
    assert_eq!(tok.token(316), None);
}

#[test]
fn normalised_characters_keep_their_place_in_the_text() {
    let Some(tok) = oracle("qwen2") else { return };
    // NFC makes one character of "e" and the accent behind it; both its bytes' tokens have both code points.
    let text = "xe\u{301}y";
    let encoding = tok.encode(text, false).unwrap();
    assert_eq!(encoding.offsets, [(0, 1), (1, 3), (1, 3), (3, 4)]);
    assert_eq!(tok.decode(&encoding.ids, false).unwrap(), "x\u{e9}y");
}

#[test]
fn every_token_of_an_emoji_has_the_whole_emoji() {
    for name in ["gpt2", "llama_gqa_tied"] {
        let Some(tok) = oracle(name) else { return };
        let encoding = tok.encode("a🙂", false).unwrap();
        let emoji: Vec<_> = encoding.offsets.iter().filter(|o| **o == (1, 2)).collect();
        assert_eq!(emoji.len(), 4, "{name}: {:?}", encoding.offsets);
    }
}

#[test]
fn a_space_that_the_tokenizer_puts_in_front_stands_for_no_character() {
    let Some(tok) = oracle("llama_gqa_tied") else {
        return;
    };
    let encoding = tok.encode("🙂", true).unwrap();
    assert_eq!(
        encoding.offsets,
        [(0, 0), (0, 0), (0, 1), (0, 1), (0, 1), (0, 1)]
    );
}
