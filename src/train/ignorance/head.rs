//! Laplace's approximation over the reward head's weights: exact for the last layer, because the reward is linear in it.
//!
//! ```text
//! H = sum over pairs of c f f^T,  f = score feature(chosen) - score feature(rejected),  c: the method's curvature
//! Sigma = (H + I/s2)^-1,  std of a token = |W (feature - centre)|,  W^T W = Sigma
//! ```
//!
//! Source: Laplace-LoRA, arXiv 2308.13111, and Bayesian reward models, arXiv 2402.13210, for the last layer. What is
//! left out, and so not counted as ignorance: the trunk (held at its trained values), and terms of a loss other than the
//! preference likelihood.
//!
//! The gauge. Comparisons of last or mean scores say nothing of a constant added to every token, so ignorance about it
//! would be the prior's for ever. With these scores a token is measured against the average training token (`centre`);
//! a sum of token rewards knows the constant from answers of unequal length, and its centre is 0.

use super::features::{Features, pooled, scores_of, shares};
use crate::data::Rows;
use crate::eval::laplace::Laplace;
use crate::eval::matrix::Matrix;
use crate::objective::{Comparison, Objective, ScoreKind};
use crate::reward::{HEAD_BIAS, HEAD_WEIGHT, Layout, Steps};
use crate::train::dataset::{EncodedRow, layout};
use crate::train::forward::{Reader, TrunkStates, read_steps};
use crate::train::run::count;
use crate::train::scorer::pad_of;
use crate::train::{Scorer, TrainError, read};
use burn::tensor::{Device, Tensor, TensorData};

/// What one pass over the training pairs leaves.
#[derive(Clone, Debug)]
pub(super) struct HeadCurvature {
    /// H `[D, D]`.
    pub(super) ggn: Matrix,
    /// `[D]`; 0 where the score is a sum.
    pub(super) centre: Vec<f64>,
    /// The head's mean weights and bias `[D]`.
    pub(super) theta: Vec<f64>,
    /// log p of the training labels.
    pub(super) log_likelihood: f64,
    /// Each pair's own curvature c, in the order of the rows.
    pub(super) curvatures: Vec<f64>,
}

/// Variances of one answer's numbers, for want of data.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::train) struct AnswerVariance {
    /// Per step `[S]`, 0 outside the step mask.
    pub(in crate::train) tokens: Vec<f64>,
    /// Of the last token's mean, of the sum, of the mean.
    pub(in crate::train) last: f64,
    pub(in crate::train) sum: f64,
    pub(in crate::train) mean: f64,
    /// Of the difference of the pair's ranking scores.
    pub(in crate::train) margin: Option<f64>,
}

impl AnswerVariance {
    /// Whether every number is one.
    pub(in crate::train) fn is_finite(&self) -> bool {
        let whole = [self.last, self.sum, self.mean, self.margin.unwrap_or(0.0)];
        self.tokens.iter().chain(&whole).all(|v| v.is_finite())
    }
}

/// Refuses methods and rows around which no approximation can be taken.
pub(super) fn check(objective: &dyn Objective, rows: &[EncodedRow]) -> Result<(), TrainError> {
    let probe = Comparison {
        difference: 0.0,
        variance: 1.0,
        margin: 0.0,
        label: 1.0,
    };
    let name = objective.name();
    let refuse = |why: String| Err(TrainError::Ignorance(why));
    match objective.pair_fit(&probe) {
        None => {
            return refuse(format!(
                "`{name}`, with its switches as they are, has no preference likelihood on scores of the reward head, and Laplace's approximation needs one; an ensemble of seeds, or dropout, needs none"
            ));
        }
        Some(fit) if fit.curvature <= 0.0 => {
            return refuse(format!(
                "the preference term of `{name}` has weight 0: the labels taught it nothing that could be counted"
            ));
        }
        Some(_) => {}
    }
    if rows.is_empty() || rows.iter().any(|row| row.sides.len() != 2) {
        return refuse(
            "Laplace's approximation counts training pairs, and these rows are not (all) pairs"
                .into(),
        );
    }
    Ok(())
}

impl HeadCurvature {
    /// One pass over the pairs that trained `scorer`.
    pub(super) async fn gather(scorer: &Scorer, rows: &[EncodedRow]) -> Result<Self, TrainError> {
        let objective = scorer.objective.as_ref();
        check(objective, rows)?;
        let kind = objective.ranking_score();
        let device = &scorer.device.device;
        let theta = head_parameters(scorer).await?;
        let d = theta.len();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| rows[*row].tokens());
        let mut ggn = vec![0.0; d * d];
        let mut total = vec![0.0; d];
        let mut tokens = 0.0;
        let mut log_likelihood = 0.0;
        let mut curvatures = vec![0.0; rows.len()];
        for batch in order.chunks(scorer.batch_size.max(1)) {
            let members: Vec<&EncodedRow> = batch.iter().map(|row| &rows[*row]).collect();
            let pairs = members.len();
            let layout = layout(&members, pad_of(&scorer.model.tokenizer));
            let trunk = scorer.trunk_states(&layout).await?;
            let (steps, features) = steps_and_features(scorer, &layout, &trunk);
            let rewards = objective.token_rewards(&steps);
            let scores = scores_of(&steps, &rewards);
            let score = read(scores.get(kind)).await?;
            let variance = read(scores.variance(objective.comparison_variance())).await?;
            let answers = read(pooled(features.tokens.clone(), shares(&steps, kind))).await?;
            let all = read(features.tokens.clone().sum_dim(0).sum_dim(1)).await?;
            check_linear(&features, &rewards.mean, &theta, objective.name(), device).await?;

            total
                .iter_mut()
                .zip(&all)
                .for_each(|(t, x)| *t += f64::from(*x));
            tokens += layout.step_mask().iter().filter(|m| **m).count() as f64;
            for (k, row) in batch.iter().enumerate() {
                let comparison = Comparison {
                    difference: f64::from(score[k]) - f64::from(score[pairs + k]),
                    variance: f64::from(variance[k]) + f64::from(variance[pairs + k]),
                    margin: f64::from(members[k].margin.unwrap_or(0.0)),
                    label: f64::from(members[k].label.unwrap_or(1.0)),
                };
                let Some(fit) = objective.pair_fit(&comparison) else {
                    continue;
                };
                if !(fit.log_likelihood.is_finite() && fit.curvature.is_finite()) {
                    return Err(TrainError::NonFiniteReward {
                        id: members[k].id.clone(),
                        line: members[k].line,
                        checkpoint: scorer.provenance.checkpoint.clone(),
                    });
                }
                log_likelihood += fit.log_likelihood;
                curvatures[*row] = fit.curvature;
                let of = |side: usize| &answers[side * d..(side + 1) * d];
                let f: Vec<f64> = (of(k).iter().zip(of(pairs + k)))
                    .map(|(a, b)| f64::from(*a) - f64::from(*b))
                    .collect();
                for (i, x) in f.iter().enumerate() {
                    let scaled = fit.curvature * x;
                    let line = &mut ggn[i * d..(i + 1) * d];
                    line.iter_mut().zip(&f).for_each(|(h, y)| *h += scaled * y);
                }
            }
        }
        let centre = match kind {
            ScoreKind::Sum => vec![0.0; d],
            ScoreKind::Last | ScoreKind::Mean => {
                total.iter().map(|t| t / tokens.max(1.0)).collect()
            }
        };
        Ok(Self {
            ggn: Matrix::new(d, d, ggn)?,
            centre,
            theta,
            log_likelihood,
            curvatures,
        })
    }

    /// |theta|^2.
    pub(super) fn squared_norm(&self) -> f64 {
        self.theta.iter().map(|t| t * t).sum()
    }
}

/// The head's posterior, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct HeadPosterior {
    /// W^T `[D, D]` on the device.
    whitener: Tensor<2>,
    /// `[1, 1, D]` on the device.
    centre: Tensor<3>,
}

impl HeadPosterior {
    /// From the curvature and a prior variance.
    pub(super) fn new(
        ggn: &Matrix,
        centre: &[f64],
        prior_variance: f64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let d = centre.len();
        let posterior = Laplace::of_curvature(ggn.clone(), vec![0.0; d], 0.0, prior_variance)?;
        let whitener = posterior.whitener()?;
        let numbers = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let whitener: Tensor<2> =
            Tensor::from_data(TensorData::new(numbers(whitener.values()), [d, d]), device);
        Ok(Self {
            whitener: whitener.transpose(),
            centre: Tensor::from_data(TensorData::new(numbers(centre), [1, 1, d]), device),
        })
    }

    /// Variances of every sequence of a batch, in the layout's order.
    pub(super) async fn variances(
        &self,
        features: Features,
        steps: &Steps,
        kind: ScoreKind,
    ) -> Result<Vec<AnswerVariance>, TrainError> {
        let [rows, s, d] = features.tokens.dims();
        let outside = steps.outside.clone().unsqueeze_dim(2);
        let centred = (features.tokens - self.centre.clone()).mask_fill(outside, 0.0);
        let white = centred
            .reshape([rows * s, d])
            .matmul(self.whitener.clone())
            .reshape([rows, s, d]);
        let square = |x: Tensor<2>| -> Tensor<1> { x.square().sum_dim(1).squeeze_dim(1) };
        let of = |kind| pooled(white.clone(), shares(steps, kind));
        let tokens: Tensor<2> = white.clone().square().sum_dim(2).squeeze_dim(2);
        let tokens = read(tokens).await?;
        let last = read(square(of(ScoreKind::Last))).await?;
        let sum = read(square(of(ScoreKind::Sum))).await?;
        let mean = read(square(of(ScoreKind::Mean))).await?;
        let margin = match steps.pairs {
            Some(pairs) => {
                let scores = of(kind);
                let chosen = scores.clone().narrow(0, 0, pairs);
                read(square(chosen - scores.narrow(0, pairs, pairs))).await?
            }
            None => Vec::new(),
        };
        Ok((0..rows)
            .map(|row| AnswerVariance {
                tokens: tokens[row * s..(row + 1) * s]
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect(),
                last: f64::from(last[row]),
                sum: f64::from(sum[row]),
                mean: f64::from(mean[row]),
                margin: steps
                    .pairs
                    .and_then(|pairs| margin.get(row % pairs.max(1)))
                    .map(|v| f64::from(*v)),
            })
            .collect())
    }
}

/// Steps and features of a batch whose trunk has run.
pub(super) fn steps_and_features(
    scorer: &Scorer,
    layout: &Layout,
    trunk: &TrunkStates,
) -> (Steps, Features) {
    let device = &scorer.device.device;
    let objective = scorer.objective.as_ref();
    let reader = Reader {
        decoder: &scorer.model.decoder,
        head: &scorer.head,
        objective,
        reference: None,
    };
    let normaliser = count(std::slice::from_ref(layout));
    let steps = read_steps(reader, layout, normaliser, device, trunk.clone()).steps;
    let features = Features::of(
        &scorer.head,
        objective,
        &scorer.model.decoder,
        layout,
        trunk,
        device,
    );
    (steps, features)
}

/// The head's mean weights and bias, `[D]`.
pub(super) async fn head_parameters(scorer: &Scorer) -> Result<Vec<f64>, TrainError> {
    let weight = scorer.head.weights.matrix(HEAD_WEIGHT).narrow(1, 0, 1);
    let bias = scorer.head.weights.vector(HEAD_BIAS).narrow(0, 0, 1);
    let mut theta = read(weight).await?;
    theta.extend(read(bias).await?);
    Ok(theta.into_iter().map(f64::from).collect())
}

/// Holds feature . theta + offset against the method's own token rewards.
async fn check_linear(
    features: &Features,
    means: &Tensor<2>,
    theta: &[f64],
    method: &str,
    device: &Device,
) -> Result<(), TrainError> {
    let theta: Vec<f32> = theta.iter().map(|t| *t as f32).collect();
    let theta = Tensor::<3>::from_data(TensorData::new(theta.clone(), [1, 1, theta.len()]), device);
    let linear: Tensor<2> = (features.tokens.clone() * theta).sum_dim(2).squeeze_dim(2);
    let off = read(
        (linear + features.offset.clone() - means.clone())
            .abs()
            .max(),
    )
    .await?;
    let size = read(means.clone().abs().max()).await?;
    let (off, size) = (off[0], size[0]);
    if off <= 1e-3 * (1.0 + size) {
        return Ok(());
    }
    Err(TrainError::Ignorance(format!(
        "the token rewards of `{method}` are no linear function of its reward head (off by {off:.2e}), so a Laplace approximation of the head does not describe them; an ensemble of seeds, or dropout, needs no such thing"
    )))
}

/// The rows must be the ones that the checkpoint was trained on.
pub(super) fn check_rows(rows: &Rows, expected: &str) -> Result<(), TrainError> {
    let found = crate::data::fingerprint(rows);
    if found == expected {
        return Ok(());
    }
    Err(TrainError::Ignorance(format!(
        "these are not the rows that the run trained on (fingerprint {found}, and the run's is {expected}): ignorance counts the rows that were learned from"
    )))
}
