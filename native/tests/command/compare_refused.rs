//! What `avascope compare` refuses, before it trains and before it writes over anything.

use super::compare::*;
use crate::support::*;
use serde_json::Value;
use std::fs;

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
