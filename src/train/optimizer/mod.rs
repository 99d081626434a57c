//! AdamW over named tensors, with the global gradient norm clipped on the device.
//!
//! Source: *Decoupled Weight Decay Regularization*, arXiv 1711.05101; decay falls on matrices only, which is the usual
//! practice. On the processor a step is one pass over memory; elsewhere it is written with few operations a tensor, since
//! each is a kernel to launch and a pass over the device's memory.

mod joined;

use self::joined::{Joined, square_sums};
use super::host;
use crate::model::host::{is_here, read};
use crate::model::{Weight, Weights};
use burn::optim::AdaptiveMomentumState;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use std::collections::BTreeMap;

/// Gradients by tensor name, without autodiff.
pub type NamedGradients = BTreeMap<String, Weight>;

/// Takes the gradients of every tracked tensor of `weights` out of `gradients`, adding to what is there already:
/// micro-batches of one optimiser step simply add up.
pub fn collect_gradients(
    prefix: &str,
    weights: &Weights,
    gradients: &mut Gradients,
    into: &mut NamedGradients,
) {
    for (name, weight) in weights.iter() {
        let gradient = match weight {
            Weight::Vector(tensor) => tensor.grad_remove(gradients).map(Weight::Vector),
            Weight::Matrix(tensor) => tensor.grad_remove(gradients).map(Weight::Matrix),
        };
        let Some(gradient) = gradient else { continue };
        let key = format!("{prefix}{name}");
        let sum = match (into.remove(&key), gradient) {
            (Some(Weight::Vector(a)), Weight::Vector(b)) => Weight::Vector(a + b),
            (Some(Weight::Matrix(a)), Weight::Matrix(b)) => Weight::Matrix(a + b),
            (_, gradient) => gradient,
        };
        into.insert(key, sum);
    }
}

/// The Euclidean norm of all gradients together, `[1]`.
pub fn global_norm(gradients: &mut NamedGradients, device: &Device) -> Tensor<1> {
    if is_here(device) {
        let squares = gradients.values_mut().map(|gradient| match gradient {
            Weight::Vector(tensor) => host::square_sum(tensor),
            Weight::Matrix(tensor) => host::square_sum(tensor),
        });
        let norm = squares.sum::<f64>().sqrt() as f32;
        return Tensor::from_data(TensorData::new(vec![norm], [1]), device);
    }
    let squares = square_sums(gradients);
    if squares.is_empty() {
        return Tensor::zeros([1], device);
    }
    Tensor::cat(squares, 0).sum().sqrt()
}

/// What gradients of global norm `norm` `[1]` are multiplied by so that theirs is at most `largest`; none where
/// `largest` is zero. The small number keeps a norm of zero from dividing (PyTorch's `clip_grad_norm_`).
pub fn clip_scale(norm: &Tensor<1>, largest: f64) -> Option<Tensor<1>> {
    (largest > 0.0).then(|| {
        (norm.clone() + 1e-6)
            .recip()
            .mul_scalar(largest)
            .clamp_max(1.0)
    })
}

/// AdamW's moments by tensor name.
#[derive(Clone)]
pub struct Optimizer {
    weight_decay: f64,
    states: BTreeMap<String, State>,
    /// Those of small tensors away from the processor.
    joined: Vec<Joined>,
}

#[derive(Clone)]
enum State {
    Vector(AdaptiveMomentumState<1>),
    Matrix(AdaptiveMomentumState<2>),
}

impl State {
    fn time(&self) -> usize {
        match self {
            Self::Vector(state) => state.time,
            Self::Matrix(state) => state.time,
        }
    }
}

/// What one optimiser step does to every tensor.
struct Update {
    learning_rate: f64,
    /// What gradients on the processor are multiplied by.
    factor: f32,
    /// The same for tensors elsewhere; none on the processor. It stays on the device, so that nothing waits for it.
    shares: Option<Shares>,
}

/// What the gradient and its square are multiplied by before they enter the moments, each `[1]`.
struct Shares {
    first: Tensor<1>,
    second: Tensor<1>,
}

impl Shares {
    /// For gradients that are multiplied by `factor` `[1]`.
    fn new(factor: Tensor<1>) -> Self {
        Self {
            second: factor.clone() * factor.clone() * (1.0 - f64::from(host::BETA_2)),
            first: factor * (1.0 - f64::from(host::BETA_1)),
        }
    }
}

impl Update {
    /// For tensors on `device` (without autodiff) whose gradients are multiplied by `scale` `[1]`.
    fn new(learning_rate: f64, scale: Option<&Tensor<1>>, device: &Device) -> Self {
        if !is_here(device) {
            return Self::elsewhere(learning_rate, scale, device);
        }
        let factor = scale.and_then(|scale| read(scale.clone()).first().copied());
        Self {
            learning_rate,
            factor: factor.unwrap_or(1.0),
            shares: None,
        }
    }

    /// With tensor operations.
    fn elsewhere(learning_rate: f64, scale: Option<&Tensor<1>>, device: &Device) -> Self {
        let factor = scale.map_or_else(|| Tensor::ones([1], device), Tensor::clone);
        Self {
            learning_rate,
            factor: 1.0,
            shares: Some(Shares::new(factor)),
        }
    }

    fn apply<const D: usize>(
        &self,
        decay: f64,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdaptiveMomentumState<D>>,
    ) -> (Tensor<D>, AdaptiveMomentumState<D>) {
        let rate = self.learning_rate;
        match &self.shares {
            None => host::adamw(tensor, gradient, state, self.factor, rate, decay),
            Some(shares) => adamw(tensor, gradient, state, shares, rate, decay),
        }
    }
}

/// One AdamW step with tensor operations: the formula of [`host::adamw`]. The corrections of both moments are drawn out
/// of the division, and clipping is part of the shares.
fn adamw<const D: usize>(
    tensor: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<AdaptiveMomentumState<D>>,
    shares: &Shares,
    learning_rate: f64,
    decay: f64,
) -> (Tensor<D>, AdaptiveMomentumState<D>) {
    let (beta_1, beta_2) = (f64::from(host::BETA_1), f64::from(host::BETA_2));
    let squares = gradient.clone() * gradient.clone();
    let first = gradient * shares.first.clone().reshape([1; D]);
    let second = squares * shares.second.clone().reshape([1; D]);
    let (time, first, second) = match state {
        Some(state) => (
            state.time + 1,
            state.moment_1 * beta_1 + first,
            state.moment_2 * beta_2 + second,
        ),
        None => (1, first, second),
    };
    let correction_1 = 1.0 - beta_1.powi(time as i32);
    let root = (1.0 - beta_2.powi(time as i32)).sqrt();
    let size = second.clone().sqrt() + f64::from(host::EPSILON) * root;
    let change = first.clone() / size * (learning_rate * root / correction_1);
    let kept = if decay == 0.0 {
        tensor
    } else {
        tensor * (1.0 - learning_rate * decay)
    };
    (
        kept - change,
        AdaptiveMomentumState::new(time, first, second),
    )
}

impl Optimizer {
    /// An optimiser without moments.
    pub fn new(weight_decay: f64) -> Self {
        Self {
            weight_decay,
            states: BTreeMap::new(),
            joined: Vec::new(),
        }
    }

    /// Updates every tensor of `weights` that has a gradient under `prefix` + its name. `scale` `[1]` multiplies each
    /// gradient (clipping); updated tensors are leaves that require gradients again.
    pub fn step(
        &mut self,
        prefix: &str,
        weights: &mut Weights,
        gradients: &mut NamedGradients,
        learning_rate: f64,
        scale: Option<&Tensor<1>>,
    ) {
        let Some(device) = weights.device().map(Device::inner) else {
            return;
        };
        let update = Update::new(learning_rate, scale, &device);
        self.step_joined(prefix, weights, gradients, &update);
        self.step_each(prefix, weights, gradients, &update);
    }

    fn step_each(
        &mut self,
        prefix: &str,
        weights: &mut Weights,
        gradients: &mut NamedGradients,
        update: &Update,
    ) {
        // Taken by value: a tensor that nobody else holds is updated in place.
        *weights = std::mem::take(weights).map_each(|name, weight| {
            let key = format!("{prefix}{name}");
            let Some(gradient) = gradients.remove(&key) else {
                return weight;
            };
            let state = self.states.remove(&key);
            let (updated, state) = match (weight, gradient) {
                (Weight::Vector(tensor), Weight::Vector(gradient)) => {
                    let state = match state {
                        Some(State::Vector(state)) => Some(state),
                        _ => None,
                    };
                    let (tensor, state) = update.apply(0.0, tensor.inner(), gradient, state);
                    (
                        Weight::Vector(tensor.autodiff().require_grad()),
                        Some(State::Vector(state)),
                    )
                }
                (Weight::Matrix(tensor), Weight::Matrix(gradient)) => {
                    let state = match state {
                        Some(State::Matrix(state)) => Some(state),
                        _ => None,
                    };
                    let decay = self.weight_decay;
                    let (tensor, state) = update.apply(decay, tensor.inner(), gradient, state);
                    (
                        Weight::Matrix(tensor.autodiff().require_grad()),
                        Some(State::Matrix(state)),
                    )
                }
                // A gradient has its tensor's rank: autodiff made it.
                (weight, _) => (weight, None),
            };
            if let Some(state) = state {
                self.states.insert(key, state);
            }
            updated
        });
    }

    /// Every moment as a named tensor (`<name>.exp_avg`, `<name>.exp_avg_sq`, PyTorch's words) and the step count of
    /// each tensor.
    pub fn export(&self) -> (Vec<(String, Weight)>, BTreeMap<String, usize>) {
        let mut tensors = Vec::new();
        let mut times = BTreeMap::new();
        let joined = self.joined.iter().flat_map(Joined::apart);
        let single = self
            .states
            .iter()
            .map(|(name, s)| (name.clone(), s.clone()));
        for (name, state) in single.chain(joined) {
            times.insert(name.clone(), state.time());
            let (first, second) = match state {
                State::Vector(m) => (Weight::Vector(m.moment_1), Weight::Vector(m.moment_2)),
                State::Matrix(m) => (Weight::Matrix(m.moment_1), Weight::Matrix(m.moment_2)),
            };
            tensors.push((format!("{name}.exp_avg"), first));
            tensors.push((format!("{name}.exp_avg_sq"), second));
        }
        (tensors, times)
    }

    /// Puts the moments of one tensor back. `shape` has one or two sizes; both moments hold that many numbers.
    pub fn import(
        &mut self,
        name: &str,
        time: usize,
        shape: &[usize],
        first: Vec<f32>,
        second: Vec<f32>,
        device: &Device,
    ) {
        let state = match *shape {
            [n] => State::Vector(AdaptiveMomentumState::new(
                time,
                Tensor::from_data(TensorData::new(first, [n]), device),
                Tensor::from_data(TensorData::new(second, [n]), device),
            )),
            [rows, columns] => State::Matrix(AdaptiveMomentumState::new(
                time,
                Tensor::from_data(TensorData::new(first, [rows, columns]), device),
                Tensor::from_data(TensorData::new(second, [rows, columns]), device),
            )),
            _ => return,
        };
        self.states.insert(name.into(), state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_operations_take_the_steps_of_the_single_pass() {
        let device = Device::flex();
        let draw = |seed: u64, count: usize| {
            let mut rng = crate::random::Rng::new(seed);
            (0..count).map(|_| rng.normal() as f32).collect::<Vec<_>>()
        };
        let matrix =
            |seed| Tensor::<2>::from_data(TensorData::new(draw(seed, 60), [6, 10]), &device);
        let (mut ours, mut state) = (matrix(1), None);
        let (mut theirs, mut their_state) = (matrix(1), None);
        for step in 0..5u32 {
            let (gradient, rate) = (matrix(10 + u64::from(step)), 0.01 * f64::from(step + 1));
            let shares = Shares::new(Tensor::from_floats([0.25], &device));
            let (tensor, moments) = adamw(ours, gradient.clone(), state, &shares, rate, 0.1);
            (ours, state) = (tensor, Some(moments));
            let (tensor, moments) = host::adamw(theirs, gradient, their_state, 0.25, rate, 0.1);
            (theirs, their_state) = (tensor, Some(moments));
        }
        for (a, b) in read(ours).iter().zip(&read(theirs)) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} {b}");
        }
    }
}
