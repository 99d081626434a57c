//! What it takes to open a model.

use crate::support::*;
use avascope::model::{ModelConfig, expected_shapes};
use serde_json::{Map, Value, json};
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The weights' f32, in MiB: 3 layers of 16 million parameters.
const WEIGHTS: usize = 192;
/// What the program may take beside them. A copy of the file would not fit.
const BESIDE: usize = 128;

/// Writes a model directory whose weights are zeros, which take no room on the disk. Its embedding is smaller than the
/// vocabulary of its tokenizer: that is found out once it is loaded, and ends the command there.
fn write_model(folder: &Path) {
    let config = json!({
        "model_type": "llama",
        "vocab_size": 8,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "max_position_embeddings": 128,
        "tie_word_embeddings": true,
    });
    let config = serde_json::to_vec(&config).unwrap();
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in expected_shapes(&ModelConfig::from_json(&config).unwrap()) {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert(name, tensor);
    }
    assert_eq!(end >> 20, WEIGHTS);
    let header = Value::Object(header).to_string();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
}

#[test]
fn a_model_is_opened_without_a_second_copy_of_its_weights_in_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    // The built-in model's tokenizer, of some eighty words.
    avascope(here, "convert world model", &[]).code(0);
    write_model(&here.join("model"));
    // The limit is on what a program writes to: a file that is mapped to be read does not count.
    let limit = (WEIGHTS + BESIDE) * 1024;
    let output = std::process::Command::new("sh")
        .current_dir(here)
        .args([
            "-c",
            &format!("ulimit -d {limit}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_avascope"),
        ])
        .args("train --model model --device cpu --steps 1 --out none".split(' '))
        .output()
        .unwrap();
    done(output)
        .code(3)
        .says(&["embedding 8", "different models"]);
    assert!(!here.join("none").exists());
}
