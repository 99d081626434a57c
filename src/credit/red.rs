//! RED: a token is worth what it adds to the sequence reward model's score of the prefix.
//!
//! ```text
//! r~_i = R(prefix up to i) - R(prefix up to i-1)          sum = R(answer) - R(prompt)
//! r^_i = beta_c r~_i + (1 - beta_c) [i last] R(answer)
//! ```
//!
//! Two models, one of rewards and one of costs, make one by [`reward_and_cost`]; `mixed` and it are formulas that no command
//! asks for yet, `--credit red` is r~ alone.
//!
//! Source: *R3HF / RED*, arXiv 2411.08302, Eq. 3, 6-8. `keep_offset` adds R(prompt) at the first token, so that the sum is
//! R(answer) exactly (ours).

use super::{AnswerMask, Credit, Needs, previous};
use burn::tensor::Tensor;

/// The entry in [`CREDITS`](super::CREDITS): r~ without the prompt's score, which is the same for every answer to it.
pub const RED: Credit = Credit {
    name: "red",
    title: "What each token adds to the score of the prefix (RED)",
    citation: "R3HF / RED, arXiv 2411.08302, Eq. 3, 6-8",
    needs: Needs {
        prefixes: true,
        ..Needs::NOTHING
    },
    spread: |sequence| {
        let prefix = sequence.prefix.clone()?;
        Some(differences(prefix, &sequence.answer, false))
    },
};

/// r~ `[B, T]` from the scalar head read after every token `[B, T]`. Row b's first answer token must not be token 0.
pub fn differences(prefix_score: Tensor<2>, mask: &AnswerMask, keep_offset: bool) -> Tensor<2> {
    let before = previous(prefix_score.clone());
    let dense = mask.inside(prefix_score - before.clone());
    if keep_offset {
        return dense + mask.inside(before) * mask.first.clone();
    }
    dense
}

/// r^ `[B, T]`: the dense reward mixed with the sparse one.
pub fn mixed(
    dense: Tensor<2>,
    prefix_score: Tensor<2>,
    mask: &AnswerMask,
    beta_c: f64,
) -> Tensor<2> {
    let sparse = mask.inside(prefix_score) * mask.last.clone();
    dense.mul_scalar(beta_c) + sparse.mul_scalar(1.0 - beta_c)
}

/// Two models' token rewards as one, any shape: (reward - cost) / 2, where a larger cost is worse.
pub fn reward_and_cost<const D: usize>(reward: Tensor<D>, cost: Tensor<D>) -> Tensor<D> {
    (reward - cost).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::super::penalised;
    use super::*;
    use crate::objective::golden::{self, close, flat, leaf, tensor, values};
    use burn::tensor::Device;

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("red") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let answer: Vec<bool> = flat(g.data("resp")).iter().map(|x| *x == 1.0).collect();
        let mask = AnswerMask::new(&answer, golden::shape::<2>(g.data("resp"))[0], &device);
        for (name, case) in g.cases() {
            let number = |key: &str| case[key].as_f64().expect("number");
            let prefix = leaf::<2>(g.data("prefix_score"), &device);
            let logp = leaf::<2>(g.data("logp"), &device);
            let dense = differences(prefix.clone(), &mask, case["keep_offset"] == true);
            let combined = mixed(dense.clone(), prefix.clone(), &mask, number("beta_c"));
            let reference = tensor(g.data("ref_logp"), &device);
            let kl = number("kl_coef");
            let last = penalised(combined.clone(), logp.clone(), reference, &mask, kl);
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
            check("dense", values(dense.clone()));
            check("dense_sum", values(dense.sum_dim(1)));
            check("combined", values(combined));
            check("final", values(last.clone()));
            // What the tokens get is what the answer adds to its prompt; with the offset it is the answer's score.
            let total = flat(&want["dense_sum"]);
            let (score, offset) = (flat(&want["sequence_score"]), flat(&want["offset"]));
            for (i, sum) in total.iter().enumerate() {
                let kept = if case["keep_offset"] == true {
                    0.0
                } else {
                    offset[i]
                };
                assert!((sum - (score[i] - kept)).abs() < 1e-9);
            }
            let gradients = last.sum().neg().backward();
            for (key, leaf) in [("prefix_score", &prefix), ("logp", &logp)] {
                let got = golden::gradient(leaf, &gradients);
                close(
                    name,
                    &got,
                    &flat(&want["grad"][key]),
                    tol.grad_abs,
                    tol.grad_rel,
                );
            }
        }
    }

    #[test]
    fn a_cost_model_takes_away_half_of_what_it_says() {
        let Some(g) = golden::load("red") else {
            return;
        };
        let given = &g.0["inputs"]["two_models"];
        let [reward, cost] =
            ["reward", "cost"].map(|key| tensor::<1>(&given[key], &Device::flex()));
        let exact = flat(&g.expected("two_models")["aggregate"]);
        let got = values(reward_and_cost(reward, cost));
        close("aggregate", &got, &exact, 1e-6, 1e-6);
    }

    #[test]
    fn two_models_spread_apart_or_together_alike() {
        let Some(g) = golden::load("red") else {
            return;
        };
        let device = Device::flex();
        let answer: Vec<bool> = flat(g.data("resp")).iter().map(|x| *x == 1.0).collect();
        let mask = AnswerMask::new(&answer, golden::shape::<2>(g.data("resp"))[0], &device);
        // The file's scores as the reward model's, and another table as the cost model's.
        let reward = tensor::<2>(g.data("prefix_score"), &device);
        let cost = tensor::<2>(g.data("logp"), &device);
        let apart = reward_and_cost(
            differences(reward.clone(), &mask, false),
            differences(cost.clone(), &mask, false),
        );
        let sum = values(apart.clone().sum_dim(1));
        let together = differences(reward_and_cost(reward, cost), &mask, false);
        close("tokens", &values(apart), &values(together), 1e-6, 1e-6);
        // Half of what the one adds up to, less half of what the other does.
        let flat_cost = flat(g.data("logp"));
        let width = flat_cost.len() / sum.len();
        for (b, (sum, reward)) in sum
            .iter()
            .zip(flat(&g.expected("paper")["dense_sum"]))
            .enumerate()
        {
            let row = b * width..(b + 1) * width;
            let on = &answer[row.clone()];
            let (first, last) = (
                on.iter().position(|a| *a).expect("an answer"),
                on.iter().rposition(|a| *a).expect("an answer"),
            );
            let cost = flat_cost[row.start + last] - flat_cost[row.start + first - 1];
            assert!((sum - 0.5 * (reward - cost)).abs() < 1e-6, "{b}: {sum}");
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

    #[test]
    fn one_line_example_holds() {
        let device = Device::flex();
        let prefix = Tensor::<2>::from_floats([[0.3, 0.5, -0.1, 1.2]], &device);
        let mask = AnswerMask::new(&[false, true, true, true], 1, &device);
        let dense = differences(prefix.clone(), &mask, false);
        close(
            "dense",
            &values(dense.clone()),
            &[0.0, 0.2, -0.6, 1.3],
            1e-6,
            0.0,
        );
        let half = mixed(dense, prefix, &mask, 0.5);
        close("mixed", &values(half), &[0.0, 0.1, -0.3, 1.25], 1e-6, 0.0);
    }
}
