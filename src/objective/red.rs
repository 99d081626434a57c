//! RED trained: a sequence reward whose prefix scores are scores too, and token rewards that are their differences.
//!
//! ```text
//! r~[s] = R(prefix with token s) - R(prefix before it)                    sum_s r~[s] = R(answer) - R(prompt)
//! r^[s] = beta_c r~[s] + (1 - beta_c) [s last] R(answer)
//! loss  = mean_b [ -(1-e) log sigma(d) - e log sigma(-d) ] + prefix_weight (1/n) sum_s (R(prefix before s) - R)^2
//! d     = sum r~(+) - sum r~(-) = R(+) - R(-), as both answers have one prompt; R = R(answer), held constant; n steps
//! ```
//!
//! Source: *RED / R3HF*, arXiv 2411.08302, Eq. 3, 6-8, for r~ and r^, read off a reward model that knows full answers only.
//! The last term is ours: it asks every prefix, the empty answer included, for the score that its answer will have, so
//! that prefix scores are no longer out of distribution and r~ is by how much a token changed the expected score. With
//! `prefix_weight` 0 this is Bradley-Terry on the last token's score, read by the credit `red`.

use super::bradley_terry::logistic_loss;
use super::math::sides;
use super::options::{self, check, check_steps};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores,
    TokenRewards, Variant, reward_terms,
};
use crate::reward::{RewardRead, Rwt, Steps, StepsConfig};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "red",
    title: "RED: differences of trained prefix scores",
    citation: "RED / R3HF, arXiv 2411.08302, Eq. 3, 6-8; the prefix term is ours",
    build: |options| Ok(Box::new(Red::new(options)?)),
    defaults: options::defaults::<RedOptions>,
    variants: &[Variant {
        name: "as printed",
        options: &[("prefix_weight", "0.0")],
        note: "prefix scores of a reward model that was trained on full answers only",
    }],
};

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RedOptions {
    /// How steps are made. `reward_read` must be `next_state` and `rwt` off: a prefix's score knows that prefix.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// Weight of the prefix term.
    pub prefix_weight: f64,
    /// The share of the dense reward in a token's; 1: the paper's, 0.5 for its largest model.
    pub beta_c: f64,
    /// e: the share of pairs taken as labelled the wrong way round.
    pub label_smoothing: f64,
}

impl Default for RedOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            prefix_weight: 0.1,
            beta_c: 1.0,
            label_smoothing: 0.0,
        }
    }
}

/// RED with its options.
pub struct Red {
    options: RedOptions,
}

impl Red {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown, out of range, or keeps a prefix from having a score.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let name = "red";
        let options: RedOptions = options::parse(name, options)?;
        check_steps(&options.steps, name)?;
        let o = &options;
        let weight_fits = o.prefix_weight.is_finite() && o.prefix_weight >= 0.0;
        let unit = (0.0..=1.0).contains(&o.beta_c);
        let half = (0.0..=0.5).contains(&o.label_smoothing);
        check(
            weight_fits,
            name,
            "prefix_weight",
            o.prefix_weight,
            "0 or more",
        )?;
        check(unit, name, "beta_c", o.beta_c, "0 to 1")?;
        check(half, name, "label_smoothing", o.label_smoothing, "0 to 0.5")?;
        let refuse = |option: &str, value: &str, reason: &str| {
            Err(ObjectiveError::BadValue {
                method: name,
                option: option.into(),
                value: value.into(),
                reason: reason.into(),
            })
        };
        if o.steps.reward_read == RewardRead::State {
            return refuse(
                "reward_read",
                "state",
                "the score of a prefix is read at its last token; use next_state",
            );
        }
        if o.steps.rwt != Rwt::Off {
            return refuse(
                "rwt",
                "on",
                "reward weights look at later tokens, and a prefix's score must not; use off",
            );
        }
        Ok(Self { options })
    }

    /// r~ per step `[B, S]`, 0 outside the mask.
    fn dense(&self, steps: &Steps) -> Tensor<2> {
        (steps.mean.clone() - before(steps)) * steps.mask.clone()
    }

    /// r^ per step `[B, S]`.
    fn mixed(&self, steps: &Steps) -> Tensor<2> {
        let dense = self.dense(steps);
        if self.options.beta_c == 1.0 {
            return dense;
        }
        let sparse = steps.mean.clone() * steps.last.clone();
        dense.mul_scalar(self.options.beta_c) + sparse.mul_scalar(1.0 - self.options.beta_c)
    }
}

/// The score of the text before each step's token `[B, S]`. A run always fills it in; without it, tables of rewards that
/// start at 0.
fn before(steps: &Steps) -> Tensor<2> {
    match &steps.prefix_scores {
        Some(scores) => scores.clone(),
        None => steps.mean.zeros_like(),
    }
}

impl Objective for Red {
    fn name(&self) -> &'static str {
        "red"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn needs_prefix_scores(&self) -> bool {
        true
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn warnings(&self) -> Vec<String> {
        if self.options.prefix_weight == 0.0 {
            return vec![
                "prefix_weight 0: prefix scores are those of a model that was trained on full answers only, and so out \
                 of distribution"
                    .to_owned(),
            ];
        }
        Vec::new()
    }

    /// The sum of r~ is the sequence's score but for the prompt's, which both answers share.
    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let (options, pairs) = (&self.options, steps.pair_count());
        let end = (steps.mean.clone() * steps.last.clone()).sum_dim(1);
        let (chosen, rejected) = sides(end.clone().squeeze_dim(1), pairs);
        let mut loss = logistic_loss(chosen - rejected, options.label_smoothing)
            .sum()
            .div_scalar(steps.counts.pairs.max(1.0));
        let mut terms = vec![("preference_loss", loss.clone().detach())];
        let off = (before(steps) - end.detach()) * steps.mask.clone();
        let prefix = off.square().sum().div_scalar(steps.counts.steps.max(1.0));
        terms.push(("prefix_loss", prefix.clone().detach()));
        if options.prefix_weight > 0.0 {
            loss = loss + prefix.mul_scalar(options.prefix_weight);
        }
        let rewards = self.mixed(steps).detach();
        let scores = Scores::from_rewards(steps, rewards.clone(), rewards.zeros_like());
        terms.push(("loss", loss.clone().detach()));
        terms.extend(reward_terms(scores.sum.clone(), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }

    fn token_rewards(&self, steps: &Steps) -> TokenRewards {
        TokenRewards {
            mean: self.mixed(steps),
            std: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bradley_terry::BradleyTerry;
    use super::super::golden::{
        self, Outputs, close, flat, leaf, random_pairs, scalar, tensor, values,
    };
    use super::*;
    use crate::reward::Layout;
    use burn::tensor::{Device, Int, TensorData};
    use serde_json::json;

    /// `Steps` of head scores `[B, T]`, as a run makes them.
    fn steps_of(layout: &Layout, scores: &Tensor<2>, red: &Red) -> Steps {
        let [b, t] = scores.dims();
        let out = Outputs {
            logits: Tensor::zeros([b, t, 4], &scores.device()),
            mean: scores.clone(),
            log_std: scores.zeros_like(),
            attention: None,
        };
        let places: Vec<i64> = layout.score_places().iter().map(|p| *p as i64).collect();
        let places = Tensor::<2, Int>::from_data(TensorData::new(places, [b, t]), &scores.device());
        golden::steps(layout, &out, red.steps_config())
            .with_prefix_scores(scores.clone().gather(1, places).narrow(1, 0, t - 1))
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("red") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let resp = g.data("resp");
        let [rows, tokens] = golden::shape::<2>(resp);
        let table = |v: u32| json!(vec![vec![v; tokens]; rows]);
        let layout = golden::layout(&table(0), &table(1), resp, Some(rows / 2));
        for name in ["paper", "mixed"] {
            let case = &g.0["inputs"]["cases"][name];
            let red = Red::new(&json!({"beta_c": case["beta_c"]})).expect("golden options");
            let scores = leaf::<2>(g.data("prefix_score"), &device);
            let steps = steps_of(&layout, &scores, &red);
            let want = g.expected(name);
            // The reward of step s is that of token s+1.
            let by_step = |key: &str| {
                flat(&want[key])
                    .chunks(tokens)
                    .flat_map(|row| row[1..].to_vec())
                    .collect::<Vec<f64>>()
            };
            let dense = red.dense(&steps);
            let check = |key: &str, got: Vec<f64>, want: Vec<f64>| {
                close(&format!("{name} {key}"), &got, &want, tol.abs, tol.rel);
            };
            check("dense", values(dense.clone()), by_step("dense"));
            check(
                "combined",
                values(red.token_rewards(&steps).mean),
                by_step("combined"),
            );
            let sums = values(dense.sum_dim(1));
            check("dense_sum", sums.clone(), flat(&want["dense_sum"]));
            // Telescoping: the answer's score less the prompt's.
            let (score, offset) = (flat(&want["sequence_score"]), flat(&want["offset"]));
            let left: Vec<f64> = score.iter().zip(&offset).map(|(r, o)| r - o).collect();
            check("telescoping", sums, left);
            let gradients = red.token_rewards(&steps).mean.sum().neg().backward();
            let got = golden::gradient(&scores, &gradients);
            let exact = flat(&want["grad"]["prefix_score"]);
            close(name, &got, &exact, tol.grad_abs, tol.grad_rel);
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
    fn without_the_prefix_term_it_is_bradley_terry_on_the_last_token() {
        let device = Device::flex().autodiff();
        let (layout, out) = random_pairs(&device);
        for smoothing in [0.0, 0.2] {
            let options = json!({"prefix_weight": 0.0, "label_smoothing": smoothing});
            let red = Red::new(&options).expect("red");
            let bt = BradleyTerry::new(&json!({"label_smoothing": smoothing})).expect("bt");
            let run = |objective: &dyn Objective| {
                let scores = out.mean.clone().require_grad();
                let steps = steps_of(&layout, &scores, &red);
                let loss = objective.evaluate(&steps, Progress::END).loss;
                let gradients = loss.backward();
                let mut all = vec![scalar(&loss)];
                all.extend(golden::gradient(&scores, &gradients));
                all
            };
            close("bradley_terry", &run(&red), &run(&bt), 1e-7, 1e-6);
        }
    }

    #[test]
    fn the_prefix_term_by_hand_and_its_gradient_on_prefixes_alone() {
        let device = Device::flex().autodiff();
        let (layout, _) = random_pairs(&device);
        let red = Red::new(&json!({"prefix_weight": 2.0})).expect("red");
        let scores = leaf::<2>(
            &json!([
                [9.0, 0.5, 1.0, -1.0, 2.0],
                [9.0, -0.5, 0.0, 1.5, 9.0],
                [9.0, 0.5, 0.2, 0.4, -1.0],
                [9.0, -0.5, 0.3, 9.0, 9.0]
            ]),
            &device,
        );
        let steps = steps_of(&layout, &scores, &red);
        let evaluation = red.evaluate(&steps, Progress::END);
        // Answers start at token 2; the prefixes before their tokens against the score of their last token.
        let squares = [
            1.5f64.powi(2) + 1.0 + 9.0,
            4.0 + 2.25,
            2.25 + 1.44 + 1.96,
            0.64,
        ];
        let want = squares.iter().sum::<f64>() / 9.0;
        let term = |name: &str| {
            let found = evaluation.terms.iter().find(|(n, _)| *n == name);
            found.map(|(_, x)| scalar(x)).expect("a term")
        };
        close("prefix", &[term("prefix_loss")], &[want], 1e-6, 1e-6);
        let total = term("preference_loss") + 2.0 * want;
        close("loss", &[scalar(&evaluation.loss)], &[total], 1e-6, 1e-6);

        // The last token of row 0 is no prefix of anything: only the comparison pulls at it.
        let gradients = evaluation.loss.backward();
        let slope = golden::gradient(&scores, &gradients);
        let alone = -(1.0 / (1.0 + 3f64.exp())) / 2.0;
        close("last", &[slope[4]], &[alone], 1e-6, 1e-5);
        // Row 0's prompt: 2 w (R(prompt) - R) / n.
        close("prompt", &[slope[1]], &[2.0 * 2.0 * -1.5 / 9.0], 1e-6, 1e-5);
    }

    #[test]
    fn gradients_of_prefixes_agree_with_finite_differences() {
        let device = Device::flex().autodiff();
        let (layout, out) = random_pairs(&device);
        let red = Red::new(&json!({"prefix_weight": 0.7})).expect("red");
        let steps = steps_of(&layout, &out.mean, &red);
        let before =
            tensor::<2>(&json!(vec![vec![0.3, -0.8, 0.1, 0.9]; 4]), &device).require_grad();
        let loss = |before: Tensor<2>| {
            let steps = steps.clone().with_prefix_scores(before);
            red.evaluate(&steps, Progress::END).loss
        };
        let gradients = loss(before.clone()).backward();
        let slope = golden::gradient(&before, &gradients);
        assert!(slope.iter().any(|g| g.abs() > 1e-3));
        golden::directional(&before, &slope, 1e-2, |before| scalar(&loss(before)));
    }

    #[test]
    fn what_keeps_a_prefix_from_having_a_score_is_refused() {
        for (option, value) in [("reward_read", "state"), ("rwt", "reward")] {
            let error = Red::new(&json!({option: value})).err().expect("refused");
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(Red::new(&json!({"beta_c": 1.5})).is_err());
    }
}
