//! Files of settings: TOML, and what is wrong with one said with its place and without Rust's words.

use crate::exit;
use anyhow::Result;
use avascope::plain::plain_words;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Reads a TOML file as settings and as a table, which knows what stands in it.
///
/// # Errors
/// A file that cannot be read, and an unknown or ill-typed setting, with its line.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, toml::Table)> {
    let usage = |message: String| exit::with_code(exit::USAGE, message);
    let text = fs::read_to_string(path)
        .map_err(|error| usage(format!("cannot read {}: {error}", path.display())))?;
    let wrong =
        |error: toml::de::Error| usage(format!("{}{}", path.display(), in_words(&text, &error)));
    Ok((
        toml::from_str(&text).map_err(wrong)?,
        toml::from_str(&text).map_err(wrong)?,
    ))
}

/// Most characters of a line that an error shows.
const SHOWN: usize = 120;

/// `, line 2, column 3: ...` with the line itself below.
fn in_words(text: &str, error: &toml::de::Error) -> String {
    let said = plain_words(error.message());
    let Some(start) = error.span().map(|span| span.start.min(text.len())) else {
        return format!(": {said}");
    };
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or("").chars().count();
    let shown: String = text
        .lines()
        .nth(line)
        .unwrap_or("")
        .chars()
        .take(SHOWN)
        .collect();
    let number = (line + 1).to_string();
    let mark = match column < SHOWN {
        true => format!("\n{:gutter$} | {:column$}^", "", "", gutter = number.len()),
        false => String::new(),
    };
    format!(
        ", line {number}, column {}: {said}\n{number} | {shown}{mark}",
        column + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::run_files::RunFile;

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_rust() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        for (text, said) in [
            (
                "model = 'x'\n[train]\ntrainable = 3\n",
                "a.toml, line 3, column 13: \"full\", \"lora\" or \"heads\" (with settings: trainable = { mode = \"lora\", r = 16, alpha = 32.0 }) is needed, and the number 3 stands here\n3 | trainable = 3\n  |             ^",
            ),
            (
                "[train]\ntrainable = 'lor'\n",
                "line 2, column 13: `lor` is not known here; use one of `full`, `lora`, `heads`",
            ),
            (
                "[train.trainable]\nmode = 'lora'\nr = 'a'\n",
                "line 3, column 5: a whole number, 0 or more, is needed, and the text \"a\" stands here",
            ),
            (
                "[train]\nsteps = -1\n",
                "line 2, column 9: a whole number, 0 or more, is needed, and the number -1 stands here",
            ),
            (
                "train = 1\n",
                "a table of names and values is needed, and the number 1 stands here",
            ),
            (
                "modle = 'x'\n",
                "line 1, column 1: there is no `modle` here; there is `model`",
            ),
            ("[train\n", "line 1"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read::<RunFile>(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            for rust in ["usize", "f64", "enum", "struct", "invalid type"] {
                assert!(!error.contains(rust), "{error}");
            }
        }
    }
}
