//! Models as files that other tools read: Hugging Face directories and PEFT adapters.

use super::run::{LoadedModel, Run};
use super::{TrainError, Trainable};
use crate::model::{ModelError, huggingface, safetensors};

/// Files by name.
pub type ExportedFiles = Vec<(String, Vec<u8>)>;

/// A model as a Hugging Face directory: config.json, model.safetensors (f32), tokenizer.json, tokenizer_config.json.
/// An adapter is not merged; see [`Run::export`].
pub async fn export_model(model: &LoadedModel) -> Result<ExportedFiles, TrainError> {
    let exported = huggingface::export(&model.decoder).await.map_err(device)?;
    let mut files = vec![
        ("config.json".to_string(), exported.config),
        ("model.safetensors".to_string(), exported.weights),
    ];
    files.extend(tokenizer_files(model)?);
    Ok(files)
}

fn tokenizer_files(model: &LoadedModel) -> Result<ExportedFiles, TrainError> {
    let text = |error: crate::text::TextError| TrainError::Vocabulary(error.to_string());
    Ok(vec![
        (
            "tokenizer.json".into(),
            model.tokenizer.to_tokenizer_json().map_err(text)?,
        ),
        (
            "tokenizer_config.json".into(),
            model.tokenizer.to_tokenizer_config_json().map_err(text)?,
        ),
    ])
}

fn device(error: ModelError) -> TrainError {
    TrainError::Device(error.to_string())
}

impl Run {
    /// What the run learned: the whole model where the trunk trained, the PEFT adapter where an adapter did, and
    /// always the whole reward head beside it (`reward_head.safetensors`).
    pub async fn export(&self) -> Result<ExportedFiles, TrainError> {
        let mut files = match (&self.config.trainable, &self.model.decoder.lora) {
            (Trainable::Full, _) => export_model(&self.model).await?,
            (Trainable::Lora(_), Some(lora)) => {
                let exported = lora.export().await.map_err(device)?;
                let mut files = vec![
                    ("adapter_config.json".to_string(), exported.config),
                    ("adapter_model.safetensors".to_string(), exported.weights),
                ];
                files.extend(tokenizer_files(&self.model)?);
                files
            }
            _ => Vec::new(),
        };
        let mut tensors = std::collections::BTreeMap::new();
        for (name, weight) in self.head.weights.iter() {
            let values = weight.to_host(name).await.map_err(device)?;
            tensors.insert(
                name.to_string(),
                safetensors::HostTensor {
                    shape: weight.shape(),
                    values,
                },
            );
        }
        files.push((
            "reward_head.safetensors".into(),
            safetensors::write(&tensors),
        ));
        Ok(files)
    }
}
