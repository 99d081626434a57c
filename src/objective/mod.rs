//! Training objectives: one formula a file.
//!
//! An objective is a pure function of [`Steps`]: per-step numbers `[B, S]` in, a loss to minimise and named terms out.
//! It never sees the vocabulary, the model or a file, and reads nothing back from the device. A new method is one file
//! with its formula, its citation and its golden test, and one line in [`METHODS`].
//!
//! Losses and terms are divided by [`Normaliser`](crate::reward::Normaliser) counts of the whole batch, so that those of
//! micro-batches and of processes add up to those of the batch.

pub mod ava_d;
pub mod ava_p;
mod ava_terms;
pub mod avril;
pub mod avril_tokens;
pub mod bradley_terry;
pub mod comparison;
pub mod dpo;
pub mod fine_grained;
pub mod irl_margin;
mod math;
pub(crate) mod options;
pub mod pref_transformer;
pub mod preference;
pub mod prefix_preference;
pub mod red;
mod scores;
pub mod secrets2;

#[cfg(test)]
mod every_method;
#[cfg(test)]
pub(crate) mod golden;

pub(crate) use crate::plain::nearest_first;
pub use ava_terms::{AvaOptions, AvaTerms, Normalise, Terminal};
pub use comparison::{Comparison, PairFit};
pub use math::{log_one_minus_exp, log_standard_normal_cdf};
pub use options::ObjectiveError;
pub use scores::{ScoreKind, Scores, posterior_terms, residual_terms, reward_terms};

use crate::reward::{Steps, StepsConfig, Uncertainty};
use burn::tensor::Tensor;

/// A named scalar `[1]`, detached.
pub type Term = (&'static str, Tensor<1>);

/// What an objective says about one micro-batch.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// `[1]`, to be minimised; its share of the whole batch's loss.
    pub loss: Tensor<1>,
    /// Detached shares of the whole batch's terms: add them over micro-batches.
    pub terms: Vec<Term>,
    /// Per-row scores, detached.
    pub scores: Scores,
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: usize,
    /// Optimiser steps planned; 0: no schedule applies.
    pub total: usize,
}

impl Progress {
    /// Every warm-up is over: for evaluation.
    pub const END: Self = Self { step: 1, total: 0 };

    /// The factor of a linear warm-up over the first `fraction` of training, from 0 to 1.
    pub fn warm_up(self, fraction: f64) -> f64 {
        let length = fraction * self.total as f64;
        if length > 0.0 {
            (self.step as f64 / length).min(1.0)
        } else {
            1.0
        }
    }
}

/// What an objective learns from, and what rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Chosen and rejected answers.
    Pairs,
    /// Good answers alone.
    Demonstrations,
    /// Desirable and undesirable answers, each by itself, in any number. An objective of pairs that
    /// [takes them](Objective::takes_unpaired) sees two independent draws as a pair.
    Unpaired,
}

/// A token's reward as a method sees it, `[B, S]`, 0 outside the step mask.
#[derive(Clone, Debug)]
pub struct TokenRewards {
    /// The reward.
    pub mean: Tensor<2>,
    /// Its standard deviation; `None` where the method has none.
    pub std: Option<Tensor<2>>,
}

/// One training objective with its options fixed.
pub trait Objective: Send + Sync {
    /// The name in [`METHODS`].
    fn name(&self) -> &'static str;
    /// Which rows it reads.
    fn rows(&self) -> RowKind;
    /// Whether an objective of pairs also learns from two sets of answers, of which each step draws as many from the one as
    /// from the other, independently: its loss must be an expectation over both sets of what it says of a difference.
    fn takes_unpaired(&self) -> bool {
        false
    }
    /// How steps are made for it.
    fn steps_config(&self) -> &StepsConfig;
    /// The option `beta`: what turns the policy's log-ratio to a reference into a reward where the method has no other
    /// notion of one. The likelihood's (an inverse temperature or a weight, 1 unless set) where the method has no strength of
    /// its own as DPO has.
    fn beta(&self) -> f64 {
        self.steps_config().beta
    }
    /// Whether [`Steps::with_reference`] must be called first.
    fn needs_reference(&self) -> bool {
        false
    }
    /// Whether `extras.token_labels` must be filled from the minimal edit between the two answers.
    fn needs_edit_labels(&self) -> bool {
        false
    }
    /// Whether [`Steps::with_prefix_scores`] must be called first.
    fn needs_prefix_scores(&self) -> bool {
        false
    }
    /// The rate, above 0 and below 1, of the two dropout passes that training fills `extras.features` from; `None` where
    /// nothing reads them.
    fn feature_dropout(&self) -> Option<f64> {
        None
    }
    /// How many prototypes `[H, K]` train beside the reward head and fill `extras.prototypes`; `None` where nothing reads them.
    fn prototypes(&self) -> Option<usize> {
        None
    }
    /// Whether every training pair must carry a margin.
    fn needs_margin(&self) -> bool {
        false
    }
    /// Whether it reads a pair's own label, the probability that the chosen answer is the better one
    /// ([`Extras::label`](crate::reward::Extras)).
    fn reads_label(&self) -> bool {
        false
    }
    /// Whether every training pair must carry a preference strength, and which share of the pairs, those of lowest strength,
    /// has its labels swapped; `None` where strengths are not read.
    fn strength(&self) -> Option<f64> {
        None
    }
    /// Whether [`Steps::with_attention`] must be called first.
    fn needs_attention(&self) -> bool {
        false
    }
    /// Whether [`Steps::with_prior_log_scale`] must be called first: the prior has a learned scale for every token type.
    fn needs_token_prior(&self) -> bool {
        false
    }
    /// Whether data train the standard deviations; where not, they are the prior's.
    fn informs_std(&self) -> bool;
    /// What its standard deviation measures: the word that records carry. A method whose standard deviation is trained by
    /// something else than temporal-difference residuals says so here.
    fn uncertainty(&self) -> Uncertainty {
        match self.informs_std() {
            true => Uncertainty::TdSpread,
            false => Uncertainty::PriorOnly,
        }
    }
    /// Settings that are allowed and unwise, in sentences.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    /// The score that ranks answers: the one that was trained.
    fn ranking_score(&self) -> ScoreKind;
    /// The loss, its terms and the rows' scores.
    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation;
    /// More terms about one micro-batch, for steps that are logged: its own means, minima and standard deviations
    /// (average or keep them over micro-batches, do not add them). Dozens of small kernels.
    fn diagnostics(&self, steps: &Steps) -> Vec<Term> {
        posterior_terms(steps, self.steps_config())
    }
    /// The temporal-difference target that its posterior explains, `[B, S]`, where it has one.
    fn td_target(&self, _steps: &Steps) -> Option<Tensor<2>> {
        None
    }
    /// The score whose variance [`Comparison::variance`] carries.
    fn comparison_variance(&self) -> ScoreKind {
        self.ranking_score()
    }
    /// What the method's preference likelihood says of one comparison of ranking scores. `None` where it has none that is a
    /// function of scores of the reward head: then no Laplace approximation can be taken around it.
    fn pair_fit(&self, _pair: &Comparison) -> Option<PairFit> {
        None
    }
    /// What each token is worth; the posterior unless the method has another notion.
    fn token_rewards(&self, steps: &Steps) -> TokenRewards {
        TokenRewards {
            mean: steps.mean.clone(),
            std: self
                .informs_std()
                .then(|| steps.log_std.clone().exp() * steps.mask.clone()),
        }
    }
}

/// A method that [`build`] knows.
pub struct Method {
    /// Name in configurations.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Where the formula comes from.
    pub citation: &'static str,
    /// Makes the objective from its options; missing options take their defaults.
    pub build: fn(&serde_json::Value) -> Result<Box<dyn Objective>, ObjectiveError>,
    /// Every option with its default.
    pub defaults: fn() -> serde_json::Value,
    /// Settings that its source names.
    pub variants: &'static [Variant],
}

/// Options under the name that a method's source gives them: an ablation, or the formula as printed.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The source's name.
    pub name: &'static str,
    /// Names and values (JSON) of the options that differ from the defaults.
    pub options: &'static [(&'static str, &'static str)],
    /// What it takes away or brings, in a sentence.
    pub note: &'static str,
}

impl Variant {
    /// Its options as a JSON object.
    pub fn options(&self) -> serde_json::Value {
        self.options
            .iter()
            .map(|(name, value)| {
                let value = serde_json::from_str(value).unwrap_or_else(|_| (*value).into());
                ((*name).to_owned(), value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The option of every method that names a [`Variant`]: the other options are laid over those of the variant.
pub const VARIANT: &str = "variant";

impl Method {
    /// Its variant of that name.
    ///
    /// # Errors
    /// [`ObjectiveError::BadValue`], which lists the variants, the nearest name first.
    pub fn variant(&self, name: &str) -> Result<&'static Variant, ObjectiveError> {
        let found = self.variants.iter().find(|variant| variant.name == name);
        found.ok_or_else(|| {
            let names = self.variants.iter().map(|variant| variant.name.to_owned());
            let known: Vec<String> = nearest_first(name, names)
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            self.no_variant(
                &name.into(),
                match known.is_empty() {
                    true => "the method has none".into(),
                    false => format!("it is one of {}", known.join(", ")),
                },
            )
        })
    }

    /// Options in which no variant is named any more: laid over those of the variant that [`VARIANT`] names, and as they are
    /// where it names none.
    ///
    /// # Errors
    /// As [`Method::variant`].
    pub fn resolve(
        &self,
        options: &serde_json::Value,
    ) -> Result<serde_json::Value, ObjectiveError> {
        let Some(named) = options.get(VARIANT) else {
            return Ok(options.clone());
        };
        let Some(name) = named.as_str() else {
            return Err(self.no_variant(named, "a name is needed".into()));
        };
        let mut all = self.variant(name)?.options();
        if let (Some(all), Some(given)) = (all.as_object_mut(), options.as_object()) {
            all.extend(given.clone());
            all.remove(VARIANT);
        }
        Ok(all)
    }

    fn no_variant(&self, value: &serde_json::Value, reason: String) -> ObjectiveError {
        ObjectiveError::BadValue {
            method: self.name,
            option: VARIANT.to_owned(),
            value: value.to_string(),
            reason,
        }
    }
}

/// All methods that a run can train. Secrets of RLHF II ([`secrets2`]) also needs rows with the strengths of an ensemble,
/// which `avascope data doubtful` writes, unless only its contrastive term is on.
pub const METHODS: &[Method] = &[
    ava_p::METHOD,
    ava_d::METHOD,
    avril_tokens::METHOD,
    preference::PROBIT,
    preference::LOGISTIC,
    prefix_preference::METHOD,
    bradley_terry::SUM,
    bradley_terry::METHOD,
    dpo::METHOD,
    pref_transformer::METHOD,
    red::METHOD,
    fine_grained::METHOD,
    irl_margin::METHOD,
    secrets2::METHOD,
];

/// The objective of a method's name and options (a JSON object, or null for the defaults). One of the options may be
/// [`VARIANT`].
///
/// # Errors
/// [`ObjectiveError`], when the name, an option or an option's value is not known; it lists what is.
pub fn build(
    name: &str,
    options: &serde_json::Value,
) -> Result<Box<dyn Objective>, ObjectiveError> {
    match METHODS.iter().find(|method| method.name == name) {
        Some(method) => (method.build)(&method.resolve(options)?),
        None => Err(ObjectiveError::UnknownMethod {
            name: name.to_owned(),
            known: nearest_first(name, METHODS.iter().map(|m| m.name.to_owned())),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_method_builds_from_its_own_defaults_and_from_nothing() {
        for method in METHODS {
            for options in [(method.defaults)(), json!({}), serde_json::Value::Null] {
                let built = build(method.name, &options);
                assert!(
                    built.is_ok_and(|o| method.name.starts_with(o.name())),
                    "{}",
                    method.name
                );
            }
        }
    }

    #[test]
    fn every_variant_builds_and_says_only_what_differs_or_is_the_default_by_name() {
        for method in METHODS {
            for variant in method.variants {
                let options = variant.options();
                let built = build(method.name, &options);
                assert!(built.is_ok(), "{} {}", method.name, variant.name);
                // All words and numbers are plain JSON or plain words: none is lost on the way.
                let defaults = (method.defaults)();
                for (name, value) in options.as_object().expect("an object") {
                    let kinds = (value.is_string(), value.is_number());
                    let wanted = (defaults[name].is_string(), defaults[name].is_number());
                    assert_eq!(kinds, wanted, "{} {name}", variant.name);
                }
            }
        }
    }

    #[test]
    fn a_variant_is_chosen_by_its_name_and_options_beside_it_are_laid_over_its_own() {
        for method in METHODS {
            for variant in method.variants {
                let named = json!({"variant": variant.name});
                assert_eq!(method.resolve(&named), Ok(variant.options()));
                assert!(build(method.name, &named).is_ok(), "{}", variant.name);
            }
        }
        let trains_sigma = |options| build("ava_p", &options).map(|ava| ava.informs_std());
        assert_eq!(
            trains_sigma(json!({"variant": "w/o irl"})).ok(),
            Some(false)
        );
        let beside = json!({"variant": "w/o irl", "lambda": 0.1});
        assert_eq!(trains_sigma(beside).ok(), Some(true));
        let said = |method: &str, options| {
            let error = build(method, &options).err();
            error.map(|e| e.to_string()).unwrap_or_default()
        };
        let error = said("ava_p", json!({"variant": "w/o ir"}));
        assert!(
            error.contains("`variant` of `ava_p` cannot be \"w/o ir\": it is one of `w/o irl`, "),
            "{error}"
        );
        assert!(said("dpo", json!({"variant": "w/o irl"})).contains("the method has none"));
        assert!(said("ava_p", json!({"variant": 3})).contains("a name is needed"));
        let error = said("ava_p", json!({"variant": "w/o irl", "lamda": 0.1}));
        assert!(error.contains("options: lambda,"), "{error}");
    }

    #[test]
    fn the_nearest_name_comes_first() {
        let error = build("ava-p", &json!({})).err().map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("known methods: ava_p")));
        let error = build("ava_p", &json!({"lamda": 0.1}))
            .err()
            .map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("options: lambda,")));
        let error = build("ava_p", &json!({"neg": "flor"}))
            .err()
            .map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("it is one of `floor`, ")));
        // Whatever else is wrong is said without Rust's words.
        let error = build("ava_p", &json!({"lambda": "much"}))
            .err()
            .map(|e| e.to_string());
        assert!(error.is_some_and(|e| e.contains("a number is needed")));
        assert!(build("ava_p", &json!([1])).is_err());
    }

    #[test]
    fn warm_up_rises_from_zero_to_one() {
        let at = |step| Progress { step, total: 100 }.warm_up(0.1);
        assert_eq!((at(0), at(5), at(10), at(99)), (0.0, 0.5, 1.0, 1.0));
        assert_eq!(Progress::END.warm_up(0.1), 1.0);
    }
}
