//! Contrastive terms on an answer's features from two passes under dropout.
//!
//! ```text
//! SimCSE = mean_i [ logsumexp_j cos(h_i, h'_j)/tau - cos(h_i, h'_i)/tau ]
//! SwAV   = mean_i [ l(h'_i, q_i) + l(h_i, q'_i) ],   l(h, q) = -sum_k q_k log softmax_k(h . c_k / tau)
//! q      = codes of the features over the prototypes c, no gradient: exp(h . c / epsilon), scaled in turn so that every
//!          prototype is used equally often in the batch and every row sums to 1 (three rounds of Sinkhorn and Knopp)
//! ```
//!
//! Source: *Secrets of RLHF in Large Language Models Part II*, arXiv 2401.06080, Eq. 7-9; codes, their epsilon and their
//! rounds as in *SwAV*, arXiv 2006.09882, section 3, which also has features and prototypes of length 1.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// What the contrastive term compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    /// Every answer.
    Pairs,
    /// Chosen minus rejected, and rejected minus chosen.
    Difference,
}

/// Rounds of scaling: SwAV's own.
const ROUNDS: usize = 3;

impl Features {
    /// What is compared `[n, H]`, from the rows' features `[n, H]`; rows `0..n/2` are chosen, the others rejected.
    fn of(self, h: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Pairs => h,
            Self::Difference => {
                let half = h.dims()[0] / 2;
                let d = h.clone().narrow(0, 0, half) - h.narrow(0, half, half);
                Tensor::cat(vec![d.clone(), d.neg()], 0)
            }
        }
    }
}

/// Rows `[n, H]` at length 1; a row of zeros stays.
fn unit(h: Tensor<2>) -> Tensor<2> {
    let norm = h.clone().square().sum_dim(1).clamp_min(1e-12).sqrt();
    h / norm
}

/// SimCSE per row `[n]` from two dropout passes' features `[n, H]`; rows `0..n/2` are chosen, the others rejected.
pub fn simcse(s: Tensor<2>, t: Tensor<2>, features: Features, tau: f64) -> Tensor<1> {
    let (s, t) = (unit(features.of(s)), unit(features.of(t)));
    let own: Tensor<1> = (s.clone() * t.clone()).sum_dim(1).squeeze_dim(1);
    let scores = s.matmul(t.transpose()).div_scalar(tau);
    // Shifted by each row's maximum, so that no small tau overflows or empties the sum.
    let top = scores.clone().detach().max_dim(1);
    let all = (scores - top.clone()).exp().sum_dim(1).log() + top;
    all.squeeze_dim::<1>(1) - own.div_scalar(tau)
}

/// SwAV's swapped prediction per row `[n]` with given codes: features `[n, H]` of two passes, prototypes `[H, K]`, codes
/// `[n, K]` of each pass. No gradient flows into codes.
pub fn swav(
    [s, t]: [Tensor<2>; 2],
    prototypes: Tensor<2>,
    [codes_of_s, codes_of_t]: [Tensor<2>; 2],
    tau: f64,
) -> Tensor<1> {
    let predicted = |h: Tensor<2>, codes: Tensor<2>| {
        let scores = h.matmul(prototypes.clone()).div_scalar(tau);
        (activation::log_softmax(scores, 1) * codes.detach()).sum_dim(1)
    };
    (predicted(t, codes_of_s) + predicted(s, codes_of_t))
        .neg()
        .squeeze_dim(1)
}

/// Codes `[n, K]` of features with scores h . c `[n, K]`: rows sum to 1, and every prototype has about the share n/K.
pub fn sinkhorn_codes(scores: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let scores = scores.detach().div_scalar(epsilon);
    // A row's own maximum cancels in the scaling of rows, and keeps the exponential in range.
    let top = scores.clone().max_dim(1);
    let mut codes = (scores - top).exp();
    for _ in 0..ROUNDS {
        codes = codes.clone() / codes.sum_dim(0).clamp_min(1e-12);
        codes = codes.clone() / codes.sum_dim(1).clamp_min(1e-12);
    }
    codes
}

/// SwAV per row `[n]` as training sees it: features and prototypes at length 1, codes of the rows at hand.
pub(super) fn swav_of(
    passes: [Tensor<2>; 2],
    prototypes: Tensor<2>,
    features: Features,
    tau: f64,
    epsilon: f64,
) -> Tensor<1> {
    let passes = passes.map(|h| unit(features.of(h)));
    let prototypes = unit(prototypes.transpose()).transpose();
    let codes = passes
        .clone()
        .map(|h| sinkhorn_codes(h.matmul(prototypes.clone()), epsilon));
    swav(passes, prototypes, codes, tau)
}

#[cfg(test)]
mod tests {
    use super::super::super::golden::{self, Golden, Tolerance, close, flat, leaf, tensor, values};
    use super::*;
    use burn::tensor::Device;
    use serde_json::json;

    fn check(
        g: &Golden,
        name: &str,
        each: Tensor<1>,
        leaves: &[(&str, &Tensor<2>)],
        tol: Tolerance,
    ) {
        let want = g.expected(name);
        let near = |key: &str, got: Vec<f64>| {
            close(
                &format!("{name} {key}"),
                &got,
                &flat(&want[key]),
                tol.abs,
                tol.rel,
            );
        };
        near("per_row", values(each.clone()));
        let loss = each.mean();
        near("loss", values(loss.clone()));
        let gradients = loss.backward();
        for (key, leaf) in leaves {
            close(
                &format!("{name} {key}"),
                &golden::gradient(leaf, &gradients),
                &flat(&want["grad"][*key]),
                tol.grad_abs,
                tol.grad_rel,
            );
        }
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("secrets2") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let data = &g.0["inputs"]["contrastive_data"];
        let tau = |name: &str| {
            let case = &g.0["inputs"]["contrastive_cases"][name];
            case["tau"].as_f64().expect("tau")
        };
        let of = |key: &str| leaf::<2>(&data[key], &device);
        for (name, features) in [
            ("simcse_pairs", Features::Pairs),
            ("simcse_difference", Features::Difference),
        ] {
            let (s, t) = (of("h_s"), of("h_t"));
            let each = simcse(s.clone(), t.clone(), features, tau(name));
            check(&g, name, each, &[("h_s", &s), ("h_t", &t)], tol);
        }
        // The file's prototypes are [K, H], and its features and prototypes have any length.
        let (s, t, prototypes) = (of("h_s"), of("h_t"), of("prototypes"));
        let codes = ["q_s", "q_t"].map(|key| tensor::<2>(&data[key], &device));
        let each = swav(
            [s.clone(), t.clone()],
            prototypes.clone().transpose(),
            codes,
            tau("swav"),
        );
        let leaves = [("h_s", &s), ("h_t", &t), ("prototypes", &prototypes)];
        check(&g, "swav", each, &leaves, tol);
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
    fn equal_features_give_log_n() {
        let same = Tensor::<2>::ones([4, 3], &Device::flex());
        let each = values(simcse(same.clone(), same, Features::Pairs, 0.3));
        close("simcse", &each, &[4f64.ln(); 4], 1e-5, 0.0);
    }

    #[test]
    fn codes_are_shares_that_use_every_prototype_equally_often() {
        let device = Device::flex();
        // All four features lean to the first prototype: what is left of that are the differences between them.
        let scores = tensor::<2>(
            &json!([[0.9, 0.1], [0.8, 0.1], [0.7, 0.2], [0.6, 0.4]]),
            &device,
        );
        let codes = sinkhorn_codes(scores.clone(), 0.5);
        close(
            "rows",
            &values(codes.clone().sum_dim(1)),
            &[1.0; 4],
            1e-6,
            0.0,
        );
        let used = values(codes.clone().sum_dim(0));
        assert!(used.iter().all(|n| (n - 2.0).abs() < 0.05), "{used:?}");
        let codes = values(codes);
        assert!(codes[0] > 0.55 && codes[7] > 0.55, "{codes:?}");
        // Far apart, nothing overflows.
        let far = sinkhorn_codes(scores.mul_scalar(1e3), 0.05);
        assert!(values(far).iter().all(|x| x.is_finite()));
    }

    #[test]
    fn no_gradient_flows_into_codes_and_lengths_do_not_matter() {
        let device = Device::flex().autodiff();
        let table = |by: f64, rows: usize, columns: usize| {
            let row = |i: usize| -> Vec<f64> {
                let of = |j: usize| ((i * columns + j) as f64 * by).sin();
                (0..columns).map(of).collect()
            };
            json!((0..rows).map(row).collect::<Vec<_>>())
        };
        let (s, t) = (
            leaf::<2>(&table(1.3, 6, 4), &device),
            leaf::<2>(&table(0.7, 6, 4), &device),
        );
        let prototypes = leaf::<2>(&table(2.1, 4, 3), &device);
        for features in [Features::Pairs, Features::Difference] {
            let loss = |by: f64| {
                let passes = [&s, &t].map(|h| h.clone().mul_scalar(by));
                let scaled = prototypes.clone().mul_scalar(by);
                swav_of(passes, scaled, features, 0.1, 0.05).mean()
            };
            close(
                "lengths",
                &values(loss(3.0)),
                &values(loss(1.0)),
                1e-5,
                1e-5,
            );
            // The slope with the codes held where they are.
            let passes = || [&s, &t].map(|h| unit(features.of(h.clone())));
            let unit_prototypes = || unit(prototypes.clone().transpose()).transpose();
            let codes = passes().map(|h| sinkhorn_codes(h.matmul(unit_prototypes()), 0.05));
            let held = swav(passes(), unit_prototypes(), codes, 0.1).mean();
            let (a, b) = (loss(1.0).backward(), held.backward());
            for leaf in [&s, &t, &prototypes] {
                let (a, b) = (golden::gradient(leaf, &a), golden::gradient(leaf, &b));
                close("gradient", &a, &b, 1e-6, 1e-5);
                assert!(a.iter().any(|g| g.abs() > 1e-3));
            }
        }
    }

    /// Numbers of a table `[rows, columns]`.
    fn wave(by: f64, rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns)
            .map(|i| (i as f64 * by + 0.2).sin() as f32)
            .collect()
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        use burn::tensor::TensorData;
        type Tables = [(Vec<f32>, [usize; 2]); 3];
        let device = Device::flex().autodiff();
        let tables: Tables = [
            (wave(1.3, 6, 4), [6, 4]),
            (wave(0.7, 6, 4), [6, 4]),
            (wave(2.1, 4, 3), [4, 3]),
        ];
        // Codes are given: no slope goes through them.
        let codes = [wave(0.9, 6, 3), wave(0.4, 6, 3)].map(|numbers| {
            let scores = Tensor::<2>::from_data(TensorData::new(numbers, [6, 3]), &device);
            sinkhorn_codes(scores, 0.5)
        });
        let terms: [&dyn Fn([Tensor<2>; 3]) -> Tensor<1>; 3] = [
            &|[s, t, _]| simcse(s, t, Features::Pairs, 0.4).mean(),
            &|[s, t, _]| simcse(s, t, Features::Difference, 0.4).mean(),
            &|[s, t, c]| {
                swav(
                    [unit(s), unit(t)],
                    unit(c.transpose()).transpose(),
                    codes.clone(),
                    0.4,
                )
                .mean()
            },
        ];
        let leaves = |tables: &Tables| {
            tables.clone().map(|(numbers, shape)| {
                Tensor::<2>::from_data(TensorData::new(numbers, shape), &device).require_grad()
            })
        };
        for (which, term) in terms.iter().enumerate() {
            let at = leaves(&tables);
            let gradients = term(at.clone()).backward();
            let mut steep = 0.0f64;
            for (table, leaf) in at.iter().enumerate() {
                let Some(gradient) = leaf.grad(&gradients) else {
                    assert!(table == 2 && which < 2, "term {which} uses table {table}");
                    continue;
                };
                let gradient = values(gradient.reshape([-1]));
                for (i, slope) in gradient.iter().enumerate() {
                    const STEP: f32 = 1e-2;
                    let value = |by: f32| {
                        let mut moved = tables.clone();
                        moved[table].0[i] += by;
                        values(term(leaves(&moved)))[0]
                    };
                    let rise = (value(STEP) - value(-STEP)) / f64::from(2.0 * STEP);
                    let far = (slope - rise).abs();
                    assert!(
                        far < 1e-3 * slope.abs().max(0.1),
                        "term {which}, table {table}, {i}: {slope} {rise}"
                    );
                    steep = steep.max(slope.abs());
                }
            }
            assert!(steep > 0.05, "a term without slope shows nothing");
        }
    }
}
