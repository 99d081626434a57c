//! The training loop that page and command share: configuration, schedule, optimiser, checkpoint, events.

mod bench;
mod broken;
mod check;
mod checkpoint;
mod config;
mod dataset;
#[cfg(test)]
mod end_to_end;
mod error;
mod event;
mod export;
mod extras;
mod figures;
mod forward;
pub mod gridworld;
#[cfg(test)]
mod heads_tests;
mod host;
pub mod ignorance;
#[cfg(test)]
mod invariance;
#[cfg(test)]
mod micro_batches;
mod open;
mod optimizer;
#[cfg(test)]
mod pair_labels;
mod policy_scores;
mod readings;
mod ready;
mod reference;
mod row_warnings;
mod run;
mod sampler;
mod schedule;
mod scorer;
mod step;
#[cfg(test)]
mod testing;
mod trunk_cache;
mod trunk_digest;
mod truths;
#[cfg(test)]
mod unpaired;
mod world;

pub use bench::{BenchPlan, BenchReport, Product, Seconds, bench};
pub use checkpoint::{CheckpointSummary, checkpoint_digest, describe_checkpoint};
pub use config::{LoraConfig, Schedule, TrainConfig, Trainable};
pub use dataset::{EncodedRow, EncodedSide, SkippedRow, encode_rows, encode_usable_rows};
pub use error::TrainError;
pub use event::{DeviceInfo, Event, FinishReason, Metrics, RunInfo};
pub use export::{ExportedFiles, export_model};
pub use figures::{
    KnownRewards, NO_POSITIVE_FACTOR, NO_SIGMA, Recovered, Residuals, TwoSets, answer_labels,
    calibration_of_known, coverage_of_known, figures, judged_pairs, known_returns, known_rewards,
    labelled_tokens, pairs, score_of,
};
pub use open::{Files, OpenError, open_model};
pub use policy_scores::LogProbability;
pub use ready::{FrozenStates, ReadyRows};
pub use reference::Reference;
pub use row_warnings::row_warnings;
pub use run::{LoadedModel, Run};
pub use scorer::{Scored, Scorer};
pub use trunk_cache::SharedStates;
pub use truths::{
    EncodedTrace, Floor, InterventionPlan, LEAST_ANSWERS, Question, RULE, Seen, TRUST_SCHEMA,
    TRUTHS, TrustEntry, TrustFile, Truth, TruthData, TruthFigure, TruthKind, TruthOptions,
    TruthResult, UnknownTruth, Verdict, WordFloor, edits, encode_traces, first_wrong_step,
    intervention, lexicon, spans,
};
pub use world::{
    world_base_answers, world_corpus, world_decoder_at_random, world_model, world_rows,
};

use burn::tensor::Tensor;

/// Reads a tensor back, row-major.
pub(crate) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let data = tensor
        .into_data_async()
        .await
        .map_err(|error| TrainError::Device(format!("{error:?}")))?;
    data.try_into_vec_as::<f32>()
        .map_err(|error| TrainError::Device(format!("{error:?}")))
}
