//! Products of a batch's rows with a trained weight, of which a graphics device can share out the gradient.
//!
//! The gradient of a weight `[K, M]` is a product over all `N` rows of a batch. A device's kernels give one group of threads
//! each tile of a result, so a small result keeps few groups busy, and each for `N` rows: on an H200 by way of Vulkan the
//! gradients of SmolLM2's weights took half of a step that way, the narrowest as long as those eight times as wide
//! (`docs/LOG.md`, 2026-11-26). Here the rows come in slabs, `[S, N/S, K]` times `[1, K, M]`. That is the same product; Burn's
//! backward pass makes `S` results of `N/S` rows each and adds them.

use super::host;
use burn::tensor::Tensor;

/// Batches of fewer rows are one slab: nothing is gained there.
const FEWEST: usize = 1024;
/// A slab has at least so many rows, and there are at most so many slabs.
const ROWS: usize = 256;
const MOST: usize = 32;
/// Numbers of a weight from which on its tiles alone keep a large device busy.
const WIDE: usize = 1 << 22;
/// Numbers of all slabs' results together, which stand in the device's memory until they are added.
const HELD: usize = 1 << 25;

/// `a [N, K]` times `b [K, M]`.
pub(super) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let ([rows, inner], [_, width]) = (a.dims(), b.dims());
    match weight_slabs(rows, [inner, width]) {
        // A product whose `b` has no gradient has nothing to share out, and the processor's threads share by themselves.
        slabs if slabs > 1 && b.is_tracked() && !host::is_here(&a.device().inner()) => {
            cut(a, b, slabs)
        }
        _ => a.matmul(b),
    }
}

/// The product with its rows in so many slabs, which divide them.
fn cut(a: Tensor<2>, b: Tensor<2>, slabs: usize) -> Tensor<2> {
    let ([rows, inner], [_, width]) = (a.dims(), b.dims());
    a.reshape([slabs, rows / slabs, inner])
        .matmul(b.unsqueeze())
        .reshape([rows, width])
}

/// In how many slabs of one size [`matmul`] takes `rows` for a weight of this size: the most that are allowed and divide them.
pub(crate) fn weight_slabs(rows: usize, [inner, width]: [usize; 2]) -> usize {
    let numbers = inner * width;
    if rows < FEWEST || numbers >= WIDE {
        return 1;
    }
    let most = MOST.min(rows / ROWS).min(HELD / numbers.max(1));
    (1..=most)
        .rev()
        .find(|slabs| rows.is_multiple_of(*slabs))
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden;
    use crate::random::Rng;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn slabs_are_of_one_size_and_few_rows_are_one() {
        for (rows, weight, expected) in [
            (0, [64, 64], 1),
            (1, [64, 64], 1),
            (1023, [64, 64], 1),
            (1024, [64, 64], 4),
            (8192, [64, 64], 32),
            (100_000, [64, 64], 32),
            // 2 · 16 · 37 rows: a batch's length is seldom a power of two.
            (1184, [64, 64], 4),
            (1031, [64, 64], 1),
            // SmolLM2's largest layer, a larger one, and its LM head.
            (8192, [576, 1536], 32),
            (8192, [1024, 3072], 8),
            (8192, [576, 49152], 1),
            (8192, [0, 64], 32),
        ] {
            assert_eq!(
                weight_slabs(rows, weight),
                expected,
                "{rows} rows, {weight:?}"
            );
        }
    }

    /// The product of drawn matrices of 1,184 rows, and both gradients under a drawn one.
    fn with_gradients(
        device: &Device,
        product: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> [TensorData; 3] {
        let mut rng = Rng::new(5);
        let mut draw = |rows, columns| {
            let numbers: Vec<f32> = (0..rows * columns).map(|_| rng.normal() as f32).collect();
            Tensor::<2>::from_data(TensorData::new(numbers, [rows, columns]), device)
        };
        let (x, w, up) = (draw(1184, 9), draw(9, 5), draw(1184, 5));
        let [x, w] = [x, w].map(Tensor::require_grad);
        let y = product(x.clone(), w.clone());
        let gradients = (y.clone() * up).sum().backward();
        let [of_x, of_w] = [&x, &w].map(|t| t.grad(&gradients).unwrap().into_data());
        [y.into_data(), of_x, of_w]
    }

    fn close(ours: &[TensorData; 3], plain: &[TensorData; 3]) {
        for (ours, plain) in ours.iter().zip(plain) {
            assert_eq!(ours.shape(), plain.shape());
            for (a, b) in ours.iter::<f64>().zip(plain.iter::<f64>()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(10.0), "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_product_in_slabs_and_its_gradients_are_the_plain_ones() {
        let device = Device::flex().autodiff();
        let plain = with_gradients(&device, &|a, b| a.matmul(b));
        close(&with_gradients(&device, &|a, b| cut(a, b, 4)), &plain);
    }

    #[test]
    fn a_product_in_slabs_and_its_gradients_hold_on_a_gpu() {
        if let Some(device) = golden::wgpu() {
            let plain = with_gradients(&Device::flex().autodiff(), &|a, b| a.matmul(b));
            close(&with_gradients(&device.autodiff(), &matmul), &plain);
        }
    }
}
