//! One file a subcommand.

mod bench;
mod compare;
mod convert;
mod data;
mod doctor;
mod eval;
mod fetch;
mod file_record;
mod gridworld;
mod inspect;
mod kernels;
mod laplace;
mod methods;
mod pretrain;
mod rewardbench;
pub mod run_files;
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

/// Set at the first Ctrl-C, so that what is in hand can be saved; a second one ends the program at once. Both say so.
/// `save` says what the first one leads to. A signal that was ignored when the program started (`nohup`) stays ignored.
pub fn watch_interrupts(save: &'static str) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let ignored = signals::ignored();
    let handler = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            say!("interrupted again: ended at once; what came after the last checkpoint is lost");
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        say!(
            "interrupt the step in hand ends first, to {save}; Ctrl-C again ends at once and loses what is not saved"
        );
    });
    signals::ignore(&ignored);
    if let Err(error) = handler {
        say!("warning   Ctrl-C will not {save}: {error}");
    }
    interrupted
}

/// Signals that the program was told to ignore by whoever started it.
#[cfg(unix)]
mod signals {
    // The C library's own; a handler is an address, and 1 stands for "ignore".
    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
    }
    const IGNORE: usize = 1;
    /// SIGHUP, SIGINT and SIGTERM, which have these numbers on every Unix.
    const WATCHED: [i32; 3] = [1, 2, 15];

    /// Those of the watched signals that are ignored.
    pub fn ignored() -> Vec<i32> {
        let is_ignored = |number: &i32| {
            // SAFETY: valid signal numbers; the only way to ask is to set, and what was set before is put back at once.
            // Nothing handles these signals yet.
            unsafe {
                let before = signal(*number, IGNORE);
                if before != IGNORE {
                    signal(*number, before);
                }
                before == IGNORE
            }
        };
        WATCHED.into_iter().filter(is_ignored).collect()
    }

    /// Ignores them again.
    pub fn ignore(signals: &[i32]) {
        for number in signals {
            // SAFETY: a valid signal number, and no handler of ours is taken away from anybody.
            unsafe {
                signal(*number, IGNORE);
            }
        }
    }
}

/// Other systems have no signals that a parent ignores for its child.
#[cfg(not(unix))]
mod signals {
    pub fn ignored() -> Vec<i32> {
        Vec::new()
    }

    pub fn ignore(_: &[i32]) {}
}

/// Lines on standard output beside long work. A reader that goes away, or a full disk behind it, must not cost the work:
/// it is said once, and the work goes on without printing.
#[derive(Default)]
pub struct Lines {
    failed: Option<std::io::Error>,
}

impl Lines {
    /// Writes a line, as long as somebody takes them.
    pub fn line(&mut self, line: &str) {
        use std::io::Write as _;
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = writeln!(std::io::stdout().lock(), "{line}") {
            say!(
                "warning   standard output takes no more lines ({error}); the work goes on without printing them"
            );
            self.failed = Some(error);
        }
    }

    /// Once the work is done: an error where lines are missing for any other reason than that nobody wanted them.
    pub fn finish(self) -> Result<()> {
        match self.failed {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error)
                .context("the work is done and saved, and standard output lacks lines of it"),
            _ => Ok(()),
        }
    }
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
