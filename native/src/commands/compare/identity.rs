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

/// An error where another version of the program began a folder's comparison: what that kept does not tell the same things
/// apart, and its trainings measured other figures.
pub(super) fn refuse_other_version(out: &Path, before: &Value) -> Result<()> {
    let theirs = before["schema"].as_str().unwrap_or("an unnamed one");
    if theirs == compare::SCHEMA {
        return Ok(());
    }
    Err(exit::with_code(
        exit::USAGE,
        format!(
            "{} holds a comparison that another version of avascope began (its format is {theirs}, and this program's {}): it does not say in the same way which weights, tokenizer and rows its numbers come from, and is not gone on with; choose another `out`, or remove the folder, and everything is trained again",
            out.display(),
            compare::SCHEMA
        ),
    ))
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
    use std::collections::BTreeMap;

    /// The lines of a file that give a method an entry of its own.
    fn entry(method: &str, tune: &BTreeMap<String, Vec<Value>>) -> String {
        let grid: String = tune
            .iter()
            .map(|(setting, values)| format!("tune.{setting} = {}\n", json!(values)))
            .collect();
        format!("\n[[method]]\nname = \"{method}\"\noptions = {{}}\n{grid}")
    }

    #[test]
    fn the_example_stands_for_every_method_with_one_grid() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compare-world.toml");
        let plan = Plan::new(read(&path).unwrap()).unwrap();
        let listed: Vec<&str> = plan.systems.iter().map(|s| s.method.as_str()).collect();
        let grid = &plan.systems[0].tune;
        // The star stands for all but those that read a column of their own.
        let missing: String = avascope::objective::METHODS
            .iter()
            .filter(|method| !listed.contains(&method.name))
            .map(|method| entry(method.name, grid))
            .collect();
        assert!(
            missing.is_empty(),
            "add to {}, with options that read no column of the method's own:\n{missing}",
            path.display()
        );
        assert_eq!(plan.config.seeds.len(), 5);
        assert!(plan.systems.iter().all(|s| s.tune == *grid));
        assert!(plan.baseline.is_some() && plan.tunes());
        // What its first lines say.
        let (least, most) = plan.training_count();
        // Credits are read off the training of the method's own system, where they choose the same rate.
        let trained = plan.systems.iter().filter(|s| s.credit.is_own()).count();
        let each = least / trained;
        assert!(least == each * trained && most >= least, "{least} {most}");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("= {each} trainings a method")));

        // The lines that a failure would print are what the file is read from.
        let of_one = entry("secrets2", grid);
        let without = &text[..text.find("\n[[method]]\nname = \"secrets2\"").unwrap()];
        let again: CompareConfig = toml::from_str(&format!("{without}{of_one}")).unwrap();
        let last = again.methods.last().unwrap();
        assert_eq!((last.name.as_str(), &last.tune), ("secrets2", grid));
        let without: CompareConfig = toml::from_str(without).unwrap();
        assert_eq!(Plan::new(without).unwrap().left_out, ["secrets2"]);
    }

    #[test]
    fn the_example_of_ablations_has_all_that_the_paper_names_by_their_names() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/compare-ablations.toml");
        let plan = Plan::new(read(&path).unwrap()).unwrap();
        let methods = avascope::objective::METHODS;
        let ava = methods.iter().find(|m| m.name == "ava_p").unwrap();
        let entries = plan.config.methods.iter().zip(&plan.systems);
        let of_ava: Vec<_> = entries.filter(|(entry, _)| entry.name == "ava_p").collect();
        for variant in ava.variants {
            let mut named = of_ava.iter();
            let (_, system) = named
                .find(|(entry, _)| entry.variant.as_deref() == Some(variant.name))
                .unwrap_or_else(|| panic!("no system has variant = \"{}\"", variant.name));
            assert!(system.label.contains(variant.name), "{}", system.label);
            assert_eq!(system.trials[0].train.options, variant.options());
        }
    }

    #[test]
    fn a_folder_of_another_version_is_refused_in_words() {
        let out = Path::new("runs/x");
        let said = |before: Value| {
            let refused = refuse_other_version(out, &before);
            refused.err().map(|error| error.to_string())
        };
        assert_eq!(said(json!({"schema": compare::SCHEMA})), None);
        for before in [
            json!({"schema": "avascope.compare/1"}),
            json!([]),
            json!({}),
        ] {
            let error = said(before).expect("it is refused");
            assert!(
                error.contains("another version") && error.contains("choose another `out`"),
                "{error}"
            );
        }
        // What the folder does not tell is something else than what is there now.
        let now = json!({"schema": compare::SCHEMA, "model": "abc"});
        let error = refuse_other(out, &json!({"schema": compare::SCHEMA}), &now).unwrap_err();
        assert!(
            error.to_string().contains("model: null -> \"abc\""),
            "{error}"
        );
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
