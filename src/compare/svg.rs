//! Drawing in SVG: a few shapes, with numbers and text made safe.

use std::fmt::Write as _;

/// Text colour.
pub(super) const INK: &str = "#1c2530";
/// Colour of axes and what is less important.
pub(super) const GREY: &str = "#66717e";
/// Colour of grid lines.
pub(super) const PALE: &str = "#dfe3e8";

/// Eight colours that people with any colour vision tell apart (Okabe and Ito 2008), without the pale yellow.
pub(super) const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1c2530",
];

/// Where text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing in the making.
pub(super) struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

/// A coordinate: one decimal is a tenth of a pixel. What is not finite cannot be drawn and stands at the origin; callers
/// leave such points out.
fn at(value: f64) -> String {
    format!("{:.1}", if value.is_finite() { value } else { 0.0 })
}

/// Text that is safe inside XML and HTML, in elements and in quoted attributes. Control characters, which XML cannot
/// hold, go.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

/// At most `length` characters, the last an ellipsis where text was cut.
pub(super) fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.into();
    }
    let mut short: String = text.chars().take(length.saturating_sub(1)).collect();
    short.push('…');
    short
}

impl Svg {
    /// An empty drawing; `label` says what it shows to those who do not see it.
    pub fn new(width: f64, height: f64, label: &str) -> Self {
        Self {
            width,
            height,
            label: escape(label),
            body: String::new(),
        }
    }

    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{colour}" stroke-width="{}"/>"#,
            at(x1),
            at(y1),
            at(x2),
            at(y2),
            at(width)
        );
    }

    pub fn dashed(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.body,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{colour}" stroke-width="1" stroke-dasharray="4 3"/>"#,
            at(x1),
            at(y1),
            at(x2),
            at(y2)
        );
    }

    pub fn path(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{},{}", at(*x), at(*y)))
            .collect();
        let _ = writeln!(
            self.body,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
            points.join(" ")
        );
    }

    /// A dot; hollow ones have a rim only.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: &str, hollow: bool) {
        let fill = if hollow { "#ffffff" } else { colour };
        let _ = writeln!(
            self.body,
            r#"<circle cx="{}" cy="{}" r="{}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>"#,
            at(x),
            at(y),
            at(radius)
        );
    }

    /// Many small see-through dots.
    pub fn cloud(&mut self, points: &[(f64, f64)], colour: &str) {
        let _ = writeln!(self.body, r#"<g fill="{colour}" fill-opacity="0.45">"#);
        for (x, y) in points {
            let _ = writeln!(
                self.body,
                r#"<circle cx="{}" cy="{}" r="1.8"/>"#,
                at(*x),
                at(*y)
            );
        }
        self.body.push_str("</g>\n");
    }

    pub fn text(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, colour: &str) {
        self.styled(
            (x, y),
            text,
            anchor,
            &format!(r#"font-size="12" fill="{colour}""#),
        );
    }

    pub fn heading(&mut self, (x, y): (f64, f64), text: &str) {
        self.styled(
            (x, y),
            text,
            Anchor::Start,
            &format!(r#"font-size="14" font-weight="600" fill="{INK}""#),
        );
    }

    /// Text that runs upwards, centred on its point.
    pub fn upwards(&mut self, (x, y): (f64, f64), text: &str) {
        self.styled(
            (x, y),
            text,
            Anchor::Middle,
            &format!(
                r#"font-size="12" fill="{GREY}" transform="rotate(-90 {} {})""#,
                at(x),
                at(y)
            ),
        );
    }

    fn styled(&mut self, (x, y): (f64, f64), text: &str, anchor: Anchor, style: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            r#"<text x="{}" y="{}" text-anchor="{anchor}" {style}>{}</text>"#,
            at(x),
            at(y),
            escape(text)
        );
    }

    /// The drawing as a file that stands alone or inside HTML.
    pub fn finish(self) -> String {
        let Self {
            width,
            height,
            label,
            body,
        } = self;
        let (w, h) = (at(width), at(height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{label}\" font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\">\n<title>{label}</title>\n<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

/// Round numbers for an axis from `low` to `high`: about `count`, at steps of 1, 2 or 5 times a power of ten.
pub(super) fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return vec![low];
    }
    let raw = span / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A tick's number: as many decimals as neighbours need to differ.
pub(super) fn tick_label(value: f64, ticks: &[f64]) -> String {
    let step = match ticks {
        [a, b, ..] => (b - a).abs(),
        _ => 1.0,
    };
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // No "-0".
    if text
        .trim_start_matches('-')
        .chars()
        .all(|c| c == '0' || c == '.')
    {
        text.trim_start_matches('-').into()
    } else {
        text
    }
}
