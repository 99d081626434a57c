//! Models against the numbers of the usual Python libraries, and importers against damaged files.

mod damaged;
mod oracle;
mod real;

use super::{Architecture, ModelConfig, RopeScaling};
use crate::test_data;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;

/// SmolLM2-135M-Instruct as a GGUF file: where `AVASCOPE_SMOLLM2_GGUF` says, else where `avascope fetch smollm2` puts it. None,
/// said aloud, where it is at neither place.
#[track_caller]
pub(crate) fn smollm2() -> Option<Vec<u8>> {
    let folder = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let fetched = || {
        let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
        Some(cache.join("avascope/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    };
    let bytes = folder("AVASCOPE_SMOLLM2_GGUF")
        .or_else(fetched)
        .and_then(|path| std::fs::read(path).ok());
    if bytes.is_none() {
        test_data::skipped(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "it is neither where AVASCOPE_SMOLLM2_GGUF says nor where `avascope fetch smollm2` puts it",
        );
    }
    bytes
}

pub(super) fn numbers(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

pub(super) fn tokens(v: &Value) -> Vec<u32> {
    numbers(v).into_iter().map(|x| x as u32).collect()
}

pub(super) fn ids_tensor(ids: &[u32], rows: usize, device: &Device) -> Tensor<2, Int> {
    let values: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let cols = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, cols]), device)
}

pub(super) fn host<const D: usize>(t: &Tensor<D>) -> Vec<f32> {
    pollster::block_on(t.clone().inner().into_data_async())
        .expect("read back")
        .try_into_vec_as::<f32>()
        .expect("floats")
}

pub(super) fn largest_difference(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    got.iter()
        .zip(expected)
        .map(|(a, b)| {
            assert!(a.is_finite(), "got {a}");
            (f64::from(*a) - b).abs()
        })
        .fold(0.0, f64::max)
}

/// A model of a few hundred parameters.
pub(super) fn small(architecture: Architecture) -> ModelConfig {
    let gpt2 = architecture == Architecture::Gpt2;
    ModelConfig {
        architecture,
        vocab_size: 29,
        hidden_size: 16,
        intermediate_size: 24,
        layers: 2,
        heads: 4,
        kv_heads: if gpt2 { 4 } else { 2 },
        head_dim: 4,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position: 32,
        norm_eps: 1e-5,
        tied: gpt2,
        qkv_bias: gpt2,
        output_bias: gpt2,
        mlp_bias: gpt2,
        qk_norm: architecture == Architecture::Qwen3,
        labels: None,
        bos: Some(1),
        eos: vec![2],
        pad: None,
    }
}
