//! The method's own token rewards, as it trained them.
//!
//! Source: each method's file in [`crate::objective`]; nothing is redistributed.

use super::{Credit, Needs};

/// The entry in [`CREDITS`](super::CREDITS).
pub const OWN: Credit = Credit {
    name: "own",
    title: "The method's own token rewards",
    citation: "the method's own source; nothing is spread",
    needs: Needs::NOTHING,
    spread: |sequence| Some(sequence.own.clone()),
};
