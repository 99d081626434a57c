//! DPO and close variants: the policy's log-ratio to a reference is the reward.
//!
//! ```text
//! h = [log pi(y+) - log ref(y+)] - [log pi(y-) - log ref(y-)]
//! sigmoid: -(1-e) log sigma(beta h) - e log sigma(-beta h)     ipo: (h - 1/(2 beta))^2     hinge: max(0, 1 - beta h)
//! token reward = beta (log pi - log ref)
//! ```
//!
//! Source: *Direct Preference Optimization*, arXiv 2305.18290, Eq. 7; IPO, arXiv 2310.12036, Eq. 17; github
//! eric-mitchell/direct-preference-optimization@f8b8c0f trainers.py (sum over the answer, mean over the batch).

use super::math::{row_sum, sides};
use super::options::{self, check};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores, Term,
    TokenRewards, bradley_terry::logistic_loss, reward_terms,
};
use crate::reward::{Steps, StepsConfig};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "dpo",
    title: "DPO",
    citation: "DPO, arXiv 2305.18290, Eq. 7; IPO, arXiv 2310.12036, Eq. 17",
    build: |options| Ok(Box::new(Dpo::new(options)?)),
    defaults: options::defaults::<DpoOptions>,
    variants: &[],
};

/// The form of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpoKind {
    /// Logistic; with `label_smoothing` the conservative form.
    Sigmoid,
    /// Squared distance to 1/(2 beta).
    Ipo,
    /// Hinge with margin 1.
    Hinge,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoOptions {
    /// sigmoid: the paper's.
    pub kind: DpoKind,
    /// 0.1: the usual strength (0.1 to 0.5).
    pub beta: f64,
    /// e: the share of pairs taken as labelled the wrong way round (`sigmoid` only).
    pub label_smoothing: f64,
    /// Whether the reference drops out of the loss.
    pub reference_free: bool,
    /// Whether log-probabilities are means over the answer; silently another beta for each length.
    pub length_normalised: bool,
}

impl Default for DpoOptions {
    fn default() -> Self {
        Self {
            kind: DpoKind::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            reference_free: false,
            length_normalised: false,
        }
    }
}

/// DPO with its options.
pub struct Dpo {
    options: DpoOptions,
    // alpha = beta = 1: log B is the language model's own log-probability.
    steps: StepsConfig,
}

impl Dpo {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: DpoOptions = options::parse("dpo", options)?;
        let (beta, e) = (options.beta, options.label_smoothing);
        check(
            beta.is_finite() && beta > 0.0,
            "dpo",
            "beta",
            beta,
            "above 0",
        )?;
        check(
            (0.0..=0.5).contains(&e),
            "dpo",
            "label_smoothing",
            e,
            "0 to 0.5",
        )?;
        Ok(Self {
            options,
            steps: StepsConfig::default(),
        })
    }

    /// log pi - log ref per step `[B, S]`; log pi alone where there is no reference.
    fn log_ratio(&self, steps: &Steps) -> Tensor<2> {
        match &steps.reference_log_policy {
            Some(reference) => steps.log_policy.clone() - reference.clone(),
            None => steps.log_policy.clone(),
        }
    }
}

impl Objective for Dpo {
    fn name(&self) -> &'static str {
        "dpo"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.steps
    }

    fn beta(&self) -> f64 {
        self.options.beta
    }

    fn needs_reference(&self) -> bool {
        !self.options.reference_free
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn warnings(&self) -> Vec<String> {
        if self.options.kind == DpoKind::Sigmoid || self.options.label_smoothing == 0.0 {
            return Vec::new();
        }
        vec!["label_smoothing has no effect on ipo and hinge".to_owned()]
    }

    fn ranking_score(&self) -> ScoreKind {
        match self.options.length_normalised {
            true => ScoreKind::Mean,
            false => ScoreKind::Sum,
        }
    }

    fn diagnostics(&self, _: &Steps) -> Vec<Term> {
        Vec::new()
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let (options, pairs) = (&self.options, steps.pair_count());
        let ratio = self.log_ratio(steps);
        let trained = match options.reference_free {
            true => steps.log_policy.clone(),
            false => ratio.clone(),
        };
        let mut sequence = row_sum(trained);
        if options.length_normalised {
            sequence = sequence / row_sum(steps.mask.clone()).clamp_min(1.0);
        }
        let (chosen, rejected) = sides(sequence, pairs);
        let h = chosen - rejected;
        let beta = options.beta;
        let each = match options.kind {
            DpoKind::Sigmoid => logistic_loss(h.mul_scalar(beta), options.label_smoothing),
            DpoKind::Ipo => h.sub_scalar(0.5 / beta).square(),
            DpoKind::Hinge => activation::relu(h.mul_scalar(-beta).add_scalar(1.0)),
        };
        let loss = each.sum().div_scalar(steps.counts.pairs.max(1.0));
        let rewards = ratio.detach().mul_scalar(beta);
        let scores = Scores::from_rewards(steps, rewards.clone(), rewards.zeros_like());
        let share = |x: Tensor<1>| x.sum().detach().div_scalar(steps.counts.pairs.max(1.0));
        let (pi_chosen, pi_rejected) = sides(row_sum(steps.log_policy.clone()), pairs);
        let mut terms = vec![
            ("loss", loss.clone().detach()),
            ("logps/chosen", share(pi_chosen)),
            ("logps/rejected", share(pi_rejected)),
        ];
        terms.extend(reward_terms(
            scores.get(self.ranking_score()),
            pairs,
            steps.counts,
        ));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }

    fn token_rewards(&self, steps: &Steps) -> TokenRewards {
        TokenRewards {
            mean: self.log_ratio(steps).mul_scalar(self.options.beta),
            std: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Outputs, close, flat, leaf, scalar, tensor, values};
    use super::*;
    use crate::reward::Layout;
    use burn::tensor::Device;

    /// Pairs below each other, the shorter side padded; `reference` holds the reference's logits.
    fn steps(
        g: &golden::Golden,
        dpo: &Dpo,
        device: &Device,
        same: bool,
    ) -> (Layout, Outputs, Steps) {
        let both = |key: &str, pad: f64| {
            golden::stack(
                &[g.data(&format!("{key}_pos")), g.data(&format!("{key}_neg"))],
                pad,
            )
        };
        let ids = both("ids", 0.0);
        let [rows, tokens] = golden::shape::<2>(&ids);
        let layout = golden::layout(&ids, &both("seg", 0.0), &both("resp", 1.0), Some(rows / 2));
        let zeros = Tensor::<2>::zeros([rows, tokens], device);
        let policy = Outputs {
            logits: leaf(&both("pi", 5.0), device),
            mean: zeros.clone(),
            log_std: zeros,
            attention: None,
        };
        let reference = Outputs {
            logits: tensor(&both(if same { "pi" } else { "ref" }, 5.0), device),
            ..policy.clone()
        };
        let reference = golden::steps(&layout, &reference, &dpo.steps).log_policy;
        let steps = golden::steps(&layout, &policy, &dpo.steps).with_reference(reference);
        (layout, policy, steps)
    }

    /// The part of one side, without the columns that stacking added.
    fn part(all: &[f64], rows: usize, second: bool, width: usize) -> Vec<f64> {
        let stride = all.len() / rows;
        let from = if second { rows / 2 } else { 0 };
        (from..from + rows / 2)
            .flat_map(|b| all[b * stride..b * stride + width].to_vec())
            .collect()
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("dpo") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let same = &g.expected("identities")["policy_equals_reference"];
        let cases = g
            .cases()
            .map(|(name, case)| (name.clone(), case, g.expected(name), false));
        let first = g.0["inputs"]["cases"]["sigmoid"].clone();
        for (name, case, want, same) in cases.chain([("same".to_owned(), &first, same, true)]) {
            let dpo = Dpo::new(case).expect("golden options");
            let (layout, out, steps) = steps(&g, &dpo, &device, same);
            let result = dpo.evaluate(&steps, Progress::END);
            let check = |key: &str, got: Vec<f64>| {
                if want.get(key).is_some() {
                    close(
                        &format!("{name} {key}"),
                        &got,
                        &flat(&want[key]),
                        tol.abs,
                        tol.rel,
                    );
                }
            };
            check("loss", values(result.loss.clone()));
            let each = (0..layout.rows / 2).map(|b| {
                let (layout, out) = golden::one_pair(&layout, &out, b);
                let reference = steps.reference_log_policy.clone().expect("a reference");
                let [at, other] =
                    [b, steps.pair_count() + b].map(|row| reference.clone().narrow(0, row, 1));
                let steps = golden::steps(&layout, &out, &dpo.steps)
                    .with_reference(Tensor::cat(vec![at, other], 0));
                scalar(&dpo.evaluate(&steps, Progress::END).loss)
            });
            check("per_pair", each.collect());
            let reference = steps.reference_log_policy.clone().expect("a reference");
            for (key, log_policy) in [
                ("logps", steps.log_policy.clone()),
                ("ref_logps", reference),
            ] {
                let mut sums = row_sum(log_policy);
                // The file's numbers are what the loss compares: means per token where it is normalised by length.
                if dpo.options.length_normalised {
                    sums = sums / row_sum(steps.mask.clone());
                }
                let (chosen, rejected) = sides(sums, layout.rows / 2);
                check(&format!("{key}_pos"), values(chosen));
                check(&format!("{key}_neg"), values(rejected));
            }
            if name == "sigmoid" {
                let rewards = row_sum(dpo.token_rewards(&steps).mean);
                let (chosen, rejected) = sides(rewards, layout.rows / 2);
                let sums = &g.expected("identities")["token_sum"];
                for (key, got) in [("sum_pos", chosen), ("sum_neg", rejected)] {
                    close(key, &values(got), &flat(&sums[key]), tol.abs, tol.rel);
                }
            }
            let (chosen, rejected) = sides(result.scores.get(dpo.ranking_score()), layout.rows / 2);
            check("rewards_chosen", values(chosen));
            check("rewards_rejected", values(rejected));
            let term = |n: &str| {
                let found = result.terms.iter().find(|(name, _)| *name == n);
                found.map(|(_, x)| values(x.clone())).unwrap_or_default()
            };
            check("rewards_accuracy", term("rewards/accuracies"));
            check("rewards_margin", term("rewards/margins"));
            let tokens = values(dpo.token_rewards(&steps).mean);
            let gradients = result.loss.backward();
            let gradient = golden::gradient(&out.logits, &gradients);
            for (second, suffix) in [(false, "_pos"), (true, "_neg")] {
                let [_, t, v] = golden::shape::<3>(g.data(&format!("pi{suffix}")));
                check(
                    &format!("token_reward{suffix}"),
                    part(&tokens, layout.rows, second, t - 1),
                );
                let exact = flat(&want["grad"][format!("pi{suffix}")]);
                let got = part(&gradient, layout.rows, second, t * v);
                close(
                    &format!("{name} grad"),
                    &got,
                    &exact,
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
    fn one_line_example_holds() {
        let h = tensor::<1>(&serde_json::json!([1.0]), &Device::flex());
        let loss = values(logistic_loss(h.mul_scalar(0.1), 0.0));
        close("loss", &loss, &[0.6443966600735709], 1e-6, 1e-6);
    }
}
