//! What a person should know about a data set before training on it: sizes, duplicates, contradictions, leaks, and how
//! far plain length already explains the preferences.

use super::split::{Key, content_key, fingerprint, pair_key, row_key};
use super::{Answer, Content, Rows};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Five numbers and the mean of a list of lengths; quantiles by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Shortest.
    pub min: usize,
    /// A quarter is at most this long.
    pub p25: usize,
    /// Half is at most this long.
    pub p50: usize,
    /// Nine in ten are at most this long.
    pub p90: usize,
    /// All but one in a hundred are at most this long.
    pub p99: usize,
    /// Longest.
    pub max: usize,
    /// Arithmetic mean.
    pub mean: f64,
}

/// Lengths of one part of the rows. Messages count as the sum of their turns' contents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LengthSummary {
    /// `prompt`, `chosen`, `rejected` or `answer`.
    pub part: &'static str,
    /// Unicode code points.
    pub characters: Quantiles,
    /// What stands between white space.
    pub words: Quantiles,
}

/// "The longer answer wins": the baseline to print beside every accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LongerWins {
    /// Pairs whose better answer is longer.
    pub wins: usize,
    /// Pairs of equal length.
    pub ties: usize,
    /// Pairs whose worse answer is longer.
    pub losses: usize,
    /// Share of wins, a tie counting as wrong (as RewardBench counts).
    pub accuracy: f64,
    /// Lower end of Wilson's 95% interval of `accuracy`.
    pub low: f64,
    /// Upper end of Wilson's 95% interval of `accuracy`.
    pub high: f64,
    /// Share of wins, a tie counting half.
    pub accuracy_ties_half: f64,
    /// Share of wins, a tie counting as right. On HH harmless, in characters, this is the published 0.446.
    pub accuracy_ties_right: f64,
}

/// Rows that another split holds too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The other split's name.
    pub split: String,
    /// Rows of this split whose prompt and answers stand there too, whichever answer was preferred.
    pub same_row: usize,
    /// Rows of this split whose prompt (if not empty) stands there too.
    pub same_prompt: usize,
}

/// Most lines that are named for one finding.
pub const LINES: usize = 10;

/// What [`check`] found. Its `Display` form is for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// `preferences`, `demonstrations` or `unpaired` (answers labelled one by one).
    pub kind: &'static str,
    /// Rows.
    pub rows: usize,
    /// [`fingerprint`] of the rows.
    pub fingerprint: String,
    /// Lengths of each part.
    pub lengths: Vec<LengthSummary>,
    /// Rows whose prompt and answers stood before in the file.
    pub duplicate_rows: usize,
    /// Rows whose prompt (if not empty) stood before.
    pub duplicate_prompts: usize,
    /// Answers (of any side) that stood before.
    pub duplicate_answers: usize,
    /// Rows whose id stood before.
    pub duplicate_ids: usize,
    /// Pairs of answers that stand in the file in both orders.
    pub conflicting_pairs: usize,
    /// Rows with a prompt that is empty or white space.
    pub empty_prompts: usize,
    /// Answers that are empty or white space.
    pub empty_answers: usize,
    /// Lines of the first [`LINES`] rows with such an answer.
    pub empty_answer_lines: Vec<usize>,
    /// Pairs with two identical answers.
    pub identical_answers: usize,
    /// Lines of the first [`LINES`] of them.
    pub identical_answer_lines: Vec<usize>,
    /// Rows with at least one labelled span.
    pub rows_with_spans: usize,
    /// Rows with known token rewards.
    pub rows_with_true_rewards: usize,
    /// Pairs whose own label (column `preference`) is another than "chosen is better".
    pub relabelled_pairs: usize,
    /// Answers labelled as desirable; answers labelled one by one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desirable: Option<usize>,
    /// Answers that stand in the file with both labels; answers labelled one by one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicting_labels: Option<usize>,
    /// What other splits hold too.
    pub leaks: Vec<Leak>,
    /// The length baseline in characters; pairs only.
    pub longer_wins_characters: Option<LongerWins>,
    /// The length baseline in words; pairs only.
    pub longer_wins_words: Option<LongerWins>,
}

/// One row, seen alike whether it is a pair or a demonstration.
struct View<'a> {
    id: &'a str,
    line: usize,
    prompt: &'a Content,
    answers: Vec<&'a Answer>,
    /// Better and worse, where the row says which is which.
    judged: Option<(&'a Answer, &'a Answer)>,
}

impl View<'_> {
    /// Hash of prompt and answers; a swapped pair has the same.
    fn key(&self) -> Key {
        match self.answers.as_slice() {
            [a, b] => pair_key(self.prompt, &a.content, &b.content),
            answers => row_key(
                self.prompt,
                &answers.iter().map(|a| &a.content).collect::<Vec<_>>(),
            ),
        }
    }

    fn ordered_key(&self) -> Key {
        row_key(
            self.prompt,
            &self.answers.iter().map(|a| &a.content).collect::<Vec<_>>(),
        )
    }

    fn prompt_key(&self) -> Option<Key> {
        (!self.prompt.is_blank()).then(|| content_key(self.prompt))
    }
}

fn views(rows: &Rows) -> Vec<View<'_>> {
    match rows {
        Rows::Preferences(rows) => rows
            .iter()
            .map(|row| View {
                id: &row.id,
                line: row.line,
                prompt: &row.prompt,
                answers: vec![&row.chosen, &row.rejected],
                judged: row.judged(),
            })
            .collect(),
        Rows::Demonstrations(rows) => rows
            .iter()
            .map(|row| View {
                id: &row.id,
                line: row.line,
                prompt: &row.prompt,
                answers: vec![&row.answer],
                judged: None,
            })
            .collect(),
        Rows::Unpaired(rows) => rows
            .iter()
            .map(|row| View {
                id: &row.id,
                line: row.line,
                prompt: &row.prompt,
                answers: vec![&row.answer],
                judged: None,
            })
            .collect(),
    }
}

/// Looks through `rows`; `other_splits` (name, rows) are searched for rows that stand in both.
pub fn check(rows: &Rows, other_splits: &[(&str, &Rows)]) -> CheckReport {
    let views = views(rows);
    let pairs = matches!(rows, Rows::Preferences(_));
    let parts: &[&'static str] = if pairs {
        &["chosen", "rejected"]
    } else {
        &["answer"]
    };

    let mut lengths = vec![summary("prompt", views.iter().map(|view| view.prompt))];
    for (index, part) in parts.iter().enumerate() {
        lengths.push(summary(
            part,
            views
                .iter()
                .filter_map(|view| view.answers.get(index))
                .map(|a| &a.content),
        ));
    }

    let (mut ordered, mut prompts, mut answers, mut ids) = (
        HashSet::new(),
        HashSet::new(),
        HashSet::new(),
        HashSet::new(),
    );
    // Which orders of a pair were seen: bit 0 for one, bit 1 for the other.
    let mut orders: HashMap<Key, u8> = HashMap::new();
    let count = |test: &dyn Fn(&View<'_>) -> bool| views.iter().filter(|view| test(view)).count();
    let lines = |test: &dyn Fn(&View<'_>) -> bool| {
        let found = views.iter().filter(|view| test(view));
        found.map(|view| view.line).take(LINES).collect()
    };
    let has_empty_answer = |view: &View<'_>| view.answers.iter().any(|a| a.content.is_blank());
    let has_identical_answers =
        |view: &View<'_>| matches!(view.answers.as_slice(), [a, b] if a.content == b.content);
    let mut report = CheckReport {
        kind: match rows {
            Rows::Preferences(_) => "preferences",
            Rows::Demonstrations(_) => "demonstrations",
            Rows::Unpaired(_) => "unpaired",
        },
        rows: views.len(),
        fingerprint: fingerprint(rows),
        lengths,
        duplicate_rows: 0,
        duplicate_prompts: 0,
        duplicate_answers: 0,
        duplicate_ids: 0,
        conflicting_pairs: 0,
        empty_prompts: count(&|view| view.prompt.is_blank()),
        empty_answers: views
            .iter()
            .flat_map(|view| &view.answers)
            .filter(|a| a.content.is_blank())
            .count(),
        empty_answer_lines: lines(&has_empty_answer),
        identical_answers: count(&has_identical_answers),
        identical_answer_lines: lines(&has_identical_answers),
        rows_with_spans: count(&|view| {
            view.answers
                .iter()
                .any(|a| a.spans.as_ref().is_some_and(|s| !s.is_empty()))
        }),
        rows_with_true_rewards: count(&|view| {
            view.answers.iter().any(|a| a.true_rewards.is_some())
        }),
        relabelled_pairs: rows.relabelled(),
        desirable: None,
        conflicting_labels: None,
        leaks: other_splits
            .iter()
            .map(|(name, other)| leak(&views, name, other))
            .collect(),
        longer_wins_characters: pairs.then(|| longer_wins(&views, characters)),
        longer_wins_words: pairs.then(|| longer_wins(&views, words)),
    };
    for view in &views {
        report.duplicate_rows += usize::from(!ordered.insert(view.ordered_key()));
        report.duplicate_prompts +=
            usize::from(view.prompt_key().is_some_and(|key| !prompts.insert(key)));
        report.duplicate_ids += usize::from(!ids.insert(view.id));
        for answer in &view.answers {
            report.duplicate_answers += usize::from(!answers.insert(content_key(&answer.content)));
        }
        if let [a, b] = view.answers.as_slice() {
            let (a, b) = (content_key(&a.content), content_key(&b.content));
            if a != b {
                *orders.entry(view.key()).or_default() |= if a < b { 1 } else { 2 };
            }
        }
    }
    report.conflicting_pairs = orders.values().filter(|seen| **seen == 3).count();
    if let Rows::Unpaired(rows) = rows {
        // Which labels an answer to its prompt was seen with: bit 0 for one, bit 1 for the other.
        let mut labels: HashMap<Key, u8> = HashMap::new();
        for (row, view) in rows.iter().zip(&views) {
            *labels.entry(view.key()).or_default() |= if row.label { 1 } else { 2 };
        }
        report.desirable = Some(rows.iter().filter(|row| row.label).count());
        report.conflicting_labels = Some(labels.values().filter(|seen| **seen == 3).count());
    }
    report
}

fn leak(views: &[View<'_>], name: &str, other: &Rows) -> Leak {
    let (mut keys, mut prompts) = (HashSet::new(), HashSet::new());
    for view in self::views(other) {
        keys.insert(view.key());
        prompts.extend(view.prompt_key());
    }
    Leak {
        split: name.to_owned(),
        same_row: views
            .iter()
            .filter(|view| keys.contains(&view.key()))
            .count(),
        same_prompt: views
            .iter()
            .filter(|view| view.prompt_key().is_some_and(|key| prompts.contains(&key)))
            .count(),
    }
}

fn characters(content: &Content) -> usize {
    content.texts().map(|text| text.chars().count()).sum()
}

fn words(content: &Content) -> usize {
    content
        .texts()
        .map(|text| text.split_whitespace().count())
        .sum()
}

fn summary<'a>(
    part: &'static str,
    contents: impl Iterator<Item = &'a Content> + Clone,
) -> LengthSummary {
    LengthSummary {
        part,
        characters: quantiles(contents.clone().map(characters).collect()),
        words: quantiles(contents.map(words).collect()),
    }
}

fn quantiles(mut lengths: Vec<usize>) -> Quantiles {
    lengths.sort_unstable();
    let n = lengths.len();
    // Nearest rank: the smallest value that at least `percent` of all values do not pass.
    let at = |percent: usize| {
        let rank = (n * percent).div_ceil(100).max(1);
        lengths.get(rank - 1).copied().unwrap_or_default()
    };
    Quantiles {
        min: at(0),
        p25: at(25),
        p50: at(50),
        p90: at(90),
        p99: at(99),
        max: at(100),
        mean: lengths.iter().map(|length| *length as f64).sum::<f64>() / n.max(1) as f64,
    }
}

fn longer_wins(views: &[View<'_>], length: impl Fn(&Content) -> usize) -> LongerWins {
    let (mut wins, mut ties, mut losses) = (0, 0, 0);
    for view in views {
        if let Some((better, worse)) = view.judged {
            match length(&better.content).cmp(&length(&worse.content)) {
                std::cmp::Ordering::Greater => wins += 1,
                std::cmp::Ordering::Equal => ties += 1,
                std::cmp::Ordering::Less => losses += 1,
            }
        }
    }
    let n = wins + ties + losses;
    let share = |right: f64| if n == 0 { 0.0 } else { right / n as f64 };
    let (low, high) = wilson95(wins, n);
    LongerWins {
        wins,
        ties,
        losses,
        accuracy: share(wins as f64),
        low,
        high,
        accuracy_ties_half: share(wins as f64 + ties as f64 / 2.0),
        accuracy_ties_right: share((wins + ties) as f64),
    }
}

/// Wilson's score interval (1927) at 95% for `right` of `n`; 0 to 1 when there is nothing.
fn wilson95(right: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (n as f64, right as f64 / n as f64);
    let scale = 1.0 + Z * Z / n;
    let center = (p + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((center - half).max(0.0), (center + half).min(1.0))
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {}, fingerprint {}",
            self.rows, self.kind, self.fingerprint
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<10} {:<10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9}",
            "part", "length in", "min", "25%", "50%", "90%", "99%", "max", "mean"
        )?;
        for part in &self.lengths {
            for (unit, q) in [("characters", part.characters), ("words", part.words)] {
                writeln!(
                    f,
                    "{:<10} {unit:<10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9.1}",
                    part.part, q.min, q.p25, q.p50, q.p90, q.p99, q.max, q.mean
                )?;
            }
        }
        writeln!(f)?;
        let none = Vec::new();
        for (name, count, lines) in [
            ("duplicate rows", self.duplicate_rows, &none),
            ("duplicate prompts", self.duplicate_prompts, &none),
            ("duplicate answers", self.duplicate_answers, &none),
            ("duplicate ids", self.duplicate_ids, &none),
            ("conflicting pairs", self.conflicting_pairs, &none),
            ("empty prompts", self.empty_prompts, &none),
            (
                "empty answers",
                self.empty_answers,
                &self.empty_answer_lines,
            ),
            (
                "identical answers",
                self.identical_answers,
                &self.identical_answer_lines,
            ),
            ("rows with spans", self.rows_with_spans, &none),
            (
                "rows with known rewards",
                self.rows_with_true_rewards,
                &none,
            ),
            ("pairs labelled otherwise", self.relabelled_pairs, &none),
        ] {
            write!(f, "{name:<24} {count:>8}")?;
            if !lines.is_empty() {
                let shown: Vec<String> = lines.iter().map(usize::to_string).collect();
                let more = if count > lines.len() { ", ..." } else { "" };
                write!(f, "   lines {}{more}", shown.join(", "))?;
            }
            writeln!(f)?;
        }
        if let (Some(desirable), Some(conflicting)) = (self.desirable, self.conflicting_labels) {
            for (name, count) in [
                ("labelled desirable", desirable),
                ("labelled undesirable", self.rows - desirable),
                ("conflicting labels", conflicting),
            ] {
                writeln!(f, "{name:<24} {count:>8}")?;
            }
        }
        for leak in &self.leaks {
            writeln!(
                f,
                "also in {}: {} rows, {} prompts",
                leak.split, leak.same_row, leak.same_prompt
            )?;
        }
        for (unit, baseline) in [
            ("characters", &self.longer_wins_characters),
            ("words", &self.longer_wins_words),
        ] {
            if let Some(b) = baseline {
                writeln!(
                    f,
                    "\"the longer answer wins\" ({unit}): {:.3}, 95% interval {:.3} to {:.3} ({} wins, {} ties, {} losses; \
                     with ties as half right {:.3}, as right {:.3})",
                    b.accuracy,
                    b.low,
                    b.high,
                    b.wins,
                    b.ties,
                    b.losses,
                    b.accuracy_ties_half,
                    b.accuracy_ties_right
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_jsonl;
    use super::*;

    const TRAIN: &str = r#"
        {"id":"1","prompt":"p","chosen":"long answer","rejected":"short"}
        {"id":"2","prompt":"p","chosen":"long answer","rejected":"short"}
        {"id":"3","prompt":"p","chosen":"short","rejected":"long answer"}
        {"id":"3","prompt":"q","chosen":"abc","rejected":"xyz","chosen_spans":[[0,1]]}
        {"id":"4","prompt":"","chosen":"same","rejected":"same"}
        {"id":"5","prompt":"r","chosen":" ","rejected":"four five","rejected_rewards":[1,2]}
    "#;

    fn rows(text: &str) -> Rows {
        read_jsonl(text.as_bytes(), "x").unwrap()
    }

    #[test]
    fn everything_worth_knowing_is_counted() {
        let test = rows(
            r#"{"prompt":"p","chosen":"short","rejected":"long answer"}
               {"prompt":"q","chosen":"abc","rejected":"other"}
               {"prompt":"","chosen":"n","rejected":"m"}"#,
        );
        let report = check(&rows(TRAIN), &[("test", &test)]);
        assert_eq!((report.kind, report.rows), ("preferences", 6));
        assert_eq!(report.duplicate_rows, 1);
        assert_eq!(report.duplicate_prompts, 2);
        // Rows 2 and 3 repeat both answers of row 1, row 5 its own.
        assert_eq!(report.duplicate_answers, 5);
        assert_eq!(report.duplicate_ids, 1);
        assert_eq!(report.conflicting_pairs, 1);
        assert_eq!(
            (
                report.empty_prompts,
                report.empty_answers,
                report.identical_answers
            ),
            (1, 1, 1)
        );
        assert_eq!(
            (&report.empty_answer_lines, &report.identical_answer_lines),
            (&vec![7], &vec![6])
        );
        assert_eq!(
            (report.rows_with_spans, report.rows_with_true_rewards),
            (1, 1)
        );
        assert_eq!(
            report.leaks,
            [Leak {
                split: "test".into(),
                same_row: 3,
                same_prompt: 4
            }]
        );
        let longer = report.longer_wins_characters.unwrap();
        assert_eq!((longer.wins, longer.ties, longer.losses), (2, 2, 2));
        let words = report.longer_wins_words.unwrap();
        assert_eq!((words.wins, words.ties, words.losses), (2, 2, 2));
        let text = report.to_string();
        assert!(
            text.contains("conflicting pairs               1")
                && text.contains("also in test: 3 rows, 4 prompts")
                && text.contains("2 ties, 2 losses; with ties as half right 0.500, as right 0.667"),
            "{text}"
        );
        assert!(serde_json::to_value(&report).unwrap()["lengths"][1]["part"] == "chosen");
    }

    #[test]
    fn demonstrations_have_no_length_baseline() {
        let report = check(&rows("{\"text\":\"a b\"}\n{\"text\":\"a b\"}"), &[]);
        assert_eq!(
            (report.kind, report.duplicate_rows, report.conflicting_pairs),
            ("demonstrations", 1, 0)
        );
        assert_eq!(report.longer_wins_words, None);
        assert!(report.to_string().contains("answer     words"));
    }

    #[test]
    fn labels_of_answers_by_themselves_are_counted() {
        let report = check(
            &rows(
                r#"{"prompt":"p","completion":"a","label":true}
                   {"prompt":"p","completion":"a","label":false}
                   {"prompt":"p","completion":"b","label":false}"#,
            ),
            &[],
        );
        assert_eq!(
            (report.kind, report.desirable, report.conflicting_labels),
            ("unpaired", Some(1), Some(1))
        );
        assert!(
            report
                .to_string()
                .contains("labelled undesirable            2")
        );
        assert_eq!(check(&rows(TRAIN), &[]).desirable, None);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let q = quantiles((1..=100).rev().collect());
        assert_eq!(
            (q.min, q.p25, q.p50, q.p90, q.p99, q.max, q.mean),
            (1, 25, 50, 90, 99, 100, 50.5)
        );
        assert_eq!(quantiles(vec![]), Quantiles::default());
        assert_eq!(quantiles(vec![7]).p99, 7);
    }

    #[test]
    fn the_interval_is_wilsons() {
        let near = |(low, high): (f64, f64), wanted: (f64, f64)| {
            assert!(
                (low - wanted.0).abs() < 1e-12 && (high - wanted.1).abs() < 1e-12,
                "{low} {high}"
            );
        };
        // The formula, worked through in Python's doubles.
        near(
            wilson95(8, 10),
            (0.490_162_471_536_641_8, 0.943_317_848_545_624_8),
        );
        near(wilson95(0, 0), (0.0, 1.0));
        near((wilson95(0, 5).0, wilson95(5, 5).1), (0.0, 1.0));
    }
}
