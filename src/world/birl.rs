//! Exact Bayesian inverse reinforcement learning on small worlds: the posterior that approximate methods are measured by.
//!
//! D. Ramachandran, E. Amir, *Bayesian Inverse Reinforcement Learning*, IJCAI 2007. Unknown: the reward r(s') of entering
//! each state that can be entered. Prior r ~ N(0, `prior_std`^2), independent. Likelihood of demonstrations
//!
//! ```text
//! p(D | r) = product over steps of exp(beta Q*(s,a; r)) / sum_b exp(beta Q*(s,b; r))
//! ```
//!
//! with Q* the optimal values under r. The chain is Metropolis' random walk along one direction at a time: first over each
//! state's reward, then, since rewards that make up for each other leave the likelihood as it is, along the columns of the
//! Cholesky factor of the draws' own covariance (the idea of H. Haario et al., *An adaptive Metropolis algorithm*, Bernoulli
//! 2001), and always over a common shift of all. Like PolicyWalk it starts each solution of the world from the last one.
//! Directions and step sizes adapt during the warm-up and stay fixed after it, so that the kept draws come from a chain with
//! the right stationary law.
//!
//! Convergence is reported, not assumed: split R-hat and effective sample size over all chains (A. Gelman et al.,
//! *Bayesian Data Analysis*, 3rd ed., section 11.4-11.5, with Geyer's initial monotone sequence).

use super::gridworld::{Cell, GridError, Gridworld, SarsaRow, within};
use crate::eval::matrix::{Cholesky, Matrix};
use crate::random::Rng;
use serde::{Deserialize, Serialize};

/// Settings of the sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BirlConfig {
    /// Inverse temperature of the demonstrator; 1 is AVRIL's value.
    pub beta: f64,
    /// Discount; below 1, so that every reward table has values.
    pub gamma: f64,
    /// Standard deviation of the prior; 1 is AVRIL's and AVA's.
    pub prior_std: f64,
    /// Independent chains, each started from the prior; 4 is the usual least for R-hat.
    pub chains: usize,
    /// Sweeps (as many proposals as unknown states, and one common shift) that are thrown away while directions and step
    /// sizes adapt.
    pub warmup: usize,
    /// Sweeps kept, one draw each. Neighbouring draws are alike: read [`Posterior::worst_r_hat`] and
    /// [`Posterior::fewest_effective_draws`] before the posterior is used as a reference, and draw more if need be.
    pub draws: usize,
    /// Seed; chain c uses stream c of it.
    pub seed: u64,
}

impl BirlConfig {
    /// Checks the ranges and the work of sampling the rewards of `states` states that can be entered, so that a caller can
    /// refuse settings before it computes anything else.
    ///
    /// # Errors
    /// The setting that is out of range; too little or too much work.
    pub fn check(&self, states: usize) -> Result<(), BirlError> {
        within(
            "beta",
            self.beta,
            self.beta.is_finite() && self.beta >= 0.0,
            "beta >= 0, finite",
        )?;
        within(
            "gamma",
            self.gamma,
            (0.0..1.0).contains(&self.gamma),
            "0..1, below 1",
        )?;
        let std = self.prior_std;
        within(
            "prior_std",
            std,
            std.is_finite() && std > 0.0,
            "prior_std > 0, finite",
        )?;
        let (chains, draws) = (self.chains, self.draws);
        let work = chains
            .checked_mul(draws)
            .and_then(|n| n.checked_mul(states));
        if chains < 2
            || draws < 4
            || work.is_none_or(|n| n > MOST_NUMBERS)
            || self.warmup > MOST_NUMBERS
        {
            return Err(BirlError::Work {
                chains,
                draws,
                warmup: self.warmup,
                states,
                most: MOST_NUMBERS,
            });
        }
        Ok(())
    }
}

impl Default for BirlConfig {
    fn default() -> Self {
        Self {
            beta: 1.0,
            gamma: 0.9,
            prior_std: 1.0,
            chains: 4,
            warmup: 1000,
            draws: 10_000,
            seed: 0,
        }
    }
}

/// A sampler that cannot run, or a world that cannot be solved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BirlError {
    /// The world or one of its settings.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// A row outside the world.
    #[error(
        "row {row}: state {state}, action {action} is not a free cell of this world with an action 0..4"
    )]
    Row {
        /// Row from 0.
        row: usize,
        /// Its state.
        state: usize,
        /// Its action.
        action: usize,
    },
    /// Too little or too much to sample.
    #[error(
        "{chains} chains of {draws} draws over {states} states after {warmup} sweeps of warm-up; give at least 2 chains and 4 draws, at most {most} numbers (chains x draws x states) in all, and at most as many sweeps of warm-up"
    )]
    Work {
        /// Chains asked for.
        chains: usize,
        /// Draws a chain.
        draws: usize,
        /// Sweeps of warm-up a chain.
        warmup: usize,
        /// States with a reward.
        states: usize,
        /// Largest product of the three.
        most: usize,
    },
}

/// Most numbers (chains x draws x states) that a posterior holds.
const MOST_NUMBERS: usize = 50_000_000;

/// Draws from the posterior of one state's reward, summarised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marginal {
    /// The state.
    pub state: usize,
    /// Posterior mean of its reward.
    pub mean: f64,
    /// Posterior standard deviation.
    pub std: f64,
    /// Split R-hat; 1 when the chains agree, trust below 1.01.
    pub r_hat: f64,
    /// Effective number of independent draws.
    pub effective_draws: f64,
    /// Monte Carlo standard error of the mean: `std / sqrt(effective_draws)`.
    pub standard_error: f64,
}

/// The posterior over state rewards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Posterior {
    /// One entry for each state that can be entered, in the order of states.
    pub marginals: Vec<Marginal>,
    /// The draws, `[chain][draw][entry of marginals]`.
    pub draws: Vec<Vec<Vec<f64>>>,
    /// Share of proposals accepted after the warm-up, over all chains.
    pub acceptance: f64,
}

impl Posterior {
    /// Largest R-hat of all states: the worst-mixed reward.
    #[must_use]
    pub fn worst_r_hat(&self) -> f64 {
        self.marginals.iter().map(|m| m.r_hat).fold(1.0, f64::max)
    }

    /// Smallest effective number of draws of all states.
    #[must_use]
    pub fn fewest_effective_draws(&self) -> f64 {
        self.marginals
            .iter()
            .map(|m| m.effective_draws)
            .fold(f64::INFINITY, f64::min)
    }
}

/// The states whose reward is unknown: all but walls.
fn unknown_states(world: &Gridworld) -> Vec<usize> {
    (0..world.states())
        .filter(|&s| world.cell(s) != Cell::Wall)
        .collect()
}

fn check_rows(world: &Gridworld, rows: &[SarsaRow]) -> Result<(), BirlError> {
    for (row, r) in rows.iter().enumerate() {
        if r.action >= 4 || world.cell(r.state) == Cell::Wall || world.is_terminal(r.state) {
            return Err(BirlError::Row {
                row,
                state: r.state,
                action: r.action,
            });
        }
    }
    Ok(())
}

/// How often each action was taken in each state; all that the likelihood needs from the rows.
fn counts(world: &Gridworld, rows: &[SarsaRow]) -> Vec<[f64; 4]> {
    let mut counts = vec![[0.0; 4]; world.states()];
    for row in rows {
        if let Some(count) = counts
            .get_mut(row.state)
            .and_then(|c| c.get_mut(row.action))
        {
            *count += 1.0;
        }
    }
    counts
}

fn log_likelihood(q: &[[f64; 4]], counts: &[[f64; 4]], beta: f64) -> f64 {
    let mut sum = 0.0;
    for (q, counts) in q.iter().zip(counts) {
        let n: f64 = counts.iter().sum();
        if n > 0.0 {
            let best = q.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = q
                .iter()
                .map(|q| (beta * (q - best)).exp())
                .sum::<f64>()
                .ln();
            sum += q
                .iter()
                .zip(counts)
                .map(|(q, c)| c * beta * (q - best))
                .sum::<f64>()
                - n * log_sum;
        }
    }
    sum
}

/// log p(rewards) + log p(rows | rewards), up to a constant of the prior. `rewards` has one entry a state (walls unused).
///
/// # Errors
/// Settings or rows outside their range, a reward table of the wrong length.
pub fn log_posterior(
    world: &Gridworld,
    rows: &[SarsaRow],
    rewards: &[f64],
    config: &BirlConfig,
) -> Result<f64, BirlError> {
    let states = unknown_states(world);
    config.check(states.len())?;
    check_rows(world, rows)?;
    if rewards.len() != world.states() {
        let (found, expected) = (rewards.len(), world.states());
        return Err(GridError::States {
            what: "the reward table",
            found,
            expected,
        }
        .into());
    }
    let plan = world.value_iteration(|_, _, next| rewards[next], config.gamma)?;
    let prior: f64 = states
        .iter()
        .map(|&s| (rewards[s] / config.prior_std).powi(2))
        .sum();
    Ok(log_likelihood(&plan.q, &counts(world, rows), config.beta) - prior / 2.0)
}

/// Draws from the posterior over the rewards of all states, given rows (only s and a of each are used).
///
/// # Errors
/// Settings or rows outside their range; too little or too much work.
pub fn sample_posterior(
    world: &Gridworld,
    rows: &[SarsaRow],
    config: &BirlConfig,
) -> Result<Posterior, BirlError> {
    let states = unknown_states(world);
    config.check(states.len())?;
    check_rows(world, rows)?;
    let counts = counts(world, rows);
    let mut draws = Vec::new();
    let mut accepted = 0usize;
    for chain in 0..config.chains {
        let mut rng = Rng::stream(config.seed, chain as u64);
        let (kept, count) = run_chain(world, &counts, &states, config, &mut rng)?;
        draws.push(kept);
        accepted += count;
    }
    let marginals = states
        .iter()
        .enumerate()
        .map(|(i, &state)| {
            let chains: Vec<Vec<f64>> = draws
                .iter()
                .map(|c| c.iter().map(|d| d[i]).collect())
                .collect();
            summarise(state, &chains)
        })
        .collect();
    let proposals = (config.chains * config.draws * (states.len() + 1)) as f64;
    Ok(Posterior {
        marginals,
        draws,
        acceptance: accepted as f64 / proposals,
    })
}

/// A direction in which rewards move together, and how far.
struct Move {
    /// One entry for each unknown state.
    along: Vec<f64>,
    /// Standard deviation of the step.
    size: f64,
    /// Steps tried while it adapts.
    tried: usize,
}

impl Move {
    fn new(along: Vec<f64>, size: f64) -> Self {
        Self {
            along,
            size,
            tried: 0,
        }
    }

    /// Robbins-Monro towards 0.44, the best acceptance in one dimension (Roberts, Gelman, Gilks 1997).
    fn adapt(&mut self, accepted: bool) {
        self.tried += 1;
        let rate = 1.0 / (self.tried as f64).powf(0.6);
        self.size *= (rate * (f64::from(u8::from(accepted)) - 0.44)).exp();
    }
}

/// One move a state, and the common shift.
fn single_moves(states: usize, size: f64) -> Vec<Move> {
    let unit = |i: usize| (0..states).map(|j| f64::from(u8::from(i == j))).collect();
    let mut moves: Vec<Move> = (0..states).map(|i| Move::new(unit(i), size)).collect();
    // The likelihood hardly sees a common shift, and one state at a time would have to carry it there in small steps.
    moves.push(Move::new(vec![1.0; states], size));
    moves
}

/// Moves along the columns of the Cholesky factor of the draws' covariance; `None` while there are too few draws to tell.
fn joint_moves(draws: &[Vec<f64>], prior_std: f64) -> Option<Vec<Move>> {
    let n = draws.first()?.len();
    if draws.len() < 2 * n {
        return None;
    }
    let count = draws.len() as f64;
    let centre: Vec<f64> = (0..n)
        .map(|i| draws.iter().map(|d| d[i]).sum::<f64>() / count)
        .collect();
    let mut covariance = Vec::with_capacity(n * n);
    for i in 0..n {
        for j in 0..n {
            let product = |d: &Vec<f64>| (d[i] - centre[i]) * (d[j] - centre[j]);
            let sum: f64 = draws.iter().map(product).sum();
            // A little of the prior keeps every direction open, also where no proposal was taken yet.
            let open = if i == j {
                1e-4 * prior_std * prior_std
            } else {
                0.0
            };
            covariance.push(sum / (count - 1.0) + open);
        }
    }
    let covariance = Matrix::new(n, n, covariance).ok()?;
    let factor = Cholesky::new("the covariance of the draws", &covariance).ok()?;
    let column = |j: usize| (0..n).map(|i| factor.factor().row(i)[j]).collect();
    // 2.4: the best random walk over a normal law of one dimension, in its standard deviations.
    let mut moves: Vec<Move> = (0..n).map(|j| Move::new(column(j), 2.4)).collect();
    moves.push(Move::new(vec![1.0; n], 0.1 * prior_std));
    Some(moves)
}

/// One chain: its kept draws and the number of proposals accepted among them.
fn run_chain(
    world: &Gridworld,
    counts: &[[f64; 4]],
    states: &[usize],
    config: &BirlConfig,
    rng: &mut Rng,
) -> Result<(Vec<Vec<f64>>, usize), BirlError> {
    let mut rewards = vec![0.0; world.states()];
    for &s in states {
        rewards[s] = config.prior_std * rng.normal();
    }
    let mut plan = world.value_iteration(|_, _, next| rewards[next], config.gamma)?;
    let mut fit = log_likelihood(&plan.q, counts, config.beta);
    let mut moves = single_moves(states.len(), config.prior_std);
    let (mut recent, mut kept, mut accepted) = (Vec::new(), Vec::new(), 0usize);
    for sweep in 0..config.warmup + config.draws {
        // Directions are found anew three times, each from the draws since the last time; the last quarter of the warm-up
        // leaves the steps time to fit them.
        if [1, 2, 3]
            .map(|part| part * config.warmup / 4)
            .contains(&sweep)
        {
            if let Some(found) = joint_moves(&recent, config.prior_std) {
                moves = found;
            }
            recent.clear();
        }
        for step in &mut moves {
            let old = rewards.clone();
            let by = step.size * rng.normal();
            let mut squares = 0.0;
            for (&s, along) in states.iter().zip(&step.along) {
                rewards[s] += by * along;
                squares += rewards[s] * rewards[s] - old[s] * old[s];
            }
            let proposal = world.value_iteration_from(
                |_, _, next| rewards[next],
                config.gamma,
                &plan.values,
            )?;
            let proposal_fit = log_likelihood(&proposal.q, counts, config.beta);
            let prior = -squares / (2.0 * config.prior_std * config.prior_std);
            let accept = rng.uniform().ln() < proposal_fit - fit + prior;
            if accept {
                (plan, fit) = (proposal, proposal_fit);
            } else {
                rewards = old;
            }
            if sweep < config.warmup {
                step.adapt(accept);
            } else {
                accepted += usize::from(accept);
            }
        }
        let draw = || states.iter().map(|&s| rewards[s]).collect();
        if sweep < config.warmup {
            recent.push(draw());
        } else {
            kept.push(draw());
        }
    }
    Ok((kept, accepted))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn summarise(state: usize, chains: &[Vec<f64>]) -> Marginal {
    let all: Vec<f64> = chains.iter().flatten().copied().collect();
    let centre = mean(&all);
    let std =
        (all.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (all.len() as f64 - 1.0)).sqrt();
    let (r_hat, effective_draws) = convergence(chains);
    Marginal {
        state,
        mean: centre,
        std,
        r_hat,
        effective_draws,
        standard_error: std / effective_draws.sqrt(),
    }
}

/// Split R-hat and effective sample size of chains of equal length (at least 4 draws each).
///
/// Each chain is cut into halves; R-hat compares the spread between all halves with the spread within them. The
/// effective size uses the autocorrelations of the halves, summed in pairs while positive and decreasing. Constant
/// chains give (1, number of draws); chains of fewer than 4 draws, or of unequal length, give (infinity, 0).
#[must_use]
pub fn convergence(chains: &[Vec<f64>]) -> (f64, f64) {
    let half = chains.first().map_or(0, Vec::len) / 2;
    if half < 2 || chains.iter().any(|c| c.len() / 2 != half) {
        return (f64::INFINITY, 0.0);
    }
    let halves: Vec<&[f64]> = chains
        .iter()
        .flat_map(|c| [&c[..half], &c[c.len() - half..]])
        .collect();
    let (m, n) = (halves.len() as f64, half as f64);
    let means: Vec<f64> = halves.iter().map(|h| mean(h)).collect();
    let centre = mean(&means);
    let between = n / (m - 1.0) * means.iter().map(|x| (x - centre).powi(2)).sum::<f64>();
    // Autocovariance at a lag, averaged over the halves; at lag 0 it is the variance with divisor n.
    let autocovariance = |lag: usize| {
        let of = |(h, mu): (&&[f64], &f64)| {
            h.iter()
                .zip(h.iter().skip(lag))
                .map(|(a, b)| (a - mu) * (b - mu))
                .sum::<f64>()
                / n
        };
        halves.iter().zip(&means).map(of).sum::<f64>() / m
    };
    let within = autocovariance(0) * n / (n - 1.0);
    let pooled = (n - 1.0) / n * within + between / n;
    if pooled <= 0.0 {
        return (1.0, m * n);
    }
    if within <= 0.0 {
        return (f64::INFINITY, 0.0);
    }
    let rho = |lag: usize| 1.0 - (within - autocovariance(lag) * n / (n - 1.0)) / pooled;
    let (mut sum, mut last, mut lag) = (0.0, f64::INFINITY, 0);
    while lag + 1 < half {
        let pair = rho(lag) + rho(lag + 1);
        if pair <= 0.0 {
            break;
        }
        last = pair.min(last);
        sum += last;
        lag += 2;
    }
    let time = (2.0 * sum - 1.0).max(1.0 / (m * n).log10());
    ((pooled / within).sqrt(), m * n / time)
}

#[cfg(test)]
#[path = "birl_tests.rs"]
mod tests;
