//! AVRIL on tables: the origin of AVA's terms, for Q-networks over states and actions.
//!
//! ```text
//! delta = Q(s,a) - gamma Q(s',a')
//! loss  = sum_rows [ -log softmax(beta Q(s,.))[a] + kappa KL[q || N(0, s0^2)] - lambda log q(delta) ]     (or mean)
//! KL    = log s0 - rho + (exp(2 rho) + mu^2) / (2 s0^2) - 1/2
//! ```
//!
//! Source: *Scalable Bayesian Inverse Reinforcement Learning*, arXiv 2102.06483, Eq. 1-4, and github
//! XanderJC/scalable-birl@223d030 sbirl/models.py, whose defaults are those here (a' is the demonstrator's next action;
//! no stop-gradient). kappa, s0 and the choice of sum or mean are ours.

use crate::reward::log_density;
use burn::tensor::{Int, Tensor, activation};

/// Weights; the defaults are those of the public code.
#[derive(Clone, Debug, PartialEq)]
pub struct AvrilOptions {
    /// Inverse temperature of the policy softmax(beta Q).
    pub beta: f64,
    /// Discount.
    pub gamma: f64,
    /// Weight of the KL.
    pub kappa: f64,
    /// Weight of the TD term.
    pub lambda: f64,
    /// s0, the prior's standard deviation.
    pub prior_sd: f64,
    /// Whether terms are means over the rows instead of sums.
    pub mean: bool,
}

impl Default for AvrilOptions {
    fn default() -> Self {
        Self {
            beta: 1.0,
            gamma: 1.0,
            kappa: 1.0,
            lambda: 1.0,
            prior_sd: 1.0,
            mean: true,
        }
    }
}

/// N rows (s, a, s', a') of demonstrations, already looked up in the tables.
#[derive(Clone, Debug)]
pub struct AvrilRows {
    /// Q(s, .) `[N, A]`.
    pub q: Tensor<2>,
    /// Q(s', .) `[N, A]`.
    pub q_next: Tensor<2>,
    /// a `[N]`.
    pub actions: Tensor<1, Int>,
    /// a' `[N]`.
    pub next_actions: Tensor<1, Int>,
    /// Mean of the reward posterior `[N]`, of s or of (s, a).
    pub mean: Tensor<1>,
    /// Its log standard deviation `[N]`.
    pub log_std: Tensor<1>,
}

/// The loss and its parts.
#[derive(Clone, Debug)]
pub struct AvrilTerms {
    /// `[1]`.
    pub loss: Tensor<1>,
    /// -log B per row `[N]`.
    pub nll: Tensor<1>,
    /// KL to the prior per row `[N]`.
    pub kl: Tensor<1>,
    /// log q(delta) per row `[N]`.
    pub log_q: Tensor<1>,
    /// The residual per row `[N]`.
    pub delta: Tensor<1>,
}

/// KL[N(mean, exp(log_std)^2) || N(0, s0^2)] per element, s0 `prior_sd` above 0.
pub(super) fn kl_to_prior<const D: usize>(
    mean: Tensor<D>,
    log_std: Tensor<D>,
    prior_sd: f64,
) -> Tensor<D> {
    let second_moment = log_std.clone().mul_scalar(2.0).exp() + mean.square();
    second_moment.div_scalar(2.0 * prior_sd * prior_sd) - log_std + (prior_sd.ln() - 0.5)
}

/// The loss of N rows.
pub fn avril(rows: AvrilRows, options: &AvrilOptions) -> AvrilTerms {
    let n = rows.q.dims()[0];
    let take = |table: Tensor<2>, actions: Tensor<1, Int>| -> Tensor<1> {
        table.gather(1, actions.unsqueeze_dim(1)).squeeze_dim(1)
    };
    let log_policy = activation::log_softmax(rows.q.clone().mul_scalar(options.beta), 1);
    let nll = take(log_policy, rows.actions.clone()).neg();
    let delta =
        take(rows.q, rows.actions) - take(rows.q_next, rows.next_actions).mul_scalar(options.gamma);
    let (mu, rho, s0) = (rows.mean, rows.log_std, options.prior_sd);
    let kl = kl_to_prior(mu.clone(), rho.clone(), s0);
    let log_q = log_density(delta.clone(), mu, rho);
    let total = nll.clone().sum() + kl.clone().sum().mul_scalar(options.kappa)
        - log_q.clone().sum().mul_scalar(options.lambda);
    let divisor = if options.mean { n.max(1) as f64 } else { 1.0 };
    AvrilTerms {
        loss: total.div_scalar(divisor),
        nll,
        kl,
        log_q,
        delta,
    }
}

/// The rows (s, a, s', a') of a trajectory of (state, action) pairs: n pairs give n-1 rows, the last action has no term.
pub fn transitions(trajectory: &[(usize, usize)]) -> Vec<[usize; 4]> {
    trajectory
        .windows(2)
        .map(|w| [w[0].0, w[0].1, w[1].0, w[1].1])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, close, flat, leaf, scalar, tensor, values};
    use super::*;
    use burn::tensor::{Device, TensorData};
    use serde_json::{Value, json};

    fn column(rows: &[[usize; 4]], which: usize, device: &Device) -> Tensor<1, Int> {
        let list: Vec<i64> = rows.iter().map(|r| r[which] as i64).collect();
        let n = list.len();
        Tensor::from_data(TensorData::new(list, [n]), device)
    }

    fn trajectories(value: &Value) -> Vec<[usize; 4]> {
        let mut rows = Vec::new();
        for trajectory in value.as_array().expect("trajectories") {
            let pairs: Vec<(usize, usize)> = flat(trajectory)
                .chunks(2)
                .map(|p| (p[0] as usize, p[1] as usize))
                .collect();
            rows.extend(transitions(&pairs));
        }
        rows
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("avril") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let rows = trajectories(&g.0["inputs"]["trajectories"]);
        let given: Vec<f64> = rows.iter().flatten().map(|x| *x as f64).collect();
        assert_eq!(given, flat(g.data("pairs")));
        let [s, a, s2, a2] = [0, 1, 2, 3].map(|i| column(&rows, i, &device));
        for (name, case) in g.cases() {
            let number = |key: &str| case[key].as_f64().expect("number");
            let options = AvrilOptions {
                beta: number("beta"),
                gamma: number("gamma"),
                kappa: number("kappa"),
                lambda: number("lambda"),
                prior_sd: number("prior_sd"),
                mean: case["reduce"] == "mean",
            };
            let q = leaf::<2>(g.data("Q"), &device);
            let state_only = case["state_only"] == true;
            let suffix = if state_only { "s" } else { "sa" };
            let table = |key: &str| match state_only {
                true => tensor::<1>(g.data(&format!("{key}_s")), &device).unsqueeze_dim(1),
                false => tensor::<2>(g.data(&format!("{key}_sa")), &device),
            };
            let (mean, log_std) = (table("mean").require_grad(), table("logsd").require_grad());
            let look_up = |t: &Tensor<2>| -> Tensor<1> {
                let chosen = t.clone().select(0, s.clone());
                match state_only {
                    true => chosen.squeeze_dim(1),
                    false => chosen.gather(1, a.clone().unsqueeze_dim(1)).squeeze_dim(1),
                }
            };
            let result = avril(
                AvrilRows {
                    q: q.clone().select(0, s.clone()),
                    q_next: q.clone().select(0, s2.clone()),
                    actions: a.clone(),
                    next_actions: a2.clone(),
                    mean: look_up(&mean),
                    log_std: look_up(&log_std),
                },
                &options,
            );
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
            check("loss", values(result.loss.clone()));
            check("delta", values(result.delta.clone()));
            check("log_b", values(result.nll.clone().neg()));
            check("log_q", values(result.log_q.clone()));
            check("kl_each", values(result.kl.clone()));
            let gradients = result.loss.backward();
            for (key, got) in [
                ("Q".to_owned(), golden::gradient(&q, &gradients)),
                (
                    format!("mean_{suffix}"),
                    golden::gradient(&mean, &gradients),
                ),
                (
                    format!("logsd_{suffix}"),
                    golden::gradient(&log_std, &gradients),
                ),
            ] {
                let exact = flat(&want["grad"][&key]);
                close(
                    &format!("{name} grad {key}"),
                    &got,
                    &exact,
                    tol.grad_abs,
                    tol.grad_rel,
                );
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

    #[test]
    fn the_worked_example_holds() {
        let device = Device::flex();
        let rows = transitions(&[(0, 1), (1, 0), (2, 1)]);
        let q = tensor::<2>(&json!([[0.5, 1.2], [-0.3, 0.8], [1.0, 0.1]]), &device);
        let [s, a, s2, a2] = [0, 1, 2, 3].map(|i| column(&rows, i, &device));
        let result = avril(
            AvrilRows {
                q: q.clone().select(0, s),
                q_next: q.select(0, s2),
                actions: a,
                next_actions: a2,
                mean: tensor(&json!([0.2, -0.4]), &device),
                log_std: tensor(&json!([-0.5, 0.1]), &device),
            },
            &AvrilOptions::default(),
        );
        let got = [
            scalar(&result.nll.mean()),
            scalar(&result.kl.mean()),
            -scalar(&result.log_q.mean()),
            scalar(&result.loss),
        ];
        let want = [
            0.8952606870004444,
            0.14732054983290305,
            1.8674126057286193,
            2.909993842561967,
        ];
        close("worked example", &got, &want, 1e-6, 1e-6);
    }
}
