//! The safetensors file format: names, shapes and values, read from bytes and written to bytes.

mod header;

use super::ModelError;
use super::import::{Source, reader};
use ::safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

const FORMAT: &str = "safetensors";
/// Longest header taken. Llama 3 with 405 billion parameters has one below 0.2 MB.
const LONGEST_HEADER: usize = 16 << 20;
/// Most tensors taken from one file.
const MOST_TENSORS: usize = 100_000;

/// A tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// A tensor inside a file's bytes, not converted yet.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    kind: Kind,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    F32,
    F16,
    Bf16,
    /// Kept until someone wants the values: files carry integer buffers that no model reads.
    Other(Dtype),
}

/// Reads the header and finds every tensor. No value is converted.
///
/// # Errors
/// Any disagreement between header and bytes: cut short, overlapping or overflowing ranges, sizes that do not match
/// their shapes, too many tensors.
pub fn views(bytes: &[u8]) -> Result<BTreeMap<String, View<'_>>, ModelError> {
    let header: [u8; 8] = bytes
        .get(..8)
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| {
            ModelError::malformed(
                FORMAT,
                format!("{} bytes are too few for a header", bytes.len()),
            )
        })?;
    let length = u64::from_le_bytes(header);
    if length > LONGEST_HEADER as u64 || length > bytes.len() as u64 - 8 {
        return Err(ModelError::malformed(
            FORMAT,
            format!(
                "the header claims {length} bytes, the file has {} and at most {LONGEST_HEADER} are taken",
                bytes.len()
            ),
        ));
    }
    let behind = 8 + length as usize;
    header::check(&bytes[8..behind], bytes.len() - behind)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes)
        .map_err(|e| ModelError::malformed(FORMAT, e.to_string()))?;
    let tensors = metadata.tensors();
    if tensors.len() > MOST_TENSORS {
        return Err(ModelError::malformed(
            FORMAT,
            format!(
                "{} tensors, at most {MOST_TENSORS} are taken",
                tensors.len()
            ),
        ));
    }
    let data = bytes.get(8 + header..).unwrap_or(&[]);
    let mut found = BTreeMap::new();
    for (name, info) in tensors {
        let (start, end) = info.data_offsets;
        let bytes = data.get(start..end).ok_or_else(|| {
            ModelError::malformed(
                FORMAT,
                format!("`{name}` lies at {start}..{end} of {} bytes", data.len()),
            )
        })?;
        let kind = match info.dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::Bf16,
            other => Kind::Other(other),
        };
        let view = View {
            shape: info.shape.clone(),
            kind,
            bytes,
        };
        found.insert(name, view);
    }
    Ok(found)
}

impl<'a> View<'a> {
    /// A row reader; one or two dimensions only.
    pub(crate) fn source(&self, name: &str) -> Result<Source<'a>, ModelError> {
        let cols = match *self.shape.as_slice() {
            [cols] | [_, cols] => cols,
            _ => {
                return Err(ModelError::Unsupported {
                    what: "number of dimensions",
                    value: format!("`{name}` with shape {:?}", self.shape),
                    supported: "1 and 2",
                });
            }
        };
        let read = match self.kind {
            Kind::F32 => reader(self.bytes, cols, f32::from_le_bytes),
            Kind::F16 => reader(self.bytes, cols, |b| half::f16::from_le_bytes(b).to_f32()),
            Kind::Bf16 => reader(self.bytes, cols, |b| half::bf16::from_le_bytes(b).to_f32()),
            Kind::Other(dtype) => {
                return Err(ModelError::Unsupported {
                    what: "tensor type",
                    value: format!("{dtype:?} of `{name}`"),
                    supported: "F32, F16, BF16",
                });
            }
        };
        Ok(Source {
            shape: self.shape.clone(),
            read,
        })
    }

    /// The values as f32.
    ///
    /// # Errors
    /// A type other than F32, F16 and BF16, or more than two dimensions.
    pub fn to_host(&self, name: &str) -> Result<HostTensor, ModelError> {
        Ok(HostTensor {
            values: self.source(name)?.values(false),
            shape: self.shape.clone(),
        })
    }
}

/// Reads all tensors of a file as f32.
///
/// # Errors
/// As [`views`] and [`View::to_host`].
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, HostTensor>, ModelError> {
    views(bytes)?
        .into_iter()
        .map(|(name, view)| view.to_host(&name).map(|t| (name, t)))
        .collect()
}

/// Writes a file of f32 tensors piece by piece: the header is made of names and shapes, then [`Writer::push`] takes the
/// values in the same order, so that they need not all be in memory beside the file.
pub struct Writer {
    bytes: Vec<u8>,
    names: Vec<(String, usize)>,
    next: usize,
}

impl Writer {
    /// Starts a file with these tensors.
    pub fn new(shapes: &[(String, Vec<usize>)]) -> Self {
        let mut header = serde_json::Map::new();
        // The mark that the usual Python library asks for.
        header.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
        let mut offset = 0;
        let mut names = Vec::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let count: usize = shape.iter().product();
            let end = offset + 4 * count;
            let info =
                serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
            header.insert(name.clone(), info);
            names.push((name.clone(), count));
            offset = end;
        }
        let mut text = serde_json::Value::Object(header).to_string().into_bytes();
        // Values start at a multiple of eight.
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + text.len() + offset);
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&text);
        Self {
            bytes,
            names,
            next: 0,
        }
    }

    /// Appends the next tensor's values.
    ///
    /// # Panics
    /// When they are more or fewer than the shape given to [`Writer::new`] says.
    pub fn push(&mut self, values: &[f32]) {
        let (name, count) = &self.names[self.next];
        assert_eq!(
            *count,
            values.len(),
            "`{name}` was announced with another size"
        );
        self.next += 1;
        if cfg!(target_endian = "little") {
            self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        } else {
            self.bytes
                .extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
    }

    /// The finished file.
    ///
    /// # Panics
    /// When a tensor is still missing.
    pub fn finish(self) -> Vec<u8> {
        assert_eq!(
            self.next,
            self.names.len(),
            "not all announced tensors were written"
        );
        self.bytes
    }
}

/// Writes a file of f32 tensors.
pub fn write(tensors: &BTreeMap<String, HostTensor>) -> Vec<u8> {
    let shapes: Vec<_> = tensors
        .iter()
        .map(|(name, t)| (name.clone(), t.shape.clone()))
        .collect();
    let mut writer = Writer::new(&shapes);
    for tensor in tensors.values() {
        writer.push(&tensor.values);
    }
    writer.finish()
}

/// The same tensors as f16, for a file that has to be small: each value is rounded to the nearest f16, so that reading
/// the result gives other numbers than `bytes` did (relative 2^-11 at most, outside f16's subnormal range).
///
/// # Errors
/// When `bytes` is no readable file of floating-point tensors, or a value is beyond f16's range (65,504).
pub fn to_f16(bytes: &[u8]) -> Result<Vec<u8>, ModelError> {
    let mut halves = BTreeMap::new();
    for (name, host) in read(bytes)? {
        let mut packed = Vec::with_capacity(host.values.len() * 2);
        for value in host.values {
            let half = half::f16::from_f32(value);
            if !half.is_finite() {
                return Err(ModelError::malformed(
                    FORMAT,
                    format!("`{name}` holds {value}, which f16 cannot"),
                ));
            }
            packed.extend(half.to_le_bytes());
        }
        halves.insert(name, (host.shape, packed));
    }
    let views = halves
        .iter()
        .map(|(name, (shape, packed))| {
            ::safetensors::tensor::TensorView::new(Dtype::F16, shape.clone(), packed)
                .map(|view| (name, view))
                .map_err(|error| ModelError::malformed(FORMAT, error.to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    ::safetensors::serialize(views, None)
        .map_err(|error| ModelError::malformed(FORMAT, error.to_string()))
}
