//! Max-margin inverse reinforcement learning between samples of a good and of a bad policy: aligned answers against a base
//! model's, say.
//!
//! ```text
//! d = r(good) - r(bad);   max_margin: -d if d > 0 else -2d     squared: d^2     logistic: -log sigma(d)
//!                         hinge: max(0, 1 - d)                 loss = mean
//! ```
//!
//! The two sample sets need not be of one size, nor answer the same prompts: a step draws as many answers from the one as
//! from the other, independently, and the loss is their mean over independent (good, bad) draws. Preference pairs are taken
//! as they are, chosen against rejected.
//!
//! Source: *Insights from the Inverse*, arXiv 2410.12491; github ai4ai-lab/irl_for_llms@1597c93 src/irl_utilities.py.
//! At d = 0 the slope is -2: the public code's +1 there pushes the wrong way.

use super::comparison::{self, Comparison, PairFit};
use super::math::sides;
use super::options::{self, check_steps};
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
    name: "irl_margin",
    title: "Max-margin IRL",
    citation: "Insights from the Inverse, arXiv 2410.12491",
    build: |options| Ok(Box::new(IrlMargin::new(options)?)),
    defaults: options::defaults::<IrlMarginOptions>,
    variants: &[],
};

/// The form of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarginKind {
    /// -d, doubled where the order is wrong; unbounded.
    MaxMargin,
    /// d^2.
    Squared,
    /// -log sigma(d).
    Logistic,
    /// max(0, 1 - d).
    Hinge,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IrlMarginOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// max_margin: the paper's main form.
    pub kind: MarginKind,
    /// last: the public code reads the last position.
    pub score: ScoreKind,
}

impl Default for IrlMarginOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            kind: MarginKind::MaxMargin,
            score: ScoreKind::Last,
        }
    }
}

/// Max-margin IRL with its options.
pub struct IrlMargin {
    options: IrlMarginOptions,
}

impl IrlMargin {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: IrlMarginOptions = options::parse("irl_margin", options)?;
        check_steps(&options.steps, "irl_margin")?;
        Ok(Self { options })
    }
}

/// The loss per pair from score differences d, any shape.
pub fn margin_loss<const D: usize>(kind: MarginKind, d: Tensor<D>) -> Tensor<D> {
    match kind {
        MarginKind::MaxMargin => {
            let right = d.clone().greater_elem(0.0);
            d.clone().mul_scalar(-2.0).mask_where(right, d.neg())
        }
        MarginKind::Squared => d.square(),
        MarginKind::Logistic => activation::log_sigmoid(d).neg(),
        MarginKind::Hinge => activation::relu(d.neg().add_scalar(1.0)),
    }
}

impl Objective for IrlMargin {
    fn name(&self) -> &'static str {
        "irl_margin"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn takes_unpaired(&self) -> bool {
        true
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn warnings(&self) -> Vec<String> {
        let sentence = match self.options.kind {
            MarginKind::MaxMargin => {
                "max_margin has no margin and no bound: stop early or choose hinge or logistic"
            }
            MarginKind::Squared => "squared pulls the two scores together, whichever is better",
            MarginKind::Logistic | MarginKind::Hinge => return Vec::new(),
        };
        vec![sentence.to_owned()]
    }

    fn ranking_score(&self) -> ScoreKind {
        self.options.score
    }

    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        (self.options.kind == MarginKind::Logistic)
            .then(|| comparison::logistic(pair.difference, 0.0))
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let pairs = steps.pair_count();
        let scores = Scores::of(steps);
        let (good, bad) = sides(scores.get(self.options.score), pairs);
        let loss = margin_loss(self.options.kind, good - bad)
            .sum()
            .div_scalar(steps.counts.pairs.max(1.0));
        let scores = scores.detach();
        let mut terms = vec![("loss", loss.clone().detach())];
        terms.extend(reward_terms(
            scores.get(self.options.score),
            pairs,
            steps.counts,
        ));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Outputs, close, flat, leaf, values};
    use super::*;
    use burn::tensor::Device;
    use serde_json::json;

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("irl_margin") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let n = golden::shape::<1>(g.data("r_pos"))[0];
        let column = |v: f64| json!(vec![vec![1.0, v]; 2 * n]);
        let layout = golden::layout(
            &column(0.0),
            &column(1.0),
            &json!(vec![vec![0, 1]; 2 * n]),
            Some(n),
        );
        for (name, case) in g.cases() {
            let method = IrlMargin::new(case).expect("golden options");
            let (pos, neg) = (
                leaf::<1>(g.data("r_pos"), &device),
                leaf::<1>(g.data("r_neg"), &device),
            );
            let both: Tensor<2> = Tensor::cat(vec![pos.clone(), neg.clone()], 0).unsqueeze_dim(1);
            let out = Outputs {
                logits: Tensor::zeros([2 * n, 2, 2], &device),
                mean: Tensor::cat(vec![both.zeros_like(), both], 1),
                log_std: Tensor::zeros([2 * n, 2], &device),
                attention: None,
            };
            let steps = golden::steps(&layout, &out, method.steps_config());
            let result = method.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            close(
                name,
                &values(result.loss.clone()),
                &flat(&want["loss"]),
                tol.abs,
                tol.rel,
            );
            let each = values(margin_loss(method.options.kind, pos.clone() - neg.clone()));
            close(name, &each, &flat(&want["per_pair"]), tol.abs, tol.rel);
            let gradients = result.loss.backward();
            for (key, leaf) in [("r_pos", &pos), ("r_neg", &neg)] {
                let got = golden::gradient(leaf, &gradients);
                close(
                    name,
                    &got,
                    &flat(&want["grad"][key]),
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
    fn a_constant_on_both_rewards_changes_nothing() {
        let device = Device::flex();
        let (layout, out) = golden::random_pairs(&device);
        for kind in ["max_margin", "squared", "logistic", "hinge"] {
            let method = IrlMargin::new(&json!({"kind": kind, "score": "mean"})).expect("options");
            let loss = |add: f64| {
                let out = Outputs {
                    mean: out.mean.clone().add_scalar(add),
                    ..out.clone()
                };
                let steps = golden::steps(&layout, &out, method.steps_config());
                values(method.evaluate(&steps, Progress::END).loss)[0]
            };
            let (a, b) = (loss(0.0), loss(3.0));
            assert!((a - b).abs() < 1e-5, "{kind}: {a} and {b}");
        }
    }

    #[test]
    fn a_tie_pushes_the_good_text_up() {
        let d = leaf::<1>(&json!([0.0, 0.4, -0.2]), &Device::flex().autodiff());
        let loss = margin_loss(MarginKind::MaxMargin, d.clone());
        close("loss", &values(loss.clone()), &[0.0, -0.4, 0.4], 1e-6, 0.0);
        let gradients = loss.backward();
        close(
            "slope",
            &golden::gradient(&d, &gradients),
            &[-2.0, -1.0, -2.0],
            0.0,
            0.0,
        );
    }
}
