//! Dropout in the trunk: on the embeddings and on what each block adds to the residual stream.
//!
//! Source: *Dropout*, Srivastava et al. 2014; the places are those of GPT-2 (`embd_pdrop`, `resid_pdrop`). Numbers that stay
//! are scaled by 1/(1-rate), so that expectations stay.

use crate::random::Rng;
use burn::tensor::{Tensor, TensorData};

/// Dropout of one forward pass: a rate and a seed give the same masks on every device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of the numbers that become 0, at least 0 and below 1.
    pub rate: f64,
    /// Seed of the masks.
    pub seed: u64,
}

/// The masks of one forward pass, drawn one after the other.
pub(crate) struct Masks(Option<(f64, Rng)>);

impl Masks {
    /// For a pass; without dropout nothing is drawn and nothing changes.
    pub(crate) fn new(dropout: Option<Dropout>) -> Self {
        Self(dropout.map(|d| (d.rate, Rng::new(d.seed))))
    }

    /// `x [N, width]` under the next mask. The numbers are drawn on the host, so that a seed gives one mask everywhere and
    /// a run that was stopped draws it again.
    pub(crate) fn apply(&mut self, x: Tensor<2>) -> Tensor<2> {
        let Some((rate, random)) = &mut self.0 else {
            return x;
        };
        let [n, width] = x.dims();
        let kept = (1.0 / (1.0 - *rate)) as f32;
        let mask: Vec<f32> = (0..n * width)
            .map(|_| if random.chance(*rate) { 0.0 } else { kept })
            .collect();
        let mask = Tensor::from_data(TensorData::new(mask, [n, width]), &x.device().inner());
        x * mask
    }
}
