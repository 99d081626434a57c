//! `cargo xtask`: builds the page, shows it, and runs every check of the project.
//!
//! What is missing on the machine is installed where that can be done without asking for a password, and named with
//! the command to install it where it cannot. Nothing outside the repository and one per-user cache directory is written,
//! apart from the Rust target, Chromium and a Vulkan driver where the system's package manager is at hand.

mod args;
mod features;
mod page;
mod serve;
mod skips;
mod stages;
mod system;
mod tools;

use anyhow::Result;
use args::Command;

fn main() {
    if let Err(error) = run() {
        eprintln!("\nerror: {error:#}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = args::parse(&words)?;
    if command == Command::Help {
        print!("{}", args::USAGE);
        return Ok(());
    }
    let house = tools::House::find()?;
    match command {
        Command::Help => Ok(()),
        Command::Build { optimize } => page::build(&house, optimize),
        Command::Demo { port, open } => {
            page::build(&house, false)?;
            serve::demo(&house.dist(), port, open)
        }
        Command::Serve { port, open } => serve::demo(&house.dist(), port, open),
        Command::Size { optimize } => page::size(&house, optimize),
        Command::Test(choice) => stages::run_all(&house, &choice),
    }
}
