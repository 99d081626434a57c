//! `avascope convert`.

use super::file_record::FileRecord;
use super::run_files::OpenRun;
use super::{open_device, print_line, wait};
use crate::args::{ConvertArgs, ModelArgs, RunArgs};
use crate::folder::{is_part_of_run, write_atomic};
use crate::talk::say;
use crate::{exit, models};
use anyhow::Result;
use avascope::model::Lora;
use avascope::train::LoadedModel;
use std::path::{Path, PathBuf};

/// Writes a model, or what a run made of it, as a Hugging Face directory: config.json, model.safetensors (f32), tokenizer.json and its config.
pub fn run(args: ConvertArgs) -> Result<()> {
    let is_run = args.to.join("run.toml").exists() || args.to.join("checkpoints").exists();
    if is_run || is_part_of_run(&args.to) {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} is a run's folder, and a model's files would lie between its own; choose another folder",
                args.to.display()
            ),
        ));
    }
    if args.to.join("config.json").exists() {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} already holds a model; choose another folder",
                args.to.display()
            ),
        ));
    }
    let mut model = if Path::new(&args.from).join("run.toml").is_file() {
        trained(&args)?
    } else {
        let device = open_device("cpu")?;
        models::open(&args.from, args.tokenizer.as_deref(), &device)?
    };
    // A Hugging Face directory stands alone: an adapter is added into the weights.
    model.decoder = Lora::merge(model.decoder);
    let parameters = model.decoder.parameters();
    let mut files = Vec::new();
    for (name, bytes) in wait(avascope::train::export_model(&model))? {
        let path = args.to.join(&name);
        write_atomic(&path, &bytes)?;
        say!("wrote {} ({} bytes)", path.display(), bytes.len());
        if args.json {
            files.push(FileRecord::written(&path, &bytes));
        }
    }
    say!("{} · {parameters} parameters", args.from);
    if args.json {
        let value = serde_json::json!({
            "from": args.from,
            "path": args.to.display().to_string(),
            "parameters": parameters,
            "files": files,
        });
        print_line(&serde_json::to_string_pretty(&value)?)?;
    }
    Ok(())
}

/// The model of a run's last checkpoint.
fn trained(args: &ConvertArgs) -> Result<LoadedModel> {
    let run = OpenRun::open(&RunArgs {
        run: PathBuf::from(&args.from),
        checkpoint: None,
        model: ModelArgs {
            model: None,
            tokenizer: args.tokenizer.clone(),
        },
        reference: args.reference.clone(),
        device: "cpu".into(),
        batch_size: None,
        credit: "own".into(),
        ignorance: Default::default(),
    })?;
    Ok(run.scorer.model().clone())
}
