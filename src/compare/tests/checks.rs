//! Truths over seeds: means, verdicts and how they are shown.

use super::*;
use crate::eval::Interval;
use crate::train::{Floor, TruthFigure, TruthResult};

/// A result whose deciding figure is `value` +- 0.1 against chance at 0.5 and a floor of the map's own.
fn result(value: f64, floor: f64) -> TruthResult {
    let interval = Some(Interval {
        low: value - 0.1,
        high: value + 0.1,
        level: 0.95,
    });
    let metric = || Metric::of(value).with_interval(interval);
    let floors = vec![
        Floor::new("chance", Metric::of(0.5)),
        Floor::new("own", Metric::of(floor)),
        Floor::new("none", Metric::undefined("nothing to rank")),
    ];
    TruthResult::new(
        "spans",
        vec![
            TruthFigure::deciding("token AUC, marked spans", metric(), floors),
            TruthFigure::shown(
                "beside",
                Metric::undefined("one class"),
                vec![Floor::new("chance", Metric::of(0.5))],
            ),
        ],
        12,
        90,
        vec!["two rows left out".into(), format!("floor {floor}")],
    )
}

fn asked() -> Value {
    json!([{"kind": "spans", "file": "toxic <spans>.jsonl"}, {"kind": "intervention"}])
}

fn trust_of(results: &Results, label: &str) -> Trust {
    let system = results.systems.iter().find(|s| s.label == label);
    system.unwrap().trust
}

#[test]
fn a_map_is_checked_only_if_every_seed_passed_every_truth() {
    const BASE: &str = "bradley_terry_sum";
    let of = |second_truth_of_second_seed: f64| {
        made_up_with(asked(), move |label, seed| {
            let last = match (label, seed) {
                (BASE, 1) => second_truth_of_second_seed,
                _ => 0.9,
            };
            vec![result(0.8, 0.6), result(last, 0.6)]
        })
    };
    let all = of(0.9);
    assert_eq!(trust_of(&all, BASE), Trust::Checked);
    assert_eq!(trust_of(&all, AWKWARD), Trust::Checked);
    // Its training diverged: there is no map that passed.
    assert_eq!(trust_of(&all, "dpo"), Trust::Exploratory);
    // One seed of one truth is enough to fail, and fails that system alone.
    let one = of(0.65);
    assert_eq!(trust_of(&one, BASE), Trust::Exploratory);
    assert_eq!(trust_of(&one, AWKWARD), Trust::Checked);
    let second = &one.checks[1].systems[0];
    let passed: Vec<(u64, bool)> = second.seeds.iter().map(|s| (s.seed, s.passed)).collect();
    assert_eq!(passed, [(0, true), (1, false)]);
    assert_eq!(second.figures[0].passed_seeds, [0]);
    assert!(!second.passed && one.checks[0].systems[0].passed);
    // Nothing asked for: nothing is checked, whatever the figures.
    let none = made_up();
    assert!(none.checks.is_empty());
    assert!(none.systems.iter().all(|s| s.trust == Trust::Exploratory));
    assert!(table(&none).contains("no `[[truth]]` was asked for"));
    // Interventions alone have no labels of people.
    let alone = made_up_with(json!([{"kind": "intervention"}]), |_, _| {
        vec![TruthResult {
            truth: "intervention".into(),
            ..result(0.8, 0.6)
        }]
    });
    assert!(alone.checks[0].systems[0].passed);
    assert!(alone.systems.iter().all(|s| s.trust == Trust::Exploratory));
    assert!(table(&alone).contains("have no labels of people"));
    // A result that says of itself that it passed is not believed.
    let lying = made_up_with(asked(), |_, _| {
        let mut result = result(0.3, 0.6);
        result.passed = true;
        vec![result.clone(), result]
    });
    assert_eq!(trust_of(&lying, BASE), Trust::Exploratory);
}

#[test]
fn figures_of_truths_are_means_over_seeds_with_mean_intervals_and_mean_floors() {
    let results = made_up_with(asked(), |_, seed| {
        let seed = seed as f64;
        vec![
            result(0.8 + 0.1 * seed, 0.6 + 0.04 * seed),
            result(0.9, 0.6),
        ]
    });
    let system = &results.checks[0].systems[0];
    assert_eq!((system.answers, system.tokens), (12, 90));
    let figure = &system.figures[0];
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
    close(figure.metric.value.unwrap(), 0.85);
    // Of two values: their distance over the square root of two.
    close(figure.std.unwrap(), 0.1 / 2f64.sqrt());
    let interval = figure.metric.interval.unwrap();
    close(interval.low, 0.75);
    close(interval.high, 0.95);
    close(figure.floors[0].metric.value.unwrap(), 0.5);
    close(figure.floors[1].metric.value.unwrap(), 0.62);
    assert!(figure.floors[2].metric.value.is_none());
    let beside = &system.figures[1];
    assert!(!beside.decides && beside.values.is_empty() && beside.std.is_none());
    assert!(
        beside
            .metric
            .undefined
            .as_deref()
            .unwrap()
            .contains("one class")
    );
    let diverged = &results.checks[0].systems[2];
    assert!(diverged.figures.is_empty() && !diverged.passed);
    assert!(diverged.seeds.iter().all(|s| s.failure.is_some()));
    // Each training keeps its own.
    let cells = results.cells.iter().filter(|c| c.failure.is_none());
    assert!(cells.into_iter().all(|cell| cell.checks.len() == 2));
}

#[test]
fn table_and_page_show_every_truth_and_say_what_checked_means() {
    let results = made_up_with(asked(), |label, seed| {
        let weak = if label == AWKWARD && seed == 1 {
            0.6
        } else {
            0.9
        };
        vec![result(weak, 0.6), result(0.9, 0.6)]
    });
    let markdown = table(&results);
    for words in [
        "A system's map is checked if it passed, with every seed, every truth that was asked for (spans on toxic &lt;spans>.jsonl; intervention on the test rows)",
        "| bradley_terry_sum | checked |",
        "| dpo | exploratory |",
        "## Truth: spans on toxic &lt;spans>.jsonl",
        "Answers with bad_spans or spans: token AUC on the marked parts. Passed: the lower end",
        "- bradley_terry_sum: passed with seeds 0, 1\n",
        ": passed with seed 0; not passed with seed 1\n",
        "- dpo: training diverged with seeds 0, 1\n",
        "0.900 ± 0.000 [0.800, 1.000] | chance 0.500; own 0.600; none undefined: nothing to rank | with seeds 0, 1 |",
        "| dpo |  | undefined: training diverged",
        "- two rows left out\n",
    ] {
        assert!(markdown.contains(words), "no `{words}` in {markdown}");
    }
    assert!(!markdown.contains("<s"), "{markdown}");
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = markdown.lines().collect();
    for pair in lines.windows(2) {
        if pair[0].starts_with('|') && pair[1].starts_with('|') {
            assert_eq!(bars(pair[0]), bars(pair[1]), "{}\n{}", pair[0], pair[1]);
        }
    }
    let html = page(&results, &[]);
    for words in [
        "<h3>Truth: spans on toxic &lt;spans&gt;.jsonl</h3>",
        "<td class=\"good\">checked</td>",
        "<td class=\"\">exploratory</td>",
        "<span class=\"bad\">passed with seed 0; not passed with seed 1</span>",
        "A system&#39;s map is checked if it passed, with every seed",
    ] {
        assert!(html.contains(words), "no `{words}`");
    }
    let body = html.split_once("<main>").unwrap().1;
    let body = body.split_once("</main>").unwrap().0;
    well_formed(&body.replace("<br>", "<br/>")).unwrap();
    assert!(!markdown.contains("NaN") && !html.contains("NaN") && !html.contains("<script"));
    let again: Results = serde_json::from_str(&serde_json::to_string(&results).unwrap()).unwrap();
    assert_eq!(again.systems[0].trust, Trust::Checked);
    assert_eq!(
        again.checks[0].systems[1].seeds,
        results.checks[0].systems[1].seeds
    );
}
