//! `avascope bench`.

use super::kernels::{self, kernels};
use super::{open_device, print_line, wait};
use crate::args::BenchArgs;
use crate::talk::say;
use crate::{exit, models};
use anyhow::Result;
use avascope::text::{EncodeOptions, Truncation};
use avascope::train::{
    BenchPlan, BenchReport, EncodedRow, LoadedModel, Seconds, SkippedRow, Trainable, bench,
    encode_usable_rows,
};
use std::path::Path;

/// Measures made-up steps and says what they cost.
pub fn run(args: BenchArgs) -> Result<()> {
    let device = open_device(&args.device)?;
    if args.kernels && device.info.backend == "cpu" {
        return Err(exit::with_code(
            exit::USAGE,
            "--kernels times the kernels of a GPU device, and this is the CPU; name a device, such as `--device vulkan`",
        ));
    }
    let source = args.model.model.as_deref().unwrap_or(models::WORLD);
    let model = models::open(source, args.model.tokenizer.as_deref(), &device)?;
    let score_rows = (args.data.as_deref())
        .map(|path| rows(path, args.score_pairs, &model))
        .transpose()?;
    let plan = BenchPlan {
        pairs: args.pairs,
        tokens: args.tokens,
        prompt: args.prompt.unwrap_or((args.tokens / 4).max(1)),
        steps: args.steps,
        score_pairs: args.score_pairs,
        score_rows,
        trainable: Trainable::named(&args.trainable).unwrap_or_default(),
    };
    let report = wait(bench(model, &plan, device))?;
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = peak_memory();
    let kernels = (args.kernels)
        .then(|| kernels(&args, &report.products))
        .transpose()?;
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        value["threads"] = threads.into();
        value["peak_memory_bytes"] = memory.into();
        if let Some(kernels) = kernels {
            value["kernels"] = serde_json::to_value(kernels)?;
        }
        value["trainable"] = args.trainable.into();
        return print_line(&serde_json::to_string_pretty(&value)?);
    }
    table(&report, &args.trainable, threads, memory)
        .iter()
        .chain(&kernels.iter().flat_map(kernels::table).collect::<Vec<_>>())
        .try_for_each(|line| print_line(line))
}

/// The first rows of a file, as tokens of the model.
fn rows(path: &Path, most: usize, model: &LoadedModel) -> Result<Vec<EncodedRow>> {
    let rows = crate::files::read_rows(path)?;
    let options = EncodeOptions {
        max_length: model.decoder.config.max_position,
        truncation: Truncation::default(),
        append_eos: true,
    };
    let (mut usable, skipped) = encode_usable_rows(&rows, &model.tokenizer, &options)?;
    if let Some(sentence) = SkippedRow::sentence(&skipped) {
        say!("warning   {sentence}");
    }
    usable.truncate(most);
    if usable.is_empty() {
        return Err(exit::with_code(
            exit::DATA,
            format!("{}: no row is left to score", path.display()),
        ));
    }
    Ok(usable)
}

fn table(
    report: &BenchReport,
    trainable: &str,
    threads: usize,
    memory: Option<u64>,
) -> Vec<String> {
    let device = &report.device;
    let time = |seconds: Seconds| {
        format!(
            "{:>9}   ({} to {})",
            duration(seconds.median),
            duration(seconds.min),
            duration(seconds.max)
        )
    };
    let mut lines = vec![
        format!(
            "{} · {:.1} M parameters, training {trainable} · {} · {} · {} · {threads} threads",
            report.model,
            report.parameters as f64 / 1e6,
            device.backend,
            device.adapter,
            device.precision
        ),
        format!(
            "{} sequences of {} tokens a step, {} answer positions, {} counted steps; medians (shortest to longest)",
            report.sequences,
            report.tokens,
            report.answer_positions,
            report.losses.len()
        ),
        String::new(),
        format!("training step    {}", time(report.step)),
        format!("  forward        {}", time(report.forward)),
        format!("  backward       {}", time(report.backward)),
        format!("  optimiser      {}", time(report.optimizer)),
        format!(
            "training         {:>9.0} tokens/s",
            report.train_tokens_per_second
        ),
    ];
    if report.score_pairs > 0 {
        lines.push(format!(
            "scoring          {:>9.0} tokens/s   ({} pairs in {})",
            report.score_tokens_per_second,
            report.score_pairs,
            duration(report.score_seconds)
        ));
    }
    lines.push(format!(
        "matrix products  {:>9.1} GFLOP/s at best here ({n} x {n}); a step's {:.1} GFLOP would take {:.0} % of its time at that rate",
        report.peak_gflops,
        report.step_gflop,
        100.0 * report.step_peak_share,
        n = report.peak_size
    ));
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / (1 << 20) as f64);
    lines.push(format!(
        "peak memory      {:>9}{}",
        memory.map_or("not known".into(), mib),
        match report.device_memory_bytes {
            Some(bytes) => format!(" of the process, {} held on the device", mib(bytes)),
            None => String::new(),
        }
    ));
    lines
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", 1e3 * seconds)
    } else {
        format!("{seconds:.2} s")
    }
}

/// The largest resident set of this process so far, in bytes, where the system says it (Linux).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
