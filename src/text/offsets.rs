//! From the byte ranges that the tokenizers crate keeps to the characters that each token stands for.

/// Code-point ranges of the tokens, from the byte ranges that the tokenizers crate keeps.
pub(super) fn character_offsets(text: &str, raw: &tokenizers::Encoding) -> Vec<(usize, usize)> {
    // before[b]: characters that start before byte b.
    let mut before = Vec::with_capacity(text.len() + 1);
    let mut count = 0;
    for b in 0..text.len() {
        before.push(count);
        count += usize::from(text.is_char_boundary(b));
    }
    before.push(count);
    let spaces: Vec<bool> = text.chars().map(char::is_whitespace).collect();

    let added = raw.get_special_tokens_mask();
    let mut offsets: Vec<(usize, usize)> = Vec::with_capacity(raw.len());
    let (mut last_start, mut last_end) = (0, 0);
    for (i, (&(start, end), token)) in raw.get_offsets().iter().zip(raw.get_tokens()).enumerate() {
        if added.get(i) == Some(&1) {
            offsets.push((last_end, last_end));
            continue;
        }
        let (start, end) = (start.min(text.len()), end.min(text.len()));
        // A boundary inside a character widens to the whole character.
        let first = before[start] - usize::from(!text.is_char_boundary(start));
        let start = first.max(last_start);
        let mut end = before[end].max(start);
        // A token that is nothing but a space, on a character that is none: the tokenizer put it in front.
        if is_space_marker(token) && spaces.get(start) == Some(&false) {
            end = start;
        }
        fill_gap(&mut offsets, last_end, start, &spaces);
        offsets.push((start, end));
        last_start = start;
        last_end = last_end.max(end);
    }
    fill_gap(&mut offsets, last_end, spaces.len(), &spaces);
    // Trailing EOS stays behind everything that was filled in.
    let end = offsets.iter().map(|o| o.1).max().unwrap_or(0);
    for (offset, _) in offsets
        .iter_mut()
        .zip(added)
        .rev()
        .take_while(|(_, m)| **m == 1)
    {
        if *offset != (0, 0) {
            *offset = (end, end);
        }
    }
    offsets
}

/// Only the space characters of SentencePiece (U+2581), byte-level BPE (U+0120) and plain vocabularies.
fn is_space_marker(token: &str) -> bool {
    !token.is_empty()
        && token
            .chars()
            .all(|c| matches!(c, '\u{2581}' | '\u{120}' | ' '))
}

/// Gives characters `from..to`, which no token claims, to the tokens that end at `from`: normalisation folded them into
/// those tokens' character. Left alone when there is a space in it: then a splitter dropped it on purpose.
fn fill_gap(offsets: &mut [(usize, usize)], from: usize, to: usize, spaces: &[bool]) {
    if to <= from || spaces.get(from..to).is_none_or(|gap| gap.contains(&true)) {
        return;
    }
    let ends_there = offsets.iter_mut().rev().skip_while(|o| o.0 == o.1);
    for offset in ends_there.take_while(|o| o.1 == from && o.0 < o.1) {
        offset.1 = to;
    }
}
