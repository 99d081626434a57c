//! Reads a word-level truth with the spread of human ratings in the text format of the VADER lexicon: one entry a line,
//! `word TAB mean TAB standard deviation TAB [ten ratings]`. Source of the format: `vaderSentiment/vader_lexicon.txt` of
//! Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", 2014.

use serde::Serialize;

/// Ratings that each word has.
pub const RATINGS: usize = 10;

/// One word as ten people rated it, from -4 (most negative) to 4 (most positive).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LexiconEntry {
    /// The word, emoticon or short phrase. A lexicon may hold a word twice.
    pub word: String,
    /// Mean rating as the file states it (rounded there).
    pub mean: f32,
    /// Population standard deviation of the ratings as the file states it.
    pub std: f32,
    /// The ratings.
    pub ratings: [i8; RATINGS],
}

/// A line that is no entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LexiconError {
    /// Not UTF-8.
    #[error("{file}, line {line}: invalid UTF-8; save the lexicon as UTF-8")]
    InvalidUtf8 {
        /// The file's name.
        file: String,
        /// Line from 1.
        line: usize,
    },
    /// A line with the wrong parts.
    #[error(
        "{file}, line {line}: {what}; needed: word, tab, mean, tab, deviation, tab, ten ratings like [1, -2, ..] from -4 to 4"
    )]
    BadLine {
        /// The file's name.
        file: String,
        /// Line from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// No entries.
    #[error("{file}: no entries; check that the right file was given")]
    Empty {
        /// The file's name.
        file: String,
    },
}

/// Reads a lexicon; `name` is the file's name for messages. CRLF and blank lines are fine.
///
/// # Errors
/// The first line that is no entry, or a file without entries.
pub fn read_lexicon(bytes: &[u8], name: &str) -> Result<Vec<LexiconEntry>, LexiconError> {
    let mut entries = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (file, number) = (|| name.to_owned(), index + 1);
        let line = str::from_utf8(line)
            .map_err(|_| LexiconError::InvalidUtf8 {
                file: file(),
                line: number,
            })?
            .trim_end();
        if !line.is_empty() {
            let entry = entry(line).map_err(|what| LexiconError::BadLine {
                file: file(),
                line: number,
                what,
            })?;
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        Err(LexiconError::Empty {
            file: name.to_owned(),
        })
    } else {
        Ok(entries)
    }
}

fn entry(line: &str) -> Result<LexiconEntry, String> {
    let parts: Vec<&str> = line.split('\t').collect();
    let [word, mean, std, ratings] = parts.as_slice() else {
        return Err(format!("{} parts between tabs", parts.len()));
    };
    if word.trim().is_empty() {
        return Err("no word".into());
    }
    let number = |name: &str, text: &str| {
        let value = text
            .trim()
            .parse::<f32>()
            .ok()
            .filter(|value| value.is_finite());
        value.ok_or_else(|| {
            format!(
                "the {name} is {:?}, not a number",
                text.chars().take(20).collect::<String>()
            )
        })
    };
    let (mean, std) = (number("mean", mean)?, number("deviation", std)?);
    if std < 0.0 {
        return Err(format!("the deviation {std} is negative"));
    }
    let ratings: Vec<i8> = serde_json::from_str(ratings)
        .map_err(|_| "the ratings are no list of whole numbers".to_owned())?;
    let ratings: [i8; RATINGS] = ratings
        .try_into()
        .map_err(|list: Vec<i8>| format!("{} ratings instead of {RATINGS}", list.len()))?;
    if let Some(rating) = ratings.iter().find(|rating| !(-4..=4).contains(*rating)) {
        return Err(format!("the rating {rating} lies outside -4 to 4"));
    }
    Ok(LexiconEntry {
        word: (*word).to_owned(),
        mean,
        std,
        ratings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_their_ratings() {
        let text = "gladly\t1.4\t0.4899\t[1, 2, 1, 1, 2, 1, 1, 2, 2, 1]\r\n( : )\t-0.5\t0.5\t[0, -1, 0, -1, 0, -1, 0, -1, 0, -1]";
        let entries = read_lexicon(text.as_bytes(), "words.txt").unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].word, "gladly");
        assert_eq!(entries[0].ratings, [1, 2, 1, 1, 2, 1, 1, 2, 2, 1]);
        for entry in &entries {
            let mean = entry.ratings.iter().map(|r| f32::from(*r)).sum::<f32>() / 10.0;
            let variance = entry
                .ratings
                .iter()
                .map(|r| (f32::from(*r) - mean).powi(2))
                .sum::<f32>()
                / 10.0;
            assert!((entry.mean - mean).abs() < 1e-5 && (entry.std - variance.sqrt()).abs() < 1e-4);
        }
        assert_eq!(entries[1].word, "( : )");
    }

    #[test]
    fn broken_lines_name_their_place() {
        for (text, part) in [
            (&b"a\t1\t2"[..], "3 parts"),
            (b"a\tx\t2\t[]", "mean"),
            (b"a\t1\tNaN\t[]", "deviation"),
            (b"a\t1\t-1\t[]", "negative"),
            (b"a\t1\t1\t[1]", "1 ratings"),
            (b"a\t1\t1\t[9,0,0,0,0,0,0,0,0,0]", "outside"),
            (b"a\t1\t1\tmany", "no list"),
            (b"\t1\t1\t[0,0,0,0,0,0,0,0,0,0]", "no word"),
            (b"\xFF", "UTF-8"),
            (b"\n\n", "no entries"),
        ] {
            let error = read_lexicon(text, "words.txt").unwrap_err().to_string();
            assert!(
                error.starts_with("words.txt") && error.contains(part),
                "{error}"
            );
        }
    }
}
