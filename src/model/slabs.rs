//! Sums over a batch's rows that a graphics device can share out.
//!
//! The gradient of a weight `[K, M]` is a product over all `N` rows of a batch, that of a norm's gain a sum over them. A
//! device's kernels give one group of threads each tile of a result, so a small result keeps few groups busy, and each for `N`
//! rows: on an H200 the gradients of SmolLM2's weights took half of a step that way, the narrowest of them as long as those
//! eight times as wide (`docs/LOG.md`, 2026-11-26). Here the rows come in slabs, `[S, N/S, K]` times `[1, K, M]`. That is the
//! same product; Burn's backward pass makes `S` results of `N/S` rows each and adds them.

use burn::tensor::Tensor;

/// Batches of fewer rows are one slab: nothing is gained there.
const FEWEST: usize = 1024;
/// A slab has at least so many rows, and there are at most so many slabs.
const ROWS: usize = 256;
const MOST: usize = 32;
/// Numbers of a result from which on its tiles alone keep a large device busy.
const WIDE: usize = 1 << 22;

/// `a [N, K]` times `b [K, M]`.
pub(super) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let ([rows, inner], [_, width]) = (a.dims(), b.dims());
    match weight_slabs(rows, [inner, width]) {
        // A product whose `b` has no gradient has nothing to share out.
        slabs if slabs > 1 && b.is_tracked() => a
            .reshape([slabs, rows / slabs, inner])
            .matmul(b.unsqueeze())
            .reshape([rows, width]),
        _ => a.matmul(b),
    }
}

/// In how many slabs [`matmul`] takes `rows` for a weight of this size.
pub(crate) fn weight_slabs(rows: usize, [inner, width]: [usize; 2]) -> usize {
    match inner * width < WIDE {
        true => slabs(rows),
        false => 1,
    }
}

/// Every row of `x [N, H]` times `gain [H]`.
pub(super) fn scale(x: Tensor<2>, gain: Tensor<1>) -> Tensor<2> {
    let [rows, width] = x.dims();
    match slabs(rows) {
        slabs if slabs > 1 && gain.is_tracked() => {
            (x.reshape([slabs, rows / slabs, width]) * gain.unsqueeze::<3>()).reshape([rows, width])
        }
        _ => x * gain.unsqueeze::<2>(),
    }
}

/// In how many slabs of one size `rows` come: the most that are allowed and divide them.
fn slabs(rows: usize) -> usize {
    if rows < FEWEST {
        return 1;
    }
    (1..=MOST.min(rows / ROWS))
        .rev()
        .find(|slabs| rows.is_multiple_of(*slabs))
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn slabs_are_of_one_size_and_few_rows_are_one() {
        for (rows, expected) in [
            (0, 1),
            (1, 1),
            (1023, 1),
            (1024, 4),
            (8192, 32),
            (100_000, 32),
            // 2 · 16 · 37 rows: a batch's length is seldom a power of two.
            (1184, 4),
            (1031, 1),
        ] {
            assert_eq!(slabs(rows), expected, "{rows} rows");
        }
    }

    #[test]
    fn products_and_scalings_and_their_gradients_are_the_plain_ones() {
        let device = Device::flex().autodiff();
        let draw = |size| Tensor::<2>::random(size, Distribution::Normal(0.0, 1.0), &device);
        let (x, w, up) = (draw([1184, 9]), draw([9, 5]), draw([1184, 5]));
        let gain = draw([1, 9]).reshape([9]);
        let up_x = draw([1184, 9]);
        let run = |product: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
                   scaled: &dyn Fn(Tensor<2>, Tensor<1>) -> Tensor<2>| {
            let [x, w] = [x.clone(), w.clone()].map(Tensor::require_grad);
            let gain = gain.clone().require_grad();
            let (y, z) = (
                product(x.clone(), w.clone()),
                scaled(x.clone(), gain.clone()),
            );
            let loss = (y.clone() * up.clone()).sum() + (z.clone() * up_x.clone()).sum();
            let gradients = loss.backward();
            let matrices = [&x, &w].map(|t| t.grad(&gradients).unwrap().into_data());
            (
                [y.into_data(), z.into_data()],
                matrices,
                gain.grad(&gradients).unwrap().into_data(),
            )
        };
        let ours = run(&matmul, &scale);
        let plain = run(&|a, b| a.matmul(b), &|x, gain| x * gain.unsqueeze::<2>());
        let pairs = (ours.0.iter().chain(&ours.1).chain([&ours.2]))
            .zip(plain.0.iter().chain(&plain.1).chain([&plain.2]));
        for (ours, plain) in pairs {
            assert_eq!(ours.shape(), plain.shape());
            for (a, b) in ours.iter::<f64>().zip(plain.iter::<f64>()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(10.0), "{a} and {b}");
            }
        }
    }
}
