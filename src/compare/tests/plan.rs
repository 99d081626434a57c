//! Plans: what is refused, and which trainings there are.

use super::*;
use crate::train::TrainConfig;

#[test]
fn what_is_wrong_with_a_plan_is_said_with_the_way_out() {
    for (value, words) in [
        (json!({"seeds": [0]}), vec!["no method", "[[method]]"]),
        (
            json!({"method": [{"name": "ava_p"}]}),
            vec!["`seeds` is empty"],
        ),
        (
            json!({"seeds": [3, 3], "method": [{"name": "ava_p"}]}),
            vec!["seed 3 is listed twice"],
        ),
        (
            methods(&["ava_q"]),
            vec!["ava_q: there is no method", "known methods: ava_d, ava_p"],
        ),
        (
            methods(&["dpo", "dpo"]),
            vec!["two systems are called `dpo`", "label"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "dpo"}, {"name": "dpo", "label": "again"}]}),
            vec!["`dpo` and `again` are the same method"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "dpo", "credit": "owm"}]}),
            vec!["owm", "own"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "options": {"lamda": 1}}]}),
            vec!["ava_p", "lamda", "lambda"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"lamda": [1]}}]}),
            vec!["lamda", "lambda", "learning_rate"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"steps": [1, 2]}}]}),
            vec!["`steps` cannot be tuned", "equal terms"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": []}}]}),
            vec!["`tune.learning_rate` is empty"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": [1, 1]}}]}),
            vec!["lists 1 twice"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": ["x"]}}]}),
            vec!["\"x\"", "no number"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "tune": {"learning_rate": [-1]}}]}),
            vec!["`learning_rate` is -1"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "options": {"lambda": 1}, "tune": {"lambda": [1]}}]}),
            vec!["both under `options` and under `tune`"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}, {"name": "dpo", "tune": {"learning_rate": [1e-3, 1e-4]}}]}),
            vec!["`ava_p` has 1", "`dpo` has 2", "unequal_trials"],
        ),
        (
            json!({"seeds": [0], "baseline": "bt", "method": [{"name": "ava_p"}]}),
            vec!["`baseline` is `bt`", "labels: ava_p"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "intervention"}, {"kind": "span"}]}),
            vec!["`[[truth]]` 2", "no truth `span`", "known truths: spans ("],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "lexicon"}]}),
            vec!["`lexicon` needs a file", "VADER"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "edits", "limit": 0}]}),
            vec!["`limit` is 0"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p"}], "truth": [{"kind": "spans", "file": "a"}, {"kind": "spans", "file": "a", "limit": 3}]}),
            vec!["`[[truth]]` 2", "spans on a is listed twice"],
        ),
        (
            json!({"seeds": [0], "tune_seeds": 2, "method": [{"name": "ava_p"}]}),
            vec!["`tune_seeds` is 2"],
        ),
        (
            json!({"seeds": [0], "test": 1.0, "method": [{"name": "ava_p"}]}),
            vec!["`test` is 1"],
        ),
        (
            json!({"seeds": [0], "test": 0.0, "method": [{"name": "ava_p"}]}),
            vec!["`test` is 0"],
        ),
        (
            json!({"seeds": [0], "limit": 0, "method": [{"name": "ava_p"}]}),
            vec!["`limit` is 0"],
        ),
        (
            json!({"seeds": [0], "resamples": 1, "method": [{"name": "ava_p"}]}),
            vec!["`resamples` is 1"],
        ),
        (
            json!({"seeds": [0], "train": {"steps": 0}, "method": [{"name": "ava_p"}]}),
            vec!["ava_p", "`steps`"],
        ),
        (
            json!({"seeds": [0], "train": {"trainable": {"mode": "heads"}}, "method": [{"name": "dpo"}]}),
            vec!["dpo", "heads"],
        ),
    ] {
        let error = Plan::new(config(value.clone())).expect_err(&value.to_string());
        for word in words {
            assert!(error.to_string().contains(word), "no `{word}` in: {error}");
        }
    }
}

#[test]
fn a_plan_trains_every_trial_with_the_first_seeds_and_the_chosen_one_with_all() {
    let grid = json!({"learning_rate": [1e-3, 3e-3], "lambda": [0.5, 1.0]});
    let plan = Plan::new(config(json!({
        "seeds": [7, 8, 9], "tune_seeds": 1,
        "method": [
            {"name": "ava_p", "tune": grid},
            {"name": "bradley_terry_sum", "tune": {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]}},
        ],
    })))
    .unwrap();
    assert_eq!(plan.baseline, Some(1));
    assert_eq!(plan.tuning_cells().len(), 8);
    let last = plan.final_cells(&[3, 0]);
    assert_eq!(plan.tuning_cells().len() + last.len(), plan.cell_count());
    assert_eq!(
        last[0],
        Cell {
            system: 0,
            trial: 3,
            seed: 8
        }
    );
    let train = plan.train_config(last[0]);
    assert_eq!((train.seed, train.learning_rate), (8, 3e-3));
    assert_eq!(train.options["lambda"], json!(1.0));
    let names: std::collections::BTreeSet<String> = plan
        .tuning_cells()
        .into_iter()
        .chain(last)
        .map(|cell| plan.cell_name(cell))
        .collect();
    assert_eq!(names.len(), plan.cell_count());
}

#[test]
fn the_default_configuration_of_training_is_the_ordinary_one() {
    let plan = Plan::new(config(methods(&["ava_p"]))).unwrap();
    let train = &plan.systems[0].trials[0].train;
    let ordinary = TrainConfig::default();
    assert_eq!(
        (train.steps, train.batch_size, train.learning_rate),
        (ordinary.steps, ordinary.batch_size, ordinary.learning_rate)
    );
    // No evaluation and no early stopping inside a cell: the budget is spent whole.
    assert_eq!((train.eval_steps, train.early_stopping_patience), (0, 0));
}
