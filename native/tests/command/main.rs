//! The command as a person runs it: each test starts the built binary on the built-in world, a few steps at a time.

mod bad_input;
mod careful;
mod checkpoint_file;
mod compare;
mod compare_cut;
mod compare_ignorance;
mod compare_refused;
mod compare_truths;
mod fetch;
mod gridworld;
mod handover;
mod ignorance;
#[cfg(target_os = "linux")]
mod loading;
mod recovery;
mod reference;
mod resume;
mod rewardbench;
mod run;
mod saving;
mod score;
mod support;
mod truth;
mod unpaired;
mod wording;
