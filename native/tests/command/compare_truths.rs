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
        " of 2 truths, 1 undecided",
    ]);
    for line in done.lines().iter().filter(|line| line["type"] == "cell") {
        let passed = list(&line["truths_passed"]);
        assert!(passed[..2].iter().all(Value::is_boolean), "{passed:?}");
        // Two marked answers decide nothing.
        assert_eq!(passed[2..], [Value::Null]);
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
            let all = |outcome: &str| seeds.iter().all(|seed| seed["outcome"] == outcome);
            let outcome = match (all("passed"), all("undecided")) {
                (true, _) => "passed",
                (_, true) => "undecided",
                _ => "not_passed",
            };
            assert_eq!(system["outcome"], outcome);
            let few = check["truth"] == "spans";
            assert_eq!(outcome == "undecided", few, "{check}");
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
    // The same truth of the same training stands with the cell. No truth with people's labels is decided.
    for (index, system) in list(&results["systems"]).iter().enumerate() {
        assert_eq!(system["trust"], "exploratory");
        let label = system["label"].as_str().unwrap();
        let cells: Vec<&Value> = list(&results["cells"])
            .iter()
            .filter(|cell| cell["system"] == label)
            .collect();
        assert_eq!(cells.len(), 2);
        for (seed, cell) in cells.iter().enumerate() {
            for (check, own) in checks.iter().zip(list(&cell["checks"])) {
                let outcome = &check["systems"][index]["seeds"][seed]["outcome"];
                assert_eq!(*outcome == "passed", own["passed"] == true);
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
        assert!(text.contains("undecided with seeds 0, 1"), "{name}");
        assert!(!text.contains("NaN"), "{name}");
    }
    let plot = fs::read_to_string(here.join("out/truths.svg")).unwrap();
    assert!(plot.contains("intervention on all.jsonl: rank agreement, "));
    assert!(plot.contains("floors (bars): map shuffled within answers"));
    let page = fs::read_to_string(here.join("out/report.html")).unwrap();
    assert!(page.contains(&plot));

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
fn edits_decide_nothing_of_a_method_that_is_trained_on_edits() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let pair = r#"{"prompt":"describe the band : ","chosen":"they ordered a fine cake .","rejected":"they ordered a poor cake .","rejected_spans":[[15,19]]}"#;
    fs::write(here.join("edits.jsonl"), format!("{pair}\n").repeat(12)).unwrap();
    let head = TINY.split_once("[[truth]]").unwrap().0;
    let head = head.replace("'ava_p'", "'fine_grained'");
    write(
        here,
        &format!("{head}[[truth]]\nkind = 'edits'\nfile = 'edits.jsonl'\n"),
    );
    compare(here, "-q").code(0);
    let results: Value =
        serde_json::from_slice(&fs::read(here.join("out/results.json")).unwrap()).unwrap();
    let [taught, other] = list(&results["checks"][0]["systems"]).as_slice() else {
        panic!("two systems");
    };
    assert_eq!(
        (&taught["system"], &taught["outcome"]),
        (&json!("fine_grained"), &json!("undecided"))
    );
    assert!(other["outcome"] != "undecided" && other["figures"][0]["decides"] == true);
    // The figure is shown, with the reason.
    let figure = &taught["figures"][0];
    assert_eq!(figure["name"], "token AUC, rejected spans");
    assert!(figure["value"].is_number() && figure["decides"] == false);
    let notes = taught["notes"].to_string();
    assert!(
        notes.contains("`fine_grained` learns from what was edited"),
        "{notes}"
    );
    assert_eq!(results["systems"][0]["trust"], "exploratory");
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
