//! Reads golden values and holds tensors against them. The files stand beside the checkout in `shared/golden`; where they
//! are absent a test says that it is skipped, and why.

use super::{Objective, Progress};
use crate::reward::{HeadOutput, Layout, Normaliser, Steps, StepsConfig, steps_from_logits};
use crate::world::Rng;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use serde_json::{Map, Value};

/// Golden values have no warm-up.
pub const AFTER_WARM_UP: Progress = Progress { step: 1, total: 1 };

/// How closely a device must agree.
#[derive(Clone, Copy, Debug)]
pub enum Tolerance {
    /// The file's own f32 tolerances.
    File,
    /// Relative to the larger of 1 and the value.
    Relative(f64),
}

/// Runs a test on the CPU, and on a wgpu device where `AVASCOPE_TEST_WGPU=1` says that there is one.
pub fn on_each_device(test: impl Fn(&Device, Tolerance)) {
    test(&Device::flex().autodiff(), Tolerance::File);
    if std::env::var_os("AVASCOPE_TEST_WGPU").is_none() {
        println!(
            "SKIPPED on wgpu: AVASCOPE_TEST_WGPU is not set (`cargo xtask test` sets it where a Vulkan driver is)"
        );
        return;
    }
    let opened = pollster::block_on(crate::device::shared_test_gpu());
    match opened {
        Ok(device) => test(&device.autodiff(), Tolerance::Relative(1e-4)),
        Err(error) => panic!("AVASCOPE_TEST_WGPU is set, but no adapter opens: {error}"),
    }
}

/// One golden file.
pub struct Golden {
    name: String,
    file: Value,
}

/// A tensor of inputs whose gradient is checked, by its name in the file.
pub enum Leaf {
    Two(Tensor<2>),
    Three(Tensor<3>),
}

impl Golden {
    pub fn open(name: &str) -> Option<Self> {
        let path = format!(
            "{}/../shared/golden/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        match std::fs::read(&path) {
            Ok(bytes) => Some(Self {
                name: name.into(),
                file: serde_json::from_slice(&bytes).unwrap(),
            }),
            Err(_) => {
                println!("SKIPPED: {path} is not there");
                None
            }
        }
    }

    pub fn case_names(&self) -> Vec<String> {
        self.file["inputs"]["cases"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    pub fn case(&self, case: &str) -> &Value {
        &self.file["inputs"]["cases"][case]
    }

    pub fn expected(&self, case: &str, field: &str) -> &Value {
        &self.file["expected"][case][field]
    }

    /// A case's settings as a method's switches; `drop` names settings that are not switches.
    pub fn options(&self, case: &str, drop: &[&str]) -> Value {
        let mut options: Map<String, Value> = self.case(case).as_object().unwrap().clone();
        for name in drop {
            options.remove(*name);
        }
        options.insert("lambda_warmup".into(), Value::from(0.0));
        Value::Object(options)
    }

    fn data(&self, name: &str) -> &Value {
        &self.file["inputs"]["data"][name]
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        flatten(self.data(name))
    }

    pub fn vector(&self, name: &str, device: &Device) -> Tensor<1> {
        Tensor::from_floats(self.floats(name).as_slice(), device)
    }

    pub fn matrix(&self, name: &str, device: &Device) -> Tensor<2> {
        let shape = shape(self.data(name));
        Tensor::from_data(
            TensorData::new(self.floats(name), [shape[0], shape[1]]),
            device,
        )
    }

    pub fn cube(&self, name: &str, device: &Device) -> Tensor<3> {
        let shape = shape(self.data(name));
        Tensor::from_data(
            TensorData::new(self.floats(name), [shape[0], shape[1], shape[2]]),
            device,
        )
    }

    /// One-hot of the last 1 in each row of a mask.
    pub fn last_valid(&self, name: &str, device: &Device) -> Tensor<2> {
        let shape = shape(self.data(name));
        let mut values = self.floats(name);
        for row in values.chunks_mut(shape[1]) {
            let last = row.iter().rposition(|v| *v > 0.5).unwrap();
            for (i, v) in row.iter_mut().enumerate() {
                *v = f32::from(u8::from(i == last));
            }
        }
        Tensor::from_data(TensorData::new(values, [shape[0], shape[1]]), device)
    }

    /// `Steps` of a case from the file's logits and head values. `sides` are the suffixes of the inputs' names; two
    /// sides are laid one under the other, the narrower one padded on the right with garbage.
    pub fn steps(
        &self,
        case: &str,
        sides: &[&str],
        cfg: &StepsConfig,
        device: &Device,
    ) -> (Steps, Vec<(String, Leaf)>) {
        let _ = case;
        let shapes: Vec<Vec<usize>> = sides
            .iter()
            .map(|side| shape(self.data(&format!("logits{side}"))))
            .collect();
        let tokens = shapes.iter().map(|s| s[1]).max().unwrap();
        let v = shapes[0][2];
        let rows: usize = shapes.iter().map(|s| s[0]).sum();
        let mut layout = Layout {
            rows,
            tokens,
            ids: Vec::new(),
            segments: Vec::new(),
            response: Vec::new(),
            pairs: (sides.len() == 2).then_some(shapes[0][0]),
        };
        let mut leaves = Vec::new();
        let (mut logits, mut means, mut raws) = (Vec::new(), Vec::new(), Vec::new());
        for (side, shape) in sides.iter().zip(&shapes) {
            let (b, t) = (shape[0], shape[1]);
            let pad = tokens - t;
            for row in 0..b {
                let ints = |name: &str| {
                    let values = self.floats(&format!("{name}{side}"));
                    values[row * t..(row + 1) * t]
                        .iter()
                        .map(|v| *v as u32)
                        .collect::<Vec<_>>()
                };
                layout
                    .ids
                    .extend(ints("ids").into_iter().chain(std::iter::repeat_n(0, pad)));
                layout
                    .segments
                    .extend(ints("seg").into_iter().chain(std::iter::repeat_n(0, pad)));
                layout.response.extend(
                    ints("resp")
                        .into_iter()
                        .map(|v| v > 0)
                        .chain(std::iter::repeat_n(true, pad)),
                );
            }
            let cube = self.cube(&format!("logits{side}"), device).require_grad();
            let mean = self.matrix(&format!("mu{side}"), device).require_grad();
            let raw = self.matrix(&format!("rho{side}"), device).require_grad();
            leaves.push((format!("logits{side}"), Leaf::Three(cube.clone())));
            leaves.push((format!("mu{side}"), Leaf::Two(mean.clone())));
            leaves.push((format!("rho{side}"), Leaf::Two(raw.clone())));
            let wide = |x: Tensor<2>| {
                if pad == 0 {
                    x
                } else {
                    Tensor::cat(vec![x, Tensor::full([b, pad], 7.0, device)], 1)
                }
            };
            logits.push(if pad == 0 {
                cube
            } else {
                Tensor::cat(vec![cube, Tensor::full([b, pad, v], 7.0, device)], 1)
            });
            means.push(wide(mean));
            raws.push(wide(raw));
        }
        let mut head = HeadOutput {
            mean: Tensor::cat(means, 0),
            raw: Tensor::cat(raws, 0),
            weights: None,
        };
        if sides.len() == 1 && !self.data("att_q").is_null() {
            let queries = self.cube("att_q", device).require_grad();
            let keys = self.cube("att_k", device).require_grad();
            leaves.push(("att_q".into(), Leaf::Three(queries.clone())));
            leaves.push(("att_k".into(), Leaf::Three(keys.clone())));
            head = head.weighted(queries, keys, &layout, cfg);
        }
        let counts = counts_of(&layout);
        let steps = steps_from_logits(&layout, Tensor::cat(logits, 0), head, cfg, counts, device);
        (steps, leaves)
    }

    fn bounds(&self, kind: &str) -> (f64, f64) {
        let of = |end: &str| {
            self.file["tolerance"][format!("{kind}_{end}")]
                .as_f64()
                .unwrap()
        };
        (of("abs"), of("rel"))
    }

    fn hold(
        &self,
        what: &str,
        got: &[f32],
        expected: &[f32],
        tolerance: Tolerance,
        gradient: bool,
    ) {
        assert_eq!(got.len(), expected.len(), "{} {what}: lengths", self.name);
        let (abs, rel) = match tolerance {
            Tolerance::File if gradient => self.bounds("f32_grad"),
            Tolerance::File => self.bounds("f32"),
            Tolerance::Relative(rel) => (rel, rel),
        };
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let (got, expected) = (f64::from(*got), f64::from(*expected));
            assert!(
                (got - expected).abs() <= abs + rel * expected.abs(),
                "{} {what} [{i}]: got {got}, expected {expected}",
                self.name
            );
        }
    }

    pub fn check<const D: usize>(
        &self,
        case: &str,
        field: &str,
        got: Tensor<D>,
        tolerance: Tolerance,
    ) {
        let expected = flatten(self.expected(case, field));
        self.hold(
            &format!("{case}.{field}"),
            &vector_of(got),
            &expected,
            tolerance,
            false,
        );
    }

    /// Compares where `mask` is 1; elsewhere the file has zeros.
    pub fn check_masked(&self, case: &str, field: &str, got: Tensor<2>, mask: &Tensor<2>) {
        let got = got
            .inner()
            .mask_fill(mask.clone().inner().equal_scalar(0.0), 0.0);
        let mask = vector_of(mask.clone());
        let mut expected = flatten(self.expected(case, field));
        for (value, counts) in expected.iter_mut().zip(mask) {
            *value *= counts;
        }
        self.hold(
            &format!("{case}.{field}"),
            &vector_of(got),
            &expected,
            Tolerance::File,
            false,
        );
    }

    pub fn check_gradients(
        &self,
        case: &str,
        leaves: &[(String, Leaf)],
        gradients: Gradients,
        tolerance: Tolerance,
    ) {
        for (name, leaf) in leaves {
            let expected = &self.expected(case, "grad")[name];
            if expected.is_null() {
                continue;
            }
            let expected = flatten(expected);
            let got = match leaf {
                Leaf::Two(leaf) => leaf.grad(&gradients).map(vector_of),
                Leaf::Three(leaf) => leaf.grad(&gradients).map(vector_of),
            };
            // A leaf that the loss does not touch has no gradient: zero.
            let got = got.unwrap_or_else(|| vec![0.0; expected.len()]);
            self.hold(
                &format!("{case}.grad.{name}"),
                &got,
                &expected,
                tolerance,
                true,
            );
        }
    }

    pub fn check_matrix_gradients(
        &self,
        case: &str,
        leaves: Vec<(String, Tensor<2>)>,
        gradients: Gradients,
        tolerance: Tolerance,
    ) {
        let leaves: Vec<(String, Leaf)> = leaves
            .into_iter()
            .map(|(name, leaf)| (name, Leaf::Two(leaf)))
            .collect();
        self.check_gradients(case, &leaves, gradients, tolerance);
    }

    /// The directional derivative along the gradient itself, against central differences.
    pub fn check_direction(
        &self,
        case: &str,
        sides: &[&str],
        objective: &dyn Objective,
        device: &Device,
    ) {
        let cfg = objective.steps_config();
        let (steps, leaves) = self.steps(case, sides, cfg, device);
        let gradients = objective.evaluate(&steps, AFTER_WARM_UP).loss.backward();
        let mut slope = 0.0f64;
        let mut moved = [self.file.clone(), self.file.clone()];
        let h = 1e-2f64;
        let norm: f64 = leaves
            .iter()
            .filter_map(|(_, leaf)| leaf_gradient(leaf, &gradients))
            .flatten()
            .map(|g| f64::from(g).powi(2))
            .sum::<f64>()
            .sqrt();
        for (name, leaf) in &leaves {
            let Some(gradient) = leaf_gradient(leaf, &gradients) else {
                continue;
            };
            slope += gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>() / norm;
            for (file, sign) in moved.iter_mut().zip([1.0, -1.0]) {
                let mut at = 0;
                add(
                    &mut file["inputs"]["data"][name],
                    &gradient,
                    &mut at,
                    sign * h / norm,
                );
            }
        }
        let losses: Vec<f64> = moved
            .into_iter()
            .map(|file| {
                let golden = Golden {
                    name: self.name.clone(),
                    file,
                };
                let (steps, _) = golden.steps(case, sides, cfg, device);
                scalar(objective.evaluate(&steps, AFTER_WARM_UP).loss)
            })
            .collect();
        let differences = (losses[0] - losses[1]) / (2.0 * h);
        assert!(
            (differences - slope).abs() <= 1e-2 * slope.abs(),
            "{case}: {differences} against {slope}"
        );
    }
}

fn leaf_gradient(leaf: &Leaf, gradients: &Gradients) -> Option<Vec<f32>> {
    match leaf {
        Leaf::Two(leaf) => leaf.grad(gradients).map(vector_of),
        Leaf::Three(leaf) => leaf.grad(gradients).map(vector_of),
    }
}

fn add(value: &mut Value, gradient: &[f32], at: &mut usize, factor: f64) {
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| add(item, gradient, at, factor)),
        number => {
            *number = Value::from(number.as_f64().unwrap() + factor * f64::from(gradient[*at]));
            *at += 1;
        }
    }
}

fn flatten(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(flatten).collect(),
        Value::Bool(value) => vec![f32::from(u8::from(*value))],
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn shape(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(items) => {
            let mut dims = vec![items.len()];
            dims.extend(items.first().map(shape).unwrap_or_default());
            dims
        }
        _ => Vec::new(),
    }
}

fn vector_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_to_vec().unwrap()
}

/// A vector's values.
pub fn vector(tensor: Tensor<1>) -> Vec<f32> {
    vector_of(tensor)
}

/// A scalar's value.
pub fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(vector_of(tensor)[0])
}

/// A matrix's rows.
pub fn rows(tensor: Tensor<2>) -> Vec<Vec<f32>> {
    let [_, columns] = tensor.dims();
    vector_of(tensor)
        .chunks(columns)
        .map(<[f32]>::to_vec)
        .collect()
}

fn counts_of(layout: &Layout) -> Normaliser {
    Normaliser {
        steps: layout.step_mask().iter().filter(|m| **m).count() as f64,
        rows: layout.rows as f64,
        pairs: layout.pairs.unwrap_or(0) as f64,
    }
}

/// Rows of random length with a prompt of two tokens, and random logits.
pub fn random_batch(
    b: usize,
    t: usize,
    v: usize,
    seed: u64,
    device: &Device,
) -> (Layout, Tensor<3>) {
    let mut rng = Rng::new(seed);
    let mut layout = Layout {
        rows: b,
        tokens: t,
        ids: (0..b * t).map(|_| rng.below(v) as u32).collect(),
        segments: vec![0; b * t],
        response: vec![false; b * t],
        pairs: None,
    };
    for row in 0..b {
        let length = 4 + rng.below(t - 3);
        for i in 0..length {
            layout.segments[row * t + i] = 1;
            layout.response[row * t + i] = i >= 2;
        }
    }
    let logits: Vec<f32> = (0..b * t * v).map(|_| rng.normal() as f32).collect();
    (
        layout,
        Tensor::from_data(TensorData::new(logits, [b, t, v]), device),
    )
}

/// Steps with an untrained head.
pub fn steps_at_prior(
    layout: &Layout,
    logits: Tensor<3>,
    cfg: &StepsConfig,
    device: &Device,
) -> Steps {
    let (b, t) = (layout.rows, layout.tokens);
    let head = HeadOutput {
        mean: Tensor::zeros([b, t], device),
        raw: Tensor::zeros([b, t], device),
        weights: None,
    };
    steps_from_logits(layout, logits, head, cfg, counts_of(layout), device)
}

/// Steps with head values that are a function of the token, and infinities and NaN on padding.
pub fn steps_with_garbage(
    layout: &Layout,
    logits: Tensor<3>,
    cfg: &StepsConfig,
    device: &Device,
) -> Steps {
    let (b, t) = (layout.rows, layout.tokens);
    let value = |scale: f32, garbage: f32| {
        let values: Vec<f32> = layout
            .ids
            .iter()
            .zip(&layout.segments)
            .map(|(id, segment)| {
                if *segment == 0 {
                    garbage
                } else {
                    scale * (*id as f32 - 2.0)
                }
            })
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, [b, t]), device)
    };
    let head = HeadOutput {
        mean: value(0.3, f32::NAN),
        raw: value(0.1, f32::INFINITY),
        weights: None,
    };
    steps_from_logits(layout, logits, head, cfg, counts_of(layout), device)
}

/// Row `b` alone, with `pad` more tokens of padding.
pub fn one_row(layout: &Layout, logits: Tensor<3>, b: usize, pad: usize) -> (Layout, Tensor<3>) {
    let t = layout.tokens;
    let [_, _, v] = logits.dims();
    let cut = |values: &[u32], fill: u32| {
        values[b * t..(b + 1) * t]
            .iter()
            .copied()
            .chain(std::iter::repeat_n(fill, pad))
            .collect::<Vec<_>>()
    };
    let row = Layout {
        rows: 1,
        tokens: t + pad,
        ids: cut(&layout.ids, 1),
        segments: cut(&layout.segments, 0),
        response: layout.response[b * t..(b + 1) * t]
            .iter()
            .copied()
            .chain(std::iter::repeat_n(true, pad))
            .collect(),
        pairs: None,
    };
    let device = logits.device();
    let z = logits.slice([b..b + 1, 0..t, 0..v]);
    (
        row,
        Tensor::cat(vec![z, Tensor::full([1, pad, v], 3.0, &device)], 1),
    )
}

/// Mean negative log-likelihood of the answers' tokens, computed on the host in f64.
pub fn masked_cross_entropy(layout: &Layout, logits: Tensor<3>) -> f64 {
    let [_, t, v] = logits.dims();
    let z = vector_of(logits);
    let (s, mask) = (layout.steps(), layout.step_mask());
    let (mut sum, mut n) = (0.0, 0.0);
    for b in 0..layout.rows {
        for i in 0..s {
            if !mask[b * s + i] {
                continue;
            }
            let row: Vec<f64> = z[(b * t + i) * v..(b * t + i + 1) * v]
                .iter()
                .map(|x| f64::from(*x))
                .collect();
            let total: f64 = row.iter().map(|x| x.exp()).sum();
            sum += total.ln() - row[layout.ids[b * t + i + 1] as usize];
            n += 1.0;
        }
    }
    sum / n
}
