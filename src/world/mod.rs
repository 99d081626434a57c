//! Worlds whose truth is known: a small language in which every token has a stated reward, and gridworlds with exact
//! solvers. They exist so that every method can be measured against the truth instead of against another method.
//!
//! * [`Language`]: words, their true rewards, writers of any skill, rows, and a Hugging Face tokenizer for it.
//! * [`Gridworld`]: walls, cliffs, goals; exact and soft value iteration, Boltzmann demonstrations.
//! * [`birl`]: the exact Bayesian posterior over a gridworld's rewards by Markov chain Monte Carlo.
//! * [`q_learning`] and [`d_shape`]: tabular learners, without and with a demonstration's shaping; [`learning`]: how soon
//!   each has a good policy.
//! * [`MAPS`]: gridworlds to teach on.
//!
//! Nothing here touches a tensor. All randomness comes from [`Rng`](crate::random::Rng), whose state can be
//! stored and resumed.

pub mod birl;
pub mod d_shape;
mod gridworld;
mod language;
pub mod learning;
mod maps;
pub mod q_learning;
mod rows;
mod tokenizer;
mod writer;

pub use gridworld::{
    ACTIONS, Action, Cell, Episode, GridError, Gridworld, Outcomes, Plan, SarsaRow, Transition,
    boltzmann, sarsa_rows,
};
pub use language::{Language, Reading, TokenTruth, WordClass};
pub use maps::{MAPS, TeachingMap, teaching_world};
pub use rows::{
    ClassStatistics, LengthBalance, NoiseError, PairCeiling, PreferenceNoise, longer_wins,
    pair_ceiling, rows_to_jsonl,
};
pub use writer::{DEMONSTRATOR_SKILL, WrittenAnswer};
