//! `bench`, and the hidden `pretrain`.

use super::ModelArgs;
use clap::Args as ClapArgs;
use std::path::PathBuf;

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
