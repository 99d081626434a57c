//! Potential-based shaping: a reward that moves no optimum.
//!
//! ```text
//! F_i = gamma phi_i - phi_{i-1}        phi_{i-1} of the first answer token: that of the prompt
//!                                      phi of the last answer token taken as 0 with `terminal_zero`
//! ```
//!
//! Source: Ng, Harada and Russell, *Policy invariance under reward transformations*, 1999; D-Shape, arXiv 2210.14428.
//! With `terminal_zero` the discounted sum over an answer is -phi(prompt), the same for every answer.

use super::{AnswerMask, previous};
use burn::tensor::Tensor;

/// Shaping rewards `[B, T]` from the potentials after each token `[B, T]`.
pub fn shaping(
    potential: Tensor<2>,
    mask: &AnswerMask,
    gamma: f64,
    terminal_zero: bool,
) -> Tensor<2> {
    let before = mask.inside(previous(potential.clone()));
    let mut after = mask.inside(potential);
    if terminal_zero {
        after = after * mask.last.clone().neg().add_scalar(1.0);
    }
    after.mul_scalar(gamma) - before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::golden::{close, values};
    use burn::tensor::Device;

    #[test]
    fn the_discounted_sum_telescopes() {
        let device = Device::flex();
        let phi = Tensor::<2>::from_floats([[9.0, 0.5, -1.0, 2.0, 0.25, 7.0]], &device);
        let mask = AnswerMask::new(&[false, false, true, true, true, false], 1, &device);
        let gamma: f64 = 0.9;
        let sum = |terminal_zero| {
            let f = values(shaping(phi.clone(), &mask, gamma, terminal_zero));
            assert_eq!((f[0], f[1], f[5]), (0.0, 0.0, 0.0));
            (0..3)
                .map(|k| gamma.powi(k) * f[2 + k as usize])
                .sum::<f64>()
        };
        close(
            "ends",
            &[sum(false)],
            &[gamma.powi(3) * 0.25 - 0.5],
            1e-6,
            0.0,
        );
        close("zero", &[sum(true)], &[-0.5], 1e-6, 0.0);
    }
}
