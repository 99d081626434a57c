//! What comes from the operating system: Chromium for the browser tests and a Vulkan driver for the GPU tests.
//!
//! On Debian and its relatives both are installed when that needs no password; elsewhere they are named.

use crate::tools::{House, output_of, run};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Finds Chromium, or installs it, and returns its path.
pub fn ensure_chromium(house: &House) -> Result<PathBuf> {
    // The list of places lives beside the harness that starts it, so that `node run.mjs` finds the same browser.
    let find = || {
        output_of(
            house
                .command("node")
                .arg(house.browser_tests().join("chromium.mjs")),
        )
    };
    if let Some(path) = find() {
        return Ok(path.into());
    }
    println!("Chromium is missing.");
    let tried = apt_install(house, &["chromium"]);
    match find() {
        Some(path) => Ok(path.into()),
        None => bail!(
            "the browser tests need Chromium or Google Chrome, which was found neither in $CHROME or $CHROMIUM_PATH nor in \
             PATH and the usual places ({tried}). Debian: `sudo apt-get install chromium`; macOS: \
             `brew install --cask chromium`; Windows: `winget install Google.Chrome`; anywhere else set CHROME to its path"
        ),
    }
}

/// Whether the GPU tests can run, and on what.
#[derive(Debug, PartialEq, Eq)]
pub enum Gpu {
    /// A driver that computes on the CPU: lavapipe or SwiftShader.
    Software(String),
    Hardware,
    /// With the reason and the way out, for a person to read.
    Missing(String),
}

/// Looks for a GPU that wgpu can use, and installs a software driver where there is none.
pub fn ensure_gpu(house: &House) -> Gpu {
    if !cfg!(target_os = "linux") {
        // Metal and Direct3D 12 are part of the system, the latter with a software device of its own.
        return Gpu::Hardware;
    }
    let find = || {
        let has_device = ["/dev/nvidia0", "/dev/dxg"]
            .iter()
            .any(|device| Path::new(device).exists())
            || names_in(Path::new("/dev/dri"))
                .iter()
                .any(|name| name.starts_with("renderD"));
        gpu_from(&vulkan_drivers(), has_device)
    };
    if let Some(gpu) = find() {
        return gpu;
    }
    println!("There is neither a GPU nor a software Vulkan driver.");
    let tried = apt_install(house, &["mesa-vulkan-drivers", "libvulkan1"]);
    find().unwrap_or_else(|| {
        Gpu::Missing(format!(
            "no Vulkan driver is installed ({tried}). Debian: `sudo apt-get install mesa-vulkan-drivers`; Fedora: \
             `sudo dnf install mesa-vulkan-drivers`; Arch: `sudo pacman -S vulkan-swrast`"
        ))
    })
}

fn gpu_from(drivers: &[String], has_device: bool) -> Option<Gpu> {
    // Mesa's package brings a file for every maker, so that a file alone says nothing about the machine.
    if has_device && !drivers.is_empty() {
        return Some(Gpu::Hardware);
    }
    let software = drivers
        .iter()
        .find(|name| name.contains("lvp_icd") || name.contains("swiftshader"))?;
    Some(Gpu::Software(software.clone()))
}

/// File names of the installed Vulkan drivers' manifests, from where the loader looks.
fn vulkan_drivers() -> Vec<String> {
    let named: Vec<PathBuf> = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
        .iter()
        .filter_map(std::env::var_os)
        .flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>())
        .filter(|path| path.is_file())
        .collect();
    if !named.is_empty() {
        return named
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
    }
    [
        "/usr/share/vulkan/icd.d",
        "/usr/local/share/vulkan/icd.d",
        "/etc/vulkan/icd.d",
        "/run/opengl-driver/share/vulkan/icd.d",
    ]
    .iter()
    .flat_map(|directory| names_in(Path::new(directory)))
    .filter(|name| name.ends_with(".json"))
    .collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Installs packages where that is possible without a password; returns, for a message, what came of it.
fn apt_install(house: &House, packages: &[&str]) -> &'static str {
    if !cfg!(target_os = "linux") || output_of(Command::new("apt-get").arg("--version")).is_none() {
        return "xtask installs it by itself only through apt-get";
    }
    let is_root = output_of(Command::new("id").arg("-u")).as_deref() == Some("0");
    if !is_root && output_of(Command::new("sudo").args(["-n", "true"])).is_none() {
        return "installing it here takes root, and sudo asks for a password";
    }
    let apt = |arguments: &[&str]| {
        let mut command = house.command(if is_root { "apt-get" } else { "sudo" });
        if !is_root {
            command.args(["-n", "apt-get"]);
        }
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command).is_ok()
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    // Package lists are fetched only when installing from those at hand fails, as it does on a fresh machine.
    if apt(&install) || (apt(&["update"]) && apt(&install)) {
        "installed with apt-get"
    } else {
        "apt-get failed, see above"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_file_alone_is_no_gpu_and_lavapipe_needs_none() {
        let mesa = [
            "intel_icd.x86_64.json",
            "lvp_icd.x86_64.json",
            "radeon_icd.x86_64.json",
        ]
        .map(str::to_owned);
        let lavapipe = Gpu::Software("lvp_icd.x86_64.json".to_owned());
        assert_eq!(gpu_from(&mesa, false), Some(lavapipe));
        assert_eq!(gpu_from(&mesa, true), Some(Gpu::Hardware));
        assert_eq!(gpu_from(&mesa[..1], false), None);
        assert_eq!(gpu_from(&mesa[..1], true), Some(Gpu::Hardware));
        assert_eq!(gpu_from(&[], true), None);
        let swiftshader = "/opt/vk_swiftshader_icd.json".to_owned();
        assert_eq!(
            gpu_from(std::slice::from_ref(&swiftshader), false),
            Some(Gpu::Software(swiftshader))
        );
    }
}
