//! AVA's switches with this project's recommended defaults. The paper leaves most of them open; the printed form of the
//! objective is reached by `terminal = drop`, `ll_last = false`, `reward_read = state`, `normalise = sum`,
//! `neg = paper`, `cer = sigmoid`, `cer_score = last`, `kappa = 1` and `q_mode = paper_prob` with a large alpha.

use serde::{Deserialize, Serialize};

/// What the last step of a turn is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// The value after the last token is 0: the last step has all terms.
    #[default]
    Zero,
    /// The last step has none (the paper's sums).
    Drop,
}

/// What the sums are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Nothing (the paper).
    Sum,
    /// Rows, or pairs.
    Batch,
    /// Steps: a learning rate then suits all lengths.
    #[default]
    Token,
}

/// The rejected answer's likelihood term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negative {
    /// The summed log-likelihood, Eq. 17: unbounded.
    Paper,
    /// The same, but not below -`neg_floor` per row.
    Floor,
    /// -sum log(1 - B): Eq. 16 per token, bounded in its gradient.
    #[default]
    Unlikelihood,
    /// None ("w/o neg").
    None,
}

/// Which answers' steps have a KL and a TD term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlTdOn {
    /// Both answers'.
    #[default]
    Both,
    /// The chosen answer's.
    Chosen,
}

/// The contrastive expected return: a function of the difference d of two answers' scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cer {
    /// sigma(d), Eq. 18 as printed; its gradient vanishes for badly wrong pairs.
    Sigmoid,
    /// log sigma(d): Bradley-Terry.
    #[default]
    #[serde(rename = "logsigmoid")]
    LogSigmoid,
    /// log Phi(d / sqrt(v+ + v-)): uses the posterior's variance.
    Probit,
    /// log sigma(d / sqrt(1 + pi (v+ + v-)/8)): uses the posterior's variance.
    Mackay,
}

/// Which score the contrast compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CerScore {
    /// The last step's mean (the paper).
    Last,
    /// The sum of the means: inner tokens get a preference signal of their own.
    #[default]
    Sum,
    /// The mean of the means.
    Mean,
}

/// Switches that AVA-d and AVA-p share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AvaConfig {
    /// Discount.
    pub gamma: f64,
    /// Weight of the TD term; at or above `kappa` the objective degenerates.
    pub lambda: f64,
    /// Share of the run in which lambda rises from 0.
    pub lambda_warmup: f64,
    /// Weight of the KL to the prior.
    pub kappa: f64,
    /// The last step.
    pub terminal: Terminal,
    /// Whether the last step keeps its likelihood under `drop`.
    pub ll_last: bool,
    /// Divisor.
    pub normalise: Normalise,
}

impl Default for AvaConfig {
    fn default() -> Self {
        Self {
            gamma: 0.95,
            lambda: 0.25,
            lambda_warmup: 0.1,
            kappa: 1.0,
            terminal: Terminal::Zero,
            ll_last: true,
            normalise: Normalise::Token,
        }
    }
}

impl AvaConfig {
    /// Lambda at a step of the run.
    pub fn lambda_at(&self, progress: super::Progress) -> f64 {
        let warmup = self.lambda_warmup * progress.total as f64;
        if warmup <= 0.0 {
            return self.lambda;
        }
        self.lambda * ((progress.step as f64 + 1.0) / warmup).min(1.0)
    }

    /// Values out of range, as an error of `method`.
    pub(super) fn check(&self, method: &'static str) -> Result<(), super::ObjectiveError> {
        let ranges = [
            ("gamma", self.gamma, 0.0, 1.0),
            ("lambda", self.lambda, 0.0, f64::MAX),
            ("lambda_warmup", self.lambda_warmup, 0.0, 1.0),
            ("kappa", self.kappa, 0.0, f64::MAX),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(super::ObjectiveError::BadOption {
                    method,
                    reason: format!("{name} is {value}, and must lie from {low} to {high}"),
                });
            }
        }
        Ok(())
    }

    /// The degenerate region, said before training.
    pub(super) fn warnings(&self) -> Vec<String> {
        if self.lambda > 0.0 && self.lambda >= self.kappa {
            vec![format!(
                "lambda {} is not below kappa {}: for a fixed residual the posterior then has no proper optimum (equal: sigma collapses wherever |delta| <= 1 and means saturate at 1; above: sigma goes to 0). Use lambda below kappa, such as 0.25",
                self.lambda, self.kappa
            )]
        } else {
            Vec::new()
        }
    }
}

/// Switches of AVA-p alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairConfig {
    /// The rejected answer's likelihood term.
    pub neg: Negative,
    /// Floor of `neg = floor`, in nats per row, positive.
    pub neg_floor: f64,
    /// Which answers have KL and TD terms.
    pub kl_td_on: KlTdOn,
    /// The contrast.
    pub cer: Cer,
    /// Its weight.
    pub cer_weight: f64,
    /// Its score.
    pub cer_score: CerScore,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self {
            neg: Negative::Unlikelihood,
            neg_floor: 50.0,
            kl_td_on: KlTdOn::Both,
            cer: Cer::LogSigmoid,
            cer_weight: 1.0,
            cer_score: CerScore::Sum,
        }
    }
}
