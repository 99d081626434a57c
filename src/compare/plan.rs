//! From a configuration to the list of cells: everything that can be checked without a model or rows is checked here.

use super::config::{CompareConfig, MethodEntry};
use super::entries::spelled_out;
use super::error::{CompareError, wrong};
use super::ignorance::{Estimate, estimates};
use crate::credit::{self, Credit};
use crate::objective::RowKind;
use crate::train::{TrainConfig, TrainError, Trainable, Truth};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Most trials of one method: more are a slip of the pen, or a search that a comparison should not hide.
const MAX_TRIALS: usize = 256;

/// Training settings that may be tuned. The others are the budget, and the same for all.
const TUNABLE: [&str; 5] = [
    "learning_rate",
    "head_learning_rate",
    "weight_decay",
    "warmup_ratio",
    "max_grad_norm",
];

/// One combination of tuned values.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The tuned settings and their values; empty where nothing is tuned.
    pub values: BTreeMap<String, Value>,
    /// The whole configuration, without its seed.
    pub train: TrainConfig,
}

/// A method with its options and the way its token rewards are read.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// Its name in the report.
    pub label: String,
    /// Its method.
    pub method: String,
    /// How its token rewards are read off.
    pub credit: &'static Credit,
    /// What its method learns from.
    pub rows: RowKind,
    /// Settings that are tuned, with the values tried.
    pub tune: BTreeMap<String, Vec<Value>>,
    /// At least one.
    pub trials: Vec<Trial>,
}

/// One entry of the comparison: a system, one of its trials, a seed. Each is measured by itself, and those that differ by
/// their credit alone are read off one training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of the system.
    pub system: usize,
    /// Index of the trial.
    pub trial: usize,
    /// The seed.
    pub seed: u64,
}

/// A checked comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was asked for, with every method by its own name and every variant as options.
    pub config: CompareConfig,
    /// The systems, in the configuration's order.
    pub systems: Vec<System>,
    /// Index of the system that all others are held against, where there is one.
    pub baseline: Option<usize>,
    /// The truths that every map is held against, as the configuration lists them.
    pub truths: Vec<&'static Truth>,
    /// How every map's ignorance is estimated, as the configuration lists it.
    pub estimates: Vec<Estimate>,
    /// Methods that a star does not stand for: with their default options they read a column of their own.
    pub left_out: Vec<&'static str>,
}

impl Plan {
    /// Checks a configuration.
    ///
    /// # Errors
    /// The first thing that is wrong, with the way out.
    pub fn new(config: CompareConfig) -> Result<Self, CompareError> {
        check_settings(&config)?;
        let (config, left_out) = spelled_out(config)?;
        let systems = config
            .methods
            .iter()
            .map(|entry| system(&config, entry))
            .collect::<Result<Vec<_>, _>>()?;
        check_distinct(&systems)?;
        check_equal_trials(&config, &systems)?;
        let baseline = baseline(&config, &systems)?;
        let truths = truths(&config)?;
        let estimates = estimates(&config.ignorance, &config.train.trainable)?;
        Ok(Self {
            config,
            systems,
            baseline,
            truths,
            estimates,
            left_out,
        })
    }

    /// Whether any system has values to choose among.
    pub fn tunes(&self) -> bool {
        self.systems.iter().any(|system| system.trials.len() > 1)
    }

    /// How many seeds tuning uses.
    pub fn tune_seeds(&self) -> usize {
        self.config.tune_seeds.unwrap_or(self.config.seeds.len())
    }

    /// The cells of tuning: every trial with the first seeds. Cells of one seed follow each other, so that what depends
    /// on the seed alone can be handed on.
    pub fn tuning_cells(&self) -> Vec<Cell> {
        let seeds = &self.config.seeds[..self.tune_seeds()];
        seeds
            .iter()
            .flat_map(|seed| {
                self.systems
                    .iter()
                    .enumerate()
                    .flat_map(move |(system, s)| {
                        (0..s.trials.len()).map(move |trial| Cell {
                            system,
                            trial,
                            seed: *seed,
                        })
                    })
            })
            .collect()
    }

    /// The cells that are left once each system's trial is chosen (`chosen[system]`): the other seeds.
    pub fn final_cells(&self, chosen: &[usize]) -> Vec<Cell> {
        let seeds = &self.config.seeds[self.tune_seeds()..];
        seeds
            .iter()
            .flat_map(|seed| {
                chosen.iter().enumerate().map(|(system, trial)| Cell {
                    system,
                    trial: *trial,
                    seed: *seed,
                })
            })
            .collect()
    }

    /// How many cells there are in all.
    pub fn cell_count(&self) -> usize {
        let later = self.config.seeds.len() - self.tune_seeds();
        let trials: usize = self.systems.iter().map(|system| system.trials.len()).sum();
        trials * self.tune_seeds() + self.systems.len() * later
    }

    /// The trainings behind some cells, each as the indices in `cells` of those that are read off it: a credit has no say in
    /// training, so that cells of one seed and one configuration share theirs. In the order of their first cells.
    pub fn trainings(&self, cells: &[Cell]) -> Vec<Vec<usize>> {
        let mut trainings: Vec<Vec<usize>> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (index, cell) in cells.iter().enumerate() {
            let key = json!(self.train_config(*cell)).to_string();
            let place = *places.entry(key).or_insert_with(|| {
                trainings.push(Vec::new());
                trainings.len() - 1
            });
            trainings[place].push(index);
        }
        trainings
    }

    /// How many trainings there are in all: the least and the most. They differ where systems that share trainings choose among
    /// values, each for itself, and further seeds are trained with what was chosen.
    pub fn training_count(&self) -> (usize, usize) {
        let tuning = self.trainings(&self.tuning_cells()).len();
        let later = self.config.seeds.len() - self.tune_seeds();
        // Systems with a configuration in common, by all the configurations of theirs.
        let mut groups: Vec<(BTreeSet<String>, usize)> = Vec::new();
        for system in &self.systems {
            let trains = system.trials.iter().map(|trial| &trial.train);
            let mut all: BTreeSet<String> = trains.map(|train| json!(train).to_string()).collect();
            let mut systems = 1;
            groups.retain(|(others, count)| {
                let apart = others.is_disjoint(&all);
                if !apart {
                    all.extend(others.iter().cloned());
                    systems += count;
                }
                apart
            });
            groups.push((all, systems));
        }
        let most = groups.iter().map(|(all, systems)| all.len().min(*systems));
        (
            tuning + later * groups.len(),
            tuning + later * most.sum::<usize>(),
        )
    }

    /// A cell's name: safe in any file system, and one cell's alone.
    pub fn cell_name(&self, cell: Cell) -> String {
        let label: String = self.systems[cell.system]
            .label
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(40)
            .collect();
        format!(
            "{:02}-{label}-trial-{}-seed-{}",
            cell.system, cell.trial, cell.seed
        )
    }

    /// A cell's configuration of training.
    pub fn train_config(&self, cell: Cell) -> TrainConfig {
        TrainConfig {
            seed: cell.seed,
            ..self.systems[cell.system].trials[cell.trial].train.clone()
        }
    }

    /// A cell in words: `ava_p, seed 1, learning_rate 0.002`.
    pub fn cell_words(&self, cell: Cell) -> String {
        let system = &self.systems[cell.system];
        let values: String = system.trials[cell.trial]
            .values
            .iter()
            .map(|(name, value)| format!(", {name} {value}"))
            .collect();
        format!("{}, seed {}{values}", system.label, cell.seed)
    }
}

fn check_settings(config: &CompareConfig) -> Result<(), CompareError> {
    if config.methods.is_empty() {
        return wrong("no method is listed; add at least one `[[method]]` with a `name`");
    }
    if config.seeds.is_empty() {
        return wrong("`seeds` is empty; list at least one, such as seeds = [0, 1, 2, 3, 4]");
    }
    // One seed twice is the same training twice, and would make spreads look smaller than they are.
    for (i, seed) in config.seeds.iter().enumerate() {
        if config.seeds[..i].contains(seed) {
            return wrong(format!("seed {seed} is listed twice in `seeds`"));
        }
    }
    if let Some(count) = config.tune_seeds
        && (count == 0 || count > config.seeds.len())
    {
        return wrong(format!(
            "`tune_seeds` is {count}; use 1 to {}, the number of seeds",
            config.seeds.len()
        ));
    }
    for (name, share) in [("test", config.test), ("validation", config.validation)] {
        if !(0.0..1.0).contains(&share) {
            return wrong(format!(
                "`{name}` is {share}; use a share from 0 to below 1"
            ));
        }
    }
    if config.test == 0.0 && config.test_data.is_none() {
        return wrong("`test` is 0 and there is no `test_data`: no row would be left to test on");
    }
    if config.limit == Some(0) {
        return wrong("`limit` is 0, which leaves no row; take at least 1");
    }
    if !(100..=100_000).contains(&config.resamples) {
        return wrong(format!(
            "`resamples` is {}; use 100 to 100000",
            config.resamples
        ));
    }
    Ok(())
}

fn system(config: &CompareConfig, entry: &MethodEntry) -> Result<System, CompareError> {
    let label = entry.label.clone().unwrap_or_else(|| {
        let variant = entry.variant.iter().map(|name| format!(" {name}"));
        let credit = (entry.credit != "own").then(|| format!(" + {}", entry.credit));
        let more: String = variant.chain(credit).collect();
        format!("{}{more}", entry.name)
    });
    if label.trim().is_empty() {
        return wrong(format!("a `label` of method `{}` is empty", entry.name));
    }
    let unfit = |error: credit::CreditError| CompareError::Config(format!("{label}: {error}"));
    let credit = credit::by_name(&entry.credit).map_err(unfit)?;
    let mut trials = Vec::new();
    let mut rows = RowKind::Pairs;
    for values in combinations(&label, &entry.tune)? {
        let mut train = TrainConfig {
            method: entry.name.clone(),
            options: Value::Object(entry.options.clone()),
            held_out: 0.0,
            eval_steps: 0,
            eval_rows: 0,
            early_stopping_patience: 0,
            ..config.train.clone()
        };
        for (name, value) in &values {
            train = tuned(train, &label, name, value)?;
        }
        let objective = train.check().map_err(|error| CompareError::Train {
            place: label.clone(),
            error,
        })?;
        rows = objective.rows();
        let moves = !matches!(train.trainable, Trainable::Heads);
        credit
            .check(objective.as_ref(), moves)
            .map_err(|error| CompareError::Config(format!("{label}: {error}")))?;
        if credit.needs.reference && !objective.needs_reference() {
            return wrong(format!(
                "{label}: the credit `{}` reads the policy before training, of which `{}` keeps no copy here; leave the credit out",
                credit.name, entry.name
            ));
        }
        trials.push(Trial { values, train });
    }
    Ok(System {
        label,
        method: entry.name.clone(),
        credit,
        rows,
        tune: entry.tune.clone(),
        trials,
    })
}

/// Every combination of the listed values, the last setting moving fastest; one empty combination where none is listed.
fn combinations(
    label: &str,
    tune: &BTreeMap<String, Vec<Value>>,
) -> Result<Vec<BTreeMap<String, Value>>, CompareError> {
    let mut all = vec![BTreeMap::new()];
    for (name, values) in tune {
        if values.is_empty() {
            return wrong(format!(
                "{label}: `tune.{name}` is empty; list the values to try"
            ));
        }
        for (i, value) in values.iter().enumerate() {
            if values[..i].contains(value) {
                return wrong(format!("{label}: `tune.{name}` lists {value} twice"));
            }
        }
        if all.len() * values.len() > MAX_TRIALS {
            return wrong(format!(
                "{label}: `tune` has more than {MAX_TRIALS} combinations; list fewer values"
            ));
        }
        all = all
            .iter()
            .flat_map(|before: &BTreeMap<String, Value>| {
                values.iter().map(move |value| {
                    let mut next = before.clone();
                    next.insert(name.clone(), value.clone());
                    next
                })
            })
            .collect();
    }
    Ok(all)
}

/// A configuration with one tuned value: a training setting that is no part of the budget, or a switch of the method.
fn tuned(
    mut train: TrainConfig,
    label: &str,
    name: &str,
    value: &Value,
) -> Result<TrainConfig, CompareError> {
    let settings = json!(TrainConfig::default());
    if TUNABLE.contains(&name) {
        let Some(number) = value.as_f64() else {
            return wrong(format!(
                "{label}: `tune.{name}` lists {value}, which is no number"
            ));
        };
        match name {
            "learning_rate" => train.learning_rate = number,
            "head_learning_rate" => train.head_learning_rate = Some(number),
            "weight_decay" => train.weight_decay = number,
            "warmup_ratio" => train.warmup_ratio = number,
            _ => train.max_grad_norm = number,
        }
        return Ok(train);
    }
    if settings.get(name).is_some() {
        return wrong(format!(
            "{label}: `{name}` cannot be tuned: it is the same for all methods, or they would not be on equal terms. Tune {}, or a switch of the method",
            TUNABLE.join(", ")
        ));
    }
    if let Value::Object(options) = &mut train.options {
        if options.contains_key(name) {
            return wrong(format!(
                "{label}: `{name}` stands both under `options` and under `tune`; keep one"
            ));
        }
        options.insert(name.into(), value.clone());
    }
    // A switch that the method does not have is told here, together with what else can be tuned.
    if let Err(TrainError::Objective(error)) = train.check() {
        return wrong(format!(
            "{label}: {error}. Of training itself these can be tuned: {}",
            TUNABLE.join(", ")
        ));
    }
    Ok(train)
}

fn check_distinct(systems: &[System]) -> Result<(), CompareError> {
    for (i, system) in systems.iter().enumerate() {
        for before in &systems[..i] {
            if before.label.trim() == system.label.trim() {
                return wrong(format!(
                    "two systems are called `{}`; give one of them another `label`",
                    system.label
                ));
            }
            if before.credit.name == system.credit.name && before.trials == system.trials {
                return wrong(format!(
                    "`{}` and `{}` are the same method with the same options and values; remove one",
                    before.label, system.label
                ));
            }
        }
    }
    Ok(())
}

fn check_equal_trials(config: &CompareConfig, systems: &[System]) -> Result<(), CompareError> {
    let Some(first) = systems.first() else {
        return Ok(());
    };
    let other = systems
        .iter()
        .find(|system| system.trials.len() != first.trials.len());
    match other {
        Some(other) if !config.unequal_trials => wrong(format!(
            "`{}` has {} tuning trials and `{}` has {}: more trials are a larger budget. Give every method as many, or set unequal_trials = true, which the report then says",
            first.label,
            first.trials.len(),
            other.label,
            other.trials.len()
        )),
        _ => Ok(()),
    }
}

/// The strongest plain baseline: a Bradley-Terry model whose score is the sum of its token scores.
const BASELINE_METHOD: &str = "bradley_terry_sum";

fn baseline(config: &CompareConfig, systems: &[System]) -> Result<Option<usize>, CompareError> {
    let Some(label) = &config.baseline else {
        return Ok(systems
            .iter()
            .position(|s| s.method == BASELINE_METHOD && s.credit.name == "own"));
    };
    match systems.iter().position(|system| &system.label == label) {
        Some(index) => Ok(Some(index)),
        None => {
            let labels = systems.iter().map(|system| system.label.clone());
            wrong(format!(
                "`baseline` is `{label}`, and no system has that label; labels: {}",
                crate::plain::nearest_first(label, labels).join(", ")
            ))
        }
    }
}

fn truths(config: &CompareConfig) -> Result<Vec<&'static Truth>, CompareError> {
    let mut truths = Vec::with_capacity(config.truths.len());
    for (i, entry) in config.truths.iter().enumerate() {
        let place =
            |message: String| CompareError::Config(format!("`[[truth]]` {}: {message}", i + 1));
        let truth = Truth::by_name(&entry.kind).map_err(|error| place(error.to_string()))?;
        if entry.file.is_none() && truth.needs_file {
            return Err(place(format!(
                "`{}` needs a file, `file = \"...\"`: {}",
                truth.name, truth.about
            )));
        }
        if entry.limit == Some(0) {
            return Err(place(
                "`limit` is 0: no row would be left; use 1 or more, or leave it out".into(),
            ));
        }
        // The same truth on the same rows would count twice.
        let before = &config.truths[..i];
        if before
            .iter()
            .any(|b| (&b.kind, &b.file) == (&entry.kind, &entry.file))
        {
            return Err(place(format!(
                "{} is listed twice; keep one",
                entry.words()
            )));
        }
        truths.push(truth);
    }
    Ok(truths)
}
