//! Two sets of answers that nothing pairs: two files, or one with labels.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn draw(here: &Path, words: &str, file: &str) -> String {
    let rows = avascope(here, &format!("data world {words}"), &[])
        .code(0)
        .out;
    fs::write(here.join(file), &rows).unwrap();
    rows
}

#[test]
fn answers_are_held_against_a_second_file_and_against_labels_of_their_own() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let good = draw(here, "demonstrations --rows 60", "good.jsonl");
    let base = draw(here, "base --rows 24 --seed 5", "base.jsonl");

    let train = "train --device cpu --method irl_margin -O kind=logistic -O score=mean --batch-size 4 --steps 6 --held-out 0.3";
    avascope(
        here,
        &format!("{train} --data good.jsonl --against base.jsonl --save-steps 3 --out two"),
        &[],
    )
    .code(0);
    let held_out = lines(&fs::read_to_string(here.join("two/held_out.jsonl")).unwrap());
    for label in [true, false] {
        assert!(held_out.iter().any(|row| row["label"] == label));
    }
    let report: Value = serde_json::from_str(
        &avascope(here, "eval two --device cpu --json", &[])
            .code(0)
            .out,
    )
    .unwrap();
    let named = |name: &str| {
        let figures = report["figures"].as_array().unwrap();
        let found = figures.iter().find(|figure| figure["name"] == name);
        found
            .unwrap_or_else(|| panic!("no `{name}` in {report}"))
            .clone()
    };
    let accuracy = named("pair accuracy");
    assert!(accuracy["value"].is_number());
    assert!(accuracy["note"].as_str().unwrap().contains("undesirable"));
    for name in [
        "accuracy, answers' labels",
        "Spearman, answers' labels",
        "Kendall correlation with known rewards",
    ] {
        assert!(named(name)["value"].is_number(), "{name}");
    }
    avascope(here, "eval two --device cpu --min-accuracy 0", &[]).code(0);

    // Gone on with by the settings that the run wrote of itself.
    avascope(here, "train --out two --resume --steps 8", &[]).code(0);
    assert_eq!(
        metrics(&here.join("two"))
            .keys()
            .filter(|k| k.0 == "step")
            .count(),
        8
    );
    avascope(here, "laplace two --device cpu", &[])
        .code(3)
        .says(&["not (all) pairs"]);

    // The same answers in one file, with labels.
    let labelled = |rows: &str, label: bool| -> String {
        lines(rows)
            .into_iter()
            .map(|mut row| {
                row["label"] = label.into();
                format!("{row}\n")
            })
            .collect()
    };
    fs::write(
        here.join("one.jsonl"),
        labelled(&good, true) + &labelled(&base, false),
    )
    .unwrap();
    avascope(here, &format!("{train} --data one.jsonl --out one"), &[]).code(0);
    let records = avascope(here, "score one --device cpu --data one.jsonl", &[])
        .code(0)
        .lines();
    assert_eq!(records.len(), 84);
    assert!(
        records
            .iter()
            .all(|r| r["side"] == "answer" && r["label"].is_number())
    );

    // A method of demonstrations takes the desirable ones and says so.
    avascope(
        here,
        "train --device cpu --method ava_d --batch-size 4 --steps 1 --data one.jsonl --out ava",
        &[],
    )
    .code(0)
    .says(&["the 24 undesirable ones (label false) are left out"]);
    let check = avascope(here, "data check one.jsonl", &[]).code(0).out;
    assert!(check.contains("84 unpaired"), "{check}");

    for (words, says) in [
        (
            "--method ava_d --data good.jsonl --against base.jsonl",
            ["--against goes with", "irl_margin"],
        ),
        (
            "--method irl_margin --data one.jsonl --against base.jsonl",
            ["one.jsonl", "column label"],
        ),
        (
            "--method irl_margin --data good.jsonl --against one.jsonl",
            ["one.jsonl", "column label"],
        ),
        (
            "--method irl_margin --data good.jsonl --against missing.jsonl",
            ["missing.jsonl", "cannot open"],
        ),
    ] {
        avascope(here, &format!("train --device cpu --out no {words}"), &[])
            .code(2)
            .says(&says);
    }
    avascope(
        here,
        "train --device cpu --out no --method irl_margin --data good.jsonl",
        &[],
    )
    .says(&["--against"]);
    assert!(!here.join("no").exists());

    // A comparison is held on pairs or demonstrations, and on pairs whose chosen answer is the better one.
    let pair = |label: &str| {
        format!(
            r#"{{"prompt":"review the soup : ","chosen":"it was good .","rejected":"it was bad .","preference":{label}}}"#
        )
    };
    fs::write(
        here.join("turned.jsonl"),
        [pair("1"), pair("0.5"), pair("0")].join("\n"),
    )
    .unwrap();
    for (rows, says) in [
        ("one.jsonl", "labelled one by one"),
        ("turned.jsonl", "2 pairs of turned.jsonl"),
    ] {
        let settings = format!(
            "data = '{rows}'\nout = 'no'\ndevice = 'cpu'\nseeds = [0]\n[[method]]\nname = 'irl_margin'\n"
        );
        fs::write(here.join("compare.toml"), settings).unwrap();
        avascope(here, "compare compare.toml", &[])
            .code(3)
            .says(&[says]);
    }
    // A method that reads labels trains on them, and figures leave ties out.
    let train = "train --device cpu --steps 1 --held-out 0 --data turned.jsonl --out labels";
    avascope(here, &format!("{train} --method pref_transformer"), &[]).code(0);
    let eval = avascope(here, "eval labels --device cpu --data turned.jsonl", &[]).code(0);
    assert!(
        eval.out.contains("ties by label left out: 1"),
        "{}",
        eval.out
    );
    avascope(
        here,
        "train --device cpu --data turned.jsonl --method bradley_terry --out no",
        &[],
    )
    .code(3)
    .says(&["line 3", "pref_transformer"]);
}
