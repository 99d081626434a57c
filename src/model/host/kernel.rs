//! A matrix product with the vector instructions that suit the processor.
//!
//! `gemm` takes AVX-512 wherever there is AVX-512. Where that is not the choice ([`vectors`]), its AVX2 kernel is called; all
//! other choices are its own.

#[cfg(target_arch = "x86_64")]
use crate::device::{Vectors, vectors};

/// Where a matrix begins, and how far apart its columns and its rows are.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub(super) start: *const f32,
    pub(super) columns: isize,
    pub(super) rows: isize,
}

/// Writes `a [m, k]` times `b [k, n]` to `out [m, n]`, row by row, without reading it.
///
/// # Safety
/// `out` has room for m·n numbers, and the operands' numbers can all be read.
pub(super) unsafe fn write_product(
    [m, k, n]: [usize; 3],
    out: *mut f32,
    a: Operand,
    b: Operand,
    parallelism: gemm::Parallelism,
) {
    #[cfg(target_arch = "x86_64")]
    if vectors() == Vectors::Avx2 && std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the caller's.
        return unsafe { avx2([m, k, n], out, a, b, parallelism) };
    }
    // SAFETY: the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            false,
            a.start,
            a.columns,
            a.rows,
            b.start,
            b.columns,
            b.rows,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// What `gemm` does on a processor with AVX2 and FMA.
///
/// # Safety
/// As for [`write_product`].
///
/// # Panics
/// On a processor without them.
#[cfg(target_arch = "x86_64")]
unsafe fn avx2(
    [m, k, n]: [usize; 3],
    out: *mut f32,
    a: Operand,
    b: Operand,
    parallelism: gemm::Parallelism,
) {
    use gemm_common::simd::{MixedSimd, V3};
    use gemm_f32::microkernel::fma::f32::{H_M, H_N, H_UKR, MR_DIV_N, NR, UKR};
    /// Numbers in a vector.
    const WIDTH: usize = 8;
    let simd = <V3 as MixedSimd<f32, f32, f32, f32>>::try_new().expect("AVX2 and FMA");
    // SAFETY: the caller's.
    unsafe {
        gemm_common::gemm::gemm_basic_generic::<
            _,
            f32,
            WIDTH,
            { MR_DIV_N * WIDTH },
            NR,
            MR_DIV_N,
            H_M,
            H_N,
        >(
            simd,
            m,
            n,
            k,
            out,
            1,
            n as isize,
            false,
            a.start,
            a.columns,
            a.rows,
            b.start,
            b.columns,
            b.rows,
            0.0,
            1.0,
            false,
            false,
            false,
            |a, b, c| a * b + c,
            &UKR,
            &H_UKR,
            false,
            parallelism,
        );
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_for_half_width_computes_the_same_products() {
        if !std::arch::is_x86_feature_detected!("fma") {
            return;
        }
        let (m, k, n) = (70, 130, 50);
        let numbers = |count: usize, step: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * step).sin()).collect()
        };
        let (a, b) = (numbers(m * k, 0.37), numbers(k * n, 0.11));
        let operand = |start: &[f32], width: usize| Operand {
            start: start.as_ptr(),
            columns: 1,
            rows: width as isize,
        };
        let mut out = vec![f32::NAN; m * n];
        // SAFETY: sizes and strides are those of the vectors.
        unsafe {
            let (a, b) = (operand(&a, k), operand(&b, n));
            avx2([m, k, n], out.as_mut_ptr(), a, b, gemm::Parallelism::None);
        }
        for i in 0..m {
            for j in 0..n {
                let exact: f64 = (0..k)
                    .map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]))
                    .sum();
                assert!((f64::from(out[i * n + j]) - exact).abs() < 2e-5, "{i}, {j}");
            }
        }
    }
}
