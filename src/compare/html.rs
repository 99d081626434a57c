//! The report as one file that opens anywhere: no script, no font, no picture from elsewhere.

use super::checks::{meaning, word};
use super::checks_view;
use super::ignorance;
use super::paired::Standing;
use super::plots::Plot;
use super::results::Results;
use super::summary::{Aggregate, Verdict};
use super::svg::escape;
use super::table::{
    about, comparison, difference, facts, figure, floors_with, floors_without, method, overview,
    penalty, truths, tuned, verdict,
};
use crate::reward::Trust;
use std::fmt::Write as _;

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:16px/1.5 system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;color:#1c2530;background:#fff;margin:0}\
main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}\
h1{font-size:28px;margin:0 0 12px}h2{font-size:21px;margin:40px 0 4px}h3{font-size:17px;margin:28px 0 2px}\
p.about,figcaption{color:#56616e;margin:2px 0 10px;font-size:14px}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0}dt{color:#56616e}dd{margin:0;overflow-wrap:anywhere}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-size:14px;width:100%}\
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid #dfe3e8;vertical-align:top}\
th{color:#56616e;font-weight:600}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}\
td.none{color:#66717e;white-space:normal}tr.floor td{color:#66717e}\
.good{color:#006b4e;font-weight:600}.bad{color:#a33f00;font-weight:600}\
figure{margin:18px 0 28px}svg{max-width:100%;height:auto}\
code{font:14px ui-monospace,Consolas,monospace}li{margin:4px 0}";

/// The place of the overview's cell that says how far a map may be trusted.
const MAP_COLUMN: usize = 1;

/// The page.
pub fn page(results: &Results, plots: &[Plot]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>avascope comparison: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>Comparison of {} methods</h1>\n<dl>\n",
        escape(&results.data.source),
        results.systems.len()
    );
    for (name, value) in facts(results) {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", marked(&value));
    }
    html.push_str("</dl>\n");
    overview_table(&mut html, results);
    html.push_str("<h2>Before you believe a figure</h2>\n<ul>\n");
    for caveat in &results.caveats {
        let _ = writeln!(html, "<li>{}</li>", marked(caveat));
    }
    for left in &results.left_out {
        let _ = writeln!(
            html,
            "<li>Not measured: {} ({}).</li>",
            escape(&left.name),
            escape(&left.reason)
        );
    }
    html.push_str("</ul>\n<h2>Plots</h2>\n");
    for plot in plots {
        let _ = writeln!(
            html,
            "<figure>\n<h3>{}</h3>\n<figcaption>{}</figcaption>\n{}</figure>",
            escape(plot.title),
            escape(&plot.caption),
            plot.svg
        );
    }
    html.push_str("<h2>Figures</h2>\n");
    for truth in truths(results) {
        truth_table(&mut html, results, truth);
    }
    html.push_str(&ignorance::html(results));
    html.push_str(&checks_view::html(results));
    systems_table(&mut html, results);
    html.push_str("<h2>Floors</h2>\n<ul>\n");
    for floor in &results.floors {
        let _ = writeln!(
            html,
            "<li>{}: {}{}</li>",
            escape(&floor.name),
            escape(&floor.about),
            escape(&penalty(&floor.penalty))
        );
    }
    html.push_str("</ul>\n</main>\n</body>\n</html>\n");
    html
}

/// Escaped text in which `backticks` set code.
fn marked(text: &str) -> String {
    escape(text)
        .split('`')
        .enumerate()
        .map(|(i, part)| {
            if i % 2 == 1 {
                format!("<code>{part}</code>")
            } else {
                part.to_string()
            }
        })
        .collect()
}

fn figure_cell(aggregate: &Aggregate) -> String {
    let class = if aggregate.metric.value.is_some() {
        "n"
    } else {
        "none"
    };
    format!("<td class=\"{class}\">{}</td>", escape(&figure(aggregate)))
}

fn overview_table(html: &mut String, results: &Results) {
    let (header, lines) = overview(results);
    html.push_str("<h2>Overview</h2>\n<p class=\"about\">Mean ± standard deviation over seeds. Intervals, reasons where undefined, and comparisons stand under each figure below.</p>\n");
    let _ = write!(
        html,
        "<p class=\"about\">{}</p>\n<div class=\"wide\"><table>\n<tr><th>system</th>",
        marked(&meaning(results))
    );
    for name in header {
        let _ = write!(html, "<th>{}</th>", escape(name));
    }
    html.push_str("</tr>\n");
    for line in lines {
        let floor = line
            .first()
            .is_some_and(|label| label.starts_with("floor: "));
        html.push_str(if floor {
            "<tr class=\"floor\">"
        } else {
            "<tr>"
        });
        for (i, text) in line.iter().enumerate() {
            let class = match (i, text.as_str()) {
                (0, _) => "",
                (MAP_COLUMN, text) if text == word(Trust::Checked) => "good",
                (MAP_COLUMN, _) => "",
                (_, "undefined") => "none",
                _ => "n",
            };
            let _ = write!(html, "<td class=\"{class}\">{}</td>", escape(text));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
}

fn truth_table(html: &mut String, results: &Results, truth: &Aggregate) {
    let against = comparison(results, &truth.name);
    let _ = write!(
        html,
        "<h3>{}</h3>\n<p class=\"about\">{}</p>\n<div class=\"wide\"><table>\n<tr><th>system</th><th>mean ± sd over seeds [95 % interval]</th><th>against the floor</th>",
        escape(&truth.name),
        escape(&about(results, &truth.name))
    );
    if let Some(against) = against {
        let _ = write!(
            html,
            "<th>difference to {}</th><th>standing</th>",
            escape(&against.baseline)
        );
    }
    html.push_str("</tr>\n");
    for system in &results.systems {
        let Some(own) = system.truths.iter().find(|t| t.name == truth.name) else {
            continue;
        };
        let class = match own.verdict {
            Verdict::Above => "good",
            Verdict::Below => "bad",
            _ => "",
        };
        let _ = write!(
            html,
            "<tr><td>{}</td>{}<td class=\"{class}\">{}</td>",
            escape(&system.label),
            figure_cell(own),
            escape(&verdict(own))
        );
        if let Some(against) = against {
            match against
                .differences
                .iter()
                .find(|d| d.system == system.label)
            {
                Some(entry) => {
                    let class = match entry.standing {
                        Standing::Ahead => "good",
                        Standing::Behind => "bad",
                        _ => "",
                    };
                    let kind = if entry.metric.value.is_some() {
                        "n"
                    } else {
                        "none"
                    };
                    let _ = write!(
                        html,
                        "<td class=\"{kind}\">{}</td><td class=\"{class}\">{}</td>",
                        escape(&difference(entry)),
                        entry.standing.words()
                    );
                }
                None => html.push_str("<td></td><td>the baseline</td>"),
            }
        }
        html.push_str("</tr>\n");
    }
    for (floor, own) in floors_with(results, &truth.name) {
        let _ = writeln!(
            html,
            "<tr class=\"floor\"><td>floor: {}</td>{}<td></td>{}</tr>",
            escape(floor),
            figure_cell(own),
            if against.is_some() {
                "<td></td><td></td>"
            } else {
                ""
            }
        );
    }
    html.push_str("</table></div>\n");
    if let Some(sentence) = floors_without(results, &truth.name) {
        let _ = writeln!(html, "<p class=\"about\">{}</p>", escape(&sentence));
    }
}

fn systems_table(html: &mut String, results: &Results) {
    html.push_str("<h2>Systems and tuned values</h2>\n<div class=\"wide\"><table>\n<tr><th>system</th><th>method</th><th>token rewards</th><th>learns from</th><th>tuned</th><th>source</th></tr>\n");
    for (index, system) in results.systems.iter().enumerate() {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td><code>{}</code><br>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&system.label),
            escape(&method(system)),
            escape(&system.title),
            escape(&system.credit),
            escape(&system.learns_from),
            escape(&tuned(results, index)),
            escape(&system.citation)
        );
    }
    html.push_str("</table></div>\n");
}
