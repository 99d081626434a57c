//! States of a frozen trunk, kept so that each is computed once: over a run's training rows, and over the rows that scorers of
//! one trunk are asked about.

use super::TrainError;
use super::dataset::{EncodedRow, layout};
use super::forward::{TrunkStates, run_trunk};
use super::readings::read_all;
use crate::model::Decoder;
use crate::objective::Objective;
use crate::reward::{Layout, StepValues, StepsConfig};
use burn::tensor::{Device, Tensor, TensorData, Transaction};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest cache of frozen-trunk states, in numbers of hidden states. Two GiB: beyond it rows are computed again at each visit.
const CACHE_LIMIT: usize = 1 << 29;

/// States that are on the device and read back at once, in numbers: 64 MiB, or one group where that is larger.
const READ_AT_ONCE: usize = 1 << 24;

/// States of a frozen trunk, kept per answer so that a run of heads computes each once.
///
/// The last bits of a state depend on the batch in which it was computed. A resumed run must give the losses of one that
/// never stopped, so a row's states are always computed in one and the same batch. These batches hold rows of like length,
/// which wastes the least on padding, and depend on nothing but the rows: runs with other seeds share them.
pub struct TrunkCache {
    /// The batches in which states are computed; empty where nothing is cached.
    groups: Vec<Vec<usize>>,
    /// Of each row, which of `groups` it is in.
    group_of: Vec<usize>,
    /// H.
    width: usize,
    /// Answers of all rows.
    in_all: usize,
    answers: HashMap<(usize, usize), CachedAnswer>,
}

/// What a frozen trunk says of one answer.
pub(super) struct CachedAnswer {
    /// `[T', H]`, T' the answer's own tokens.
    hidden: Vec<f32>,
    /// Per step, each `[T'-1]` and zero where the step mask is zero: the actions' log-probabilities where Q, ll and log B follow
    /// from them, else these three; nothing where heads that train have a say in them.
    per_step: Vec<Vec<f32>>,
}

/// States that were asked for and are still on the device.
#[derive(Default)]
pub(super) struct Coming(Vec<ComingGroup>);

struct ComingGroup {
    rows: Vec<usize>,
    layout: Layout,
    trunk: TrunkStates,
}

impl Coming {
    /// Lets a transaction read them back behind what it reads already.
    pub(super) fn register(&self, transaction: Transaction, cfg: &StepsConfig) -> Transaction {
        let groups = self.0.iter();
        groups.fold(transaction, |all, group| register(all, &group.trunk, cfg))
    }
}

impl TrunkCache {
    /// A cache that is never filled: the trunk moves.
    pub fn off() -> Self {
        Self {
            groups: Vec::new(),
            group_of: Vec::new(),
            width: 0,
            in_all: 0,
            answers: HashMap::new(),
        }
    }

    /// An empty cache of the states `[T, width]` of `rows`, computed `batch_size` rows at a time. It stays off where the
    /// states of all rows would not fit: whether it is on must not depend on where a run was stopped.
    pub fn new(batch_size: usize, rows: &[EncodedRow], width: usize) -> Self {
        let numbers = rows
            .iter()
            .flat_map(|row| &row.sides)
            .map(|side| side.encoded.ids.len().saturating_mul(width))
            .fold(0usize, usize::saturating_add);
        if numbers > CACHE_LIMIT {
            return Self::off();
        }
        // Pairs and single answers are never in one batch.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let sides = |row: &usize| rows[*row].sides.len();
        order.sort_by_key(|row| (sides(row), rows[*row].tokens()));
        let groups: Vec<Vec<usize>> = order
            .chunk_by(|a, b| sides(a) == sides(b))
            .flat_map(|alike| alike.chunks(batch_size.max(1)))
            .map(<[usize]>::to_vec)
            .collect();
        let mut group_of = vec![0; rows.len()];
        for (group, members) in groups.iter().enumerate() {
            for row in members {
                group_of[*row] = group;
            }
        }
        Self {
            groups,
            group_of,
            width,
            in_all: rows.iter().map(|row| row.sides.len()).sum(),
            answers: HashMap::new(),
        }
    }

    /// Whether nothing is kept.
    fn is_off(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether no row can be missing: all are there, or none is kept.
    pub(super) fn is_complete(&self) -> bool {
        self.answers.len() >= self.in_all
    }

    /// The groups of those rows of `batches` that are not there yet, as many together as are read back at once.
    pub(super) fn missing(&self, batches: &[Vec<usize>], rows: &[EncodedRow]) -> Vec<Vec<usize>> {
        let mut parts: Vec<Vec<usize>> = Vec::new();
        if self.is_complete() {
            return parts;
        }
        let (mut seen, mut numbers) = (HashSet::new(), 0);
        for row in batches.iter().flatten() {
            let group = self.group_of[*row];
            if self.answers.contains_key(&(*row, 0)) || !seen.insert(group) {
                continue;
            }
            let members = self.groups[group].iter();
            let own: usize = members.map(|row| rows[*row].tokens() * self.width).sum();
            numbers += own;
            match parts.last_mut() {
                Some(part) if numbers <= READ_AT_ONCE => part.push(group),
                _ => {
                    numbers = own;
                    parts.push(vec![group]);
                }
            }
        }
        parts
    }

    /// Computes the states of some groups, and leaves them on the device.
    pub(super) fn compute(
        &self,
        groups: &[usize],
        rows: &[EncodedRow],
        decoder: &Decoder,
        objective: &dyn Objective,
        device: &Device,
    ) -> Coming {
        let compute = |group: usize| {
            let members: Vec<&EncodedRow> =
                self.groups[group].iter().map(|row| &rows[*row]).collect();
            // What fills the padding does not matter: it is masked everywhere.
            let layout = layout(&members, 0);
            let trunk = run_trunk(decoder, objective, &layout, device, false);
            ComingGroup {
                rows: self.groups[group].clone(),
                layout,
                trunk,
            }
        };
        Coming(groups.iter().copied().map(compute).collect())
    }

    /// Takes what came back of them.
    pub(super) fn fill(
        &mut self,
        coming: Coming,
        cfg: &StepsConfig,
        numbers: &mut impl Iterator<Item = Vec<f32>>,
    ) {
        for group in coming.0 {
            let answers = answers(&group.trunk, &group.layout, cfg, numbers);
            let rows = &group.rows;
            // The layout's order: side after side, and in each the rows.
            let places = (0..answers.len()).map(|i| (rows[i % rows.len()], i / rows.len()));
            self.answers.extend(places.zip(answers));
        }
    }

    /// The states of a batch of training rows; `None` where nothing is kept.
    ///
    /// # Errors
    /// Rows that were not asked for.
    pub(super) fn states(
        &self,
        batch: &[usize],
        rows: &[EncodedRow],
        layout: &Layout,
        cfg: &StepsConfig,
        device: &Device,
    ) -> Result<Option<TrunkStates>, TrainError> {
        if self.is_off() {
            return Ok(None);
        }
        let sides = batch.iter().map(|row| rows[*row].sides.len()).max();
        let answers = (0..sides.unwrap_or(0))
            .flat_map(|side| batch.iter().map(move |row| (*row, side)))
            .map(|place| {
                self.answers.get(&place).ok_or_else(|| {
                    // Every row is in one group, and groups hold pairs or single answers, never both.
                    TrainError::Rows(format!("row {} has no states in the cache", place.0))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(from_cache(&answers, layout, self.width, cfg, device)))
    }
}

/// A batch's states from those of its answers, in the layout's order.
pub(super) fn from_cache(
    answers: &[&CachedAnswer],
    layout: &Layout,
    width: usize,
    cfg: &StepsConfig,
    device: &Device,
) -> TrunkStates {
    let (b, t, s) = (layout.rows, layout.tokens, layout.steps());
    let mut hidden = vec![0.0f32; b * t * width];
    // One reading fills a cache: every answer has as many of these as any other.
    let kinds = answers.first().map_or(0, |answer| answer.per_step.len());
    let mut per_step = vec![vec![0.0f32; b * s]; kinds];
    for (row, answer) in answers.iter().enumerate() {
        let at = row * t * width;
        hidden[at..at + answer.hidden.len()].copy_from_slice(&answer.hidden);
        let at = row * s;
        for (all, own) in per_step.iter_mut().zip(&answer.per_step) {
            all[at..at + own.len()].copy_from_slice(own);
        }
    }
    let mut per_step = per_step
        .into_iter()
        .map(|numbers| Tensor::<2>::from_data(TensorData::new(numbers, [b, s]), device));
    let per_step = match [per_step.next(), per_step.next(), per_step.next()] {
        [Some(q), Some(log_likelihood), Some(log_policy)] => Some(StepValues {
            q,
            log_likelihood,
            log_policy,
        }),
        [Some(q), ..] => Some(StepValues::of_log_probabilities(q, cfg)),
        [None, ..] => None,
    };
    TrunkStates {
        hidden: Tensor::from_data(TensorData::new(hidden, [b, t, width]), device),
        attention: None,
        per_step,
    }
}

/// Lets a transaction read a batch's states back.
fn register(transaction: Transaction, trunk: &TrunkStates, cfg: &StepsConfig) -> Transaction {
    let mut transaction = transaction.register(trunk.hidden.clone().inner());
    if let Some(values) = &trunk.per_step {
        let all = [&values.q, &values.log_likelihood, &values.log_policy];
        for tensor in &all[..kept_per_step(cfg)] {
            transaction = transaction.register((*tensor).clone().inner());
        }
    }
    transaction
}

/// How many numbers a step's Q, ll and log B are kept as.
fn kept_per_step(cfg: &StepsConfig) -> usize {
    match (cfg.q_after_heads(), cfg.reads_log_probabilities()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 3,
    }
}

/// The states of every sequence of a layout, in its order, from what [`register`] had read.
fn answers(
    trunk: &TrunkStates,
    layout: &Layout,
    cfg: &StepsConfig,
    numbers: &mut impl Iterator<Item = Vec<f32>>,
) -> Vec<CachedAnswer> {
    let (t, s) = (layout.tokens, layout.steps());
    let [_, _, width] = trunk.hidden.dims();
    let hidden = numbers.next().unwrap_or_default();
    let per_step: Vec<Vec<f32>> = (0..kept_per_step(cfg))
        .map(|_| numbers.next().unwrap_or_default())
        .collect();
    let answers = (0..layout.rows).map(|row| {
        let tokens = layout.segments[row * t..(row + 1) * t]
            .iter()
            .filter(|segment| **segment > 0)
            .count();
        let steps = row * s..row * s + tokens.saturating_sub(1);
        CachedAnswer {
            hidden: hidden[row * t * width..(row * t + tokens) * width].to_vec(),
            per_step: per_step
                .iter()
                .map(|all| all[steps.clone()].to_vec())
                .collect(),
        }
    });
    answers.collect()
}

/// What the states of a frozen trunk are read for beside the trunk itself: the way in which Q is made of the logits. Switches
/// that have no say in what is kept are not part of it, so that methods share what is the same.
pub(super) fn reading(cfg: &StepsConfig) -> String {
    match kept_per_step(cfg) {
        0 => "states alone".into(),
        1 => format!("log-probabilities at {}", cfg.alpha),
        _ => format!("q {:?} {} {} {:?}", cfg.q_mode, cfg.alpha, cfg.beta, cfg.ll),
    }
}

/// States of one frozen trunk over the batches that its scorers were asked about. Scorers that share them compute each once,
/// with the same numbers as each for itself: validation rows, test rows and truths of a comparison.
#[derive(Clone, Default)]
pub struct SharedStates(Arc<Mutex<Kept>>);

/// The answers of a batch, in the layout's order.
type Batch = Arc<Vec<CachedAnswer>>;

#[derive(Default)]
struct Kept {
    /// By reading, the one used last at the end; in it by the batch's digest.
    readings: Vec<(String, HashMap<[u8; 32], Batch>)>,
    /// In all of them together.
    numbers: usize,
}

impl SharedStates {
    /// The states of a batch: those that are kept, else computed and kept where there is room.
    pub(super) async fn states(
        &self,
        decoder: &Decoder,
        objective: &dyn Objective,
        layout: &Layout,
        device: &Device,
    ) -> Result<TrunkStates, TrainError> {
        let cfg = objective.steps_config();
        let reading = reading(cfg);
        let digest = digest_of(layout);
        // Its own statement: the lock must not be held while the device computes.
        let kept = self.lock().find(&reading, &digest);
        let answers = match kept {
            Some(answers) => answers,
            None => {
                let trunk = run_trunk(decoder, objective, layout, device, false);
                let read = read_all(register(Transaction::default(), &trunk, cfg)).await?;
                let answers = Arc::new(answers(&trunk, layout, cfg, &mut read.into_iter()));
                self.lock()
                    .keep(reading, digest, answers.clone(), CACHE_LIMIT);
                answers
            }
        };
        let answers: Vec<&CachedAnswer> = answers.iter().collect();
        Ok(from_cache(
            &answers,
            layout,
            decoder.config.hidden_size,
            cfg,
            device,
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere leaves whole batches behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, reading: &str, digest: &[u8; 32]) -> Option<Batch> {
        let at = self.readings.iter().position(|(name, _)| name == reading)?;
        let used = self.readings.remove(at);
        self.readings.push(used);
        self.readings.last()?.1.get(digest).cloned()
    }

    /// Keeps a batch; whole readings that were used longer ago make room for it. A batch for which there is none is not kept.
    fn keep(&mut self, reading: String, digest: [u8; 32], batch: Batch, limit: usize) {
        let numbers = numbers_of(&batch);
        while self.numbers + numbers > limit {
            match self.readings.first() {
                Some((oldest, batches)) if *oldest != reading => {
                    self.numbers -= batches.values().map(|b| numbers_of(b)).sum::<usize>();
                    self.readings.remove(0);
                }
                _ => return,
            }
        }
        let at = self.readings.iter().position(|(name, _)| *name == reading);
        let at = at.unwrap_or_else(|| {
            self.readings.push((reading, HashMap::new()));
            self.readings.len() - 1
        });
        if self.readings[at].1.insert(digest, batch).is_none() {
            self.numbers += numbers;
        }
    }
}

fn numbers_of(batch: &[CachedAnswer]) -> usize {
    let steps = |answer: &CachedAnswer| answer.per_step.iter().map(Vec::len).sum::<usize>();
    batch.iter().map(|a| a.hidden.len() + steps(a)).sum()
}

/// Of everything that the states of a batch depend on beside trunk and reading.
fn digest_of(layout: &Layout) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(format!(
        "{} {} {:?} ",
        layout.rows, layout.tokens, layout.pairs
    ));
    for id in &layout.ids {
        digest.update(id.to_le_bytes());
    }
    for (segment, answer) in layout.segments.iter().zip(&layout.response) {
        digest.update(segment.to_le_bytes());
        digest.update([u8::from(*answer)]);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::trained_in;
    use super::super::{Scorer, Trainable};
    use super::*;
    use crate::credit::CREDITS;
    use pollster::block_on;
    use serde_json::json;

    fn score(scorer: &Scorer, rows: &[EncodedRow]) -> Vec<(f32, f32)> {
        let scored = block_on(scorer.score(rows)).expect("scores");
        let tokens = scored.records.into_iter().flat_map(|record| record.tokens);
        tokens.map(|token| (token.mean, token.std)).collect()
    }

    fn batches(states: &SharedStates) -> Vec<usize> {
        let kept = states.lock();
        let all = kept.readings.iter().map(|(_, batches)| batches.len());
        all.collect()
    }

    #[test]
    fn scorers_of_a_frozen_trunk_share_its_states_and_say_the_same() {
        let states = SharedStates::default();
        let first = trained_in(Trainable::Heads, "ava_p", json!({}), 2, 40);
        let other = trained_in(Trainable::Heads, "bradley_terry", json!({}), 3, 40);
        let rows = first.held_out();
        let mut known = Vec::new();
        for run in [&first, &other] {
            let alone = score(&run.scorer().unwrap(), rows);
            let shared = run.scorer_sharing(&CREDITS[0], &states).unwrap();
            // The first computes what both read.
            assert_eq!(score(&shared, rows), alone);
            known.push(batches(&states));
            // And once more from what is kept.
            assert_eq!(score(&shared, rows), alone);
            assert_eq!(Some(&batches(&states)), known.last());
        }
        assert!(known[0] == known[1] || known[1].len() == 2, "{known:?}");
        let numbers = states.lock().numbers;
        let width = first.model().decoder.config.hidden_size;
        assert!(numbers > rows.len() * width, "{numbers}");
    }

    #[test]
    fn a_trunk_that_moves_shares_nothing() {
        let states = SharedStates::default();
        let run = trained_in(Trainable::Full, "ava_p", json!({}), 1, 40);
        let scorer = run.scorer_sharing(&CREDITS[0], &states).unwrap();
        score(&scorer, run.held_out());
        assert!(batches(&states).is_empty());
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_and_what_is_too_large_is_not_kept() {
        let batch = |numbers: usize| {
            Arc::new(vec![CachedAnswer {
                hidden: vec![0.0; numbers],
                per_step: Vec::new(),
            }])
        };
        let mut kept = Kept::default();
        kept.keep("a".into(), [0; 32], batch(4), 10);
        kept.keep("b".into(), [1; 32], batch(4), 10);
        assert!(kept.find("a", &[0; 32]).is_some());
        kept.keep("c".into(), [2; 32], batch(6), 10);
        assert!(kept.find("b", &[1; 32]).is_none() && kept.find("a", &[0; 32]).is_some());
        assert_eq!(kept.numbers, 10);
        // Nothing of its own reading makes way, and more than all room is never kept.
        kept.keep("a".into(), [3; 32], batch(7), 10);
        assert!(kept.find("a", &[3; 32]).is_none() && kept.find("a", &[0; 32]).is_some());
        assert!(kept.find("c", &[2; 32]).is_none());
        assert_eq!(kept.numbers, 4);
    }
}
