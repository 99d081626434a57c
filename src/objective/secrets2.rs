//! Bradley-Terry with cleaned labels: flipping, smoothing, adaptive margins and a contrastive term.
//!
//! ```text
//! strength mu = mean over M reward models of r_c - r_r                   s = -1 for flipped pairs, else 1
//! x    = s (r_c - r_r) - margin_scale s mu
//! loss = mean_b [ -(1-a) log sigma(x) - a log sigma(-x) ] + contrastive_weight C      a: where smoothing applies
//! ```
//!
//! C is SimCSE or SwAV ([`contrastive`]). Source: *Secrets of RLHF in Large Language Models Part II*, arXiv 2401.06080, Eq. 4-9. Eq. 6 prints the margin
//! outside the sigmoid, where it has no effect; here it is inside, and changes sign with a flipped label (ours).
//!
//! C reads the trunk's states at an answer's last token, from two passes under dropout beside the pass that gives r. Dropout
//! belongs to training: on held-out rows the loss has no contrastive term.

pub mod contrastive;

pub use contrastive::{Features, simcse, sinkhorn_codes, swav};

use super::math::sides;
use super::options::{self, check, check_steps};
use super::{
    Evaluation, Method, Objective, ObjectiveError, Progress, RowKind, ScoreKind, Scores, Variant,
    reward_terms,
};
use crate::reward::{Steps, StepsConfig};
use burn::tensor::activation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The entry in [`METHODS`](super::METHODS).
pub const METHOD: Method = Method {
    name: "secrets2",
    title: "Bradley-Terry with cleaned labels",
    citation: "Secrets of RLHF II, arXiv 2401.06080, Eq. 4-9",
    build: |options| Ok(Box::new(Secrets2::new(options)?)),
    defaults: options::defaults::<Secrets2Options>,
    variants: &[
        Variant {
            name: "label flip",
            options: &[("flip_fraction", "0.1"), ("margin_scale", "0.0")],
            note: "the labels of the pairs of lowest strength swapped",
        },
        Variant {
            name: "soft label + margin",
            options: &[("smoothing", "0.1")],
            note: "adaptive margins, and smoothing where the strength is negative (a is not in the paper)",
        },
        Variant {
            name: "SimCSE",
            options: &[("contrastive_weight", "1.0"), ("margin_scale", "0.0")],
            note: "Bradley-Terry with the contrastive term on answers; reads no strengths",
        },
        Variant {
            name: "SimCSE-diff",
            options: &[
                ("contrastive_weight", "1.0"),
                ("margin_scale", "0.0"),
                ("features", "difference"),
            ],
            note: "the same on differences of the two answers",
        },
        Variant {
            name: "SwAV",
            options: &[
                ("contrastive", "swav"),
                ("contrastive_weight", "0.1"),
                ("margin_scale", "0.0"),
                ("prototypes", "50"),
                ("tau", "0.1"),
            ],
            note: "swapped prediction of codes over 50 prototypes, on answers (tau is SwAV's own)",
        },
        Variant {
            name: "SwAV-diff",
            options: &[
                ("contrastive", "swav"),
                ("contrastive_weight", "0.5"),
                ("margin_scale", "0.0"),
                ("features", "difference"),
                ("prototypes", "20"),
                ("tau", "0.1"),
            ],
            note: "the same over 20 prototypes, on differences of the two answers",
        },
    ],
};

/// Which pairs are smoothed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmoothOn {
    /// All.
    All,
    /// Those whose strength is below 0.
    NegativeStrength,
}

/// The form of the contrastive term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contrastive {
    /// Two passes of one answer against those of the others.
    Simcse,
    /// The code of one pass, over prototypes, predicted from the other.
    Swav,
}

/// Options. Each default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Secrets2Options {
    /// How steps are made.
    #[serde(flatten)]
    pub steps: StepsConfig,
    /// last: the usual sequence reward model.
    pub score: ScoreKind,
    /// Share of the data's pairs, of lowest strength, whose labels are swapped; 0.1 to 0.2 in the paper's analysis. Read
    /// by whoever makes [`Extras::sign`](crate::reward::Extras), with [`flips`]; held-out pairs keep their labels.
    pub flip_fraction: f64,
    /// Weight of the margin; 1: the paper's.
    pub margin_scale: f64,
    /// a: the paper does not give it.
    pub smoothing: f64,
    /// negative_strength: the paper's soft label.
    pub smooth_on: SmoothOn,
    /// simcse: needs no prototypes.
    pub contrastive: Contrastive,
    /// Weight of the contrastive term; in the paper, where it is on, 1 (SimCSE), 0.1 (SwAV) and 0.5 (SwAV on differences).
    pub contrastive_weight: f64,
    /// Temperature of the contrastive term; the paper does not give it.
    pub tau: f64,
    /// What the contrastive term compares.
    pub features: Features,
    /// Dropout rate of the two passes that it compares; 0.05: the paper's.
    pub dropout: f64,
    /// K of SwAV; 50 in the paper, 20 on differences.
    pub prototypes: usize,
    /// Sharpness of SwAV's codes: smaller is sharper. 0.05: SwAV's own (arXiv 2006.09882).
    pub epsilon: f64,
}

impl Default for Secrets2Options {
    fn default() -> Self {
        Self {
            steps: StepsConfig::default(),
            score: ScoreKind::Last,
            flip_fraction: 0.0,
            margin_scale: 1.0,
            smoothing: 0.0,
            smooth_on: SmoothOn::NegativeStrength,
            contrastive: Contrastive::Simcse,
            contrastive_weight: 0.0,
            tau: 0.05,
            features: Features::Pairs,
            dropout: 0.05,
            prototypes: 50,
            epsilon: 0.05,
        }
    }
}

/// Bradley-Terry with cleaned labels, with its options.
pub struct Secrets2 {
    options: Secrets2Options,
}

impl Secrets2 {
    /// From options laid over the defaults.
    ///
    /// # Errors
    /// [`ObjectiveError`], naming the option that is unknown or out of range.
    pub fn new(options: &Value) -> Result<Self, ObjectiveError> {
        let name = "secrets2";
        let options: Secrets2Options = options::parse(name, options)?;
        check_steps(&options.steps, name)?;
        let half = |x: f64| (0.0..=0.5).contains(&x);
        let at_least_zero = |x: f64| x.is_finite() && x >= 0.0;
        let o = &options;
        check(
            half(o.flip_fraction),
            name,
            "flip_fraction",
            o.flip_fraction,
            "0 to 0.5",
        )?;
        check(
            half(o.smoothing),
            name,
            "smoothing",
            o.smoothing,
            "0 to 0.5",
        )?;
        check(
            at_least_zero(o.margin_scale),
            name,
            "margin_scale",
            o.margin_scale,
            "0 or more",
        )?;
        let weight = o.contrastive_weight;
        check(
            at_least_zero(weight),
            name,
            "contrastive_weight",
            weight,
            "0 or more",
        )?;
        check(
            o.tau.is_finite() && o.tau > 0.0,
            name,
            "tau",
            o.tau,
            "above 0",
        )?;
        check(
            o.dropout > 0.0 && o.dropout < 1.0,
            name,
            "dropout",
            o.dropout,
            "above 0 and below 1",
        )?;
        check(
            (2..=65_536).contains(&o.prototypes),
            name,
            "prototypes",
            o.prototypes as f64,
            "2 to 65536",
        )?;
        check(
            o.epsilon.is_finite() && o.epsilon > 0.0,
            name,
            "epsilon",
            o.epsilon,
            "above 0",
        )?;
        Ok(Self { options })
    }
}

impl Objective for Secrets2 {
    fn name(&self) -> &'static str {
        "secrets2"
    }

    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    fn steps_config(&self) -> &StepsConfig {
        &self.options.steps
    }

    fn informs_std(&self) -> bool {
        false
    }

    fn warnings(&self) -> Vec<String> {
        if self.options.margin_scale > 0.0 && self.options.flip_fraction == 0.0 {
            return vec![
                "a pair of negative strength has a negative margin, which rewards the wrong order unless its label is \
                 flipped"
                    .to_owned(),
            ];
        }
        Vec::new()
    }

    fn feature_dropout(&self) -> Option<f64> {
        let o = &self.options;
        (o.contrastive_weight > 0.0).then_some(o.dropout)
    }

    fn prototypes(&self) -> Option<usize> {
        let o = &self.options;
        let on = o.contrastive_weight > 0.0 && o.contrastive == Contrastive::Swav;
        on.then_some(o.prototypes)
    }

    fn strength(&self) -> Option<f64> {
        let o = &self.options;
        let smooths = o.smoothing > 0.0 && o.smooth_on == SmoothOn::NegativeStrength;
        (o.margin_scale > 0.0 || o.flip_fraction > 0.0 || smooths).then_some(o.flip_fraction)
    }

    fn ranking_score(&self) -> ScoreKind {
        self.options.score
    }

    /// Reads `strength`, `sign`, `features` and `prototypes` of [`Extras`](crate::reward::Extras); each part is off without its own.
    fn evaluate(&self, steps: &Steps, _: Progress) -> Evaluation {
        let (options, pairs) = (&self.options, steps.pair_count());
        let scores = Scores::of(steps);
        let (chosen, rejected) = sides(scores.get(options.score), pairs);
        let mut x = chosen - rejected;
        let mut smoothing = x.full_like(options.smoothing).detach();
        match &steps.extras.strength {
            Some(strength) => {
                x = x - strength.clone().mul_scalar(options.margin_scale);
                if options.smooth_on == SmoothOn::NegativeStrength {
                    smoothing = smoothing * strength.clone().lower_elem(0.0).float();
                }
            }
            None if options.smooth_on == SmoothOn::NegativeStrength => {
                smoothing = smoothing.zeros_like();
            }
            None => {}
        }
        if let Some(sign) = &steps.extras.sign {
            x = x * sign.clone();
        }
        let right = activation::log_sigmoid(x.clone());
        let wrong = activation::log_sigmoid(x.neg());
        // (1-a) right + a wrong
        let each = right.clone() + smoothing * (wrong - right);
        let mut loss = each.sum().neg().div_scalar(steps.counts.pairs.max(1.0));
        let mut terms = vec![("preference_loss", loss.clone().detach())];
        if let (true, Some([s, t])) = (options.contrastive_weight > 0.0, &steps.extras.features) {
            // Its mean is over the rows at hand; their share of the batch's rows makes micro-batches add up.
            let share = s.dims()[0] as f64 / steps.counts.rows.max(1.0);
            let passes = [s.clone(), t.clone()];
            let each = match (options.contrastive, &steps.extras.prototypes) {
                (Contrastive::Simcse, _) => {
                    let [s, t] = passes;
                    Some(simcse(s, t, options.features, options.tau))
                }
                (Contrastive::Swav, Some(prototypes)) => Some(contrastive::swav_of(
                    passes,
                    prototypes.clone(),
                    options.features,
                    options.tau,
                    options.epsilon,
                )),
                (Contrastive::Swav, None) => None,
            };
            if let Some(each) = each {
                let contrast = each.mean().mul_scalar(share);
                terms.push(("contrastive_loss", contrast.clone().detach()));
                loss = loss + contrast.mul_scalar(options.contrastive_weight);
            }
        }
        let scores = scores.detach();
        terms.push(("loss", loss.clone().detach()));
        terms.extend(reward_terms(scores.get(options.score), pairs, steps.counts));
        Evaluation {
            loss,
            terms,
            scores,
        }
    }
}

/// Preference strength of N pairs from M models' score differences `[M][N]`: mean and population standard deviation.
pub fn strength(differences: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let models = differences.len() as f64;
    let pairs = differences.iter().map(Vec::len).min().unwrap_or(0);
    (0..pairs)
        .map(|i| {
            let column = || differences.iter().map(move |row| row[i]);
            let mean = column().sum::<f64>() / models;
            let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / models;
            (mean, variance.sqrt())
        })
        .collect()
}

/// -1 for the floor(fraction N) pairs of lowest strength, 1 for the others. Equal strengths flip in the order given.
pub fn flips(strength: &[f64], fraction: f64) -> Vec<f32> {
    let mut order: Vec<usize> = (0..strength.len()).collect();
    order.sort_by(|a, b| strength[*a].total_cmp(&strength[*b]));
    let mut signs = vec![1.0; strength.len()];
    let count = (fraction.clamp(0.0, 1.0) * strength.len() as f64) as usize;
    for i in order.iter().take(count) {
        signs[*i] = -1.0;
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, Outputs, close, flat, leaf, scalar, values};
    use super::*;
    use burn::tensor::{Device, Tensor, TensorData};
    use serde_json::json;

    fn numbers(list: &[f64], device: &Device) -> Tensor<1> {
        let list: Vec<f32> = list.iter().map(|x| *x as f32).collect();
        let n = list.len();
        Tensor::from_data(TensorData::new(list, [n]), device)
    }

    fn golden_values_hold_on(device: &Device) {
        let Some(g) = golden::load("secrets2") else {
            return;
        };
        let tol = g.tolerance(device);
        let device = device.clone().autodiff();
        let [_, n] = golden::shape::<2>(g.data("model_differences"));
        let differences: Vec<Vec<f64>> = flat(g.data("model_differences"))
            .chunks(n)
            .map(<[f64]>::to_vec)
            .collect();
        let (mu, sd): (Vec<f64>, Vec<f64>) = strength(&differences).into_iter().unzip();
        let column = |v: f64| json!(vec![vec![1.0, v]; 2 * n]);
        let layout = golden::layout(
            &column(0.0),
            &column(1.0),
            &json!(vec![vec![0, 1]; 2 * n]),
            Some(n),
        );
        for (name, case) in g.cases() {
            let method = Secrets2::new(case).expect("golden options");
            let (c, r) = (
                leaf::<1>(g.data("r_c"), &device),
                leaf::<1>(g.data("r_r"), &device),
            );
            let both: Tensor<2> = Tensor::cat(vec![c.clone(), r.clone()], 0).unsqueeze_dim(1);
            let out = Outputs {
                logits: Tensor::zeros([2 * n, 2, 2], &device),
                mean: Tensor::cat(vec![both.zeros_like(), both], 1),
                log_std: Tensor::zeros([2 * n, 2], &device),
                attention: None,
            };
            let mut steps = golden::steps(&layout, &out, method.steps_config());
            let signs = flips(&mu, method.options.flip_fraction);
            let flipped: Vec<f64> = signs
                .iter()
                .map(|s| f64::from(u8::from(*s < 0.0)))
                .collect();
            steps.extras.strength = Some(numbers(&mu, &device));
            let signs: Vec<f64> = signs.iter().map(|s| f64::from(*s)).collect();
            steps.extras.sign = Some(numbers(&signs, &device));
            let result = method.evaluate(&steps, Progress::END);
            let want = g.expected(name);
            let check = |key: &str, got: &[f64]| {
                close(
                    &format!("{name} {key}"),
                    got,
                    &flat(&want[key]),
                    tol.abs,
                    tol.rel,
                );
            };
            check("loss", &values(result.loss.clone()));
            let each: Vec<f64> = (0..n)
                .map(|b| {
                    let (layout, out) = golden::one_pair(&layout, &out, b);
                    let mut steps = golden::steps(&layout, &out, method.steps_config());
                    steps.extras.strength = Some(numbers(&mu[b..=b], &device));
                    steps.extras.sign = Some(numbers(&signs[b..=b], &device));
                    golden::term(&method.evaluate(&steps, Progress::END), "preference_loss")
                })
                .collect();
            check("per_pair", &each);
            check("strength", &mu);
            check("strength_std", &sd);
            check("flipped", &flipped);
            let gradients = result.loss.backward();
            for (key, leaf) in [("r_c", &c), ("r_r", &r)] {
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

    /// The file's worked lines: a difference of 0.8 by each loss, and the margin as the paper prints it, outside the sigmoid.
    #[test]
    fn golden_lines_hold() {
        let Some(g) = golden::load("secrets2") else {
            return;
        };
        let device = Device::flex();
        let column = |v: f64| json!(vec![vec![1.0, v]; 2]);
        let layout = golden::layout(
            &column(0.0),
            &column(1.0),
            &json!(vec![vec![0, 1]; 2]),
            Some(1),
        );
        let out = Outputs {
            logits: Tensor::zeros([2, 2, 2], &device),
            mean: Tensor::from_floats([[0.0, 1.1], [0.0, 0.3]], &device),
            log_std: Tensor::zeros([2, 2], &device),
            attention: None,
        };
        let loss = |options: Value, mean: f64| {
            let method = Secrets2::new(&options).expect("options");
            let mut steps = golden::steps(&layout, &out, method.steps_config());
            steps.extras.strength = Some(numbers(&[mean], &device));
            scalar(&method.evaluate(&steps, Progress::END).loss)
        };
        let same = |name: &str, got: f64, want: &Value| {
            let want = want.as_f64().expect("a number");
            assert!((got - want).abs() < 1e-6, "{name}: {got} {want}");
        };
        let line = g.expected("one_line");
        let plain = json!({"margin_scale": 0.0});
        same("bt", loss(plain, 0.0), &line["bt"]);
        let margin = json!({"margin_scale": 1.0});
        same("margin", loss(margin, 0.3), &line["margin"]);
        let smooth = json!({"margin_scale": 0.0, "smoothing": 0.1, "smooth_on": "all"});
        same("smoothing", loss(smooth, 0.0), &line["smoothing"]);
        let (mean, std) = strength(&[vec![1.0], vec![-0.5], vec![0.25]])[0];
        same("strength", mean, &line["strength"][0]);
        same("strength's std", std, &line["strength"][1]);

        // The margin outside the sigmoid is a constant: the loss of Bradley-Terry and the mean strength.
        let [_, n] = golden::shape::<2>(g.data("model_differences"));
        let differences = flat(g.data("model_differences"));
        let differences: Vec<Vec<f64>> = differences.chunks(n).map(<[f64]>::to_vec).collect();
        let mean = strength(&differences).iter().map(|s| s.0).sum::<f64>() / n as f64;
        let plain = g.expected("bt")["loss"].as_f64().expect("a number");
        same(
            "as printed",
            plain + mean,
            &g.expected("printed_eq6")["loss"],
        );
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
    fn a_margin_of_the_difference_itself_gives_log_two_and_half_smoothing_is_even() {
        let device = Device::flex();
        let (layout, out) = golden::random_pairs(&device);
        let loss = |options: Value, strength: Option<Tensor<1>>, turn: f64| {
            let method = Secrets2::new(&options).expect("options");
            let out = Outputs {
                mean: out.mean.clone().mul_scalar(turn),
                ..out.clone()
            };
            let mut steps = golden::steps(&layout, &out, method.steps_config());
            let (chosen, rejected) = sides(Scores::of(&steps).last, 2);
            steps.extras.strength = strength.or(Some(chosen - rejected));
            scalar(&method.evaluate(&steps, Progress::END).loss)
        };
        let of_itself = loss(json!({}), None, 1.0);
        assert!(
            (of_itself - std::f64::consts::LN_2).abs() < 1e-6,
            "{of_itself}"
        );
        let even = json!({"smoothing": 0.5, "smooth_on": "all", "margin_scale": 0.0});
        let zero = || Some(Tensor::<1>::zeros([2], &device));
        let (up, down) = (loss(even.clone(), zero(), 1.0), loss(even, zero(), -1.0));
        assert!((up - down).abs() < 1e-6 && up > std::f64::consts::LN_2);
    }

    #[test]
    fn the_contrastive_term_joins_the_loss_by_its_weight() {
        let device = Device::flex();
        let same = Tensor::<2>::ones([4, 3], &device);
        let prototypes = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], &device);
        let (layout, out) = golden::random_pairs(&device);
        for (contrastive, joins) in [("simcse", 4f64.ln()), ("swav", 2.0 * 2f64.ln())] {
            let loss = |weight: f64| {
                let options = json!({"contrastive": contrastive, "contrastive_weight": weight});
                let method = Secrets2::new(&options).expect("options");
                let mut steps = golden::steps(&layout, &out, method.steps_config());
                steps.extras.features = Some([same.clone(), same.clone()]);
                // Both prototypes are as near to every feature: codes and predictions are even.
                steps.extras.prototypes = Some(prototypes.clone());
                scalar(&method.evaluate(&steps, Progress::END).loss)
            };
            let joined = loss(0.5) - loss(0.0);
            assert!(
                (joined - 0.5 * joins).abs() < 1e-5,
                "{contrastive}: {joined}"
            );
        }
    }

    #[test]
    fn prototypes_are_asked_for_by_swav_alone() {
        let prototypes = |options: Value| Secrets2::new(&options).expect("options").prototypes();
        let on = json!({"contrastive": "swav", "contrastive_weight": 0.5, "prototypes": 20});
        assert_eq!(prototypes(on), Some(20));
        assert_eq!(prototypes(json!({"contrastive": "swav"})), None);
        assert_eq!(prototypes(json!({"contrastive_weight": 1.0})), None);
        for options in [json!({"prototypes": 1}), json!({"epsilon": 0.0})] {
            assert!(Secrets2::new(&options).is_err(), "{options}");
        }
    }
}
