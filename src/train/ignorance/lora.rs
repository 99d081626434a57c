//! Laplace's approximation over adapter matrices, each by two Kronecker factors.
//!
//! ```text
//! G_i [d, r]  gradient of pair i's margin in one matrix; c_i its curvature; for B of a layer, G is transposed
//! L = sum c_i G_i G_i^T [d, d]    R = sum c_i G_i^T G_i [r, r]    H ~ (L kron R) / tr H,  tr H = tr L = tr R
//! variance of an output with gradient G = s2 |G|^2 - s2^2 vec(B^T G F)^T M^-1 vec(B^T G F),   L = B B^T, R/tr H = F F^T
//! ```
//!
//! Source: K-FAC form of Laplace-LoRA, arXiv 2308.13111 (layers, and A and B of one layer, independent). The factors are
//! the partial traces of the sum of outer products of whole gradients, scaled to its trace (as in Shampoo, arXiv
//! 1802.09568): exact where H is a Kronecker product, and weights shared over tokens need no further approximation. Where
//! d is over [`FULL`], L keeps its [`RANK`] largest directions; what is dropped counts as not learned, so ignorance is
//! never understated by it.
//!
//! One backward pass a pair to fit, and one a token to ask: the slow and plain path.

use super::head::AnswerVariance;
use crate::eval::EvalError;
use crate::eval::laplace::KfacLayer;
use crate::eval::matrix::{Cholesky, Matrix, symmetric_eigen};
use crate::model::{Decoder, Weight};
use crate::objective::ScoreKind;
use crate::reward::Steps;
use crate::train::dataset::{EncodedRow, EncodedSide, layout};
use crate::train::forward::{Reader, steps_of};
use crate::train::optimizer::{NamedGradients, collect_gradients};
use crate::train::run::count;
use crate::train::scorer::pad_of;
use crate::train::{Scorer, TrainError, read};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

/// Largest side whose factor is kept whole.
const FULL: usize = 100;
/// Directions kept of a longer side; the public code of Laplace-LoRA keeps as many.
const RANK: usize = 10;

/// Gradients of one output in every adapter matrix, `[d, r]` each (r the adapter's rank).
pub(super) type Gradients = BTreeMap<String, Matrix>;

/// The factors of one adapter matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors {
    /// B `[d, k]`.
    pub(super) large: Matrix,
    /// F `[r, r]`.
    pub(super) small: Matrix,
    /// The average training token's gradient `[d, r]`; 0 where the score is a sum.
    pub(super) centre: Matrix,
}

/// The factors while pairs are added.
#[derive(Clone, Debug)]
pub(super) struct Gathering {
    d: usize,
    r: usize,
    /// L `[d, d]` where d is at most [`FULL`].
    whole: Option<Vec<f64>>,
    /// Else columns `[d]` with L close to their sum of outer products.
    columns: Vec<Vec<f64>>,
    /// R `[r, r]`.
    small: Vec<f64>,
}

impl Gathering {
    pub(super) fn new(d: usize, r: usize) -> Self {
        Self {
            d,
            r,
            whole: (d <= FULL).then(|| vec![0.0; d * d]),
            columns: Vec::new(),
            small: vec![0.0; r * r],
        }
    }

    /// Adds c G G^T and c G^T G.
    pub(super) fn add(&mut self, gradient: &Matrix, curvature: f64) -> Result<(), EvalError> {
        let (d, r) = (self.d, self.r);
        for row in (0..d).map(|i| gradient.row(i)) {
            for (a, x) in row.iter().enumerate() {
                let line = &mut self.small[a * r..(a + 1) * r];
                line.iter_mut()
                    .zip(row)
                    .for_each(|(s, y)| *s += curvature * x * y);
            }
        }
        match &mut self.whole {
            Some(whole) => {
                for i in 0..d {
                    for j in 0..d {
                        let product = crate::eval::matrix::dot(gradient.row(i), gradient.row(j));
                        whole[i * d + j] += curvature * product;
                    }
                }
            }
            None => {
                let root = curvature.sqrt();
                let columns = (0..r).map(|a| (0..d).map(|i| root * gradient.row(i)[a]).collect());
                self.columns.extend(columns);
                if self.columns.len() > RANK + 4 * r {
                    self.compress()?;
                }
            }
        }
        Ok(())
    }

    /// Replaces the columns M by the [`RANK`] columns of M V, V the leading eigenvectors of M^T M: the best approximation
    /// of M M^T of that rank.
    fn compress(&mut self) -> Result<(), EvalError> {
        let m = self.columns.len();
        if m <= RANK {
            return Ok(());
        }
        let gram: Vec<f64> = (0..m * m)
            .map(|i| crate::eval::matrix::dot(&self.columns[i / m], &self.columns[i % m]))
            .collect();
        let (_, vectors) = symmetric_eigen(&Matrix::new(m, m, gram)?)?;
        let kept = (0..RANK).map(|k| {
            let mut column = vec![0.0; self.d];
            for (j, old) in self.columns.iter().enumerate() {
                let weight = vectors.row(k)[j];
                column
                    .iter_mut()
                    .zip(old)
                    .for_each(|(c, o)| *c += weight * o);
            }
            column
        });
        self.columns = kept.collect();
        Ok(())
    }

    /// The factors; `centre` is the average training token's gradient.
    pub(super) fn finish(mut self, centre: Matrix) -> Result<Factors, EvalError> {
        let (d, r) = (self.d, self.r);
        let trace: f64 = (0..r).map(|a| self.small[a * r + a]).sum();
        if trace <= 0.0 {
            // No pair moved this matrix: nothing was learned, the prior stays.
            return Ok(Factors {
                large: Matrix::zeros(d, 1),
                small: Matrix::zeros(r, r),
                centre,
            });
        }
        // A little on the diagonal, because few pairs leave the factors singular; far below any curvature that matters.
        let lifted = |mut values: Vec<f64>, n: usize| {
            let size: f64 = (0..n).map(|i| values[i * n + i]).sum::<f64>() / n as f64;
            (0..n).for_each(|i| values[i * n + i] += 1e-10 * size);
            Matrix::new(n, n, values)
        };
        let large = match self.whole.take() {
            Some(whole) => Cholesky::new("Kronecker factor", &lifted(whole, d)?)?.into_factor(),
            None => {
                self.compress()?;
                Matrix::from_rows(&self.columns)?.transposed()
            }
        };
        let scaled: Vec<f64> = self.small.iter().map(|v| v / trace).collect();
        let small = Cholesky::new("Kronecker factor", &lifted(scaled, r)?)?.into_factor();
        Ok(Factors {
            large,
            small,
            centre,
        })
    }
}

/// What one pass over the training pairs leaves: the factors of every adapter matrix by name, and |theta|^2 of all.
pub(super) struct LoraCurvature {
    pub(super) factors: BTreeMap<String, Factors>,
    pub(super) squared_norm: f64,
}

impl LoraCurvature {
    /// `curvatures` are those of the head's pass, a pair each.
    pub(super) async fn gather(
        scorer: &Scorer,
        rows: &[EncodedRow],
        curvatures: &[f64],
    ) -> Result<Self, TrainError> {
        let decoder = tracked(scorer)?;
        let kind = scorer.objective.ranking_score();
        let mut gathering: BTreeMap<String, Gathering> = BTreeMap::new();
        let mut centre = Gradients::new();
        let mut tokens = 0.0;
        for (row, curvature) in rows.iter().zip(curvatures) {
            let gradients = gradients_of(scorer, &decoder, &row.sides, |steps, mean| {
                let scores = (mean * super::features::shares(steps, kind)).sum_dim(1);
                scores.clone().narrow(0, 0, 1) - scores.narrow(0, 1, 1)
            })
            .await?;
            for (name, gradient) in &gradients {
                gathering
                    .entry(name.clone())
                    .or_insert_with(|| Gathering::new(gradient.rows(), gradient.cols()))
                    .add(gradient, *curvature)?;
            }
            if kind != ScoreKind::Sum {
                let all = gradients_of(scorer, &decoder, &row.sides, |steps, mean| {
                    (mean * steps.mask.clone()).sum_dim(0).sum_dim(1)
                })
                .await?;
                add(&mut centre, &all, 1.0);
            }
            tokens += row
                .sides
                .iter()
                .flat_map(|side| side.encoded.resp.iter().skip(1))
                .filter(|answer| **answer)
                .count() as f64;
        }
        let factors = gathering
            .into_iter()
            .map(|(name, gathering)| {
                let (d, r) = (gathering.d, gathering.r);
                let centre = match centre.get(&name) {
                    Some(sum) => sum.scaled(1.0 / f64::max(tokens, 1.0)),
                    None => Matrix::zeros(d, r),
                };
                Ok((name, gathering.finish(centre)?))
            })
            .collect::<Result<_, EvalError>>()?;
        let mut squared_norm = 0.0;
        if let Some(lora) = &scorer.model.decoder.lora {
            for (name, weight) in lora.weights.iter() {
                let values = weight
                    .to_host(name)
                    .await
                    .map_err(|error| TrainError::Device(error.to_string()))?;
                squared_norm += values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            }
        }
        Ok(Self {
            factors,
            squared_norm,
        })
    }
}

/// logdet(I + s2 H) of all adapter matrices.
pub(super) fn log_det(factors: &BTreeMap<String, Factors>, s2: f64) -> Result<f64, EvalError> {
    let mut sum = 0.0;
    for factors in factors.values() {
        sum += KfacLayer::new(factors.large.clone(), factors.small.clone(), s2)?.log_det();
    }
    Ok(sum)
}

/// The adapters' posterior, ready to be asked.
pub(super) struct LoraPosterior {
    layers: BTreeMap<String, (KfacLayer, Matrix)>,
    decoder: Decoder,
}

impl LoraPosterior {
    pub(super) fn new(
        scorer: &Scorer,
        factors: &BTreeMap<String, Factors>,
        prior_variance: f64,
    ) -> Result<Self, TrainError> {
        let decoder = tracked(scorer)?;
        let mut layers = BTreeMap::new();
        let weights = decoder.lora.iter().flat_map(|lora| lora.weights.iter());
        for (name, weight) in weights {
            let factors = factors.get(name).ok_or_else(|| {
                TrainError::Ignorance(format!("the Laplace file has no factors of `{name}`"))
            })?;
            let elements = factors.large.rows() * factors.small.rows();
            if elements != weight.elements() {
                return Err(TrainError::Ignorance(format!(
                    "the Laplace file's factors of `{name}` are of another size than the adapter"
                )));
            }
            let layer =
                KfacLayer::new(factors.large.clone(), factors.small.clone(), prior_variance)?;
            layers.insert(name.to_string(), (layer, factors.centre.clone()));
        }
        Ok(Self { layers, decoder })
    }

    /// Adds the adapters' variances of one row to those of its head; `answers` are the row's sides in order.
    pub(super) async fn add_to(
        &self,
        scorer: &Scorer,
        row: &EncodedRow,
        kind: ScoreKind,
        answers: &mut [AnswerVariance],
    ) -> Result<(), TrainError> {
        let mut ranked: Vec<Gradients> = Vec::new();
        for (side, answer) in row.sides.iter().zip(answers.iter_mut()) {
            let steps: Vec<usize> = (1..side.encoded.ids.len())
                .filter(|i| side.encoded.resp[*i])
                .map(|i| i - 1)
                .collect();
            let mut sum = Gradients::new();
            let mut last = Gradients::new();
            for step in &steps {
                let mut gradients = gradients_of(
                    scorer,
                    &self.decoder,
                    std::slice::from_ref(side),
                    |_, mean| mean.narrow(1, *step, 1),
                )
                .await?;
                for (name, (_, centre)) in &self.layers {
                    if let Some(gradient) = gradients.get_mut(name) {
                        *gradient = gradient.plus(centre, -1.0);
                    }
                }
                if let Some(variance) = answer.tokens.get_mut(*step) {
                    *variance += self.variance(&gradients)?;
                }
                add(&mut sum, &gradients, 1.0);
                last = gradients;
            }
            let mut mean = Gradients::new();
            add(&mut mean, &sum, 1.0 / steps.len().max(1) as f64);
            answer.last += self.variance(&last)?;
            answer.sum += self.variance(&sum)?;
            answer.mean += self.variance(&mean)?;
            ranked.push(match kind {
                ScoreKind::Last => last,
                ScoreKind::Sum => sum,
                ScoreKind::Mean => mean,
            });
        }
        if let [chosen, rejected] = ranked.as_slice() {
            let mut difference = chosen.clone();
            add(&mut difference, rejected, -1.0);
            let variance = self.variance(&difference)?;
            for answer in answers.iter_mut() {
                answer.margin = answer.margin.map(|margin| margin + variance);
            }
        }
        Ok(())
    }

    fn variance(&self, gradients: &Gradients) -> Result<f64, EvalError> {
        let mut sum = 0.0;
        for (name, gradient) in gradients {
            if let Some((layer, _)) = self.layers.get(name) {
                sum += layer.variance(gradient)?;
            }
        }
        Ok(sum)
    }
}

/// The decoder with gradients in its adapter and nowhere else.
fn tracked(scorer: &Scorer) -> Result<Decoder, TrainError> {
    let mut decoder = scorer.model.decoder.clone();
    let device = scorer.device.device.clone().autodiff();
    match &mut decoder.lora {
        Some(lora) => lora.weights = lora.weights.clone().trainable(&device, |_| true),
        None => {
            return Err(TrainError::Ignorance(
                "the run trained no adapter; fit the head alone (`--over head`)".into(),
            ));
        }
    }
    Ok(decoder)
}

/// Gradients in every adapter matrix of a number `pick`ed from the token rewards `[B, S]` of some answers.
pub(super) async fn gradients_of(
    scorer: &Scorer,
    decoder: &Decoder,
    sides: &[EncodedSide],
    pick: impl Fn(&Steps, Tensor<2>) -> Tensor<2>,
) -> Result<Gradients, TrainError> {
    let row = EncodedRow {
        id: String::new(),
        line: 0,
        prompt: String::new(),
        sides: sides.to_vec(),
        margin: None,
        strength: None,
        flipped: false,
        label: None,
    };
    let layout = layout(&[&row], pad_of(&scorer.model.tokenizer));
    let device = scorer.device.device.clone().autodiff();
    let reader = Reader {
        decoder,
        head: &scorer.head,
        objective: scorer.objective.as_ref(),
        reference: None,
    };
    let normaliser = count(std::slice::from_ref(&layout));
    let steps = steps_of(reader, &layout, normaliser, &device);
    let mean = scorer.objective.token_rewards(&steps).mean;
    let mut backward = pick(&steps, mean).sum().backward();
    let mut found = NamedGradients::new();
    if let Some(lora) = &decoder.lora {
        collect_gradients("", &lora.weights, &mut backward, &mut found);
    }
    let mut gradients = Gradients::new();
    for (name, weight) in found {
        let Weight::Matrix(tensor) = weight else {
            continue;
        };
        // B is [r, out]: its long side first, as in A [in, r].
        let tensor = if name.ends_with("lora_B.weight") {
            tensor.transpose()
        } else {
            tensor
        };
        let [d, r] = tensor.dims();
        let values = read(tensor).await?.into_iter().map(f64::from).collect();
        gradients.insert(name, Matrix::new(d, r, values)?);
    }
    Ok(gradients)
}

/// into += factor * more.
fn add(into: &mut Gradients, more: &Gradients, factor: f64) {
    for (name, gradient) in more {
        let sum = match into.remove(name) {
            Some(sum) => sum.plus(gradient, factor),
            None => gradient.scaled(factor),
        };
        into.insert(name.clone(), sum);
    }
}
