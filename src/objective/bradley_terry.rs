//! Bradley-Terry: the chosen answer's score should win.
//!
//! ```text
//! d    = r+ - r- - margin
//! loss = mean_b [ -(1-e) log sigma(d) - e log sigma(-d) ] + center mean_b (r+ + r-)^2
//!        - likelihood_weight (1/n) [ sum log pi(+) + sum log(1 - pi(-)) ]          n: steps of the batch
//! ```
//!
//! r is the last token's reward (the usual reward model), or the sum or mean of the token rewards. The likelihood part
//! keeps a shared language model near its text, in the form that AVA-p recommends.
//!
//! Source: Bradley and Terry 1952; *Training language models to follow instructions*, arXiv 2203.02155, Eq. 1; centring
//! and row margins as in github huggingface/trl@f2cd577 docs/source/reward_trainer.md. Sum, mean and likelihood are ours.

use super::comparison::{self, Comparison, PairFit};
use super::math::{log_one_minus_exp, row_sum, sides};
use super::options::{self, check, check_steps};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores,
    reward_terms,
};
use crate::reward::{Steps, StepsConfig};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "bradley_terry",
    title: "Bradley-Terry",
    citation: "Bradley and Terry 1952; arXiv 2203.02155, Eq. 1",
    build: |options| Ok(Box::new(BradleyTerry::new(options)?)),
    defaults: options::defaults::<BradleyTerryOptions>,
    variants: &[],
};

/// The same on the sum of token rewards: it localises preferences by itself, and is the baseline that every claim about
/// token rewards must beat.
pub const SUM: Method = Method {
    name: "bradley_terry_sum",
    title: "Bradley-Terry on the sum of token rewards",
    citation: "Bradley and Terry 1952; arXiv 2203.02155, Eq. 1, on a sum of token scores",
    build: |options| {
        let mut options = options.clone();
        if options.is_null() {
            options = Value::Object(serde_json::Map::new());
        }
        if let Some(map) = options.as_object_mut() {
            map.entry("score").or_insert_with(|| "sum".into());
        }
        Ok(Box::new(BradleyTerry::new(&options)?))
    },
    defaults: || {
        let mut defaults = options::defaults::<BradleyTerryOptions>();
        defaults["score"] = "sum".into();
        defaults
    },
    variants: &[],
};

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BradleyTerryOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// last: the usual sequence reward model. `sum` trains every token and localises better.
    pub score: ScoreKind,
    /// Whether each pair asks for at least the difference of its margin ([`Extras::margin`](crate::reward::Extras)).
    pub use_margin: bool,
    /// e: the share of pairs taken as labelled the wrong way round.
    pub label_smoothing: f64,
    /// Weight that keeps scores near 0; 0.01 is the usual choice where it is on.
    pub center: f64,
    /// Weight of the likelihood part; 0.1 where the language model is shared and trained along.
    pub likelihood_weight: f64,
}

impl Default for BradleyTerryOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            score: ScoreKind::Last,
            use_margin: false,
            label_smoothing: 0.0,
            center: 0.0,
            likelihood_weight: 0.0,
        }
    }
}

/// Bradley-Terry with its options.
pub struct BradleyTerry {
    options: BradleyTerryOptions,
}

impl BradleyTerry {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let method = "bradley_terry";
        let options: BradleyTerryOptions = options::parse(method, options)?;
        check_steps(&options.steps, method)?;
        let half = |x: f64| (0.0..=0.5).contains(&x);
        let at_least_zero = |x: f64| x.is_finite() && x >= 0.0;
        let (e, c, w) = (
            options.label_smoothing,
            options.center,
            options.likelihood_weight,
        );
        check(half(e), method, "label_smoothing", e, "0 to 0.5")?;
        check(at_least_zero(c), method, "center", c, "0 or more")?;
        check(
            at_least_zero(w),
            method,
            "likelihood_weight",
            w,
            "0 or more",
        )?;
        Ok(Self { options })
    }
}

/// -(1-e) log sigma(x) - e log sigma(-x), per element; `smoothing` e.
pub fn logistic_loss<const D: usize>(x: Tensor<D>, smoothing: f64) -> Tensor<D> {
    let right = activation::log_sigmoid(x.clone()).mul_scalar(smoothing - 1.0);
    if smoothing == 0.0 {
        return right;
    }
    right - activation::log_sigmoid(x.neg()).mul_scalar(smoothing)
}

/// -(1/n) [ sum log pi(+) + sum log(1 - pi(-)) ] with n the steps of the batch: keeps the language model near its text.
pub(super) fn likelihood_loss(steps: &Steps) -> Tensor<1> {
    let pairs = steps.pair_count();
    let log_policy = steps.log_policy.clone();
    let chosen = row_sum(log_policy.clone()).narrow(0, 0, pairs);
    let mask = steps.mask.clone().narrow(0, pairs, pairs);
    let rejected = log_one_minus_exp(log_policy.narrow(0, pairs, pairs)) * mask;
    (chosen.sum() + rejected.sum())
        .neg()
        .div_scalar(steps.counts.steps.max(1.0))
}

impl Objective for BradleyTerry {
    fn name(&self) -> &'static str {
        "bradley_terry"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn needs_margin(&self) -> bool {
        self.options.use_margin
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn ranking_score(&self) -> ScoreKind {
        self.options.score
    }

    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        let asked = if self.options.use_margin {
            pair.margin
        } else {
            0.0
        };
        let x = pair.difference - asked;
        Some(comparison::logistic(x, self.options.label_smoothing))
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let (options, pairs) = (&self.options, steps.pair_count());
        let batch = steps.counts.pairs.max(1.0);
        let scores = Scores::of(steps);
        let (chosen, rejected) = sides(scores.get(options.score), pairs);
        let mut d = chosen.clone() - rejected.clone();
        if let (true, Some(margin)) = (options.use_margin, &steps.extras.margin) {
            d = d - margin.clone();
        }
        let mut loss = logistic_loss(d, options.label_smoothing)
            .sum()
            .div_scalar(batch);
        let mut terms = vec![("preference_loss", loss.clone().detach())];
        if options.center > 0.0 {
            let off = (chosen + rejected).square().sum();
            loss = loss + off.mul_scalar(options.center / batch);
        }
        if options.likelihood_weight > 0.0 {
            let nll = likelihood_loss(steps);
            terms.push(("likelihood_loss", nll.clone().detach()));
            loss = loss + nll.mul_scalar(options.likelihood_weight);
        }
        let scores = scores.detach();
        terms.push(("loss", loss.clone().detach()));
        terms.extend(reward_terms(scores.get(options.score), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{
        self, Outputs, close, flat, leaf, random_pairs, scalar, tensor, values,
    };
    use super::*;
    use burn::tensor::Device;
    use serde_json::json;

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("bradley_terry") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let attended = golden::stack(&[g.data("attn_pos"), g.data("attn_neg")], 0.0);
        let [rows, tokens] = golden::shape::<2>(&attended);
        let (pairs, zeros) = (rows / 2, json!(vec![vec![0; tokens]; rows]));
        let layout = golden::layout(&zeros, &attended, &attended, Some(pairs));
        for (name, case) in g.cases() {
            let bt = BradleyTerry::new(case).expect("golden options");
            let (pos, neg) = (
                leaf(g.data("scores_pos"), &device),
                leaf(g.data("scores_neg"), &device),
            );
            // The two sides have different lengths: padded with garbage to the longer one.
            let widen = |x: &Tensor<2>| {
                let [rows, width] = x.dims();
                let filler = Tensor::full([rows, tokens - width], 99.0, &device);
                match tokens - width {
                    0 => x.clone(),
                    _ => Tensor::cat(vec![x.clone(), filler], 1),
                }
            };
            let out = Outputs {
                logits: Tensor::zeros([rows, tokens, 2], &device),
                mean: Tensor::cat(vec![widen(&pos), widen(&neg)], 0),
                log_std: Tensor::zeros([rows, tokens], &device),
                attention: None,
            };
            let mut steps = golden::steps(&layout, &out, bt.steps_config());
            steps.extras.margin = Some(tensor(g.data("margin"), &device));
            let result = bt.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            let check = |what: &str, got: Vec<f64>, exact: &Value| {
                close(
                    &format!("{name} {what}"),
                    &got,
                    &flat(exact),
                    tol.abs,
                    tol.rel,
                );
            };
            check("loss", values(result.loss.clone()), &want["loss"]);
            let each = (0..pairs).map(|b| {
                let (layout, out) = golden::one_pair(&layout, &out, b);
                let mut steps = golden::steps(&layout, &out, bt.steps_config());
                let margin = tensor::<1>(g.data("margin"), &device);
                steps.extras.margin = Some(margin.narrow(0, b, 1));
                golden::term(&bt.evaluate(&steps, Progress::END), "preference_loss")
            });
            check("per_pair", each.collect(), &want["per_pair"]);
            let (r_pos, r_neg) = sides(result.scores.last.clone(), pairs);
            check("r_pos", values(r_pos), &want["r_pos"]);
            check("r_neg", values(r_neg), &want["r_neg"]);
            let term = |n: &str| {
                let found = result.terms.iter().find(|(name, _)| *name == n);
                found.map(|(_, x)| values(x.clone())).unwrap_or_default()
            };
            check("accuracy", term("rewards/accuracies"), &want["accuracy"]);
            check("margin", term("rewards/margins"), &want["mean_margin"]);
            let gradients = result.loss.backward();
            // A constant on all scores changes no comparison: unless scores are centred, gradients cancel.
            let total: f64 = [&pos, &neg]
                .iter()
                .flat_map(|leaf| golden::gradient(leaf, &gradients))
                .sum();
            let centred = bt.options.center > 0.0;
            assert_eq!(total.abs() > 1e-5, centred, "{name}: {total}");
            for (what, leaf) in [("scores_pos", &pos), ("scores_neg", &neg)] {
                let got = golden::gradient(leaf, &gradients);
                close(
                    what,
                    &got,
                    &flat(&want["grad"][what]),
                    tol.grad_abs,
                    tol.grad_rel,
                );
            }
        }
    }

    #[test]
    fn golden_values_and_gradients_hold() {
        golden_values_hold_on(&Device::flex());
    }

    #[test]
    fn golden_values_and_gradients_hold_on_a_gpu() {
        if let Some(device) = golden::wgpu() {
            golden_values_hold_on(&device);
        }
    }

    #[test]
    fn large_differences_keep_loss_and_gradient() {
        let Some(g) = golden::load("bradley_terry") else {
            return;
        };
        for row in g.expected("stability")["rows"].as_array().expect("rows") {
            let number = |key: &str| row[key].as_f64().expect("number");
            let d = leaf::<1>(&json!([number("d")]), &Device::flex().autodiff());
            let loss = logistic_loss(d.clone(), 0.0);
            let gradients = loss.backward();
            close(
                "loss",
                &values(loss),
                &[number("minus_log_sigmoid")],
                1e-7,
                1e-6,
            );
            close(
                "gradient",
                &golden::gradient(&d, &gradients),
                &[number("gradient")],
                1e-7,
                1e-6,
            );
        }
    }

    #[test]
    fn on_the_sum_with_likelihood_it_is_ava_p_without_prior_and_residual() {
        let device = Device::flex();
        let (layout, out) = random_pairs(&device);
        let run = |method: &str, options: Value| {
            let objective = super::super::build(method, &options).expect("options");
            let steps = golden::steps(&layout, &out, objective.steps_config());
            scalar(&objective.evaluate(&steps, Progress::END).loss)
        };
        let bt = run(
            "bradley_terry",
            json!({"score": "sum", "likelihood_weight": 0.1}),
        );
        let ava = run("ava_p", json!({"beta": 0.1, "lambda": 0.0, "kappa": 0.0}));
        assert!((bt - ava).abs() < 1e-6, "{bt} against {ava}");
    }

    #[test]
    fn a_constant_on_every_score_changes_nothing() {
        let device = Device::flex();
        let (layout, mut out) = random_pairs(&device);
        let bt = BradleyTerry::new(&json!({"score": "mean"})).expect("options");
        let mut loss = |add: f64| {
            out.mean = out.mean.clone().add_scalar(add);
            let steps = golden::steps(&layout, &out, bt.steps_config());
            scalar(&bt.evaluate(&steps, Progress::END).loss)
        };
        assert!((loss(0.0) - loss(5.0)).abs() < 1e-5);
    }
}
