//! `avascope eval`.

mod figures;
mod ignorance;
mod recovery;

use super::run_files::{OpenRun, warn_of_known};
use super::{print_line, truths};
use crate::args::EvalArgs;
use crate::exit;
use crate::talk::say;
use anyhow::Result;
use avascope::eval::Metric;
use avascope::train::NO_POSITIVE_FACTOR;
use serde::Serialize;

/// One figure with its name.
#[derive(Serialize)]
struct Figure {
    /// What it is about: figures of one group stand together under its name.
    group: &'static str,
    name: String,
    #[serde(flatten)]
    metric: Metric,
    /// What the figure is held against.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Measures a run on rows that it was not trained on.
pub fn run(args: EvalArgs) -> Result<()> {
    let wanted = truths::read(&args.truths)?;
    truths::check_map(&args, &wanted)?;
    let mut run = OpenRun::open(&args.run)?;
    let read = run.read_rows(args.data.as_deref(), args.limit)?;
    match truths::trained_on(&run) {
        Ok(train) => warn_of_known(&train, &read),
        Err(error) => say!("note      whether the rows were trained on cannot be told: {error:#}"),
    }
    let rows = run.usable(read)?;
    // First the truths: what is scored afterwards says what they found.
    let results = truths::measure(&mut run, &args, wanted, &rows)?;
    let scored = run.score(&rows)?;
    let ranking = run.scorer.ranking_score();
    let figures = figures::all(&scored.records, &scored.z.concat(), ranking)?;

    // The records' own, which also says where ignorance comes from.
    let provenance = match scored.records.first() {
        Some(record) => &record.provenance,
        None => run.scorer.provenance(),
    };
    let data = run.data_name(args.data.as_deref());
    if args.json {
        let value = serde_json::json!({
            "provenance": provenance,
            "data": data,
            "rows": rows.len(),
            "figures": figures,
            "truths": results,
        });
        print_line(&serde_json::to_string_pretty(&value)?)?;
    } else {
        run.introduce(provenance, rows.len(), &data);
        shown(&figures)
            .iter()
            .try_for_each(|line| print_line(line))?;
        truths::print(&results, provenance)?;
    }
    if let Some(threshold) = args.min_accuracy {
        let figure = figures.iter().find(|f| f.name == "pair accuracy");
        let accuracy = figure.and_then(|f| f.metric.value);
        let undefined = figure.and_then(|f| f.metric.undefined.as_deref());
        if accuracy.is_none_or(|accuracy| accuracy < threshold) {
            return Err(exit::with_code(
                exit::BELOW_THRESHOLD,
                match accuracy {
                    Some(accuracy) => format!(
                        "the pair accuracy is {accuracy}, and at least {threshold} was asked for"
                    ),
                    None => format!(
                        "the pair accuracy is {}, and at least {threshold} was asked for",
                        undefined.unwrap_or("undefined: there are no pairs")
                    ),
                },
            ));
        }
    }
    Ok(())
}

/// The figures as lines, group by group; those of a group that are undefined for one reason share a line.
fn shown(figures: &[Figure]) -> Vec<String> {
    let mut groups: Vec<&str> = figures.iter().map(|f| f.group).collect();
    // Those of a group need not follow each other.
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    let mut lines = Vec::new();
    for group in groups {
        lines.push(String::new());
        lines.push(group.into());
        let of_group: Vec<&Figure> = figures.iter().filter(|f| f.group == group).collect();
        lines.extend(
            of_group_shown(&of_group)
                .into_iter()
                .map(|line| format!("  {line}")),
        );
    }
    lines
}

fn of_group_shown(figures: &[&Figure]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut undefined: Vec<(&str, Vec<&str>)> = Vec::new();
    for figure in figures {
        match (&figure.metric.undefined, figure.metric.value) {
            (Some(reason), None) => {
                match undefined.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, names)) => names.push(&figure.name),
                    None => undefined.push((reason, vec![&figure.name])),
                }
            }
            _ => {
                let note = figure.note.as_ref().map(|n| format!("   ({n})"));
                lines.push(format!(
                    "{:<36} {}{}",
                    figure.name,
                    figure.metric,
                    note.unwrap_or_default()
                ));
            }
        }
    }
    for (reason, names) in undefined {
        let way_out = match reason.contains(NO_POSITIVE_FACTOR) {
            true => "; train longer, or with another method",
            false => "",
        };
        lines.push(format!("{}: {reason}{way_out}", names.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_by_group_and_those_undefined_for_one_reason_share_a_line() {
        let figure = |group: &'static str, name: &str, metric: Metric| Figure {
            group,
            name: name.into(),
            metric,
            note: Some("a long note".into()),
        };
        let none = || Metric::undefined(NO_POSITIVE_FACTOR);
        let lines = shown(&[
            figure("first", "error", none()),
            figure("second", "accuracy", Metric::of(0.5)),
            figure("first", "coverage", none()),
            figure("second", "other", Metric::undefined("no rows")),
        ]);
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert_eq!((&*lines[0], &*lines[1]), ("", "first"));
        assert!(
            lines[2].starts_with("  error, coverage: undefined")
                && lines[2].contains("train longer")
        );
        assert_eq!((&*lines[3], &*lines[4]), ("", "second"));
        assert!(lines[5].starts_with("  accuracy") && lines[5].ends_with("(a long note)"));
        assert_eq!(lines[6], "  other: undefined: no rows");
    }
}
