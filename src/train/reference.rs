//! The policy that a method is held against, where it is another model than the run's own start.

use super::{LoadedModel, TrainError};
use crate::model::Decoder;

/// A policy that does not train.
#[derive(Clone)]
pub struct Reference {
    /// The name shown and recorded.
    pub name: String,
    /// Trunk and LM head.
    pub decoder: Decoder,
}

impl LoadedModel {
    /// The model with `other` as the reference of its policy, as `ref_model` in TRL. Log-ratios are taken token by token, so
    /// both must cut texts into the same tokens.
    ///
    /// # Errors
    /// A reference whose tokenizer reads text otherwise, or whose embedding has fewer tokens than the tokenizer.
    pub fn with_reference(mut self, other: LoadedModel) -> Result<Self, TrainError> {
        let (own, given) = (self.tokenizer.vocab_size(), other.tokenizer.vocab_size());
        if self.tokenizer.digest() != other.tokenizer.digest() {
            return Err(TrainError::Vocabulary(format!(
                "the reference `{}` has another tokenizer ({given} tokens) than `{}` ({own} tokens): a log-ratio of the two would compare different tokens; name a reference of the same family, or leave it out, and the model's own start is the reference",
                other.name, self.name
            )));
        }
        self.reference = Some(Reference {
            name: other.name,
            decoder: other.decoder,
        });
        Ok(self)
    }

    /// What the policy that this one is held against is called.
    pub(super) fn reference_name(&self) -> &str {
        self.reference
            .as_ref()
            .map_or(&self.name, |named| &named.name)
    }

    /// The policy that this model's is held against: the named one, or itself as it is.
    pub(super) fn reference_policy(&self) -> Decoder {
        let decoder = self.reference.as_ref().map(|named| &named.decoder);
        decoder.unwrap_or(&self.decoder).clone().inner()
    }
}
