//! AdamW over named tensors, with the global gradient norm clipped on the device.
//!
//! Source: *Decoupled Weight Decay Regularization*, arXiv 1711.05101, as Burn implements it; decay falls on matrices
//! only, which is the usual practice. The step count is one number for all tensors.

use super::host;
use crate::model::{Weight, Weights};
use burn::optim::{AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer as _};
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
    if host::is_here(device) {
        let squares = gradients.values_mut().map(|gradient| match gradient {
            Weight::Vector(tensor) => host::square_sum(tensor),
            Weight::Matrix(tensor) => host::square_sum(tensor),
        });
        let norm = squares.sum::<f64>().sqrt() as f32;
        return Tensor::from_data(TensorData::new(vec![norm], [1]), device);
    }
    let squares: Vec<Tensor<1>> = gradients
        .values()
        .map(|gradient| match gradient {
            Weight::Vector(tensor) => tensor.clone().square().sum(),
            Weight::Matrix(tensor) => tensor.clone().square().sum(),
        })
        .collect();
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
    matrices: AdamW,
    vectors: AdamW,
    weight_decay: f64,
    states: BTreeMap<String, State>,
}

#[derive(Clone)]
enum State {
    Vector(AdamWState<1>),
    Matrix(AdamWState<2>),
}

/// What one optimiser step does to every tensor.
struct Update<'a> {
    learning_rate: f64,
    /// Multiplies gradients on the processor.
    factor: f32,
    /// `[1]`, multiplies gradients elsewhere.
    scale: Option<&'a Tensor<1>>,
    here: bool,
}

impl Update<'_> {
    /// `decay` is the weight decay that `rule` holds too.
    fn apply<const D: usize>(
        &self,
        rule: &AdamW,
        decay: f64,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        if self.here {
            let (tensor, momentum) = host::adamw(
                tensor,
                gradient,
                state.map(|state| state.momentum),
                self.factor,
                self.learning_rate,
                decay,
            );
            return (tensor, Some(AdamWState::new(momentum)));
        }
        let gradient = match self.scale {
            Some(scale) => gradient * scale.clone().reshape([1; D]),
            None => gradient,
        };
        rule.step(self.learning_rate, tensor, gradient, state)
    }
}

impl Optimizer {
    /// An optimiser without moments.
    pub fn new(weight_decay: f64) -> Self {
        // PyTorch's epsilon; Burn's default of 1e-5 damps the small gradients of reward heads.
        let config = AdamWConfig::new().with_epsilon(host::EPSILON);
        Self {
            matrices: config
                .clone()
                .with_weight_decay(weight_decay as f32)
                .build(),
            vectors: config.with_weight_decay(0.0).build(),
            weight_decay,
            states: BTreeMap::new(),
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
        let here = weights.device().is_some_and(|d| host::is_here(&d.inner()));
        // Read once for all tensors; on a GPU it stays where it is, so that nothing waits.
        let factor = match scale {
            Some(scale) if here => host::read(scale.clone()).first().copied().unwrap_or(1.0),
            _ => 1.0,
        };
        let update = Update {
            learning_rate,
            factor,
            scale: scale.filter(|_| !here),
            here,
        };
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
                    let (tensor, state) =
                        update.apply(&self.vectors, 0.0, tensor.inner(), gradient, state);
                    (
                        Weight::Vector(tensor.autodiff().require_grad()),
                        state.map(State::Vector),
                    )
                }
                (Weight::Matrix(tensor), Weight::Matrix(gradient)) => {
                    let state = match state {
                        Some(State::Matrix(state)) => Some(state),
                        _ => None,
                    };
                    let decay = self.weight_decay;
                    let (tensor, state) =
                        update.apply(&self.matrices, decay, tensor.inner(), gradient, state);
                    (
                        Weight::Matrix(tensor.autodiff().require_grad()),
                        state.map(State::Matrix),
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
        for (name, state) in &self.states {
            let time = match state {
                State::Vector(state) => {
                    let m = &state.momentum;
                    tensors.push((
                        format!("{name}.exp_avg"),
                        Weight::Vector(m.moment_1.clone()),
                    ));
                    tensors.push((
                        format!("{name}.exp_avg_sq"),
                        Weight::Vector(m.moment_2.clone()),
                    ));
                    m.time
                }
                State::Matrix(state) => {
                    let m = &state.momentum;
                    tensors.push((
                        format!("{name}.exp_avg"),
                        Weight::Matrix(m.moment_1.clone()),
                    ));
                    tensors.push((
                        format!("{name}.exp_avg_sq"),
                        Weight::Matrix(m.moment_2.clone()),
                    ));
                    m.time
                }
            };
            times.insert(name.clone(), time);
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
            [n] => State::Vector(AdamWState::new(AdaptiveMomentumState::new(
                time,
                Tensor::from_data(TensorData::new(first, [n]), device),
                Tensor::from_data(TensorData::new(second, [n]), device),
            ))),
            [rows, columns] => State::Matrix(AdamWState::new(AdaptiveMomentumState::new(
                time,
                Tensor::from_data(TensorData::new(first, [rows, columns]), device),
                Tensor::from_data(TensorData::new(second, [rows, columns]), device),
            ))),
            _ => return,
        };
        self.states.insert(name.into(), state);
    }
}
