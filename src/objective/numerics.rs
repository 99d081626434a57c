//! Functions whose plain form loses its value or its gradient in f32.

use burn::tensor::{Tensor, activation::softplus};

/// log sigma(x) = min(x, 0) - log1p(exp(-|x|)), any shape. Never log(sigma(x) + eps), which puts a floor under the
/// gradient.
pub fn log_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    -softplus(-x, 1.0)
}

/// log(1 - exp(l)) for log-probabilities l < 0, any shape.
///
/// Near l = 0 the difference is -expm1(l); far below it is 1 - exp(l). l is held below -1e-6, where a probability of
/// one would give minus infinity. Each branch gets an argument that is safe in it: a NaN in the branch not taken would
/// still leak through its gradient.
pub fn log1m_exp<const D: usize>(l: Tensor<D>) -> Tensor<D> {
    let l = l.clamp_max(-1e-6);
    let ln2 = std::f64::consts::LN_2;
    let near = l.clone().greater_scalar(-ln2);
    let near_arg = l.clone().clamp_min(-ln2);
    let far_arg = l.clamp_max(-ln2);
    // expm1 as a series keeps its digits on [-log 2, -1e-6]: x(1 + x/2(1 + x/3(1 + ...))).
    let x = near_arg;
    let mut series = x.clone().mul_scalar(1.0 / 9.0).add_scalar(1.0);
    for k in (2..9).rev() {
        series = (x.clone() * series)
            .mul_scalar(1.0 / f64::from(k))
            .add_scalar(1.0);
    }
    let near_value = (-(x * series)).log();
    let far_value = (-far_arg.exp()).log1p();
    far_value.mask_where(near, near_value)
}

/// log Phi(x), the log of the standard normal distribution function, any shape.
///
/// Above -1: log(1 - erfc(x/sqrt 2)/2) by `erf`. Below: -x^2/2 - log(-x) - log(2 pi)/2 + log of Mills' ratio's
/// continued fraction, whose ten levels are good to f32 from -1 downwards.
pub fn log_normal_cdf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const BORDER: f64 = -1.0;
    let right = x.clone().clamp_min(BORDER);
    let right = (right
        .mul_scalar(std::f64::consts::FRAC_1_SQRT_2)
        .erf()
        .add_scalar(1.0))
    .mul_scalar(0.5)
    .log();
    let z = -(x.clone().clamp_max(BORDER));
    // Laplace's continued fraction: Q(z) = phi(z) / (z + 1/(z + 2/(z + 3/(z + ...)))).
    let mut tail = z.clone();
    for k in (1..=30).rev() {
        tail = z.clone() + tail.recip().mul_scalar(f64::from(k));
    }
    let log_phi = z
        .square()
        .mul_scalar(-0.5)
        .sub_scalar(0.5 * (2.0 * std::f64::consts::PI).ln());
    let left = log_phi - tail.log();
    right.mask_where(x.lower_scalar(BORDER), left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::gaussian;
    use burn::tensor::Device;

    fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn log_sigmoid_keeps_value_and_gradient_far_out() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([-80.0, -1.0, 0.0, 1.0, 80.0], &device).require_grad();
        let y = log_sigmoid(x.clone());
        let grads = y.clone().sum().backward();
        let y = values(y.inner());
        assert_eq!(y[0], -80.0);
        assert!((y[2] + std::f32::consts::LN_2).abs() < 1e-7);
        assert!(y[4] <= 0.0 && y[4] > -1e-30);
        let g = values(x.grad(&grads).unwrap());
        assert!((g[0] - 1.0).abs() < 1e-6 && (g[2] - 0.5).abs() < 1e-6 && g[4].abs() < 1e-6);
    }

    #[test]
    fn log1m_exp_agrees_with_f64_on_both_branches() {
        let device = Device::flex().autodiff();
        let points = [
            -1e-5f32, -1e-3, -0.1, -0.5, -0.69, -0.7, -1.0, -5.0, -30.0, -90.0,
        ];
        let x = Tensor::<1>::from_floats(points, &device).require_grad();
        let y = log1m_exp(x.clone());
        let grads = y.clone().sum().backward();
        let (y, g) = (values(y.inner()), values(x.grad(&grads).unwrap()));
        for (i, p) in points.iter().enumerate() {
            let p = f64::from(*p);
            let truth = (-p.exp_m1()).ln();
            let slope = p.exp() / p.exp_m1();
            assert!(
                (f64::from(y[i]) - truth).abs() <= 2e-6 * truth.abs().max(1e-3),
                "{p}: {} {truth}",
                y[i]
            );
            assert!(
                (f64::from(g[i]) - slope).abs() <= 1e-4 * slope.abs().max(1e-6),
                "{p}: {} {slope}",
                g[i]
            );
        }
    }

    #[test]
    fn log_normal_cdf_agrees_with_f64_over_its_range() {
        let device = Device::flex().autodiff();
        let points: Vec<f32> = (-60..=40).map(|i| i as f32 * 0.25).collect();
        let x = Tensor::<1>::from_floats(points.as_slice(), &device).require_grad();
        let y = log_normal_cdf(x.clone());
        let grads = y.clone().sum().backward();
        let (y, g) = (values(y.inner()), values(x.grad(&grads).unwrap()));
        for (i, p) in points.iter().enumerate() {
            let truth = gaussian::log_normal_cdf(f64::from(*p));
            assert!(
                (f64::from(y[i]) - truth).abs() <= 2e-6 + 5e-6 * truth.abs(),
                "{p}: {} {truth}",
                y[i]
            );
            let slope = (gaussian::normal_log_density(f64::from(*p), 0.0, 1.0) - truth).exp();
            assert!(
                (f64::from(g[i]) - slope).abs() <= 1e-5 + 2e-4 * slope,
                "{p}: {} {slope}",
                g[i]
            );
        }
    }
}
