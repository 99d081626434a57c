//! `avascope laplace`.

use super::run_files::OpenRun;
use super::wait;
use crate::args::LaplaceArgs;
use crate::exit;
use crate::folder::write_atomic;
use crate::talk::say;
use anyhow::Result;
use avascope::train::ignorance::{LaplaceFit, Over, PriorVariance};

/// Fits a Laplace approximation to a run and writes it beside its checkpoint.
pub fn run(args: LaplaceArgs) -> Result<()> {
    let asked = &args.run.ignorance;
    if asked.ignorance.is_some() || asked.laplace.is_some() || !asked.members.is_empty() {
        return Err(exit::with_code(
            exit::USAGE,
            "`avascope laplace` fits the file that `score`, `eval` and `inspect` read with --ignorance laplace; it takes no --ignorance itself (--out names the file)",
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
    write_atomic(path, &fit.to_bytes()?)?;
    let summary = fit.summary();
    say!(
        "wrote     {} · {} training pairs · prior variance {:.3e} ({}) · log evidence {:.1}\nnext      avascope score {} --ignorance laplace",
        path.display(),
        summary.pairs,
        summary.prior_variance,
        if summary.prior == "evidence" {
            "of largest evidence"
        } else {
            "given"
        },
        summary.log_evidence,
        args.run.run.display()
    );
    Ok(())
}
