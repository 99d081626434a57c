//! `avascope gridworld`.

use clap::Args as ClapArgs;

/// `avascope gridworld`.
#[derive(ClapArgs, Debug)]
#[command(allow_negative_numbers = true)]
pub struct GridworldArgs {
    /// bend, classic or cliff (built in), or a text file: one line a row, `.` floor, `#` wall, `C` cliff (ends an
    /// episode), `G` goal (ends it), `S` start.
    #[arg(default_value = "bend", value_name = "MAP", value_hint = clap::ValueHint::FilePath)]
    pub map: String,
    /// Probability that a move goes to one of its two sides instead.
    #[arg(help_heading = "World", long, value_name = "P", default_value_t = 0.0)]
    pub slip: f64,
    /// Reward of entering floor.
    #[arg(
        help_heading = "World",
        long,
        value_name = "X",
        default_value_t = -0.1,
    )]
    pub step_reward: f64,
    /// Reward of entering a goal.
    #[arg(help_heading = "World", long, value_name = "X", default_value_t = 1.0)]
    pub goal_reward: f64,
    /// Reward of entering a cliff.
    #[arg(
        help_heading = "World",
        long,
        value_name = "X",
        default_value_t = -1.0,
    )]
    pub cliff_reward: f64,
    /// Discount of expert and learners, below 1.
    #[arg(help_heading = "World", long, value_name = "X", default_value_t = 0.9)]
    pub gamma: f64,
    /// Numbers of demonstrations, separated by commas. The smaller sets are the first episodes of the largest one.
    #[arg(
        help_heading = "Demonstrations",
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "5,20,80"
    )]
    pub demonstrations: Vec<usize>,
    /// Inverse temperature of the expert, known to both methods.
    #[arg(
        help_heading = "Demonstrations",
        long,
        value_name = "X",
        default_value_t = 5.0
    )]
    pub beta: f64,
    /// Most steps of an episode, of expert and learners.
    #[arg(
        help_heading = "Demonstrations",
        long,
        value_name = "N",
        default_value_t = 100
    )]
    pub limit: usize,
    /// Seed of demonstrations, chains and learners.
    #[arg(
        help_heading = "Demonstrations",
        long,
        value_name = "N",
        default_value_t = 0
    )]
    pub seed: u64,
    /// Standard deviation of the prior N(0, X^2) of every state's reward, in both methods.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "X",
        default_value_t = 1.0
    )]
    pub prior_std: f64,
    /// Weight of AVRIL's TD term; 0.25 as for language models. Its public code has 1, but where lambda is not below
    /// --kappa, sigma has no least value of its own.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "X",
        default_value_t = 0.25
    )]
    pub lambda: f64,
    /// Weight of AVRIL's KL to the prior.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "X",
        default_value_t = 1.0
    )]
    pub kappa: f64,
    /// Adam steps of AVRIL, each over all demonstrations.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "N",
        default_value_t = 2000
    )]
    pub steps: usize,
    /// Peak learning rate of AVRIL; it falls to 0.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "X",
        default_value_t = 0.02
    )]
    pub learning_rate: f64,
    /// Independent Markov chains, at least 2.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "N",
        default_value_t = 4
    )]
    pub chains: usize,
    /// Sweeps over all states that each chain throws away.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "N",
        default_value_t = 1000
    )]
    pub warmup: usize,
    /// Sweeps that each chain keeps.
    #[arg(
        help_heading = "Posteriors",
        long,
        value_name = "N",
        default_value_t = 4000
    )]
    pub draws: usize,
    /// Episodes of each learner.
    #[arg(
        help_heading = "D-Shape",
        long,
        value_name = "N",
        default_value_t = 300
    )]
    pub episodes: usize,
    /// Seeds of each learner.
    #[arg(help_heading = "D-Shape", long, value_name = "N", default_value_t = 10)]
    pub seeds: usize,
    /// A policy is good when its return is worth this share of what separates random acting from the best.
    #[arg(
        help_heading = "D-Shape",
        long,
        value_name = "SHARE",
        default_value_t = 0.95
    )]
    pub good: f64,
    /// auto, gpu, vulkan, metal, dx12, cuda, rocm or cpu. The tables are tiny: the processor is fastest.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Warnings and errors only.
    #[arg(long, short)]
    pub quiet: bool,
}
