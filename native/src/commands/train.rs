//! `avascope train`.

use super::run_files::{Checkpoint, RunFile, needs_rows, training_rows, warn_of_known};
use super::{Lines, open_device, wait, watch_interrupts};
use crate::args::TrainArgs;
use crate::folder::{self, RunFolder, checkpoint_name};
use crate::progress::Progress;
use crate::talk::say;
use crate::{exit, models};
use anyhow::{Context as _, Result};
use avascope::objective::RowKind;
use avascope::plain::plain_words;
use avascope::train::{Event, Run, Trainable, checkpoint_digest};
use avascope::world::rows_to_jsonl;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// The log of a run: every event, one JSON value a line.
const LOG: &str = "metrics.jsonl";

/// Trains, from the configuration file and flags to the last checkpoint.
pub fn run(args: TrainArgs) -> Result<()> {
    let start = args.resume_from.as_deref().map(Checkpoint::open);
    let start = start.transpose()?;
    let mut file = resolve(&args, start.as_ref())?;
    if let Some(start) = &start {
        start.check_method(&file.train.method)?;
    }
    let objective = file.train.check()?;
    let demonstrations = objective.rows() == RowKind::Demonstrations;
    if file.against.is_some() && !objective.takes_unpaired() {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "--against goes with a method that learns from two sets of answers (irl_margin), and `{}` is none",
                file.train.method
            ),
        ));
    }
    if file.reference.is_some() && !objective.needs_reference() {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "--reference (`reference` in a file of settings) goes with a method whose policy is held against another one (dpo), and `{}` is none",
                file.train.method
            ),
        ));
    }
    let out = file
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&file.train.method));
    file.out = Some(out.clone());
    file.clone().with_absolute_paths().check_paths()?;

    // A folder that is there is locked before anything is loaded; a new one is made once everything is known to load, so
    // that a slip of the pen leaves no empty folder behind.
    let existing = if out.exists() {
        Some(open_folder(&out, args.resume)?)
    } else if args.resume {
        return Err(nothing_to_resume(&out));
    } else {
        None
    };

    let device = open_device(&file.device)?;
    let (tokenizer, reference) = (file.tokenizer.as_deref(), file.reference.as_deref());
    let model = models::open_with_reference(&file.model, tokenizer, reference, &device)?;
    let (train, held_out) = training_rows(&file, demonstrations)?;
    if file.eval_data.is_some() {
        warn_of_known(&train, &held_out);
    }
    let held_out_jsonl = rows_to_jsonl(&held_out);
    let mut run = Run::new(file.train.clone(), model, train, held_out, device)?;
    if let Some(start) = &start {
        let (own, found) = (&start.summary.info, run.info());
        if own.data_fingerprint != found.data_fingerprint {
            return Err(start.other_rows(&found.data_fingerprint, &file.data));
        }
        wait(run.restore(&start.bytes)).with_context(|| start.path.display().to_string())?;
        refuse_steps_back(&run, &start.path)?;
    }

    let folder = match existing {
        Some(folder) => folder,
        None => open_folder(&out, false)?,
    };
    let last = match args.resume {
        true => Checkpoint::newest(&out).map_err(|error| Checkpoint::or_older(error, &out))?,
        false => None,
    };
    if let Some(last) = last {
        let restored = wait(run.restore(&last.bytes));
        if let Err(error) = restored.with_context(|| last.path.display().to_string()) {
            // Settings, rows or a model that do not fit are no damage.
            return Err(match checkpoint_digest(&last.bytes) {
                Ok(_) => error,
                Err(_) => Checkpoint::or_older(error, &out),
            });
        }
        refuse_steps_back(&run, &out)?;
        forget_after(&folder, run.steps_taken())?;
    } else {
        // What a run that ended before its first checkpoint left: its steps are not this run's.
        match fs::remove_file(folder.path().join(LOG)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| {
                    format!("cannot remove {}", folder.path().join(LOG).display())
                });
            }
            _ => {}
        }
        folder.write("held_out.jsonl", held_out_jsonl.as_bytes())?;
    }
    let keep = file.save_total_limit;
    folder.write("run.toml", file.with_absolute_paths().to_toml()?.as_bytes())?;
    if let Some(start) = start {
        // The folder can be gone on with from its first moment.
        folder.write(&checkpoint_name(run.steps_taken()), &start.bytes)?;
    }
    drive(&mut run, &folder, keep, &args)
}

/// Refuses a plan of fewer steps than were taken before `from` was written.
fn refuse_steps_back(run: &Run, from: &Path) -> Result<()> {
    let (taken, steps) = (run.steps_taken(), run.config().steps);
    if taken <= steps {
        return Ok(());
    }
    Err(exit::with_code(
        exit::USAGE,
        format!(
            "{} has taken {taken} steps, and `steps` is {steps}: a run goes on and takes none back; ask for more steps, or begin another run",
            from.display()
        ),
    ))
}

/// Locks a run's folder. One that holds a checkpoint or a trained model is not written over, and only one with a checkpoint
/// is gone on with. Where a run ended before its first checkpoint nothing is lost, and it may be begun again.
fn open_folder(out: &Path, resume: bool) -> Result<RunFolder> {
    let folder = RunFolder::open(out)?;
    let begun = !folder.checkpoints().is_empty();
    if resume && !begun {
        return Err(nothing_to_resume(out));
    }
    let trained = out.join("final").exists();
    if !resume && !begun && !trained && out.join("run.toml").exists() {
        say!(
            "note      {} holds a run that ended before its first checkpoint; it is begun again",
            out.display()
        );
    }
    if !resume && (begun || trained) {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "{} already holds a run; go on with --resume, or choose another --out",
                out.display()
            ),
        ));
    }
    Ok(folder)
}

fn nothing_to_resume(out: &Path) -> anyhow::Error {
    exit::with_code(
        exit::USAGE,
        format!(
            "{} has no complete checkpoint to resume from; start without --resume",
            out.display()
        ),
    )
}

/// Takes the steps after the checkpoint out of the log: they are taken again. A line that was being written when the
/// program ended goes, too.
fn forget_after(folder: &RunFolder, step: usize) -> Result<()> {
    let Ok(log) = fs::read_to_string(folder.path().join(LOG)) else {
        return Ok(());
    };
    let stays = |line: &&str| {
        serde_json::from_str::<Event>(line).is_ok_and(|event| match event {
            Event::Started { .. } => true,
            Event::Step { step: at, .. }
            | Event::Evaluation { step: at, .. }
            | Event::Tokens { step: at, .. }
            | Event::Checkpoint { step: at, .. } => at <= step,
            // The run goes on.
            Event::Finished { .. } | Event::Failed { .. } => false,
        })
    };
    let kept: String = log
        .lines()
        .filter(stays)
        .flat_map(|line| [line, "\n"])
        .collect();
    folder.write(LOG, kept.as_bytes()).map(drop)
}

/// Whether a step of so many parameters takes a device longer to begin its kernels than to run them. Measured with the built-in
/// model, 0.1 million: 33 to 41 ms a step on an H200 by way of Vulkan, 16 by way of CUDA, 11 on the processor beside it.
fn launches_are_the_most(backend: &str, parameters: usize) -> bool {
    backend != "cpu" && parameters < 1_000_000
}

/// Takes steps until the run ends or a person presses Ctrl-C, and tells every listener. Of its checkpoints the newest `keep`
/// stay.
fn drive(run: &mut Run, folder: &RunFolder, keep: usize, args: &TrainArgs) -> Result<()> {
    let interrupted = watch_interrupts("save a checkpoint");
    let log_path = folder.path().join(LOG);
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut progress = Progress::new(args.quiet);
    let mut printed = Lines::default();
    let mut tell = |event: &Event| -> Result<()> {
        let line = serde_json::to_string(event)?;
        writeln!(log, "{line}").with_context(|| format!("cannot write {}", log_path.display()))?;
        if args.json {
            printed.line(&line);
        }
        progress.show(event);
        Ok(())
    };

    tell(&run.started())?;
    if run.finished().is_some() && !args.quiet {
        let step = run.steps_taken();
        say!("note      the run is complete after {step} steps; raise --steps to go on");
    }
    let (device, numbers) = (&run.info().device, run.info().parameters);
    if run.finished().is_none() && !args.quiet && launches_are_the_most(&device.backend, numbers) {
        say!(
            "note      a model this small keeps a graphics device waiting for launches; --device cpu is faster on most machines"
        );
    }
    let save_steps = run.config().save_steps;
    let next = match run.steps_taken().checked_div(save_steps) {
        Some(before) => (before + 1).saturating_mul(save_steps),
        None => usize::MAX,
    };
    // Where early stopping looks for the best step, that one is saved.
    let best_is_saved = run.config().early_stopping_patience > 0
        && run.config().eval_steps < run.config().steps
        && !run.held_out().is_empty();
    let nothing = next >= run.config().steps && !best_is_saved;
    if run.finished().is_none() && nothing && !args.quiet {
        say!(
            "note      nothing is saved before the end, except at Ctrl-C; --save-steps N saves every N steps"
        );
    }
    // What was resumed is saved already.
    let resumed = args.resume || args.resume_from.is_some();
    let mut saved = resumed.then(|| run.steps_taken());
    let save = |run: &Run| -> Result<Event> {
        let step = run.steps_taken();
        let name = checkpoint_name(step);
        folder.write(&name, &wait(run.checkpoint())?)?;
        folder.keep_newest(keep, step, run.best_step());
        Ok(Event::Checkpoint { step, name })
    };
    while run.finished().is_none() {
        let mut events = Vec::new();
        let advanced = wait(run.advance_into(&mut events));
        events.iter().try_for_each(&mut tell)?;
        advanced?;
        let step = run.steps_taken();
        let stop = interrupted.load(Ordering::SeqCst);
        let due = save_steps > 0 && step.is_multiple_of(save_steps);
        // The best step so far, which is kept for whoever wants it of a run that stops early, need not be due.
        let best = run.best_step() == Some(step);
        if stop || run.finished().is_some() || due || best {
            tell(&save(run)?)?;
            saved = Some(step);
        }
        if stop && run.finished().is_none() {
            tell(&run.stopped())?;
            return Err(exit::with_code(
                exit::INTERRUPTED,
                format!(
                    "interrupted after step {step}; the checkpoint is complete. Go on with: avascope train --out {} --resume",
                    folder.path().display()
                ),
            ));
        }
    }
    if saved != Some(run.steps_taken()) {
        tell(&save(run)?)?;
    }
    for (name, bytes) in wait(run.export())? {
        folder.write(&format!("final/{name}"), &bytes)?;
    }
    let log = fs::read_to_string(&log_path)
        .with_context(|| format!("cannot read {}", log_path.display()))?;
    let state = serde_json::to_vec_pretty(&trainer_state(run, &log))?;
    folder.write("final/trainer_state.json", &state)?;
    if !args.quiet {
        let folder = folder.path().display();
        // A build without the page has no token view to offer.
        let inspect = match super::inspect::is_built() {
            true => format!("    or    avascope inspect {folder} --out map.html"),
            false => String::new(),
        };
        say!("wrote     {folder}\nnext      avascope eval {folder}{inspect}");
    }
    printed.finish()
}

/// The run's history as transformers' trainer leaves it beside a model: `log_history` has an entry a step and evaluation.
fn trainer_state(run: &Run, log: &str) -> Value {
    let history: Vec<Value> = log
        .lines()
        .filter_map(|line| match serde_json::from_str(line).ok()? {
            Event::Step { step, metrics, .. } | Event::Evaluation { step, metrics } => {
                let mut entry = serde_json::to_value(metrics).ok()?;
                entry["step"] = step.into();
                Some(entry)
            }
            _ => None,
        })
        .collect();
    let epoch = history.iter().rev().find_map(|entry| entry.get("epoch"));
    let config = run.config();
    serde_json::json!({
        "epoch": epoch,
        "global_step": run.steps_taken(),
        "max_steps": config.steps,
        "train_batch_size": config.batch_size,
        "logging_steps": 1,
        "eval_steps": config.eval_steps,
        "save_steps": config.save_steps,
        "log_history": history,
    })
}

/// File, then flags, then defaults.
fn resolve(args: &TrainArgs, start: Option<&Checkpoint>) -> Result<RunFile> {
    // A run that goes on keeps its settings, unless a file of settings is named.
    let own = args.out.as_ref().map(|out| out.join("run.toml"));
    // Whether it is said after how many steps a checkpoint is written. The page, which saves by the clock, says 0.
    let mut saves = args.save_steps.is_some();
    let mut file = match (&args.config, start, own) {
        (Some(path), _, _) => {
            let (file, says) = RunFile::read(path)?;
            saves |= says;
            file
        }
        (None, Some(start), _) => {
            let file = RunFile::of_checkpoint(&start.summary);
            saves |= file.train.save_steps > 0;
            file
        }
        (None, None, Some(own)) if args.resume && own.is_file() => {
            saves = true;
            RunFile::of_run(&own)?
        }
        (None, None, Some(own))
            if args.resume
                && args
                    .out
                    .as_deref()
                    .is_some_and(|out| !folder::checkpoints(out).is_empty()) =>
        {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "there is no {}, which holds the run's settings; name a file of them with --config",
                    own.display()
                ),
            ));
        }
        _ => RunFile::default(),
    };
    let world = args.data.as_ref().unwrap_or(&file.data) == models::WORLD;
    if args.world_rows.is_some() && !world {
        return Err(exit::with_code(
            exit::USAGE,
            "--world-rows goes with --data world; --limit takes the first rows of a file",
        ));
    }
    macro_rules! take_flag {
        ($($from:expr => $to:expr),* $(,)?) => { $(if let Some(value) = $from.clone() { $to = value; })* };
    }
    take_flag!(
        args.model.model => file.model,
        args.data => file.data,
        args.world_rows => file.world_rows,
        args.device => file.device,
        args.method => file.train.method,
        args.seed => file.train.seed,
        args.steps => file.train.steps,
        args.batch_size => file.train.batch_size,
        args.gradient_accumulation_steps => file.train.gradient_accumulation_steps,
        args.learning_rate => file.train.learning_rate,
        args.warmup_ratio => file.train.warmup_ratio,
        args.weight_decay => file.train.weight_decay,
        args.max_grad_norm => file.train.max_grad_norm,
        args.group_by_length => file.train.group_by_length,
        args.max_length => file.train.max_length,
        args.held_out => file.train.held_out,
        args.eval_steps => file.train.eval_steps,
        args.eval_rows => file.train.eval_rows,
        args.save_steps => file.train.save_steps,
        args.early_stopping_patience => file.train.early_stopping_patience,
    );
    if !saves {
        file.train.save_steps = file.train.eval_steps;
    }
    file.save_total_limit = args.save_total_limit.unwrap_or(file.save_total_limit);
    file.tokenizer = args.model.tokenizer.clone().or(file.tokenizer);
    file.reference = args.reference.clone().or(file.reference);
    file.against = args.against.clone().or(file.against);
    file.eval_data = args.eval_data.clone().or(file.eval_data);
    file.out = args.out.clone().or(file.out);
    file.limit = args.limit.or(file.limit);
    file.train.head_learning_rate = args.head_learning_rate.or(file.train.head_learning_rate);
    if let Some(name) = &args.lr_scheduler_type {
        file.train.lr_scheduler_type = word("lr-scheduler-type", name)?;
    }
    if let Some(name) = &args.truncation {
        file.train.truncation = word("truncation", name)?;
    }
    if let Some(wanted) = args.trainable.as_deref().and_then(Trainable::named) {
        // An adapter keeps the settings that a file gave it.
        let kept = matches!(
            (&wanted, &file.train.trainable),
            (Trainable::Lora(_), Trainable::Lora(_))
        );
        if !kept {
            file.train.trainable = wanted;
        }
    }
    if args.lora_r.is_some() || args.lora_alpha.is_some() || args.lora_targets.is_some() {
        let Trainable::Lora(lora) = &mut file.train.trainable else {
            return Err(exit::with_code(
                exit::USAGE,
                "--lora-r, --lora-alpha and --lora-targets go with --trainable lora",
            ));
        };
        lora.r = args.lora_r.unwrap_or(lora.r);
        lora.alpha = args.lora_alpha.unwrap_or(lora.alpha);
        if let Some(targets) = &args.lora_targets {
            lora.targets.clone_from(targets);
        }
    }
    for option in &args.options {
        let (name, value) = option.split_once('=').ok_or_else(|| {
            exit::with_code(
                exit::USAGE,
                format!("--option takes NAME=VALUE, and got `{option}`"),
            )
        })?;
        // A value that is not JSON is a word: `cer=logsigmoid` needs no quotes. Neither is a number beyond all bounds.
        if value
            .parse::<f64>()
            .is_ok_and(|number| number.is_infinite())
            && value.contains(|c: char| c.is_ascii_digit())
        {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "--option {option}: {value} is larger than any number that can be counted with; the largest is 1.8e308"
                ),
            ));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        match file.train.options.as_object_mut() {
            Some(options) => options.insert(name.into(), value),
            None => {
                return Err(exit::with_code(
                    exit::USAGE,
                    "`train.options` must be a table of the method's switches",
                ));
            }
        };
    }
    if let Some(start) = start {
        if file.model.is_empty() {
            return Err(start.needs_model());
        }
        if file.data.is_empty() {
            return Err(needs_rows(&start.path));
        }
    }
    if file.limit == Some(0) {
        return Err(exit::with_code(
            exit::USAGE,
            "`limit` is 0, which leaves no row; take at least 1",
        ));
    }
    Ok(file)
}

/// A setting by its name in files of settings.
fn word<T: DeserializeOwned>(flag: &str, name: &str) -> Result<T> {
    serde_json::from_value(name.into()).map_err(|error| {
        let said = plain_words(&error.to_string());
        exit::with_code(exit::USAGE, format!("--{flag} {name}: {said}"))
    })
}
