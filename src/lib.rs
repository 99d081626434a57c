//! avascope learns what every token of an answer is worth, with its spread and, where asked for, how far that may be off for
//! want of data (ignorance), and lets a person see it.
//!
//! Data goes one way through the rooms:
//!
//! ```text
//! row ──► tokens + step mask ──► trunk ──► Steps [B,S] ──► objective ──► loss ──► optimiser
//! data      text                 model      reward          objective               train
//!                                              │
//!                                              └──► TokenReward records ──► eval, report, page
//! ```
//!
//! Each room uses only rooms before it, in the order that `rooms.rs` states and tests.
//!
//! The library does no I/O of its own: bytes come in, bytes go out. Files, network and terminals belong to the
//! `avascope` command, OPFS and fetch to the page.
//!
//! Shapes use one key everywhere: B sequences (a pair is two rows), T tokens, S = T-1 steps, V vocabulary, H hidden,
//! L layers.

pub mod compare;
pub mod credit;
pub mod data;
pub mod device;
pub mod eval;
pub mod model;
pub mod objective;
pub mod plain;
pub mod policy;
pub mod random;
pub mod reward;
#[cfg(test)]
mod test_data;
pub mod text;
pub mod train;
pub mod web;
pub mod world;

#[cfg(test)]
mod rooms;
