//! What some methods need beside the steps: margins, strengths, labels of tokens, features of dropout passes.

use super::dataset::EncodedRow;
use super::forward::dropout_features;
use super::run::Run;
use super::{EncodedSide, TrainError};
use crate::objective::Objective;
use crate::random::Rng;
use crate::reward::{Extras, Layout};
use burn::tensor::{Device, Tensor, TensorData};

/// Keeps masks of dropout apart from everything else drawn from the same seed.
const DROPOUT_SALT: u64 = 0x9d3c_41e6_0b85_72af;

impl Run {
    /// Two dropout passes' features of micro-batch `micro` of this step, where the method reads them. Their masks depend
    /// on the seed and on which step it is, and so are the same in a resumed run.
    pub(super) fn features(
        &self,
        micro: usize,
        layout: &Layout,
        device: &Device,
    ) -> Option<[Tensor<2>; 2]> {
        let rate = self.objective.feature_dropout()?;
        let passes = self.step * self.config.gradient_accumulation_steps + micro;
        let mut random = Rng::stream(self.config.seed ^ DROPOUT_SALT, passes as u64);
        let seeds = [random.next_u64(), random.next_u64()];
        Some(dropout_features(
            &self.model.decoder,
            layout,
            rate,
            seeds,
            device,
        ))
    }
}

/// What some methods need beside the steps: the rows' margins, and token labels from the minimal edit between the two
/// answers of a pair.
pub(super) fn extras(
    objective: &dyn Objective,
    rows: &[&EncodedRow],
    layout: &Layout,
    device: &Device,
) -> Result<Extras, TrainError> {
    let mut extras = Extras::default();
    if rows.iter().any(|row| row.margin.is_some()) {
        let margins: Vec<f32> = rows.iter().map(|row| row.margin.unwrap_or(0.0)).collect();
        extras.margin = Some(Tensor::from_floats(margins.as_slice(), device));
    }
    let pairs = rows.iter().all(|row| row.sides.len() == 2);
    if objective.reads_label() && pairs && rows.iter().any(|row| row.label.is_some()) {
        let labels: Vec<f32> = rows.iter().map(|row| row.label.unwrap_or(1.0)).collect();
        extras.label = Some(Tensor::from_floats(labels.as_slice(), device));
    }
    if objective.strength().is_some() {
        // Held-out rows may lack strengths: they are then judged by their labels alone.
        let strengths: Option<Vec<f32>> = rows.iter().map(|row| row.strength).collect();
        let signs: Vec<f32> = rows
            .iter()
            .map(|row| if row.flipped { -1.0 } else { 1.0 })
            .collect();
        extras.strength = strengths.map(|all| Tensor::from_floats(all.as_slice(), device));
        extras.sign = Some(Tensor::from_floats(signs.as_slice(), device));
    }
    if objective.needs_edit_labels() {
        let steps = layout.steps();
        let mut labels = vec![0.0f32; layout.rows * steps];
        for (k, row) in rows.iter().enumerate() {
            let [chosen, rejected] = row.sides.as_slice() else {
                continue;
            };
            let answers = [rejected, chosen].map(|side| {
                let encoded = &side.encoded;
                (1..encoded.ids.len())
                    .filter(|i| encoded.resp[*i])
                    .collect::<Vec<_>>()
            });
            let ids = |side: &EncodedSide, tokens: &[usize]| {
                tokens
                    .iter()
                    .map(|i| side.encoded.ids[*i])
                    .collect::<Vec<u32>>()
            };
            let alignment =
                crate::data::align(&ids(rejected, &answers[0]), &ids(chosen, &answers[1]))
                    .map_err(|error| TrainError::Row {
                        id: row.id.clone(),
                        line: row.line,
                        reason: error.to_string(),
                    })?;
            for at in alignment.deleted_or_substituted {
                labels[(rows.len() + k) * steps + answers[0][at] - 1] = -1.0;
            }
            for at in alignment.inserted_or_substituted {
                labels[k * steps + answers[1][at] - 1] = 1.0;
            }
        }
        let labelled = |row: usize| {
            let of = &labels[row * steps..(row + 1) * steps];
            of.iter().any(|label| *label != 0.0)
        };
        // Single answers (those of a truth, not of the training rows) have no second block, and no labels.
        let pairs = rows.len();
        let sides = layout.rows / pairs.max(1);
        let count = (0..pairs).filter(|k| (0..sides).any(|side| labelled(side * pairs + k)));
        extras.labelled_pairs = Some(count.count() as f64);
        extras.token_labels = Some(Tensor::from_data(
            TensorData::new(labels, [layout.rows, steps]),
            device,
        ));
    }
    Ok(extras)
}

/// Gives every micro-batch of an optimiser step the counts of all of them, so that their losses add up.
pub(super) fn share_counts(extras: &mut [Extras]) {
    let labelled: Option<f64> = extras.iter().map(|extras| extras.labelled_pairs).sum();
    for extras in extras {
        extras.labelled_pairs = labelled;
    }
}
