//! Real pretrained models against independent code.

use super::super::*;
use super::*;
use burn::tensor::activation::log_softmax;

/// Log-probabilities of ids[1..] and the logits at every position.
fn score(model: &Decoder, ids: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let device = model.device();
    let n = ids.len();
    let out = model.forward(
        ids_tensor(ids, 1, &device),
        &vec![1; n],
        &ForwardOptions::default(),
    );
    let logits = model.logits(out.hidden.reshape([n, model.config.hidden_size]));
    let log_probs = log_softmax(logits.clone(), 1).narrow(0, 0, n - 1);
    let next = ids_tensor(&ids[1..], n - 1, &device);
    (host(&log_probs.gather(1, next)), host(&logits))
}

#[test]
fn stories_260k_writes_the_golden_story() {
    let (Some(bytes), Some(golden)) = (
        test_data::read("models/stories260K/stories260K.bin"),
        test_data::golden("stories260K"),
    ) else {
        return;
    };
    let model = llama2c::load(&bytes, &Device::flex()).expect("loads");
    assert_eq!(model.parameters(), 260_032);
    let expected = tokens(&golden["greedy_ids_from_bos"]);
    let opts = GenerateOptions {
        max_new_tokens: expected.len() - 1,
        temperature: 0.0,
        stop: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let got = pollster::block_on(model.generate(&[vec![1]], &opts)).expect("generates");
    assert_eq!(got[0].ids, expected[1..]);
    let (log_probs, logits) = score(&model, &expected);
    assert!(largest_difference(&logits[..8], &numbers(&golden["logits_pos0_first8"])) < 1e-3);
    let nll = -log_probs.iter().sum::<f32>() / log_probs.len() as f32;
    println!("stories260K: mean NLL {nll}");
    assert!(largest_difference(&[nll], &numbers(&golden["mean_nll"])) < 1e-4);
    // The cached run's log-probabilities are those of the whole text at once.
    let whole: Vec<f64> = log_probs.iter().map(|x| f64::from(*x)).collect();
    assert!(largest_difference(&got[0].log_probs, &whole) < 1e-3);
}

#[test]
fn babyllama_loads() {
    let Some(bytes) = test_data::read("models/babyllama105/model5000.bin") else {
        return;
    };
    let model = llama2c::load(&bytes, &Device::flex()).expect("loads");
    assert_eq!(model.parameters(), 936_448);
}

#[test]
fn smollm2_from_gguf_gives_the_golden_log_probabilities() {
    let Some(bytes) = crate::model::tests::smollm2() else {
        return;
    };
    let Some(golden) = test_data::golden("smollm2") else {
        return;
    };
    let model = gguf::load(&bytes, &Device::flex()).expect("loads");
    drop(bytes);
    // The golden numbers come from weights stored as f16. With the same rounding only arithmetic differs; without it
    // this model's logits (up to 33) move by as much as 1.3e-2, its log-probabilities by less than 1e-2.
    let rounded = Decoder {
        weights: as_half(&model.weights),
        ..model.clone()
    };
    for (what, model, allowed_log_prob, allowed_logit) in [
        ("rounded to f16", rounded, 1e-3, 2e-3),
        ("in f32", model, 1e-2, 2e-2),
    ] {
        let (mut log_prob, mut logit) = (0.0f64, 0.0f64);
        for case in golden["cases"].as_array().expect("cases") {
            let ids = tokens(&case["ids"]);
            let (log_probs, logits) = score(&model, &ids);
            log_prob = log_prob.max(largest_difference(
                &log_probs,
                &numbers(&case["token_logprobs"]),
            ));
            let last = &logits[(ids.len() - 1) * model.config.vocab_size..];
            for pair in case["last_top5"].as_array().expect("top five") {
                let id = pair[0].as_u64().expect("an id") as usize;
                let expected = pair[1].as_f64().expect("a logit");
                logit = logit.max((f64::from(last[id]) - expected).abs());
            }
        }
        println!(
            "SmolLM2-135M-Instruct, dequantised from Q4_1, {what}: \
             log-probabilities differ by at most {log_prob:.1e}, logits by {logit:.1e}"
        );
        assert!(
            log_prob < allowed_log_prob && logit < allowed_logit,
            "{what}"
        );
    }
}

fn as_half(weights: &Weights) -> Weights {
    let mut rounded = Weights::new();
    for (name, weight) in weights.iter() {
        let values = pollster::block_on(weight.to_host(name)).expect("reads back");
        let values = values
            .iter()
            .map(|x| half::f16::from_f32(*x).to_f32())
            .collect();
        rounded.insert_host(name, values, &weight.shape(), &Device::flex());
    }
    rounded
}
