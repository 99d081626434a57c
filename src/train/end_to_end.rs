//! AVA through a checkpoint: trunk, LM head, reward head, objective and the gradient of every parameter, against PyTorch in
//! f64 on the same files. It takes the way of a training step, so that what each room was tested for alone is seen together.

use super::forward::{Reader, steps_of};
use crate::model::{Decoder, Weight, Weights, huggingface, is_transposed, safetensors};
use crate::objective::golden::{self, close, flat, scalar, values};
use crate::objective::{Evaluation, METHODS, Objective, Progress, build};
use crate::reward::{Layout, Normaliser, RewardHead, Steps};
use crate::test_data;
use burn::tensor::{Device, Gradients};
use serde_json::Value;

/// A file of the oracles, or `None` after saying that it is left out.
#[track_caller]
fn oracle(path: &str) -> Option<Vec<u8>> {
    test_data::read(&format!("oracle/{path}"))
}

struct Checkpoint {
    table: Value,
    trunk: Decoder,
    head: RewardHead,
}

/// The trunk and the reward head of the oracle, all of it training.
fn checkpoint(device: &Device) -> Option<Checkpoint> {
    let table = oracle("ava_end_to_end/expected.json")?;
    let table: Value = serde_json::from_slice(&table).expect("JSON");
    let base = table["inputs"]["base"].as_str().expect("a base");
    let config = oracle(&format!("{base}/config.json"))?;
    let weights = oracle(&format!("{base}/model.safetensors"))?;
    let head = safetensors::read(&oracle("ava_end_to_end/reward_head.safetensors")?)
        .expect("a reward head");
    let trunk = huggingface::load(&config, &weights, device).expect("a trunk");
    let mut read = Weights::new();
    for (name, tensor) in head {
        // Files keep a linear layer as [out, in], memory as [in, out].
        match *tensor.shape.as_slice() {
            [out, inputs] => {
                let values = huggingface::transpose(&tensor.values, out, inputs);
                read.insert_host(&name, values, &[inputs, out], device);
            }
            _ => read.insert_host(&name, tensor.values, &tensor.shape, device),
        }
    }
    let autodiff = device.clone().autodiff();
    Some(Checkpoint {
        table,
        trunk: trunk.trainable(&autodiff, |_| true),
        head: RewardHead {
            weights: read.trainable(&autodiff, |_| true),
        },
    })
}

impl Checkpoint {
    /// The method with the oracle's switches.
    fn method(&self, name: &str) -> Box<dyn Objective> {
        let known = METHODS.iter().find(|method| method.name == name);
        let defaults = (known.expect("a method").defaults)();
        let case = &self.table["inputs"][name];
        build(name, &golden::options(case, &defaults)).expect("the oracle's switches")
    }

    fn run(&self, method: &dyn Objective, layout: &Layout, device: &Device) -> (Steps, Evaluation) {
        let reader = Reader {
            decoder: &self.trunk,
            head: &self.head,
            objective: method,
            reference: None,
        };
        let counts = Normaliser::of(layout);
        let device = device.clone().autodiff();
        let steps = steps_of(reader, layout, counts, &device);
        let evaluation = method.evaluate(&steps, Progress::END);
        (steps, evaluation)
    }

    /// Every parameter's gradient: norm, sum and first entries.
    fn check_gradients(&self, gradients: &Gradients, expected: &Value) {
        let trained: Vec<(&str, &Weight)> = self
            .trunk
            .weights
            .iter()
            .chain(self.head.weights.iter())
            .collect();
        let expected = expected.as_object().expect("a table");
        assert_eq!(trained.len(), expected.len(), "one entry a parameter");
        for (name, weight) in trained {
            let want = &expected[name];
            let got = match weight {
                Weight::Vector(t) => values(t.grad(gradients).expect(name)),
                Weight::Matrix(t) => values(t.grad(gradients).expect(name)),
            };
            let l2 = want["l2"].as_f64().expect("a norm");
            let norm = got.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!(
                (norm - l2).abs() <= 1e-3 * l2,
                "{name}: norm {norm}, expected {l2}"
            );
            let sum = want["sum"].as_f64().expect("a sum");
            let found: f64 = got.iter().sum();
            assert!(
                (found - sum).abs() <= 2e-3 * l2,
                "{name}: sum {found}, expected {sum}"
            );
            // The file's row-major order is ours by columns where memory is transposed.
            let stride = match weight.shape().as_slice() {
                [_, columns] if is_transposed(name) || name == "reward_head.weight" => *columns,
                _ => 1,
            };
            let first = flat(&want["first"]);
            let ours: Vec<f64> = (0..first.len()).map(|i| got[i * stride]).collect();
            close(&format!("{name} first"), &ours, &first, 1e-3 * l2, 1e-3);
        }
    }
}

fn demonstrations_hold_on(device: &Device) {
    let Some(checkpoint) = checkpoint(device) else {
        return;
    };
    let rows = &checkpoint.table["inputs"]["chosen"];
    let layout = golden::layout(&rows["ids"], &rows["seg"], &rows["resp"], None);
    let method = checkpoint.method("ava_d");
    let (steps, result) = checkpoint.run(method.as_ref(), &layout, device);
    let want = &checkpoint.table["expected"]["ava_d"];
    let check = |key: &str, got: Vec<f64>| close(key, &got, &flat(&want[key]), 1e-4, 1e-5);
    check("m", values(steps.mask.clone()));
    check("mu_step", values(steps.mean.clone()));
    check("ll", values(steps.log_likelihood.clone()));
    check(
        "delta",
        values(method.td_target(&steps).expect("a residual")),
    );
    check("n_steps", vec![steps.counts.steps]);
    check("loss", values(result.loss.clone()));
    for (key, term) in [("kl_total", "ava/kl"), ("log_q_total", "ava/td_logq")] {
        let found = result.terms.iter().find(|(name, _)| *name == term);
        let total = scalar(&found.expect(term).1) * steps.counts.steps;
        check(key, vec![total]);
    }
    // Divided by the steps, the loss is minus the lower bound.
    let bound = result.terms.iter().find(|(name, _)| *name == "ava/elbo");
    check("loss", vec![-scalar(&bound.expect("a bound").1)]);
    checkpoint.check_gradients(&result.loss.backward(), &want["gradient"]);
}

fn pairs_hold_on(device: &Device) {
    let Some(checkpoint) = checkpoint(device) else {
        return;
    };
    let inputs = &checkpoint.table["inputs"];
    let both = |key: &str| golden::stack(&[&inputs["chosen"][key], &inputs["rejected"][key]], 0.0);
    let [pairs, _] = golden::shape::<2>(&inputs["chosen"]["ids"]);
    let layout = golden::layout(&both("ids"), &both("seg"), &both("resp"), Some(pairs));
    let method = checkpoint.method("ava_p");
    let (steps, result) = checkpoint.run(method.as_ref(), &layout, device);
    let want = &checkpoint.table["expected"]["ava_p"];
    let check = |key: &str, got: Vec<f64>| close(key, &got, &flat(&want[key]), 1e-4, 1e-5);
    check("n_steps", vec![steps.counts.steps]);
    check("loss", values(result.loss.clone()));
    let last = values(result.scores.last.clone());
    check("score_last_pos", last[..pairs].to_vec());
    check("score_last_neg", last[pairs..].to_vec());
    let by_row: Vec<f64> = values(steps.log_likelihood.clone())
        .chunks(layout.steps())
        .map(|row| row.iter().sum())
        .collect();
    check("ll_pos", by_row[..pairs].to_vec());
    check("ll_neg", by_row[pairs..].to_vec());
    let term = |name: &str| {
        let found = result.terms.iter().find(|(known, _)| *known == name);
        scalar(&found.expect(name).1)
    };
    check("F_p", vec![term("ava/elbo") * steps.counts.steps]);
    check("kl_total", vec![term("ava/kl") * steps.counts.steps]);
    check(
        "log_q_total",
        vec![term("ava/td_logq") * steps.counts.steps],
    );
    let contrast: f64 = flat(&want["cer"]).iter().sum::<f64>() / pairs as f64;
    close("cer", &[term("ava/cer")], &[contrast], 1e-5, 1e-5);
    checkpoint.check_gradients(&result.loss.backward(), &want["gradient"]);
}

#[test]
fn demonstrations_through_a_checkpoint_agree_with_pytorch() {
    demonstrations_hold_on(&Device::flex());
}

#[test]
fn pairs_through_a_checkpoint_agree_with_pytorch() {
    pairs_hold_on(&Device::flex());
}

#[test]
fn a_checkpoint_agrees_with_pytorch_on_a_gpu() {
    if let Some(device) = golden::wgpu() {
        demonstrations_hold_on(&device);
        pairs_hold_on(&device);
    }
}
