//! The prompt that two answers share when a file gives whole texts or whole conversations.

use crate::text::Message;

/// How many leading turns both conversations share. At least one turn is left on each side, so that there is an answer.
pub(super) fn shared_turns(chosen: &[Message], rejected: &[Message]) -> usize {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    chosen
        .iter()
        .zip(rejected)
        .take(most)
        .take_while(|(a, b)| a == b)
        .count()
}

/// Bytes of the prompt that two texts share: their longest common prefix, cut back to a word border, so that neither
/// answer begins inside a word and neither is blank.
///
/// Words are what stands between white space. One plain space at the border goes to the answers, as TRL's
/// `extract_prompt` does, because byte-pair tokens carry their space in front. A script without spaces shares nothing
/// inside a line.
pub(super) fn shared_text(chosen: &str, rejected: &str) -> usize {
    let common: usize = chosen
        .chars()
        .zip(rejected.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum();
    let rest = |cut: usize| {
        (
            chosen.get(cut..).unwrap_or(""),
            rejected.get(cut..).unwrap_or(""),
        )
    };
    let blank = |cut: usize| {
        let (a, b) = rest(cut);
        a.trim().is_empty() || b.trim().is_empty()
    };
    let (a, b) = rest(common);
    if a.starts_with(char::is_whitespace) && b.starts_with(char::is_whitespace) && !blank(common) {
        return common;
    }
    let head = chosen.get(..common).unwrap_or("");
    let mut end = head.len();
    loop {
        // To just after the last white space before `end`.
        let word = head.get(..end).unwrap_or("");
        let Some((at, space)) = word.char_indices().rev().find(|(_, c)| c.is_whitespace()) else {
            return 0;
        };
        let cut = if space == ' ' {
            at
        } else {
            at + space.len_utf8()
        };
        if !blank(cut) {
            return cut;
        }
        end = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chosen: &str, rejected: &str) -> (String, String, String) {
        let at = shared_text(chosen, rejected);
        (
            chosen[..at].into(),
            chosen[at..].into(),
            rejected[at..].into(),
        )
    }

    fn as_strs(parts: &(String, String, String)) -> (&str, &str, &str) {
        (&parts.0, &parts.1, &parts.2)
    }

    #[test]
    fn a_shared_beginning_is_cut_back_to_a_word_border() {
        let parts = cut(
            "Human: Hi\n\nAssistant: Yes, sure",
            "Human: Hi\n\nAssistant: Yesterday",
        );
        assert_eq!(
            as_strs(&parts),
            ("Human: Hi\n\nAssistant:", " Yes, sure", " Yesterday")
        );
        let parts = cut("Ask:\nGood", "Ask:\nBad");
        assert_eq!(as_strs(&parts), ("Ask:\n", "Good", "Bad"));
    }

    #[test]
    fn no_answer_is_left_blank() {
        let parts = cut("a b c", "a b c d");
        assert_eq!(as_strs(&parts), ("a b", " c", " c d"));
        let parts = cut("a b\n", "a b\nd");
        assert_eq!(as_strs(&parts), ("a", " b\n", " b\nd"));
        let parts = cut("same", "same");
        assert_eq!(as_strs(&parts), ("", "same", "same"));
        assert_eq!(shared_text("", "x"), 0);
    }

    #[test]
    fn texts_that_differ_in_their_white_space_share_the_word_before() {
        let parts = cut("Q: one two", "Q: one\ttwo");
        assert_eq!(as_strs(&parts), ("Q: one", " two", "\ttwo"));
    }

    #[test]
    fn letters_of_several_bytes_are_never_split() {
        let parts = cut("Größe: 日本", "Größe: 日没");
        assert_eq!(as_strs(&parts), ("Größe:", " 日本", " 日没"));
    }
}
