//! Readers of values that not every number or text can be.

/// Reads a SHA-256, in lower case.
pub fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("a SHA-256 has 64 hexadecimal digits".into()),
    }
}

/// Reads a number of tokens.
pub fn tokens_per_answer(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens) if (1..=1000).contains(&tokens) => Ok(tokens),
        _ => Err("use 1 to 1000 tokens".into()),
    }
}

/// Reads a number of rows.
pub fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rows) if (1..=4096).contains(&rows) => Ok(rows),
        _ => Err("use 1 to 4096 rows".into()),
    }
}

/// Reads a number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 to 1 is needed".into()),
    }
}

/// Reads a number of rows to use at most.
pub fn most_rows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("0 rows leave nothing to do; ask for at least 1".into()),
        Ok(rows) => Ok(rows),
        Err(error) => Err(format!("{error}; a number of rows is needed")),
    }
}

/// Reads a number of things of which at least one is needed.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("a whole number, 1 or more, is needed".into()),
    }
}
