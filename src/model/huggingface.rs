//! Hugging Face model folders: `config.json` and `model.safetensors`, whole or in shards.

use super::import::assemble;
use super::safetensors::{View, Writer, views};
use super::shapes::expected_shapes;
use super::{Architecture, Decoder, ModelConfig, ModelError, is_transposed};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet};

/// The shard files that an index (`model.safetensors.index.json`) names, in order.
///
/// # Errors
/// Not JSON, or no `weight_map`.
pub fn shard_names(index: &[u8]) -> Result<Vec<String>, ModelError> {
    let bad = |reason: String| ModelError::Json {
        file: "model.safetensors.index.json",
        reason,
    };
    let value: serde_json::Value = serde_json::from_slice(index).map_err(|e| bad(e.to_string()))?;
    let map = value
        .get("weight_map")
        .and_then(|m| m.as_object())
        .ok_or_else(|| bad("it has no `weight_map`".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            Some(file) => names.insert(file.to_string()),
            None => return Err(bad(format!("`{tensor}` has no file name"))),
        };
    }
    Ok(names.into_iter().collect())
}

/// Loads a model from the bytes of `config.json` and `model.safetensors`.
///
/// # Errors
/// A damaged file, an unsupported model, or tensors that do not fit the configuration.
pub fn load(config: &[u8], weights: &[u8], device: &Device) -> Result<Decoder, ModelError> {
    let found = views(weights).map_err(|error| error.in_file("model.safetensors"))?;
    load_views(ModelConfig::from_json(config)?, found, device)
}

/// Loads a model whose weights lie in several files. `shards` gives the bytes of each file that `index` names.
///
/// # Errors
/// As [`load`]; also a shard that was not given, or a tensor in two shards.
pub fn load_sharded(
    config: &[u8],
    index: &[u8],
    shards: &BTreeMap<String, &[u8]>,
    device: &Device,
) -> Result<Decoder, ModelError> {
    let mut all = BTreeMap::new();
    for name in shard_names(index)? {
        let bytes = shards
            .get(&name)
            .ok_or_else(|| ModelError::MissingShard { name: name.clone() })?;
        for (tensor, view) in views(bytes).map_err(|error| error.in_file(&name))? {
            if all.insert(tensor.clone(), view).is_some() {
                return Err(ModelError::DuplicateTensor { name: tensor });
            }
        }
    }
    load_views(ModelConfig::from_json(config)?, all, device)
}

fn load_views(
    config: ModelConfig,
    found: BTreeMap<String, View<'_>>,
    device: &Device,
) -> Result<Decoder, ModelError> {
    let mut tensors = BTreeMap::new();
    for (name, view) in found {
        if is_buffer(&name) {
            continue;
        }
        let canonical = canonical_name(&config, &name);
        if tensors.insert(canonical, view).is_some() {
            return Err(ModelError::DuplicateTensor { name });
        }
    }
    // A tied model may carry its embedding a second time, and a classifier's base an unused language model head.
    if config.tied || config.labels.is_some() {
        tensors.remove("lm_head.weight");
    }
    let expected: BTreeSet<String> = expected_shapes(&config)
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    let extra: Vec<&String> = tensors.keys().filter(|n| !expected.contains(*n)).collect();
    if let Some(first) = extra.first() {
        return Err(ModelError::UnexpectedTensors {
            count: extra.len(),
            first: (*first).clone(),
        });
    }
    assemble(config, device, |name| {
        tensors.get(name).map(|view| view.source(name)).transpose()
    })
}

/// Constants that older files store beside the weights.
fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Files written from the bare trunk lack the prefix (OpenAI's own GPT-2 does).
fn canonical_name(config: &ModelConfig, name: &str) -> String {
    let prefix = match config.architecture {
        Architecture::Gpt2 => "transformer.",
        _ => "model.",
    };
    let has_prefix =
        name.starts_with(prefix) || name.starts_with("lm_head.") || name.starts_with("score.");
    if has_prefix {
        name.into()
    } else {
        format!("{prefix}{name}")
    }
}

/// A model as files.
#[derive(Clone, Debug)]
pub struct Exported {
    /// `config.json`.
    pub config: Vec<u8>,
    /// `model.safetensors`, f32.
    pub weights: Vec<u8>,
}

/// Writes a model as Hugging Face files. An adapter is not written (see [`super::Lora::export`] and
/// [`super::Lora::merge`]). Tensors are read back one at a time.
///
/// # Errors
/// When the device fails to hand back data.
pub async fn export(model: &Decoder) -> Result<Exported, ModelError> {
    let mut shapes = expected_shapes(&model.config);
    shapes.sort();
    let mut writer = Writer::new(&shapes);
    for (name, shape) in &shapes {
        let weight = model
            .weights
            .get(name)
            .ok_or_else(|| ModelError::MissingTensors {
                count: 1,
                first: name.clone(),
            })?;
        let values = weight.to_host(name).await?;
        match (is_transposed(name), shape.as_slice()) {
            (true, &[rows, cols]) => writer.push(&transpose(&values, cols, rows)),
            _ => writer.push(&values),
        }
    }
    let config =
        serde_json::to_vec_pretty(&model.config.to_json()).map_err(|e| ModelError::Json {
            file: "config.json",
            reason: e.to_string(),
        })?;
    Ok(Exported {
        config,
        weights: writer.finish(),
    })
}

/// `values [rows, cols]` as `[cols, rows]`.
pub(crate) fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let source = super::import::Source {
        shape: vec![rows, cols],
        read: Box::new(|row, out| out.copy_from_slice(&values[row * cols..(row + 1) * cols])),
    };
    source.values(true)
}
