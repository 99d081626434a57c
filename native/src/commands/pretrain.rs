//! `avascope pretrain`: remakes the tiny decoder of the built-in world, by maximum likelihood on its corpus.

use super::{open_device, wait};
use crate::args::PretrainArgs;
use crate::folder::write_atomic;
use crate::progress::Progress;
use crate::talk::say;
use anyhow::Result;
use avascope::train::{Run, TrainConfig, Trainable, world_corpus, world_decoder_at_random};

/// Trains and writes the decoder.
pub fn run(args: PretrainArgs) -> Result<()> {
    let device = open_device("cpu")?;
    let config = TrainConfig {
        method: "ava_d".into(),
        // The supervised fine-tuning limit: with no prior and no temporal-difference term AVA-d is cross-entropy.
        options: serde_json::json!({"lambda": 0.0, "kappa": 0.0}),
        seed: args.seed,
        steps: args.steps,
        batch_size: 64,
        learning_rate: 3e-3,
        trainable: Trainable::Full,
        eval_steps: 200,
        ..TrainConfig::default()
    };
    let model = world_decoder_at_random(args.seed, &device.device)?;
    let (train, held_out) = world_corpus(20_000, args.seed);
    let mut run = Run::new(config, model, train, held_out, device)?;
    let mut progress = Progress::new(false);
    progress.show(&run.started());
    while run.finished().is_none() {
        for event in wait(run.advance())? {
            progress.show(&event);
        }
    }
    let files = wait(avascope::train::export_model(run.model()))?;
    if let Some((_, bytes)) = files.iter().find(|(name, _)| name == "model.safetensors") {
        // Half the bytes in the page's module; `world_model` reads either type.
        let bytes = avascope::model::safetensors::to_f16(bytes)?;
        write_atomic(&args.out, &bytes)?;
        say!("wrote {} ({} bytes)", args.out.display(), bytes.len());
    }
    Ok(())
}
