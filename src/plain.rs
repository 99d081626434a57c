//! What serde says of a value of the wrong kind, in words for people who do not know Rust; and the names that a misspelt one may
//! have meant.

/// `invalid type: string "x", expected usize` as `a whole number, 0 or more, is needed, and the text "x" stands here`. What
/// is not such a sentence stays as it is.
pub fn plain_words(said: &str) -> String {
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    if let Some(rest) = kinds.iter().find_map(|kind| said.strip_prefix(kind))
        && let Some((found, needed)) = rest.rsplit_once(", expected ")
    {
        return format!(
            "{} is needed, and {} stands here",
            needed_is(needed),
            found_is(found)
        );
    }
    if let Some((variant, expected)) = quoted_after(said, "unknown variant ") {
        return format!("`{variant}` is not known here; use {expected}");
    }
    if let Some((field, expected)) = quoted_after(said, "unknown field ") {
        let known = expected.split('`').skip(1).step_by(2).map(String::from);
        let known: Vec<String> = nearest_first(field, known)
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let known = match known.is_empty() {
            true => expected.into(),
            false => known.join(", "),
        };
        return format!("there is no `{field}` here; there is {known}");
    }
    if let Some(field) = said.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    said.into()
}

/// Names sorted by edit distance to `wanted`.
pub fn nearest_first(wanted: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_by_key(|name| (distance(wanted, name), name.clone()));
    names
}

/// Levenshtein distance, with one row of the table. The wanted name comes from outside: only its start counts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The name between backticks behind `beginning`, and what follows "expected ".
fn quoted_after<'a>(said: &'a str, beginning: &str) -> Option<(&'a str, &'a str)> {
    let (name, expected) = said
        .strip_prefix(beginning)?
        .strip_prefix('`')?
        .split_once("`, ")?;
    Some((name, expected.strip_prefix("expected ").unwrap_or(expected)))
}

fn found_is(found: &str) -> String {
    // A length has no word before it.
    if found.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("one of length {found}");
    }
    let (kind, value) = found.split_once(' ').unwrap_or((found, ""));
    let bare = || value.trim_start_matches("point ").trim_matches('`');
    match kind {
        "string" => format!("the text {value}"),
        "integer" | "floating" => format!("the number {}", bare()),
        "boolean" => bare().into(),
        "sequence" => "a list".into(),
        "map" => "a table of names and values".into(),
        "unit" | "null" | "Option" => "nothing".into(),
        _ => found.into(),
    }
}

fn needed_is(needed: &str) -> String {
    match needed {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more,".into(),
        "isize" | "i64" | "i32" | "i16" | "i8" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "string" => "a text".into(),
        "path string" => "a path, as a text,".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table of names and values".into(),
        other if other.starts_with("struct ") => "a table of names and values".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain_words;

    #[test]
    fn sentences_of_serde_lose_their_rust() {
        for (said, plain) in [
            (
                "invalid type: string \"x, expected y\", expected usize",
                "a whole number, 0 or more, is needed, and the text \"x, expected y\" stands here",
            ),
            (
                "invalid value: integer `-1`, expected u64",
                "a whole number, 0 or more, is needed, and the number -1 stands here",
            ),
            (
                "invalid type: floating point `1.5`, expected a boolean",
                "true or false is needed, and the number 1.5 stands here",
            ),
            (
                "invalid type: boolean `true`, expected struct TrainConfig",
                "a table of names and values is needed, and true stands here",
            ),
            (
                "invalid type: map, expected a sequence",
                "a list is needed, and a table of names and values stands here",
            ),
            (
                "invalid length 3, expected a tuple of size 2",
                "a tuple of size 2 is needed, and one of length 3 stands here",
            ),
            (
                "unknown variant `lor`, expected one of `full`, `lora`",
                "`lor` is not known here; use one of `full`, `lora`",
            ),
            (
                "unknown field `modle`, expected `data` or `model`",
                "there is no `modle` here; there is `model`, `data`",
            ),
            ("missing field `mode`", "`mode` is missing"),
            ("anything else", "anything else"),
        ] {
            assert_eq!(plain_words(said), plain);
        }
    }
}
