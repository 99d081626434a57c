//! Records and reports: what goes to standard output, and what it may depend on.

use crate::support::*;
use serde_json::Value;
use std::fs;

/// Says where `value` breaks `schema`. As much of JSON Schema as the file in docs/ uses.
pub fn breaks(value: &Value, schema: &Value, root: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return breaks(
            value,
            root.pointer(&name[1..])
                .expect("the reference leads somewhere"),
            root,
            at,
        );
    }
    let wrong = |why: String| Some(format!("{at}: {why}, found {value}"));
    for (key, wanted) in schema.as_object()? {
        match key.as_str() {
            "const" if value != wanted => return wrong(format!("not {wanted}")),
            "enum" if !wanted.as_array()?.contains(value) => {
                return wrong(format!("none of {wanted}"));
            }
            "minimum" if value.as_f64() < wanted.as_f64() => {
                return wrong(format!("below {wanted}"));
            }
            "type" => {
                let fits = match wanted.as_str()? {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "number" => value.is_number(),
                    other => panic!("the test knows no type {other}"),
                };
                if !fits {
                    return wrong(format!("no {wanted}"));
                }
            }
            "required" => {
                for name in wanted.as_array()? {
                    if value.get(name.as_str()?).is_none() {
                        return wrong(format!("lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, part) in value.as_object()? {
                    let Some(schema) = wanted.get(name) else {
                        return wrong(format!("unknown {name}"));
                    };
                    if let Some(why) = breaks(part, schema, root, &format!("{at}/{name}")) {
                        return Some(why);
                    }
                }
            }
            "items" => {
                for (i, part) in value.as_array()?.iter().enumerate() {
                    if let Some(why) = breaks(part, wanted, root, &format!("{at}/{i}")) {
                        return Some(why);
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn records_keep_to_the_published_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../docs/token-rewards.schema.json")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("pairs", ""),
        ("demonstrations", "--method ava_d"),
        ("means", "--method bradley_terry"),
    ] {
        avascope(
            scratch.path(),
            &format!("{} -q --steps 2 {more}", tiny(name)),
            &[],
        )
        .code(0);
        let done = avascope(scratch.path(), &format!("score {name} --device cpu"), &[]).code(0);
        let records = done.lines();
        assert!(!records.is_empty());
        for record in &records {
            assert_eq!(breaks(record, &schema, &schema, ""), None);
        }
        assert!(records[0]["tokens"][0]["true_mean"].is_number());
        // Device and precision are always said, and here nothing else.
        let done = done.says(&["step 2 of 2", "cpu (Burn Flex", "· f32 ·"]);
        assert_eq!(done.err.trim().lines().count(), 1, "{}", done.err);
    }
    let broken = serde_json::json!({"schema": "avascope.token-rewards/1", "id": 3});
    assert!(breaks(&broken, &schema, &schema, "").is_some());
}

#[test]
fn neither_padding_nor_batch_size_nor_order_changes_a_rows_rewards() {
    let scratch = tempfile::tempdir().unwrap();
    let rows = avascope(scratch.path(), "data world --rows 40 --seed 3", &[])
        .code(0)
        .out;
    let reversed: String = rows.lines().rev().flat_map(|line| [line, "\n"]).collect();
    fs::write(scratch.path().join("rows.jsonl"), &rows).unwrap();
    fs::write(scratch.path().join("reversed.jsonl"), reversed).unwrap();
    for (name, more) in [
        ("pairs", ""),
        (
            "weighted",
            "-O rwt=reward -O rwt_scale=length -O rwt_sqrt_d=true",
        ),
        ("demonstrations", "--method ava_d"),
        ("sums", "--method bradley_terry_sum"),
    ] {
        avascope(
            scratch.path(),
            &format!("{} -q --steps 10 --learning-rate 0.01 {more}", tiny(name)),
            &[],
        )
        .code(0);
        let score = |more: &str| {
            let done = avascope(
                scratch.path(),
                &format!("score {name} --device cpu {more}"),
                &[],
            )
            .code(0);
            done.lines()
        };
        let alone = score("--data rows.jsonl --batch-size 1");
        assert_eq!(alone.len(), 80);
        for other in [
            "--data rows.jsonl --batch-size 8",
            "--data reversed.jsonl --batch-size 8",
            "--data rows.jsonl --batch-size 40",
        ] {
            let difference = largest_difference(&alone, &score(other));
            assert!(difference < 2e-5, "{name} {other}: {difference}");
        }
    }
}

#[test]
fn reports_are_data_on_standard_output_and_codes_say_how_it_went() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, &format!("{} -q --steps 3", tiny("run")), &[]).code(0);

    let report: Value = serde_json::from_str(
        &avascope(here, "eval run --device cpu --json", &[])
            .code(0)
            .out,
    )
    .unwrap();
    let named = |name: &str| {
        report["figures"]
            .as_array()
            .unwrap()
            .iter()
            .find(|figure| figure["name"] == name)
            .unwrap_or_else(|| panic!("no figure `{name}` in {report}"))
            .clone()
    };
    // Enough pairs for an interval.
    let rows = avascope(here, "data world --rows 40 --seed 5", &[])
        .code(0)
        .out;
    fs::write(here.join("many.jsonl"), rows).unwrap();
    let many = avascope(here, "eval run --device cpu --data many.jsonl --json", &[])
        .code(0)
        .out;
    let many: Value = serde_json::from_str(&many).unwrap();
    let figures = many["figures"].as_array().unwrap();
    let accuracy = figures
        .iter()
        .find(|figure| figure["name"] == "pair accuracy")
        .unwrap();
    let value = accuracy["value"].as_f64().unwrap();
    let end = |key: &str| accuracy["interval"][key].as_f64().unwrap();
    assert!(end("low") <= value && value <= end("high"), "{accuracy}");
    for name in [
        "pair accuracy",
        "longer wins",
        "correlation of sum with length",
        "correlation with known rewards",
        "rank correlation with known rewards",
        "coverage of 95 % intervals",
        "TD residual inside 95 %",
        // How max-margin IRL is judged: against known rewards, of tokens and of answers, and against labels.
        "Kendall correlation with known rewards",
        "accuracy, undesirable tokens",
        "Pearson, answers",
        "Spearman, answers",
        "Kendall, answers",
        "accuracy, undesirable answers",
        "Pearson, answers' labels",
        "accuracy, answers' labels",
        "F1, answers' labels",
    ] {
        assert!(named(name)["value"].is_number(), "{name}");
    }
    // What few rows may leave open is a number or says why it is none.
    for name in [
        "F1, undesirable tokens",
        "F1, undesirable tokens, fitted zero",
        "F1, undesirable answers",
        "F1, undesirable answers, fitted zero",
    ] {
        let figure = named(name);
        let reason = figure["undefined"].as_str().unwrap_or_default();
        let stated = figure["value"].is_null() && reason.starts_with("undefined: ");
        assert!(figure["value"].is_number() || stated, "{figure}");
    }
    // Rows with marked parts add how well rewards find them, on both sides.
    fs::write(
        here.join("marked.jsonl"),
        r#"{"prompt":"describe the band : ","chosen":"they ordered a cake .","rejected":"we ate a gift .","chosen_spans":[[0,4]],"rejected_spans":[[7,15]]}"#,
    )
    .unwrap();
    let marked = avascope(
        here,
        "eval run --device cpu --json --data marked.jsonl",
        &[],
    )
    .code(0);
    for name in [
        "token AUC, rejected spans",
        "token AUC, chosen spans",
        "F1, rejected spans",
        "Kendall, chosen spans",
    ] {
        assert!(marked.out.contains(name), "{}", marked.out);
    }
    // No reward is known there, and nothing pretends that one is; one answer in which all is marked has no order.
    fs::write(
        here.join("all.jsonl"),
        r#"{"prompt":"describe the band : ","completion":"we ate a gift .","bad_spans":[[0,15]]}"#,
    )
    .unwrap();
    let all = avascope(here, "eval run --device cpu --data all.jsonl", &[]).code(0);
    assert!(!all.out.contains("known"), "{}", all.out);
    let line = all
        .out
        .lines()
        .find(|l| l.trim_start().starts_with("Pearson, marked spans"));
    assert!(line.unwrap().contains("undefined: "), "{}", all.out);
    assert!(!all.out.contains("NaN"), "{}", all.out);
    avascope(here, "eval run --device cpu --min-accuracy 0", &[]).code(0);
    avascope(here, "eval run --device cpu --min-accuracy 1", &[])
        .code(1)
        .says(&["pair accuracy is", "at least 1"]);
    avascope(here, "eval run --device cpu --min-accuracy nan", &[]).code(2);
    avascope(here, "score run --device cpu --out records.jsonl", &[]).code(0);
    let to_file = fs::read_to_string(here.join("records.jsonl")).unwrap();
    assert_eq!(
        to_file,
        avascope(here, "score run --device cpu", &[]).code(0).out
    );
    avascope(here, "score run --device nonsense", &[])
        .code(2)
        .says(&["nonsense"]);
    avascope(here, "score run --device cpu --data missing.jsonl", &[])
        .code(2)
        .says(&["missing.jsonl"]);
    avascope(here, "score elsewhere", &[])
        .code(2)
        .says(&["does not exist", "avascope train"]);

    // The page may or may not be built into this command; both ends are clean.
    let inspected = avascope(here, "inspect run --device cpu --out map.html", &[]);
    match inspected.code {
        0 => assert!(
            fs::read_to_string(here.join("map.html"))
                .unwrap()
                .contains("avascope.token-rewards/1")
        ),
        code => {
            test_data::skipped(
                "the token map that `inspect` writes",
                "the page is not built into this command",
            );
            assert_eq!(code, 2);
            assert!(inspected.err.contains("xtask"));
        }
    }

    let rows = avascope(here, "data world --rows 30", &[]).code(0).out;
    fs::write(here.join("rows.jsonl"), &rows).unwrap();
    let check: Value = serde_json::from_str(
        &avascope(here, "data check rows.jsonl --json", &[])
            .code(0)
            .out,
    )
    .unwrap();
    assert!(check.is_object());
    avascope(here, "data check rows.jsonl", &[]).code(0);
    fs::write(
        here.join("broken.jsonl"),
        format!("{rows}{{\"prompt\": 1\n[]\n"),
    )
    .unwrap();
    avascope(here, "data check broken.jsonl", &[])
        .code(3)
        .says(&["line 31", "line 32", "2 problems"]);
    avascope(here, "score run --device cpu --data broken.jsonl", &[])
        .code(3)
        .says(&["line 31", "2 broken rows"]);

    let methods: Value =
        serde_json::from_str(&avascope(here, "methods --json", &[]).code(0).out).unwrap();
    assert!(
        methods
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["name"] == "ava_p")
    );
    let doctor: Value =
        serde_json::from_str(&avascope(here, "doctor --json", &[]).code(0).out).unwrap();
    assert!(
        doctor["devices"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["device"] == "cpu" && d["opens"] == true)
    );
    let named: Vec<&str> = doctor["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["device"].as_str().unwrap())
        .collect();
    assert_eq!(
        named,
        [
            "auto", "gpu", "vulkan", "metal", "dx12", "cuda", "rocm", "cpu"
        ]
    );
    for device in doctor["devices"].as_array().unwrap() {
        match device["opens"].as_bool().unwrap() {
            true => assert!(device["info"]["adapter"].is_string(), "{device}"),
            false => assert!(!device["reason"].as_str().unwrap().is_empty(), "{device}"),
        }
    }
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(
            avascope(here, &format!("completions {shell}"), &[])
                .code(0)
                .out
                .contains("avascope")
        );
    }
    assert!(avascope(here, "--help", &[]).code(0).out.contains("train"));
    avascope(here, "nonsense", &[]).code(2);
    avascope(here, "", &[]).code(2);
}
