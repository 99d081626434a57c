//! `avascope eval`.

use super::run_files::OpenRun;
use super::{print_line, wait};
use crate::args::EvalArgs;
use crate::exit;
use anyhow::Result;
use avascope::eval::{
    Bootstrap, Gauge, LabelledTokens, Metric, gaussian_calibration, longer_wins, pair_accuracy,
    pair_outcomes, pearson, spearman, token_auc,
};
use avascope::objective::ScoreKind;
use avascope::reward::{AnswerScore, Side, TokenRewardRecord};
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
    let run = OpenRun::open(&args.run)?;
    let rows = run.rows(args.data.as_deref(), args.limit)?;
    let scored = wait(run.scorer.score(&rows))?;
    let ranking = run.scorer.objective().ranking_score();
    let figures = figures(&scored.records, &scored.z, ranking)?;

    if args.json {
        let value = serde_json::json!({
            "provenance": run.scorer.provenance(),
            "rows": rows.len(),
            "figures": figures,
        });
        print_line(&serde_json::to_string_pretty(&value)?)?;
    } else {
        let provenance = run.scorer.provenance();
        eprintln!(
            "{} on {}, {} · {} · {} rows",
            provenance.method,
            provenance.model,
            provenance.checkpoint,
            provenance.device,
            rows.len()
        );
        for figure in &figures {
            let note = figure
                .note
                .as_ref()
                .map(|n| format!("   ({n})"))
                .unwrap_or_default();
            print_line(&format!("{:<34} {}{note}", figure.name, figure.metric))?;
        }
    }
    if let Some(threshold) = args.min_accuracy {
        let accuracy = figures
            .iter()
            .find(|f| f.name == "pair accuracy")
            .and_then(|f| f.metric.value);
        if accuracy.is_none_or(|accuracy| accuracy < threshold) {
            return Err(exit::with_code(
                exit::BELOW_THRESHOLD,
                format!(
                    "the pair accuracy is {accuracy:?}, and at least {threshold} was asked for"
                ),
            ));
        }
    }
    Ok(())
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

    let pairs: Vec<(&TokenRewardRecord, &TokenRewardRecord)> = records
        .chunks(2)
        .filter_map(|pair| match pair {
            [a, b] if a.side == Side::Chosen && b.side == Side::Rejected => Some((a, b)),
            _ => None,
        })
        .collect();
    if !pairs.is_empty() {
        let scores = |of: fn(&AnswerScore) -> f32| -> (Vec<f64>, Vec<f64>) {
            pairs
                .iter()
                .map(|(a, b)| (f64::from(of(&a.score)), f64::from(of(&b.score))))
                .unzip()
        };
        let kinds: [(&str, ScoreKind, fn(&AnswerScore) -> f32); 3] = [
            ("last", ScoreKind::Last, |s| s.last),
            ("sum", ScoreKind::Sum, |s| s.sum),
            ("mean", ScoreKind::Mean, |s| s.mean),
        ];
        for (name, kind, of) in kinds {
            let (chosen, rejected) = scores(of);
            let accuracy = pair_accuracy(&chosen, &rejected)?;
            let outcomes = pair_outcomes(&chosen, &rejected)?;
            let metric = avascope::eval::accuracy::bootstrap_share(&outcomes, &bootstrap)?;
            if kind == ranking {
                add(
                    "pair accuracy",
                    metric,
                    Some(&format!(
                        "by the {name} of the token rewards, which the method trains; {} ties count as wrong",
                        accuracy.ties
                    )),
                );
            } else {
                add(&format!("pair accuracy, {name}"), metric, None);
            }
        }
        let length = |record: &TokenRewardRecord| record.answer.chars().count();
        let (chosen, rejected): (Vec<usize>, Vec<usize>) =
            pairs.iter().map(|(a, b)| (length(a), length(b))).unzip();
        add(
            "longer wins",
            longer_wins(&chosen, &rejected)?.metric(),
            Some("the floor that needs no model; characters, ties count as wrong"),
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

    for (name, side, sign) in [
        ("token AUC, rejected spans", Side::Rejected, -1.0),
        ("token AUC, chosen spans", Side::Chosen, 1.0),
    ] {
        let rows: Vec<LabelledTokens> = records
            .iter()
            .filter(|record| record.side == side)
            .filter_map(|record| {
                let tokens = record.tokens.iter().filter(|t| t.start < t.end);
                let pairs: Option<Vec<(f64, bool)>> = tokens
                    .map(|t| t.labelled.map(|label| (sign * f64::from(t.mean), label)))
                    .collect();
                let (scores, labels) = pairs?.into_iter().unzip();
                Some(LabelledTokens { scores, labels })
            })
            .collect();
        if !rows.is_empty() {
            add(
                name,
                token_auc(&rows, &bootstrap)?.pooled,
                Some("all tokens pooled, interval over rows"),
            );
        }
    }

    let known: Vec<_> = records
        .iter()
        .flat_map(|record| &record.tokens)
        .filter_map(|t| {
            t.true_mean
                .map(|truth| (f64::from(t.mean), f64::from(t.std), f64::from(truth)))
        })
        .collect();
    if !known.is_empty() {
        let means: Vec<f64> = known.iter().map(|k| k.0).collect();
        let stds: Vec<f64> = known.iter().map(|k| k.1).collect();
        let truth: Vec<f64> = known.iter().map(|k| k.2).collect();
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
        let gauge = Gauge::PositiveAffine.fit(&means, &truth);
        if let Ok(gauge) = gauge {
            let fitted = gauge.apply(&means);
            let spread: Vec<f64> = stds.iter().map(|s| s * gauge.scale.abs()).collect();
            add(
                "mean squared error",
                avascope::eval::mean_squared_error(&fitted, &truth)?,
                Some("after the best scale and offset"),
            );
            if let Ok(report) = gaussian_calibration(&fitted, &spread, &truth) {
                for coverage in &report.coverage {
                    add(
                        &format!("coverage of {:.0} % intervals", coverage.expected * 100.0),
                        Metric::of(coverage.observed),
                        Some("known rewards inside mean ± z·std, after the same scale"),
                    );
                }
            }
        }
    }
    if !z.is_empty() {
        let n = z.len() as f64;
        let mean = z.iter().sum::<f64>() / n;
        let variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n;
        let covered = z
            .iter()
            .filter(|z| z.abs() <= 1.959_963_984_540_054)
            .count() as f64
            / n;
        add(
            "TD residual z, mean",
            Metric::of(mean),
            Some("0 where sigma describes the residuals"),
        );
        add(
            "TD residual z, variance",
            Metric::of(variance),
            Some("1 where sigma describes the residuals"),
        );
        add("TD residual inside 95 %", Metric::of(covered), None);
    }
    Ok(figures)
}
