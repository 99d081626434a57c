//! One file a subcommand.

mod bench;
mod compare;
mod convert;
mod data;
mod doctor;
mod eval;
mod fetch;
mod gridworld;
mod inspect;
mod kernels;
mod laplace;
mod methods;
mod pretrain;
mod rewardbench;
mod run_files;
mod score;
mod train;
mod truths;

use crate::args::{Args, Command};
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use avascope::device::{DeviceChoice, OpenDevice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Carries out a command.
pub fn dispatch(args: Args) -> Result<()> {
    match args.command {
        Command::Train(args) => train::run(*args),
        Command::Score(args) => score::run(args),
        Command::Eval(args) => eval::run(args),
        Command::RewardBench(args) => rewardbench::run(*args),
        Command::Compare(args) => compare::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Laplace(args) => laplace::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data { command } => data::run(command),
        Command::Fetch(args) => fetch::run(args),
        Command::Methods {
            credits: true,
            json,
        } => methods::credits(json),
        Command::Methods { json, .. } => methods::run(json),
        Command::Gridworld(args) => gridworld::run(*args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor { json, probe } => doctor::run(json, probe.as_deref()),
        Command::Completions { shell } => {
            use clap::CommandFactory as _;
            // Through memory: the generator panics where standard output is closed early.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "avascope", &mut script);
            print_line(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Pretrain(args) => pretrain::run(args),
    }
}

/// The one place where the command waits for the library: reading back from a device is `async` everywhere.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// Set at the first Ctrl-C, so that what is in hand can be saved; a second one ends the program at once. `lost` says what
/// Ctrl-C will not do where it cannot be watched.
pub fn watch_interrupts(lost: &str) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let handler = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
    if let Err(error) = handler {
        say!("warning   Ctrl-C will not {lost}: {error}");
    }
    interrupted
}

/// Opens a device by the name a person gave.
pub fn open_device(name: &str) -> Result<OpenDevice> {
    let choice: DeviceChoice = name.parse()?;
    Ok(wait(avascope::device::open(choice))?)
}

/// Writes a line of data. A reader that went away (`| head`) ends the program quietly, as is usual.
pub fn print_line(line: &str) -> Result<()> {
    use std::io::Write as _;
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("cannot write to standard output"),
    }
}
