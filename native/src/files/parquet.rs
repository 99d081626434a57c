//! Rows of a Parquet file as JSON values, by the row interface of the `parquet` crate (no Arrow needed). Lists and
//! groups nest freely, so a column of messages reads as it does in JSON.

use anyhow::{Context as _, Result, anyhow, ensure};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// Reads every row as an object.
///
/// # Errors
/// A damaged file, a compression that is not built in, or a table beyond [`super::MAX_BYTES`].
pub(super) fn read_values(file: File) -> Result<Vec<Value>> {
    // The crate trusts some counts of the file; a lying file may make it panic, and that must end as an error here.
    caught(|| read(file)).unwrap_or_else(|_| Err(anyhow!("the Parquet file is damaged")))
}

thread_local! {
    /// Whether a panic of this thread is caught and told in other words.
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, and hands back a panic in it without printing it. What prints panics belongs to the whole process: it is
/// replaced once, by one that looks whose panic it is, so that those of other threads are printed as ever.
fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    static REPLACED: Once = Once::new();
    REPLACED.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                print(info);
            }
        }));
    });
    SILENT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    SILENT.set(false);
    result
}

fn read(file: File) -> Result<Vec<Value>> {
    let reader =
        SerializedFileReader::new(file).context("not a whole Parquet file; get the file again")?;
    let size: i64 = reader
        .metadata()
        .row_groups()
        .iter()
        .fold(0, |all, group| all.saturating_add(group.total_byte_size()));
    let limit = super::MAX_BYTES;
    ensure!(
        u64::try_from(size).is_ok_and(|size| size <= limit),
        "the table says it holds {size} bytes, the most that is read at once is {limit}; split the file into smaller ones"
    );
    let rows = reader
        .get_row_iter(None)
        .context("the Parquet schema cannot be read")?;
    rows.enumerate()
        .map(|(index, row)| {
            let row = row.with_context(|| format!("row {} is damaged, or in a compression that is not built in (snappy, gzip and zstd are)", index + 1))?;
            object(&row).with_context(|| format!("row {}", index + 1))
        })
        .collect()
}

fn object(row: &Row) -> Result<Value> {
    let mut object = Map::new();
    for (name, field) in row.get_column_iter() {
        let value = value(field).with_context(|| format!("column `{name}`"))?;
        object.insert(name.clone(), value);
    }
    Ok(Value::Object(object))
}

fn value(field: &Field) -> Result<Value> {
    let float = |value: f64| {
        // JSON has no NaN; it stands for "no value" in tables.
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    };
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => float(f64::from(*value)),
        Field::Float(value) => float(f64::from(*value)),
        Field::Double(value) => float(*value),
        Field::Str(text) => Value::String(text.clone()),
        // Older writers do not mark text as text. Other bytes (pictures, say) count as absent: should such a column be
        // asked for, the row's error names it.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Null,
        },
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().map(value).collect::<Result<_>>()?)
        }
        Field::MapInternal(map) => {
            let mut object = Map::new();
            for (key, entry) in map.entries() {
                let key = match value(key)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                object.insert(key, value(entry)?);
            }
            Value::Object(object)
        }
        // Dates and decimals are in no column that is read; their text form does no harm.
        other => Value::String(other.to_string()),
    })
}
