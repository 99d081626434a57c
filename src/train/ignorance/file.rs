//! A fit as a file: safetensors, bound to its checkpoint by the checkpoint's own digest, and to itself by another.
//!
//! Tensors, f64: `head.ggn` `[D, D]`, `head.centre` `[D]`; of each adapter matrix `lora.NAME.large` `[d, k]`, `.small`
//! `[r, r]` and `.centre` `[d, r]`. Metadata: `avascope_laplace`, the version and
//! [`LaplaceSummary`] as JSON; `sha256` over JSON and tensors.

use super::lora::Factors;
use super::{LaplaceFit, LaplaceSummary};
use crate::eval::matrix::Matrix;
use crate::train::TrainError;
use crate::train::checkpoint::content_digest;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Version of the format.
const VERSION: u32 = 1;
const ENTRY: &str = "avascope_laplace";

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    #[serde(flatten)]
    summary: LaplaceSummary,
}

fn broken(why: impl std::fmt::Display) -> TrainError {
    TrainError::Ignorance(format!(
        "this is no Laplace file of ours, or it was damaged ({why}); fit it again (`avascope laplace RUN`)"
    ))
}

impl LaplaceFit {
    /// The file's bytes.
    ///
    /// # Errors
    /// None in practice: all sizes agree by construction.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrainError> {
        let d = self.centre.len();
        let matrix =
            |name: String, m: &Matrix| (name, vec![m.rows(), m.cols()], bytes_of(m.values()));
        let mut tensors = vec![
            ("head.centre".to_string(), vec![d], bytes_of(&self.centre)),
            matrix("head.ggn".to_string(), &self.curvature),
        ];
        for (name, factors) in &self.adapters {
            tensors.push(matrix(format!("lora.{name}.large"), &factors.large));
            tensors.push(matrix(format!("lora.{name}.small"), &factors.small));
            tensors.push(matrix(format!("lora.{name}.centre"), &factors.centre));
        }
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let json = serde_json::to_string(&Header {
            version: VERSION,
            summary: self.summary.clone(),
        })
        .map_err(broken)?;
        let parts = tensors
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), shape.as_slice(), bytes.as_slice()));
        let sha256 = content_digest(&json, parts);
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                Ok((
                    name.as_str(),
                    TensorView::new(Dtype::F64, shape.clone(), bytes).map_err(broken)?,
                ))
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        let metadata = HashMap::from([(ENTRY.to_string(), json), ("sha256".to_string(), sha256)]);
        safetensors::serialize(views, Some(metadata)).map_err(broken)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// Another format or version, damage, sizes that do not agree.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrainError> {
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let said = |key: &str| {
            let value = header.metadata().as_ref().and_then(|m| m.get(key)).cloned();
            value.ok_or_else(|| broken(format!("its header has no `{key}`")))
        };
        let (json, sha256) = (said(ENTRY)?, said("sha256")?);
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let parts = tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data()));
        if content_digest(&json, parts) != sha256 {
            return Err(broken("its content does not match its own SHA-256"));
        }
        let header: Header = serde_json::from_str(&json).map_err(broken)?;
        if header.version != VERSION {
            return Err(broken(format!(
                "it is of version {}, and this program reads {VERSION}",
                header.version
            )));
        }
        let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f64>), TrainError> {
            let view = file.tensor(name).map_err(broken)?;
            if view.dtype() != Dtype::F64 {
                return Err(broken(format!("`{name}` is not f64")));
            }
            Ok((view.shape().to_vec(), floats_of(view.data())))
        };
        let (_, centre) = tensor("head.centre")?;
        let (shape, ggn) = tensor("head.ggn")?;
        if shape != [centre.len(), centre.len()] || centre.iter().any(|c| !c.is_finite()) {
            return Err(broken("its sizes do not agree"));
        }
        let matrix = |name: &str| -> Result<Matrix, TrainError> {
            match tensor(name)? {
                (shape, values) if shape.len() == 2 => Ok(Matrix::new(shape[0], shape[1], values)?),
                _ => Err(broken(format!("`{name}` is no matrix"))),
            }
        };
        let mut adapters = BTreeMap::new();
        for (name, _) in &tensors {
            let part = name
                .strip_prefix("lora.")
                .and_then(|n| n.strip_suffix(".large"));
            let Some(name) = part else { continue };
            let factors = Factors {
                large: matrix(&format!("lora.{name}.large"))?,
                small: matrix(&format!("lora.{name}.small"))?,
                centre: matrix(&format!("lora.{name}.centre"))?,
            };
            let (d, r) = (factors.large.rows(), factors.small.rows());
            if factors.small.cols() != r || (factors.centre.rows(), factors.centre.cols()) != (d, r)
            {
                return Err(broken(format!("the factors of `{name}` do not agree")));
            }
            adapters.insert(name.to_string(), factors);
        }
        Ok(Self {
            adapters,
            curvature: Matrix::new(centre.len(), centre.len(), ggn)?,
            centre,
            summary: header.summary,
        })
    }
}

fn bytes_of(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats_of(bytes: &[u8]) -> Vec<f64> {
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks
        .iter()
        .map(|chunk| f64::from_le_bytes(*chunk))
        .collect()
}
