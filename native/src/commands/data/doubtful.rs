//! `avascope data doubtful`: the data report of Secrets of RLHF II (arXiv 2401.06080, section 2).

use crate::args::{DoubtfulArgs, IgnoranceArgs, IgnoranceChoice, ModelArgs, RunArgs};
use crate::commands::print_line;
use crate::commands::run_files::OpenRun;
use crate::exit;
use crate::folder::{refuse_inputs, write_atomic};
use crate::talk::say;
use anyhow::Result;
use avascope::data::Rows;
use avascope::eval::strength::{DoubtfulPair, Verdict, doubtful_pairs, preference_strength};
use avascope::train::{self, score_of};
use avascope::world::rows_to_jsonl;
use std::path::Path;

/// Scores the pairs with every run and reports mean and spread of their differences, least credible label first.
pub fn run(args: DoubtfulArgs) -> Result<()> {
    let (first, members) = match args.ensemble.as_slice() {
        [first, members @ ..] if !members.is_empty() => (first, members),
        _ => {
            return Err(exit::with_code(
                exit::USAGE,
                "an ensemble of one has no spread: name at least two runs of one method with other seeds (--ensemble RUN RUN)",
            ));
        }
    };
    refuse_inputs(args.out.as_deref(), &[Path::new(&args.data)])?;
    let run = OpenRun::open(&RunArgs {
        run: first.clone(),
        checkpoint: None,
        model: ModelArgs {
            model: None,
            tokenizer: None,
        },
        reference: None,
        device: args.device.clone(),
        batch_size: None,
        credit: "own".into(),
        ignorance: IgnoranceArgs {
            ignorance: Some(IgnoranceChoice::Ensemble),
            members: members.to_vec(),
            ..IgnoranceArgs::default()
        },
    })?;
    let Rows::Preferences(mut rows) = crate::files::read_rows(Path::new(&args.data))? else {
        return Err(exit::with_code(
            exit::DATA,
            format!(
                "{} holds no pairs; labels of pairs are what can be doubted",
                args.data
            ),
        ));
    };
    let encoded = run.rows(Some(&args.data), None)?;
    let ranking = run.scorer.objective().ranking_score();
    let mut differences = Vec::new();
    let mut ids = Vec::new();
    for member in run.score_each(&encoded)? {
        let pairs = train::pairs(&member.records);
        ids = pairs.iter().map(|(a, _)| a.id.clone()).collect();
        let difference = pairs.iter().map(|(a, b)| {
            f64::from(score_of(&a.score, ranking)) - f64::from(score_of(&b.score, ranking))
        });
        differences.push(difference.collect::<Vec<f64>>());
    }
    let report = doubtful_pairs(&ids, &differences, args.show)?;
    // Every row that is scored gives one pair, in the order of the rows.
    let texts = |pair: &DoubtfulPair| {
        let row = &encoded[pair.index];
        let answer = |side: usize| row.sides[side].encoded.answer_text.as_str();
        [
            ("prompt", row.prompt.as_str()),
            ("chosen", answer(0)),
            ("rejected", answer(1)),
        ]
    };
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        for (pair, listed) in
            (report.weakest.iter()).zip(value["weakest"].as_array_mut().into_iter().flatten())
        {
            for (name, text) in texts(pair) {
                listed[name] = text.into();
            }
        }
        print_line(&serde_json::to_string_pretty(&value)?)?;
    } else {
        print_line(&format!(
            "{} pairs, {} runs: {:.1} % with a negative mean · {} likely wrong, {} unclear, {} clear",
            report.pairs,
            report.models,
            100.0 * report.negative_share,
            report.likely_wrong,
            report.unclear,
            report.clear
        ))?;
        let slices: Vec<String> = report.slices.iter().map(|s| format!("{s:.2}")).collect();
        print_line(&format!(
            "mean strength from the weakest tenth to the strongest: {}",
            slices.join(" ")
        ))?;
        for pair in &report.weakest {
            let verdict = match pair.verdict {
                Verdict::LikelyWrong => "likely wrong",
                Verdict::Unclear => "unclear",
                Verdict::Clear => "clear",
            };
            let s = pair.strength;
            print_line(&format!(
                "{:<24} {:+9.3} ± {:.3}   {verdict}; {:.0} % of the runs agree with the label",
                pair.id,
                s.mean,
                s.std,
                100.0 * s.agreement
            ))?;
            for (name, text) in texts(pair) {
                print_line(&format!("    {name:<9} {}", one_line(text)))?;
            }
        }
    }
    if let Some(path) = &args.out {
        let strengths = preference_strength(&differences)?;
        // Rows without a token of answer were left out of scoring, and are told of there.
        let lines: std::collections::BTreeMap<usize, f32> = encoded
            .iter()
            .zip(&strengths)
            .map(|(row, strength)| (row.line, strength.mean as f32))
            .collect();
        rows.retain(|row| lines.contains_key(&row.line));
        for row in &mut rows {
            row.strength = lines.get(&row.line).copied();
        }
        let count = rows.len();
        let dropped = unwritten_columns(Path::new(&args.data))?;
        if !dropped.is_empty() {
            say!(
                "warning   {} has columns that rows of pairs do not know, and {} is written without them: {}",
                args.data,
                path.display(),
                dropped.into_iter().collect::<Vec<_>>().join(", ")
            );
        }
        write_atomic(path, rows_to_jsonl(&Rows::Preferences(rows)).as_bytes())?;
        say!(
            "wrote     {} · {count} pairs with their strength\nnext      avascope train --method secrets2 --data {} -O flip_fraction=0.1",
            path.display(),
            path.display()
        );
    }
    Ok(())
}

/// Columns of pairs: what is read of a file, and written again.
const COLUMNS: [&str; 12] = [
    "id",
    "prompt",
    "chosen",
    "rejected",
    "chosen_spans",
    "rejected_spans",
    "chosen_rewards",
    "rejected_rewards",
    "chosen_reward_std",
    "rejected_reward_std",
    "margin",
    "strength",
];

/// Names of the columns of a file that are not written again.
fn unwritten_columns(data: &Path) -> Result<std::collections::BTreeSet<String>> {
    let objects = crate::files::read_objects(data)?;
    Ok(objects
        .iter()
        .filter_map(|(_, value)| value.as_object())
        .flat_map(|row| row.keys())
        .filter(|name| !COLUMNS.contains(&name.as_str()))
        .cloned()
        .collect())
}

/// Characters of a text that a line shows.
const SHOWN: usize = 80;

/// The start of a text on one line. What could move the cursor, break the line, or hide or turn round its neighbours is
/// written as an escape: a data file must not draw on the reader's terminal.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut characters = text.chars();
    for c in characters.by_ref().take(SHOWN) {
        let hides = matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        );
        match c.is_control() || hides {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    match characters.count() {
        0 => line,
        more => format!("{line} … ({more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_text_is_one_line_of_harmless_characters() {
        assert_eq!(one_line("größer 漢字 🦀"), "größer 漢字 🦀");
        assert_eq!(one_line("a\r\n\tb\u{1b}[2J"), "a\\r\\n\\tb\\u{1b}[2J");
        assert_eq!(
            one_line("\u{202e}x\u{9b}\u{200d}"),
            "\\u{202e}x\\u{9b}\\u{200d}"
        );
        assert_eq!(one_line(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(
            one_line(&"x".repeat(95)),
            format!("{} … (15 more)", "x".repeat(80))
        );
        assert_eq!(one_line(""), "");
    }
}
