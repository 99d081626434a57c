//! What holds for every listed method, with the switches that change its formula: what its sigma is called, that its
//! gradient is the slope of its loss, and that its preference likelihood is the one in its loss.

use super::golden::{self, Outputs, directional, gradient, random_pairs, scalar, values};
use super::{Comparison, METHODS, Objective, Progress, RowKind, build};
use crate::reward::{Layout, Steps, Uncertainty};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

/// Every method as it is by default, and with switches.
fn subjects() -> Vec<(&'static str, Value)> {
    // RED's prefix term pulls at prefixes towards a score that it holds fixed: its gradient is by design not the slope of its
    // value, and its own file holds it against finite differences with that score kept.
    let options = |name: &str| match name {
        "red" => json!({"prefix_weight": 0.0}),
        _ => json!({}),
    };
    let names = METHODS.iter().map(|method| method.name);
    let mut all: Vec<(&str, Value)> = names.map(|name| (name, options(name))).collect();
    all.extend([
        ("ava_d", json!({"lambda": 0.0})),
        ("avril", json!({"lambda": 0.0})),
        ("ava_d", json!({"terminal": "drop", "normalise": "sum"})),
        ("ava_p", json!({"lambda": 0.0})),
        ("ava_p", json!({"lambda": 0.0, "cer": "probit"})),
        ("ava_p", json!({"lambda": 0.0, "cer": "mackay"})),
        (
            "ava_p",
            json!({"lambda": 0.0, "cer": "probit", "cer_weight": 0.0}),
        ),
        ("ava_p", json!({"cer": "mackay", "cer_score": "mean"})),
        (
            "ava_p",
            json!({"neg": "paper", "cer": "sigmoid", "cer_score": "last"}),
        ),
        ("ava_p", json!({"neg": "none", "kl_td_on": "chosen"})),
        (
            "preference_probit",
            json!({"noise": 0.3, "likelihood_weight": 0.2}),
        ),
        (
            "prefix_preference",
            json!({"prefix_weight": 0.0, "prior": "laplace"}),
        ),
        ("ava_p", json!({"prior": "token_type", "prior_scale": 0.5})),
        (
            "bradley_terry",
            json!({"score": "mean", "use_margin": true, "label_smoothing": 0.1, "center": 0.05,
                   "likelihood_weight": 0.3}),
        ),
        ("dpo", json!({"kind": "ipo", "length_normalised": true})),
        ("dpo", json!({"kind": "sigmoid", "label_smoothing": 0.2})),
        ("dpo", json!({"reference_free": true})),
        ("irl_margin", json!({"kind": "squared", "score": "mean"})),
        ("irl_margin", json!({"kind": "logistic"})),
        ("irl_margin", json!({"kind": "hinge", "score": "sum"})),
        (
            "pref_transformer",
            json!({"pool": "sum", "rwt_causal": true, "rwt_sqrt_d": true}),
        ),
        ("fine_grained", json!({"keep_weight": 0.5})),
        (
            "secrets2",
            json!({"smoothing": 0.2, "smooth_on": "all", "score": "sum"}),
        ),
    ]);
    all
}

/// Steps with all that any method reads beside them.
fn steps_of(objective: &dyn Objective, layout: &Layout, out: &Outputs) -> Steps {
    let mut layout = layout.clone();
    if objective.rows() == RowKind::Demonstrations {
        layout.pairs = None;
    }
    let steps = golden::steps(&layout, out, objective.steps_config());
    let device = out.logits.device();
    let like = |by: f32| {
        let [rows, columns] = steps.mask.dims();
        let numbers: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * by).sin()).collect();
        Tensor::<1>::from_floats(numbers.as_slice(), &device).reshape([rows, columns])
    };
    let per_pair = |numbers: [f32; 2]| Some(Tensor::<1>::from_floats(numbers, &device));
    let labels = like(1.3).sign() * steps.mask.clone();
    let (reference, attention) = (like(0.7).sub_scalar(2.0), like(0.4).add_scalar(1.5));
    let prefixes = out.mean.clone().narrow(1, 0, steps.mask.dims()[1]);
    let mut steps = steps
        .with_reference(reference)
        .with_attention(attention)
        .with_prefix_scores(prefixes);
    steps.extras.margin = per_pair([0.3, 0.8]);
    steps.extras.strength = per_pair([0.6, -0.2]);
    steps.extras.sign = per_pair([1.0, -1.0]);
    steps.extras.token_labels = Some(labels);
    steps
}

fn loss_of(objective: &dyn Objective, layout: &Layout, out: &Outputs) -> Tensor<1> {
    let steps = steps_of(objective, layout, out);
    objective.evaluate(&steps, Progress::END).loss
}

fn built(method: &str, options: &Value) -> Box<dyn Objective> {
    build(method, options).expect("a method with its switches")
}

/// At sigma 1 the prior is content, so what is left of the slope in log sigma comes from data. A residual's part of it
/// follows the policy; a comparison of rewards does not know the policy.
#[test]
fn sigma_is_called_by_what_trains_it() {
    let device = Device::flex().autodiff();
    let (layout, out) = random_pairs(&device);
    let mut names = Vec::new();
    for (method, options) in subjects() {
        let objective = built(method, &options);
        let slope = |logits_by: f64| {
            let log_std = out.log_std.zeros_like().detach().require_grad();
            let at = Outputs {
                // A leaf too: some losses depend on nothing else.
                logits: (out.logits.clone().mul_scalar(logits_by).detach()).require_grad(),
                mean: out.mean.clone().detach().require_grad(),
                log_std: log_std.clone(),
                ..out.clone()
            };
            let gradients = loss_of(objective.as_ref(), &layout, &at).backward();
            gradient(&log_std, &gradients)
        };
        let (slope, of_another_policy) = (slope(1.0), slope(0.5));
        let moved = slope.iter().any(|g| g.abs() > 1e-5);
        let follows = (slope.iter().zip(&of_another_policy)).any(|(a, b)| (a - b).abs() > 1e-5);
        let found = match (moved, follows) {
            (false, _) => Uncertainty::PriorOnly,
            (true, false) => Uncertainty::PreferenceSpread,
            (true, true) => Uncertainty::TdSpread,
        };
        assert_eq!(objective.uncertainty(), found, "{method} {options}");
        assert_eq!(objective.informs_std(), moved, "{method} {options}");
        let target = objective.td_target(&steps_of(objective.as_ref(), &layout, &out));
        assert_eq!(target.is_some(), follows, "{method} {options}");
        names.push(found);
    }
    for wanted in [
        Uncertainty::PriorOnly,
        Uncertainty::PreferenceSpread,
        Uncertainty::TdSpread,
    ] {
        assert!(names.contains(&wanted), "{wanted:?} was not tried");
    }
}

#[test]
fn every_gradient_is_the_slope_of_its_loss() {
    let device = Device::flex().autodiff();
    let (layout, out) = random_pairs(&device);
    for (method, options) in subjects() {
        println!("{method} {options}");
        let objective = built(method, &options);
        let objective = objective.as_ref();
        let leaf = |x: &Tensor<2>| x.clone().detach().require_grad();
        let (mean, log_std) = (leaf(&out.mean), leaf(&out.log_std));
        let logits = out.logits.clone().detach().require_grad();
        let at = Outputs {
            logits: logits.clone(),
            mean: mean.clone(),
            log_std: log_std.clone(),
            attention: None,
        };
        let gradients = loss_of(objective, &layout, &at).backward();
        let [of_mean, of_log_std] = [&mean, &log_std].map(|x| gradient(x, &gradients));
        let of_logits = gradient(&logits, &gradients);
        // A test of nothing would pass.
        let all = [&of_mean, &of_log_std, &of_logits];
        assert!(all.iter().any(|g| g.iter().any(|g| g.abs() > 1e-3)));
        let loss = |out: Outputs| scalar(&loss_of(objective, &layout, &out));
        let from = || at.clone();
        directional(&mean, &of_mean, 3e-3, |mean| {
            loss(Outputs { mean, ..from() })
        });
        directional(&log_std, &of_log_std, 3e-3, |log_std| {
            loss(Outputs { log_std, ..from() })
        });
        directional(&logits, &of_logits, 3e-3, |logits| {
            loss(Outputs { logits, ..from() })
        });
    }
}

/// Of one pair, with every other term off: what the loss says of one difference of scores and another is what
/// [`Objective::pair_fit`] says.
#[test]
fn the_likelihood_that_laplace_reads_is_the_one_in_the_loss() {
    let device = Device::flex();
    let (two, out) = random_pairs(&device);
    let (layout, alone) = golden::one_pair(&two, &out, 0);
    let quiet = json!({"lambda": 0.0, "kappa": 0.0, "neg": "none"});
    let mut tried = 0;
    for (method, mut options) in subjects() {
        if method == "ava_p" {
            for (key, value) in quiet.as_object().expect("an object") {
                options[key] = value.clone();
            }
        }
        if method.contains("preference") {
            options["kappa"] = json!(0.0);
        }
        for key in ["likelihood_weight", "center"] {
            if options.get(key).is_some() {
                options[key] = json!(0.0);
            }
        }
        let objective = built(method, &options);
        let probe = |difference, variance| Comparison {
            difference,
            variance,
            margin: f64::from(0.3f32),
            label: f64::from(0.75f32),
        };
        let fit = objective.pair_fit(&probe(0.0, 1.0));
        if fit.is_none_or(|fit| fit.curvature == 0.0) {
            continue;
        }
        let said = |by: f64| {
            let out = Outputs {
                mean: alone.mean.clone().mul_scalar(by),
                ..alone.clone()
            };
            let mut steps = golden::steps(&layout, &out, objective.steps_config())
                .with_attention(Tensor::ones([2, layout.steps()], &device));
            steps.extras.margin = Some(Tensor::from_floats([0.3], &device));
            steps.extras.label = Some(Tensor::from_floats([0.75], &device));
            let rewards = objective.token_rewards(&steps);
            let std = match &rewards.std {
                Some(std) => std.clone(),
                None => rewards.mean.zeros_like(),
            };
            let scores = super::Scores::from_rewards(&steps, rewards.mean, std.square());
            let score = values(scores.get(objective.ranking_score()));
            let variance = values(scores.variance(objective.comparison_variance()));
            let fit = objective
                .pair_fit(&probe(score[0] - score[1], variance[0] + variance[1]))
                .expect("a likelihood");
            let loss = scalar(&objective.evaluate(&steps, Progress::END).loss);
            (loss, fit.log_likelihood)
        };
        let ((loss, fit), (other_loss, other_fit)) = (said(1.0), said(-0.6));
        let (in_loss, in_fit) = (other_loss - loss, fit - other_fit);
        assert!(
            (in_loss - in_fit).abs() < 1e-4 * in_fit.abs().max(1.0) && in_fit.abs() > 1e-3,
            "{method} {options}: {in_loss} in the loss, {in_fit} in the fit"
        );
        tried += 1;
    }
    assert!(tried > 10, "{tried}");
}
