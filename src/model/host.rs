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

/// 1 / (1 + exp(-x)).
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The exponential, to two units in the last place; finite and positive for every finite x.
///
/// exp(x) = 2^n · exp(r) with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2, where the series to the sixth power
/// leaves 2e-8. No branch and no call, so that a loop over it becomes vector instructions.
fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the integer nearest to x / ln 2 in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
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
    series * power
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
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite() && exp(f32::NAN).is_nan());
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
}
