//! DPO's implicit token rewards of any run whose policy moved.
//!
//! ```text
//! r_i = beta [log pi(a_i) - log ref(a_i)]          pi: the policy as trained, ref: as it was before
//! ```
//!
//! Source: *Direct Preference Optimization*, arXiv 2305.18290, Eq. 5; per token as in *From r to Q\**, arXiv 2404.12358.
//! beta is the run's own option: 0.1 unless set for DPO, whose own token rewards these then are; 1 unless set for the methods
//! whose `beta` belongs to the likelihood, which leaves the log-ratio as it is.

use super::{Credit, Needs};

/// The entry in [`CREDITS`](super::CREDITS).
pub const IMPLICIT_DPO: Credit = Credit {
    name: "implicit_dpo",
    title: "beta times the policy's log-ratio to what it was before training",
    citation: "DPO, arXiv 2305.18290, Eq. 5; arXiv 2404.12358",
    needs: Needs {
        reference: true,
        ..Needs::NOTHING
    },
    spread: |sequence| {
        let reference = sequence.reference_log_policy.clone()?;
        let ratio = sequence.log_policy.clone() - reference;
        Some(sequence.answer.inside(ratio).mul_scalar(sequence.beta))
    },
};
