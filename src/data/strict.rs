//! JSON in which no object has a key twice. The format leaves open which of the two counts, and readers differ: one would
//! train on what a person does not see.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Why a text is no such JSON.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StrictError {
    /// The key that stands twice in one object, where that is what is wrong.
    pub duplicate: Option<String>,
    /// The parser's words, with the place.
    pub error: serde_json::Error,
}

/// Reads one JSON value.
///
/// # Errors
/// What is no JSON, and a key that stands twice in one object.
pub fn read_strict(bytes: &[u8]) -> Result<Value, StrictError> {
    let duplicate = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict(&duplicate).deserialize(&mut reader);
    read.and_then(|value| reader.end().map(|()| value))
        .map_err(|error| StrictError {
            duplicate: duplicate.take(),
            error,
        })
}

/// Reads a value; a key that stands twice is left in the cell.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let error = A::Error::custom(format!("the key {key:?} stands twice in one object"));
                self.0.replace(Some(key));
                return Err(error);
            }
            object.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        for text in [
            "null",
            " [1, -2, 1e3, 18446744073709551615, 1.5, true, \"\\u00e9\\n\", null, {}] ",
            "{\"a\":{\"b\":[{\"a\":1},{\"a\":2}]},\"b\":\"\"}",
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            assert_eq!(read_strict(text.as_bytes()).unwrap(), expected);
        }
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{\"a\":1} x", "{\"a\":1e999}", "nope", &deep] {
            let error = read_strict(text.as_bytes()).unwrap_err();
            assert!(error.duplicate.is_none(), "{text}");
            let expected = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(error.to_string(), expected.to_string());
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_named_wherever_it_stands() {
        for (text, key) in [
            ("{\"a\":1,\"b\":2,\"a\":1}", "a"),
            ("[{\"x\":1},{\"y\":{\"z\":0,\"z\":0}}]", "z"),
            ("{\"caf\\u00e9\":1,\"café\":2}", "café"),
        ] {
            let error = read_strict(text.as_bytes()).unwrap_err();
            assert_eq!(error.duplicate.as_deref(), Some(key));
            assert!(error.to_string().contains("stands twice"), "{error}");
        }
    }
}
