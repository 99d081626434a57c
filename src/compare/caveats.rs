//! What a reader should know before believing a figure: said from the results, in sentences.

use super::plan::{Plan, System};
use super::results::{Results, SystemResult};
use crate::reward::Uncertainty;
use serde_json::Value;

/// Fewer seeds than this say little of the spread over seeds.
const FEW_SEEDS: usize = 5;

pub(super) fn caveats(results: &Results, plan: &Plan) -> Vec<String> {
    let mut all = vec![format!(
        "Every figure is measured on the same {} test rows, which no method trained or was tuned on. Intervals are 95 % and come from {} resamples of these rows and of the seeds: they say what these rows leave open, not how another data set would turn out.",
        results.data.test.rows, results.config.resamples
    )];
    if !results.checks.is_empty() {
        all.push("Truths with rows of their own are measured on those. Every truth leaves out rows of which an answer was trained or tuned on. Its intervals are each seed's own, over answers, and are not corrected for the number of systems and truths.".into());
    }
    if !results.ignorance.is_empty() {
        all.push("Intervals of the figures of ignorance are over rows alone, each seed's own and then averaged: they say nothing of another seed, and the standard deviation beside them does.".into());
    }
    all.extend(results.comparisons.first().map(|comparison| {
        format!(
            "\"ahead\" and \"behind\" compare with `{}` on the same rows and seeds, at a p-value below 0.05 after Holm's correction over the {} systems of each figure. The intervals of differences are not corrected.",
            comparison.baseline,
            comparison.differences.len()
        )
    }));
    let seeds = results.config.seeds.len();
    if seeds < FEW_SEEDS {
        all.push(format!(
            "{seeds} seed{} say little of the spread over seeds: intervals are too narrow for it. Use {FEW_SEEDS} or more for a claim.",
            if seeds == 1 { "" } else { "s" }
        ));
    }
    if plan.baseline.is_none() {
        all.push("No baseline is listed (`bradley_terry_sum`, or `baseline = \"LABEL\"`): systems are not compared with each other.".into());
    }
    shared(plan, &mut all);
    tuning(results, plan, &mut all);
    let spread = labels(results, |s| s.uncertainty == Uncertainty::TdSpread);
    if !spread.is_empty() {
        all.push(format!(
            "Sigma of {} is the spread of one-sample temporal-difference residuals, shrunk to the prior. It does not shrink as data grows: it is not ignorance, and coverage of the true rewards is shown for what it is.",
            spread.join(", ")
        ));
    }
    let other = labels(results, |s| s.uncertainty == Uncertainty::PreferenceSpread);
    if !other.is_empty() {
        all.push(format!(
            "Sigma of {} is trained by the likelihood of preferences together with the prior. Nothing here shows that it is ignorance.",
            other.join(", ")
        ));
    }
    let has_known = results
        .systems
        .iter()
        .any(|system| !system.scatter.is_empty());
    if has_known {
        all.push("Errors, coverage and sharpness against known rewards are measured after the one positive scale and offset that fit each seed's test tokens best: a preference leaves both open. Correlations need no such map.".into());
        all.push("F1 is that of undesirable tokens, those with a known reward of at most 0: by the sign of the learned reward as it is, and with a fitted zero, after the same scale and offset.".into());
    }
    for system in &results.systems {
        if !system.failed_seeds.is_empty() {
            all.push(format!(
                "Training of {} diverged with seed{} {}; its figures are over the other seeds.",
                system.label,
                if system.failed_seeds.len() == 1 {
                    ""
                } else {
                    "s"
                },
                list(&system.failed_seeds)
            ));
        }
    }
    let alone: Vec<&str> = labels(results, |s| s.learns_from != "pairs");
    if !alone.is_empty() && results.systems.len() > alone.len() {
        all.push(format!(
            "{} learn{} from the chosen answers alone and never see{} a rejected one.",
            alone.join(", "),
            if alone.len() == 1 { "s" } else { "" },
            if alone.len() == 1 { "s" } else { "" }
        ));
    }
    rows(results, &mut all);
    all
}

/// Systems that are read off the same trainings.
fn shared(plan: &Plan, all: &mut Vec<String>) {
    for (i, system) in plan.systems.iter().enumerate() {
        let same = |other: &&System| other.trials == system.trials;
        // Systems that tune choose each for itself.
        if system.trials.len() > 1 || plan.systems[..i].iter().any(|other| same(&other)) {
            continue;
        }
        let labels: Vec<&str> = plan.systems[i..]
            .iter()
            .filter(same)
            .map(|system| system.label.as_str())
            .collect();
        if labels.len() > 1 {
            all.push(format!(
                "{} are read off the same trainings: they differ in the way to token rewards alone.",
                labels.join(", ")
            ));
        }
    }
}

fn labels(results: &Results, which: impl Fn(&SystemResult) -> bool) -> Vec<&str> {
    results
        .systems
        .iter()
        .filter(|system| which(system))
        .map(|system| system.label.as_str())
        .collect()
}

fn list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn tuning(results: &Results, plan: &Plan, all: &mut Vec<String>) {
    if !plan.tunes() {
        all.push("Nothing was tuned: all methods use the same settings, which may suit some better than others.".into());
        return;
    }
    all.push(format!(
        "Tuned values were chosen by pair accuracy on {} validation rows with {} of the seeds, apart from the test rows.",
        results.data.validation.rows,
        plan.tune_seeds()
    ));
    if results.config.unequal_trials {
        let counts: Vec<String> = results
            .systems
            .iter()
            .map(|system| format!("{} {}", system.label, system.trials.len()))
            .collect();
        all.push(format!(
            "The methods had different numbers of tuning trials ({}): those with more had the larger budget.",
            counts.join(", ")
        ));
    }
    for system in &results.systems {
        for tuned in &system.tuned {
            let numbers: Option<Vec<f64>> = tuned.tried.iter().map(Value::as_f64).collect();
            let (Some(numbers), Some(value)) = (numbers, tuned.value.as_f64()) else {
                continue;
            };
            let (low, high) = numbers
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), n| {
                    (low.min(*n), high.max(*n))
                });
            if numbers.len() > 1 && (value == low || value == high) {
                all.push(format!(
                    "{}: the chosen {} of {} lies at the {} end of the range tried; a better value may lie beyond.",
                    system.label,
                    tuned.setting,
                    tuned.value,
                    if value == low { "lower" } else { "upper" }
                ));
            }
        }
    }
}

fn rows(results: &Results, all: &mut Vec<String>) {
    let data = &results.data;
    if data.test_rows_in_training > 0 {
        all.push(format!(
            "{} of {} test rows also stand among the training rows, prompt and answers: figures on them are not about unseen rows.",
            data.test_rows_in_training, data.test.rows
        ));
    }
    if data.test_prompts_in_training > 0 {
        all.push(format!(
            "{} of {} test rows share their prompt with a training row (the answers may differ).",
            data.test_prompts_in_training, data.test.rows
        ));
    }
    let skipped = data.train.skipped + data.validation.skipped + data.test.skipped;
    let truncated = data.train.truncated + data.validation.truncated + data.test.truncated;
    if skipped > 0 {
        all.push(format!(
            "{skipped} rows were left out: one of their answers has no token."
        ));
    }
    if truncated > 0 {
        all.push(format!(
            "{truncated} rows were cut to {} tokens.",
            results.config.train.max_length
        ));
    }
}
