//! Where tests find what lies beside the checkout, and how they say what they left out for want of it.
//!
//! The test harness hides what a passing test prints. So a check that is left out also adds a line to the file that
//! `AVASCOPE_SKIPS` names; `cargo xtask test` names one and counts its lines by reason. The command's tests compile this file too:
//! there is one form of the line.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::Location;
use std::path::{Path, PathBuf};

/// The folder of golden values, oracles, models and data: where `AVASCOPE_SHARED` says, else `shared` beside the checkout. A
/// relative path counts from the checkout, since the tests of each package run in a folder of their own.
pub(crate) fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = package
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .unwrap_or(package);
    match variable("AVASCOPE_SHARED") {
        Some(folder) => checkout.join(folder),
        None => checkout.parent().unwrap_or(checkout).join("shared"),
    }
}

/// Where something of the shared folder is, or `None` after saying that it is left out.
#[track_caller]
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    let folder = folder();
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(name, &absent(&folder));
    None
}

/// Why something of the shared folder is not there. `cargo xtask test --require-shared` knows these reasons by their first words.
pub(crate) fn absent(folder: &Path) -> String {
    let what = if folder.is_dir() {
        "does not hold it"
    } else {
        "is absent"
    };
    format!("the shared folder {} {what}", folder.display())
}

/// Says that a test leaves out `what`, and why.
#[track_caller]
pub(crate) fn skipped(what: &str, why: &str) {
    let line = line(&place(Location::caller()), what, why);
    print!("SKIPPED: {line}");
    if let Some(file) = variable("AVASCOPE_SKIPS") {
        append(&file, &line);
    }
}

/// The running test's name, or where it calls from: with a single test thread, tests have no thread of their own.
pub(crate) fn place(caller: &Location<'_>) -> String {
    let thread = std::thread::current();
    match thread.name() {
        None | Some("main") => format!("{}:{}", caller.file(), caller.line()),
        Some(test) => test.into(),
    }
}

/// `place: what: why`, on one line; the first two hold no colon followed by a space.
pub(crate) fn line(place: &str, what: &str, why: &str) -> String {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!(
        "{place}: {}: {}\n",
        words(what).replace(": ", ", "),
        words(why)
    )
}

/// One write at the file's end: lines of tests that run side by side, in one program or in several, do not mix.
pub(crate) fn append(file: &Path, line: &str) {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(line.as_bytes()));
    if let Err(error) = written {
        // A skip that nobody sees is what the file is there against.
        panic!("AVASCOPE_SKIPS: {}: {error}", file.display());
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}
