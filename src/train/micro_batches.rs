//! Several micro-batches take the step of one large batch: for every listed method.

use super::testing::cpu;
use super::{Run, TrainConfig, Trainable, read, world_model, world_rows};
use crate::data::Rows;
use crate::model::{Weight, Weights};
use crate::objective::{METHODS, RowKind, build};
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rows that are drawn whole in one optimiser step.
const ROWS: usize = 16;

/// Pairs with every column that a method reads, two of them with nothing to tell their answers apart.
fn rows(kind: RowKind) -> Rows {
    let mut rows = world_rows(ROWS, 11, kind == RowKind::Demonstrations);
    if let Rows::Preferences(rows) = &mut rows {
        for (i, row) in rows.iter_mut().enumerate() {
            row.strength = Some((i % 5) as f32 - 0.5);
            row.margin = Some(i as f32 / 10.0);
            if i % 8 == 3 {
                row.rejected = row.chosen.clone();
            }
        }
    }
    rows
}

/// Weights without structure in place of zeros, so that a gradient reaches everything behind them.
fn filled(weights: Weights) -> Weights {
    weights.map_each(|_, weight| {
        let numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 1.7).sin() / 4.0).collect() };
        match weight {
            Weight::Vector(w) => {
                let [n] = w.dims();
                let data = TensorData::new(numbers(n), [n]);
                Weight::Vector(Tensor::from_data(data, &w.device()).require_grad())
            }
            Weight::Matrix(w) => {
                let [rows, columns] = w.dims();
                let data = TensorData::new(numbers(rows * columns), [rows, columns]);
                Weight::Matrix(Tensor::from_data(data, &w.device()).require_grad())
            }
        }
    })
}

/// Loss and gradients of the first step: Adam's first moments are a tenth of them, unclipped.
fn first_step(
    method: &str,
    options: &Value,
    seed: u64,
    parts: usize,
) -> (f64, BTreeMap<String, Vec<f32>>) {
    let device = cpu();
    let kind = build(method, options).expect("a method").rows();
    let config = TrainConfig {
        method: method.into(),
        options: options.clone(),
        seed,
        steps: 2,
        batch_size: ROWS / parts,
        gradient_accumulation_steps: parts,
        max_grad_norm: 0.0,
        weight_decay: 0.0,
        eval_steps: 0,
        trainable: Trainable::Full,
        ..TrainConfig::default()
    };
    let none = match kind {
        RowKind::Pairs => Rows::Preferences(Vec::new()),
        _ => Rows::Demonstrations(Vec::new()),
    };
    let model = world_model(&device.device).expect("the built-in model");
    let mut run = Run::new(config, model, rows(kind), none, device).expect("a run");
    run.head.weights = filled(run.head.weights.clone());
    pollster::block_on(async {
        let metrics = run.optimizer_step().await.expect("a step");
        let mut gradients = BTreeMap::new();
        for (name, weight) in run.optimizer.export().0 {
            if name.ends_with(".exp_avg") {
                let numbers = match weight {
                    Weight::Vector(w) => read(w).await,
                    Weight::Matrix(w) => read(w).await,
                };
                gradients.insert(name, numbers.expect("numbers"));
            }
        }
        (metrics["loss"], gradients)
    })
}

fn size(numbers: &[f32]) -> f64 {
    numbers
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn micro_batches_give_the_gradient_of_one_batch(seed in 0u64..1000, parts in prop::sample::select(vec![2usize, 4, 8])) {
        let switched = [
            ("ava_p", json!({"normalise": "batch", "neg": "floor"})),
            ("bradley_terry", json!({"use_margin": true, "center": 0.1, "likelihood_weight": 0.2})),
            ("fine_grained", json!({"keep_weight": 0.5})),
            ("secrets2", json!({"flip_fraction": 0.2, "smoothing": 0.1})),
        ];
        let plain = METHODS.iter().map(|method| (method.name, json!({})));
        for (method, options) in plain.chain(switched) {
            let (loss, whole) = first_step(method, &options, seed, 1);
            let (of_parts, sum) = first_step(method, &options, seed, parts);
            prop_assert!(
                (loss - of_parts).abs() < 1e-4 * loss.abs().max(1.0),
                "{method} {options}, {parts} parts: loss {of_parts}, of one batch {loss}"
            );
            let largest = whole.values().map(|g| size(g)).fold(0.0, f64::max);
            prop_assert!(largest > 1e-6, "{method}: no gradient");
            prop_assert_eq!(whole.keys().collect::<Vec<_>>(), sum.keys().collect::<Vec<_>>());
            for (name, whole) in &whole {
                let apart: Vec<f32> = whole.iter().zip(&sum[name]).map(|(a, b)| a - b).collect();
                prop_assert!(
                    size(&apart) < 1e-3 * size(whole) + 1e-5 * largest,
                    "{method} {options}, {parts} parts, {name}: off by {} of {}", size(&apart), size(whole)
                );
            }
        }
    }
}
