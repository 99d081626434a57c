//! `avascope doctor`.

use super::{fetch, print_line, wait};
use anyhow::{Context as _, Result};
use avascope::device::{DeviceChoice, DeviceError};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a driver may take to open a device.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says which devices open here, and why others do not.
pub fn run(as_json: bool, probe: Option<&str>) -> Result<()> {
    if let Some(name) = probe {
        return print_line(&tried(name.parse()?).to_string());
    }
    let devices: Vec<Value> = DeviceChoice::ALL
        .into_iter()
        // WebGPU is the page's.
        .filter(|(_, choice)| !matches!(choice, DeviceChoice::Webgpu))
        .map(|(name, choice)| match choice {
            DeviceChoice::Metal if !cfg!(target_os = "macos") => closed(name, "Metal is Apple's"),
            DeviceChoice::Dx12 if !cfg!(windows) => closed(name, "Direct3D is Windows'"),
            _ => tried_apart(name),
        })
        .collect();
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let cache = fetch::cache_folder()
        .map(|p| p.display().to_string())
        .unwrap_or_default();
    if as_json {
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"), "threads": threads, "cache": cache, "devices": devices,
        });
        return print_line(&serde_json::to_string_pretty(&value)?);
    }
    print_line(&format!(
        "avascope {} · {threads} threads · cache {cache}",
        env!("CARGO_PKG_VERSION")
    ))?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    for row in devices {
        let name = word(&row["device"]);
        let line = if row["opens"] == true {
            let info = &row["info"];
            let note = info["note"].as_str().map(|n| format!(" ({n})"));
            format!(
                "{name:<8} opens: {} · {} · {}{}",
                word(&info["backend"]),
                word(&info["adapter"]),
                word(&info["precision"]),
                note.unwrap_or_default()
            )
        } else {
            let way_out = row["way_out"].as_str().map(|way| format!(". {way}"));
            format!(
                "{name:<8} does not open: {}{}",
                word(&row["reason"]),
                way_out.unwrap_or_default()
            )
        };
        print_line(&line)?;
    }
    Ok(())
}

fn closed(name: &str, reason: &str) -> Value {
    json!({"device": name, "opens": false, "reason": reason})
}

/// Opens a device in this process.
fn tried(choice: DeviceChoice) -> Value {
    let name = choice.name();
    match wait(avascope::device::open(choice)) {
        Ok(device) => json!({"device": name, "opens": true, "info": device.info}),
        Err(DeviceError::NoAdapter { reason, .. }) => {
            let mut row = closed(name, &reason);
            row["way_out"] = driver_to_install(choice).into();
            row
        }
        Err(error) => closed(name, &error.to_string()),
    }
}

/// Opens a device in a process of its own: a driver that dies takes its process along, and one that hangs is left behind.
fn tried_apart(name: &str) -> Value {
    let asked = || -> Result<Value> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["doctor", "--probe", name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(closed(
                    name,
                    &format!("its driver did not answer within {} s", PATIENCE.as_secs()),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut said = String::new();
        child
            .stdout
            .take()
            .context("it said nothing")?
            .read_to_string(&mut said)?;
        Ok(serde_json::from_str(&said).unwrap_or_else(|_| {
            closed(
                name,
                &format!("its driver ended the program that opened it ({status})"),
            )
        }))
    };
    asked().unwrap_or_else(|error| closed(name, &format!("it could not be tried: {error}")))
}

/// Where a driver comes from.
fn driver_to_install(choice: DeviceChoice) -> &'static str {
    if choice == DeviceChoice::Cuda {
        "NVIDIA's driver brings libcuda; a card that is not seen may want a newer one, or a container that is given it"
    } else if choice == DeviceChoice::Rocm {
        "AMD's ROCm brings libamdhip64"
    } else if cfg!(target_os = "linux") {
        "A GPU's driver brings Vulkan; in a container NVIDIA's also needs Debian's libvulkan1, libegl1, libx11-6 and libxext6. Without a GPU, or for AMD and Intel, Debian: `apt-get install mesa-vulkan-drivers libvulkan1`; Fedora: `dnf install mesa-vulkan-drivers`; Arch: `pacman -S vulkan-swrast`"
    } else if cfg!(target_os = "macos") {
        "Metal is part of the system; a virtual machine may have none"
    } else {
        "Install or renew the driver of the graphics card"
    }
}
