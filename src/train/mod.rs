//! The training loop that page and command share: configuration, schedule, optimiser, checkpoint, events.

mod config;
mod event;

pub use config::{LoraConfig, Schedule, TrainConfig, Trainable};
pub use event::{DeviceInfo, Event, FinishReason, Metrics, RunInfo};
