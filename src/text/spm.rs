//! SentencePiece BPE, as llama2.c and GGUF's `llama` vocabularies store it: every token with a score.
//!
//! Their encoders join, again and again, the neighbouring pair whose union has the best score, the leftmost of equals.
//! A BPE model joins by the rank of a pair of tokens. The two agree when each way to split a token in two becomes a
//! merge, ranked by the token's score, and among the splits of one token the longer left half goes first: in a run of one
//! letter the encoders fill from the left, so the shorter piece is always the right one. A test holds this against a
//! plain pair-by-pair encoder.

use super::TextError;
use super::tokenizer::broken;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, Tokenizer};

/// What a vocabulary entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that merges reach.
    Normal,
    /// BOS, EOS, unknown: found as a whole in the text, skipped when decoding.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// `<0x0A>`: one byte of a character that the vocabulary does not have.
    Byte,
}

/// A vocabulary entry; its place in the list is its id.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// A scored vocabulary with its rules.
pub(super) struct Spm {
    pub(super) pieces: Vec<Piece>,
    /// The character that stands for a space.
    pub(super) space: char,
    /// Whether a text (and what follows a control token) gets a space in front.
    pub(super) add_space_prefix: bool,
    pub(super) unknown: Option<usize>,
    /// Put in front of and behind every text that asks for special tokens.
    pub(super) front: Option<usize>,
    pub(super) back: Option<usize>,
}

/// llama2.c takes no union with a lower score.
const LOWEST_SCORE: f32 = -1e10;

impl Spm {
    /// The same rules as a tokenizer of the tokenizers crate. `file` names the source in errors.
    pub(super) fn build(&self, file: &'static str) -> Result<Tokenizer, TextError> {
        let mut bpe = BPE::builder()
            .vocab_and_merges(
                vocabulary(file, self.pieces.iter().map(|p| p.text.as_str()))?,
                self.merges(),
            )
            .byte_fallback(self.pieces.iter().any(|p| p.kind == Kind::Byte))
            .fuse_unk(true);
        if let Some(piece) = self.unknown.and_then(|id| self.pieces.get(id)) {
            bpe = bpe.unk_token(piece.text.clone());
        }
        let mut tokenizer = Tokenizer::new(bpe.build().map_err(|e| broken(file, e))?);

        let mut normalizers = Vec::new();
        if self.add_space_prefix {
            normalizers.push(json!({"type": "Prepend", "prepend": self.space.to_string()}));
        }
        let replaced = self.space != ' ';
        if replaced {
            normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": self.space.to_string()}));
        }
        if !normalizers.is_empty() {
            let normalizer: NormalizerWrapper = part(
                file,
                json!({"type": "Sequence", "normalizers": normalizers}),
            )?;
            tokenizer.with_normalizer(Some(normalizer));
        }
        let mut decoders = Vec::new();
        if replaced {
            decoders.push(json!({"type": "Replace", "pattern": {"String": self.space.to_string()}, "content": " "}));
        }
        decoders.extend([json!({"type": "ByteFallback"}), json!({"type": "Fuse"})]);
        if self.add_space_prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let decoder: DecoderWrapper =
            part(file, json!({"type": "Sequence", "decoders": decoders}))?;
        tokenizer.with_decoder(Some(decoder));

        let name =
            |id: Option<usize>| id.and_then(|id| Some((id, self.pieces.get(id)?.text.as_str())));
        add_front_and_back(&mut tokenizer, file, name(self.front), name(self.back))?;
        add_tokens(
            &mut tokenizer,
            self.pieces.iter().map(|p| (p.text.as_str(), p.kind)),
        );
        Ok(tokenizer)
    }

    fn merges(&self) -> Merges {
        let halves: BTreeMap<&str, usize> = (self.pieces.iter().enumerate())
            .filter(|(_, p)| p.kind == Kind::Normal)
            .map(|(id, p)| (p.text.as_str(), id))
            .collect();
        // (score, token id, split): sorted by best score, then first token, then longest left half.
        let mut found: Vec<(f32, usize, usize)> = Vec::new();
        for (&text, &id) in &halves {
            let Some(piece) = self.pieces.get(id).filter(|p| p.score > LOWEST_SCORE) else {
                continue;
            };
            for (split, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(split);
                if halves.contains_key(left) && halves.contains_key(right) {
                    found.push((piece.score, id, split));
                }
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2)));
        let pair = |(_, id, split): (f32, usize, usize)| {
            let (left, right) = self.pieces.get(id)?.text.split_at_checked(split)?;
            Some((left.to_owned(), right.to_owned()))
        };
        found.into_iter().filter_map(pair).collect()
    }
}

/// Token texts to ids. Two ids with one text cannot be told apart.
pub(super) fn vocabulary<'a>(
    file: &'static str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<tokenizers::models::bpe::Vocab, TextError> {
    let mut vocab = tokenizers::models::bpe::Vocab::default();
    for (id, text) in texts.enumerate() {
        let id = u32::try_from(id).map_err(|_| broken(file, "more than 2^32 tokens"))?;
        if let Some(other) = vocab.insert(text.to_owned(), id) {
            return Err(broken(
                file,
                format!("tokens {other} and {id} are both {text:?}"),
            ));
        }
    }
    Ok(vocab)
}

/// A part of a tokenizer, written as `tokenizer.json` writes it.
pub(super) fn part<T: DeserializeOwned>(file: &'static str, value: Value) -> Result<T, TextError> {
    serde_json::from_str(&value.to_string()).map_err(|e| broken(file, e))
}

/// Makes encoding with special tokens put `front` before and `back` after the text.
pub(super) fn add_front_and_back(
    tokenizer: &mut Tokenizer,
    file: &'static str,
    front: Option<(usize, &str)>,
    back: Option<(usize, &str)>,
) -> Result<(), TextError> {
    if front.is_none() && back.is_none() {
        return Ok(());
    }
    let special = |token: Option<(usize, &str)>| {
        token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": 0}}))
    };
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let around = |id: &str| -> Vec<Value> {
        special(front)
            .into_iter()
            .chain([sequence(id)])
            .chain(special(back))
            .collect()
    };
    let tokens: serde_json::Map<String, Value> = [front, back]
        .into_iter()
        .flatten()
        .map(|(id, text)| {
            (
                text.to_owned(),
                json!({"id": text, "ids": [id], "tokens": [text]}),
            )
        })
        .collect();
    let pair: Vec<Value> = around("A").into_iter().chain(around("B")).collect();
    let processor: PostProcessorWrapper = part(
        file,
        json!({"type": "TemplateProcessing", "single": around("A"), "pair": pair, "special_tokens": tokens}),
    )?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}

/// Registers the tokens that are found as a whole in a text.
pub(super) fn add_tokens<'a>(
    tokenizer: &mut Tokenizer,
    tokens: impl Iterator<Item = (&'a str, Kind)>,
) {
    let mut seen = BTreeSet::new();
    let added: Vec<AddedToken> = tokens
        .filter(|(text, kind)| {
            matches!(kind, Kind::Control | Kind::UserDefined)
                && !text.is_empty()
                && seen.insert(*text)
        })
        .map(|(text, kind)| AddedToken::from(text, kind == Kind::Control).normalized(false))
        .collect();
    tokenizer.add_tokens(&added);
}
