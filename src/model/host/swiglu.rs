//! SwiGLU as one pass over memory in each direction.

use super::operation::{Input, Operation, Values, apply, floats, in_order, numbers, own};
use super::passes::{CHUNK, in_parts, sigmoid};
use burn::tensor::Tensor;

/// silu(gate)·up (arXiv 2002.05202), two tensors of one shape, on the processor.
pub(in crate::model) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    apply(SwiGlu, [Input::of(gate), Input::of(up)])
}

#[derive(Clone, Debug)]
struct SwiGlu;

impl Operation<2> for SwiGlu {
    type Kept = (Values, Values);

    fn forward(&self, [gate, up]: [Values; 2], keep: bool) -> (Values, Option<(Values, Values)>) {
        let (gate, up) = (in_order(gate), in_order(up));
        let kept = keep.then(|| (gate.clone(), up.clone()));
        let mut y = own(gate);
        let parts = floats(&mut y)
            .chunks_mut(CHUNK)
            .zip(numbers(&up).chunks(CHUNK))
            .collect();
        in_parts(parts, |(y, up): (&mut [f32], &[f32])| {
            for (x, up) in y.iter_mut().zip(up) {
                *x = *x * sigmoid(*x) * up;
            }
        });
        (Values::from_data(y), kept)
    }

    /// With s = sigmoid(gate): ∂gate = g·up·s·(1 + gate·(1 - s)), ∂up = g·gate·s.
    fn backward(
        &self,
        (gate, up): (Values, Values),
        wanted: [bool; 2],
        gradient: Values,
    ) -> [Option<Values>; 2] {
        // Usually nobody else holds them any more: what is read is written over.
        let (mut of_gate, mut of_up) = (own(gate), own(up));
        let gradient = in_order(gradient);
        let parts = floats(&mut of_gate)
            .chunks_mut(CHUNK)
            .zip(floats(&mut of_up).chunks_mut(CHUNK))
            .zip(numbers(&gradient).chunks(CHUNK))
            .collect();
        in_parts(
            parts,
            |((gate, up), g): ((&mut [f32], &mut [f32]), &[f32])| {
                for ((gate, up), g) in gate.iter_mut().zip(up).zip(g) {
                    let (x, u, s) = (*gate, *up, sigmoid(*gate));
                    *gate = g * u * s * (1.0 + x * (1.0 - s));
                    *up = g * x * s;
                }
            },
        );
        [
            wanted[0].then(|| Values::from_data(of_gate)),
            wanted[1].then(|| Values::from_data(of_up)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, wavy};
    use super::*;
    use burn::tensor::activation::silu;

    #[test]
    fn values_and_gradients_are_those_of_burns_operations() {
        // More than a part, and gates far from 0 on both sides.
        let (gate, up) = (wavy([70, 1_001], 0.37) * 30.0, wavy([70, 1_001], 0.11));
        for recorded in [[true, true], [true, false], [false, true], [false, false]] {
            let run = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let gate = Graph::of(gate.clone(), recorded[0]);
                let up = Graph::of(up.clone(), recorded[1]);
                let y = f(gate.0.clone(), up.0.clone());
                let gradients = Graph::backward(&y);
                [
                    Graph(y).numbers(),
                    gate.gradient(&gradients),
                    up.gradient(&gradients),
                ]
            };
            let ours = run(&swiglu);
            let theirs = run(&|gate, up| silu(gate) * up);
            close(&ours, &theirs, 2e-6);
        }
    }
}
