//! Over seeds: means, intervals, floors, paired comparisons, and the choice of tuned values.

use super::super::paired;
use super::super::summary::{Series, aggregate, judge};
use super::super::truths::{NamedFloor, percentiles};
use super::*;

#[test]
fn holm_multiplies_the_smallest_by_all_and_never_falls() {
    // By hand: 0.01 x 4, 0.02 x 3, max(0.06, 0.03 x 2), 0.9.
    let adjusted = holm(&[0.03, 0.01, 0.9, 0.02]);
    for (got, expected) in adjusted.iter().zip([0.06, 0.04, 0.9, 0.06]) {
        assert!((got - expected).abs() < 1e-15, "{adjusted:?}");
    }
    assert!(holm(&[]).is_empty());
    assert_eq!(holm(&[0.8, 0.9]), [1.0, 1.0]);
}

fn series(name: &str, seeds: &[Assessment]) -> Series {
    aggregate(name, &seeds.iter().collect::<Vec<_>>(), &[])
}

#[test]
fn the_better_system_is_ahead_the_same_one_is_not_told_apart_and_errors_count_the_other_way() {
    let good = [
        assess(&answers(80, 0.5, 1), true),
        assess(&answers(80, 0.5, 2), true),
    ];
    let poor = [
        assess(&answers(80, 4.0, 3), true),
        assess(&answers(80, 4.0, 4), true),
    ];
    for truth in ["correlation with known rewards", "mean squared error"] {
        let (good, poor) = (series(truth, &good), series(truth, &poor));
        let both = [("good", &good), ("same", &poor)];
        let comparison = paired::compare(truth, ("poor", &poor), &both).unwrap();
        let [ahead, same] = comparison.differences.as_slice() else {
            panic!("two systems");
        };
        assert_eq!(ahead.standing, Standing::Ahead, "{truth}");
        assert_eq!(
            (same.standing, same.p_value, same.metric.value),
            (Standing::NotDistinguishable, Some(1.0), Some(0.0))
        );
        let back = paired::compare(truth, ("good", &good), &[("poor", &poor)]).unwrap();
        assert_eq!(back.differences[0].standing, Standing::Behind, "{truth}");
        // The same draws the other way round.
        let (a, b) = (&ahead.metric, &back.differences[0].metric);
        assert!((a.value.unwrap() + b.value.unwrap()).abs() < 1e-12);
        assert!((a.interval.unwrap().low + b.interval.unwrap().high).abs() < 1e-12);
    }
    // A coverage has a target and no order.
    let coverage = series("coverage of 95 % intervals", &good);
    assert!(paired::compare("x", ("a", &coverage), &[("b", &coverage)]).is_none());
}

#[test]
fn figures_over_seeds_have_a_mean_a_spread_an_interval_and_a_floor() {
    let seeds = [
        assess(&answers(60, 0.5, 1), true),
        assess(&answers(60, 2.0, 2), true),
    ];
    let name = "correlation with known rewards";
    let (a, b) = (value(&seeds[0], name), value(&seeds[1], name));
    let mut both = series(name, &seeds);
    assert!((both.aggregate.metric.value.unwrap() - (a + b) / 2.0).abs() < 1e-12);
    // Of two values the standard deviation is their distance over the square root of two.
    assert!((both.aggregate.std.unwrap() - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
    let one = series(name, &seeds[..1]);
    assert_eq!(one.aggregate.std, None);
    let width = |s: &Series| {
        let i = s.aggregate.metric.interval.unwrap();
        i.high - i.low
    };
    // Two seeds that differ leave more open than the rows of one.
    assert!(width(&both) > width(&one));

    let poor = series(name, &[assess(&answers(60, 6.0, 3), true)]);
    let chance = [NamedFloor {
        name: "chance".into(),
        value: 0.0,
    }];
    judge(&mut both, &[("poor", &poor)], &chance);
    assert_eq!(both.aggregate.verdict, Verdict::Above);
    assert_eq!(both.aggregate.floor.as_ref().unwrap().0, "poor");
    let mut low = poor.clone();
    judge(&mut low, &[("both", &both)], &chance);
    assert_eq!(low.aggregate.verdict, Verdict::Below);

    // A seed that failed leaves the others; all failed leave a reason.
    let failed = aggregate(name, &[], &["training diverged"]);
    assert_eq!(
        failed.aggregate.metric.undefined.as_deref(),
        Some("undefined: training diverged")
    );
    assert_eq!(failed.aggregate.verdict, Verdict::Undefined);
    assert!(percentiles([None, None, Some(1.0)].into_iter()).is_none());
}

#[test]
fn values_are_chosen_on_validation_rows_alone() {
    let choose =
        |cells: &[CellRecord], trials| choose_trial(&cells.iter().collect::<Vec<_>>(), trials);
    let mut cells = vec![
        cell("a", 0, 0, Some(0.7), 1.0),
        cell("a", 0, 1, Some(0.7), 1.0),
        cell("a", 1, 0, Some(0.6), 9.0),
        cell("a", 1, 1, Some(0.9), 9.0),
    ];
    // The test rows prefer the other trial, and have no say.
    cells[0].assessment = assess(&answers(20, 0.0, 1), true);
    assert_eq!(choose(&cells, 2), 1);
    // A tie is broken by the margin, a tie of that by the order.
    let tie = |margin| {
        [
            cell("a", 0, 0, Some(0.7), 1.0),
            cell("a", 1, 0, Some(0.7), margin),
        ]
    };
    assert_eq!(choose(&tie(2.0), 2), 1);
    assert_eq!(choose(&tie(1.0), 2), 0);
    // A trial that diverged with any seed comes last.
    let diverged = [
        cell("a", 0, 0, Some(0.99), 1.0),
        cell("a", 0, 1, None, 0.0),
        cell("a", 1, 0, Some(0.6), 1.0),
        cell("a", 1, 1, Some(0.6), 1.0),
    ];
    assert_eq!(choose(&diverged, 2), 1);
}

#[test]
fn a_training_that_diverged_is_a_record_and_any_other_error_is_an_error() {
    let record = || CellRecord::empty("d", "dpo", 0, BTreeMap::new(), 0);
    let diverged = crate::train::TrainError::NonFinite {
        term: "loss".into(),
        value: f64::NAN,
        step: 7,
        row: String::new(),
    };
    let failed = failed_cell(record(), diverged).unwrap();
    assert!(failed.failure.unwrap().contains("step 7"));
    let broken = crate::train::TrainError::Rows("no rows".into());
    assert!(failed_cell(record(), broken).is_err());
}
