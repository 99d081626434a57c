//! Writing text: greedy or sampled, one token at a time, with keys and values kept, so that a token costs O(T).

use super::attention::KeyValues;
use super::random::Random;
use super::{Decoder, ForwardOptions, ModelError};
use burn::tensor::{Int, Tensor, TensorData};

/// How to write.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// At most this many tokens a prompt.
    pub max_new_tokens: usize,
    /// Logits are divided by it; 0 takes the most probable token.
    pub temperature: f64,
    /// Only the k most probable tokens; 0 for all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach this probability, in (0, 1].
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Number of the first prompt: prompt i draws from stream `first_row + i`, so that splitting prompts into batches
    /// changes nothing.
    pub first_row: u64,
    /// Tokens that end a text; none means the model's own.
    pub stop: Option<Vec<u32>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 128,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            first_row: 0,
            stop: None,
        }
    }
}

/// One prompt's continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// New tokens, the ending one included.
    pub ids: Vec<u32>,
    /// Log-probability of each under the model itself: temperature 1, nothing cut off.
    pub log_probs: Vec<f32>,
    /// Whether a stop token ended it.
    pub finished: bool,
}

struct Row {
    index: usize,
    segments: Vec<u32>,
    random: Random,
}

impl Decoder {
    /// Continues every prompt. Prompts of different lengths may be mixed.
    ///
    /// # Errors
    /// An empty prompt, a token outside the vocabulary, settings out of range, more tokens than GPT-2 has positions
    /// for, or a device that fails.
    pub async fn generate(
        &self,
        prompts: &[Vec<u32>],
        opts: &GenerateOptions,
    ) -> Result<Vec<Generated>, ModelError> {
        self.check(prompts, opts)?;
        let model = self.clone().inner();
        let device = model.device();
        let stop = opts.stop.as_ref().unwrap_or(&model.config.eos);
        let mut done = vec![
            Generated {
                ids: Vec::new(),
                log_probs: Vec::new(),
                finished: false,
            };
            prompts.len()
        ];
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 || opts.max_new_tokens == 0 {
            return Ok(done);
        }
        // Padded on the left, so that all rows write at the same column.
        let mut input = Vec::with_capacity(prompts.len() * longest);
        let mut rows = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.iter().enumerate() {
            let pad = longest - prompt.len();
            let mut segments = vec![0; pad];
            segments.resize(longest, 1);
            input.extend(std::iter::repeat_n(0, pad).chain(prompt.iter().map(|id| *id as i32)));
            rows.push(Row {
                index,
                segments,
                random: Random::stream(opts.seed, opts.first_row + index as u64),
            });
        }
        let mut cache = KeyValues::default();
        let mut width = longest;
        for step in 0..opts.max_new_tokens {
            let batch = rows.len();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(input, [batch, width]), &device);
            let segments: Vec<u32> = rows
                .iter()
                .flat_map(|r| r.segments.iter().copied())
                .collect();
            let trunk = model.run(ids, &segments, &ForwardOptions::default(), Some(&mut cache));
            let last = trunk
                .hidden
                .narrow(1, width - 1, 1)
                .reshape([batch, model.config.hidden_size]);
            let logits = model.logits(last).into_data_async().await;
            let failed = |reason: String| ModelError::ReadBack {
                name: "logits".into(),
                reason,
            };
            let logits = logits
                .map_err(|e| failed(e.to_string()))?
                .try_into_vec_as::<f32>()
                .map_err(|e| failed(format!("{e:?}")))?;

            input = Vec::with_capacity(batch);
            let mut kept = Vec::with_capacity(batch);
            let mut going = Vec::with_capacity(batch);
            for (b, (mut row, logits)) in rows
                .into_iter()
                .zip(logits.chunks_exact(model.config.vocab_size))
                .enumerate()
            {
                let (id, log_prob) = pick(logits, opts, &mut row.random);
                let out = &mut done[row.index];
                out.ids.push(id);
                out.log_probs.push(log_prob);
                out.finished = stop.contains(&id);
                if !out.finished {
                    row.segments.push(1);
                    input.push(id as i32);
                    kept.push(b as i32);
                    going.push(row);
                }
            }
            rows = going;
            width = 1;
            if rows.is_empty() || step + 1 == opts.max_new_tokens {
                break;
            }
            if rows.len() < batch {
                let count = kept.len();
                cache.select_rows(&Tensor::from_data(TensorData::new(kept, [count]), &device));
            }
        }
        Ok(done)
    }

    fn check(&self, prompts: &[Vec<u32>], opts: &GenerateOptions) -> Result<(), ModelError> {
        let bad = |problem: String| Err(ModelError::Generation { problem });
        if !(opts.temperature.is_finite() && opts.temperature >= 0.0) {
            return bad(format!(
                "temperature is {}, it must be 0 or more",
                opts.temperature
            ));
        }
        if !(opts.top_p > 0.0 && opts.top_p <= 1.0) {
            return bad(format!(
                "top_p is {}, it must be above 0 and at most 1",
                opts.top_p
            ));
        }
        for (i, prompt) in prompts.iter().enumerate() {
            if prompt.is_empty() {
                return bad(format!("prompt {i} is empty, give at least one token"));
            }
            if let Some(id) = prompt
                .iter()
                .find(|id| **id as usize >= self.config.vocab_size)
            {
                return bad(format!(
                    "prompt {i} has token {id}, the vocabulary has {}",
                    self.config.vocab_size
                ));
            }
            let total = prompt.len().saturating_add(opts.max_new_tokens);
            if self.config.architecture == super::Architecture::Gpt2
                && total > self.config.max_position
            {
                return bad(format!(
                    "prompt {i} and its continuation have {total} tokens, the model has {} positions",
                    self.config.max_position
                ));
            }
        }
        Ok(())
    }
}

/// A token and its log-probability under the plain model.
fn pick(logits: &[f32], opts: &GenerateOptions, random: &mut Random) -> (u32, f32) {
    let (mut best, mut peak) = (0, f32::NEG_INFINITY);
    for (i, x) in logits.iter().enumerate() {
        if *x > peak {
            (best, peak) = (i, *x);
        }
    }
    let total: f64 = logits.iter().map(|x| f64::from(x - peak).exp()).sum();
    let log_prob = |i: usize| (f64::from(logits[i] - peak) - total.ln()) as f32;
    if opts.temperature == 0.0 {
        return (best as u32, log_prob(best));
    }
    let mut candidates: Vec<(usize, f64)> = logits
        .iter()
        .enumerate()
        .map(|(i, x)| (i, (f64::from(x - peak) / opts.temperature).exp()))
        .collect();
    if opts.top_k > 0 || opts.top_p < 1.0 {
        // Ties in the order of ids, so that the result does not depend on the sort.
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if opts.top_k > 0 {
            candidates.truncate(opts.top_k);
        }
        let mass: f64 = candidates.iter().map(|c| c.1).sum();
        let mut sum = 0.0;
        let enough = candidates.iter().position(|c| {
            sum += c.1;
            sum >= opts.top_p * mass
        });
        candidates.truncate(enough.map_or(candidates.len(), |i| i + 1));
    }
    let mut left = random.uniform() * candidates.iter().map(|c| c.1).sum::<f64>();
    for (i, weight) in &candidates {
        left -= weight;
        if left < 0.0 {
            return (*i as u32, log_prob(*i));
        }
    }
    (best as u32, log_prob(best))
}
