//! A run that was stopped and resumed gives, bit for bit, the numbers of one that never stopped.

use crate::support::*;
use std::fs;
use std::path::Path;

/// Puts `from`'s checkpoint after `step` alone into a folder of its own.
fn stopped_at(folder: &Path, from: &str, to: &str, step: usize) {
    let (from, to) = (folder.join(from), folder.join(to));
    fs::create_dir_all(to.join("checkpoints")).unwrap();
    let name = format!("checkpoints/step-{step:06}.safetensors");
    for name in ["run.toml", "held_out.jsonl", "metrics.jsonl", &name] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn resumes_exactly(more: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let words = format!(
        "{} -q --steps 20 --save-steps 7 --save-total-limit 0 {more}",
        tiny("straight")
    );
    avascope(scratch.path(), &words, &[]).code(0);
    // Sixteen batches are an epoch: one stop is in the middle of the first, one near its end.
    for step in [7, 14] {
        let name = format!("stopped{step}");
        stopped_at(scratch.path(), "straight", &name, step);
        let from_file = format!("{name}/run.toml");
        avascope(
            scratch.path(),
            "train -q --resume --config",
            &[&from_file, "--out", &name],
        )
        .code(0);
        let (straight, resumed) = (
            metrics(&scratch.path().join("straight")),
            metrics(&scratch.path().join(&name)),
        );
        assert_eq!(straight.len(), 20 + 4);
        assert_eq!(straight, resumed, "{more}, stopped after step {step}");
        let weights = |run: &str| {
            fs::read(
                scratch
                    .path()
                    .join(run)
                    .join("final/reward_head.safetensors"),
            )
            .unwrap()
        };
        assert_eq!(weights("straight"), weights(&name));
    }
}

#[test]
fn a_full_run_resumes_exactly() {
    resumes_exactly("--trainable full");
}

#[test]
fn a_run_of_adapters_resumes_exactly() {
    resumes_exactly("--trainable lora");
}

#[test]
fn a_run_of_heads_resumes_exactly() {
    resumes_exactly("--trainable heads --gradient-accumulation-steps 2");
}

#[test]
fn a_run_with_a_q_head_of_its_own_resumes_exactly() {
    resumes_exactly("--trainable heads -O q_head=own -O q_mode=logits -O ll=normalised");
}

#[test]
fn a_run_with_a_contrastive_term_resumes_exactly() {
    resumes_exactly("--method secrets2 --trainable lora -O contrastive_weight=1 -O margin_scale=0");
}

#[test]
fn a_run_with_reward_weights_resumes_exactly_and_is_scored() {
    resumes_exactly("--trainable heads -O rwt=reward -O rwt_scale=length -O rwt_sqrt_d=true");
    let scratch = tempfile::tempdir().unwrap();
    avascope(
        scratch.path(),
        &format!(
            "{} -q --steps 5 --learning-rate 0.05 -O rwt=reward -O rwt_scale=length -O rwt_sqrt_d=true",
            tiny("run")
        ),
        &[],
    )
    .code(0);
    let evaluated = avascope(scratch.path(), "eval run --device cpu --json", &[])
        .code(0)
        .out;
    let report: serde_json::Value = serde_json::from_str(&evaluated).unwrap();
    let accuracy = report["figures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["name"] == "pair accuracy")
        .unwrap()["value"]
        .as_f64();
    let trained =
        metrics(&scratch.path().join("run"))[&("evaluation".into(), 5)]["eval_accuracy"].as_f64();
    // The same model stands in the checkpoint as in the run.
    assert_eq!(accuracy, trained);
}

#[test]
fn other_settings_are_refused_where_they_change_what_is_drawn_and_told_where_not() {
    let scratch = tempfile::tempdir().unwrap();
    avascope(
        scratch.path(),
        &format!("{} -q --steps 4 --learning-rate 0.001", tiny("run")),
        &[],
    )
    .code(0);
    let resume = |more: &str| {
        avascope(
            scratch.path(),
            &format!("train --out run --resume {more}"),
            &[],
        )
    };
    resume("--batch-size 5")
        .code(3)
        .says(&["`batch_size` is 4", "this run's 5"]);
    resume("--seed 9").code(3).says(&["`seed`"]);
    resume("--trainable heads").code(3).says(&["`trainable`"]);
    resume("--world-rows 61")
        .code(3)
        .says(&["data fingerprint"]);
    resume("").code(0).says(&["complete after 4 steps"]);
    resume("--steps 6 --learning-rate 1e-4").code(0).says(&[
        "other settings",
        "learning_rate 0.001 -> 0.0001",
        "steps 4 -> 6",
    ]);
    assert!(metrics(&scratch.path().join("run")).contains_key(&("step".into(), 6)));
    avascope(scratch.path(), "train --out nothing --resume", &[])
        .code(2)
        .says(&["no complete checkpoint"]);
}
