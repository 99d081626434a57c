//! What holds for every text.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

static TOKENIZERS: LazyLock<Vec<(&str, TextTokenizer)>> = LazyLock::new(|| {
    let names = [
        "gpt2",
        "llama_gqa_tied",
        "llama_gqa_untied",
        "qwen2",
        "qwen3",
    ];
    let mut all: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((name, oracle(name)?)))
        .collect();
    all.push(("bytes", byte_tokenizer(&["</s>"], None)));
    all
});

proptest! {
    #[test]
    fn offsets_are_sound_and_texts_come_back(text in "(?s)(.{0,12}|[ a-z0-9']{0,12}|[\0\u{301}\u{327}e🙂👩‍🚀\u{200d}東한각ſ\u{1100}\u{1161}]{0,8}){0,4}") {
        for (name, tok) in TOKENIZERS.iter() {
            for specials in [false, true] {
                let encoding = tok.encode(&text, specials).unwrap();
                assert_sound(&text, &encoding);
                let back = tok.decode(&encoding.ids, true).unwrap();
                // Qwen normalises, and only a text that is already normal comes back as it was.
                let stable = !name.starts_with("qwen") || text.is_ascii();
                let literal = text.contains('<') || text.contains('\u{2581}');
                if stable && !literal {
                    prop_assert_eq!(&back, &text, "{}", name);
                }
            }
        }
    }
}

#[test]
fn long_runs_of_one_character_are_no_problem() {
    for (_, tok) in TOKENIZERS.iter() {
        for c in [" ", "a", "\n", "🙂"] {
            let text = c.repeat(20_000);
            let encoding = tok.encode(&text, false).unwrap();
            assert_sound(&text, &encoding);
            assert_eq!(tok.decode(&encoding.ids, false).unwrap(), text);
        }
    }
}
