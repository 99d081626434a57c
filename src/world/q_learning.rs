//! Tabular Q-learning: C. Watkins, P. Dayan, *Q-learning*, Machine Learning 8 (1992).
//!
//! ```text
//! Q(s,a) += alpha [ r + gamma (1 - done) max_b Q(s',b) - Q(s,a) ]
//! ```

use super::gridworld::{GridError, Gridworld, within};
use crate::random::Rng;
use serde::{Deserialize, Serialize};

/// Settings of the learner. The defaults are those of the D-Shape paper's tabular experiments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QLearningConfig {
    /// Learning rate in `(0, 1]`.
    pub alpha: f64,
    /// Probability of a random action.
    pub epsilon: f64,
    /// Discount.
    pub gamma: f64,
    /// Episodes.
    pub episodes: usize,
    /// Most steps of an episode.
    pub limit: usize,
    /// Seed of exploration and of the world's slips.
    pub seed: u64,
}

impl Default for QLearningConfig {
    fn default() -> Self {
        Self {
            alpha: 0.1,
            epsilon: 0.2,
            gamma: 1.0,
            episodes: 500,
            limit: 500,
            seed: 0,
        }
    }
}

impl QLearningConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The setting that is out of range.
    pub fn check(&self) -> Result<(), GridError> {
        within(
            "alpha",
            self.alpha,
            self.alpha > 0.0 && self.alpha <= 1.0,
            "0..=1, above 0",
        )?;
        within(
            "epsilon",
            self.epsilon,
            (0.0..=1.0).contains(&self.epsilon),
            "0..=1",
        )?;
        within(
            "gamma",
            self.gamma,
            (0.0..=1.0).contains(&self.gamma),
            "0..=1",
        )
    }
}

/// What one episode of learning brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeLog {
    /// Steps taken.
    pub steps: usize,
    /// Undiscounted sum of the task's rewards, without any shaping.
    pub task_return: f64,
}

/// A table of action values. Rows are states (or whatever the learner tells apart).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QTable {
    /// Q(s,a), columns in the order of [`super::ACTIONS`].
    pub q: Vec<[f64; 4]>,
}

impl QTable {
    /// A table of zeros.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        Self {
            q: vec![[0.0; 4]; rows],
        }
    }

    /// The largest value of a row; 0 outside the table.
    #[must_use]
    pub fn best(&self, row: usize) -> f64 {
        self.q
            .get(row)
            .map_or(0.0, |q| q.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// One of the best actions of a row, drawn evenly among ties.
    pub fn greedy(&self, row: usize, rng: &mut Rng) -> usize {
        let best = self.best(row);
        let ties = self
            .q
            .get(row)
            .map_or([1.0; 4], |q| q.map(|v| f64::from(u8::from(v >= best))));
        rng.weighted(&ties).unwrap_or(0)
    }

    /// A random action with probability `epsilon`, else a greedy one.
    pub fn explore(&self, row: usize, epsilon: f64, rng: &mut Rng) -> usize {
        if rng.chance(epsilon) {
            rng.below(4)
        } else {
            self.greedy(row, rng)
        }
    }

    /// One update of the formula above. Rows and actions outside the table are ignored.
    pub fn update(&mut self, step: &Experience, alpha: f64, gamma: f64) {
        let next = if step.done {
            0.0
        } else {
            self.best(step.next_row)
        };
        if let Some(q) = self
            .q
            .get_mut(step.row)
            .and_then(|q| q.get_mut(step.action))
        {
            *q += alpha * (step.reward + gamma * next - *q);
        }
    }
}

/// A step as a table learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experience {
    /// Row of the state.
    pub row: usize,
    /// Action.
    pub action: usize,
    /// Reward, with shaping where there is any.
    pub reward: f64,
    /// Row of the next state.
    pub next_row: usize,
    /// Whether the next state is terminal. An episode cut off by its limit is not done.
    pub done: bool,
}

/// Learns by acting. `rewards[s']` is the reward of entering s'.
///
/// # Errors
/// Settings out of range; a reward table of the wrong length.
pub fn q_learning(
    world: &Gridworld,
    rewards: &[f64],
    config: &QLearningConfig,
) -> Result<(QTable, Vec<EpisodeLog>), GridError> {
    q_learning_until(world, rewards, config, |_, _| true)
}

/// Like [`q_learning`], watched: `after` sees the table and the log of each episode, and learning stops where it says
/// `false`. The numbers do not depend on who watches.
///
/// # Errors
/// As [`q_learning`].
pub fn q_learning_until(
    world: &Gridworld,
    rewards: &[f64],
    config: &QLearningConfig,
    mut after: impl FnMut(&QTable, EpisodeLog) -> bool,
) -> Result<(QTable, Vec<EpisodeLog>), GridError> {
    config.check()?;
    if rewards.len() != world.states() {
        let (found, expected) = (rewards.len(), world.states());
        return Err(GridError::States {
            what: "the reward table",
            found,
            expected,
        });
    }
    let mut rng = Rng::new(config.seed);
    let mut table = QTable::new(world.states());
    let mut log = Vec::new();
    for _ in 0..config.episodes {
        let (mut state, mut steps, mut task_return) = (world.start(), 0, 0.0);
        while steps < config.limit && !world.is_terminal(state) {
            let action = table.explore(state, config.epsilon, &mut rng);
            let step = world.sample(state, action, &mut rng);
            let reward = rewards[step.next_state];
            let (next_row, done) = (step.next_state, step.done);
            table.update(
                &Experience {
                    row: state,
                    action,
                    reward,
                    next_row,
                    done,
                },
                config.alpha,
                config.gamma,
            );
            (state, steps, task_return) = (step.next_state, steps + 1, task_return + reward);
        }
        let episode = EpisodeLog { steps, task_return };
        log.push(episode);
        if !after(&table, episode) {
            break;
        }
    }
    Ok((table, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIFF: &str = "......\n......\nSCCCCG";

    #[test]
    fn it_learns_the_exact_values_of_a_small_world() {
        let world = Gridworld::from_map("S.#\n..C\n..G").unwrap();
        let rewards = world.state_rewards(-0.1, 1.0, -1.0);
        let gamma = 0.9;
        let plan = world
            .value_iteration(|_, _, next| rewards[next], gamma)
            .unwrap();
        let config = QLearningConfig {
            alpha: 0.5,
            epsilon: 1.0,
            gamma,
            episodes: 3000,
            ..Default::default()
        };
        let (table, _) = q_learning(&world, &rewards, &config).unwrap();
        for (learned, exact) in table.q.iter().flatten().zip(plan.q.iter().flatten()) {
            assert!((learned - exact).abs() < 1e-6, "{learned} {exact}");
        }
    }

    #[test]
    fn with_slips_it_comes_close_to_them() {
        let world = Gridworld::from_map("S..\n..G")
            .unwrap()
            .with_slip(0.3)
            .unwrap();
        let rewards = world.state_rewards(-0.1, 1.0, 0.0);
        let plan = world
            .value_iteration(|_, _, next| rewards[next], 0.9)
            .unwrap();
        let config = QLearningConfig {
            alpha: 0.01,
            epsilon: 1.0,
            gamma: 0.9,
            episodes: 20_000,
            ..Default::default()
        };
        let (table, _) = q_learning(&world, &rewards, &config).unwrap();
        for (learned, exact) in table.q.iter().flatten().zip(plan.q.iter().flatten()) {
            assert!((learned - exact).abs() < 0.08, "{learned} {exact}");
        }
    }

    #[test]
    fn its_greedy_path_over_the_cliff_is_the_shortest() {
        let world = Gridworld::from_map(CLIFF).unwrap();
        let rewards = world.state_rewards(-1.0, -1.0, -100.0);
        let (table, log) = q_learning(&world, &rewards, &QLearningConfig::default()).unwrap();
        let (mut state, mut steps) = (world.start(), 0);
        let mut rng = Rng::new(1);
        while !world.is_terminal(state) && steps < 50 {
            state = world.step_to(state, table.greedy(state, &mut rng));
            steps += 1;
        }
        assert_eq!((steps, state), (7, 17));
        assert_eq!(log.len(), 500);
        let (again, _) = q_learning(&world, &rewards, &QLearningConfig::default()).unwrap();
        assert_eq!(table, again);
    }

    #[test]
    fn settings_outside_their_range_are_refused() {
        let world = Gridworld::from_map("SG").unwrap();
        let good = QLearningConfig::default();
        for config in [
            QLearningConfig {
                alpha: 0.0,
                ..good.clone()
            },
            QLearningConfig {
                epsilon: -0.1,
                ..good.clone()
            },
            QLearningConfig {
                gamma: f64::NAN,
                ..good.clone()
            },
        ] {
            assert!(q_learning(&world, &[0.0, 1.0], &config).is_err());
        }
        assert!(q_learning(&world, &[0.0], &good).is_err());
    }
}
