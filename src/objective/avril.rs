//! AVRIL: approximate variational reward imitation learning on tables of states and actions.
//!
//! ```text
//! loss = reduce[ -log softmax(beta Q[s])[a] ] + kappa reduce[ KL ] - lambda reduce[ log q ]
//! KL    = log s0 - rho + (exp(2 rho) + mu^2)/(2 s0^2) - 1/2              to the prior N(0, s0^2)
//! log q = log N(Q[s,a] - gamma Q[s',a'] ; mu, exp(rho)^2)
//! ```
//!
//! Source: *Scalable Bayesian Inverse Reinforcement Learning*, arXiv 2102.06483, Eq. 2-4; the public code has
//! beta = gamma = lambda = kappa = s0 = 1 and means over the rows. A trajectory of n actions gives n-1 rows.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// Weights of AVRIL's terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AvrilConfig {
    /// Discount.
    pub gamma: f64,
    /// Inverse temperature of the demonstrator.
    pub beta: f64,
    /// Weight of the TD term.
    pub lambda: f64,
    /// Weight of the KL.
    pub kappa: f64,
    /// Standard deviation of the prior.
    pub prior_sd: f64,
    /// Sums instead of means over the rows.
    pub sum: bool,
}

impl Default for AvrilConfig {
    fn default() -> Self {
        Self {
            gamma: 1.0,
            beta: 1.0,
            lambda: 1.0,
            kappa: 1.0,
            prior_sd: 1.0,
            sum: false,
        }
    }
}

/// N rows as AVRIL reads them.
pub struct AvrilRows {
    /// Q of the state's actions `[N, A]`.
    pub q: Tensor<2>,
    /// Q of the next state's actions `[N, A]`.
    pub q_next: Tensor<2>,
    /// The action taken `[N]`.
    pub action: Tensor<1, Int>,
    /// The next action taken `[N]`.
    pub next_action: Tensor<1, Int>,
    /// Posterior mean of the row's reward `[N]`.
    pub mean: Tensor<1>,
    /// Its log standard deviation `[N]`.
    pub log_std: Tensor<1>,
}

/// The loss and its three parts, each `[1]`.
pub struct AvrilLoss {
    /// To be minimised.
    pub loss: Tensor<1>,
    /// Negative log-likelihood of the demonstrator's actions.
    pub nll: Tensor<1>,
    /// KL to the prior.
    pub kl: Tensor<1>,
    /// Negative log-density of the TD targets.
    pub td_nll: Tensor<1>,
}

/// AVRIL's loss on N rows.
pub fn avril(rows: AvrilRows, cfg: AvrilConfig) -> AvrilLoss {
    let [n, _] = rows.q.dims();
    let column = |x: Tensor<1, Int>| x.reshape([n, 1]);
    let log_b = log_softmax(rows.q.clone().mul_scalar(cfg.beta), 1)
        .gather(1, column(rows.action.clone()))
        .reshape([n]);
    let q = rows.q.gather(1, column(rows.action)).reshape([n]);
    let q_next = rows.q_next.gather(1, column(rows.next_action)).reshape([n]);
    let delta = q - q_next.mul_scalar(cfg.gamma);

    let s0 = cfg.prior_sd;
    let variance = rows.log_std.clone().mul_scalar(2.0).exp();
    let kl =
        (variance + rows.mean.clone().square()).div_scalar(2.0 * s0 * s0) - rows.log_std.clone();
    let kl = kl.add_scalar(s0.ln() - 0.5);
    let z = (delta - rows.mean) * (-rows.log_std.clone()).exp();
    let log_q =
        z.square().mul_scalar(-0.5) - rows.log_std - (2.0 * std::f64::consts::PI).ln() * 0.5;

    let reduce = |x: Tensor<1>| if cfg.sum { x.sum() } else { x.mean() };
    let (nll, kl, td_nll) = (reduce(-log_b), reduce(kl), reduce(-log_q));
    let loss =
        nll.clone() + kl.clone().mul_scalar(cfg.kappa) + td_nll.clone().mul_scalar(cfg.lambda);
    AvrilLoss {
        loss,
        nll,
        kl,
        td_nll,
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Golden};
    use super::*;

    #[test]
    fn every_golden_case_agrees_in_value_and_gradient() {
        golden::on_each_device(|device, tolerance| {
            let Some(golden) = Golden::open("avril") else {
                return;
            };
            for case in golden.case_names() {
                let settings = golden.case(&case).clone();
                let number = |name: &str| settings[name].as_f64().unwrap();
                let pairs: Vec<i32> = golden.floats("pairs").iter().map(|v| *v as i32).collect();
                let n = pairs.len() / 4;
                let column = |k: usize| {
                    let values: Vec<i32> = (0..n).map(|i| pairs[4 * i + k]).collect();
                    Tensor::<1, Int>::from_ints(values.as_slice(), device)
                };
                let q = golden.matrix("Q", device).require_grad();
                let [_, actions] = q.dims();
                let (s, a) = (column(0), column(1));
                let mut leaves = vec![("Q".to_string(), q.clone())];
                let (mean, log_std) = if settings["state_only"] == true {
                    let read = |name: &str| golden.vector(name, device).select(0, s.clone());
                    (read("mean_s"), read("logsd_s"))
                } else {
                    let at = s.clone() * actions as i64 + a.clone();
                    let mut read = |name: &str| {
                        let table = golden.matrix(name, device).require_grad();
                        leaves.push((name.to_string(), table.clone()));
                        let [r, c] = table.dims();
                        table.reshape([r * c]).select(0, at.clone())
                    };
                    (read("mean_sa"), read("logsd_sa"))
                };
                let rows = AvrilRows {
                    q: q.clone().select(0, s),
                    q_next: q.select(0, column(2)),
                    action: a,
                    next_action: column(3),
                    mean,
                    log_std,
                };
                let cfg = AvrilConfig {
                    gamma: number("gamma"),
                    beta: number("beta"),
                    lambda: number("lambda"),
                    kappa: number("kappa"),
                    prior_sd: number("prior_sd"),
                    sum: settings["reduce"] == "sum",
                };
                let result = avril(rows, cfg);
                golden.check(&case, "loss", result.loss.clone(), tolerance);
                golden.check(&case, "nll", result.nll, tolerance);
                golden.check(&case, "kl", result.kl, tolerance);
                golden.check(&case, "td_nll", result.td_nll, tolerance);
                golden.check_matrix_gradients(&case, leaves, result.loss.backward(), tolerance);
            }
        });
    }
}
