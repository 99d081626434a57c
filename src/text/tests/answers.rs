//! Which tokens of a row are the answer's.

use super::*;
use crate::data::Content;
use crate::text::{EncodeOptions, EncodedAnswer, TextError, Truncation, encode_answer};

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const OPTIONS: EncodeOptions = EncodeOptions {
    max_length: 1000,
    truncation: Truncation::Error,
    append_eos: true,
};

fn text(text: &str) -> Content {
    Content::Text(text.into())
}

fn turns(turns: &[(&str, &str)]) -> Content {
    Content::Messages(
        turns
            .iter()
            .map(|(role, content)| message(role, content))
            .collect(),
    )
}

fn chatml(template: &str) -> TextTokenizer {
    byte_tokenizer(&["<|im_end|>", "<|im_start|>"], Some(template))
}

/// What the answer's tokens say, one string per run of them.
fn answers(tok: &TextTokenizer, row: &EncodedAnswer) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    for i in 0..row.ids.len() {
        if row.resp[i] {
            if i == 0 || !row.resp[i - 1] {
                runs.push(Vec::new());
            }
            runs.last_mut().unwrap().push(row.ids[i]);
        }
    }
    runs.iter()
        .map(|ids| tok.decode(ids, false).unwrap())
        .collect()
}

/// The characters that the tokens with offsets cover, in order.
fn displayed(row: &EncodedAnswer) -> String {
    let characters: Vec<char> = row.answer_text.chars().collect();
    let mut last = 0;
    let mut out = String::new();
    for &(start, end) in row.offsets.iter().flatten() {
        assert!(start <= end && end <= characters.len());
        out.extend(&characters[start.max(last)..end.max(last)]);
        last = last.max(end);
    }
    out
}

#[test]
fn strings_are_joined_without_a_token_across_the_border() {
    let Some(tok) = oracle("llama_gqa_tied") else {
        return;
    };
    let row = encode_answer(&tok, &text("Where is my "), &text("ball 🙂"), &OPTIONS).unwrap();
    let prompt = tok.encode("Where is my ", true).unwrap().ids;
    let answer = tok.encode("ball 🙂", false).unwrap();
    assert_eq!(
        row.ids,
        [prompt.clone(), answer.ids.clone(), vec![2]].concat()
    );
    assert_eq!(row.ids[0], 1);
    assert!(
        row.resp
            .iter()
            .enumerate()
            .all(|(i, r)| *r == (i >= prompt.len()))
    );
    let offsets: Vec<_> = row.offsets[prompt.len()..].to_vec();
    assert_eq!(
        offsets[..answer.ids.len()],
        answer.offsets.into_iter().map(Some).collect::<Vec<_>>()
    );
    assert_eq!(offsets.last(), Some(&None));
    assert_eq!(displayed(&row), "ball 🙂");
    assert!(!row.truncated);
    let without = encode_answer(
        &tok,
        &text(""),
        &text("ball"),
        &EncodeOptions {
            append_eos: false,
            ..OPTIONS
        },
    )
    .unwrap();
    assert_eq!(
        without.ids,
        [vec![1], tok.encode("ball", false).unwrap().ids].concat()
    );
}

#[test]
fn an_answer_in_a_chat_ends_with_its_end_of_turn_token() {
    let Some(tok) = oracle("qwen2") else { return };
    let row = encode_answer(
        &tok,
        &turns(&[("user", "Where is my ball?")]),
        &turns(&[("assistant", "It is in the river. 🙂\n")]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(answers(&tok, &row), ["It is in the river. 🙂\n<|im_end|>"]);
    assert_eq!(displayed(&row), "It is in the river. 🙂\n");
    // The whole conversation is tokenized as the template wrote it, the line break behind the turn included.
    assert_eq!(
        tok.decode(&row.ids, false).unwrap(),
        "<|im_start|>user\nWhere is my ball?<|im_end|>\n<|im_start|>assistant\nIt is in the river. 🙂\n<|im_end|>\n"
    );
    let strings = encode_answer(
        &tok,
        &text("Where is my ball?"),
        &turns(&[("assistant", "It is in the river. 🙂\n")]),
        &OPTIONS,
    );
    assert_eq!(strings.unwrap(), row);
    let strings = encode_answer(
        &tok,
        &turns(&[("user", "Where is my ball?")]),
        &text("It is in the river. 🙂\n"),
        &OPTIONS,
    );
    assert_eq!(strings.unwrap(), row);
}

#[test]
fn every_assistant_turn_of_the_answer_counts_and_those_of_the_prompt_do_not() {
    let tok = chatml(CHATML);
    let conversation = [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d e"),
    ];
    let all = encode_answer(&tok, &text(""), &turns(&conversation), &OPTIONS).unwrap();
    assert_eq!(answers(&tok, &all), ["b<|im_end|>", "d e<|im_end|>"]);
    assert_eq!(
        (all.answer_text.as_str(), displayed(&all).as_str()),
        ("d e", "d e")
    );
    let last = encode_answer(
        &tok,
        &turns(&conversation[..3]),
        &turns(&conversation[3..]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(last.ids, all.ids);
    assert_eq!(answers(&tok, &last), ["d e<|im_end|>"]);
}

#[test]
fn contents_that_look_like_the_template_do_not_confuse_the_borders() {
    let tok = chatml(CHATML);
    for content in [
        "assistant",
        "a",
        "<|im_end|>",
        "assistant\nuser\n",
        "\u{e0f1}",
        "\0",
        "n",
        "{{ x }}",
    ] {
        let row = encode_answer(
            &tok,
            &turns(&[("user", content)]),
            &turns(&[
                ("assistant", content),
                ("user", content),
                ("assistant", content),
            ]),
            &OPTIONS,
        )
        .unwrap();
        let expected = format!("{content}<|im_end|>");
        assert_eq!(
            answers(&tok, &row),
            [expected.clone(), expected],
            "{content:?}"
        );
        assert_eq!(displayed(&row), content);
    }
}

#[test]
fn a_template_without_control_tokens_or_header_gives_whole_turns() {
    let plain = "{% for m in messages %}{{ m.role|upper ~ ': ' ~ m.content|trim ~ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";
    let tok = byte_tokenizer(&["</s>"], Some(plain));
    let row = encode_answer(
        &tok,
        &turns(&[("user", "hi")]),
        &turns(&[
            ("assistant", " yes\n"),
            ("user", "u"),
            ("assistant", "  no "),
        ]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(answers(&tok, &row), [" yes\n", " no\n"]);
    // The trimmed content keeps its place in the text that is displayed.
    assert_eq!(row.answer_text, "  no ");
    let offsets: Vec<_> = row.offsets.iter().flatten().copied().collect();
    assert_eq!(offsets, [(2, 3), (3, 4)]);

    let llama2 = "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}";
    let tok = byte_tokenizer(&["</s>"], Some(llama2));
    let row = encode_answer(
        &tok,
        &turns(&[("user", "hi")]),
        &turns(&[("assistant", "yes"), ("user", "u"), ("assistant", "no")]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(answers(&tok, &row), ["yes </s>", "no </s>"]);
}

/// Qwen3 drops what a turn thought once a later question follows.
const FORGETS: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn a_template_that_rewrites_earlier_turns_is_followed() {
    let tok = chatml(FORGETS);
    let rows = turns(&[
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]);
    let row = encode_answer(&tok, &text(""), &rows, &OPTIONS).unwrap();
    assert_eq!(
        answers(&tok, &row),
        ["b<|im_end|>", "<think>\n\n</think>\n\nd<|im_end|>"]
    );
    assert_eq!(displayed(&row), "d");
    // Without an end-of-turn token the turn ends where the template stops, not with the next header's token.
    let tok = chatml(&FORGETS.replace("<|im_end|>", ""));
    let row = encode_answer(&tok, &text(""), &rows, &OPTIONS).unwrap();
    assert_eq!(answers(&tok, &row), ["b\n", "<think>\n\n</think>\n\nd\n"]);
}

#[test]
fn a_template_that_hides_the_borders_is_an_error() {
    let hides = "{{ messages|length }}{% for m in messages %}{{ m.content|reverse }}{% endfor %}";
    let error = encode_answer(
        &chatml(hides),
        &turns(&[("user", "ab")]),
        &turns(&[("assistant", "cd"), ("user", "e")]),
        &OPTIONS,
    )
    .unwrap_err();
    assert_eq!(error, TextError::TemplateUnstable { turn: 2 });
}

#[test]
fn content_that_the_template_changes_is_displayed_as_it_was_written() {
    let shouts = CHATML.replace("message['content']", "message['content']|upper");
    let tok = chatml(&shouts);
    let row = encode_answer(
        &tok,
        &turns(&[("user", "a")]),
        &turns(&[("assistant", "bc")]),
        &OPTIONS,
    )
    .unwrap();
    assert_eq!(answers(&tok, &row), ["BC<|im_end|>"]);
    assert_eq!(row.answer_text, "BC");
    assert_eq!(displayed(&row), "BC");
}

#[test]
fn a_row_that_is_too_long_is_cut_as_asked() {
    let tok = byte_tokenizer(&["</s>"], None);
    let row = |max_length, truncation| {
        encode_answer(
            &tok,
            &text("abcd"),
            &text("123"),
            &EncodeOptions {
                max_length,
                truncation,
                append_eos: true,
            },
        )
    };
    let kept = |max_length, truncation| {
        let row: EncodedAnswer = row(max_length, truncation).unwrap();
        assert_eq!(row.truncated, max_length < 8);
        assert_eq!(row.answer_text, "123");
        (
            tok.decode(&row.ids, false).unwrap(),
            answers(&tok, &row).concat(),
        )
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(kept(8, Truncation::Error), pair("abcd123</s>", "123</s>"));
    assert_eq!(kept(6, Truncation::KeepEnd), pair("cd123</s>", "123</s>"));
    assert_eq!(kept(3, Truncation::KeepEnd), pair("123", "123"));
    assert_eq!(kept(6, Truncation::KeepStart), pair("abcd12", "12"));
    assert_eq!(
        row(7, Truncation::Error),
        Err(TextError::TooLong {
            length: 8,
            max_length: 7
        })
    );
    assert_eq!(
        row(4, Truncation::KeepStart),
        Err(TextError::NoAnswerLeft {
            length: 8,
            max_length: 4
        })
    );
    assert_eq!(
        row(1, Truncation::KeepEnd),
        Err(TextError::NoAnswerLeft {
            length: 8,
            max_length: 1
        })
    );
    assert_eq!(
        row(0, Truncation::KeepEnd),
        Err(TextError::NoAnswerLeft {
            length: 8,
            max_length: 0
        })
    );
}

#[test]
fn cutting_from_the_left_keeps_the_first_token_of_the_text_and_the_last_turn() {
    let Some(llama) = oracle("llama_gqa_tied") else {
        return;
    };
    let options = EncodeOptions {
        max_length: 6,
        truncation: Truncation::KeepEnd,
        append_eos: true,
    };
    let row = encode_answer(&llama, &text("Where is my ball?"), &text("It"), &options).unwrap();
    assert_eq!((row.ids.len(), row.ids[0], row.ids[5]), (6, 1, 2));

    let tok = chatml(CHATML);
    let conversation = turns(&[
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d e"),
    ]);
    let row = encode_answer(
        &tok,
        &text(""),
        &conversation,
        &EncodeOptions {
            max_length: 8,
            ..options
        },
    )
    .unwrap();
    assert_eq!(tok.decode(&row.ids, false).unwrap(), "ant\nd e<|im_end|>");
    assert_eq!(answers(&tok, &row), ["d e<|im_end|>"]);
}

#[test]
fn rows_without_an_answer_are_errors_that_say_so() {
    let tok = chatml(CHATML);
    let error = |prompt: Content, answer: Content| {
        encode_answer(&tok, &prompt, &answer, &OPTIONS).unwrap_err()
    };
    assert_eq!(error(text("a"), text("")), TextError::EmptyAnswer);
    assert_eq!(
        error(turns(&[("user", "a")]), text("")),
        TextError::EmptyAnswer
    );
    assert_eq!(
        error(turns(&[("user", "a")]), turns(&[("assistant", " ")])),
        TextError::EmptyAnswer
    );
    assert_eq!(
        error(turns(&[]), turns(&[("user", "a")])),
        TextError::NoAssistantTurn { messages: 1 }
    );
    let bare = byte_tokenizer(&[], None);
    let no_template =
        encode_answer(&bare, &text(""), &turns(&[("assistant", "a")]), &OPTIONS).unwrap_err();
    assert_eq!(no_template, TextError::NoChatTemplate);
    assert!(
        no_template
            .to_string()
            .contains("give prompt and answer as strings")
    );
    // One token alone is no step: nothing comes before it.
    assert!(matches!(
        encode_answer(&bare, &text(""), &text("a"), &OPTIONS),
        Err(TextError::NoAnswerLeft { length: 1, .. })
    ));
}

#[test]
fn nul_bytes_and_odd_characters_are_answers_like_others() {
    let Some(llama) = oracle("llama_gqa_tied") else {
        return;
    };
    for tok in [llama, byte_tokenizer(&["</s>"], None)] {
        for content in [
            "\0",
            "a\0b",
            "\u{feff}x",
            "\u{202e}abc",
            "e\u{301}\u{327}",
            "👩‍🚀",
            "\u{10ffff}",
            "\r\n",
            " ",
        ] {
            let row = encode_answer(&tok, &text("p\0"), &text(content), &OPTIONS).unwrap();
            assert_eq!(displayed(&row), content);
        }
    }
}
