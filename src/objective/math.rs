//! Numerically careful pieces that several formulas share. Stable in f32, in value and in gradient.

use crate::reward::ERFCX_FIT;
use burn::tensor::Tensor;
use std::f64::consts::{LN_2, SQRT_2};

/// `x[s+1]` at s, 0 at the last column: `[B, S]` to `[B, S]`.
pub(super) fn next_step(x: Tensor<2>) -> Tensor<2> {
    let [rows, steps] = x.dims();
    let zero = Tensor::zeros([rows, 1], (&x.device(), x.dtype()));
    if steps < 2 {
        return x.zeros_like();
    }
    Tensor::cat(vec![x.narrow(1, 1, steps - 1), zero], 1)
}

/// Sums over the steps: `[B, S]` to `[B]`.
pub(super) fn row_sum(x: Tensor<2>) -> Tensor<1> {
    x.sum_dim(1).squeeze_dim(1)
}

/// The chosen and the rejected rows of a `[2P]` tensor, `[P]` each.
pub(super) fn sides(x: Tensor<1>, pairs: usize) -> (Tensor<1>, Tensor<1>) {
    (x.clone().narrow(0, 0, pairs), x.narrow(0, pairs, pairs))
}

/// log(1 - exp(l)) for log-probabilities l, which are clamped to at most -1e-6.
///
/// Near 0 it is log(-l) + log((exp(l) - 1)/l) with a series for the second part (1 - exp(l) itself cancels), further
/// away log1p(-exp(l)). Each branch is kept inside its own range, because a NaN in the branch not taken would reach the
/// gradient.
pub fn log_one_minus_exp<const D: usize>(l: Tensor<D>) -> Tensor<D> {
    let l = l.clamp_max(-1e-6);
    let far = l.clone().lower_elem(-LN_2);
    let near = l.clone().clamp_min(-LN_2);
    // (exp(l) - 1)/l = 1 + l/2 (1 + l/3 (1 + l/4 ...)); ten terms give 1e-9 at l = -log 2.
    let series = (2..=10).rev().fold(near.ones_like(), |sum, k| {
        (sum * near.clone())
            .div_scalar(f64::from(k))
            .add_scalar(1.0)
    });
    let near = near.neg().log() + series.log();
    near.mask_where(far, l.clamp_max(-LN_2).exp().neg().log1p())
}

/// log Phi(x), Phi the standard normal distribution function.
///
/// With z = |x|/sqrt 2 and erfc(z) = t exp(p(t) - z^2): for x < 0 the logarithm is taken term by term, so nothing
/// underflows; for x >= 0 it is log1p(-Phi(-x)). The two sides are cut by clamps and not by |x|, whose gradient at 0,
/// where every pair starts, would be 0.
pub fn log_standard_normal_cdf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let tail = |z: Tensor<D>| {
        let t = z.clone().mul_scalar(0.5).add_scalar(1.0).recip();
        let start = t.full_like(ERFCX_FIT[11]);
        let fit = ERFCX_FIT[..11]
            .iter()
            .rev()
            .fold(start, |sum, c| (sum * t.clone()).add_scalar(*c));
        fit + t.log() - z.square() - LN_2
    };
    let negative = x.clone().lower_elem(0.0);
    let left = tail(x.clone().neg().clamp_min(0.0).div_scalar(SQRT_2));
    let right = tail(x.clamp_min(0.0).div_scalar(SQRT_2))
        .exp()
        .neg()
        .log1p();
    right.mask_where(negative, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden::{close, values};
    use burn::tensor::Device;

    fn check(
        f: impl Fn(Tensor<1>) -> Tensor<1>,
        points: &[f32],
        want: impl Fn(f64) -> f64,
        slope: impl Fn(f64) -> f64,
    ) {
        let x = Tensor::<1>::from_floats(points, &Device::flex().autodiff()).require_grad();
        let y = f(x.clone());
        let gradients = y.clone().sum().backward();
        let gradient = x.grad(&gradients).map(values).unwrap_or_default();
        let exact: Vec<f64> = points.iter().map(|p| want(f64::from(*p))).collect();
        let slopes: Vec<f64> = points.iter().map(|p| slope(f64::from(*p))).collect();
        close("value", &values(y), &exact, 1e-7, 2e-6);
        close("gradient", &gradient, &slopes, 1e-7, 2e-5);
    }

    #[test]
    fn log_one_minus_exp_is_exact_from_tiny_to_large() {
        let points = [-1e-5, -1e-3, -0.1, -0.69, -0.7, -3.0, -20.0];
        check(
            log_one_minus_exp,
            &points,
            |l| (-l.exp_m1()).ln(),
            |l| -l.exp() / -l.exp_m1(),
        );
    }

    #[test]
    fn log_phi_is_exact_in_both_tails_and_has_its_slope_at_zero() {
        // log Phi and phi/Phi to 12 digits: by the complementary error function, and its asymptotic series at -12.
        let table = [
            (0.0, -std::f64::consts::LN_2, 0.797_884_560_803),
            (1.0, -0.172_753_779_023, 0.287_599_970_939),
            (-1.0, -1.841_021_645_009, 1.525_135_276_161),
            (4.0, -3.167_174_337_749e-5, 1.338_344_646e-4),
            (-4.0, -10.360_101_486_527, 4.225_607_144_489),
            (-12.0, -75.410_673_001_6, 12.082_214_175),
        ];
        let points: Vec<f32> = table.iter().map(|r| r.0 as f32).collect();
        let row = |x: f64| table.iter().find(|r| r.0 == x).copied();
        check(
            log_standard_normal_cdf,
            &points,
            |x| row(x).map_or(f64::NAN, |r| r.1),
            |x| row(x).map_or(f64::NAN, |r| r.2),
        );
    }
}
