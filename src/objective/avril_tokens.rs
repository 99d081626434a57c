//! AVRIL on text: a state is a prefix, an action the next token, Q a head of its own.
//!
//! ```text
//! delta[s] = Q[s, a_s] - gamma Q[s+1, a_{s+1}]
//! loss     = (1/n) sum_s [ -log softmax(beta Q[s,.])[a_s] + kappa KL[q_s || N(0, s0^2)] - lambda log q_s(delta[s]) ]
//! ```
//!
//! s runs over the n steps that have a successor in the same answer: an answer of k tokens gives k-1 rows (s, a, s', a'),
//! and its last action has no term at all (`terminal = drop`). The reward is one of the state, read before its token.
//!
//! Source: *Scalable Bayesian Inverse Reinforcement Learning*, arXiv 2102.06483, Eq. 1-4, and github
//! XanderJC/scalable-birl@223d030 sbirl/models.py, whose defaults are those here: beta = gamma = kappa = lambda = 1, a
//! state-only reward, means over the rows, no stop-gradient. Prefixes and tokens as states and actions are those of AVA,
//! arXiv 2411.09341; `terminal = zero`, `reward_read = next_state`, s0 and the sum are ours. With these switches and
//! `normalise = sum` AVA-d gives the same loss; on tables the formula stands in [`avril`](super::avril).

use super::ava_terms::{AvaOptions, AvaTerms, Normalise, Terminal, constant};
use super::options::{self, check};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores, Term,
    Variant,
};
use crate::reward::{
    LikelihoodForm, Prior, PriorForm, QHead, QMode, RewardRead, Steps, StepsConfig,
};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "avril",
    title: "AVRIL on tokens",
    citation: "AVRIL, arXiv 2102.06483, Eq. 1-4",
    build: |options| Ok(Box::new(AvrilTokens::new(options)?)),
    defaults: options::defaults::<AvrilTokenOptions>,
    variants: &[
        Variant {
            name: "state-action reward",
            options: &[("reward_read", "next_state")],
            note: "the reward sees its token; the public code has it as a switch",
        },
        Variant {
            name: "pretrained Q",
            options: &[("q_head", "lm"), ("q_mode", "logsoftmax")],
            note: "Q from the language model's head, as AVA has it (not in the source)",
        },
    ],
};

/// What the sums are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The rows (s, a, s', a') of the whole batch.
    Mean,
    /// 1.
    Sum,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AvrilTokenOptions {
    /// own, logits, normalised, state: a Q-network and a state-only reward, as in the public code.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// Discount. 1: the public code's.
    pub gamma: f64,
    /// Weight of the TD term. 1: the public code's.
    pub lambda: f64,
    /// The first part of training over which lambda rises from 0. 0: the public code has none.
    pub lambda_warmup: f64,
    /// Weight of the KL to the prior. 1: the public code's.
    pub kappa: f64,
    /// s0, the prior's standard deviation. 1: the public code's; the head starts at 1 whatever s0 is.
    pub prior_sd: f64,
    /// drop: as in the public code.
    pub terminal: Terminal,
    /// mean: as in the public code.
    pub reduce: Reduce,
}

impl Default for AvrilTokenOptions {
    fn default() -> Self {
        Self {
            steps: StepsConfig {
                q_head: QHead::Own,
                q_mode: QMode::Logits,
                ll: LikelihoodForm::Normalised,
                reward_read: RewardRead::State,
                ..StepsConfig::default()
            },
            gamma: 1.0,
            lambda: 1.0,
            lambda_warmup: 0.0,
            kappa: 1.0,
            prior_sd: 1.0,
            terminal: Terminal::Drop,
            reduce: Reduce::Mean,
        }
    }
}

/// AVRIL on tokens with its options.
pub struct AvrilTokens {
    options: AvrilTokenOptions,
    /// The same as AVA's, whose terms these are but for the prior.
    ava: AvaOptions,
}

impl AvrilTokens {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let options: AvrilTokenOptions = options::parse("avril", options)?;
        let ava = AvaOptions {
            steps: options.steps.clone(),
            gamma: options.gamma,
            lambda: options.lambda,
            lambda_warmup: options.lambda_warmup,
            kappa: options.kappa,
            prior: Prior {
                prior: PriorForm::Normal,
                prior_scale: options.prior_sd,
            },
            terminal: options.terminal,
            // The last action has its likelihood where it has its other terms.
            ll_last: options.terminal == Terminal::Zero,
            normalise: Normalise::Sum,
        };
        // Before AVA's own check, which would name the option as AVA does.
        let s0 = options.prior_sd;
        let ok = (1e-3..=1e3).contains(&s0);
        check(ok, "avril", "prior_sd", s0, "0.001 to 1000")?;
        ava.check("avril")?;
        Ok(Self { options, ava })
    }

    /// Rows of the whole batch.
    fn rows_of(&self, steps: &Steps) -> f64 {
        match self.options.terminal {
            Terminal::Drop => steps.counts.transitions,
            Terminal::Zero => steps.counts.steps,
        }
        .max(1.0)
    }
}

impl Objective for AvrilTokens {
    fn name(&self) -> &'static str {
        "avril"
    }

    fn rows(&self) -> RowKind {
        RowKind::Demonstrations
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn informs_std(&self) -> bool {
        self.ava.lambda > 0.0
    }

    fn diagnostics(&self, steps: &Steps) -> Vec<Term> {
        self.ava.diagnostics(steps)
    }

    fn td_target(&self, steps: &Steps) -> Option<Tensor<2>> {
        (self.ava.lambda > 0.0).then(|| AvaTerms::of(steps, &self.ava).delta)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.ava.warnings();
        if self.options.steps.reward_read == RewardRead::State {
            warnings.push(
                "reward_read state: a token's reward is read before the token and cannot tell two tokens after one \
                 prefix apart; next_state can"
                    .to_owned(),
            );
        }
        warnings
    }

    /// No comparison trains a score here; the return is a sum.
    fn ranking_score(&self) -> ScoreKind {
        ScoreKind::Sum
    }

    fn evaluate(&self, steps: &Steps, progress: Progress) -> Evaluation {
        let terms = AvaTerms::of(steps, &self.ava);
        let kl = terms.kl.sum();
        let (ll, log_q) = (terms.ll.sum(), terms.log_q.sum());
        let lambda = self.ava.lambda_at(progress);
        let objective = ll.clone() - kl.clone().mul_scalar(self.options.kappa)
            + log_q.clone().mul_scalar(lambda);
        let rows = self.rows_of(steps);
        let divisor = match self.options.reduce {
            Reduce::Mean => rows,
            Reduce::Sum => 1.0,
        };
        let loss = objective.neg().div_scalar(divisor);
        let share = |x: Tensor<1>| x.detach().div_scalar(rows);
        Evaluation {
            terms: vec![
                ("loss", loss.clone().detach()),
                ("avril/nll", share(ll.neg())),
                ("avril/kl", share(kl)),
                ("avril/td_logq", share(log_q)),
                ("avril/lambda", constant(steps, lambda)),
            ],
            loss,
            scores: Scores::of(steps).detach(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ava_d::AvaD;
    use super::super::golden::{
        self, Golden, Outputs, close, flat, leaf, random_pairs, scalar, tensor, values,
    };
    use super::*;
    use crate::reward::Layout;
    use burn::tensor::{Device, Int, TensorData};
    use serde_json::json;

    /// The golden file's trajectories as answers: after n actions come n+1 tokens, and step s stands in the n-th state.
    struct Tables {
        layout: Layout,
        /// The state at each position, and the (state, action) that led to it, `[B*T]`.
        states: Tensor<1, Int>,
        arrived: Tensor<1, Int>,
        q: Tensor<2>,
        mean: [Tensor<2>; 2],
        log_std: [Tensor<2>; 2],
    }

    fn tables(g: &Golden, device: &Device) -> Tables {
        let trajectories: Vec<Vec<(usize, usize)>> = g.0["inputs"]["trajectories"]
            .as_array()
            .expect("trajectories")
            .iter()
            .map(|t| {
                flat(t)
                    .chunks(2)
                    .map(|p| (p[0] as usize, p[1] as usize))
                    .collect()
            })
            .collect();
        let tokens = trajectories.iter().map(Vec::len).max().unwrap_or(0) + 1;
        let actions = golden::shape::<2>(g.data("Q"))[1];
        let rows = trajectories.len();
        let mut layout = Layout {
            rows,
            tokens,
            ids: vec![0; rows * tokens],
            segments: vec![0; rows * tokens],
            response: vec![false; rows * tokens],
            pairs: None,
        };
        let (mut states, mut arrived) = (vec![0i64; rows * tokens], vec![0i64; rows * tokens]);
        for (row, trajectory) in trajectories.iter().enumerate() {
            layout.segments[row * tokens] = 1;
            for (i, (state, action)) in trajectory.iter().enumerate() {
                let at = row * tokens + i;
                states[at] = *state as i64;
                layout.ids[at + 1] = *action as u32;
                layout.segments[at + 1] = 1;
                layout.response[at + 1] = true;
                arrived[at + 1] = (state * actions + action) as i64;
            }
        }
        let ints = |v: Vec<i64>| {
            let n = v.len();
            Tensor::<1, Int>::from_data(TensorData::new(v, [n]), device)
        };
        let table = |key: &str| {
            let by_state = tensor::<1>(g.data(&format!("{key}_s")), device).unsqueeze_dim(1);
            let by_both = tensor::<2>(g.data(&format!("{key}_sa")), device);
            let n = by_both.dims().iter().product::<usize>();
            [
                by_state.require_grad(),
                by_both.reshape([n, 1]).require_grad(),
            ]
        };
        Tables {
            layout,
            states: ints(states),
            arrived: ints(arrived),
            q: leaf(g.data("Q"), device),
            mean: table("mean"),
            log_std: table("logsd"),
        }
    }

    impl Tables {
        fn outputs(&self, state_only: bool) -> Outputs {
            let (b, t) = (self.layout.rows, self.layout.tokens);
            let actions = self.q.dims()[1];
            let read = |tables: &[Tensor<2>; 2]| match state_only {
                true => tables[0].clone().select(0, self.states.clone()),
                false => tables[1].clone().select(0, self.arrived.clone()),
            };
            Outputs {
                logits: self
                    .q
                    .clone()
                    .select(0, self.states.clone())
                    .reshape([b, t, actions]),
                mean: read(&self.mean).reshape([b, t]),
                log_std: read(&self.log_std).reshape([b, t]),
                attention: None,
            }
        }
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("avril") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        for (name, case) in g.cases() {
            let t = tables(&g, &device);
            let state_only = case["state_only"] == true;
            let mut options = golden::options(case, &(METHOD.defaults)());
            options["reward_read"] = if state_only { "state" } else { "next_state" }.into();
            let avril = AvrilTokens::new(&options).expect("golden options");
            let out = t.outputs(state_only);
            let steps = golden::steps(&t.layout, &out, avril.steps_config());
            assert_eq!(steps.counts.transitions, 7.0);
            let result = avril.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            // Per row in the file; here at the steps that have a successor, row after row.
            let kept = values(steps.bootstrap.clone());
            let per_row = |x: Tensor<2>| -> Vec<f64> {
                let all = values(x).into_iter().zip(&kept);
                all.filter(|(_, m)| **m == 1.0).map(|(x, _)| x).collect()
            };
            let terms = AvaTerms::of(&steps, &avril.ava);
            let check = |key: &str, got: Vec<f64>| {
                let what = format!("{name} {key}");
                close(&what, &got, &flat(&want[key]), tol.abs, tol.rel);
            };
            check("loss", values(result.loss.clone()));
            check("delta", per_row(terms.delta));
            check("log_b", per_row(terms.ll));
            check("log_q", per_row(terms.log_q));
            check("kl_each", per_row(terms.kl));
            let gradients = result.loss.backward();
            let (which, suffix) = if state_only { (0, "s") } else { (1, "sa") };
            for (key, leaf) in [
                ("Q".to_owned(), &t.q),
                (format!("mean_{suffix}"), &t.mean[which]),
                (format!("logsd_{suffix}"), &t.log_std[which]),
            ] {
                let what = format!("{name} grad {key}");
                let exact = flat(&want["grad"][&key]);
                let got = golden::gradient(leaf, &gradients);
                close(&what, &got, &exact, tol.grad_abs, tol.grad_rel);
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

    fn demonstrations(device: &Device) -> (Layout, Outputs) {
        let (mut layout, out) = random_pairs(device);
        layout.pairs = None;
        (layout, out)
    }

    #[test]
    fn with_the_same_switches_ava_d_gives_the_same_loss_and_gradients() {
        let device = Device::flex().autodiff();
        for (terminal, read) in [("drop", "state"), ("zero", "next_state")] {
            let shared = json!({"gamma": 0.9, "lambda": 0.4, "kappa": 1.2, "beta": 1.3, "q_head": "own",
                "q_mode": "logits", "ll": "normalised", "reward_read": read, "terminal": terminal,
                "lambda_warmup": 0.0});
            let with = |more: Value| {
                let mut all = shared.clone();
                for (key, value) in more.as_object().expect("object") {
                    all[key] = value.clone();
                }
                all
            };
            let avril = AvrilTokens::new(&with(json!({"reduce": "sum"}))).expect("avril");
            let ava = AvaD::new(&with(
                json!({"normalise": "sum", "ll_last": terminal == "zero"}),
            ))
            .expect("ava_d");
            let run = |objective: &dyn Objective| {
                let (layout, mut out) = demonstrations(&device);
                out.logits = out.logits.require_grad();
                out.mean = out.mean.require_grad();
                out.log_std = out.log_std.require_grad();
                let steps = golden::steps(&layout, &out, objective.steps_config());
                let loss = objective.evaluate(&steps, Progress::END).loss;
                let gradients = loss.backward();
                let mut all = vec![scalar(&loss)];
                all.extend(golden::gradient(&out.logits, &gradients));
                all.extend(golden::gradient(&out.mean, &gradients));
                all.extend(golden::gradient(&out.log_std, &gradients));
                all
            };
            close(terminal, &run(&avril), &run(&ava), 1e-6, 1e-6);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let device = Device::flex().autodiff();
        let avril = AvrilTokens::new(&json!({"prior_sd": 1.7, "lambda": 0.5})).expect("avril");
        let (layout, mut out) = demonstrations(&device);
        out.logits = out.logits.require_grad();
        out.log_std = out.log_std.require_grad();
        let loss = |out: &Outputs| {
            let steps = golden::steps(&layout, out, avril.steps_config());
            avril.evaluate(&steps, Progress::END).loss
        };
        let gradients = loss(&out).backward();
        let slope = golden::gradient(&out.logits, &gradients);
        golden::directional(&out.logits, &slope, 1e-2, |logits| {
            let out = out.clone();
            scalar(&loss(&Outputs { logits, ..out }))
        });
        let slope = golden::gradient(&out.log_std, &gradients);
        golden::directional(&out.log_std, &slope, 1e-2, |log_std| {
            let out = out.clone();
            scalar(&loss(&Outputs { log_std, ..out }))
        });
    }

    #[test]
    fn a_single_token_answer_has_no_term_and_the_defaults_warn_of_their_own_degeneracy() {
        let device = Device::flex();
        let avril = AvrilTokens::new(&Value::Null).expect("avril");
        let (mut layout, out) = demonstrations(&device);
        // One answer token a row: the one after the prompt.
        for row in layout.response.chunks_mut(5) {
            row.copy_from_slice(&[false, false, true, false, false]);
        }
        let steps = golden::steps(&layout, &out, avril.steps_config());
        assert_eq!(steps.counts.transitions, 0.0);
        assert_eq!(scalar(&avril.evaluate(&steps, Progress::END).loss), 0.0);
        let warnings = avril.warnings().join(" ");
        assert!(warnings.contains("not below kappa"), "{warnings}");
        assert!(AvrilTokens::new(&json!({"prior_sd": 0.0})).is_err());
    }
}
