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

use super::Rng;
use super::gridworld::{GridError, Gridworld};
use super::q_learning::{EpisodeLog, Experience, QLearningConfig, QTable};
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
}

impl Default for DShapeConfig {
    fn default() -> Self {
        Self {
            learner: QLearningConfig::default(),
            updates: 20,
            buffer: 5000,
            relabels: 3,
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
    let goal_at = |t| aligned(demonstration, t).unwrap_or(0);
    let phi = |state: usize, goal: usize| {
        if world.is_terminal(state) {
            0.0
        } else {
            potential(world.position(state), world.position(goal))
        }
    };
    let experience =
        |from: usize, action: usize, to: usize, goal: usize, next_goal: usize| Experience {
            row: from * n + goal,
            action,
            reward: rewards[to] + learner.gamma * phi(to, next_goal) - phi(from, goal),
            next_row: to * n + next_goal,
            done: world.is_terminal(to),
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
        log.push(EpisodeLog {
            steps: actions.len(),
            task_return,
        });
    }
    Ok((table, log))
}

#[cfg(test)]
#[path = "d_shape_tests.rs"]
mod tests;
