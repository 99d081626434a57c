//! How soon a tabular learner has a good policy: Q-learning, and D-Shape with and without its shaping.
//!
//! After every episode the learner's greedy policy is evaluated exactly, from the start (ties share the probability). It
//! is good when its discounted return is worth at least a share of what separates acting at random from the best:
//!
//! ```text
//! V_greedy >= V_random + share (V* - V_random)
//! ```
//!
//! Counted are the steps taken in the world until then, exploration included; replayed updates are no steps. D-Shape replays
//! and relabels, which Q-learning does not, so the same learner without shaping runs beside them: what shaping itself brings
//! is the difference between these two.

use super::d_shape::{
    DShapeConfig, DShapeError, OptimumKept, aligned, d_shape_q_learning_until, optimum_kept,
};
use super::gridworld::{GridError, Gridworld, within};
use super::q_learning::{QLearningConfig, QTable, q_learning_until};
use crate::eval::Metric;
use serde::{Deserialize, Serialize};

/// Settings of the race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceConfig {
    /// D-Shape's and Q-learning's; the seed is the first of `seeds`.
    pub learner: DShapeConfig,
    /// Seeds: learner k of each kind uses `learner.learner.seed + k`.
    pub seeds: usize,
    /// The share above, in `(0, 1]`.
    pub good: f64,
}

impl RaceConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The setting that is out of range.
    pub fn check(&self) -> Result<(), GridError> {
        let learner = &self.learner.learner;
        learner.check()?;
        for (name, value) in [
            ("episodes", learner.episodes),
            ("limit", learner.limit),
            ("seeds", self.seeds),
        ] {
            let ok = (1..=100_000).contains(&value);
            within(name, value as f64, ok, "1..=100000")?;
        }
        let ok = self.good > 0.0 && self.good <= 1.0;
        within("good", self.good, ok, "0..=1, above 0")
    }
}

/// One learner with one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Racer {
    /// Seed.
    pub seed: u64,
    /// Steps in the world until the greedy policy was good; `None` when it never was.
    pub steps: Option<usize>,
    /// Episodes until then.
    pub episodes: Option<usize>,
    /// Whether the policy after the last episode is good.
    pub good_at_the_end: bool,
    /// Discounted return of the greedy policy after the last episode.
    pub value_at_the_end: f64,
}

/// A kind of learner over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heat {
    /// `q_learning`, `d_shape_without_shaping` or `d_shape`.
    pub learner: &'static str,
    /// Each seed.
    pub racers: Vec<Racer>,
    /// Median of the steps over seeds, one that never was good counting as later than all others. Undefined where half of
    /// them never were, and where every policy is good because acting at random is as good as the best.
    pub median_steps: Metric,
}

/// The race and the values that `good` is measured by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Race {
    /// V* of the start.
    pub best_value: f64,
    /// Value of the start when every action is random.
    pub random_value: f64,
    /// What a good policy is worth at least.
    pub good_value: f64,
    /// Steps of the demonstration.
    pub demonstration_steps: usize,
    /// Whether shaping keeps the optimal policy here, by exact values.
    pub kept: OptimumKept,
    /// Q-learning, D-Shape without its shaping, D-Shape.
    pub heats: Vec<Heat>,
}

/// Exact expected discounted return from the start over at most `limit` steps of a policy of time and state.
#[must_use]
pub fn start_value(
    world: &Gridworld,
    rewards: &[f64],
    gamma: f64,
    limit: usize,
    policy: impl Fn(usize, usize) -> [f64; 4],
) -> f64 {
    let reward = |s: usize| rewards.get(s).copied().unwrap_or(0.0);
    let mut mass = vec![0.0; world.states()];
    mass[world.start()] = 1.0;
    let (mut value, mut discount) = (0.0, 1.0);
    for t in 0..limit {
        let mut next = vec![0.0; world.states()];
        for (s, &here) in mass.iter().enumerate().filter(|(_, m)| **m > 0.0) {
            for (a, chosen) in policy(t, s).into_iter().enumerate() {
                if chosen > 0.0 {
                    for (to, p) in world.transitions(s, a) {
                        let flow = here * chosen * p;
                        value += discount * flow * reward(to);
                        if !world.is_terminal(to) {
                            next[to] += flow;
                        }
                    }
                }
            }
        }
        mass = next;
        discount *= gamma;
        // What can still come is far below any difference that is looked at.
        if discount * mass.iter().sum::<f64>() < 1e-10 {
            break;
        }
    }
    value
}

/// Equal probability for every best action of a row.
fn greedy(table: &QTable, row: usize) -> [f64; 4] {
    let best = table.best(row);
    let ties = table
        .q
        .get(row)
        .map_or([1.0; 4], |q| q.map(|v| f64::from(u8::from(v >= best))));
    let count: f64 = ties.iter().sum();
    ties.map(|t| t / count)
}

/// Runs all three kinds of learner with every seed. `demonstration` holds the states of one demonstration, in order.
///
/// # Errors
/// Settings, a reward table or a demonstration that do not fit the world.
pub fn race(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
    config: &RaceConfig,
) -> Result<Race, DShapeError> {
    config.check()?;
    let settings = &config.learner.learner;
    let gamma = settings.gamma;
    let kept = optimum_kept(world, rewards, demonstration, gamma)?;
    let plan = world.value_iteration(|_, _, next| rewards[next], gamma)?;
    let best_value = plan.values[world.start()];
    let random_value = start_value(world, rewards, gamma, settings.limit, |_, _| [0.25; 4]);
    let good_value = random_value + config.good * (best_value - random_value);
    // With nothing between random and best, every policy is good at once and the steps to it say nothing.
    let nothing_to_learn = best_value - random_value <= 1e-9 * (1.0 + best_value.abs());
    let n = world.states();
    let kinds: [(&'static str, Option<bool>); 3] = [
        ("q_learning", None),
        ("d_shape_without_shaping", Some(false)),
        ("d_shape", Some(true)),
    ];
    let mut heats = Vec::new();
    for (learner, kind) in kinds {
        let mut racers = Vec::new();
        for k in 0..config.seeds {
            let mut own = config.learner.clone();
            own.learner.seed = settings.seed.wrapping_add(k as u64);
            let row = |t: usize, s: usize| match kind {
                Some(_) => s * n + aligned(demonstration, t).unwrap_or(0),
                None => s,
            };
            let mut watch = Watch {
                seed: own.learner.seed,
                taken: 0,
                episodes: 0,
                first: None,
                value: random_value,
            };
            let mut after = |table: &QTable, steps: usize| {
                let value = start_value(world, rewards, gamma, settings.limit, |t, s| {
                    greedy(table, row(t, s))
                });
                watch.see(steps, value, good_value);
                true
            };
            match kind {
                None => {
                    let plain: &QLearningConfig = &own.learner;
                    q_learning_until(world, rewards, plain, |table, log| after(table, log.steps))?;
                }
                Some(shaped) => {
                    own.shaped = shaped;
                    d_shape_q_learning_until(world, rewards, demonstration, &own, |table, log| {
                        after(table, log.steps)
                    })?;
                }
            }
            racers.push(watch.racer(good_value));
        }
        heats.push(Heat {
            learner,
            median_steps: match nothing_to_learn {
                true => Metric::undefined("acting at random is as good as the best policy here"),
                false => median_steps(&racers, settings.episodes),
            },
            racers,
        });
    }
    Ok(Race {
        best_value,
        random_value,
        good_value,
        demonstration_steps: demonstration.len().saturating_sub(1),
        kept,
        heats,
    })
}

/// What was seen of one learner so far.
struct Watch {
    seed: u64,
    taken: usize,
    episodes: usize,
    first: Option<(usize, usize)>,
    value: f64,
}

/// Rounding that does not count.
fn is_good(value: f64, good_value: f64) -> bool {
    value >= good_value - 1e-9
}

impl Watch {
    fn see(&mut self, steps: usize, value: f64, good_value: f64) {
        self.taken += steps;
        self.episodes += 1;
        self.value = value;
        if is_good(value, good_value) {
            self.first.get_or_insert((self.taken, self.episodes));
        }
    }

    fn racer(self, good_value: f64) -> Racer {
        Racer {
            seed: self.seed,
            steps: self.first.map(|f| f.0),
            episodes: self.first.map(|f| f.1),
            good_at_the_end: is_good(self.value, good_value),
            value_at_the_end: self.value,
        }
    }
}

fn median_steps(racers: &[Racer], episodes: usize) -> Metric {
    let mut steps: Vec<f64> = racers
        .iter()
        .map(|r| r.steps.map_or(f64::INFINITY, |s| s as f64))
        .collect();
    steps.sort_by(f64::total_cmp);
    let (low, high) = ((steps.len() - 1) / 2, steps.len() / 2);
    let median = (steps[low] + steps[high]) / 2.0;
    if median.is_finite() {
        Metric::of(median)
    } else {
        Metric::undefined(format!(
            "half of the seeds or more had no good policy within {episodes} episodes"
        ))
    }
}

#[cfg(test)]
#[path = "learning_tests.rs"]
mod tests;
