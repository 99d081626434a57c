//! What works on a trained run: `laplace`, `score`, `eval`, `inspect`, `rewardbench`.

use super::ModelArgs;
use super::readers::{batch_size, most_rows, share, tokens_per_answer};
use avascope::train::ignorance::Dropout;
use clap::{Args as ClapArgs, ValueHint};
use std::path::PathBuf;

/// A trained run, or a model alone.
#[derive(ClapArgs, Debug, Clone)]
pub struct RunArgs {
    /// Folder of the run, or the file of a checkpoint, such as the page downloads.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub run: PathBuf,
    /// A checkpoint of it; the last one where absent.
    #[arg(long, value_hint = ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// The model, where it is no longer where the run found it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The reference policy, where it is no longer where the run found it.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Rows and model")]
    pub reference: Option<String>,
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
#[derive(ClapArgs, Debug, Clone, Default)]
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
    /// Share of the units that dropout drops (with --ignorance dropout) [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub dropout_rate: Option<f64>,
    /// Dropout masks to draw: each costs a pass over the rows [default: 32]
    #[arg(long, value_name = "N")]
    pub dropout_samples: Option<usize>,
    /// Seed of the dropout masks [default: 0]
    #[arg(long, value_name = "N")]
    pub dropout_seed: Option<u64>,
}

impl IgnoranceArgs {
    /// What dropout does where it is asked for.
    pub fn dropout(&self) -> Dropout {
        Dropout {
            rate: self.dropout_rate.unwrap_or(0.1),
            samples: self.dropout_samples.unwrap_or(32),
            seed: self.dropout_seed.unwrap_or(0),
        }
    }

    /// Whether anything is said of dropout.
    pub fn names_dropout(&self) -> bool {
        self.dropout_rate.is_some() || self.dropout_samples.is_some() || self.dropout_seed.is_some()
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
#[command(allow_negative_numbers = true)]
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
    /// As JSON: what was fitted, and the written file with its size and its SHA-256.
    #[arg(long)]
    pub json: bool,
}

/// `avascope score`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct ScoreArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent, `-` for standard input.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long, value_parser = most_rows)]
    pub limit: Option<usize>,
    /// Write here instead of to standard output.
    #[arg(long, short, value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
}

/// `avascope eval`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct EvalArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long, value_parser = most_rows)]
    pub limit: Option<usize>,
    /// Hold the token map against a truth that it was not trained on; may be given again.
    ///
    /// Kinds: edits[=FILE] (pairs with chosen_spans and rejected_spans), spans[=FILE] (answers with bad_spans),
    /// steps=FILE (traces with mistake_index), lexicon=FILE (VADER's vader_lexicon.txt, with the scored rows),
    /// intervention[=FILE] (tokens deleted, swapped and rewritten). Without FILE the scored rows serve. A truth is passed
    /// when the lower end of the 95 % interval (bootstrap over answers) of every figure that decides lies above chance and
    /// above every floor beside it (word models of the training rows, the model's own log-probability, positions,
    /// lengths, a shuffled map), with at least 10 answers behind it; with fewer it is undecided and counts neither way.
    /// What chosen answers gained, which is often neutral, only must not lie wholly below chance.
    /// --limit also cuts a truth's own rows. Results go to trust.json beside the checkpoint: a map that passed every truth it was held
    /// against is `checked` from then on if people's labels were among them (edits, spans, steps or lexicon), any other is
    /// `exploratory`: intervention alone makes no map checked. Rows whose answer was trained on are left out.
    #[arg(long = "truth", value_name = "KIND[=FILE]")]
    pub truths: Vec<String>,
    /// Tokens of each answer that --truth intervention changes [default: 4]
    #[arg(long, value_name = "N", value_parser = tokens_per_answer)]
    pub interventions: Option<usize>,
    /// Seed of what --truth intervention draws [default: 0]
    #[arg(long, value_name = "N")]
    pub truth_seed: Option<u64>,
    /// Exit with 1 where the pair accuracy is below this.
    #[arg(long, value_parser = share)]
    pub min_accuracy: Option<f64>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `avascope inspect`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct InspectArgs {
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Rows; the run's held-out rows where absent.
    #[arg(long, short, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,
    /// Most rows.
    #[arg(long, default_value_t = 50, value_parser = most_rows)]
    pub limit: usize,
    /// The HTML file.
    #[arg(long, short, default_value = "token-map.html", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// As JSON: how many answers and tokens are shown, and the written file with its size and its SHA-256.
    #[arg(long)]
    pub json: bool,
}

/// `avascope rewardbench`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["run", "scores"]))]
pub struct RewardBenchArgs {
    /// Folder of the run that scores the rows of --data, or the file of a checkpoint.
    #[arg(value_hint = ValueHint::AnyPath, requires = "data")]
    pub run: Option<PathBuf>,
    /// The rows as published (allenai/reward-bench or allenai/reward-bench-2): Parquet or JSON Lines.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "run")]
    pub data: Option<PathBuf>,
    /// The reference policy, where it is no longer where the run found it.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, requires = "run")]
    pub reference: Option<String>,
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
    #[arg(long, value_parser = most_rows)]
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
