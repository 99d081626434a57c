//! `avascope train`.

use super::ModelArgs;
use clap::{Args as ClapArgs, ValueHint};
use std::path::PathBuf;

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
