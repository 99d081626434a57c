//! Llama, Qwen 2 and Qwen 3: RMS norm before each block, rotary positions, grouped queries, SwiGLU.
//!
//! Sources: Llama 2 (arXiv 2307.09288), Qwen2 (arXiv 2407.10671), Qwen3 (arXiv 2505.09388). N = B·T rows throughout.

use super::attention::{Pass, attend};
use super::dropout::Masks;
use super::host;
use super::{Decoder, ForwardOptions};
use burn::tensor::activation::silu;
use burn::tensor::module::embedding;
use burn::tensor::{Int, Tensor};

/// Hidden states `[N, H]` after the final norm, and the last layer's attention when asked for.
pub(crate) fn trunk(
    model: &Decoder,
    ids: Tensor<2, Int>,
    pass: &mut Pass,
    opts: &ForwardOptions,
) -> (Tensor<2>, Option<Tensor<4>>) {
    let config = &model.config;
    let rows = pass.batch * pass.tokens;
    let gain = |name: &str| model.weights.vector(&format!("{name}.weight"));
    let mut masks = Masks::new(opts.dropout);
    let x = embedding(model.weights.matrix("model.embed_tokens.weight"), ids)
        .reshape([rows, config.hidden_size]);
    let mut x = masks.apply(x);
    let mut attention = None;
    for layer in 0..config.layers {
        let p = format!("model.layers.{layer}");
        let wanted = opts.last_attention && layer + 1 == config.layers;

        let h = rms_norm(
            x.clone(),
            gain(&format!("{p}.input_layernorm")),
            config.norm_eps,
        );
        let (mixed, seen) = self_attention(model, &p, layer, h, pass, wanted);
        x = x + masks.apply(model.linear(&format!("{p}.self_attn.o_proj"), mixed));
        attention = seen;

        let h = rms_norm(
            x.clone(),
            gain(&format!("{p}.post_attention_layernorm")),
            config.norm_eps,
        );
        let gate = model.linear(&format!("{p}.mlp.gate_proj"), h.clone());
        let up = model.linear(&format!("{p}.mlp.up_proj"), h);
        x = x + masks.apply(model.linear(&format!("{p}.mlp.down_proj"), swiglu(gate, up)));
    }
    (rms_norm(x, gain("model.norm"), config.norm_eps), attention)
}

fn self_attention(
    model: &Decoder,
    p: &str,
    layer: usize,
    h: Tensor<2>,
    pass: &mut Pass,
    wanted: bool,
) -> (Tensor<2>, Option<Tensor<4>>) {
    let config = &model.config;
    let (b, t, d) = (pass.batch, pass.tokens, config.head_dim);
    let project = |name: &str, heads: usize| {
        let y = model.linear(&format!("{p}.self_attn.{name}_proj"), h.clone());
        let norm = format!("{p}.self_attn.{name}_norm.weight");
        // Qwen 3 normalises each head of q and k on its own.
        let y = if config.qk_norm && name != "v" {
            let y = y.reshape([b * t * heads, d]);
            rms_norm(y, model.weights.vector(&norm), config.norm_eps)
        } else {
            y
        };
        y.reshape([b, t, heads, d])
    };
    let q = project("q", config.heads);
    let k = project("k", config.kv_heads);
    let v = project("v", config.kv_heads);
    attend(pass, layer, q, k, v, wanted)
}

/// x / sqrt(mean(x²) + ε) · gain over the last dimension (arXiv 1910.07467). `x [N, width]`.
fn rms_norm(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
    if host::applies([x.device(), gain.device()]) {
        return host::rms_norm(x, gain, eps);
    }
    let root = (x.clone() * x.clone()).mean_dim(1).add_scalar(eps).sqrt();
    x / root * gain.unsqueeze()
}

/// silu(gate)·up, `[N, width]` each.
fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    match host::applies([gate.device(), up.device()]) {
        true => host::swiglu(gate, up),
        false => silu(gate) * up,
    }
}
