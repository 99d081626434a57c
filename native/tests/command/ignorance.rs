//! `--ignorance`: ignorance and totals in records and reports, and what is refused.

use crate::score::breaks;
use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Two runs of other seeds on the same rows.
fn two_runs(here: &Path) {
    let rows = avascope(here, "data world --rows 60 --seed 3", &[])
        .code(0)
        .out;
    fs::write(here.join("rows.jsonl"), rows).unwrap();
    for seed in [0, 1] {
        avascope(
            here,
            &format!(
                "train -q --data rows.jsonl --method ava_p --device cpu --batch-size 4 --steps 20 --learning-rate 0.005 --seed {seed} --out run{seed}"
            ),
            &[],
        )
        .code(0);
    }
}

fn all_tokens(records: &[Value]) -> Vec<Value> {
    records
        .iter()
        .flat_map(|r| r["tokens"].as_array().unwrap().clone())
        .collect()
}

#[test]
fn every_estimate_keeps_to_the_schema_and_says_which_it_is() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/token-rewards.schema.json")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    two_runs(here);
    avascope(here, "score run0 --device cpu --ignorance laplace", &[])
        .code(2)
        .says(&["avascope laplace run0"]);
    avascope(here, "laplace run0 --device cpu", &[])
        .code(0)
        .says(&["training pairs", "prior variance", "largest evidence"]);
    // The same as JSON, with the file that was written.
    let words = "laplace run0 --device cpu --json --out fit.safetensors";
    let said: Value = serde_json::from_str(&avascope(here, words, &[]).code(0).out).unwrap();
    let written = fs::read(here.join("fit.safetensors")).unwrap();
    assert_eq!(said["file"]["path"], "fit.safetensors");
    assert_eq!(said["file"]["bytes"], written.len());
    assert_eq!(said["file"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(
        (&said["fit"]["over"], &said["fit"]["prior"]),
        (&"head".into(), &"evidence".into())
    );
    assert!(said["fit"]["pairs"].as_u64() > Some(0));
    let plain = avascope(here, "score run0 --device cpu", &[])
        .code(0)
        .lines();
    assert!(plain[0]["provenance"].get("ignorance").is_none());
    for (kind, words) in [
        ("laplace_head", "--ignorance laplace"),
        ("ensemble", "--ignorance ensemble --member run1"),
        ("dropout", "--ignorance dropout --dropout-samples 4"),
    ] {
        let records = avascope(here, &format!("score run0 --device cpu {words}"), &[])
            .code(0)
            .lines();
        assert_eq!(records.len(), plain.len());
        for record in &records {
            assert_eq!(breaks(record, &schema, &schema, ""), None);
            assert_eq!(record["provenance"]["ignorance"]["kind"], kind);
            assert!(record["score"]["ignorance"]["margin"].is_number());
            for score in ["last", "sum", "mean", "margin"] {
                let of = |what: &str| record["score"][what][score].as_f64().unwrap();
                assert!(of("total") > of("ignorance"), "{kind} {score}");
            }
        }
        for (token, plain) in all_tokens(&records).iter().zip(all_tokens(&plain)) {
            let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
            let (spread, ignorance) = (number(token, "std"), number(token, "ignorance_std"));
            assert!(ignorance > 0.0);
            assert!((number(token, "total_std") - spread.hypot(ignorance)).abs() < 1e-5);
            assert!(number(token, "total_std") >= spread.max(ignorance));
            if kind != "ensemble" {
                // The method's own numbers stay what they were.
                assert_eq!(token["mean"], plain["mean"]);
                assert_eq!(token["std"], plain["std"]);
            }
        }
        let report = avascope(here, &format!("eval run0 --device cpu --json {words}"), &[]).code(0);
        let report: Value = serde_json::from_str(&report.out).unwrap();
        assert_eq!(report["provenance"]["ignorance"]["kind"], kind);
        let figures = report["figures"].as_array().unwrap();
        for name in [
            "ignorance std of a token, mean",
            "total std of a token, mean",
            "the same, ignorance counted",
        ] {
            let figure = figures.iter().find(|f| f["name"] == name);
            assert!(
                figure.is_some_and(|f| f["value"].is_number()),
                "{name}: {figure:?}"
            );
        }
    }
}

#[test]
fn an_ensemble_of_one_and_foreign_files_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    two_runs(here);
    let refused = |words: &str, code: i32, says: &[&str]| {
        avascope(here, &format!("score run0 --device cpu {words}"), &[])
            .code(code)
            .says(says);
    };
    refused("--ignorance ensemble", 2, &["ensemble of one"]);
    refused(
        "--ignorance ensemble --member run0",
        2,
        &["same checkpoint"],
    );
    refused(
        "--ignorance ensemble --member nowhere",
        2,
        &["nowhere", "does not exist"],
    );
    refused("--member run1", 2, &["--ignorance ensemble"]);
    refused("--ignorance dropout --dropout-rate 1", 2, &["dropout rate"]);
    refused(
        "--ignorance dropout --dropout-samples 1",
        2,
        &["at least 2"],
    );
    avascope(here, "laplace run1 --device cpu", &[]).code(0);
    let file = fs::read_dir(here.join("run1/ignorance"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = file.to_str().unwrap();
    refused(
        &format!("--ignorance laplace --laplace {file}"),
        3,
        &["another checkpoint"],
    );
    fs::write(here.join("broken"), b"nothing").unwrap();
    refused("--ignorance laplace --laplace broken", 3, &["damaged"]);
    avascope(here, "laplace run0 --device cpu --prior-variance 0", &[]).code(2);
    avascope(here, "laplace run0 --device cpu --data world", &[])
        .code(3)
        .says(&["not the rows"]);
    avascope(here, "train -q --data rows.jsonl --method fine_grained --device cpu --batch-size 4 --steps 2 --out other", &[]).code(0);
    refused(
        "--ignorance ensemble --member other",
        2,
        &["no member", "fine_grained"],
    );
    avascope(here, "laplace other --device cpu", &[])
        .code(3)
        .says(&["no preference likelihood"]);
}

#[test]
fn doubtful_labels_are_found_and_secrets2_trains_on_their_strengths() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    two_runs(here);
    avascope(
        here,
        "data doubtful rows.jsonl --device cpu --ensemble run0",
        &[],
    )
    .code(2)
    .says(&["ensemble of one"]);
    let done = avascope(
        here,
        "data doubtful rows.jsonl --device cpu --ensemble run0 run1 --json --show 3 --out strong.jsonl",
        &[],
    )
    .code(0);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (report["pairs"].as_u64(), report["models"].as_u64()),
        (Some(60), Some(2))
    );
    let weakest = report["weakest"].as_array().unwrap();
    let mean = |pair: &Value| pair["strength"]["mean"].as_f64().unwrap();
    assert_eq!(weakest.len(), 3);
    assert!(weakest.windows(2).all(|w| mean(&w[0]) <= mean(&w[1])));
    // The pairs themselves, in full as JSON and short for people.
    let all = lines(&fs::read_to_string(here.join("rows.jsonl")).unwrap());
    let listed = avascope(
        here,
        "data doubtful rows.jsonl --device cpu --ensemble run0 run1 --show 3",
        &[],
    )
    .code(0)
    .out;
    for pair in weakest {
        let row = all.iter().find(|row| row["id"] == pair["id"]).unwrap();
        let shown = listed.split(pair["id"].as_str().unwrap()).nth(1).unwrap();
        for side in ["prompt", "chosen", "rejected"] {
            assert_eq!(pair[side], row[side], "{side}");
            let start: String = row[side].as_str().unwrap().chars().take(80).collect();
            assert!(shown.contains(&format!("    {side:<9} {start}")), "{shown}");
        }
    }
    let rows = lines(&fs::read_to_string(here.join("strong.jsonl")).unwrap());
    let lowest = rows
        .iter()
        .map(|r| r["strength"].as_f64().unwrap())
        .fold(f64::INFINITY, f64::min);
    assert!((lowest - mean(&weakest[0])).abs() < 1e-5);

    let train = "train -q --method secrets2 --device cpu --batch-size 4 --steps 3";
    avascope(here, &format!("{train} --data rows.jsonl --out none"), &[])
        .code(3)
        .says(&["strength", "data doubtful"]);
    avascope(
        here,
        &format!("{train} --data strong.jsonl -O flip_fraction=0.2 --out cleaned"),
        &[],
    )
    .code(0)
    .says(&["labels swapped"]);
    avascope(
        here,
        &format!(
            "{train} --data strong.jsonl -O contrastive_weight=1 --trainable heads --out still"
        ),
        &[],
    )
    .says(&["contrastive_weight", "`full` or `lora`"]);
    avascope(
        here,
        &format!("{train} --data strong.jsonl -O contrastive_weight=1 --out contrast"),
        &[],
    )
    .code(0);
    let term = metrics(&here.join("contrast"))[&("step".into(), 2)]["contrastive_loss"].as_f64();
    assert!(term.is_some_and(|term| term > 0.0), "{term:?}");
    avascope(
        here,
        &format!("{train} --data strong.jsonl --out kept"),
        &[],
    )
    .code(0);
    // Swapped labels pull the other way: the two runs are not the same.
    let loss = |run: &str| {
        metrics(&here.join(run))[&("step".into(), 2)]["loss"]
            .as_f64()
            .unwrap()
    };
    assert_ne!(loss("cleaned"), loss("kept"));
}
