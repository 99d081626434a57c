//! `avascope laplace`.

use super::file_record::FileRecord;
use super::run_files::OpenRun;
use super::{print_line, wait};
use crate::args::LaplaceArgs;
use crate::exit;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;
use avascope::train::ignorance::{LaplaceFit, Over, PriorVariance};

/// Fits a Laplace approximation to a run and writes it beside its checkpoint.
pub fn run(args: LaplaceArgs) -> Result<()> {
    let asked = &args.run.ignorance;
    if asked.ignorance.is_some()
        || asked.laplace.is_some()
        || !asked.members.is_empty()
        || asked.names_dropout()
    {
        return Err(exit::with_code(
            exit::USAGE,
            "`avascope laplace` fits the file that `score`, `eval` and `inspect` read with --ignorance laplace; it takes no --ignorance itself (--out names the file)",
        ));
    }
    if args.run.credit != "own" {
        return Err(exit::with_code(
            exit::USAGE,
            "`avascope laplace` speaks of the method's own token rewards; leave --credit out",
        ));
    }
    let prior = match args.prior_variance {
        None => PriorVariance::Evidence,
        Some(variance) if variance.is_finite() && variance > 0.0 => PriorVariance::Given(variance),
        Some(variance) => {
            return Err(exit::with_code(
                exit::USAGE,
                format!("a prior variance of {variance} is none; use a number above 0"),
            ));
        }
    };
    let over = if args.over == "lora" {
        Over::Lora
    } else {
        Over::Head
    };
    let run = OpenRun::open_alone(&args.run)?;
    let data = args.data.as_deref().unwrap_or(&run.file.data);
    run.refuse_inputs(args.out.as_deref(), Some(data))?;
    let (rows, encoded) = run.training_rows(args.data.as_deref())?;
    let fit = wait(LaplaceFit::new(
        &run.scorer,
        (&rows, &encoded),
        (&run.digest, &run.summary.info.data_fingerprint),
        (over, prior),
    ))?;
    let path = args.out.as_deref().unwrap_or_else(|| run.laplace_path());
    let bytes = fit.to_bytes()?;
    write_atomic(path, &bytes)?;
    let summary = fit.summary();
    say!(
        "wrote     {} · {} training pairs · prior variance {:.3e} ({}) · log evidence {}\nnext      avascope score {} --ignorance laplace",
        path.display(),
        summary.pairs,
        summary.prior_variance,
        if summary.prior == "evidence" {
            "of largest evidence"
        } else {
            "given"
        },
        shown(summary.log_evidence),
        args.run.run.display()
    );
    if args.json {
        let value = serde_json::json!({
            "fit": summary,
            "file": FileRecord::written(path, &bytes),
        });
        print_line(&serde_json::to_string_pretty(&value)?)?;
    }
    Ok(())
}

/// A number with one decimal, or by its powers of ten where that would be a line of digits.
fn shown(value: f64) -> String {
    match value.abs() < 1e9 {
        true => format!("{value:.1}"),
        false => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_evidence_of_any_size_is_short() {
        for (value, text) in [
            (-1234.56, "-1234.6"),
            (-1e300, "-1.000e300"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}
