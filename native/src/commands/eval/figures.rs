//! Figures of the answers' scores and of their tokens' rewards. Every interval is a percentile bootstrap over rows, so that
//! figures can be held against each other.

use super::{Figure, ignorance, recovery};
use anyhow::Result;
use avascope::eval::accuracy::bootstrap_share;
use avascope::eval::calibration::LEVELS;
use avascope::eval::{
    Bootstrap, CalibrationReport, Gauge, Metric, mean_squared_error, pair_accuracy, pair_outcomes,
    pearson, spearman, token_auc,
};
use avascope::objective::ScoreKind;
use avascope::reward::{Side, TokenRewardRecord, Uncertainty};
use avascope::train::{
    self, KnownRewards, NO_SIGMA, Residuals, TwoSets, calibration_of_known, known_rewards,
    labelled_tokens, score_of,
};

/// Everything that the records can be held against.
pub(super) fn all(
    records: &[TokenRewardRecord],
    z: &[f64],
    ranking: ScoreKind,
) -> Result<Vec<Figure>> {
    let mut figures = answers(records, ranking)?;
    figures.extend(spans(records)?);
    figures.extend(known(records)?);
    figures.extend(residuals(z));
    figures.extend(recovery::figures(records, ranking)?);
    figures.extend(ignorance::figures(records, ranking)?);
    Ok(figures)
}

/// Fewest pairs whose share gets an interval.
const LEAST_PAIRS: usize = 10;

/// Makes figures of one group.
struct Group {
    name: &'static str,
    figures: Vec<Figure>,
}

impl Group {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            figures: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, metric: Metric, note: Option<String>) {
        self.figures.push(Figure {
            group: self.name,
            name: name.into(),
            metric,
            note,
        });
    }
}

/// Which answer is better, beside the floor that needs no model.
fn answers(records: &[TokenRewardRecord], ranking: ScoreKind) -> Result<Vec<Figure>> {
    let mut group = Group::new("answers (in brackets: 95 % bootstrap intervals over rows)");
    let pairs = train::judged_pairs(records);
    let all = train::pairs(records).len();
    if all == 0 {
        if let Some(sets) = TwoSets::of(records, ranking) {
            group.add(
                "pair accuracy",
                Metric::of(sets.accuracy),
                Some(format!(
                    "each of {} desirable answers beside each of {} undesirable ones; {:.1} % ties count as wrong",
                    sets.desirable,
                    sets.undesirable,
                    100.0 * sets.ties
                )),
            );
        }
        return Ok(group.figures);
    }
    let length = |record: &TokenRewardRecord| record.answer.chars().count() as f64;
    let (scores, lengths): (Vec<f64>, Vec<f64>) = records
        .iter()
        .map(|r| (f64::from(r.score.sum), length(r)))
        .unzip();
    let follows_length = pearson(&scores, &lengths)?;
    if pairs.is_empty() {
        let reason = format!("by their labels all {all} pairs are ties");
        group.add("pair accuracy", Metric::undefined(reason), None);
        group.add("correlation of sum with length", follows_length, None);
        return Ok(group.figures);
    }
    // A share of a few pairs has no interval that means anything: one of one would be certain.
    let few = pairs.len() < LEAST_PAIRS;
    let bootstrap = match few {
        true => Bootstrap::OFF,
        false => Bootstrap::default(),
    };
    let mut undecided = match all - pairs.len() {
        0 => String::new(),
        n => format!("; ties by label left out: {n}"),
    };
    if few {
        undecided.push_str(&format!("; {} pairs, too few for an interval", pairs.len()));
    }
    for (name, kind) in [
        ("last", ScoreKind::Last),
        ("sum", ScoreKind::Sum),
        ("mean", ScoreKind::Mean),
    ] {
        let of = |record: &TokenRewardRecord| f64::from(score_of(&record.score, kind));
        let (chosen, rejected): (Vec<f64>, Vec<f64>) =
            pairs.iter().map(|(a, b)| (of(a), of(b))).unzip();
        let metric = bootstrap_share(&pair_outcomes(&chosen, &rejected)?, &bootstrap)?;
        if kind == ranking {
            let ties = pair_accuracy(&chosen, &rejected)?.ties;
            group.add(
                "pair accuracy",
                metric,
                Some(format!(
                    "by the {name} of the token rewards, which ranks answers here; {ties} ties count as wrong{undecided}"
                )),
            );
        } else {
            group.add(&format!("pair accuracy, {name}"), metric, None);
        }
    }
    let (chosen, rejected): (Vec<f64>, Vec<f64>) =
        pairs.iter().map(|(a, b)| (length(a), length(b))).unzip();
    let longer = pair_accuracy(&chosen, &rejected)?;
    let half = (longer.right as f64 + longer.ties as f64 / 2.0) / pairs.len() as f64;
    group.add(
        "longer wins",
        bootstrap_share(&pair_outcomes(&chosen, &rejected)?, &bootstrap)?,
        Some(format!(
            "the floor that needs no model; characters, {} ties count as wrong, as half right they make {half:.4}",
            longer.ties
        )),
    );
    group.add("correlation of sum with length", follows_length, None);
    Ok(group.figures)
}

/// Whether tokens that people marked stand out.
fn spans(records: &[TokenRewardRecord]) -> Result<Vec<Figure>> {
    let mut group = Group::new("marked tokens");
    for (name, side) in [
        ("token AUC, rejected spans", Side::Rejected),
        ("token AUC, chosen spans", Side::Chosen),
        ("token AUC, marked spans", Side::Answer),
    ] {
        let rows = labelled_tokens(records, side);
        if !rows.is_empty() {
            let note = "all tokens pooled, bootstrap over rows";
            let auc = token_auc(&rows, &Bootstrap::default())?.pooled;
            group.add(name, auc, Some(note.into()));
        }
    }
    Ok(group.figures)
}

/// The map beside the rewards that the built-in world knows.
fn known(records: &[TokenRewardRecord]) -> Result<Vec<Figure>> {
    let mut group = Group::new("tokens beside their known rewards");
    let KnownRewards {
        means,
        stds,
        truths: truth,
    } = known_rewards(records);
    if truth.is_empty() {
        return Ok(group.figures);
    }
    group.add(
        "correlation with known rewards",
        pearson(&means, &truth)?,
        Some("Pearson".into()),
    );
    group.add(
        "rank correlation with known rewards",
        spearman(&means, &truth)?,
        Some("Spearman".into()),
    );
    let gauge = Gauge::PositiveAffine.fit(&means, &truth)?;
    group.add(
        "mean squared error",
        mean_squared_error(&gauge.apply(&means), &truth)?,
        Some("after the best scale that is not negative, and offset".into()),
    );
    let any = |wanted: Uncertainty| records.iter().any(|r| r.provenance.uncertainty == wanted);
    let no_sigma = any(Uncertainty::PriorOnly).then_some(NO_SIGMA);
    // What the share should be depends on what std was trained to say.
    let aim = match any(Uncertainty::TdSpread) {
        true => {
            "the spread of TD residuals, which describes another quantity: nothing makes the shares come out at their levels"
        }
        false => "the method's own spread, not ignorance; calibrated where the share is the level",
    };
    let report = calibration_of_known(&gauge, &means, &stds, &truth, no_sigma)?;
    let read = |of: &dyn Fn(&CalibrationReport) -> Metric| match &report {
        Ok(report) => of(report),
        Err(undefined) => undefined.clone(),
    };
    for (i, level) in LEVELS.iter().enumerate() {
        group.add(
            &format!("coverage of {:.0} % intervals", level * 100.0),
            read(&|report| Metric::of(report.coverage[i].observed)),
            Some(format!(
                "known rewards inside mean ± z·std, after the same scale; std is {aim}"
            )),
        );
    }
    group.add(
        "expected calibration error",
        read(&|report| report.expected_calibration_error.clone()),
        Some("mean distance of coverage and level over 5, 10, ... 95 %".into()),
    );
    group.add(
        "sharpness",
        read(&|report| report.sharpness.clone()),
        Some("root mean square of std, in the known rewards' units: smaller is sharper, worth something where calibrated".into()),
    );
    group.add(
        "negative log-likelihood",
        read(&|report| report.negative_log_likelihood.clone()),
        Some("of the known rewards under N(mean, std²), nats a token: lower is better".into()),
    );
    Ok(group.figures)
}

/// Whether sigma describes the TD residuals that it was trained on.
fn residuals(z: &[f64]) -> Vec<Figure> {
    let mut group = Group::new("TD residuals");
    if let Some(residuals) = Residuals::of(z) {
        for (name, value, note) in [
            ("TD residual z, mean", residuals.mean, Some("0")),
            ("TD residual z, variance", residuals.variance, Some("1")),
            ("TD residual inside 95 %", residuals.coverage95, None),
        ] {
            let note = note.map(|aim| format!("{aim} where sigma describes the residuals"));
            group.add(name, Metric::of(value), note);
        }
    }
    group.figures
}
