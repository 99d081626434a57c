//! How a trained system's token rewards are read off. A new credit is one line of [`CREDITS`] and one arm in
//! [`Credit::score`].

use crate::objective::options::nearest_first;
use crate::train::{EncodedRow, Scored, Scorer, TrainError};

/// A way of reading token rewards off a trained method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Name in configurations.
    pub name: &'static str,
    /// What it does, for people.
    pub title: &'static str,
}

/// All credits.
pub const CREDITS: &[Credit] = &[Credit {
    name: "own",
    title: "the method's own token reward",
}];

impl Credit {
    /// The credit of a name.
    ///
    /// # Errors
    /// A sentence that lists the known ones, the nearest first.
    pub fn find(name: &str) -> Result<Self, String> {
        CREDITS
            .iter()
            .find(|credit| credit.name == name)
            .copied()
            .ok_or_else(|| {
                let known = nearest_first(name, CREDITS.iter().map(|c| c.name.to_owned()));
                format!(
                    "there is no credit `{name}`; known credits: {}",
                    known.join(", ")
                )
            })
    }

    /// Scores rows with token rewards read off this way.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub async fn score(&self, scorer: &Scorer, rows: &[EncodedRow]) -> Result<Scored, TrainError> {
        // `own` is the only one so far, and `find` lets no other name through: the next credit makes this a match.
        scorer.score(rows).await
    }
}
