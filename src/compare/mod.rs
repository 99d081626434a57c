//! Methods on equal terms: the same rows, trunk, budget and seeds for all; each held against the same truths and
//! floors; one report.
//!
//! ```text
//! CompareConfig ──► Plan: systems x trials x seeds = cells
//!                      │  each cell: train (elsewhere, once for all credits), then `assess` its scores of the test rows
//!                      ▼
//!                CellRecord ──► summary (over seeds) ──► paired comparison ──► Results ──► table, plots, page
//! ```
//!
//! A truth is measured on every cell with the same resamples of the test rows, and each keeps its resampled values.
//! Everything after that (intervals over seeds, differences between systems, their p-values) is arithmetic on those
//! lists, whatever the truth is. Truths that need the model or files of their own ([`Checks`]) bring their intervals and
//! floors; they decide whether a map is `checked`. Nothing here touches a file.

mod caveats;
mod cell;
mod checks;
mod checks_view;
mod config;
mod digest;
mod entries;
mod error;
mod floors;
mod html;
mod ignorance;
mod kendall;
mod known;
mod paired;
mod panels;
mod plan;
mod plots;
mod results;
mod summary;
mod svg;
mod table;
mod truths;

#[cfg(test)]
mod tests;

pub use cell::{CellRecord, TestScore, Validation, assess_cell, failed_cell};
pub use checks::{CheckFigure, CheckResult, CheckedSystem, Checks, Outcome, SeedCheck};
pub use config::{CompareConfig, EVERY_METHOD, FIXED_TRAIN_KEYS, MethodEntry, TruthEntry};
pub use digest::{model_digest, tokenizer_digest};
pub use error::CompareError;
pub use floors::{Floor, floors};
pub use html::page;
pub use ignorance::{Estimate, EstimateRecord, IgnoranceEntry, IgnoranceFigure, IgnoranceResult};
pub use paired::{Comparison, Difference, Standing, holm};
pub use plan::{Cell, Plan, System, Trial};
pub use plots::{Plot, plots};
pub use results::{DataSummary, Inputs, ModelSummary, PartSummary, Results, SCHEMA, results};
pub use summary::{Aggregate, Verdict, choose_trial};
pub use table::table;
pub use truths::{Assessment, Direction, Measured, NamedFloor, Readings, TruthResult, evaluate};
