//! What holds methods or models against each other: `compare`, `rewardbench`.

use super::ModelArgs;
use super::values::batch_size;
use clap::{Args as ClapArgs, ValueHint};
use std::path::PathBuf;

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
