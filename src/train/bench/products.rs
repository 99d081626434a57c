//! The matrix products of a training step: what its arithmetic is made of.

use super::Trainable;
use crate::model::{Architecture, Decoder, linear_layers, weight_slabs};
use serde::Serialize;

/// Products of one shape: `batch` times `[rows, inner]` by `[inner, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Matrices in a tensor.
    pub batch: usize,
    /// Rows of the result.
    pub rows: usize,
    /// Numbers that are multiplied and added for each number of the result.
    pub inner: usize,
    /// Columns of the result.
    pub columns: usize,
    /// How many a step has.
    pub times: usize,
}

impl Product {
    /// Floating-point operations of one of them: a multiplication and an addition each.
    pub fn flop(&self) -> f64 {
        2.0 * self.batch as f64 * self.rows as f64 * self.inner as f64 * self.columns as f64
    }
}

/// The size of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepSize {
    /// Rows of text.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Positions whose logits are computed.
    pub answer_positions: usize,
}

/// All products of a step of a trunk, its LM head and a reward head of mean and spread. `on_gpu`: as there, rotary positions are
/// a product with a constant, and a trained weight's are cut into slabs of rows.
pub(super) fn of_step(
    decoder: &Decoder,
    trainable: &Trainable,
    size: StepSize,
    on_gpu: bool,
) -> Vec<Product> {
    let config = &decoder.config;
    let layers = linear_layers(config);
    let all = matches!(trainable, Trainable::Full);
    let positions = size.sequences * size.tokens;
    let mut step = Step {
        in_slabs: on_gpu,
        ..Default::default()
    };
    // Whether a gradient is asked of what comes out of the layers so far.
    let mut moves = all;
    for layer in 0..config.layers {
        let at = [".layers.", ".h."].map(|list| format!("{list}{layer}."));
        let stage = |step: &mut Step, names: &[&str], moves: bool| {
            let mut adapted = false;
            for (path, inner, columns) in &layers {
                let own = at.iter().any(|at| path.contains(at));
                if own && names.iter().any(|name| path.ends_with(name)) {
                    let shape = [positions, *inner, *columns];
                    adapted |= step.linear(decoder, path, shape, [moves, all]);
                }
            }
            moves || adapted
        };
        let q = stage(&mut step, &["q_proj"], moves);
        let k = stage(&mut step, &["k_proj"], moves);
        let v = stage(&mut step, &["v_proj"], moves);
        let joint = stage(&mut step, &["attn.c_attn"], moves);
        let (q, k, v) = (q || joint, k || joint, v || joint);
        let (heads, kv, d) = (config.heads, config.kv_heads, config.head_dim);
        if on_gpu && config.architecture != Architecture::Gpt2 {
            step.add(1, [positions * heads, d, d], [q, false]);
            step.add(1, [positions * kv, d, d], [k, false]);
        }
        let (batch, rows) = (size.sequences * kv, heads / kv * size.tokens);
        step.add(batch, [rows, d, size.tokens], [q, k]);
        step.add(batch, [rows, size.tokens, d], [q || k, v]);
        moves |= q || k || v;
        for names in [
            &["o_proj", "attn.c_proj"][..],
            &["gate_proj", "up_proj", "mlp.c_fc"],
            &["down_proj", "mlp.c_proj"],
        ] {
            moves = stage(&mut step, names, moves);
        }
    }
    let (answers, width, words) = (size.answer_positions, config.hidden_size, config.vocab_size);
    // As `Decoder::log_probabilities` does it: what the hidden states will ask of the logits is multiplied going forward.
    step.push(1, [answers, width, words]);
    let slabs = match step.in_slabs && all {
        true => weight_slabs(answers, [words, width]),
        false => 1,
    };
    if moves || all {
        step.push(slabs, [answers / slabs, words, width]);
    }
    if all {
        step.push(slabs, [words, answers / slabs, width]);
    }
    step.add(1, [positions, width, 2], [moves, true]);
    step.products
}

#[derive(Default)]
struct Step {
    products: Vec<Product>,
    in_slabs: bool,
}

impl Step {
    /// A product `[m, k]` by `[k, n]` and those of its backward pass: ∂a `[m, k]` over n, ∂b `[k, n]` over m.
    fn add(&mut self, batch: usize, [m, k, n]: [usize; 3], [a, b]: [bool; 2]) {
        self.push(batch, [m, k, n]);
        if a {
            self.push(batch, [m, n, k]);
        }
        if b {
            self.push(batch, [k, m, n]);
        }
    }

    /// A product of rows with a weight, which `trains` or not.
    fn weight(&mut self, [m, k, n]: [usize; 3], [moves, trains]: [bool; 2]) {
        let slabs = match self.in_slabs && trains {
            true => weight_slabs(m, [k, n]),
            false => 1,
        };
        self.add(slabs, [m / slabs, k, n], [moves, trains]);
    }

    /// A linear layer, with its adapter where there is one; says whether there is. `moves`: a gradient is asked of its input;
    /// `trains`: of its weight.
    fn linear(
        &mut self,
        decoder: &Decoder,
        path: &str,
        [m, k, n]: [usize; 3],
        [moves, trains]: [bool; 2],
    ) -> bool {
        self.weight([m, k, n], [moves, trains]);
        let adapter = decoder.lora.as_ref().filter(|_| !trains);
        let rank = adapter.and_then(|lora| {
            let a = lora.weights.get(&format!("{path}.lora_A.weight"))?;
            a.shape().last().copied()
        });
        if let Some(rank) = rank {
            self.weight([m, k, rank], [moves, true]);
            self.weight([m, rank, n], [true, true]);
        }
        rank.is_some()
    }

    fn push(&mut self, batch: usize, [rows, inner, columns]: [usize; 3]) {
        let product = Product {
            batch,
            rows,
            inner,
            columns,
            times: 1,
        };
        let alike = |p: &&mut Product| Product { times: 1, ..**p } == product;
        match self.products.iter_mut().find(alike) {
            Some(known) => known.times += 1,
            None => self.products.push(product),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    const SIZE: StepSize = StepSize {
        sequences: 3,
        tokens: 5,
        answer_positions: 7,
    };

    fn decoder() -> Decoder {
        let mut decoder = crate::train::world_model(&Device::flex()).unwrap().decoder;
        let config = &mut decoder.config;
        (config.hidden_size, config.intermediate_size) = (8, 16);
        (config.layers, config.vocab_size) = (2, 10);
        (config.heads, config.kv_heads, config.head_dim) = (2, 1, 4);
        decoder
    }

    fn flop(products: &[Product]) -> f64 {
        let each = |p: &Product| p.times as f64 * p.flop();
        products.iter().map(each).sum()
    }

    #[test]
    fn work_is_counted_as_by_hand() {
        // A layer: q, o 64 values each; k, v 32 each; three of 128. Attention: 2 · heads · d a pair of positions.
        let layers = 2.0 * (192.0 + 384.0) * 15.0;
        let attention = 2.0 * 2.0 * 8.0 * 15.0 * 5.0;
        let vocabulary = 7.0 * 8.0 * 10.0;
        let head = 15.0 * 8.0 * 2.0;
        let full = of_step(&decoder(), &Trainable::Full, SIZE, false);
        let all = layers + attention + vocabulary + head;
        assert_eq!(flop(&full), 2.0 * 3.0 * all);
        let heads = of_step(&decoder(), &Trainable::Heads, SIZE, false);
        let frozen = layers + attention + vocabulary + 2.0 * head;
        assert_eq!(flop(&heads), 2.0 * frozen);
        // Turning q and k: d · d a head and position, and once more backward.
        let turns = 2.0 * 15.0 * 3.0 * 16.0;
        let gpu = of_step(&decoder(), &Trainable::Full, SIZE, true);
        assert_eq!(flop(&gpu) - flop(&full), 2.0 * 2.0 * turns);
    }

    #[test]
    fn slabs_change_shapes_and_no_work() {
        let size = StepSize {
            sequences: 32,
            tokens: 64,
            ..SIZE
        };
        let [whole, cut] =
            [false, true].map(|on_gpu| of_step(&decoder(), &Trainable::Full, size, on_gpu));
        let turns = 2.0 * 2.0 * 2.0 * (32.0 * 64.0) * 3.0 * 16.0;
        assert_eq!(flop(&cut) - flop(&whole), turns);
        let gradient = |p: &&Product| (p.rows, p.columns) == (8, 16);
        let of = |all: &[Product]| all.iter().find(gradient).map(|p| (p.batch, p.inner));
        assert_eq!((of(&whole), of(&cut)), (Some((1, 2048)), Some((8, 256))));
    }

    #[test]
    fn an_adapter_asks_for_gradients_from_where_it_stands() {
        let mut decoder = decoder();
        let config = crate::train::LoraConfig {
            r: 2,
            targets: vec!["v_proj".into()],
            ..Default::default()
        };
        let adapter = crate::train::run::fresh_adapter(&decoder, &config, 0, &Device::flex());
        decoder.lora = Some(adapter.unwrap());
        let step = of_step(&decoder, &Trainable::Lora(config), SIZE, false);
        let times = |rows, inner, columns| {
            let shape = |p: &&Product| (p.rows, p.inner, p.columns) == (rows, inner, columns);
            step.iter().find(shape).map_or(0, |p| p.times)
        };
        // A of both layers; of the lower one nothing is asked of its input.
        assert_eq!(times(15, 8, 2) + times(15, 2, 8), 2 + 1 + 2);
        // Of the frozen gate and up of both layers the inputs' gradients, beside down itself: 2 · 2 + 2.
        assert_eq!(times(15, 16, 8), 6);
        // Nothing of frozen weights.
        assert_eq!(times(8, 15, 16), 0);
    }
}
