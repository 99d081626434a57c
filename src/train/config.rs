//! A run's configuration: with the data's fingerprint and the seed it fixes the run's losses on a device.

use crate::text::Truncation;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// How the learning rate moves after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls in a straight line to zero.
    Linear,
    /// Falls along half a cosine to zero.
    #[default]
    Cosine,
}

/// A low-rank adapter, in PEFT's terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of the update.
    pub r: usize,
    /// The update is scaled by `alpha / r`.
    pub alpha: f64,
    /// Ends of the names of the linear layers that are adapted.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        // Rank 8 with alpha = 2r and all attention and MLP projections: the usual starting point for small models.
        Self {
            r: 8,
            alpha: 16.0,
            targets: [
                "q_proj",
                "k_proj",
                "v_proj",
                "o_proj",
                "gate_proj",
                "up_proj",
                "down_proj",
            ]
            .map(String::from)
            .to_vec(),
        }
    }
}

/// What trains beside the reward head, which always does. In a file it is a table with a `mode` (and, for adapters, their
/// settings), or the mode's name alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Trainable {
    /// Every parameter of the trunk.
    #[default]
    Full,
    /// Low-rank adapters on a frozen trunk.
    Lora(LoraConfig),
    /// Nothing of the trunk: its states are computed once and kept.
    Heads,
}

impl Trainable {
    /// The modes by name.
    pub const MODES: &[&str] = &["full", "lora", "heads"];

    /// The mode of that name, with its defaults.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            "lora" => Some(Self::Lora(LoraConfig::default())),
            "heads" => Some(Self::Heads),
            _ => None,
        }
    }
}

/// Read by hand: a name alone is enough, and what is wrong is said with its place and an example, where serde's own reading
/// of a tagged enum knows neither.
impl<'de> Deserialize<'de> for Trainable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TrainableVisitor)
    }
}

struct TrainableVisitor;

impl<'de> Visitor<'de> for TrainableVisitor {
    type Value = Trainable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"full\", \"lora\" or \"heads\" (with settings: trainable = { mode = \"lora\", r = 16, alpha = 32.0 })",
        )
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Trainable, E> {
        Trainable::named(name).ok_or_else(|| E::unknown_variant(name, Trainable::MODES))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Trainable, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            mode: String,
            r: Option<usize>,
            alpha: Option<f64>,
            targets: Option<Vec<String>>,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let mut trainable = self.visit_str(&table.mode)?;
        if let Trainable::Lora(lora) = &mut trainable {
            lora.r = table.r.unwrap_or(lora.r);
            lora.alpha = table.alpha.unwrap_or(lora.alpha);
            lora.targets = table
                .targets
                .unwrap_or_else(|| std::mem::take(&mut lora.targets));
        } else if table.r.is_some() || table.alpha.is_some() || table.targets.is_some() {
            return Err(A::Error::custom(format!(
                "r, alpha and targets go with mode = \"lora\", and mode is \"{}\"",
                table.mode
            )));
        }
        Ok(trainable)
    }
}

/// Everything a run depends on besides model, data and device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The method's name; `avascope methods` lists them.
    pub method: String,
    /// The method's own switches; absent ones keep the method's defaults.
    #[cfg_attr(test, ts(type = "Record<string, unknown>"))]
    pub options: serde_json::Value,
    /// Seed of initial heads, adapters and row order.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: usize,
    /// Rows (pairs or demonstrations) in a micro-batch.
    pub batch_size: usize,
    /// Micro-batches added up before an optimiser step.
    pub gradient_accumulation_steps: usize,
    /// Peak learning rate of the trunk or its adapters.
    pub learning_rate: f64,
    /// Peak learning rate of the reward head; the trunk's where absent.
    pub head_learning_rate: Option<f64>,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f64,
    /// Share of the steps in which the learning rate rises from zero.
    pub warmup_ratio: f64,
    /// How the learning rate moves after that.
    pub lr_scheduler_type: Schedule,
    /// Largest global gradient norm; larger ones are scaled down to it. Zero turns clipping off.
    pub max_grad_norm: f64,
    /// What trains.
    pub trainable: Trainable,
    /// Longest row in tokens.
    pub max_length: usize,
    /// What is cut from a longer row.
    pub truncation: Truncation,
    /// Whether rows of like length share a batch.
    pub group_by_length: bool,
    /// Share of the rows held out, chosen by the hash of their content.
    pub held_out: f64,
    /// Steps between evaluations; zero evaluates only at the end.
    pub eval_steps: usize,
    /// Most held-out rows scored at an evaluation; zero scores all.
    pub eval_rows: usize,
    /// Evaluations without a better held-out accuracy (pairs) or loss (demonstrations) before the run stops; zero never stops early.
    pub early_stopping_patience: usize,
    /// Steps between checkpoints; zero writes one at the end.
    pub save_steps: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            method: "ava_p".into(),
            options: serde_json::Value::Object(Default::default()),
            seed: 0,
            steps: 600,
            batch_size: 16,
            gradient_accumulation_steps: 1,
            // 2e-3 suits the built-in world's tiny model trained whole; pretrained trunks want 1e-5 (full) or 1e-4 (adapters).
            learning_rate: 2e-3,
            head_learning_rate: None,
            weight_decay: 0.01,
            warmup_ratio: 0.05,
            lr_scheduler_type: Schedule::Cosine,
            max_grad_norm: 1.0,
            trainable: Trainable::Full,
            max_length: 256,
            truncation: Truncation::KeepEnd,
            group_by_length: true,
            held_out: 0.1,
            eval_steps: 50,
            eval_rows: 200,
            early_stopping_patience: 0,
            save_steps: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_trains_is_read_from_a_name_or_a_table() {
        let read = |value| serde_json::from_value::<Trainable>(value);
        for name in Trainable::MODES {
            let named = Trainable::named(name).unwrap();
            assert_eq!(read(json!(name)).unwrap(), named);
            assert_eq!(read(json!({"mode": name})).unwrap(), named);
            // What is written is read again.
            assert_eq!(read(serde_json::to_value(&named).unwrap()).unwrap(), named);
        }
        let lora = LoraConfig {
            r: 4,
            targets: vec!["q_proj".into()],
            ..LoraConfig::default()
        };
        assert_eq!(
            read(json!({"mode": "lora", "r": 4, "targets": ["q_proj"]})).unwrap(),
            Trainable::Lora(lora)
        );
        for (value, said) in [
            (json!("lor"), "unknown variant `lor`"),
            (json!(3), "mode = \"lora\""),
            (json!({"r": 3}), "missing field `mode`"),
            (json!({"mode": "heads", "r": 3}), "go with mode = \"lora\""),
            (json!({"mode": "lora", "rank": 3}), "unknown field `rank`"),
            (json!({"mode": "lora", "r": "a"}), "expected usize"),
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
