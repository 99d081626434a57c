//! What must not be lost or believed: outputs over devices and inputs, work whose reader left, runs that ended early, rows and
//! tokenizers that do not fit.

use crate::support::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A run of a few steps in `run`, and its rows in `rows.jsonl`.
fn small_run(here: &Path) {
    avascope(here, &format!("{} -q --steps 2", tiny("run")), &[]).code(0);
    let rows = avascope(here, "data world --rows 60 --seed 0", &[])
        .code(0)
        .out;
    fs::write(here.join("rows.jsonl"), rows).unwrap();
}

fn spawn(here: &Path, words: &str) -> Child {
    command()
        .current_dir(here)
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[cfg(unix)]
fn send(child: &Child, signal: &str) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{signal}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
#[cfg(unix)]
fn outputs_go_through_pipes_and_links_and_never_over_their_input() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let made = std::process::Command::new("mkfifo")
        .arg(here.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let pipe = here.join("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    let score = "score run --device cpu --limit 2 --out";
    avascope(here, score, &["pipe"]).code(0);
    let through = lines(&reader.join().unwrap());
    assert_eq!(through.len(), 4);
    fs::write(here.join("file"), "old").unwrap();
    std::os::unix::fs::symlink("file", here.join("link")).unwrap();
    avascope(here, score, &["link"]).code(0);
    assert!(here.join("link").is_symlink());
    assert_eq!(
        lines(&fs::read_to_string(here.join("file")).unwrap()),
        through
    );

    // The rows of a person, and a link to them.
    std::os::unix::fs::symlink("rows.jsonl", here.join("mine")).unwrap();
    let before = fs::read(here.join("rows.jsonl")).unwrap();
    for words in [
        "score run --device cpu --data rows.jsonl --out ./mine",
        "score run --device cpu --out run/held_out.jsonl",
        "laplace run --device cpu --data rows.jsonl --out mine",
        "data doubtful rows.jsonl --device cpu --ensemble run run --out rows.jsonl",
    ] {
        avascope(here, words, &[])
            .code(2)
            .says(&["choose another --out"]);
    }
    assert_eq!(fs::read(here.join("rows.jsonl")).unwrap(), before);
}

/// Every file under a folder with its bytes.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
    }
    found
}

#[test]
fn an_output_never_takes_the_place_of_a_file_of_a_run() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let words = format!("{} -q --steps 2 --save-steps 1", tiny("run"));
    avascope(here, &words, &[]).code(0);
    avascope(
        here,
        &format!("{} -q --steps 2 --seed 1", tiny("other")),
        &[],
    )
    .code(0);
    let rows = avascope(here, "data world --rows 10", &[]).code(0).out;
    fs::write(here.join("rows.jsonl"), rows).unwrap();
    let score = "score run --device cpu --limit 1 --out";
    let before = files_of(&here.join("run"));
    for out in [
        "run/run.toml",
        "run/held_out.jsonl",
        "run/metrics.jsonl",
        "run/.lock",
        "run/final/reward_head.safetensors",
        "run/final/../run.toml",
        "run/checkpoints/step-000001.safetensors",
        "run/checkpoints/step-000002.safetensors",
    ] {
        for words in [
            score,
            "laplace run --device cpu --out",
            "score other --device cpu --limit 1 --out",
            "data doubtful rows.jsonl --device cpu --ensemble run other --out",
        ] {
            avascope(here, words, &[out])
                .code(2)
                .says(&[out, "choose another --out"]);
        }
    }
    for to in ["run/checkpoints", "run/final", "run/./checkpoints/."] {
        avascope(here, "convert run", &[to])
            .code(2)
            .says(&["is a run's folder"]);
    }
    assert!(files_of(&here.join("run")) == before);
    // Files under other names are a person's own, and so are those beside no run.
    fs::create_dir(here.join("final")).unwrap();
    for out in [
        "run/scores.jsonl",
        "run/checkpoints/mine.jsonl",
        "final/mine.jsonl",
    ] {
        for _ in 0..2 {
            avascope(here, score, &[out]).code(0);
        }
    }
}

#[test]
fn what_is_no_model_is_called_by_what_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let checkpoint = "run/checkpoints/step-000002.safetensors";
    fs::copy(here.join(checkpoint), here.join("c.safetensors")).unwrap();
    avascope(here, "convert c.safetensors out", &[])
        .code(3)
        .says(&[
            "c.safetensors is a checkpoint",
            "avascope score",
            "--resume-from",
            "avascope convert RUN",
        ]);
    assert!(!here.join("out").exists());
    if cfg!(unix) {
        let made = std::process::Command::new("mkfifo")
            .arg(here.join("pipe"))
            .status();
        assert!(made.unwrap().success());
        let train = "train --model pipe --data rows.jsonl --device cpu --out none";
        let told = avascope(here, train, &[]).code(2).says(&["no plain file"]);
        assert!(!told.err.contains("there is no model"), "{}", told.err);
    }
    let help = avascope(here, "train --help", &[]).code(0).out;
    let words: Vec<&str> = help.split_whitespace().collect();
    let said = "must not be changed while it is in use";
    assert!(words.join(" ").contains(said), "{help}");
}

#[test]
fn columns_that_are_not_written_again_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    avascope(
        here,
        &format!("{} -q --steps 2 --seed 1", tiny("run1")),
        &[],
    )
    .code(0);
    let rows = fs::read_to_string(here.join("rows.jsonl")).unwrap();
    fs::write(
        here.join("more.jsonl"),
        rows.replace("{\"", "{\"mycolumn\":1,\""),
    )
    .unwrap();
    let doubtful =
        "data doubtful more.jsonl --device cpu --ensemble run --ensemble run1 --out strong.jsonl";
    avascope(here, doubtful, &[])
        .code(0)
        .says(&["without them: mycolumn"]);
    // The usage that an error prints works: rows first.
    avascope(here, "data doubtful --ensemble run run1 more.jsonl", &[])
        .code(2)
        .says(&["doubtful [OPTIONS] <DATA> --ensemble <RUN> <RUN>..."]);
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_training() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = spawn(
        scratch.path(),
        &format!("{} --steps 30 --json", tiny("run")),
    );
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"step\":2,")));
    drop(lines);
    let ended = done(child.wait_with_output().unwrap()).code(0);
    assert_eq!(
        ended.err.matches("takes no more lines").count(),
        1,
        "{}",
        ended.err
    );
    let run = scratch.path().join("run");
    assert!(run.join("checkpoints/step-000030.safetensors").is_file());
    assert!(metrics(&run).contains_key(&("step".into(), 30)));
}

#[test]
fn a_run_that_ended_before_its_first_checkpoint_may_be_begun_again() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let words = format!("{} --steps 2", tiny("run"));
    let diverging = format!("{words} --learning-rate 1e30");
    avascope(here, &diverging, &[])
        .code(3)
        .says(&["begin again", "nothing is saved before the end"]);
    assert!(checkpoints(&here.join("run")).is_empty());
    avascope(here, "train --out run --resume", &[])
        .code(2)
        .says(&["start without --resume"]);
    avascope(here, &words, &[])
        .code(0)
        .says(&["before its first checkpoint; it is begun again"]);
    // The log is the new run's alone.
    let started = |event: &&serde_json::Value| event["type"] == "started";
    assert_eq!(events(&here.join("run")).iter().filter(started).count(), 1);
    // A trained model whose checkpoints are gone is not written over.
    fs::remove_dir_all(here.join("run/checkpoints")).unwrap();
    avascope(here, &words, &[])
        .code(2)
        .says(&["already holds a run"]);
}

#[test]
fn a_run_without_its_settings_is_not_taken_for_another() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    fs::write(here.join("run/run.toml"), "").unwrap();
    avascope(here, "score run --device cpu --limit 1", &[])
        .code(3)
        .says(&["run.toml is not complete", "`model`"]);
    fs::remove_file(here.join("run/run.toml")).unwrap();
    avascope(here, "train --out run --resume", &[])
        .code(2)
        .says(&["there is no", "run.toml", "--config"]);
}

#[test]
#[cfg(unix)]
fn both_interrupts_say_what_they_do() {
    let scratch = tempfile::tempdir().unwrap();
    // A step that takes a while.
    let words =
        "train --data world --world-rows 5000 --device cpu --batch-size 4000 --steps 9 --out run";
    let mut child = spawn(scratch.path(), words);
    let mut said = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let mut wait_for = |words: &str| assert!(said.any(|line| line.contains(words)), "{words}");
    wait_for("nothing is saved before the end");
    interrupt(&child);
    wait_for("Ctrl-C again ends at once");
    interrupt(&child);
    wait_for("what came after the last checkpoint is lost");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
#[cfg(unix)]
fn an_ignored_hang_up_stays_ignored() {
    let scratch = tempfile::tempdir().unwrap();
    let words = format!("{} --steps 200 --json", tiny("run"));
    let mut child = std::process::Command::new("sh")
        .current_dir(scratch.path())
        .args([
            "-c",
            "trap '' HUP; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_avascope"),
        ])
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"step\":2,")));
    send(&child, "HUP");
    std::thread::spawn(move || lines.count());
    done(child.wait_with_output().unwrap()).code(0);
    assert!(metrics(&scratch.path().join("run")).contains_key(&("step".into(), 200)));
}

#[test]
fn a_hash_that_is_given_is_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let zeros = "0".repeat(64);
    avascope(here, "fetch smollm2 --out models --sha256", &[&zeros])
        .code(2)
        .says(&["smollm2 is the file with the SHA-256", &zeros]);
    avascope(here, "fetch smollm2 --out models --sha256 zz", &[])
        .code(2)
        .says(&["64 hexadecimal digits"]);
    assert!(!here.join("models").exists());
}

#[test]
fn rows_that_were_trained_on_are_counted_where_they_are_measured() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let own = "train --data rows.jsonl --eval-data rows.jsonl --device cpu --batch-size 4 --steps 1 --out own";
    avascope(here, own, &[])
        .code(0)
        .says(&["60 of 60 rows to be measured on were trained on"]);
    avascope(here, "eval own --device cpu", &[])
        .code(0)
        .says(&["60 of 60 rows"]);
    let eval = avascope(here, "eval run --device cpu --data rows.jsonl", &[]).code(0);
    let trained = events(&here.join("run"))[0]["run"]["train_rows"]
        .as_u64()
        .unwrap();
    assert!(
        eval.err.contains(&format!("{trained} of 60 rows")),
        "{}",
        eval.err
    );
    let held_out = avascope(here, "eval run --device cpu", &[]).code(0);
    assert!(
        !held_out.err.contains("were trained on"),
        "{}",
        held_out.err
    );
}

#[test]
fn tokenizers_that_would_not_be_read_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    for name in ["tok.bin", "tok.model"] {
        fs::write(here.join(name), "x").unwrap();
    }
    avascope(here, "convert world hf", &[]).code(0);
    for (words, said) in [
        (
            "train --data world --device cpu --out none --tokenizer tok.bin",
            "vocabulary of its own",
        ),
        (
            "eval run --device cpu --tokenizer tok.bin",
            "vocabulary of its own",
        ),
        (
            "train --model hf --data world --device cpu --out none --tokenizer tok.bin",
            "goes with a llama2.c .bin model",
        ),
        (
            "train --model hf --data world --device cpu --out none --tokenizer tok.model",
            "neither a llama2.c tokenizer",
        ),
    ] {
        avascope(here, words, &[])
            .code(2)
            .says(&["--tokenizer tok.", said]);
    }
    assert!(!here.join("none").exists());
}

#[test]
fn a_vocabulary_that_does_not_fit_the_rows_is_said_with_the_share() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let row = "{\"prompt\":\"hi\",\"chosen\":\"Quantum flux\",\"rejected\":\"Zebra jazz oboe\"}\n";
    fs::write(here.join("own.jsonl"), row.repeat(3)).unwrap();
    let train = "train --device cpu --steps 1 --batch-size 2 --held-out 0 --out";
    avascope(here, train, &["own", "--data", "own.jsonl"])
        .code(0)
        .says(&[
            "% of the answers' tokens (",
            "the token for unknown text",
            "--model",
        ]);
    let world = avascope(
        here,
        train,
        &["run", "--data", "world", "--world-rows", "20"],
    )
    .code(0);
    assert!(!world.err.contains("unknown text"), "{}", world.err);
}
