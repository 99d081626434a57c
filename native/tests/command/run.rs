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
        "trainer_state.json",
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
    // The same history as transformers' trainer leaves it.
    let state = fs::read_to_string(run.join("final/trainer_state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let history = state["log_history"].as_array().unwrap();
    assert_eq!((history.len(), &state["global_step"]), (6 + 2, &6.into()));
    assert_eq!(
        (&history[0]["step"], &history[0]["loss"]),
        (&1.into(), &log[1]["metrics"]["loss"])
    );
    assert!(history[5]["eval_accuracy"].is_number() && history[5]["step"] == 5);
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
        // The names of TRL's reward trainer, and ours.
        "accuracy",
        "margin",
        "min_reward",
        "mean_reward",
        "max_reward",
        "rewards/std/chosen",
        "rewards/std/rejected",
        "ava/elbo",
        "ava/ll_chosen",
        "ava/ll_rejected",
        "ava/nll_per_token",
        "ava/kl",
        "ava/td_logq",
        "ava/cer",
        "ava/lambda",
        // Details of the first step.
        "ava/mu_mean",
        "ava/mu_std",
        "ava/sigma_mean",
        "ava/sigma_min",
        "ava/rho_clamped_fraction",
        "calibration/z_mean",
        "calibration/z_var",
        "calibration/coverage95",
        "ava/delta_mean",
        "ava/delta_std",
        "ava/td_share_last_step",
    ] {
        assert!(step[name].is_number(), "{name} is missing: {step}");
    }
    // An untrained head is the prior.
    assert_eq!(
        (&step["ava/sigma_mean"], &step["ava/sigma_min"]),
        (&1.0.into(), &1.0.into())
    );
    let later = &log[3]["metrics"];
    assert!(later["ava/sigma_mean"].is_null(), "details at step 3");
    let of = |name: &str| later[name].as_f64().unwrap();
    assert!(of("min_reward") <= of("mean_reward") && of("mean_reward") <= of("max_reward"));
    assert!(of("rewards/std/chosen") > 0.0);
    let held_out_metrics = &log[7]["metrics"];
    for name in [
        "eval_accuracy",
        "eval_loss",
        "eval_margin",
        "eval_mean_reward",
        "eval_rewards/chosen",
        "eval_rewards/rejected",
        "eval_perplexity/chosen",
        "eval_perplexity/rejected",
        "eval_length_correlation",
        "eval_calibration/z_mean",
        "eval_truth/pearson",
        "eval_truth/coverage95",
    ] {
        assert!(
            held_out_metrics[name].is_number(),
            "{name} is missing: {held_out_metrics}"
        );
    }
    let perplexity = held_out_metrics["eval_perplexity/chosen"].as_f64().unwrap();
    assert!(
        perplexity > 1.0 && perplexity < 88.0,
        "{perplexity}: the model knows its words"
    );
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

/// The words of a run that goes on until it is stopped.
pub fn endless(save_steps: usize) -> String {
    format!(
        "{} --steps 1000000 --eval-steps 0 --save-steps {save_steps} --json",
        tiny("run")
    )
}

/// Starts a run and waits until `line` comes by on its standard output.
pub fn start(folder: &Path, words: &str, line: &str) -> Child {
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
    let child = start(scratch.path(), &endless(0), "\"step\":2,");
    interrupt(&child);
    let done = done(child.wait_with_output().unwrap())
        .code(130)
        .says(&["interrupted after step", "--resume"]);
    drop(done);
    let run = scratch.path().join("run");
    assert_eq!(checkpoints(&run).len(), 1);
    let last = events(&run).pop().expect("an end");
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"finished".into(), &"stopped".into())
    );
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
    let mut child = start(scratch.path(), &endless(1), "\"step\":3,");
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

/// Checkpoints that are half written, or that a kill left so.
pub fn unfinished(run: &Path) -> usize {
    fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".partial-"))
        .count()
}

#[test]
#[cfg(unix)]
fn a_checkpoint_that_cannot_be_written_whole_leaves_the_one_before_it() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    avascope(
        scratch.path(),
        &format!("{} -q --steps 1", tiny("run")),
        &[],
    )
    .code(0);
    let before = checkpoints(&run);
    let whole = fs::read(&before[0]).unwrap();
    // The system refuses to let files grow beyond 100 KiB, as a full disk would; no right to mount is needed for that.
    let output = std::process::Command::new("sh")
        .current_dir(scratch.path())
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_avascope"),
        ])
        .args("train -q --out run --resume --steps 4 --save-steps 1".split(' '))
        .output()
        .unwrap();
    done(output).code(4).says(&["step-000002", "space"]);
    assert_eq!(checkpoints(&run), before);
    assert_eq!(fs::read(&before[0]).unwrap(), whole);
    assert_eq!(unfinished(&run), 0);
    avascope(
        scratch.path(),
        "train -q --out run --resume --steps 4 --save-steps 1 --save-total-limit 0",
        &[],
    )
    .code(0);
    assert_eq!(checkpoints(&run).len(), 4);
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
        test_data::skipped(
            "a run on a full disk",
            "a small disk can only be mounted by root, with the right to mount",
        );
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
        .says(&["became", "at step 2", "learning_rate"]);
    assert_eq!(checkpoints(&run).len(), 1);
    assert_eq!(metrics(&run).len(), 1);
    // A factor that is too large is not blamed on the weights or on a row, and the term is named before the sum.
    let words = format!("{} --steps 6 -O lambda=1e38", tiny("factor"));
    avascope(scratch.path(), &words, &[]).code(3).says(&[
        "ava/elbo became",
        "finite in every row",
        "factor",
    ]);
    let last = events(&run).pop().expect("an end");
    assert_eq!(
        (&last["type"], &last["step"]),
        (&"failed".into(), &2.into())
    );

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
fn a_run_that_no_longer_improves_stops_early() {
    let scratch = tempfile::tempdir().unwrap();
    // Nothing moves at a rate of zero: the first evaluation is the best, and the third after it is the last.
    let words = format!(
        "{} -q --steps 20 --learning-rate 0 --eval-steps 1 --early-stopping-patience 3",
        tiny("run").replace("--eval-steps 5", "")
    );
    avascope(scratch.path(), &words, &[]).code(0);
    let run = scratch.path().join("run");
    let log = events(&run);
    let end = log.iter().find(|event| event["type"] == "finished");
    let end = end.expect("an end");
    assert_eq!(
        (&end["step"], &end["reason"]),
        (&4.into(), &"early_stop".into())
    );
    // The two newest are kept, and the best one beside them.
    let names: Vec<String> = checkpoints(&run)
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["step-000001", "step-000003", "step-000004"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_a_progress_bar_and_a_file_gets_lines() {
    let scratch = tempfile::tempdir().unwrap();
    let words = format!("{} --steps 12", tiny("run"));
    // `script` runs a command in a terminal of its own and writes down what appears there.
    let seen = std::process::Command::new("script")
        .current_dir(scratch.path())
        .args([
            "-qec",
            &format!("{} {words}", env!("CARGO_BIN_EXE_avascope")),
        ])
        .arg("/dev/null")
        .stdin(Stdio::null())
        .output();
    let Ok(seen) = seen else {
        test_data::skipped(
            "the progress bar of a terminal",
            "there is no `script` to make a terminal",
        );
        return;
    };
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(
        seen.contains("12/12") && seen.contains("left") && seen.contains('\u{1b}'),
        "{seen}"
    );
    assert!(
        !seen.contains("step 1/12"),
        "no lines beside the bar: {seen}"
    );
    let lines = avascope(scratch.path(), &words.replace("out run", "out other"), &[])
        .code(0)
        .err;
    assert!(
        lines.contains("step 1/12  ") && lines.contains("steps/s") && !lines.contains('\u{1b}'),
        "{lines}"
    );
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
