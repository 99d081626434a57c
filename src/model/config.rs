//! What a model looks like: sizes, positions, norms. Read from and written to Hugging Face's `config.json`.

use super::ModelError;
use serde_json::{Value, json};

/// Families of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and what computes the same (Mistral without a sliding window).
    Llama,
    /// GPT-2: learned positions, LayerNorm, transposed linear weights.
    Gpt2,
    /// Qwen 2 and 2.5: biases on q, k, v.
    Qwen2,
    /// Qwen 3: RMS norm on each head of q and k.
    Qwen3,
}

/// How rotary frequencies are stretched for longer texts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by the factor.
    Linear {
        /// The divisor, at least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by the factor, high ones kept, a ramp between.
    Llama3 {
        /// The divisor for low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Context length before stretching.
        original: f64,
    },
}

/// Sizes and settings of a decoder. Rotary embedding is always in Hugging Face's half-split layout; importers convert.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// V.
    pub vocab_size: usize,
    /// H.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks.
    pub intermediate_size: usize,
    /// L.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Base of the rotary frequencies; unused by GPT-2.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest text the model was made for, in tokens. A hard limit for GPT-2's learned positions.
    pub max_position: usize,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Whether the output layer is the embedding.
    pub tied: bool,
    /// Whether q, k, v have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Whether q and k are normalised per head.
    pub qk_norm: bool,
    /// Some(n): a sequence classification head `score.weight [n, H]` instead of a language model head.
    pub labels: Option<usize>,
    /// First token of a text.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Padding token.
    pub pad: Option<u32>,
}

/// Largest value taken for any size: keeps every product of two sizes inside 64 bits.
const LARGEST: u64 = 1 << 28;
/// Largest number of layers.
const MOST_LAYERS: usize = 4096;

struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|v| !v.is_null())
    }

    fn size_or(&self, field: &str, default: Option<usize>) -> Result<usize, ModelError> {
        match (self.get(field), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => Err(ModelError::config(field, "is missing")),
            (Some(v), _) => match v.as_u64() {
                Some(n) if (1..=LARGEST).contains(&n) => Ok(n as usize),
                _ => Err(ModelError::config(
                    field,
                    format!("is {v}, it must be an integer from 1 to {LARGEST}"),
                )),
            },
        }
    }

    fn size(&self, field: &str) -> Result<usize, ModelError> {
        self.size_or(field, None)
    }

    fn number_or(&self, field: &str, default: f64) -> Result<f64, ModelError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => match v.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => Err(ModelError::config(
                    field,
                    format!("is {v}, it must be a positive number"),
                )),
            },
        }
    }

    fn flag_or(&self, field: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(field) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| {
                ModelError::config(field, format!("is {v}, it must be true or false"))
            }),
        }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    fn tokens(&self, field: &str) -> Result<Vec<u32>, ModelError> {
        let one = |v: &Value| {
            v.as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| ModelError::config(field, format!("is {v}, it must be a token id")))
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(one).collect(),
            // Some files write -1 for "none".
            Some(v) if v.as_i64() == Some(-1) => Ok(Vec::new()),
            Some(v) => Ok(vec![one(v)?]),
        }
    }

    /// Only this value (or its absence) is computed by the library.
    fn only(
        &self,
        field: &'static str,
        allowed: &[&str],
        list: &'static str,
    ) -> Result<(), ModelError> {
        match self.get(field) {
            None => Ok(()),
            Some(v) if v.as_str().is_some_and(|s| allowed.contains(&s)) => Ok(()),
            Some(v) => Err(ModelError::Unsupported {
                what: field,
                value: v.to_string(),
                supported: list,
            }),
        }
    }
}

impl ModelConfig {
    /// Reads `config.json` in the newest layout (`rope_parameters`) or the older one (`rope_theta` on top).
    ///
    /// # Errors
    /// Not JSON, a missing or impossible value, or something this library does not compute.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| ModelError::Json {
            file: "config.json",
            reason: e.to_string(),
        })?;
        let fields = Fields(&value);
        let architecture = match fields.text("model_type") {
            Some("llama" | "mistral") => Architecture::Llama,
            Some("gpt2") => Architecture::Gpt2,
            Some("qwen2") => Architecture::Qwen2,
            Some("qwen3") => Architecture::Qwen3,
            other => {
                return Err(ModelError::Unsupported {
                    what: "model_type",
                    value: other.unwrap_or("(none)").into(),
                    supported: "llama, mistral, gpt2, qwen2, qwen3",
                });
            }
        };
        if let Some(v) = fields.get("quantization_config") {
            return Err(ModelError::Unsupported {
                what: "quantization_config",
                value: v.to_string(),
                supported: "weights in f32, f16 or bf16",
            });
        }
        let mut config = if architecture == Architecture::Gpt2 {
            Self::gpt2(&fields)?
        } else {
            Self::rotary(&fields, architecture)?
        };
        let classifies = fields
            .get("architectures")
            .and_then(|a| a.get(0))
            .and_then(Value::as_str)
            .is_some_and(|a| a.ends_with("ForSequenceClassification"));
        if classifies {
            let labels = fields
                .get("id2label")
                .and_then(Value::as_object)
                .map(|m| m.len());
            config.labels = Some(fields.size_or("num_labels", Some(labels.unwrap_or(2)))?);
        }
        config.bos = fields.tokens("bos_token_id")?.first().copied();
        config.eos = fields.tokens("eos_token_id")?;
        config.pad = fields.tokens("pad_token_id")?.first().copied();
        config.check()?;
        Ok(config)
    }

    fn gpt2(f: &Fields) -> Result<Self, ModelError> {
        f.only(
            "activation_function",
            &["gelu_new", "gelu_pytorch_tanh"],
            "gelu_new",
        )?;
        if !f.flag_or("scale_attn_weights", true)?
            || f.flag_or("scale_attn_by_inverse_layer_idx", false)?
            || f.flag_or("add_cross_attention", false)?
        {
            return Err(ModelError::Unsupported {
                what: "GPT-2 attention variant",
                value: "scale_attn_weights=false, scale_attn_by_inverse_layer_idx or add_cross_attention".into(),
                supported: "the defaults",
            });
        }
        let hidden_size = f.size("n_embd")?;
        let heads = f.size("n_head")?;
        Ok(Self {
            architecture: Architecture::Gpt2,
            vocab_size: f.size("vocab_size")?,
            hidden_size,
            intermediate_size: f.size_or("n_inner", Some(hidden_size.saturating_mul(4)))?,
            layers: f.size("n_layer")?,
            heads,
            kv_heads: heads,
            head_dim: hidden_size / heads,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position: f.size("n_positions")?,
            norm_eps: f.number_or("layer_norm_epsilon", 1e-5)?,
            tied: f.flag_or("tie_word_embeddings", true)?,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            qk_norm: false,
            labels: None,
            bos: None,
            eos: Vec::new(),
            pad: None,
        })
    }

    fn rotary(f: &Fields, architecture: Architecture) -> Result<Self, ModelError> {
        f.only("hidden_act", &["silu", "swish"], "silu")?;
        let hidden_size = f.size("hidden_size")?;
        let heads = f.size("num_attention_heads")?;
        let max_position = f.size_or("max_position_embeddings", Some(2048))?;
        // A window as long as the longest text hides nothing; Qwen names one and says separately whether it is used.
        let window_used = match architecture {
            Architecture::Llama => true,
            _ => f.flag_or("use_sliding_window", false)?,
        };
        let window = f.get("sliding_window").and_then(Value::as_u64);
        if let Some(window) = window.filter(|w| window_used && (*w as usize) < max_position) {
            return Err(ModelError::Unsupported {
                what: "sliding_window",
                value: window.to_string(),
                supported: "none, or at least max_position_embeddings",
            });
        }
        let rope = f.get("rope_parameters").or_else(|| f.get("rope_scaling"));
        let (rope_theta, rope_scaling) = match rope {
            None => (f.number_or("rope_theta", 10_000.0)?, RopeScaling::None),
            Some(v) => {
                let r = Fields(v);
                let theta = r.number_or("rope_theta", f.number_or("rope_theta", 10_000.0)?)?;
                let scaling = match r.text("rope_type").or_else(|| r.text("type")) {
                    None | Some("default") => RopeScaling::None,
                    Some("linear") => RopeScaling::Linear {
                        factor: r.number_or("factor", 1.0)?,
                    },
                    Some("llama3") => RopeScaling::Llama3 {
                        factor: r.number_or("factor", 1.0)?,
                        low: r.number_or("low_freq_factor", 1.0)?,
                        high: r.number_or("high_freq_factor", 4.0)?,
                        original: r
                            .number_or("original_max_position_embeddings", max_position as f64)?,
                    },
                    Some(other) => {
                        return Err(ModelError::Unsupported {
                            what: "rope_type",
                            value: other.into(),
                            supported: "default, linear, llama3",
                        });
                    }
                };
                if r.number_or("partial_rotary_factor", 1.0)? != 1.0 {
                    return Err(ModelError::Unsupported {
                        what: "partial_rotary_factor",
                        value: v.to_string(),
                        supported: "1",
                    });
                }
                (theta, scaling)
            }
        };
        let attention_bias = f.flag_or("attention_bias", false)?;
        Ok(Self {
            architecture,
            vocab_size: f.size("vocab_size")?,
            hidden_size,
            intermediate_size: f.size("intermediate_size")?,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads: f.size_or("num_key_value_heads", Some(heads))?,
            head_dim: f.size_or("head_dim", Some((hidden_size / heads).max(1)))?,
            rope_theta,
            rope_scaling,
            max_position,
            norm_eps: f.number_or("rms_norm_eps", 1e-6)?,
            tied: f.flag_or("tie_word_embeddings", false)?,
            qkv_bias: architecture == Architecture::Qwen2 || attention_bias,
            output_bias: architecture != Architecture::Qwen2 && attention_bias,
            mlp_bias: f.flag_or("mlp_bias", false)?,
            qk_norm: architecture == Architecture::Qwen3,
            labels: None,
            bos: None,
            eos: Vec::new(),
            pad: None,
        })
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn check(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position),
        ];
        for (field, n) in sizes {
            if n == 0 || n as u64 > LARGEST {
                return Err(ModelError::config(
                    field,
                    format!("is {n}, it must be from 1 to {LARGEST}"),
                ));
            }
        }
        if self.layers > MOST_LAYERS {
            return Err(ModelError::config(
                "num_hidden_layers",
                format!("is {}, at most {MOST_LAYERS} are taken", self.layers),
            ));
        }
        if self.heads as u64 * self.head_dim as u64 > LARGEST {
            return Err(ModelError::config(
                "head_dim",
                "times the number of heads is too large",
            ));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ModelError::config(
                "num_key_value_heads",
                format!(
                    "is {}, it must divide num_attention_heads {}",
                    self.kv_heads, self.heads
                ),
            ));
        }
        if self.architecture == Architecture::Gpt2 {
            if self.heads * self.head_dim != self.hidden_size || self.kv_heads != self.heads {
                return Err(ModelError::config(
                    "n_head",
                    format!(
                        "is {}, it must divide n_embd {}",
                        self.heads, self.hidden_size
                    ),
                ));
            }
        } else if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::config(
                "head_dim",
                format!(
                    "is {}, rotary embedding needs an even number",
                    self.head_dim
                ),
            ));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.norm_eps) || !positive(self.rope_theta) {
            return Err(ModelError::config(
                "rms_norm_eps or rope_theta",
                "must be a positive number",
            ));
        }
        Ok(())
    }

    /// Writes `config.json` so that both new and older versions of the usual Python library read it.
    pub fn to_json(&self) -> Value {
        let class = |name: &str| {
            let kind = if self.labels.is_some() {
                "ForSequenceClassification"
            } else if self.architecture == Architecture::Gpt2 {
                "LMHeadModel"
            } else {
                "ForCausalLM"
            };
            json!([format!("{name}{kind}")])
        };
        let (model_type, architectures) = match self.architecture {
            Architecture::Llama => ("llama", class("Llama")),
            Architecture::Gpt2 => ("gpt2", class("GPT2")),
            Architecture::Qwen2 => ("qwen2", class("Qwen2")),
            Architecture::Qwen3 => ("qwen3", class("Qwen3")),
        };
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        };
        let mut out = json!({
            "architectures": architectures,
            "model_type": model_type,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tied,
            "bos_token_id": self.bos,
            "eos_token_id": eos,
            "pad_token_id": self.pad,
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let more = if self.architecture == Architecture::Gpt2 {
            json!({
                "activation_function": "gelu_new",
                "n_embd": self.hidden_size,
                "n_inner": self.intermediate_size,
                "n_layer": self.layers,
                "n_head": self.heads,
                "n_positions": self.max_position,
                "layer_norm_epsilon": self.norm_eps,
            })
        } else {
            let mut rope = match &self.rope_scaling {
                RopeScaling::None => json!({ "rope_type": "default" }),
                RopeScaling::Linear { factor } => {
                    json!({ "rope_type": "linear", "factor": factor })
                }
                RopeScaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low,
                    "high_freq_factor": high,
                    "original_max_position_embeddings": *original as u64,
                }),
            };
            let scaling = if self.rope_scaling == RopeScaling::None {
                Value::Null
            } else {
                rope.clone()
            };
            rope["rope_theta"] = json!(self.rope_theta);
            let mut more = json!({
                "hidden_act": "silu",
                "hidden_size": self.hidden_size,
                "intermediate_size": self.intermediate_size,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads,
                "head_dim": self.head_dim,
                "max_position_embeddings": self.max_position,
                "rms_norm_eps": self.norm_eps,
                "rope_theta": self.rope_theta,
                "rope_scaling": scaling,
                "rope_parameters": rope,
            });
            if self.architecture != Architecture::Qwen2 {
                more["attention_bias"] = json!(self.qkv_bias);
            }
            if self.architecture == Architecture::Llama {
                more["mlp_bias"] = json!(self.mlp_bias);
            }
            more
        };
        if let (Value::Object(out), Value::Object(more)) = (&mut out, more) {
            out.extend(more);
            if let Some(labels) = self.labels {
                let names = (0..labels).map(|i| (i.to_string(), json!(format!("LABEL_{i}"))));
                out.insert("id2label".into(), Value::Object(names.collect()));
                let ids = (0..labels).map(|i| (format!("LABEL_{i}"), json!(i)));
                out.insert("label2id".into(), Value::Object(ids.collect()));
            }
        }
        out
    }
}
