//! Inverse RL on a small world: both posteriors, their comparison, D-Shape's race, and maps that make no world.

use crate::support::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Few steps of everything.
const FEW: &str = "--steps 40 --chains 2 --warmup 20 --draws 60 --episodes 15 --seeds 2 --limit 40";

fn json_of(here: &Path, words: &str) -> Value {
    let done = avascope(here, &format!("gridworld {words} {FEW} --json -q"), &[]).code(0);
    serde_json::from_str(&done.out).expect("JSON")
}

/// A number with its value, or without one and with the reason.
fn stated(metric: &Value) -> bool {
    metric["value"].is_number() || metric["undefined"].is_string()
}

#[test]
fn what_diverges_and_what_cannot_be_sampled_is_said_in_its_own_words() {
    let scratch = tempfile::tempdir().unwrap();
    let of = |more: &str| {
        avascope(
            scratch.path(),
            &format!("gridworld classic {FEW} {more}"),
            &[],
        )
    };
    let diverged = of("--learning-rate 1e30")
        .code(3)
        .says(&["--learning-rate"]);
    assert!(!diverged.err.contains("checkpoint"), "{}", diverged.err);
    for more in ["--chains 1", "--draws 0"] {
        let refused = of(more)
            .code(2)
            .says(&["give at least 2 chains and 4 draws"]);
        assert!(!refused.err.contains("AVRIL trained"), "{}", refused.err);
    }
}

#[test]
fn the_lesson_compares_both_posteriors_and_runs_the_race() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let lesson = json_of(here, "classic --demonstrations 2,9 --seed 3");
    assert_eq!(lesson["schema"], "avascope.gridworld/1");
    assert_eq!(lesson["free_cells"], 11);
    let studies = lesson["studies"].as_array().unwrap();
    assert_eq!(studies.len(), 2);
    for (study, n) in studies.iter().zip([2, 9]) {
        assert_eq!(study["demonstrations"], n);
        let count = |key: &str| study[key].as_u64().unwrap();
        assert_eq!(
            count("reached_a_goal") + count("fell") + count("cut_off"),
            n
        );
        // Only the last step of an episode that was cut off is of no use to AVRIL.
        assert_eq!(count("steps"), count("avril_rows") + count("cut_off"));
        let states = study["states"].as_array().unwrap();
        assert_eq!(states.len(), 11);
        let mut entered = 0;
        for state in states {
            for number in ["avril_std", "mcmc_std"] {
                assert!(state[number].as_f64().unwrap() > 0.0, "{state}");
            }
            if state["entered"] == 0 {
                assert_eq!(
                    (&state["avril_mean"], &state["avril_std"]),
                    (&0.0.into(), &1.0.into())
                );
            } else {
                entered += 1;
            }
        }
        assert_eq!(study["entered_states"]["count"], entered);
        assert_eq!(study["all_states"]["count"], 11);
        for part in ["entered_states", "all_states"] {
            for metric in [
                "pearson",
                "spearman",
                "std_ratio",
                "coverage",
                "coverage_after_shift",
            ] {
                assert!(stated(&study[part][metric]), "{metric}: {study}");
            }
        }
        assert!(study["mcmc"]["acceptance"].as_f64().unwrap() > 0.0);
        assert!(study["mcmc"]["fewest_effective_draws"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(
        lesson["growth"]["demonstrations"],
        serde_json::json!([2, 9])
    );
    let race = &lesson["d_shape"];
    assert_eq!(race["kept"]["changed"], 0);
    assert!(race["kept"]["largest_difference"].as_f64().unwrap() < 1e-7);
    let names: Vec<&str> = race["heats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["learner"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["q_learning", "d_shape_without_shaping", "d_shape"]);
    for heat in race["heats"].as_array().unwrap() {
        assert_eq!(heat["racers"].as_array().unwrap().len(), 2);
        assert!(stated(&heat["median_steps"]), "{heat}");
    }
    // The same words give the same numbers, and another seed others.
    assert_eq!(
        lesson,
        json_of(here, "classic --demonstrations 2,9 --seed 3")
    );
    let other = json_of(here, "classic --demonstrations 2,9 --seed 4");
    assert_ne!(lesson["studies"], other["studies"]);
}

#[test]
fn a_map_from_a_file_is_shown_with_its_numbers_and_a_short_chain_is_called_unsettled() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::write(here.join("my.map"), "S.#\r\n..C\r\n..G\r\n").unwrap();
    let done = avascope(
        here,
        &format!("gridworld my.map --slip 0.1 --demonstrations 4 {FEW}"),
        &[],
    )
    .code(0)
    .says(&["warning", "effective draws", "--draws"]);
    for part in [
        "map my.map (8 cells can be entered; slip 0.1)",
        "2 chains",
        "proposals accepted",
        "Spearman of means",
        "95 % interval",
        "sigma with more demonstrations: undefined",
        "steps to a good policy",
        "d shape without shaping",
        "keeps the best actions",
    ] {
        assert!(done.out.contains(part), "no `{part}` in {}", done.out);
    }
    // Both maps have three lines of three cells, walls included.
    let maps = done.out.lines().filter(|l| l.contains("######")).count();
    assert_eq!(maps, 2, "{}", done.out);
    assert!(!done.out.contains("NaN"), "{}", done.out);
}

#[test]
fn demonstrations_that_never_arrive_leave_the_race_undefined_with_the_reason() {
    let scratch = tempfile::tempdir().unwrap();
    // At beta 0 the demonstrator acts at random, beside four cliffs.
    let lesson = json_of(scratch.path(), "cliff --demonstrations 2 --beta 0");
    let race = &lesson["d_shape"];
    assert!(
        race["undefined"].as_str().unwrap().contains("--beta"),
        "{race}"
    );
    assert_eq!(lesson["growth"], Value::Null);
}

#[test]
fn maps_and_settings_that_cannot_be_used_are_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for (map, words) in [
        ("S.C\n...", ["no goal G", "at least one"]),
        ("S#G", ["no goal can be reached", "open one"]),
        ("SCG", ["no goal can be reached", "cliffs C"]),
        ("S.G\n.\u{1b}.", ["line 2, column 2", "\\u{1b}"]),
        ("S.G\n..", ["line 2", "same length"]),
        ("..G", ["0 starts", "exactly one"]),
        ("", ["0 cells", "between 1"]),
        (
            &format!("S{}G", ".".repeat(120)),
            ["122 cells", "at most 100"],
        ),
    ] {
        fs::write(here.join("bad.map"), map).unwrap();
        let done = avascope(here, &format!("gridworld bad.map {FEW}"), &[])
            .code(3)
            .says(&["bad.map"])
            .says(&words);
        assert!(done.out.is_empty() && !done.err.contains('\u{1b}'));
    }
    fs::write(here.join("bad.map"), b"S.\xff").unwrap();
    avascope(here, "gridworld bad.map", &[])
        .code(3)
        .says(&["byte 2", "plain text"]);
    for (more, words) in [
        ("nowhere", ["bend, classic, cliff", "No such file"]),
        (
            "--demonstrations 0",
            ["between 1 and", "nothing is learned"],
        ),
        ("--demonstrations 5,5", ["5,5", "rising order"]),
        ("--demonstrations 5,x", ["'x'", "--help"]),
        ("--slip 1.5", ["slip is 1.5", "0..=1"]),
        ("--gamma 1", ["--gamma is 1", "below 1"]),
        ("--beta nan", ["beta", "NaN"]),
        ("--prior-std 0", ["prior_sd", "logarithm"]),
        ("--chains 1", ["1 chains", "at least 2"]),
        ("--steps 0", ["steps", "1 to 1000000"]),
        ("--goal-reward inf", ["--goal-reward is inf", "between"]),
        ("--seeds 0", ["seeds is 0", "1..="]),
        ("--good 2", ["good is 2", "above 0"]),
        ("--lambda=-1", ["lambda", "at least 0"]),
        ("--limit 0", ["limit is 0", "1..="]),
        (
            "--demonstrations 1,2,3,4,5,6,7,8,9",
            ["9 numbers", "at most 8"],
        ),
        ("--draws 3", ["4 draws", "of 3 draws"]),
        (
            "--demonstrations 10000 --limit 101",
            ["1010000 steps", "fewer, or shorter"],
        ),
    ] {
        avascope(here, &format!("gridworld {FEW} {more}"), &[])
            .code(2)
            .says(&words);
    }
}
