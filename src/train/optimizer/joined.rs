//! Small tensors joined end to end, so that a step launches a dozen kernels for all of them and not for each: on a GPU a
//! launch costs what ten thousand numbers cost, and an adapter is hundreds of tensors of that size.
//!
//! A joined step does to every number what a step of its own tensor does. Moments are kept joined, and are told apart again
//! where they are asked for, or where other tensors come together.

use super::{NamedGradients, Optimizer, State, Update, adamw};
use crate::model::{Weight, Weights};
use burn::optim::AdaptiveMomentumState;
use burn::tensor::Tensor;
use std::collections::{BTreeMap, HashMap};

/// Most numbers of a tensor that is joined with others: above it the copies cost more than the launches.
const SMALL: usize = 1 << 18;
/// Most numbers of joined tensors together: a browser binds at most 128 MiB to a kernel.
const TOGETHER: usize = 1 << 23;

/// One of the tensors that were joined.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Its key among the moments.
    key: String,
    /// One or two sizes.
    shape: Vec<usize>,
}

impl Part {
    fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Moments of tensors that have seen as many steps.
#[derive(Clone)]
pub(super) struct Joined {
    parts: Vec<Part>,
    state: AdaptiveMomentumState<1>,
}

impl Joined {
    /// The moments of each tensor by itself.
    pub(super) fn apart(&self) -> impl Iterator<Item = (String, State)> {
        let first = split(&self.parts, &self.state.moment_1);
        let second = split(&self.parts, &self.state.moment_2);
        let moments = first.into_iter().zip(second);
        self.parts.iter().zip(moments).map(|(part, pair)| {
            let time = self.state.time;
            let state = match pair {
                (Weight::Matrix(first), Weight::Matrix(second)) => {
                    State::Matrix(AdaptiveMomentumState::new(time, first, second))
                }
                (first, second) => {
                    State::Vector(AdaptiveMomentumState::new(time, flat(first), flat(second)))
                }
            };
            (part.key.clone(), state)
        })
    }
}

/// Whether a tensor is joined with others.
pub(super) fn is_small(shape: &[usize]) -> bool {
    shape.iter().product::<usize>() <= SMALL
}

/// The numbers of a tensor in a row.
pub(super) fn flat(weight: Weight) -> Tensor<1> {
    match weight {
        Weight::Vector(tensor) => tensor,
        Weight::Matrix(tensor) => {
            let [rows, columns] = tensor.dims();
            tensor.reshape([rows * columns])
        }
    }
}

fn split(parts: &[Part], joined: &Tensor<1>) -> Vec<Weight> {
    let mut start = 0;
    let tensors = parts.iter().map(|part| {
        let own = joined.clone().narrow(0, start, part.numbers());
        start += part.numbers();
        match *part.shape.as_slice() {
            [rows, columns] => Weight::Matrix(own.reshape([rows, columns])),
            _ => Weight::Vector(own),
        }
    });
    tensors.collect()
}

impl Optimizer {
    /// Takes the step of every small tensor that has others like it: decayed or not, and as many steps behind it. Their
    /// gradients are used up.
    pub(super) fn step_joined(
        &mut self,
        prefix: &str,
        weights: &mut Weights,
        gradients: &mut NamedGradients,
        update: &Update,
    ) {
        let Some(shares) = &update.shares else {
            return;
        };
        let groups = self.groups(prefix, weights, gradients);
        self.take_apart_others(prefix, weights, &groups);
        let mut stepped: HashMap<String, Weight> = HashMap::new();
        for parts in groups {
            let of = |key: &str| weights.get(&key[prefix.len()..]).cloned();
            let (mut tensors, mut slopes) = (Vec::new(), Vec::new());
            for part in &parts {
                if let (Some(tensor), Some(slope)) = (of(&part.key), gradients.remove(&part.key)) {
                    tensors.push(flat(tensor.inner()));
                    slopes.push(flat(slope));
                }
            }
            let decay = match parts[0].shape.len() {
                1 => 0.0,
                _ => self.weight_decay,
            };
            let state = self.joined_state(&parts);
            let (tensors, slopes) = (Tensor::cat(tensors, 0), Tensor::cat(slopes, 0));
            let rate = update.learning_rate;
            let (tensor, state) = adamw(tensors, slopes, state, shares, rate, decay);
            let own = parts.iter().map(|part| part.key.clone());
            stepped.extend(own.zip(split(&parts, &tensor)));
            self.joined.push(Joined { parts, state });
        }
        *weights = std::mem::take(weights).map_each(|name, weight| {
            match stepped.remove(&format!("{prefix}{name}")) {
                Some(Weight::Vector(tensor)) => Weight::Vector(tensor.autodiff().require_grad()),
                Some(Weight::Matrix(tensor)) => Weight::Matrix(tensor.autodiff().require_grad()),
                None => weight,
            }
        });
    }

    /// The tensors that go together, each group of at least two.
    fn groups(
        &self,
        prefix: &str,
        weights: &Weights,
        gradients: &NamedGradients,
    ) -> Vec<Vec<Part>> {
        let times: HashMap<&str, usize> = (self.joined.iter())
            .flat_map(|joined| {
                let time = joined.state.time;
                joined
                    .parts
                    .iter()
                    .map(move |part| (part.key.as_str(), time))
            })
            .collect();
        let mut alike: BTreeMap<(usize, usize), Vec<Part>> = BTreeMap::new();
        for (name, weight) in weights.iter() {
            let (key, shape) = (format!("{prefix}{name}"), weight.shape());
            if !gradients.contains_key(&key) || !is_small(&shape) {
                continue;
            }
            let own = self.states.get(&key).map(State::time);
            let time = own.or(times.get(key.as_str()).copied()).unwrap_or(0);
            let group = alike.entry((shape.len(), time)).or_default();
            group.push(Part { key, shape });
        }
        let mut groups = Vec::new();
        for parts in alike.into_values() {
            let mut group: Vec<Part> = Vec::new();
            let mut numbers = 0;
            for part in parts {
                if numbers + part.numbers() > TOGETHER {
                    groups.push(std::mem::take(&mut group));
                    numbers = 0;
                }
                numbers += part.numbers();
                group.push(part);
            }
            groups.push(group);
        }
        groups.retain(|group| group.len() > 1);
        groups
    }

    /// Takes joined moments of these weights apart where others than before come together.
    fn take_apart_others(&mut self, prefix: &str, weights: &Weights, groups: &[Vec<Part>]) {
        let own = |part: &Part| {
            let name = part.key.strip_prefix(prefix);
            name.is_some_and(|name| weights.get(name).is_some())
        };
        let stays = |joined: &Joined| !own(&joined.parts[0]) || groups.contains(&joined.parts);
        let (stay, go) = std::mem::take(&mut self.joined)
            .into_iter()
            .partition(stays);
        self.joined = stay;
        for joined in go {
            self.states.extend(joined.apart());
        }
    }

    /// The moments of a group, joined; none before its first step.
    fn joined_state(&mut self, parts: &[Part]) -> Option<AdaptiveMomentumState<1>> {
        if let Some(at) = self.joined.iter().position(|j| j.parts == parts) {
            return Some(self.joined.remove(at).state);
        }
        let states = parts.iter().map(|part| self.states.remove(&part.key));
        let states: Vec<State> = states.collect::<Option<_>>()?;
        let time = states[0].time();
        let (first, second): (Vec<Tensor<1>>, Vec<Tensor<1>>) = states
            .into_iter()
            .map(|state| match state {
                State::Vector(state) => (state.moment_1, state.moment_2),
                State::Matrix(state) => (
                    flat(Weight::Matrix(state.moment_1)),
                    flat(Weight::Matrix(state.moment_2)),
                ),
            })
            .unzip();
        Some(AdaptiveMomentumState::new(
            time,
            Tensor::cat(first, 0),
            Tensor::cat(second, 0),
        ))
    }
}

/// The sum of squares of all small gradients, and of each of the others, `[1]` each.
pub(super) fn square_sums(gradients: &NamedGradients) -> Vec<Tensor<1>> {
    let (small, large): (Vec<&Weight>, Vec<&Weight>) =
        (gradients.values()).partition(|gradient| is_small(&gradient.shape()));
    let mut squares: Vec<Tensor<1>> = large
        .into_iter()
        .map(|gradient| flat(gradient.clone()).square().sum())
        .collect();
    if !small.is_empty() {
        let small = small.into_iter().map(|gradient| flat(gradient.clone()));
        squares.push(Tensor::cat(small.collect(), 0).square().sum());
    }
    squares
}

#[cfg(test)]
mod tests {
    use super::super::clip_scale;
    use super::*;
    use burn::tensor::Device;

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut rng = crate::random::Rng::new(seed);
        (0..count).map(|_| rng.normal() as f32).collect()
    }

    /// Two vectors, three matrices and one matrix that is too large to be joined.
    const SHAPES: [(&str, &[usize]); 6] = [
        ("a", &[3]),
        ("b", &[2, 5]),
        ("c", &[4, 2]),
        ("d", &[7]),
        ("e", &[1, 6]),
        ("f", &[1024, 257]),
    ];

    fn tensors(seed: u64, device: &Device) -> Weights {
        let mut all = Weights::new();
        for (i, (name, shape)) in SHAPES.iter().enumerate() {
            let values = numbers(seed + i as u64, shape.iter().product());
            all.insert_host(name, values, shape, device);
        }
        all
    }

    fn gradients(seed: u64, prefix: &str, device: &Device) -> NamedGradients {
        let all = tensors(seed, device);
        let named = all.iter().map(|(n, w)| (format!("{prefix}{n}"), w.clone()));
        named.collect()
    }

    fn host(weights: &Weights) -> Vec<Vec<f32>> {
        let each = weights
            .iter()
            .map(|(_, weight)| flat(weight.clone().inner()));
        each.map(crate::model::host::read).collect()
    }

    fn moments(optimizer: &Optimizer) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let (tensors, _) = optimizer.export();
        let each = tensors.into_iter().map(|(name, weight)| {
            let shape = weight.shape();
            (name, shape, crate::model::host::read(flat(weight)))
        });
        let mut each: Vec<_> = each.collect();
        each.sort_by(|a, b| a.0.cmp(&b.0));
        each
    }

    /// Steps with tensor operations, as on a GPU, joined or each tensor by itself.
    struct Stepper {
        optimizer: Optimizer,
        weights: Weights,
        join: bool,
    }

    impl Stepper {
        fn new(join: bool, device: &Device) -> Self {
            let weights = tensors(1, device);
            Self {
                optimizer: Optimizer::new(0.1),
                weights: weights.trainable(&device.clone().autodiff(), |_| true),
                join,
            }
        }

        fn step(&mut self, mut gradients: NamedGradients, rate: f64) {
            let scale = clip_scale(&Tensor::from_floats([3.0], &Device::flex()), 1.0);
            let update = Update::elsewhere(rate, scale.as_ref(), &Device::flex());
            if self.join {
                let (weights, optimizer) = (&mut self.weights, &mut self.optimizer);
                optimizer.step_joined("p.", weights, &mut gradients, &update);
            }
            let (weights, optimizer) = (&mut self.weights, &mut self.optimizer);
            optimizer.step_each("p.", weights, &mut gradients, &update);
        }
    }

    #[test]
    fn joined_tensors_take_the_steps_of_each_by_itself() {
        let device = Device::flex();
        let (mut one, mut all) = (Stepper::new(false, &device), Stepper::new(true, &device));
        for step in 0..5u64 {
            let rate = 0.01 * (step + 1) as f64;
            for stepper in [&mut one, &mut all] {
                let mut slopes = gradients(100 + 10 * step, "p.", &device);
                // A tensor that is left out once has seen fewer steps from then on, and goes with others.
                if step == 2 {
                    slopes.remove("p.c");
                }
                stepper.step(slopes, rate);
            }
            assert_eq!(host(&all.weights), host(&one.weights), "step {step}");
            assert_eq!(
                moments(&all.optimizer),
                moments(&one.optimizer),
                "step {step}"
            );
            assert_eq!(all.optimizer.export().1, one.optimizer.export().1);
        }
        // The large one is by itself, and so is the one that was left out.
        let parts: Vec<usize> = all.optimizer.joined.iter().map(|j| j.parts.len()).collect();
        assert_eq!(parts, [2, 2]);
        assert!(one.optimizer.joined.is_empty());
        assert!(all.weights.iter().all(|(_, weight)| match weight {
            Weight::Vector(tensor) => tensor.is_require_grad(),
            Weight::Matrix(tensor) => tensor.is_require_grad(),
        }));
    }

    #[test]
    fn moments_go_through_a_checkpoint_and_on() {
        let device = Device::flex();
        let mut stepper = Stepper::new(true, &device);
        let step = |stepper: &mut Stepper, i| stepper.step(gradients(i, "p.", &device), 0.02);
        step(&mut stepper, 7);
        let mut resumed = Optimizer::new(0.1);
        let (_, times) = stepper.optimizer.export();
        let kept = moments(&stepper.optimizer);
        for (name, time) in times {
            let of = |kind: &str| {
                let name = format!("{name}.{kind}");
                let found = kept.iter().find(|(n, ..)| *n == name).expect("kept");
                (found.1.clone(), found.2.clone())
            };
            let ((shape, first), (_, second)) = (of("exp_avg"), of("exp_avg_sq"));
            resumed.import(&name, time, &shape, first, second, &device);
        }
        let mut other = Stepper {
            optimizer: resumed,
            weights: stepper.weights.clone(),
            join: true,
        };
        step(&mut stepper, 8);
        step(&mut other, 8);
        assert_eq!(host(&stepper.weights), host(&other.weights));
        assert_eq!(moments(&stepper.optimizer), moments(&other.optimizer));
    }

    #[test]
    fn the_norm_is_that_of_all_numbers() {
        let device = Device::flex();
        let slopes = gradients(5, "", &device);
        let sums = square_sums(&slopes);
        assert_eq!(sums.len(), 2);
        let found: f32 = sums.into_iter().flat_map(crate::model::host::read).sum();
        let expected: f64 = slopes
            .values()
            .flat_map(|w| crate::model::host::read(flat(w.clone())))
            .map(|x| f64::from(x) * f64::from(x))
            .sum();
        assert!((f64::from(found) / expected - 1.0).abs() < 1e-5);
    }
}
