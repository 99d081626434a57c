//! Preference of prefixes: a label that the whole answers decide is asked of every pair of their beginnings too.
//!
//! ```text
//! R(i) = sum of mu over the first i tokens of an answer,  V(i) = sum of sigma^2 over them,  R(0) = V(0) = 0
//! ell(i, j) = log sigma( d / sqrt(1 + pi v / 8) ),  d = R+(i) - R-(j),  v = V+(i) + V-(j)
//! loss = -mean over pairs of [ (1 - w) ell(n+, n-) + w mean over i = 0..n+, j = 0..n- of ell(i, j) ]
//!        + kappa(t) (1/n) sum KL[q || prior]
//! ```
//!
//! Source: ours. The likelihood is MacKay's averaged logistic on the posterior, as in
//! [`preference_logistic`](super::preference); training a scorer on every prefix with the label of the whole is outcome
//! supervision (Uesato et al., arXiv 2211.14275; Yu et al., arXiv 2311.09724), which makes the score of a prefix an estimate
//! of what the label will be.
//!
//! Why: preferences of whole answers fix a reward only up to a shaping r + phi(after) - phi(before) (Ng, Harada and Russell
//! 1999), so that a full stop may collect what the words before it earned; sparse priors even like that. A prefix that ends
//! before the full stop then has lost its reward, and its comparison with other prefixes says so: credit is pushed to the
//! first token that settles it. What remains free the prior decides: by default it has a learned scale for every token type
//! ([`Prior`], `token_type`), whose weight rises from 0 to kappa once rewards have found their places, because a type that
//! starts with a narrow prior would never be tried.
//!
//! The mean over cuts is exact, not sampled: it costs a table of (n+ + 1)(n- + 1) numbers a pair.

use super::ava_p::{Cer, contrast};
use super::comparison::{self, Comparison, PairFit};
use super::math::sides;
use super::options::{self, check, check_steps};
use super::preference::kl_per_step;
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores,
    reward_terms,
};
use crate::reward::{Prior, PriorForm, Steps, StepsConfig, Uncertainty};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "prefix_preference",
    title: "Preference likelihood on prefixes",
    citation: "outcome supervision, arXiv 2211.14275 and 2311.09724, with the posterior of AVA, arXiv 2411.09341",
    build: |options| Ok(Box::new(PrefixPreference::new(options)?)),
    defaults: options::defaults::<PrefixOptions>,
    variants: &[],
};

/// The options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixOptions {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// w: the prefixes' share of the comparison, 0 to 1. 0.7: the whole answers, which are what was judged, keep a say.
    pub prefix_weight: f64,
    /// Weight of the KL to the prior per step at the end. 0.03: on the built-in world, where more widens sigma beyond what its
    /// intervals should be.
    pub kappa: f64,
    /// Share of training before which the prior has no weight. 0.3: rewards have found their places by then.
    pub kappa_start: f64,
    /// Share of training from which the prior has its full weight; linear in between.
    pub kappa_full: f64,
    /// The prior of a token's reward. token_type: most word kinds carry none.
    #[serde(flatten)]
    pub prior: Prior,
}

impl Default for PrefixOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            prefix_weight: 0.7,
            kappa: 0.03,
            kappa_start: 0.3,
            kappa_full: 0.6,
            prior: Prior {
                prior: PriorForm::TokenType,
                prior_scale: 1.0,
            },
        }
    }
}

impl PrefixOptions {
    /// kappa at a point of training. Never quite 0: a learned scale follows its tokens from the start, because Adam divides
    /// by the gradient's size.
    fn kappa_at(&self, progress: Progress) -> f64 {
        if progress.total == 0 {
            return self.kappa;
        }
        let done = progress.step as f64 / progress.total as f64;
        let risen = if self.kappa_full > self.kappa_start {
            (done - self.kappa_start) / (self.kappa_full - self.kappa_start)
        } else {
            f64::from(u8::from(done >= self.kappa_start))
        };
        self.kappa * risen.clamp(KAPPA_AT_START, 1.0)
    }
}

/// Share of kappa that holds before it rises.
const KAPPA_AT_START: f64 = 1e-3;

/// The prefix preference with its options.
pub struct PrefixPreference {
    options: PrefixOptions,
}

impl PrefixPreference {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let name = METHOD.name;
        let options: PrefixOptions = options::parse(name, options)?;
        check_steps(&options.steps, name)?;
        options::check_prior(&options.prior, name)?;
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let (k, w) = (options.kappa, options.prefix_weight);
        let (start, full) = (options.kappa_start, options.kappa_full);
        check(k.is_finite() && k >= 0.0, name, "kappa", k, "0 or more")?;
        check(share(w), name, "prefix_weight", w, "0 to 1")?;
        check(share(start), name, "kappa_start", start, "0 to 1")?;
        check(
            share(full) && full >= start,
            name,
            "kappa_full",
            full,
            "`kappa_start` to 1",
        )?;
        Ok(Self { options })
    }
}

impl Objective for PrefixPreference {
    fn name(&self) -> &'static str {
        METHOD.name
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn needs_token_prior(&self) -> bool {
        self.options.prior.is_learned()
    }

    fn informs_std(&self) -> bool {
        true
    }

    /// There is no residual term: the comparisons and the prior train sigma.
    fn uncertainty(&self) -> Uncertainty {
        Uncertainty::PreferenceSpread
    }

    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    /// With prefixes in the loss the label's likelihood is not a function of the two whole scores alone.
    fn pair_fit(&self, pair: &Comparison) -> Option<PairFit> {
        (self.options.prefix_weight == 0.0)
            .then(|| comparison::mackay(pair.difference, pair.variance))
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let options = &self.options;
        let pairs = steps.pair_count();
        let share = 1.0 / steps.counts.pairs.max(1.0);
        let scores = Scores::of(steps);
        let (chosen, rejected) = sides(scores.sum.clone(), pairs);
        let (v_chosen, v_rejected) = sides(scores.sum_variance.clone(), pairs);
        let whole = contrast(Cer::Mackay, chosen - rejected, || v_chosen + v_rejected);
        let whole = whole.sum().neg().mul_scalar(share);
        let mut terms = vec![("preference_loss", whole.clone().detach())];
        let w = options.prefix_weight;
        let mut loss = whole.mul_scalar(1.0 - w);
        if w > 0.0 {
            let prefixes = prefix_log_likelihood(steps, pairs).sum();
            let prefixes = prefixes.neg().mul_scalar(share);
            terms.push(("prefix_loss", prefixes.clone().detach()));
            loss = loss + prefixes.mul_scalar(w);
        }
        let kl = kl_per_step(&options.prior, steps);
        terms.push(("ava/kl", kl.clone().detach()));
        loss = loss + kl.mul_scalar(options.kappa_at(progress));
        let scores = scores.detach();
        terms.push(("loss", loss.clone().detach()));
        terms.extend(reward_terms(scores.sum.clone(), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

/// The mean of ell(i, j) over all cuts of each pair, `[P]`.
fn prefix_log_likelihood(steps: &Steps, pairs: usize) -> Tensor<1> {
    let [rows, s] = steps.mask.dims();
    // R and V after 0, 1, ... S steps: [B, S+1]. Steps outside the mask add nothing.
    let sums = |x: Tensor<2>| {
        let nothing = Tensor::zeros([rows, 1], (&x.device(), x.dtype()));
        Tensor::cat(vec![nothing, x.cumsum(1)], 1)
    };
    // A cut behind a step outside the mask is the cut before it once more and does not count.
    let one = Tensor::ones([rows, 1], (&steps.mask.device(), steps.mask.dtype()));
    let cuts = Tensor::cat(vec![one, steps.mask.clone()], 1);
    let weights = cuts.clone() / cuts.sum_dim(1);
    let means = sums(steps.mean.clone() * steps.mask.clone());
    let variances = sums(steps.log_std.clone().mul_scalar(2.0).exp() * steps.mask.clone());
    let chosen = |x: &Tensor<2>| x.clone().narrow(0, 0, pairs).reshape([pairs, s + 1, 1]);
    let rejected = |x: &Tensor<2>| x.clone().narrow(0, pairs, pairs).reshape([pairs, 1, s + 1]);
    let d = chosen(&means) - rejected(&means);
    let v = chosen(&variances) + rejected(&variances);
    let cells = pairs * (s + 1) * (s + 1);
    let log_p = contrast(Cer::Mackay, d.reshape([cells]), || v.reshape([cells]));
    let weights = (chosen(&weights) * rejected(&weights)).reshape([cells]);
    (log_p * weights)
        .reshape([pairs, (s + 1) * (s + 1)])
        .sum_dim(1)
        .reshape([pairs])
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, random_pairs, scalar, term, values};
    use super::*;
    use burn::tensor::Device;
    use serde_json::json;

    fn built(options: Value) -> PrefixPreference {
        PrefixPreference::new(&options).expect("options")
    }

    /// The mean over cuts as it is written, one pair of prefixes after the other, in f64.
    fn slow(steps: &Steps, pair: usize, pairs: usize) -> f64 {
        let [_, s] = steps.mask.dims();
        let all = |x: &Tensor<2>| values(x.clone());
        let (mean, log_std, mask) = (all(&steps.mean), all(&steps.log_std), all(&steps.mask));
        let prefixes = |row: usize| {
            let mut out = vec![(0.0, 0.0)];
            for i in row * s..(row + 1) * s {
                if mask[i] > 0.0 {
                    let (r, v) = out[out.len() - 1];
                    out.push((r + mean[i], v + (2.0 * log_std[i]).exp()));
                }
            }
            out
        };
        let (chosen, rejected) = (prefixes(pair), prefixes(pairs + pair));
        let mut sum = 0.0;
        for (r, v) in &chosen {
            for (r2, v2) in &rejected {
                sum += comparison::mackay(r - r2, v + v2).log_likelihood;
            }
        }
        sum / (chosen.len() * rejected.len()) as f64
    }

    #[test]
    fn the_mean_over_cuts_is_that_of_every_pair_of_prefixes() {
        let device = Device::flex();
        let (layout, out) = random_pairs(&device);
        let method = built(json!({}));
        let steps = golden::steps(&layout, &out, method.steps_config());
        let pairs = steps.pair_count();
        let fast = values(prefix_log_likelihood(&steps, pairs));
        for (pair, fast) in fast.into_iter().enumerate() {
            let slow = slow(&steps, pair, pairs);
            assert!(
                (fast - slow).abs() < 1e-5 * slow.abs(),
                "{pair}: {fast}, {slow}"
            );
        }
    }

    #[test]
    fn the_graphics_device_gives_the_processor_s_loss_and_gradients() {
        let method = built(json!({"kappa": 0.4}));
        let run = |device: Device| {
            let (layout, out) = random_pairs(&device);
            let mean = out.mean.clone().detach().require_grad();
            let log_std = out.log_std.clone().detach().require_grad();
            let out = golden::Outputs {
                mean: mean.clone(),
                log_std: log_std.clone(),
                ..out
            };
            let steps = golden::steps(&layout, &out, method.steps_config());
            let loss = method.evaluate(&steps, Progress::END).loss;
            let gradients = loss.clone().backward();
            [
                values(loss),
                golden::gradient(&mean, &gradients),
                golden::gradient(&log_std, &gradients),
            ]
        };
        let Some(device) = golden::wgpu() else {
            return;
        };
        let (cpu, gpu) = (run(Device::flex().autodiff()), run(device.autodiff()));
        for (name, (cpu, gpu)) in ["loss", "mean", "log_std"].iter().zip(cpu.iter().zip(&gpu)) {
            golden::close(name, gpu, cpu, 1e-6, 1e-4);
        }
    }

    #[test]
    fn without_prefixes_it_is_the_averaged_logistic() {
        let device = Device::flex();
        let (layout, out) = random_pairs(&device);
        let loss = |objective: &dyn Objective| {
            let steps = golden::steps(&layout, &out, objective.steps_config());
            scalar(&objective.evaluate(&steps, Progress::END).loss)
        };
        let options = json!({"prefix_weight": 0.0, "prior": "normal", "kappa": 0.6});
        let ours = loss(&built(options));
        let other = super::super::build("preference_logistic", &json!({"kappa": 0.6}));
        let other = loss(other.expect("options").as_ref());
        assert!((ours - other).abs() < 1e-6, "{ours} against {other}");
    }

    #[test]
    fn a_reward_that_comes_early_explains_more_prefixes_than_the_same_reward_at_the_end() {
        let device = Device::flex();
        let (layout, out) = random_pairs(&device);
        let method = built(json!({"kappa": 0.0}));
        let mut steps = golden::steps(&layout, &out, method.steps_config());
        let [rows, s] = steps.mask.dims();
        let first = {
            // 1 at the first step of each row.
            let before = steps.mask.clone().cumsum(1) - steps.mask.clone();
            steps.mask.clone() * before.equal_scalar(0.0).float()
        };
        let pairs = steps.pair_count();
        let sign: Vec<f32> = (0..rows)
            .map(|r| if r < pairs { 1.0 } else { -1.0 })
            .collect();
        let sign = Tensor::<1>::from_floats(sign.as_slice(), &device)
            .reshape([rows, 1])
            .expand([rows, s]);
        let mut at = |place: Tensor<2>| {
            steps.mean = place * sign.clone();
            let result = method.evaluate(&steps, Progress::END);
            ["preference_loss", "prefix_loss"].map(|name| term(&result, name))
        };
        let last = golden::steps(&layout, &out, method.steps_config()).last;
        let ([whole, early], [same, late]) = (at(first), at(last));
        // Whole answers do not tell the two apart.
        assert!((whole - same).abs() < 1e-6, "{whole} {same}");
        assert!(early < late - 0.01, "{early} {late}");
    }

    #[test]
    fn the_prior_s_weight_rises_between_the_two_shares_and_is_whole_in_evaluation() {
        let options = PrefixOptions::default();
        let at = |step| options.kappa_at(Progress { step, total: 100 }) / options.kappa;
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(at(0), KAPPA_AT_START);
        near(at(30), KAPPA_AT_START);
        near(at(45), 0.5);
        near(at(60), 1.0);
        near(at(100), 1.0);
        near(options.kappa_at(Progress::END), options.kappa);
        let sudden = PrefixOptions {
            kappa_full: 0.3,
            ..options
        };
        let at = |step| sudden.kappa_at(Progress { step, total: 100 }) / sudden.kappa;
        near(at(29), KAPPA_AT_START);
        near(at(30), 1.0);
    }

    #[test]
    fn options_out_of_range_are_named() {
        for (options, name) in [
            (json!({"prefix_weight": 1.5}), "prefix_weight"),
            (json!({"kappa": -1.0}), "kappa"),
            (json!({"kappa_start": 0.5, "kappa_full": 0.4}), "kappa_full"),
            (json!({"prior_scale": 0.0}), "prior_scale"),
        ] {
            let error = PrefixPreference::new(&options).err().map(|e| e.to_string());
            assert!(
                error.as_ref().is_some_and(|e| e.contains(name)),
                "{error:?}"
            );
        }
    }
}
