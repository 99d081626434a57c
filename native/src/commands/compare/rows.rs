//! The rows of a comparison: read, split and tokenised once for all trainings.

use super::super::run_files::{read_source, take};
use super::truths::Sources;
use anyhow::Result;
use avascope::compare::{Checks, CompareError, DataSummary, Plan};
use avascope::data::{Rows, fingerprint, split_by_hash};
use avascope::objective::RowKind;
use avascope::train::{LoadedModel, ReadyRows, SkippedRow};
use serde_json::Value;
use std::path::Path;

/// The rows, tokenised once for all cells.
pub(super) struct PreparedRows {
    /// As the file has them.
    pub train: ReadyRows,
    /// The chosen answers alone, where a method learns from them.
    demonstrations: Option<ReadyRows>,
    /// Tuned values are chosen on these.
    pub validation: ReadyRows,
    /// Every figure is measured on these.
    pub test: ReadyRows,
    /// What every trained map is asked beside.
    pub checks: Checks,
    /// What the report says of them.
    pub summary: DataSummary,
}

impl PreparedRows {
    /// Reads, splits and tokenises; makes the truths ready.
    pub fn new(plan: &Plan, model: &LoadedModel, truths: Sources) -> Result<Self> {
        let config = &plan.config;
        let rows = take(
            read_source(&config.data, config.world_rows, config.world_seed, false)?,
            config.limit,
        );
        if matches!(rows, Rows::Unpaired(_)) {
            return Err(CompareError::Rows(format!(
                "{} holds answers labelled one by one (column label), and a comparison is held on pairs or demonstrations; train on them with `avascope train`",
                config.data
            ))
            .into());
        }
        refuse_labels(&rows, &config.data)?;
        let all = fingerprint(&rows);
        let (rest, test) = match &config.test_data {
            Some(path) => {
                let test = crate::files::read_rows(Path::new(path))?;
                refuse_labels(&test, path)?;
                (rows, test)
            }
            None => split_by_hash(rows, config.test, "avascope compare test"),
        };
        let (train, validation) =
            split_by_hash(rest, config.validation, "avascope compare validation");
        let encode = |rows: &Rows| ReadyRows::encode(rows, model, &config.train);
        let wants = |kind| plan.systems.iter().any(|system| system.rows == kind);
        let pairs = matches!(train, Rows::Preferences(_));
        if !pairs && let Some(system) = plan.systems.iter().find(|s| s.rows == RowKind::Pairs) {
            return Err(CompareError::Rows(format!(
                "`{}` learns from pairs (columns prompt, chosen, rejected), and {} holds demonstrations; remove the method, or bring pairs",
                system.label, config.data
            ))
            .into());
        }
        let demonstrations = if pairs && wants(RowKind::Demonstrations) {
            Some(encode(&train.clone().chosen_answers())?)
        } else {
            None
        };
        let (trained_on, tuned_on) = (train, validation);
        let (train, validation, test) = (encode(&trained_on)?, encode(&tuned_on)?, encode(&test)?);
        if train.kind() != test.kind() {
            return Err(CompareError::Rows(
                "`data` and `test_data` hold rows of different kinds: pairs and demonstrations"
                    .into(),
            )
            .into());
        }
        for (part, rows, way_out) in [
            ("training", &train, "lower `test` and `validation`"),
            ("test", &test, "raise `test`"),
        ] {
            if rows.rows().is_empty() {
                let skipped = SkippedRow::sentence(rows.skipped())
                    .map(|sentence| format!(" ({sentence})"))
                    .unwrap_or_default();
                return Err(CompareError::Rows(format!(
                    "no row is left in the {part} part{skipped}: {way_out}, or bring more rows"
                ))
                .into());
            }
        }
        if plan.tunes() && validation.rows().is_empty() {
            return Err(CompareError::Rows(
                "values are tuned and no row is left in the validation part: raise `validation`, bring more rows, or tune nothing".into(),
            )
            .into());
        }
        let checks = truths.checks(plan, model, &trained_on, &tuned_on, test.rows())?;
        let summary = DataSummary::of(&config.data, &all, &train, &validation, &test);
        Ok(Self {
            train,
            demonstrations,
            validation,
            test,
            checks,
            summary,
        })
    }

    /// Adds what tells the rows from others to the comparison's identity: their content, wherever they come from.
    pub fn identify(&self, identity: &mut Value) {
        let summary = &self.summary;
        for (name, fingerprint) in [
            ("rows", &summary.fingerprint),
            ("training rows", &summary.train.fingerprint),
            ("validation rows", &summary.validation.fingerprint),
            ("test rows", &summary.test.fingerprint),
        ] {
            identity[name] = fingerprint.as_str().into();
        }
    }

    /// The training rows of a kind of method.
    pub fn of(&self, kind: RowKind) -> &ReadyRows {
        match (kind, &self.demonstrations) {
            (RowKind::Demonstrations, Some(rows)) => rows,
            _ => &self.train,
        }
    }
}

/// Refuses pairs whose own label is another than "chosen is better": every figure, floor and truth of a comparison takes the
/// chosen answer for the better one.
fn refuse_labels(rows: &Rows, source: &str) -> Result<()> {
    match rows.relabelled() {
        0 => Ok(()),
        relabelled => Err(CompareError::Rows(format!(
            "{relabelled} pairs of {source} have a label of their own below 1 (column preference or label), and a comparison takes every chosen answer for the better one; leave out ties, and swap the answers of pairs labelled 0"
        ))
        .into()),
    }
}
