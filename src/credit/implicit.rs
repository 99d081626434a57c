//! DPO's implicit token rewards of any run whose policy moved.
//!
//! ```text
//! r_i = log pi(a_i) - log ref(a_i)          pi: the policy as trained, ref: as it was before
//! ```
//!
//! Source: *Direct Preference Optimization*, arXiv 2305.18290, Eq. 5; per token as in *From r to Q\**, arXiv 2404.12358.
//! DPO's own token rewards are beta times this; other methods have no such beta, so the log-ratio itself is given.

use super::{Credit, Needs};

/// The entry in [`CREDITS`](super::CREDITS).
pub const IMPLICIT_DPO: Credit = Credit {
    name: "implicit_dpo",
    title: "The policy's log-ratio to what it was before training",
    citation: "DPO, arXiv 2305.18290, Eq. 5; arXiv 2404.12358",
    needs: Needs {
        reference: true,
        ..Needs::NOTHING
    },
    spread: |sequence| {
        let reference = sequence.reference_log_policy.clone()?;
        let ratio = sequence.log_policy.clone() - reference;
        Some(sequence.answer.inside(ratio))
    },
};
