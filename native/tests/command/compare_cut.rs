//! `avascope compare` that is cut off, by a person, a reader or a kill: nothing that was finished is lost.

use super::compare::*;
use crate::support::*;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

#[test]
fn a_comparison_that_was_cut_gives_the_same_results() {
    let scratch = tempfile::tempdir().unwrap();
    let (straight, cut) = (scratch.path().join("a"), scratch.path().join("b"));
    for here in [&straight, &cut] {
        fs::create_dir(here).unwrap();
        write(here, TINY);
    }
    compare(&straight, "-q").code(0);
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
    // As a kill leaves it: some cells are there, a half-written file beside them, no report.
    for cell in cells(&cut).into_iter().skip(2) {
        fs::remove_file(cell).unwrap();
    }
    fs::remove_file(cut.join("out/results.json")).unwrap();
    fs::remove_file(cut.join("out/floors.json")).unwrap();
    fs::write(cut.join("out/cells/.half.json.partial-1"), b"{\"sys").unwrap();
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
    // A cell that was damaged is named, and never taken for a result.
    let damaged = &cells(&cut)[0];
    fs::write(damaged, b"{\"half\":").unwrap();
    compare(&cut, "-q")
        .code(3)
        .says(&["is damaged", "remove it"]);
    fs::remove_file(damaged).unwrap();
    compare(&cut, "-q").code(0);
    assert_eq!(timeless(&straight), timeless(&cut));
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_comparison() {
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), TINY);
    let mut child = command()
        .current_dir(scratch.path())
        .args(["compare", "compare.toml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = done(child.wait_with_output().unwrap()).code(0);
    assert_eq!(
        ended.err.matches("takes no more lines").count(),
        1,
        "{}",
        ended.err
    );
    assert!(scratch.path().join("out/results.json").is_file());
}

#[test]
#[cfg(unix)]
fn ctrl_c_and_kill_lose_nothing_that_was_finished() {
    let long = TINY.replace("steps = 6", "steps = 60\nsave_steps = 7");
    let scratch = tempfile::tempdir().unwrap();
    let straight = scratch.path().join("straight");
    fs::create_dir(&straight).unwrap();
    write(&straight, &long);
    compare(&straight, "-q").code(0);
    for signal in ["INT", "KILL"] {
        let here = scratch.path().join(signal);
        fs::create_dir(&here).unwrap();
        write(&here, &long);
        let mut child = command()
            .current_dir(&here)
            .args(["compare", "compare.toml", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("\"done\":1")));
        match signal {
            "INT" => interrupt(&child),
            _ => child.kill().unwrap(),
        }
        std::thread::spawn(move || lines.count());
        let ended = child.wait_with_output().unwrap();
        if signal == "INT" {
            done(ended)
                .code(130)
                .says(&["interrupted after", "same command again"]);
        }
        let finished = cells(&here).len();
        assert!((1..6).contains(&finished), "{finished} cells");
        assert!(!here.join("out/results.json").exists());
        compare(&here, "-q").code(0);
        assert_eq!(timeless(&straight), timeless(&here), "{signal}");
        let left: Vec<_> = fs::read_dir(here.join("out/cells"))
            .unwrap()
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .contains("partial.safetensors")
            })
            .collect();
        assert!(left.is_empty());
    }
}
