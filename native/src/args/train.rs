//! `avascope train`.
//!
//! Every setting has its default in the library; the words here say the same, and a test holds one against the other.

use super::ModelArgs;
use super::readers::most_rows;
use avascope::objective::VARIANT;
use clap::{ArgMatches, Args as ClapArgs, Command, FromArgMatches, ValueHint};
use std::path::PathBuf;

/// `avascope train`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct TrainArgs {
    /// A TOML file with the run's settings; flags win over it, and what neither says has the default that stands here.
    /// With --resume and without --config the run's own file takes its place, with --resume-from what the checkpoint holds.
    #[arg(help_heading = "Rows and model", long, short, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The policy that the model's is held against (dpo): a model as for --model, with the same tokenizer [default: the model
    /// before training]
    #[arg(help_heading = "Rows and model", long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub reference: Option<String>,
    /// Rows: a .jsonl, .jsonl.gz, .json or .parquet file, or `world` for the built-in world [default: world]
    #[arg(help_heading = "Rows and model", long, short, value_hint = ValueHint::AnyPath, value_name = "FILE")]
    pub data: Option<String>,
    /// Answers to hold those of --data against (prompt, completion), such as a base model's: for a method that learns from two
    /// sets of answers (irl_margin), which need not be of one size. One file with a column `label` does the same
    /// [default: none]
    #[arg(help_heading = "Rows and model", long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Rows to draw, where --data is `world` [default: 3000]
    #[arg(help_heading = "Rows and model", long, value_name = "N")]
    pub world_rows: Option<usize>,
    /// Rows that are held out, instead of a share of --data [default: none]
    #[arg(help_heading = "Rows and model", long, value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub eval_data: Option<PathBuf>,
    /// Most rows to use, the first ones [default: all]
    #[arg(help_heading = "Rows and model", long, value_name = "N", value_parser = most_rows)]
    pub limit: Option<usize>,
    /// Share of the rows held out by hash [default: 0.1]
    #[arg(help_heading = "Rows and model", long, value_name = "SHARE")]
    pub held_out: Option<f64>,
    /// Longest row in tokens [default: 256]
    #[arg(help_heading = "Rows and model", long, value_name = "N")]
    pub max_length: Option<usize>,
    /// What is cut from a longer row: keep_end cuts prompts from the left (and answers from the right where that is not
    /// enough), keep_start cuts from the right, error refuses the row [default: keep_end]
    #[arg(help_heading = "Rows and model", long, value_parser = ["keep_end", "keep_start", "error"], value_name = "HOW")]
    pub truncation: Option<String>,
    /// Method: `avascope methods` lists them [default: ava_p]
    #[arg(help_heading = "Method", long, value_name = "NAME")]
    pub method: Option<String>,
    /// The method's switches.
    #[command(flatten)]
    pub options: Switches,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu [default: auto]
    #[arg(help_heading = "Training", long, value_name = "NAME")]
    pub device: Option<String>,
    /// Seed of heads, adapters and row order [default: 0]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub seed: Option<u64>,
    /// Optimiser steps [default: 600]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub steps: Option<usize>,
    /// Rows in a micro-batch [default: 16]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Micro-batches in an optimiser step [default: 1]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub gradient_accumulation_steps: Option<usize>,
    /// Peak learning rate of the trunk or adapters. The default suits the built-in model; a pretrained one wants some
    /// 1e-5 (full) or 1e-4 (lora) [default: 0.002]
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub learning_rate: Option<f64>,
    /// Peak learning rate of the reward head [default: that of --learning-rate]
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub head_learning_rate: Option<f64>,
    /// Share of the steps in which the learning rate rises from zero [default: 0.05]
    #[arg(help_heading = "Training", long, value_name = "SHARE")]
    pub warmup_ratio: Option<f64>,
    /// How the learning rate moves after that: constant, linear or cosine [default: cosine]
    #[arg(help_heading = "Training", long, value_parser = ["constant", "linear", "cosine"], value_name = "HOW")]
    pub lr_scheduler_type: Option<String>,
    /// Decoupled weight decay on matrices [default: 0.01]
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub weight_decay: Option<f64>,
    /// Largest global gradient norm, larger ones are scaled down to it; 0 turns that off [default: 1]
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub max_grad_norm: Option<f64>,
    /// Whether rows of like length share a batch [default: true]
    #[arg(help_heading = "Training", long, value_name = "true|false")]
    pub group_by_length: Option<bool>,
    /// What trains beside the reward head: everything (full), adapters (lora) or nothing else (heads) [default: full]
    #[arg(help_heading = "Training", long, value_parser = ["full", "lora", "heads"], value_name = "WHAT")]
    pub trainable: Option<String>,
    /// Rank of the adapter (with --trainable lora) [default: 8]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub lora_r: Option<usize>,
    /// Scale of the adapter, above 0 (with --trainable lora) [default: 16]
    #[arg(help_heading = "Training", long, value_name = "X")]
    pub lora_alpha: Option<f64>,
    /// Ends of the names of the linear layers that are adapted, separated by commas (with --trainable lora)
    /// [default: q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]
    #[arg(
        help_heading = "Training",
        long,
        value_name = "NAME,...",
        value_delimiter = ','
    )]
    pub lora_targets: Option<Vec<String>>,
    /// Evaluations without improvement before the run stops; 0 never stops early [default: 0]
    #[arg(help_heading = "Training", long, value_name = "N")]
    pub early_stopping_patience: Option<usize>,
    /// Folder of the run [default: runs/METHOD]
    #[arg(help_heading = "Run folder and output", long, short, value_hint = ValueHint::DirPath, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Steps between evaluations; 0 evaluates at the end only [default: 50]
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub eval_steps: Option<usize>,
    /// Most held-out rows in an evaluation; 0 takes all [default: 200]
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub eval_rows: Option<usize>,
    /// Steps between checkpoints; 0 writes one at the end only. With --early-stopping-patience every new best step is saved,
    /// too [default: those of --eval-steps]
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub save_steps: Option<usize>,
    /// Checkpoints that are kept, the newest ones; with --early-stopping-patience the best one beside them. 0 keeps all
    /// [default: 2]
    #[arg(help_heading = "Run folder and output", long, value_name = "N")]
    pub save_total_limit: Option<usize>,
    /// Go on from the last checkpoint in --out, with the settings in its run.toml.
    #[arg(help_heading = "Run folder and output", long)]
    pub resume: bool,
    /// Go on from a checkpoint's file, such as the page downloads, in a new run's folder, --out, with the settings that the
    /// checkpoint holds. Its model and its rows are named with --model and --data, but for the built-in world [default: none]
    #[arg(help_heading = "Run folder and output", long, conflicts_with = "resume", value_hint = ValueHint::FilePath, value_name = "FILE")]
    pub resume_from: Option<PathBuf>,
    /// Events as JSON Lines on standard output.
    #[arg(help_heading = "Run folder and output", long)]
    pub json: bool,
    /// Warnings and errors only.
    #[arg(help_heading = "Run folder and output", long, short)]
    pub quiet: bool,
}

/// The two ways to set a method's switches.
#[derive(ClapArgs, Debug)]
struct SwitchFlags {
    /// A variant of the method under the name that its source gives it, such as "w/o irl"; `avascope methods` lists them.
    /// Switches given beside it, by -O or in the file of settings, are laid over the variant's own [default: none]
    #[arg(help_heading = "Method", long, value_name = "NAME")]
    variant: Option<String>,
    /// A switch of the method, NAME=VALUE; may be given again [default: the method's own, which `avascope methods`
    /// prints]
    #[arg(
        help_heading = "Method",
        long = "option",
        short = 'O',
        value_name = "NAME=VALUE"
    )]
    options: Vec<String>,
}

/// A method's switches as NAME=VALUE. A variant is an option of every method, so `--variant` is short for `-O variant=NAME`.
#[derive(Debug)]
pub struct Switches(Vec<String>);

impl From<SwitchFlags> for Switches {
    fn from(flags: SwitchFlags) -> Self {
        let variant = flags.variant.map(|name| format!("{VARIANT}={name}"));
        Self(variant.into_iter().chain(flags.options).collect())
    }
}

impl FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        SwitchFlags::from_arg_matches(matches).map(Self::from)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ClapArgs for Switches {
    fn augment_args(command: Command) -> Command {
        SwitchFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        SwitchFlags::augment_args_for_update(command)
    }
}

impl<'a> IntoIterator for &'a Switches {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use crate::args::Args;
    use crate::commands::run_files::RunFile;
    use avascope::train::LoraConfig;
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn a_variant_is_an_option_and_comes_before_the_others() {
        let words = "avascope train -O lambda=0.1 --variant";
        let words = words.split(' ').chain(["w/o irl"]);
        let crate::args::Command::Train(train) = Args::parse_from(words).command else {
            panic!("`train`");
        };
        let options = Vec::from_iter(&train.options);
        assert_eq!(options, ["variant=w/o irl", "lambda=0.1"]);
    }

    #[test]
    fn help_says_every_default_as_the_library_has_it() {
        let command = Args::command();
        let train = command.find_subcommand("train").expect("it is there");
        let help = |name: &str| {
            let argument = train.get_arguments().find(|a| a.get_long() == Some(name));
            let help = argument.and_then(|a| a.get_help().or(a.get_long_help()));
            help.map(ToString::to_string).unwrap_or_default()
        };
        let file = RunFile::default();
        let (own, lora) = (&file.train, LoraConfig::default());
        let json = serde_json::to_value(own).unwrap();
        let word = |name: &str| json[name].as_str().unwrap_or_default().to_string();
        let defaults = [
            ("data", file.data.clone()),
            ("world-rows", file.world_rows.to_string()),
            ("held-out", own.held_out.to_string()),
            ("max-length", own.max_length.to_string()),
            ("truncation", word("truncation")),
            ("method", own.method.clone()),
            ("device", file.device.clone()),
            ("seed", own.seed.to_string()),
            ("steps", own.steps.to_string()),
            ("batch-size", own.batch_size.to_string()),
            (
                "gradient-accumulation-steps",
                own.gradient_accumulation_steps.to_string(),
            ),
            ("learning-rate", own.learning_rate.to_string()),
            ("warmup-ratio", own.warmup_ratio.to_string()),
            ("lr-scheduler-type", word("lr_scheduler_type")),
            ("weight-decay", own.weight_decay.to_string()),
            ("max-grad-norm", own.max_grad_norm.to_string()),
            ("group-by-length", own.group_by_length.to_string()),
            (
                "trainable",
                json["trainable"]["mode"].as_str().unwrap().to_string(),
            ),
            ("lora-r", lora.r.to_string()),
            ("lora-alpha", lora.alpha.to_string()),
            ("lora-targets", lora.targets.join(",")),
            (
                "early-stopping-patience",
                own.early_stopping_patience.to_string(),
            ),
            ("eval-steps", own.eval_steps.to_string()),
            ("eval-rows", own.eval_rows.to_string()),
            ("save-steps", "those of --eval-steps".into()),
            ("save-total-limit", file.save_total_limit.to_string()),
        ];
        for (name, value) in &defaults {
            let help = help(name);
            assert!(
                help.contains(&format!("[default: {value}]")),
                "{name}: {help}"
            );
        }
        // Every setting can be given as a flag, and no flag with a value leaves its default unsaid.
        for name in json.as_object().unwrap().keys() {
            let flag = match name.as_str() {
                "options" => "option".into(),
                name => name.replace('_', "-"),
            };
            assert!(!help(&flag).is_empty(), "there is no --{flag}");
        }
        for argument in train.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            let unsaid = ["config", "model", "tokenizer"];
            if argument.get_action().takes_values() && !unsaid.contains(&name) {
                assert!(help(name).contains("[default: "), "{name}");
            }
        }
    }
}
