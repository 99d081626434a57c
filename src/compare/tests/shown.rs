//! What is shown: plots, table, page and JSON.

use super::super::svg::{escape, tick_label, ticks};
use super::*;

#[test]
fn plots_are_well_formed_and_hold_whatever_a_label_holds() {
    let results = made_up();
    let plots = plots(&results);
    let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
    assert_eq!(
        files,
        [
            "auc.svg",
            "accuracy.svg",
            "correlation.svg",
            "reliability.svg",
            "reward-against-truth.svg"
        ]
    );
    for plot in &plots {
        well_formed(&plot.svg).unwrap_or_else(|error| panic!("{}: {error}", plot.file));
        assert!(!plot.svg.contains("<script"), "{}", plot.file);
        assert!(!plot.svg.contains("NaN") && !plot.svg.contains("inf"));
    }
    assert!(well_formed("<a><b></a>").is_err() && well_formed("<a>&x</a>").is_err());
    // The diverged system stands in the plot without a number.
    assert!(plots[0].svg.contains(">undefined<"));
    assert!(plots[3].caption.contains("dpo (training diverged"));
}

#[test]
fn table_page_and_json_say_undefined_and_never_nan() {
    let results = made_up();
    let markdown = table(&results);
    let html = page(&results, &plots(&results));
    let json = serde_json::to_string(&results).unwrap();
    for text in [&markdown, &html, &json] {
        assert!(text.contains("undefined: training diverged"));
        for word in ["NaN", " inf", "-inf"] {
            assert!(!text.contains(word), "{word}");
        }
    }
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
    assert!(markdown.contains("\\|") && markdown.contains("ahead"));
    // Nothing is loaded from elsewhere; the only addresses name the drawing language.
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("src="));
    assert!(
        results
            .caveats
            .iter()
            .any(|c| c.contains("2 seeds say little"))
    );
    assert!(
        results
            .caveats
            .iter()
            .any(|c| c.contains("diverged with seeds 0, 1"))
    );
    let again: Results = serde_json::from_str(&json).unwrap();
    // Reading may change a number's last bit, and nothing else.
    for (read, written) in again.systems[1]
        .truths
        .iter()
        .zip(&results.systems[1].truths)
    {
        let (a, b) = (read.metric.value.unwrap(), written.metric.value.unwrap());
        assert_eq!(read.name, written.name);
        assert!((a - b).abs() < 1e-14 * b.abs().max(1.0));
    }
    assert_eq!(again.schema, SCHEMA);
    // Every row of a Markdown table has as many cells as its header.
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = markdown.lines().collect();
    for pair in lines.windows(2) {
        if pair[0].starts_with('|') && pair[1].starts_with('|') {
            assert_eq!(bars(pair[0]), bars(pair[1]), "{}\n{}", pair[0], pair[1]);
        }
    }
}

#[test]
fn ticks_are_round_and_text_is_safe() {
    let marks = ticks(0.27, 0.93, 6);
    let labels: Vec<String> = marks.iter().map(|mark| tick_label(*mark, &marks)).collect();
    // Steps of 0.11 are no round ones: the next is 0.2.
    assert_eq!(labels, ["0.4", "0.6", "0.8"]);
    assert_eq!(tick_label(-1e-17, &[-0.5, 0.0]), "0.0");
    assert_eq!(ticks(1.0, 1.0, 5), [1.0]);
    assert_eq!(escape("a<b>\"&'\u{7}\n"), "a&lt;b&gt;&quot;&amp;&#39; ");
}
