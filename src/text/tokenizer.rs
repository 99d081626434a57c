//! The tokenizer that everything else asks: encode with offsets, decode, special ids, export.

use super::chat::ChatTemplate;
use super::checks::check_tokenizer_json;
use super::config::Config;
use super::offsets::character_offsets;
use super::{Message, TextError};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokenizers::{ModelWrapper, PostProcessorWrapper, Tokenizer};

/// A text on which tokenizers with one vocabulary and other rules part ways.
const PROBE: &str = "The cats'  unhappiness (1234.5%) wasn't  naïve:\n\tif x_y == -3e8 { ÜBER “größer” } 漢字かな русский 한국어 🦀👩‍🚀 aaaabbbb";

/// Ids of a text with the characters that each stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids, in order.
    pub ids: Vec<u32>,
    /// Per token the code points of the encoded text that it stands for, end exclusive.
    ///
    /// Starts never decrease and nothing lies outside the text. Every token of a character that is split over several
    /// has the whole character. A token that stands for no character (BOS, EOS, a space put in front) has an empty
    /// range. Spaces belong to the token that holds them; a character that normalisation folds into the one before it
    /// (NFC) belongs to that one's tokens.
    pub offsets: Vec<(usize, usize)>,
}

/// An [`Encoding`] whose last `trailing` tokens the tokenizer added on its own (EOS).
pub(super) struct Marked {
    pub(super) encoding: Encoding,
    pub(super) trailing: usize,
}

/// A vocabulary with its rules: text to ids and back, and the model's chat template. Cheap to clone.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: Tokenizer,
    /// The file as it came, for an export that changes nothing. `None` for a tokenizer built from another format.
    source: Option<Vec<u8>>,
    config: Config,
    template: Option<ChatTemplate>,
    vocab_size: usize,
    /// Tokens that the post-processor puts in front of a text.
    leading: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    /// Ids that decoding with `skip_special_tokens` leaves out.
    special: BTreeSet<u32>,
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer")
            .field("vocab_size", &self.inner.vocab_size)
            .field("bos", &self.inner.bos)
            .field("eos", &self.inner.eos)
            .field("pad", &self.inner.pad)
            .field("chat_template", &self.inner.template.is_some())
            .finish_non_exhaustive()
    }
}

impl TextTokenizer {
    /// Reads Hugging Face files: `tokenizer.json`, `tokenizer_config.json` and the text of `chat_template.jinja`, which
    /// wins over a template inside the config.
    ///
    /// Padding, truncation and BPE dropout that the file asks for are switched off: rows are cut by
    /// [`super::encode_answer`] and the same text always gives the same ids. `add_bos_token` and `add_eos_token` of the
    /// config win over the post-processor where they are given. Without a config the tokenizer has no EOS and no
    /// padding id, and its BOS is the token that the post-processor puts in front, if there is one.
    ///
    /// # Errors
    /// [`TextError::Broken`], [`TextError::Unsupported`], and [`TextError::VocabularyDisagreement`] when the config
    /// names tokens that `tokenizer.json` does not have, or has under another id.
    pub fn from_hf(
        tokenizer_json: &[u8],
        tokenizer_config: Option<&[u8]>,
        chat_template: Option<&str>,
    ) -> Result<Self, TextError> {
        let added = check_tokenizer_json(tokenizer_json)?;
        let tokenizer =
            Tokenizer::from_bytes(tokenizer_json).map_err(|e| broken("tokenizer.json", e))?;
        for token in &added {
            // The tokenizers crate gives such a token an id of its own and only logs it.
            let real = tokenizer.token_to_id(&token.content);
            if real != Some(token.id) {
                return Err(disagreement(
                    &token.content,
                    token.id,
                    real,
                    "added_tokens",
                    "the vocabulary",
                ));
            }
        }
        let mut config = match tokenizer_config {
            Some(bytes) => Config::from_bytes(bytes)?,
            None => Config::default(),
        };
        if let Some(template) = chat_template {
            config.chat_template = Some(template.to_owned());
        }
        Self::assemble(tokenizer, Some(tokenizer_json.to_vec()), config)
    }

    /// Reads the key-value part of a GGUF file: byte-level BPE (`gpt2`) with the pre-tokenizers `gpt-2`, `smollm`,
    /// `llama-bpe`, `qwen2` and `default`, or SentencePiece BPE (`llama`).
    ///
    /// # Errors
    /// [`TextError::Broken`] for missing or malformed keys, [`TextError::Unsupported`] for any other kind.
    pub fn from_gguf(meta: &crate::model::gguf::Metadata) -> Result<Self, TextError> {
        let (tokenizer, config) = super::gguf::read(meta)?;
        Self::assemble(tokenizer, None, Config::from_map(config)?)
    }

    /// Reads llama2.c's `tok*.bin`; `vocab_size` is the model's. Gives the ids of llama2.c's own `encode`, except that
    /// `<unk>`, `<s>` and `</s>` written in a text are read as those tokens.
    ///
    /// # Errors
    /// [`TextError::Broken`], and [`TextError::VocabularySize`] when the file does not hold `vocab_size` tokens.
    pub fn from_llama2c(tok_bin: &[u8], vocab_size: usize) -> Result<Self, TextError> {
        let (tokenizer, config) = super::llama2c::read(tok_bin, vocab_size)?;
        Self::assemble(tokenizer, None, Config::from_map(config)?)
    }

    fn assemble(
        mut tokenizer: Tokenizer,
        source: Option<Vec<u8>>,
        config: Config,
    ) -> Result<Self, TextError> {
        tokenizer
            .with_truncation(None)
            .map_err(|e| broken("tokenizer.json", e))?
            .with_padding(None);
        match tokenizer.get_model() {
            ModelWrapper::BPE(bpe) if bpe.dropout.is_some() => {
                let mut bpe = bpe.clone();
                bpe.dropout = None;
                tokenizer.with_model(bpe);
            }
            ModelWrapper::BPE(_) | ModelWrapper::WordLevel(_) | ModelWrapper::WordPiece(_) => {}
            ModelWrapper::Unigram(_) => {
                return Err(TextError::Unsupported {
                    what: "a Unigram vocabulary".into(),
                    supported: "BPE, WordLevel and WordPiece",
                });
            }
        }
        if let Some(processor) = tokenizer.get_post_processor() {
            let processor = keep_spaces(processor)?;
            tokenizer.with_post_processor(Some(processor));
        }

        let vocab = tokenizer.get_vocab(true);
        let distinct: BTreeSet<u32> = vocab.values().copied().collect();
        let vocab_size = distinct.last().map_or(0, |&id| id as usize + 1);
        if distinct.len() != vocab.len() {
            let mut seen = std::collections::BTreeMap::new();
            for (token, id) in &vocab {
                if let Some(other) = seen.insert(*id, token) {
                    return Err(broken(
                        "the vocabulary",
                        format!("{token:?} and {other:?} both have id {id}"),
                    ));
                }
            }
        }
        for (id, text) in &config.added_tokens {
            let real = vocab.get(text).copied();
            if real != Some(*id) {
                return Err(disagreement(
                    text,
                    *id,
                    real,
                    "tokenizer_config.json",
                    "tokenizer.json",
                ));
            }
        }
        let id_of = |name: &Option<String>| match name {
            None => Ok(None),
            Some(text) => match vocab.get(text) {
                Some(&id) => Ok(Some(id)),
                None => Err(broken(
                    "tokenizer_config.json",
                    format!("its special token {text:?} is not in tokenizer.json"),
                )),
            },
        };
        let (mut bos, eos) = (id_of(&config.bos)?, id_of(&config.eos)?);
        // Padding is never looked at, so a name without an id costs nothing.
        let pad = config
            .pad
            .as_ref()
            .and_then(|text| vocab.get(text).copied());
        if config.raw.is_empty() && bos.is_none() {
            let alone = tokenizer
                .encode("", true)
                .map_err(|e| broken("tokenizer.json", e))?;
            bos = alone.get_ids().first().copied();
        }
        let around = tokenizer
            .encode("a", true)
            .map_err(|e| broken("tokenizer.json", e))?;
        let leading = around
            .get_special_tokens_mask()
            .iter()
            .take_while(|m| **m == 1)
            .count();
        let mut special: BTreeSet<u32> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        special.extend([bos, eos, pad].into_iter().flatten());
        let template = config
            .chat_template
            .as_ref()
            .map(|source| ChatTemplate::new(source, &config.specials));
        Ok(Self {
            inner: Arc::new(Inner {
                tokenizer,
                source,
                config,
                template,
                vocab_size,
                leading,
                bos,
                eos,
                pad,
                special,
            }),
        })
    }

    /// The ids of a text. `add_special_tokens` adds BOS and EOS as the tokenizer's files say. Special tokens written out
    /// in the text (`<|im_end|>`) become those tokens, as everywhere in the Hugging Face world.
    ///
    /// # Errors
    /// [`TextError::Encode`] when the tokenizer's own rules fail on the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Encoding, TextError> {
        Ok(self.encode_marked(text, add_special_tokens)?.encoding)
    }

    pub(super) fn encode_marked(
        &self,
        text: &str,
        add_special_tokens: bool,
    ) -> Result<Marked, TextError> {
        let inner = &*self.inner;
        let raw = inner
            .tokenizer
            .encode(text, add_special_tokens)
            .map_err(|e| TextError::Encode {
                characters: text.chars().count(),
                reason: e.to_string(),
            })?;
        let added = raw.get_special_tokens_mask();
        // Around an empty text the tokens in front and behind meet; then those known to stand in front are counted.
        let leading = added
            .iter()
            .take(inner.leading)
            .take_while(|m| **m == 1)
            .count();
        let mut trailing = added
            .iter()
            .skip(leading)
            .rev()
            .take_while(|m| **m == 1)
            .count();
        let mut ids = raw.get_ids().to_vec();
        let mut offsets = character_offsets(text, &raw);
        if add_special_tokens {
            match (inner.config.add_bos, inner.bos) {
                (Some(true), Some(bos)) if leading == 0 || ids.first() != Some(&bos) => {
                    ids.insert(0, bos);
                    offsets.insert(0, (0, 0));
                }
                (Some(false), Some(bos)) if leading > 0 && ids.first() == Some(&bos) => {
                    ids.remove(0);
                    offsets.remove(0);
                }
                _ => {}
            }
            match (inner.config.add_eos, inner.eos) {
                (Some(true), Some(eos)) if trailing == 0 || ids.last() != Some(&eos) => {
                    ids.push(eos);
                    let end = text.chars().count();
                    offsets.push((end, end));
                    trailing += 1;
                }
                (Some(false), Some(eos)) if trailing > 0 && ids.last() == Some(&eos) => {
                    ids.pop();
                    offsets.pop();
                    trailing -= 1;
                }
                _ => {}
            }
        }
        Ok(Marked {
            encoding: Encoding { ids, offsets },
            trailing,
        })
    }

    /// The text of ids; bytes that form no character become U+FFFD. `skip_special_tokens` leaves BOS, EOS and the like
    /// out. The whole text is decoded at once because a character may lie in several tokens.
    ///
    /// # Errors
    /// [`TextError::IdOutOfRange`] for an id that the vocabulary does not have; a model's embedding may have more rows.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TextError> {
        let inner = &*self.inner;
        if let Some(&id) = ids
            .iter()
            .find(|id| inner.tokenizer.id_to_token(**id).is_none())
        {
            return Err(TextError::IdOutOfRange {
                id,
                vocab_size: inner.vocab_size,
            });
        }
        let kept: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !(skip_special_tokens && inner.special.contains(id)))
            .collect();
        inner
            .tokenizer
            .decode(&kept, skip_special_tokens)
            .map_err(|e| TextError::Decode {
                tokens: ids.len(),
                reason: e.to_string(),
            })
    }

    /// The vocabulary's own entry (`Ġthe`, `▁the`, `<0x0A>`), or `None` for an id that it does not have.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.tokenizer.id_to_token(id)
    }

    /// The id that stands for text which the vocabulary cannot write; `None` where it can write everything, or says of no
    /// token that it is that one.
    pub fn unknown(&self) -> Option<u32> {
        let tokenizer = &self.inner.tokenizer;
        let name = match tokenizer.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.as_deref(),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.as_str()),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.as_str()),
            // Refused when the tokenizer is read.
            ModelWrapper::Unigram(_) => None,
        };
        tokenizer.token_to_id(name?)
    }

    /// V: one more than the largest id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// SHA-256 in hex of what this tokenizer makes of text: every token by its id, the end of text, and the ids of a fixed
    /// text of many scripts, spaces, digits and signs. The same rules read from files of another format give the same
    /// digest; padding and the chat template have no part in it.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for id in 0..self.vocab_size() as u32 {
            let token = self.token(id).unwrap_or_default();
            digest.update((token.len() as u64).to_le_bytes());
            digest.update(token.as_bytes());
        }
        digest.update(format!("\neos {:?}\n", self.eos()));
        match self.encode(PROBE, true) {
            Ok(encoding) => digest.update(format!("{:?}", encoding.ids)),
            // A tokenizer that cannot read the text is told from others by what it says.
            Err(error) => digest.update(error.to_string()),
        }
        let bytes = digest.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The token that begins a text, where the model has one. Whether [`Self::encode`] adds it is another question.
    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    /// The token that ends a text or, in chat models, a turn.
    pub fn eos(&self) -> Option<u32> {
        self.inner.eos
    }

    /// The padding token, where the files name one.
    pub fn pad(&self) -> Option<u32> {
        self.inner.pad
    }

    /// Whether [`Self::render_chat`] can work.
    pub fn has_chat_template(&self) -> bool {
        self.inner.template.is_some()
    }

    /// A conversation as the model's chat template writes it. Encode the result without special tokens: templates write
    /// BOS themselves. `add_generation_prompt` ends it with the header of the assistant's next turn.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`], [`TextError::TemplateFailed`], [`TextError::TemplateRefused`].
    pub fn render_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        match &self.inner.template {
            Some(template) => template.render(messages, add_generation_prompt),
            None => Err(TextError::NoChatTemplate),
        }
    }

    /// Whether the id is a control token rather than text.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.inner.special.contains(&id)
    }

    /// The `tokenizer.json` of this tokenizer: the very bytes it was read from, or a new file with the same ids.
    ///
    /// # Errors
    /// [`TextError::Broken`] when the tokenizer cannot be written.
    pub fn to_tokenizer_json(&self) -> Result<Vec<u8>, TextError> {
        match &self.inner.source {
            Some(bytes) => Ok(bytes.clone()),
            None => self
                .inner
                .tokenizer
                .to_string(false)
                .map(String::into_bytes)
                .map_err(|e| broken("tokenizer.json", e)),
        }
    }

    /// The `tokenizer_config.json` that goes with [`Self::to_tokenizer_json`], the chat template in use inside it.
    ///
    /// # Errors
    /// [`TextError::Broken`] when it cannot be written.
    pub fn to_tokenizer_config_json(&self) -> Result<Vec<u8>, TextError> {
        let config = &self.inner.config;
        let mut raw: Map<String, Value> = config.raw.clone();
        if let Some(template) = &config.chat_template {
            raw.insert("chat_template".into(), template.clone().into());
        }
        if raw.is_empty() {
            // Not `{}`: a config that says nothing would hide the BOS that is found without one.
            raw.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
            if let Some(bos) = self.bos().and_then(|id| self.token(id)) {
                raw.insert("bos_token".into(), bos.into());
            }
        }
        serde_json::to_vec_pretty(&raw).map_err(|e| broken("tokenizer_config.json", e))
    }
}

pub(super) fn broken(file: &'static str, reason: impl ToString) -> TextError {
    TextError::Broken {
        file,
        reason: reason.to_string(),
    }
}

fn disagreement(
    token: &str,
    here: u32,
    there: Option<u32>,
    here_file: &'static str,
    there_file: &'static str,
) -> TextError {
    TextError::VocabularyDisagreement {
        token: token.to_owned(),
        here,
        here_file,
        there: there.map_or("none".into(), |id| format!("id {id}")),
        there_file,
    }
}

/// The post-processor with its trimming of spaces from offsets off: every character of an answer belongs to a token.
fn keep_spaces(processor: &PostProcessorWrapper) -> Result<PostProcessorWrapper, TextError> {
    fn patch(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match name.as_str() {
                        "trim_offsets" => *field = Value::Bool(false),
                        _ => patch(field),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(patch),
            _ => {}
        }
    }
    let file = "tokenizer.json";
    let mut value = serde_json::to_value(processor).map_err(|e| broken(file, e))?;
    patch(&mut value);
    // Through text: some of the crate's types only read from borrowed strings.
    let text = value.to_string();
    serde_json::from_str(&text).map_err(|e| broken(file, e))
}
