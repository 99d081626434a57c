//! The decoder: a configuration, named weights, and perhaps an adapter.

use super::attention::{KeyValues, Pass, Places};
use super::random::Random;
use super::shapes::expected_shapes;
use super::{
    Architecture, Dropout, Lora, ModelConfig, ModelError, Weights, gpt2, host, is_transposed, llama,
};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

/// A language model without further heads. Cloning shares the tensors.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Sizes and settings.
    pub config: ModelConfig,
    /// Parameters by Hugging Face name; linear weights are `[in, out]` in memory.
    pub weights: Weights,
    /// A low-rank adapter on some of the linear layers.
    pub lora: Option<Lora>,
}

/// What a forward pass should do, and hand back besides the hidden states.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions {
    /// The last layer's attention probabilities `[B, heads, T, T]`.
    pub last_attention: bool,
    /// Dropout inside the trunk; none outside of training.
    pub dropout: Option<Dropout>,
}

/// What a forward pass hands back.
#[derive(Clone, Debug)]
pub struct TrunkOutput {
    /// `[B, T, H]` after the final norm; any finite numbers on padding.
    pub hidden: Tensor<3>,
    /// `[B, heads, T, T]` of the last layer, when asked for: row t sums to 1 over the keys that t may see.
    pub attention: Option<Tensor<4>>,
}

impl Decoder {
    /// Puts a model together.
    ///
    /// # Errors
    /// When a weight that the configuration asks for is missing or has another shape.
    pub fn new(config: ModelConfig, weights: Weights) -> Result<Self, ModelError> {
        config.check()?;
        let mut missing = Vec::new();
        for (name, mut shape) in expected_shapes(&config) {
            if is_transposed(&name) {
                shape.reverse();
            }
            match weights.get(&name) {
                None => missing.push(name),
                Some(w) if w.shape() != shape => {
                    return Err(ModelError::Shape {
                        found: w.shape(),
                        expected: shape,
                        name,
                    });
                }
                Some(_) => {}
            }
        }
        if let Some(first) = missing.first() {
            return Err(ModelError::MissingTensors {
                count: missing.len(),
                first: first.clone(),
            });
        }
        Ok(Self {
            config,
            weights,
            lora: None,
        })
    }

    /// A fresh model. The same seed gives the same numbers on every device and platform, because they are drawn on the
    /// host. Weights are normal with standard deviation 0.02, those that write into the residual stream with
    /// 0.02 / sqrt(2 L) (GPT-2's initialisation), gains are 1 and biases 0.
    ///
    /// # Errors
    /// When the configuration's sizes do not fit together.
    pub fn init(config: ModelConfig, seed: u64, device: &Device) -> Result<Self, ModelError> {
        config.check()?;
        let mut weights = Weights::new();
        let mut random = Random::new(seed);
        let residual = 0.02 / (2.0 * config.layers as f64).sqrt();
        for (name, mut shape) in expected_shapes(&config) {
            let count = shape.iter().product();
            let writes_residual = ["o_proj.weight", "down_proj.weight", "c_proj.weight"]
                .iter()
                .any(|end| name.ends_with(end));
            let values = match shape.len() {
                1 if name.ends_with(".bias") => vec![0.0; count],
                1 => vec![1.0; count],
                _ => {
                    let std = if writes_residual { residual } else { 0.02 };
                    (0..count).map(|_| (std * random.normal()) as f32).collect()
                }
            };
            if is_transposed(&name) {
                shape.reverse();
            }
            weights.insert_host(&name, values, &shape, device);
        }
        Self::new(config, weights)
    }

    /// Number of parameters, the adapter's included.
    pub fn parameters(&self) -> usize {
        self.weights.parameters() + self.lora.as_ref().map_or(0, |l| l.weights.parameters())
    }

    /// Moves everything to another device.
    pub fn to_device(self, device: &Device) -> Self {
        Self {
            weights: self.weights.to_device(device),
            lora: self.lora.map(|l| l.map_weights(|w| w.to_device(device))),
            config: self.config,
        }
    }

    /// Drops autodiff from everything: the model as evaluation and generation want it.
    pub fn inner(self) -> Self {
        Self {
            weights: self.weights.inner(),
            lora: self.lora.map(|l| l.map_weights(Weights::inner)),
            config: self.config,
        }
    }

    /// Marks parameters for training: those whose name `is_trained`, adapter weights included (their names end in
    /// `lora_A.weight` and `lora_B.weight`). All others lose autodiff, so that nothing is computed for them.
    /// `device` is an autodiff device, perhaps with gradient checkpointing.
    pub fn trainable(self, device: &Device, is_trained: impl Fn(&str) -> bool) -> Self {
        Self {
            weights: self.weights.trainable(device, &is_trained),
            lora: self
                .lora
                .map(|l| l.map_weights(|w| w.trainable(device, &is_trained))),
            config: self.config,
        }
    }

    /// The device of the weights, without autodiff.
    pub fn device(&self) -> Device {
        self.weights.device().map(Device::inner).unwrap_or_default()
    }

    /// Runs the trunk over `ids [B, T]`; every id must be below the vocabulary size, on padding too.
    ///
    /// `segments [B, T]`, row-major, is 0 on padding and otherwise the number of the packed text that the token belongs
    /// to. A token sees the earlier tokens of its own segment and itself; positions count from the segment's first
    /// token. So padding on the left, on the right, or several texts in one row give the same numbers for a text.
    ///
    /// # Panics
    /// When `segments` has not B·T entries, or a text is longer than GPT-2's learned positions.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        segments: &[u32],
        opts: &ForwardOptions,
    ) -> TrunkOutput {
        self.run(ids, segments, opts, None)
    }

    /// As [`Decoder::forward`], for the last T tokens of rows whose earlier tokens are in the cache.
    /// `segments [B, Tk]` covers the cached tokens too.
    pub(crate) fn run(
        &self,
        ids: Tensor<2, Int>,
        segments: &[u32],
        opts: &ForwardOptions,
        cache: Option<&mut KeyValues>,
    ) -> TrunkOutput {
        let [batch, tokens] = ids.dims();
        let keys = segments.len() / batch.max(1);
        assert!(
            keys >= tokens,
            "segments must have an entry for each of the {batch}x{tokens} tokens, got {}",
            segments.len()
        );
        // Tables and masks carry no gradient, so they live on the device without autodiff.
        let device = ids.device().inner();
        let places = Places::new(segments, batch, keys, tokens);
        let rotary = (self.config.architecture != Architecture::Gpt2)
            .then(|| places.rotary(&self.config, &device));
        let mut pass = Pass {
            batch,
            tokens,
            bias: places.bias(&device),
            rotary,
            cache,
        };
        let (hidden, attention) = match self.config.architecture {
            Architecture::Gpt2 => {
                let positions = places.positions(self.config.max_position, segments, &device);
                gpt2::trunk(self, ids, positions, &mut pass, opts)
            }
            _ => llama::trunk(self, ids, &mut pass, opts),
        };
        TrunkOutput {
            hidden: hidden.reshape([batch, tokens, self.config.hidden_size]),
            attention,
        }
    }

    /// Logits `[N, V]` of any N positions' hidden states `[N, H]`, through `lm_head` or the tied embedding.
    /// A sequence classifier has no language model head; its embedding stands in.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        if self.weights.get("lm_head.weight").is_some() {
            return self.linear("lm_head", hidden);
        }
        host::matmul(hidden, self.weights.matrix(self.embedding()).transpose())
    }

    /// Name of the embedding.
    fn embedding(&self) -> &'static str {
        match self.config.architecture {
            Architecture::Gpt2 => "transformer.wte.weight",
            _ => "model.embed_tokens.weight",
        }
    }

    /// Log-probabilities `[N]`, log softmax(alpha z)\[a\], of one token `a` at each of N positions, whose hidden states
    /// are `[N, H]`. The same numbers and gradients as from [`Decoder::logits`], with far fewer passes over `[N, V]`.
    ///
    /// The gradient towards the logits is g·alpha·(onehot(a) - p) with one number g per position. What is wide in it is
    /// known in the forward pass, so it is multiplied with the matrix there: U = alpha·(onehot(a) - p)·W, `[N, H]`.
    /// Then hidden states get g·U, the matrix gets alpha·(onehot(a) - p)ᵀ·(g·hidden), and the backward pass is left with
    /// one product and nothing elementwise over the vocabulary.
    ///
    /// None where the LM head has a bias or an adapter, which this does not cover.
    pub fn log_probabilities(
        &self,
        hidden: Tensor<2>,
        tokens: Tensor<1, Int>,
        alpha: f64,
    ) -> Option<Tensor<1>> {
        // [V, H]
        let matrix = match self.weights.get("lm_head.weight") {
            Some(_) => {
                let adapted = self
                    .lora
                    .as_ref()
                    .is_some_and(|l| l.weights.names().any(|name| name.starts_with("lm_head.")));
                if adapted || self.weights.get("lm_head.bias").is_some() {
                    return None;
                }
                self.weights.matrix("lm_head.weight").transpose()
            }
            None => self.weights.matrix(self.embedding()),
        };
        let n = hidden.dims()[0];
        let tokens = tokens.inner().reshape([n, 1]);
        let held = hidden.clone().inner();
        let mut logits = host::matmul(held.clone(), matrix.clone().inner().transpose());
        if alpha != 1.0 {
            logits = logits.mul_scalar(alpha);
        }
        let chosen = logits.clone().gather(1, tokens.clone());
        let here = host::is_here(&logits.device());
        if here && !hidden.is_tracked() && !matrix.is_tracked() {
            return Some((chosen - host::log_sum_exp(logits)).reshape([n]));
        }
        let (p, total) = if here {
            host::vocabulary(logits)
        } else {
            let top = logits.clone().max_dim(1);
            let p = softmax(logits, 1);
            // The largest probability is at least 1/V, so its logarithm is safe: log Z = z_max - log p_max.
            (p.clone(), top - p.max_dim(1).log())
        };
        let value = chosen - total;
        if !hidden.is_tracked() && !matrix.is_tracked() {
            return Some(value.reshape([n]));
        }
        let ones = Tensor::full([n, 1], -1.0, &p.device());
        let miss = p.scatter(1, tokens, ones, IndexingUpdateOp::Add);
        let pulled = host::matmul(miss, matrix);
        let through_hidden = hidden * pulled.clone().inner();
        let both = (through_hidden + pulled * held)
            .sum_dim(1)
            .mul_scalar(-alpha);
        let nothing = both.clone() - both.inner();
        Some((nothing + value).reshape([n]))
    }

    /// Scores `[N, labels]` of a sequence classifier for hidden states `[N, H]`; none without that head.
    pub fn score(&self, hidden: Tensor<2>) -> Option<Tensor<2>> {
        self.weights
            .get("score.weight")
            .is_some()
            .then(|| self.linear("score", hidden))
    }

    /// The linear layer at `path` (bias where it has one) plus its adapter: `x [N, in]` to `[N, out]`.
    pub(crate) fn linear(&self, path: &str, x: Tensor<2>) -> Tensor<2> {
        let weight = self.weights.matrix(&format!("{path}.weight"));
        let bias = format!("{path}.bias");
        let bias = self.weights.get(&bias).map(|_| self.weights.vector(&bias));
        let low_rank = self.lora.as_ref().and_then(|l| l.path(path, &x));
        let y = host::matmul(x, weight);
        let y = match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        };
        match low_rank {
            Some(z) => y + z,
            None => y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;
    use crate::model::tests::{host, small};
    use burn::tensor::activation::log_softmax;

    /// Log-probabilities by way of all logits.
    fn plain(model: &Decoder, x: Tensor<2>, tokens: Tensor<1, Int>, alpha: f64) -> Tensor<1> {
        let n = x.dims()[0];
        log_softmax(model.logits(x) * alpha, 1)
            .gather(1, tokens.reshape([n, 1]))
            .reshape([n])
    }

    #[test]
    fn log_probabilities_and_their_gradients_are_those_of_the_logits() {
        let device = Device::flex().autodiff();
        for (architecture, matrix) in [
            (Architecture::Gpt2, "transformer.wte.weight"),
            (Architecture::Llama, "lm_head.weight"),
        ] {
            let mut model = Decoder::init(small(architecture), 3, &Device::flex()).unwrap();
            // Larger than at the start, so that probabilities differ.
            model.weights = model.weights.map_each(|name, w| match w {
                Weight::Matrix(t) if name == matrix => Weight::Matrix(t * 40.0),
                w => w,
            });
            let model = model.trainable(&device, |_| true);
            let hidden = Tensor::<2>::from_floats(
                [[0.3f32; 16], [-1.0; 16], [0.9; 16]].map(|mut row| {
                    row[3] = 2.5;
                    row
                }),
                &device,
            )
            .require_grad();
            let tokens = Tensor::<1, Int>::from_ints([4, 28, 4], &device);
            let weights = Tensor::<1>::from_floats([1.0, -2.0, 0.5], &device);
            let run = |values: Tensor<1>| {
                let grads = (values.clone() * weights.clone()).sum().backward();
                let of_matrix = match model.weights.get(matrix) {
                    Some(Weight::Matrix(t)) => t.grad(&grads).unwrap(),
                    _ => panic!("{matrix} is a matrix"),
                };
                let of_hidden = hidden.grad(&grads).unwrap();
                [host(&values), host(&of_hidden), host(&of_matrix)]
            };
            for alpha in [1.0, 0.4] {
                let (x, ids) = (hidden.clone(), tokens.clone());
                let ours = run(model.log_probabilities(x, ids, alpha).unwrap());
                let theirs = run(plain(&model, hidden.clone(), tokens.clone(), alpha));
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    for (a, b) in ours.iter().zip(theirs) {
                        assert!((a - b).abs() < 2e-5 * b.abs().max(1.0), "{a} {b}");
                    }
                }
            }
            // Without autodiff nothing but the value is computed.
            let bare = model.clone().inner();
            let value = bare
                .log_probabilities(hidden.clone().inner(), tokens.clone().inner(), 1.0)
                .unwrap();
            let expected = plain(&model, hidden.clone(), tokens.clone(), 1.0);
            for (a, b) in host(&value).iter().zip(&host(&expected)) {
                assert!((a - b).abs() < 2e-5 * b.abs().max(1.0), "{a} {b}");
            }
        }
    }
}
