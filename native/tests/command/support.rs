//! What the tests share: the binary, a scratch folder, and readers of what it writes.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What lies beside the checkout, and how a test says that it leaves something out.
#[path = "../../../src/test_data/skips.rs"]
pub(crate) mod test_data;

/// What a run of the command left.
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The built command.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_avascope"));
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Interrupts a process as Ctrl-C does. Where this process was started with SIGINT ignored, as a shell's background jobs are,
/// the command rightly goes on ignoring it; the same handler hears SIGTERM.
#[cfg(unix)]
pub fn interrupt(child: &std::process::Child) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let name = match ignored.is_some_and(|mask| mask & 2 != 0) {
        true => "-TERM",
        false => "-INT",
    };
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(sent.expect("`kill` is there").success());
}

/// Runs the command with words separated by spaces, then further words that may hold spaces.
pub fn avascope(folder: &Path, words: &str, more: &[&str]) -> Done {
    let output = command()
        .current_dir(folder)
        .args(words.split_whitespace())
        .args(more)
        .output()
        .expect("the command starts");
    done(output)
}

pub fn done(output: Output) -> Done {
    let done = Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("data is UTF-8"),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!done.err.contains("panicked"), "{}", done.err);
    done
}

impl Done {
    /// Checks the exit code; what was said is shown where it is another one.
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.err);
        self
    }

    /// Checks that each of the words was said on standard error.
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
        self
    }

    /// Standard output as JSON Lines.
    pub fn lines(&self) -> Vec<Value> {
        lines(&self.out)
    }
}

pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

/// The arguments of a tiny run: `train` into `out`.
pub fn tiny(out: &str) -> String {
    format!(
        "train --model world --data world --world-rows 60 --device cpu --batch-size 4 --eval-steps 5 --out {out}"
    )
}

/// Every event of a run's log.
pub fn events(run: &Path) -> Vec<Value> {
    lines(&std::fs::read_to_string(run.join("metrics.jsonl")).expect("a log"))
}

/// Metrics of each step and evaluation, by kind and step. A step that was logged twice fails the test.
pub fn metrics(run: &Path) -> BTreeMap<(String, u64), Value> {
    let mut found = BTreeMap::new();
    for event in events(run) {
        let kind = event["type"].as_str().expect("a type").to_string();
        if kind == "step" || kind == "evaluation" {
            let step = event["step"].as_u64().expect("a step");
            let before = found.insert((kind, step), event["metrics"].clone());
            assert!(before.is_none(), "step {step} was logged twice");
        }
    }
    found
}

/// Complete checkpoints, oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    found.sort();
    found
}

/// Largest difference between the token means and deviations of two lists of records, which must be of the same
/// answers; `by` picks what names an answer.
pub fn largest_difference(a: &[Value], b: &[Value]) -> f64 {
    let keyed = |records: &[Value]| -> BTreeMap<(String, String), Value> {
        records
            .iter()
            .map(|r| {
                let word = |key: &str| r[key].as_str().expect("a word").to_string();
                ((word("id"), word("side")), r["tokens"].clone())
            })
            .collect()
    };
    let (a, b) = (keyed(a), keyed(b));
    assert!(!a.is_empty());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let mut largest = 0.0f64;
    for (key, tokens) in &a {
        let (x, y) = (tokens.as_array().unwrap(), b[key].as_array().unwrap());
        assert_eq!(x.len(), y.len());
        for (x, y) in x.iter().zip(y) {
            assert_eq!(x["id"], y["id"]);
            for number in ["mean", "std"] {
                let difference = x[number].as_f64().unwrap() - y[number].as_f64().unwrap();
                largest = largest.max(difference.abs());
            }
        }
    }
    largest
}
