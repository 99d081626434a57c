//! Preference Transformer: the return is an attention-weighted mean of token rewards.
//!
//! ```text
//! return = sum_t w_t r_t        (pool mean; sum: L times that)           w from `reward::attention_received`
//! loss   = mean_b [ -y log sigma(d) - (1-y) log sigma(-d) ]              d = return+ - return-, y in {1, 0, 0.5}
//! ```
//!
//! Source: *Preference Transformer*, arXiv 2303.00957, section 4; github csmile-1006/PreferenceTransformer@f71647b.
//! y is the row's own label (column `preference` or `label`: 1 chosen is better, 0 rejected is, 0.5 a tie), 1 where it has none.
//! Weights are those of the answer's steps, by queries and keys of a layer of its own; `rwt_causal` hides later tokens from a
//! query and `rwt_sqrt_d` divides by the root of their width, as the two forms of the code do. Without any weights all steps
//! weigh the same. The token reward shown is w_t r_t
//! times the answer's length, which has the scale of r_t (ours; the code's own token reward is r_t).

use super::comparison::{self, Comparison, PairFit};
use super::math::{row_sum, sides};
use super::options::{self, check_steps};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores,
    TokenRewards, reward_terms,
};
use crate::reward::{RewardRead, Rwt, Steps, StepsConfig};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "pref_transformer",
    title: "Preference Transformer",
    citation: "Preference Transformer, arXiv 2303.00957, section 4",
    build: |options| Ok(Box::new(PrefTransformer::new(options)?)),
    defaults: options::defaults::<PrefTransformerOptions>,
    variants: &[],
};

/// How weighted rewards become a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Weights sum to 1: length earns nothing.
    Mean,
    /// Weights sum to the length.
    Sum,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefTransformerOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// mean: the paper's, and indifferent to length.
    pub pool: Pool,
}

impl Default for PrefTransformerOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            pool: Pool::Mean,
        }
    }
}

/// Preference Transformer with its options.
pub struct PrefTransformer {
    options: PrefTransformerOptions,
}

impl PrefTransformer {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: PrefTransformerOptions = options::parse("pref_transformer", options)?;
        check_steps(&options.steps, "pref_transformer")?;
        let refuse = |option: &str, value: &str, reason: &str| {
            Err(ObjectiveError::BadValue {
                method: "pref_transformer",
                option: option.into(),
                value: value.into(),
                reason: reason.into(),
            })
        };
        if options.steps.reward_read == RewardRead::State {
            return refuse(
                "reward_read",
                "state",
                "a token's weight is read behind it, and so must its reward be; use next_state",
            );
        }
        if options.steps.rwt != Rwt::Off {
            return refuse(
                "rwt",
                "on",
                "this method weighs rewards itself, with the same queries and keys; use off",
            );
        }
        Ok(Self { options })
    }

    /// L w_t r_t per step `[B, S]`: its mean over the steps is the pooled mean, its sum the pooled sum.
    fn weighted(&self, steps: &Steps) -> Tensor<2> {
        let weights = match &steps.attention {
            Some(weights) => weights.clone(),
            None => return steps.mean.clone(),
        };
        let lengths = steps.mask.clone().sum_dim(1);
        // Weights that also covered the prompt are spread over the answer alone.
        let total = weights.clone().sum_dim(1).clamp_min(1e-9);
        steps.mean.clone() * weights * (lengths / total)
    }
}

impl Objective for PrefTransformer {
    fn name(&self) -> &'static str {
        "pref_transformer"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn needs_attention(&self) -> bool {
        true
    }

    fn reads_label(&self) -> bool {
        true
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn ranking_score(&self) -> ScoreKind {
        match self.options.pool {
            Pool::Mean => ScoreKind::Mean,
            Pool::Sum => ScoreKind::Sum,
        }
    }

    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        Some(comparison::logistic(pair.difference, 1.0 - pair.label))
    }

    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let pairs = steps.pair_count();
        let weighted = self.weighted(steps);
        let mut returns = row_sum(weighted.clone());
        if self.options.pool == Pool::Mean {
            returns = returns / row_sum(steps.mask.clone()).clamp_min(1.0);
        }
        let (chosen, rejected) = sides(returns, pairs);
        let d = chosen - rejected;
        let right = activation::log_sigmoid(d.clone());
        let each = match &steps.extras.label {
            Some(y) => {
                let wrong = activation::log_sigmoid(d.neg());
                y.clone() * right + (y.clone().neg().add_scalar(1.0)) * wrong
            }
            None => right,
        };
        let loss = each.sum().neg().div_scalar(steps.counts.pairs.max(1.0));
        let weighted = weighted.detach();
        let scores = Scores::from_rewards(steps, weighted.clone(), weighted.zeros_like());
        let mut terms = vec![("loss", loss.clone().detach())];
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
            mean: self.weighted(steps),
            std: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Outputs, close, flat, leaf, tensor, values};
    use super::*;
    use crate::reward::attention_received;
    use burn::tensor::{Device, TensorData};
    use serde_json::json;

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("pref_transformer") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let attended = golden::stack(&[g.data("attn_pos"), g.data("attn_neg")], 0.0);
        let [rows, tokens] = golden::shape::<2>(&attended);
        // A token before the first one, so that position i of the file is step i.
        let before = |value: &Value, first: f64| {
            let rows = value.as_array().expect("rows").iter().map(|row| {
                let mut row = row.as_array().expect("row").clone();
                row.insert(0, json!(first));
                Value::Array(row)
            });
            Value::Array(rows.collect())
        };
        let (seg, resp) = (before(&attended, 1.0), before(&attended, 0.0));
        let layout = golden::layout(&resp, &seg, &resp, Some(rows / 2));
        let valid: Vec<bool> = flat(&attended).iter().map(|x| *x == 1.0).collect();
        let segments: Vec<u32> = valid.iter().map(|v| u32::from(*v)).collect();
        for (name, case) in g.cases() {
            let method = PrefTransformer::new(&json!({"pool": case["pool"]})).expect("options");
            let stacked = |key: &str| {
                golden::stack(
                    &[g.data(&format!("{key}_pos")), g.data(&format!("{key}_neg"))],
                    9.0,
                )
            };
            let (query, key) = (
                leaf::<3>(&stacked("att_q"), &device),
                leaf::<3>(&stacked("att_k"), &device),
            );
            let value = leaf::<2>(&stacked("value"), &device);
            let w = attention_received(
                query.clone(),
                key.clone(),
                &segments,
                &valid,
                case["causal"] == true,
                case["scale"].as_f64().expect("scale"),
            );
            let prompt =
                Tensor::<2>::from_data(TensorData::new(vec![7f32; rows], [rows, 1]), &device);
            let out = Outputs {
                logits: Tensor::zeros([rows, tokens + 1, 2], &device),
                mean: Tensor::cat(vec![prompt, value.clone()], 1),
                log_std: Tensor::zeros([rows, tokens + 1], &device),
                attention: None,
            };
            let mut steps =
                golden::steps(&layout, &out, method.steps_config()).with_attention(w.clone());
            steps.extras.label = Some(tensor(g.data("label"), &device));
            let result = method.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            let check = |key: &str, got: Vec<f64>| {
                close(
                    &format!("{name} {key}"),
                    &got,
                    &flat(&want[key]),
                    tol.abs,
                    tol.rel,
                );
            };
            check("loss", values(result.loss.clone()));
            let (chosen, rejected) = sides(result.scores.get(method.ranking_score()), rows / 2);
            check("return_pos", values(chosen));
            check("return_neg", values(rejected));
            let gradients = result.loss.backward();
            let (w, q, k, v) = (
                values(w),
                golden::gradient(&query, &gradients),
                golden::gradient(&key, &gradients),
                golden::gradient(&value, &gradients),
            );
            for (from, suffix) in [(0, "_pos"), (rows / 2, "_neg")] {
                let [_, t, width] = golden::shape::<3>(g.data(&format!("att_q{suffix}")));
                let cut = |all: &[f64], keep: usize| -> Vec<f64> {
                    let stride = all.len() / rows;
                    (from..from + rows / 2)
                        .flat_map(|b| all[b * stride..b * stride + keep].to_vec())
                        .collect()
                };
                check(&format!("weight{suffix}"), cut(&w, t));
                for (key, got) in [
                    ("att_q", cut(&q, t * width)),
                    ("att_k", cut(&k, t * width)),
                    ("value", cut(&v, t)),
                ] {
                    let exact = flat(&want["grad"][format!("{key}{suffix}")]);
                    close(
                        &format!("{name} grad {key}"),
                        &got,
                        &exact,
                        tol.grad_abs,
                        tol.grad_rel,
                    );
                }
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
    fn weights_sum_to_one_and_keys_of_zero_give_the_plain_mean() {
        let device = Device::flex();
        let wave = |by: f32| -> Vec<f32> { (0..20).map(|i| (i as f32 * by).sin() * 2.0).collect() };
        let of = |numbers: Vec<f32>| {
            Tensor::<3>::from_data(TensorData::new(numbers, [2, 5, 2]), &device)
        };
        let segments = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0];
        let valid: Vec<bool> = segments.iter().map(|s| *s == 1).collect();
        let received =
            |k: Tensor<3>| attention_received(of(wave(0.9)), k, &segments, &valid, false, 1.0);
        for (row, sum) in values(received(of(wave(1.7))).sum_dim(1))
            .iter()
            .enumerate()
        {
            assert!((sum - 1.0).abs() < 1e-6, "row {row}: {sum}");
        }
        // The specification's example: two tokens, keys of zero, rewards 1 and 3.
        let method = PrefTransformer::new(&json!({})).expect("options");
        let layout = golden::layout(
            &json!([[0, 0, 0], [0, 0, 0]]),
            &json!([[1, 1, 1], [1, 1, 1]]),
            &json!([[0, 1, 1], [0, 1, 1]]),
            Some(1),
        );
        let out = Outputs {
            logits: Tensor::zeros([2, 3, 2], &device),
            mean: tensor(&json!([[9.0, 1.0, 3.0], [9.0, 1.0, 3.0]]), &device),
            log_std: Tensor::zeros([2, 3], &device),
            attention: None,
        };
        let zero = Tensor::<3>::zeros([2, 2, 2], &device);
        let query = of(wave(0.9)).narrow(1, 0, 2);
        let even = attention_received(query, zero, &[1; 4], &[true; 4], false, 1.0);
        close("weights", &values(even.clone()), &[0.5; 4], 1e-6, 0.0);
        let steps = golden::steps(&layout, &out, method.steps_config()).with_attention(even);
        let result = method.evaluate(&steps, Progress::END);
        close(
            "return",
            &values(result.scores.mean),
            &[2.0, 2.0],
            1e-6,
            0.0,
        );
    }
}
