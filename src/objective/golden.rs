//! Reads golden values and compares with them. Tests only: it reads tensors back synchronously.

use crate::reward::{
    HeadValues, Layout, Normaliser, Rwt, StepIndex, Steps, StepsConfig, action_values, assemble,
    reward_weights, weighted_action_values,
};
use crate::test_data;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use serde_json::Value;
use std::sync::OnceLock;

/// One golden file.
pub(crate) struct Golden(pub Value);

/// The golden values of this name, or `None` after saying that they are left out.
#[track_caller]
pub(crate) fn load(name: &str) -> Option<Golden> {
    // Before any tensor is made.
    in_f64();
    let values = test_data::golden(name)?;
    Some(Golden(values))
}

/// Whether this process computes in f64 (`AVASCOPE_TEST_F64` is 1), which golden tests alone are made for. The formulas are then
/// held to what f32 rounds away.
fn in_f64() -> bool {
    static IN_F64: OnceLock<bool> = OnceLock::new();
    *IN_F64.get_or_init(|| {
        let asked = std::env::var("AVASCOPE_TEST_F64").as_deref() == Ok("1");
        if asked {
            let configured = Device::flex().configure(FloatDType::F64);
            configured.expect("no tensor was made before the first golden value was read");
        }
        asked
    })
}

/// The devices a golden test runs on: Flex always, wgpu where the environment asks for it.
#[track_caller]
pub(crate) fn wgpu() -> Option<Device> {
    if std::env::var("AVASCOPE_TEST_WGPU").as_deref() != Ok("1") {
        test_data::skipped("the same on a GPU", "AVASCOPE_TEST_WGPU is not 1");
        return None;
    }
    match pollster::block_on(crate::device::shared_test_gpu()) {
        Ok(device) => Some(device),
        Err(error) => panic!("AVASCOPE_TEST_WGPU is 1, but no adapter opens: {error}"),
    }
}

/// How far values and gradients may be off.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub abs: f64,
    pub rel: f64,
    pub grad_abs: f64,
    pub grad_rel: f64,
}

/// Numbers smaller than this are compared as if they were of this size. Golden numbers are sums of terms around 1, which f32
/// keeps to 6e-8 each: of a sum of several that cancel to less, no more than that is left. The largest error seen is 3e-7
/// (gradients of log-deviations near 0), against 5e-7 allowed.
const FLOOR: f64 = 0.05;

impl Golden {
    pub(crate) fn data(&self, key: &str) -> &Value {
        &self.0["inputs"]["data"][key]
    }

    pub(crate) fn cases(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0["inputs"]["cases"].as_object().expect("cases").iter()
    }

    pub(crate) fn expected(&self, case: &str) -> &Value {
        &self.0["expected"][case]
    }

    /// What is asked of f32: 1e-5 on the processor and 1e-4 elsewhere, values and gradients alike, relative to each number
    /// itself or to [`FLOOR`], whichever is larger. The files' own f32 tolerances are wider (5e-5 to 1e-3).
    ///
    /// In f64 it is 1e-5 of each number itself down to 1e-4, and 1e-9 below, without an exception.
    pub(crate) fn tolerance(&self, device: &Device) -> Tolerance {
        if in_f64() {
            return Tolerance {
                abs: 1e-9,
                rel: 1e-5,
                grad_abs: 1e-9,
                grad_rel: 1e-5,
            };
        }
        let rel = if *device == Device::flex() {
            1e-5
        } else {
            1e-4
        };
        Tolerance {
            abs: FLOOR * rel,
            rel,
            grad_abs: FLOOR * rel,
            grad_rel: rel,
        }
    }
}

/// All numbers of a JSON value, in order.
pub(crate) fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        Value::Bool(b) => vec![f64::from(u8::from(*b))],
        other => vec![
            other
                .as_f64()
                .unwrap_or_else(|| panic!("not a number: {other}")),
        ],
    }
}

/// The shape of nested JSON arrays.
pub(crate) fn shape<const D: usize>(value: &Value) -> [usize; D] {
    let mut at = value;
    std::array::from_fn(|_| {
        let n = at.as_array().expect("array").len();
        at = &at[0];
        n
    })
}

/// A tensor from nested JSON arrays.
pub(crate) fn tensor<const D: usize>(value: &Value, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(flat(value), shape::<D>(value)), device)
}

/// The same as a leaf with gradient.
pub(crate) fn leaf<const D: usize>(value: &Value, device: &Device) -> Tensor<D> {
    tensor(value, device).require_grad()
}

/// The numbers of a tensor.
pub(crate) fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_to_vec().expect("f64")
}

/// The number of a `[1]` tensor.
pub(crate) fn scalar(x: &Tensor<1>) -> f64 {
    values(x.clone())[0]
}

/// A leaf's gradient; zeros where the loss does not depend on it.
pub(crate) fn gradient<const D: usize>(
    leaf: &Tensor<D>,
    gradients: &burn::tensor::Gradients,
) -> Vec<f64> {
    match leaf.grad(gradients) {
        Some(g) => values(g),
        None => vec![0.0; leaf.dims().iter().product()],
    }
}

/// Panics with the place of the first number that is off by more than `rel` times its own wanted size, and by more than
/// `abs`: what is asked of numbers near 0.
pub(crate) fn close(what: &str, got: &[f64], want: &[f64], abs: f64, rel: f64) {
    let allowed: Vec<f64> = want.iter().map(|w| abs.max(rel * w.abs())).collect();
    within(what, got, want, &allowed);
}

/// The same relative to the largest wanted number of the array. Only for numbers that are small because much larger ones
/// cancel in them: f32 rounds the large ones, and cannot be right to `rel` of what is left. Whoever calls it says what cancels.
pub(crate) fn close_where_large_ones_cancel(
    what: &str,
    got: &[f64],
    want: &[f64],
    abs: f64,
    rel: f64,
) {
    // f64 has digits to spare.
    if in_f64() {
        return close(what, got, want, abs, rel);
    }
    let largest = want.iter().fold(0.0f64, |top, w| top.max(w.abs()));
    within(what, got, want, &vec![abs.max(rel * largest); want.len()]);
}

fn within(what: &str, got: &[f64], want: &[f64], allowed: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    for (i, ((g, w), allowed)) in got.iter().zip(want).zip(allowed).enumerate() {
        let error = (g - w).abs();
        assert!(
            error <= *allowed,
            "{what}[{i}]: {g}, expected {w}, off by {error}, at most {allowed} allowed"
        );
    }
}

/// Several JSON arrays `[B, T_i, ...]` below each other, padded on the right to the longest T with `pad`.
pub(crate) fn stack(parts: &[&Value], pad: f64) -> Value {
    let longest = parts.iter().map(|p| shape::<2>(p)[1]).max().unwrap_or(0);
    let mut rows = Vec::new();
    for part in parts {
        for row in part.as_array().expect("rows") {
            let mut row = row.as_array().expect("row").clone();
            let filler = fill(&row[0], pad);
            row.resize(longest, filler);
            rows.push(Value::Array(row));
        }
    }
    Value::Array(rows)
}

fn fill(like: &Value, pad: f64) -> Value {
    match like {
        Value::Array(list) => list.iter().map(|v| fill(v, pad)).collect(),
        _ => serde_json::json!(pad),
    }
}

/// A layout from `ids`, `seg` and `resp` arrays.
pub(crate) fn layout(ids: &Value, seg: &Value, resp: &Value, pairs: Option<usize>) -> Layout {
    let [rows, tokens] = shape::<2>(ids);
    Layout {
        rows,
        tokens,
        ids: flat(ids).iter().map(|x| *x as u32).collect(),
        segments: flat(seg).iter().map(|x| *x as u32).collect(),
        response: flat(resp).iter().map(|x| *x == 1.0).collect(),
        pairs,
    }
}

/// What a model would give: logits `[B, T, V]`, head outputs `[B, T]`, attention queries and keys `[B, T, d]`.
#[derive(Clone)]
pub(crate) struct Outputs {
    pub logits: Tensor<3>,
    pub mean: Tensor<2>,
    pub log_std: Tensor<2>,
    pub attention: Option<[Tensor<3>; 2]>,
}

/// The way the training step goes from outputs to `Steps`.
pub(crate) fn steps(layout: &Layout, outputs: &Outputs, cfg: &StepsConfig) -> Steps {
    let device = outputs.logits.device();
    let [rows, tokens, vocabulary] = outputs.logits.dims();
    let [states, slots, actions] = StepIndex::of(layout).tensors(&device);
    let logits = outputs.logits.clone().reshape([rows * tokens, vocabulary]);
    let logits = logits.select(0, states.clone());
    let weights = match (&outputs.attention, cfg.rwt) {
        (Some([q, k]), Rwt::Reward | Rwt::RewardAndQ) => {
            Some(reward_weights(q.clone(), k.clone(), layout, cfg))
        }
        _ => None,
    };
    let values = match (&weights, cfg.rwt) {
        (Some(w), Rwt::RewardAndQ) => {
            let w = w.clone().reshape([rows * tokens]).select(0, states);
            weighted_action_values(logits, actions, w, cfg)
        }
        _ => action_values(logits, actions, cfg),
    };
    assemble(
        layout,
        values.scatter(slots, rows, layout.steps()),
        HeadValues {
            mean: outputs.mean.clone(),
            log_std: outputs.log_std.clone(),
            weights,
        },
        cfg,
        Normaliser::of(layout),
        &device,
    )
}

/// A golden case as options: `rho_clamp` becomes two numbers, keys that no option has are dropped.
pub(crate) fn options(case: &Value, defaults: &Value) -> Value {
    let mut options = serde_json::Map::new();
    for (key, value) in case.as_object().expect("case") {
        if defaults.get(key).is_some() {
            options.insert(key.clone(), value.clone());
        }
    }
    let (low, high) = match case["rho_clamp"].as_array() {
        Some(pair) => (pair[0].clone(), pair[1].clone()),
        None => (serde_json::json!(-40.0), serde_json::json!(40.0)),
    };
    options.insert("rho_min".into(), low);
    options.insert("rho_max".into(), high);
    if defaults.get("lambda_warmup").is_some() {
        options.insert("lambda_warmup".into(), serde_json::json!(0.0));
    }
    Value::Object(options)
}

/// The pair `index` of a batch alone: its chosen and its rejected row.
pub(crate) fn one_pair(layout: &Layout, out: &Outputs, index: usize) -> (Layout, Outputs) {
    let places = [index, layout.pairs.expect("pairs") + index];
    fn rows<T: Copy>(list: &[T], tokens: usize, places: [usize; 2]) -> Vec<T> {
        let row = |at: usize| list[at * tokens..(at + 1) * tokens].to_vec();
        places.map(row).concat()
    }
    fn pick<const D: usize>(x: &Tensor<D>, places: [usize; 2]) -> Tensor<D> {
        Tensor::cat(places.map(|at| x.clone().narrow(0, at, 1)).to_vec(), 0)
    }
    let alone = Layout {
        rows: 2,
        tokens: layout.tokens,
        ids: rows(&layout.ids, layout.tokens, places),
        segments: rows(&layout.segments, layout.tokens, places),
        response: rows(&layout.response, layout.tokens, places),
        pairs: Some(1),
    };
    let out = Outputs {
        logits: pick(&out.logits, places),
        mean: pick(&out.mean, places),
        log_std: pick(&out.log_std, places),
        attention: (out.attention.as_ref()).map(|[q, k]| [pick(q, places), pick(k, places)]),
    };
    (alone, out)
}

/// A term of an evaluation by its name.
pub(crate) fn term(result: &super::Evaluation, name: &str) -> f64 {
    let found = result.terms.iter().find(|(n, _)| *n == name);
    found.map_or_else(|| panic!("no term `{name}`"), |(_, x)| scalar(x))
}

/// Checks a gradient along two directions, one without structure and one uphill everywhere, where no parts cancel:
/// central differences with step `h` against the gradient, 1 % apart at most, and what f32 loses in a loss of its size.
pub(crate) fn directional<const D: usize>(
    at: &Tensor<D>,
    gradient: &[f64],
    h: f64,
    loss: impl Fn(Tensor<D>) -> f64,
) {
    // Any fixed direction without structure will do.
    let mixed: Vec<f64> = (0..gradient.len())
        .map(|i| ((i * 37 + 11) % 19) as f64 / 9.0 - 1.0)
        .collect();
    let uphill = mixed.iter().zip(gradient);
    let uphill = uphill.map(|(d, g)| if *g == 0.0 { *d } else { d.abs() * g.signum() });
    for direction in [uphill.collect::<Vec<f64>>(), mixed.clone()] {
        let exact: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let step: Vec<f32> = direction.iter().map(|d| (d * h) as f32).collect();
        let step = Tensor::<D>::from_data(TensorData::new(step, at.dims()), &at.device());
        let from = at.clone().detach();
        let up = loss(from.clone() + step.clone());
        let down = loss(from - step);
        let measured = (up - down) / (2.0 * h);
        let error = (measured - exact).abs();
        let lost = 4.0 * f64::from(f32::EPSILON) * up.abs().max(down.abs()).max(1.0) / h;
        assert!(
            error <= 1e-2 * exact.abs() + lost,
            "slope {measured}, gradient says {exact}, f32 loses up to {lost}"
        );
    }
}

/// Two pairs with ragged padding and outputs without structure.
pub(crate) fn random_pairs(device: &Device) -> (Layout, Outputs) {
    let ids = serde_json::json!([
        [0, 2, 1, 3, 1],
        [1, 1, 0, 2, 0],
        [0, 2, 0, 2, 3],
        [1, 1, 3, 0, 0]
    ]);
    let seg = serde_json::json!([
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0]
    ]);
    let resp = serde_json::json!([
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 0, 0]
    ]);
    let wave = |n: usize, by: f64| -> Vec<f64> { (0..n).map(|i| (i as f64 * by).sin()).collect() };
    let rows =
        |v: Vec<f64>| serde_json::json!(v.chunks(5).map(<[f64]>::to_vec).collect::<Vec<_>>());
    let logits = Tensor::<1>::from_floats(
        wave(80, 1.7)
            .iter()
            .map(|x| *x as f32)
            .collect::<Vec<_>>()
            .as_slice(),
        device,
    );
    let out = Outputs {
        logits: logits.reshape([4, 5, 4]),
        mean: tensor(&rows(wave(20, 0.9)), device),
        log_std: tensor(&rows(wave(20, 2.3)), device),
        attention: None,
    };
    (layout(&ids, &seg, &resp, Some(2)), out)
}
