//! Loops over memory: handed out to all threads in parts whose size does not depend on how many threads there are, so that
//! the same numbers come out on every machine, and compiled for the vector instructions that the processor turns out to have.

/// Numbers that one thread handles at a time: large enough that handing out work costs nothing.
pub(crate) const CHUNK: usize = 1 << 16;

/// Numbers that are added in f32 lanes before they go into an f64 sum.
pub(super) const BLOCK: usize = 4096;

const LANES: usize = 16;

/// Whole rows of `width` numbers that one thread handles at a time, at least one.
pub(super) fn rows_at_a_time(width: usize) -> usize {
    CHUNK.div_ceil(width.max(1))
}

/// `work` under the widest vector instructions there are. What it calls must be inlined into it to profit.
#[cfg(not(target_family = "wasm"))]
#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// One call a part, on all threads.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn in_parts<T: Send>(mut parts: Vec<T>, f: impl Fn(T) + Send + Sync) {
    use rayon::prelude::*;
    if parts.len() == 1 {
        // Waking another thread for little work takes longer than the work.
        return vectorised(|| parts.drain(..).for_each(&f));
    }
    parts
        .into_par_iter()
        .with_max_len(1)
        .for_each(|part| vectorised(|| f(part)));
}

/// One call a part.
#[cfg(target_family = "wasm")]
pub(crate) fn in_parts<T>(parts: Vec<T>, f: impl Fn(T)) {
    parts.into_iter().for_each(f);
}

/// One call a part, on all threads; the answers in the parts' order.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn of_parts<T: Send, R: Send>(
    parts: Vec<T>,
    f: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    use rayon::prelude::*;
    if parts.len() == 1 {
        return vectorised(|| parts.into_iter().map(&f).collect());
    }
    parts
        .into_par_iter()
        .with_max_len(1)
        .map(|part| vectorised(|| f(part)))
        .collect()
}

/// One call a part; the answers in the parts' order.
#[cfg(target_family = "wasm")]
pub(crate) fn of_parts<T, R>(parts: Vec<T>, f: impl Fn(T) -> R) -> Vec<R> {
    parts.into_iter().map(f).collect()
}

/// How a matrix product is shared: between as many threads as there are.
#[cfg(not(target_family = "wasm"))]
pub(super) fn all_threads() -> gemm::Parallelism {
    gemm::Parallelism::Rayon(0)
}

/// How a matrix product is shared: the page has one thread.
#[cfg(target_family = "wasm")]
pub(super) fn all_threads() -> gemm::Parallelism {
    gemm::Parallelism::None
}

/// The largest of some numbers; minus infinity of none.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
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

/// Σ x of any number of numbers.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f64 {
    row.chunks(BLOCK).map(|block| lanes(block, |x| x)).sum()
}

/// Σ x² of any number of numbers.
#[inline(always)]
pub(super) fn squares(row: &[f32]) -> f64 {
    row.chunks(BLOCK).map(|block| lanes(block, |x| x * x)).sum()
}

/// Σ f(x) of at most [`BLOCK`] numbers.
#[inline(always)]
fn lanes(block: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = block.as_chunks::<LANES>();
    for part in whole {
        for (sum, x) in sums.iter_mut().zip(part) {
            *sum += f(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f(*x);
    }
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

/// Σ x·y of two equally long rows.
#[inline(always)]
pub(super) fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut total = 0.0;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let mut sums = [0.0f32; LANES];
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        for (x, y) in x.iter().zip(y) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                *sum += x * y;
            }
        }
        for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
            *sum += x * y;
        }
        total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>();
    }
    total
}

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The exponential, to two units in the last place; 0 below -87, so that what is hidden weighs nothing and no product of
/// it falls among the subnormal numbers, which are slow; at most exp(88).
///
/// exp(x) = 2^n · exp(r) with n the integer nearest to x / ln 2 and |r| <= ln 2 / 2, where the series to the sixth power
/// leaves 2e-8. No branch and no call, so that a loop over it becomes vector instructions.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
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
    fn sums_of_long_rows_are_those_of_f64() {
        for count in [0, 1, 15, 16, 4_096, 9_001] {
            let x: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() + 0.5).collect();
            let y: Vec<f32> = (0..count).map(|i| (i as f32 * 0.11).cos() - 0.2).collect();
            let exact = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                x.iter()
                    .zip(&y)
                    .map(|(x, y)| f(f64::from(*x), f64::from(*y)))
                    .sum()
            };
            for (ours, exact) in [
                (sum(&x), exact(&|x, _| x)),
                (squares(&x), exact(&|x, _| x * x)),
                (dot(&x, &y), exact(&|x, y| x * y)),
            ] {
                assert!(
                    (ours - exact).abs() <= 1e-6 * (count as f64).max(1.0),
                    "{count}: {ours} {exact}"
                );
            }
            let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&x), top);
        }
    }
}
