//! llama2.c's `tok*.bin`: i32 length of the longest token, then per token f32 score, i32 length, bytes; little endian.
//!
//! Source: karpathy/llama2.c, `tokenizer.py` (writer) and `run.c` (`build_tokenizer`, `encode`). BOS is 1, EOS 2, and
//! the byte b is token b + 3. Spaces stand in the file as spaces; BOS and EOS as `"\n<s>\n"` and `"\n</s>\n"`.

use super::TextError;
use super::spm::{Kind, Piece, Spm};
use super::tokenizer::broken;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

const FILE: &str = "the llama2.c tokenizer file";
const BOS: usize = 1;
const EOS: usize = 2;

/// The tokenizer of `vocab_size` tokens, and the config that goes with it.
pub(super) fn read(
    bytes: &[u8],
    vocab_size: usize,
) -> Result<(Tokenizer, Map<String, Value>), TextError> {
    let pieces = pieces(bytes, vocab_size)?;
    let spm = Spm {
        pieces,
        space: ' ',
        add_space_prefix: true,
        unknown: Some(0),
        front: Some(BOS),
        back: None,
    };
    let tokenizer = spm.build(FILE)?;
    let Value::Object(config) = json!({
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": spm.pieces.first().map(|p| p.text.clone()),
        "clean_up_tokenization_spaces": false,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }) else {
        return Err(broken(FILE, "no config"));
    };
    Ok((tokenizer, config))
}

fn pieces(bytes: &[u8], vocab_size: usize) -> Result<Vec<Piece>, TextError> {
    let mut reader = Reader(bytes);
    let longest = reader.word().map(i32::from_le_bytes);
    if longest.is_none_or(|n| n < 0) {
        return Err(broken(
            FILE,
            "it does not start with the length of its longest token",
        ));
    }
    // Every token takes at least eight bytes, so a wrong size is known before any allocation.
    if vocab_size > reader.0.len() / 8 {
        return Err(TextError::VocabularySize {
            expected: vocab_size,
            found: count(reader),
        });
    }
    if vocab_size <= EOS {
        return Err(TextError::VocabularySize {
            expected: vocab_size,
            found: count(reader),
        });
    }
    let mut pieces = Vec::with_capacity(vocab_size);
    for id in 0..vocab_size {
        let Some((score, text)) = reader.token() else {
            return Err(TextError::VocabularySize {
                expected: vocab_size,
                found: id,
            });
        };
        let text =
            std::str::from_utf8(text).map_err(|e| broken(FILE, format!("token {id}: {e}")))?;
        let (text, kind) = match id {
            0 => (text, Kind::Control),
            BOS => ("<s>", Kind::Control),
            EOS => ("</s>", Kind::Control),
            _ if is_byte(text) => (text, Kind::Byte),
            _ => (text, Kind::Normal),
        };
        pieces.push(Piece {
            text: text.to_owned(),
            score,
            kind,
        });
    }
    match reader.0.len() {
        0 => Ok(pieces),
        _ => Err(TextError::VocabularySize {
            expected: vocab_size,
            found: vocab_size + count(reader),
        }),
    }
}

fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whole tokens that are left.
fn count(mut reader: Reader<'_>) -> usize {
    std::iter::from_fn(|| reader.token()).count()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn word(&mut self) -> Option<[u8; 4]> {
        self.take(4)?.try_into().ok()
    }

    fn token(&mut self) -> Option<(f32, &'a [u8])> {
        let score = f32::from_le_bytes(self.word()?);
        let length = usize::try_from(i32::from_le_bytes(self.word()?)).ok()?;
        Some((score, self.take(length)?))
    }
}
