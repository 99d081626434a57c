//! Runtimes of GPUs' makers: NVIDIA's CUDA and AMD's ROCm, where a build has them.

use super::{DeviceError, OpenDevice};

/// CUDA's first device. From compute capability 8 on (Ampere) its `f32` products are TF32's: Burn's kernels round their inputs to
/// TF32's 10 bits of fraction wherever tensor cores take them, and Burn has no switch for it (`cubek-matmul`, `adjust_dtypes`). On
/// an H200, 20 steps' losses came within 1.9e-4 of the processor's, on the same card by way of Vulkan within 1.9e-6 (`docs/LOG.md`,
/// 2026-11-26).
#[cfg(feature = "cuda")]
pub(super) async fn cuda(asked: &'static str) -> Result<OpenDevice, DeviceError> {
    let (adapter, major) =
        cuda_device().map_err(|reason| DeviceError::NoAdapter { asked, reason })?;
    let precision = match major {
        ..8 => "f32",
        8.. => "f32, matrix products in tf32",
    };
    let open = || burn::tensor::Device::cuda(0usize);
    opened(asked, "cuda", adapter, precision, open).await
}

#[cfg(not(feature = "cuda"))]
pub(super) async fn cuda(asked: &'static str) -> Result<OpenDevice, DeviceError> {
    Err(DeviceError::NotBuilt {
        asked,
        way_out: "build with `cargo build --release --workspace --features avascope/cuda`",
    })
}

#[cfg(feature = "rocm")]
pub(super) async fn rocm(asked: &'static str) -> Result<OpenDevice, DeviceError> {
    let adapter = "the first ROCm device".to_string();
    let open = || burn::tensor::Device::rocm(0usize);
    opened(asked, "rocm", adapter, "f32", open).await
}

#[cfg(not(feature = "rocm"))]
pub(super) async fn rocm(asked: &'static str) -> Result<OpenDevice, DeviceError> {
    Err(DeviceError::NotBuilt {
        asked,
        way_out: "build with `cargo build --release --workspace --features avascope/rocm`",
    })
}

/// The first of them that this binary was built with and that opens; reasons where none does.
pub(super) async fn any(asked: &'static str) -> Result<OpenDevice, Vec<String>> {
    let mut reasons = Vec::new();
    for tried in [cuda(asked).await, rocm(asked).await] {
        match tried {
            Ok(open) => return Ok(open),
            Err(DeviceError::NotBuilt { .. }) => {}
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(reasons)
}

/// What the driver calls CUDA's first device, and the first number of its compute capability; or what is missing for one.
#[cfg(feature = "cuda")]
fn cuda_device() -> Result<(String, i32), String> {
    use cudarc::driver::{result::device, result::init, sys};
    // SAFETY: this loads the driver's library and lets it go again; nothing in it is called.
    if !unsafe { sys::is_culib_present() } {
        return Err("NVIDIA's driver (libcuda) is not on this machine".into());
    }
    let major = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    init()
        .and_then(|()| device::get(0))
        // SAFETY: the driver itself gave this device.
        .and_then(|first| {
            Ok((device::get_name(first)?, unsafe {
                device::get_attribute(first, major)?
            }))
        })
        .map_err(|error| format!("NVIDIA's driver has no device: {error}"))
}

/// Opens a device by computing on it: these runtimes start with the first operation, and panic where there is no driver or
/// no device.
#[cfg(any(feature = "cuda", feature = "rocm"))]
async fn opened(
    asked: &'static str,
    backend: &str,
    adapter: String,
    precision: &str,
    open: impl FnOnce() -> burn::tensor::Device,
) -> Result<OpenDevice, DeviceError> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let mut tried = std::pin::pin!(async move {
        let device = open();
        let one = burn::tensor::Tensor::<1>::ones([1], &device);
        let read = one.into_data_async().await;
        read.map(|_| device).map_err(|error| format!("{error:?}"))
    });
    let opened = std::future::poll_fn(|context| {
        // What a driver's panic would print is said in the error below.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let polled = catch_unwind(AssertUnwindSafe(|| tried.as_mut().poll(context)));
        std::panic::set_hook(hook);
        match polled {
            Ok(polled) => polled,
            Err(panic) => std::task::Poll::Ready(Err(said(panic.as_ref()))),
        }
    })
    .await;
    match opened {
        Ok(device) => Ok(OpenDevice {
            device,
            info: super::DeviceInfo {
                asked: asked.into(),
                backend: backend.into(),
                adapter,
                precision: precision.into(),
                note: None,
            },
        }),
        Err(reason) => Err(DeviceError::NoAdapter { asked, reason }),
    }
}

/// The words of a panic.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()))
        .unwrap_or_else(|| "its runtime failed".into())
}
