//! `avascope doctor`.

use super::{fetch, open_device, print_line};
use anyhow::Result;
use avascope::device::DeviceChoice;

/// Says which devices open here, and why others do not.
pub fn run(json: bool) -> Result<()> {
    let mut rows = Vec::new();
    for (name, choice) in DeviceChoice::ALL {
        // WebGPU is the page's, and `auto` is one of the others.
        if matches!(choice, DeviceChoice::Webgpu) {
            continue;
        }
        let elsewhere = match choice {
            DeviceChoice::Metal if !cfg!(target_os = "macos") => Some("Metal is Apple's"),
            DeviceChoice::Dx12 if !cfg!(windows) => Some("Direct3D is Windows'"),
            _ => None,
        };
        if let Some(reason) = elsewhere {
            rows.push(serde_json::json!({"device": name, "opens": false, "reason": reason}));
            continue;
        }
        // A driver that dies takes its process along: each device is tried where it cannot end this one.
        let opened = std::panic::catch_unwind(|| open_device(name));
        rows.push(match opened {
            Ok(Ok(device)) => serde_json::json!({"device": name, "opens": true, "info": device.info}),
            Ok(Err(error)) => serde_json::json!({"device": name, "opens": false, "reason": error.to_string()}),
            Err(_) => serde_json::json!({"device": name, "opens": false, "reason": "its driver failed while opening"}),
        });
    }
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let cache = fetch::cache_folder()
        .map(|p| p.display().to_string())
        .unwrap_or_default();
    if json {
        let value = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "threads": threads, "cache": cache, "devices": rows,
        });
        return print_line(&serde_json::to_string_pretty(&value)?);
    }
    print_line(&format!(
        "avascope {} · {threads} threads · cache {cache}",
        env!("CARGO_PKG_VERSION")
    ))?;
    for row in rows {
        let name = row["device"].as_str().unwrap_or_default();
        let line = if row["opens"] == true {
            let info = &row["info"];
            let note = info["note"]
                .as_str()
                .map(|n| format!(" ({n})"))
                .unwrap_or_default();
            format!(
                "{name:<8} opens: {} · {} · {}{note}",
                info["backend"].as_str().unwrap_or_default(),
                info["adapter"].as_str().unwrap_or_default(),
                info["precision"].as_str().unwrap_or_default()
            )
        } else {
            format!(
                "{name:<8} does not open: {}",
                row["reason"].as_str().unwrap_or_default()
            )
        };
        print_line(&line)?;
    }
    Ok(())
}
