//! The file of a checkpoint: its tensors, its digest, and what tells that it was damaged.

use crate::model::{Weight, Weights};
use crate::train::TrainError;
use crate::train::trunk_digest::hex;
use burn::tensor::Device;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

/// SHA-256 over a checkpoint's JSON and its tensors in the order of their names.
pub(in crate::train) fn content_digest<'a>(
    json: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut digest = Sha256::new();
    digest.update(json.as_bytes());
    for (name, shape, bytes) in tensors {
        digest.update(format!("\n{name} {shape:?} "));
        digest.update(bytes);
    }
    hex(&digest.finalize())
}

/// What the file's metadata says under a key; tensors are not read.
pub(super) fn said(bytes: &[u8], key: &str) -> Result<Option<String>, SafeTensorError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    Ok(header
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(key).cloned()))
}

/// Opens the file and holds its content against its own digest.
pub(super) fn open_checked(bytes: &[u8]) -> Result<SafeTensors<'_>, TrainError> {
    let broken =
        |reason: String| TrainError::Checkpoint(format!("{reason}; use an earlier checkpoint"));
    let file = SafeTensors::deserialize(bytes).map_err(|error| broken(error.to_string()))?;
    let said = |key: &str| said(bytes, key).map_err(|error| broken(error.to_string()));
    let (Some(json), Some(sha256)) = (said("avascope")?, said("sha256")?) else {
        return Err(broken("its header lacks its digest".into()));
    };
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let found = content_digest(
        &json,
        tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data())),
    );
    if found != sha256 {
        return Err(broken(
            "its content does not match its own SHA-256: the file was damaged after it was written"
                .into(),
        ));
    }
    Ok(file)
}

/// A tensor's numbers, where it has the type and the shape that are asked for.
pub(super) fn floats(
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, TrainError> {
    let view = file
        .tensor(name)
        .map_err(|_| TrainError::Checkpoint(format!("tensor `{name}` is missing")))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(TrainError::Checkpoint(format!(
            "tensor `{name}` is {:?} {:?}, and this run's is F32 {shape:?}",
            view.dtype(),
            view.shape()
        )));
    }
    // A file's bytes start anywhere, so they are copied rather than cast in place.
    Ok(view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

/// Reads a tensor off the device and adds it to those that the file will hold.
pub(super) async fn push(
    tensors: &mut Vec<(String, Vec<usize>, Vec<u8>)>,
    name: String,
    weight: &Weight,
    step: usize,
) -> Result<(), TrainError> {
    let values = weight
        .to_host(&name)
        .await
        .map_err(|error| TrainError::Device(error.to_string()))?;
    // A checkpoint that cannot be gone on from would only take the place of a good one.
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(TrainError::NonFinite {
            term: format!("tensor `{name}`"),
            value: f64::from(*value),
            step,
            row: ", and no checkpoint of it was written".into(),
        });
    }
    tensors.push((name, weight.shape(), bytemuck::cast_slice(&values).to_vec()));
    Ok(())
}
/// The file's tensors in place of `weights`, each checked against the shape it replaces.
pub(super) fn replaced(
    file: &SafeTensors<'_>,
    prefix: &str,
    weights: &Weights,
    device: &Device,
) -> Result<Weights, TrainError> {
    let mut read = Weights::new();
    for (name, weight) in weights.iter() {
        let values = floats(file, &format!("{prefix}.{name}"), &weight.shape())?;
        read.insert_host(name, values, &weight.shape(), device);
    }
    Ok(read)
}
