//! What the command writes, others read: Hugging Face directories, PEFT adapters, and the command itself.

use crate::support::*;
use sha2::{Digest as _, Sha256};
use std::fs;

#[test]
fn a_trained_model_is_a_hugging_face_directory_of_the_same_scores() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for mode in ["full", "lora", "heads"] {
        avascope(
            here,
            &format!(
                "{} -q --steps 8 --learning-rate 0.01 --trainable {mode}",
                tiny(mode)
            ),
            &[],
        )
        .code(0);
        let merged = format!("{mode}-merged");
        avascope(here, "convert", &[mode, &merged]).code(0);
        // The head alone decides rewards, given the trunk: heads trained for no step on each trunk give the same losses.
        let loss = |model: &str, out: &str| {
            let words = format!(
                "train -q --model {model} --world-rows 20 --held-out 0 --device cpu --steps 1 --out {out}"
            );
            avascope(here, &words, &[]).code(0);
            metrics(&here.join(out))[&("step".into(), 1)]["loss"]
                .as_f64()
                .unwrap()
        };
        let converted = loss(&merged, &format!("{mode}-a"));
        let expected = match mode {
            "full" => loss("full/final", "full-b"),
            "heads" => loss("world", "heads-b"),
            _ => {
                // The adapter beside its base model is read as PEFT's.
                avascope(here, "convert world base", &[]).code(0);
                for name in ["adapter_config.json", "adapter_model.safetensors"] {
                    fs::copy(
                        here.join("lora/final").join(name),
                        here.join("base").join(name),
                    )
                    .unwrap();
                }
                avascope(
                    here,
                    "train --model lora/final --device cpu --out x --steps 1",
                    &[],
                )
                .code(3)
                .says(&["holds an adapter and no model", "avascope convert"]);
                loss("base", "lora-b")
            }
        };
        assert!(
            (converted - expected).abs() < 1e-4,
            "{mode}: {converted} and {expected}"
        );
        if mode != "heads" {
            let untrained = loss("world", &format!("{mode}-c"));
            assert!(
                (converted - untrained).abs() > 1e-3,
                "{mode} learned nothing"
            );
        }
    }
    avascope(here, "convert full full-merged", &[])
        .code(2)
        .says(&["already holds a model"]);
}

#[test]
fn what_was_converted_is_told_with_sizes_and_hashes() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let done = avascope(here, "convert world base --json", &[]).code(0);
    let said: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&said["from"], &said["path"]),
        (&"world".into(), &"base".into())
    );
    let files = said["files"].as_array().unwrap();
    assert_eq!(
        files.len(),
        fs::read_dir(here.join("base")).unwrap().count()
    );
    for file in files {
        let bytes = fs::read(here.join(file["path"].as_str().unwrap())).unwrap();
        let sha256: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            (&file["bytes"], &file["sha256"]),
            (&bytes.len().into(), &sha256.into())
        );
    }
    // Every weight takes four bytes.
    let weights = fs::metadata(here.join("base/model.safetensors"))
        .unwrap()
        .len();
    let parameters = said["parameters"].as_u64().unwrap();
    assert!(weights > 4 * parameters && weights < 4 * parameters + 10_000);
}

#[test]
fn an_adapter_reads_back_through_the_model_room() {
    let scratch = tempfile::tempdir().unwrap();
    avascope(
        scratch.path(),
        &format!("{} -q --steps 3 --trainable lora --lora-r 2", tiny("run")),
        &[],
    )
    .code(0);
    let device = avascope::device::DeviceChoice::Cpu;
    let device = pollster::block_on(avascope::device::open(device))
        .unwrap()
        .device;
    let model = avascope::train::world_model(&device).unwrap();
    let read = |name: &str| fs::read(scratch.path().join("run/final").join(name)).unwrap();
    let (config, weights) = (
        read("adapter_config.json"),
        read("adapter_model.safetensors"),
    );
    let lora =
        avascope::model::Lora::load(&model.decoder.config, &config, &weights, &device).unwrap();
    assert_eq!(lora.config.rank, 2);
    // Seven layers a block, two blocks, A and B.
    assert_eq!(lora.weights.len(), 7 * 2 * 2);
}

#[test]
fn a_checkpoint_fits_only_the_model_it_began_with() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, &format!("{} -q --steps 2", tiny("full")), &[]).code(0);
    avascope(
        here,
        &format!("{} -q --steps 2 --trainable heads", tiny("heads")),
        &[],
    )
    .code(0);
    avascope(
        here,
        "score heads --device cpu --model full/final --limit 1",
        &[],
    )
    .code(3)
    .says(&["another trunk", "world"]);
    avascope(
        here,
        "score full --device cpu --model full/final --limit 1",
        &[],
    )
    .code(0);
}

#[test]
fn a_checkpoint_fits_only_the_tokenizer_it_was_trained_with() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, "convert world base", &[]).code(0);
    avascope(
        here,
        "train -q --model base --world-rows 40 --device cpu --batch-size 4 --steps 2 --out run",
        &[],
    )
    .code(0);
    let path = here.join("base/tokenizer.json");
    let own = fs::read_to_string(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&own).unwrap();
    // Two words of the vocabulary change places: the same words, of the same number.
    let words = file["model"]["vocab"].as_object_mut().unwrap();
    let names: Vec<String> = words
        .keys()
        .filter(|word| !word.starts_with('<'))
        .take(2)
        .cloned()
        .collect();
    let (one, two) = (words[&names[0]].clone(), words[&names[1]].clone());
    words[&names[0]] = two;
    words[&names[1]] = one;
    fs::write(here.join("other.json"), file.to_string()).unwrap();
    let score = "score run --device cpu --limit 1";
    avascope(here, &format!("{score} --tokenizer other.json"), &[])
        .code(3)
        .says(&["tokenizer of `base`", "other words", "its run began with"]);
    avascope(
        here,
        &format!("{score} --tokenizer base/tokenizer.json"),
        &[],
    )
    .code(0);
    // Nor does training go on with other words.
    fs::write(&path, file.to_string()).unwrap();
    avascope(here, "train --resume --out run", &[])
        .code(3)
        .says(&["tokenizer"]);
    avascope(here, score, &[]).code(3);
    fs::write(&path, own).unwrap();
    avascope(here, score, &[]).code(0);
}

#[test]
fn llama2c_and_hugging_face_forms_of_a_model_score_alike() {
    let Some(stories) = test_data::path("models/stories260K") else {
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let source = stories.join("stories260K.bin");
    avascope(here, "convert", &[source.to_str().unwrap(), "hf"]).code(0);
    avascope(here, "convert hf again", &[]).code(0);
    assert_eq!(
        fs::read(here.join("hf/model.safetensors")).unwrap(),
        fs::read(here.join("again/model.safetensors")).unwrap()
    );

    let mut rows = String::new();
    for i in 0..6 {
        rows += &format!(
            "{{\"prompt\":\"Once upon a time, \",\"chosen\":\"{i} little cats ran home.\",\"rejected\":\"Cats {i} the of.\"}}\n"
        );
    }
    fs::write(here.join("rows.jsonl"), rows).unwrap();
    let run = [
        "--data",
        "rows.jsonl",
        "--held-out",
        "0",
        "--steps",
        "3",
        "--trainable",
        "heads",
        "--learning-rate",
        "0.05",
    ];
    let train = |model: &str, out: &str| {
        let more: Vec<&str> = ["--model", model, "--out", out]
            .into_iter()
            .chain(run)
            .collect();
        avascope(here, "train -q --device cpu", &more).code(0);
        avascope(here, "score --device cpu --data rows.jsonl", &[out])
            .code(0)
            .lines()
    };
    let llama2c = train(source.to_str().unwrap(), "a");
    assert_eq!(llama2c.len(), 12);
    assert_eq!(llama2c[0]["answer"], "0 little cats ran home.");
    let difference = largest_difference(&llama2c, &train("hf", "b"));
    assert!(difference < 1e-5, "{difference}");
}
