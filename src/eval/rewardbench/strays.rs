//! Rows of subsets that RewardBench does not have: they are reported, and count nowhere else. A person's own subset is welcome;
//! a misspelt one would be missed in its section.

use super::SECTIONS;
use super::report_v2::SUBSETS_V2;

/// Subsets that are told one by one.
const SHOWN: usize = 5;

/// The known name that is nearest to one that is not known.
pub(super) fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let names = known.iter().map(|known| (*known).to_string());
    let nearest = crate::plain::nearest_first(name, names).into_iter().next();
    nearest.filter(|_| !known.contains(&name))
}

/// A sentence on each subset outside `known`, with the nearest known name; on many, on the first of them.
fn strays<'a>(subsets: impl Iterator<Item = (&'a str, usize)>, known: &[&str]) -> Vec<String> {
    let strays: Vec<(&str, usize)> = subsets
        .filter(|(name, rows)| *rows > 0 && !known.contains(name))
        .collect();
    let mut said: Vec<String> = strays
        .iter()
        .take(SHOWN)
        .map(|(name, rows)| {
            let (noun, verb) = match rows {
                1 => ("row is", "it counts"),
                _ => ("rows are", "they count"),
            };
            format!(
                "{rows} {noun} of {name:?}, which RewardBench does not have (the nearest is `{}`): {verb} in no section and not in the overall score",
                nearest(name, known).unwrap_or_default()
            )
        })
        .collect();
    if strays.len() > SHOWN {
        let rows: usize = strays[SHOWN..].iter().map(|(_, rows)| rows).sum();
        said.push(format!(
            "and {} more such subsets with {rows} rows",
            strays.len() - SHOWN
        ));
    }
    said
}

impl super::Report {
    /// Sentences on subsets that version 1 does not have.
    pub fn stray_subsets(&self) -> Vec<String> {
        let known: Vec<&str> = SECTIONS
            .iter()
            .flat_map(|(_, subsets)| subsets.iter().map(|(name, _)| *name))
            .collect();
        strays(
            self.subsets.iter().map(|s| (s.subset.as_str(), s.rows)),
            &known,
        )
    }
}

impl super::report_v2::ReportV2 {
    /// Sentences on subsets that version 2 does not have.
    pub fn stray_subsets(&self) -> Vec<String> {
        strays(
            self.subsets.iter().map(|s| (s.subset.as_str(), s.rows)),
            &SUBSETS_V2,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_subset_is_told_with_the_nearest_and_a_known_one_is_not() {
        let found = [
            ("hep-cp", 1),
            ("hep-go", 3),
            ("mine", 2),
            ("donotanswer", 0),
        ];
        let said = strays(found.into_iter(), &["hep-cpp", "hep-go", "math-prm"]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("1 row is of \"hep-cp\"") && said[0].contains("`hep-cpp`"));
        assert!(said[1].starts_with("2 rows are of \"mine\""));
    }

    #[test]
    fn many_of_them_are_told_in_few_lines() {
        let names: Vec<String> = (0..9).map(|i| format!("own\n{i}")).collect();
        let said = strays(names.iter().map(|name| (name.as_str(), 2)), &["hep-go"]);
        assert_eq!(said.len(), SHOWN + 1);
        assert!(said.iter().all(|line| !line.contains('\n')));
        assert_eq!(said[SHOWN], "and 4 more such subsets with 8 rows");
    }
}
