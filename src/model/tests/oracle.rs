//! Every number of the oracle checkpoints: logits, log-probabilities, loss, gradients, hidden states, attention,
//! greedy tokens, on right-padded and left-padded batches.

use super::super::*;
use super::*;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::activation::log_softmax;

fn device() -> Device {
    Device::flex()
}

fn load(folder: &str, config: &str, device: &Device) -> Option<Decoder> {
    let config = test_data::read(&format!("oracle/{folder}/{config}"))?;
    let weights = test_data::read(&format!("oracle/{folder}/model.safetensors"))?;
    Some(huggingface::load(&config, &weights, device).expect("loads"))
}

/// Entry i of a gradient in the file's order.
fn file_first(name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
    (0..3)
        .map(|i| match shape {
            [_, cols] if is_transposed(name) => values[i * cols],
            _ => values[i],
        })
        .collect()
}

fn check_gradients(weights: &Weights, grads: &burn::tensor::Gradients, expected: &Value) -> usize {
    let mut checked = 0;
    for (name, e) in expected.as_object().expect("a table") {
        let weight = weights
            .get(name)
            .unwrap_or_else(|| panic!("{name} is a parameter"));
        let (shape, g) = match weight {
            Weight::Vector(t) => (weight.shape(), host(&t.grad(grads).expect(name))),
            Weight::Matrix(t) => (weight.shape(), host(&t.grad(grads).expect(name))),
        };
        let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let l2 = e["l2"].as_f64().expect("l2");
        // A parameter whose gradient is zero in exact arithmetic has only rounding noise.
        assert!(
            (norm - l2).abs() <= 1e-3 * l2 + 1e-6,
            "{name}: norm {norm}, expected {l2}"
        );
        let sum: f64 = g.iter().map(|x| f64::from(*x)).sum();
        let expected_sum = e["sum"].as_f64().expect("sum");
        assert!(
            (sum - expected_sum).abs() <= 2e-3 * (l2 + 1.0),
            "{name}: sum {sum}, expected {expected_sum}"
        );
        let far = largest_difference(&file_first(name, &shape, &g), &numbers(&e["first"]));
        assert!(
            far <= 1e-3 * (l2 + 0.01),
            "{name}: first entries differ by {far}"
        );
        checked += 1;
    }
    checked
}

struct Batch {
    ids: Vec<u32>,
    mask: Vec<u32>,
    rows: usize,
    cols: usize,
}

fn batch(v: &Value) -> Batch {
    let (ids, mask) = (tokens(&v["input_ids"]), tokens(&v["attention_mask"]));
    let rows = v["input_ids"].as_array().expect("rows").len();
    Batch {
        cols: ids.len() / rows,
        ids,
        mask,
        rows,
    }
}

impl Batch {
    /// Column of the n-th real token of a row.
    fn column(&self, row: usize, n: usize) -> usize {
        let mask = &self.mask[row * self.cols..(row + 1) * self.cols];
        (0..self.cols)
            .filter(|t| mask[*t] == 1)
            .nth(n)
            .expect("a real token")
    }

    fn length(&self, row: usize) -> usize {
        self.mask[row * self.cols..(row + 1) * self.cols]
            .iter()
            .sum::<u32>() as usize
    }
}

/// Logits and hidden states at real tokens, and the last layer's attention, against the expectations.
fn check_forward(model: &Decoder, b: &Batch, expected: &Value, left: bool) -> f64 {
    let device = model.device();
    let (h, v) = (model.config.hidden_size, model.config.vocab_size);
    let out = model.forward(
        ids_tensor(&b.ids, b.rows, &device),
        &b.mask,
        &ForwardOptions {
            last_attention: true,
            ..ForwardOptions::default()
        },
    );
    let hidden = host(&out.hidden);
    assert!(
        hidden.iter().all(|x| x.is_finite()),
        "padding is finite too"
    );
    let logits = host(&model.logits(out.hidden.clone().reshape([b.rows * b.cols, h])));
    let mut worst: f64 = 0.0;
    for e in expected["logits"].as_array().expect("logits") {
        let row = e["row"].as_u64().expect("row") as usize;
        let column = b.column(row, e["position"].as_u64().expect("position") as usize);
        let at = (row * b.cols + column) * v;
        worst = worst.max(largest_difference(
            &logits[at..at + v],
            &numbers(&e["logits"]),
        ));
    }
    assert!(worst < 1e-4, "logits differ by {worst}");
    let attention = host(&out.attention.expect("asked for"));
    for row in 0..b.rows {
        let last = b.column(row, b.length(row) - 1);
        let at = (row * b.cols + last) * h;
        let far = largest_difference(&hidden[at..at + h], &numbers(&expected["last_hidden"][row]));
        assert!(far < 1e-4, "hidden states differ by {far}");
        if !left {
            let heads = model.config.heads;
            let mut mean = vec![0.0; b.cols];
            for head in 0..heads {
                for (key, m) in mean.iter_mut().enumerate() {
                    let at = ((row * heads + head) * b.cols + last) * b.cols + key;
                    *m += attention[at] / heads as f32;
                }
            }
            let e = numbers(&expected["attention_last_layer_last_token"][row]);
            let far = largest_difference(&mean, &e);
            assert!(far < 2e-5, "attention differs by {far}");
        }
    }
    worst
}

/// The language-model loss over real tokens, with its graph.
fn loss(model: &Decoder, b: &Batch, expected: &Value) -> Tensor<1> {
    let device = model.device();
    let out = model.forward(
        ids_tensor(&b.ids, b.rows, &device),
        &b.mask,
        &ForwardOptions::default(),
    );
    let s = b.cols - 1;
    let hidden = out
        .hidden
        .narrow(1, 0, s)
        .reshape([b.rows * s, model.config.hidden_size]);
    let log_probs = log_softmax(model.logits(hidden), 1);
    let next: Vec<u32> = (0..b.rows)
        .flat_map(|r| b.ids[r * b.cols + 1..(r + 1) * b.cols].to_vec())
        .collect();
    let taken = log_probs
        .gather(1, ids_tensor(&next, b.rows * s, &device))
        .reshape([b.rows * s]);
    let mask: Vec<f32> = numbers(&expected["token_mask"])
        .iter()
        .map(|x| *x as f32)
        .collect();
    let count = mask.iter().sum::<f32>();
    let mask = Tensor::<1>::from_data(TensorData::new(mask, [b.rows * s]), &device);
    let masked = taken * mask;
    let far = largest_difference(&host(&masked), &numbers(&expected["token_logps"]));
    assert!(far < 1e-4, "log-probabilities differ by {far}");
    (masked.sum() / count).neg()
}

fn check_greedy(model: &Decoder, expected: &Value) {
    let cases = expected["greedy"].as_array().expect("greedy cases");
    let prompts: Vec<Vec<u32>> = cases.iter().map(|c| tokens(&c["prompt"])).collect();
    let opts = GenerateOptions {
        max_new_tokens: 8,
        temperature: 0.0,
        stop: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    // Together in one batch, so that the shorter prompt is padded.
    let together = pollster::block_on(model.generate(&prompts, &opts)).expect("generates");
    for (case, got) in cases.iter().zip(together) {
        assert_eq!(got.ids, tokens(&case["new_tokens"]));
        assert!(!got.finished && got.log_probs.iter().all(|p| *p <= 0.0));
    }
}

fn check_folder(folder: &str) {
    let Some(expectation) = test_data::json(&format!("oracle/{folder}/expected.json")) else {
        return;
    };
    let expected = &expectation["expected"];
    for config in ["config.json", "config_legacy.json"] {
        let Some(model) = load(folder, config, &device()) else {
            return;
        };
        let right = batch(&expectation["inputs"]);
        let worst = check_forward(&model, &right, expected, false);
        check_forward(
            &model,
            &batch(&expectation["inputs"]["left_padded"]),
            expected,
            true,
        );
        check_greedy(&model, expected);
        println!("{folder}, {config}: logits differ by at most {worst:.1e}");

        let model = model.trainable(&device().autodiff(), |_| true);
        let loss = loss(&model, &right, expected);
        let far = largest_difference(&host(&loss), &numbers(&expected["loss"]));
        assert!(far < 2e-5, "loss differs by {far}");
        let grads = loss.backward();
        let checked = check_gradients(&model.weights, &grads, &expected["gradient"]);
        assert_eq!(
            checked,
            model.weights.len(),
            "every parameter has a gradient"
        );
    }
}

#[test]
fn llama_with_grouped_queries_and_tied_embeddings_agrees() {
    check_folder("llama_gqa_tied");
}

#[test]
fn llama_with_its_own_output_layer_agrees() {
    check_folder("llama_gqa_untied");
}

#[test]
fn gpt2_agrees() {
    check_folder("gpt2");
}

#[test]
fn qwen2_agrees() {
    check_folder("qwen2");
}

#[test]
fn qwen3_agrees() {
    check_folder("qwen3");
}

fn check_adapter(folder: &str) {
    let Some(expectation) = test_data::json(&format!("oracle/{folder}/expected.json")) else {
        return;
    };
    let base = expectation["inputs"]["base"].as_str().expect("a base");
    let expected = &expectation["expected"];
    let Some(mut model) = load(base, "config.json", &device()) else {
        return;
    };
    let file =
        |name: &str| test_data::read(&format!("oracle/{folder}/{name}")).expect("the adapter");
    let (config, weights) = (
        file("adapter_config.json"),
        file("adapter_model.safetensors"),
    );
    let lora = Lora::load(&model.config, &config, &weights, &device()).expect("loads");
    assert!((lora.config.scaling() - expected["scaling"].as_f64().expect("scaling")).abs() < 1e-6);
    let written = pollster::block_on(lora.export()).expect("exports");
    let again = Lora::load(&model.config, &written.config, &written.weights, &device())
        .expect("loads again");
    assert_eq!(again.config, lora.config);
    assert_eq!(
        safetensors::read(&written.weights).expect("reads"),
        safetensors::read(&weights).expect("reads"),
    );
    model.lora = Some(lora);

    let right = batch(&expectation["inputs"]);
    check_forward(&model, &right, expected, false);
    check_forward(
        &model,
        &batch(&expectation["inputs"]["left_padded"]),
        expected,
        true,
    );
    check_greedy(&model, expected);
    check_forward(&Lora::merge(model.clone()), &right, expected, false);

    let model = model.trainable(&device().autodiff(), |name| name.contains(".lora_"));
    let loss = loss(&model, &right, expected);
    let grads = loss.backward();
    let lora = model.lora.as_ref().expect("kept");
    let checked = check_gradients(&lora.weights, &grads, &expected["gradient"]);
    assert_eq!(checked, lora.weights.len());
    assert!(model.weights.iter().all(|(_, w)| !w.is_trainable()));
}

#[test]
fn adapter_on_llama_agrees() {
    check_adapter("lora_llama");
}

#[test]
fn rank_stabilised_adapter_on_gpt2_agrees() {
    check_adapter("lora_gpt2");
}

#[test]
fn sequence_reward_model_agrees() {
    let Some(expectation) = test_data::json("oracle/reward_llama/expected.json") else {
        return;
    };
    let Some(model) = load("reward_llama", "config.json", &device()) else {
        return;
    };
    assert_eq!(model.config.labels, Some(1));
    let model = model.trainable(&device().autodiff(), |_| true);
    let b = batch(&expectation["inputs"]);
    let out = model.forward(
        ids_tensor(&b.ids, b.rows, &device()),
        &b.mask,
        &ForwardOptions::default(),
    );
    let scores = model
        .score(
            out.hidden
                .reshape([b.rows * b.cols, model.config.hidden_size]),
        )
        .expect("a score head")
        .reshape([b.rows, b.cols]);
    let all = host(&scores);
    let expected = &expectation["expected"];
    let mut ends = Vec::new();
    for row in 0..b.rows {
        let n = b.length(row);
        let far = largest_difference(
            &all[row * b.cols..row * b.cols + n],
            &numbers(&expected["prefix_scores"][row]),
        );
        assert!(far < 1e-4, "prefix scores differ by {far}");
        ends.push(scores.clone().narrow(0, row, 1).narrow(1, n - 1, 1));
        let far = largest_difference(&host(&ends[row]), &numbers(&expected["scores"][row]));
        assert!(far < 1e-4, "scores differ by {far}");
    }
    let loss = log_sigmoid(ends[0].clone() - ends[1].clone()).neg().sum();
    let table = &expected["bradley_terry"];
    assert!(largest_difference(&host(&loss), &numbers(&table["loss"])) < 5e-5);
    let grads = loss.backward();
    let checked = check_gradients(&model.weights, &grads, &table["gradient"]);
    assert_eq!(checked, model.weights.len());
}

#[test]
fn texts_packed_in_one_row_do_not_see_each_other() {
    for architecture in [Architecture::Llama, Architecture::Gpt2] {
        let model = Decoder::init(small(architecture), 5, &device()).expect("a model");
        let (a, b) = ([3u32, 7, 11, 2], [5u32, 1, 9]);
        let packed: Vec<u32> = [&a[..], &b[..], &[0]].concat();
        let run = |ids: &[u32], segments: &[u32]| {
            host(
                &model
                    .forward(
                        ids_tensor(ids, 1, &device()),
                        segments,
                        &ForwardOptions::default(),
                    )
                    .hidden,
            )
        };
        let together = run(&packed, &[1, 1, 1, 1, 2, 2, 2, 0]);
        let alone: Vec<f64> = [run(&a, &[1; 4]), run(&b, &[1; 3])]
            .concat()
            .iter()
            .map(|x| f64::from(*x))
            .collect();
        assert!(largest_difference(&together[..7 * 16], &alone) < 1e-5);
    }
}

#[test]
fn rows_of_padding_alone_give_numbers() {
    let model = Decoder::init(small(Architecture::Llama), 5, &device()).expect("a model");
    let ids = ids_tensor(&[0; 8], 2, &device());
    let out = model.forward(ids, &[1, 1, 0, 0, 0, 0, 0, 0], &ForwardOptions::default());
    assert!(host(&out.hidden).iter().all(|x| x.is_finite()));
}

#[test]
fn an_exported_model_loads_to_the_same_numbers() {
    for architecture in [Architecture::Llama, Architecture::Gpt2, Architecture::Qwen3] {
        let model = Decoder::init(small(architecture), 9, &device()).expect("a model");
        let files = pollster::block_on(huggingface::export(&model)).expect("exports");
        let again = huggingface::load(&files.config, &files.weights, &device()).expect("loads");
        assert_eq!(again.config, model.config);
        assert_eq!(again.parameters(), model.parameters());
        for (name, weight) in model.weights.iter() {
            let there = again.weights.get(name).expect("the same names");
            let read = |w: &Weight| pollster::block_on(w.to_host(name)).expect("reads back");
            assert_eq!(read(weight), read(there), "{name}");
        }
    }
}

#[test]
fn a_model_in_two_shards_loads_and_a_missing_or_broken_shard_is_named() {
    let model = Decoder::init(small(Architecture::Llama), 9, &device()).expect("a model");
    let files = pollster::block_on(huggingface::export(&model)).expect("exports");
    let all = safetensors::read(&files.weights).expect("reads");
    let (mut one, mut two) = (all.clone(), all);
    one.retain(|name, _| name.contains("mlp"));
    two.retain(|name, _| !name.contains("mlp"));
    let map: serde_json::Map<String, Value> = one
        .keys()
        .map(|n| (n.clone(), Value::from("1.safetensors")))
        .chain(
            two.keys()
                .map(|n| (n.clone(), Value::from("2.safetensors"))),
        )
        .collect();
    let index = serde_json::to_vec(&serde_json::json!({ "weight_map": map })).expect("json");
    let (one, two) = (safetensors::write(&one), safetensors::write(&two));
    let mut shards = std::collections::BTreeMap::from([
        ("1.safetensors".to_string(), one.as_slice()),
        ("2.safetensors".to_string(), two.as_slice()),
    ]);
    huggingface::load_sharded(&files.config, &index, &shards, &device()).expect("loads");
    let cut = &two[..two.len() / 2];
    shards.insert("2.safetensors".into(), cut);
    let e = huggingface::load_sharded(&files.config, &index, &shards, &device())
        .expect_err("a shard is cut short");
    assert!(
        e.to_string().starts_with("2.safetensors: ") && e.to_string().contains("cut short"),
        "{e}"
    );
    shards.remove("2.safetensors");
    let e = huggingface::load_sharded(&files.config, &index, &shards, &device())
        .expect_err("a shard is missing");
    assert!(e.to_string().contains("2.safetensors"), "{e}");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_an_unknown_target_is_named() {
    let mut model = Decoder::init(small(Architecture::Llama), 9, &device()).expect("a model");
    let mut config = LoraConfig {
        rank: 2,
        alpha: 4.0,
        rslora: false,
        targets: vec!["all-linear".into()],
        fan_in_fan_out: false,
        base_model: None,
    };
    let run = |model: &Decoder| {
        let ids = ids_tensor(&[3, 4, 5], 1, &device());
        host(
            &model
                .forward(ids, &[1; 3], &ForwardOptions::default())
                .hidden,
        )
    };
    let before = run(&model);
    model.lora = Some(Lora::init(&model.config, config.clone(), 1, &device()).expect("an adapter"));
    assert_eq!(model.lora.as_ref().expect("set").weights.len(), 2 * 7 * 2);
    assert_eq!(before, run(&model));
    config.targets = vec!["query".into()];
    let e = Lora::init(&model.config, config, 1, &device()).expect_err("no such layer");
    assert!(
        e.to_string().contains("query") && e.to_string().contains("q_proj"),
        "{e}"
    );
}

#[test]
fn sampling_depends_on_the_seed_and_not_on_the_batch() {
    let model = Decoder::init(small(Architecture::Qwen2), 3, &device()).expect("a model");
    let prompts = vec![vec![1, 5, 9, 4], vec![1, 8]];
    let opts = GenerateOptions {
        max_new_tokens: 6,
        top_k: 20,
        top_p: 0.95,
        seed: 17,
        stop: Some(vec![2]),
        ..GenerateOptions::default()
    };
    let both = pollster::block_on(model.generate(&prompts, &opts)).expect("generates");
    let second = GenerateOptions {
        first_row: 1,
        ..opts.clone()
    };
    let alone = pollster::block_on(model.generate(&prompts[1..], &second)).expect("generates");
    assert_eq!(both[1].ids, alone[0].ids);
    let other = GenerateOptions { seed: 18, ..opts };
    let different = pollster::block_on(model.generate(&prompts, &other)).expect("generates");
    assert_ne!(both, different);
}

#[test]
fn configurations_that_are_not_computed_are_refused_by_name() {
    let Some(bytes) = test_data::read("oracle/llama_gqa_tied/config.json") else {
        return;
    };
    let good: Value = serde_json::from_slice(&bytes).expect("json");
    let cases = [
        ("model_type", serde_json::json!("mamba"), "mamba"),
        ("hidden_act", serde_json::json!("gelu"), "gelu"),
        ("sliding_window", serde_json::json!(64), "sliding_window"),
        (
            "rope_parameters",
            serde_json::json!({"rope_type": "yarn"}),
            "yarn",
        ),
        (
            "num_key_value_heads",
            serde_json::json!(4),
            "num_key_value_heads",
        ),
        ("hidden_size", serde_json::json!(0), "hidden_size"),
        ("vocab_size", serde_json::json!(1e30), "vocab_size"),
        (
            "num_hidden_layers",
            serde_json::json!(100_000_000),
            "num_hidden_layers",
        ),
        ("rms_norm_eps", serde_json::json!("small"), "rms_norm_eps"),
        (
            "quantization_config",
            serde_json::json!({"bits": 4}),
            "quantization_config",
        ),
    ];
    for (field, value, named) in cases {
        let mut config = good.clone();
        config[field] = value;
        let e = ModelConfig::from_json(config.to_string().as_bytes()).expect_err(field);
        assert!(e.to_string().contains(named), "{field}: {e}");
    }
    assert!(ModelConfig::from_json(b"{").is_err());
    let config = ModelConfig::from_json(&bytes).expect("good");
    let written = config.to_json().to_string();
    assert_eq!(
        ModelConfig::from_json(written.as_bytes()).expect("reads"),
        config
    );
}
