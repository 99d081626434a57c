//! The optimiser's work on the processor, as single passes over memory.
//!
//! Operation by operation AdamW reads and writes each parameter some thirty times, and every intermediate of a large
//! matrix is fresh memory. Flex keeps a tensor as a buffer on the host, which goes out of a tensor and back into one
//! without a copy where nobody else holds it; so here a step is one pass over weight, gradient and both moments.

use crate::model::host::{Buffer, CHUNK, in_parts, of_parts, take};
use burn::optim::AdaptiveMomentumState;
use burn::tensor::{Tensor, TensorData};
use sha2::{Digest as _, Sha256};

/// PyTorch's epsilon; Burn's default of 1e-5 damps the small gradients of reward heads.
pub const EPSILON: f32 = 1e-8;
/// The usual decay rate of the first moment.
pub const BETA_1: f32 = 0.9;
/// The usual decay rate of the second moment.
pub const BETA_2: f32 = 0.999;

/// Σ x² of a tensor on the processor, which keeps its memory.
pub fn square_sum<const D: usize>(tensor: &mut Tensor<D>) -> f64 {
    let device = tensor.device();
    let empty = Tensor::from_data(TensorData::new(Vec::<f32>::new(), [0; D]), &device);
    let buffer = take(std::mem::replace(tensor, empty));
    let sum = each_chunk(buffer.values(), squares);
    *tensor = buffer.tensor(&device);
    sum
}

/// Σ x² of some values: f32 lanes within a block, f64 between blocks, so that millions of values lose no digits.
fn squares(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sum = 0.0;
    for block in values.chunks(64 * LANES) {
        let mut lanes = [0.0f32; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for part in whole {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane += x * x;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += x * x;
        }
        sum += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    sum
}

/// Numbers that are hashed as one: a mebibyte.
const HASHED: usize = 1 << 18;

fn digest(values: &[f32]) -> [u8; 32] {
    Sha256::digest(bytemuck::cast_slice::<f32, u8>(values)).into()
}

/// SHA-256 of every mebibyte of some values, in order.
pub fn digests(values: &[f32]) -> Vec<[u8; 32]> {
    of_parts(values.chunks(HASHED).collect(), digest)
}

fn each_chunk(values: &[f32], f: impl Fn(&[f32]) -> f64 + Send + Sync) -> f64 {
    // One sum a chunk before they are added: the whole must not depend on which thread was first.
    of_parts(values.chunks(CHUNK).collect(), f).iter().sum()
}

/// One AdamW step (arXiv 1711.05101) of a tensor on the processor. `factor` multiplies the gradient (clipping);
/// `decay` is the decoupled weight decay. The same formula, in the same order, as Burn's.
pub fn adamw<const D: usize>(
    tensor: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<AdaptiveMomentumState<D>>,
    factor: f32,
    learning_rate: f64,
    decay: f64,
) -> (Tensor<D>, AdaptiveMomentumState<D>) {
    let device = tensor.device();
    let shape = tensor.dims();
    let (time, first, second) = match state {
        Some(state) => (state.time + 1, take(state.moment_1), take(state.moment_2)),
        None => {
            let zeros = || Buffer::zeros(&shape);
            (1, zeros(), zeros())
        }
    };
    let rates = Rates {
        factor,
        learning_rate: learning_rate as f32,
        keep: (1.0 - learning_rate * decay) as f32,
        correction_1: 1.0 - BETA_1.powi(time as i32),
        correction_2: 1.0 - BETA_2.powi(time as i32),
    };
    let (mut values, gradient) = (take(tensor), take(gradient));
    let (mut first, mut second) = (first, second);
    step(
        values.values_mut(),
        gradient.values(),
        first.values_mut(),
        second.values_mut(),
        &rates,
    );
    let momentum = AdaptiveMomentumState::new(time, first.tensor(&device), second.tensor(&device));
    (values.tensor(&device), momentum)
}

struct Rates {
    factor: f32,
    learning_rate: f32,
    /// What decay leaves of a weight.
    keep: f32,
    correction_1: f32,
    correction_2: f32,
}

fn step(values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], r: &Rates) {
    let weights = values.chunks_mut(CHUNK).zip(gradient.chunks(CHUNK));
    let moments = first.chunks_mut(CHUNK).zip(second.chunks_mut(CHUNK));
    in_parts(weights.zip(moments).collect(), |((x, g), (m, v))| {
        step_chunk(x, g, m, v, r);
    });
}

fn step_chunk(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    r: &Rates,
) {
    let moments = first.iter_mut().zip(second);
    for ((x, g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
        let g = g * r.factor;
        *m = *m * BETA_1 + g * (1.0 - BETA_1);
        *v = *v * BETA_2 + g * g * (1.0 - BETA_2);
        let change = (*m / r.correction_1) / ((*v / r.correction_2).sqrt() + EPSILON);
        *x = *x * r.keep - change * r.learning_rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::read;
    use burn::optim::{AdamWConfig, Optimizer as _};
    use burn::tensor::Device;
    use burn::tensor::Distribution;

    #[test]
    fn the_single_pass_takes_the_steps_that_burn_takes() {
        let device = Device::flex();
        let draw = || Tensor::<2>::random([37, 129], Distribution::Normal(0.0, 1.0), &device);
        let rule = AdamWConfig::new()
            .with_epsilon(EPSILON)
            .with_weight_decay(0.1)
            .build();
        let (mut ours, mut state) = (draw(), None);
        let (mut theirs, mut their_state) = (ours.clone(), None);
        for step in 0..5 {
            let gradient = draw();
            let scaled = gradient.clone() * 0.25;
            let rate = 0.01 * f64::from(step + 1);
            let (tensor, momentum) = adamw(ours, gradient, state, 0.25, rate, 0.1);
            (ours, state) = (tensor, Some(momentum));
            (theirs, their_state) = rule.step(rate, theirs, scaled, their_state);
        }
        let (ours, theirs) = (read(ours), read(theirs));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn the_sum_of_squares_leaves_the_tensor_as_it_was() {
        let device = Device::flex();
        let values: Vec<f32> = (0..100_003).map(|i| (i % 7) as f32 - 3.0).collect();
        let expected: f64 = values.iter().map(|x| f64::from(x * x)).sum();
        let data = TensorData::new(values.clone(), [100_003]);
        let mut tensor = Tensor::<1>::from_data(data, &device);
        assert_eq!(square_sum(&mut tensor), expected);
        assert_eq!(read(tensor), values);
    }

    #[test]
    fn a_transposed_gradient_is_read_in_the_order_of_its_weight() {
        let device = Device::flex();
        let weight = Tensor::<2>::zeros([2, 3], &device);
        let gradient =
            Tensor::<2>::from_floats([[1.0, -2.0], [-3.0, 4.0], [5.0, -6.0]], &device).transpose();
        let (weight, _) = adamw(weight, gradient, None, 1.0, 1.0, 0.0);
        let signs: Vec<f32> = read(weight).iter().map(|x| x.signum()).collect();
        assert_eq!(signs, [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
    }
}
