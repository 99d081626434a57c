//! A truth made ready to be asked of any number of maps: its rows as tokens, without those that the maps were trained on.

use super::{
    EncodedTrace, InterventionPlan, Truth, TruthKind, TruthOptions, TruthResult, edits,
    encode_traces, first_wrong_step, intervention, lexicon, spans,
};
use crate::data::{Content, LexiconEntry, Rows, TraceRow};
use crate::reward::Side;
use crate::text::{EncodeOptions, TextTokenizer};
use crate::train::dataset::counted;
use crate::train::{EncodedRow, Scorer, SkippedRow, TrainError, encode_usable_rows};
use std::collections::HashSet;

/// What a map was made from, as far as truths must know it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every answer's text, without white space around it: chat templates cut it off.
    answers: HashSet<String>,
    /// Whether rows that settings were chosen on are among them.
    tuned: bool,
}

impl Seen {
    /// From the rows that trained the map.
    pub fn of(rows: &Rows) -> Self {
        let mut seen = Self::default();
        seen.add(rows);
        seen
    }

    /// And from rows that its settings were chosen on.
    #[must_use]
    pub fn and_tuned_on(mut self, rows: &Rows) -> Self {
        self.add(rows);
        self.tuned = true;
        self
    }

    fn add(&mut self, rows: &Rows) {
        let text = |answer: &Content| answer.answer_text().trim().to_owned();
        match rows {
            Rows::Preferences(rows) => self.answers.extend(
                rows.iter()
                    .flat_map(|row| [&row.chosen, &row.rejected])
                    .map(|answer| text(&answer.content)),
            ),
            Rows::Demonstrations(rows) => self
                .answers
                .extend(rows.iter().map(|row| text(&row.answer.content))),
            Rows::Unpaired(rows) => self
                .answers
                .extend(rows.iter().map(|row| text(&row.answer.content))),
        }
    }

    /// Whether an answer of the row is among them.
    fn has(&self, row: &EncodedRow) -> bool {
        row.sides
            .iter()
            .any(|side| self.answers.contains(side.encoded.answer_text.trim()))
    }

    /// What was done with them.
    fn how(&self) -> &'static str {
        match self.tuned {
            true => "trained or tuned on",
            false => "trained on",
        }
    }
}

/// What a truth's own file holds.
#[derive(Clone, Debug)]
pub enum TruthData {
    /// It has none: the rows that are scored anyway serve.
    None,
    /// Rows.
    Rows(Rows),
    /// Reasoning traces.
    Traces(Vec<TraceRow>),
    /// Words, which are looked up in the rows that are scored anyway.
    Lexicon(Vec<LexiconEntry>),
}

/// A truth with everything that it asks about.
#[derive(Clone, Debug)]
pub struct Question {
    truth: &'static Truth,
    rows: Vec<EncodedRow>,
    traces: Vec<EncodedTrace>,
    entries: Vec<LexiconEntry>,
    interventions: InterventionPlan,
    left_out: usize,
    /// What was done with an answer of those that are left out.
    seen: &'static str,
}

impl Question {
    /// Tokenises what the truth reads. `scored` are the rows that are scored anyway; `limit` is the most rows or traces to
    /// use. Rows without a token are handed back beside.
    ///
    /// # Errors
    /// A row that is broken in any other way, or data of another kind than the truth reads.
    pub fn new(
        truth: &'static Truth,
        data: TruthData,
        scored: &[EncodedRow],
        limit: Option<usize>,
        tokenizer: &TextTokenizer,
        options: &EncodeOptions,
    ) -> Result<(Self, Vec<SkippedRow>), TrainError> {
        let limit = limit.unwrap_or(usize::MAX);
        let anyway = || scored[..scored.len().min(limit)].to_vec();
        let mut question = Self {
            truth,
            rows: Vec::new(),
            traces: Vec::new(),
            entries: Vec::new(),
            interventions: InterventionPlan::default(),
            left_out: 0,
            seen: Seen::default().how(),
        };
        let mut skipped = Vec::new();
        match (truth.kind, data) {
            (TruthKind::Steps, TruthData::Traces(mut traces)) => {
                traces.truncate(limit);
                (question.traces, skipped) = encode_traces(traces, tokenizer, options)?;
            }
            (TruthKind::Lexicon, TruthData::Lexicon(entries)) => {
                question.entries = entries;
                question.rows = anyway();
            }
            (TruthKind::Edits | TruthKind::Spans | TruthKind::Intervention, TruthData::None) => {
                question.rows = anyway();
            }
            (
                TruthKind::Edits | TruthKind::Spans | TruthKind::Intervention,
                TruthData::Rows(rows),
            ) => {
                (question.rows, skipped) =
                    encode_usable_rows(&rows.first(limit), tokenizer, options)?;
            }
            _ => {
                return Err(TrainError::Rows(format!(
                    "the truth `{}` reads {}",
                    truth.name, truth.about
                )));
            }
        }
        Ok((question, skipped))
    }

    /// The same with another plan of interventions; only [`intervention`] reads it.
    pub fn with_interventions(mut self, plan: InterventionPlan) -> Self {
        self.interventions = plan;
        self
    }

    /// Which truth it is.
    pub fn truth(&self) -> &'static Truth {
        self.truth
    }

    /// Whether it has neither rows nor traces.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.traces.is_empty()
    }

    /// Leaves out rows and traces of which an answer was seen. Results say how many.
    pub fn leave_out(&mut self, seen: &Seen) {
        self.seen = seen.how();
        let before = self.rows.len() + self.traces.len();
        self.rows.retain(|row| !seen.has(row));
        self.traces.retain(|trace| !seen.has(&trace.row));
        self.left_out += before - self.rows.len() - self.traces.len();
    }

    /// Why nothing can be measured whatever the map, where nothing can: said before any map is trained.
    pub fn unanswerable(&self) -> Option<String> {
        if self.is_empty() {
            return Some(match self.left_out {
                0 => "there are no rows".into(),
                n => format!(
                    "all of its {n} rows are left out: an answer of theirs is {}",
                    self.seen
                ),
            });
        }
        let labelled = |sides: &[Side]| {
            self.rows.iter().any(|row| {
                let own = row.sides.iter().enumerate();
                own.into_iter().any(|(index, side)| {
                    sides.contains(&row.side(index)) && side.labelled.is_some()
                })
            })
        };
        match self.truth.kind {
            TruthKind::Edits if !labelled(&[Side::Rejected]) => {
                Some("no rejected answer has labelled spans (column `rejected_spans`)".into())
            }
            TruthKind::Spans if !labelled(&[Side::Answer, Side::Rejected]) => {
                Some("no answer has labelled spans (column `bad_spans`)".into())
            }
            TruthKind::Steps if self.traces.iter().all(|trace| trace.first_wrong.is_none()) => {
                Some("no trace has a wrong step".into())
            }
            _ => None,
        }
    }

    /// Asks the truth of a map.
    ///
    /// # Errors
    /// What scoring gives.
    pub async fn ask(
        &self,
        scorer: &Scorer,
        options: &TruthOptions<'_>,
    ) -> Result<TruthResult, TrainError> {
        let result = match self.truth.kind {
            TruthKind::Edits => edits(scorer, &self.rows, options).await?,
            TruthKind::Spans => spans(scorer, &self.rows, options).await?,
            TruthKind::Steps => first_wrong_step(scorer, &self.traces, options).await?,
            TruthKind::Lexicon => lexicon(scorer, &self.rows, &self.entries, options).await?,
            TruthKind::Intervention => {
                intervention(scorer, &self.rows, &self.interventions, options).await?
            }
        };
        let mut result = result.for_map_of(scorer.objective());
        if self.left_out > 0 {
            result.notes.push(format!(
                "{} left out: an answer of theirs was {}",
                counted(self.left_out, "row"),
                self.seen
            ));
        }
        Ok(result)
    }
}
