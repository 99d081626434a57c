//! The command as a person runs it: each test starts the built binary on the built-in world, a few steps at a time.

mod bad_input;
mod careful;
mod compare;
mod compare_truths;
mod fetch;
mod gridworld;
mod handover;
mod ignorance;
mod resume;
mod rewardbench;
mod run;
mod score;
mod support;
mod truth;
mod unpaired;
mod wording;
