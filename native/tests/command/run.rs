//! A run's folder, its events, and what ends a run early.

use crate::support::*;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

#[test]
fn train_writes_its_settings_its_log_its_held_out_rows_and_the_model() {
    let scratch = tempfile::tempdir().unwrap();
    let done = avascope(
        scratch.path(),
        &format!("{} --steps 6 --save-steps 3 --json", tiny("run")),
        &[],
    )
    .code(0);
    let run = scratch.path().join("run");

    let settings: toml::Value =
        toml::from_str(&fs::read_to_string(run.join("run.toml")).unwrap()).unwrap();
    assert_eq!(settings["train"]["steps"].as_integer(), Some(6));
    assert!(Path::new(settings["out"].as_str().unwrap()).is_absolute());
    assert_eq!(checkpoints(&run).len(), 2);
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "reward_head.safetensors",
    ] {
        assert!(run.join("final").join(name).is_file(), "{name}");
    }

    // The log and standard output hold the same events.
    let log = events(&run);
    assert_eq!(log, done.lines());
    let kinds: Vec<&str> = log.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "started",
            "step",
            "step",
            "step",
            "checkpoint",
            "step",
            "step",
            "evaluation",
            "step",
            "evaluation",
            "finished",
            "checkpoint"
        ]
    );
    let held_out = lines(&fs::read_to_string(run.join("held_out.jsonl")).unwrap());
    assert_eq!(
        log[0]["run"]["held_out_rows"].as_u64().unwrap() as usize,
        held_out.len()
    );
    assert!(!held_out.is_empty());
    let step = &log[1]["metrics"];
    for name in [
        "loss",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "learning_rate",
        "grad_norm",
        "epoch",
        "num_tokens",
    ] {
        assert!(step[name].is_number(), "{name} is missing: {step}");
    }
    assert!(log[7]["metrics"]["eval_accuracy"].is_number());
    assert!(
        done.err.contains("step 1/6") && !done.err.contains('\u{1b}'),
        "{}",
        done.err
    );
}

#[test]
fn a_second_run_into_a_folder_that_holds_one_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    avascope(scratch.path(), &format!("{} --steps 1", tiny("run")), &[]).code(0);
    let before = fs::read(scratch.path().join("run/metrics.jsonl")).unwrap();
    avascope(scratch.path(), &format!("{} --steps 1", tiny("run")), &[])
        .code(2)
        .says(&["already holds a run", "--resume"]);
    assert_eq!(
        fs::read(scratch.path().join("run/metrics.jsonl")).unwrap(),
        before
    );
}

#[test]
fn a_failed_start_leaves_no_folder_behind() {
    let scratch = tempfile::tempdir().unwrap();
    avascope(
        scratch.path(),
        &format!("{} --steps 1 --held-out 1", tiny("run")),
        &[],
    )
    .code(3);
    avascope(scratch.path(), &format!("{} --steps 0", tiny("run")), &[]).code(2);
    assert!(!scratch.path().join("run").exists());
}

/// Starts a long run and waits until `line` comes by on its standard output.
fn start(folder: &Path, save_steps: usize, line: &str) -> Child {
    let words = format!(
        "{} --steps 1000000 --eval-steps 0 --save-steps {save_steps} --json",
        tiny("run")
    );
    let mut child = command()
        .current_dir(folder)
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains(line)));
    // Somebody must go on reading, or the run waits for a full pipe.
    std::thread::spawn(move || lines.count());
    child
}

fn signal(child: &Child, name: &str) {
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
#[cfg(unix)]
fn ctrl_c_writes_a_checkpoint_and_exits_with_130() {
    let scratch = tempfile::tempdir().unwrap();
    let child = start(scratch.path(), 0, "\"step\":2,");
    signal(&child, "INT");
    let done = done(child.wait_with_output().unwrap())
        .code(130)
        .says(&["interrupted after step", "--resume"]);
    drop(done);
    let run = scratch.path().join("run");
    assert_eq!(checkpoints(&run).len(), 1);
    avascope(scratch.path(), "score run --device cpu --limit 2", &[]).code(0);
    let taken = metrics(&run).len();
    let steps = (taken + 2).to_string();
    avascope(
        scratch.path(),
        "train --out run --resume --steps",
        &[&steps],
    )
    .code(0)
    .says(&["resumed", "other settings"]);
    assert_eq!(
        metrics(&run)
            .keys()
            .filter(|(kind, _)| kind == "step")
            .count(),
        taken + 2
    );
}

#[test]
#[cfg(unix)]
fn a_killed_run_keeps_its_last_complete_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = start(scratch.path(), 1, "\"step\":3,");
    signal(&child, "KILL");
    child.wait().unwrap();
    let run = scratch.path().join("run");
    let last = checkpoints(&run).pop().unwrap();
    // A half-written file, as a crash leaves it, is never taken for a checkpoint; nor is a half-written line for an event.
    fs::write(
        run.join("checkpoints/.step-999999.safetensors.partial-1"),
        b"half",
    )
    .unwrap();
    let mut log = fs::read(run.join("metrics.jsonl")).unwrap();
    log.extend_from_slice(b"{\"type\":\"st");
    fs::write(run.join("metrics.jsonl"), log).unwrap();
    let scored = avascope(scratch.path(), "score run --device cpu --limit 1", &[]).code(0);
    let step: usize = last.file_stem().unwrap().to_str().unwrap()[5..]
        .parse()
        .unwrap();
    let checkpoint = scored.lines()[0]["provenance"]["checkpoint"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(
        checkpoint.starts_with(&format!("step {step} of")),
        "{checkpoint}"
    );
    let steps = (step + 2).to_string();
    avascope(
        scratch.path(),
        "train -q --out run --resume --steps",
        &[&steps],
    )
    .code(0);
    // `metrics` fails where a step is logged twice.
    assert!(metrics(&run).contains_key(&("step".into(), step as u64 + 2)));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_the_run_and_leaves_the_last_checkpoint_whole() {
    struct Mount<'a>(&'a Path);
    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0).output();
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        println!("SKIPPED: a small disk can only be mounted by root, with the right to mount");
        return;
    }
    let mount = Mount(&disk);
    avascope(
        scratch.path(),
        &format!("{} --steps 4 --save-steps 1", tiny("disk/run")),
        &[],
    )
    .code(4)
    .says(&["step-000002", "space"]);
    let found = checkpoints(&disk.join("run"));
    assert_eq!(found.len(), 1, "{found:?}");
    avascope(scratch.path(), "score disk/run --device cpu --limit 1", &[]).code(0);
    drop(mount);
}

#[test]
fn a_number_out_of_range_ends_the_run_and_names_the_place() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    let words = format!(
        "{} --steps 6 --save-steps 1 --learning-rate 1e30",
        tiny("run")
    );
    avascope(scratch.path(), &words, &[])
        .code(3)
        .says(&["at step 2", "learning_rate"]);
    assert_eq!(checkpoints(&run).len(), 1);
    assert_eq!(metrics(&run).len(), 1);

    // Weights that are broken from the start: the row is named.
    avascope(scratch.path(), "convert world model", &[]).code(0);
    let path = scratch.path().join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    for number in bytes[end - 4096..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let words = "train --model model --world-rows 30 --device cpu --steps 2 --out broken";
    avascope(scratch.path(), words, &[]).code(3).says(&[
        "became NaN at step 1",
        "row world-",
        "line",
    ]);
}

#[test]
fn two_micro_batches_take_the_step_of_one_large_batch() {
    let scratch = tempfile::tempdir().unwrap();
    let rows = avascope(scratch.path(), "data world --rows 16", &[])
        .code(0)
        .out;
    fs::write(scratch.path().join("rows.jsonl"), rows).unwrap();
    let first = |out: &str, batch: usize, accumulation: usize| {
        let words = format!(
            "train -q --data rows.jsonl --held-out 0 --device cpu --steps 2 --batch-size {batch} --gradient-accumulation-steps {accumulation} -O normalise=token --out {out}"
        );
        avascope(scratch.path(), &words, &[]).code(0);
        metrics(&scratch.path().join(out))
    };
    // All sixteen rows are drawn in the first step either way, in another order: what is left is float noise.
    let (one, two) = (first("one", 16, 1), first("two", 8, 2));
    for step in [1, 2] {
        for name in ["loss", "grad_norm"] {
            let key = ("step".to_string(), step);
            let (a, b) = (
                one[&key][name].as_f64().unwrap(),
                two[&key][name].as_f64().unwrap(),
            );
            assert!(
                (a - b).abs() < 2e-4 * a.abs().max(1.0),
                "step {step} {name}: {a} and {b}"
            );
        }
    }
}

#[test]
fn margins_are_read_where_asked_for_and_never_left_out_in_silence() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let rows = |name: &str, margin: &dyn Fn(usize) -> Option<f64>| {
        let all: String = avascope(here, "data world --rows 20 --seed 4", &[])
            .code(0)
            .lines()
            .into_iter()
            .enumerate()
            .map(|(i, mut row)| {
                if let Some(margin) = margin(i) {
                    row["margin"] = margin.into();
                }
                format!("{row}\n")
            })
            .collect();
        fs::write(here.join(name), all).unwrap();
    };
    rows("all.jsonl", &|_| Some(2.0));
    rows("some.jsonl", &|i| (i != 7).then_some(2.0));
    let train = |data: &str, more: &str, out: &str| {
        let words = format!(
            "train -q --data {data} --held-out 0 --method bradley_terry --device cpu --steps 1 --batch-size 20 {more} --out {out}"
        );
        avascope(here, &words, &[])
    };
    let loss = |out: &str| {
        let of_first = &metrics(&here.join(out))[&("step".into(), 1)];
        of_first["loss"].as_f64().unwrap()
    };
    // An untrained head scores every answer 0: the loss is -log sigma(0 - margin).
    train("all.jsonl", "-O use_margin=true", "read").code(0);
    assert!((loss("read") - (1.0 + 2f64.exp()).ln()).abs() < 1e-5);
    train("all.jsonl", "", "unread").code(0);
    assert!((loss("unread") - 2f64.ln()).abs() < 1e-5);
    let warned = |out: &str| events(&here.join(out))[0]["run"]["warnings"].to_string();
    assert!(warned("unread").contains("20 of the 20 training rows have a `margin`"));
    assert!(!warned("read").contains("margin"), "{}", warned("read"));
    train("some.jsonl", "-O use_margin=true", "broken")
        .code(3)
        .says(&["line 8", "`margin`", "use_margin = false"]);
    // Held-out rows may lack theirs, and that is said.
    train(
        "all.jsonl",
        "-O use_margin=true --eval-data some.jsonl",
        "held",
    )
    .code(0);
    assert!(warned("held").contains("1 of the 20 held-out pairs"));
}

#[test]
fn a_method_without_a_sigma_has_no_coverage_and_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for (method, more, stated) in [
        (
            "bradley_terry_sum",
            "",
            Some("trains no standard deviation"),
        ),
        ("ava_p", "-O lambda=0", Some("trains no standard deviation")),
        ("preference_probit", "", None),
    ] {
        avascope(
            here,
            &format!("{} -q --steps 2 --method {method} {more}", tiny(method)),
            &[],
        )
        .code(0);
        let report = avascope(here, &format!("eval {method} --device cpu --json"), &[]).code(0);
        let report: serde_json::Value = serde_json::from_str(&report.out).unwrap();
        let figures = report["figures"].as_array().unwrap();
        for level in ["50", "80", "95"] {
            let name = format!("coverage of {level} % intervals");
            let figure = figures.iter().find(|f| f["name"] == name.as_str()).unwrap();
            let said = figure["undefined"].as_str().unwrap_or_default();
            match stated {
                Some(words) => assert!(
                    said.contains(words) && figure["value"].is_null(),
                    "{figure}"
                ),
                None => assert!(
                    figure["value"].is_number() || said.contains("no positive factor"),
                    "{figure}"
                ),
            }
        }
        let uncertainty = if stated.is_some() {
            "prior_only"
        } else {
            "preference_spread"
        };
        assert_eq!(report["provenance"]["uncertainty"], uncertainty);
    }
}
