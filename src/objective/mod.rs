//! One formula a file. An objective is a pure function of [`Steps`] and its own switches; adding a method touches one
//! new file, one line of [`METHODS`], and its test.

mod ava_config;
mod ava_d;
mod ava_p;
mod ava_terms;
pub mod avril;
mod bradley_terry;
#[cfg(test)]
mod golden;
pub mod numerics;

pub use ava_config::{AvaConfig, Cer, CerScore, KlTdOn, Negative, Normalise, PairConfig, Terminal};
pub use bradley_terry::bradley_terry_loss;

use crate::reward::{Steps, StepsConfig};
use burn::tensor::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What a method learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Preference pairs.
    Pairs,
    /// Demonstrations.
    Demonstrations,
}

/// The score that ranks answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreKind {
    /// The last token's mean.
    Last,
    /// The sum of the means.
    Sum,
    /// The mean of the means.
    Mean,
}

/// Where a run is, for terms that are warmed up.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps taken.
    pub step: usize,
    /// Steps planned.
    pub total: usize,
}

/// An objective's value on a batch. Nothing is read back here.
pub struct Evaluation {
    /// The loss `[1]`, to be minimised.
    pub loss: Tensor<1>,
    /// Named terms `[1]` for the log, without their graph.
    pub terms: Vec<(&'static str, Tensor<1>)>,
}

/// A method.
pub trait Objective: Send + Sync {
    /// What it learns from.
    fn rows(&self) -> RowKind;
    /// How its steps are read.
    fn steps_config(&self) -> &StepsConfig;
    /// Whether it needs a reference policy's log-probabilities.
    fn needs_reference(&self) -> bool {
        false
    }
    /// What deserves attention before training.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// The score that it trains, and by which answers are ranked.
    fn ranking_score(&self) -> ScoreKind;
    /// Whether it learns a standard deviation of each reward; others keep the prior's.
    fn has_posterior(&self) -> bool;
    /// Loss and terms on a batch.
    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation;
    /// Mean and standard deviation of every token's reward, each `[B, S]`.
    fn token_rewards(&self, steps: &Steps) -> (Tensor<2>, Tensor<2>) {
        (steps.mean.clone(), steps.log_std.clone().exp())
    }
    /// The temporal-difference target that its posterior explains, `[B, S]`, where it has one.
    fn td_target(&self, _steps: &Steps) -> Option<Tensor<2>> {
        None
    }
}

/// A listed method.
pub struct Method {
    /// Its name in configurations.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Where it comes from.
    pub citation: &'static str,
    /// Builds it from its switches.
    pub build: fn(&Value) -> Result<Box<dyn Objective>, ObjectiveError>,
    /// Its switches with their defaults.
    pub defaults: fn() -> Value,
}

/// Every method, in the order of teaching.
pub const METHODS: &[Method] = &[
    ava_p::METHOD,
    ava_d::METHOD,
    bradley_terry::SUM,
    bradley_terry::LAST,
];

/// Why a method cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// No method has this name.
    #[error("no method is called `{name}`; the nearest is `{nearest}`, and all are: {known}")]
    UnknownMethod {
        /// The name given.
        name: String,
        /// The nearest known one.
        nearest: String,
        /// All known ones.
        known: String,
    },
    /// The method has no such switch.
    #[error("`{method}` has no switch `{name}`; the nearest is `{nearest}`, and all are: {known}")]
    UnknownOption {
        /// The method.
        method: &'static str,
        /// The switch given.
        name: String,
        /// The nearest known one.
        nearest: String,
        /// All known ones.
        known: String,
    },
    /// A switch has a value it cannot take.
    #[error("`{method}`: {reason}")]
    BadOption {
        /// The method.
        method: &'static str,
        /// Which, and what would do.
        reason: String,
    },
}

/// Builds a method by its name and switches; absent switches keep the method's defaults.
pub fn build(name: &str, options: &Value) -> Result<Box<dyn Objective>, ObjectiveError> {
    match METHODS.iter().find(|method| method.name == name) {
        Some(method) => (method.build)(options),
        None => Err(ObjectiveError::UnknownMethod {
            name: name.into(),
            nearest: nearest(name, METHODS.iter().map(|m| m.name)).into(),
            known: METHODS
                .iter()
                .map(|m| m.name)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Whether a logged term is a mean over a micro-batch rather than a share of a sum over the whole step.
pub fn is_mean(name: &str) -> bool {
    name.starts_with("rewards/")
        || name.starts_with("ava/mu_")
        || name.starts_with("ava/sigma_")
        || matches!(
            name,
            "accuracy"
                | "margin"
                | "mean_reward"
                | "min_reward"
                | "max_reward"
                | "ava/lambda"
                | "ava/nll_per_token"
        )
}

/// Switches of a method as they are given: an object whose keys are taken out group by group.
pub(crate) struct Options {
    method: &'static str,
    given: Map<String, Value>,
    known: Vec<String>,
}

impl Options {
    /// The switches of `method`.
    pub(crate) fn new(method: &'static str, options: &Value) -> Result<Self, ObjectiveError> {
        let given = match options {
            Value::Null => Map::new(),
            Value::Object(map) => map.clone(),
            other => {
                return Err(ObjectiveError::BadOption {
                    method,
                    reason: format!(
                        "its switches are a table of names and values, and got {other}"
                    ),
                });
            }
        };
        Ok(Self {
            method,
            given,
            known: Vec::new(),
        })
    }

    /// Takes the switches that `T` knows.
    pub(crate) fn take<T: DeserializeOwned + Serialize + Default>(
        &mut self,
    ) -> Result<T, ObjectiveError> {
        let mut merged = match serde_json::to_value(T::default()) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for (name, slot) in &mut merged {
            self.known.push(name.clone());
            if let Some(value) = self.given.remove(name) {
                *slot = value;
            }
        }
        serde_json::from_value(Value::Object(merged)).map_err(|error| ObjectiveError::BadOption {
            method: self.method,
            reason: error.to_string(),
        })
    }

    /// Refuses whatever nobody took.
    pub(crate) fn finish(self) -> Result<(), ObjectiveError> {
        match self.given.keys().next() {
            None => Ok(()),
            Some(name) => Err(ObjectiveError::UnknownOption {
                method: self.method,
                nearest: nearest(name, self.known.iter().map(String::as_str)).into(),
                name: name.clone(),
                known: self.known.join(", "),
            }),
        }
    }
}

/// The switches of several groups with their defaults, as one object.
pub(crate) fn merged_defaults(groups: &[Value]) -> Value {
    let mut all = Map::new();
    for group in groups {
        if let Value::Object(map) = group {
            all.extend(map.clone());
        }
    }
    Value::Object(all)
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known
        .min_by_key(|candidate| edit_distance(name, candidate))
        .unwrap_or("")
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_method_is_answered_with_the_nearest_name() {
        let error = build("ava-p", &Value::Null).err().unwrap().to_string();
        assert!(
            error.contains("`ava_p`") && error.contains("bradley_terry"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_switch_is_answered_with_the_nearest_name() {
        let error = build("ava_p", &serde_json::json!({"lamda": 0.1}))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("nearest is `lambda`"), "{error}");
        let error = build("ava_d", &serde_json::json!({"cer": "probit"}))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("no switch `cer`"), "{error}");
    }

    #[test]
    fn a_switch_of_the_wrong_kind_names_what_would_do() {
        let error = build("ava_p", &serde_json::json!({"cer": "tanh"}))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("logsigmoid"), "{error}");
        assert!(build("ava_p", &serde_json::json!({"gamma": "much"})).is_err());
        assert!(build("ava_p", &serde_json::json!(3)).is_err());
    }

    #[test]
    fn every_method_builds_from_its_own_defaults() {
        for method in METHODS {
            assert!(
                (method.build)(&(method.defaults)()).is_ok(),
                "{}",
                method.name
            );
            assert!((method.build)(&Value::Null).is_ok(), "{}", method.name);
        }
    }
}
