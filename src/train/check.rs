//! Settings and rows are checked before anything is loaded or computed.

use super::run::LoadedModel;
use super::{EncodedRow, TrainConfig, TrainError, Trainable};
use crate::objective::{Objective, RowKind};
use std::sync::Arc;

/// Whether there are rows, of a kind that the method learns from.
pub(super) fn check_rows(
    count: usize,
    kind: RowKind,
    objective: &dyn Objective,
    method: &str,
) -> Result<(), TrainError> {
    let wanted = objective.rows();
    let unpaired = kind == RowKind::Unpaired && objective.takes_unpaired();
    if kind != wanted && !unpaired {
        let are = match kind {
            RowKind::Pairs => "pairs",
            RowKind::Demonstrations => "demonstrations",
            RowKind::Unpaired => "answers labelled one by one (columns prompt, completion, label)",
        };
        return Err(TrainError::Rows(match (wanted, kind) {
            (RowKind::Demonstrations, _) => format!(
                "`{method}` learns from demonstrations (columns prompt, completion), and these rows are {are}; use `ava_p`, or take the chosen answers"
            ),
            (_, RowKind::Demonstrations) if objective.takes_unpaired() => format!(
                "`{method}` learns from preference pairs (columns prompt, chosen, rejected) or from two sets of answers (columns prompt, completion, label; or demonstrations and a second file, `--against`), and these rows are demonstrations alone; bring answers to hold them against"
            ),
            (_, RowKind::Demonstrations) => format!(
                "`{method}` learns from preference pairs (columns prompt, chosen, rejected), and these rows are demonstrations; use `ava_d`, or bring pairs"
            ),
            _ => format!(
                "`{method}` learns from preference pairs (columns prompt, chosen, rejected), and these rows are {are}; use `irl_margin`, which takes two sets of answers, or bring pairs"
            ),
        }));
    }
    if count == 0 {
        return Err(TrainError::Rows(
            "no row is left to train on; lower `held_out` or bring more rows".into(),
        ));
    }
    Ok(())
}

/// Of answers labelled one by one: puts the desirable ones in front, which training draws as a set of their own, and says
/// how many there are.
pub(super) fn two_sets(rows: &mut Arc<Vec<EncodedRow>>, method: &str) -> Result<usize, TrainError> {
    let desirable = |row: &EncodedRow| row.desirable() == Some(true);
    let count = rows.iter().filter(|row| desirable(row)).count();
    for (found, what, label) in [
        (count, "desirable", "true"),
        (rows.len() - count, "undesirable", "false"),
    ] {
        if found == 0 {
            return Err(TrainError::Rows(format!(
                "no {what} answer (label {label}) is left to train on, and `{method}` holds desirable answers against undesirable ones; bring some, or lower `held_out`"
            )));
        }
    }
    if !rows.is_sorted_by_key(|row| !desirable(row)) {
        // A stable sort: rows of a set keep the order of the file.
        Arc::make_mut(rows).sort_by_key(|row| !desirable(row));
    }
    Ok(count)
}

/// Swaps the labels that the method asks to be swapped, and says how many. Every training pair must have a strength where
/// the method reads it.
pub(super) fn clean_labels(
    objective: &dyn Objective,
    rows: &mut Arc<Vec<EncodedRow>>,
) -> Result<usize, TrainError> {
    let Some(fraction) = objective.strength() else {
        return Ok(0);
    };
    let mut strengths = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let strength = row.strength.ok_or_else(|| TrainError::Row {
            id: row.id.clone(),
            line: row.line,
            reason: format!(
                "`{}` reads a column `strength`, and this pair has none; `avascope data doubtful DATA --ensemble RUN RUN --out FILE` writes it, and with `margin_scale`, `flip_fraction` and `smoothing` at 0 none is needed",
                objective.name()
            ),
        })?;
        strengths.push(f64::from(strength));
    }
    let signs = crate::objective::secrets2::flips(&strengths, fraction);
    // Runs may share the rows: only a method that changes labels has a copy of its own.
    for (row, sign) in Arc::make_mut(rows).iter_mut().zip(&signs) {
        row.flipped = *sign < 0.0;
    }
    Ok(signs.iter().filter(|sign| **sign < 0.0).count())
}

/// Whether the method reads the pairs' own labels where they are others than "chosen is better"; what is left to say, in
/// sentences.
pub(super) fn labels(
    objective: &dyn Objective,
    train: &[EncodedRow],
) -> Result<Option<String>, TrainError> {
    let name = objective.name();
    let other = |row: &&EncodedRow| row.sides.len() == 2 && row.label.is_some_and(|y| y != 1.0);
    if objective.reads_label() {
        return Ok(None);
    }
    if let Some(row) = train.iter().filter(other).find(|row| row.label < Some(0.5)) {
        return Err(TrainError::Row {
            id: row.id.clone(),
            line: row.line,
            reason: format!(
                "its own label says that the rejected answer is the better one, and `{name}` takes every chosen answer for the better one; swap the two answers, or use `pref_transformer`, which reads labels"
            ),
        });
    }
    let ties = train.iter().filter(other).count();
    Ok((ties > 0).then(|| format!(
        "{ties} of the {} training pairs have a label below 1 (0.5: a tie), which `{name}` does not read: it takes their chosen answers for the better ones; `pref_transformer` reads labels",
        train.len()
    )))
}

/// Whether every training pair has a margin where the method reads it; what is left to say, in sentences.
pub(super) fn margins(
    objective: &dyn Objective,
    train: &[EncodedRow],
    held_out: &[EncodedRow],
) -> Result<Option<String>, TrainError> {
    let name = objective.name();
    if !objective.needs_margin() {
        let given = train.iter().filter(|row| row.margin.is_some()).count();
        return Ok((given > 0).then(|| format!(
            "{} of the {} training rows have a `margin`, which `{name}` with these switches does not read; Bradley-Terry with `use_margin = true` does",
            given,
            train.len()
        )));
    }
    if let Some(row) = train.iter().find(|row| row.margin.is_none()) {
        return Err(TrainError::Row {
            id: row.id.clone(),
            line: row.line,
            reason: format!(
                "`{name}` with `use_margin = true` reads a column `margin`, and this pair has none; give every pair its margin (0 asks for no difference), or set `use_margin = false`"
            ),
        });
    }
    let without = held_out.iter().filter(|row| row.margin.is_none()).count();
    Ok((without > 0).then(|| format!(
        "{without} of the {} held-out pairs have no `margin`: their held-out loss asks for no difference",
        held_out.len()
    )))
}

/// Whether every id of the tokenizer has an embedding.
pub(super) fn check_vocabulary(model: &LoadedModel) -> Result<(), TrainError> {
    let vocabulary = model.decoder.config.vocab_size;
    if model.tokenizer.vocab_size() > vocabulary {
        return Err(TrainError::Vocabulary(format!(
            "the tokenizer has {} entries and the model's embedding {vocabulary}: they belong to different models",
            model.tokenizer.vocab_size()
        )));
    }
    Ok(())
}

impl TrainConfig {
    /// Builds the method and checks every setting that needs neither model nor rows.
    ///
    /// # Errors
    /// The first setting that is out of range, with the range.
    pub fn check(&self) -> Result<Box<dyn Objective>, TrainError> {
        check_settings(self)?;
        let objective = crate::objective::build(&self.method, &self.options)?;
        if objective.feature_dropout().is_some() && matches!(self.trainable, Trainable::Heads) {
            return Err(TrainError::Rows(format!(
                "the contrastive term of `{}` teaches the trunk, and `trainable.mode = heads` keeps it still; train `full` or `lora`, or set `contrastive_weight` to 0",
                self.method
            )));
        }
        if objective.needs_reference() && matches!(self.trainable, Trainable::Heads) {
            return Err(TrainError::Rows(format!(
                "`{}` moves the policy away from a reference, and `trainable.mode = heads` keeps the policy still; train `full` or `lora`",
                self.method
            )));
        }
        Ok(objective)
    }
}

fn check_settings(config: &TrainConfig) -> Result<(), TrainError> {
    let setting = |setting, value: String, way_out| {
        Err(TrainError::Setting {
            setting,
            value,
            way_out,
        })
    };
    if config.steps == 0 {
        return setting("steps", "0".into(), "take at least one");
    }
    if config.batch_size == 0 || config.batch_size > 4096 {
        return setting(
            "batch_size",
            config.batch_size.to_string(),
            "use 1 to 4096 rows",
        );
    }
    if config.gradient_accumulation_steps == 0 || config.gradient_accumulation_steps > 4096 {
        return setting(
            "gradient_accumulation_steps",
            config.gradient_accumulation_steps.to_string(),
            "use 1 to 4096",
        );
    }
    for (name, value) in [
        ("learning_rate", Some(config.learning_rate)),
        ("head_learning_rate", config.head_learning_rate),
    ] {
        if let Some(rate) = value
            && (!rate.is_finite() || rate < 0.0)
        {
            return setting(
                name,
                rate.to_string(),
                "use a number of at least 0, such as 1e-4",
            );
        }
    }
    for (name, value) in [
        ("weight_decay", config.weight_decay),
        ("max_grad_norm", config.max_grad_norm),
    ] {
        if !value.is_finite() || value < 0.0 {
            return setting(name, value.to_string(), "use a number of at least 0");
        }
    }
    for (name, value) in [
        ("warmup_ratio", config.warmup_ratio),
        ("held_out", config.held_out),
    ] {
        if !(0.0..=1.0).contains(&value) {
            return setting(name, value.to_string(), "use a share from 0 to 1");
        }
    }
    if config.early_stopping_patience > 0 && config.eval_steps == 0 {
        return setting(
            "early_stopping_patience",
            config.early_stopping_patience.to_string(),
            "it counts evaluations, and with `eval_steps` 0 there is one, at the end; set `eval_steps` too",
        );
    }
    if config.max_length < 2 {
        return setting(
            "max_length",
            config.max_length.to_string(),
            "use at least 2 tokens",
        );
    }
    let Trainable::Lora(lora) = &config.trainable else {
        return Ok(());
    };
    if lora.r == 0 || lora.r > 1024 {
        return setting("lora r", lora.r.to_string(), "use a rank from 1 to 1024");
    }
    // At 0 the adapter never acts, and nothing of the trunk would train; below 0 it would only be turned round.
    if !lora.alpha.is_finite() || lora.alpha <= 0.0 {
        return setting(
            "lora alpha",
            lora.alpha.to_string(),
            "use a finite number above 0, such as twice the rank",
        );
    }
    if lora.targets.is_empty() {
        return setting(
            "lora targets",
            "empty".into(),
            "name at least one layer, such as q_proj",
        );
    }
    Ok(())
}
