//! The one place that picks a device.
//!
//! One binary, and one .wasm, hold the GPU and the CPU path together; which one computes is decided here, at run time,
//! and always said: backend, adapter, precision, and the reason where the choice is not the first wish.

mod makers;

use burn::tensor::wgpu::{WgpuBackend, WgpuSetup};
use burn::tensor::{Device, DeviceKind};
use serde::{Deserialize, Serialize};

/// What a person may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A real GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// Any adapter that wgpu finds, software ones included.
    Gpu,
    /// Vulkan through wgpu.
    Vulkan,
    /// Metal through wgpu.
    Metal,
    /// Direct3D 12 through wgpu.
    Dx12,
    /// WebGPU, in the browser.
    Webgpu,
    /// CUDA (builds with the `cuda` feature).
    Cuda,
    /// ROCm (builds with the `rocm` feature).
    Rocm,
    /// Burn's Flex backend on the processor.
    Cpu,
}

impl DeviceChoice {
    /// Every choice, in the order of help texts.
    pub const ALL: [(&'static str, Self); 9] = [
        ("auto", Self::Auto),
        ("gpu", Self::Gpu),
        ("vulkan", Self::Vulkan),
        ("metal", Self::Metal),
        ("dx12", Self::Dx12),
        ("webgpu", Self::Webgpu),
        ("cuda", Self::Cuda),
        ("rocm", Self::Rocm),
        ("cpu", Self::Cpu),
    ];

    /// The choice's name.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, choice)| *choice == self)
            .map_or("auto", |(name, _)| name)
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| DeviceError::Unknown { asked: text.into() })
    }
}

/// Why no device could be opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// The name is not one of the choices.
    #[error(
        "no device is called `{asked}`; use one of: auto, gpu, vulkan, metal, dx12, webgpu, cuda, rocm, cpu"
    )]
    Unknown {
        /// What was asked for.
        asked: String,
    },
    /// The build holds no such backend.
    #[error("this build has no `{asked}`: {way_out}")]
    NotBuilt {
        /// What was asked for.
        asked: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// No adapter answered.
    #[error(
        "no adapter for `{asked}`: {reason}. Use `--device cpu`, or install a driver (`avascope doctor` says which)"
    )]
    NoAdapter {
        /// What was asked for.
        asked: &'static str,
        /// The driver's answer.
        reason: String,
    },
}

/// The device that computes, in plain words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct DeviceInfo {
    /// What was asked for: `auto`, `gpu`, `cpu`, ...
    pub asked: String,
    /// The backend that was chosen: `webgpu`, `vulkan`, `metal`, `dx12`, `cuda`, `rocm`, `cpu`.
    pub backend: String,
    /// The adapter's own name, or the processor.
    pub adapter: String,
    /// The arithmetic: `f32`, and where matrix products are less than that, how they are computed.
    pub precision: String,
    /// Why this one, where it is not what was asked for first.
    pub note: Option<String>,
}

/// An open device with its description.
#[derive(Clone, Debug)]
pub struct OpenDevice {
    /// Carries tensors; without autodiff.
    pub device: Device,
    /// What it is.
    pub info: DeviceInfo,
}

/// Opens a device. The CPU always opens; a GPU that is asked for by name and missing is an error, never a silent
/// fall-back. `auto` takes CUDA or ROCm where they are built in and open, then any hardware GPU, and in the page any adapter that
/// is granted.
pub async fn open(choice: DeviceChoice) -> Result<OpenDevice, DeviceError> {
    let asked = choice.name();
    match choice {
        DeviceChoice::Cpu => Ok(cpu(asked, None)),
        DeviceChoice::Auto => Ok(auto(asked).await),
        DeviceChoice::Gpu | DeviceChoice::Webgpu => {
            if choice == DeviceChoice::Webgpu && !cfg!(target_family = "wasm") {
                return Err(DeviceError::NotBuilt {
                    asked,
                    way_out: "WebGPU is the page's; natively use gpu, vulkan, metal or dx12",
                });
            }
            Ok(wgpu(asked, ANY_API).await?.open)
        }
        DeviceChoice::Vulkan => Ok(wgpu(asked, WgpuBackend::Vulkan).await?.open),
        DeviceChoice::Metal => Ok(wgpu(asked, WgpuBackend::Metal).await?.open),
        DeviceChoice::Dx12 => Ok(wgpu(asked, WgpuBackend::Dx12).await?.open),
        DeviceChoice::Cuda => makers::cuda(asked).await,
        DeviceChoice::Rocm => makers::rocm(asked).await,
    }
}

/// The runtime of a GPU's maker where this binary has one, else any hardware GPU, else the processor; with the reasons against
/// what came before.
async fn auto(asked: &'static str) -> OpenDevice {
    let mut reasons = match makers::any(asked).await {
        Ok(open) => return open,
        Err(reasons) => reasons,
    };
    match wgpu(asked, ANY_API).await {
        Ok(opened) if !opened.software || cfg!(target_family = "wasm") => {
            let mut open = opened.open;
            open.info.note = (!reasons.is_empty()).then(|| reasons.join("; "));
            return open;
        }
        Ok(opened) => reasons.push(format!(
            "the only adapter, {}, is software: the processor itself is faster",
            opened.open.info.adapter
        )),
        Err(_) if cfg!(target_family = "wasm") => {
            reasons.push("the browser granted no WebGPU adapter".into());
        }
        Err(error) => reasons.push(error.to_string()),
    }
    cpu(asked, Some(reasons.join("; ")))
}

/// What "any GPU" means. On Linux that is Vulkan: the OpenGL path has no compute shaders worth having, and asking it
/// makes its driver write complaints to the terminal.
const ANY_API: WgpuBackend = if cfg!(target_os = "linux") {
    WgpuBackend::Vulkan
} else {
    WgpuBackend::Auto
};

#[derive(Clone)]
struct Adapter {
    open: OpenDevice,
    software: bool,
}

/// Adapters that this process has opened, by graphics API: a runtime can be initialised once, and asking for the same
/// device again (the page's device control, `avascope doctor`) must give the same one.
static OPENED: std::sync::Mutex<Vec<(String, Adapter)>> = std::sync::Mutex::new(Vec::new());

fn opened_before(asked: &str, api: &str) -> Option<Adapter> {
    let opened = OPENED.lock().ok()?;
    let (_, adapter) = opened.iter().find(|(known, _)| known == api)?;
    let mut adapter = adapter.clone();
    adapter.open.info.asked = asked.into();
    Some(adapter)
}

/// Vector instructions of the processor's matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// What `gemm` knows for any other processor.
    Other,
}

/// The choice for this processor: the same at every call. A processor that runs AVX-512 in two halves gains nothing by it and
/// computes faster with AVX2: on a Zen 4, 97 against 62 GFLOP/s were measured (`docs/LOG.md`, 2026-11-23).
pub fn vectors() -> Vectors {
    #[cfg(target_arch = "x86_64")]
    {
        static CHOICE: std::sync::OnceLock<Vectors> = std::sync::OnceLock::new();
        *CHOICE.get_or_init(|| {
            if std::arch::is_x86_feature_detected!("avx512f") && !in_halves() {
                Vectors::Avx512
            } else if std::arch::is_x86_feature_detected!("fma") {
                Vectors::Avx2
            } else {
                Vectors::Other
            }
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vectors::Other
}

/// Whether AVX-512 runs in two halves: AMD's family 0x19, of which Zen 4 is the one that has it. Zen 5 is family 0x1A.
#[cfg(target_arch = "x86_64")]
fn in_halves() -> bool {
    let processor = raw_cpuid::CpuId::new();
    let vendor = processor.get_vendor_info();
    let family = processor.get_feature_info().map(|info| info.family_id());
    vendor.is_some_and(|vendor| vendor.as_str() == "AuthenticAMD") && family == Some(0x19)
}

fn cpu(asked: &str, note: Option<String>) -> OpenDevice {
    OpenDevice {
        device: Device::flex(),
        info: DeviceInfo {
            asked: asked.into(),
            backend: "cpu".into(),
            adapter: match vectors() {
                Vectors::Avx512 => "Burn Flex, AVX-512".into(),
                Vectors::Avx2 => "Burn Flex, AVX2".into(),
                Vectors::Other => "Burn Flex".into(),
            },
            precision: "f32".into(),
            note,
        },
    }
}

async fn wgpu(asked: &'static str, api: WgpuBackend) -> Result<Adapter, DeviceError> {
    let key = format!("{api:?}");
    if let Some(adapter) = opened_before(asked, &key) {
        return Ok(adapter);
    }
    let no_adapter = |reason: String| DeviceError::NoAdapter { asked, reason };
    let open = |kind: DeviceKind| {
        let options = Device::wgpu_options().device_kind(kind);
        let options = match api {
            WgpuBackend::Auto => options,
            api => options.graphics_api(api),
        };
        options.init_with_setup_async()
    };
    let (device, setup) = match open(DeviceKind::DefaultDevice).await {
        Ok(opened) => opened,
        // wgpu's default passes software adapters by; they are found under their own kind.
        Err(error) if !cfg!(target_family = "wasm") => open(DeviceKind::Cpu)
            .await
            .map_err(|_| no_adapter(error.to_string()))?,
        Err(error) => return Err(no_adapter(error.to_string())),
    };
    let adapter = describe(asked, device, &setup);
    if let Ok(mut opened) = OPENED.lock() {
        opened.push((key, adapter.clone()));
    }
    Ok(adapter)
}

fn describe(asked: &str, device: Device, setup: &WgpuSetup) -> Adapter {
    let adapter = setup.adapter.get_info();
    let name = if adapter.name.is_empty() {
        adapter.description_or_kind()
    } else {
        adapter.name.clone()
    };
    Adapter {
        software: adapter.is_software(),
        open: OpenDevice {
            device,
            info: DeviceInfo {
                asked: asked.into(),
                backend: format!("{:?}", setup.backend)
                    .to_lowercase()
                    .replace("browserwebgpu", "webgpu"),
                adapter: name,
                precision: "f32".into(),
                note: None,
            },
        },
    }
}

/// What this module reads from wgpu's adapter description.
trait AdapterWords {
    fn is_software(&self) -> bool;
    fn description_or_kind(&self) -> String;
}

impl AdapterWords for burn::tensor::wgpu::wgpu::AdapterInfo {
    fn is_software(&self) -> bool {
        self.device_type == burn::tensor::wgpu::wgpu::DeviceType::Cpu
    }

    fn description_or_kind(&self) -> String {
        if self.driver_info.is_empty() {
            format!("{:?} adapter", self.device_type)
        } else {
            self.driver_info.clone()
        }
    }
}

/// The one GPU of a test process: a runtime can be opened once, and tests run side by side.
#[cfg(test)]
pub(crate) async fn shared_test_gpu() -> Result<Device, DeviceError> {
    static OPENED: std::sync::OnceLock<Result<Device, DeviceError>> = std::sync::OnceLock::new();
    OPENED
        .get_or_init(|| pollster::block_on(wgpu("gpu", ANY_API)).map(|adapter| adapter.open.device))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_back_from_its_name() {
        for (name, choice) in DeviceChoice::ALL {
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(choice.name(), name);
        }
        let error = "gpuu".parse::<DeviceChoice>().unwrap_err();
        assert!(error.to_string().contains("gpuu") && error.to_string().contains("vulkan"));
    }

    #[test]
    fn the_cpu_opens_and_says_so() {
        let open = pollster::block_on(open(DeviceChoice::Cpu)).unwrap();
        assert_eq!(open.info.backend, "cpu");
        assert_eq!(open.info.precision, "f32");
    }
}
