//! D-Shape: a demonstration's states become goals, and closeness to them shapes the reward.
//!
//! C. Wang et al., *D-Shape: Demonstration-Shaped Reinforcement Learning via Goal Conditioning*, arXiv 2210.14428,
//! section 4; public code github carolinewang01/dshape@e148b2d, src/poc. With state s_t, the demonstration's state g_t at
//! the same time and a potential that is minus their distance,
//!
//! ```text
//! phi(s,g) = -(|x_s - x_g| + |y_s - y_g|)
//! F_t      = gamma phi(s_{t+1}, g_{t+1}) - phi(s_t, g_t)
//! reward_t = task_t + F_t
//! ```
//!
//! The discounted sum of F telescopes to gamma^n phi_n - phi_0, and to -phi_0 when the potential of the end is taken as
//! 0: then shaping cannot change which policy is best (A. Ng, D. Harada, S. Russell, *Policy invariance under reward
//! transformations*, ICML 1999), and only then.
//!
//! Relabelling replays a step as if its goal had been a consecutive pair of states reached in the same episode. As the
//! text says, the relabelled reward is the *task's* reward plus the new shaping; the public code adds it on top of the
//! old shaping ([`Relabelled::code_reward`]), which is kept for comparison only.

use super::gridworld::{Cell, GridError, Gridworld};
use super::q_learning::{EpisodeLog, Experience, QLearningConfig, QTable};
use crate::random::Rng;
use serde::{Deserialize, Serialize};

/// A point of the grid: column and row.
pub type Position = [f64; 2];

/// Sequences that do not fit together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DShapeError {
    /// An episode of n steps needs n + 1 states, n + 1 demonstration states and n rewards.
    #[error(
        "{states} states, {demonstration} demonstration states, {rewards} rewards; n rewards need n + 1 of both states"
    )]
    Lengths {
        /// States of the episode.
        states: usize,
        /// States of the demonstration.
        demonstration: usize,
        /// Rewards of the task.
        rewards: usize,
    },
    /// A step that the episode does not have.
    #[error("step {step} of an episode with {steps} steps")]
    Step {
        /// The step asked for.
        step: usize,
        /// Steps of the episode.
        steps: usize,
    },
    /// A demonstration without states, or with a state outside the world.
    #[error(
        "a demonstration of {length} states with a state outside a world of {states}; give at least one state of the world"
    )]
    Demonstration {
        /// States of the demonstration.
        length: usize,
        /// States of the world.
        states: usize,
    },
    /// The world or a setting.
    #[error(transparent)]
    Grid(#[from] GridError),
}

/// phi(s,g): minus the Manhattan distance.
#[must_use]
pub fn potential(state: Position, goal: Position) -> f64 {
    -((state[0] - goal[0]).abs() + (state[1] - goal[1]).abs())
}

/// The demonstration's state at time t; its last state is held when it is shorter than the episode. `None` if empty.
pub fn aligned<T: Copy>(demonstration: &[T], t: usize) -> Option<T> {
    demonstration.get(t).or(demonstration.last()).copied()
}

/// F_t = gamma phi_{t+1} - phi_t for n + 1 potentials: n numbers. With `terminal_zero` the last potential counts as 0,
/// as it must when the episode ended there.
#[must_use]
pub fn shaping(potentials: &[f64], gamma: f64, terminal_zero: bool) -> Vec<f64> {
    let last = potentials.len().saturating_sub(1);
    let next = |t: usize, phi: f64| if terminal_zero && t == last { 0.0 } else { phi };
    potentials
        .windows(2)
        .enumerate()
        .map(|(t, w)| gamma * next(t + 1, w[1]) - w[0])
        .collect()
}

/// sum_t gamma^t x_t.
#[must_use]
pub fn discounted_sum(values: &[f64], gamma: f64) -> f64 {
    values.iter().rev().fold(0.0, |sum, x| x + gamma * sum)
}

/// One episode beside its demonstration, with all that shaping makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShapedEpisode {
    /// phi(s_t, g_t), n + 1 of them.
    pub potential: Vec<f64>,
    /// F_t, n of them.
    pub shaping: Vec<f64>,
    /// Task reward plus F_t.
    pub reward: Vec<f64>,
    states: Vec<Position>,
    task: Vec<f64>,
    gamma: f64,
    terminal_zero: bool,
}

/// A step replayed with another goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// The new goal: a state of the same episode.
    pub goal: Position,
    /// The state that followed it.
    pub next_goal: Position,
    /// The new shaping.
    pub shaping: f64,
    /// Task reward plus the new shaping.
    pub reward: f64,
    /// Task reward plus the old and the new shaping, as the public code has it.
    pub code_reward: f64,
}

impl ShapedEpisode {
    /// Shapes an episode of n steps: n + 1 `states`, n + 1 `demonstration` states aligned in time, n `task` rewards.
    ///
    /// # Errors
    /// Lengths that do not fit.
    pub fn new(
        states: &[Position],
        demonstration: &[Position],
        task: &[f64],
        gamma: f64,
        terminal_zero: bool,
    ) -> Result<Self, DShapeError> {
        if states.len() != task.len() + 1 || demonstration.len() != states.len() {
            return Err(DShapeError::Lengths {
                states: states.len(),
                demonstration: demonstration.len(),
                rewards: task.len(),
            });
        }
        let potential: Vec<f64> = states
            .iter()
            .zip(demonstration)
            .map(|(s, g)| potential(*s, *g))
            .collect();
        let shaping = shaping(&potential, gamma, terminal_zero);
        Ok(Self {
            reward: task.iter().zip(&shaping).map(|(r, f)| r + f).collect(),
            potential,
            shaping,
            states: states.to_vec(),
            task: task.to_vec(),
            gamma,
            terminal_zero,
        })
    }

    /// Step `step` with the states at `goal_step` and after it as goals.
    ///
    /// # Errors
    /// A step outside the episode.
    pub fn relabel(&self, step: usize, goal_step: usize) -> Result<Relabelled, DShapeError> {
        let steps = self.task.len();
        let outside = |step| DShapeError::Step { step, steps };
        let at = |t: usize| self.states.get(t).copied().ok_or(outside(t));
        let (goal, next_goal) = (at(goal_step)?, at(goal_step + 1)?);
        let (state, next) = (at(step)?, at(step + 1)?);
        let last = self.terminal_zero && step + 1 == steps;
        let next_potential = if last {
            0.0
        } else {
            potential(next, next_goal)
        };
        let shaping = self.gamma * next_potential - potential(state, goal);
        let task = self.task.get(step).copied().ok_or(outside(step))?;
        let old = self.shaping.get(step).copied().ok_or(outside(step))?;
        Ok(Relabelled {
            goal,
            next_goal,
            shaping,
            reward: task + shaping,
            code_reward: task + old + shaping,
        })
    }
}

/// Settings of D-Shape's tabular learner beside those of Q-learning. The defaults are the paper's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DShapeConfig {
    /// Q-learning's own settings.
    pub learner: QLearningConfig,
    /// Updates from the replay buffer after every step.
    pub updates: usize,
    /// Steps that the buffer keeps; the oldest go first.
    pub buffer: usize,
    /// Relabelled copies of every step, made when its episode ends.
    pub relabels: usize,
    /// Whether rewards are shaped. Without, all else stays: goals, replay and relabelled copies with the task's reward.
    pub shaped: bool,
}

impl Default for DShapeConfig {
    fn default() -> Self {
        Self {
            learner: QLearningConfig::default(),
            updates: 20,
            buffer: 5000,
            relabels: 3,
            shaped: true,
        }
    }
}

/// Most states of a world that [`d_shape_q_learning`] takes: its table has a row for every pair of states.
pub const LARGEST_WORLD: usize = 1024;

/// Q-learning on pairs (state, demonstration state), row `state * states + goal`, with shaped rewards, a replay buffer
/// and relabelling. `demonstration` holds the states of one demonstration, in order; `rewards[s']` is the task's.
///
/// The potential of a terminal state is 0 here, as the text asks (the released runs had that switched off).
///
/// # Errors
/// Settings, a reward table or a demonstration that do not fit the world.
pub fn d_shape_q_learning(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
    config: &DShapeConfig,
) -> Result<(QTable, Vec<EpisodeLog>), DShapeError> {
    d_shape_q_learning_until(world, rewards, demonstration, config, |_, _| true)
}

/// Like [`d_shape_q_learning`], watched: `after` sees the table and the log of each episode, and learning stops where it
/// says `false`.
///
/// # Errors
/// As [`d_shape_q_learning`].
pub fn d_shape_q_learning_until(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
    config: &DShapeConfig,
    mut after: impl FnMut(&QTable, EpisodeLog) -> bool,
) -> Result<(QTable, Vec<EpisodeLog>), DShapeError> {
    let (n, learner) = (world.states(), &config.learner);
    learner.check()?;
    super::gridworld::within(
        "states",
        n as f64,
        n <= LARGEST_WORLD,
        "1..=1024 (the table has a row a pair)",
    )?;
    super::gridworld::within(
        "buffer",
        config.buffer as f64,
        (1..=10_000_000).contains(&config.buffer),
        "1..=10000000",
    )?;
    check_tables(world, rewards, demonstration)?;
    let goal_at = |t| aligned(demonstration, t).unwrap_or(0);
    let experience = |from: usize, action: usize, to: usize, goal: usize, next_goal: usize| {
        let shaping = if config.shaped {
            learner.gamma * state_potential(world, to, next_goal, true)
                - state_potential(world, from, goal, true)
        } else {
            0.0
        };
        Experience {
            row: from * n + goal,
            action,
            reward: rewards[to] + shaping,
            next_row: to * n + next_goal,
            done: world.is_terminal(to),
        }
    };
    let mut rng = Rng::new(learner.seed);
    let mut table = QTable::new(n * n);
    let (mut buffer, mut oldest) = (Vec::<Experience>::new(), 0);
    let mut keep = |buffer: &mut Vec<Experience>, step: Experience| {
        if buffer.len() < config.buffer {
            buffer.push(step);
        } else {
            buffer[oldest % config.buffer] = step;
            oldest += 1;
        }
    };
    let mut log = Vec::new();
    for _ in 0..learner.episodes {
        let (mut states, mut actions, mut task_return) = (vec![world.start()], Vec::new(), 0.0);
        let mut state = world.start();
        while actions.len() < learner.limit && !world.is_terminal(state) {
            let (goal, next_goal) = (goal_at(actions.len()), goal_at(actions.len() + 1));
            let action = table.explore(state * n + goal, learner.epsilon, &mut rng);
            let to = world.sample(state, action, &mut rng).next_state;
            keep(&mut buffer, experience(state, action, to, goal, next_goal));
            for _ in 0..config.updates {
                if let Some(step) = buffer.get(rng.below(buffer.len())) {
                    table.update(step, learner.alpha, learner.gamma);
                }
            }
            task_return += rewards[to];
            state = to;
            states.push(to);
            actions.push(action);
        }
        for (step, &action) in actions.iter().enumerate() {
            for _ in 0..config.relabels {
                let j = rng.below(actions.len());
                keep(
                    &mut buffer,
                    experience(
                        states[step],
                        action,
                        states[step + 1],
                        states[j],
                        states[j + 1],
                    ),
                );
            }
        }
        let episode = EpisodeLog {
            steps: actions.len(),
            task_return,
        };
        log.push(episode);
        if !after(&table, episode) {
            break;
        }
    }
    Ok((table, log))
}

/// A reward table and a demonstration that fit the world.
fn check_tables(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
) -> Result<(), DShapeError> {
    let n = world.states();
    if rewards.len() != n {
        return Err(GridError::States {
            what: "the reward table",
            found: rewards.len(),
            expected: n,
        }
        .into());
    }
    if demonstration.is_empty() || demonstration.iter().any(|&s| s >= n) {
        return Err(DShapeError::Demonstration {
            length: demonstration.len(),
            states: n,
        });
    }
    Ok(())
}

/// phi of a state and a demonstration's state; with `end_zero` it is 0 where an episode ends.
fn state_potential(world: &Gridworld, state: usize, goal: usize, end_zero: bool) -> f64 {
    if end_zero && world.is_terminal(state) {
        0.0
    } else {
        potential(world.position(state), world.position(goal))
    }
}

/// The exact optimum with shaping held against the one without: see [`optimum_kept`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimumKept {
    /// Pairs of a free state and a time of the demonstration.
    pub pairs: usize,
    /// Largest |Q_shaped(t,s,a) - (Q(s,a) - phi(s,g_t))| over them: 0 but for rounding.
    pub largest_difference: f64,
    /// Pairs whose set of best actions is another one with shaping: 0.
    pub changed: usize,
    /// The same when the potential of an end is not taken as 0, which breaks the identity.
    pub changed_without_end: usize,
}

/// Checks on this world that shaping keeps the optimal policy, with exact values: Q_shaped(t,s,a) = Q(s,a) - phi(s,g_t),
/// so that both have the same best actions in every state at every time. From the demonstration's last state on the goal
/// stands still and the world is solved by value iteration; the times before follow by backward induction.
///
/// # Errors
/// A reward table or a demonstration that does not fit the world; values that never settle.
pub fn optimum_kept(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
    gamma: f64,
) -> Result<OptimumKept, DShapeError> {
    check_tables(world, rewards, demonstration)?;
    let plain = world.value_iteration(|_, _, next| rewards[next], gamma)?;
    let free: Vec<usize> = (0..world.states())
        .filter(|&s| !world.is_terminal(s) && world.cell(s) != Cell::Wall)
        .collect();
    // Values are accurate to 1e-10 / (1 - gamma): closer to each other than ten times that, actions are equally good.
    let tie = match gamma < 1.0 {
        true => (1e-9 / (1.0 - gamma)).max(1e-6),
        false => 1e-6,
    };
    let best = |row: [f64; 4]| {
        let top = row.into_iter().fold(f64::NEG_INFINITY, f64::max);
        row.map(|q| q >= top - tie)
    };
    let (mut largest_difference, mut changed) = (0.0f64, [0, 0]);
    for (which, end_zero) in [true, false].into_iter().enumerate() {
        let shaped = shaped_optimum(world, rewards, demonstration, gamma, end_zero)?;
        for (q, &goal) in shaped.iter().zip(demonstration) {
            for &s in &free {
                changed[which] += usize::from(best(q[s]) != best(plain.q[s]));
                if end_zero {
                    let phi = state_potential(world, s, goal, end_zero);
                    for (with, without) in q[s].iter().zip(&plain.q[s]) {
                        largest_difference = largest_difference.max((with - without + phi).abs());
                    }
                }
            }
        }
    }
    Ok(OptimumKept {
        pairs: free.len() * demonstration.len(),
        largest_difference,
        changed: changed[0],
        changed_without_end: changed[1],
    })
}

/// Q(t,s,a) under shaped rewards, for each time of the demonstration.
fn shaped_optimum(
    world: &Gridworld,
    rewards: &[f64],
    demonstration: &[usize],
    gamma: f64,
    end_zero: bool,
) -> Result<Vec<Vec<[f64; 4]>>, GridError> {
    let phi = |s: usize, goal: usize| state_potential(world, s, goal, end_zero);
    let Some((&last, earlier)) = demonstration.split_last() else {
        return Ok(Vec::new());
    };
    let tail = world.value_iteration(
        |s, _, next| rewards[next] + gamma * phi(next, last) - phi(s, last),
        gamma,
    )?;
    let (mut values, mut next_goal) = (tail.values, last);
    let mut all = vec![tail.q];
    for &goal in earlier.iter().rev() {
        let worth = |s: usize, (to, p): (usize, f64)| {
            p * (rewards[to] + gamma * phi(to, next_goal) - phi(s, goal) + gamma * values[to])
        };
        let q: Vec<[f64; 4]> = (0..world.states())
            .map(|s| {
                std::array::from_fn(|a| {
                    let to = world.transitions(s, a);
                    to.into_iter().map(|outcome| worth(s, outcome)).sum()
                })
            })
            .collect();
        values = (0..world.states())
            .map(|s| match world.is_terminal(s) {
                true => 0.0,
                false => q[s].iter().copied().fold(f64::NEG_INFINITY, f64::max),
            })
            .collect();
        all.push(q);
        next_goal = goal;
    }
    all.reverse();
    Ok(all)
}

#[cfg(test)]
#[path = "d_shape_tests.rs"]
mod tests;
