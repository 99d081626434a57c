//! What tells a model and its tokenizer from others: a comparison that goes on after a while must find those that it began
//! with, whatever their files are called.

use super::error::CompareError;
use crate::text::TextTokenizer;
use crate::train::{LoadedModel, TrainError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256 (hexadecimal) over a model: its configuration, and the names, shapes and numbers of all its tensors, those of an
/// adapter that it brings among them.
///
/// # Errors
/// A device that failed.
pub async fn model_digest(model: &LoadedModel) -> Result<String, CompareError> {
    let mut digest = Sha256::new();
    digest.update(model.decoder.config.to_json().to_string());
    let adapter = model.decoder.lora.as_ref();
    if let Some(lora) = adapter {
        digest.update(format!("{:?}", lora.config));
    }
    let tensors = model.decoder.weights.iter();
    for (name, weight) in tensors.chain(adapter.into_iter().flat_map(|lora| lora.weights.iter())) {
        let values = weight
            .to_host(name)
            .await
            .map_err(|error| CompareError::Train {
                place: model.name.clone(),
                error: TrainError::Device(error.to_string()),
            })?;
        digest.update(format!("\n{name} {:?} ", weight.shape()));
        digest.update(bytemuck::cast_slice::<f32, u8>(&values));
    }
    Ok(hex(digest))
}

/// SHA-256 (hexadecimal) over what a tokenizer makes of text and of conversations.
pub fn tokenizer_digest(tokenizer: &TextTokenizer) -> String {
    let mut digest = Sha256::new();
    digest.update(tokenizer.digest());
    // The template's text and not what it writes, which may hold the day's date.
    let config = tokenizer.to_tokenizer_config_json().unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    digest.update(config["chat_template"].to_string());
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::world_model;
    use crate::world::Language;
    use burn::tensor::Device;

    #[test]
    fn one_number_anywhere_is_another_model() {
        let device = Device::flex();
        let model = world_model(&device).unwrap();
        let of = |model: &LoadedModel| pollster::block_on(model_digest(model)).unwrap();
        let before = of(&model);
        assert_eq!((before.len(), of(&model)), (64, before.clone()));
        let weights = model.decoder.weights.iter();
        let (name, weight) = weights.last().unwrap();
        let mut values = pollster::block_on(weight.to_host(name)).unwrap();
        *values.last_mut().unwrap() += 1.0;
        let (name, shape) = (name.to_string(), weight.shape());
        let mut other = model.clone();
        let weights = &mut other.decoder.weights;
        weights.insert_host(&name, values, &shape, &device);
        assert_ne!(of(&other), before);
        let mut other = model;
        other.decoder.config.norm_eps *= 2.0;
        assert_ne!(of(&other), before);
    }

    #[test]
    fn a_word_or_a_template_is_another_tokenizer() {
        let language = Language::new();
        let (tokens, config) = (language.tokenizer_json(), language.tokenizer_config_json());
        let of = |tokens: &[u8], template: Option<&str>| {
            let read = TextTokenizer::from_hf(tokens, Some(&config), template);
            tokenizer_digest(&read.unwrap())
        };
        let plain = of(&tokens, None);
        assert_eq!(of(&tokens, None), plain);
        let template = "{% for m in messages %}{{ m['content'] }} {% endfor %}";
        assert_ne!(of(&tokens, Some(template)), plain);
        let text = String::from_utf8(tokens.clone()).unwrap();
        assert!(text.contains("\"superb\""));
        let other = text.replace("\"superb\"", "\"superber\"");
        assert_ne!(of(other.as_bytes(), None), plain);
    }
}
