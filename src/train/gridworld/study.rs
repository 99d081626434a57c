//! One number of demonstrations: AVRIL's posterior beside the sampled one, state by state, and what comes of more.
//!
//! The gauge: beta is known, so that rewards have no free unit, and correlations need none. A summand common to all states
//! is nearly free (it only changes what a longer way costs), and both posteriors have the same prior to settle it; numbers
//! that depend on it are given as they are and after the best common shift.

use super::avril::AvrilTable;
use crate::eval::{EvalError, Gaussians, Metric, PosteriorAgreement, pearson, posterior_agreement};
use crate::world::birl::{BirlConfig, Posterior};
use crate::world::{Cell, Episode, Gridworld};
use serde::Serialize;

/// How the reference was drawn, and how far it can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sampled {
    /// Independent chains.
    pub chains: usize,
    /// Sweeps of each that were thrown away.
    pub warmup: usize,
    /// Draws kept of each.
    pub draws: usize,
    /// Share of proposals accepted.
    pub acceptance: f64,
    /// Largest split R-hat over states; trust below 1.01.
    pub worst_r_hat: f64,
    /// Smallest effective number of draws over states.
    pub fewest_effective_draws: f64,
}

/// A state's reward by both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateReward {
    /// Cell index, row by row.
    pub state: usize,
    /// What stands there.
    pub cell: Cell,
    /// Reward of entering it.
    pub truth: f64,
    /// Steps of the demonstrations that enter it and that AVRIL used.
    pub entered: usize,
    /// AVRIL's mean.
    pub avril_mean: f64,
    /// AVRIL's standard deviation.
    pub avril_std: f64,
    /// The sampled mean.
    pub mcmc_mean: f64,
    /// The sampled standard deviation.
    pub mcmc_std: f64,
    /// Monte Carlo standard error of the sampled mean.
    pub mcmc_standard_error: f64,
}

/// Both posteriors from one set of demonstrations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Study {
    /// Episodes.
    pub demonstrations: usize,
    /// Their steps.
    pub steps: usize,
    /// Episodes that ended on a goal.
    pub reached_a_goal: usize,
    /// Episodes that ended on a cliff.
    pub fell: usize,
    /// Episodes that were cut off.
    pub cut_off: usize,
    /// Steps that AVRIL used; the last step of an episode that was cut off has no a'.
    pub avril_rows: usize,
    /// Entered states whose sigma by AVRIL lies at its smallest allowed value.
    pub avril_at_floor: usize,
    /// AVRIL's loss before the first step, half-way and at the end.
    pub avril_losses: [f64; 3],
    /// The reference.
    pub mcmc: Sampled,
    /// Every state but walls.
    pub states: Vec<StateReward>,
    /// AVRIL against the reference over these states.
    pub all_states: PosteriorAgreement,
    /// The same over states that a step enters: elsewhere AVRIL keeps the prior.
    pub entered_states: PosteriorAgreement,
    /// Pearson's correlation of AVRIL's means with the true rewards, over entered states.
    pub avril_with_truth: Metric,
    /// The same of the sampled means.
    pub mcmc_with_truth: Metric,
}

impl Study {
    /// Puts both posteriors side by side. `rewards[s']` is the true reward of entering s'.
    ///
    /// # Errors
    /// Posteriors of other worlds than this one.
    pub fn new(
        world: &Gridworld,
        rewards: &[f64],
        episodes: &[Episode],
        avril: &AvrilTable,
        config: &BirlConfig,
        posterior: &Posterior,
    ) -> Result<Self, EvalError> {
        let lengths = |second, second_len| EvalError::Lengths {
            first: "states",
            first_len: world.states(),
            second,
            second_len,
        };
        if rewards.len() != world.states() {
            return Err(lengths("rewards", rewards.len()));
        }
        if avril.means.len() != world.states() {
            return Err(lengths("AVRIL's means", avril.means.len()));
        }
        if let Some(last) = posterior.marginals.iter().map(|m| m.state).max()
            && last >= world.states()
        {
            return Err(lengths("sampled rewards", last + 1));
        }
        let states: Vec<StateReward> = posterior
            .marginals
            .iter()
            .map(|m| StateReward {
                state: m.state,
                cell: world.cell(m.state),
                truth: rewards[m.state],
                entered: avril.entered[m.state],
                avril_mean: avril.means[m.state],
                avril_std: avril.stds[m.state],
                mcmc_mean: m.mean,
                mcmc_std: m.std,
                mcmc_standard_error: m.standard_error,
            })
            .collect();
        let entered: Vec<&StateReward> = states.iter().filter(|s| s.entered > 0).collect();
        let of = |value: fn(&StateReward) -> f64| -> Vec<f64> {
            entered.iter().map(|s| value(s)).collect()
        };
        let truth = of(|s| s.truth);
        let end = |cell: Cell| {
            let last = |e: &&Episode| e.last().is_some_and(|t| world.cell(t.next_state) == cell);
            episodes.iter().filter(last).count()
        };
        let (reached_a_goal, fell) = (end(Cell::Goal), end(Cell::Cliff));
        Ok(Self {
            demonstrations: episodes.len(),
            steps: episodes.iter().map(Vec::len).sum(),
            reached_a_goal,
            fell,
            cut_off: episodes.len() - reached_a_goal - fell,
            avril_rows: avril.rows,
            avril_at_floor: avril.at_floor,
            avril_losses: avril.losses,
            mcmc: Sampled {
                chains: config.chains,
                warmup: config.warmup,
                draws: config.draws,
                acceptance: posterior.acceptance,
                worst_r_hat: posterior.worst_r_hat(),
                fewest_effective_draws: posterior.fewest_effective_draws(),
            },
            all_states: agreement(&states.iter().collect::<Vec<_>>())?,
            entered_states: agreement(&entered)?,
            avril_with_truth: pearson(&of(|s| s.avril_mean), &truth)?,
            mcmc_with_truth: pearson(&of(|s| s.mcmc_mean), &truth)?,
            states,
        })
    }
}

fn agreement(states: &[&StateReward]) -> Result<PosteriorAgreement, EvalError> {
    let of =
        |value: fn(&StateReward) -> f64| -> Vec<f64> { states.iter().map(|s| value(s)).collect() };
    posterior_agreement(
        Gaussians {
            means: &of(|s| s.avril_mean),
            stds: &of(|s| s.avril_std),
        },
        Gaussians {
            means: &of(|s| s.mcmc_mean),
            stds: &of(|s| s.mcmc_std),
        },
    )
}

/// What more demonstrations do to both spreads, over the states that the fewest demonstrations enter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// States that are looked at.
    pub states: usize,
    /// Numbers of demonstrations, as given.
    pub demonstrations: Vec<usize>,
    /// Mean of AVRIL's sigma over the states, for each number.
    pub avril_std: Vec<f64>,
    /// Mean of the sampled sigma.
    pub mcmc_std: Vec<f64>,
    /// AVRIL's last mean sigma over its first.
    pub avril_ratio: f64,
    /// The sampled one's.
    pub mcmc_ratio: f64,
    /// States whose sigma by AVRIL is smaller at the last number than at the first.
    pub avril_smaller: usize,
    /// The same by sampling.
    pub mcmc_smaller: usize,
}

/// Compares studies of growing numbers of demonstrations of one world; `None` for fewer than two, or where they share no
/// entered state.
#[must_use]
pub fn growth(studies: &[Study]) -> Option<Growth> {
    let [first, .., last] = studies else {
        return None;
    };
    let looked_at: Vec<usize> = (0..first.states.len())
        .filter(|&i| first.states[i].entered > 0 && i < last.states.len())
        .collect();
    if looked_at.is_empty() {
        return None;
    }
    let stds = |study: &Study, std: fn(&StateReward) -> f64| -> Vec<f64> {
        let at = |&i: &usize| study.states.get(i).map(std);
        looked_at.iter().filter_map(at).collect()
    };
    let means = |std: fn(&StateReward) -> f64| -> Vec<f64> {
        studies
            .iter()
            .map(|study| stds(study, std).iter().sum::<f64>() / looked_at.len() as f64)
            .collect()
    };
    let smaller = |std: fn(&StateReward) -> f64| {
        let (before, after) = (stds(first, std), stds(last, std));
        before.iter().zip(&after).filter(|(b, a)| a < b).count()
    };
    type Reading = fn(&StateReward) -> f64;
    let (avril, mcmc): (Reading, Reading) = (|s| s.avril_std, |s| s.mcmc_std);
    let (avril_std, mcmc_std) = (means(avril), means(mcmc));
    let ratio = |values: &[f64]| values[values.len() - 1] / values[0];
    Some(Growth {
        states: looked_at.len(),
        demonstrations: studies.iter().map(|s| s.demonstrations).collect(),
        avril_ratio: ratio(&avril_std),
        mcmc_ratio: ratio(&mcmc_std),
        avril_smaller: smaller(avril),
        mcmc_smaller: smaller(mcmc),
        avril_std,
        mcmc_std,
    })
}
