use super::super::golden::{
    self, Outputs, close, close_where_large_ones_cancel, flat, leaf, scalar, tensor, values,
};
use super::*;
use crate::reward::{Layout, kl_to_standard_normal, log_density};
use burn::tensor::Device;
use serde_json::{Value, json};

fn outputs(g: &golden::Golden, device: &Device) -> Outputs {
    Outputs {
        logits: leaf(g.data("logits"), device),
        mean: leaf(g.data("mu"), device),
        log_std: leaf(g.data("rho"), device),
        attention: Some([leaf(g.data("att_q"), device), leaf(g.data("att_k"), device)]),
    }
}

fn layout(g: &golden::Golden) -> Layout {
    golden::layout(g.data("ids"), g.data("seg"), g.data("resp"), None)
}

fn built(case: &Value) -> AvaD {
    AvaD::new(&golden::options(case, &(METHOD.defaults)())).expect("golden options")
}

fn golden_values_hold_on(device: &Device) {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let tol = g.tolerance(device);
    let device = device.clone().autodiff();
    let layout = layout(&g);
    for (name, case) in g.cases() {
        let ava = built(case);
        let out = outputs(&g, &device);
        let steps = golden::steps(&layout, &out, ava.steps_config());
        let terms = AvaTerms::of(&steps, &ava.options);
        let result = ava.evaluate(&steps, Progress::END);
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
        check("q_taken", values(steps.q.clone()));
        check("mu_step", values(steps.mean.clone()));
        check("m", values(steps.mask.clone()));
        check("m_ll", values(terms.m_ll.clone()));
        check("log_b", values(steps.log_policy.clone() * terms.m_ll));
        check("ll", values(terms.ll));
        check("kl", values(terms.kl));
        check("log_q", values(terms.log_q));
        check("delta", values(terms.delta));
        check("score_last", values(result.scores.last.clone()));
        check("score_sum", values(result.scores.sum.clone()));
        check("score_mean", values(result.scores.mean.clone()));
        check("var_last", values(result.scores.last_variance.clone()));
        check("var_sum", values(result.scores.sum_variance.clone()));
        check("loss", values(result.loss.clone()));
        let gradients = result.loss.backward();
        let [query, key] = out.attention.clone().expect("attention");
        for (leaf, got) in [
            ("logits", golden::gradient(&out.logits, &gradients)),
            ("mu", golden::gradient(&out.mean, &gradients)),
            ("rho", golden::gradient(&out.log_std, &gradients)),
            ("att_q", golden::gradient(&query, &gradients)),
            ("att_k", golden::gradient(&key, &gradients)),
        ] {
            if want["grad"].get(leaf).is_some() {
                let exact = flat(&want["grad"][leaf]);
                // A query's gradient is a sum over keys of p_j (g_j - sum_k p_k g_k), and g reaches hundreds where weights
                // sum to 1: what is left of such differences is small and no more exact than they are.
                let close = match leaf {
                    "att_q" => close_where_large_ones_cancel,
                    _ => close,
                };
                close(
                    &format!("{name} grad {leaf}"),
                    &got,
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
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    let layout = layout(&g);
    let ava = built(&g.0["inputs"]["cases"]["recommended"]);
    let out = outputs(&g, &device);
    let loss = |out: &Outputs| {
        let steps = golden::steps(&layout, out, ava.steps_config());
        ava.evaluate(&steps, Progress::END).loss
    };
    let gradients = loss(&out).backward();
    golden::directional(
        &out.logits,
        &golden::gradient(&out.logits, &gradients),
        1e-2,
        |logits| {
            scalar(&loss(&Outputs {
                logits,
                ..out.clone()
            }))
        },
    );
    golden::directional(
        &out.mean,
        &golden::gradient(&out.mean, &gradients),
        1e-2,
        |mean| {
            scalar(&loss(&Outputs {
                mean,
                ..out.clone()
            }))
        },
    );
    golden::directional(
        &out.log_std,
        &golden::gradient(&out.log_std, &gradients),
        1e-2,
        |log_std| {
            scalar(&loss(&Outputs {
                log_std,
                ..out.clone()
            }))
        },
    );
}

/// Rolls every row of `[B, T, ...]` to the right by its own number of places.
fn roll(value: &Value, by: &[usize]) -> Value {
    let rows = value
        .as_array()
        .expect("rows")
        .iter()
        .zip(by)
        .map(|(row, n)| {
            let mut row = row.as_array().expect("row").clone();
            row.rotate_right(*n);
            Value::Array(row)
        });
    Value::Array(rows.collect())
}

#[test]
fn padding_on_the_left_or_full_of_nan_changes_nothing() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    let ava = built(&g.0["inputs"]["cases"]["recommended"]);
    let want = flat(&g.expected("recommended")["loss"])[0];
    let shifts: Vec<usize> = flat(&g.expected("identities")["left_padding"]["shift_by_row"])
        .iter()
        .map(|x| *x as usize)
        .collect();
    let moved = |key: &str| roll(g.data(key), &shifts);
    let out = Outputs {
        logits: tensor(&moved("logits"), &device),
        mean: tensor(&moved("mu"), &device),
        log_std: tensor(&moved("rho"), &device),
        attention: None,
    };
    let left = golden::layout(&moved("ids"), &moved("seg"), &moved("resp"), None);
    let steps = golden::steps(&left, &out, ava.steps_config());
    close(
        "left",
        &[scalar(&ava.evaluate(&steps, Progress::END).loss)],
        &[want],
        2e-4,
        2e-4,
    );

    // Padded positions of the original batch hold NaN; their gradient must be 0.
    let layout = layout(&g);
    let padding: Vec<f32> = layout
        .segments
        .iter()
        .map(|s| if *s == 0 { f32::NAN } else { 0.0 })
        .collect();
    let shape = [layout.rows, layout.tokens];
    let nan = Tensor::<2>::from_data(burn::tensor::TensorData::new(padding, shape), &device);
    let out = outputs(&g, &device);
    let poisoned = Outputs {
        logits: out.logits.clone() + nan.clone().unsqueeze_dim(2),
        mean: out.mean.clone() + nan.clone(),
        log_std: out.log_std.clone() + nan,
        attention: None,
    };
    let steps = golden::steps(&layout, &poisoned, ava.steps_config());
    let loss = ava.evaluate(&steps, Progress::END).loss;
    close("nan", &[scalar(&loss)], &[want], 2e-4, 2e-4);
    let gradients = loss.backward();
    let got = golden::gradient(&out.mean, &gradients);
    close(
        "nan grad",
        &got,
        &flat(&g.expected("recommended")["grad"]["mu"]),
        1e-3,
        1e-3,
    );
    let got = golden::gradient(&out.logits, &gradients);
    close(
        "nan grad",
        &got,
        &flat(&g.expected("recommended")["grad"]["logits"]),
        1e-3,
        1e-3,
    );
}

#[test]
fn discounted_residuals_telescope_to_the_first_q() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex();
    let telescoping = &g.expected("identities")["telescoping"];
    let gamma = telescoping["gamma"].as_f64().expect("gamma");
    let ava = built(&g.0["inputs"]["cases"]["terminal_zero_sum"]);
    let layout = layout(&g);
    let steps = golden::steps(
        &layout,
        &outputs(&g, &device.autodiff()),
        ava.steps_config(),
    );
    let delta = values(AvaTerms::of(&steps, &ava.options).delta);
    let q = values(steps.q);
    for run in telescoping["runs"].as_array().expect("runs") {
        let at = |key: &str| run[key].as_u64().expect("index") as usize;
        let first = at("row") * layout.steps() + at("first_step");
        let total: f64 = (0..at("n_steps"))
            .map(|k| gamma.powi(k as i32) * delta[first + k])
            .sum();
        assert!(
            (total - q[first]).abs() < 1e-5,
            "{total} against {}",
            q[first]
        );
    }
}

/// Adding c[s] to all logits of position s is a gauge: a log-softmax does not see it, and of raw logits under a normalised
/// likelihood only delta moves, by alpha (c[s] - gamma C[s] c[s+1]), which is potential-based shaping.
#[test]
fn a_constant_per_position_is_only_potential_based_shaping_of_raw_logits() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    let layout = layout(&g);
    let (t, s) = (layout.tokens, layout.steps());
    // The golden loss is that of any constants; these are quarters, which f32 holds exactly.
    let constants: Vec<f64> = (0..layout.rows * t)
        .map(|i| ((i * 37 + 11) % 19) as f64 / 4.0 - 2.0)
        .collect();
    let numbers: Vec<f32> = constants.iter().map(|c| *c as f32).collect();
    let numbers = burn::tensor::TensorData::new(numbers, [layout.rows, t]);
    let shift = Tensor::<2>::from_data(numbers, &device);
    let out = outputs(&g, &device);
    let moved = Outputs {
        logits: out.logits.clone() + shift.unsqueeze_dim(2),
        ..out
    };
    // Terms, mean, log sigma and loss on the moved logits, with the switches of a golden case.
    let terms_of = |case: &str| {
        let ava = built(&g.0["inputs"]["cases"][case]);
        let steps = golden::steps(&layout, &moved, ava.steps_config());
        let loss = scalar(&ava.evaluate(&steps, Progress::END).loss);
        let terms = AvaTerms::of(&steps, &ava.options);
        (terms, values(steps.mean), values(steps.log_std), loss)
    };

    let want = g.expected("recommended");
    let (terms, .., loss) = terms_of("recommended");
    let gauge = flat(&g.expected("identities")["gauge"]["loss"]);
    close("loss", &[loss], &gauge, 1e-5, 1e-5);
    close("loss", &gauge, &flat(&want["loss"]), 1e-12, 1e-12);
    for (key, got) in [("ll", terms.ll), ("delta", terms.delta)] {
        close(key, &values(got), &flat(&want[key]), 1e-5, 1e-5);
    }

    let want = g.expected("q_logits");
    let case = &g.0["inputs"]["cases"]["q_logits"];
    let [alpha, gamma, kappa, lambda] =
        ["alpha", "gamma", "kappa", "lambda"].map(|key| case[key].as_f64().expect("a number"));
    let (terms, mean, rho, loss) = terms_of("q_logits");
    close("raw ll", &values(terms.ll), &flat(&want["ll"]), 1e-5, 1e-5);
    let (mask, bootstrap) = (layout.step_mask(), layout.bootstrap_mask());
    let mut delta = flat(&want["delta"]);
    let mut log_q = 0.0;
    for slot in (0..delta.len()).filter(|slot| mask[*slot]) {
        let at = slot / s * t + slot % s;
        let next = if bootstrap[slot] {
            constants[at + 1]
        } else {
            0.0
        };
        delta[slot] += alpha * (constants[at] - gamma * next);
        let z = (delta[slot] - mean[slot]) * (-rho[slot]).exp();
        log_q -= 0.5 * (z * z + std::f64::consts::TAU.ln()) + rho[slot];
    }
    close("raw delta", &values(terms.delta), &delta, 1e-5, 1e-5);
    // A sum, since the case does not normalise, of which log q alone has moved.
    let [likelihood, kl] = ["loglik", "kl_total"].map(|key| flat(&want[key])[0]);
    let shaped = kappa * kl - likelihood - lambda * log_q;
    close("raw loss", &[loss], &[shaped], 1e-5, 1e-5);
    let before = flat(&want["loss"])[0];
    assert!((shaped - before).abs() > 0.1, "{shaped} beside {before}");
}

#[test]
fn the_free_posterior_rests_at_its_known_optimum() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    for row in g.expected("identities")["optimal_q"]["rows"]
        .as_array()
        .expect("rows")
    {
        let number = |key: &str| row[key].as_f64().expect("number");
        let mean = leaf::<1>(&json!([number("mu")]), &device);
        let rho = leaf::<1>(&json!([number("sigma").ln()]), &device);
        let delta = tensor::<1>(&json!([number("delta")]), &device);
        let loss = kl_to_standard_normal(mean.clone(), rho.clone()).mul_scalar(number("kappa"))
            - log_density(delta, mean.clone(), rho.clone()).mul_scalar(number("lambda"));
        close(
            "objective",
            &values(loss.clone()),
            &[number("objective")],
            1e-5,
            1e-5,
        );
        let gradients = loss.backward();
        close(
            "d mu",
            &golden::gradient(&mean, &gradients),
            &[0.0],
            1e-5,
            0.0,
        );
        close(
            "d rho",
            &golden::gradient(&rho, &gradients),
            &[0.0],
            1e-5,
            0.0,
        );
    }
}

/// kappa KL - lambda log q per residual, from mean and log sigma.
fn free_loss(mean: &Tensor<1>, rho: &Tensor<1>, delta: f64, lambda: f64) -> Tensor<1> {
    let delta = mean.full_like(delta).detach();
    kl_to_standard_normal(mean.clone(), rho.clone())
        - log_density(delta, mean.clone(), rho.clone()).mul_scalar(lambda)
}

/// At lambda = kappa = 1 log sigma cancels: rewards saturate at 1 and sigma goes to 0 for small residuals.
#[test]
fn with_lambda_equal_to_kappa_rewards_saturate() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    let identity = &g.expected("identities")["lambda_equals_kappa"];
    for row in identity["rows"].as_array().expect("rows") {
        let number = |key: &str| row[key].as_f64().expect("number");
        let (delta, mu, variance) = (number("delta"), number("mu"), number("sigma2"));
        assert!((mu - delta.clamp(-1.0, 1.0)).abs() < 1e-12);
        assert!((variance - (delta.abs() - 1.0).max(0.0)).abs() < 1e-12);
        let slopes = |mu: f64, variance: f64| {
            let mean = leaf::<1>(&json!([mu]), &device);
            let rho = leaf::<1>(&json!([0.5 * variance.ln()]), &device);
            let gradients = free_loss(&mean, &rho, delta, 1.0).backward();
            [&mean, &rho].map(|x| golden::gradient(x, &gradients)[0])
        };
        if variance > 0.0 {
            // A minimum: flat there, and uphill to both sides of it.
            let [by_mean, by_rho] = slopes(mu, variance);
            assert!(
                by_mean.abs() < 1e-5 && by_rho.abs() < 1e-5,
                "{by_mean} {by_rho}"
            );
            assert!(slopes(mu, variance * 0.9)[1] < -1e-3 && slopes(mu, variance * 1.1)[1] > 1e-3);
        } else {
            // None: at mu = delta the loss falls all the way down to sigma 0.
            for variance in [1.0, 1e-2, 1e-4] {
                let [by_mean, by_rho] = slopes(mu, variance);
                assert!(by_rho > 0.5 * variance, "{variance}: {by_rho}");
                assert!((by_mean - mu).abs() < 1e-5, "{variance}: {by_mean}");
            }
        }
    }
}

#[test]
fn with_lambda_above_kappa_the_loss_falls_without_end() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex();
    let identity = &g.expected("identities")["lambda_above_kappa"];
    for row in identity["rows"].as_array().expect("rows") {
        let number = |key: &str| row[key].as_f64().expect("number");
        let mean = tensor::<1>(&json!([number("mu")]), &device);
        let rho = tensor::<1>(&json!([number("sigma").ln()]), &device);
        for (lambda, key) in [
            (2.0, "objective_lambda2_kappa1"),
            (1.0, "objective_lambda1_kappa1"),
        ] {
            let got = values(free_loss(&mean, &rho, number("delta"), lambda));
            close(key, &got, &[number(key)], 1e-5, 1e-5);
        }
    }
}

#[test]
fn lambda_at_or_above_kappa_warns_and_says_why() {
    let warned = |lambda: f64| {
        let ava = AvaD::new(&json!({"lambda": lambda})).expect("options");
        ava.warnings()
            .iter()
            .any(|w| w.contains("kappa") && w.contains("sigma"))
    };
    assert!(!warned(0.5) && warned(1.0) && warned(2.0));
    assert!(AvaD::new(&json!({"lambda": -1.0})).is_err());
    assert!(AvaD::new(&json!({"gamma": 1.5})).is_err());
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let Some(g) = golden::load("ava_d") else {
        return;
    };
    let device = Device::flex().autodiff();
    let ava = built(&g.0["inputs"]["cases"]["recommended"]);
    let whole = layout(&g);
    let out = outputs(&g, &device);
    let counts = crate::reward::Normaliser::of(&whole);
    let t = whole.tokens;
    let mut sum = 0.0;
    for (from, to) in [(0, 1), (1, whole.rows)] {
        let part = Layout {
            rows: to - from,
            tokens: t,
            ids: whole.ids[from * t..to * t].to_vec(),
            segments: whole.segments[from * t..to * t].to_vec(),
            response: whole.response[from * t..to * t].to_vec(),
            pairs: None,
        };
        let out = Outputs {
            logits: out.logits.clone().narrow(0, from, to - from),
            mean: out.mean.clone().narrow(0, from, to - from),
            log_std: out.log_std.clone().narrow(0, from, to - from),
            attention: None,
        };
        let mut steps = golden::steps(&part, &out, ava.steps_config());
        steps.counts = counts;
        sum += scalar(&ava.evaluate(&steps, Progress::END).loss);
    }
    close(
        "sum",
        &[sum],
        &flat(&g.expected("recommended")["loss"]),
        2e-4,
        2e-4,
    );
}

/// The worked example: V = 4, T = 5, prompt of two tokens.
fn worked(options: Value, response: [u8; 5]) -> (AvaD, Steps, Outputs) {
    let device = Device::flex().autodiff();
    let ava = AvaD::new(&options).expect("options");
    let layout = golden::layout(
        &json!([[0, 2, 1, 3, 1]]),
        &json!([[1, 1, 1, 1, 1]]),
        &json!([response]),
        None,
    );
    let out = Outputs {
        logits: leaf(
            &json!([[
                [0.1, -0.2, 0.7, 0.0],
                [1.0, 0.5, -0.5, 0.2],
                [-0.3, 0.4, 0.1, 1.1],
                [0.6, 0.9, -1.0, 0.3],
                [9.0, 9.0, -9.0, 9.0]
            ]]),
            &device,
        ),
        mean: leaf(&json!([[7.0, 0.1, -0.2, 0.3, 0.5]]), &device),
        log_std: leaf(&json!([[7.0, -0.3, 0.0, -0.5, 0.2]]), &device),
        attention: None,
    };
    let steps = golden::steps(&layout, &out, ava.steps_config());
    (ava, steps, out)
}

#[test]
fn the_worked_example_holds() {
    let base = json!({"normalise": "sum", "gamma": 0.95, "lambda": 0.5, "lambda_warmup": 0.0,
        "ll": "normalised", "ll_last": false, "terminal": "drop"});
    let with = |more: Value| {
        let mut all = base.clone();
        for (key, value) in more.as_object().expect("object") {
            all[key] = value.clone();
        }
        all
    };
    let answer = [0, 0, 1, 1, 1];
    let all = [0, 1, 1, 1, 1];
    let literal = json!({"q_mode": "paper_prob", "ll": "paper_eq13", "alpha": 10.0, "beta": 0.1,
        "gamma": 1.0, "lambda": 1.0});
    for (options, response, want) in [
        (
            base.clone(),
            answer,
            [
                -2.07092326808729,
                0.24893972058572117,
                -1.4779567359427361,
                3.0588413566443795,
            ],
        ),
        (
            with(json!({"terminal": "zero"})),
            answer,
            [
                -2.9625927599833237,
                0.41985206940635633,
                -3.246014424278825,
                5.005452041529093,
            ],
        ),
        (
            with(json!({"terminal": "zero", "q_mode": "logits"})),
            answer,
            [
                -2.962592759983324,
                0.41985206940635633,
                -2.5740651045624134,
                4.669477381670887,
            ],
        ),
        (
            base.clone(),
            all,
            [
                -2.967813664382523,
                0.32834553863273436,
                -2.158793704788784,
                4.37555605540965,
            ],
        ),
        (
            with(literal),
            all,
            [
                -0.24655903882618366,
                0.32834553863273436,
                -5.534514181389133,
                6.109418758848051,
            ],
        ),
    ] {
        let (ava, steps, _) = worked(options, response);
        let terms = AvaTerms::of(&steps, &ava.options);
        let got = [
            scalar(&terms.ll.sum()),
            scalar(&terms.kl.sum()),
            scalar(&terms.log_q.sum()),
            scalar(&ava.evaluate(&steps, Progress::END).loss),
        ];
        close("worked example", &got, &want, 1e-5, 1e-5);
    }
    let (ava, steps, out) = worked(with(json!({"terminal": "zero"})), answer);
    let gradients = ava.evaluate(&steps, Progress::END).loss.backward();
    close(
        "d mu",
        &golden::gradient(&out.mean, &gradients),
        &[
            0.0,
            0.0,
            0.006950408545268599,
            0.5719708698218191,
            0.966431978937072,
        ],
        1e-5,
        1e-5,
    );
    close(
        "d rho",
        &golden::gradient(&out.log_std, &gradients),
        &[
            0.0,
            0.0,
            0.4143430568058928,
            -0.18654328516784124,
            0.34270554250985397,
        ],
        1e-5,
        1e-5,
    );
    close(
        "d logits",
        &golden::gradient(&out.logits, &gradients)[4..8],
        &[
            0.529598867458885,
            -0.8857324580823676,
            0.11816948011052802,
            0.23796411051295452,
        ],
        1e-5,
        1e-5,
    );
}

#[test]
fn without_prior_and_residual_it_is_masked_cross_entropy() {
    let options = json!({"lambda": 0.0, "kappa": 0.0});
    let (ava, steps, _) = worked(options, [0, 0, 1, 1, 1]);
    let loss = scalar(&ava.evaluate(&steps, Progress::END).loss);
    assert!((loss - 2.9625927599833237 / 3.0).abs() < 1e-6);
}

#[test]
fn a_single_token_answer_contributes_nothing_under_drop() {
    let options = json!({"terminal": "drop", "ll_last": false, "normalise": "sum"});
    let (ava, steps, out) = worked(options, [0, 0, 0, 0, 1]);
    let result = ava.evaluate(&steps, Progress::END);
    assert_eq!(scalar(&result.loss), 0.0);
    let gradients = result.loss.backward();
    assert!(
        golden::gradient(&out.mean, &gradients)
            .iter()
            .all(|g| *g == 0.0)
    );
}

#[test]
fn without_discount_the_residual_is_the_log_policy() {
    let (ava, steps, _) = worked(json!({"gamma": 0.0}), [0, 0, 1, 1, 1]);
    let delta = values(AvaTerms::of(&steps, &ava.options).delta);
    close("delta", &delta, &values(steps.log_policy), 1e-6, 1e-6);
}

#[test]
fn diagnostics_are_finite_and_named() {
    let (ava, steps, _) = worked(json!({}), [0, 0, 1, 1, 1]);
    let terms = ava.diagnostics(&steps);
    assert!(terms.iter().all(|(_, x)| scalar(x).is_finite()));
    let smallest = terms.iter().find(|(name, _)| *name == "ava/sigma_min");
    let smallest = smallest.map(|(_, x)| scalar(x)).unwrap_or_default();
    assert!((smallest - (-0.5f64).exp()).abs() < 1e-6);
}
