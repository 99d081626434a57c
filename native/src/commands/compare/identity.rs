//! What a comparison is asked to be, and whether a folder belongs to it.

use crate::{exit, models, settings};
use anyhow::{Context as _, Result};
use avascope::compare::{self, CompareConfig, FIXED_TRAIN_KEYS};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What the folder belongs to.
pub(super) const IDENTITY: &str = "compare.json";

/// Reads the configuration; what it says in vain is an error.
pub(super) fn read(path: &Path) -> Result<CompareConfig> {
    let (config, table): (CompareConfig, _) = settings::read(path)?;
    if let Some(toml::Value::Table(train)) = table.get("train")
        && let Some(key) = FIXED_TRAIN_KEYS
            .iter()
            .find(|key| train.contains_key(**key))
    {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{}: `{key}` under [train] has no say in a comparison: methods and options stand under [[method]], `seeds`, `test` and `validation` at the top, and every method takes all its steps",
                path.display()
            ),
        ));
    }
    Ok(config)
}

/// All settings that change a number, with paths that hold from any folder.
pub(super) fn settings(config: &CompareConfig) -> Value {
    let absolute = |path: &String| {
        if path == models::WORLD || path == "-" {
            return path.clone();
        }
        std::path::absolute(path).map_or_else(|_| path.clone(), |path| path.display().to_string())
    };
    let truths = config.truths.iter().cloned().map(|mut entry| {
        entry.file = entry.file.as_ref().map(absolute);
        entry
    });
    let config = CompareConfig {
        truths: truths.collect(),
        out: String::new(),
        device: String::new(),
        model: absolute(&config.model),
        data: absolute(&config.data),
        tokenizer: config.tokenizer.as_ref().map(absolute),
        test_data: config.test_data.as_ref().map(absolute),
        ..config.clone()
    };
    json!({"schema": compare::SCHEMA, "config": config})
}

/// The identity of the comparison in a folder; `None` where there is none yet.
pub(super) fn belongs(out: &Path) -> Result<Option<Value>> {
    let path = out.join(IDENTITY);
    if path.is_file() {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; choose another --out", path.display()))?;
        return Ok(Some(value));
    }
    let occupied = fs::read_dir(out)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    if occupied {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} holds files that are no comparison's; choose another `out`",
                out.display()
            ),
        ));
    }
    Ok(None)
}

/// An error that names what differs, where a folder's comparison is another one. Only what `now` knows is compared.
pub(super) fn refuse_other(out: &Path, before: &Value, now: &Value) -> Result<()> {
    let mut different = Vec::new();
    differences("", before, now, &mut different);
    if different.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 5;
    let more = match different.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    different.truncate(SHOWN);
    Err(exit::with_code(
        exit::USAGE,
        format!(
            "{} holds a comparison with other settings ({}{more}); choose another `out`, or go on with the settings it began with",
            out.display(),
            different.join("; ")
        ),
    ))
}

/// `a.b: 1 -> 2` for every value of `now` that is another one in `before`.
fn differences(path: &str, before: &Value, now: &Value, out: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            // Which settings the file named at all also matters, but only where `now` speaks of the same part.
            let mut keys: Vec<&String> = b.keys().collect();
            if !path.is_empty() {
                keys.extend(a.keys().filter(|key| !b.contains_key(*key)));
            }
            for key in keys {
                let name = if path.is_empty() || path == "config" {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                differences(&name, &of(a), &of(b), out);
            }
        }
        (a, b) if a != b => out.push(format!("{path}: {a} -> {b}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use avascope::compare::Plan;

    #[test]
    fn the_example_lists_every_method_with_one_grid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compare-world.toml");
        let plan = Plan::new(read(&path).unwrap()).unwrap();
        let listed: Vec<&str> = plan.systems.iter().map(|s| s.method.as_str()).collect();
        for method in avascope::objective::METHODS {
            assert!(listed.contains(&method.name), "{} is missing", method.name);
        }
        assert_eq!(plan.config.seeds.len(), 5);
        assert!(plan.systems.iter().all(|s| s.tune == plan.systems[0].tune));
        assert!(plan.baseline.is_some() && plan.tunes());
        // What its first lines say.
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("= {} trainings", plan.cell_count())));
    }

    #[test]
    fn the_example_of_ablations_lists_all_that_the_paper_names() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compare-ablations.toml");
        let plan = Plan::new(read(&path).unwrap()).unwrap();
        let methods = avascope::objective::METHODS;
        let ava = methods.iter().find(|m| m.name == "ava_p").unwrap();
        // Options laid over the defaults: "w/o rwt" is the default itself.
        let full = |options: &Value| {
            let mut all = (ava.defaults)();
            for (name, value) in options.as_object().unwrap() {
                all[name] = value.clone();
            }
            all
        };
        for variant in ava.variants {
            let wanted = full(&variant.options());
            let systems = plan.systems.iter().filter(|s| s.method == "ava_p");
            let label = systems
                .filter(|s| full(&s.trials[0].train.options) == wanted)
                .map(|s| s.label.as_str())
                .next()
                .unwrap_or_default();
            assert!(label.contains(variant.name), "{}: `{label}`", variant.name);
        }
    }

    #[test]
    fn every_example_can_be_carried_out_and_one_asks_for_a_truth() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut truths = Vec::new();
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("compare-") && name.ends_with(".toml") {
                let plan = read(&path).and_then(|config| Ok(Plan::new(config)?));
                let plan = plan.unwrap_or_else(|e| panic!("{}: {e:#}", path.display()));
                truths.extend(plan.truths.iter().map(|truth| truth.name));
            }
        }
        assert!(truths.contains(&"intervention"));
    }

    #[test]
    fn what_differs_is_named_also_where_a_setting_appears_or_goes() {
        let before =
            json!({"config": {"seeds": [0], "train": {"steps": 5}, "limit": 3}, "rows": "a"});
        let now = json!({"config": {"seeds": [0, 1], "train": {"steps": 5}}});
        let mut found = Vec::new();
        differences("", &before, &now, &mut found);
        assert_eq!(found, ["seeds: [0] -> [0,1]", "limit: 3 -> null"]);
    }
}
