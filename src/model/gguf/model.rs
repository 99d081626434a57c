//! A decoder out of a GGUF file: configuration from the metadata, tensors by Hugging Face names.

use super::super::import::{Source, assemble, interleaved_row};
use super::super::{Architecture, Decoder, ModelConfig, ModelError, RopeScaling, expected_shapes};
use super::{FORMAT, Gguf, TensorEntry};
use burn::tensor::Device;
use std::collections::BTreeSet;

impl Gguf<'_> {
    /// The model's configuration.
    ///
    /// # Errors
    /// An architecture other than llama, qwen2 and qwen3, or a missing or impossible value.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        let text = |key: &str| self.metadata.get(key).and_then(|v| v.as_str());
        let (arch, architecture) = match text("general.architecture") {
            Some("llama") => ("llama", Architecture::Llama),
            Some("qwen2") => ("qwen2", Architecture::Qwen2),
            Some("qwen3") => ("qwen3", Architecture::Qwen3),
            other => {
                return Err(ModelError::Unsupported {
                    what: "GGUF architecture",
                    value: other.unwrap_or("(none)").into(),
                    supported: "llama, qwen2, qwen3",
                });
            }
        };
        let key = |name: &str| format!("{arch}.{name}");
        let optional = |name: &str| -> Result<Option<usize>, ModelError> {
            let key = key(name);
            match self.metadata.get(&key) {
                None => Ok(None),
                Some(v) => match v.as_u64().and_then(|n| u32::try_from(n).ok()) {
                    Some(n) if n > 0 => Ok(Some(n as usize)),
                    _ => Err(ModelError::config(
                        &key,
                        format!("is {v:?}, it must be a positive integer"),
                    )),
                },
            }
        };
        let size = |name: &str| {
            optional(name)?.ok_or_else(|| ModelError::config(&key(name), "is missing"))
        };
        let number = |name: &str, default: f64| {
            self.metadata
                .get(&key(name))
                .and_then(|v| v.as_f64())
                .unwrap_or(default)
        };
        if let Some(v) = self
            .metadata
            .get(&key("expert_count"))
            .filter(|v| v.as_u64() != Some(0))
        {
            return Err(ModelError::Unsupported {
                what: "mixture of experts",
                value: format!("{v:?} experts"),
                supported: "dense models",
            });
        }
        let rope_scaling = match text(&key("rope.scaling.type")) {
            None | Some("none") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear {
                factor: number("rope.scaling.factor", 1.0),
            },
            Some(other) => {
                return Err(ModelError::Unsupported {
                    what: "rope scaling",
                    value: other.into(),
                    supported: "none, linear",
                });
            }
        };
        let hidden_size = size("embedding_length")?;
        let heads = size("attention.head_count")?;
        let embedding = self.tensors.get("token_embd.weight");
        let vocab_size = match embedding.map(|e| e.shape.as_slice()) {
            Some(&[rows, _]) => rows,
            _ => return Err(missing("token_embd.weight")),
        };
        let head_dim = optional("attention.key_length")?.unwrap_or(hidden_size / heads);
        if optional("rope.dimension_count")?.unwrap_or(head_dim) != head_dim {
            return Err(ModelError::Unsupported {
                what: "partial rotary embedding",
                value: format!("{:?} of {head_dim}", optional("rope.dimension_count")?),
                supported: "rotary embedding over the whole head",
            });
        }
        let token = |name: &str| {
            let value = self
                .metadata
                .get(&format!("tokenizer.ggml.{name}_token_id"))?;
            value.as_u64().and_then(|n| u32::try_from(n).ok())
        };
        let config = ModelConfig {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size: size("feed_forward_length")?,
            layers: size("block_count")?,
            heads,
            kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            rope_theta: number("rope.freq_base", 10_000.0),
            rope_scaling,
            max_position: size("context_length")?,
            norm_eps: number("attention.layer_norm_rms_epsilon", 1e-5),
            tied: !self.tensors.contains_key("output.weight"),
            qkv_bias: self.tensors.contains_key("blk.0.attn_q.bias"),
            output_bias: self.tensors.contains_key("blk.0.attn_output.bias"),
            mlp_bias: self.tensors.contains_key("blk.0.ffn_down.bias"),
            qk_norm: architecture == Architecture::Qwen3,
            labels: None,
            bos: token("bos"),
            eos: token("eos").into_iter().collect(),
            pad: token("padding"),
        };
        config.check()?;
        Ok(config)
    }

    /// The model, dequantised to f32. Rotary embedding of the llama architecture is interleaved in these files; its q
    /// and k rows are put into the half-split order.
    ///
    /// # Errors
    /// As [`Gguf::config`], or tensors that do not fit the configuration.
    pub fn decoder(&self, device: &Device) -> Result<Decoder, ModelError> {
        let config = self.config()?;
        if self.tensors.contains_key("rope_freqs.weight") {
            return Err(ModelError::Unsupported {
                what: "rope scaling",
                value: "per-frequency factors (`rope_freqs.weight`)".into(),
                supported: "none, linear; load this model's safetensors instead",
            });
        }
        let expected: BTreeSet<String> = expected_shapes(&config)
            .iter()
            .filter_map(|(name, _)| file_name(name))
            .collect();
        let extra: Vec<_> = self
            .tensors
            .keys()
            .filter(|n| !expected.contains(*n))
            .collect();
        if let Some(first) = extra.first() {
            return Err(ModelError::UnexpectedTensors {
                count: extra.len(),
                first: (*first).clone(),
            });
        }
        let interleaved = config.architecture == Architecture::Llama;
        let head_dim = config.head_dim;
        assemble(config, device, |name| {
            let entry = file_name(name).and_then(|n| self.tensors.get(&n));
            let rotary = name.contains("q_proj") || name.contains("k_proj");
            Ok(entry.map(|e| source(e, (interleaved && rotary).then_some(head_dim))))
        })
    }
}

/// Loads a model from a GGUF file's bytes.
///
/// # Errors
/// As [`Gguf::parse`] and [`Gguf::decoder`].
pub fn load(bytes: &[u8], device: &Device) -> Result<Decoder, ModelError> {
    Gguf::parse(bytes)?.decoder(device)
}

fn missing(name: &str) -> ModelError {
    ModelError::malformed(FORMAT, format!("it has no matrix `{name}`"))
}

/// A reader of the entry; with a head width, its rows are taken from interleaved order.
fn source<'a>(entry: &TensorEntry<'a>, interleaved: Option<usize>) -> Source<'a> {
    let TensorEntry { shape, kind, bytes } = entry.clone();
    let vector = shape.len() == 1;
    Source {
        shape,
        read: Box::new(move |row, out| match interleaved {
            None => kind.read_row(bytes, row, out),
            Some(d) if vector => {
                let mut values = vec![0.0; out.len()];
                kind.read_row(bytes, 0, &mut values);
                for (i, slot) in out.iter_mut().enumerate() {
                    *slot = values
                        .get(interleaved_row(i, d))
                        .copied()
                        .unwrap_or_default();
                }
            }
            Some(d) => kind.read_row(bytes, interleaved_row(row, d), out),
        }),
    }
}

/// The GGUF name of a tensor with this Hugging Face name.
fn file_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (path, end) = rest.rsplit_once('.')?;
    let part = match path {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{end}"))
}
