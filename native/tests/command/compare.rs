//! `avascope compare`: methods on equal terms, from a file of settings to the report.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Two methods, two seeds, two trials, a few steps.
pub(super) const TINY: &str = "
out = 'out'
world_rows = 120
device = 'cpu'
seeds = [0, 1]
tune_seeds = 1
test = 0.3
validation = 0.2
resamples = 200

[train]
steps = 6
batch_size = 4

[[method]]
name = 'ava_p'
tune.learning_rate = [1e-3, 3e-3]

[[method]]
name = 'bradley_terry_sum'
tune.learning_rate = [1e-3, 3e-3]
";

pub(super) fn write(folder: &Path, text: &str) {
    fs::write(folder.join("compare.toml"), text).unwrap();
}

pub(super) fn compare(folder: &Path, more: &str) -> Done {
    avascope(folder, &format!("compare compare.toml {more}"), &[])
}

/// The results without what a clock says.
pub(super) fn timeless(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("out/results.json")).unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("\"seconds\":"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

pub(super) fn results(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("out/results.json")).unwrap()).unwrap()
}

pub(super) fn cells(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder.join("out/cells"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    found.sort();
    found
}

#[test]
fn a_comparison_writes_everything_and_a_second_call_trains_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    write(here, TINY);
    let done = compare(here, "--json")
        .code(0)
        .says(&["trainings of 6 steps", "left"]);
    let lines = done.lines();
    // Two methods x (two trials with one seed, the chosen one with the other).
    assert_eq!(lines.len(), 6 + 1);
    assert_eq!(lines[6]["type"], "finished");
    assert_eq!(cells(here).len(), 6);

    let results = results(here);
    assert_eq!(results["schema"], "avascope.compare/3");
    assert_eq!(results["device"]["backend"], "cpu");
    assert_eq!(results["command"], "avascope compare compare.toml");
    assert_eq!(results["cells"].as_array().unwrap().len(), 6);
    let rows = |part: &str| results["data"][part]["rows"].as_u64().unwrap();
    assert_eq!(rows("train") + rows("validation") + rows("test"), 120);
    for system in results["systems"].as_array().unwrap() {
        let tuned = &system["tuned"][0];
        assert_eq!(tuned["tried"], serde_json::json!([1e-3, 3e-3]));
        assert!(tuned["tried"].as_array().unwrap().contains(&tuned["value"]));
        let chosen: Vec<&Value> = system["trials"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|trial| trial["chosen"] == true)
            .collect();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0]["values"]["learning_rate"], tuned["value"]);
        let accuracy = &system["truths"][0];
        assert_eq!(accuracy["name"], "pair accuracy");
        assert_eq!(accuracy["n"].as_u64().unwrap(), rows("test"));
        assert_eq!(accuracy["seeds"], 2);
        assert!(accuracy["interval"]["low"].as_f64() <= accuracy["value"].as_f64());
    }
    let floors: Vec<&str> = results["floors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|floor| floor["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        floors,
        [
            "longer wins",
            "unigram Bradley-Terry",
            "unigram log-odds",
            "log-probability, sum",
            "log-probability, mean"
        ]
    );
    assert_eq!(results["comparisons"][0]["baseline"], "bradley_terry_sum");

    let out = here.join("out");
    // How a recovered reward is judged beside known ones: all five, in every form of the report.
    for name in [
        "correlation with known rewards",
        "rank correlation with known rewards",
        "Kendall correlation with known rewards",
        "F1, undesirable tokens",
        "F1, undesirable tokens, fitted zero",
    ] {
        for system in results["systems"].as_array().unwrap() {
            let truths = system["truths"].as_array().unwrap();
            let truth = truths.iter().find(|truth| truth["name"] == name);
            let truth = truth.unwrap_or_else(|| panic!("no {name}"));
            assert!(truth["value"].is_number() || truth["undefined"].is_string());
        }
        let table = fs::read_to_string(out.join("table.md")).unwrap();
        assert!(table.contains(&format!("## {name}\n")), "{name}");
        let page = fs::read_to_string(out.join("report.html")).unwrap();
        assert!(page.contains(&format!("<h3>{name}</h3>")), "{name}");
    }
    for name in [
        "table.md",
        "report.html",
        "accuracy.svg",
        "correlation.svg",
        "reward-against-truth.svg",
    ] {
        let text = fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!text.contains("NaN"), "{name}");
        if name.ends_with("svg") {
            assert!(
                text.starts_with("<svg ") && text.ends_with("</svg>\n"),
                "{name}"
            );
        }
    }
    assert!(
        !fs::read_to_string(out.join("results.json"))
            .unwrap()
            .contains("NaN")
    );

    let before = fs::read(out.join("results.json")).unwrap();
    let again = compare(here, "--json --resume").code(0);
    assert!(
        again.lines()[..6]
            .iter()
            .all(|line| line["resumed"] == true)
    );
    assert_eq!(fs::read(out.join("results.json")).unwrap(), before);
}

#[test]
fn states_of_a_frozen_trunk_that_are_shared_change_no_number() {
    let heads = TINY.replace(
        "batch_size = 4",
        "batch_size = 4\ntrainable = { mode = 'heads' }",
    );
    let scratch = tempfile::tempdir().unwrap();
    let (both, alone) = (scratch.path().join("both"), scratch.path().join("alone"));
    fs::create_dir(&both).unwrap();
    fs::create_dir(&alone).unwrap();
    write(&both, &heads);
    let (head, second) = heads
        .split_once("[[method]]\nname = 'bradley_terry_sum'")
        .unwrap();
    let head = head.split_once("[[method]]").unwrap().0;
    write(
        &alone,
        &format!("{head}[[method]]\nname = 'bradley_terry_sum'{second}"),
    );
    compare(&both, "-q").code(0);
    compare(&alone, "-q").code(0);
    let of = |folder: &Path| {
        let all = results(folder);
        let found = all["systems"]
            .as_array()
            .unwrap()
            .iter()
            .find(|system| system["label"] == "bradley_terry_sum")
            .unwrap();
        found["truths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|truth| truth["values"].clone())
            // A truth that no method of the comparison has is left out of it.
            .filter(|values| values.as_array().is_some_and(|values| !values.is_empty()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&both), of(&alone));
}

/// What a system's figures are, one list of seeds each.
fn figures(folder: &Path, label: &str) -> Vec<Value> {
    let all = results(folder);
    let systems = all["systems"].as_array().unwrap();
    let system = systems.iter().find(|system| system["label"] == label);
    let truths = system.unwrap()["truths"].as_array().unwrap();
    let values = truths.iter().map(|truth| truth["values"].clone());
    // A truth that no method of the comparison has is left out of it.
    values
        .filter(|values| values.as_array().is_some_and(|values| !values.is_empty()))
        .collect()
}

#[test]
fn a_method_under_two_credits_is_trained_once_and_says_what_two_trainings_would() {
    const PLAIN: &str = "\n[[method]]\nname = 'bradley_terry_sum'\n";
    const UNIFORM: &str = "\n[[method]]\nname = 'bradley_terry_sum'\ncredit = 'uniform'\n";
    let head = TINY.split_once("[[method]]").unwrap().0;
    let head = head.replace("tune_seeds = 1\n", "");
    let scratch = tempfile::tempdir().unwrap();
    let (both, alone) = (scratch.path().join("both"), scratch.path().join("alone"));
    for (here, methods) in [
        (
            &both,
            format!("{PLAIN}\n[[method]]\nname = 'ava_p'\n{UNIFORM}"),
        ),
        (&alone, UNIFORM.to_string()),
    ] {
        fs::create_dir(here).unwrap();
        write(here, &format!("{head}{methods}"));
    }
    // Two trainings a seed for three systems.
    let done = compare(&both, "--json").code(0).says(&[
        "3 systems, 2 seeds, 4 trainings of 6 steps",
        "read off the same training",
    ]);
    let lines = done.lines();
    assert_eq!(lines.len(), 6 + 1);
    assert!(lines[..6].iter().all(|line| line["total"] == 4));
    assert_eq!(lines[5]["done"], 4);
    assert_eq!(cells(&both).len(), 6);
    // The lists of results keep the order of systems within a seed.
    let all = results(&both);
    let order: Vec<(&str, u64)> = all["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| {
            (
                cell["system"].as_str().unwrap(),
                cell["seed"].as_u64().unwrap(),
            )
        })
        .collect();
    let uniform = "bradley_terry_sum + uniform";
    let of_seed = |seed| {
        [
            ("bradley_terry_sum", seed),
            ("ava_p", seed),
            (uniform, seed),
        ]
    };
    assert_eq!(order, [of_seed(0), of_seed(1)].concat());
    let table = fs::read_to_string(both.join("out/table.md")).unwrap();
    assert!(table.contains("are read off the same trainings"), "{table}");

    compare(&alone, "-q").code(0);
    assert_eq!(figures(&both, uniform), figures(&alone, uniform));
    assert_ne!(figures(&both, uniform), figures(&both, "bradley_terry_sum"));

    // One of the two readings is lost: it is made again from the same training.
    let before = timeless(&both);
    fs::remove_file(&cells(&both)[0]).unwrap();
    let again = compare(&both, "--json").code(0);
    let resumed = again.lines()[..6]
        .iter()
        .filter(|line| line["resumed"] == true)
        .count();
    assert_eq!(resumed, 5);
    assert_eq!(timeless(&both), before);
}

#[test]
fn a_variant_is_its_switches_in_a_comparison_and_in_a_run() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let losses = |out: &str, words: &str, more: &[&str]| -> Vec<Value> {
        let words = format!("{} -q --steps 3 {words}", tiny(out));
        avascope(here, &words, more).code(0);
        let steps = metrics(&here.join(out)).into_iter();
        steps
            .filter(|((kind, _), _)| kind == "step")
            .map(|(_, metrics)| metrics["loss"].clone())
            .collect()
    };
    let named = losses("named", "--variant", &["w/o irl"]);
    assert_eq!(named.len(), 3);
    assert_eq!(named, losses("switched", "-O lambda=0 -O kappa=0", &[]));
    // What stands beside it is laid over it.
    let beside = losses("beside", "-O kappa=1 --variant", &["w/o irl"]);
    assert_ne!(named, beside);
    assert_eq!(beside, losses("without", "-O lambda=0", &[]));
    let settings = fs::read_to_string(here.join("named/run.toml")).unwrap();
    assert!(settings.contains("variant = \"w/o irl\""), "{settings}");
    avascope(here, "train --out wrong --variant", &["w/o ir"])
        .code(2)
        .says(&["`variant` of `ava_p`", "it is one of `w/o irl`, "]);
    assert!(!here.join("wrong").exists());

    let method = "[[method]]\nname = 'ava_p'\n";
    let head = TINY.split_once("[[method]]").unwrap().0;
    let compared = |out: &str, more: &str| {
        let head = head.replace("'out'", &format!("'{out}/out'"));
        fs::create_dir(here.join(out)).unwrap();
        write(here, &format!("{head}{method}{more}"));
        compare(here, "-q").code(0);
        figures(&here.join(out), "ava_p w/o irl")
    };
    let named = compared("by-name", "variant = 'w/o irl'\n");
    let switched = compared(
        "by-switch",
        "label = 'ava_p w/o irl'\noptions = { lambda = 0.0, kappa = 0.0 }\n",
    );
    assert_eq!(named, switched);
    let results = results(&here.join("by-name"));
    let system = &results["systems"][0];
    assert_eq!(system["variant"], "w/o irl");
    assert_eq!(system["options"]["kappa"], 0.0);
    assert!(system["options"]["variant"].is_null());
}

#[test]
fn a_method_that_diverges_is_reported_and_the_others_go_on() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    // A step of this size leaves the range of numbers at once.
    let text = TINY.replace(
        "name = 'ava_p'\ntune.learning_rate = [1e-3, 3e-3]",
        "name = 'ava_p'\ntune.learning_rate = [1e30, 1e35]",
    );
    write(here, &text);
    compare(here, "").code(0).says(&["training diverged"]);
    let results = results(here);
    let ava = &results["systems"][0];
    assert_eq!(ava["failed_seeds"], serde_json::json!([0, 1]));
    assert_eq!(ava["truths"][0]["value"], Value::Null);
    assert!(
        ava["truths"][0]["undefined"]
            .as_str()
            .unwrap()
            .contains("diverged")
    );
    assert!(results["systems"][1]["truths"][0]["value"].is_number());
    let table = fs::read_to_string(here.join("out/table.md")).unwrap();
    assert!(table.contains("undefined: training diverged") && !table.contains("NaN"));
}
