//! Work on the processor as single passes over memory, where operation by operation would cost several.
//!
//! Flex keeps a tensor as a buffer on the host, which goes out of a tensor and back into one without a copy where nobody
//! else holds it. Its elementwise operations run on one thread and call the scalar exponential; these use all threads
//! and an exponential that compilers turn into vector instructions.

use burn::tensor::activation;
use burn::tensor::{Device, Tensor, TensorData};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Numbers that one thread handles at a time: large enough that handing out work costs nothing.
pub(crate) const CHUNK: usize = 1 << 16;

/// Whether the tensors of `device` (without autodiff) are buffers on the host.
pub(crate) fn is_here(device: &Device) -> bool {
    *device == Device::flex()
}

/// The values of a tensor on the processor: taken out without a copy where nobody else holds them.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    take(tensor).values().to_vec()
}

/// The buffer of a tensor on the processor.
pub(crate) fn take<const D: usize>(tensor: Tensor<D>) -> Buffer {
    let mut data = pin!(tensor.into_data_async());
    // Nothing is computed elsewhere, so the answer is there at once; a waker that does nothing is enough.
    match data.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(data)) => Buffer(data),
        Poll::Ready(Err(error)) => panic!("the processor's own memory cannot be read: {error:?}"),
        Poll::Pending => panic!("a tensor of the processor is not ready: it is on another device"),
    }
}

/// f32 values in a tensor's own memory.
pub(crate) struct Buffer(TensorData);

impl Buffer {
    pub(crate) fn zeros(shape: &[usize]) -> Self {
        Self(TensorData::zeros::<f32, _>(shape.to_vec()))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_else(|error| not_f32(&error))
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.0
            .as_mut_slice()
            .unwrap_or_else(|error| not_f32(&error))
    }

    pub(crate) fn tensor<const D: usize>(self, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.0, device)
    }
}

fn not_f32(error: &dyn std::fmt::Debug) -> ! {
    panic!("every float tensor here is f32: {error:?}")
}

/// x·sigmoid(x). On the processor value and slope come out of one pass, and the backward pass is one product.
pub(super) fn silu(x: Tensor<2>) -> Tensor<2> {
    let device = x.device().inner();
    if !is_here(&device) {
        return activation::silu(x);
    }
    if !x.is_tracked() {
        let mut values = take(x.inner());
        each(values.values_mut(), |x| *x *= sigmoid(*x));
        return values.tensor(&device);
    }
    let mut rest = take(x.clone().inner());
    let mut slope = Buffer::zeros(&x.dims());
    each_two(rest.values_mut(), slope.values_mut(), |x, slope| {
        let s = sigmoid(*x);
        *slope = s * (1.0 + *x * (1.0 - s));
        // What a line through the origin of this slope misses, -x²·s·(1-s): between -0.44 and 0, so nothing cancels.
        *x = *x * s - *x * *slope;
    });
    x * slope.tensor(&device) + rest.tensor(&device)
}

/// silu(gate)·up, `[N, width]` each. On the processor and without autodiff one pass.
pub(super) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let device = gate.device();
    if gate.is_tracked() || up.is_tracked() || !is_here(&device) {
        return silu(gate) * up;
    }
    let (mut gate, mut up) = (take(gate), take(up));
    each_two(gate.values_mut(), up.values_mut(), |x, up| {
        *x = *x * sigmoid(*x) * *up;
    });
    gate.tensor(&device)
}

/// Rotary positions without autodiff on the processor, in one pass: `x [B, T, heads, d]` by tables of one row of d numbers a
/// token, `[T, d]` for all rows of the batch or `[B, T, d]`.
pub(super) fn rotate(x: Tensor<4>, cos: &[f32], sin: &[f32]) -> Tensor<4> {
    let (device, [b, t, heads, d]) = (x.device(), x.dims());
    let mut values = take(x);
    let places = (cos.len() / d.max(1)).max(1);
    debug_assert!(places == t || places == b * t, "{places} tables, {b} x {t}");
    numbered_rows(values.values_mut(), heads * d, |token, row| {
        let at = token % places * d;
        let (cos, sin) = (&cos[at..at + d], &sin[at..at + d]);
        for head in row.chunks_mut(d) {
            let (first, second) = head.split_at_mut(d / 2);
            for (i, (u, v)) in first.iter_mut().zip(second).enumerate() {
                let (a, b) = (*u, *v);
                *u = a * cos[i] - b * sin[i];
                *v = b * cos[d / 2 + i] + a * sin[d / 2 + i];
            }
        }
    });
    values.tensor(&device)
}

/// exp(x) for x <= 88. On the processor the backward pass is one product, as it is elsewhere.
pub(super) fn exponential(x: Tensor<4>) -> Tensor<4> {
    let device = x.device().inner();
    if !is_here(&device) {
        return x.exp();
    }
    let mut values = take(x.clone().inner());
    if !x.is_tracked() {
        drop(x);
        each(values.values_mut(), |x| *x = exp(*x));
        return values.tensor(&device);
    }
    let mut slope = Buffer::zeros(&x.dims());
    each_two(values.values_mut(), slope.values_mut(), |x, slope| {
        *slope = exp(*x);
        // What a line through the origin of this slope misses.
        *x = *slope - *x * *slope;
    });
    x * slope.tensor(&device) + values.tensor(&device)
}

/// Softmax of each row of `[N, V]` and log Σ exp `[N, 1]`, without autodiff, on the processor.
pub(super) fn softmax(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let (device, [rows, width]) = (logits.device(), logits.dims());
    let mut values = take(logits);
    let mut totals = Buffer::zeros(&[rows, 1]);
    each_row(
        values.values_mut(),
        width,
        totals.values_mut(),
        |row, total| {
            let top = largest(row);
            let mut sum = 0.0;
            for block in row.chunks_mut(BLOCK) {
                block.iter_mut().for_each(|x| *x = exp(*x - top));
                sum += block_sum(block);
            }
            let share = (1.0 / sum) as f32;
            row.iter_mut().for_each(|x| *x *= share);
            *total = top + sum.ln() as f32;
        },
    );
    (values.tensor(&device), totals.tensor(&device))
}

/// log Σ exp of each row of `[N, V]`, as `[N, 1]`, without autodiff, on the processor.
pub(super) fn log_sum_exp(logits: Tensor<2>) -> Tensor<2> {
    let (device, [rows, width]) = (logits.device(), logits.dims());
    let mut values = take(logits);
    let mut totals = Buffer::zeros(&[rows, 1]);
    each_row(
        values.values_mut(),
        width,
        totals.values_mut(),
        |row, total| {
            let top = largest(row);
            let mut sum = 0.0;
            for block in row.chunks_mut(BLOCK) {
                block.iter_mut().for_each(|x| *x = exp(*x - top));
                sum += block_sum(block);
            }
            *total = top + sum.ln() as f32;
        },
    );
    totals.tensor(&device)
}

/// x / sqrt(mean(x²) + eps) · gain for each row of `[N, H]`; none where autodiff is on or the device is another one.
pub(super) fn rms_norm(x: &Tensor<2>, gain: &Tensor<1>, eps: f64) -> Option<Tensor<2>> {
    let device = x.device();
    if x.is_tracked() || gain.is_tracked() || !is_here(&device) {
        return None;
    }
    let [rows, width] = x.dims();
    let (mut values, gain) = (take(x.clone()), read(gain.clone()));
    let mut nothing = Buffer::zeros(&[rows, 1]);
    each_row(
        values.values_mut(),
        width,
        nothing.values_mut(),
        |row, _| {
            let mut squares = 0.0;
            for block in row.chunks(BLOCK) {
                squares += lanes_sum(block, |x| x * x);
            }
            let share = (1.0 / (squares / width as f64 + eps).sqrt()) as f32;
            for (x, gain) in row.iter_mut().zip(&gain) {
                *x = *x * share * gain;
            }
        },
    );
    Some(values.tensor(&device))
}

/// Numbers that are added in f32 lanes before they go into an f64 sum.
const BLOCK: usize = 4096;

fn largest(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut top = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for part in whole {
        for (top, x) in top.iter_mut().zip(part) {
            // Not `max`: comparing is one vector instruction.
            *top = if *x > *top { *x } else { *top };
        }
    }
    top.iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

fn block_sum(block: &[f32]) -> f64 {
    lanes_sum(block, |x| x)
}

/// Σ f(x) of at most [`BLOCK`] numbers.
fn lanes_sum(block: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = block.as_chunks::<LANES>();
    for part in whole {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    lanes.iter().map(|lane| f64::from(*lane)).sum()
}

/// 1 / (1 + exp(-x)).
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The exponential, to two units in the last place; 0 below -87, so that what is hidden weighs nothing and no product of
/// it falls among the subnormal numbers, which are slow; at most exp(88).
///
/// exp(x) = 2^n · exp(r) with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2, where the series to the sixth power
/// leaves 2e-8. No branch and no call, so that a loop over it becomes vector instructions.
fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the integer nearest to x / ln 2 in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let nothing = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if nothing { 0.0 } else { series * power }
}

#[cfg(not(target_family = "wasm"))]
fn each(values: &mut [f32], f: impl Fn(&mut f32) + Send + Sync) {
    use rayon::prelude::*;
    values
        .par_chunks_mut(CHUNK)
        .for_each(|chunk| chunk.iter_mut().for_each(&f));
}

#[cfg(target_family = "wasm")]
fn each(values: &mut [f32], f: impl Fn(&mut f32)) {
    values.iter_mut().for_each(f);
}

#[cfg(not(target_family = "wasm"))]
fn each_two(a: &mut [f32], b: &mut [f32], f: impl Fn(&mut f32, &mut f32) + Send + Sync) {
    use rayon::prelude::*;
    a.par_chunks_mut(CHUNK)
        .zip(b.par_chunks_mut(CHUNK))
        .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| f(a, b)));
}

#[cfg(target_family = "wasm")]
fn each_two(a: &mut [f32], b: &mut [f32], f: impl Fn(&mut f32, &mut f32)) {
    a.iter_mut().zip(b).for_each(|(a, b)| f(a, b));
}

/// One call a row of `width` numbers, with the number of the row.
#[cfg(not(target_family = "wasm"))]
fn numbered_rows(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Send + Sync) {
    use rayon::prelude::*;
    if width == 0 {
        return;
    }
    // Short rows are handed out many at a time.
    let rows = CHUNK.div_ceil(width);
    values
        .par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(chunk, values)| {
            for (i, row) in values.chunks_mut(width).enumerate() {
                f(chunk * rows + i, row);
            }
        });
}

#[cfg(target_family = "wasm")]
fn numbered_rows(values: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32])) {
    for (i, row) in values.chunks_mut(width.max(1)).enumerate() {
        f(i, row);
    }
}

/// One call a row of `width` numbers, with the row's own number of `each`.
#[cfg(not(target_family = "wasm"))]
fn each_row(
    values: &mut [f32],
    width: usize,
    each: &mut [f32],
    f: impl Fn(&mut [f32], &mut f32) + Send + Sync,
) {
    use rayon::prelude::*;
    if width == 0 {
        return;
    }
    // Short rows are handed out many at a time.
    let rows = CHUNK.div_ceil(width);
    values
        .par_chunks_mut(rows * width)
        .zip(each.par_chunks_mut(rows))
        .for_each(|(values, each)| {
            for (row, one) in values.chunks_mut(width).zip(each) {
                f(row, one);
            }
        });
}

#[cfg(target_family = "wasm")]
fn each_row(values: &mut [f32], width: usize, each: &mut [f32], f: impl Fn(&mut [f32], &mut f32)) {
    for (row, one) in values.chunks_mut(width.max(1)).zip(each) {
        f(row, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let right = f64::from(x).exp();
            let far = (f64::from(exp(x)) - right).abs() / right;
            assert!(far < 2.5e-7, "exp({x}): {far:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) == 0.0 && exp(1e9).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn silu_and_its_slope_are_those_of_burn() {
        let device = Device::flex();
        let values: Vec<f32> = (-400..400)
            .map(|i| i as f32 * 0.05)
            .chain([-200.0, 200.0])
            .collect();
        let shape = [2, values.len() / 2];
        let plain = Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let run = |f: fn(Tensor<2>) -> Tensor<2>| {
            let x = plain.clone().autodiff().require_grad();
            let y = f(x.clone());
            // A gradient that differs from place to place.
            let grads = (y.clone() * x.clone().inner()).sum().backward();
            let slope = x.grad(&grads).map(read);
            [read(y.inner()), slope.unwrap_or_default()]
        };
        let (ours, theirs) = (run(silu), run(activation::silu));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.len(), theirs.len());
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} {b}");
            }
        }
        for (a, b) in read(silu(plain.clone())).iter().zip(&theirs[0]) {
            assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn swiglu_is_that_of_its_two_factors() {
        let device = Device::flex();
        let of = |step: f32| {
            let values = (-300..300).map(|i| i as f32 * step).collect();
            Tensor::<2>::from_data(TensorData::new(values, [6, 100]), &device)
        };
        let (gate, up) = (of(0.05), of(-0.3));
        let ours = read(swiglu(gate.clone(), up.clone()));
        let theirs = read(activation::silu(gate) * up);
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 2e-6 * b.abs().max(1e-3), "{a} {b}");
        }
    }

    #[test]
    fn rows_are_what_burn_makes_of_them() {
        let device = Device::flex();
        // Wider than a block and not a multiple of the lanes, with a value that hides and one that dominates.
        let (rows, width) = (5, 9_001);
        let values: Vec<f32> = (0..rows * width)
            .map(|i| match i % 977 {
                0 => -1e9,
                1 => 40.0 - (i / width) as f32 * 50.0,
                k => (k as f32 * 0.37).sin() * 6.0,
            })
            .collect();
        let x = Tensor::<2>::from_data(TensorData::new(values, [rows, width]), &device);
        // Burn adds a long row in one f32 sum, which is less exact than this; so the reference is in f64.
        let numbers = read(x.clone());
        let exact: Vec<f64> = numbers
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
        let (p, totals) = softmax(x.clone());
        let share = |i: usize| {
            let x = numbers[i];
            // What the exponential takes for nothing.
            let row = &numbers[i / width * width..(i / width + 1) * width];
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if x - top < -87.0 {
                0.0
            } else {
                (f64::from(x) - exact[i / width]).exp()
            }
        };
        close(p, &share, 2e-6);
        close(totals, &|i| exact[i], 2e-7);
        close(log_sum_exp(x.clone()), &|i| exact[i], 2e-7);

        let x = x.clamp(-50.0, 50.0);
        let gain = Tensor::<1>::from_data(
            TensorData::new((0..width).map(|i| 1.0 + i as f32 * 1e-4).collect(), [width]),
            &device,
        );
        let root = (x.clone() * x.clone()).mean_dim(1).add_scalar(1e-5).sqrt();
        let expected = read(x.clone() / root * gain.clone().unsqueeze());
        let ours = rms_norm(&x, &gain, 1e-5).unwrap();
        close(ours, &|i| f64::from(expected[i]), 1e-5);
        let tracked = gain.clone().autodiff().require_grad();
        assert!(rms_norm(&x.clone().autodiff(), &tracked, 1e-5).is_none());
    }

    #[test]
    fn the_exponential_of_a_tensor_and_its_slope_are_those_of_burn() {
        let device = Device::flex();
        let values: Vec<f32> = (0..400)
            .map(|i| i as f32 * -0.05)
            .chain([-1e9, -90.0])
            .collect();
        let shape = [1, 2, 3, values.len() / 6];
        let plain = Tensor::<4>::from_data(TensorData::new(values, shape), &device);
        let run = |f: fn(Tensor<4>) -> Tensor<4>| {
            let x = plain.clone().autodiff().require_grad();
            let y = f(x.clone());
            let grads = (y.clone() * y.clone().inner()).sum().backward();
            let slope = x.grad(&grads).map(read).unwrap_or_default();
            [read(y.inner()), slope, read(f(plain.clone()))]
        };
        let (ours, theirs) = (run(exponential), run(|x| x.exp()));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.len(), theirs.len());
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-6 * b.abs().max(0.1), "{a} {b}");
            }
        }
    }
}
