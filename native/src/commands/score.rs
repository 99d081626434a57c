//! `avascope score`.

use super::print_line;
use super::run_files::OpenRun;
use crate::args::ScoreArgs;
use crate::folder::write_atomic;
use anyhow::Result;

/// Writes one token-reward record an answer, as JSON Lines.
pub fn run(args: ScoreArgs) -> Result<()> {
    let run = OpenRun::open(&args.run)?;
    run.refuse_inputs(args.out.as_deref(), args.data.as_deref())?;
    let rows = run.rows(args.data.as_deref(), args.limit)?;
    let scored = run.score(&rows)?;
    let provenance = scored.records.first().map(|record| &record.provenance);
    run.introduce(
        provenance.unwrap_or_else(|| run.scorer.provenance()),
        rows.len(),
        &run.data_name(args.data.as_deref()),
    );
    let lines = scored
        .records
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    match &args.out {
        Some(path) => {
            let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            write_atomic(path, text.as_bytes())
        }
        None => lines.iter().try_for_each(|line| print_line(line)),
    }
}
