//! `avascope eval`.

mod ignorance;
mod recovery;

use super::run_files::{OpenRun, warn_of_known};
use super::{print_line, truths};
use crate::args::EvalArgs;
use crate::exit;
use crate::talk::say;
use anyhow::Result;
use avascope::eval::{
    Bootstrap, Gauge, Metric, longer_wins, mean_squared_error, pair_accuracy, pair_outcomes,
    pearson, spearman, token_auc,
};
use avascope::objective::ScoreKind;
use avascope::reward::{Side, TokenRewardRecord, Uncertainty};
use avascope::train::{
    self, KnownRewards, NO_POSITIVE_FACTOR, NO_SIGMA, Residuals, TwoSets, coverage_of_known,
    known_rewards, labelled_tokens, score_of,
};
use serde::Serialize;

/// One figure with its name.
#[derive(Serialize)]
struct Figure {
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
    let mut figures = figures(&scored.records, &scored.z, ranking)?;
    figures.extend(recovery::figures(&scored.records, ranking)?);
    figures.extend(ignorance::figures(&scored.records, ranking)?);

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
        say!(
            "{}{} on {}, {} · {} · {} · {} rows of {data}",
            provenance.method,
            match run.scorer.credit().is_own() {
                true => String::new(),
                false => format!(" spread by {}", provenance.credit),
            },
            provenance.model,
            provenance.checkpoint,
            provenance.device,
            provenance.precision,
            rows.len()
        );
        if let Some(ignorance) = &provenance.ignorance {
            say!("ignorance by {}", ignorance.detail);
        }
        shown(&figures)
            .iter()
            .try_for_each(|line| print_line(line))?;
        truths::print(&results, provenance)?;
    }
    if let Some(threshold) = args.min_accuracy {
        let accuracy = figures
            .iter()
            .find(|f| f.name == "pair accuracy")
            .and_then(|f| f.metric.value);
        if accuracy.is_none_or(|accuracy| accuracy < threshold) {
            return Err(exit::with_code(
                exit::BELOW_THRESHOLD,
                match accuracy {
                    Some(accuracy) => format!(
                        "the pair accuracy is {accuracy}, and at least {threshold} was asked for"
                    ),
                    None => format!(
                        "there are no pairs, and a pair accuracy of at least {threshold} was asked for"
                    ),
                },
            ));
        }
    }
    Ok(())
}

/// The figures as lines. Those that are undefined for one reason share a line.
fn shown(figures: &[Figure]) -> Vec<String> {
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
                    "{:<34} {}{}",
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

fn figures(records: &[TokenRewardRecord], z: &[f64], ranking: ScoreKind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |name: &str, metric: Metric, note: Option<&str>| {
        figures.push(Figure {
            name: name.into(),
            metric,
            note: note.map(String::from),
        });
    };
    let bootstrap = Bootstrap::default();

    let pairs = train::judged_pairs(records);
    let undecided = train::pairs(records).len() - pairs.len();
    if !pairs.is_empty() {
        for (name, kind) in [
            ("last", ScoreKind::Last),
            ("sum", ScoreKind::Sum),
            ("mean", ScoreKind::Mean),
        ] {
            let of = |record: &TokenRewardRecord| f64::from(score_of(&record.score, kind));
            let (chosen, rejected): (Vec<f64>, Vec<f64>) =
                pairs.iter().map(|(a, b)| (of(a), of(b))).unzip();
            let accuracy = pair_accuracy(&chosen, &rejected)?;
            let outcomes = pair_outcomes(&chosen, &rejected)?;
            let metric = avascope::eval::accuracy::bootstrap_share(&outcomes, &bootstrap)?;
            if kind == ranking {
                add(
                    "pair accuracy",
                    metric,
                    Some(&format!(
                        "by the {name} of the token rewards, which ranks answers here; {} ties count as wrong{}",
                        accuracy.ties,
                        match undecided {
                            0 => String::new(),
                            n => format!("; ties by label left out: {n}"),
                        }
                    )),
                );
            } else {
                add(&format!("pair accuracy, {name}"), metric, None);
            }
        }
        let length = |record: &TokenRewardRecord| record.answer.chars().count();
        let (chosen, rejected): (Vec<usize>, Vec<usize>) =
            pairs.iter().map(|(a, b)| (length(a), length(b))).unzip();
        let longer = longer_wins(&chosen, &rejected)?;
        let half = (longer.right as f64 + longer.ties as f64 / 2.0) / pairs.len() as f64;
        add(
            "longer wins",
            longer.metric(),
            Some(&format!(
                "the floor that needs no model; characters, {} ties count as wrong, as half right they make {half:.4}",
                longer.ties
            )),
        );
        let (all_scores, all_lengths): (Vec<f64>, Vec<f64>) = records
            .iter()
            .map(|r| (f64::from(r.score.sum), length(r) as f64))
            .unzip();
        add(
            "correlation of sum with length",
            pearson(&all_scores, &all_lengths)?,
            None,
        );
    }

    if let (true, Some(sets)) = (pairs.is_empty(), TwoSets::of(records, ranking)) {
        add(
            "pair accuracy",
            Metric::of(sets.accuracy),
            Some(&format!(
                "each of {} desirable answers beside each of {} undesirable ones; {:.1} % ties count as wrong",
                sets.desirable,
                sets.undesirable,
                100.0 * sets.ties
            )),
        );
    }

    for (name, side) in [
        ("token AUC, rejected spans", Side::Rejected),
        ("token AUC, chosen spans", Side::Chosen),
        ("token AUC, marked spans", Side::Answer),
    ] {
        let rows = labelled_tokens(records, side);
        if !rows.is_empty() {
            add(
                name,
                token_auc(&rows, &bootstrap)?.pooled,
                Some("all tokens pooled, interval over rows"),
            );
        }
    }

    let KnownRewards {
        means,
        stds,
        truths: truth,
    } = known_rewards(records);
    if !truth.is_empty() {
        add(
            "correlation with known rewards",
            pearson(&means, &truth)?,
            Some("Pearson"),
        );
        add(
            "rank correlation with known rewards",
            spearman(&means, &truth)?,
            Some("Spearman"),
        );
        let gauge = Gauge::PositiveAffine.fit(&means, &truth)?;
        add(
            "mean squared error",
            mean_squared_error(&gauge.apply(&means), &truth)?,
            Some("after the best scale that is not negative, and offset"),
        );
        let prior_only = |r: &TokenRewardRecord| r.provenance.uncertainty == Uncertainty::PriorOnly;
        let no_sigma = records.iter().any(prior_only).then_some(NO_SIGMA);
        for (level, share) in coverage_of_known(&gauge, &means, &stds, &truth, no_sigma)? {
            add(
                &format!("coverage of {:.0} % intervals", level * 100.0),
                share,
                Some(
                    "known rewards inside mean ± z·std, after the same scale; std is the method's own spread, not ignorance",
                ),
            );
        }
    }
    if let Some(residuals) = Residuals::of(z) {
        add(
            "TD residual z, mean",
            Metric::of(residuals.mean),
            Some("0 where sigma describes the residuals"),
        );
        add(
            "TD residual z, variance",
            Metric::of(residuals.variance),
            Some("1 where sigma describes the residuals"),
        );
        add(
            "TD residual inside 95 %",
            Metric::of(residuals.coverage95),
            None,
        );
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_undefined_for_one_reason_share_a_line() {
        let figure = |name: &str, metric: Metric| Figure {
            name: name.into(),
            metric,
            note: Some("a long note".into()),
        };
        let none = || Metric::undefined(NO_POSITIVE_FACTOR);
        let lines = shown(&[
            figure("error", none()),
            figure("accuracy", Metric::of(0.5)),
            figure("coverage", none()),
            figure("other", Metric::undefined("no rows")),
        ]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("accuracy") && lines[0].ends_with("(a long note)"));
        assert!(
            lines[1].starts_with("error, coverage: undefined") && lines[1].contains("train longer")
        );
        assert_eq!(lines[2], "other: undefined: no rows");
    }
}
