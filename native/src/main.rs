//! The `avascope` command: the same library as the page, with files, a terminal and the network around it.

mod args;
mod commands;
mod exit;
mod files;
mod folder;
mod models;
mod progress;
mod talk;

use clap::Parser as _;
use std::process::ExitCode;

/// Tells glibc's allocator to keep large blocks instead of handing each back to the system. A training step takes and
/// leaves gigabytes of tensors; otherwise every one of their pages is zeroed by the kernel again at each step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_large_blocks() {
    // SAFETY: glibc's own function, called before any other thread runs; it refuses values that it cannot take.
    unsafe extern "C" {
        fn mallopt(parameter: i32, value: i32) -> i32;
    }
    const TRIM_THRESHOLD: i32 = -1;
    const MMAP_THRESHOLD: i32 = -3;
    unsafe {
        mallopt(MMAP_THRESHOLD, 1 << 30);
        mallopt(TRIM_THRESHOLD, i32::MAX);
    }
}

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_large_blocks();
    let args = args::Args::parse();
    match commands::dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit::code_of(&error);
            talk::say!("error: {error:#}");
            ExitCode::from(code)
        }
    }
}
