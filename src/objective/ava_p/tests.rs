use super::super::golden::{self, Outputs, close, flat, leaf, scalar, values};
use super::*;
use crate::reward::{Layout, Link, probability_better};
use burn::tensor::Device;
use serde_json::json;

/// The pairs of the golden file as 2P rows of one length, padding full of garbage; `swap` exchanges the two sides.
struct Batch {
    layout: Layout,
    out: Outputs,
    pairs: usize,
    lengths: [usize; 2],
}

fn batch(g: &golden::Golden, device: &Device, swap: bool) -> Batch {
    let (first, second) = if swap {
        ("_neg", "_pos")
    } else {
        ("_pos", "_neg")
    };
    let [pairs, one] = golden::shape::<2>(g.data(&format!("ids{first}")));
    let [_, two] = golden::shape::<2>(g.data(&format!("ids{second}")));
    let both = |key: &str, pad: f64| {
        golden::stack(
            &[
                g.data(&format!("{key}{first}")),
                g.data(&format!("{key}{second}")),
            ],
            pad,
        )
    };
    Batch {
        layout: golden::layout(
            &both("ids", 0.0),
            &both("seg", 0.0),
            &both("resp", 1.0),
            Some(pairs),
        ),
        out: Outputs {
            logits: leaf(&both("logits", 3.0), device),
            mean: leaf(&both("mu", 1e4), device),
            log_std: leaf(&both("rho", -7.0), device),
            attention: None,
        },
        pairs,
        lengths: [one, two],
    }
}

impl Batch {
    /// One side's part of `[2P, T, ..]` values, without the padding that stacking added.
    fn side(&self, all: &[f64], second: bool) -> Vec<f64> {
        let width = all.len() / (2 * self.pairs);
        let per_token = width / self.layout.tokens;
        let keep = self.lengths[usize::from(second)] * per_token;
        let rows = if second {
            self.pairs..2 * self.pairs
        } else {
            0..self.pairs
        };
        rows.flat_map(|b| all[b * width..b * width + keep].to_vec())
            .collect()
    }
}

fn built(case: &Value) -> AvaP {
    AvaP::new(&golden::options(case, &(METHOD.defaults)())).expect("golden options")
}

fn term(result: &Evaluation, name: &str) -> f64 {
    let found = result.terms.iter().find(|(n, _)| *n == name);
    found.map(|(_, x)| scalar(x)).expect("term")
}

fn golden_values_hold_on(device: &Device) {
    let Some(g) = golden::load("ava_p") else {
        return;
    };
    let tol = g.tolerance(device);
    let device = device.clone().autodiff();
    for (name, case) in g.cases() {
        let ava = built(case);
        let b = batch(&g, &device, false);
        let steps = golden::steps(&b.layout, &b.out, ava.steps_config());
        let result = ava.evaluate(&steps, Progress::END);
        let want = g.expected(name);
        let total = |key: &str| flat(&want[key]).iter().sum::<f64>();
        let check = |key: &str, got: Vec<f64>, exact: Vec<f64>| {
            close(&format!("{name} {key}"), &got, &exact, tol.abs, tol.rel);
        };
        check("loss", values(result.loss.clone()), flat(&want["loss"]));
        let (n, pairs) = (steps.counts.steps, b.pairs as f64);
        check("n_steps", vec![n], flat(&want["n_steps"]));
        check(
            "kl",
            vec![term(&result, "ava/kl") * n],
            vec![total("kl_total")],
        );
        check(
            "log_q",
            vec![term(&result, "ava/td_logq") * n],
            vec![total("log_q_total")],
        );
        check(
            "F_p",
            vec![term(&result, "ava/elbo") * n],
            vec![total("F_p")],
        );
        check(
            "cer",
            vec![term(&result, "ava/cer") * pairs],
            vec![total("cer")],
        );
        check(
            "ll+",
            vec![term(&result, "ava/ll_chosen") * pairs],
            vec![total("ll_pos")],
        );
        check(
            "ll-",
            vec![term(&result, "ava/ll_rejected") * pairs],
            vec![total("ll_neg")],
        );
        // F_p = sum ll(+) - neg - kappa sum KL + lambda sum log q, from the loss: loss = -F_p / n - weight cer / n_pairs.
        let ava_options = &ava.options.ava;
        let n_pairs = match ava_options.normalise {
            Normalise::Sum => 1.0,
            Normalise::Batch | Normalise::Token => pairs,
        };
        let cer = ava.options.cer_weight * term(&result, "ava/cer") * pairs / n_pairs;
        let f_p = -(scalar(&result.loss) + cer) * ava_options.divisor(steps.counts, pairs);
        check("F_p", vec![f_p], flat(&want["F_p"]));
        let neg = term(&result, "ava/ll_chosen") * pairs
            - ava_options.kappa * term(&result, "ava/kl") * n
            + ava_options.lambda * term(&result, "ava/td_logq") * n
            - f_p;
        let size = f_p.abs().max(total("log_q_total").abs());
        let exact = total("neg_term");
        assert!(
            (neg - exact).abs() < 10.0 * (tol.abs + tol.rel * size),
            "{name} neg_term: {neg}, expected {exact}"
        );
        check(
            "accuracy",
            vec![term(&result, "rewards/accuracies")],
            flat(&want["accuracy"]),
        );
        for (kind, key) in [
            (ScoreKind::Last, "score_last"),
            (ScoreKind::Sum, "score_sum"),
        ] {
            let (chosen, rejected) = sides(result.scores.get(kind), b.pairs);
            check(key, values(chosen), flat(&want[format!("{key}_pos")]));
            check(key, values(rejected), flat(&want[format!("{key}_neg")]));
        }
        let score = values(result.scores.get(ava.ranking_score()));
        let kind = match ava.ranking_score() {
            ScoreKind::Last => ScoreKind::Last,
            _ => ScoreKind::Sum,
        };
        let variance = values(result.scores.variance(kind));
        for i in 0..b.pairs {
            let d = score[i] - score[i + b.pairs];
            let v = variance[i] + variance[i + b.pairs];
            let p = [
                probability_better(d, v, Link::Probit),
                probability_better(d, v, Link::Mackay),
            ];
            check(
                "p",
                p.to_vec(),
                vec![flat(&want["p_probit"])[i], flat(&want["p_mackay"])[i]],
            );
        }
        let gradients = result.loss.backward();
        for (leaf, got) in [
            ("logits", golden::gradient(&b.out.logits, &gradients)),
            ("mu", golden::gradient(&b.out.mean, &gradients)),
            ("rho", golden::gradient(&b.out.log_std, &gradients)),
        ] {
            for (second, suffix) in [(false, "_pos"), (true, "_neg")] {
                let exact = flat(&want["grad"][format!("{leaf}{suffix}")]);
                let what = format!("{name} grad {leaf}{suffix}");
                close(
                    &what,
                    &b.side(&got, second),
                    &exact,
                    tol.grad_abs,
                    tol.grad_rel,
                );
            }
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
fn gradients_agree_with_finite_differences() {
    let Some(g) = golden::load("ava_p") else {
        return;
    };
    let device = Device::flex().autodiff();
    let b = batch(&g, &device, false);
    for case in ["recommended", "probit_on_sum", "mackay"] {
        let ava = built(&g.0["inputs"]["cases"][case]);
        let loss = |out: &Outputs| {
            let steps = golden::steps(&b.layout, out, ava.steps_config());
            ava.evaluate(&steps, Progress::END).loss
        };
        let gradients = loss(&b.out).backward();
        let slope = golden::gradient(&b.out.log_std, &gradients);
        golden::directional(&b.out.log_std, &slope, 1e-2, |log_std| {
            scalar(&loss(&Outputs {
                log_std,
                ..b.out.clone()
            }))
        });
        let slope = golden::gradient(&b.out.logits, &gradients);
        golden::directional(&b.out.logits, &slope, 1e-2, |logits| {
            scalar(&loss(&Outputs {
                logits,
                ..b.out.clone()
            }))
        });
    }
}

#[test]
fn swapping_a_pair_keeps_the_totals_and_turns_the_signs() {
    let Some(g) = golden::load("ava_p") else {
        return;
    };
    let device = Device::flex().autodiff();
    let ava = built(&g.0["inputs"]["cases"]["terminal_zero_logsigmoid"]);
    let run = |swap: bool| {
        let b = batch(&g, &device, swap);
        let steps = golden::steps(&b.layout, &b.out, ava.steps_config());
        (
            ava.evaluate(&steps, Progress::END),
            steps.counts.steps,
            b.pairs as f64,
        )
    };
    let ((a, n, pairs), (b, ..)) = (run(false), run(true));
    let want = &g.expected("identities")["swap"];
    close(
        "loss",
        &values(b.loss.clone()),
        &flat(&want["loss"]),
        2e-4,
        2e-4,
    );
    for name in ["ava/kl", "ava/td_logq"] {
        close(name, &[term(&a, name)], &[term(&b, name)], 1e-5, 1e-5);
    }
    close(
        "kl",
        &[term(&b, "ava/kl") * n],
        &flat(&want["kl_total"]),
        2e-4,
        2e-4,
    );
    let difference =
        |e: &Evaluation| (term(e, "ava/ll_chosen") - term(e, "ava/ll_rejected")) * pairs;
    close(
        "ll",
        &[difference(&b)],
        &flat(&want["ll_difference"]),
        2e-4,
        2e-4,
    );
    close("ll", &[difference(&a)], &[-difference(&b)], 2e-4, 2e-4);
    close(
        "d",
        &[term(&a, "rewards/margins")],
        &[-term(&b, "rewards/margins")],
        1e-5,
        1e-5,
    );
}

/// The worked example's pair.
fn worked(options: Value) -> (AvaP, Steps) {
    let device = Device::flex().autodiff();
    let ava = AvaP::new(&options).expect("options");
    let layout = golden::layout(
        &json!([[0, 2, 1, 3, 1], [0, 2, 0, 2, 9]]),
        &json!([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
        &json!([[0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]),
        Some(1),
    );
    let shared = [[0.1, -0.2, 0.7, 0.0], [1.0, 0.5, -0.5, 0.2]];
    let out = Outputs {
        logits: leaf(
            &json!([
                [
                    shared[0],
                    shared[1],
                    [-0.3, 0.4, 0.1, 1.1],
                    [0.6, 0.9, -1.0, 0.3],
                    [5.0, 5.0, 5.0, 5.0]
                ],
                [
                    shared[0],
                    shared[1],
                    [0.2, -0.1, 0.4, 0.0],
                    [5.0, 5.0, 5.0, 5.0],
                    [5.0, 5.0, 5.0, 5.0]
                ]
            ]),
            &device,
        ),
        mean: leaf(
            &json!([[7.0, 0.1, -0.2, 0.3, 0.5], [7.0, 0.1, -0.6, -0.4, 7.0]]),
            &device,
        ),
        log_std: leaf(
            &json!([[7.0, -0.3, 0.0, -0.5, 0.2], [7.0, -0.3, 0.1, -0.2, 7.0]]),
            &device,
        ),
        attention: None,
    };
    let steps = golden::steps(&layout, &out, ava.steps_config());
    (ava, steps)
}

#[test]
fn the_worked_pair_holds() {
    let base = json!({"normalise": "sum", "lambda": 0.5, "lambda_warmup": 0.0, "ll": "normalised", "ll_last": false,
        "terminal": "drop", "neg": "paper", "cer": "sigmoid", "cer_score": "last"});
    let mut zero = base.clone();
    zero["terminal"] = json!("zero");
    zero["cer"] = json!("logsigmoid");
    let cases = [
        (
            base,
            [
                -2.07092326808729,
                -0.8237322675761347,
                0.4396410996658061,
                -2.7924841140430807,
                0.710949502625004,
                2.372124654573498,
            ],
        ),
        (
            zero,
            [
                -2.9625927599833237,
                -1.9537080264473141,
                0.725713471504261,
                -5.67695062734297,
                -0.3411538747320878,
                4.914227393443843,
            ],
        ),
    ];
    for (options, want) in cases {
        let (ava, steps) = worked(options);
        let result = ava.evaluate(&steps, Progress::END);
        let n = steps.counts.steps;
        let got = [
            term(&result, "ava/ll_chosen"),
            term(&result, "ava/ll_rejected"),
            term(&result, "ava/kl") * n,
            term(&result, "ava/td_logq") * n,
            term(&result, "ava/cer"),
            scalar(&result.loss),
        ];
        close("worked pair", &got, &want, 1e-5, 1e-5);
        let v = values(result.scores.last_variance.clone());
        let p = |link| probability_better(0.9, v[0] + v[1], link);
        let want = [0.7297538269986865, 0.6596778939273054];
        close("p", &[p(Link::Probit), p(Link::Mackay)], &want, 1e-6, 1e-6);
    }
}

#[test]
fn lambda_rises_over_the_first_tenth_of_training() {
    let (ava, steps) = worked(json!({}));
    let loss = |step| scalar(&ava.evaluate(&steps, Progress { step, total: 100 }).loss);
    let td = term(&ava.evaluate(&steps, Progress::END), "ava/td_logq");
    assert!((loss(0) - loss(10) - 0.25 * td).abs() < 1e-5);
    assert!((loss(0) - loss(4) - 0.1 * td).abs() < 1e-5);
    assert_eq!(loss(10), loss(100));
}

#[test]
fn lambda_at_or_above_kappa_warns_and_says_why() {
    let warned = |lambda: f64, kappa: f64| {
        let options = json!({"lambda": lambda, "kappa": kappa});
        let ava = AvaP::new(&options).expect("options");
        ava.warnings()
            .iter()
            .any(|w| w.contains("kappa") && w.contains("sigma"))
    };
    assert!(!warned(0.5, 1.0) && warned(1.0, 1.0) && warned(2.0, 1.0));
    assert!(!warned(0.5, 0.6) && warned(0.5, 0.5) && warned(0.5, 0.25));
    // Without the residual term there is nothing to warn of.
    assert!(!warned(0.0, 0.0));
}

#[test]
fn a_certain_rejected_token_keeps_the_unlikelihood_finite() {
    let (ava, mut steps) = worked(json!({}));
    steps.log_policy = steps.log_policy.zeros_like();
    assert!(scalar(&ava.evaluate(&steps, Progress::END).loss).is_finite());
}
