//! llama2.c model files, version 0: seven i32 and f32 arrays, nothing else.
//!
//! Source: `export.py` and `run.c` of karpathy/llama2.c. Rotary pairs are interleaved there and become half-split here.

use super::import::{Source, assemble, interleaved_row, reader};
use super::{Architecture, Decoder, ModelConfig, ModelError, RopeScaling, expected_shapes};
use burn::tensor::Device;
use std::collections::BTreeMap;

const FORMAT: &str = "llama2.c";
const HEADER: u64 = 28;

/// Reads the header.
///
/// # Errors
/// A file too short for its header, or sizes that are impossible.
pub fn config(bytes: &[u8]) -> Result<ModelConfig, ModelError> {
    let mut fields = [0i32; 7];
    let (words, _) = bytes.as_chunks::<4>();
    if words.len() < fields.len() {
        return Err(ModelError::malformed(
            FORMAT,
            format!("{} bytes are too few for a header of {HEADER}", bytes.len()),
        ));
    }
    for (field, word) in fields.iter_mut().zip(words) {
        *field = i32::from_le_bytes(*word);
    }
    let [dim, hidden, layers, heads, kv_heads, vocab, sequence] = fields;
    let size = |name: &str, n: i32| match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(ModelError::config(
            name,
            format!("is {n}, it must be positive"),
        )),
    };
    let (hidden_size, heads) = (size("dim", dim)?, size("n_heads", heads)?);
    if !hidden_size.is_multiple_of(heads) {
        return Err(ModelError::config(
            "n_heads",
            format!("is {heads}, it must divide dim {hidden_size}"),
        ));
    }
    let config = ModelConfig {
        architecture: Architecture::Llama,
        // A negative vocabulary marks an output layer of its own.
        vocab_size: size("vocab_size", vocab.saturating_abs())?,
        hidden_size,
        intermediate_size: size("hidden_dim", hidden)?,
        layers: size("n_layers", layers)?,
        heads,
        kv_heads: size("n_kv_heads", kv_heads)?,
        head_dim: hidden_size / heads,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position: size("seq_len", sequence)?,
        norm_eps: 1e-5,
        tied: vocab > 0,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        labels: None,
        bos: Some(1),
        eos: vec![2],
        pad: None,
    };
    config.check()?;
    Ok(config)
}

/// Loads a model from a file's bytes.
///
/// # Errors
/// As [`config`], or a length other than the header asks for.
pub fn load(bytes: &[u8], device: &Device) -> Result<Decoder, ModelError> {
    let config = config(bytes)?;
    let shapes: BTreeMap<String, Vec<usize>> = expected_shapes(&config).into_iter().collect();
    let mut offsets = BTreeMap::new();
    let mut at = Some(HEADER);
    let mut place = |name: String| {
        let elements = shapes.get(&name).map_or(0, |s| {
            s.iter().fold(1u64, |n, d| n.saturating_mul(*d as u64))
        });
        if let Some(start) = at {
            offsets.insert(name, start);
        }
        at = at.and_then(|start| start.checked_add(elements.checked_mul(4)?));
    };
    place("model.embed_tokens.weight".into());
    for part in [
        "input_layernorm",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "mlp.gate_proj",
        "mlp.down_proj",
        "mlp.up_proj",
    ] {
        for layer in 0..config.layers {
            place(format!("model.layers.{layer}.{part}.weight"));
        }
    }
    place("model.norm.weight".into());
    // cos and sin for every position, which are computed here instead.
    let tables = (config.max_position as u64)
        .saturating_mul(config.head_dim as u64)
        .saturating_mul(4);
    at = at.and_then(|start| start.checked_add(tables));
    let head = at;
    if !config.tied {
        let elements = config.vocab_size as u64 * config.hidden_size as u64;
        at = at.and_then(|start| start.checked_add(elements.checked_mul(4)?));
    }
    if at != Some(bytes.len() as u64) {
        let asked = match at {
            Some(size) => format!("{size} bytes"),
            None => "more bytes than a file can have".into(),
        };
        return Err(ModelError::malformed(
            FORMAT,
            format!("the header asks for {asked}, the file has {}", bytes.len()),
        ));
    }
    if let Some(head) = head.filter(|_| !config.tied) {
        offsets.insert("lm_head.weight".into(), head);
    }
    let d = config.head_dim;
    assemble(config, device, |name| {
        let (Some(start), Some(shape)) = (offsets.get(name), shapes.get(name)) else {
            return Ok(None);
        };
        let data = usize::try_from(*start)
            .ok()
            .and_then(|s| bytes.get(s..))
            .unwrap_or(&[]);
        let cols = shape.last().copied().unwrap_or(0);
        let plain = reader(data, cols, f32::from_le_bytes);
        let rotary = name.contains("q_proj") || name.contains("k_proj");
        Ok(Some(Source {
            shape: shape.clone(),
            read: if rotary {
                Box::new(move |row, out| plain(interleaved_row(row, d), out))
            } else {
                plain
            },
        }))
    })
}
