//! What a credit reads, and how one is found by its name.

use super::{AnswerMask, CREDITS};
use crate::objective::{Objective, ScoreKind, nearest_first};
use crate::reward::{RewardRead, Rwt};
use burn::tensor::Tensor;

/// A way to spread a sequence's reward over its tokens.
#[derive(Debug)]
pub struct Credit {
    /// Name in commands and records.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// Where the formula comes from.
    pub citation: &'static str,
    /// What must be computed for it.
    pub needs: Needs,
    /// Token rewards `[B, T]`, 0 outside the answer; `None` where something that it [needs](Needs) is not there.
    pub spread: fn(&Sequence) -> Option<Tensor<2>>,
}

/// What must be computed for a credit beside the method's own token rewards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The last layer's attention `[B, heads, T, T]`.
    pub attention: bool,
    /// The policy as it was before training.
    pub reference: bool,
    /// The score of every prefix from one forward pass.
    pub prefixes: bool,
}

/// Credits are told apart by their names.
impl PartialEq for Credit {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Needs {
    /// The method's own token rewards are enough.
    pub const NOTHING: Self = Self {
        attention: false,
        reference: false,
        prefixes: false,
    };
}

/// What is known of B answers, by token position.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The method's own token rewards `[B, T]`, 0 outside the answer.
    pub own: Tensor<2>,
    /// The sequence's reward R `[B]`: the score that the method ranks by.
    pub reward: Tensor<1>,
    /// The score of the text up to each token `[B, T]`. Between two turns of an answer it stays what it was, so that
    /// differences telescope; before the first answer token it is the prompt's.
    pub prefix: Option<Tensor<2>>,
    /// The answer's tokens.
    pub answer: AnswerMask,
    /// The last layer's attention `[B, heads, T, T]` (query, key), where it was asked for.
    pub attention: Option<Tensor<4>>,
    /// The policy's log-probability of each token `[B, T]`, 0 outside the answer.
    pub log_policy: Tensor<2>,
    /// The same of the policy before training, where it was asked for.
    pub reference_log_policy: Option<Tensor<2>>,
    /// The run's option `beta`: [`Objective::beta`].
    pub beta: f64,
}

/// Why a credit cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CreditError {
    /// No such credit.
    #[error("there is no credit `{name}`; known credits: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names, the nearest first.
        known: Vec<String>,
    },
    /// It does not fit the run.
    #[error("the credit `{credit}` does not fit this run of `{method}`: {reason}")]
    Unfit {
        /// The credit.
        credit: &'static str,
        /// The method.
        method: String,
        /// Why, and what to use.
        reason: &'static str,
    },
}

/// The credit of a name; `-` and `_` are the same.
///
/// # Errors
/// [`CreditError::Unknown`], which lists the known ones, the nearest first.
pub fn by_name(name: &str) -> Result<&'static Credit, CreditError> {
    let wanted = name.replace('-', "_").to_lowercase();
    CREDITS
        .iter()
        .find(|credit| credit.name == wanted)
        .ok_or_else(|| CreditError::Unknown {
            name: name.into(),
            known: nearest_first(&wanted, CREDITS.iter().map(|c| c.name.to_owned())),
        })
}

impl Credit {
    /// Whether a run of `objective` can be read with it; `policy_moves` says whether the trunk or an adapter trained.
    ///
    /// # Errors
    /// [`CreditError::Unfit`] with the reason.
    pub fn check(&self, objective: &dyn Objective, policy_moves: bool) -> Result<(), CreditError> {
        let unfit = |reason| {
            Err(CreditError::Unfit {
                credit: self.name,
                method: objective.name().into(),
                reason,
            })
        };
        let steps = objective.steps_config();
        if self.needs.prefixes {
            if objective.needs_attention() || steps.rwt != Rwt::Off {
                return unfit(
                    "its token weights look at later tokens, so one pass does not score every prefix; use `own`, `abc` or `uniform`",
                );
            }
            if objective.ranking_score() == ScoreKind::Last
                && steps.reward_read != RewardRead::NextState
            {
                return unfit(
                    "it reads a reward before its token (`reward_read = state`), so there is no score of the text up to a token; use `own`, `abc` or `uniform`",
                );
            }
        }
        if self.needs.reference && steps.q_after_heads() {
            return unfit(
                "its log-probabilities are not the language model's alone (`q_head = own` or `rwt = reward_and_q`), so they have no log-ratio to what it was; use `own`",
            );
        }
        if self.needs.reference && !policy_moves {
            return unfit(
                "only heads trained, so the policy is what it was and the log-ratio is 0 everywhere; use `own`",
            );
        }
        Ok(())
    }

    /// Whether it is the method's own token rewards.
    pub fn is_own(&self) -> bool {
        self.name == CREDITS[0].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_found_with_either_dash_and_unknown_ones_list_the_nearest_first() {
        assert_eq!(by_name("implicit-dpo").unwrap().name, "implicit_dpo");
        assert!(by_name("own").unwrap().is_own() && !by_name("red").unwrap().is_own());
        let error = by_name("abd").unwrap_err().to_string();
        assert!(error.contains("known credits: abc,"), "{error}");
        for credit in CREDITS {
            assert!(error.contains(credit.name));
        }
    }

    #[test]
    fn credits_that_do_not_fit_say_why() {
        let build = |name, options| crate::objective::build(name, &options).unwrap();
        let red = by_name("red").unwrap();
        let last = build("bradley_terry", json!({}));
        assert!(red.check(last.as_ref(), true).is_ok());
        let state = build("bradley_terry", json!({"reward_read": "state"}));
        let error = red.check(state.as_ref(), true).unwrap_err().to_string();
        assert!(error.contains("reward_read"), "{error}");
        let weighted = build("pref_transformer", json!({}));
        let error = red.check(weighted.as_ref(), true).unwrap_err().to_string();
        assert!(error.contains("later tokens"), "{error}");
        let implicit = by_name("implicit_dpo").unwrap();
        let error = implicit
            .check(last.as_ref(), false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("only heads trained"), "{error}");
        assert!(implicit.check(last.as_ref(), true).is_ok());
        for options in [json!({"q_head": "own"}), json!({"rwt": "reward_and_q"})] {
            let ava = build("ava_p", options);
            let error = implicit.check(ava.as_ref(), true).unwrap_err().to_string();
            assert!(error.contains("language model's alone"), "{error}");
        }
    }
}
