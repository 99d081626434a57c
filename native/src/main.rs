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

fn main() -> ExitCode {
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
