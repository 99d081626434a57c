//! Operations of the processor with a backward pass of their own.
//!
//! Composed of Burn's operations, a norm is seven passes over memory forward and a dozen backward, each with a tensor of its
//! own, most of them on one thread. An [`Operation`] is one pass in each direction. It works on Flex's tensors and enters
//! Burn's graph as one node.

use super::is_here;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex, GradientCheckpointingStrategy};
use burn::tensor::{Device, Tensor, TensorData};
use std::fmt::Debug;

/// Values and shape of a tensor of the processor. A clone shares the memory.
pub(super) type Values = FlexTensor;

/// An operation of N tensors.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Kept: Clone + Debug + Send + 'static;

    /// The result, and what the backward pass needs where it will be asked (`keep`).
    fn forward(&self, inputs: [Values; N], keep: bool) -> (Values, Option<Self::Kept>);

    /// The gradients of the inputs that are `wanted`, from the gradient of the result.
    fn backward(
        &self,
        kept: Self::Kept,
        wanted: [bool; N],
        gradient: Values,
    ) -> [Option<Values>; N];
}

/// Whether the operations here take tensors of these devices. Those of other devices they do not, nor those whose activations
/// are to be computed again in the backward pass: there Burn's own operations know how.
pub(crate) fn applies<const N: usize>(devices: [Device; N]) -> bool {
    devices.into_iter().all(|device| {
        let again = Some(GradientCheckpointingStrategy::Balanced);
        device.gradient_checkpointing_strategy() != again && is_here(&device.inner())
    })
}

/// A tensor on its way into an operation.
pub(super) enum Input {
    Plain(Values),
    Recorded(FloatTensor<Autodiff<Flex>>),
}

impl Input {
    /// # Panics
    /// Where [`applies`] says no.
    pub(super) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let input = match tensor.device().is_autodiff() {
            true => tensor
                .try_into_primitive::<Autodiff<Flex>>()
                .map(Self::Recorded),
            false => tensor.try_into_primitive::<Flex>().map(Self::Plain),
        };
        input.unwrap_or_else(|e| panic!("an operation of the processor got another tensor: {e:?}"))
    }
}

/// The node of an operation in Burn's graph.
#[derive(Debug)]
struct Node<O>(O);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Node<O> {
    type State = O::Kept;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let of_inputs = self.0.backward(ops.state, wanted, gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(of_inputs) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Computes `operation` of the inputs, recorded for the backward pass where one of them is.
pub(super) fn apply<O: Operation<N>, const N: usize, const D: usize>(
    operation: O,
    inputs: [Input; N],
) -> Tensor<D> {
    if inputs.iter().all(|x| matches!(x, Input::Plain(_))) {
        let values = inputs.map(|x| match x {
            Input::Plain(values) => values,
            Input::Recorded(recorded) => recorded.into_primitive(),
        });
        return Tensor::from_primitive::<Flex>(operation.forward(values, false).0);
    }
    let recorded = inputs.map(|x| match x {
        Input::Plain(values) => Autodiff::<Flex>::from_inner(values),
        Input::Recorded(recorded) => recorded,
    });
    let nodes = recorded.each_ref().map(|x| x.node());
    let values = recorded.map(|x| x.into_primitive());
    let prepared = Node(operation.clone())
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful();
    let result = match prepared {
        OpsKind::Tracked(node) => match operation.forward(values, true) {
            (result, Some(kept)) => node.finish(kept, result),
            (_, None) => unreachable!("an operation keeps what it is asked to keep"),
        },
        OpsKind::UnTracked(node) => node.finish(operation.forward(values, false).0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(result)
}

/// The values of a tensor that carries no gradient.
pub(super) fn plain<const D: usize>(tensor: Tensor<D>) -> Values {
    match Input::of(tensor.inner()) {
        Input::Plain(values) => values,
        Input::Recorded(recorded) => recorded.into_primitive(),
    }
}

/// The values in order, in memory of their own or shared.
pub(super) fn in_order(values: Values) -> Values {
    match values.as_slice::<f32>() {
        Some(_) => values,
        None => values.to_contiguous(),
    }
}

/// The numbers of values that are in order.
pub(super) fn numbers(values: &Values) -> &[f32] {
    values.as_slice().unwrap_or_else(|| {
        panic!(
            "every float tensor here is f32 and in order, not {:?}",
            values
        )
    })
}

/// The numbers themselves: without a copy where nobody else holds them.
pub(super) fn own(values: Values) -> TensorData {
    values.into_data()
}

/// The numbers, to be written over.
pub(super) fn floats(numbers: &mut TensorData) -> &mut [f32] {
    numbers
        .as_mut_slice()
        .unwrap_or_else(|error| panic!("every float tensor here is f32: {error:?}"))
}

/// Values of some numbers.
pub(super) fn values(numbers: Vec<f32>, shape: &[usize]) -> Values {
    Values::from_data(TensorData::new(numbers, shape.to_vec()))
}

/// Sizes of a tensor's dimensions.
pub(super) fn shape(values: &Values) -> Vec<usize> {
    values.layout().shape().to_vec()
}
