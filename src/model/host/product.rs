//! Matrix products into memory of their own.
//!
//! The arithmetic is `gemm`'s, as in Flex. Flex fills each result with zeros and copies it into aligned memory before the
//! product is written over it, which for the logits of a step is three passes over a hundred megabytes; here the product is
//! the first and only thing that is written.

use super::kernel::{Operand, write_product};
use super::operation::{Input, Operation, Values, applies, apply, shape, values};
use super::passes::{all_threads, in_parts};
use crate::model::slabs;
use burn::tensor::Tensor;

/// `a [.., M, K]` times `b [.., K, N]` of the same leading sizes, in any order of memory, on the processor.
pub(in crate::model) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    apply(Product, [Input::of(a), Input::of(b)])
}

/// A matrix product wherever the tensors are.
pub(crate) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    match applies([a.device(), b.device()]) {
        true => product(a, b),
        false => slabs::matmul(a, b),
    }
}

#[derive(Clone, Debug)]
struct Product;

impl Operation<2> for Product {
    type Kept = (Values, Values);

    fn forward(&self, [a, b]: [Values; 2], keep: bool) -> (Values, Option<(Values, Values)>) {
        let y = multiply(Matrices::of(&a), Matrices::of(&b));
        (y, keep.then_some((a, b)))
    }

    /// ∂a = g·bᵀ, ∂b = aᵀ·g.
    fn backward(
        &self,
        (a, b): (Values, Values),
        wanted: [bool; 2],
        gradient: Values,
    ) -> [Option<Values>; 2] {
        let (a, b, g) = (Matrices::of(&a), Matrices::of(&b), Matrices::of(&gradient));
        [
            wanted[0].then(|| multiply(g, b.transposed())),
            wanted[1].then(|| multiply(a.transposed(), g)),
        ]
    }
}

/// Matrices in a tensor's memory.
#[derive(Clone, Copy)]
struct Matrices<'a> {
    values: &'a Values,
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
}

impl<'a> Matrices<'a> {
    fn of(values: &'a Values) -> Self {
        let (size, strides) = (shape(values), values.layout().strides());
        let n = size.len();
        Self {
            values,
            rows: size[n - 2],
            columns: size[n - 1],
            row_stride: strides[n - 2],
            column_stride: strides[n - 1],
        }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Sizes of the dimensions before the last two.
    fn leading(&self) -> Vec<usize> {
        let mut size = shape(self.values);
        size.truncate(size.len() - 2);
        size
    }

    /// Where matrix `index` begins, in row-major order of the leading dimensions.
    fn start(&self, mut index: usize) -> usize {
        let strides = self.values.layout().strides();
        let mut at = self.values.layout().start_offset() as isize;
        for (size, stride) in self.leading().iter().zip(strides).rev() {
            at += (index % size) as isize * stride;
            index /= size;
        }
        usize::try_from(at).expect("a matrix begins in its memory")
    }

    /// Matrix `index`, all of whose numbers lie in the tensor's memory.
    ///
    /// # Panics
    /// Where they do not.
    fn operand(&self, index: usize) -> Operand {
        let (start, numbers) = (self.start(index), self.values.storage::<f32>());
        let reach = |count: usize, stride: isize| (count - 1) as isize * stride;
        let (down, right) = (
            reach(self.rows, self.row_stride),
            reach(self.columns, self.column_stride),
        );
        let last = start as isize + down.max(0) + right.max(0);
        let first = start as isize + down.min(0) + right.min(0);
        assert!(
            first >= 0 && (last as usize) < numbers.len(),
            "a matrix reaches out of its memory"
        );
        Operand {
            start: numbers[start..].as_ptr(),
            columns: self.column_stride,
            rows: self.row_stride,
        }
    }
}

/// Products with at least this many multiplications are shared between threads.
const WORTH_SHARING: usize = 192 * 192 * 192;

/// Multiplications of small matrices that one thread does at a time.
const WORTH_A_PART: usize = 1 << 20;

fn multiply(a: Matrices, b: Matrices) -> Values {
    let leading = a.leading();
    assert_eq!(
        leading,
        b.leading(),
        "products of as many matrices on both sides"
    );
    assert_eq!(
        a.columns, b.rows,
        "columns of the first and rows of the second"
    );
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let count: usize = leading.iter().product();
    let mut size = leading;
    size.extend([m, n]);
    if count * m * k * n == 0 {
        return values(vec![0.0; count * m * n], &size);
    }
    let mut out = Vec::<f32>::with_capacity(count * m * n);
    let free = &mut out.spare_capacity_mut()[..count * m * n];
    if count == 1 {
        let out = free.as_mut_ptr().cast();
        let (a, b) = (a.operand(0), b.operand(0));
        // SAFETY: `out` has m·n numbers, and the operands have been held against their memory.
        unsafe { write_product([m, k, n], out, a, b, sharing(m * k * n)) };
    } else {
        let together = WORTH_A_PART.div_ceil(m * k * n);
        let parts = free.chunks_mut(together * m * n).enumerate().collect();
        in_parts(parts, |(part, free): (usize, &mut [_])| {
            for (i, free) in free.chunks_mut(m * n).enumerate() {
                let out = free.as_mut_ptr().cast();
                let index = part * together + i;
                let (a, b) = (a.operand(index), b.operand(index));
                // SAFETY: as above, for each matrix on its own.
                unsafe { write_product([m, k, n], out, a, b, gemm::Parallelism::None) };
            }
        });
    }
    // SAFETY: every number has been written.
    unsafe { out.set_len(count * m * n) };
    values(out, &size)
}

fn sharing(work: usize) -> gemm::Parallelism {
    match work >= WORTH_SHARING {
        true => all_threads(),
        false => gemm::Parallelism::None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, wavy};
    use super::*;

    #[test]
    fn products_and_gradients_are_those_of_burn() {
        // Large enough to be shared between threads, a single number, and nothing at all.
        for [m, k, n] in [[200, 210, 220], [1, 1, 1], [3, 0, 2], [0, 2, 3]] {
            for recorded in [[true, true], [true, false], [false, true], [false, false]] {
                let (a, b) = (wavy([m, k], 0.37), wavy([n, k], 0.11));
                let run = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                    let a = Graph::of(a.clone(), recorded[0]);
                    let b = Graph::of(b.clone(), recorded[1]);
                    // The second is a view that runs down the columns.
                    let y = f(a.0.clone(), b.0.clone().transpose());
                    let gradients = Graph::backward(&y);
                    [
                        Graph(y).numbers(),
                        a.gradient(&gradients),
                        b.gradient(&gradients),
                    ]
                };
                if m * k * n == 0 && recorded != [false, false] {
                    continue;
                }
                close(&run(&product), &run(&|a, b| a.matmul(b)), 2e-5);
            }
        }
    }

    #[test]
    fn many_products_at_once_are_those_of_burn() {
        let (a, b) = (wavy([2, 3, 5, 4], 0.37), wavy([2, 3, 6, 4], 0.11));
        for recorded in [true, false] {
            let run = |f: &dyn Fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
                let (a, b) = (
                    Graph::of(a.clone(), recorded),
                    Graph::of(b.clone(), recorded),
                );
                let y = f(a.0.clone(), b.0.clone().swap_dims(2, 3));
                let gradients = Graph::backward(&y);
                [
                    Graph(y).numbers(),
                    a.gradient(&gradients),
                    b.gradient(&gradients),
                ]
            };
            close(&run(&product), &run(&|a, b| a.matmul(b)), 1e-6);
        }
        // A part of a larger tensor, which begins within its memory.
        let part = |x: &Tensor<4>| x.clone().narrow(1, 1, 2);
        let ours = product(part(&a), part(&b).swap_dims(2, 3));
        let theirs = part(&a).matmul(part(&b).swap_dims(2, 3));
        close(&[Graph(ours).numbers()], &[Graph(theirs).numbers()], 1e-6);
    }
}
