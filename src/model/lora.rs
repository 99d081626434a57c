//! Low-rank adapters, read and written as PEFT does.
//!
//! y = x W + s (x A) B with A `[in, r]`, B `[r, out]` in memory (LoRA, arXiv 2106.09685), s = α/r, or α/√r with rank
//! stabilisation (arXiv 2312.03732). The product goes through x A, so nothing of W's size is made. Because every W is
//! `[in, out]` in memory, PEFT's `fan_in_fan_out` changes nothing here; it is kept for the file.

use super::host;
use super::huggingface::transpose;
use super::random::Random;
use super::safetensors::{Writer, views};
use super::shapes::{expected_shapes, is_transposed};
use super::{Architecture, Decoder, ModelConfig, ModelError, Weight, Weights};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PREFIX: &str = "base_model.model.";

/// Settings of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank r, at least 1.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Whether s = α/√r instead of α/r.
    pub rslora: bool,
    /// Names of the adapted layers (`q_proj`, ...) or whole paths; `all-linear` for all but the output layer.
    pub targets: Vec<String>,
    /// PEFT's mark for GPT-2's transposed weights.
    pub fan_in_fan_out: bool,
    /// The base model's name, for the file.
    pub base_model: Option<String>,
}

impl LoraConfig {
    /// s.
    pub fn scaling(&self) -> f64 {
        let r = self.rank as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// Not JSON, an impossible value, or a PEFT variant that this library does not compute.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| ModelError::Json {
            file: "adapter_config.json",
            reason: e.to_string(),
        })?;
        let given = |field: &str| value.get(field).filter(|v| !v.is_null());
        let unsupported = |what: &'static str, found: &Value, supported: &'static str| {
            Err(ModelError::Unsupported {
                what,
                value: found.to_string(),
                supported,
            })
        };
        match given("peft_type") {
            Some(v) if v.as_str() == Some("LORA") => {}
            other => return unsupported("peft_type", other.unwrap_or(&Value::Null), "LORA"),
        }
        for variant in ["use_dora", "lora_bias", "use_qalora"] {
            if let Some(v) = given(variant).filter(|v| v.as_bool() != Some(false)) {
                return unsupported(
                    "PEFT option",
                    &json!({ variant: v }),
                    "plain LoRA and rslora",
                );
            }
        }
        if let Some(v) = given("bias").filter(|v| v.as_str() != Some("none")) {
            return unsupported("PEFT bias", v, "none");
        }
        let is_empty = |v: &Value| match v {
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        for pattern in [
            "rank_pattern",
            "alpha_pattern",
            "modules_to_save",
            "layer_replication",
        ] {
            if let Some(v) = given(pattern).filter(|v| !is_empty(v)) {
                return unsupported(
                    "PEFT option",
                    &json!({ pattern: v }),
                    "the same rank and alpha everywhere",
                );
            }
        }
        let rank = given("r").and_then(Value::as_u64).unwrap_or(8);
        if !(1..=1 << 16).contains(&rank) {
            return Err(ModelError::config(
                "r",
                format!("is {rank}, it must be from 1 to 65536"),
            ));
        }
        let alpha = given("lora_alpha").and_then(Value::as_f64).unwrap_or(8.0);
        let targets = match given("target_modules") {
            Some(Value::String(s)) => vec![s.clone()],
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            _ => Vec::new(),
        };
        let flag = |field: &str| given(field).and_then(Value::as_bool).unwrap_or(false);
        Ok(Self {
            rank: rank as usize,
            alpha,
            rslora: flag("use_rslora"),
            targets,
            fan_in_fan_out: flag("fan_in_fan_out"),
            base_model: given("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(Into::into),
        })
    }

    /// Writes `adapter_config.json`.
    pub fn to_json(&self) -> Value {
        let targets = match self.targets.as_slice() {
            [all] if all == "all-linear" => json!(all),
            list => json!(list),
        };
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_rslora": self.rslora,
            "use_dora": false,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": targets,
            "modules_to_save": null,
            "fan_in_fan_out": self.fan_in_fan_out,
            "init_lora_weights": true,
            "inference_mode": true,
            "base_model_name_or_path": self.base_model,
        })
    }
}

/// An adapter with its weights, named `<layer>.lora_A.weight` and `<layer>.lora_B.weight`.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Settings.
    pub config: LoraConfig,
    /// A `[in, r]` and B `[r, out]` of each adapted layer.
    pub weights: Weights,
}

/// An adapter as files.
#[derive(Clone, Debug)]
pub struct ExportedLora {
    /// `adapter_config.json`.
    pub config: Vec<u8>,
    /// `adapter_model.safetensors`, f32.
    pub weights: Vec<u8>,
}

/// Path, inputs and outputs of every linear layer.
pub(crate) fn linear_layers(config: &ModelConfig) -> Vec<(String, usize, usize)> {
    let gpt2 = config.architecture == Architecture::Gpt2;
    expected_shapes(config)
        .into_iter()
        .filter_map(|(name, shape)| {
            let path = name.strip_suffix(".weight")?.to_string();
            match *shape.as_slice() {
                [out, inp] if is_transposed(&name) => Some((path, inp, out)),
                [inp, out] if gpt2 && path.contains(".h.") => Some((path, inp, out)),
                _ => None,
            }
        })
        .collect()
}

fn names(path: &str) -> (String, String) {
    (
        format!("{path}.lora_A.weight"),
        format!("{path}.lora_B.weight"),
    )
}

impl Lora {
    /// A fresh adapter: A uniform in ±1/√in (PEFT's Kaiming with a = √5), B zero, so that it changes nothing yet.
    ///
    /// # Errors
    /// When a target fits no linear layer.
    pub fn init(
        model: &ModelConfig,
        config: LoraConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let layers = linear_layers(model);
        let fits = |path: &str, target: &str| {
            let output = path == "lm_head" || path == "score";
            path == target
                || path
                    .strip_suffix(target)
                    .is_some_and(|rest| rest.ends_with('.'))
                || (target == "all-linear" && !output)
        };
        for target in &config.targets {
            if !layers.iter().any(|(path, ..)| fits(path, target)) {
                return Err(unknown_target(target, &layers));
            }
        }
        let mut random = Random::new(seed);
        let mut weights = Weights::new();
        for (path, inp, out) in &layers {
            if !config.targets.iter().any(|t| fits(path, t)) {
                continue;
            }
            let bound = 1.0 / (*inp as f64).sqrt();
            let a: Vec<f32> = (0..inp * config.rank)
                .map(|_| (bound * (2.0 * random.uniform() - 1.0)) as f32)
                .collect();
            let (name_a, name_b) = names(path);
            weights.insert_host(&name_a, a, &[*inp, config.rank], device);
            weights.insert_host(
                &name_b,
                vec![0.0; config.rank * out],
                &[config.rank, *out],
                device,
            );
        }
        if weights.is_empty() {
            return Err(unknown_target("(none)", &layers));
        }
        Ok(Self { config, weights })
    }

    /// Reads `adapter_config.json` and `adapter_model.safetensors` for a base model.
    ///
    /// # Errors
    /// A damaged file, an unsupported variant, or tensors that do not fit the base model.
    pub fn load(
        model: &ModelConfig,
        config: &[u8],
        weights: &[u8],
        device: &Device,
    ) -> Result<Self, ModelError> {
        let config = LoraConfig::from_json(config)?;
        let found = views(weights).map_err(|error| error.in_file("adapter_model.safetensors"))?;
        let layers = linear_layers(model);
        let mut loaded = Weights::new();
        let mut known = BTreeSet::new();
        for (path, inp, out) in &layers {
            let (a, b) = names(path);
            let keys = [format!("{PREFIX}{a}"), format!("{PREFIX}{b}")];
            let present = keys.iter().filter(|k| found.contains_key(*k)).count();
            if present == 1 {
                let lacking = keys.iter().find(|k| !found.contains_key(*k));
                return Err(ModelError::MissingTensors {
                    count: 1,
                    first: lacking.cloned().unwrap_or_default(),
                });
            }
            let shapes = [[config.rank, *inp], [*out, config.rank]];
            for ((name, key), [rows, cols]) in [a, b].into_iter().zip(keys).zip(shapes) {
                let Some(view) = found.get(&key) else {
                    continue;
                };
                let source = view.source(&key)?;
                if source.shape != [rows, cols] {
                    return Err(ModelError::Shape {
                        name: key,
                        found: source.shape,
                        expected: vec![rows, cols],
                    });
                }
                loaded.insert_host(&name, source.values(true), &[cols, rows], device);
                known.insert(key);
            }
        }
        if let Some(first) = found.keys().find(|k| !known.contains(*k)) {
            return Err(unknown_target(first, &layers));
        }
        if loaded.is_empty() {
            return Err(unknown_target("(none)", &layers));
        }
        Ok(Self {
            config,
            weights: loaded,
        })
    }

    /// Writes PEFT's two files.
    ///
    /// # Errors
    /// When the device fails to hand back data.
    pub async fn export(&self) -> Result<ExportedLora, ModelError> {
        let shapes: Vec<_> = self
            .weights
            .iter()
            .map(|(name, w)| {
                (
                    format!("{PREFIX}{name}"),
                    w.shape().into_iter().rev().collect(),
                )
            })
            .collect();
        let mut writer = Writer::new(&shapes);
        for (name, weight) in self.weights.iter() {
            let values = weight.to_host(name).await?;
            match *weight.shape().as_slice() {
                [rows, cols] => writer.push(&transpose(&values, rows, cols)),
                _ => writer.push(&values),
            }
        }
        let config =
            serde_json::to_vec_pretty(&self.config.to_json()).map_err(|e| ModelError::Json {
                file: "adapter_config.json",
                reason: e.to_string(),
            })?;
        Ok(ExportedLora {
            config,
            weights: writer.finish(),
        })
    }

    /// The model with the adapter added into its weights: W + s A B. The result has no adapter.
    pub fn merge(model: Decoder) -> Decoder {
        let Some(lora) = model.lora else { return model };
        let scale = lora.config.scaling();
        let weights = model.weights.map_each(|name, weight| {
            let pair = name
                .strip_suffix(".weight")
                .and_then(|path| lora.pair(path));
            match (weight, pair) {
                (Weight::Matrix(w), Some((a, b))) => {
                    Weight::Matrix(w.inner() + a.inner().matmul(b.inner()) * scale)
                }
                (weight, _) => weight,
            }
        });
        Decoder {
            config: model.config,
            weights,
            lora: None,
        }
    }

    pub(crate) fn map_weights(self, f: impl FnOnce(Weights) -> Weights) -> Self {
        Self {
            weights: f(self.weights),
            config: self.config,
        }
    }

    fn pair(&self, path: &str) -> Option<(Tensor<2>, Tensor<2>)> {
        let (a, b) = names(path);
        match (self.weights.get(&a), self.weights.get(&b)) {
            (Some(Weight::Matrix(a)), Some(Weight::Matrix(b))) => Some((a.clone(), b.clone())),
            _ => None,
        }
    }

    /// s (x A) B for the layer at `path`, if it is adapted.
    pub(crate) fn path(&self, path: &str, x: &Tensor<2>) -> Option<Tensor<2>> {
        let (a, b) = self.pair(path)?;
        Some(host::matmul(
            host::matmul(x.clone(), a) * self.config.scaling(),
            b,
        ))
    }
}

fn unknown_target(target: &str, layers: &[(String, usize, usize)]) -> ModelError {
    let known: BTreeSet<&str> = layers
        .iter()
        .filter_map(|(path, ..)| path.rsplit('.').next())
        .collect();
    ModelError::AdapterTarget {
        target: target.into(),
        known: known.into_iter().collect::<Vec<_>>().join(", "),
    }
}
