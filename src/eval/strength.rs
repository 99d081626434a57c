//! Preference strength from an ensemble of reward models (arXiv 2401.06080, Eq. 4), and which pairs to doubt.

use super::{EvalError, check_lengths, check_values, mean, variance};
use serde::{Deserialize, Serialize};

/// How clearly an ensemble prefers the chosen answer of one pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strength {
    /// Mean over models of score(chosen) - score(rejected).
    pub mean: f64,
    /// Population standard deviation over models.
    pub std: f64,
    /// Share of models that score the chosen answer strictly higher.
    pub agreement: f64,
}

/// Strength of every pair from `differences[model][pair]` = score(chosen) - score(rejected). Use models that did not
/// train on the pair: their own training pairs look stronger than they are.
///
/// # Errors
/// No models, no pairs, rows of unequal length, NaN or infinite differences.
pub fn preference_strength(differences: &[Vec<f64>]) -> Result<Vec<Strength>, EvalError> {
    let Some(first) = differences.first() else {
        return Err(EvalError::Empty { what: "models" });
    };
    for model in differences {
        check_lengths(
            "pairs of the first model",
            first,
            "pairs of another model",
            model,
        )?;
        check_values("score differences", model)?;
    }
    let strength = |i: usize| {
        let column: Vec<f64> = differences.iter().map(|m| m[i]).collect();
        let agreeing = column.iter().filter(|d| **d > 0.0).count();
        Strength {
            mean: mean(&column),
            std: variance(&column).sqrt(),
            agreement: agreeing as f64 / column.len() as f64,
        }
    };
    Ok((0..first.len()).map(strength).collect())
}

/// Marks the floor(fraction N) pairs of lowest strength, whose labels one may flip; among equals the earlier ones.
///
/// # Errors
/// No pairs, NaN strengths, a fraction outside [0, 1].
pub fn lowest(strengths: &[Strength], fraction: f64) -> Result<Vec<bool>, EvalError> {
    check_values(
        "strengths",
        &strengths.iter().map(|s| s.mean).collect::<Vec<_>>(),
    )?;
    if !(0.0..=1.0).contains(&fraction) {
        return Err(EvalError::Range {
            what: "fraction",
            value: fraction,
            need: "between 0 and 1",
        });
    }
    let count = (fraction * strengths.len() as f64) as usize;
    let mut marks = vec![false; strengths.len()];
    ascending(strengths)
        .into_iter()
        .take(count)
        .for_each(|i| marks[i] = true);
    Ok(marks)
}

fn ascending(strengths: &[Strength]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..strengths.len()).collect();
    // A stable sort keeps equal strengths in the order of the file.
    order.sort_by(|a, b| strengths[*a].mean.total_cmp(&strengths[*b].mean));
    order
}

/// What the ensemble makes of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// mean < -std: the models agree against the label.
    LikelyWrong,
    /// |mean| <= std: the models do not tell.
    Unclear,
    /// mean > std.
    Clear,
}

/// One pair of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoubtfulPair {
    /// Place in the input.
    pub index: usize,
    /// The row's id.
    pub id: String,
    /// Its strength.
    pub strength: Strength,
    /// The verdict.
    pub verdict: Verdict,
}

/// Which pairs a person should look at, least credible label first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoubtfulPairs {
    /// Pairs looked at.
    pub pairs: usize,
    /// Models in the ensemble.
    pub models: usize,
    /// Share with a negative mean (about 0.25 on HH by arXiv 2401.06080).
    pub negative_share: f64,
    /// Counts of likely wrong, unclear, clear.
    pub likely_wrong: usize,
    /// See [`Verdict::Unclear`].
    pub unclear: usize,
    /// See [`Verdict::Clear`].
    pub clear: usize,
    /// Mean strength in ten equal slices from weakest to strongest (fewer when there are fewer pairs).
    pub slices: Vec<f64>,
    /// The `show` weakest pairs.
    pub weakest: Vec<DoubtfulPair>,
}

/// Report on `differences[model][pair]` with the rows' ids.
///
/// # Errors
/// As [`preference_strength`], or ids of another length.
pub fn doubtful_pairs(
    ids: &[String],
    differences: &[Vec<f64>],
    show: usize,
) -> Result<DoubtfulPairs, EvalError> {
    let strengths = preference_strength(differences)?;
    check_lengths("ids", ids, "pairs", &strengths)?;
    let verdict = |s: &Strength| {
        if s.mean < -s.std {
            Verdict::LikelyWrong
        } else if s.mean > s.std {
            Verdict::Clear
        } else {
            Verdict::Unclear
        }
    };
    let count = |v| strengths.iter().filter(|s| verdict(s) == v).count();
    let order = ascending(&strengths);
    let n = order.len();
    let slices = n.min(10);
    let slice = |k: usize| {
        let part = &order[k * n / slices..(k + 1) * n / slices];
        part.iter().map(|i| strengths[*i].mean).sum::<f64>() / part.len() as f64
    };
    let row = |i: &usize| DoubtfulPair {
        index: *i,
        id: ids[*i].clone(),
        strength: strengths[*i],
        verdict: verdict(&strengths[*i]),
    };
    Ok(DoubtfulPairs {
        pairs: n,
        models: differences.len(),
        negative_share: strengths.iter().filter(|s| s.mean < 0.0).count() as f64 / n as f64,
        likely_wrong: count(Verdict::LikelyWrong),
        unclear: count(Verdict::Unclear),
        clear: count(Verdict::Clear),
        slices: (0..slices).map(slice).collect(),
        weakest: order.iter().take(show).map(row).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::{all_close, floats, golden, rows};

    #[test]
    fn strength_and_flips_match_the_golden_values() {
        let Some(file) = golden("secrets2") else {
            return;
        };
        let got = preference_strength(&rows(&file["inputs"]["data"]["model_differences"])).unwrap();
        let means: Vec<f64> = got.iter().map(|s| s.mean).collect();
        let stds: Vec<f64> = got.iter().map(|s| s.std).collect();
        for (name, case) in file["inputs"]["cases"].as_object().unwrap() {
            let expected = &file["expected"][name];
            all_close(&file, "strength", &means, &floats(&expected["strength"]));
            all_close(
                &file,
                "strength_std",
                &stds,
                &floats(&expected["strength_std"]),
            );
            let flipped: Vec<f64> = lowest(&got, case["flip_fraction"].as_f64().unwrap())
                .unwrap()
                .into_iter()
                .map(|f| f64::from(u8::from(f)))
                .collect();
            assert_eq!(flipped, floats(&expected["flipped"]), "{name}");
        }
        let tiny = preference_strength(&[vec![1.0], vec![-0.5], vec![0.25]]).unwrap()[0];
        all_close(
            &file,
            "one_line",
            &[tiny.mean, tiny.std],
            &floats(&file["expected"]["one_line"]["strength"]),
        );
    }

    #[test]
    fn the_report_puts_the_least_credible_label_first() {
        let ids: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let report =
            doubtful_pairs(&ids, &[vec![1.0, -2.0, 0.5], vec![1.2, -1.8, -0.4]], 2).unwrap();
        let weakest: Vec<(&str, Verdict)> = report
            .weakest
            .iter()
            .map(|p| (p.id.as_str(), p.verdict))
            .collect();
        assert_eq!(
            weakest,
            [("b", Verdict::LikelyWrong), ("c", Verdict::Unclear)]
        );
        assert_eq!(
            (report.likely_wrong, report.unclear, report.clear),
            (1, 1, 1)
        );
        assert!((report.negative_share - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(report.slices.len(), 3);
    }

    #[test]
    fn bad_inputs_are_errors() {
        assert!(preference_strength(&[]).is_err());
        assert!(preference_strength(&[vec![1.0], vec![1.0, 2.0]]).is_err());
        assert!(preference_strength(&[vec![]]).is_err());
        assert!(doubtful_pairs(&[], &[vec![1.0]], 1).is_err());
        let one = [Strength {
            mean: 1.0,
            std: 0.0,
            agreement: 1.0,
        }];
        assert!(lowest(&one, 1.1).is_err() && lowest(&[], 0.5).is_err());
    }
}
