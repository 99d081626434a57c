//! One computation by two ways: values and gradients side by side.

use super::read;
use burn::tensor::{Device, Gradients, Tensor, TensorData};

/// Numbers between -1 and 1 that do not repeat soon.
pub(super) fn wavy<const D: usize>(shape: [usize; D], step: f32) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let values = (0..count).map(|i| (i as f32 * step + 0.3).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A tensor, recorded or not.
pub(super) struct Graph<const D: usize>(pub(super) Tensor<D>);

impl<const D: usize> Graph<D> {
    pub(super) fn of(tensor: Tensor<D>, recorded: bool) -> Self {
        Self(match recorded {
            true => tensor.autodiff().require_grad(),
            false => tensor,
        })
    }

    pub(super) fn numbers(self) -> Vec<f32> {
        read(self.0.inner())
    }

    /// The gradients of Σ w·y with weights w that differ from place to place; none of what is not recorded.
    pub(super) fn backward(y: &Tensor<D>) -> Option<Gradients> {
        y.is_tracked()
            .then(|| (y.clone() * (wavy(y.dims(), 0.7) + 0.2)).sum().backward())
    }

    pub(super) fn gradient(&self, gradients: &Option<Gradients>) -> Vec<f32> {
        let gradient = gradients.as_ref().and_then(|g| self.0.grad(g));
        gradient.map(read).unwrap_or_default()
    }
}

/// Asserts that numbers are the same within `rel` of the larger of theirs and of 1.
pub(super) fn close(ours: &[Vec<f32>], theirs: &[Vec<f32>], rel: f32) {
    assert_eq!(ours.len(), theirs.len());
    for (which, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours.len(), theirs.len(), "{which}");
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!(
                (a - b).abs() <= rel * b.abs().max(1.0),
                "{which}, {i}: {a} {b}"
            );
        }
    }
}
