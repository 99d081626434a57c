//! The report's plots, each a file of its own and part of the page.

use super::results::Results;
use super::summary::Aggregate;
use super::svg::{Anchor, COLOURS, GREY, INK, PALE, Svg, shortened, tick_label, ticks};
use super::table::{decimals, ends, figure, number};

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// File name.
    pub file: &'static str,
    /// What it shows, as a heading.
    pub title: &'static str,
    /// How to read it.
    pub caption: String,
    /// The drawing.
    pub svg: String,
}

/// All plots for which there are figures.
pub fn plots(results: &Results) -> Vec<Plot> {
    let mut all = Vec::new();
    let dots = "Filled dots are trained systems (mean over seeds), hollow ones floors; bars are 95 % intervals";
    let intervals = [
        (
            "auc.svg",
            "Token AUC with intervals",
            &["token AUC, rejected spans", "token AUC, chosen spans"][..],
            "Do tokens inside the labelled spans stand out? The dashed line is chance.",
        ),
        (
            "accuracy.svg",
            "Pair accuracy with intervals",
            &["pair accuracy"][..],
            "How often the better answer scores higher. The dashed line is chance.",
        ),
        (
            "correlation.svg",
            "Correlation with the known token rewards",
            &[
                "correlation with known rewards",
                "rank correlation with known rewards",
            ][..],
            "Learned token rewards against the true ones; the dashed line is no relation.",
        ),
    ];
    for (file, title, truths, caption) in intervals {
        if let Some(svg) = interval_plot(results, title, truths) {
            all.push(Plot {
                file,
                title,
                caption: format!("{caption} {dots}."),
                svg,
            });
        }
    }
    if let Some(svg) = reliability(results) {
        all.push(Plot {
            file: "reliability.svg",
            title: "Reliability of the token posterior",
            caption: format!(
                "How many true token rewards lie inside the central intervals that sigma states, mean over seeds. On the diagonal sigma states what is found; below it the intervals are too narrow, above it too wide.{}",
                not_shown(results)
            ),
            svg,
        });
    }
    if let Some(svg) = scatter(results) {
        all.push(Plot {
            file: "reward-against-truth.svg",
            title: "Learned token reward against the true one",
            caption: "Some test tokens of the first seed, drawn evenly over the range of true rewards. Learned rewards are shown after the positive scale and offset that fit best; the dashed line is equality.".into(),
            svg,
        });
    }
    all
}

/// One line of a plot of intervals.
struct Entry<'a> {
    label: &'a str,
    figure: &'a Aggregate,
    floor: bool,
}

fn interval_plot(results: &Results, title: &str, truths: &[&str]) -> Option<String> {
    const ROW: f64 = 22.0;
    const HEAD: f64 = 34.0;
    const FOOT: f64 = 40.0;
    let panels: Vec<(&str, Vec<Entry<'_>>)> = truths
        .iter()
        .map(|truth| (*truth, entries(results, truth)))
        .filter(|(_, entries)| entries.iter().any(|e| e.figure.metric.value.is_some()))
        .collect();
    if panels.is_empty() {
        return None;
    }
    let height: f64 = panels
        .iter()
        .map(|(_, entries)| HEAD + ROW * entries.len() as f64 + FOOT)
        .sum();
    let mut svg = Svg::new(760.0, height, title);
    let (left, right) = (200.0, 570.0);
    let mut top = 0.0;
    for (truth, entries) in panels {
        let all = entries.iter().flat_map(|entry| {
            let i = entry.figure.metric.interval;
            [
                entry.figure.metric.value,
                i.map(|i| i.low),
                i.map(|i| i.high),
            ]
        });
        let reference: f64 = if truth.contains("correlation") {
            0.0
        } else {
            0.5
        };
        let (mut low, mut high) = (reference, reference);
        for end in all.flatten() {
            (low, high) = (low.min(end), high.max(end));
        }
        let pad = ((high - low) * 0.05).max(0.01);
        let (low, high) = (low - pad, high + pad);
        let x = |value: f64| left + (value - low) / (high - low) * (right - left);
        svg.heading((12.0, top + 20.0), truth);
        let (first, last) = (top + HEAD, top + HEAD + ROW * entries.len() as f64);
        let marks = ticks(low, high, 6);
        for mark in &marks {
            svg.line((x(*mark), first), (x(*mark), last), PALE, 1.0);
            svg.text(
                (x(*mark), last + 16.0),
                &tick_label(*mark, &marks),
                Anchor::Middle,
                GREY,
            );
        }
        svg.dashed((x(reference), first), (x(reference), last), GREY);
        for (i, entry) in entries.iter().enumerate() {
            let y = first + ROW * (i as f64 + 0.5);
            let colour = if entry.floor { GREY } else { COLOURS[0] };
            let ink = if entry.floor { GREY } else { INK };
            svg.text(
                (left - 12.0, y + 4.0),
                &shortened(entry.label, 28),
                Anchor::End,
                ink,
            );
            let Some(value) = entry.figure.metric.value else {
                svg.text((right + 14.0, y + 4.0), "undefined", Anchor::Start, GREY);
                continue;
            };
            if let Some(interval) = entry.figure.metric.interval {
                svg.line((x(interval.low), y), (x(interval.high), y), colour, 2.0);
            }
            svg.dot((x(value), y), 4.0, colour, entry.floor);
            let text = match entry.figure.metric.interval {
                Some(i) => format!("{} {}", number(value), ends(i, decimals(value))),
                None => number(value),
            };
            svg.text((right + 14.0, y + 4.0), &text, Anchor::Start, ink);
        }
        top = last + FOOT;
    }
    Some(svg.finish())
}

fn entries<'a>(results: &'a Results, truth: &str) -> Vec<Entry<'a>> {
    let systems = results
        .systems
        .iter()
        .map(|system| (system.label.as_str(), &system.truths, false));
    let floors = results
        .floors
        .iter()
        .map(|floor| (floor.name.as_str(), &floor.truths, true));
    systems
        .chain(floors)
        .filter_map(|(label, truths, floor)| {
            let figure = truths.iter().find(|t| t.name == truth)?;
            // A floor that cannot say anything of this truth would only fill the plot.
            (!floor || figure.metric.value.is_some()).then_some(Entry {
                label,
                figure,
                floor,
            })
        })
        .collect()
}

/// Which systems have no curve, and why.
fn not_shown(results: &Results) -> String {
    let missing: Vec<String> = results
        .systems
        .iter()
        .filter(|system| system.reliability.is_empty())
        .map(|system| {
            let coverage = system
                .truths
                .iter()
                .find(|truth| truth.name.starts_with("coverage"));
            let reason = match coverage {
                Some(truth) if truth.metric.value.is_none() => {
                    figure(truth).trim_start_matches("undefined: ").to_string()
                }
                // Some seeds have a curve and some have none: their mean would be of other seeds at each point.
                _ => "not every seed has a curve".into(),
            };
            format!("{} ({reason})", system.label)
        })
        .collect();
    if missing.is_empty() {
        return String::new();
    }
    format!(" Not shown: {}.", missing.join("; "))
}

fn reliability(results: &Results) -> Option<String> {
    const SIZE: f64 = 340.0;
    let (left, top) = (64.0, 24.0);
    let shown: Vec<_> = results
        .systems
        .iter()
        .filter(|system| !system.reliability.is_empty())
        .collect();
    if shown.is_empty() {
        return None;
    }
    let height = (top + SIZE + 56.0).max(top + 22.0 * shown.len() as f64 + 40.0);
    let mut svg = Svg::new(760.0, height, "Reliability of the token posterior");
    let point = |x: f64, y: f64| (left + x * SIZE, top + (1.0 - y) * SIZE);
    let marks = ticks(0.0, 1.0, 5);
    for mark in &marks {
        svg.line(point(*mark, 0.0), point(*mark, 1.0), PALE, 1.0);
        svg.line(point(0.0, *mark), point(1.0, *mark), PALE, 1.0);
        let label = tick_label(*mark, &marks);
        let (x, y) = point(*mark, 0.0);
        svg.text((x, y + 18.0), &label, Anchor::Middle, GREY);
        let (x, y) = point(0.0, *mark);
        svg.text((x - 8.0, y + 4.0), &label, Anchor::End, GREY);
    }
    svg.dashed(point(0.0, 0.0), point(1.0, 1.0), GREY);
    let (x, y) = point(0.5, 0.0);
    svg.text(
        (x, y + 42.0),
        "coverage that sigma states",
        Anchor::Middle,
        GREY,
    );
    svg.upwards((18.0, top + SIZE / 2.0), "coverage that is found");
    for (i, system) in shown.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let hollow = (i / COLOURS.len()) % 2 == 1;
        let points: Vec<(f64, f64)> = system
            .reliability
            .iter()
            .map(|p| point(p.expected, p.observed))
            .collect();
        svg.path(&points, colour);
        for at in points {
            svg.dot(at, 2.5, colour, hollow);
        }
        let y = top + 14.0 + 22.0 * i as f64;
        svg.line(
            (left + SIZE + 28.0, y),
            (left + SIZE + 52.0, y),
            colour,
            2.0,
        );
        svg.dot((left + SIZE + 40.0, y), 3.5, colour, hollow);
        svg.text(
            (left + SIZE + 60.0, y + 4.0),
            &shortened(&system.label, 40),
            Anchor::Start,
            INK,
        );
    }
    Some(svg.finish())
}

fn scatter(results: &Results) -> Option<String> {
    const COLUMNS: usize = 3;
    const PANEL: f64 = 180.0;
    const STEP: (f64, f64) = (246.0, 258.0);
    let shown: Vec<_> = results
        .systems
        .iter()
        .filter(|system| !system.scatter.is_empty())
        .collect();
    if shown.is_empty() {
        return None;
    }
    // One range for both axes and all panels, so that panels can be compared.
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (x, y) in shown.iter().flat_map(|system| &system.scatter) {
        for value in [f64::from(*x), f64::from(*y)] {
            (low, high) = (low.min(value), high.max(value));
        }
    }
    let pad = ((high - low) * 0.04).max(0.01);
    let (low, high) = (low - pad, high + pad);
    let rows = shown.len().div_ceil(COLUMNS);
    let width = 24.0 + STEP.0 * shown.len().min(COLUMNS) as f64;
    let mut svg = Svg::new(
        width.max(400.0),
        STEP.1 * rows as f64 + 8.0,
        "Learned token reward against the true one",
    );
    let marks = ticks(low, high, 4);
    for (i, system) in shown.iter().enumerate() {
        let left = 56.0 + STEP.0 * (i % COLUMNS) as f64;
        let top = 30.0 + STEP.1 * (i / COLUMNS) as f64;
        let share = |value: f64| (value - low) / (high - low) * PANEL;
        let point = |x: f64, y: f64| (left + share(x), top + PANEL - share(y));
        for mark in &marks {
            svg.line(point(*mark, low), point(*mark, high), PALE, 1.0);
            svg.line(point(low, *mark), point(high, *mark), PALE, 1.0);
            let label = tick_label(*mark, &marks);
            let (x, y) = point(*mark, low);
            svg.text((x, y + 16.0), &label, Anchor::Middle, GREY);
            let (x, y) = point(low, *mark);
            svg.text((x - 6.0, y + 4.0), &label, Anchor::End, GREY);
        }
        svg.dashed(point(low, low), point(high, high), GREY);
        let points: Vec<(f64, f64)> = system
            .scatter
            .iter()
            .map(|(x, y)| point(f64::from(*x), f64::from(*y)))
            .collect();
        svg.cloud(&points, COLOURS[0]);
        svg.heading((left, top - 10.0), &shortened(&system.label, 26));
        svg.text(
            (left + PANEL / 2.0, top + PANEL + 34.0),
            "true reward",
            Anchor::Middle,
            GREY,
        );
        svg.upwards((left - 40.0, top + PANEL / 2.0), "learned reward");
    }
    Some(svg.finish())
}
