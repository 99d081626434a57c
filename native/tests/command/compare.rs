//! `avascope compare`: methods on equal terms, from a file of settings to the report.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Two methods, two seeds, two trials, a few steps.
const TINY: &str = "
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

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("compare.toml"), text).unwrap();
}

fn compare(folder: &Path, more: &str) -> Done {
    avascope(folder, &format!("compare compare.toml {more}"), &[])
}

/// The results without what a clock says.
fn timeless(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("out/results.json")).unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("\"seconds\":"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn results(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("out/results.json")).unwrap()).unwrap()
}

fn cells(folder: &Path) -> Vec<std::path::PathBuf> {
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
fn a_comparison_that_was_cut_gives_the_same_results() {
    let scratch = tempfile::tempdir().unwrap();
    let (straight, cut) = (scratch.path().join("a"), scratch.path().join("b"));
    for here in [&straight, &cut] {
        fs::create_dir(here).unwrap();
        write(here, TINY);
    }
    compare(&straight, "-q").code(0);
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
    // As a kill leaves it: some cells are there, a half-written file beside them, no report.
    for cell in cells(&cut).into_iter().skip(2) {
        fs::remove_file(cell).unwrap();
    }
    fs::remove_file(cut.join("out/results.json")).unwrap();
    fs::remove_file(cut.join("out/floors.json")).unwrap();
    fs::write(cut.join("out/cells/.half.json.partial-1"), b"{\"sys").unwrap();
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
    // A cell that was damaged is named, and never taken for a result.
    let damaged = &cells(&cut)[0];
    fs::write(damaged, b"{\"half\":").unwrap();
    compare(&cut, "-q")
        .code(3)
        .says(&["is damaged", "remove it"]);
    fs::remove_file(damaged).unwrap();
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_comparison() {
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), TINY);
    let mut child = command()
        .current_dir(scratch.path())
        .args(["compare", "compare.toml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = done(child.wait_with_output().unwrap()).code(0);
    assert_eq!(
        ended.err.matches("takes no more lines").count(),
        1,
        "{}",
        ended.err
    );
    assert!(scratch.path().join("out/results.json").is_file());
}

#[test]
#[cfg(unix)]
fn ctrl_c_and_kill_lose_nothing_that_was_finished() {
    let long = TINY.replace("steps = 6", "steps = 60\nsave_steps = 7");
    let scratch = tempfile::tempdir().unwrap();
    let straight = scratch.path().join("straight");
    fs::create_dir(&straight).unwrap();
    write(&straight, &long);
    compare(&straight, "-q").code(0);
    for signal in ["INT", "KILL"] {
        let here = scratch.path().join(signal);
        fs::create_dir(&here).unwrap();
        write(&here, &long);
        let mut child = command()
            .current_dir(&here)
            .args(["compare", "compare.toml", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("\"done\":1")));
        match signal {
            "INT" => interrupt(&child),
            _ => child.kill().unwrap(),
        }
        std::thread::spawn(move || lines.count());
        let ended = child.wait_with_output().unwrap();
        if signal == "INT" {
            done(ended)
                .code(130)
                .says(&["interrupted after", "same command again"]);
        }
        let finished = cells(&here).len();
        assert!((1..6).contains(&finished), "{finished} cells");
        assert!(!here.join("out/results.json").exists());
        compare(&here, "-q").code(0);
        assert_eq!(timeless(&straight), timeless(&here), "{signal}");
        let left: Vec<_> = fs::read_dir(here.join("out/cells"))
            .unwrap()
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .contains("partial.safetensors")
            })
            .collect();
        assert!(left.is_empty());
    }
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
fn what_changed_behind_the_same_names_is_another_comparison() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, "convert world base", &[]).code(0);
    let rows = avascope(here, "data world --rows 40 --seed 9", &[])
        .code(0)
        .out;
    fs::write(here.join("test.jsonl"), &rows).unwrap();
    let text = TINY.replace("seeds = [0, 1]", "seeds = [0]").replace(
        "out = 'out'",
        "out = 'out'\nmodel = 'base'\ntest_data = 'test.jsonl'",
    );
    write(here, &text);
    compare(here, "-q").code(0);
    let before = timeless(here);
    let changed = |name: &str, other: &[u8], word: &str| {
        let path = here.join(name);
        let own = fs::read(&path).unwrap();
        assert_ne!(own, other, "{name}");
        fs::write(&path, other).unwrap();
        compare(here, "-q")
            .code(2)
            .says(&["other settings", word, "another `out`"]);
        fs::write(&path, own).unwrap();
    };
    // One row fewer; another word of the vocabulary; one bit of the weights.
    let fewer: String = rows.split_inclusive('\n').skip(1).collect();
    changed("test.jsonl", fewer.as_bytes(), "test rows: ");
    let tokens = fs::read_to_string(here.join("base/tokenizer.json")).unwrap();
    let other = tokens.replace("\"superb\"", "\"superber\"");
    changed("base/tokenizer.json", other.as_bytes(), "tokenizer: ");
    let mut weights = fs::read(here.join("base/model.safetensors")).unwrap();
    let end = weights.len();
    weights[end - 3] ^= 1;
    changed("base/model.safetensors", &weights, "model: ");
    compare(here, "-q").code(0);
    assert_eq!(timeless(here), before);

    // A folder from before these were kept cannot tell what its numbers come from.
    let path = here.join("out/compare.json");
    let kept = fs::read_to_string(&path).unwrap();
    let earlier = kept.replace("avascope.compare/3", "avascope.compare/1");
    fs::write(&path, earlier).unwrap();
    compare(here, "-q")
        .code(2)
        .says(&["another version of avascope", "another `out`"]);
    let mut lacking: Value = serde_json::from_str(&kept).unwrap();
    lacking.as_object_mut().unwrap().remove("model");
    fs::write(&path, lacking.to_string()).unwrap();
    compare(here, "-q").code(2).says(&["model: null -> "]);
    fs::write(&path, kept).unwrap();
    compare(here, "-q").code(0);
}

#[test]
fn pairs_that_are_labelled_the_other_way_round_are_refused_wherever_they_stand() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let good = r#"{"prompt":"describe the band : ","chosen":"they ordered a cake .","rejected":"we ate a gift ."}"#;
    for label in ["0", "0.5"] {
        let other = good.replace("\"prompt\"", &format!("\"preference\":{label},\"prompt\""));
        fs::write(here.join("rows.jsonl"), format!("{good}\n{other}\n")).unwrap();
        for setting in ["data", "test_data"] {
            let line = format!("out = 'out'\n{setting} = 'rows.jsonl'");
            write(here, &TINY.replace("out = 'out'", &line));
            compare(here, "-q").code(3).says(&[
                "1 pairs of rows.jsonl have a label of their own below 1",
                "swap the answers",
            ]);
            assert!(!here.join("out").exists(), "{setting} {label}");
        }
    }
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
fn a_folder_of_another_comparison_is_refused_with_what_differs() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let one = TINY.replace("seeds = [0, 1]", "seeds = [0]");
    write(here, &one);
    compare(here, "-q").code(0);
    let before = fs::read(here.join("out/results.json")).unwrap();
    write(here, &one.replace("steps = 6", "steps = 7"));
    compare(here, "-q")
        .code(2)
        .says(&["other settings", "train.steps: 6 -> 7", "another `out`"]);
    write(here, &one.replace("world_rows = 120", "world_rows = 121"));
    compare(here, "-q")
        .code(2)
        .says(&["world_rows: 120 -> 121"]);
    assert_eq!(fs::read(here.join("out/results.json")).unwrap(), before);

    fs::create_dir(here.join("mine")).unwrap();
    fs::write(here.join("mine/notes.txt"), "x").unwrap();
    compare(here, "-q --out mine")
        .code(2)
        .says(&["mine holds files", "another `out`"]);
    assert_eq!(fs::read_dir(here.join("mine")).unwrap().count(), 1);
}

#[test]
fn wrong_settings_are_usage_errors_and_leave_no_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for (from, to, code, words) in [
        (
            "'ava_p'",
            "'ava_q'",
            2,
            ["there is no method `ava_q`", "ava_p"],
        ),
        (
            "seeds = [0, 1]",
            "seeds = []",
            2,
            ["`seeds` is empty", "[0, 1, 2, 3, 4]"],
        ),
        ("seeds = [0, 1]", "sedes = [0]", 2, ["line 5", "sedes"]),
        (
            "name = 'ava_p'",
            "name = 'ava_p'\nvariant = 'w/o ir'",
            2,
            ["`variant` of `ava_p`", "it is one of `w/o irl`, "],
        ),
        (
            "steps = 6",
            "steps = 6\nseed = 1",
            2,
            ["`seed` under [train]", "`seeds`"],
        ),
        ("steps = 6", "steps = 'many'", 2, ["line 12", "steps"]),
        (
            "1e-3, 3e-3]\n\n",
            "1e-3]\n\n",
            2,
            ["has 1 tuning trials", "unequal_trials"],
        ),
        (
            "name = 'ava_p'",
            "name = 'ava_p'\ncredit = 'abd'",
            2,
            ["no credit `abd`", "own"],
        ),
        ("device = 'cpu'", "device = 'cpuu'", 2, ["cpuu", "vulkan"]),
        ("world_rows = 120", "world_rows = 0", 2, ["0 rows", "1 to"]),
        (
            "world_rows = 120",
            "world_rows = 1",
            3,
            ["no row is left in the", "bring more rows"],
        ),
        (
            "validation = 0.2",
            "validation = 0.0",
            3,
            ["validation part", "tune nothing"],
        ),
        (
            "out = 'out'",
            "out = 'out'\ndata = 'nowhere.jsonl'",
            2,
            ["nowhere.jsonl", "No such file"],
        ),
    ] {
        assert!(TINY.contains(from));
        write(here, &TINY.replacen(from, to, 1));
        compare(here, "-q").code(code).says(&words);
        assert!(!here.join("out").exists(), "{to}");
    }
    avascope(here, "compare nowhere.toml", &[])
        .code(2)
        .says(&["nowhere.toml"]);
    fs::write(
        here.join("demos.jsonl"),
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n",
    )
    .unwrap();
    write(
        here,
        &TINY.replace("out = 'out'", "out = 'out'\ndata = 'demos.jsonl'"),
    );
    compare(here, "-q").code(3).says(&[
        "`ava_p` learns from pairs",
        "demos.jsonl holds demonstrations",
    ]);
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
