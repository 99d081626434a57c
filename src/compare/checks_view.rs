//! The truths of `[[truth]]` as sections of the table and the page.

use super::checks::{CheckFigure, CheckResult, CheckedSystem, Outcome};
use super::results::Results;
use super::svg::escape;
use super::table::{cell, number, prose, spread};
use std::fmt::Write as _;

/// What stands above the figures' table.
const INTRODUCTION: &str = "Mean ± standard deviation over seeds, with the mean of the seeds' own 95 % intervals over answers; floors are means over seeds. A seed passes by its own interval and floors.";

const HEADER: [&str; 5] = [
    "system",
    "figure",
    "mean ± sd over seeds [95 % interval]",
    "floors",
    "above its floors",
];

/// The sections as Markdown.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    for check in &results.checks {
        let _ = write!(
            text,
            "\n## {}\n\n{}\n\n{INTRODUCTION}\n\n",
            prose(&title(check)),
            prose(&about(check))
        );
        for system in &check.systems {
            let _ = writeln!(text, "- {}: {}", prose(&system.system), verdict(system));
        }
        let _ = write!(
            text,
            "\n| {} |\n|{}\n",
            HEADER.join(" | "),
            "---|".repeat(HEADER.len())
        );
        for line in lines(check) {
            let cells: Vec<String> = line.iter().map(|text| cell(text)).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        for (i, note) in notes(check).iter().enumerate() {
            let _ = writeln!(text, "{}- {}", if i == 0 { "\n" } else { "" }, prose(note));
        }
    }
    text
}

/// The sections as HTML.
pub(super) fn html(results: &Results) -> String {
    let mut html = String::new();
    if !results.checks.is_empty() {
        let _ = write!(
            html,
            "<h2>Truths</h2>\n<p class=\"about\">{INTRODUCTION}</p>\n"
        );
    }
    for check in &results.checks {
        let _ = write!(
            html,
            "<h3>{}</h3>\n<p class=\"about\">{}</p>\n<ul>\n",
            escape(&title(check)),
            escape(&about(check))
        );
        for system in &check.systems {
            let _ = writeln!(
                html,
                "<li>{}: <span class=\"{}\">{}</span></li>",
                escape(&system.system),
                match system.outcome {
                    Outcome::Passed => "good",
                    Outcome::NotPassed => "bad",
                    Outcome::Undecided => "",
                },
                escape(&verdict(system))
            );
        }
        html.push_str("</ul>\n<div class=\"wide\"><table>\n<tr>");
        for name in HEADER {
            let _ = write!(html, "<th>{name}</th>");
        }
        html.push_str("</tr>\n");
        for line in lines(check) {
            html.push_str("<tr>");
            for (i, text) in line.iter().enumerate() {
                let class = match i {
                    2 if text.starts_with("undefined") => "none",
                    2 => "n",
                    _ => "",
                };
                let _ = write!(html, "<td class=\"{class}\">{}</td>", escape(text));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</table></div>\n");
        let notes = notes(check);
        if !notes.is_empty() {
            html.push_str("<ul>\n");
            for note in notes {
                let _ = writeln!(html, "<li>{}</li>", escape(&note));
            }
            html.push_str("</ul>\n");
        }
    }
    html
}

fn title(check: &CheckResult) -> String {
    format!("Truth: {} on {}", check.truth, check.data)
}

fn about(check: &CheckResult) -> String {
    format!(
        "{}. {}, for every figure that decides.",
        capital(&check.about),
        capital(&check.rule)
    )
}

/// The text with a capital first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// `passed with seeds 0, 1; not passed with seed 2`.
fn verdict(system: &CheckedSystem) -> String {
    let with = |outcome, diverged| -> Vec<u64> {
        let seeds = system.seeds.iter();
        seeds
            .filter(|seed| seed.outcome == outcome && seed.failure.is_some() == diverged)
            .map(|seed| seed.seed)
            .collect()
    };
    let parts: Vec<String> = [
        ("passed with", with(Outcome::Passed, false)),
        ("not passed with", with(Outcome::NotPassed, false)),
        ("undecided with", with(Outcome::Undecided, false)),
        ("training diverged with", with(Outcome::NotPassed, true)),
    ]
    .iter()
    .filter(|(_, seeds)| !seeds.is_empty())
    .map(|(words, seeds)| format!("{words} {}", listed(seeds)))
    .collect();
    match parts.is_empty() {
        true => "no seed was trained".into(),
        false => parts.join("; "),
    }
}

fn listed(seeds: &[u64]) -> String {
    let all: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let plural = if seeds.len() == 1 { "" } else { "s" };
    format!("seed{plural} {}", all.join(", "))
}

/// The lines of the figures' table: every figure of every system.
fn lines(check: &CheckResult) -> Vec<[String; HEADER.len()]> {
    let mut lines = Vec::new();
    for system in &check.systems {
        if system.figures.is_empty() {
            let failure = system.seeds.iter().find_map(|seed| seed.failure.as_deref());
            lines.push([
                system.system.clone(),
                String::new(),
                format!("undefined: {}", failure.unwrap_or("it was not measured")),
                String::new(),
                String::new(),
            ]);
        }
        for figure in &system.figures {
            lines.push([
                system.system.clone(),
                figure.name.clone(),
                value(figure, system),
                floors(figure),
                match (figure.decides, figure.passed_seeds.is_empty()) {
                    (false, _) => "shown beside, decides nothing".into(),
                    (true, true) => "with no seed".into(),
                    (true, false) => format!("with {}", listed(&figure.passed_seeds)),
                },
            ]);
        }
    }
    lines
}

/// The figure; how many seeds have one where some have none.
fn value(figure: &CheckFigure, system: &CheckedSystem) -> String {
    let mut text = spread(&figure.metric, figure.std);
    let (have, all) = (figure.values.len(), system.seeds.len());
    if have > 0 && have < all {
        let _ = write!(text, " ({have} of {all} seeds)");
    }
    text
}

fn floors(figure: &CheckFigure) -> String {
    let all: Vec<String> = figure
        .floors
        .iter()
        .map(|floor| match floor.metric.value {
            Some(value) => format!("{} {}", floor.name, number(value)),
            None => format!("{} {}", floor.name, floor.metric),
        })
        .collect();
    all.join("; ")
}

/// The notes of all systems; one that not all share names its systems.
fn notes(check: &CheckResult) -> Vec<String> {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for system in &check.systems {
        for note in &system.notes {
            match notes.iter_mut().find(|(known, _)| known == note) {
                Some((_, systems)) => systems.push(&system.system),
                None => notes.push((note, vec![&system.system])),
            }
        }
    }
    let measured = check.systems.iter().filter(|s| !s.figures.is_empty());
    let measured = measured.count();
    notes
        .into_iter()
        .map(|(note, systems)| match systems.len() == measured {
            true => note.to_string(),
            false => format!("{note} ({})", systems.join(", ")),
        })
        .collect()
}
