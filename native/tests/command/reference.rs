//! A policy that is held against another model than its own start.

use crate::support::*;
use std::fs;

/// The loss of a run's first step.
fn first_loss(run: &std::path::Path) -> f64 {
    metrics(run)[&("step".to_string(), 1)]["loss"]
        .as_f64()
        .expect("a loss")
}

#[test]
fn dpo_is_held_against_the_policy_that_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let words = format!("{} -q --trainable full --steps 5", tiny("other"));
    avascope(here, &words, &[]).code(0);
    for trainable in ["full", "lora"] {
        let dpo = |out: &str| {
            format!(
                "{} -q --method dpo --trainable {trainable} --steps 4 --save-steps 2",
                tiny(out)
            )
        };
        let (own, named) = (format!("{trainable}-own"), format!("{trainable}-named"));
        avascope(here, &dpo(&own), &[]).code(0);
        let more = ["--reference", "other/final"];
        avascope(here, &dpo(&named), &more).code(0);
        // Against its own start a policy begins with log-ratios of 0, against another model it does not.
        let half = std::f64::consts::LN_2;
        assert!((first_loss(&here.join(&own)) - half).abs() < 1e-6);
        assert!((first_loss(&here.join(&named)) - half).abs() > 1e-3);
        let started = &events(&here.join(&named))[0];
        assert_eq!(started["run"]["reference"], "other/final");

        // Its folder knows the reference; a checkpoint by itself does not, and its token rewards would be others.
        let score = |what: &str, more: &[&str]| {
            avascope(
                here,
                &format!("score --device cpu --data {named}/held_out.jsonl"),
                &[&[what], more].concat(),
            )
        };
        let records = score(&named, &[]).code(0).lines();
        let file = format!("{named}/checkpoints/step-000004.safetensors");
        let alone = format!("{trainable}.safetensors");
        fs::copy(here.join(file), here.join(&alone)).unwrap();
        score(&alone, &[])
            .code(3)
            .says(&["its reference policy was another model", "--reference"]);
        let again = score(&alone, &more).code(0).lines();
        assert!(largest_difference(&records, &again) < 1e-6);
        score(&own, &more)
            .code(3)
            .says(&["its reference policy was another model"]);
        // The same weights under another epsilon are another policy.
        let config = here.join("other/final/config.json");
        let good = fs::read_to_string(&config).unwrap();
        let wild = good.replace("\"rms_norm_eps\":0.00001", "\"rms_norm_eps\":0.1");
        let wild = match wild == good {
            true => good.replace("0.00001", "0.1"),
            false => wild,
        };
        assert_ne!(wild, good);
        fs::write(&config, wild).unwrap();
        score(&named, &[])
            .code(3)
            .says(&["another model than", "another config.json"]);
        fs::write(&config, good).unwrap();
        // The model that the run began with may be named for what it is.
        score(&own, &["--reference", "world"]).code(0);
        // Where the reference lies elsewhere now, the way out is said.
        fs::rename(here.join("other"), here.join("moved")).unwrap();
        score(&named, &[])
            .code(2)
            .says(&["the run was held against", "`--reference PATH` says where"]);
        let moved = ["--reference", "moved/final"];
        let again = score(&named, &moved).code(0).lines();
        assert!(largest_difference(&records, &again) < 1e-6);
        avascope(here, &format!("convert {named} {trainable}-hf"), &moved).code(0);
        fs::rename(here.join("moved"), here.join("other")).unwrap();
        // A run that goes on goes on against the same policy.
        let words = format!("{} -q --resume --steps 6 --reference world", tiny(&named));
        avascope(here, &words, &[])
            .code(3)
            .says(&["its reference policy was another model"]);
        avascope(
            here,
            &format!("train -q --resume --steps 6 --out {named}"),
            &[],
        )
        .code(0);
    }
}

#[test]
fn a_reference_must_cut_texts_into_the_same_tokens_and_be_of_use() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, "convert world hf", &[]).code(0);
    avascope(here, "convert world good", &[]).code(0);
    let path = here.join("hf/tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let words = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let two: Vec<String> = words.keys().rev().take(2).cloned().collect();
    let (first, second) = (words[&two[0]].clone(), words[&two[1]].clone());
    words[&two[0]] = second;
    words[&two[1]] = first;
    fs::write(&path, tokenizer.to_string()).unwrap();
    let dpo = format!("{} -q --method dpo --steps 1", tiny("run"));
    avascope(here, &dpo, &["--reference", "hf"]).code(3).says(&[
        "--reference hf",
        "another tokenizer",
        "name a reference of the same family",
    ]);
    avascope(here, &dpo, &["--reference", "nowhere"])
        .code(2)
        .says(&["the reference policy", "nowhere"]);
    // A tokenizer that is named for the model is not the reference's.
    avascope(
        here,
        &dpo,
        &[
            "--reference",
            "hf",
            "--model",
            "good",
            "--tokenizer",
            "good/tokenizer.json",
        ],
    )
    .code(3)
    .says(&["another tokenizer"]);
    let ava = format!("{} -q --method ava_p --steps 1", tiny("run"));
    avascope(here, &ava, &["--reference", "world"])
        .code(2)
        .says(&["goes with a method whose policy is held against", "dpo"]);
    assert!(!here.join("run").exists(), "nothing is left behind");
}
