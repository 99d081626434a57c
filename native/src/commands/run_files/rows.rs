//! The rows of a run: where they come from, and which of them were trained on.

use super::RunFile;
use crate::talk::say;
use crate::{exit, models};
use anyhow::Result;
use avascope::data::{Content, Rows, split_by_hash};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

/// The rows that a run trains on and those that it holds out, as its settings say.
pub fn training_rows(file: &RunFile, demonstrations: bool) -> Result<(Rows, Rows)> {
    let fitting = |rows| match demonstrations {
        true => chosen_only(rows),
        false => rows,
    };
    let rows = match &file.against {
        Some(against) => two_sets(file, against)?,
        None => read_source(&file.data, file.world_rows, file.train.seed, demonstrations)?,
    };
    let rows = fitting(take(rows, file.limit));
    Ok(match &file.eval_data {
        Some(path) => {
            let held_out = fitting(crate::files::read_rows(path)?);
            let found = match (&rows, &held_out) {
                (Rows::Preferences(_) | Rows::Unpaired(_), Rows::Demonstrations(_)) => {
                    Some("demonstrations")
                }
                (Rows::Preferences(_), Rows::Unpaired(_)) => Some("answers labelled one by one"),
                _ => None,
            };
            if let Some(found) = found {
                return Err(exit::with_code(
                    exit::DATA,
                    format!(
                        "{} holds {found}, and `{}` is to be measured on rows like those that it learns from; give a file with the columns of --data, or leave --eval-data out",
                        path.display(),
                        file.train.method
                    ),
                ));
            }
            (rows, held_out)
        }
        None => split_by_hash(rows, file.train.held_out, "avascope"),
    })
}

/// The answers of `--data` as desirable ones, and those of `--against` as undesirable ones.
fn two_sets(file: &RunFile, against: &Path) -> Result<Rows> {
    let wrong = |source: &str, why: &str| {
        Err(exit::with_code(
            exit::USAGE,
            format!("--against: {source} {why}"),
        ))
    };
    const LABELLED: &str = "labels its answers one by one (column label); it holds both sets already, so give it as --data alone";
    let desirable = match read_source(&file.data, file.world_rows, file.train.seed, true)? {
        Rows::Unpaired(_) => return wrong(&file.data, LABELLED),
        rows => match chosen_only(rows) {
            Rows::Demonstrations(rows) => rows,
            _ => Vec::new(),
        },
    };
    let undesirable = match crate::files::read_rows(against)? {
        Rows::Demonstrations(rows) => rows,
        Rows::Unpaired(_) => return wrong(&against.display().to_string(), LABELLED),
        Rows::Preferences(_) => {
            return wrong(
                &against.display().to_string(),
                "holds pairs; give a file of answers alone (columns prompt, completion), such as a base model's, or the pairs as --data alone",
            );
        }
    };
    Ok(Rows::unpaired(desirable, undesirable))
}

/// Says how many rows to be measured on were trained on.
pub fn warn_of_known(train: &Rows, measured: &Rows) {
    let known = Known::of(train).count(measured);
    if known > 0 {
        say!(
            "warning   {known} of {} rows to be measured on were trained on: what is measured on them says nothing about new rows",
            measured.len()
        );
    }
}

/// What rows train: prompts with their answers, by hash.
struct Known {
    answers: HashSet<u64>,
    pairs: bool,
}

impl Known {
    fn of(train: &Rows) -> Self {
        Self {
            answers: answers(train).into_iter().flatten().collect(),
            pairs: matches!(train, Rows::Preferences(_)),
        }
    }

    /// Rows of which both answers (of pairs that pairs trained) or any answer is known.
    fn count(&self, rows: &Rows) -> usize {
        let both = self.pairs && matches!(rows, Rows::Preferences(_));
        let known = |row: &Vec<u64>| match both {
            true => row.iter().all(|answer| self.answers.contains(answer)),
            false => row.iter().any(|answer| self.answers.contains(answer)),
        };
        answers(rows).iter().filter(|row| known(row)).count()
    }
}

/// Of each row the hashes of its prompt with each answer.
fn answers(rows: &Rows) -> Vec<Vec<u64>> {
    let hash = |prompt: &Content, answer: &Content| {
        let mut hasher = DefaultHasher::new();
        format!("{prompt:?} {answer:?}").hash(&mut hasher);
        hasher.finish()
    };
    match rows {
        Rows::Preferences(rows) => rows
            .iter()
            .map(|row| {
                [&row.chosen, &row.rejected]
                    .map(|answer| hash(&row.prompt, &answer.content))
                    .to_vec()
            })
            .collect(),
        Rows::Demonstrations(rows) => rows
            .iter()
            .map(|row| vec![hash(&row.prompt, &row.answer.content)])
            .collect(),
        Rows::Unpaired(rows) => rows
            .iter()
            .map(|row| vec![hash(&row.prompt, &row.answer.content)])
            .collect(),
    }
}

/// A method of demonstrations given pairs learns from the chosen answers, and given answers labelled one by one from the
/// desirable ones.
fn chosen_only(rows: Rows) -> Rows {
    match &rows {
        Rows::Preferences(_) => say!(
            "note      the rows are pairs and demonstrations are wanted: the chosen answers are taken"
        ),
        Rows::Unpaired(all) => say!(
            "note      the rows are labelled one by one and demonstrations are wanted: the {} undesirable ones (label false) are left out",
            all.iter().filter(|row| !row.label).count()
        ),
        Rows::Demonstrations(_) => {}
    }
    rows.chosen_answers()
}

/// Reads rows: the built-in world's, a file's, or standard input's.
pub fn read_source(
    source: &str,
    world_rows: usize,
    seed: u64,
    demonstrations: bool,
) -> Result<Rows> {
    if source == models::WORLD {
        check_world_rows(world_rows)?;
        return Ok(avascope::train::world_rows(
            world_rows,
            seed,
            demonstrations,
        ));
    }
    crate::files::read_rows(Path::new(source))
}

/// Most rows that are drawn from the built-in world: some gigabytes of text.
const MAX_WORLD_ROWS: usize = 1_000_000;

/// Refuses a number of rows of the built-in world that no machine holds.
pub fn check_world_rows(rows: usize) -> Result<()> {
    if (1..=MAX_WORLD_ROWS).contains(&rows) {
        return Ok(());
    }
    Err(exit::with_code(
        exit::USAGE,
        format!("{rows} rows of the built-in world were asked for; ask for 1 to {MAX_WORLD_ROWS}"),
    ))
}

/// The first `limit` rows.
pub fn take(rows: Rows, limit: Option<usize>) -> Rows {
    rows.first(limit.unwrap_or(usize::MAX))
}
