//! The results as Markdown, and the cells that table and page share.

use super::checks::{meaning, word};
use super::checks_view;
use super::ignorance;
use super::paired::{Comparison, Difference};
use super::results::{Results, SystemResult};
use super::summary::{Aggregate, Verdict};
use super::truths::Direction;
use crate::eval::{Interval, Metric};
use std::fmt::Write as _;

/// A number with as many digits as a reader can use.
pub(super) fn number(value: f64) -> String {
    with_decimals(value, decimals(value))
}

/// How many decimals a number of this size is shown with.
pub(super) fn decimals(value: f64) -> usize {
    match value.abs() {
        x if x >= 1000.0 => 0,
        x if x >= 10.0 => 2,
        x if x >= 0.01 || x == 0.0 => 3,
        _ => 4,
    }
}

/// A number with so many decimals: a spread or an end of an interval has those of its value.
pub(super) fn with_decimals(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // No "-0.0000".
    if text.chars().all(|c| matches!(c, '-' | '0' | '.')) {
        text.trim_start_matches('-').into()
    } else {
        text
    }
}

/// What a better value is, in a word or none.
pub(super) fn better(direction: Direction) -> String {
    match direction {
        Direction::Higher => "higher is better".into(),
        Direction::Lower => "lower is better".into(),
        Direction::Target(value) => format!("should be {}", trimmed(value)),
        Direction::Neither => "describes only".into(),
    }
}

fn trimmed(value: f64) -> String {
    format!("{value:.2}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .into()
}

/// The words of a verdict.
pub(super) fn verdict(aggregate: &Aggregate) -> String {
    let floor = aggregate
        .floor
        .as_ref()
        .map(|(name, value)| format!(" ({name}: {})", number(*value)))
        .unwrap_or_default();
    match aggregate.verdict {
        Verdict::Above => format!("better than the floor{floor}"),
        Verdict::Below => format!("worse than the floor{floor}"),
        Verdict::NotDistinguishable => format!("not distinguishable from the floor{floor}"),
        Verdict::NoFloor => against_target(aggregate),
        Verdict::Undefined => "undefined".into(),
    }
}

/// Whether a figure that should be some number is that number, as far as its interval tells.
fn against_target(aggregate: &Aggregate) -> String {
    let (Direction::Target(target), Some(interval)) =
        (aggregate.direction, aggregate.metric.interval)
    else {
        return "no floor".into();
    };
    if interval.high < target {
        "less than stated".into()
    } else if interval.low > target {
        "more than stated".into()
    } else {
        "as stated".into()
    }
}

/// `0.912 ± 0.004 [0.890, 0.930]`: mean, standard deviation over seeds, interval.
pub(super) fn figure(aggregate: &Aggregate) -> String {
    spread(&aggregate.metric, aggregate.std)
}

/// The same of a mean with its standard deviation.
pub(super) fn spread(metric: &Metric, std: Option<f64>) -> String {
    let Some(value) = metric.value else {
        return metric
            .undefined
            .clone()
            .unwrap_or_else(|| "undefined".into());
    };
    let like = decimals(value);
    let mut text = number(value);
    if let Some(std) = std {
        let _ = write!(text, " ± {}", with_decimals(std, like));
    }
    if let Some(interval) = metric.interval {
        let _ = write!(text, " {}", ends(interval, like));
    }
    text
}

/// `+0.012 [-0.004, 0.031], p 0.21`.
pub(super) fn difference(entry: &Difference) -> String {
    let Some(value) = entry.metric.value else {
        return entry
            .metric
            .undefined
            .clone()
            .unwrap_or_else(|| "undefined".into());
    };
    let mut text = format!("{}{}", if value >= 0.0 { "+" } else { "" }, number(value));
    if let Some(interval) = entry.metric.interval {
        let _ = write!(text, " {}", ends(interval, decimals(value)));
    }
    if let Some(p) = entry.p_adjusted {
        let _ = write!(text, ", p {}", p_value(p));
    }
    text
}

/// `[0.890, 0.930]`.
pub(super) fn ends(interval: Interval, decimals: usize) -> String {
    format!(
        "[{}, {}]",
        with_decimals(interval.low, decimals),
        with_decimals(interval.high, decimals)
    )
}

fn p_value(p: f64) -> String {
    if p < 0.01 {
        format!("{p:.3}")
    } else {
        format!("{p:.2}")
    }
}

/// The comparison of a truth, where there is one.
pub(super) fn comparison<'a>(results: &'a Results, truth: &str) -> Option<&'a Comparison> {
    results.comparisons.iter().find(|c| c.truth == truth)
}

/// The truths' names in the table's order.
pub(super) fn truths(results: &Results) -> Vec<&Aggregate> {
    results
        .systems
        .first()
        .map_or_else(Vec::new, |system| system.truths.iter().collect())
}

/// What a truth's table says under its name.
pub(super) fn about(results: &Results, truth: &str) -> String {
    let all = results
        .systems
        .iter()
        .flat_map(|system| &system.truths)
        .chain(results.floors.iter().flat_map(|floor| &floor.truths));
    let own: Vec<&Aggregate> = all.filter(|aggregate| aggregate.name == truth).collect();
    let Some(shown) = own
        .iter()
        .find(|aggregate| aggregate.metric.value.is_some())
    else {
        return String::new();
    };
    let over = shown
        .interval_over
        .as_ref()
        .map(|over| format!("; interval over {over}"))
        .unwrap_or_default();
    format!(
        "{}; {} {}{over}",
        better(shown.direction),
        shown.n,
        shown.unit
    )
}

/// A system's settings in one line: tuned values with the range tried.
pub(super) fn tuned(results: &Results, system: usize) -> String {
    let system = &results.systems[system];
    if system.tuned.is_empty() {
        return "nothing".into();
    }
    system
        .tuned
        .iter()
        .map(|tuned| {
            let tried: Vec<String> = tuned.tried.iter().map(ToString::to_string).collect();
            format!(
                "{} = {} (tried {})",
                tuned.setting,
                tuned.value,
                tried.join(", ")
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}

/// A system's method, with the variant where one was named.
pub(super) fn method(system: &SystemResult) -> String {
    match &system.variant {
        Some(variant) => format!("{}, {variant}", system.method),
        None => system.method.clone(),
    }
}

/// What all share, as (name, value) lines.
pub(super) fn facts(results: &Results) -> Vec<(&'static str, String)> {
    let train = &results.config.train;
    let device = &results.device;
    let seeds: Vec<String> = results.config.seeds.iter().map(u64::to_string).collect();
    let trials: Vec<usize> = results
        .systems
        .iter()
        .map(|system| system.trials.len())
        .collect();
    let (least, most) = (
        trials.iter().min().copied().unwrap_or(0),
        trials.iter().max().copied().unwrap_or(0),
    );
    let data = &results.data;
    vec![
        (
            "Rows",
            format!(
                "{}: {} train, {} validate, {} test; fingerprint {}",
                data.source,
                data.train.rows,
                data.validation.rows,
                data.test.rows,
                data.fingerprint.get(..16).unwrap_or_default()
            ),
        ),
        (
            "Model",
            format!(
                "{}, {} parameters, {}",
                results.model.name,
                results.model.parameters,
                match &train.trainable {
                    crate::train::Trainable::Full => "all of which train".to_string(),
                    crate::train::Trainable::Lora(lora) =>
                        format!("adapters of rank {} train", lora.r),
                    crate::train::Trainable::Heads => "frozen; only reward heads train".to_string(),
                }
            ),
        ),
        (
            "Device",
            format!(
                "{} ({}), {}",
                device.backend, device.adapter, device.precision
            ),
        ),
        (
            "Budget of every training",
            format!(
                "{} steps of {} rows; peak learning rate {} where it is not tuned",
                train.steps,
                train.batch_size * train.gradient_accumulation_steps,
                train.learning_rate
            ),
        ),
        (
            "Trials a method",
            if least == most {
                format!("{least}")
            } else {
                format!("{least} to {most} (unequal, as the configuration allows)")
            },
        ),
        ("Seeds", seeds.join(", ")),
        ("Made with", format!("avascope {}", results.version)),
        ("Again", format!("`{}`", results.command)),
    ]
}

/// The whole report as Markdown.
pub fn table(results: &Results) -> String {
    let mut text = String::from("# Comparison\n\n");
    for (name, value) in facts(results) {
        // What stands between backticks is shown as it is.
        let value = if value.starts_with('`') {
            value
        } else {
            prose(&value)
        };
        let _ = writeln!(text, "- {name}: {value}");
    }
    let (header, lines) = overview(results);
    let _ = write!(
        text,
        "\n## Overview\n\nMean ± standard deviation over seeds; below, each figure with its interval, reasons where undefined, and comparisons. {}\n\n| system | {} |\n|{}\n",
        prose(&meaning(results)),
        header.join(" | "),
        "---|".repeat(header.len() + 1)
    );
    for line in lines {
        let cells: Vec<String> = line.iter().map(|text| cell(text)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    for truth in truths(results) {
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n",
            prose(&truth.name),
            prose(&about(results, &truth.name))
        );
        let against = comparison(results, &truth.name);
        match against {
            Some(against) => {
                let _ = writeln!(
                    text,
                    "| system | mean ± sd over seeds [95 % interval] | against the floor | difference to {} | standing |\n|---|---|---|---|---|",
                    cell(&against.baseline)
                );
            }
            None => text.push_str(
                "| system | mean ± sd over seeds [95 % interval] | against the floor |\n|---|---|---|\n",
            ),
        }
        for system in &results.systems {
            let Some(own) = system.truths.iter().find(|t| t.name == truth.name) else {
                continue;
            };
            let _ = write!(
                text,
                "| {} | {} | {} |",
                cell(&system.label),
                cell(&figure(own)),
                cell(&verdict(own))
            );
            if let Some(against) = against {
                match against
                    .differences
                    .iter()
                    .find(|d| d.system == system.label)
                {
                    Some(entry) => {
                        let _ = write!(
                            text,
                            " {} | {} |",
                            cell(&difference(entry)),
                            entry.standing.words()
                        );
                    }
                    None => text.push_str(" | the baseline |"),
                }
            }
            text.push('\n');
        }
        for (floor, own) in floors_with(results, &truth.name) {
            let _ = write!(
                text,
                "| *floor: {}* | {} | |",
                cell(floor),
                cell(&figure(own))
            );
            text.push_str(if against.is_some() { " | |\n" } else { "\n" });
        }
        if let Some(sentence) = floors_without(results, &truth.name) {
            let _ = write!(text, "\n{}\n", prose(&sentence));
        }
    }
    text.push_str(&ignorance::markdown(results));
    text.push_str(&checks_view::markdown(results));
    text.push_str("\n## Systems and tuned values\n\n| system | method | token rewards | learns from | tuned | source |\n|---|---|---|---|---|---|\n");
    for (index, system) in results.systems.iter().enumerate() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&system.label),
            cell(&method(system)),
            cell(&system.credit),
            system.learns_from,
            cell(&tuned(results, index)),
            cell(&system.citation)
        );
    }
    text.push_str("\n## Floors\n\n");
    for floor in &results.floors {
        let _ = writeln!(
            text,
            "- {}: {}{}",
            prose(&floor.name),
            prose(&floor.about),
            penalty(&floor.penalty)
        );
    }
    text.push_str("\n## Before you believe a figure\n\n");
    for caveat in &results.caveats {
        let _ = writeln!(text, "- {}", prose(caveat));
    }
    for left in &results.left_out {
        let _ = writeln!(
            text,
            "- Not measured: {} ({}).",
            prose(&left.name),
            prose(&left.reason)
        );
    }
    text
}

/// The floors that have a figure of a truth.
pub(super) fn floors_with<'a>(results: &'a Results, truth: &str) -> Vec<(&'a str, &'a Aggregate)> {
    results
        .floors
        .iter()
        .filter_map(|floor| {
            let own = floor.truths.iter().find(|t| t.name == truth)?;
            own.metric.value.map(|_| (floor.name.as_str(), own))
        })
        .collect()
}

/// One sentence on the floors that have none, with their reasons.
pub(super) fn floors_without(results: &Results, truth: &str) -> Option<String> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for floor in &results.floors {
        let Some(own) = floor.truths.iter().find(|t| t.name == truth) else {
            continue;
        };
        if own.metric.value.is_some() {
            continue;
        }
        let reason = figure(own).trim_start_matches("undefined: ").to_string();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(&floor.name),
            None => reasons.push((reason, vec![&floor.name])),
        }
    }
    let parts: Vec<String> = reasons
        .into_iter()
        .map(|(reason, names)| format!("{} ({reason})", names.join("; ")))
        .collect();
    (!parts.is_empty()).then(|| format!("Floors without a figure: {}.", parts.join("; ")))
}

/// The truths that the overview shows, where the rows have them.
const OVERVIEW: [&str; 6] = [
    "pair accuracy",
    "token AUC, rejected spans",
    "token AUC, chosen spans",
    "correlation with known rewards",
    "coverage of 95 % intervals",
    "TD residuals inside 95 % intervals",
];

/// The overview: its header, and a line a system and floor. After the label stands how far the map may be trusted (empty
/// for a floor), then means with their standard deviations over seeds.
pub(super) fn overview(results: &Results) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let shown: Vec<&'static str> = OVERVIEW
        .into_iter()
        .filter(|name| truths(results).iter().any(|truth| truth.name == *name))
        .collect();
    let line = |label: String, map: &str, own: &[Aggregate]| {
        let mut cells = vec![label, map.to_string()];
        for name in &shown {
            let found = own.iter().find(|truth| truth.name == *name);
            cells.push(match found {
                Some(truth) if truth.metric.value.is_some() => short(truth),
                _ => "undefined".into(),
            });
        }
        cells
    };
    let mut lines: Vec<Vec<String>> = results
        .systems
        .iter()
        .map(|system| line(system.label.clone(), word(system.trust), &system.truths))
        .collect();
    for floor in &results.floors {
        lines.push(line(format!("floor: {}", floor.name), "", &floor.truths));
    }
    let header = std::iter::once("map").chain(shown).collect();
    (header, lines)
}

/// Mean and standard deviation over seeds.
fn short(aggregate: &Aggregate) -> String {
    let value = aggregate.metric.value.map(number).unwrap_or_default();
    match aggregate.std {
        Some(std) => {
            let like = decimals(aggregate.metric.value.unwrap_or(0.0));
            format!("{value} ± {}", with_decimals(std, like))
        }
        None => value,
    }
}

/// How a floor's penalty was chosen.
pub(super) fn penalty(penalty: &Option<(f64, Vec<f64>)>) -> String {
    penalty
        .as_ref()
        .map(|(chosen, tried)| {
            let tried: Vec<String> = tried.iter().map(f64::to_string).collect();
            format!(
                " (penalty {chosen} by cross-validation on training rows, tried {})",
                tried.join(", ")
            )
        })
        .unwrap_or_default()
}

/// Text inside a cell of a Markdown table.
pub(super) fn cell(text: &str) -> String {
    prose(&text.replace('\\', "\\\\").replace('|', "\\|"))
}

/// Text of one line of Markdown: names come from a person's files, and none of them begins an element of HTML.
pub(super) fn prose(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let begins = |c: &char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?');
        match c {
            '<' if characters.peek().is_some_and(begins) => line.push_str("&lt;"),
            '\n' | '\r' => line.push(' '),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{cell, prose};

    #[test]
    fn names_are_no_markup() {
        assert_eq!(
            cell("a|b\\ <img src=x>\n</b>"),
            "a\\|b\\\\ &lt;img src=x> &lt;/b>"
        );
        assert_eq!(prose("p < 0.05 and <!-- x"), "p < 0.05 and &lt;!-- x");
    }
}
