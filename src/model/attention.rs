//! Attention and what it needs from the host: positions, rotary tables, masks.
//!
//! Grouped queries: the G query heads of one key head are laid under each other, so that scores and mixing are one
//! batched product per key head, and no key or value is repeated in memory.

use super::host::{self, Turns};
use super::{ModelConfig, RopeScaling};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Added to the score of a hidden key. Finite, so that a row with every key hidden stays a number.
const HIDDEN: f32 = -1e9;

/// Positions and visibility of one batch, on the host.
///
/// `segments [B, Tk]` covers the keys; the queries are its last T columns (all of them, unless earlier keys are cached).
pub(crate) struct Places {
    /// Rows that differ: 1 where all rows share positions and mask, else B.
    rows: usize,
    queries: usize,
    /// `[rows, T]`: positions of the queries, counted from each segment's first token.
    positions: Vec<u32>,
    /// `[rows, T, Tk]`, or none where nothing is hidden (one query, no padding).
    bias: Option<Vec<f32>>,
    keys: usize,
}

impl Places {
    /// Works out positions and visibility for the last `queries` columns of `segments`.
    pub(crate) fn new(segments: &[u32], batch: usize, keys: usize, queries: usize) -> Self {
        assert_eq!(
            segments.len(),
            batch * keys,
            "segments must have one entry per token: [{batch}, {keys}]"
        );
        // Rows with one segment that starts at column 0 differ only in the padding behind it, which a causal mask
        // hides from every real token anyway. They share one row of positions and one triangular mask, which saves
        // B-1 masks of T·T values in the usual, right-padded batch.
        let plain = segments.chunks_exact(keys).all(|row| {
            let first = row.first().copied().unwrap_or(0);
            let end = row.iter().position(|s| *s != first).unwrap_or(keys);
            first != 0 && row[end..].iter().all(|s| *s == 0)
        });
        let rows = if plain { 1 } else { batch };
        let offset = keys - queries;
        let mut positions = Vec::with_capacity(rows * queries);
        let mut bias = Vec::with_capacity(rows * queries * keys);
        let mut any_hidden = false;
        for row in segments.chunks_exact(keys).take(rows) {
            let mut count = 0;
            for (t, segment) in row.iter().enumerate() {
                let starts = t > 0 && row[t - 1] != *segment && !plain;
                count = if starts || t == 0 { 0 } else { count + 1 };
                if t >= offset {
                    positions.push(count);
                }
            }
            for t in offset..keys {
                for k in 0..keys {
                    let seen = k <= t && (plain || (row[k] != 0 && row[k] == row[t]));
                    any_hidden |= !seen;
                    bias.push(if seen { 0.0 } else { HIDDEN });
                }
            }
        }
        Self {
            rows,
            queries,
            positions,
            bias: any_hidden.then_some(bias),
            keys,
        }
    }

    /// `[rows, 1, T, Tk]`, to be added to the scores.
    pub(crate) fn bias(&self, device: &Device) -> Option<Tensor<4>> {
        let shape = [self.rows, 1, self.queries, self.keys];
        let bias = self.bias.clone()?;
        Some(Tensor::from_data(TensorData::new(bias, shape), device))
    }

    /// `[rows, T]`; positions on padding are kept below `limit`.
    ///
    /// # Panics
    /// When a real token's position is not below `limit`: texts are cut to the model's length before they come here.
    pub(crate) fn positions(
        &self,
        limit: usize,
        segments: &[u32],
        device: &Device,
    ) -> Tensor<2, Int> {
        let offset = self.keys - self.queries;
        let batch = segments.len() / self.keys.max(1);
        for b in 0..batch {
            for t in 0..self.queries {
                let position = self.positions[(b % self.rows) * self.queries + t];
                let real = segments[b * self.keys + offset + t] != 0;
                assert!(
                    !real || (position as usize) < limit,
                    "a text has more than the {limit} tokens this model has positions for"
                );
            }
        }
        let last = limit.saturating_sub(1);
        let ids: Vec<i32> = self
            .positions
            .iter()
            .map(|p| (*p as usize).min(last) as i32)
            .collect();
        Tensor::from_data(TensorData::new(ids, [self.rows, self.queries]), device)
    }

    /// Rotary tables for these positions.
    pub(crate) fn rotary(&self, config: &ModelConfig, device: &Device) -> Rotary {
        let frequencies = frequencies(config);
        let d = config.head_dim;
        let half = self.positions.len() * d / 2;
        let (mut cos, mut sin) = (Vec::with_capacity(half), Vec::with_capacity(half));
        for position in &self.positions {
            // Angles in f64: a position of many thousands times an f32 frequency loses digits.
            for f in &frequencies {
                let (s, c) = (f64::from(*position) * f).sin_cos();
                cos.push(c as f32);
                sin.push(s as f32);
            }
        }
        // Both halves of a head turn by the same angles.
        let table = |half: &[f32]| {
            let rows = half.chunks((d / 2).max(1));
            let values = rows.flat_map(|row| [row, row].concat()).collect();
            let shape = [self.rows, self.queries, 1, d];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        let mut swap = vec![0.0; d * d];
        for i in 0..d / 2 {
            swap[(d / 2 + i) * d + i] = -1.0;
            swap[i * d + d / 2 + i] = 1.0;
        }
        Rotary {
            cos: table(&cos),
            sin: table(&sin),
            swap: Tensor::from_data(TensorData::new(swap, [d, d]), device),
            turns: Turns {
                tokens: self.positions.len(),
                cos: cos.into(),
                sin: sin.into(),
            },
        }
    }
}

/// θ^(-2i/d) for i < d/2, stretched as the configuration says (Llama 3.1's ramp as in its reference code).
fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let d = config.head_dim;
    (0..d / 2)
        .map(|i| {
            let f = config.rope_theta.powf(-2.0 * i as f64 / d as f64);
            match &config.rope_scaling {
                RopeScaling::None => f,
                RopeScaling::Linear { factor } => f / factor,
                RopeScaling::Llama3 {
                    factor,
                    low,
                    high,
                    original,
                } => {
                    let wavelength = std::f64::consts::TAU / f;
                    if wavelength > original / low {
                        f / factor
                    } else if wavelength < original / high {
                        f
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                }
            }
        })
        .collect()
}

/// Rotary positions of one pass: tables for the processor's own operation, and for Burn's cos and sin `[rows, T, 1, d]` and the
/// matrix `[d, d]` that maps (u, v) to (-v, u).
///
/// The swap of halves is a product with a constant because a slice's gradient in Burn is a full tensor of zeros with
/// the slice assigned into it: two slices, a negation and a join cost more kernels forward, and twice as many backward.
pub(crate) struct Rotary {
    turns: Turns,
    cos: Tensor<4>,
    sin: Tensor<4>,
    swap: Tensor<2>,
}

impl Rotary {
    /// Turns `x [B, T, heads, d]` with Burn's operations.
    fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, t, h, d] = x.dims();
        let swapped = x
            .clone()
            .reshape([b * t * h, d])
            .matmul(self.swap.clone())
            .reshape([b, t, h, d]);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

/// Keys and values of the tokens already seen, per layer: `[B, kv heads, Tk, d]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyValues {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
}

impl KeyValues {
    /// Appends one layer's new keys and values and hands back all of them.
    fn extend(&mut self, layer: usize, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        match self.layers.get_mut(layer) {
            None => self.layers.push((k.clone(), v.clone())),
            Some(kept) => {
                kept.0 = Tensor::cat(vec![kept.0.clone(), k], 2);
                kept.1 = Tensor::cat(vec![kept.1.clone(), v], 2);
                return kept.clone();
            }
        }
        (k, v)
    }

    /// Keeps these rows of the batch.
    pub(crate) fn select_rows(&mut self, rows: &Tensor<1, Int>) {
        for (k, v) in &mut self.layers {
            *k = k.clone().select(0, rows.clone());
            *v = v.clone().select(0, rows.clone());
        }
    }
}

/// What every layer of one forward pass shares.
pub(crate) struct Pass<'a> {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    pub(crate) bias: Option<Tensor<4>>,
    pub(crate) rotary: Option<Rotary>,
    pub(crate) cache: Option<&'a mut KeyValues>,
}

/// Scaled dot-product attention. `q [B, T, heads, d]`, `k` and `v [B, T, kv heads, d]`, q and k before they are turned by
/// their positions; returns `[B·T, heads·d]`, and the probabilities `[B, heads, T, Tk]` when `want_probabilities`.
pub(crate) fn attend(
    pass: &mut Pass,
    layer: usize,
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    want_probabilities: bool,
) -> (Tensor<2>, Option<Tensor<4>>) {
    let [b, t, heads, d] = q.dims();
    let kv = k.dims()[2];
    let scale = 1.0 / (d as f64).sqrt();
    let rotary = pass.rotary.as_ref();
    let (q, k, v) = (
        by_head(q, kv, rotary),
        by_head(k, kv, rotary),
        by_head(v, kv, None),
    );
    let (k, v) = match pass.cache.as_deref_mut() {
        Some(cache) => cache.extend(layer, k, v),
        None => (k, v),
    };
    let (keys, rows) = (k.dims()[2], q.dims()[2]);
    if host::applies([q.device(), k.device(), v.device()]) {
        let scores = host::product(q, k.swap_dims(2, 3)).reshape([b, heads, t, keys]);
        let weights = host::attention(scores, pass.bias.clone(), scale);
        let probabilities = want_probabilities.then(|| weights.clone());
        let mixed = host::product(weights.reshape([b, kv, rows, keys]), v);
        return (host::by_token(mixed, heads), probabilities);
    }
    // Scaling q costs less than scaling the scores.
    let scores = (q * scale)
        .matmul(k.swap_dims(2, 3))
        .reshape([b, heads, t, keys]);
    let scores = match &pass.bias {
        Some(bias) => scores + bias.clone(),
        None => scores,
    };
    // softmax(s) · v = (exp(s - max) · v) / sum: dividing the mixed values [T, d] instead of the weights [T, Tk] spares
    // the largest tensors two passes forward and four backward. The maximum only shifts, so no gradient goes through it.
    let peak = scores.clone().inner().max_dim(3);
    let weights = (scores - peak).exp();
    let total = weights.clone().sum_dim(3);
    let probabilities = want_probabilities.then(|| weights.clone() / total.clone());
    let mixed = weights
        .reshape([b, kv, rows, keys])
        .matmul(v)
        .reshape([b, heads, t, d])
        / total;
    let mixed = mixed.swap_dims(1, 2).reshape([b * t, heads * d]);
    (mixed, probabilities)
}

/// `x [B, T, heads, d]`, turned where there are positions, as `[B, kv, heads/kv·T, d]`.
fn by_head(x: Tensor<4>, kv: usize, rotary: Option<&Rotary>) -> Tensor<4> {
    if host::applies([x.device()]) {
        return host::by_head(x, kv, rotary.map(|rotary| &rotary.turns));
    }
    let x = match rotary {
        Some(rotary) => rotary.turn(x),
        None => x,
    };
    let [b, t, heads, d] = x.dims();
    if heads == kv {
        return x.swap_dims(1, 2);
    }
    x.reshape([b, t, kv, heads / kv, d])
        .permute([0, 2, 3, 1, 4])
        .reshape([b, kv, heads / kv * t, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bias as a picture: `.` seen, `x` hidden, one text line a query.
    fn picture(segments: &[u32], batch: usize, queries: usize) -> (String, Vec<u32>) {
        let keys = segments.len() / batch;
        let places = Places::new(segments, batch, keys, queries);
        let bias = places.bias.unwrap_or_default();
        let lines: Vec<String> = bias
            .chunks(keys)
            .map(|row| {
                row.iter()
                    .map(|b| if *b == 0.0 { '.' } else { 'x' })
                    .collect()
            })
            .collect();
        (lines.join(" "), places.positions)
    }

    #[test]
    fn masks_and_positions_follow_the_segments() {
        // Right padding shares one triangle over all rows.
        let (mask, positions) = picture(&[1, 1, 1, 1, 1, 0], 2, 3);
        assert_eq!((mask.as_str(), positions), (".xx ..x ...", vec![0, 1, 2]));
        let (mask, positions) = picture(&[0, 1, 1], 1, 3);
        assert_eq!((mask.as_str(), positions), ("xxx x.x x..", vec![0, 0, 1]));
        let (mask, positions) = picture(&[1, 1, 2], 1, 3);
        assert_eq!((mask.as_str(), positions), (".xx ..x xx.", vec![0, 1, 0]));
        // One new token behind cached ones: nothing to hide, then a padded key to hide.
        assert_eq!(picture(&[1, 1, 1], 1, 1), (String::new(), vec![2]));
        assert_eq!(picture(&[0, 1, 1], 1, 1), ("x..".into(), vec![1]));
    }

    /// The processor's passes against Burn's operations, which take over where activations are to be computed again:
    /// values, probabilities and gradients, with one set of positions and with one a row.
    #[test]
    fn attention_is_the_same_by_passes_and_by_operations() {
        use burn::tensor::GradientCheckpointingStrategy::{Balanced, Disabled};
        let config = crate::model::tests::small(crate::model::Architecture::Llama);
        let device = Device::flex();
        let (heads, kv, d) = (4, 2, config.head_dim);
        let input = |heads: usize, step: f32| {
            let values = (0..6 * heads * d)
                .map(|i| (i as f32 * step).sin() * 2.0)
                .collect();
            Tensor::<4>::from_data(TensorData::new(values, [2, 3, heads, d]), &device)
        };
        let inputs = [input(heads, 0.7), input(kv, 0.3), input(kv, 0.9)];
        for segments in [[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 2, 2]] {
            for turned in [true, false] {
                let run = |strategy| {
                    let places = Places::new(&segments, 2, 3, 3);
                    let mut pass = Pass {
                        batch: 2,
                        tokens: 3,
                        bias: places.bias(&device),
                        rotary: turned.then(|| places.rotary(&config, &device)),
                        cache: None,
                    };
                    let [q, k, v] = inputs.clone().map(|x| {
                        let x = x.autodiff().with_gradient_checkpointing_strategy(strategy);
                        x.require_grad()
                    });
                    assert_eq!(host::applies([q.device()]), strategy == Disabled);
                    let (y, p) = attend(&mut pass, 0, q.clone(), k.clone(), v.clone(), true);
                    let gradients = (y.clone() * y.clone().inner()).sum().backward();
                    let mut all = vec![host::read(y.inner()), host::read(p.unwrap().inner())];
                    all.extend([q, k, v].map(|x| host::read(x.grad(&gradients).unwrap())));
                    all
                };
                for (ours, theirs) in run(Disabled).iter().zip(&run(Balanced)) {
                    assert_eq!(ours.len(), theirs.len());
                    for (a, b) in ours.iter().zip(theirs) {
                        assert!((a - b).abs() < 3e-6 * b.abs().max(1.0), "{a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn stretched_frequencies_keep_the_high_and_divide_the_low() {
        let mut config = crate::model::tests::small(crate::model::Architecture::Llama);
        config.head_dim = 128;
        config.rope_theta = 500_000.0;
        let plain = frequencies(&config);
        config.rope_scaling = RopeScaling::Linear { factor: 4.0 };
        assert_eq!(frequencies(&config)[5], plain[5] / 4.0);
        config.rope_scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        };
        let stretched = frequencies(&config);
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 8.0);
        assert!(
            stretched
                .iter()
                .zip(&plain)
                .all(|(s, p)| *s <= *p && *s >= p / 8.0)
        );
        assert!(stretched.windows(2).all(|w| w[0] > w[1]));
    }
}
