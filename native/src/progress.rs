//! Training events for people: a progress bar on a terminal, plain lines elsewhere, always on standard error.

use crate::talk::say;
use avascope::train::{Event, Metrics};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Instant;

/// A listener of a run's events.
pub struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    first_step: usize,
    quiet: bool,
}

impl Progress {
    /// A listener; `quiet` says nothing but warnings.
    pub fn new(quiet: bool) -> Self {
        Self {
            bar: None,
            began: Instant::now(),
            first_step: 0,
            quiet,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Started { step, run } => {
                self.began = Instant::now();
                self.first_step = *step;
                if self.quiet {
                    for warning in &run.warnings {
                        say!("warning   {warning}");
                    }
                    return;
                }
                let note = run
                    .device
                    .note
                    .as_ref()
                    .map(|n| format!(" ({n})"))
                    .unwrap_or_default();
                say!(
                    "device    {} · {} · {}{note}",
                    run.device.backend,
                    run.device.adapter,
                    run.device.precision
                );
                say!(
                    "model     {} · {} parameters, {} train",
                    run.model,
                    run.parameters,
                    run.trainable_parameters
                );
                if let Some(reference) = &run.reference {
                    say!("reference {reference}");
                }
                say!(
                    "data      {} rows train, {} held out · {}",
                    run.train_rows,
                    run.held_out_rows,
                    &run.data_fingerprint[..12.min(run.data_fingerprint.len())]
                );
                say!(
                    "method    {} · {} steps · seed {}",
                    run.method,
                    run.total_steps,
                    run.seed
                );
                for warning in &run.warnings {
                    say!("warning   {warning}");
                }
                if *step > 0 {
                    say!("resumed   after step {step}");
                }
                if std::io::stderr().is_terminal() {
                    let bar = ProgressBar::new(run.total_steps as u64);
                    if let Ok(style) =
                        ProgressStyle::with_template("{bar:24} {pos}/{len} · {msg} · {eta} left")
                    {
                        bar.set_style(style);
                    }
                    bar.set_position(*step as u64);
                    self.bar = Some(bar);
                }
            }
            Event::Step {
                step,
                total_steps,
                metrics,
            } => {
                let words = words(metrics, &["loss", "rewards/accuracies", "grad_norm"]);
                if let Some(bar) = &self.bar {
                    bar.set_position(*step as u64);
                    bar.set_message(words);
                } else if !self.quiet
                    && (*step <= 3 || step.is_multiple_of(10) || step == total_steps)
                {
                    let rate = (*step - self.first_step) as f64
                        / self.began.elapsed().as_secs_f64().max(1e-9);
                    let left = (*total_steps - *step) as f64 / rate.max(1e-9);
                    say!("step {step}/{total_steps}  {words}  {rate:.2} steps/s  {left:.0} s left");
                }
            }
            Event::Evaluation { step, metrics } => {
                let line = format!("eval at {step}: {}", words(metrics, &[]));
                match &self.bar {
                    Some(bar) => bar.println(line),
                    None if !self.quiet => say!("{line}"),
                    None => {}
                }
            }
            Event::Checkpoint { step, name } => {
                if !self.quiet && self.bar.is_none() {
                    say!("checkpoint after step {step}: {name}");
                }
            }
            Event::Finished { step, reason } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                if !self.quiet {
                    say!(
                        "finished after step {step}: {reason:?}, {:.1} s",
                        self.began.elapsed().as_secs_f64()
                    );
                }
            }
            // The error that ends the command says what failed.
            Event::Tokens { .. } | Event::Failed { .. } => {}
        }
    }
}

impl Drop for Progress {
    /// A run that ends early leaves its bar where it stood, and what is said next begins on a line of its own.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}

fn words(metrics: &Metrics, only: &[&str]) -> String {
    metrics
        .iter()
        .filter(|(name, _)| only.is_empty() || only.contains(&name.as_str()))
        .map(|(name, value)| format!("{} {value:.4}", name.trim_start_matches("eval_")))
        .collect::<Vec<_>>()
        .join("  ")
}
