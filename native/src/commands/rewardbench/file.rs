//! Scores from a file.

use super::{Scores, no_rows, objects_of};
use crate::files::read_bytes;
use anyhow::Result;
use avascope::eval::rewardbench::files::{ScoresFile, ScoresFileV2, read};
use avascope::eval::rewardbench::report_v2::ScoredRowV2;
use avascope::plain::plain_words;
use serde_json::Value;
use std::path::Path;

/// A file of scores: the public code's, told by its columns, or JSON Lines.
pub(super) fn read_scores(path: &Path, limit: Option<usize>) -> Result<Scores> {
    let bytes = read_bytes(path)?;
    let name = path.display().to_string();
    let limit = limit.unwrap_or(usize::MAX);
    if let Ok(Value::Object(columns)) = serde_json::from_slice(&bytes)
        && columns.get("subset").is_some_and(Value::is_array)
    {
        if columns
            .get("subset")
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
        {
            return Err(no_rows(path));
        }
        return Ok(if columns.contains_key("scores") {
            let mut file: ScoresFileV2 = read(&name, &bytes)?;
            // Columns are held against each other before they are cut.
            file.rows()?;
            file.text.truncate(limit);
            file.id.truncate(limit);
            file.subset.truncate(limit);
            file.results.truncate(limit);
            file.scores.truncate(limit);
            file.num_correct.truncate(limit);
            Scores::V2(file)
        } else {
            let mut file: ScoresFile = read(&name, &bytes)?;
            file.rows()?;
            file.text_chosen.truncate(limit);
            file.text_rejected.truncate(limit);
            file.id.truncate(limit);
            file.subset.truncate(limit);
            file.results.truncate(limit);
            file.scores_chosen.truncate(limit);
            file.scores_rejected.truncate(limit);
            Scores::V1(file, Vec::new())
        });
    }
    let mut objects = objects_of(path)?;
    objects.truncate(limit);
    let v2 = objects
        .first()
        .is_some_and(|(_, row)| row.get("scores").is_some());
    fn each<T: serde::de::DeserializeOwned>(
        objects: Vec<(usize, Value)>,
        name: &str,
    ) -> Result<Vec<T>> {
        objects
            .into_iter()
            .map(|(line, object)| {
                serde_json::from_value(object).map_err(|error| {
                    anyhow::anyhow!("{name}, line {line}: {}", plain_words(&error.to_string()))
                })
            })
            .collect()
    }
    if !v2 {
        return Ok(Scores::Bare(each(objects, &name)?));
    }
    let lines: Vec<usize> = objects.iter().map(|(line, _)| *line).collect();
    let rows: Vec<ScoredRowV2> = each(objects, &name)?;
    for (line, row) in lines.into_iter().zip(&rows) {
        row.check()
            .map_err(|reason| anyhow::anyhow!("{name}, line {line}: {reason}"))?;
    }
    Ok(Scores::BareV2(rows))
}
