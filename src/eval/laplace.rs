//! Laplace's approximation of a Bradley-Terry reward model (arXiv 2402.13210; Laplace-LoRA, arXiv 2308.13111): the
//! host's linear algebra. Jacobians come from the model; here they become variances, evidence and probabilities.
//!
//! Around the trained parameters the posterior is N(theta, Sigma), Sigma = (H + I/s2)^-1, H = sum over pairs of
//! p (1-p) f f^T with f = J+ - J- (a sum, not a mean). A variance of a *single* score holds an offset that all answers
//! to a prompt share; for comparing two answers use [`Laplace::compare`].

use super::gaussian::{log_sigmoid, mackay_probability, sigmoid};
use super::matrix::{Cholesky, Matrix, dot};
use super::{EvalError, check_lengths, check_values};

/// The generalised Gauss-Newton matrix H `[D, D]` of `differences` `[N, D]` at margins `[N]`.
///
/// # Errors
/// One margin a pair is needed, all finite.
pub fn gauss_newton(differences: &Matrix, margins: &[f64]) -> Result<Matrix, EvalError> {
    let scaled = scaled_differences(differences, margins)?;
    scaled.transposed().times(&scaled)
}

/// Rows sqrt(p(1-p)) f, so that H = R^T R.
fn scaled_differences(differences: &Matrix, margins: &[f64]) -> Result<Matrix, EvalError> {
    if differences.rows() != margins.len() {
        let (first_len, second_len) = (differences.rows(), margins.len());
        return Err(EvalError::Lengths {
            first: "pairs",
            first_len,
            second: "margins",
            second_len,
        });
    }
    check_values("margins", margins)?;
    let mut out = differences.clone();
    for (i, m) in margins.iter().enumerate() {
        let weight = (sigmoid(*m) * sigmoid(-m)).sqrt();
        for j in 0..differences.cols() {
            *out.at(i, j) *= weight;
        }
    }
    Ok(out)
}

/// Posterior over the parameters of a reward that is linear in them (or linearised).
#[derive(Clone, Debug)]
pub struct Laplace {
    theta: Vec<f64>,
    prior_variance: f64,
    log_likelihood: f64,
    ggn: Matrix,
    precision: Cholesky,
}

/// Mean and variance of a score, or of a difference of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predictive {
    /// Mean.
    pub mean: f64,
    /// Variance.
    pub variance: f64,
}

impl Predictive {
    /// P(chosen better) when this is the difference of two scores: [`mackay_probability`].
    pub fn probability(&self) -> f64 {
        mackay_probability(self.mean, self.variance)
    }
}

impl Laplace {
    /// Fits the most probable theta of r(x) = J(x) . theta by Newton's method on `differences` `[N, D]`, under the prior
    /// N(0, s2 I), and takes the curvature there.
    ///
    /// # Errors
    /// No pairs, s2 not positive, no convergence in 200 steps.
    pub fn fit(differences: &Matrix, prior_variance: f64) -> Result<Self, EvalError> {
        check_prior(prior_variance)?;
        if differences.rows() == 0 || differences.cols() == 0 {
            return Err(EvalError::Empty {
                what: "differences",
            });
        }
        let mut theta = vec![0.0; differences.cols()];
        let (mut value, mut worst) = (
            log_posterior(differences, &theta, prior_variance),
            f64::INFINITY,
        );
        for _ in 0..200 {
            let margins = margins(differences, &theta);
            let pulls: Vec<f64> = margins.iter().map(|m| sigmoid(-m)).collect();
            let mut gradient: Vec<f64> = theta.iter().map(|t| -t / prior_variance).collect();
            for (i, pull) in pulls.iter().enumerate() {
                gradient
                    .iter_mut()
                    .zip(differences.row(i))
                    .for_each(|(g, f)| *g += pull * f);
            }
            worst = gradient.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            let scale = 1.0
                + differences
                    .values()
                    .iter()
                    .fold(0.0f64, |a, v| a.max(v.abs()))
                    * differences.rows() as f64;
            if worst <= 1e-14 * scale {
                break;
            }
            let precision =
                posterior_precision(&gauss_newton(differences, &margins)?, prior_variance)?;
            let step = precision.solve(&gradient)?;
            // Halving keeps Newton from overshooting on the flat ends of the logistic.
            let mut length = 1.0;
            let moved = loop {
                let candidate: Vec<f64> = theta
                    .iter()
                    .zip(&step)
                    .map(|(t, s)| t + length * s)
                    .collect();
                let v = log_posterior(differences, &candidate, prior_variance);
                // Near the optimum a good step changes the value by less than its rounding.
                if v >= value - 1e-12 * (1.0 + value.abs()) {
                    break Some((candidate, v));
                }
                length /= 2.0;
                if length < 1e-10 {
                    break None;
                }
            };
            // No higher value is representable: this is the optimum to rounding.
            let Some((candidate, v)) = moved else { break };
            let still = candidate == theta;
            (theta, value) = (candidate, v);
            if still {
                break;
            }
        }
        let largest_row = (0..differences.rows())
            .map(|i| dot(differences.row(i), differences.row(i)).sqrt())
            .fold(1.0, f64::max);
        if worst > 1e-8 * largest_row {
            return Err(EvalError::NotConverged {
                what: "Laplace MAP",
                steps: 200,
                gradient: worst,
            });
        }
        Self::at(differences, theta, prior_variance)
    }

    /// Curvature at given parameters, for a linear reward whose theta was trained elsewhere.
    ///
    /// # Errors
    /// Sizes that do not match, values that are not finite, s2 not positive.
    pub fn at(
        differences: &Matrix,
        theta: Vec<f64>,
        prior_variance: f64,
    ) -> Result<Self, EvalError> {
        check_values("theta", &theta)?;
        check_lengths("theta", &theta, "feature columns", differences.row(0))?;
        let margins = margins(differences, &theta);
        Self::linearised(differences, &margins, theta, prior_variance)
    }

    /// Curvature of a network: Jacobian differences `[N, D]`, its own `margins` `[N]` and trained parameters `[D]`.
    ///
    /// # Errors
    /// As [`Self::at`].
    pub fn linearised(
        differences: &Matrix,
        margins: &[f64],
        theta: Vec<f64>,
        prior_variance: f64,
    ) -> Result<Self, EvalError> {
        let ggn = gauss_newton(differences, margins)?;
        let log_likelihood = margins.iter().map(|m| log_sigmoid(*m)).sum();
        Self::of_curvature(ggn, theta, log_likelihood, prior_variance)
    }

    /// From a curvature H `[D, D]` gathered elsewhere (any likelihood: H = sum of curvature times f f^T), parameters `[D]`
    /// and the log-likelihood there. With a Gaussian likelihood this is Bayesian linear regression, exactly.
    ///
    /// # Errors
    /// H is not square of size D or not positive semi-definite, s2 not positive.
    pub fn of_curvature(
        ggn: Matrix,
        theta: Vec<f64>,
        log_likelihood: f64,
        prior_variance: f64,
    ) -> Result<Self, EvalError> {
        check_prior(prior_variance)?;
        check_values("theta", &theta)?;
        check_lengths("theta", &theta, "curvature columns", ggn.row(0))?;
        let precision = posterior_precision(&ggn, prior_variance)?;
        Ok(Self {
            theta,
            prior_variance,
            log_likelihood,
            ggn,
            precision,
        })
    }

    /// Most probable parameters, `[D]`.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// H, `[D, D]`.
    pub fn ggn(&self) -> &Matrix {
        &self.ggn
    }

    /// Sigma = (H + I/s2)^-1, `[D, D]`.
    ///
    /// # Errors
    /// None in practice: the sizes agree by construction.
    pub fn covariance(&self) -> Result<Matrix, EvalError> {
        self.precision.inverse()
    }

    /// W `[D, D]` with W^T W = Sigma: the standard deviation of features J is the length of W J.
    ///
    /// # Errors
    /// None in practice: the sizes agree by construction.
    pub fn whitener(&self) -> Result<Matrix, EvalError> {
        self.precision.inverse_factor()
    }

    /// sum log sigma(margin).
    pub fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    /// log evidence = LL - |theta|^2/(2 s2) - logdet(I + s2 H)/2: choose s2 where it is largest.
    pub fn log_evidence(&self) -> f64 {
        let s2 = self.prior_variance;
        let log_det = self.precision.log_det() + self.theta.len() as f64 * s2.ln();
        self.log_likelihood - dot(&self.theta, &self.theta) / (2.0 * s2) - 0.5 * log_det
    }

    /// Score of features J `[D]`: mean J . theta, variance J Sigma J^T.
    ///
    /// # Errors
    /// J has another length or is not finite.
    pub fn predict(&self, features: &[f64]) -> Result<Predictive, EvalError> {
        check_values("features", features)?;
        let half = self.precision.half_solve(features)?;
        Ok(Predictive {
            mean: dot(features, &self.theta),
            variance: dot(&half, &half),
        })
    }

    /// Difference of two scores: the variance of the difference, which is not the sum of the two variances.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn compare(&self, a: &[f64], b: &[f64]) -> Result<Predictive, EvalError> {
        check_lengths("features of a", a, "features of b", b)?;
        self.predict(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
    }
}

/// J Sigma J^T by Woodbury's identity, for more parameters than pairs: only an `[N, N]` matrix is factorised.
/// Sigma = s2 I - s2^2 R^T (I + s2 R R^T)^-1 R with rows R = sqrt(p(1-p)) f.
#[derive(Clone, Debug)]
pub struct Woodbury {
    scaled: Matrix,
    prior_variance: f64,
    small: Cholesky,
}

impl Woodbury {
    /// From Jacobian differences `[N, D]` and the model's margins `[N]`.
    ///
    /// # Errors
    /// Sizes that do not match, values that are not finite, s2 not positive.
    pub fn new(
        differences: &Matrix,
        margins: &[f64],
        prior_variance: f64,
    ) -> Result<Self, EvalError> {
        check_prior(prior_variance)?;
        let scaled = scaled_differences(differences, margins)?;
        let gram = scaled.times(&scaled.transposed())?;
        Ok(Self {
            small: identity_plus(&gram, prior_variance)?,
            scaled,
            prior_variance,
        })
    }

    /// Variance of the score of features J `[D]`.
    ///
    /// # Errors
    /// J has another length or is not finite.
    pub fn variance(&self, features: &[f64]) -> Result<f64, EvalError> {
        check_values("features", features)?;
        check_lengths(
            "features",
            features,
            "curvature columns",
            self.scaled.row(0),
        )?;
        let u: Vec<f64> = (0..self.scaled.rows())
            .map(|i| dot(self.scaled.row(i), features))
            .collect();
        let half = self.small.half_solve(&u)?;
        let s2 = self.prior_variance;
        // Cancellation may leave a rounding error below 0.
        Ok((s2 * dot(features, features) - s2 * s2 * dot(&half, &half)).max(0.0))
    }

    /// logdet(I + s2 H), the evidence's penalty.
    pub fn log_det(&self) -> f64 {
        self.small.log_det()
    }
}

/// One LoRA matrix's K-FAC posterior: H = (B B^T) kron (L L^T) over the row-major vec of a `[d, r]` gradient.
/// B and A of one LoRA layer are two of these, taken as independent.
#[derive(Clone, Debug)]
pub struct KfacLayer {
    large: Matrix,
    small: Matrix,
    prior_variance: f64,
    inner: Cholesky,
}

impl KfacLayer {
    /// `large` B `[d, k]` (low rank where d is big) and `small` L `[r, r]` (Cholesky factor).
    /// M = I + s2 (B^T B kron L^T L) is factorised in f64.
    ///
    /// # Errors
    /// s2 not positive, L not square.
    pub fn new(large: Matrix, small: Matrix, prior_variance: f64) -> Result<Self, EvalError> {
        check_prior(prior_variance)?;
        if small.rows() != small.cols() {
            let (first_len, second_len) = (small.rows(), small.cols());
            return Err(EvalError::Lengths {
                first: "rows of L",
                first_len,
                second: "columns of L",
                second_len,
            });
        }
        let kron = large
            .transposed()
            .times(&large)?
            .kronecker(&small.transposed().times(&small)?);
        let inner = identity_plus(&kron, prior_variance)?;
        Ok(Self {
            large,
            small,
            prior_variance,
            inner,
        })
    }

    /// Covariance `[C, C]` of C outputs with gradients G `[d, r]` each:
    /// s2 v v^T - s2^2 u M^-1 u^T with v = vec(G), u = vec(B^T G L). Sum it over layers.
    ///
    /// # Errors
    /// No gradient, or one of another shape.
    pub fn covariance(&self, gradients: &[Matrix]) -> Result<Matrix, EvalError> {
        let mut halves = Vec::with_capacity(gradients.len());
        for g in gradients {
            check_lengths("row of G", g.row(0), "row of L", self.small.row(0))?;
            let u = self.large.transposed().times(g)?.times(&self.small)?;
            halves.push(self.inner.half_solve(u.values())?);
        }
        if gradients.is_empty() {
            return Err(EvalError::Empty { what: "gradients" });
        }
        let s2 = self.prior_variance;
        let mut out = Matrix::zeros(gradients.len(), gradients.len());
        for i in 0..gradients.len() {
            for j in 0..gradients.len() {
                let prior = dot(gradients[i].values(), gradients[j].values());
                *out.at(i, j) = s2 * prior - s2 * s2 * dot(&halves[i], &halves[j]);
            }
        }
        Ok(out)
    }

    /// Variance of one output with gradient G `[d, r]`.
    ///
    /// # Errors
    /// G has another shape.
    pub fn variance(&self, gradient: &Matrix) -> Result<f64, EvalError> {
        let covariance = self.covariance(std::slice::from_ref(gradient))?;
        // Cancellation may leave a rounding error below 0.
        Ok(covariance.values().iter().sum::<f64>().max(0.0))
    }

    /// logdet M = logdet(I + s2 H) of this layer.
    pub fn log_det(&self) -> f64 {
        self.inner.log_det()
    }
}

/// Evidence of a network: LL - |theta|^2/(2 s2) - logdet(I + s2 H)/2, the last summed over layers.
pub fn log_evidence(
    log_likelihood: f64,
    squared_norm: f64,
    log_det: f64,
    prior_variance: f64,
) -> f64 {
    log_likelihood - squared_norm / (2.0 * prior_variance) - 0.5 * log_det
}

fn log_posterior(differences: &Matrix, theta: &[f64], prior_variance: f64) -> f64 {
    let likelihood: f64 = margins(differences, theta)
        .iter()
        .map(|m| log_sigmoid(*m))
        .sum();
    likelihood - dot(theta, theta) / (2.0 * prior_variance)
}

fn margins(differences: &Matrix, theta: &[f64]) -> Vec<f64> {
    (0..differences.rows())
        .map(|i| dot(differences.row(i), theta))
        .collect()
}

fn posterior_precision(ggn: &Matrix, prior_variance: f64) -> Result<Cholesky, EvalError> {
    let mut out = ggn.clone();
    for i in 0..out.rows() {
        *out.at(i, i) += 1.0 / prior_variance;
    }
    Cholesky::new("posterior precision", &out)
}

fn identity_plus(matrix: &Matrix, factor: f64) -> Result<Cholesky, EvalError> {
    let mut out = matrix.clone();
    for i in 0..out.rows() {
        for j in 0..out.cols() {
            *out.at(i, j) *= factor;
        }
        *out.at(i, i) += 1.0;
    }
    Cholesky::new("I + s2 H", &out)
}

fn check_prior(prior_variance: f64) -> Result<(), EvalError> {
    if prior_variance > 0.0 && prior_variance.is_finite() {
        return Ok(());
    }
    Err(EvalError::Range {
        what: "prior variance",
        value: prior_variance,
        need: "above 0 and finite",
    })
}

mod prior;
pub use prior::{PriorChoice, choose_prior_variance, log_det_of};

#[cfg(test)]
mod tests;
