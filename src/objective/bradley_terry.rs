//! The Bradley-Terry reward model, on the last token's score or on the sum of all token rewards.
//!
//! ```text
//! loss = mean over pairs of -(1-e) log sigma(d - m) - e log sigma(-(d - m)) + c (r+ + r-)^2        d = r+ - r-
//!        - likelihood_weight * (mean log-likelihood of the chosen answers' tokens)
//! ```
//!
//! Source: Bradley and Terry (1952); *Training language models to follow instructions with human feedback*,
//! arXiv 2203.02155, Eq. 1. Margin m, smoothing e and centring c are the usual options of reward trainers. The sum is the
//! baseline that every claim about token rewards must beat: it localises preferences by itself.

use super::ava_config::CerScore;
use super::ava_terms::{pair_terms, row_sums, scores};
use super::numerics::log_sigmoid;
use super::{
    Evaluation, Method, Objective, ObjectiveError, Options, Progress, RowKind, ScoreKind,
    merged_defaults,
};
use crate::reward::{Steps, StepsConfig};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) const SUM: Method = Method {
    name: "bradley_terry_sum",
    title: "Bradley-Terry on the sum of token rewards",
    citation: "Training language models to follow instructions with human feedback, arXiv 2203.02155, Eq. 1, on a sum of token scores",
    build: |options| build("bradley_terry_sum", CerScore::Sum, options),
    defaults,
};

pub(super) const LAST: Method = Method {
    name: "bradley_terry",
    title: "Bradley-Terry on the last token's score",
    citation: "Training language models to follow instructions with human feedback, arXiv 2203.02155, Eq. 1",
    build: |options| build("bradley_terry", CerScore::Last, options),
    defaults,
};

/// Switches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BradleyTerryConfig {
    /// Share of the label that goes to the other answer.
    label_smoothing: f64,
    /// Weight of the square of r+ + r-, which ties the free constant down.
    center_rewards_coefficient: f64,
    /// Whether the rows' own margins count.
    use_margin: bool,
    /// Weight of the chosen answers' log-likelihood: keeps the language model near text.
    likelihood_weight: f64,
}

impl Default for BradleyTerryConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            center_rewards_coefficient: 0.0,
            use_margin: true,
            likelihood_weight: 0.0,
        }
    }
}

fn defaults() -> Value {
    merged_defaults(&[
        json!(StepsConfig::default()),
        json!(BradleyTerryConfig::default()),
    ])
}

fn build(
    method: &'static str,
    score: CerScore,
    options: &Value,
) -> Result<Box<dyn Objective>, ObjectiveError> {
    let mut options = Options::new(method, options)?;
    let steps = options.take::<StepsConfig>()?;
    let config = options.take::<BradleyTerryConfig>()?;
    options.finish()?;
    if !(0.0..=0.5).contains(&config.label_smoothing) {
        return Err(ObjectiveError::BadOption {
            method,
            reason: format!(
                "label_smoothing is {}, and must lie from 0 to 0.5",
                config.label_smoothing
            ),
        });
    }
    Ok(Box::new(BradleyTerry {
        method,
        score,
        steps,
        config,
    }))
}

struct BradleyTerry {
    method: &'static str,
    score: CerScore,
    steps: StepsConfig,
    config: BradleyTerryConfig,
}

/// Loss of each pair `[P]` from the scores `[P]` of both sides and their margins.
pub fn bradley_terry_loss(
    chosen: Tensor<1>,
    rejected: Tensor<1>,
    margin: Option<Tensor<1>>,
    label_smoothing: f64,
    center: f64,
) -> Tensor<1> {
    let mut d = chosen.clone() - rejected.clone();
    if let Some(margin) = margin {
        d = d - margin;
    }
    let mut loss = -log_sigmoid(d.clone()).mul_scalar(1.0 - label_smoothing);
    if label_smoothing > 0.0 {
        loss = loss - log_sigmoid(-d).mul_scalar(label_smoothing);
    }
    if center > 0.0 {
        loss = loss + (chosen + rejected).square().mul_scalar(center);
    }
    loss
}

impl Objective for BradleyTerry {
    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.steps
    }

    fn warnings(&self) -> Vec<String> {
        match self.score {
            CerScore::Last => vec![format!(
                "`{}` trains the last token's score: inner tokens' values are read, not trained",
                self.method
            )],
            _ => Vec::new(),
        }
    }

    fn ranking_score(&self) -> ScoreKind {
        match self.score {
            CerScore::Last => ScoreKind::Last,
            CerScore::Sum => ScoreKind::Sum,
            CerScore::Mean => ScoreKind::Mean,
        }
    }

    fn has_posterior(&self) -> bool {
        false
    }

    fn evaluate(&self, steps: &Steps, _progress: Progress) -> Evaluation {
        let [b, _] = steps.q.dims();
        let p = steps.pairs.unwrap_or(b / 2);
        let (score, _) = scores(steps, self.score);
        let margin = steps.margin.clone().filter(|_| self.config.use_margin);
        let loss = bradley_terry_loss(
            score.clone().slice([0..p]),
            score.clone().slice([p..2 * p]),
            margin,
            self.config.label_smoothing,
            self.config.center_rewards_coefficient,
        );
        let mut loss = loss.sum().div_scalar(steps.counts.pairs.max(1.0));
        let ll = row_sums(steps.log_likelihood.clone(), &steps.mask)
            .slice([0..p])
            .sum();
        let ll = ll.div_scalar(steps.counts.steps.max(1.0));
        if self.config.likelihood_weight > 0.0 {
            loss = loss - ll.clone().mul_scalar(self.config.likelihood_weight);
        }
        let mut terms = vec![("ava/ll_chosen", ll)];
        terms.extend(pair_terms(&score, p));
        Evaluation { loss, terms }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Golden};
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn every_golden_case_agrees_in_value_and_gradient() {
        golden::on_each_device(|device, tolerance| {
            let Some(golden) = Golden::open("bradley_terry") else {
                return;
            };
            for case in golden.case_names() {
                let settings = golden.case(&case);
                let side = |name: &str| {
                    let scores = golden
                        .matrix(&format!("scores_{name}"), device)
                        .require_grad();
                    let last = golden.last_valid(&format!("attn_{name}"), device);
                    let [p, _] = scores.dims();
                    ((scores.clone() * last).sum_dim(1).reshape([p]), scores)
                };
                let (chosen, leaf_chosen) = side("pos");
                let (rejected, leaf_rejected) = side("neg");
                let margin =
                    (settings["use_margin"] == true).then(|| golden.vector("margin", device));
                let loss = bradley_terry_loss(
                    chosen,
                    rejected,
                    margin,
                    settings["label_smoothing"].as_f64().unwrap(),
                    settings["center"].as_f64().unwrap(),
                )
                .mean();
                golden.check(&case, "loss", loss.clone(), tolerance);
                let leaves = vec![
                    ("scores_pos".into(), leaf_chosen),
                    ("scores_neg".into(), leaf_rejected),
                ];
                golden.check_matrix_gradients(&case, leaves, loss.backward(), tolerance);
            }
        });
    }

    #[test]
    fn a_constant_on_all_scores_changes_nothing_and_the_gradients_cancel() {
        let device = Device::flex().autodiff();
        let chosen = Tensor::<1>::from_floats([0.5, -1.0, 2.0], &device).require_grad();
        let rejected = Tensor::<1>::from_floats([-0.3, 0.2, 2.5], &device).require_grad();
        let loss = bradley_terry_loss(chosen.clone(), rejected.clone(), None, 0.0, 0.0).sum();
        let moved = bradley_terry_loss(
            chosen.clone().add_scalar(3.0),
            rejected.clone().add_scalar(3.0),
            None,
            0.0,
            0.0,
        )
        .sum();
        assert!((golden::scalar(loss.clone()) - golden::scalar(moved)).abs() < 1e-5);
        let grads = loss.backward();
        let sum = chosen.grad(&grads).unwrap() + rejected.grad(&grads).unwrap();
        assert!(golden::vector(sum).iter().all(|x| x.abs() < 1e-6));
    }

    #[test]
    fn the_one_line_value_comes_out() {
        let device = Device::flex();
        let chosen = Tensor::<1>::from_floats([0.8], &device);
        let loss = bradley_terry_loss(chosen.clone(), chosen.zeros_like(), None, 0.0, 0.0);
        assert!((golden::scalar(loss) - 0.371_100_665_947_777_7).abs() < 1e-6);
    }
}
