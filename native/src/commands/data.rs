//! `avascope data`.

mod doubtful;

use super::print_line;
use super::run_files::check_world_rows;
use crate::args::DataCommand;
use crate::talk::say;
use crate::{exit, files, models};
use anyhow::Result;
use avascope::data::{Rows, check};
use avascope::world::rows_to_jsonl;
use std::path::Path;

/// Looks at rows, or draws them.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Check {
            file,
            against,
            json,
        } => {
            if file == Path::new(models::WORLD) && !file.exists() {
                return Err(exit::with_code(
                    exit::USAGE,
                    "`world` is built in and no file: `avascope data world > world.jsonl` writes its rows, and `avascope data check world.jsonl` looks at them",
                ));
            }
            let rows = read_all(&file)?;
            let others = against
                .iter()
                .map(|path| Ok((path.display().to_string(), crate::files::read_rows(path)?)))
                .collect::<Result<Vec<(String, Rows)>>>()?;
            let others: Vec<(&str, &Rows)> = others
                .iter()
                .map(|(name, rows)| (name.as_str(), rows))
                .collect();
            let report = check(&rows, &others);
            if json {
                print_line(&serde_json::to_string_pretty(&report)?)
            } else {
                print_line(report.to_string().trim_end())
            }
        }
        DataCommand::Doubtful(args) => doubtful::run(args),
        DataCommand::World { kind, rows, seed } => {
            check_world_rows(rows)?;
            let rows = match kind.as_str() {
                "base" => avascope::train::world_base_answers(rows, seed),
                kind => avascope::train::world_rows(rows, seed, kind == "demonstrations"),
            };
            print_line(rows_to_jsonl(&rows).trim_end())
        }
    }
}

/// Reads a file and, where rows are broken, says of each what is wrong.
fn read_all(file: &Path) -> Result<Rows> {
    let (rows, problems) = files::read_rows_report(file)?;
    let errors = problems.iter().filter(|p| files::is_error(p)).count();
    if let (Some(rows), 0) = (rows, errors) {
        return Ok(rows);
    }
    for problem in problems.iter().filter(|p| !p.is_note()) {
        say!("{problem}");
    }
    let broken = if errors == 1 {
        "1 problem"
    } else {
        &format!("{errors} problems")
    };
    Err(exit::with_code(
        exit::DATA,
        format!(
            "{broken} in {}; rows can be used once they are mended",
            file.display()
        ),
    ))
}
