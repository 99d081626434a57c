//! AVRIL with one parameter an entry: Q(s,a) `[S, 4]`, and mean and log sigma of the reward of entering each state `[S]`.
//!
//! The loss is [`avril`]'s over rows (s, a, s', a') of demonstrations. Three things are settled here:
//!
//! * the reward is read at s': it is earned on entering, as in the rest of `world`, so that it is the same unknown that
//!   [`birl`](crate::world::birl) samples. (The public code reads it at s.)
//! * where s' ends the episode its value is 0 and the row counts; where an episode was cut off a' is not known and the row
//!   is left out. (The public code leaves out the last row of every episode, and so never sees an end's reward.)
//! * all tables start at the prior: Q 0, mean 0, sigma s0. A state that no row enters has no gradient and stays there.
//!
//! Q is free up to a constant a state, which moves the residual by gamma-discounted shaping; only the prior decides
//! among those rewards. KL and TD count once a row, so that sigma measures the spread of residuals and not how many rows
//! there were.

use crate::model::{Weight, Weights};
use crate::objective::avril::{AvrilOptions, AvrilRows, avril};
use crate::train::optimizer::{NamedGradients, Optimizer, collect_gradients};
use crate::train::{TrainError, read};
use crate::world::SarsaRow;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;

/// Settings of the training.
#[derive(Clone, Debug, PartialEq)]
pub struct AvrilTableConfig {
    /// Weights of the loss.
    pub avril: AvrilOptions,
    /// Adam steps, each over all rows.
    pub steps: usize,
    /// Peak learning rate; it falls linearly to 0.
    pub learning_rate: f64,
    /// Smallest log sigma. -5 as for language models: with lambda >= kappa sigma has no least value of its own.
    pub rho_min: f64,
    /// Largest log sigma.
    pub rho_max: f64,
}

impl Default for AvrilTableConfig {
    fn default() -> Self {
        Self {
            avril: AvrilOptions::default(),
            steps: 2000,
            learning_rate: 0.02,
            rho_min: -5.0,
            rho_max: 2.0,
        }
    }
}

/// Trained tables.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AvrilTable {
    /// Posterior mean of the reward of entering each state `[S]`.
    pub means: Vec<f64>,
    /// Its standard deviation `[S]`.
    pub stds: Vec<f64>,
    /// Q(s,a) `[S][4]`.
    pub q: Vec<[f64; 4]>,
    /// Rows that enter each state `[S]`; a state with none keeps the prior.
    pub entered: Vec<usize>,
    /// Rows that were used.
    pub rows: usize,
    /// Rows left out: the last ones of episodes that were cut off.
    pub left_out: usize,
    /// Entered states whose sigma lies at its smallest allowed value.
    pub at_floor: usize,
    /// Loss before the first step, half-way and after the last.
    pub losses: [f64; 3],
}

const Q: &str = "q";
const MEAN: &str = "mean";
const LOG_STD: &str = "log_std";

/// Rows as tensors.
struct Batch {
    states: Tensor<1, Int>,
    next_states: Tensor<1, Int>,
    actions: Tensor<1, Int>,
    next_actions: Tensor<1, Int>,
    /// 1 where s' goes on, 0 where it ends `[N, 1]`.
    goes_on: Tensor<2>,
}

impl Batch {
    fn new(rows: &[SarsaRow], device: &Device) -> Self {
        let n = rows.len();
        let list = |of: &dyn Fn(&SarsaRow) -> usize| -> Tensor<1, Int> {
            let list: Vec<i64> = rows.iter().map(|row| of(row) as i64).collect();
            Tensor::from_data(TensorData::new(list, [n]), device)
        };
        let goes_on: Vec<f32> = rows.iter().map(|r| f32::from(u8::from(!r.done))).collect();
        Self {
            states: list(&|r| r.state),
            next_states: list(&|r| r.next_state),
            actions: list(&|r| r.action),
            // The value of an end is 0 whatever the action.
            next_actions: list(&|r| r.next_action.unwrap_or(0)),
            goes_on: Tensor::from_data(TensorData::new(goes_on, [n, 1]), device),
        }
    }

    fn loss(&self, tables: &Weights, config: &AvrilTableConfig) -> Tensor<1> {
        let q = tables.matrix(Q);
        let rho = tables.vector(LOG_STD).select(0, self.next_states.clone());
        avril(
            AvrilRows {
                q: q.clone().select(0, self.states.clone()),
                q_next: q.select(0, self.next_states.clone()) * self.goes_on.clone(),
                actions: self.actions.clone(),
                next_actions: self.next_actions.clone(),
                mean: tables.vector(MEAN).select(0, self.next_states.clone()),
                log_std: rho,
            },
            &config.avril,
        )
        .loss
    }
}

fn setting(
    setting: &'static str,
    value: f64,
    ok: bool,
    way_out: &'static str,
) -> Result<(), TrainError> {
    if ok {
        return Ok(());
    }
    Err(TrainError::Setting {
        setting,
        value: value.to_string(),
        way_out,
    })
}

impl AvrilTableConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The setting that is out of range.
    pub fn check(&self) -> Result<(), TrainError> {
        let weight = |name, value: f64| {
            let ok = value.is_finite() && value >= 0.0;
            setting(name, value, ok, "give a finite number, at least 0")
        };
        let options = &self.avril;
        weight("beta", options.beta)?;
        weight("kappa", options.kappa)?;
        weight("lambda", options.lambda)?;
        weight("learning_rate", self.learning_rate)?;
        let gamma_ok = (0.0..=1.0).contains(&options.gamma);
        setting(
            "gamma",
            options.gamma,
            gamma_ok,
            "give a number from 0 to 1",
        )?;
        let ordered = self.rho_min < self.rho_max;
        let range = ordered && self.rho_min.is_finite() && self.rho_max.is_finite();
        let way_out = "give a finite number below `rho_max`";
        setting("rho_min", self.rho_min, range, way_out)?;
        // The tables start at the prior, so it must be a sigma that they may have.
        let prior_ok = (self.rho_min..=self.rho_max).contains(&options.prior_sd.ln());
        let way_out = "give a number whose logarithm lies between `rho_min` and `rho_max` (by default 0.007 to 7.3)";
        setting("prior_sd", options.prior_sd, prior_ok, way_out)?;
        let steps_ok = (1..=1_000_000).contains(&self.steps);
        let way_out = "give 1 to 1000000 steps";
        setting("steps", self.steps as f64, steps_ok, way_out)
    }
}

fn check_rows(states: usize, rows: &[SarsaRow]) -> Result<(), TrainError> {
    let outside = |r: &SarsaRow| {
        let action = r.action.max(r.next_action.unwrap_or(0));
        r.state.max(r.next_state) >= states || action >= 4
    };
    if let Some(at) = rows.iter().position(outside) {
        return Err(TrainError::Rows(format!(
            "row {at} of the demonstrations lies outside a world of {states} states with 4 actions"
        )));
    }
    Ok(())
}

/// Trains tables over `states` states on rows of demonstrations. Nothing is random: the same rows give the same tables.
///
/// # Errors
/// Settings out of range, rows outside the world or none that can be used, numbers that leave the range of f32.
pub async fn train_avril_table(
    states: usize,
    rows: &[SarsaRow],
    config: &AvrilTableConfig,
    device: &Device,
) -> Result<AvrilTable, TrainError> {
    config.check()?;
    check_rows(states, rows)?;
    let usable: Vec<SarsaRow> = rows
        .iter()
        .filter(|r| r.done || r.next_action.is_some())
        .copied()
        .collect();
    if usable.is_empty() {
        return Err(TrainError::Rows(
            "no step of the demonstrations is followed by another or ends its episode; draw more of them, or longer ones".into(),
        ));
    }
    let device = device.clone().autodiff();
    let batch = Batch::new(&usable, &device);
    let mut tables = Weights::new();
    let start = config.avril.prior_sd.ln();
    let vector =
        |value: f64| Weight::Vector(Tensor::full([states], value as f32, &device).require_grad());
    tables.insert(MEAN, vector(0.0));
    tables.insert(LOG_STD, vector(start));
    tables.insert(
        Q,
        Weight::Matrix(Tensor::zeros([states, 4], &device).require_grad()),
    );
    let mut optimizer = Optimizer::new(0.0);
    let mut losses = [0.0; 3];
    for step in 0..config.steps {
        let loss = batch.loss(&tables, config);
        if step == 0 || step == config.steps / 2 {
            losses[usize::from(step > 0)] = one(loss.clone()).await?;
        }
        let mut gradients = loss.backward();
        let mut named = NamedGradients::new();
        collect_gradients("", &tables, &mut gradients, &mut named);
        let rate = config.learning_rate * (1.0 - step as f64 / config.steps as f64);
        optimizer.step("", &mut tables, &mut named, rate, None);
        // Kept in its range after the step, not within the loss: a sigma at the end of its range still has a gradient.
        let rho = tables.vector(LOG_STD).inner();
        let rho = rho.clamp(config.rho_min, config.rho_max).autodiff();
        tables.insert(LOG_STD, Weight::Vector(rho.require_grad()));
    }
    losses[2] = one(batch.loss(&tables, config)).await?;
    if config.steps == 1 {
        losses[1] = losses[0];
    }
    let numbers = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let means = numbers(read(tables.vector(MEAN).inner()).await?);
    let rho = numbers(read(tables.vector(LOG_STD).inner()).await?);
    let q = numbers(read(tables.matrix(Q).inner()).await?);
    let every = means.iter().chain(&rho).chain(&q).chain(&losses);
    if let Some(&value) = every.into_iter().find(|v| !v.is_finite()) {
        return Err(TrainError::NonFinite {
            term: "a table of AVRIL".into(),
            value,
            step: config.steps,
            row: String::new(),
        });
    }
    let mut entered = vec![0; states];
    for row in &usable {
        entered[row.next_state] += 1;
    }
    let at_floor = (0..states)
        .filter(|&s| entered[s] > 0 && rho[s] <= config.rho_min)
        .count();
    Ok(AvrilTable {
        stds: rho.iter().map(|r| r.exp()).collect(),
        means,
        q: q.chunks_exact(4)
            .map(|row| std::array::from_fn(|a| row[a]))
            .collect(),
        entered,
        rows: usable.len(),
        left_out: rows.len() - usable.len(),
        at_floor,
        losses,
    })
}

async fn one(value: Tensor<1>) -> Result<f64, TrainError> {
    let values = read(value.inner()).await?;
    Ok(values.first().copied().map_or(f64::NAN, f64::from))
}

#[cfg(test)]
#[path = "avril_tests.rs"]
mod tests;
