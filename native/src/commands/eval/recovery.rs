//! Figures about the recovered reward as max-margin IRL is judged (Insights from the Inverse, arXiv 2410.12491): accuracy and
//! F1 of "undesirable, a reward of at most 0", and Pearson, Spearman and Kendall, against known rewards and against labels.

use super::Figure;
use anyhow::Result;
use avascope::eval::{Metric, RewardRecovery};
use avascope::objective::ScoreKind;
use avascope::reward::{Side, TokenRewardRecord};
use avascope::train::{answer_labels, known_returns, known_rewards, labelled_tokens};

/// The name of the group.
const GROUP: &str = "recovered rewards, judged as max-margin IRL's are";

/// The figures wherever rewards are known or labels stand.
pub(super) fn figures(records: &[TokenRewardRecord], ranking: ScoreKind) -> Result<Vec<Figure>> {
    let mut figures = Figures::default();
    let tokens = known_rewards(records);
    if !tokens.truths.is_empty() {
        let report = RewardRecovery::of_rewards(&tokens.means, &tokens.truths)?;
        // Pearson and Spearman of tokens stand above, among the figures about known rewards.
        figures.push(
            "Kendall correlation with known rewards",
            &report.kendall,
            "tau-b",
        );
        figures.decisions(
            "token",
            &report,
            "undesirable tokens: a known reward of at most 0",
        );
    }
    let answers = known_returns(records, ranking);
    if !answers.known.is_empty() {
        let report = RewardRecovery::of_rewards(&answers.scores, &answers.known)?;
        let what = match ranking {
            ScoreKind::Mean => "the answer's score beside the mean of its known rewards",
            ScoreKind::Last | ScoreKind::Sum => {
                "the answer's score beside the sum of its known rewards"
            }
        };
        figures.correlations("answers", &report, what);
        figures.decisions(
            "answer",
            &report,
            "undesirable answers: known rewards of at most 0",
        );
    }
    for (name, side, positive) in [
        (
            "rejected spans",
            Side::Rejected,
            "tokens inside, taken to have rewards of at most 0",
        ),
        (
            "chosen spans",
            Side::Chosen,
            "tokens inside, taken to have rewards of at least 0",
        ),
        (
            "marked spans",
            Side::Answer,
            "tokens inside, taken to have rewards of at most 0",
        ),
    ] {
        let rows = labelled_tokens(records, side);
        if rows.is_empty() {
            continue;
        }
        // The scores are high where a token should be inside; "undesirable" reads low numbers.
        let turned: Vec<f64> = rows.iter().flat_map(|r| &r.scores).map(|s| -s).collect();
        let labels: Vec<bool> = rows.iter().flat_map(|r| r.labels.clone()).collect();
        let report = RewardRecovery::of_labels(&turned, &labels)?;
        let sign =
            "of being inside and the reward, or minus the reward where spans mark what is bad";
        figures.correlations(name, &report, sign);
        figures.plain_decision(name, &report, positive);
    }
    let answers = answer_labels(records, ranking);
    if !answers.known.is_empty() {
        let report = RewardRecovery::of_labels(&answers.scores, &answers.known)?;
        let what = "the answer's score beside its label: 0 undesirable (or rejected), 1 not";
        figures.correlations("answers' labels", &report, what);
        figures.plain_decision(
            "answers' labels",
            &report,
            "undesirable answers, each alone: a score of at most 0",
        );
    }
    Ok(figures.0)
}

#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn push(&mut self, name: &str, metric: &Metric, note: &str) {
        self.0.push(Figure {
            group: GROUP,
            name: name.into(),
            metric: metric.clone(),
            note: Some(note.into()),
        });
    }

    fn correlations(&mut self, of: &str, report: &RewardRecovery, note: &str) {
        for (name, metric) in [
            ("Pearson", &report.pearson),
            ("Spearman", &report.spearman),
            ("Kendall", &report.kendall),
        ] {
            self.push(&format!("{name}, {of}"), metric, note);
        }
    }

    /// By the reward's own sign.
    fn plain_decision(&mut self, of: &str, report: &RewardRecovery, positive: &str) {
        let decision = &report.as_recovered;
        self.push(
            &format!("accuracy, {of}"),
            &decision.accuracy,
            &format!(
                "by the reward's own sign; {} of {} are positives",
                report.undesirable, report.count
            ),
        );
        self.push(
            &format!("F1, {of}"),
            &decision.f1,
            &format!("of {positive}"),
        );
    }

    /// By the reward's own sign, and after the best scale and offset.
    fn decisions(&mut self, of: &str, report: &RewardRecovery, positive: &str) {
        self.plain_decision(&format!("undesirable {of}s"), report, positive);
        let Some(decision) = &report.after_gauge else {
            return;
        };
        let note = "after the scale (not negative) and offset of least squares: a loss of differences leaves the zero free";
        for (name, metric) in [("accuracy", &decision.accuracy), ("F1", &decision.f1)] {
            self.push(
                &format!("{name}, undesirable {of}s, fitted zero"),
                metric,
                note,
            );
        }
    }
}
