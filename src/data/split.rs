//! Identity of rows: their ids, their side of a split, the fingerprint of a file. All by SHA-256, so that the same
//! content lands in the same place on every machine and in every order.

use super::{Answer, Content, Rows};
use sha2::{Digest as _, Sha256};

/// A hash of content.
pub(super) type Key = [u8; 32];

/// Splits rows into (training, held out), by the hash of each row's prompt and answers with `salt`.
///
/// About the fraction `held_out` (clamped to 0..=1) is held out; a row's side depends on nothing but its own content and
/// the salt. Rows with the same prompt and answers, also with the answers swapped, land on the same side. Two rows that
/// share only their prompt may part; [`check`](super::check) counts those.
pub fn split_by_hash(rows: Rows, held_out: f64, salt: &str) -> (Rows, Rows) {
    let held = |key: &Key| {
        let mut hash = Sha256::new();
        put(&mut hash, salt.as_bytes());
        hash.update(key);
        let bytes: Key = hash.finalize().into();
        // 53 bits: exactly what an f64 in 0..1 can hold.
        let bits = bytes
            .iter()
            .take(8)
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte))
            >> 11;
        let share = bits as f64 / (1_u64 << 53) as f64;
        share < held_out.clamp(0.0, 1.0)
    };
    match rows {
        Rows::Preferences(rows) => {
            let (held, kept) = rows.into_iter().partition(|row| {
                held(&pair_key(
                    &row.prompt,
                    &row.chosen.content,
                    &row.rejected.content,
                ))
            });
            (Rows::Preferences(kept), Rows::Preferences(held))
        }
        Rows::Demonstrations(rows) => {
            let (held, kept) = rows
                .into_iter()
                .partition(|row| held(&row_key(&row.prompt, &[&row.answer.content])));
            (Rows::Demonstrations(kept), Rows::Demonstrations(held))
        }
        Rows::Unpaired(rows) => {
            let (held, kept) = rows
                .into_iter()
                .partition(|row| held(&row_key(&row.prompt, &[&row.answer.content])));
            (Rows::Unpaired(kept), Rows::Unpaired(held))
        }
    }
}

/// SHA-256 (hexadecimal) over everything in the rows that training can see, in order: prompts, answers, spans, known
/// rewards, margins, strengths, labels. Ids and line numbers are left out.
pub fn fingerprint(rows: &Rows) -> String {
    let mut hash = Sha256::new();
    match rows {
        Rows::Preferences(rows) => {
            put(&mut hash, b"preferences");
            for row in rows {
                put_content(&mut hash, &row.prompt);
                put_answer(&mut hash, &row.chosen);
                put_answer(&mut hash, &row.rejected);
                put_floats(&mut hash, row.margin.as_ref().map(std::slice::from_ref));
                // Rows without one keep the fingerprint that they had before there were strengths.
                if let Some(strength) = &row.strength {
                    put(&mut hash, b"strength");
                    put_floats(&mut hash, Some(std::slice::from_ref(strength)));
                }
                if let Some(preference) = &row.preference {
                    put(&mut hash, b"preference");
                    put_floats(&mut hash, Some(std::slice::from_ref(preference)));
                }
            }
        }
        Rows::Demonstrations(rows) => {
            put(&mut hash, b"demonstrations");
            for row in rows {
                put_content(&mut hash, &row.prompt);
                put_answer(&mut hash, &row.answer);
            }
        }
        Rows::Unpaired(rows) => {
            put(&mut hash, b"unpaired");
            for row in rows {
                put_content(&mut hash, &row.prompt);
                put_answer(&mut hash, &row.answer);
                hash.update([u8::from(row.label)]);
            }
        }
    }
    hex(&hash.finalize())
}

/// The id of a row that brings none: 16 hexadecimal digits of its content's hash.
pub(super) fn row_id(prompt: &Content, answers: &[&Content]) -> String {
    row_key(prompt, answers)
        .get(..8)
        .map(hex)
        .unwrap_or_default()
}

/// Hash of one text or conversation.
pub(super) fn content_key(content: &Content) -> Key {
    row_key(content, &[])
}

/// Hash of a prompt with its answers in order.
pub(super) fn row_key(prompt: &Content, answers: &[&Content]) -> Key {
    let mut hash = Sha256::new();
    put_content(&mut hash, prompt);
    for answer in answers {
        put_content(&mut hash, answer);
    }
    hash.finalize().into()
}

/// Hash of a pair whichever answer was preferred.
pub(super) fn pair_key(prompt: &Content, a: &Content, b: &Content) -> Key {
    let mut answers = [content_key(a), content_key(b)];
    answers.sort_unstable();
    let mut hash = Sha256::new();
    put_content(&mut hash, prompt);
    answers.iter().for_each(|answer| hash.update(answer));
    hash.finalize().into()
}

// Lengths go before their bytes, so that no two different rows give the same stream.
fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn put_content(hash: &mut Sha256, content: &Content) {
    match content {
        Content::Text(text) => {
            hash.update([0]);
            put(hash, text.as_bytes());
        }
        Content::Messages(turns) => {
            hash.update([1]);
            hash.update((turns.len() as u64).to_le_bytes());
            for turn in turns {
                put(hash, turn.role.as_bytes());
                put(hash, turn.content.as_bytes());
            }
        }
    }
}

fn put_answer(hash: &mut Sha256, answer: &Answer) {
    put_content(hash, &answer.content);
    match &answer.spans {
        None => hash.update([0]),
        Some(spans) => {
            hash.update([1]);
            hash.update((spans.len() as u64).to_le_bytes());
            for span in spans {
                hash.update((span.start as u64).to_le_bytes());
                hash.update((span.end as u64).to_le_bytes());
            }
        }
    }
    put_floats(hash, answer.true_rewards.as_deref());
    put_floats(hash, answer.true_reward_std.as_deref());
}

fn put_floats(hash: &mut Sha256, values: Option<&[f32]>) {
    match values {
        None => hash.update([0]),
        Some(values) => {
            hash.update([1]);
            hash.update((values.len() as u64).to_le_bytes());
            values
                .iter()
                .for_each(|value| hash.update(value.to_bits().to_le_bytes()));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::read_jsonl;
    use super::*;

    fn rows(count: usize) -> Rows {
        let lines: String = (0..count)
            .map(|i| format!("{{\"prompt\":\"p\",\"chosen\":\"c{i}\",\"rejected\":\"r{i}\"}}\n"))
            .collect();
        read_jsonl(lines.as_bytes(), "x").unwrap()
    }

    fn chosen(rows: &Rows) -> Vec<String> {
        match rows {
            Rows::Preferences(rows) => rows
                .iter()
                .map(|row| row.chosen.content.answer_text().to_owned())
                .collect(),
            _ => vec![],
        }
    }

    #[test]
    fn a_split_has_about_the_asked_size_and_loses_nothing() {
        let (train, held) = split_by_hash(rows(4000), 0.1, "salt");
        assert_eq!(train.len() + held.len(), 4000);
        // Four standard deviations of a binomial: 4 * sqrt(4000 * 0.1 * 0.9) = 76.
        assert!((324..=476).contains(&held.len()), "{}", held.len());
        assert_eq!(split_by_hash(rows(50), 0.0, "").1.len(), 0);
        assert_eq!(split_by_hash(rows(50), 1.0, "").0.len(), 0);
        assert_eq!(split_by_hash(rows(50), f64::NAN, "").1.len(), 0);
    }

    #[test]
    fn the_side_depends_on_content_and_salt_alone() {
        let (_, few) = split_by_hash(rows(100), 0.3, "a");
        let (_, many) = split_by_hash(rows(200), 0.3, "a");
        assert_eq!(chosen(&few)[..], chosen(&many)[..few.len()]);
        let (_, other) = split_by_hash(rows(100), 0.3, "b");
        assert_ne!(few, other);
    }

    #[test]
    fn duplicates_and_swapped_pairs_land_on_the_same_side() {
        let lines: String = (0..64)
            .map(|i| {
                format!(
                    "{{\"id\":\"{i}\",\"prompt\":\"p\",\"chosen\":\"c{i}\",\"rejected\":\"r{i}\"}}\n\
                     {{\"id\":\"again\",\"prompt\":\"p\",\"chosen\":\"c{i}\",\"rejected\":\"r{i}\",\"margin\":2}}\n\
                     {{\"prompt\":\"p\",\"chosen\":\"r{i}\",\"rejected\":\"c{i}\"}}\n"
                )
            })
            .collect();
        let (train, held) = split_by_hash(read_jsonl(lines.as_bytes(), "x").unwrap(), 0.5, "s");
        assert_eq!((train.len() % 3, held.len() % 3), (0, 0));
        assert!(!train.is_empty() && !held.is_empty());
    }

    #[test]
    fn the_fingerprint_sees_every_truth_and_the_order_but_not_ids() {
        let read = |line: &str| fingerprint(&read_jsonl(line.as_bytes(), "x").unwrap());
        let base = r#"{"id":"1","prompt":"p","chosen":"ab","rejected":"c"}"#;
        let mut seen = vec![read(base)];
        assert_eq!(seen[0], read(&base.replace(r#""1""#, r#""2""#)));
        assert_eq!(seen[0].len(), 64);
        for other in [
            r#"{"prompt":"pa","chosen":"b","rejected":"c"}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","margin":0}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","preference":0.5}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","label":0}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","chosen_spans":[]}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","chosen_spans":[[0,1]]}"#,
            r#"{"prompt":"p","chosen":"ab","rejected":"c","rejected_rewards":[1]}"#,
            r#"{"prompt":"p","completion":"ab"}"#,
            r#"{"prompt":"p","completion":"ab","label":true}"#,
            r#"{"prompt":"p","completion":"ab","label":false}"#,
            "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"c\"}\n{\"prompt\":\"p\",\"chosen\":\"b\",\"rejected\":\"c\"}",
            "{\"prompt\":\"p\",\"chosen\":\"b\",\"rejected\":\"c\"}\n{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"c\"}",
        ] {
            seen.push(read(other));
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
