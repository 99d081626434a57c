//! The RMS norm as one pass over memory in each direction.

use super::operation::{
    Input, Operation, Values, apply, floats, in_order, numbers, own, shape, values,
};
use super::passes::{dot, in_parts, of_parts, rows_at_a_time, squares};
use burn::tensor::Tensor;
use std::sync::Arc;

/// x / sqrt(mean(x²) + eps) · gain for each row of `[N, H]` (arXiv 1910.07467), on the processor.
pub(in crate::model) fn rms_norm(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
    apply(RmsNorm { eps }, [Input::of(x), Input::of(gain)])
}

#[derive(Clone, Debug)]
struct RmsNorm {
    eps: f64,
}

/// The inputs, and 1 / sqrt(mean(x²) + eps) of every row.
#[derive(Clone, Debug)]
struct Rows {
    x: Values,
    gain: Values,
    shares: Arc<[f32]>,
}

impl Operation<2> for RmsNorm {
    type Kept = Rows;

    fn forward(&self, [x, gain]: [Values; 2], keep: bool) -> (Values, Option<Rows>) {
        let (x, gain) = (in_order(x), in_order(gain));
        let size = shape(&x);
        let width = size[1];
        let kept = keep.then(|| (x.clone(), gain.clone()));
        // Copied where somebody else holds it, and written over.
        let mut y = own(x);
        let mut shares = vec![0.0f32; size[0]];
        let rows = rows_at_a_time(width);
        let factors = numbers(&gain);
        let parts = floats(&mut y)
            .chunks_mut(rows * width.max(1))
            .zip(shares.chunks_mut(rows))
            .collect();
        in_parts(parts, |(y, shares): (&mut [f32], &mut [f32])| {
            for (row, share) in y.chunks_mut(width).zip(shares) {
                *share = (1.0 / (squares(row) / width as f64 + self.eps).sqrt()) as f32;
                for (x, gain) in row.iter_mut().zip(factors) {
                    *x = *x * *share * gain;
                }
            }
        });
        let kept = kept.map(|(x, gain)| Rows {
            x,
            gain,
            shares: shares.into(),
        });
        (Values::from_data(y), kept)
    }

    /// With s the row's share, ĝ = g·gain and w the width: ∂x = s·(ĝ - x·s²·⟨ĝ, x⟩/w), ∂gain = Σ over rows of g·x·s.
    fn backward(
        &self,
        kept: Rows,
        [of_x, of_gain]: [bool; 2],
        gradient: Values,
    ) -> [Option<Values>; 2] {
        let size = shape(&kept.x);
        let width = size[1];
        let (x, gain) = (numbers(&kept.x), numbers(&kept.gain));
        let mut out = own(gradient);
        let rows = rows_at_a_time(width);
        let parts = floats(&mut out)
            .chunks_mut(rows * width.max(1))
            .zip(x.chunks(rows * width.max(1)))
            .zip(kept.shares.chunks(rows))
            .collect();
        let sums = of_parts(parts, |((g, x), shares): ((&mut [f32], &[f32]), &[f32])| {
            let mut sum = vec![0.0f32; if of_gain { width } else { 0 }];
            for ((g, x), share) in g.chunks_mut(width).zip(x.chunks(width)).zip(shares) {
                if of_gain {
                    for ((sum, g), x) in sum.iter_mut().zip(&*g).zip(x) {
                        *sum += g * x * share;
                    }
                }
                if of_x {
                    for (g, gain) in g.iter_mut().zip(gain) {
                        *g *= gain;
                    }
                    let s = f64::from(*share);
                    let along = (dot(g, x) * s * s / width as f64) as f32;
                    for (g, x) in g.iter_mut().zip(x) {
                        *g = share * (*g - x * along);
                    }
                }
            }
            sum
        });
        // In the parts' order, in f64.
        let of_gain = of_gain.then(|| {
            let total = (0..width).map(|i| sums.iter().map(|sum| f64::from(sum[i])).sum::<f64>());
            values(total.map(|x| x as f32).collect(), &[width])
        });
        [of_x.then(|| Values::from_data(out)), of_gain]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, wavy};
    use super::*;

    fn plain(x: Tensor<2>, gain: Tensor<1>, eps: f64) -> Tensor<2> {
        let root = (x.clone() * x.clone()).mean_dim(1).add_scalar(eps).sqrt();
        x / root * gain.unsqueeze()
    }

    #[test]
    fn values_and_gradients_are_those_of_burns_operations() {
        // Rows of which several make a part, and one longer than a block of a sum.
        for [n, width] in [[300, 576], [3, 5_001], [1, 1]] {
            let (x, gain) = (wavy([n, width], 0.37), wavy([width], 0.11).add_scalar(1.5));
            for eps in [1e-5, 0.3] {
                for recorded in [[true, true], [true, false], [false, true], [false, false]] {
                    let run = |f: &dyn Fn(Tensor<2>, Tensor<1>) -> Tensor<2>| {
                        let x = Graph::of(x.clone(), recorded[0]);
                        let gain = Graph::of(gain.clone(), recorded[1]);
                        let y = f(x.0.clone(), gain.0.clone());
                        let gradients = Graph::backward(&y);
                        [
                            Graph(y).numbers(),
                            x.gradient(&gradients),
                            gain.gradient(&gradients),
                        ]
                    };
                    let ours = run(&|x, gain| rms_norm(x, gain, eps));
                    let theirs = run(&|x, gain| plain(x, gain, eps));
                    close(&ours, &theirs, 2e-5);
                }
            }
        }
    }
}
