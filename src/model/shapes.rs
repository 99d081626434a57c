//! Which tensors a model has.

use super::{Architecture, ModelConfig};

/// Names and shapes, as Hugging Face files have them, of every tensor of a model with this configuration.
pub fn expected_shapes(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (h, m, v) = (
        config.hidden_size,
        config.intermediate_size,
        config.vocab_size,
    );
    let mut list = Vec::new();
    let mut add = |name: String, shape: &[usize]| list.push((name, shape.to_vec()));
    if config.architecture == Architecture::Gpt2 {
        add("transformer.wte.weight".into(), &[v, h]);
        add("transformer.wpe.weight".into(), &[config.max_position, h]);
        for layer in 0..config.layers {
            let p = format!("transformer.h.{layer}.");
            for (name, rows, cols) in [
                ("attn.c_attn", h, 3 * h),
                ("attn.c_proj", h, h),
                ("mlp.c_fc", h, m),
                ("mlp.c_proj", m, h),
            ] {
                add(format!("{p}{name}.weight"), &[rows, cols]);
                add(format!("{p}{name}.bias"), &[cols]);
            }
            for norm in ["ln_1", "ln_2"] {
                add(format!("{p}{norm}.weight"), &[h]);
                add(format!("{p}{norm}.bias"), &[h]);
            }
        }
        add("transformer.ln_f.weight".into(), &[h]);
        add("transformer.ln_f.bias".into(), &[h]);
    } else {
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        add("model.embed_tokens.weight".into(), &[v, h]);
        for layer in 0..config.layers {
            let p = format!("model.layers.{layer}.");
            for (name, out, inp, bias) in [
                ("self_attn.q_proj", q, h, config.qkv_bias),
                ("self_attn.k_proj", kv, h, config.qkv_bias),
                ("self_attn.v_proj", kv, h, config.qkv_bias),
                ("self_attn.o_proj", h, q, config.output_bias),
                ("mlp.gate_proj", m, h, config.mlp_bias),
                ("mlp.up_proj", m, h, config.mlp_bias),
                ("mlp.down_proj", h, m, config.mlp_bias),
            ] {
                add(format!("{p}{name}.weight"), &[out, inp]);
                if bias {
                    add(format!("{p}{name}.bias"), &[out]);
                }
            }
            if config.qk_norm {
                add(format!("{p}self_attn.q_norm.weight"), &[config.head_dim]);
                add(format!("{p}self_attn.k_norm.weight"), &[config.head_dim]);
            }
            add(format!("{p}input_layernorm.weight"), &[h]);
            add(format!("{p}post_attention_layernorm.weight"), &[h]);
        }
        add("model.norm.weight".into(), &[h]);
    }
    match config.labels {
        Some(labels) => add("score.weight".into(), &[labels, h]),
        None if !config.tied => add("lm_head.weight".into(), &[v, h]),
        None => {}
    }
    list
}

/// Whether the file's `[out, in]` is kept as `[in, out]` in memory (see [`super::Weights`]): every linear weight except
/// GPT-2's, which are `[in, out]` in the file already, and every adapter matrix. Embeddings stay as they are.
pub fn is_transposed(name: &str) -> bool {
    if name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight") {
        return true;
    }
    let gpt2_or_embedding = name.starts_with("transformer.") || name == "model.embed_tokens.weight";
    !gpt2_or_embedding && name.ends_with(".weight") && !name.ends_with("norm.weight")
}
