//! Truths and credits: what a run's map is held against, what is kept of it, and what the records then say.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn run_of(here: &Path, method: &str) {
    avascope(
        here,
        &format!(
            "{} -q --steps 12 --eval-steps 100 --method {method}",
            tiny("run")
        ),
        &[],
    )
    .code(0);
}

fn json_of(here: &Path, words: &str) -> Value {
    let done = avascope(here, words, &[]).code(0);
    serde_json::from_str(&done.out).expect("JSON")
}

fn trust_of(here: &Path) -> Value {
    let text = fs::read_to_string(here.join("run/checkpoints/trust.json")).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn results_are_kept_beside_the_checkpoint_and_believed_for_that_checkpoint_only() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    run_of(here, "bradley_terry_sum");
    fs::write(
        here.join("marked.jsonl"),
        "{\"text\":\"the cat was rude\",\"bad_spans\":[[12,16]]}\n{\"text\":\"the dog was kind\",\"bad_spans\":[]}\n",
    )
    .unwrap();
    let eval = "eval run --device cpu --json --truth intervention --interventions 2";
    let report = json_of(here, &format!("{eval} --truth spans=marked.jsonl"));
    let truths = report["truths"].as_array().unwrap();
    assert_eq!(truths.len(), 2);
    for truth in truths {
        assert!(truth["rule"].as_str().unwrap().contains("lower end"));
        assert!(truth["answers"].as_u64().unwrap() > 0 && truth["tokens"].as_u64().unwrap() > 0);
        for figure in truth["figures"].as_array().unwrap() {
            assert!(
                figure["value"].is_number() || figure["undefined"].is_string(),
                "{figure}"
            );
        }
    }
    // Word models of the training rows are among the floors.
    assert!(truths[1].to_string().contains("unigram Bradley-Terry"));
    assert!(truths[1].to_string().contains("unigram log-odds"));
    let mut kept = trust_of(here);
    assert_eq!(kept["schema"], "avascope.trust/1");
    let digest = kept["entries"][0]["checkpoint"]
        .as_str()
        .unwrap()
        .to_string();
    assert_eq!(digest.len(), 64);

    // Make both results pass by their figures; what the records then say depends on whose results they are.
    for entry in kept["entries"].as_array_mut().unwrap() {
        // Few answers decide nothing, so it takes more of them, too.
        entry["result"]["evidence"] = json!(20);
        for figure in entry["result"]["figures"].as_array_mut().unwrap() {
            if figure["decides"] == true {
                figure["value"] = json!(0.9);
                figure["interval"] = json!({"low": 0.89, "high": 0.91, "level": 0.95});
                figure["floors"] = json!([{"name": "chance", "value": 0.5}]);
                figure.as_object_mut().unwrap().remove("undefined");
            }
        }
    }
    let path = here.join("run/checkpoints/trust.json");
    let write = |value: &Value| fs::write(&path, value.to_string()).unwrap();
    let provenance = |more: &str| -> Value {
        let done = avascope(
            here,
            &format!("score run --device cpu --limit 1 {more}"),
            &[],
        )
        .code(0);
        done.lines()[0]["provenance"].clone()
    };
    write(&kept);
    let said = provenance("");
    assert_eq!(said["trust"], "checked");
    let checked = said["checked"].to_string();
    assert!(
        checked.contains("spans on marked.jsonl") && checked.contains("held-out rows"),
        "{checked}"
    );
    // Held against truths of which it cannot pass both, the map is what it is from then on, in the same call too.
    let marks = |name: &str, first: &str, second: &str| {
        let rows = format!(
            "{{\"text\":\"the cat was rude\",\"bad_spans\":[{first}]}}\n{{\"text\":\"the dog was kind\",\"bad_spans\":[{second}]}}\n"
        );
        fs::write(here.join(name), rows.repeat(6)).unwrap();
    };
    marks("one.jsonl", "[12,16]", "[0,11]");
    marks("other.jsonl", "[0,11]", "[12,16]");
    let opposite = "--truth spans=one.jsonl --truth spans=other.jsonl";
    let report = json_of(here, &format!("eval run --device cpu --json {opposite}"));
    assert_eq!(report["provenance"]["trust"], "exploratory");
    assert_eq!(report["provenance"]["checked"], json!([]));
    let done = avascope(here, &format!("eval run --device cpu {opposite}"), &[]).code(0);
    assert!(done.out.contains("map: exploratory"), "{}", done.out);
    write(&kept);
    let plain = json_of(here, "eval run --device cpu --json");
    assert_eq!(plain["provenance"]["trust"], "checked");
    // An ensemble is another map: no truth is asked of one in its name.
    avascope(
        here,
        "eval run --device cpu --ignorance ensemble --member other --truth spans=one.jsonl",
        &[],
    )
    .code(2)
    .says(&["--truth", "ensemble", "one of them"]);
    // The page's file says the same; a build without the page has none, and says so.
    let inspected = avascope(here, "inspect run --device cpu --limit 1", &[]);
    match inspected.code {
        0 => {
            let page = fs::read_to_string(here.join("token-map.html")).unwrap();
            assert!(page.contains("spans on marked.jsonl"));
        }
        code => {
            assert_eq!(code, 2, "{}", inspected.err);
            assert!(inspected.err.contains("xtask"), "{}", inspected.err);
        }
    }

    // Another credit, or another checkpoint, is another map.
    assert_eq!(provenance("--credit uniform")["trust"], "exploratory");
    write(&serde_json::from_str(&kept.to_string().replace(&digest, &"0".repeat(64))).unwrap());
    let said = provenance("");
    assert_eq!(
        (said["trust"].as_str(), &said["checked"]),
        (Some("exploratory"), &json!([]))
    );

    // A damaged file is said, and nothing is believed.
    fs::write(&path, "{").unwrap();
    assert_eq!(provenance("")["trust"], "exploratory");
    avascope(here, "score run --device cpu --limit 1", &[])
        .code(0)
        .says(&["trust.json", "exploratory"]);
    avascope(here, eval, &[])
        .code(3)
        .says(&["trust.json", "move it away"]);
}

#[test]
fn one_answer_is_undecided_and_each_draw_has_an_entry_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    run_of(here, "bradley_terry_sum");
    let row = "{\"text\":\"the cat was rude\",\"bad_spans\":[[12,16]]}\n";
    fs::write(here.join("marks.jsonl"), row.repeat(12)).unwrap();
    let eval = "eval run --device cpu --truth spans=marks.jsonl";
    let one = avascope(here, &format!("{eval} --limit 1"), &[]).code(0);
    assert!(
        one.out.contains("undecided: 1 answers bear on it"),
        "{}",
        one.out
    );
    assert!(one.out.contains("map: exploratory"), "{}", one.out);
    let all = avascope(here, eval, &[]).code(0);
    assert!(!all.out.contains("undecided:"), "{}", all.out);
    // Other rows under the same name.
    fs::write(
        here.join("marks.jsonl"),
        row.replace("rude", "kind").repeat(12),
    )
    .unwrap();
    avascope(here, eval, &[]).code(0);
    avascope(here, eval, &[]).code(0);
    let kept = trust_of(here);
    let labels: Vec<&str> = kept["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["data"].as_str().unwrap())
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert!(
        labels
            .iter()
            .all(|label| label.starts_with("marks.jsonl (sha256 "))
    );
    assert!(labels[0].ends_with("), the first 1"), "{labels:?}");
    assert_ne!(labels[1], labels[2]);
}

#[test]
fn rows_that_were_trained_on_are_left_out() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    run_of(here, "bradley_terry_sum");
    // The rows of the run, all of them.
    let rows = avascope(here, "data world --rows 60 --seed 0", &[])
        .code(0)
        .out;
    fs::write(here.join("all.jsonl"), &rows).unwrap();
    let report = json_of(
        here,
        "eval run --device cpu --json --truth intervention=all.jsonl",
    );
    let notes = report["truths"][0]["notes"].to_string();
    assert!(
        notes.contains("an answer of theirs was trained on"),
        "{notes}"
    );
    let answers = report["truths"][0]["answers"].as_u64().unwrap();
    assert!(answers > 0 && answers < 120, "{answers}");
}

#[test]
fn truths_and_credits_that_cannot_be_are_said_before_anything_is_computed() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    run_of(here, "bradley_terry");
    for (more, words) in [
        ("--truth span", ["no truth `span`", "spans ("]),
        ("--truth lexicon", ["lexicon=FILE", "VADER"]),
        ("--truth steps=none.jsonl", ["none.jsonl", "no file"]),
        ("--credit abd", ["no credit `abd`", "known credits: abc,"]),
        ("--interventions 0", ["--interventions", "1 to 1000"]),
    ] {
        avascope(here, &format!("eval run --device cpu {more}"), &[])
            .code(2)
            .says(&words);
    }
    fs::write(
        here.join("outside.jsonl"),
        "{\"text\":\"ok\",\"bad_spans\":[]}\n{\"text\":\"ok\",\"bad_spans\":[[1,9]]}\n",
    )
    .unwrap();
    avascope(
        here,
        "eval run --device cpu --truth spans=outside.jsonl",
        &[],
    )
    .code(3)
    .says(&["outside.jsonl", "line 2", "bad_spans"]);
    assert!(!here.join("run/checkpoints/trust.json").exists());
}

#[test]
fn every_credit_is_listed_named_in_records_and_adds_up() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    run_of(here, "bradley_terry");
    let listed = json_of(here, "methods --credits --json");
    let score = |credit: &str| {
        avascope(
            here,
            &format!("score run --device cpu --limit 4 --credit {credit}"),
            &[],
        )
        .code(0)
        .lines()
    };
    let own = score("own");
    for credit in listed.as_array().unwrap() {
        let name = credit["name"].as_str().unwrap();
        let records = score(name);
        assert_eq!(records.len(), own.len());
        for (record, own) in records.iter().zip(&own) {
            assert_eq!(record["provenance"]["credit"], name);
            let sum = record["score"]["sum"].as_f64().unwrap();
            let reward = own["score"]["last"].as_f64().unwrap();
            if ["abc", "abc_d", "uniform", "sparse"].contains(&name) {
                assert!(
                    (sum - reward).abs() < 1e-4 * reward.abs().max(1.0),
                    "{name}: {sum} {reward}"
                );
            }
        }
    }
    // With a credit the sum ranks, and ranks as the model does.
    let accuracy = |credit: &str| {
        let report = json_of(
            here,
            &format!("eval run --device cpu --json --credit {credit}"),
        );
        let figures = report["figures"].as_array().unwrap().clone();
        figures
            .iter()
            .find(|f| f["name"] == "pair accuracy")
            .unwrap()["value"]
            .clone()
    };
    assert_eq!(accuracy("own"), accuracy("red"));
    assert_eq!(accuracy("own"), accuracy("abc"));
}
