//! Token-reward records: what the command writes, the page reads and exports. The JSON schema is
//! `docs/token-rewards.schema.json`; its version is part of every record.

use serde::{Deserialize, Serialize};

/// The schema's name and version, the first field of every record.
pub const SCHEMA: &str = "avascope.token-rewards/1";

/// Which answer of a row a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The better answer of a pair.
    Chosen,
    /// The worse answer of a pair.
    Rejected,
    /// An answer alone.
    Answer,
}

/// What a record's standard deviation measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Uncertainty {
    /// AVA's posterior sigma: the spread of one-sample temporal-difference residuals, shrunk to the prior. It does
    /// not shrink as data grows, so it is not ignorance. Where the comparison reads sigma too (AVA-p with `cer` probit
    /// or mackay), the likelihood of preferences pulls at it as well.
    TdSpread,
    /// A posterior sigma that the likelihood of preferences trains together with the prior. Nothing shows that it is
    /// ignorance.
    PreferenceSpread,
    /// No data trains the standard deviation: it is the prior's.
    PriorOnly,
}

/// How ignorance was estimated: how far the learned mean itself may be off for want of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum IgnoranceKind {
    /// Laplace's approximation over the reward head's weights, the trunk held fixed.
    LaplaceHead,
    /// The same, and over every adapter matrix by Kronecker factors; layers taken as independent.
    LaplaceLora,
    /// The spread of runs that differ in their seed.
    Ensemble,
    /// The spread of the model under random dropout at scoring. It does not know how much data there was.
    Dropout,
}

/// Where a record's ignorance comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Ignorance {
    /// The estimate.
    pub kind: IgnoranceKind,
    /// Its settings, in words: members, pairs, prior, samples.
    pub detail: String,
}

/// How far a token map may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Not held against a truth, or it failed.
    Exploratory,
    /// Passed every truth that it was held against and not trained on, at least one of them with people's labels: better
    /// than chance and every floor.
    Checked,
}

/// How the numbers of a record were obtained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Provenance {
    /// The method's name, as in the configuration.
    pub method: String,
    /// The model's name.
    pub model: String,
    /// The checkpoint: run, step, or `untrained`.
    pub checkpoint: String,
    /// The device and adapter that computed the numbers.
    pub device: String,
    /// The arithmetic, for example `f32`.
    pub precision: String,
    /// What `std` measures.
    pub uncertainty: Uncertainty,
    /// How a sequence's reward was spread over its tokens; `own`: the method's own token rewards.
    #[serde(default = "own")]
    pub credit: String,
    /// Where `ignorance_std` comes from, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub ignorance: Option<Ignorance>,
    /// Whether the map was held against a truth.
    pub trust: Trust,
    /// The truths that this map was held against and passed, in words; empty for an exploratory map.
    #[serde(default)]
    pub checked: Vec<String>,
}

/// The credit of records from before credits had a name.
fn own() -> String {
    "own".into()
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TokenReward {
    /// Vocabulary id.
    pub id: u32,
    /// The part of the answer's text that the token covers, or the token's own name (`<eos>`) where it covers none.
    pub text: String,
    /// First code point in the answer's text; equal to `end` where the token covers no text.
    pub start: usize,
    /// One past the last code point.
    pub end: usize,
    /// Posterior mean of the reward.
    pub mean: f32,
    /// Posterior standard deviation of the reward.
    pub std: f32,
    /// Ignorance: the standard deviation of `mean` itself, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub ignorance_std: Option<f32>,
    /// The root of `std` squared plus `ignorance_std` squared. Absent where `std` is only the prior's: a total of a number
    /// that nothing was learned of means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub total_std: Option<f32>,
    /// The true reward, where it is known (synthetic world).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_mean: Option<f32>,
    /// The true spread, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_std: Option<f32>,
    /// Whether a labelled span covers the token, where the row has labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<bool>,
}

/// Ignorance about an answer's scores: standard deviations. Tokens share the model's weights, so these are not sums of the
/// tokens' variances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ScoreIgnorance {
    /// Of the last token's mean.
    pub last: f32,
    /// Of the sum of the means.
    pub sum: f32,
    /// Of the mean of the means.
    pub mean: f32,
    /// Of the difference of the two answers' ranking scores, where the row is a pair: what a comparison needs, because
    /// what both answers share cancels in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub margin: Option<f32>,
}

/// Total standard deviations of an answer's scores: the own spread, tokens taken as independent, and ignorance, as the root
/// of both squares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ScoreTotal {
    /// Of the last token's mean.
    pub last: f32,
    /// Of the sum of the means.
    pub sum: f32,
    /// Of the mean of the means.
    pub mean: f32,
    /// Of the difference of the two answers' ranking scores, where the row is a pair; their own spreads are taken as
    /// independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub margin: Option<f32>,
}

/// Scores of a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct AnswerScore {
    /// The last token's mean.
    pub last: f32,
    /// The sum of the means.
    pub sum: f32,
    /// The mean of the means.
    pub mean: f32,
    /// The square root of the sum of the variances: the sum's standard deviation if tokens were independent.
    pub sum_std: f32,
    /// Ignorance about these scores, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub ignorance: Option<ScoreIgnorance>,
    /// Own spread and ignorance together; absent where either is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub total: Option<ScoreTotal>,
}

/// Every token of one answer with its reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct TokenRewardRecord {
    /// [`SCHEMA`].
    pub schema: String,
    /// The row's id; both sides of a pair share it.
    pub id: String,
    /// Which answer of the row.
    pub side: Side,
    /// What the row's own label says of this answer, where it has one: 1 desirable, 0 undesirable; of pairs 1 better, 0
    /// worse, 0.5 a tie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub label: Option<f32>,
    /// The prompt as the model read it.
    pub prompt: String,
    /// The answer's text; token offsets count its code points.
    pub answer: String,
    /// Whether the row was cut to fit the context.
    pub truncated: bool,
    /// How the numbers were obtained.
    pub provenance: Provenance,
    /// The answer's tokens in order.
    pub tokens: Vec<TokenReward>,
    /// The answer's scores.
    pub score: AnswerScore,
}

impl AnswerScore {
    /// Scores from token means and standard deviations, summed in f64. An answer without tokens scores zero.
    pub fn from_tokens(tokens: &[TokenReward]) -> Self {
        let sum: f64 = tokens.iter().map(|t| f64::from(t.mean)).sum();
        let variance: f64 = tokens.iter().map(|t| f64::from(t.std).powi(2)).sum();
        Self {
            last: tokens.last().map_or(0.0, |t| t.mean),
            sum: sum as f32,
            mean: (sum / tokens.len().max(1) as f64) as f32,
            sum_std: variance.sqrt() as f32,
            ignorance: None,
            total: None,
        }
    }
}
