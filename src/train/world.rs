//! The built-in world as a model and rows: the default of page and command, which needs no download.

use super::TrainError;
use super::open::{Files, OpenError, open_model};
use super::run::LoadedModel;
use crate::data::{Answer, Content, DemonstrationRow, Rows, split_by_hash};
use crate::model::{Architecture, Decoder, ModelConfig, RopeScaling};
use crate::text::TextTokenizer;
use crate::world::{Language, PreferenceNoise};
use burn::tensor::Device;

/// The tiny decoder's weights; `avascope pretrain` remakes them.
const DECODER: &[u8] = include_bytes!("../world/decoder.safetensors");
/// Its name in records.
const NAME: &str = "world decoder";

/// The tiny decoder's sizes: two layers of 64 are enough for the world's context rules, and train at thousands of
/// tokens a second on one core in a browser.
fn decoder_config(tokenizer: &TextTokenizer) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: tokenizer.vocab_size().next_multiple_of(8),
        hidden_size: 64,
        intermediate_size: 172,
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position: 128,
        norm_eps: 1e-5,
        tied: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        labels: None,
        bos: tokenizer.bos(),
        eos: tokenizer.eos().into_iter().collect(),
        pad: tokenizer.pad(),
    }
}

fn tokenizer() -> Result<TextTokenizer, OpenError> {
    let language = Language::new();
    Ok(TextTokenizer::from_hf(
        &language.tokenizer_json(),
        Some(&language.tokenizer_config_json()),
        None,
    )?)
}

/// The built-in model: the world's tokenizer, and a decoder that has read its corpus and nothing else.
pub fn world_model(device: &Device) -> Result<LoadedModel, OpenError> {
    let language = Language::new();
    let tokenizer = tokenizer()?;
    let config = serde_json::to_vec(&decoder_config(&tokenizer).to_json()).unwrap_or_default();
    let (tokens, settings) = (language.tokenizer_json(), language.tokenizer_config_json());
    let files: Files<'_> = [
        ("config.json", config.as_slice()),
        ("model.safetensors", DECODER),
        ("tokenizer.json", tokens.as_slice()),
        ("tokenizer_config.json", settings.as_slice()),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_string(), bytes))
    .collect();
    open_model(NAME, &files, device)
}

/// The decoder before it has read anything.
pub fn world_decoder_at_random(seed: u64, device: &Device) -> Result<LoadedModel, OpenError> {
    let tokenizer = tokenizer()?;
    let decoder = Decoder::init(decoder_config(&tokenizer), seed, device)?;
    Ok(LoadedModel {
        name: NAME.into(),
        decoder,
        tokenizer,
        reference: None,
    })
}

/// Rows of the world. Preferences are drawn from the true returns with the default, stated noise.
pub fn world_rows(rows: usize, seed: u64, demonstrations: bool) -> Rows {
    let language = Language::new();
    if demonstrations {
        Rows::Demonstrations(language.demonstrations(rows, seed))
    } else {
        // The default noise is within its own range, so drawing cannot fail.
        Rows::Preferences(
            language
                .preferences(rows, seed, PreferenceNoise::default())
                .unwrap_or_default(),
        )
    }
}

/// Answers of the world's ordinary writer: the base to hold its demonstrations against.
pub fn world_base_answers(rows: usize, seed: u64) -> Rows {
    Rows::Demonstrations(Language::new().base_answers(rows, seed))
}

/// Texts for pretraining and the share of them held out.
pub fn world_corpus(texts: usize, seed: u64) -> (Rows, Rows) {
    let rows = Language::new()
        .corpus(texts, seed)
        .into_iter()
        .enumerate()
        .map(|(i, text)| DemonstrationRow {
            id: format!("corpus-{i:06}"),
            line: i + 1,
            prompt: Content::Text(String::new()),
            answer: Answer {
                content: Content::Text(text),
                spans: None,
                true_rewards: None,
                true_reward_std: None,
            },
        })
        .collect();
    split_by_hash(Rows::Demonstrations(rows), 0.02, "corpus")
}

impl From<OpenError> for TrainError {
    fn from(error: OpenError) -> Self {
        TrainError::Rows(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::safetensors;

    #[test]
    fn the_committed_decoder_is_stored_as_pretraining_stores_it() {
        // Values that already are f16 stay as they are, so packing again must give the same file.
        assert_eq!(safetensors::to_f16(DECODER).unwrap(), DECODER);
    }
}
