//! GGUF vocabularies: SmolLM2's real one where the file is there, small ones for each kind.

use super::*;
use crate::model::gguf::{Metadata, Value};
use crate::text::TextError;

/// Just enough of a GGUF reader to get the metadata of a file that is known to be good.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N);
        self.0 = tail;
        head.try_into().unwrap()
    }

    fn string(&mut self) -> String {
        let length = u64::from_le_bytes(self.take()) as usize;
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        String::from_utf8(head.to_vec()).unwrap()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            4 => Value::U32(u32::from_le_bytes(self.take())),
            5 => Value::I32(i32::from_le_bytes(self.take())),
            6 => Value::F32(f32::from_le_bytes(self.take())),
            7 => Value::Bool(self.take::<1>()[0] != 0),
            8 => Value::String(self.string()),
            9 => {
                let kind = u32::from_le_bytes(self.take());
                let length = u64::from_le_bytes(self.take());
                Value::Array((0..length).map(|_| self.value(kind)).collect())
            }
            10 => Value::U64(u64::from_le_bytes(self.take())),
            other => panic!("value of type {other}"),
        }
    }

    fn metadata(&mut self) -> Metadata {
        let _magic_version_tensors = self.take::<16>();
        let count = u64::from_le_bytes(self.take());
        (0..count)
            .map(|_| {
                let key = self.string();
                let kind = u32::from_le_bytes(self.take());
                (key, self.value(kind))
            })
            .collect()
    }
}

#[track_caller]
fn smollm2() -> Option<TextTokenizer> {
    let bytes = crate::model::tests::smollm2()?;
    Some(TextTokenizer::from_gguf(&Reader(&bytes).metadata()).unwrap())
}

#[test]
fn smollm2_gives_the_golden_ids_also_after_an_export() {
    let (Some(tok), Some(golden)) = (smollm2(), test_data::golden("smollm2")) else {
        return;
    };
    let again = TextTokenizer::from_hf(
        &tok.to_tokenizer_json().unwrap(),
        Some(&tok.to_tokenizer_config_json().unwrap()),
        None,
    )
    .unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (text, ids) = (case["text"].as_str().unwrap(), &case["ids"]);
        let encoding = tok.encode(text, true).unwrap();
        assert_eq!(&serde_json::to_value(&encoding.ids).unwrap(), ids);
        assert_eq!(again.encode(text, true).unwrap(), encoding);
        assert_eq!(tok.decode(&encoding.ids, false).unwrap(), text);
        assert_sound(text, &encoding);
    }
    assert_eq!(tok.vocab_size(), 49152);
    assert_eq!(
        (tok.bos(), tok.eos(), tok.pad()),
        (Some(1), Some(2), Some(2))
    );
}

#[test]
fn smollm2_splits_digits_and_writes_its_own_chat_format() {
    let Some(tok) = smollm2() else { return };
    let digits = tok.encode("2024", false).unwrap();
    let texts: Vec<String> = digits
        .ids
        .iter()
        .map(|id| tok.token(*id).unwrap())
        .collect();
    assert_eq!(texts, ["2", "0", "2", "4"]);
    assert_eq!(
        tok.render_chat(&[message("user", "Hi")], true).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}

fn strings(items: &[&str]) -> Value {
    Value::Array(
        items
            .iter()
            .map(|s| Value::String((*s).to_owned()))
            .collect(),
    )
}

fn key(name: &str, value: Value) -> (String, Value) {
    (format!("tokenizer.ggml.{name}"), value)
}

/// Bytes a, b, c, Ġ, digits, newline; one merge; an end token.
fn gpt2(pre: &str) -> Metadata {
    let tokens = [
        "a", "b", "c", "\u{120}", "1", "2", "\u{10a}", "ab", "11", "<|end|>",
    ];
    Metadata::from([
        key("model", Value::String("gpt2".into())),
        key("pre", Value::String(pre.into())),
        key("tokens", strings(&tokens)),
        key(
            "token_type",
            Value::Array(
                tokens
                    .iter()
                    .map(|t| Value::I32(if t.len() > 3 { 3 } else { 1 }))
                    .collect(),
            ),
        ),
        key("merges", strings(&["a b", "1 1"])),
        key("bos_token_id", Value::U32(9)),
        key("eos_token_id", Value::U32(9)),
    ])
}

#[test]
fn each_pre_tokenizer_splits_digits_its_own_way() {
    let ids = |pre: &str| {
        TextTokenizer::from_gguf(&gpt2(pre))
            .unwrap()
            .encode("ab 1111<|end|>", false)
            .unwrap()
            .ids
    };
    let whole = [7, 3, 8, 8, 9];
    assert_eq!(ids("gpt-2"), whole);
    assert_eq!(ids("gpt2"), whole);
    assert_eq!(ids("default"), [7, 3, 8, 4, 4, 9]);
    // Groups of three from the left.
    assert_eq!(ids("llama-bpe"), [7, 3, 8, 4, 4, 9]);
    assert_eq!(ids("smollm"), [7, 3, 4, 4, 4, 4, 9]);
    assert_eq!(ids("qwen2"), [7, 3, 4, 4, 4, 4, 9]);
}

#[test]
fn bos_is_added_where_the_file_or_its_kind_says_so() {
    let ids = |meta: &Metadata| {
        TextTokenizer::from_gguf(meta)
            .unwrap()
            .encode("a", true)
            .unwrap()
            .ids
    };
    assert_eq!(ids(&gpt2("gpt-2")), [0]);
    assert_eq!(ids(&gpt2("llama-bpe")), [9, 0]);
    let mut meta = gpt2("gpt-2");
    meta.extend([
        key("add_bos_token", Value::Bool(true)),
        key("add_eos_token", Value::Bool(true)),
    ]);
    assert_eq!(ids(&meta), [9, 0, 9]);
}

fn sentencepiece() -> Metadata {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    let normal = ["\u{2581}", "a", "b", "ab", "\u{2581}ab"];
    tokens.extend(normal.map(str::to_owned));
    let kinds = (0..tokens.len()).map(|i| {
        Value::I32(match i {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        })
    });
    let scores = (0..tokens.len()).map(|i| Value::F32(if i < 259 { 0.0 } else { -(i as f32) }));
    Metadata::from([
        key("model", Value::String("llama".into())),
        key("token_type", Value::Array(kinds.collect())),
        key("scores", Value::Array(scores.collect())),
        key(
            "tokens",
            strings(&tokens.iter().map(String::as_str).collect::<Vec<_>>()),
        ),
    ])
}

#[test]
fn a_sentencepiece_vocabulary_merges_by_score_and_falls_back_to_bytes() {
    let tok = TextTokenizer::from_gguf(&sentencepiece()).unwrap();
    let encoding = tok.encode("ab abé", true).unwrap();
    assert_eq!(encoding.ids, [1, 263, 263, 0xC3 + 3, 0xA9 + 3]);
    assert_eq!(encoding.offsets, [(0, 0), (0, 2), (2, 5), (5, 6), (5, 6)]);
    assert_eq!(tok.decode(&encoding.ids, true).unwrap(), "ab abé");
    let mut meta = sentencepiece();
    meta.extend([
        key("add_space_prefix", Value::Bool(false)),
        key("add_bos_token", Value::Bool(false)),
    ]);
    let plain = TextTokenizer::from_gguf(&meta).unwrap();
    assert_eq!(plain.encode("ab ab", true).unwrap().ids, [262, 263]);
    assert_eq!(plain.decode(&[263], true).unwrap(), " ab");
}

#[test]
fn anything_else_is_a_clear_error() {
    let with = |name: &str, value: Value| {
        let mut meta = gpt2("gpt-2");
        meta.extend([key(name, value)]);
        TextTokenizer::from_gguf(&meta).unwrap_err()
    };
    assert!(matches!(
        with("model", Value::String("bert".into())),
        TextError::Unsupported { .. }
    ));
    assert!(matches!(
        with("pre", Value::String("tekken".into())),
        TextError::Unsupported { .. }
    ));
    assert!(
        with("eos_token_id", Value::U32(10))
            .to_string()
            .contains("there are 10 tokens")
    );
    assert!(
        with("merges", strings(&["ab"]))
            .to_string()
            .contains("merge 0")
    );
    assert!(
        with("merges", strings(&["a zz"]))
            .to_string()
            .contains("zz")
    );
    assert!(matches!(
        with("tokens", Value::U32(1)),
        TextError::Broken { .. }
    ));
    assert!(matches!(
        with("token_type", Value::Array(vec![])),
        TextError::Broken { .. }
    ));
    let mut meta = sentencepiece();
    meta.remove("tokenizer.ggml.scores");
    assert!(
        TextTokenizer::from_gguf(&meta)
            .unwrap_err()
            .to_string()
            .contains("scores")
    );
    assert!(
        TextTokenizer::from_gguf(&Metadata::new())
            .unwrap_err()
            .to_string()
            .contains("model is missing")
    );
}
