//! A safetensors header, held against the file before anything is made of it: each finding names its tensor.
//!
//! The format's own reader takes the last of two entries of one name, and says that a header lies without saying where.

use crate::model::ModelError;
use ::safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

const FORMAT: &str = "safetensors";
/// The one entry that is no tensor.
const METADATA: &str = "__metadata__";

#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Checks every entry of a header against a file with `data` bytes behind it.
///
/// # Errors
/// A name that stands twice, and a tensor that lies outside of the file or whose length is not that of its shape.
pub(super) fn check(header: &[u8], data: usize) -> Result<(), ModelError> {
    let mut json = serde_json::Deserializer::from_slice(header);
    let entries = json
        .deserialize_map(Entries)
        .map_err(|error| ModelError::malformed(FORMAT, format!("its header: {error}")))?;
    for (name, entry) in &entries {
        let problem = |what: String| {
            Err(ModelError::malformed(
                FORMAT,
                format!("tensor `{name}` {what}"),
            ))
        };
        let (start, end) = entry.data_offsets;
        if start > end || end > data {
            return problem(format!(
                "lies at {start}..{end}, and the file has {data} bytes of data: it is cut short, or its header lies"
            ));
        }
        let values = (entry.shape.iter()).try_fold(1usize, |all, size| all.checked_mul(*size));
        let bits = values.and_then(|values| values.checked_mul(entry.dtype.bitsize()));
        if bits.map(|bits| bits.div_ceil(8)) != Some(end - start) {
            return problem(format!(
                "has the shape {:?} of {:?} and {} bytes, which do not go together",
                entry.shape,
                entry.dtype,
                end - start
            ));
        }
    }
    Ok(())
}

/// Reads the entries in their order and refuses a name that stands twice.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Entry)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let (mut entries, mut names) = (Vec::new(), HashSet::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!(
                    "tensor `{name}` stands twice, and readers differ in which of the two counts"
                )));
            }
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(header: &str, data: usize) -> String {
        check(header.as_bytes(), data).map_or_else(|error| error.to_string(), |()| "fine".into())
    }

    #[test]
    fn every_lie_names_its_tensor() {
        let entry = |dtype: &str, shape: &str, at: &str| {
            format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{at}}}"#)
        };
        let good = entry("F32", "[2,3]", "[0,24]");
        let header = |name: &str, second: &str| {
            format!(r#"{{"__metadata__":{{"a":"b"}},"first":{good},"{name}":{second}}}"#)
        };
        assert_eq!(
            said(&header("second", &entry("BF16", "[4]", "[24,32]")), 32),
            "fine"
        );
        for (name, second, data, words) in [
            (
                "first",
                entry("F32", "[2,3]", "[0,24]"),
                32,
                ["`first`", "stands twice"],
            ),
            (
                "second",
                entry("F32", "[2]", "[24,32]"),
                31,
                ["`second`", "cut short"],
            ),
            (
                "second",
                entry("F32", "[2]", "[0,1000000000000000]"),
                32,
                ["`second`", "lies at"],
            ),
            (
                "second",
                entry("F32", "[2]", "[32,24]"),
                32,
                ["`second`", "lies at 32..24"],
            ),
            (
                "second",
                entry("F32", "[3]", "[24,32]"),
                32,
                ["`second`", "do not go together"],
            ),
            (
                "second",
                entry("F32", "[4294967296,4294967296,4294967296]", "[24,32]"),
                32,
                ["`second`", "do not go together"],
            ),
        ] {
            let said = said(&header(name, &second), data);
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
        // What is no object of tensors at all.
        for header in [
            "[]",
            "{",
            r#"{"a":1}"#,
            r#"{"a":{"dtype":"F33","shape":[],"data_offsets":[0,0]}}"#,
        ] {
            assert!(said(header, 0).contains("header"), "{header}");
        }
    }
}
