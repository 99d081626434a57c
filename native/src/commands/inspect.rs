//! `avascope inspect`.

use super::file_record::FileRecord;
use super::print_line;
use super::run_files::OpenRun;
use crate::args::InspectArgs;
use crate::exit;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;

/// The page's token view as one file, built by the page's own build and embedded in the command.
const REPORT: &str = include_str!(concat!(env!("OUT_DIR"), "/report.html"));
/// Where the records go in it: the file has it once.
const SLOT: &str = "[/*avascope-records*/]";

/// Whether this build holds the token view.
pub fn is_built() -> bool {
    REPORT.contains(SLOT)
}

/// Writes one self-contained HTML file with the token view of some rows.
pub fn run(args: InspectArgs) -> Result<()> {
    let Some((before, after)) = REPORT.split_once(SLOT) else {
        return Err(exit::with_code(
            exit::USAGE,
            "this build has no token view: build the page first (`cargo xtask build`), then the command",
        ));
    };
    let run = OpenRun::open(&args.run)?;
    run.refuse_inputs(Some(&args.out), args.data.as_deref())?;
    let rows = run.rows(args.data.as_deref(), Some(args.limit))?;
    let scored = run.score(&rows)?;
    let provenance = scored.records.first().map(|record| &record.provenance);
    run.introduce(
        provenance.unwrap_or_else(|| run.scorer.provenance()),
        rows.len(),
        &run.data_name(args.data.as_deref()),
    );
    // `<` never appears literally, so no text of a row can end the script element or open another.
    let json = serde_json::to_string(&scored.records)?.replace('<', "\\u003c");
    let html = format!("{before}{json}{after}");
    write_atomic(&args.out, html.as_bytes())?;
    say!(
        "wrote {} · {} answers · open it in any browser",
        args.out.display(),
        scored.records.len()
    );
    if args.json {
        let tokens: usize = scored.records.iter().map(|r| r.tokens.len()).sum();
        let value = serde_json::json!({
            "provenance": scored.records.first().map(|r| &r.provenance),
            "data": run.data_name(args.data.as_deref()),
            "answers": scored.records.len(),
            "tokens": tokens,
            "file": FileRecord::written(&args.out, html.as_bytes()),
        });
        print_line(&serde_json::to_string_pretty(&value)?)?;
    }
    Ok(())
}
