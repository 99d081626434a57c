//! `avascope data`.

use super::print_line;
use crate::args::DataCommand;
use anyhow::Result;
use avascope::data::{Rows, check};
use avascope::world::rows_to_jsonl;

/// Looks at rows, or draws them.
pub fn run(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Check {
            file,
            against,
            json,
        } => {
            let rows = crate::files::read_rows(&file)?;
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
        DataCommand::World { kind, rows, seed } => {
            let rows = avascope::train::world_rows(rows, seed, kind == "demonstrations");
            print_line(rows_to_jsonl(&rows).trim_end())
        }
    }
}
