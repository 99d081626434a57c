//! Gridworlds with walls and cliffs, their exact solutions, and experts that act in them.
//!
//! A reward belongs to a step: it is earned on **entering** a state, as a token's reward is earned by writing it.
//!
//! ```text
//! Q(s,a) = sum_s' P(s'|s,a) [ r(s,a,s') + gamma V(s') ],   V(terminal) = 0
//! ```
//!
//! V is max_a Q in [`Gridworld::value_iteration`] and (1/beta) log sum_a exp(beta Q) in
//! [`Gridworld::soft_value_iteration`] (the maximum-causal-entropy form, B. Ziebart, 2010, up to a constant).

use crate::random::Rng;
use serde::{Deserialize, Serialize};

/// A move on the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// One row up.
    Up,
    /// One column right.
    Right,
    /// One row down.
    Down,
    /// One column left.
    Left,
}

/// All actions; an action's index here is its column in every table.
pub const ACTIONS: [Action; 4] = [Action::Up, Action::Right, Action::Down, Action::Left];

/// What stands on a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Free to walk on.
    Floor,
    /// Cannot be entered; a move into it stays where it was.
    Wall,
    /// Ends the episode badly.
    Cliff,
    /// Ends the episode well.
    Goal,
}

/// A map, a table or a setting that does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GridError {
    /// A character that is no cell.
    #[error(
        "line {}, column {}: {found:?} is no cell; use . floor, # wall, C cliff, G goal, S start", .row + 1, .column + 1
    )]
    Cell {
        /// Row from 0.
        row: usize,
        /// Column from 0.
        column: usize,
        /// The character.
        found: char,
    },
    /// Rows of different lengths.
    #[error(
        "line {} of the map has {found} cells, the first line has {expected}; give all lines the same length", .row + 1
    )]
    Ragged {
        /// Row from 0.
        row: usize,
        /// Its cells.
        found: usize,
        /// Cells of the first row.
        expected: usize,
    },
    /// No cells, or more than [`Gridworld::LARGEST`].
    #[error("a map of {0} cells; between 1 and {max} are possible", max = Gridworld::LARGEST)]
    Size(usize),
    /// Not exactly one start.
    #[error("the map has {0} starts S; it needs exactly one")]
    Starts(usize),
    /// No goal: nothing that an expert could be after.
    #[error("the map has no goal G; it needs at least one")]
    NoGoal,
    /// No way from the start to a goal.
    #[error(
        "no goal can be reached from the start: walls # and cliffs C stand in every way; open one of them"
    )]
    Unreachable,
    /// A table with the wrong number of rows.
    #[error("{what} has {found} entries, the world has {expected} states")]
    States {
        /// Which table.
        what: &'static str,
        /// Its length.
        found: usize,
        /// States of the world.
        expected: usize,
    },
    /// A setting out of range.
    #[error("{name} is {value}; it must lie in {range}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range, in words.
        range: &'static str,
    },
    /// Value iteration did not settle.
    #[error(
        "after {sweeps} sweeps the values still change by {change}; lower gamma below 1, or give every state a way to an end"
    )]
    NotSettled {
        /// Sweeps done.
        sweeps: usize,
        /// Largest change in the last one.
        change: f64,
    },
}

/// Checks one setting.
pub(super) fn within(
    name: &'static str,
    value: f64,
    ok: bool,
    range: &'static str,
) -> Result<(), GridError> {
    if ok {
        Ok(())
    } else {
        Err(GridError::Setting { name, value, range })
    }
}

/// A grid of cells. States are cell indices, row by row; wall cells are states that nothing reaches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gridworld {
    width: usize,
    cells: Vec<Cell>,
    start: usize,
    slip: f64,
}

/// Exact or soft values of all states and actions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// V(s); 0 for terminal states and walls.
    pub values: Vec<f64>,
    /// Q(s,a), columns in the order of [`ACTIONS`]; 0 for terminal states and walls.
    pub q: Vec<[f64; 4]>,
    /// Sweeps until the values settled.
    pub sweeps: usize,
}

impl Plan {
    /// Whether each action is among the best of its state, within `tolerance`.
    #[must_use]
    pub fn best_actions(&self, tolerance: f64) -> Vec<[bool; 4]> {
        self.q
            .iter()
            .map(|row| {
                let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.map(|q| q >= best - tolerance)
            })
            .collect()
    }
}

/// One step of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Where it began.
    pub state: usize,
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// Where it led.
    pub next_state: usize,
    /// Whether `next_state` is terminal.
    pub done: bool,
}

/// P(s'|s,a) as (state, probability) entries; entries may share a state or have probability 0.
pub type Outcomes = [(usize, f64); 3];

/// The steps of one episode, in order.
pub type Episode = Vec<Transition>;

/// A row as AVRIL reads it: a step with the action that the demonstrator took next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SarsaRow {
    /// s.
    pub state: usize,
    /// a, index into [`ACTIONS`].
    pub action: usize,
    /// s'.
    pub next_state: usize,
    /// a'; `None` on an episode's last step, terminal or cut off.
    pub next_action: Option<usize>,
    /// Whether s' is terminal: its value is 0 and needs no a'.
    pub done: bool,
}

impl Gridworld {
    /// Most cells of a map.
    pub const LARGEST: usize = 10_000;
    /// Sweeps after which value iteration gives up.
    const MOST_SWEEPS: usize = 200_000;

    /// Reads a map: one line a row; `.` floor, `#` wall, `C` cliff, `G` goal, `S` the start (floor). Moves are certain;
    /// see [`Gridworld::with_slip`].
    ///
    /// # Errors
    /// Unknown characters, ragged rows, a size out of range, not exactly one start.
    pub fn from_map(map: &str) -> Result<Self, GridError> {
        let count = map.chars().count();
        if count > 2 * Self::LARGEST {
            return Err(GridError::Size(count));
        }
        let (mut cells, mut width, mut starts, mut start) = (Vec::new(), 0, 0, 0);
        for (row, line) in map.lines().enumerate() {
            let before = cells.len();
            for (column, c) in line.chars().enumerate() {
                cells.push(match c {
                    '.' => Cell::Floor,
                    '#' => Cell::Wall,
                    'C' => Cell::Cliff,
                    'G' => Cell::Goal,
                    'S' => {
                        starts += 1;
                        start = cells.len();
                        Cell::Floor
                    }
                    found => return Err(GridError::Cell { row, column, found }),
                });
            }
            let found = cells.len() - before;
            if row == 0 {
                width = found;
            } else if found != width {
                return Err(GridError::Ragged {
                    row,
                    found,
                    expected: width,
                });
            }
        }
        if cells.is_empty() || cells.len() > Self::LARGEST {
            return Err(GridError::Size(cells.len()));
        }
        if starts != 1 {
            return Err(GridError::Starts(starts));
        }
        Ok(Self {
            width,
            cells,
            start,
            slip: 0.0,
        })
    }

    /// The same world on ice: with probability `slip` a move goes to one of its two sides instead, each equally likely.
    ///
    /// # Errors
    /// A probability outside `[0, 1]`.
    pub fn with_slip(mut self, slip: f64) -> Result<Self, GridError> {
        within("slip", slip, (0.0..=1.0).contains(&slip), "0..=1")?;
        self.slip = slip;
        Ok(self)
    }

    /// Number of states (cells, walls included).
    #[must_use]
    pub fn states(&self) -> usize {
        self.cells.len()
    }

    /// Cells in a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The state where episodes begin.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// What stands on a state; outside the map there is wall.
    #[must_use]
    pub fn cell(&self, state: usize) -> Cell {
        self.cells.get(state).copied().unwrap_or(Cell::Wall)
    }

    /// Whether an episode ends on entering `state`.
    #[must_use]
    pub fn is_terminal(&self, state: usize) -> bool {
        matches!(self.cell(state), Cell::Goal | Cell::Cliff)
    }

    /// Column and row of a state, from 0.
    #[must_use]
    pub fn position(&self, state: usize) -> [f64; 2] {
        [(state % self.width) as f64, (state / self.width) as f64]
    }

    /// Where a move leads when it does not slip. Terminal states and walls lead to themselves.
    #[must_use]
    pub fn step_to(&self, state: usize, action: usize) -> usize {
        if self.is_terminal(state) || self.cell(state) == Cell::Wall {
            return state;
        }
        let (column, row) = (state % self.width, state / self.width);
        let to = match ACTIONS.get(action) {
            Some(Action::Up) if row > 0 => state - self.width,
            Some(Action::Right) if column + 1 < self.width => state + 1,
            Some(Action::Down) => state + self.width,
            Some(Action::Left) if column > 0 => state - 1,
            _ => state,
        };
        if self.cell(to) == Cell::Wall {
            state
        } else {
            to
        }
    }

    /// P(s'|s,a) as three (state, probability) entries; entries may share a state or have probability 0.
    #[must_use]
    pub fn transitions(&self, state: usize, action: usize) -> Outcomes {
        [
            (self.step_to(state, action), 1.0 - self.slip),
            (self.step_to(state, (action + 1) % 4), self.slip / 2.0),
            (self.step_to(state, (action + 3) % 4), self.slip / 2.0),
        ]
    }

    /// One random step.
    pub fn sample(&self, state: usize, action: usize, rng: &mut Rng) -> Transition {
        let options = self.transitions(state, action);
        let at = rng.weighted(&options.map(|o| o.1)).unwrap_or(0);
        let next_state = options.get(at).map_or(state, |o| o.0);
        Transition {
            state,
            action,
            next_state,
            done: self.is_terminal(next_state),
        }
    }

    /// A usual reward table: `step` for entering floor, `goal` and `cliff` for entering those, 0 for walls.
    #[must_use]
    pub fn state_rewards(&self, step: f64, goal: f64, cliff: f64) -> Vec<f64> {
        let reward = |cell: &Cell| match cell {
            Cell::Floor => step,
            Cell::Goal => goal,
            Cell::Cliff => cliff,
            Cell::Wall => 0.0,
        };
        self.cells.iter().map(reward).collect()
    }

    /// Optimal values under `reward(s, a, s')`, accurate to about `1e-10 / (1 - gamma)`.
    ///
    /// # Errors
    /// gamma outside `[0, 1]`; values that never settle (gamma 1 and a loop that pays).
    pub fn value_iteration(
        &self,
        reward: impl Fn(usize, usize, usize) -> f64,
        gamma: f64,
    ) -> Result<Plan, GridError> {
        self.iterate(reward, gamma, None, |row| {
            row.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        })
    }

    /// Like [`Gridworld::value_iteration`], from a first guess: after a small change of the rewards a few sweeps are
    /// enough.
    ///
    /// # Errors
    /// As there, and a guess of the wrong length.
    pub fn value_iteration_from(
        &self,
        reward: impl Fn(usize, usize, usize) -> f64,
        gamma: f64,
        guess: &[f64],
    ) -> Result<Plan, GridError> {
        self.iterate(reward, gamma, Some(guess), |row| {
            row.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        })
    }

    /// Soft values: V = (1/beta) log sum_a exp(beta Q). The policy that belongs to them is [`boltzmann`] of their Q.
    ///
    /// # Errors
    /// As [`Gridworld::value_iteration`], and beta that is not positive and finite.
    pub fn soft_value_iteration(
        &self,
        reward: impl Fn(usize, usize, usize) -> f64,
        gamma: f64,
        beta: f64,
    ) -> Result<Plan, GridError> {
        within(
            "beta",
            beta,
            beta.is_finite() && beta > 0.0,
            "beta > 0, finite",
        )?;
        self.iterate(reward, gamma, None, |row| {
            let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            best + row
                .iter()
                .map(|q| (beta * (q - best)).exp())
                .sum::<f64>()
                .ln()
                / beta
        })
    }

    fn iterate(
        &self,
        reward: impl Fn(usize, usize, usize) -> f64,
        gamma: f64,
        guess: Option<&[f64]>,
        backup: impl Fn(&[f64; 4]) -> f64,
    ) -> Result<Plan, GridError> {
        within("gamma", gamma, (0.0..=1.0).contains(&gamma), "0..=1")?;
        let n = self.states();
        let acts: Vec<bool> = (0..n)
            .map(|s| !self.is_terminal(s) && self.cell(s) != Cell::Wall)
            .collect();
        let mut values = match guess {
            None => vec![0.0; n],
            Some(guess) if guess.len() == n => guess
                .iter()
                .zip(&acts)
                .map(|(v, acts)| if *acts { *v } else { 0.0 })
                .collect(),
            Some(guess) => {
                return Err(GridError::States {
                    what: "the guess",
                    found: guess.len(),
                    expected: n,
                });
            }
        };
        // Rewards do not change between sweeps: their expectation is taken once.
        let table: Vec<[(f64, Outcomes); 4]> = (0..n)
            .map(|s| {
                std::array::from_fn(|a| {
                    let to = self.transitions(s, a);
                    let used = to.iter().filter(|(_, p)| *p > 0.0);
                    (used.map(|&(next, p)| p * reward(s, a, next)).sum(), to)
                })
            })
            .collect();
        let mut q = vec![[0.0; 4]; n];
        let mut change = f64::INFINITY;
        for sweep in 1..=Self::MOST_SWEEPS {
            change = 0.0;
            for (s, row) in table.iter().enumerate().filter(|(s, _)| acts[*s]) {
                q[s] = row.each_ref().map(|(expected, to)| {
                    expected + gamma * to.iter().map(|&(next, p)| p * values[next]).sum::<f64>()
                });
                let value = backup(&q[s]);
                // Not f64::max, which would drop a NaN and call it settled.
                let moved = (value - values[s]).abs();
                if moved.is_nan() || moved > change {
                    change = moved;
                }
                values[s] = value;
            }
            if change.is_nan() {
                return Err(GridError::NotSettled {
                    sweeps: sweep,
                    change,
                });
            }
            if change < 1e-10 {
                return Ok(Plan {
                    values,
                    q,
                    sweeps: sweep,
                });
            }
        }
        Err(GridError::NotSettled {
            sweeps: Self::MOST_SWEEPS,
            change,
        })
    }

    /// `n` episodes of at most `limit` steps by a policy (one row of action probabilities a state), from the start.
    ///
    /// # Errors
    /// A policy with the wrong number of rows.
    pub fn demonstrations(
        &self,
        policy: &[[f64; 4]],
        n: usize,
        limit: usize,
        rng: &mut Rng,
    ) -> Result<Vec<Episode>, GridError> {
        if policy.len() != self.states() {
            return Err(GridError::States {
                what: "the policy",
                found: policy.len(),
                expected: self.states(),
            });
        }
        Ok((0..n)
            .map(|_| {
                let (mut state, mut episode) = (self.start, Episode::new());
                while episode.len() < limit && !self.is_terminal(state) {
                    let action = policy
                        .get(state)
                        .and_then(|row| rng.weighted(row))
                        .unwrap_or(0);
                    let step = self.sample(state, action, rng);
                    state = step.next_state;
                    episode.push(step);
                }
                episode
            })
            .collect())
    }
}

/// The Boltzmann policy: probabilities in proportion to exp(beta Q(s,a)). beta 0 is uniform; the larger, the greedier.
#[must_use]
pub fn boltzmann(q: &[[f64; 4]], beta: f64) -> Vec<[f64; 4]> {
    q.iter()
        .map(|row| {
            let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights = row.map(|q| (beta * (q - best)).exp());
            let total: f64 = weights.iter().sum();
            weights.map(|w| w / total)
        })
        .collect()
}

/// Rows (s, a, s', a') of episodes, in order. An episode of n steps gives n rows, the last one without a'.
#[must_use]
pub fn sarsa_rows(episodes: &[Episode]) -> Vec<SarsaRow> {
    let rows = |episode: &Episode| -> Vec<SarsaRow> {
        let next = episode
            .iter()
            .skip(1)
            .map(|step| Some(step.action))
            .chain([None]);
        let row = |(step, next_action): (&Transition, Option<usize>)| SarsaRow {
            state: step.state,
            action: step.action,
            next_state: step.next_state,
            next_action,
            done: step.done,
        };
        episode.iter().zip(next).map(row).collect()
    };
    episodes.iter().flat_map(rows).collect()
}

#[cfg(test)]
#[path = "gridworld_tests.rs"]
pub(in crate::world) mod tests;
