//! Work on the processor as single passes over memory, where operation by operation would cost several.
//!
//! Flex keeps a tensor as a buffer on the host, which goes out of a tensor and back into one without a copy where nobody
//! else holds it. Its elementwise operations run on one thread and call the scalar exponential; these use all threads,
//! an exponential that compilers turn into vector instructions, and backward passes of their own ([`operation`]).

mod heads;
mod kernel;
mod norm;
mod operation;
mod passes;
mod product;
mod softmax;
mod swiglu;
#[cfg(test)]
mod testing;

pub(super) use heads::{Turns, by_head, by_token};
pub(super) use norm::rms_norm;
pub(crate) use operation::applies;
pub(crate) use passes::{CHUNK, in_parts, of_parts};
pub(crate) use product::matmul;
pub(super) use product::product;
pub(super) use softmax::{attention, log_sum_exp, vocabulary};
pub(super) use swiglu::swiglu;

use burn::tensor::{Device, Tensor, TensorData};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Whether the tensors of `device` (without autodiff) are buffers on the host.
pub(crate) fn is_here(device: &Device) -> bool {
    *device == Device::flex()
}

/// The values of a tensor on the processor: taken out without a copy where nobody else holds them.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    take(tensor).values().to_vec()
}

/// The buffer of a tensor on the processor.
pub(crate) fn take<const D: usize>(tensor: Tensor<D>) -> Buffer {
    let mut data = pin!(tensor.into_data_async());
    // Nothing is computed elsewhere, so the answer is there at once; a waker that does nothing is enough.
    match data.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(data)) => Buffer(data),
        Poll::Ready(Err(error)) => panic!("the processor's own memory cannot be read: {error:?}"),
        Poll::Pending => panic!("a tensor of the processor is not ready: it is on another device"),
    }
}

/// f32 values in a tensor's own memory.
pub(crate) struct Buffer(TensorData);

impl Buffer {
    pub(crate) fn zeros(shape: &[usize]) -> Self {
        Self(TensorData::zeros::<f32, _>(shape.to_vec()))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.as_slice().unwrap_or_else(|error| not_f32(&error))
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        self.0
            .as_mut_slice()
            .unwrap_or_else(|error| not_f32(&error))
    }

    pub(crate) fn tensor<const D: usize>(self, device: &Device) -> Tensor<D> {
        Tensor::from_data(self.0, device)
    }
}

fn not_f32(error: &dyn std::fmt::Debug) -> ! {
    panic!("every float tensor here is f32: {error:?}")
}
