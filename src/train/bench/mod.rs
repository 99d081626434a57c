//! How fast a training step and a scoring pass are, against what the device itself can do.
//!
//! The step is the real one (trunk, LM head on answer positions, reward head, objective, backward, clipping, AdamW) on
//! made-up tokens. Each phase ends with the device's own barrier, so that phases are told apart on a GPU too.

mod products;

pub use self::products::Product;
use self::products::StepSize;
use super::TrainError;
use super::config::{TrainConfig, Trainable};
use super::dataset::{EncodedRow, layout};
use super::event::DeviceInfo;
use super::forward::{Reader, steps_of};
use super::optimizer::{NamedGradients, Optimizer, clip_scale, collect_gradients, global_norm};
use super::run::{LoadedModel, count, fresh_head, prepare_trunk};
use super::scorer::pad_of;
use crate::device::OpenDevice;
use crate::model::Decoder;
use crate::model::host::matmul;
use crate::objective::{Objective, Progress};
use crate::random::Rng;
use crate::reward::{Layout, RewardHead};
use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;
use web_time::Instant;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchPlan {
    /// Pairs in a step.
    pub pairs: usize,
    /// Tokens of each sequence, its prompt included.
    pub tokens: usize,
    /// Tokens of the prompt: their logits are not computed.
    pub prompt: usize,
    /// Counted steps; two more come before them and are not counted.
    pub steps: usize,
    /// Pairs scored forward only, made-up ones of the step's size.
    pub score_pairs: usize,
    /// Rows that are scored in their place, as an evaluation scores them: those of like length together.
    pub score_rows: Option<Vec<EncodedRow>>,
    /// What trains.
    pub trainable: Trainable,
}

/// Middle value and range of repeated measurements, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seconds {
    /// The median.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
}

impl Seconds {
    /// Of at least one measurement; of none, zeros.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        Self {
            median: at(sorted.len() / 2),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// The model's name.
    pub model: String,
    /// The device.
    pub device: DeviceInfo,
    /// All parameters, heads included.
    pub parameters: usize,
    /// Sequences in a step, twice the pairs.
    pub sequences: usize,
    /// Tokens of each sequence.
    pub tokens: usize,
    /// Positions of a step whose logits are computed.
    pub answer_positions: usize,
    /// A whole training step.
    pub step: Seconds,
    /// Its forward pass and loss.
    pub forward: Seconds,
    /// Its backward pass.
    pub backward: Seconds,
    /// Norm, clipping and AdamW.
    pub optimizer: Seconds,
    /// Tokens trained on a second, at the median step.
    pub train_tokens_per_second: f64,
    /// Pairs scored forward only.
    pub score_pairs: usize,
    /// The time that took.
    pub score_seconds: f64,
    /// Tokens scored a second, without padding.
    pub score_tokens_per_second: f64,
    /// Of given rows, the batches that were scored: of every sequence its tokens, and how many of them come before its answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub score_batches: Vec<Vec<[usize; 2]>>,
    /// The loss after each step: says that something was trained.
    pub losses: Vec<f32>,
    /// The best rate of a square matrix product in this process, GFLOP/s.
    pub peak_gflops: f64,
    /// The size of that product.
    pub peak_size: usize,
    /// The matrix products of a step, forward and backward.
    pub products: Vec<Product>,
    /// Their work, GFLOP: two operations for each multiplication with its addition.
    pub step_gflop: f64,
    /// The share of the median step that this work takes at the peak rate: 1 is a step without any other cost.
    pub step_peak_share: f64,
    /// The most bytes that were held on a graphics device, after steps and scoring.
    pub device_memory_bytes: Option<u64>,
}

/// Measures. `device` is without autodiff.
pub async fn bench(
    mut model: LoadedModel,
    plan: &BenchPlan,
    device: OpenDevice,
) -> Result<BenchReport, TrainError> {
    let setting = |setting, value: usize, way_out| TrainError::Setting {
        setting,
        value: value.to_string(),
        way_out,
    };
    let most = model.decoder.config.max_position;
    if plan.tokens < 2 || plan.tokens > most {
        return Err(setting(
            "tokens",
            plan.tokens,
            "use at least 2 and no more than the model has positions for",
        ));
    }
    if plan.prompt == 0 || plan.prompt >= plan.tokens {
        return Err(setting(
            "prompt",
            plan.prompt,
            "use at least 1 and fewer than the tokens of a sequence",
        ));
    }
    if plan.pairs == 0 || plan.pairs > 4096 {
        return Err(setting("pairs", plan.pairs, "use 1 to 4096"));
    }
    let (peak_gflops, peak_size) = matmul_peak(&device.device).await?;
    // What that product took is no part of a step.
    device.device.memory_cleanup();

    let config = TrainConfig {
        trainable: plan.trainable.clone(),
        learning_rate: 1e-5,
        ..TrainConfig::default()
    };
    let objective = crate::objective::build(&config.method, &config.options)?;
    let autodiff = device.device.clone().autodiff();
    model.decoder = prepare_trunk(model.decoder, &config, &autodiff)?;
    let mut head = fresh_head(
        objective.as_ref(),
        &model.decoder.config,
        config.seed,
        &autodiff,
    );
    head.weights = head.weights.trainable(&autodiff, |_| true);
    let mut rng = Rng::new(config.seed);
    let vocabulary = model.decoder.config.vocab_size;

    let mut bench = Bench {
        optimizer: Optimizer::new(config.weight_decay),
        decoder: model.decoder,
        head,
        objective,
        device: device.device.clone(),
        config,
    };
    let (mut forward, mut backward, mut optimizer, mut whole) = (vec![], vec![], vec![], vec![]);
    let mut losses = Vec::new();
    let mut reserved = None;
    let mut answer_positions = 0;
    for step in 0..plan.steps.max(1) + WARM_UP {
        let layout = made_up(plan.pairs, plan.tokens, plan.prompt, vocabulary, &mut rng);
        answer_positions = layout.step_mask().iter().filter(|m| **m).count();
        let (loss, times) = bench.step(&layout, step, plan.steps + WARM_UP).await?;
        reserved = reserved.max(on_the_device(&device.device));
        if step >= WARM_UP {
            losses.push(loss);
            forward.push(times[0]);
            backward.push(times[1]);
            optimizer.push(times[2]);
            whole.push(times.iter().sum());
        }
    }
    let parameters = bench.decoder.parameters() + bench.head.weights.parameters();
    let products = products::of_step(
        &bench.decoder,
        &bench.config.trainable,
        StepSize {
            sequences: 2 * plan.pairs,
            tokens: plan.tokens,
            answer_positions,
        },
        device.info.backend != "cpu",
    );
    let each = |product: &Product| product.times as f64 * product.flop();
    let work: f64 = products.iter().map(each).sum();

    let given = plan.score_rows.as_deref();
    let batches = match given {
        Some(rows) => in_batches(rows, pad_of(&model.tokenizer)),
        None => {
            let whole = plan.score_pairs / SCORE_BATCH;
            let sizes =
                std::iter::repeat_n(SCORE_BATCH, whole).chain(Some(plan.score_pairs % SCORE_BATCH));
            let batch = |pairs| made_up(pairs, plan.tokens, plan.prompt, vocabulary, &mut rng);
            sizes.filter(|pairs| *pairs > 0).map(batch).collect()
        }
    };
    let score_seconds = bench.score(&batches).await?;
    reserved = reserved.max(on_the_device(&device.device));
    let sizes: Vec<Vec<[usize; 2]>> = batches.iter().map(sizes_of).collect();
    let score_tokens = sizes
        .iter()
        .flatten()
        .map(|[tokens, _]| *tokens)
        .sum::<usize>() as f64;
    let step = Seconds::of(&whole);
    let tokens = (2 * plan.pairs * plan.tokens) as f64;
    Ok(BenchReport {
        model: model.name,
        device: device.info,
        parameters,
        sequences: 2 * plan.pairs,
        tokens: plan.tokens,
        answer_positions,
        step,
        forward: Seconds::of(&forward),
        backward: Seconds::of(&backward),
        optimizer: Seconds::of(&optimizer),
        train_tokens_per_second: tokens / step.median,
        score_pairs: given.map_or(plan.score_pairs, <[EncodedRow]>::len),
        score_seconds,
        score_tokens_per_second: match score_tokens {
            0.0 => 0.0,
            tokens => tokens / score_seconds,
        },
        score_batches: if given.is_some() { sizes } else { Vec::new() },
        losses,
        peak_gflops,
        peak_size,
        products,
        step_gflop: work / 1e9,
        step_peak_share: work / 1e9 / peak_gflops / step.median,
        device_memory_bytes: reserved,
    })
}

/// Bytes that Burn's allocator holds on a graphics device: what is in use, and what it keeps for the next step. None for the
/// processor, whose tensors are memory of the process.
fn on_the_device(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

/// The first steps compile kernels and fill caches.
const WARM_UP: usize = 2;

/// Pairs scored at once, which is what an evaluation does.
const SCORE_BATCH: usize = 16;

struct Bench {
    decoder: Decoder,
    head: RewardHead,
    objective: Box<dyn Objective>,
    optimizer: Optimizer,
    device: Device,
    config: TrainConfig,
}

impl Bench {
    /// One step: its loss, and the seconds of forward, backward and optimiser.
    async fn step(
        &mut self,
        layout: &Layout,
        step: usize,
        total: usize,
    ) -> Result<(f32, [f64; 3]), TrainError> {
        let autodiff = self.device.clone().autodiff();
        let started = Instant::now();
        let steps = steps_of(
            Reader {
                decoder: &self.decoder,
                head: &self.head,
                objective: self.objective.as_ref(),
                reference: None,
            },
            layout,
            count(std::slice::from_ref(layout)),
            &autodiff,
        );
        let evaluation = self.objective.evaluate(&steps, Progress { step, total });
        let loss = evaluation.loss.clone().inner();
        drop(steps);
        let loss = first(loss).await?;
        let forward = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let mut gradients = NamedGradients::new();
        let mut backward = evaluation.loss.backward();
        collect_gradients("", &self.decoder.weights, &mut backward, &mut gradients);
        if let Some(lora) = &self.decoder.lora {
            collect_gradients("lora.", &lora.weights, &mut backward, &mut gradients);
        }
        collect_gradients("", &self.head.weights, &mut backward, &mut gradients);
        drop(backward);
        self.barrier().await?;
        let back = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let norm = global_norm(&mut gradients, &self.device);
        let scale = clip_scale(&norm, self.config.max_grad_norm);
        let (rate, scale) = (self.config.learning_rate, scale.as_ref());
        let (weights, optimizer) = (&mut self.decoder.weights, &mut self.optimizer);
        optimizer.step("", weights, &mut gradients, rate, scale);
        if let Some(lora) = &mut self.decoder.lora {
            optimizer.step("lora.", &mut lora.weights, &mut gradients, rate, scale);
        }
        optimizer.step("", &mut self.head.weights, &mut gradients, rate, scale);
        self.barrier().await?;
        Ok((loss, [forward, back, started.elapsed().as_secs_f64()]))
    }

    /// Scores batches forward only; the seconds that they took.
    async fn score(&self, batches: &[Layout]) -> Result<f64, TrainError> {
        let decoder = self.decoder.clone().inner();
        let mut head = self.head.clone();
        head.weights = head.weights.inner();
        let mut seconds = 0.0;
        // The first comes once more before it is counted: a forward pass without autodiff may need kernels of its own.
        for (i, layout) in batches.first().into_iter().chain(batches).enumerate() {
            let started = Instant::now();
            let steps = steps_of(
                Reader {
                    decoder: &decoder,
                    head: &head,
                    objective: self.objective.as_ref(),
                    reference: None,
                },
                layout,
                count(std::slice::from_ref(layout)),
                &self.device,
            );
            let rewards = self.objective.token_rewards(&steps);
            let mean = rewards.mean;
            let std = rewards.std.unwrap_or_else(|| steps.mask.ones_like());
            super::read(mean).await?;
            super::read(std).await?;
            if i > 0 {
                seconds += started.elapsed().as_secs_f64();
            }
        }
        Ok(seconds)
    }

    /// Waits until the device has done all that was asked of it. One number is read back, because that is the barrier
    /// that every backend has, the browser's included.
    async fn barrier(&self) -> Result<(), TrainError> {
        let last = match self.head.weights.iter().next() {
            Some((_, crate::model::Weight::Vector(tensor))) => tensor.clone().inner().sum(),
            Some((_, crate::model::Weight::Matrix(tensor))) => tensor.clone().inner().sum(),
            None => Tensor::zeros([1], &self.device),
        };
        first(last).await.map(|_| ())
    }
}

async fn first(tensor: Tensor<1>) -> Result<f32, TrainError> {
    let values = super::read(tensor).await?;
    Ok(values.first().copied().unwrap_or(f32::NAN))
}

/// Rows as an evaluation batches them: those of like length together.
fn in_batches(rows: &[EncodedRow], pad: u32) -> Vec<Layout> {
    let mut order: Vec<&EncodedRow> = rows.iter().collect();
    order.sort_by_key(|row| row.tokens());
    let batches = order.chunks(SCORE_BATCH);
    batches.map(|members| layout(members, pad)).collect()
}

/// Of every sequence its tokens, and how many of them come before its answer.
fn sizes_of(batch: &Layout) -> Vec<[usize; 2]> {
    let row = |row: usize| {
        let own = row * batch.tokens..(row + 1) * batch.tokens;
        let tokens = batch.segments[own.clone()]
            .iter()
            .filter(|s| **s > 0)
            .count();
        let prompt = batch.response[own]
            .iter()
            .take_while(|answer| !**answer)
            .count();
        [tokens, prompt.min(tokens)]
    };
    (0..batch.rows).map(row).collect()
}

/// Pairs of random tokens without padding.
fn made_up(pairs: usize, tokens: usize, prompt: usize, vocabulary: usize, rng: &mut Rng) -> Layout {
    let rows = 2 * pairs;
    Layout {
        rows,
        tokens,
        ids: (0..rows * tokens)
            .map(|_| rng.below(vocabulary) as u32)
            .collect(),
        segments: vec![1; rows * tokens],
        response: (0..rows * tokens).map(|i| i % tokens >= prompt).collect(),
        pairs: Some(pairs),
    }
}

/// The best rate in GFLOP/s of a square f32 product, and its size. Sizes double until one product takes long enough
/// to be timed well.
async fn matmul_peak(device: &Device) -> Result<(f64, usize), TrainError> {
    let mut best = (0.0, 0);
    let mut size = 256;
    loop {
        let a = Tensor::<2>::random([size, size], Distribution::Default, device);
        let b = Tensor::<2>::random([size, size], Distribution::Default, device);
        let mut shortest = f64::INFINITY;
        let began = Instant::now();
        for round in 0..6 {
            let started = Instant::now();
            let product = matmul(a.clone(), b.clone());
            first(product.slice([0..1, 0..1]).reshape([1])).await?;
            if round > 0 {
                shortest = shortest.min(started.elapsed().as_secs_f64());
            }
            if round > 1 && began.elapsed().as_secs_f64() > 2.0 {
                break;
            }
        }
        let rate = 2.0 * (size as f64).powi(3) / shortest / 1e9;
        if rate > best.0 {
            best = (rate, size);
        }
        if shortest > 0.02 || size >= 8192 {
            return Ok(best);
        }
        size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, open};

    #[test]
    fn a_bench_of_the_world_trains_and_its_figures_fit_together() {
        pollster::block_on(async {
            let device = open(DeviceChoice::Cpu).await.unwrap();
            let model = crate::train::world_model(&device.device).unwrap();
            let plan = BenchPlan {
                pairs: 2,
                tokens: 12,
                prompt: 4,
                steps: 2,
                score_pairs: 3,
                score_rows: None,
                trainable: Trainable::Full,
            };
            let report = bench(model, &plan, device).await.unwrap();
            assert_eq!(report.answer_positions, 2 * 2 * 8);
            assert_eq!(report.losses.len(), 2);
            assert!(report.losses.iter().all(|loss| loss.is_finite()));
            assert!(report.step.min <= report.step.median && report.step.median <= report.step.max);
            assert!(report.peak_gflops > 0.0 && report.step_peak_share > 0.0);
        });
    }

    #[test]
    fn rows_are_scored_in_batches_of_like_length() {
        let run = super::super::testing::trained("ava_p", serde_json::json!({}), 0, 120);
        let rows = run.held_out();
        assert!(rows.len() > SCORE_BATCH);
        let batches = in_batches(rows, 0);
        assert_eq!(batches.len(), rows.len().div_ceil(SCORE_BATCH));
        let sizes: Vec<[usize; 2]> = batches.iter().flat_map(sizes_of).collect();
        let sides = || rows.iter().flat_map(|row| &row.sides);
        assert_eq!(sizes.len(), sides().count());
        let tokens: usize = sides().map(|side| side.encoded.ids.len()).sum();
        assert_eq!(
            sizes.iter().map(|[tokens, _]| tokens).sum::<usize>(),
            tokens
        );
        let answers: usize = sides()
            .map(|s| s.encoded.resp.iter().filter(|r| **r).count())
            .sum();
        assert_eq!(sizes.iter().map(|[t, p]| t - p).sum::<usize>(), answers);
        assert!(batches.windows(2).all(|b| b[0].tokens <= b[1].tokens));
    }

    #[test]
    fn sizes_that_no_step_can_have_are_refused() {
        pollster::block_on(async {
            let device = open(DeviceChoice::Cpu).await.unwrap();
            for (pairs, tokens, prompt) in [(0, 8, 2), (2, 1, 1), (2, 8, 8), (2, 100_000, 4)] {
                let model = crate::train::world_model(&device.device).unwrap();
                let plan = BenchPlan {
                    pairs,
                    tokens,
                    prompt,
                    steps: 1,
                    score_pairs: 0,
                    score_rows: None,
                    trainable: Trainable::Heads,
                };
                assert!(bench(model, &plan, device.clone()).await.is_err());
            }
        });
    }
}
