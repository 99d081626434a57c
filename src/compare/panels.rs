//! Drawings of figures with their intervals: panels one below the other, a row a system.

use super::svg::{Anchor, COLOURS, GREY, INK, PALE, Svg, shortened, tick_label, ticks};
use super::table::{decimals, ends, number};
use crate::eval::Metric;

/// One figure of many systems.
pub(super) struct Panel<'a> {
    pub heading: String,
    /// A line under the heading.
    pub note: Option<String>,
    /// Where the dashed line stands.
    pub reference: Option<f64>,
    pub rows: Vec<Row<'a>>,
}

/// One system or floor.
pub(super) struct Row<'a> {
    pub label: &'a str,
    /// The figure with its interval.
    pub metric: &'a Metric,
    /// Whether the dot is hollow and the row grey.
    pub faint: bool,
    /// Floors of this row's own: short bars across it.
    pub bars: Vec<f64>,
    /// What the figure is the mean of: small dots.
    pub dots: &'a [f64],
}

const ROW: f64 = 22.0;
const HEAD: f64 = 34.0;
const NOTE: f64 = 18.0;
const FOOT: f64 = 40.0;
const LEFT: f64 = 200.0;
const RIGHT: f64 = 570.0;
const WIDTH: f64 = 760.0;
/// Half the length of a floor's bar.
const BAR: f64 = 7.0;

impl Panel<'_> {
    fn head(&self) -> f64 {
        match self.note {
            Some(_) => HEAD + NOTE,
            None => HEAD,
        }
    }

    fn height(&self) -> f64 {
        self.head() + ROW * self.rows.len() as f64 + FOOT
    }

    /// The ends of the axis: everything that is drawn, with a little room.
    fn range(&self) -> (f64, f64) {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let drawn = self.rows.iter().flat_map(|row| {
            let interval = row.metric.interval;
            let ends = [
                row.metric.value,
                interval.map(|i| i.low),
                interval.map(|i| i.high),
            ];
            let floors = row.bars.iter().chain(row.dots).copied();
            ends.into_iter().flatten().chain(floors)
        });
        for value in drawn.chain(self.reference) {
            (low, high) = (low.min(value), high.max(value));
        }
        let pad = ((high - low) * 0.05).max(0.01);
        (low - pad, high + pad)
    }

    fn draw(&self, svg: &mut Svg, top: f64) {
        let (low, high) = self.range();
        let x = |value: f64| LEFT + (value - low) / (high - low) * (RIGHT - LEFT);
        svg.heading((12.0, top + 20.0), &shortened(&self.heading, 88));
        if let Some(note) = &self.note {
            svg.text(
                (12.0, top + 38.0),
                &shortened(note, 112),
                Anchor::Start,
                GREY,
            );
        }
        let first = top + self.head();
        let last = first + ROW * self.rows.len() as f64;
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
        if let Some(reference) = self.reference {
            svg.dashed((x(reference), first), (x(reference), last), GREY);
        }
        for (i, row) in self.rows.iter().enumerate() {
            let y = first + ROW * (i as f64 + 0.5);
            let (colour, ink) = match row.faint {
                true => (GREY, GREY),
                false => (COLOURS[0], INK),
            };
            svg.text(
                (LEFT - 12.0, y + 4.0),
                &shortened(row.label, 28),
                Anchor::End,
                ink,
            );
            for floor in &row.bars {
                svg.line((x(*floor), y - BAR), (x(*floor), y + BAR), GREY, 2.0);
            }
            let Some(value) = row.metric.value else {
                svg.text((RIGHT + 14.0, y + 4.0), "undefined", Anchor::Start, GREY);
                continue;
            };
            if let Some(interval) = row.metric.interval {
                svg.line((x(interval.low), y), (x(interval.high), y), colour, 2.0);
            }
            if !row.dots.is_empty() {
                let dots: Vec<(f64, f64)> = row.dots.iter().map(|dot| (x(*dot), y)).collect();
                svg.cloud(&dots, colour);
            }
            svg.dot((x(value), y), 4.0, colour, row.faint);
            let text = match row.metric.interval {
                Some(i) => format!("{} {}", number(value), ends(i, decimals(value))),
                None => number(value),
            };
            svg.text((RIGHT + 14.0, y + 4.0), &text, Anchor::Start, ink);
        }
    }
}

/// All panels that have a figure as one drawing; `None` where none has.
pub(super) fn draw(title: &str, mut panels: Vec<Panel<'_>>) -> Option<String> {
    panels.retain(|panel| panel.rows.iter().any(|row| row.metric.value.is_some()));
    if panels.is_empty() {
        return None;
    }
    let mut svg = Svg::new(WIDTH, panels.iter().map(Panel::height).sum(), title);
    let mut top = 0.0;
    for panel in &panels {
        panel.draw(&mut svg, top);
        top += panel.height();
    }
    Some(svg.finish())
}
