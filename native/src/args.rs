//! The command line. Data goes to standard output, talk to standard error. The arguments of each subcommand stand in a file
//! with those that belong to it.

mod compare;
mod data;
mod gridworld;
mod machine;
mod run;
mod train;
mod values;

pub use compare::{CompareArgs, RewardBenchArgs};
pub use data::{ConvertArgs, DataCommand, DoubtfulArgs, FetchArgs};
pub use gridworld::GridworldArgs;
pub use machine::{BenchArgs, PretrainArgs};
pub use run::{
    EvalArgs, IgnoranceArgs, IgnoranceChoice, InspectArgs, LaplaceArgs, RunArgs, ScoreArgs,
};
pub use train::TrainArgs;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Learn what every token of an answer is worth, with its spread and its ignorance.
#[derive(Parser, Debug)]
#[command(
    name = "avascope",
    version,
    about,
    max_term_width = 100,
    args_override_self = true
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train token rewards (and a policy) on preference pairs or demonstrations.
    Train(Box<TrainArgs>),
    /// Write token-reward records (JSON Lines) for the rows of a file.
    Score(ScoreArgs),
    /// Measure a run: pair accuracy, token AUC, correlation with known rewards, coverage.
    Eval(EvalArgs),
    /// Accuracy on RewardBench or RewardBench 2, by a run's scores of its rows or from a file of scores.
    #[command(name = "rewardbench")]
    RewardBench(Box<RewardBenchArgs>),
    /// Train methods on equal terms, hold them against truths and floors, and write one report.
    Compare(CompareArgs),
    /// Write one HTML file with the token view of some rows; opens anywhere.
    Inspect(InspectArgs),
    /// Fit a Laplace approximation to a run: what `--ignorance laplace` reads.
    Laplace(LaplaceArgs),
    /// Turn a GGUF or llama2.c model, or a run, into a Hugging Face directory.
    Convert(ConvertArgs),
    /// Look at rows: counts, lengths, duplicates, leaks, baselines; or draw them from the built-in world.
    Data {
        /// What about them.
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Download a model or a file, resumable and hash-checked.
    Fetch(FetchArgs),
    /// List the methods with their switches and sources, or the credits.
    Methods {
        /// The credits: ways to spread a sequence's reward over its tokens (`--credit`).
        #[arg(long)]
        credits: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Teach inverse RL on a gridworld: AVRIL's posterior beside the exact one, and D-Shape's shaping.
    #[command(name = "gridworld")]
    Gridworld(Box<GridworldArgs>),
    /// Measure training and scoring speed, memory, and the device's own matrix-product peak.
    Bench(BenchArgs),
    /// Say which devices, drivers and folders this machine offers.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Open one device and say what came of it, in this very process.
        #[arg(long, hide = true, value_name = "NAME")]
        probe: Option<String>,
    },
    /// Print a shell completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Remake the built-in world's tiny decoder.
    #[command(hide = true)]
    Pretrain(PretrainArgs),
}

/// Where a model comes from.
#[derive(ClapArgs, Debug, Clone)]
#[command(next_help_heading = "Rows and model")]
pub struct ModelArgs {
    /// `world` (built in, a vocabulary of some 350 words, for its own rows only), a Hugging Face directory, a .gguf file, or a
    /// llama2.c .bin file. Where absent: `world` for train and bench, the run's own for a run.
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub model: Option<String>,
    /// The tokenizer of a llama2.c model (tok*.bin), or a tokenizer.json that replaces the model's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
}
