//! What a comparison says in numbers of truths and of seconds.

/// `, passed 1 of 2 truths, 1 undecided`.
pub(super) fn truths_in_words(says: &[Option<bool>]) -> String {
    let count = |wanted| says.iter().filter(|said| **said == wanted).count();
    let (passed, undecided) = (count(Some(true)), count(None));
    let decided = says.len() - undecided;
    let mut words = String::new();
    if decided > 0 {
        words.push_str(&format!(", passed {passed} of {decided} truths"));
    }
    if undecided > 0 {
        let noun = match decided {
            0 => " truths",
            _ => "",
        };
        words.push_str(&format!(", {undecided}{noun} undecided"));
    }
    words
}

/// Seconds in words.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_truths_are_neither_passed_nor_failed() {
        for (says, words) in [
            (&[][..], ""),
            (&[Some(true), Some(false)][..], ", passed 1 of 2 truths"),
            (
                &[Some(true), None][..],
                ", passed 1 of 1 truths, 1 undecided",
            ),
            (&[None, None][..], ", 2 truths undecided"),
        ] {
            assert_eq!(truths_in_words(says), words);
        }
    }

    #[test]
    fn durations_are_in_words() {
        for (seconds, words) in [
            (12.4, "12 s"),
            (75.0, "1 min 15 s"),
            (7_260.0, "2 h 01 min"),
            (-1.0, "0 s"),
        ] {
            assert_eq!(duration(seconds), words);
        }
    }
}
