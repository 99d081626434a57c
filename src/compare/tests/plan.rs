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
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "variant": "w/o ir"}]}),
            vec![
                "ava_p",
                "`variant`",
                "\"w/o ir\"",
                "it is one of `w/o irl`, ",
            ],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "dpo", "variant": "w/o irl"}]}),
            vec!["dpo", "the method has none"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_q", "variant": "w/o irl"}]}),
            vec!["there is no method `ava_q`"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "variant": "w/o td", "tune": {"lambda": [0.1]}}]}),
            vec!["the variant `w/o td` sets `lambda`", "`tune`"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "ava_p", "variant": "w/o td", "options": {"variant": "w/o irl"}}]}),
            vec!["`variant` stands under `options`, too"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "*"}, {"name": "*"}]}),
            vec!["two `[[method]]`", "`*`"],
        ),
        (
            json!({"seeds": [0], "method": [{"name": "*", "options": {"lambda": 0.1}}]}),
            vec!["`*` stands for every method", "`tune` alone"],
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
fn a_variant_is_the_options_behind_its_name_and_options_beside_it_are_laid_over_them() {
    let plan = Plan::new(config(json!({"seeds": [0], "method": [
        {"name": "ava_p", "variant": "w/o irl"},
        {"name": "ava_p", "variant": "w/o irl", "options": {"lambda": 0.05, "gamma": 0.9}, "label": "mine"},
        {"name": "bradley_terry_sum", "credit": "uniform"},
        {"name": "red", "variant": "as printed", "credit": "uniform"},
    ]})))
    .unwrap();
    let labels: Vec<&str> = plan.systems.iter().map(|s| s.label.as_str()).collect();
    let wanted = [
        "ava_p w/o irl",
        "mine",
        "bradley_terry_sum + uniform",
        "red as printed + uniform",
    ];
    assert_eq!(labels, wanted);
    let options = |system: usize| plan.systems[system].trials[0].train.options.clone();
    assert_eq!(options(0), json!({"lambda": 0.0, "kappa": 0.0}));
    assert_eq!(
        options(1),
        json!({"lambda": 0.05, "kappa": 0.0, "gamma": 0.9})
    );
    // What results and a folder's identity keep says both, and makes the same plan.
    let kept = &plan.config.methods[1];
    assert_eq!(kept.variant.as_deref(), Some("w/o irl"));
    assert_eq!(Value::Object(kept.options.clone()), options(1));
    assert_eq!(Plan::new(plan.config.clone()).unwrap(), plan);
}

#[test]
fn a_star_stands_for_every_method_without_an_entry_of_its_own() {
    let grid = json!({"learning_rate": [1e-3, 3e-3]});
    let of = |more: Value| {
        let mut methods = vec![json!({"name": "*", "tune": grid})];
        methods.extend(more.as_array().cloned().unwrap_or_default());
        Plan::new(config(json!({"seeds": [0], "method": methods}))).unwrap()
    };
    let plain = of(json!([]));
    let known = crate::objective::METHODS.iter().map(|method| method.name);
    // By default it reads a column that not all pairs have.
    let wanted: Vec<&str> = known.filter(|name| *name != "secrets2").collect();
    let named = |plan: &Plan| -> Vec<String> {
        let systems = plan.systems.iter();
        systems.map(|system| system.method.clone()).collect()
    };
    assert_eq!(named(&plain), wanted);
    assert_eq!(plain.left_out, ["secrets2"]);
    assert!(plain.baseline.is_some());
    let names = plain.config.methods.iter().map(|entry| &entry.name);
    assert!(names.clone().all(|name| name != EVERY_METHOD) && names.count() == wanted.len());
    for system in &plain.systems {
        assert_eq!(system.trials.len(), 2);
        assert_eq!(system.trials[0].train.options, json!({}));
    }
    let own = of(json!([
        {"name": "secrets2", "variant": "SimCSE", "tune": grid},
        {"name": "dpo", "options": {"beta": 0.5}, "tune": grid},
    ]));
    assert!(own.left_out.is_empty());
    assert_eq!(own.systems.len(), wanted.len() + 1);
    let dpo: Vec<&System> = own.systems.iter().filter(|s| s.method == "dpo").collect();
    assert_eq!(dpo.len(), 1);
    assert_eq!(dpo[0].trials[0].train.options, json!({"beta": 0.5}));
}

#[test]
fn cells_that_differ_by_their_credit_alone_are_one_training() {
    let sum = |credit: &str, rates: Value| json!({"name": "bradley_terry_sum", "credit": credit, "tune": {"learning_rate": rates}});
    let of = |methods: Value, tune_seeds: usize| {
        let config = config(
            json!({"seeds": [4, 5, 6], "tune_seeds": tune_seeds, "unequal_trials": true, "method": methods}),
        );
        Plan::new(config).unwrap()
    };
    let one = json!([1e-3]);
    let plan = of(
        json!([sum("own", one.clone()), {"name": "ava_p"}, sum("uniform", one.clone()), sum("sparse", one)]),
        3,
    );
    let cells = plan.tuning_cells();
    let trainings = plan.trainings(&cells);
    assert_eq!((plan.cell_count(), cells.len()), (12, 12));
    assert_eq!(plan.training_count(), (6, 6));
    assert_eq!(trainings[..2], [vec![0, 2, 3], vec![1]]);
    assert_eq!(trainings.len(), 6);
    let mut all: Vec<usize> = trainings.concat();
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<_>>());
    for training in &trainings {
        let first = plan.train_config(cells[training[0]]);
        assert!(
            training
                .iter()
                .all(|i| plan.train_config(cells[*i]) == first)
        );
    }

    // Each chooses for itself: with further seeds they share a training or they do not.
    let both = json!([1e-3, 3e-3]);
    let plan = of(
        json!([sum("own", both.clone()), sum("uniform", both), {"name": "ava_p"}]),
        1,
    );
    // With the first seed 2 + 1, and with each of two more 1 + 1 or 2 + 1.
    assert_eq!(plan.training_count(), (3 + 4, 3 + 6));
    assert_eq!(plan.trainings(&plan.tuning_cells()).len(), 3);
    assert_eq!(plan.trainings(&plan.final_cells(&[1, 1, 0])).len(), 4);
    assert_eq!(plan.trainings(&plan.final_cells(&[0, 1, 0])).len(), 6);
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
