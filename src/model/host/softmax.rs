//! Softmax of attention's scores, and over the vocabulary, as passes over memory.

use super::operation::{
    Input, Operation, Values, apply, floats, in_order, numbers, own, plain, shape,
};
use super::passes::{BLOCK, dot, exp, in_parts, largest, rows_at_a_time, sum};
use super::{Buffer, take};
use burn::tensor::Tensor;

/// softmax(scale·scores + bias) over the last dimension of `scores [B, heads, T, Tk]`; `bias [B or 1, 1, T, Tk]` carries no
/// gradient. On the processor.
pub(in crate::model) fn attention(
    scores: Tensor<4>,
    bias: Option<Tensor<4>>,
    scale: f64,
) -> Tensor<4> {
    let bias = bias.map(|bias| in_order(plain(bias)));
    let scale = scale as f32;
    apply(Attention { bias, scale }, [Input::of(scores)])
}

#[derive(Clone, Debug)]
struct Attention {
    bias: Option<Values>,
    scale: f32,
}

impl Operation<1> for Attention {
    /// The result.
    type Kept = Values;

    fn forward(&self, [scores]: [Values; 1], keep: bool) -> (Values, Option<Values>) {
        let size = shape(&scores);
        let (heads, t, keys) = (size[1], size[2], size[3]);
        let bias = self.bias.as_ref().map(numbers);
        let bias_rows = bias.map_or(0, |bias| bias.len() / keys.max(1));
        let mut p = own(scores);
        let rows = rows_at_a_time(keys);
        let parts = floats(&mut p)
            .chunks_mut((rows * keys).max(1))
            .enumerate()
            .collect();
        in_parts(parts, |(part, values): (usize, &mut [f32])| {
            for (i, row) in values.chunks_mut(keys).enumerate() {
                let query = part * rows + i;
                match bias {
                    Some(bias) => {
                        let at = (query / (heads * t) * t + query % t) % bias_rows * keys;
                        for (x, bias) in row.iter_mut().zip(&bias[at..at + keys]) {
                            *x = *x * self.scale + bias;
                        }
                    }
                    None => row.iter_mut().for_each(|x| *x *= self.scale),
                }
                softmax_row(row);
            }
        });
        let p = Values::from_data(p);
        let kept = keep.then(|| p.clone());
        (p, kept)
    }

    /// ∂scores = scale·p·(g - ⟨g, p⟩).
    fn backward(&self, p: Values, wanted: [bool; 1], gradient: Values) -> [Option<Values>; 1] {
        if !wanted[0] {
            return [None];
        }
        let keys = shape(&p)[3];
        let mut out = own(gradient);
        let size = (rows_at_a_time(keys) * keys).max(1);
        let parts = floats(&mut out)
            .chunks_mut(size)
            .zip(numbers(&p).chunks(size))
            .collect();
        in_parts(parts, |(g, p): (&mut [f32], &[f32])| {
            for (g, p) in g.chunks_mut(keys).zip(p.chunks(keys)) {
                let along = dot(g, p) as f32;
                for (g, p) in g.iter_mut().zip(p) {
                    *g = self.scale * p * (*g - along);
                }
            }
        });
        [Some(Values::from_data(out))]
    }
}

/// Turns a row into its softmax; the largest number and Σ exp(x - largest).
#[inline(always)]
fn softmax_row(row: &mut [f32]) -> (f32, f64) {
    let (top, total) = exponentials(row);
    let share = (1.0 / total) as f32;
    row.iter_mut().for_each(|x| *x *= share);
    (top, total)
}

/// Turns a row into exp(x - largest); the largest number and the sum.
#[inline(always)]
fn exponentials(row: &mut [f32]) -> (f32, f64) {
    let top = largest(row);
    let mut total = 0.0;
    for block in row.chunks_mut(BLOCK) {
        block.iter_mut().for_each(|x| *x = exp(*x - top));
        total += sum(block);
    }
    (top, total)
}

/// Softmax of each row of `[N, V]` and log Σ exp `[N, 1]`, without autodiff, on the processor.
pub(in crate::model) fn vocabulary(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let device = logits.device();
    let (values, totals) = rows(logits, softmax_row);
    (values.tensor(&device), totals.tensor(&device))
}

/// log Σ exp of each row of `[N, V]`, as `[N, 1]`, without autodiff, on the processor.
pub(in crate::model) fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
    let device = logits.device();
    rows(logits, exponentials).1.tensor(&device)
}

/// The rows after `f`, which gives the largest number and Σ exp(x - largest), and log Σ exp of each.
fn rows(logits: Tensor<2>, f: impl Fn(&mut [f32]) -> (f32, f64) + Send + Sync) -> (Buffer, Buffer) {
    let [n, width] = logits.dims();
    let mut values = take(logits);
    let mut totals = Buffer::zeros(&[n, 1]);
    let size = rows_at_a_time(width);
    let parts = values
        .values_mut()
        .chunks_mut((size * width).max(1))
        .zip(totals.values_mut().chunks_mut(size))
        .collect();
    in_parts(parts, |(rows, totals): (&mut [f32], &mut [f32])| {
        for (row, total) in rows.chunks_mut(width).zip(totals) {
            let (top, sum) = f(row);
            *total = top + sum.ln() as f32;
        }
    });
    (values, totals)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::testing::{Graph, close, wavy};
    use super::*;
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn attention_and_its_gradient_are_those_of_burns_operations() {
        let (b, heads, t, keys) = (3, 2, 4, 7);
        let scores = wavy([b, heads, t, keys], 0.37) * 9.0;
        let hidden = |rows: usize| {
            let bias = (0..rows * t * keys)
                .map(|i| if i % 5 == 1 { -1e9 } else { 0.0 })
                .collect();
            Tensor::<4>::from_data(TensorData::new(bias, [rows, 1, t, keys]), &Device::flex())
        };
        for bias in [None, Some(hidden(1)), Some(hidden(b))] {
            for recorded in [true, false] {
                let run = |f: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                    let x = Graph::of(scores.clone(), recorded);
                    let y = f(x.0.clone());
                    let gradients = Graph::backward(&y);
                    [Graph(y).numbers(), x.gradient(&gradients)]
                };
                let ours = run(&|x| attention(x, bias.clone(), 0.3));
                let theirs = run(&|x| match &bias {
                    Some(bias) => softmax(x * 0.3 + bias.clone(), 3),
                    None => softmax(x * 0.3, 3),
                });
                close(&ours, &theirs, 2e-6);
            }
        }
    }

    #[test]
    fn a_row_with_every_key_hidden_stays_a_number() {
        let device = Device::flex();
        let bias = Tensor::<4>::full([1, 1, 1, 4], -1e9, &device);
        let p = attention(Tensor::ones([1, 1, 1, 4], &device), Some(bias), 1.0);
        assert_eq!(read(p), [0.25; 4]);
    }

    #[test]
    fn rows_over_a_vocabulary_are_those_of_f64() {
        let device = Device::flex();
        // Wider than a block and not a multiple of the lanes, with a value that hides and one that dominates.
        let (n, width) = (5, 9_001);
        let values: Vec<f32> = (0..n * width)
            .map(|i| match i % 977 {
                0 => -1e9,
                1 => 40.0 - (i / width) as f32 * 50.0,
                k => (k as f32 * 0.37).sin() * 6.0,
            })
            .collect();
        let x = Tensor::<2>::from_data(TensorData::new(values.clone(), [n, width]), &device);
        // Burn adds a long row in one f32 sum, which is less exact than this; so the reference is in f64.
        let exact: Vec<f64> = values
            .chunks(width)
            .map(|row| {
                let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = row.iter().map(|x| f64::from(x - top).exp()).sum();
                f64::from(top) + sum.ln()
            })
            .collect();
        let close = |ours: Tensor<2>, exact: &dyn Fn(usize) -> f64, rel: f64| {
            for (i, ours) in read(ours).into_iter().enumerate() {
                let off = (f64::from(ours) - exact(i)).abs();
                assert!(off <= rel * exact(i).abs().max(1e-9), "{ours} {}", exact(i));
            }
        };
        let (p, totals) = vocabulary(x.clone());
        let share = |i: usize| {
            let row = &values[i / width * width..(i / width + 1) * width];
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // What the exponential takes for nothing.
            if values[i] - top < -87.0 {
                0.0
            } else {
                (f64::from(values[i]) - exact[i / width]).exp()
            }
        };
        close(p, &share, 2e-6);
        close(totals, &|i| exact[i], 2e-7);
        close(log_sum_exp(x), &|i| exact[i], 2e-7);
    }
}
