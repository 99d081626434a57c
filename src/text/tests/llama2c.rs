//! llama2.c's own encoder, written out plainly, against the merges that stand for it.

use super::*;
use crate::text::TextError;
use proptest::prelude::*;
use std::sync::{LazyLock, OnceLock};

/// `encode` of run.c: characters, then the best-scored neighbouring pair, one at a time.
struct Naive {
    texts: Vec<Vec<u8>>,
    scores: Vec<f32>,
}

impl Naive {
    fn new(bytes: &[u8]) -> Self {
        let (mut texts, mut scores, mut at) = (Vec::new(), Vec::new(), 4);
        while at < bytes.len() {
            scores.push(f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
            let length = i32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            texts.push(bytes[at + 8..at + 8 + length].to_vec());
            at += 8 + length;
        }
        Self { texts, scores }
    }

    fn id(&self, text: &[u8]) -> Option<usize> {
        self.texts.iter().position(|t| t == text)
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        if !text.is_empty() {
            ids.push(self.id(b" ").unwrap());
        }
        for c in text.chars() {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            match self.id(bytes) {
                Some(id) => ids.push(id),
                None => ids.extend(bytes.iter().map(|b| *b as usize + 3)),
            }
        }
        loop {
            let mut best = (-1e10_f32, None);
            for i in 1..ids.len() {
                let union = [self.texts[ids[i - 1]].clone(), self.texts[ids[i]].clone()].concat();
                if let Some(id) = self.id(&union).filter(|id| self.scores[*id] > best.0) {
                    best = (self.scores[id], Some((i, id)));
                }
            }
            let Some((i, id)) = best.1 else { break };
            ids[i - 1] = id;
            ids.remove(i);
        }
        ids.into_iter().map(|id| id as u32).collect()
    }
}

/// The tokenizer of stories260K, read once, beside the plain encoder. Every test that goes without them says so.
#[track_caller]
fn stories() -> Option<&'static (TextTokenizer, Naive)> {
    static STORIES: OnceLock<(TextTokenizer, Naive)> = OnceLock::new();
    let bytes = test_data::read("models/stories260K/tok512.bin")?;
    Some(STORIES.get_or_init(|| {
        (
            TextTokenizer::from_llama2c(&bytes, 512).unwrap(),
            Naive::new(&bytes),
        )
    }))
}

#[test]
fn stories260k_text_gives_the_golden_ids() {
    let (Some((tok, _)), Some(golden)) = (stories(), test_data::golden("stories260K")) else {
        return;
    };
    let ids: Vec<u32> = serde_json::from_value(golden["greedy_ids_from_bos"].clone()).unwrap();
    let text = golden["text"].as_str().unwrap().trim_start();
    let encoding = tok.encode(text, true).unwrap();
    assert_eq!(encoding.ids, ids);
    assert_sound(text, &encoding);
    assert_eq!(tok.decode(&ids, true).unwrap(), text);
    assert_eq!(
        (tok.vocab_size(), tok.bos(), tok.eos()),
        (512, Some(1), Some(2))
    );
}

#[test]
fn an_exported_llama2c_tokenizer_gives_the_same_ids() {
    let Some((tok, _)) = stories() else { return };
    let json = tok.to_tokenizer_json().unwrap();
    let again = TextTokenizer::from_hf(&json, Some(&tok.to_tokenizer_config_json().unwrap()), None)
        .unwrap();
    for text in [
        "",
        "Once upon a time",
        "  two  spaces\n\ttab",
        "naïve 東京 🙂",
        "\0nul",
    ] {
        assert_eq!(
            again.encode(text, true).unwrap(),
            tok.encode(text, true).unwrap()
        );
    }
    assert_eq!((again.bos(), again.eos()), (tok.bos(), tok.eos()));
}

/// A file with the texts given after the control and byte tokens; later texts score lower.
fn file(texts: &[&str]) -> Vec<u8> {
    let mut entries: Vec<(f32, String)> = ["<unk>", "\n<s>\n", "\n</s>\n"]
        .map(|t| (0.0, t.to_owned()))
        .to_vec();
    entries.extend((0..256).map(|b| (0.0, format!("<0x{b:02X}>"))));
    entries.extend(
        texts
            .iter()
            .enumerate()
            .map(|(i, t)| (-(i as f32), (*t).to_owned())),
    );
    let mut bytes = 7_i32.to_le_bytes().to_vec();
    for (score, text) in entries {
        bytes.extend(score.to_le_bytes());
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// Runs of few letters, where the order of equal merges shows.
const RUNS: &[&str] = &[
    "aa", "aaaa", "aaa", "ba", "aba", " a", "ab", "bb", "abab", "bab", " ", "a", "b",
];

static RUN_TOKENIZERS: LazyLock<(TextTokenizer, Naive, TextTokenizer, Naive)> =
    LazyLock::new(|| {
        let other: Vec<&str> = RUNS.iter().rev().copied().collect();
        let (a, b) = (file(RUNS), file(&other));
        let size = 259 + RUNS.len();
        let read = |bytes: &[u8]| TextTokenizer::from_llama2c(bytes, size).unwrap();
        (read(&a), Naive::new(&a), read(&b), Naive::new(&b))
    });

proptest! {
    #[test]
    fn any_text_gives_the_ids_of_the_plain_encoder(text in "(?s)([ a-zA-Z.,'\"\n]{0,20}|.{0,6}|[🙂é東👩‍🚀]{0,3}){0,6}") {
        if let Some((tok, naive)) = stories() {
            prop_assume!(!text.contains('<'));
            prop_assert_eq!(tok.encode(&text, false).unwrap().ids, naive.encode(&text));
        }
    }

    #[test]
    fn runs_of_few_letters_give_the_ids_of_the_plain_encoder(text in "[ab ]{0,24}") {
        let (down, naive_down, up, naive_up) = &*RUN_TOKENIZERS;
        prop_assert_eq!(down.encode(&text, false).unwrap().ids, naive_down.encode(&text));
        prop_assert_eq!(up.encode(&text, false).unwrap().ids, naive_up.encode(&text));
    }
}

#[test]
fn a_character_vocabulary_without_byte_tokens_works() {
    let Some(vocab) = test_data::read("models/babyllama105/tok105.vocab") else {
        return;
    };
    let vocab = String::from_utf8(vocab).unwrap().replace('\u{2581}', " ");
    let mut bytes = 5_i32.to_le_bytes().to_vec();
    let mut size = 0;
    for line in vocab.split('\n').filter(|l| !l.is_empty()) {
        let (text, score) = line.rsplit_once('\t').unwrap();
        bytes.extend(score.parse::<f32>().unwrap().to_le_bytes());
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
        size += 1;
    }
    let tok = TextTokenizer::from_llama2c(&bytes, size).unwrap();
    let naive = Naive::new(&bytes);
    let text = "Once upon a time, there was a girl.";
    assert_eq!(tok.encode(text, false).unwrap().ids, naive.encode(text));
    assert_eq!(
        tok.decode(&tok.encode(text, true).unwrap().ids, true)
            .unwrap(),
        text
    );
    // What the vocabulary cannot write becomes <unk>.
    assert_eq!(tok.encode("東", false).unwrap().ids.last(), Some(&0));
}

#[test]
fn a_file_of_another_size_than_the_model_is_named_as_such() {
    let bytes = file(&["a", "b", " "]);
    let size = |expected, found| TextError::VocabularySize { expected, found };
    assert_eq!(
        TextTokenizer::from_llama2c(&bytes, 263).unwrap_err(),
        size(263, 262)
    );
    assert_eq!(
        TextTokenizer::from_llama2c(&bytes, 261).unwrap_err(),
        size(261, 262)
    );
    assert_eq!(
        TextTokenizer::from_llama2c(&bytes, usize::MAX).unwrap_err(),
        size(usize::MAX, 262)
    );
    assert!(matches!(
        TextTokenizer::from_llama2c(&[], 3),
        Err(TextError::Broken { .. })
    ));
    for cut in 0..bytes.len() {
        assert!(TextTokenizer::from_llama2c(&bytes[..cut], 262).is_err());
    }
}
