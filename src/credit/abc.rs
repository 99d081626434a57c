//! ABC: attention says which tokens the sequence's reward belongs to.
//!
//! ```text
//! r_i = beta w_i R + (1 - beta) [i last] R              sum_i w_i = 1, so sum_i r_i = R
//! ABC:   w = the reward model's last layer, mean over heads, row of the last answer token
//! ABC-D: w = the generator's attention to token i, mean over the steps that emit a later token and see i, or the last step
//! ```
//!
//! Source: *Dense Reward for Free in RLHF*, arXiv 2402.00782; github XanderJC/attention-based-credit@0a08591. The public
//! code stores the ABC-D map one position to the right (`code_shift`). An answer of one token, which nothing attends to
//! while it is generated, gives 0/0 there: all weight goes to its last token (ours).

use super::{AnswerMask, Credit, Needs, Sequence, previous};
use burn::tensor::{Tensor, TensorData};

/// The entry in [`CREDITS`](super::CREDITS): attention of the reward model's last layer, beta 1.
pub const ABC: Credit = Credit {
    name: "abc",
    title: "Attention of the reward model's last token (ABC)",
    citation: "Dense Reward for Free, arXiv 2402.00782",
    needs: Needs {
        attention: true,
        ..Needs::NOTHING
    },
    spread: |sequence| {
        spread(sequence, |attention| {
            reward_model_weights(attention, &sequence.answer)
        })
    },
};

/// The entry in [`CREDITS`](super::CREDITS): attention where the answer would be written, by the trunk that scores it, beta 1.
/// The paper takes the policy that wrote the answer: the same trunk where only heads are trained, another one otherwise.
pub const ABC_D: Credit = Credit {
    name: "abc_d",
    title: "Attention of the trunk where it would write the answer (ABC-D)",
    citation: "Dense Reward for Free, arXiv 2402.00782",
    needs: Needs {
        attention: true,
        ..Needs::NOTHING
    },
    spread: |sequence| {
        spread(sequence, |attention| {
            generator_weights(attention, &sequence.answer, Generator::Mean, false)
        })
    },
};

/// R by attention weights.
fn spread(sequence: &Sequence, weights: impl FnOnce(Tensor<4>) -> Tensor<2>) -> Option<Tensor<2>> {
    let weights = weights(sequence.attention.clone()?);
    let reward = sequence.reward.clone();
    Some(redistribute(reward, weights, &sequence.answer, 1.0))
}

/// Which of the generator's attention rows count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// All steps that emit an answer token after the first.
    Mean,
    /// The step that emits the last token.
    Last,
}

/// ABC weights `[B, T]` from the reward model's last-layer attention `[B, heads, T, T]` (query, key).
pub fn reward_model_weights(attention: Tensor<4>, mask: &AnswerMask) -> Tensor<2> {
    let map: Tensor<3> = attention.mean_dim(1).squeeze_dim(1);
    // Row of the last answer token: [B,1,T] x [B,T,T].
    let rows: Tensor<3> = mask.last.clone().unsqueeze_dim(1);
    let received: Tensor<2> = rows.matmul(map).squeeze_dim(1);
    normalised(mask.inside(received), mask)
}

/// ABC-D weights `[B, T]` from the generator's last-layer attention `[B, heads, T, T]`; query row i-1 emits token i.
pub fn generator_weights(
    attention: Tensor<4>,
    mask: &AnswerMask,
    kind: Generator,
    code_shift: bool,
) -> Tensor<2> {
    let map: Tensor<3> = attention.mean_dim(1).squeeze_dim(1);
    let [rows, tokens, _] = map.dims();
    // share[b,q,i]: how much the query row q counts for token i; rows run from the first answer token to the one before
    // the last, and see tokens up to their own position.
    let mut share = vec![0f32; rows * tokens * tokens];
    for (b, answer) in mask.answer.chunks(tokens).enumerate() {
        let (Some(first), Some(last)) = (
            answer.iter().position(|a| *a),
            answer.iter().rposition(|a| *a),
        ) else {
            continue;
        };
        for (i, _) in answer.iter().enumerate().filter(|(_, a)| **a) {
            let emitting = match kind {
                Generator::Mean => first.max(i)..last,
                Generator::Last => last.saturating_sub(1).max(first).max(i)..last,
            };
            let count = emitting.len() as f32;
            for q in emitting {
                share[(b * tokens + q) * tokens + i] = 1.0 / count;
            }
        }
    }
    let shape = [rows, tokens, tokens];
    let share = Tensor::<3>::from_data(TensorData::new(share, shape), &map.device());
    let unseen = share.clone().equal_elem(0.0);
    let received: Tensor<2> = (map.mask_fill(unseen, 0.0) * share)
        .sum_dim(1)
        .squeeze_dim(1);
    let received = match code_shift {
        true => mask.inside(previous(received)),
        false => received,
    };
    normalised(received, mask)
}

/// The sequence reward R `[B]` spread by weights `[B, T]`; `beta` 0 puts all of it on the last token.
pub fn redistribute(
    reward: Tensor<1>,
    weights: Tensor<2>,
    mask: &AnswerMask,
    beta: f64,
) -> Tensor<2> {
    let share = weights.mul_scalar(beta) + mask.last.clone().mul_scalar(1.0 - beta);
    share * reward.unsqueeze_dim(1)
}

/// Weights that sum to 1; a row without any weight gives it to its last token.
fn normalised(weights: Tensor<2>, mask: &AnswerMask) -> Tensor<2> {
    let total = weights.clone().sum_dim(1);
    let [rows, tokens] = weights.dims();
    let empty = total.clone().lower_equal_elem(0.0);
    let share = weights / total.mask_fill(empty.clone(), 1.0);
    share.mask_where(empty.expand([rows, tokens]), mask.last.clone())
}

#[cfg(test)]
mod tests {
    use super::super::{penalised, uniform};
    use super::*;
    use crate::objective::golden::{self, close, flat, tensor, values};
    use burn::tensor::Device;

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("abc") else {
            return;
        };
        let tol = g.tolerance(device);
        let answer: Vec<bool> = flat(g.data("resp")).iter().map(|x| *x == 1.0).collect();
        let mask = AnswerMask::new(&answer, golden::shape::<2>(g.data("resp"))[0], device);
        for (name, case) in g.cases() {
            let number = |key: &str| case[key].as_f64().expect("number");
            let shift = case["shift"] == true;
            let generated = |kind| {
                generator_weights(tensor(g.data("gen_attention"), device), &mask, kind, shift)
            };
            let weights = match case["kind"].as_str() {
                Some("abc") => reward_model_weights(tensor(g.data("rm_attention"), device), &mask),
                Some("sparse") => uniform::sparse(&mask),
                Some("uniform") => uniform::uniform(&mask),
                Some("abcd_mean") => generated(Generator::Mean),
                Some("abcd_last") => generated(Generator::Last),
                other => panic!("unknown case {other:?}"),
            };
            let score = tensor(g.data("score"), device);
            let reward = redistribute(score, weights.clone(), &mask, number("beta"));
            let (logp, reference) = (
                tensor(g.data("logp"), device),
                tensor(g.data("ref_logp"), device),
            );
            let last = penalised(reward.clone(), logp, reference, &mask, number("kl_coef"));
            let want = g.expected(name);
            let check = |key: &str, got: Vec<f64>| {
                close(
                    &format!("{name} {key}"),
                    &got,
                    &flat(&want[key]),
                    tol.abs,
                    tol.rel,
                );
            };
            check("weights", values(weights));
            check("reward", values(reward.clone()));
            check("final", values(last));
            check("reward_sum", values(reward.sum_dim(1)));
        }
    }

    #[test]
    fn golden_values_hold() {
        golden_values_hold_on(&Device::flex());
    }

    #[test]
    fn golden_values_hold_on_a_gpu() {
        if let Some(device) = golden::wgpu() {
            golden_values_hold_on(&device);
        }
    }

    #[test]
    fn one_line_example_holds() {
        let device = Device::flex();
        let mask = AnswerMask::new(&[true; 4], 1, &device);
        let weights = Tensor::<2>::from_floats([[0.1, 0.2, 0.3, 0.4]], &device);
        let reward = Tensor::<1>::from_floats([2.0], &device);
        let spread = redistribute(reward, weights, &mask, 0.8);
        close(
            "spread",
            &values(spread),
            &[0.16, 0.32, 0.48, 1.04],
            1e-6,
            0.0,
        );
    }
}
