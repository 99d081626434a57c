//! The tokenizer inside a GGUF file.
//!
//! Source: the GGUF specification's `tokenizer.ggml.*` keys, and llama.cpp `src/llama-vocab.cpp` for what the names of
//! pre-tokenizers stand for and for the defaults of missing keys.

use super::TextError;
use super::spm::{Kind, Piece, Spm, add_front_and_back, add_tokens, part, vocabulary};
use super::tokenizer::broken;
use crate::model::gguf::{Metadata, Value};
use serde_json::{Map, json};
use tokenizers::models::bpe::BPE;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

const FILE: &str = "the GGUF file's tokenizer";

/// llama.cpp's defaults where a SentencePiece vocabulary names no special tokens.
const SPM_BOS: u64 = 1;
const SPM_EOS: u64 = 2;
const SPM_UNKNOWN: u64 = 0;

/// The tokenizer and the config that goes with it.
pub(super) fn read(
    meta: &Metadata,
) -> Result<(Tokenizer, Map<String, serde_json::Value>), TextError> {
    let keys = Keys(meta);
    let kind = keys
        .text("model")?
        .ok_or_else(|| broken(FILE, "tokenizer.ggml.model is missing"))?;
    let texts = keys
        .texts("tokens")?
        .ok_or_else(|| broken(FILE, "tokenizer.ggml.tokens is missing"))?;
    let spm = match kind {
        "gpt2" => false,
        "llama" => true,
        other => {
            return Err(TextError::Unsupported {
                what: format!("a GGUF vocabulary of the kind {other:?}"),
                supported: "gpt2 (byte-level BPE) and llama (SentencePiece BPE)",
            });
        }
    };
    let default = |id: u64| spm.then_some(id);
    let bos = keys.token_id("bos_token_id", default(SPM_BOS), texts.len())?;
    let eos = keys.token_id("eos_token_id", default(SPM_EOS), texts.len())?;
    let unknown = keys.token_id("unknown_token_id", default(SPM_UNKNOWN), texts.len())?;
    let pad = keys.token_id("padding_token_id", None, texts.len())?;
    let kinds = keys.kinds(texts.len())?;
    let pre = keys.text("pre")?.unwrap_or("default");

    let adds_bos_itself = spm || matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let add_bos = keys.flag("add_bos_token")?.unwrap_or(adds_bos_itself);
    let add_eos = keys.flag("add_eos_token")?.unwrap_or(false);
    let front = bos.filter(|_| add_bos);
    let back = eos.filter(|_| add_eos);

    let text_of = |id: Option<usize>| id.and_then(|id| texts.get(id).copied());
    let tokenizer = if spm {
        let scores = keys.scores(texts.len())?;
        let pieces = texts
            .iter()
            .zip(scores)
            .zip(&kinds)
            .map(|((text, score), kind)| Piece {
                text: (*text).to_owned(),
                score,
                kind: *kind,
            });
        Spm {
            pieces: pieces.collect(),
            space: '\u{2581}',
            add_space_prefix: keys.flag("add_space_prefix")?.unwrap_or(true),
            unknown,
            front,
            back,
        }
        .build(FILE)?
    } else {
        let merges = keys
            .texts("merges")?
            .ok_or_else(|| broken(FILE, "tokenizer.ggml.merges is missing"))?;
        let mut tokenizer = byte_level(
            &texts,
            &merges,
            pre,
            keys.flag("add_space_prefix")?.unwrap_or(false),
        )?;
        let named = |id: Option<usize>| id.and_then(|id| Some((id, text_of(Some(id))?)));
        add_front_and_back(&mut tokenizer, FILE, named(front), named(back))?;
        add_tokens(
            &mut tokenizer,
            texts.iter().copied().zip(kinds.iter().copied()),
        );
        tokenizer
    };

    let mut config = Map::new();
    let names = [("bos_token", bos), ("eos_token", eos), ("pad_token", pad)];
    for (name, text) in names
        .into_iter()
        .filter_map(|(name, id)| Some((name, text_of(id)?)))
    {
        config.insert(name.into(), text.into());
    }
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    match meta.get("tokenizer.chat_template") {
        Some(Value::String(template)) => {
            config.insert("chat_template".into(), template.as_str().into());
        }
        Some(_) => return Err(broken(FILE, "tokenizer.chat_template is not a string")),
        None => {}
    }
    Ok((tokenizer, config))
}

/// Byte-level BPE with the splits that `pre` stands for.
fn byte_level(
    texts: &[&str],
    merges: &[&str],
    pre: &str,
    add_prefix_space: bool,
) -> Result<Tokenizer, TextError> {
    let pairs = merges
        .iter()
        .enumerate()
        .map(|(rank, merge)| match merge.split_once(' ') {
            Some((left, right))
                if !left.is_empty() && !right.is_empty() && !right.contains(' ') =>
            {
                Ok((left.to_owned(), right.to_owned()))
            }
            _ => Err(broken(
                FILE,
                format!("merge {rank} is {merge:?}, not two tokens with a space between"),
            )),
        });
    let splits = splits(pre)?;
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocabulary(FILE, texts.iter().copied())?,
            pairs.collect::<Result<_, _>>()?,
        )
        .ignore_merges(splits.ignore_merges)
        .build()
        .map_err(|e| broken(FILE, e))?;
    let mut tokenizer = Tokenizer::new(bpe);
    let bytes = json!({
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": false,
        "use_regex": splits.gpt2_words,
    });
    let steps: Vec<serde_json::Value> = splits.first.into_iter().chain([bytes.clone()]).collect();
    let pre_tokenizer: PreTokenizerWrapper =
        part(FILE, json!({"type": "Sequence", "pretokenizers": steps}))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    let decoder: DecoderWrapper = part(FILE, bytes)?;
    tokenizer.with_decoder(Some(decoder));
    if splits.nfc {
        let normalizer: NormalizerWrapper = part(FILE, json!({"type": "NFC"}))?;
        tokenizer.with_normalizer(Some(normalizer));
    }
    Ok(tokenizer)
}

struct Splits {
    /// Pre-tokenizers before the one that turns text into bytes.
    first: Vec<serde_json::Value>,
    /// Whether GPT-2's own split into words follows them.
    gpt2_words: bool,
    /// Whether the model normalises to NFC; GGUF does not say, the models' own tokenizer.json does.
    nfc: bool,
    /// Whether a word that is a token is taken whole, whatever its merges.
    ignore_merges: bool,
}

/// GPT-2's split into words, without the rest that stays whole anyway.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn splits(pre: &str) -> Result<Splits, TextError> {
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let (first, gpt2_words, nfc, ignore_merges) = match pre {
        "gpt2" | "gpt-2" => (vec![], true, false, false),
        "smollm" => (
            vec![json!({"type": "Digits", "individual_digits": true})],
            true,
            false,
            false,
        ),
        "llama-bpe" | "llama3" | "llama-v3" => (vec![split(LLAMA3)], false, false, true),
        "qwen2" => (vec![split(QWEN2)], false, true, false),
        // What llama.cpp does for files that name no pre-tokenizer.
        "default" => {
            let steps = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"];
            (steps.map(split).to_vec(), false, false, false)
        }
        other => {
            return Err(TextError::Unsupported {
                what: format!("the GGUF pre-tokenizer {other:?}"),
                supported: "gpt-2, smollm, llama-bpe, qwen2 and default; or the model's own tokenizer.json",
            });
        }
    };
    Ok(Splits {
        first,
        gpt2_words,
        nfc,
        ignore_merges,
    })
}

/// `tokenizer.ggml.*` keys, each read with its type checked.
struct Keys<'a>(&'a Metadata);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(&format!("tokenizer.ggml.{key}"))
    }

    fn array(&self, key: &str) -> Result<Option<&'a [Value]>, TextError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(wrong_type(key, "a list")),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, TextError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(key, "a string")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, TextError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong_type(key, "true or false")),
        }
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, TextError> {
        let Some(items) = self.array(key)? else {
            return Ok(None);
        };
        let texts = items.iter().map(|item| match item {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(wrong_type(key, "a list of strings")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn token_id(
        &self,
        key: &str,
        default: Option<u64>,
        tokens: usize,
    ) -> Result<Option<usize>, TextError> {
        let id = match self.get(key) {
            None => default,
            Some(value) => Some(integer(value).ok_or_else(|| wrong_type(key, "a token id"))?),
        };
        match id {
            None => Ok(None),
            Some(id) => match usize::try_from(id).ok().filter(|id| *id < tokens) {
                Some(id) => Ok(Some(id)),
                None => Err(broken(
                    FILE,
                    format!("tokenizer.ggml.{key} is {id}, but there are {tokens} tokens"),
                )),
            },
        }
    }

    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. All normal where it is missing.
    fn kinds(&self, tokens: usize) -> Result<Vec<Kind>, TextError> {
        let Some(items) = self.array("token_type")? else {
            return Ok(vec![Kind::Normal; tokens]);
        };
        same_length("token_type", items.len(), tokens)?;
        let kind = |item: &Value| match integer(item) {
            Some(2 | 3) => Ok(Kind::Control),
            Some(4) => Ok(Kind::UserDefined),
            Some(6) => Ok(Kind::Byte),
            Some(_) => Ok(Kind::Normal),
            None => Err(wrong_type("token_type", "a list of numbers")),
        };
        items.iter().map(kind).collect()
    }

    fn scores(&self, tokens: usize) -> Result<Vec<f32>, TextError> {
        let items = self.array("scores")?.ok_or_else(|| {
            broken(
                FILE,
                "tokenizer.ggml.scores is missing, which a llama vocabulary needs",
            )
        })?;
        same_length("scores", items.len(), tokens)?;
        let score = |item: &Value| match item {
            Value::F32(score) => Ok(*score),
            Value::F64(score) => Ok(*score as f32),
            _ => Err(wrong_type("scores", "a list of numbers")),
        };
        items.iter().map(score).collect()
    }
}

fn integer(value: &Value) -> Option<u64> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => Some(n.into()),
        Value::U64(n) => Some(n),
        Value::I8(n) => n.try_into().ok(),
        Value::I16(n) => n.try_into().ok(),
        Value::I32(n) => n.try_into().ok(),
        Value::I64(n) => n.try_into().ok(),
        _ => None,
    }
}

fn wrong_type(key: &str, wanted: &str) -> TextError {
    broken(FILE, format!("tokenizer.ggml.{key} is not {wanted}"))
}

fn same_length(key: &str, found: usize, tokens: usize) -> Result<(), TextError> {
    if found == tokens {
        return Ok(());
    }
    Err(broken(
        FILE,
        format!("tokenizer.ggml.{key} has {found} entries for {tokens} tokens"),
    ))
}
