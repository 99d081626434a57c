//! GPT-2: learned positions, LayerNorm before each block, one joint projection for q, k and v.
//!
//! Source: Language Models are Unsupervised Multitask Learners, and its released code. N = B·T rows throughout.

use super::attention::{Pass, attend};
use super::dropout::Masks;
use super::{Decoder, ForwardOptions};
use burn::tensor::activation::sigmoid;
use burn::tensor::module::{embedding, layer_norm};
use burn::tensor::{Int, Tensor};

/// Hidden states `[N, H]` after the final norm, and the last layer's attention when asked for.
/// `positions` is `[B, T]`, or `[1, T]` where all rows agree.
pub(crate) fn trunk(
    model: &Decoder,
    ids: Tensor<2, Int>,
    positions: Tensor<2, Int>,
    pass: &mut Pass,
    opts: &ForwardOptions,
) -> (Tensor<2>, Option<Tensor<4>>) {
    let config = &model.config;
    let (b, t, width) = (pass.batch, pass.tokens, config.hidden_size);
    let norm = |name: &str, x: Tensor<2>| {
        let gain = model.weights.vector(&format!("{name}.weight"));
        let bias = model.weights.vector(&format!("{name}.bias"));
        layer_norm(x, gain, Some(bias), config.norm_eps)
    };
    let words = embedding(model.weights.matrix("transformer.wte.weight"), ids);
    let places = embedding(model.weights.matrix("transformer.wpe.weight"), positions);
    let mut masks = Masks::new(opts.dropout);
    let mut x = masks.apply((words + places).reshape([b * t, width]));
    let mut attention = None;
    for layer in 0..config.layers {
        let p = format!("transformer.h.{layer}");
        let wanted = opts.last_attention && layer + 1 == config.layers;

        let joint = model.linear(
            &format!("{p}.attn.c_attn"),
            norm(&format!("{p}.ln_1"), x.clone()),
        );
        let part = |i: usize| {
            joint
                .clone()
                .narrow(1, i * width, width)
                .reshape([b, t, config.heads, config.head_dim])
        };
        let (mixed, seen) = attend(pass, layer, part(0), part(1), part(2), wanted);
        x = x + masks.apply(model.linear(&format!("{p}.attn.c_proj"), mixed));
        attention = seen;

        let h = model.linear(
            &format!("{p}.mlp.c_fc"),
            norm(&format!("{p}.ln_2"), x.clone()),
        );
        x = x + masks.apply(model.linear(&format!("{p}.mlp.c_proj"), gelu_new(h)));
    }
    (norm("transformer.ln_f", x), attention)
}

/// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), written as x · sigmoid(2√(2/π) (x + 0.044715 x³)), which is the same
/// function in fewer kernels.
fn gelu_new(x: Tensor<2>) -> Tensor<2> {
    let c = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = (x.clone() * x.clone() * (0.044715 * c) + c) * x.clone();
    x * sigmoid(inner)
}
