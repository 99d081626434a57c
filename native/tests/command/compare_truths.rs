//! `avascope compare` with truths: what every map is held against, from the files of truths to the word in the report.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Two methods, two seeds, three truths.
const TINY: &str = "
out = 'out'
world_rows = 120
device = 'cpu'
seeds = [0, 1]
test = 0.3
validation = 0.1
resamples = 100

[train]
steps = 6
batch_size = 4

[[method]]
name = 'ava_p'

[[method]]
name = 'bradley_terry_sum'

[[truth]]
kind = 'intervention'
limit = 12

[[truth]]
kind = 'intervention'
file = 'all.jsonl'

[[truth]]
kind = 'spans'
file = 'marked.jsonl'
";

const MARKED: &str = "{\"text\":\"the cat was rude\",\"bad_spans\":[[12,16]]}\n{\"text\":\"the dog was kind\",\"bad_spans\":[]}\n";

fn compare(folder: &Path, more: &str) -> Done {
    avascope(folder, &format!("compare compare.toml {more}"), &[])
}

fn write(folder: &Path, text: &str) {
    fs::write(folder.join("compare.toml"), text).unwrap();
}

/// A folder with the settings and the files of truths.
fn prepared(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    write(folder, TINY);
    fs::write(folder.join("marked.jsonl"), MARKED).unwrap();
    // The rows of the comparison, those that train among them.
    let rows = avascope(folder, "data world --rows 120 --seed 0", &[]).code(0);
    fs::write(folder.join("all.jsonl"), rows.out).unwrap();
}

/// The results without what a clock says.
fn timeless(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("out/results.json")).unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("\"seconds\":"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

#[test]
fn every_map_is_held_against_every_truth_and_a_comparison_that_was_cut_says_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path().join("here");
    prepared(&here);
    let done = compare(&here, "--json").code(0).says(&[
        "truths    intervention on the test rows; intervention on all.jsonl; spans on marked.jsonl",
        " of 3 truths",
    ]);
    for line in done.lines().iter().filter(|line| line["type"] == "cell") {
        assert_eq!(list(&line["truths_passed"]).len(), 3);
    }
    let results: Value =
        serde_json::from_slice(&fs::read(here.join("out/results.json")).unwrap()).unwrap();
    let checks = list(&results["checks"]);
    let named: Vec<String> = checks
        .iter()
        .map(|check| format!("{} {}", check["truth"], check["data"]).replace('"', ""))
        .collect();
    assert_eq!(
        named,
        [
            "intervention the test rows",
            "intervention all.jsonl",
            "spans marked.jsonl"
        ]
    );
    for check in checks {
        assert!(check["rule"].as_str().unwrap().contains("lower end"));
        for system in list(&check["systems"]) {
            let seeds = list(&system["seeds"]);
            assert_eq!(
                (&seeds[0]["seed"], &seeds[1]["seed"]),
                (&json!(0), &json!(1))
            );
            let passed = seeds.iter().all(|seed| seed["passed"] == true);
            assert_eq!(system["passed"], passed);
            assert!(system["answers"].as_u64() > Some(0) && system["tokens"].as_u64() > Some(0));
            let figures = list(&system["figures"]);
            assert!(figures[0]["decides"] == true && !list(&figures[0]["floors"]).is_empty());
            for figure in figures {
                let values: Vec<f64> = list(&figure["values"])
                    .iter()
                    .flat_map(Value::as_f64)
                    .collect();
                if let Some(value) = figure["value"].as_f64() {
                    let mean = values.iter().sum::<f64>() / values.len() as f64;
                    assert!((value - mean).abs() < 1e-12, "{figure}");
                    let interval = &figure["interval"];
                    assert!(
                        interval.is_null() || interval["low"].as_f64() <= interval["high"].as_f64()
                    );
                } else {
                    assert!(
                        figure["undefined"].is_string() && values.is_empty(),
                        "{figure}"
                    );
                }
            }
        }
    }
    // Of the 36 or so test rows the first twelve; of all rows those that did not train.
    let answers = |check: usize| checks[check]["systems"][0]["answers"].as_u64().unwrap();
    assert!(answers(0) <= 24, "{}", answers(0));
    assert!((24..240).contains(&answers(1)), "{}", answers(1));
    let left_out = checks[1]["systems"][0]["notes"].to_string();
    assert!(
        left_out.contains("rows left out: an answer of theirs was trained on"),
        "{left_out}"
    );
    // A word model of the training rows is among the floors.
    assert!(checks[2].to_string().contains("unigram Bradley-Terry"));
    // The same truth of the same training stands with the cell, and the word follows from all.
    for (index, system) in list(&results["systems"]).iter().enumerate() {
        let all = checks
            .iter()
            .all(|check| check["systems"][index]["passed"] == true);
        assert_eq!(system["trust"], if all { "checked" } else { "exploratory" });
        let label = system["label"].as_str().unwrap();
        let cells: Vec<&Value> = list(&results["cells"])
            .iter()
            .filter(|cell| cell["system"] == label)
            .collect();
        assert_eq!(cells.len(), 2);
        for (seed, cell) in cells.iter().enumerate() {
            for (check, own) in checks.iter().zip(list(&cell["checks"])) {
                assert_eq!(
                    check["systems"][index]["seeds"][seed]["passed"],
                    own["passed"]
                );
            }
        }
    }
    for name in ["table.md", "report.html"] {
        let text = fs::read_to_string(here.join("out").join(name)).unwrap();
        assert!(text.contains("Truth: spans on marked.jsonl"), "{name}");
        assert!(
            text.contains("map is checked if it passed, with every seed"),
            "{name}"
        );
        assert!(!text.contains("NaN"), "{name}");
    }

    // As a kill leaves it: some cells, no report. What is made again is the same, from other copies of the files too.
    let before = timeless(&here);
    let cells: Vec<_> = fs::read_dir(here.join("out/cells"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(cells.len(), 4);
    for cell in cells.iter().skip(1) {
        fs::remove_file(cell.path()).unwrap();
    }
    fs::remove_file(here.join("out/results.json")).unwrap();
    let again = compare(&here, "--json").code(0);
    assert_eq!(
        again
            .lines()
            .iter()
            .filter(|l| l["resumed"] == true)
            .count(),
        1
    );
    assert_eq!(timeless(&here), before);

    // Another file under the same name is another comparison, as are other truths.
    fs::write(here.join("marked.jsonl"), MARKED.replace("rude", "rudé")).unwrap();
    compare(&here, "-q").code(2).says(&[
        "other settings",
        "files of truths.spans on ",
        "marked.jsonl: ",
        "another `out`",
    ]);
    fs::write(here.join("marked.jsonl"), MARKED).unwrap();
    write(&here, &TINY.replace("limit = 12", "limit = 13"));
    compare(&here, "-q")
        .code(2)
        .says(&["other settings", "truth"]);
    write(&here, TINY.split_once("[[truth]]").unwrap().0);
    compare(&here, "-q")
        .code(2)
        .says(&["other settings", "truth"]);
    write(&here, TINY);
    compare(&here, "-q").code(0);
    assert_eq!(timeless(&here), before);
}

#[test]
fn truths_that_cannot_be_asked_are_said_before_anything_is_trained() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let head = TINY.split_once("[[truth]]").unwrap().0;
    fs::write(here.join("marked.jsonl"), MARKED).unwrap();
    fs::write(
        here.join("outside.jsonl"),
        "{\"text\":\"ok\",\"bad_spans\":[]}\n{\"text\":\"ok\",\"bad_spans\":[[1,9]]}\n",
    )
    .unwrap();
    for (truth, code, words) in [
        (
            "kind = 'interventoin'",
            2,
            ["no truth `interventoin`", "known truths: intervention ("],
        ),
        (
            "kind = 'spans'\nfile = 'nowhere.jsonl'",
            2,
            ["`spans`", "there is no file nowhere.jsonl"],
        ),
        ("kind = 'lexicon'", 2, ["`lexicon` needs a file", "VADER"]),
        (
            "kind = 'intervention'\nlimit = 0",
            2,
            ["`limit` is 0", "1 or more"],
        ),
        (
            "kind = 'intervention'\nfil = 'x'",
            2,
            ["there is no `fil` here", "`file`"],
        ),
        ("file = 'marked.jsonl'", 2, ["is missing", "`kind`"]),
        (
            "kind = 'spans'\nfile = 'marked.jsonl'\n[[truth]]\nkind = 'spans'\nfile = 'marked.jsonl'",
            2,
            ["spans on marked.jsonl", "listed twice"],
        ),
        (
            "kind = 'edits'",
            3,
            ["edits on the test rows", "`rejected_spans`"],
        ),
        (
            "kind = 'edits'\nfile = 'marked.jsonl'",
            3,
            ["edits on marked.jsonl", "`rejected_spans`"],
        ),
        (
            "kind = 'spans'\nfile = 'outside.jsonl'",
            3,
            ["outside.jsonl", "line 2"],
        ),
        (
            "kind = 'steps'\nfile = 'marked.jsonl'",
            3,
            ["marked.jsonl", "line 1"],
        ),
        (
            "kind = 'lexicon'\nfile = 'marked.jsonl'",
            3,
            ["marked.jsonl", "line 1"],
        ),
    ] {
        write(here, &format!("{head}[[truth]]\n{truth}\n"));
        compare(here, "-q").code(code).says(&words);
        assert!(!here.join("out").exists(), "{truth}");
    }
}
