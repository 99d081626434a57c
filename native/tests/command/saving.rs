//! When checkpoints are written, which of them stay, and what a kill leaves of them.

use crate::run::{endless, start, unfinished};
use crate::support::*;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// The steps of a run's complete checkpoints.
fn steps(run: &Path) -> Vec<usize> {
    checkpoints(run)
        .iter()
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap();
            stem.strip_prefix("step-").unwrap().parse().unwrap()
        })
        .collect()
}

/// The steps after which the log says that a checkpoint is complete.
fn said(run: &Path) -> Vec<u64> {
    events(run)
        .iter()
        .filter(|event| event["type"] == "checkpoint")
        .map(|event| event["step"].as_u64().unwrap())
        .collect()
}

#[test]
fn without_a_word_every_evaluation_is_saved_and_the_two_newest_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::write(here.join("end.toml"), "[train]\nsave_steps = 0\n").unwrap();
    for (out, more, written, kept) in [
        ("own", "", &[5u64, 10, 15, 17][..], &[15usize, 17][..]),
        (
            "all",
            "--save-total-limit 0",
            &[5, 10, 15, 17],
            &[5, 10, 15, 17],
        ),
        ("one", "--save-total-limit 1", &[5, 10, 15, 17], &[17]),
        ("steps", "--save-steps 9", &[9, 17], &[9, 17]),
        ("end", "--save-steps 0", &[17], &[17]),
        ("file", "--config end.toml", &[17], &[17]),
    ] {
        let done = avascope(here, &format!("{} --steps 17 {more}", tiny(out)), &[]).code(0);
        let run = here.join(out);
        assert_eq!(said(&run), written, "{more}");
        assert_eq!(steps(&run), kept, "{more}");
        let warned = done.err.contains("nothing is saved before the end");
        assert_eq!(warned, written.len() == 1, "{more}: {}", done.err);
    }
}

#[test]
fn a_run_from_before_there_was_a_limit_keeps_all_of_its_checkpoints() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let run = here.join("run");
    let words = "-q --steps 12 --save-steps 3 --save-total-limit 0";
    avascope(here, &format!("{} {words}", tiny("run")), &[]).code(0);
    let settings = fs::read_to_string(run.join("run.toml")).unwrap();
    let before: String = settings
        .lines()
        .filter(|line| !line.starts_with("save_total_limit"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_ne!(before, settings);
    fs::write(run.join("run.toml"), before).unwrap();
    let resume = |more: &str| {
        let words = format!("train -q --device cpu --out run --resume {more}");
        avascope(here, &words, &[]).code(0);
    };
    resume("--steps 13");
    assert_eq!(steps(&run), [3, 6, 9, 12, 13]);
    resume("--steps 14 --save-total-limit 1");
    assert_eq!(steps(&run), [14]);
}

#[test]
fn when_checkpoints_are_written_is_no_other_setting() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    avascope(here, &format!("{} -q --steps 4", tiny("run")), &[]).code(0);
    let resumed = avascope(here, "train --out run --resume --save-steps 3", &[]).code(0);
    assert!(!resumed.err.contains("other settings"), "{}", resumed.err);
}

#[test]
#[cfg(unix)]
fn a_run_that_is_killed_without_a_word_about_saving_goes_on_from_its_last_evaluation() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let words = format!("{} --steps 1000000 --json", tiny("run"));
    let mut child = start(here, &words, "\"step\":11,");
    child.kill().unwrap();
    child.wait().unwrap();
    let run = here.join("run");
    let last = *steps(&run).last().unwrap();
    assert!(last >= 10 && last.is_multiple_of(5), "{last}");
    let words = format!("train -q --out run --resume --steps {}", last + 2);
    avascope(here, &words, &[]).code(0);
    assert!(metrics(&run).contains_key(&("step".into(), last as u64 + 2)));
}

/// Kills a run as soon as a half-written checkpoint is seen.
#[cfg(unix)]
fn kill_in_a_write(run: &Path, child: &mut Child) {
    let patience = Instant::now() + Duration::from_secs(60);
    while unfinished(run) == 0 {
        assert!(Instant::now() < patience, "no checkpoint is being written");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Rounds that are played in any case, and most rounds until a kill came in time: between the look and the kill the system
/// may have finished the file.
const ROUNDS: std::ops::Range<usize> = 4..40;

#[test]
#[cfg(unix)]
fn a_run_that_is_killed_again_and_again_while_it_writes_checkpoints_goes_on_each_time() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let run = here.join("run");
    let (mut rounds, mut torn, mut before) = (0, 0, 0);
    while rounds < ROUNDS.start || torn == 0 && rounds < ROUNDS.end {
        let words = match rounds {
            0 => endless(1),
            _ => "train --out run --resume --json".into(),
        };
        let mut child = start(here, &words, "\"type\":\"checkpoint\"");
        kill_in_a_write(&run, &mut child);
        rounds += 1;
        torn += usize::from(unfinished(&run) > 0);
        // The half-written file is taken neither for a checkpoint nor for damage.
        let last = *steps(&run).last().unwrap();
        assert!(last > before, "each round goes on");
        before = last;
        avascope(here, "score run --device cpu --limit 1", &[]).code(0);
    }
    println!("{torn} of {rounds} kills left a half-written checkpoint");
    assert!(torn > 0, "no kill came in the middle of a write");
    let words = format!("train -q --out run --resume --steps {}", before + 2);
    avascope(here, &words, &[]).code(0);
    assert_eq!(unfinished(&run), 0, "what was half written is taken away");
    // `metrics` fails where a step is logged twice.
    let taken = metrics(&run);
    let taken = taken.keys().filter(|(kind, _)| kind == "step").count();
    assert_eq!(taken, before + 2);
}
