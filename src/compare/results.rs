//! The comparison's result: everything that the report shows, as one value with a versioned schema.

use super::cell::{CellRecord, Validation};
use super::checks::{CheckResult, checks, trust};
use super::config::CompareConfig;
use super::floors::Floor;
use super::ignorance::{self, IgnoranceResult};
use super::paired::{Comparison, compare};
use super::plan::Plan;
use super::summary::{Aggregate, Series, aggregate, judge};
use super::truths::{Assessment, NamedFloor, TruthResult};
use crate::eval::Metric;
use crate::eval::calibration::CalibrationPoint;
use crate::objective::{METHODS, RowKind};
use crate::reward::{Trust, Uncertainty};
use crate::train::{self, DeviceInfo, EncodedRow, ReadyRows};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// The schema's name and version.
pub const SCHEMA: &str = "avascope.compare/3";

/// One part of the rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Rows that were used.
    pub rows: usize,
    /// Rows left out because an answer has no token.
    pub skipped: usize,
    /// Rows cut to fit the context.
    pub truncated: usize,
    /// SHA-256 over the content of its rows.
    pub fingerprint: String,
}

/// The rows of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Where they come from.
    pub source: String,
    /// SHA-256 over the content of all rows, before they were split.
    pub fingerprint: String,
    /// Rows that methods train on.
    pub train: PartSummary,
    /// Rows on which tuned values are chosen.
    pub validation: PartSummary,
    /// Rows behind every figure.
    pub test: PartSummary,
    /// Test rows whose prompt (where there is one) also stands in a training row.
    pub test_prompts_in_training: usize,
    /// Test rows whose prompt and answers all stand in one training row: a split by hash has none, a file of test rows
    /// may.
    pub test_rows_in_training: usize,
}

/// The model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Parameters of the trunk and LM head.
    pub parameters: usize,
}

/// A tuned setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The setting.
    pub setting: String,
    /// The value that was chosen.
    pub value: Value,
    /// The values tried.
    pub tried: Vec<Value>,
}

/// A trial of a system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Its values.
    pub values: BTreeMap<String, Value>,
    /// Mean validation accuracy over the seeds of tuning.
    pub validation_accuracy: Metric,
    /// Seeds whose training diverged.
    pub failed: usize,
    /// Whether it was chosen.
    pub chosen: bool,
}

/// A trained system over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemResult {
    /// Its name in the report.
    pub label: String,
    /// Its method.
    pub method: String,
    /// The method's name for people.
    pub title: String,
    /// Where the method comes from.
    pub citation: String,
    /// The variant of the method, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How its token rewards are read off.
    pub credit: String,
    /// Pairs, or the chosen answers alone.
    pub learns_from: String,
    /// What its standard deviations are.
    pub uncertainty: Uncertainty,
    /// Every switch of the method as it was used.
    pub options: Value,
    /// Tuned settings.
    pub tuned: Vec<Tuned>,
    /// Trials.
    pub trials: Vec<TrialResult>,
    /// Seeds of the chosen trial whose training diverged.
    pub failed_seeds: Vec<u64>,
    /// Figures over seeds.
    pub truths: Vec<Aggregate>,
    /// `checked` if the map of every seed passed every truth of [`Results::checks`] that is decided, at least one of them with
    /// people's labels.
    pub trust: Trust,
    /// Stated against found coverage, averaged over seeds; empty where undefined.
    pub reliability: Vec<CalibrationPoint>,
    /// (true reward, learned mean) of some tokens, first seed; for the plot.
    #[serde(skip)]
    pub scatter: Vec<(f32, f32)>,
}

/// A floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorResult {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// The penalty chosen by cross-validation on training rows, and those tried.
    pub penalty: Option<(f64, Vec<f64>)>,
    /// Figures.
    pub truths: Vec<Aggregate>,
}

/// A cell: one system's reading of one training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The system.
    pub system: String,
    /// Index of its trial.
    pub trial: usize,
    /// The trial's values.
    pub values: BTreeMap<String, Value>,
    /// The seed.
    pub seed: u64,
    /// Whether the system's figures include it.
    pub chosen: bool,
    /// Seconds of training and measuring. Cells that differ by their credit alone share a training, which counts in each.
    pub seconds: f64,
    /// Parameters that trained.
    pub trainable_parameters: usize,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// Why there are no figures.
    pub failure: Option<String>,
    /// Validation.
    pub validation: Option<Validation>,
    /// Truths.
    pub truths: Vec<TruthResult>,
    /// The truths of `[[truth]]`, in the configuration's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<train::TruthResult>,
}

/// A truth that no system and no floor has a value for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The truth.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// The command that makes it again.
    pub command: String,
    /// The configuration.
    pub config: CompareConfig,
    /// The device and its arithmetic.
    pub device: DeviceInfo,
    /// The model.
    pub model: ModelSummary,
    /// The rows.
    pub data: DataSummary,
    /// Systems in the configuration's order.
    pub systems: Vec<SystemResult>,
    /// Floors.
    pub floors: Vec<FloorResult>,
    /// Each truth's systems against the baseline.
    pub comparisons: Vec<Comparison>,
    /// The truths of `[[truth]]`: what every system's map was held against.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// How far each system's map may be off for want of data, by every estimate.
    #[serde(default)]
    pub ignorance: Vec<IgnoranceResult>,
    /// Truths that these rows do not have.
    pub left_out: Vec<LeftOut>,
    /// What a reader should know before believing a figure.
    pub caveats: Vec<String>,
    /// Every cell.
    pub cells: Vec<CellResult>,
}

/// What results are made of.
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The chosen trial of each system.
    pub chosen: &'a [usize],
    /// All cells.
    pub cells: &'a [CellRecord],
    /// The floors.
    pub floors: &'a [Floor],
    /// The rows.
    pub data: DataSummary,
    /// The model.
    pub model: ModelSummary,
    /// The device.
    pub device: DeviceInfo,
    /// The command that makes it again.
    pub command: String,
}

impl PartSummary {
    /// The summary of one part.
    pub fn of(rows: &ReadyRows) -> Self {
        Self {
            rows: rows.rows().len(),
            skipped: rows.skipped().len(),
            truncated: rows.rows().iter().filter(|row| row.truncated()).count(),
            fingerprint: rows.fingerprint().into(),
        }
    }
}

impl DataSummary {
    /// The summary of rows that were split; `fingerprint` is that of all of them.
    pub fn of(
        source: &str,
        fingerprint: &str,
        train: &ReadyRows,
        validation: &ReadyRows,
        test: &ReadyRows,
    ) -> Self {
        let prompts: HashSet<&str> = train.rows().iter().map(|row| row.prompt.as_str()).collect();
        let shared = test
            .rows()
            .iter()
            .filter(|row| !row.prompt.trim().is_empty() && prompts.contains(row.prompt.as_str()))
            .count();
        let content = |row: &EncodedRow| {
            let mut answers: Vec<String> = row
                .sides
                .iter()
                .map(|side| side.encoded.answer_text.clone())
                .collect();
            answers.sort();
            (row.prompt.clone(), answers)
        };
        let trained: HashSet<_> = train.rows().iter().map(content).collect();
        let seen = |row: &&EncodedRow| trained.contains(&content(row));
        Self {
            source: source.into(),
            fingerprint: fingerprint.into(),
            train: PartSummary::of(train),
            validation: PartSummary::of(validation),
            test: PartSummary::of(test),
            test_prompts_in_training: shared,
            test_rows_in_training: test.rows().iter().filter(|row| seen(row)).count(),
        }
    }
}

/// Puts a comparison together.
pub fn results(inputs: Inputs<'_>) -> Results {
    let Inputs {
        plan,
        chosen,
        cells,
        floors,
        data,
        model,
        device,
        command,
    } = inputs;
    let names = truth_names(cells, floors);
    let used: Vec<Vec<&CellRecord>> = plan
        .systems
        .iter()
        .zip(chosen)
        .map(|(system, trial)| {
            cells
                .iter()
                .filter(|cell| cell.system == system.label && cell.trial == *trial)
                .collect()
        })
        .collect();
    let checks = checks(plan, &used);
    let ignorance = ignorance::results(plan, &used);
    let mut systems: Vec<SystemResult> = (0..plan.systems.len())
        .map(|index| SystemResult {
            trust: trust(index, &checks, &plan.config.seeds),
            ..system_result(plan, index, chosen[index], cells, &used[index])
        })
        .collect();
    let mut floor_results: Vec<FloorResult> = floors
        .iter()
        .map(|floor| FloorResult {
            name: floor.name.clone(),
            about: floor.about.clone(),
            penalty: floor.penalty.clone(),
            truths: Vec::new(),
        })
        .collect();

    let mut comparisons = Vec::new();
    let mut left_out = Vec::new();
    for name in names {
        let (mut of_systems, of_floors) = series_of(&name, &used, floors);
        let any = of_systems
            .iter()
            .chain(&of_floors)
            .any(|series| series.aggregate.metric.value.is_some());
        if !any {
            // A system's reasons tell more than a floor's.
            let mut reasons: Vec<&str> = Vec::new();
            for series in of_systems.iter().chain(of_floors.first()) {
                if let Some(reason) = &series.aggregate.metric.undefined
                    && (reasons.is_empty() || of_systems.iter().any(|s| std::ptr::eq(s, series)))
                {
                    let reason = reason.trim_start_matches("undefined: ");
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
            left_out.push(LeftOut {
                name,
                reason: match reasons.is_empty() {
                    true => "no reason is known".into(),
                    false => reasons.join("; "),
                },
            });
            continue;
        }
        let named: Vec<(&str, &Series)> = floors
            .iter()
            .map(|floor| floor.name.as_str())
            .zip(&of_floors)
            .collect();
        let own = own_floors(&name, cells, floors);
        for series in &mut of_systems {
            judge(series, &named, &own);
        }
        let labels = plan.systems.iter().map(|system| system.label.as_str());
        let named: Vec<(&str, &Series)> = labels.zip(&of_systems).collect();
        if let Some(baseline) = plan.baseline {
            let others: Vec<(&str, &Series)> = named
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != baseline)
                .map(|(_, system)| *system)
                .collect();
            comparisons.extend(
                compare(&name, named[baseline], &others).filter(|c| !c.differences.is_empty()),
            );
        }
        for (system, series) in systems.iter_mut().zip(of_systems) {
            system.truths.push(series.aggregate);
        }
        for (floor, series) in floor_results.iter_mut().zip(of_floors) {
            floor.truths.push(series.aggregate);
        }
    }

    let cells = cells
        .iter()
        .map(|cell| cell_result(plan, chosen, cell))
        .collect();
    let mut results = Results {
        schema: SCHEMA.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        command,
        config: plan.config.clone(),
        device,
        model,
        data,
        systems,
        floors: floor_results,
        comparisons,
        checks,
        ignorance,
        left_out,
        caveats: Vec::new(),
        cells,
    };
    results.caveats = super::caveats::caveats(&results, plan);
    results
}

/// The truths' names in the order of the first assessment that has them.
fn truth_names(cells: &[CellRecord], floors: &[Floor]) -> Vec<String> {
    let assessments = cells
        .iter()
        .map(|cell| &cell.assessment)
        .chain(floors.iter().map(|floor| &floor.assessment));
    let mut names: Vec<String> = Vec::new();
    for truth in assessments.flat_map(|assessment| &assessment.truths) {
        if !names.contains(&truth.result.name) {
            names.push(truth.result.name.clone());
        }
    }
    names
}

/// What the truth itself names as its floors.
fn own_floors(name: &str, cells: &[CellRecord], floors: &[Floor]) -> Vec<NamedFloor> {
    cells
        .iter()
        .map(|cell| &cell.assessment)
        .chain(floors.iter().map(|floor| &floor.assessment))
        .flat_map(|assessment| &assessment.truths)
        .filter(|truth| truth.result.name == name)
        .map(|truth| truth.result.floors.clone())
        .next()
        .unwrap_or_default()
}

fn series_of(
    name: &str,
    used: &[Vec<&CellRecord>],
    floors: &[Floor],
) -> (Vec<Series>, Vec<Series>) {
    let of_systems = used
        .iter()
        .map(|cells| {
            let good: Vec<&Assessment> = cells
                .iter()
                .filter(|cell| cell.failure.is_none())
                .map(|cell| &cell.assessment)
                .collect();
            let failures: Vec<&str> = cells
                .iter()
                .filter_map(|cell| cell.failure.as_deref())
                .collect();
            aggregate(name, &good, &failures)
        })
        .collect();
    let of_floors = floors
        .iter()
        .map(|floor| {
            let failures: Vec<&str> = floor.failure.as_deref().into_iter().collect();
            aggregate(name, &[&floor.assessment], &failures)
        })
        .collect();
    (of_systems, of_floors)
}

fn system_result(
    plan: &Plan,
    index: usize,
    chosen: usize,
    cells: &[CellRecord],
    used: &[&CellRecord],
) -> SystemResult {
    let system = &plan.systems[index];
    let method = METHODS.iter().find(|method| method.name == system.method);
    let mut options = method.map_or(Value::Null, |method| (method.defaults)());
    let given = &system.trials[chosen].train.options;
    // That the plan was made says that it resolves.
    let given = method.and_then(|method| method.resolve(given).ok());
    if let (Value::Object(all), Some(Value::Object(given))) = (&mut options, given) {
        all.extend(given);
    }
    let good: Vec<&&CellRecord> = used.iter().filter(|cell| cell.failure.is_none()).collect();
    SystemResult {
        label: system.label.clone(),
        method: system.method.clone(),
        title: method.map_or_else(String::new, |method| method.title.into()),
        citation: method.map_or_else(String::new, |method| method.citation.into()),
        variant: plan.config.methods[index].variant.clone(),
        credit: system.credit.name.into(),
        learns_from: match system.rows {
            RowKind::Pairs | RowKind::Unpaired => "pairs".into(),
            RowKind::Demonstrations => "the chosen answers alone".into(),
        },
        uncertainty: good
            .first()
            .map_or(Uncertainty::PriorOnly, |cell| cell.uncertainty),
        options,
        tuned: system
            .tune
            .iter()
            .map(|(setting, tried)| Tuned {
                setting: setting.clone(),
                value: system.trials[chosen]
                    .values
                    .get(setting)
                    .cloned()
                    .unwrap_or_default(),
                tried: tried.clone(),
            })
            .collect(),
        trials: (0..system.trials.len())
            .map(|trial| trial_result(plan, index, trial, trial == chosen, cells))
            .collect(),
        failed_seeds: used
            .iter()
            .filter(|cell| cell.failure.is_some())
            .map(|cell| cell.seed)
            .collect(),
        truths: Vec::new(),
        trust: Trust::Exploratory,
        reliability: mean_curve(&good),
        scatter: good
            .first()
            .map_or_else(Vec::new, |cell| cell.assessment.scatter.clone()),
    }
}

fn trial_result(
    plan: &Plan,
    index: usize,
    trial: usize,
    chosen: bool,
    cells: &[CellRecord],
) -> TrialResult {
    let system = &plan.systems[index];
    let tuning = &plan.config.seeds[..plan.tune_seeds()];
    let own: Vec<&CellRecord> = cells
        .iter()
        .filter(|cell| {
            cell.system == system.label && cell.trial == trial && tuning.contains(&cell.seed)
        })
        .collect();
    let accuracies: Vec<f64> = own
        .iter()
        .filter_map(|cell| cell.validation.as_ref()?.accuracy.value)
        .collect();
    TrialResult {
        values: system.trials[trial].values.clone(),
        validation_accuracy: if accuracies.is_empty() {
            Metric::undefined("no pair was validated")
        } else {
            Metric::of(crate::eval::mean(&accuracies))
        },
        failed: own.iter().filter(|cell| cell.failure.is_some()).count(),
        chosen,
    }
}

/// The mean curve over seeds; empty unless every seed has one.
fn mean_curve(cells: &[&&CellRecord]) -> Vec<CalibrationPoint> {
    let curves: Vec<&Vec<CalibrationPoint>> = cells
        .iter()
        .map(|cell| &cell.assessment.reliability)
        .collect();
    let Some(first) = curves.first() else {
        return Vec::new();
    };
    if curves.iter().any(|curve| curve.len() != first.len()) {
        return Vec::new();
    }
    (0..first.len())
        .map(|i| CalibrationPoint {
            expected: first[i].expected,
            observed: curves.iter().map(|curve| curve[i].observed).sum::<f64>()
                / curves.len() as f64,
            count: first[i].count,
        })
        .collect()
}

fn cell_result(plan: &Plan, chosen: &[usize], cell: &CellRecord) -> CellResult {
    let system = plan.systems.iter().position(|s| s.label == cell.system);
    CellResult {
        system: cell.system.clone(),
        trial: cell.trial,
        values: cell.values.clone(),
        seed: cell.seed,
        chosen: system.is_some_and(|system| chosen[system] == cell.trial),
        seconds: cell.seconds,
        trainable_parameters: cell.trainable_parameters,
        last_loss: cell.last_loss,
        failure: cell.failure.clone(),
        validation: cell.validation.clone(),
        truths: cell
            .assessment
            .truths
            .iter()
            .map(|truth| truth.result.clone())
            .collect(),
        checks: cell.checks.clone(),
    }
}
