use super::*;
use crate::eval::best_of_n::Ensemble;
use crate::eval::pair_accuracy;
use crate::eval::testing::{all_close, close, floats, golden, rows as float_rows};
use serde_json::Value;

fn map(value: &Value) -> BTreeMap<String, f64> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(k, v)| (k.clone(), v.as_f64().unwrap()))
        .collect()
}

fn check_sections(file: &Value, got: &[Option<f64>; 4], expected: &Value) {
    for ((name, _), score) in SECTIONS.iter().zip(got) {
        close(
            file,
            name,
            score.unwrap(),
            expected[*name].as_f64().unwrap(),
        );
    }
}

#[test]
fn sections_and_counts_are_the_official_ones() {
    let Some(file) = golden("rewardbench") else {
        return;
    };
    let counts = map(&file["inputs"]["counts"]);
    assert_eq!(
        SECTIONS.iter().map(|(_, s)| s.len()).sum::<usize>(),
        counts.len()
    );
    for (section, subsets) in SECTIONS {
        let names: Vec<&str> = file["inputs"]["sections"][section]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap())
            .collect();
        assert_eq!(names, subsets.iter().map(|s| s.0).collect::<Vec<_>>());
        assert!(
            subsets
                .iter()
                .all(|(name, count)| counts[*name] == f64::from(*count))
        );
    }
}

#[test]
fn the_report_matches_the_golden_values() {
    let Some(file) = golden("rewardbench") else {
        return;
    };
    let rows: Vec<ScoredRow> = serde_json::from_value(file["inputs"]["rows"].clone()).unwrap();
    let expected = &file["expected"]["rows"];
    let results: Vec<f64> = results(&rows)
        .unwrap()
        .into_iter()
        .map(|r| f64::from(u8::from(r)))
        .collect();
    assert_eq!(results, floats(&expected["results"]));
    let got = report(
        &rows,
        &map(&file["inputs"]["prior_sets"]),
        &Bootstrap {
            draws: 50,
            ..Bootstrap::default()
        },
    )
    .unwrap();
    let subsets = map(&expected["subset_accuracy"]);
    assert_eq!(got.subsets.len(), subsets.len());
    for subset in &got.subsets {
        close(
            &file,
            &subset.subset,
            subset.accuracy.value.unwrap(),
            subsets[&subset.subset],
        );
    }
    for section in &got.sections {
        let value = expected["sections"][&section.section].as_f64().unwrap();
        close(&file, &section.section, section.score.value.unwrap(), value);
        assert!(section.score.interval.is_some() && section.missing.is_empty());
    }
    close(
        &file,
        "overall_four",
        got.overall_four.value.unwrap(),
        expected["overall_four"].as_f64().unwrap(),
    );
    let five = expected["overall_with_prior"].as_f64().unwrap();
    close(
        &file,
        "overall_with_prior",
        got.overall_with_prior.value.unwrap(),
        five,
    );
    close(
        &file,
        "accuracy",
        got.accuracy.value.unwrap(),
        expected["accuracy"].as_f64().unwrap(),
    );
    assert!(got.to_string().contains("alpacaeval-easy"));
}

#[test]
fn given_subset_accuracies_give_the_golden_sections() {
    let Some(file) = golden("rewardbench") else {
        return;
    };
    let mut accuracy = map(&file["inputs"]["subset_accuracy"]);
    let expected = &file["expected"]["subset_accuracy"];
    let got = section_scores(&accuracy);
    check_sections(&file, &got, &expected["sections"]);
    close(
        &file,
        "overall",
        overall_four(&got).unwrap(),
        expected["overall_four"].as_f64().unwrap(),
    );

    // Without Reasoning: the golden file has the public code's 0, ours leaves the section out.
    accuracy.retain(|k, _| !k.starts_with("hep") && k != "math-prm");
    let got = section_scores(&accuracy);
    let expected = &file["expected"]["missing_reasoning"]["sections"];
    assert_eq!((got[3], expected["Reasoning"].as_f64()), (None, Some(0.0)));
    check_sections(&file, &got.map(|s| Some(s.unwrap_or(0.0))), expected);
    let three: f64 = got.iter().flatten().sum::<f64>() / 3.0;
    assert!((overall_four(&got).unwrap() - three).abs() < 1e-15);
}

#[test]
fn ensembles_match_the_golden_values() {
    let Some(file) = golden("rewardbench") else {
        return;
    };
    let models: Vec<(Vec<f64>, Vec<f64>)> = file["inputs"]["ensemble_scores"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (floats(&m[0]), floats(&m[1])))
        .collect();
    let expected = &file["expected"]["ensemble"];
    let ways = [
        ("mean", Ensemble::Mean),
        ("worst", Ensemble::Worst),
        ("mean_minus_std", Ensemble::MeanMinusStd(1.0)),
    ];
    for (name, how) in ways {
        let (chosen, rejected) = ensemble(&models, how).unwrap();
        let scores = float_rows(&expected["scores"][name]);
        all_close(&file, name, &chosen, &scores[0]);
        all_close(&file, name, &rejected, &scores[1]);
        let accuracy = pair_accuracy(&chosen, &rejected).unwrap().accuracy;
        close(
            &file,
            name,
            accuracy,
            expected["accuracy"][name].as_f64().unwrap(),
        );
    }
}

#[test]
fn subsets_without_rows_are_named_and_unknown_ones_kept() {
    let row = |subset: &str, c, r| ScoredRow {
        subset: subset.into(),
        scores_chosen: c,
        scores_rejected: r,
    };
    let rows = [row("hep-rust", 1.0, 0.0), row("mine", 0.5, 0.5)];
    let got = report(&rows, &BTreeMap::new(), &Bootstrap::OFF).unwrap();
    let (with, without): (Vec<_>, Vec<_>) = got.subsets.iter().partition(|s| s.rows > 0);
    let names: Vec<&str> = with.iter().map(|s| s.subset.as_str()).collect();
    assert_eq!(names, ["hep-rust", "mine"]);
    assert_eq!(without.len(), 22);
    for subset in without {
        let reason = subset.accuracy.undefined.as_deref();
        assert_eq!(reason, Some("undefined: no rows"), "{}", subset.subset);
    }
    assert_eq!(
        (got.ties, got.accuracy.value, got.overall_four.value),
        (1, Some(0.5), Some(1.0))
    );
    assert_eq!(
        got.sections[0].score.undefined.as_deref(),
        Some("undefined: no rows of section Chat")
    );
    assert_eq!(got.sections[3].missing.len(), 6);
    assert!(got.overall_with_prior.undefined.is_some());
    assert!(report(&[], &BTreeMap::new(), &Bootstrap::OFF).is_err());
    assert!(
        report(
            &[row("x", f64::NAN, 0.0)],
            &BTreeMap::new(),
            &Bootstrap::OFF
        )
        .is_err()
    );
}
