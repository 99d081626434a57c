//! GGUF files, versions 2 and 3: metadata, tensor directory, and Llama-like models in them.
//!
//! Layout: magic `GGUF`, version, counts, key-value pairs, tensor directory, then aligned tensor data. Everything is
//! little-endian. No count in the file is believed before the bytes that it would need are known to be there.

mod blocks;
mod model;

pub use model::load;

use super::ModelError;
use blocks::BlockType;
use std::collections::BTreeMap;

const FORMAT: &str = "GGUF";
/// Most metadata values taken, array elements included: each takes 32 bytes in memory. Tokenizers have three arrays of
/// up to some 300,000.
const MOST_VALUES: u64 = 4 << 20;
/// Most tensors taken from one file.
const MOST_TENSORS: u64 = 100_000;
/// Arrays of arrays of arrays have no use.
const DEEPEST: usize = 3;

/// The key-value part of a GGUF file.
pub type Metadata = BTreeMap<String, Value>;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// 8 bits, unsigned.
    U8(u8),
    /// 8 bits, signed.
    I8(i8),
    /// 16 bits, unsigned.
    U16(u16),
    /// 16 bits, signed.
    I16(i16),
    /// 32 bits, unsigned.
    U32(u32),
    /// 32 bits, signed.
    I32(i32),
    /// 64 bits, unsigned.
    U64(u64),
    /// 64 bits, signed.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    String(String),
    /// A list of values of one type.
    Array(Vec<Value>),
}

impl Value {
    /// A non-negative integer of any width.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::U64(n) => Some(n),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// A float of any width.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }

    /// Text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }
}

/// One entry of the tensor directory.
#[derive(Clone, Debug)]
pub struct TensorEntry<'a> {
    /// Sizes, slowest dimension first (the file has them the other way round).
    pub shape: Vec<usize>,
    kind: BlockType,
    bytes: &'a [u8],
}

/// A parsed file; tensor data stays in the given bytes.
#[derive(Clone, Debug)]
pub struct Gguf<'a> {
    /// Key-value pairs.
    pub metadata: Metadata,
    /// Tensors by their names in the file.
    pub tensors: BTreeMap<String, TensorEntry<'a>>,
}

impl<'a> Gguf<'a> {
    /// Parses a file.
    ///
    /// # Errors
    /// Another format or version, a tensor type that is not read, or any count, offset or text that does not fit the
    /// bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ModelError> {
        let mut r = Reader {
            bytes,
            at: 0,
            values: 0,
        };
        if r.take(4, "magic")? != b"GGUF" {
            return Err(bad("it does not start with `GGUF`"));
        }
        let version = r.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(ModelError::Unsupported {
                what: "GGUF version",
                value: version.to_string(),
                supported: "2 and 3, little-endian",
            });
        }
        let tensor_count = r.u64("tensor count")?;
        let pair_count = r.u64("metadata count")?;
        // A directory entry takes at least 24 bytes, a pair at least 13.
        if tensor_count.saturating_mul(24) > bytes.len() as u64 {
            return Err(bad(format!(
                "{tensor_count} tensors do not fit {} bytes",
                bytes.len()
            )));
        }
        if tensor_count > MOST_TENSORS {
            return Err(bad(format!(
                "{tensor_count} tensors, at most {MOST_TENSORS} are taken"
            )));
        }
        if pair_count.saturating_mul(13) > bytes.len() as u64 {
            return Err(bad(format!(
                "{pair_count} metadata pairs do not fit {} bytes",
                bytes.len()
            )));
        }
        let mut metadata = Metadata::new();
        for _ in 0..pair_count {
            let key = r.text("metadata key")?;
            let kind = r.u32("metadata type")?;
            let value = r.value(kind, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(bad(format!("metadata key `{key}` comes twice")));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(v) => v
                .as_u64()
                .filter(|a| a.is_power_of_two() && *a <= 1 << 16)
                .ok_or_else(|| bad(format!("general.alignment is {v:?}, not a power of two")))?,
        };
        let mut directory = Vec::new();
        for _ in 0..tensor_count {
            directory.push(r.entry()?);
        }
        let data_start = (r.at as u64).next_multiple_of(alignment);
        check_overlaps(&directory)?;
        let mut tensors = BTreeMap::new();
        for Entry {
            name,
            shape,
            kind,
            size,
            offset,
        } in directory
        {
            if !offset.is_multiple_of(alignment) {
                return Err(bad(format!(
                    "`{name}` starts at {offset}, not a multiple of {alignment}"
                )));
            }
            let range = data_start
                .checked_add(offset)
                .and_then(|start| Some((start, start.checked_add(size)?)))
                .and_then(|(start, end)| {
                    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
                });
            let data = range.and_then(|range| bytes.get(range)).ok_or_else(|| {
                bad(format!(
                    "`{name}` lies at {offset} with {size} bytes, past the end of {} bytes",
                    bytes.len()
                ))
            })?;
            let entry = TensorEntry {
                shape,
                kind,
                bytes: data,
            };
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(ModelError::DuplicateTensor { name });
            }
        }
        Ok(Self { metadata, tensors })
    }
}

fn bad(problem: impl Into<String>) -> ModelError {
    ModelError::malformed(FORMAT, problem)
}

struct Entry {
    name: String,
    shape: Vec<usize>,
    kind: BlockType,
    size: u64,
    offset: u64,
}

/// Two tensors that share bytes: one of them would be read from the other's numbers.
fn check_overlaps(directory: &[Entry]) -> Result<(), ModelError> {
    let mut by_place: Vec<&Entry> = directory.iter().filter(|entry| entry.size > 0).collect();
    by_place.sort_by_key(|entry| entry.offset);
    for pair in by_place.windows(2) {
        let [before, after] = pair else { continue };
        if before.offset.saturating_add(before.size) > after.offset {
            return Err(bad(format!(
                "`{}` at {} with {} bytes and `{}` at {} lie over each other",
                before.name, before.offset, before.size, after.name, after.offset
            )));
        }
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: u64,
}

impl<'a> Reader<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], ModelError> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|n| self.at.checked_add(n));
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, slice)) => {
                self.at = end;
                Ok(slice)
            }
            None => Err(bad(format!(
                "{what} at byte {} wants {count} bytes, {} are left",
                self.at,
                self.left()
            ))),
        }
    }

    fn array<const W: usize>(&mut self, what: &str) -> Result<[u8; W], ModelError> {
        let slice = self.take(W as u64, what)?;
        slice
            .try_into()
            .map_err(|_| bad(format!("{what} is cut short")))
    }

    fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &str) -> Result<String, ModelError> {
        let length = self.u64(what)?;
        let at = self.at;
        let slice = self.take(length, what)?;
        String::from_utf8(slice.to_vec())
            .map_err(|_| bad(format!("{what} at byte {at} is not UTF-8")))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, ModelError> {
        let what = "metadata value";
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(bad(format!("more than {MOST_VALUES} metadata values")));
        }
        Ok(match kind {
            0 => Value::U8(self.array::<1>(what)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => match self.array::<1>(what)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(bad(format!("a bool is {other}"))),
            },
            8 => Value::String(self.text(what)?),
            9 => {
                let kind = self.u32("array type")?;
                let count = self.u64("array length")?;
                let smallest: u64 = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    8 | 10..=12 => 8,
                    9 => 12,
                    _ => return Err(bad(format!("array of unknown type {kind}"))),
                };
                if count.saturating_mul(smallest) > self.left() || self.values + count > MOST_VALUES
                {
                    return Err(bad(format!(
                        "an array of {count} elements does not fit the {} bytes left (or {MOST_VALUES} values)",
                        self.left()
                    )));
                }
                if depth >= DEEPEST {
                    return Err(bad(format!("arrays nest deeper than {DEEPEST}")));
                }
                let mut list = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::Array(list)
            }
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            other => return Err(bad(format!("metadata of unknown type {other}"))),
        })
    }

    fn entry(&mut self) -> Result<Entry, ModelError> {
        let name = self.text("tensor name")?;
        let dimensions = self.u32("number of dimensions")?;
        if !(1..=4).contains(&dimensions) {
            return Err(bad(format!(
                "`{name}` has {dimensions} dimensions, 1 to 4 are possible"
            )));
        }
        let mut shape = Vec::new();
        let mut elements = 1u64;
        for _ in 0..dimensions {
            let size = self.u64("dimension")?;
            elements = elements
                .checked_mul(size)
                .ok_or_else(|| bad(format!("the sizes of `{name}` overflow 64 bits")))?;
            let size = usize::try_from(size)
                .map_err(|_| bad(format!("`{name}` has a dimension of {size}")))?;
            shape.push(size);
        }
        let kind = BlockType::from_id(self.u32("tensor type")?, &name)?;
        let offset = self.u64("tensor offset")?;
        let size = shape
            .first()
            .and_then(|cols| kind.size(elements, *cols as u64))
            .ok_or_else(|| {
                bad(format!(
                    "`{name}`: rows of {:?} are no whole number of {kind:?} blocks",
                    shape.first()
                ))
            })?;
        shape.reverse();
        Ok(Entry {
            name,
            shape,
            kind,
            size,
            offset,
        })
    }
}
