//! Tiny trained models for tests.

use super::{Run, TrainConfig, Trainable, world_model, world_rows};
use crate::data::{Rows, split_by_hash};
use crate::device::{DeviceChoice, OpenDevice, open};
use crate::objective::{RowKind, build};
use serde_json::Value;

/// The processor.
pub fn cpu() -> OpenDevice {
    pollster::block_on(open(DeviceChoice::Cpu)).expect("a processor")
}

/// A run of `method` on the built-in world after `steps` steps of its whole trunk.
pub fn trained(method: &str, options: Value, steps: usize, rows: usize) -> Run {
    trained_in(Trainable::Full, method, options, steps, rows)
}

/// The same with what trains.
pub fn trained_in(
    trainable: Trainable,
    method: &str,
    options: Value,
    steps: usize,
    rows: usize,
) -> Run {
    let device = cpu();
    let kind = build(method, &options).expect("a method").rows();
    let mut rows: Rows = world_rows(rows, 7, kind == RowKind::Demonstrations);
    // One method reads how strong a preference is, as an ensemble would have measured it.
    if let Rows::Preferences(rows) = &mut rows {
        for (i, row) in rows.iter_mut().enumerate() {
            row.strength = Some((i % 5) as f32 - 0.5);
        }
    }
    let (train, held_out) = split_by_hash(rows, 0.3, "testing");
    let config = TrainConfig {
        method: method.into(),
        options,
        steps: steps.max(1),
        batch_size: 8,
        learning_rate: 2e-3,
        eval_steps: 0,
        trainable,
        ..TrainConfig::default()
    };
    let model = world_model(&device.device).expect("the built-in model");
    let mut run = Run::new(config, model, train, held_out, device).expect("a run");
    pollster::block_on(async {
        for _ in 0..steps {
            run.optimizer_step().await.expect("a step");
        }
    });
    run
}
