//! Token supervision: good tokens up, bad tokens down, from labels of single tokens.
//!
//! ```text
//! pair = -[ sum_{U+} log sigma(r) + sum_{U-} log sigma(-r) ] / (|U+| + |U-|) + keep_weight mean_{unlabelled} r^2
//! loss = mean over the pairs with any label
//! ```
//!
//! U+ and U- come from the smallest edit that turns the rejected answer into the chosen one ([`align`](crate::data::align)) or from labelled
//! spans. Source: idea of *Aligning LLMs via Fine-grained Supervision*, arXiv 2406.02756; the formula is our
//! reconstruction, since the paper's equations were not available to us.

use super::math::{row_sum, sides};
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
    name: "fine_grained",
    title: "Token supervision",
    citation: "after Fine-grained Supervision, arXiv 2406.02756",
    build: |options| Ok(Box::new(FineGrained::new(options)?)),
    defaults: options::defaults::<FineGrainedOptions>,
    variants: &[],
};

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FineGrainedOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// Weight that pulls unlabelled tokens to 0. 0: they are left alone.
    pub keep_weight: f64,
}

impl Default for FineGrainedOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            keep_weight: 0.0,
        }
    }
}

/// Token supervision with its options.
pub struct FineGrained {
    options: FineGrainedOptions,
}

impl FineGrained {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: FineGrainedOptions = options::parse("fine_grained", options)?;
        check_steps(&options.steps, "fine_grained")?;
        let w = options.keep_weight;
        let ok = w.is_finite() && w >= 0.0;
        check(ok, "fine_grained", "keep_weight", w, "0 or more")?;
        Ok(Self { options })
    }
}

impl Objective for FineGrained {
    fn name(&self) -> &'static str {
        "fine_grained"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn needs_edit_labels(&self) -> bool {
        true
    }

    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Mean
    }

    /// Reads [`Extras::token_labels`](crate::reward::Extras) and `labelled_pairs`; without labels the loss is 0.
    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let pairs = steps.pair_count();
        let labels = match &steps.extras.token_labels {
            Some(labels) => labels.clone() * steps.mask.clone(),
            None => steps.mask.zeros_like(),
        };
        let labelled = labels.clone().abs();
        // sigma(r) for a good token, sigma(-r) for a bad one: sigma(label r).
        let fit = activation::log_sigmoid(labels * steps.mean.clone()) * labelled.clone();
        let keep = steps.mask.clone() - labelled.clone();
        let off = steps.mean.clone().square() * keep.clone();
        let both = |x: Tensor<2>| {
            let (chosen, rejected) = sides(row_sum(x), pairs);
            chosen + rejected
        };
        let count = both(labelled);
        let per_pair = both(fit).neg() / count.clone().clamp_min(1.0);
        let pull = both(off) / both(keep).clamp_min(1.0);
        let has = count.greater_elem(0.0).float();
        let total = (per_pair + pull.mul_scalar(self.options.keep_weight)) * has.clone();
        let loss = match steps.extras.labelled_pairs {
            Some(pairs) => total.sum().div_scalar(pairs.max(1.0)),
            None => total.sum() / has.sum().clamp_min(1.0),
        };
        let scores = Scores::of(steps).detach();
        let mut terms = vec![("loss", loss.clone().detach())];
        terms.extend(reward_terms(scores.mean.clone(), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Outputs, close, flat, leaf, random_pairs, scalar, values};
    use super::*;
    use burn::tensor::{Device, TensorData};
    use serde_json::json;

    fn answers(ids: &Value, attended: &Value) -> Vec<Vec<u32>> {
        let width = golden::shape::<2>(ids)[1];
        let (ids, attended) = (flat(ids), flat(attended));
        let rows = ids.chunks(width).zip(attended.chunks(width));
        rows.map(|(ids, on)| {
            let kept = ids.iter().zip(on).filter(|(_, on)| **on == 1.0);
            kept.map(|(id, _)| *id as u32).collect()
        })
        .collect()
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("fine_grained") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let original = answers(g.data("ids_orig"), g.data("attn_orig"));
        let edited = answers(g.data("ids_edit"), g.data("attn_edit"));
        let attended = golden::stack(&[g.data("attn_edit"), g.data("attn_orig")], 0.0);
        let [rows, tokens] = golden::shape::<2>(&attended);
        let pairs = rows / 2;
        // Labels from the alignment that training uses: edited answers are the chosen rows.
        let mut labels = vec![0f32; rows * tokens];
        for b in 0..pairs {
            let edit = crate::data::align(&original[b], &edited[b]).expect("small");
            let distance = flat(&g.expected("edit_distance")[b])[0];
            assert_eq!(edit.distance as f64, distance);
            for at in &edit.inserted_or_substituted {
                labels[b * tokens + at] = 1.0;
            }
            for at in &edit.deleted_or_substituted {
                labels[(pairs + b) * tokens + at] = -1.0;
            }
            // A substitution marks a token on both sides and counts once.
            let substitutions = (edit.ops.iter())
                .filter(|op| matches!(op, crate::data::Op::Substitute { .. }))
                .count();
            let marked = edit.inserted_or_substituted.len() + edit.deleted_or_substituted.len();
            assert_eq!(marked, edit.distance + substitutions);
        }
        // A prompt token before each answer, so that position i of the file is step i.
        let before = |value: &Value, first: f64| {
            let rows = value.as_array().expect("rows").iter().map(|row| {
                let mut row = row.as_array().expect("row").clone();
                row.insert(0, json!(first));
                Value::Array(row)
            });
            Value::Array(rows.collect())
        };
        let (seg, resp) = (before(&attended, 1.0), before(&attended, 0.0));
        let layout = golden::layout(&resp, &seg, &resp, Some(pairs));
        let values_of = golden::stack(&[g.data("r_edit"), g.data("r_orig")], 7.0);
        for (name, case) in g.cases() {
            let method = FineGrained::new(case).expect("golden options");
            let r = leaf::<2>(&before(&values_of, 3.0), &device);
            let out = Outputs {
                logits: Tensor::zeros([rows, tokens + 1, 2], &device),
                mean: r.clone(),
                log_std: Tensor::zeros([rows, tokens + 1], &device),
                attention: None,
            };
            let mut steps = golden::steps(&layout, &out, method.steps_config());
            let labels = TensorData::new(labels.clone(), [rows, tokens]);
            let labels = Tensor::<2>::from_data(labels, &device);
            steps.extras.token_labels = Some(labels.clone());
            let result = method.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            // A pair alone: its labels' part and its pull; nothing where no token is labelled.
            let each: Vec<f64> = (0..pairs)
                .map(|b| {
                    let (layout, out) = golden::one_pair(&layout, &out, b);
                    let mut steps = golden::steps(&layout, &out, method.steps_config());
                    let of = |row| labels.clone().narrow(0, row, 1);
                    steps.extras.token_labels = Some(Tensor::cat(vec![of(b), of(pairs + b)], 0));
                    scalar(&method.evaluate(&steps, Progress::END).loss)
                })
                .collect();
            let exact: Vec<f64> = (flat(&want["per_pair"]).iter())
                .zip(flat(&want["keep_penalty"]))
                .zip(flat(&want["n_edit"]))
                .map(|((fit, pull), labelled)| match labelled > 0.0 {
                    true => fit + method.options.keep_weight * pull,
                    false => 0.0,
                })
                .collect();
            close("per_pair", &each, &exact, tol.abs, tol.rel);
            close(
                name,
                &values(result.loss.clone()),
                &flat(&want["loss"]),
                tol.abs,
                tol.rel,
            );
            let gradients = result.loss.backward();
            let gradient = golden::gradient(&r, &gradients);
            for (from, key) in [(0, "r_edit"), (pairs, "r_orig")] {
                let width = golden::shape::<2>(g.data(key))[1];
                let got: Vec<f64> = (from..from + pairs)
                    .flat_map(|b| {
                        let at = b * (tokens + 1) + 1;
                        gradient[at..at + width].to_vec()
                    })
                    .collect();
                close(
                    key,
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
    fn at_zero_the_loss_is_log_two_and_without_labels_nothing() {
        let device = Device::flex();
        let (layout, mut out) = random_pairs(&device);
        out.mean = out.mean.zeros_like();
        let method = FineGrained::new(&json!({})).expect("options");
        let mut steps = golden::steps(&layout, &out, method.steps_config());
        assert_eq!(scalar(&method.evaluate(&steps, Progress::END).loss), 0.0);
        steps.extras.token_labels = Some(steps.last.clone());
        let loss = scalar(&method.evaluate(&steps, Progress::END).loss);
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6);
    }
}
