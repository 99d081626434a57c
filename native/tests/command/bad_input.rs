//! Whatever is wrong with a file or a setting is said with its place and a way out; nothing panics (the test's own
//! `avascope` looks), and nothing half-made stays behind.

use crate::support::*;
use parquet::basic::Encoding;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn train(here: &Path, more: &str) -> Done {
    let rows = match more.contains("--data") || more.contains("--world-rows") {
        true => "",
        false => "--world-rows 30",
    };
    let done = avascope(
        here,
        &format!("train -q --device cpu --steps 2 --batch-size 2 --out run {rows} {more}"),
        &[],
    );
    let _ = fs::remove_dir_all(here.join("run"));
    done
}

#[test]
fn settings_out_of_range_are_usage_errors_that_name_the_setting() {
    let scratch = tempfile::tempdir().unwrap();
    for (more, words) in [
        ("--steps 0", ["`steps`", "at least one"]),
        ("--batch-size 0", ["`batch_size`", "1 to 4096"]),
        (
            "--gradient-accumulation-steps 0",
            ["`gradient_accumulation_steps`", "1 to 4096"],
        ),
        (
            "--learning-rate nan",
            ["`learning_rate` is NaN", "at least 0"],
        ),
        (
            "--learning-rate=-1",
            ["`learning_rate` is -1", "at least 0"],
        ),
        ("--held-out 2", ["`held_out` is 2", "0 to 1"]),
        ("--max-length 1", ["`max_length`", "at least 2"]),
        ("--trainable lora --lora-r 0", ["`lora r`", "1 to 1024"]),
        (
            "--trainable lora --lora-alpha nan",
            ["`lora alpha`", "finite"],
        ),
        ("--lora-r 4", ["--lora-r", "--trainable lora"]),
        ("--method ava_q", ["ava_q", "ava_p"]),
        ("-O lamda=1", ["lamda", "lambda"]),
        ("-O lambda", ["NAME=VALUE", "lambda"]),
        ("-O lambda=much", ["ava_p", "much"]),
        ("-O neg=flor", ["`neg`", "one of `floor`, "]),
        ("-O cer=log_sigmoid", ["`cer`", "one of `logsigmoid`, "]),
        ("--device gpuu", ["gpuu", "vulkan"]),
        ("--world-rows 0", ["0 rows", "1 to"]),
        ("--world-rows 99999999999", ["99999999999", "1 to"]),
        ("--model nowhere", ["nowhere", "avascope fetch"]),
        ("--data nowhere.jsonl", ["nowhere.jsonl", "No such file"]),
        ("--config nowhere.toml", ["nowhere.toml", "No such file"]),
        ("--nonsense", ["--nonsense", "--help"]),
    ] {
        train(scratch.path(), more).code(2).says(&words);
    }
    for (text, words) in [
        ("model = 'world'\nmodle = 'x'\n", ["line 2", "modle"]),
        ("[train]\nsteps = 'many'\n", ["line 2", "steps"]),
        ("[train]\nlearning_rat = 1\n", ["line 2", "learning_rat"]),
        ("[train\n", ["line 1", "unclosed table"]),
    ] {
        fs::write(scratch.path().join("settings.toml"), text).unwrap();
        train(scratch.path(), "--config settings.toml")
            .code(2)
            .says(&words);
    }
}

#[test]
fn devices_that_are_not_here_are_named_with_the_way_out() {
    let scratch = tempfile::tempdir().unwrap();
    let mut absent = vec![("webgpu", ["no `webgpu`", "vulkan, metal or dx12"])];
    if !cfg!(feature = "cuda") {
        absent.push(("cuda", ["no `cuda`", "--features avascope/cuda"]));
    }
    if !cfg!(feature = "rocm") {
        absent.push(("rocm", ["no `rocm`", "--features avascope/rocm"]));
    }
    if cfg!(target_os = "linux") {
        absent.push(("metal", ["no adapter for `metal`", "--device cpu"]));
        absent.push(("dx12", ["no adapter for `dx12`", "--device cpu"]));
    }
    for (device, words) in absent {
        train(scratch.path(), &format!("--device {device}"))
            .code(4)
            .says(&words);
    }
    let all = "auto, gpu, vulkan, metal, dx12, webgpu, cuda, rocm, cpu";
    train(scratch.path(), "--device gpuu").code(2).says(&[all]);
}

#[test]
fn broken_rows_are_data_errors_that_name_the_line() {
    let scratch = tempfile::tempdir().unwrap();
    let good = r#"{"prompt":"describe the band : ","chosen":"they ordered a cake .","rejected":"we ate a gift ."}"#;
    let long = "the cat ate a cake and ".repeat(60);
    let rows: &[(&str, Vec<u8>, &[&str])] = &[
        (
            "json",
            format!("{good}\n{{\"prompt\":\n").into(),
            &["line 2", "not JSON"],
        ),
        ("empty", Vec::new(), &["no rows"]),
        (
            "columns",
            b"{\"foo\":1}\n".to_vec(),
            &["line 1", "foo", "chosen"],
        ),
        (
            "utf8",
            b"{\"prompt\":\"a\",\"chosen\":\"\xff\",\"rejected\":\"b\"}\n".to_vec(),
            &["line 1", "UTF-8", "0xFF"],
        ),
        (
            "surrogate",
            br#"{"prompt":"a","chosen":"\ud83d","rejected":"b"}"#.to_vec(),
            &["line 1", "surrogate"],
        ),
        (
            "gzip",
            vec![0x1f, 0x8b, 8, 0, 1, 2, 3],
            &["gzip is damaged"],
        ),
        ("parquet", b"PAR1nothingPAR1".to_vec(), &["Parquet"]),
        (
            "rewards",
            br#"{"prompt":"a","chosen":"a cake","rejected":"b","chosen_rewards":[1,2,3,4,5]}"#
                .to_vec(),
            &["line 1", "5 known rewards"],
        ),
        (
            "all-empty",
            br#"{"prompt":"a","chosen":"","rejected":"b"}"#.to_vec(),
            &["no row is left", "line 1", "empty"],
        ),
        (
            "prompt-too-long",
            format!("{{\"prompt\":\"{long}\",\"chosen\":\"a cake\",\"rejected\":\"x\"}}").into(),
            &[],
        ),
    ];
    for (name, bytes, words) in rows {
        fs::write(scratch.path().join(name), bytes).unwrap();
        let done = train(scratch.path(), &format!("--held-out 0 --data {name}"));
        match words {
            [] => done.code(0).says(&["longer than 128 tokens", "max_length"]),
            words => done.code(3).says(words).says(&["error: "]),
        };
    }
    train(scratch.path(), "--data .")
        .code(3)
        .says(&["is a folder"]);
    train(scratch.path(), "--held-out 1")
        .code(3)
        .says(&["no row is left", "held_out"]);

    // Each way to cut a row: from the left of the prompt, from the right of the answer, or not at all.
    for (mode, code, words) in [
        ("keep_end", 0, "lost tokens from the left"),
        ("keep_start", 3, "no row is left"),
        ("error", 3, "line 1"),
    ] {
        let settings = format!("[train]\ntruncation = '{mode}'\nheld_out = 0.0\n");
        fs::write(scratch.path().join("cut.toml"), settings).unwrap();
        train(scratch.path(), "--config cut.toml --data prompt-too-long")
            .code(code)
            .says(&[words]);
    }
}

#[test]
fn empty_and_identical_answers_are_counted_and_the_run_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let row = |chosen: &str, rejected: &str| {
        serde_json::json!({"prompt": "describe the band : ", "chosen": chosen, "rejected": rejected}).to_string() + "\n"
    };
    let odd = [
        row("they ordered a cake .", "we ate a gift ."),
        row("", "we ate a gift ."),
        row("a cake .", "a cake ."),
        row("nul \u{0} byte", "an emoji \u{1f600}\u{200d}\u{1f525} ."),
        row("e\u{301} combining", "\u{202e}right to left"),
    ];
    fs::write(here.join("odd.jsonl"), odd.concat()).unwrap();
    avascope(
        here,
        "train --device cpu --steps 3 --batch-size 2 --held-out 0 --data odd.jsonl --out run",
        &[],
    )
    .code(0)
    .says(&[
        "1 row skipped",
        "line 2",
        "1 pair with two identical answers",
    ]);
    let scored = avascope(here, "score run --device cpu --data odd.jsonl", &[])
        .code(0)
        .says(&["1 row skipped", "line 2"]);
    let records = scored.lines();
    assert_eq!(records.len(), 8);
    let texts: Vec<&str> = records
        .iter()
        .map(|r| r["answer"].as_str().unwrap())
        .collect();
    assert!(
        texts.contains(&"nul \u{0} byte")
            && texts.contains(&"an emoji \u{1f600}\u{200d}\u{1f525} .")
    );
    for record in &records {
        let characters: Vec<char> = record["answer"].as_str().unwrap().chars().collect();
        for token in record["tokens"].as_array().unwrap() {
            let (start, end) = (
                token["start"].as_u64().unwrap() as usize,
                token["end"].as_u64().unwrap() as usize,
            );
            assert!(start <= end && end <= characters.len());
            if start < end {
                assert_eq!(
                    token["text"].as_str().unwrap(),
                    characters[start..end].iter().collect::<String>()
                );
            }
        }
    }
    // One row alone trains, and says that nothing is held out.
    fs::write(here.join("one.jsonl"), &odd[0]).unwrap();
    avascope(
        here,
        "train --device cpu --steps 2 --batch-size 8 --held-out 0 --data one.jsonl --out one",
        &[],
    )
    .code(0)
    .says(&["no row is held out"]);
    avascope(here, "eval one --device cpu", &[])
        .code(2)
        .says(&["held no rows out", "--data"]);
}

#[test]
fn damaged_models_are_data_errors_that_name_the_part() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, "convert world good", &[]).code(0);
    let weights = fs::read(here.join("good/model.safetensors")).unwrap();
    let config = fs::read_to_string(here.join("good/config.json")).unwrap();
    let config = |key: &str, value: serde_json::Value| {
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config[key] = value;
        config.to_string().into_bytes()
    };
    let tokens = fs::read_to_string(here.join("good/tokenizer.json")).unwrap();
    let mut large: serde_json::Value = serde_json::from_str(&tokens).unwrap();
    for i in 0..50 {
        large["model"]["vocab"][format!("extra{i}")] = (1000 + i).into();
    }
    let lying = [&(1u64 << 62).to_le_bytes()[..], &weights[8..]].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "model.safetensors",
            weights[..weights.len() / 2].to_vec(),
            &["model: model.safetensors: ", "cut short"],
        ),
        (
            "model.safetensors",
            weights[..5].to_vec(),
            &["5 bytes", "header"],
        ),
        ("model.safetensors", lying, &["header claims", "cut short"]),
        ("config.json", b"{".to_vec(), &["config.json", "JSON"]),
        (
            "config.json",
            config("hidden_size", 65.into()),
            &["tensor `model.embed_tokens.weight`", "[88, 64]", "[88, 65]"],
        ),
        (
            "config.json",
            config("num_hidden_layers", 3.into()),
            &["lacks 9 tensor", "layers.2"],
        ),
        (
            "config.json",
            config("num_hidden_layers", 1_000_000_000_000u64.into()),
            &["num_hidden_layers"],
        ),
        (
            "config.json",
            config("num_attention_heads", 0.into()),
            &["num_attention_heads"],
        ),
        (
            "config.json",
            config("model_type", "foo".into()),
            &["foo", "llama"],
        ),
        ("tokenizer.json", b"{}".to_vec(), &["tokenizer.json"]),
        (
            "tokenizer.json",
            br#"{"version":"1.0","model":{"type":"Nope"}}"#.to_vec(),
            &["tokenizer.json"],
        ),
        (
            "tokenizer.json",
            large.to_string().into_bytes(),
            &["tokenizer", "embedding 88", "different models"],
        ),
        (
            "tokenizer_config.json",
            b"nope".to_vec(),
            &["tokenizer_config.json"],
        ),
        (
            "lying.gguf",
            [b"GGUF".as_slice(), &3u32.to_le_bytes(), &[0xff; 16]].concat(),
            &["GGUF"],
        ),
        ("short.gguf", b"GG".to_vec(), &["GGUF"]),
        ("empty.gguf", Vec::new(), &["GGUF"]),
    ];
    for (name, bytes, words) in cases {
        let model = here.join("model");
        fs::create_dir(&model).unwrap();
        for entry in fs::read_dir(here.join("good")).unwrap().flatten() {
            fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
        }
        fs::write(model.join(name), bytes).unwrap();
        let source = if name.ends_with(".gguf") {
            format!("model/{name}")
        } else {
            "model".into()
        };
        train(here, &format!("--model {source}"))
            .code(3)
            .says(words);
        fs::remove_dir_all(&model).unwrap();
    }
}

/// A GGUF file with one tensor of 2048 bytes, of which `data` are there.
fn cut_gguf(data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    // One tensor, no metadata.
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let name = "token_embd.weight";
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(2u32.to_le_bytes());
    for size in [64u64, 8] {
        bytes.extend(size.to_le_bytes());
    }
    // F32, at the beginning of the data.
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

#[test]
fn a_damaged_gguf_is_not_converted_and_nothing_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("empty.gguf", Vec::new(), &["magic"]),
        ("short.gguf", b"GG".to_vec(), &["magic"]),
        (
            "other.gguf",
            b"not a model at all".to_vec(),
            &["does not start with `GGUF`"],
        ),
        (
            "lying.gguf",
            [b"GGUF".as_slice(), &3u32.to_le_bytes(), &[0xff; 16]].concat(),
            &["tensors do not fit 24 bytes"],
        ),
        (
            "cut.gguf",
            cut_gguf(1000),
            &["`token_embd.weight`", "2048 bytes", "past the end"],
        ),
        ("bare.gguf", cut_gguf(2048), &["GGUF architecture"]),
    ];
    for (name, bytes, words) in cases {
        fs::write(here.join(name), bytes).unwrap();
        avascope(here, "convert", &[name, "hf"])
            .code(3)
            .says(&[name])
            .says(words);
        assert!(!here.join("hf").exists(), "{name}");
    }
}

/// A Parquet file that claims that its column begins before the file does: the crate that reads it asserts that none does.
fn lying_parquet() -> Vec<u8> {
    let schema = parse_message_type("message schema { required binary prompt (STRING); }").unwrap();
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
    let column = ColumnChunkMetaData::builder(schema.column(0))
        .set_encodings(vec![Encoding::PLAIN])
        .set_num_values(1)
        .set_data_page_offset(-1)
        .build()
        .unwrap();
    let group = RowGroupMetaData::builder(schema.clone())
        .set_num_rows(1)
        .set_column_metadata(vec![column])
        .build()
        .unwrap();
    let file = FileMetaData::new(1, 1, None, None, schema, None);
    let metadata = ParquetMetaData::new(file, vec![group]);
    let mut bytes = b"PAR1".to_vec();
    ParquetMetaDataWriter::new(&mut bytes, &metadata)
        .finish()
        .unwrap();
    bytes
}

#[test]
fn a_parquet_file_that_lies_is_an_error_and_nobody_hears_of_a_panic() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::write(here.join("lying.parquet"), lying_parquet()).unwrap();
    for words in [
        "data check lying.parquet",
        "train --device cpu --data lying.parquet --out no",
    ] {
        // `avascope` itself looks for "panicked" in what is said.
        avascope(here, words, &[])
            .code(3)
            .says(&["lying.parquet: the Parquet file is damaged"]);
    }
}

#[test]
fn damaged_checkpoints_are_told_from_good_ones() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(
        here,
        &format!("{} -q --steps 2 --save-steps 1", tiny("run")),
        &[],
    )
    .code(0);
    let found = checkpoints(&here.join("run"));
    let good = fs::read(&found[1]).unwrap();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for bytes in [
        good[..good.len() - 100].to_vec(),
        good[..20].to_vec(),
        Vec::new(),
        flipped(3),
        flipped(8 + header / 2),
        flipped(8 + header + 40_000),
        flipped(good.len() - 1),
    ] {
        fs::write(&found[1], bytes).unwrap();
        for words in [
            "score run --device cpu --limit 1",
            "train --out run --resume",
        ] {
            avascope(here, words, &[])
                .code(3)
                .says(&["step-000002.safetensors", "the checkpoint cannot be used"]);
        }
    }
    // The one before it is still good.
    avascope(
        here,
        "score run --device cpu --limit 1 --checkpoint",
        &[found[0].to_str().unwrap()],
    )
    .code(0);
    fs::write(&found[1], &good).unwrap();
    avascope(here, "score run --device cpu --limit 1", &[]).code(0);
}

#[test]
fn kernels_of_the_processor_are_not_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    avascope(
        folder.path(),
        "bench --kernels --device cpu --pairs 2 --tokens 8 --steps 1 --score-pairs 0",
        &[],
    )
    .code(2)
    .says(&["--kernels", "--device vulkan"]);
}
