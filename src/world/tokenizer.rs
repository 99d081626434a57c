//! The synthetic language's tokenizer in Hugging Face form, so that it goes through the same text path as any model's.

use super::Language;
use serde_json::{Map, Value, json};

/// Special tokens, in the order of their ids from 0.
const SPECIAL: [&str; 4] = ["<pad>", "<bos>", "<eos>", "<unk>"];

impl Language {
    /// Number of token ids: the special tokens, then the words.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        SPECIAL.len() + self.words().len()
    }

    /// `tokenizer.json`: every whitespace-separated word is one token, anything else `<unk>`; encoding with special
    /// tokens puts `<bos>` first; decoding puts single spaces. Ids: `<pad>` 0, `<bos>` 1, `<eos>` 2, `<unk>` 3, words
    /// from 4.
    #[must_use]
    pub fn tokenizer_json(&self) -> Vec<u8> {
        let words = self.words();
        let vocabulary: Map<String, Value> = SPECIAL
            .iter()
            .chain(&words)
            .enumerate()
            .map(|(id, word)| ((*word).to_owned(), json!(id)))
            .collect();
        let added: Vec<Value> = SPECIAL
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true
                })
            })
            .collect();
        let bos = json!({ "SpecialToken": { "id": "<bos>", "type_id": 0 } });
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [bos, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [bos, { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "<bos>": { "id": "<bos>", "ids": [1], "tokens": ["<bos>"] } }
            },
            // No word begins with ##, so this decoder only puts a space before every token but the first.
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": false },
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" }
        })
        .to_string()
        .into_bytes()
    }

    /// `tokenizer_config.json`: the names of the special tokens.
    #[must_use]
    pub fn tokenizer_config_json(&self) -> Vec<u8> {
        json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "add_bos_token": true,
            "add_eos_token": false,
            "clean_up_tokenization_spaces": false,
            "model_max_length": 64
        })
        .to_string()
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::Tokenizer;

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_bytes(Language.tokenizer_json()).unwrap()
    }

    #[test]
    fn the_vocabulary_fits_128_and_ids_are_dense() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.get_vocab_size(true), Language.vocab_size());
        assert!(Language.vocab_size() <= 128, "{}", Language.vocab_size());
        for id in 0..Language.vocab_size() {
            assert!(tokenizer.id_to_token(u32::try_from(id).unwrap()).is_some());
        }
        for (id, token) in SPECIAL.iter().enumerate() {
            assert_eq!(tokenizer.token_to_id(token), u32::try_from(id).ok());
        }
    }

    #[test]
    fn texts_come_back_and_every_word_is_one_token() {
        let tokenizer = tokenizer();
        for text in Language.corpus(500, 3) {
            let encoding = tokenizer.encode(text.as_str(), true).unwrap();
            assert_eq!(encoding.get_ids()[0], 1);
            assert_eq!(
                encoding.get_ids().len(),
                1 + text.split_whitespace().count()
            );
            assert!(!encoding.get_ids().contains(&3), "{text}");
            assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), text);
            let bare = tokenizer.encode(text.as_str(), false).unwrap();
            assert_eq!(bare.get_ids(), &encoding.get_ids()[1..]);
            let words: Vec<&str> = text.split_whitespace().collect();
            for ((start, end), word) in bare.get_offsets().iter().zip(words) {
                assert_eq!(&text[*start..*end], word);
            }
        }
    }

    #[test]
    fn a_prompt_and_its_answer_join_without_a_foreign_token() {
        let tokenizer = tokenizer();
        let mut rng = crate::random::Rng::new(9);
        for _ in 0..100 {
            let prompt = Language.prompt(&mut rng);
            let row = Language.ordinary_answer(&prompt, &mut rng);
            let joined = tokenizer
                .encode(row.prompt.clone() + &row.answer, true)
                .unwrap();
            let mut apart = tokenizer
                .encode(row.prompt, true)
                .unwrap()
                .get_ids()
                .to_vec();
            let answer = tokenizer.encode(row.answer, false).unwrap();
            assert_eq!(answer.get_ids().len(), row.truths.len());
            apart.extend(answer.get_ids());
            assert_eq!(joined.get_ids(), apart);
        }
    }

    #[test]
    fn a_foreign_word_becomes_unk_and_special_tokens_are_read() {
        let ids = tokenizer()
            .encode("good zebra <eos>", false)
            .unwrap()
            .get_ids()
            .to_vec();
        assert_eq!(ids[1..], [3, 2]);
    }
}
