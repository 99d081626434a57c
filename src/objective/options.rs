//! Options of methods: JSON objects laid over the defaults.

use crate::plain::{nearest_first, plain_words};
use crate::reward::{Prior, StepsConfig};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Why a method could not be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// No such method.
    #[error("there is no method `{name}`; known methods: {}", known.join(", "))]
    UnknownMethod {
        /// What was asked for.
        name: String,
        /// All names, the nearest first.
        known: Vec<String>,
    },
    /// The method has no such option.
    #[error("`{method}` has no option `{option}`; its options: {}", known.join(", "))]
    UnknownOption {
        /// The method.
        method: &'static str,
        /// What was given.
        option: String,
        /// All options, the nearest first.
        known: Vec<String>,
    },
    /// The options are not a JSON object.
    #[error("options of `{method}` must be an object of names and values, not {found}")]
    NotAnObject {
        /// The method.
        method: &'static str,
        /// The JSON kind found.
        found: &'static str,
    },
    /// A value has the wrong type or is not one of the allowed words.
    #[error("option `{option}` of `{method}` cannot be {value}: {reason}")]
    BadValue {
        /// The method.
        method: &'static str,
        /// The option.
        option: String,
        /// The value, as JSON.
        value: String,
        /// What serde says: the allowed words or the expected type.
        reason: String,
    },
    /// A number outside its range.
    #[error("option `{option}` of `{method}` is {value}; it must be {range}")]
    OutOfRange {
        /// The method.
        method: &'static str,
        /// The option.
        option: &'static str,
        /// The value.
        value: f64,
        /// The allowed range in words.
        range: &'static str,
    },
}

/// A configuration from options laid over `T::default()`.
///
/// The keys are checked here against those of the defaults: serde's own `deny_unknown_fields` does not work together
/// with flattened structs, and would not name the nearest option.
pub(super) fn parse<T>(method: &'static str, options: &Value) -> Result<T, ObjectiveError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let Value::Object(mut merged) = defaults::<T>() else {
        return Ok(T::default());
    };
    let given = match options {
        Value::Null => return Ok(T::default()),
        Value::Object(map) => map,
        other => {
            return Err(ObjectiveError::NotAnObject {
                method,
                found: kind(other),
            });
        }
    };
    let attempt =
        |map: &serde_json::Map<String, Value>| serde_json::from_value::<T>(map.clone().into());
    for (option, value) in given {
        if !merged.contains_key(option) {
            return Err(ObjectiveError::UnknownOption {
                method,
                option: option.clone(),
                known: nearest_first(option, merged.keys().cloned()),
            });
        }
        merged.insert(option.clone(), value.clone());
        // One option at a time, so that an error names the option and not only what serde expected.
        if let Err(error) = attempt(&merged) {
            return Err(ObjectiveError::BadValue {
                method,
                option: option.clone(),
                value: value.to_string(),
                reason: reason(value, &error.to_string()),
            });
        }
    }
    attempt(&merged).map_err(|error| ObjectiveError::BadValue {
        method,
        option: "options".to_owned(),
        value: options.to_string(),
        reason: plain_words(&error.to_string()),
    })
}

/// What serde says, with the allowed words (between backticks behind "expected") in the order of their likeness to the
/// word that was given.
fn reason(value: &Value, said: &str) -> String {
    let (Value::String(given), Some((_, expected))) = (value, said.split_once("expected ")) else {
        return plain_words(said);
    };
    if !said.starts_with("unknown variant") {
        return plain_words(said);
    }
    let words = expected.split('`').skip(1).step_by(2).map(str::to_owned);
    let known: Vec<String> = nearest_first(given, words)
        .iter()
        .map(|word| format!("`{word}`"))
        .collect();
    format!("it is one of {}", known.join(", "))
}

/// Every option with its default.
pub(super) fn defaults<T: Default + Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

/// Ok when `ok`, otherwise the option is out of its range.
pub(super) fn check(
    ok: bool,
    method: &'static str,
    option: &'static str,
    value: f64,
    range: &'static str,
) -> Result<(), ObjectiveError> {
    if ok {
        return Ok(());
    }
    Err(ObjectiveError::OutOfRange {
        method,
        option,
        value,
        range,
    })
}

/// Ranges of the options that every method shares.
pub(super) fn check_steps(cfg: &StepsConfig, method: &'static str) -> Result<(), ObjectiveError> {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    check(positive(cfg.alpha), method, "alpha", cfg.alpha, "above 0")?;
    check(positive(cfg.beta), method, "beta", cfg.beta, "above 0")?;
    // Outside these, exp(2 rho) leaves the range of f32.
    check(
        cfg.rho_min >= -40.0,
        method,
        "rho_min",
        cfg.rho_min,
        "-40 or more",
    )?;
    check(
        cfg.rho_max <= 40.0,
        method,
        "rho_max",
        cfg.rho_max,
        "at most 40",
    )?;
    check(
        cfg.rho_min < cfg.rho_max,
        method,
        "rho_min",
        cfg.rho_min,
        "below rho_max",
    )?;
    let eps = cfg.sigma_eps;
    check(
        eps.is_finite() && eps >= 0.0,
        method,
        "sigma_eps",
        eps,
        "0 or more",
    )
}

/// The range of the prior's scale: beyond it, f32 loses what the divergence is made of.
pub(super) fn check_prior(prior: &Prior, method: &'static str) -> Result<(), ObjectiveError> {
    let scale = prior.prior_scale;
    let ok = (1e-3..=1e3).contains(&scale);
    check(ok, method, "prior_scale", scale, "0.001 to 1000")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
