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
fn the_best_step_is_saved_and_kept_where_saving_and_measuring_are_out_of_step() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    // Nothing moves at a rate of zero: the first evaluation is the best, and the second after it is the last.
    for (out, save, written, kept) in [
        (
            "three",
            "--save-steps 3",
            &[3u64, 4, 6, 9, 12][..],
            &[4usize, 9, 12][..],
        ),
        ("none", "--save-steps 0", &[4, 12], &[4, 12]),
    ] {
        let words = format!(
            "{} --steps 40 --learning-rate 0 --early-stopping-patience 2 {save}",
            tiny(out).replace("--eval-steps 5", "--eval-steps 4")
        );
        let done = avascope(here, &words, &[]).code(0);
        let run = here.join(out);
        assert_eq!(said(&run), written, "{save}");
        assert_eq!(steps(&run), kept, "{save}");
        let warned = done.err.contains("nothing is saved before the end");
        assert!(!warned, "{}", done.err);
        let best = format!("{out}/checkpoints/step-000004.safetensors");
        avascope(here, "score --device cpu --limit 1", &[&best]).code(0);
    }
}

#[test]
fn a_stray_file_under_a_checkpoints_name_costs_no_checkpoint_and_is_not_gone_on_from() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let run = here.join("run");
    let words = format!("{} -q --steps 10", tiny("run"));
    avascope(here, &words, &[]).code(0);
    assert_eq!(steps(&run), [5, 10]);
    let at = |name: &str| run.join("checkpoints").join(name);
    let own = at("step-000005.safetensors");
    // Names that the run itself never writes, and a folder, are nothing to it.
    let others = ["step-99.safetensors", "step-0000099.safetensors"];
    for name in others {
        fs::copy(&own, at(name)).unwrap();
    }
    let folder = at("step-000099.safetensors");
    fs::create_dir(&folder).unwrap();
    let resume = "train -q --device cpu --out run --save-total-limit 1 --resume --steps";
    avascope(here, resume, &["15"]).code(0);
    let is_there = |step: usize| at(&format!("step-{step:06}.safetensors")).is_file();
    assert!(is_there(15) && !is_there(10) && !is_there(5));
    assert!(folder.is_dir() && others.iter().all(|name| at(name).is_file()));
    fs::remove_dir(&folder).unwrap();

    // One under a name that the run might write holds another step than that says.
    let stray = at("step-000100.safetensors");
    fs::copy(at("step-000015.safetensors"), &stray).unwrap();
    for words in [
        "score run --device cpu --limit 1",
        "eval run --device cpu --limit 1",
        "train -q --device cpu --out run --resume --steps 20",
    ] {
        avascope(here, words, &[]).code(3).says(&[
            "step-000100.safetensors holds step 15",
            "its name says step 100",
            "Move it",
            "by hand",
        ]);
    }
    let score = "score --device cpu --limit 1";
    avascope(here, score, &["run/checkpoints/step-000100.safetensors"]).code(0);
    let named = "run --checkpoint run/checkpoints/step-000100.safetensors";
    avascope(here, &format!("{score} {named}"), &[]).code(0);
    // Beside a run that is under way it stays, and so does what the run writes.
    fs::remove_file(&stray).unwrap();
    for name in others {
        fs::remove_file(at(name)).unwrap();
    }
    let words = format!(
        "{} --steps 1000000 --save-total-limit 2 --json",
        tiny("long").replace("--eval-steps 5", "--eval-steps 0 --save-steps 2")
    );
    let mut child = start(here, &words, "\"type\":\"checkpoint\"");
    let long = here.join("long");
    let name = "checkpoints/step-900000.safetensors";
    fs::copy(at("step-000015.safetensors"), long.join(name)).unwrap();
    let own = || -> Vec<usize> {
        let kept = steps(&long).into_iter();
        kept.filter(|step| *step != 900_000).collect()
    };
    let before = own().last().copied().unwrap_or_default();
    let patience = Instant::now() + Duration::from_secs(60);
    while own().last().is_none_or(|last| *last < before + 10) {
        assert!(Instant::now() < patience, "{:?}", steps(&long));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Between a write and what it takes away there is one more.
    let (own, kept) = (own(), steps(&long));
    assert!((2..=3).contains(&own.len()), "{own:?}");
    assert_eq!(kept.last(), Some(&900_000));
}

#[test]
fn a_newest_checkpoint_that_is_damaged_leads_to_the_one_before_it() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let words = format!(
        "{} -q --steps 12 --save-steps 4 --save-total-limit 0",
        tiny("run")
    );
    avascope(here, &words, &[]).code(0);
    let run = here.join("run");
    let at = |step: usize| run.join(format!("checkpoints/step-{step:06}.safetensors"));
    let (good, older) = (fs::read(at(12)).unwrap(), fs::read(at(8)).unwrap());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let resume = "train -q --device cpu --out run --resume";
    let on = |step: usize| {
        format!("train --resume-from run/checkpoints/step-{step:06}.safetensors --out OTHER")
    };
    for bytes in [&good[..good.len() / 2], &flipped[..]] {
        fs::write(at(12), bytes).unwrap();
        avascope(here, resume, &[]).code(3).says(&[
            "step-000012.safetensors",
            "the checkpoint cannot be used",
            "step-000008.safetensors beside it is whole",
            &on(8),
        ]);
    }
    // One that is damaged itself is not named.
    fs::write(at(8), &older[..100]).unwrap();
    avascope(here, resume, &[]).code(3).says(&[&on(4)]);
    fs::remove_file(at(4)).unwrap();
    let none = avascope(here, resume, &[]).code(3);
    assert!(!none.err.contains("--resume-from"), "{}", none.err);
    // The way that it names works; and settings that do not fit are no damage.
    fs::write(at(8), &older).unwrap();
    let words = on(8).replace("OTHER", "other --config run/run.toml -q");
    avascope(here, &words, &[]).code(0);
    assert_eq!(steps(&here.join("other")), [8, 12]);
    fs::write(at(12), &good).unwrap();
    let other = avascope(here, resume, &["--batch-size", "5"]).code(3);
    let other = other.says(&["`batch_size`"]);
    assert!(!other.err.contains("is whole"), "{}", other.err);
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
