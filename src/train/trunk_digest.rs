//! What tells a frozen trunk from others: a checkpoint keeps what trains, and is worth nothing on another trunk.

use super::run::LoadedModel;
use super::{TrainError, Trainable, host};
use crate::model::{Decoder, ModelConfig, Weight, Weights};
use sha2::{Digest, Sha256};

/// SHA-256 over the names, shapes and numbers of every tensor that does not train. Two trunks that differ in one number,
/// wherever it stands, have two digests.
pub(super) async fn trunk_digest(
    model: &LoadedModel,
    trainable: &Trainable,
) -> Result<String, TrainError> {
    digest_of(frozen(model, trainable)).await
}

/// The same over all of a reference policy: what a run in which the whole trunk trains was held against.
pub(super) async fn reference_digest(reference: &Decoder) -> Result<String, TrainError> {
    let adapter = reference.lora.iter().flat_map(|lora| lora.weights.iter());
    digest_of(reference.weights.iter().chain(adapter)).await
}

/// The same over a model's own weights, without an adapter that lies over them.
pub(super) async fn weights_digest(model: &Decoder) -> Result<String, TrainError> {
    digest_of(model.weights.iter()).await
}

/// What besides its tensors makes a model compute other numbers, in words. Numbers are those of f32, because formats differ in
/// how many digits of them they keep.
pub(super) fn settings_of(config: &ModelConfig) -> String {
    format!(
        "{:?}, {} heads of {}, {} of keys, theta {:e}, {:?}, epsilon {:e}, heads normalised {}",
        config.architecture,
        config.heads,
        config.head_dim,
        config.kv_heads,
        config.rope_theta as f32,
        config.rope_scaling,
        config.norm_eps as f32,
        config.qk_norm
    )
}

async fn digest_of(tensors: impl Iterator<Item = (&str, &Weight)>) -> Result<String, TrainError> {
    let mut digest = Sha256::new();
    for (name, weight) in tensors {
        digest.update(format!("{name} {:?} ", weight.shape()));
        let values = match weight {
            Weight::Vector(t) => super::read(t.clone().inner()).await?,
            Weight::Matrix(t) => super::read(t.clone().inner()).await?,
        };
        for part in host::digests(&values) {
            digest.update(part);
        }
    }
    Ok(hex(&digest.finalize()))
}

/// What checkpoints of before kept: SHA-256 over the first numbers of every tensor alone. Files that have nothing else are
/// still held against it.
pub(super) async fn starts_digest(
    model: &LoadedModel,
    trainable: &Trainable,
) -> Result<String, TrainError> {
    const FIRST: usize = 64;
    let mut digest = Sha256::new();
    for (name, weight) in frozen(model, trainable) {
        digest.update(name.as_bytes());
        let head = match weight {
            Weight::Vector(t) => {
                let [n] = t.dims();
                super::read(t.clone().inner().slice([0..n.min(FIRST)])).await?
            }
            Weight::Matrix(t) => {
                let [_, n] = t.dims();
                super::read(t.clone().inner().slice([0..1, 0..n.min(FIRST)])).await?
            }
        };
        digest.update(bytemuck::cast_slice::<f32, u8>(&head));
    }
    Ok(hex(&digest.finalize()))
}

/// The trunk's tensors, and where nothing of the trunk trains those of an adapter that the model brings.
fn frozen<'a>(
    model: &'a LoadedModel,
    trainable: &Trainable,
) -> impl Iterator<Item = (&'a str, &'a Weight)> {
    let adapter = match trainable {
        Trainable::Heads => model.decoder.lora.as_ref().map(|lora| &lora.weights),
        _ => None,
    };
    let tensors = model.decoder.weights.iter();
    tensors.chain(adapter.into_iter().flat_map(Weights::iter))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::world_model;
    use burn::tensor::Device;

    #[test]
    fn one_number_anywhere_tells_two_trunks_apart() {
        let device = Device::flex();
        let model = world_model(&device).unwrap();
        let of = |model: &LoadedModel| {
            let whole = trunk_digest(model, &Trainable::Heads);
            pollster::block_on(whole).unwrap()
        };
        let starts = |model: &LoadedModel| {
            pollster::block_on(starts_digest(model, &Trainable::Heads)).unwrap()
        };
        assert_eq!(of(&model), of(&model.clone()));
        let (name, shape, mut values) = {
            let matrix = |weight: &Weight| matches!(weight, Weight::Matrix(_));
            let (name, weight) = (model.decoder.weights.iter())
                .find(|(_, weight)| matrix(weight))
                .unwrap();
            let values = pollster::block_on(weight.to_host(name)).unwrap();
            (name.to_string(), weight.shape(), values)
        };
        // The last number: far behind the first 64.
        *values.last_mut().unwrap() += 1.0;
        let mut other = model.clone();
        other
            .decoder
            .weights
            .insert_host(&name, values, &shape, &device);
        assert_eq!(starts(&model), starts(&other));
        assert_ne!(of(&model), of(&other));
    }
}
