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
    let outcomes: Vec<(u64, Outcome)> = second.seeds.iter().map(|s| (s.seed, s.outcome)).collect();
    assert_eq!(outcomes, [(0, Outcome::Passed), (1, Outcome::NotPassed)]);
    assert_eq!(second.figures[0].passed_seeds, [0]);
    assert_eq!(second.outcome, Outcome::NotPassed);
    assert_eq!(one.checks[0].systems[0].outcome, Outcome::Passed);
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
    assert_eq!(alone.checks[0].systems[0].outcome, Outcome::Passed);
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
fn an_undecided_truth_counts_neither_way() {
    const BASE: &str = "bradley_terry_sum";
    let asked = || json!([{"kind": "spans", "file": "a"}, {"kind": "spans", "file": "b"}, {"kind": "intervention"}]);
    let few = || result(0.9, 0.6).with_evidence(3);
    let good = || result(0.9, 0.6);
    // It stands in the way of no other.
    let one = made_up_with(asked(), |_, _| vec![good(), few(), good()]);
    assert_eq!(trust_of(&one, BASE), Trust::Checked);
    assert_eq!(one.checks[1].systems[0].outcome, Outcome::Undecided);
    // Every seed's map is checked by another truth, as `avascope eval` would have it.
    let in_turn = made_up_with(asked(), |_, seed| match seed {
        0 => vec![good(), few(), good()],
        _ => vec![few(), good(), good()],
    });
    assert_eq!(trust_of(&in_turn, BASE), Trust::Checked);
    // One with people's labels must be decided, with every seed.
    for left in [vec![0, 1], vec![0]] {
        let none = made_up_with(asked(), |_, seed| match left.contains(&seed) {
            true => vec![few(), few(), good()],
            false => vec![good(), few(), good()],
        });
        assert_eq!(trust_of(&none, BASE), Trust::Exploratory);
    }
    // And it makes up for no failure.
    let bad = made_up_with(asked(), |_, _| vec![good(), few(), result(0.6, 0.6)]);
    assert_eq!(trust_of(&bad, BASE), Trust::Exploratory);

    let markdown = table(&one);
    for words in [
        "and is decided, at least one of them with people's labels",
        "| bradley_terry_sum | checked |",
        "- bradley_terry_sum: undecided with seeds 0, 1\n",
        "- undecided: 3 answers bear on it, and at least 10 are needed\n",
    ] {
        assert!(markdown.contains(words), "no `{words}` in {markdown}");
    }
    assert!(page(&one, &[]).contains("<span class=\"\">undecided with seeds 0, 1</span>"));
    let json = serde_json::to_value(&one.checks[1].systems[0]).unwrap();
    assert_eq!(json["outcome"], "undecided");
    assert_eq!(json["seeds"][0]["outcome"], "undecided");
}

#[test]
fn a_truth_that_has_no_say_on_a_method_is_shown_with_the_reason() {
    let asked = json!([{"kind": "edits", "file": "e"}, {"kind": "intervention"}]);
    let results = made_up_with(asked, |label, _| {
        // One of the systems as if it had learned from edits.
        let method = match label == AWKWARD {
            true => "fine_grained",
            false => "bradley_terry_sum",
        };
        let objective = crate::objective::build(method, &Value::Null).unwrap();
        let edits = TruthResult {
            truth: "edits".into(),
            ..result(0.9, 0.6)
        };
        vec![edits.for_map_of(objective.as_ref()), result(0.9, 0.6)]
    });
    let [base, own, _] = results.checks[0].systems.as_slice() else {
        panic!("three systems");
    };
    assert_eq!(
        (base.outcome, own.outcome),
        (Outcome::Passed, Outcome::Undecided)
    );
    assert!(base.figures[0].decides && !own.figures[0].decides);
    assert_eq!(own.figures[0].metric.value, Some(0.9));
    assert_eq!(trust_of(&results, "bradley_terry_sum"), Trust::Checked);
    assert_eq!(trust_of(&results, AWKWARD), Trust::Exploratory);
    let said = "`fine_grained` learns from what was edited between two answers";
    assert!(table(&results).contains(said));
}

#[test]
fn truths_have_a_plot_with_their_floors_and_intervals() {
    let results = made_up_with(asked(), |label, seed| {
        let value = match label == AWKWARD {
            true => 0.55,
            false => 0.8 + 0.05 * seed as f64,
        };
        vec![result(value, 0.6), result(0.9, 0.65)]
    });
    let all = plots(&results);
    let plot = all.iter().find(|plot| plot.file == "truths.svg").unwrap();
    well_formed(&plot.svg).unwrap();
    for words in [
        "spans on toxic &lt;spans&gt;.jsonl: token AUC, marked spans",
        "intervention on the test rows: token AUC, marked spans",
        "floors (bars): own",
        ">0.825 [0.725, 0.925]<",
        ">undefined<",
        "stroke-dasharray",
        "fill-opacity",
    ] {
        assert!(plot.svg.contains(words), "no `{words}` in {}", plot.svg);
    }
    // Figures that decide nothing are in the table alone.
    assert!(!plot.svg.contains("beside") && !plot.svg.contains("NaN"));
    // Two panels of three systems; a system that did not pass, or diverged, has no filled dot.
    assert_eq!(plot.svg.matches("r=\"4.0\"").count(), 4);
    assert_eq!(plot.svg.matches("r=\"4.0\" fill=\"#0072b2\"").count(), 3);
    let html = page(&results, &all);
    assert!(html.contains(plot.title) && html.contains(&plot.svg));
    assert!(
        plots(&made_up())
            .iter()
            .all(|plot| plot.file != "truths.svg")
    );
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
    assert!(diverged.figures.is_empty() && diverged.outcome == Outcome::NotPassed);
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
