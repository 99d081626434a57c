//! The `avascope` command: the same library as the page, with files, a terminal and the network around it.

mod args;
mod commands;
mod exit;
mod files;
mod folder;
mod models;
mod progress;
mod settings;
mod talk;
#[cfg(test)]
#[path = "../../src/test_data/skips.rs"]
mod test_data;
#[cfg(target_os = "linux")]
mod wayland;

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

/// Help and version go to standard output, and a full disk behind it is an error as it is for any other data; what is wrong
/// with the command line goes to standard error.
fn tell(said: &clap::Error) -> ExitCode {
    use std::io::Write as _;
    let printed = said.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(error) if !said.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            talk::say!("error: cannot write to standard output: {error}");
            ExitCode::from(exit::DEVICE)
        }
        _ => ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(exit::USAGE)),
    }
}

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_large_blocks();
    #[cfg(target_os = "linux")]
    wayland::silence();
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(said) => return tell(&said),
    };
    match commands::dispatch(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit::code_of(&error);
            talk::say!("error: {error:#}");
            ExitCode::from(code)
        }
    }
}
