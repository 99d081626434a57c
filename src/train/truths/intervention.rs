//! Intervention: take a token away, or put another in its place, score the answer again, and compare the change with what
//! the map said of that token.
//!
//! ```text
//! agreement = corr over interventions ( mean_i , R(answer) - R(answer with token i changed) )
//! ```
//!
//! R is the score that the map's scorer ranks answers by. For a sum of token rewards the removed token's own reward is
//! part of the change, so agreement is high unless the other tokens answer the change; for a score read at one place
//! nothing ties the two together. The floor is the same map with its values moved to other tokens of the same answer.

use super::{Floor, TruthFigure, TruthOptions, TruthResult, clustered};
use crate::eval::resample::SplitMix64;
use crate::eval::{Bootstrap, Metric, pearson, spearman};
use crate::objective::ScoreKind;
use crate::text::EncodedAnswer;
use crate::train::dataset::{EncodedSide, counted, layout};
use crate::train::scorer::{answer_tokens, pad_of};
use crate::train::{EncodedRow, Scorer, TrainError, score_of};
use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

/// Shuffles of the floor's map.
const SHUFFLES: usize = 20;
/// Draws of a replacement before a token is given up.
const DRAWS: usize = 32;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterventionPlan {
    /// Tokens of each answer; every one is deleted, swapped and rewritten in turn.
    pub tokens_per_answer: usize,
    /// Seed of all draws: the same seed, rows and model give the same interventions.
    pub seed: u64,
}

impl Default for InterventionPlan {
    fn default() -> Self {
        Self {
            tokens_per_answer: 4,
            seed: 0,
        }
    }
}

/// What is done to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is taken away.
    Delete,
    /// Another token of the answers, drawn at random, takes its place.
    Swap,
    /// What the policy would most likely have written there, the token itself excluded, takes its place.
    Policy,
}

/// One token that is intervened on.
struct Place {
    /// Which record.
    answer: usize,
    /// The token among the record's.
    token: usize,
    /// The token in the answer's ids.
    at: usize,
}

/// Holds the map against interventions on `rows`. Answers with fewer than two tokens of text have nothing to compare and
/// are left out.
///
/// # Errors
/// What scoring gives.
pub async fn intervention(
    scorer: &Scorer,
    rows: &[EncodedRow],
    plan: &InterventionPlan,
    options: &TruthOptions<'_>,
) -> Result<TruthResult, TrainError> {
    let scored = scorer.score(rows).await?;
    // Records follow the rows' sides.
    let sides: Vec<&EncodedSide> = rows.iter().flat_map(|row| &row.sides).collect();
    let ranking = scorer.ranking_score();
    let mut random = SplitMix64::new(plan.seed);

    // Tokens of text, by record: only they are drawn, and only they take another's place.
    let visible: Vec<Vec<usize>> = scored
        .records
        .iter()
        .map(|record| {
            (0..record.tokens.len())
                .filter(|i| record.tokens[*i].start < record.tokens[*i].end)
                .collect()
        })
        .collect();
    let pool: Vec<u32> = visible
        .iter()
        .zip(&scored.records)
        .flat_map(|(visible, record)| visible.iter().map(|i| record.tokens[*i].id))
        .collect();
    let mut places = Vec::new();
    for (answer, visible) in visible.iter().enumerate() {
        if visible.len() < 2 {
            continue;
        }
        let in_ids: Vec<usize> = answer_tokens(&sides[answer].encoded).collect();
        let mut drawn = visible.clone();
        random.shuffle(&mut drawn);
        drawn.truncate(plan.tokens_per_answer);
        drawn.sort_unstable();
        places.extend(drawn.into_iter().map(|token| Place {
            answer,
            token,
            at: in_ids[token],
        }));
    }
    let likeliest = scorer.likeliest_others(&sides, &places).await?;

    let mut edited: Vec<EncodedRow> = Vec::new();
    let mut effects: Vec<(Kind, usize)> = Vec::new();
    let mut unchanged = 0;
    for (p, place) in places.iter().enumerate() {
        let encoded = &sides[place.answer].encoded;
        let old = encoded.ids[place.at];
        let swap = (0..DRAWS)
            .map(|_| pool[random.below(pool.len())])
            .find(|id| *id != old);
        for (kind, with) in [
            (Kind::Delete, None),
            (Kind::Swap, swap),
            (Kind::Policy, likeliest[p]),
        ] {
            if kind != Kind::Delete && with.is_none() {
                unchanged += 1;
                continue;
            }
            edited.push(alone(changed(encoded, place.at, with)));
            effects.push((kind, p));
        }
    }
    let after = scorer.score(&edited).await?;

    let answers = scored.records.len();
    let measured = visible.iter().filter(|visible| visible.len() > 1).count();
    let mut notes = vec![format!(
        "{} on {} of {}, seed {}; tokens are interventions here; the score is {}",
        counted(effects.len(), "intervention"),
        counted(places.len(), "token"),
        counted(measured, "answer"),
        plan.seed,
        match ranking {
            ScoreKind::Last => "the last token's reward",
            ScoreKind::Sum => "the sum of token rewards",
            ScoreKind::Mean => "the mean of token rewards",
        }
    )];
    if answers > measured {
        notes.push(format!(
            "{} left out: fewer than two tokens of text",
            counted(answers - measured, "answer")
        ));
    }
    if unchanged > 0 {
        notes.push(format!(
            "{} without a replacement left out",
            counted(unchanged, "intervention")
        ));
    }
    let mean_of = |answer: usize, token: usize| -> f64 {
        f64::from(scored.records[answer].tokens[token].mean)
    };
    let (mut figures, mut shown) = (Vec::new(), Vec::new());
    for (kind, name) in [
        (Kind::Delete, "deleted"),
        (Kind::Swap, "swapped"),
        (Kind::Policy, "rewritten by the policy"),
    ] {
        let (mut said, mut change, mut of) = (Vec::new(), Vec::new(), Vec::new());
        let mut other: Vec<&Place> = Vec::new();
        for ((_, p), record) in effects
            .iter()
            .zip(&after.records)
            .filter(|((k, _), _)| *k == kind)
        {
            let place = &places[*p];
            let before = score_of(&scored.records[place.answer].score, ranking);
            said.push(mean_of(place.answer, place.token));
            change.push(f64::from(before) - f64::from(score_of(&record.score, ranking)));
            of.push(place.answer);
            other.push(place);
        }
        let mut shuffled = 0.0;
        let mut defined = 0usize;
        for _ in 0..SHUFFLES {
            let moved: Vec<f64> = other
                .iter()
                .map(|place| {
                    let tokens = &visible[place.answer];
                    mean_of(place.answer, tokens[random.below(tokens.len())])
                })
                .collect();
            if !moved.is_empty()
                && let Some(value) = spearman(&moved, &change)?.value
            {
                shuffled += value;
                defined += 1;
            }
        }
        let floors = || {
            vec![
                Floor::new("chance", Metric::of(0.0)),
                Floor::new(
                    "map shuffled within answers",
                    match defined {
                        0 => Metric::undefined("the shuffled map is constant"),
                        n => Metric::of(shuffled / n as f64),
                    },
                ),
            ]
        };
        type Statistic = fn(&[f64], &[f64]) -> Result<Metric, crate::eval::EvalError>;
        let with = |statistic: Statistic, bootstrap: &Bootstrap| {
            clustered(bootstrap, answers, &of, &said, &change, statistic)
        };
        figures.push(TruthFigure::deciding(
            format!("rank agreement, {name}"),
            with(spearman, &options.bootstrap)?,
            floors(),
        ));
        shown.push(TruthFigure::shown(
            format!("linear agreement, {name}"),
            with(pearson, &options.bootstrap)?,
            vec![Floor::new("chance", Metric::of(0.0))],
        ));
    }
    figures.extend(shown);
    Ok(TruthResult::new(
        "intervention",
        figures,
        measured,
        effects.len(),
        notes,
    ))
}

/// An answer without the token at `at`, or with another in its place. Offsets no longer fit the text and are dropped.
fn changed(encoded: &EncodedAnswer, at: usize, with: Option<u32>) -> EncodedAnswer {
    let mut changed = encoded.clone();
    match with {
        Some(id) => changed.ids[at] = id,
        None => {
            changed.ids.remove(at);
            changed.resp.remove(at);
        }
    }
    changed.offsets = vec![None; changed.ids.len()];
    changed
}

/// An answer as a row of its own.
fn alone(encoded: EncodedAnswer) -> EncodedRow {
    EncodedRow {
        id: String::new(),
        line: 0,
        prompt: String::new(),
        sides: vec![EncodedSide {
            encoded,
            truth: None,
            labelled: None,
        }],
        margin: None,
        strength: None,
        flipped: false,
        label: None,
    }
}

impl Scorer {
    /// At each place the id that the policy finds likeliest, the token that stands there excluded; `None` where the
    /// vocabulary has no other. Ids that the tokenizer does not know are not considered.
    async fn likeliest_others(
        &self,
        sides: &[&EncodedSide],
        places: &[Place],
    ) -> Result<Vec<Option<u32>>, TrainError> {
        let device = &self.device.device;
        let known = self.model.tokenizer.vocab_size();
        if known < 2 {
            return Ok(vec![None; places.len()]);
        }
        let mut found = vec![None; places.len()];
        // Places of one answer follow each other.
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        for (p, place) in places.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if places[group.start].answer == place.answer => group.end = p + 1,
                _ => groups.push(p..p + 1),
            }
        }
        groups.sort_by_key(|group| sides[places[group.start].answer].encoded.ids.len());
        for batch in groups.chunks(self.batch_size.max(1)) {
            let rows: Vec<EncodedRow> = batch
                .iter()
                .map(|group| alone(sides[places[group.start].answer].encoded.clone()))
                .collect();
            let members: Vec<&EncodedRow> = rows.iter().collect();
            let layout = layout(&members, pad_of(&self.model.tokenizer));
            let (b, t) = (layout.rows, layout.tokens);
            let ints = |values: Vec<i32>| {
                let len = values.len();
                Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
            };
            let ids = ints(layout.ids.iter().map(|id| *id as i32).collect()).reshape([b, t]);
            let decoder = &self.model.decoder;
            let output = decoder.forward(ids, &layout.segments, &Default::default());
            let mut states = Vec::new();
            let mut standing = Vec::new();
            for (row, group) in batch.iter().enumerate() {
                for place in &places[group.clone()] {
                    states.push((row * t + place.at - 1) as i32);
                    standing.push(layout.ids[row * t + place.at] as i32);
                }
            }
            let n = states.len();
            let hidden = output
                .hidden
                .reshape([b * t, decoder.config.hidden_size])
                .select(0, ints(states));
            // The policy is softmax(beta Q), whichever head Q is read off.
            let logits = match self.head.q_logits(hidden.clone()) {
                Some(q) => q,
                None => decoder.logits(hidden),
            };
            let logits = logits.narrow(1, 0, known);
            let out = Tensor::full([n, 1], -1e30, device);
            let likeliest = logits
                .scatter(
                    1,
                    ints(standing).reshape([n, 1]),
                    out,
                    IndexingUpdateOp::Add,
                )
                .argmax(1)
                .float();
            let likeliest = crate::train::read(likeliest).await?;
            let places = batch.iter().flat_map(Clone::clone);
            for (p, id) in places.zip(likeliest) {
                found[p] = Some(id as u32);
            }
        }
        Ok(found)
    }
}
