//! A checkpoint without its run's folder, as the page downloads one: it is scored, shown and gone on with, and what it does
//! not hold is asked for.

use crate::support::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;

/// What the page calls the checkpoint after seven steps.
const NAME: &str = "avascope-ava_p-step-000007.safetensors";
/// The same in the folder of a run that went on.
const OWN: &str = "straight/checkpoints/step-000007.safetensors";

/// A run of twenty steps in `straight`, and its checkpoint after seven alone.
fn straight(here: &Path, more: &str) {
    let words = format!(
        "{} -q --steps 20 --save-steps 7 --save-total-limit 0 {more}",
        tiny("straight")
    );
    avascope(here, &words, &[]).code(0);
    fs::copy(here.join(OWN), here.join(NAME)).unwrap();
}

#[test]
fn a_checkpoint_alone_is_scored_as_in_its_run() {
    for more in ["", "--method ava_d --trainable lora"] {
        let scratch = tempfile::tempdir().unwrap();
        let here = scratch.path();
        straight(here, more);
        let in_run = format!("score straight --device cpu --checkpoint {OWN}");
        let in_run = avascope(here, &in_run, &[]).code(0);
        // Named by its path in the run's folder it is that run's, by any other it stands alone: the world's held-out rows are
        // drawn again.
        let own = avascope(here, "score --device cpu", &[OWN]).code(0);
        assert_eq!(own.out, in_run.out);
        let alone = avascope(here, "score --device cpu", &[NAME]).code(0);
        // Nothing but what scored them.
        let alone = alone.says(&["· f32 ·", "rows of held-out rows"]);
        assert_eq!(alone.err.trim().lines().count(), 1, "{}", alone.err);
        assert_eq!(largest_difference(&alone.lines(), &in_run.lines()), 0.0);

        let report = |words: &str| -> Value {
            let done = avascope(here, "eval --device cpu --json", &[words]).code(0);
            assert!(!done.err.contains("cannot be told"), "{}", done.err);
            serde_json::from_str(&done.out).unwrap()
        };
        let (alone, own) = (report(NAME), report(OWN));
        assert_eq!(alone["figures"], own["figures"]);
        assert_eq!(alone["provenance"], own["provenance"]);
        assert_eq!(alone["data"], "held-out rows (of the built-in world)");
    }
}

#[test]
fn a_checkpoint_alone_is_held_against_truths_and_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    straight(here, "");
    let words = "eval --device cpu --limit 4 --truth intervention --interventions 1";
    avascope(here, words, &[NAME]).code(0);
    // The rows that are drawn again have the digest of the file that the run wrote of them.
    let held_out = fs::read(here.join("straight/held_out.jsonl")).unwrap();
    let digest: String = Sha256::digest(held_out)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let kept = fs::read_to_string(here.join("trust.json")).unwrap();
    let name = format!("held-out rows (sha256 {})", &digest[..12]);
    assert!(kept.contains(&name), "{name}: {kept}");

    avascope(here, "laplace --device cpu", &[NAME]).code(0);
    avascope(here, "score --device cpu --ignorance laplace", &[NAME]).code(0);

    let shown = avascope(here, "inspect --device cpu --json --out map.html", &[NAME]);
    if shown.code == 2 {
        test_data::skipped(
            "the token map of a checkpoint alone",
            "the page is not built into this command",
        );
        return;
    }
    let shown = shown.code(0);
    let said: Value = serde_json::from_str(&shown.out).unwrap();
    let html = fs::read(here.join("map.html")).unwrap();
    assert_eq!(said["file"]["path"], "map.html");
    assert_eq!(said["file"]["bytes"], html.len());
    assert!(
        said["answers"].as_u64() > Some(0) && said["tokens"].as_u64() > said["answers"].as_u64()
    );
}

#[test]
fn a_checkpoint_alone_is_gone_on_with_as_if_the_run_had_never_stopped() {
    for more in ["", "--method ava_d --trainable lora"] {
        let scratch = tempfile::tempdir().unwrap();
        let here = scratch.path();
        straight(here, more);
        let words = "train -q --device cpu --save-total-limit 0 --out on --resume-from";
        avascope(here, words, &[NAME]).code(0);
        let mut expected = metrics(&here.join("straight"));
        expected.retain(|(_, step), _| *step > 7);
        assert_eq!(expected.len(), 13 + 3);
        assert_eq!(metrics(&here.join("on")), expected, "{more}");
        for name in ["final/reward_head.safetensors", "held_out.jsonl"] {
            let of = |run: &str| fs::read(here.join(run).join(name)).unwrap();
            assert!(of("on") == of("straight"), "{name}, {more}");
        }
        // The folder is a run's like any other, with the checkpoint that it began with as its first.
        let on = checkpoints(&here.join("on"));
        assert_eq!(on.len(), 3);
        assert!(fs::read(&on[0]).unwrap() == fs::read(here.join(NAME)).unwrap());
        avascope(here, "eval on --device cpu", &[]).code(0);
        avascope(here, "train -q --out on --resume --steps 22", &[]).code(0);
        assert!(metrics(&here.join("on")).contains_key(&("step".into(), 22)));
    }
}

#[test]
fn what_a_checkpoint_alone_does_not_hold_is_asked_for_and_held_against_it() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    straight(here, "");
    avascope(here, "convert world base", &[]).code(0);
    for (rows, seed) in [("rows.jsonl", 3), ("other.jsonl", 4)] {
        let drawn = avascope(here, &format!("data world --rows 60 --seed {seed}"), &[]).code(0);
        fs::write(here.join(rows), drawn.out).unwrap();
    }
    avascope(
        here,
        "train -q --model base --data rows.jsonl --device cpu --batch-size 4 --steps 2 --trainable heads --out run",
        &[],
    )
    .code(0);
    fs::copy(
        here.join("run/checkpoints/step-000002.safetensors"),
        here.join("mine.safetensors"),
    )
    .unwrap();
    let train = "train --device cpu --out no --resume-from";
    for (words, code, said) in [
        (
            "score mine.safetensors --device cpu".to_string(),
            2,
            ["was trained on `base`", "--model"],
        ),
        (
            "score mine.safetensors --device cpu --model base".into(),
            2,
            ["does not say where its rows lie", "--data"],
        ),
        (
            "score mine.safetensors --device cpu --model straight/final --data rows.jsonl".into(),
            3,
            ["another trunk", "`base`"],
        ),
        (
            "score mine.safetensors --checkpoint mine.safetensors".into(),
            2,
            ["is a checkpoint already", "--checkpoint"],
        ),
        (
            "score rows.jsonl --device cpu".into(),
            3,
            ["rows.jsonl", "the checkpoint cannot be used"],
        ),
        (
            format!("{train} mine.safetensors --data rows.jsonl"),
            2,
            ["was trained on `base`", "--model"],
        ),
        (
            format!("{train} mine.safetensors --model base"),
            2,
            ["does not say where its rows lie", "--data"],
        ),
        (
            format!("{train} mine.safetensors --model base --data other.jsonl"),
            3,
            ["rows of other.jsonl are not those", "--data"],
        ),
        (
            format!("{train} mine.safetensors --model straight/final --data rows.jsonl"),
            3,
            ["mine.safetensors", "frozen trunk"],
        ),
        (
            format!("{train} mine.safetensors --model base --data rows.jsonl --batch-size 5"),
            3,
            ["`batch_size` is 4", "this run's 5"],
        ),
        (
            format!("{train} mine.safetensors --model base --data rows.jsonl --steps 1"),
            2,
            ["has taken 2 steps", "`steps` is 1"],
        ),
        (
            format!("{train} {NAME} --world-rows 61"),
            3,
            ["rows of world are not those", "avascope data world"],
        ),
        (
            format!("{train} {NAME} --method ava_d"),
            3,
            ["its method is `ava_p`", "`ava_d` is asked for"],
        ),
        (
            format!("{train} rows.jsonl"),
            3,
            ["rows.jsonl", "the checkpoint cannot be used"],
        ),
        (
            format!("{train} missing.safetensors"),
            2,
            ["missing.safetensors", "No such file"],
        ),
        (
            format!("{train} {NAME} --resume"),
            2,
            ["--resume", "--resume-from"],
        ),
    ] {
        avascope(here, &words, &[]).code(code).says(&said);
    }
    assert!(!here.join("no").exists());
    avascope(
        here,
        &format!("train --out straight --resume-from {NAME}"),
        &[],
    )
    .code(2)
    .says(&["already holds a run"]);

    // With what it asks for, all of it works.
    let named = "--model base --data rows.jsonl";
    let score = format!("score mine.safetensors --device cpu {named}");
    assert_eq!(avascope(here, &score, &[]).code(0).lines().len(), 120);
    let on = "train -q --device cpu --out on --resume-from mine.safetensors";
    avascope(here, &format!("{on} {named} --steps 4"), &[])
        .code(0)
        .says(&["other settings", "steps 2 -> 4"]);
    assert!(metrics(&here.join("on")).contains_key(&("step".into(), 4)));

    // Rows of a person's own, with the built-in model: the world does not draw them.
    avascope(
        here,
        "train -q --data rows.jsonl --device cpu --batch-size 4 --steps 2 --out words",
        &[],
    )
    .code(0);
    fs::copy(
        here.join("words/checkpoints/step-000002.safetensors"),
        here.join("words.safetensors"),
    )
    .unwrap();
    let score = "score words.safetensors --device cpu";
    avascope(here, score, &[])
        .code(2)
        .says(&["the built-in world draws", "--data"]);
    avascope(here, &format!("{score} --data rows.jsonl"), &[]).code(0);
}

#[test]
#[cfg(unix)]
fn a_checkpoint_comes_through_a_pipe_and_a_device_that_never_ends_is_left_early() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    straight(here, "");
    let score = "score --device cpu --limit 2";
    let expected = avascope(here, score, &[NAME]).code(0).out;
    let pipe = here.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let bytes = fs::read(here.join(NAME)).unwrap();
    let through = |bytes: Vec<u8>| {
        let pipe = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(pipe, bytes));
        let done = avascope(here, score, &["pipe"]);
        // The reader may leave before the last byte is written.
        let _ = writer.join().unwrap();
        done
    };
    assert_eq!(through(bytes.clone()).code(0).out, expected);
    // What goes on behind the last tensor, or ends before it, is no checkpoint.
    let longer = [&bytes[..], &[0; 200_000]].concat();
    for broken in [longer, bytes[..bytes.len() - 1].to_vec()] {
        through(broken)
            .code(3)
            .says(&["pipe", "the checkpoint cannot be used"]);
    }
    let train = "train --device cpu --out no --resume-from";
    for words in [score, train] {
        avascope(here, words, &["/dev/zero"])
            .code(3)
            .says(&["/dev/zero", "the checkpoint cannot be used"]);
    }
    assert!(!here.join("no").exists());
}
