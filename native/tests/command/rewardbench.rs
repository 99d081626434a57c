//! RewardBench of either version: rows scored by a run, files written as the public code writes them, and read again.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn write_lines(path: &Path, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, text).unwrap();
}

fn trained(here: &Path) {
    let words = format!(
        "{} -q --steps 4 --eval-steps 100 --method bradley_terry_sum",
        tiny("run")
    );
    avascope(here, &words, &[]).code(0);
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// What is reported on, and the report.
fn source_and_report(out: &str) -> (Value, Value) {
    let mut all: serde_json::Map<String, Value> = serde_json::from_str(out).expect("an object");
    let keys = ["scores", "data", "provenance", "rows_left_out"];
    let source = keys
        .into_iter()
        .filter_map(|key| Some((key.to_string(), all.remove(key)?)))
        .collect();
    (Value::Object(source), Value::Object(all))
}

#[test]
fn version_one_is_scored_written_and_read_again_to_the_same_report() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    trained(here);
    let row = |id: u32, subset: &str, chosen: &str, rejected: &str| json!({"id": id, "subset": subset, "prompt": "the cat", "chosen": chosen, "chosen_model": "a", "rejected": rejected, "rejected_model": "b"});
    write_lines(
        &here.join("bench.jsonl"),
        &[
            row(1, "hep-cpp", "was kind", "was rude"),
            row(2, "hep-cpp", "was good", "was bad"),
            row(3, "donotanswer", "same", "same"),
            row(4, "mine", "was here", "was there"),
        ],
    );
    let scored =
        "rewardbench run --device cpu --data bench.jsonl --name owner/model --json --out out";
    let done = avascope(here, scored, &[]).code(0).says(&[
        "4 rows scored",
        "eval-set-scores",
        "1 row is of \"mine\", which RewardBench does not have",
    ]);
    let (source, report) = source_and_report(&done.out);
    assert_eq!(source["data"], "bench.jsonl");
    assert_eq!(source["provenance"]["precision"], "f32");
    let subset = |name: &str| {
        let subsets = report["subsets"].as_array().unwrap();
        subsets
            .iter()
            .find(|s| s["subset"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&subset("hep-cpp")["rows"], &subset("mine")["rows"]),
        (&json!(2), &json!(1))
    );
    assert!(subset("hep-cpp")["bootstrap"]["low"].is_number());
    // Equal answers score alike: a tie, and wrong.
    assert_eq!(
        (
            &subset("donotanswer")["ties"],
            &subset("donotanswer")["accuracy"]["value"]
        ),
        (&json!(1), &json!(0.0))
    );
    assert_eq!(
        subset("hep-go")["accuracy"]["undefined"],
        "undefined: no rows"
    );

    let scores = read(&here.join("out/eval-set-scores/owner-model.json"));
    assert_eq!(scores["model"], "owner/model");
    assert_eq!(scores["scores_chosen"].as_array().unwrap().len(), 4);
    let subsets = read(&here.join("out/eval-set/owner-model.json"));
    assert!(subsets["hep-cpp"].is_number() && subsets.get("hep-go").is_none());
    let lines = fs::read_to_string(here.join("out/owner-model-prompts.jsonl")).unwrap();
    assert_eq!(crate::support::lines(&lines)[0]["prompt"], "the cat");
    let again = avascope(
        here,
        "rewardbench --scores out/eval-set-scores/owner-model.json --json",
        &[],
    )
    .code(0);
    let from = json!({"scores": "out/eval-set-scores/owner-model.json"});
    assert_eq!(source_and_report(&again.out), (from, report));
    let shown = avascope(
        here,
        "rewardbench --scores out/eval-set-scores/owner-model.json",
        &[],
    )
    .code(0)
    .out;
    assert!(
        shown.contains("no rows") && !shown.contains("NaN"),
        "{shown}"
    );
}

#[test]
fn version_two_has_ties_and_an_overall_score() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    trained(here);
    let row = |id: &str, subset: &str, chosen: &[&str], rejected: &[&str]| json!({"id": id, "subset": subset, "prompt": "the cat", "chosen": chosen, "rejected": rejected, "num_correct": chosen.len()});
    write_lines(
        &here.join("bench.jsonl"),
        &[
            row(
                "1",
                "Math",
                &["was kind"],
                &["was rude", "was bad", "was sad"],
            ),
            row("ref:0", "Ties", &["was kind"], &["was rude"]),
            row(
                "tied:0",
                "Ties",
                &["was kind", "was good"],
                &["was rude", "was bad"],
            ),
        ],
    );
    let done = avascope(
        here,
        "rewardbench run --device cpu --data bench.jsonl --json --out out --name m",
        &[],
    )
    .code(0);
    let (source, report) = source_and_report(&done.out);
    assert_eq!(source["provenance"]["precision"], "f32");
    assert!(report["overall"]["value"].is_number());
    assert_eq!(report["ties"]["prompts_with_both"], 1);
    assert_eq!(
        report["missing"],
        json!(["Factuality", "Precise IF", "Safety", "Focus"])
    );
    let scores = read(&here.join("out/eval-set-scores/m.json"));
    assert_eq!(scores["results"], report["results"]);
    let again = avascope(
        here,
        "rewardbench --scores out/eval-set-scores/m.json --json",
        &[],
    )
    .code(0);
    let from = json!({"scores": "out/eval-set-scores/m.json"});
    assert_eq!(source_and_report(&again.out), (from, report));
}

#[test]
fn what_cannot_be_reported_is_said_with_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::write(
        here.join("broken.jsonl"),
        "{\"subset\":\"hep-cpp\",\"scores_chosen\":1,\"scores_rejected\":0}\n{\"subset\":1}\n",
    )
    .unwrap();
    fs::write(
        here.join("good.jsonl"),
        "{\"subset\":\"hep-cpp\",\"scores_chosen\":1,\"scores_rejected\":0}\n",
    )
    .unwrap();
    for (words, code, said) in [
        ("rewardbench", 2, vec!["--scores"]),
        ("rewardbench run", 2, vec!["--data"]),
        (
            "rewardbench --scores broken.jsonl",
            3,
            vec!["broken.jsonl", "line 2"],
        ),
        ("rewardbench --scores none.json", 2, vec!["none.json"]),
        (
            "rewardbench --scores good.jsonl --prior shp=2",
            2,
            vec!["shp=2", "anthropic_helpful"],
        ),
        ("rewardbench --scores good.jsonl --out o", 2, vec!["--out"]),
    ] {
        avascope(here, words, &[]).code(code).says(&said);
    }
    let words = "rewardbench --scores good.jsonl --json --prior shp=0.5 --prior summarize=0.5 --prior anthropic_hhh=0.5 --prior anthropic_helpful=0.5";
    let report: Value = serde_json::from_str(&avascope(here, words, &[]).code(0).out).unwrap();
    // (2 x 1 + 0.5) / 3: one section and the prior sets.
    let overall = report["overall_with_prior"]["value"].as_f64().unwrap();
    assert!((overall - 2.5 / 3.0).abs() < 1e-12, "{overall}");
}
