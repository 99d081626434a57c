//! `avascope convert`.

use super::{open_device, wait};
use crate::args::ConvertArgs;
use crate::folder::write_atomic;
use crate::{exit, models};
use anyhow::Result;

/// Writes a model as a Hugging Face directory: config.json, model.safetensors (f32), tokenizer.json and its config.
pub fn run(args: ConvertArgs) -> Result<()> {
    if args.to.join("config.json").exists() {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} already holds a model; choose another folder",
                args.to.display()
            ),
        ));
    }
    let device = open_device("cpu")?;
    let model = models::open(&args.from, args.tokenizer.as_deref(), &device)?;
    let summary = format!("{} parameters", model.decoder.parameters());
    for (name, bytes) in wait(avascope::train::export_model(&model))? {
        write_atomic(&args.to.join(&name), &bytes)?;
        eprintln!(
            "wrote {} ({} bytes)",
            args.to.join(&name).display(),
            bytes.len()
        );
    }
    eprintln!("{} · {summary}", args.from);
    Ok(())
}
