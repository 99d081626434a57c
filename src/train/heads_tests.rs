//! Heads beside the reward head, end to end: a Q-head of its own, reward weights on Q, prefix scores, dropout features.

use super::dataset::layout;
use super::forward::{Reader, dropout_features, run_trunk, steps_of};
use super::optimizer::{NamedGradients, collect_gradients};
use super::run::{LoadedModel, count};
use super::scorer::pad_of;
use super::testing::{cpu, trained};
use super::{
    EncodedRow, LoraConfig, Run, Scorer, TrainConfig, Trainable, checkpoint_digest, world_model,
    world_rows,
};
use crate::data::{Rows, split_by_hash};
use crate::model::{Decoder, Weight};
use crate::objective::golden::{close, values};
use crate::objective::{METHODS, Objective, Progress, RowKind, build};
use crate::reward::{Q_HEAD, RewardHead, Steps, TokenRewardRecord};
use burn::tensor::{Device, Tensor};
use pollster::block_on;
use serde_json::{Value, json};

/// AVA's ablation "w/o ptq" of a method.
fn without_ptq(method: &str) -> Value {
    let method = METHODS.iter().find(|m| m.name == method).expect("listed");
    let variant = method.variants.iter().find(|v| v.name == "w/o ptq");
    variant.expect("a variant").options()
}

fn new_run(method: &str, options: Value, trainable: Trainable, seed: u64) -> Run {
    let device = cpu();
    let kind = build(method, &options).expect("a method").rows();
    let rows: Rows = world_rows(40, 7, kind == RowKind::Demonstrations);
    let (train, held_out) = split_by_hash(rows, 0.3, "testing");
    let config = TrainConfig {
        method: method.into(),
        options,
        seed,
        steps: 12,
        batch_size: 4,
        gradient_accumulation_steps: 2,
        eval_steps: 0,
        trainable,
        ..TrainConfig::default()
    };
    let model = world_model(&device.device).expect("the built-in model");
    Run::new(config, model, train, held_out, device).expect("a run")
}

fn steps(run: &mut Run, n: usize) -> Vec<f64> {
    (0..n)
        .map(|_| block_on(run.optimizer_step()).expect("a step")["loss"])
        .collect()
}

fn records(scorer: &Scorer, rows: &[EncodedRow]) -> Vec<TokenRewardRecord> {
    block_on(scorer.score(rows)).expect("scores").records
}

fn lora() -> Trainable {
    Trainable::Lora(LoraConfig::default())
}

/// `Steps` of a run's first held-out rows by `objective`, with the run's model and a head.
fn read(run: &Run, head: &RewardHead, objective: &dyn Objective, device: &Device) -> Steps {
    let members: Vec<&EncodedRow> = run.held_out()[..3].iter().collect();
    let layout = layout(&members, pad_of(&run.model().tokenizer));
    let decoder = run.model().decoder.clone().inner();
    let reader = Reader {
        decoder: &decoder,
        head,
        objective,
        reference: None,
    };
    let normaliser = count(std::slice::from_ref(&layout));
    steps_of(reader, &layout, normaliser, device)
}

/// The tied output layer of the built-in model as a Q-head `[H, V]`.
fn output_layer(model: &LoadedModel) -> Tensor<2> {
    match model.decoder.weights.get("model.embed_tokens.weight") {
        Some(Weight::Matrix(t)) => t.clone().inner().transpose(),
        _ => panic!("the built-in model has an embedding"),
    }
}

#[test]
fn a_q_head_that_copies_the_lm_head_gives_its_numbers() {
    let own = build("ava_p", &without_ptq("ava_p")).unwrap();
    let mut options = without_ptq("ava_p");
    options["q_head"] = "lm".into();
    let lm = build("ava_p", &options).unwrap();
    for trainable in [Trainable::Full, Trainable::Heads] {
        let run = new_run("ava_p", without_ptq("ava_p"), trainable, 0);
        let device = cpu().device;
        let mut head = run.head().clone();
        head.weights = head.weights.inner();
        let fresh = read(&run, &head, own.as_ref(), &device);
        head.weights
            .insert(Q_HEAD, Weight::Matrix(output_layer(run.model())));
        let copied = read(&run, &head, own.as_ref(), &device);
        let read_off = read(&run, &head, lm.as_ref(), &device);
        for (a, b) in [
            (&copied.q, &read_off.q),
            (&copied.log_likelihood, &read_off.log_likelihood),
            (&copied.log_policy, &read_off.log_policy),
        ] {
            close(
                "numbers",
                &values(a.clone()),
                &values(b.clone()),
                1e-5,
                1e-5,
            );
        }
        let apart = values((fresh.q - read_off.q).abs().max())[0];
        assert!(apart > 0.1, "a fresh head knows nothing of the LM head");
    }
}

#[test]
fn gradients_of_the_q_head_agree_with_finite_differences() {
    for method in ["ava_p", "ava_d", "avril"] {
        let options = match method {
            "avril" => json!({"lambda": 0.3}),
            _ => without_ptq(method),
        };
        let run = new_run(method, options, Trainable::Heads, 1);
        let device = cpu().device.autodiff();
        let loss = |q_head: Tensor<2>| {
            let mut head = run.head().clone();
            head.weights.insert(Q_HEAD, Weight::Matrix(q_head));
            let steps = read(&run, &head, run.objective.as_ref(), &device);
            run.objective.evaluate(&steps, Progress::END).loss
        };
        let at = match run.head().weights.get(Q_HEAD) {
            Some(Weight::Matrix(t)) => t.clone(),
            _ => panic!("{method} has a Q-head"),
        };
        let gradients = loss(at.clone()).backward();
        let slope = values(at.grad(&gradients).expect("a gradient"));
        assert!(slope.iter().any(|g| g.abs() > 1e-4), "{method}");
        crate::objective::golden::directional(&at, &slope, 2e-3, |q_head| {
            values(loss(q_head).inner())[0]
        });
    }
}

#[test]
fn runs_with_further_heads_resume_bit_for_bit_and_are_scored_and_exported_whole() {
    let contrast = json!({"contrastive_weight": 1.0, "margin_scale": 0.0});
    for (method, options, trainable) in [
        ("ava_p", without_ptq("ava_p"), Trainable::Full),
        ("ava_p", without_ptq("ava_p"), lora()),
        ("ava_p", without_ptq("ava_p"), Trainable::Heads),
        ("ava_d", without_ptq("ava_d"), Trainable::Heads),
        ("ava_p", json!({"rwt": "reward_and_q"}), Trainable::Heads),
        ("avril", json!({}), Trainable::Full),
        ("red", json!({}), Trainable::Full),
        ("red", json!({}), Trainable::Heads),
        ("secrets2", contrast.clone(), Trainable::Full),
        ("secrets2", contrast, lora()),
    ] {
        let what = format!("{method} {options} {trainable:?}");
        let mut straight = new_run(method, options.clone(), trainable.clone(), 3);
        let mut expected = steps(&mut straight, 2);
        let kept = block_on(straight.checkpoint()).expect("a checkpoint");
        expected.extend(steps(&mut straight, 3));

        let mut resumed = new_run(method, options.clone(), trainable, 3);
        block_on(resumed.restore(&kept)).expect("restored");
        assert_eq!(steps(&mut resumed, 3), expected[2..], "{what}");
        let (a, b) = (
            block_on(straight.checkpoint()).expect("a checkpoint"),
            block_on(resumed.checkpoint()).expect("a checkpoint"),
        );
        let digest = |bytes: &[u8]| checkpoint_digest(bytes).expect("a digest");
        assert_eq!(digest(&a), digest(&b), "{what}");

        // The checkpoint scores as the run does.
        let rows = straight.held_out();
        let own = records(&straight.scorer().expect("a scorer"), rows);
        let device = cpu();
        let model = world_model(&device.device).expect("the built-in model");
        let opened = block_on(Scorer::from_checkpoint(model, &a, device)).expect("opened");
        for (x, y) in own.iter().zip(&records(&opened, rows)) {
            assert_eq!(x.tokens, y.tokens, "{what}");
        }

        // Every head's tensor is in the export.
        let files = block_on(straight.export()).expect("exported");
        let head = files
            .iter()
            .find(|(name, _)| name == "reward_head.safetensors");
        let (_, bytes) = head.expect("a head");
        let tensors = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
        let mut names: Vec<&str> = tensors.names();
        names.sort_unstable();
        let wanted: Vec<&str> = straight.head().weights.names().collect();
        assert_eq!(names, wanted, "{what}");
        if options.get("q_head").is_some() || method == "avril" {
            let shape = tensors.tensor(Q_HEAD).expect("a Q-head").shape().to_vec();
            let config = &straight.model().decoder.config;
            assert_eq!(shape, [config.hidden_size, config.vocab_size]);
        }
    }
}

#[test]
fn a_checkpoint_with_another_q_head_is_refused() {
    let mut with = new_run("ava_p", without_ptq("ava_p"), Trainable::Heads, 0);
    steps(&mut with, 1);
    let mut without = new_run("ava_p", json!({}), Trainable::Heads, 0);
    steps(&mut without, 1);
    let (own, lm) = (
        block_on(with.checkpoint()).unwrap(),
        block_on(without.checkpoint()).unwrap(),
    );
    let error = block_on(with.restore(&lm)).unwrap_err().to_string();
    assert!(error.contains("q_head.weight"), "{error}");
    let error = block_on(without.restore(&own)).unwrap_err().to_string();
    assert!(error.contains("q_head.weight"), "{error}");
}

#[test]
fn the_contrastive_term_is_refused_where_the_trunk_stays_still() {
    let config = TrainConfig {
        method: "secrets2".into(),
        options: json!({"contrastive_weight": 1.0}),
        trainable: Trainable::Heads,
        ..TrainConfig::default()
    };
    let error = config.check().err().expect("refused").to_string();
    assert!(error.contains("contrastive_weight"), "{error}");
}

/// Eq. 11 of AVA weights both heads: Q[s] is multiplied by the weight at position s, the reward by that at s+1.
#[test]
fn reward_weights_reach_q_in_a_run_as_in_the_formula() {
    let run = trained("ava_p", json!({"rwt": "reward_and_q"}), 2, 40);
    let device = cpu().device;
    let mut head = run.head().clone();
    head.weights = head.weights.inner();
    let both = run.objective.as_ref();
    let plain = build("ava_p", &json!({})).unwrap();
    let weighted = read(&run, &head, both, &device);
    let bare = read(&run, &head, plain.as_ref(), &device);

    let members: Vec<&EncodedRow> = run.held_out()[..3].iter().collect();
    let layout = layout(&members, pad_of(&run.model().tokenizer));
    let decoder = run.model().decoder.clone().inner();
    let trunk = run_trunk(&decoder, both, &layout, &device, false);
    let weights = head
        .forward(trunk.hidden, &layout, both.steps_config())
        .weights
        .expect("weights");
    let (w, mask) = (values(weights), layout.step_mask());
    let (q, bare_q) = (values(weighted.q), values(bare.q));
    let (mu, bare_mu) = (values(weighted.mean), values(bare.mean));
    let (t, s) = (layout.tokens, layout.steps());
    let mut moved = 0f64;
    for (i, counts) in mask.iter().enumerate() {
        if *counts {
            let at = i / s * t + i % s;
            assert!((q[i] - w[at] * bare_q[i]).abs() < 1e-4 * bare_q[i].abs().max(1.0));
            assert!((mu[i] - w[at + 1] * bare_mu[i]).abs() < 1e-5);
            moved = moved.max((w[at] - 1.0).abs());
        }
    }
    assert!(moved > 1e-3, "weights differ from 1");
}

#[test]
fn red_of_a_run_is_the_credit_red_of_its_head() {
    // The same weights, read by RED's objective and as Bradley-Terry by the credit of that name.
    let run = trained("red", json!({}), 3, 40);
    let device = cpu();
    let own = records(&run.scorer().expect("a scorer"), run.held_out());
    let mut by_credit = run.scorer().expect("a scorer");
    by_credit.objective = build("bradley_terry", &json!({})).expect("a method").into();
    by_credit.credit = crate::credit::by_name("red").expect("a credit");
    by_credit.device = device;
    for (a, b) in own.iter().zip(&records(&by_credit, run.held_out())) {
        for (x, y) in a.tokens.iter().zip(&b.tokens) {
            assert!((x.mean - y.mean).abs() < 1e-6, "{} {}", x.mean, y.mean);
        }
    }
    assert!(
        own.iter()
            .any(|r| r.tokens.iter().any(|t| t.mean.abs() > 1e-4))
    );
}

fn features(run: &Run, decoder: &Decoder, rate: f64, seeds: [u64; 2]) -> [Vec<f64>; 2] {
    let members: Vec<&EncodedRow> = run.held_out()[..3].iter().collect();
    let layout = layout(&members, pad_of(&run.model().tokenizer));
    dropout_features(decoder, &layout, rate, seeds, &cpu().device).map(values)
}

#[test]
fn dropout_features_differ_by_seed_alone_and_keep_their_mean() {
    let run = new_run("ava_p", json!({}), Trainable::Heads, 0);
    let decoder = run.model().decoder.clone().inner();
    let members: Vec<&EncodedRow> = run.held_out()[..3].iter().collect();
    let layout = layout(&members, pad_of(&run.model().tokenizer));
    let trunk = run_trunk(
        &decoder,
        run.objective.as_ref(),
        &layout,
        &cpu().device,
        false,
    );
    let (t, width) = (layout.tokens, decoder.config.hidden_size);
    let hidden = values(trunk.hidden);
    let clean: Vec<f64> = layout
        .last_steps()
        .iter()
        .enumerate()
        .flat_map(|(row, s)| {
            let at = (row * t + s.expect("an answer") + 1) * width;
            hidden[at..at + width].to_vec()
        })
        .collect();
    // Nothing dropped: both passes are the plain one.
    let [a, b] = features(&run, &decoder, 0.0, [1, 2]);
    assert_eq!((&a, &b), (&clean, &clean));
    let [a, b] = features(&run, &decoder, 0.05, [1, 2]);
    assert_eq!(
        features(&run, &decoder, 0.05, [2, 1]),
        [b.clone(), a.clone()]
    );
    let cosine = |x: &[f64], y: &[f64]| {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
    };
    for (x, y) in [(&a, &b), (&a, &clean)] {
        let c = cosine(x, y);
        assert!(c < 0.9999 && c > 0.5, "{c}");
    }
}

#[test]
fn the_contrastive_term_trains_the_trunk_and_is_absent_where_it_is_off() {
    let on = json!({"contrastive_weight": 1.0, "margin_scale": 0.0});
    let mut with = new_run("secrets2", on, Trainable::Full, 0);
    let metrics = block_on(with.optimizer_step()).expect("a step");
    let contrast = metrics["contrastive_loss"];
    assert!(contrast > 0.0);
    // All rewards tie before the first step, so that the comparison alone says log 2.
    let whole = metrics["loss"];
    assert!(
        (whole - std::f64::consts::LN_2 - contrast).abs() < 1e-5,
        "{whole} {contrast}"
    );
    // The fresh head's weights are 0: without the contrastive term nothing would pull at the trunk.
    let off = json!({"margin_scale": 0.0});
    let mut without = new_run("secrets2", off, Trainable::Full, 0);
    let metrics = block_on(without.optimizer_step()).expect("a step");
    assert!(!metrics.contains_key("contrastive_loss"));
    let reached = |run: &Run| {
        let members: Vec<&EncodedRow> = run.held_out()[..3].iter().collect();
        let layout = layout(&members, pad_of(&run.model().tokenizer));
        let device = cpu().device.autodiff();
        let [s, t] = dropout_features(&run.model().decoder, &layout, 0.05, [1, 2], &device);
        let term = crate::objective::secrets2::simcse(
            s,
            t,
            crate::objective::secrets2::Features::Pairs,
            0.05,
        );
        let mut backward = term.mean().backward();
        let mut found = NamedGradients::new();
        collect_gradients("", &run.model().decoder.weights, &mut backward, &mut found);
        found.len()
    };
    assert!(reached(&with) > 0, "the term reaches the trunk's weights");
    // Later steps bring it down.
    let later = steps(&mut with, 11);
    assert!(later[10] < whole, "{whole} {later:?}");
}

#[test]
fn swav_trains_its_prototypes_and_a_resumed_run_goes_on_with_them() {
    let options = json!({"contrastive": "swav", "contrastive_weight": 0.5, "margin_scale": 0.0,
                         "features": "difference", "prototypes": 6, "tau": 0.1});
    let mut run = new_run("secrets2", options.clone(), Trainable::Full, 0);
    let of = |run: &Run| values(run.head().prototypes().expect("prototypes").inner());
    let fresh = of(&run);
    let first = block_on(run.optimizer_step()).expect("a step");
    assert!(first["contrastive_loss"] > 0.0);
    steps(&mut run, 3);
    let trained = of(&run);
    assert!(
        fresh
            .iter()
            .zip(&trained)
            .any(|(a, b)| (a - b).abs() > 1e-4)
    );
    let bytes = block_on(run.checkpoint()).expect("a checkpoint");
    let mut again = new_run("secrets2", options, Trainable::Full, 0);
    block_on(again.restore(&bytes)).expect("restored");
    assert_eq!(of(&again), trained);
    assert_eq!(steps(&mut run, 2), steps(&mut again, 2));
    // Another number of prototypes is another head.
    let other = json!({"contrastive": "swav", "contrastive_weight": 0.5, "margin_scale": 0.0, "prototypes": 7});
    let mut other = new_run("secrets2", other, Trainable::Full, 0);
    let error = block_on(other.restore(&bytes)).expect_err("refused");
    assert!(error.to_string().contains("prototypes"), "{error}");
}

/// A Q-head is learned: the likelihood of demonstrations rises from that of a uniform policy.
#[test]
fn a_q_head_learns_the_demonstrator_s_policy() {
    for method in ["ava_d", "avril"] {
        let options = match method {
            "avril" => json!({"lambda": 0.1}),
            _ => without_ptq(method),
        };
        let mut run = new_run(method, options, Trainable::Full, 0);
        let name = if method == "avril" {
            "avril/nll"
        } else {
            "ava/nll_per_token"
        };
        let first = block_on(run.optimizer_step()).expect("a step")[name];
        let uniform = (run.model().decoder.config.vocab_size as f64).ln();
        assert!((first - uniform).abs() < 0.3, "{method}: {first} {uniform}");
        steps(&mut run, 10);
        let last = block_on(run.optimizer_step()).expect("a step")[name];
        assert!(last < first - 0.2, "{method}: {first} {last}");
    }
}

#[test]
fn frozen_states_are_not_shared_between_a_q_head_and_the_lm_head() {
    let key = |options| new_run("ava_p", options, Trainable::Heads, 0).frozen_key();
    let mut lm = without_ptq("ava_p");
    lm["q_head"] = "lm".into();
    assert_ne!(key(without_ptq("ava_p")), key(lm));
}

/// Where the whole trunk trains nothing else in a checkpoint tells the policy that a method was held against.
#[test]
fn a_reference_policy_belongs_to_its_checkpoint() {
    let mut run = new_run("dpo", json!({}), Trainable::Full, 0);
    steps(&mut run, 2);
    let bytes = block_on(run.checkpoint()).expect("a checkpoint");
    let mut same = new_run("dpo", json!({}), Trainable::Full, 0);
    block_on(same.restore(&bytes)).expect("the same reference");

    let device = cpu();
    let mut model = world_model(&device.device).expect("the built-in model");
    model.decoder.weights = model.decoder.weights.map_each(|name, w| match w {
        Weight::Vector(t) if name == "model.norm.weight" => Weight::Vector(t * 1.01),
        w => w,
    });
    let rows: Rows = world_rows(40, 7, false);
    let (train, held_out) = split_by_hash(rows, 0.3, "testing");
    let config = run.config().clone();
    let mut other =
        Run::new(config, model.clone(), train, held_out, device.clone()).expect("a run");
    let error = block_on(other.restore(&bytes)).expect_err("refused");
    assert!(error.to_string().contains("reference policy"), "{error}");
    let error = block_on(Scorer::from_checkpoint(model, &bytes, device)).err();
    let said = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("reference policy"), "{said}");
}

/// Seeds decide what heads begin with and in which order rows come; the states of a frozen trunk are the same.
#[test]
fn frozen_states_are_shared_between_seeds() {
    let run = |seed| new_run("ava_p", json!({}), Trainable::Heads, seed);
    assert_eq!(run(1).frozen_key(), run(2).frozen_key());
    let mut first = run(0);
    steps(&mut first, 3);
    let mut other = run(1);
    assert!(other.use_frozen_states(first.take_frozen_states().expect("states")));
    assert_eq!(steps(&mut other, 3), steps(&mut run(1), 3));
}

/// A step waits for no reading of its own: what the next one sees came back with the numbers of the one before.
#[test]
fn the_next_step_s_frozen_states_are_there_before_it_begins() {
    for accumulation in [1, 3] {
        let mut run = new_run("ava_p", json!({}), Trainable::Heads, 0);
        run.config.gradient_accumulation_steps = accumulation;
        assert!(!run.missing_next().is_empty());
        for _ in 0..4 {
            steps(&mut run, 1);
            assert!(run.missing_next().is_empty());
        }
    }
}

/// Switches that have no say in what is kept of a frozen trunk do not make methods compute it again.
#[test]
fn frozen_states_are_shared_between_methods_that_read_them_alike() {
    let key = |method, options| new_run(method, options, Trainable::Heads, 0).frozen_key();
    let own = key("ava_p", json!({}));
    assert_eq!(own, key("ava_p", json!({"beta": 0.5})));
    assert_eq!(own, key("bradley_terry", json!({})));
    assert_eq!(own, key("bradley_terry_sum", json!({})));
    assert_ne!(own, key("ava_p", json!({"alpha": 0.5})));
    assert_ne!(own, key("ava_p", without_ptq("ava_p")));
}

/// A head's numbers stand on hidden states alone: with a Q-head the cache of a frozen trunk gives what the trunk gives.
#[test]
fn a_frozen_trunk_s_cache_gives_a_q_head_the_trunk_s_own_states() {
    let mut cached = new_run("ava_p", without_ptq("ava_p"), Trainable::Heads, 5);
    let losses = steps(&mut cached, 3);
    let mut plain = new_run("ava_p", without_ptq("ava_p"), Trainable::Heads, 5);
    plain.cache = super::trunk_cache::TrunkCache::off();
    for (a, b) in losses.iter().zip(steps(&mut plain, 3)) {
        assert!((a - b).abs() < 1e-4 * b.abs(), "{a} {b}");
    }
}
