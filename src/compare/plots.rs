//! The report's plots, each a file of its own and part of the page.

use super::checks::{CheckResult, Outcome};
use super::panels::{Panel, Row, draw};
use super::results::Results;
use super::svg::{Anchor, COLOURS, GREY, INK, PALE, Svg, shortened, tick_label, ticks};
use super::table::figure;
use super::truths::CHANCE;
use crate::eval::Metric;

/// The heading of the plot of `[[truth]]`.
const TRUTHS: &str = "Truths: the figures that decide, with their floors";

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
                "Kendall correlation with known rewards",
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
    if let Some(svg) = truths(results) {
        all.push(Plot {
            file: "truths.svg",
            title: TRUTHS,
            caption: "Every figure that decides a truth: large dots are means over seeds, small ones the seeds, and lines the mean of the seeds' own 95 % intervals over answers. Short bars are each system's floors, means over seeds, and the dashed line is chance. A filled dot says that the map of every seed passed, by its own interval and floors.".into(),
            svg,
        });
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

/// One figure a panel, systems before floors.
fn interval_plot(results: &Results, title: &str, truths: &[&str]) -> Option<String> {
    let panels = truths.iter().map(|truth| Panel {
        heading: (*truth).into(),
        note: None,
        reference: Some(match truth.contains("correlation") {
            true => 0.0,
            false => 0.5,
        }),
        rows: rows(results, truth),
    });
    draw(title, panels.collect())
}

fn rows<'a>(results: &'a Results, truth: &str) -> Vec<Row<'a>> {
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
            (!floor || figure.metric.value.is_some()).then_some(Row {
                label,
                metric: &figure.metric,
                faint: floor,
                bars: Vec::new(),
                dots: &[],
            })
        })
        .collect()
}

/// Every figure that decides a truth of `[[truth]]`, a panel each.
fn truths(results: &Results) -> Option<String> {
    let unmeasured = Metric::undefined("it was not measured");
    let mut panels = Vec::new();
    for check in &results.checks {
        let mut names: Vec<&str> = Vec::new();
        let figures = check.systems.iter().flat_map(|system| &system.figures);
        for figure in figures.filter(|figure| figure.decides) {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        panels.extend(
            names
                .into_iter()
                .map(|name| truth(check, name, &unmeasured)),
        );
    }
    draw(TRUTHS, panels)
}

/// One deciding figure of all systems, except of those that another figure decides on.
fn truth<'a>(check: &'a CheckResult, name: &str, unmeasured: &'a Metric) -> Panel<'a> {
    let mut rows = Vec::new();
    let mut floors: Vec<&str> = Vec::new();
    let mut chances = Vec::new();
    for system in &check.systems {
        let figure = system.figures.iter().find(|figure| figure.name == name);
        let decides = figure.is_some_and(|figure| figure.decides);
        if !decides && system.figures.iter().any(|figure| figure.decides) {
            continue;
        }
        let mut bars = Vec::new();
        for floor in figure.into_iter().flat_map(|figure| &figure.floors) {
            let Some(value) = floor.metric.value else {
                continue;
            };
            if floor.name == CHANCE {
                chances.push(value);
                continue;
            }
            bars.push(value);
            if !floors.contains(&floor.name.as_str()) {
                floors.push(&floor.name);
            }
        }
        rows.push(Row {
            label: &system.system,
            metric: figure.map_or(unmeasured, |figure| &figure.metric),
            faint: system.outcome != Outcome::Passed,
            bars,
            dots: figure.map_or(&[] as &[f64], |figure| figure.values.as_slice()),
        });
    }
    Panel {
        heading: format!("{} on {}: {name}", check.truth, check.data),
        note: (!floors.is_empty()).then(|| format!("floors (bars): {}", floors.join(", "))),
        // The same for all, since it depends on the labels alone.
        reference: chances.first().copied(),
        rows,
    }
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
