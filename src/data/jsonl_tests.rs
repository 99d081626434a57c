//! Every shape once, every bad input once.

use super::super::{Answer, Content, DemonstrationRow, PreferenceRow, Span, UnpairedRow};
use super::*;
use crate::text::Message;

fn pairs(text: &str) -> Vec<PreferenceRow> {
    match read_jsonl(text.as_bytes(), "x.jsonl").unwrap() {
        Rows::Preferences(rows) => rows,
        rows => panic!("{rows:?}"),
    }
}

fn demos(text: &str) -> Vec<DemonstrationRow> {
    match read_jsonl(text.as_bytes(), "x.jsonl").unwrap() {
        Rows::Demonstrations(rows) => rows,
        rows => panic!("{rows:?}"),
    }
}

fn unpaired(text: &str) -> Vec<UnpairedRow> {
    match read_jsonl(text.as_bytes(), "x.jsonl").unwrap() {
        Rows::Unpaired(rows) => rows,
        rows => panic!("{rows:?}"),
    }
}

fn error(bytes: impl AsRef<[u8]>) -> DataError {
    read_jsonl(bytes.as_ref(), "x.jsonl").unwrap_err()
}

fn text(content: &str) -> Content {
    Content::Text(content.into())
}

fn chat(turns: &[(&str, &str)]) -> Content {
    Content::Messages(
        turns
            .iter()
            .map(|(role, content)| Message {
                role: (*role).into(),
                content: (*content).into(),
            })
            .collect(),
    )
}

fn span(start: usize, end: usize) -> Span {
    Span { start, end }
}

#[test]
fn a_pair_of_strings_is_read_with_its_truths() {
    let rows = pairs(
        "{\"id\":7,\"prompt\":\"p\",\"chosen\":\"größe\",\"rejected\":\"b\",\"margin\":1.5,\"strength\":-0.25,\"chosen_spans\":[[0,5,\"kind\"]],\
         \"rejected_spans\":[],\"chosen_rewards\":[0.5,-1],\"chosen_reward_std\":[0,1],\"extra\":{}}\r\n\r\n",
    );
    assert_eq!(
        rows,
        [PreferenceRow {
            id: "7".into(),
            line: 1,
            prompt: text("p"),
            chosen: Answer {
                content: text("größe"),
                spans: Some(vec![span(0, 5)]),
                true_rewards: Some(vec![0.5, -1.0]),
                true_reward_std: Some(vec![0.0, 1.0]),
            },
            rejected: Answer {
                content: text("b"),
                spans: Some(vec![]),
                true_rewards: None,
                true_reward_std: None
            },
            margin: Some(1.5),
            strength: Some(-0.25),
            preference: None,
        }]
    );
}

#[test]
fn a_row_without_an_id_gets_the_hash_of_its_content() {
    let rows = pairs(
        "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n\n{\"prompt\":\"p\",\"chosen\":\"b\",\"rejected\":\"a\"}",
    );
    assert_eq!(rows[0].id.len(), 16);
    assert_ne!(rows[0].id, rows[1].id);
    assert_eq!(rows[1].line, 3);
}

#[test]
fn a_pair_of_chats_is_read_in_every_form() {
    let user = r#"{"role":"user","content":"u"}"#;
    let says = |what: &str| format!(r#"{{"role":"assistant","content":"{what}"}}"#);
    let (a, b) = (says("a"), says("b"));
    for line in [
        format!(r#"{{"prompt":[{user}],"chosen":[{a}],"rejected":[{b}]}}"#),
        format!(r#"{{"chosen":[{user},{a}],"rejected":[{user},{b}]}}"#),
        format!(r#"{{"prompt":null,"chosen":[{user},{a}],"rejected":[{user},{b}]}}"#),
        format!(r#"{{"prompt":"u","chosen":[{user},{a}],"rejected":[{user},{b}]}}"#),
        format!(r#"{{"prompt":"u","chosen":[{a}],"rejected":[{b}]}}"#),
        format!(r#"{{"prompt":[{user}],"chosen":"a","rejected":"b"}}"#),
        format!(
            r#"{{"prompt":[{{"role":"user","content":[{{"type":"text","text":"u"}}]}}],"chosen":[{a}],"rejected":[{b}]}}"#
        ),
    ] {
        let rows = pairs(&line);
        assert_eq!(rows[0].prompt, chat(&[("user", "u")]), "{line}");
        assert_eq!(
            rows[0].chosen.content,
            chat(&[("assistant", "a")]),
            "{line}"
        );
        assert_eq!(
            rows[0].rejected.content,
            chat(&[("assistant", "b")]),
            "{line}"
        );
    }
}

#[test]
fn the_prompt_that_two_strings_share_is_found_and_spans_move_with_it() {
    let rows = pairs(
        r#"{"chosen":"Q: é? A: yes","rejected":"Q: é? A: no","chosen_spans":[[0,3],[5,8],[9,12]]}"#,
    );
    assert_eq!(rows[0].prompt, text("Q: é? A:"));
    assert_eq!(
        (&rows[0].chosen.content, &rows[0].rejected.content),
        (&text(" yes"), &text(" no"))
    );
    // "Q: é? A:" has 8 code points: the first two spans lie in the prompt.
    assert_eq!(rows[0].chosen.spans, Some(vec![span(1, 4)]));
}

#[test]
fn demonstrations_are_read_in_every_form() {
    let rows = demos(
        r#"{"prompt":"p","completion":"c","spans":[[0,1]],"rewards":[1],"reward_std":[0.5],"label":"human"}"#,
    );
    assert_eq!(
        (&rows[0].prompt, &rows[0].answer.content),
        (&text("p"), &text("c"))
    );
    assert_eq!(rows[0].answer.true_reward_std, Some(vec![0.5]));
    assert_eq!(rows[0].answer.spans, Some(vec![span(0, 1)]));

    let rows = demos(r#"{"text":"a b","bad_spans":[[2,3]]}"#);
    assert_eq!(
        (&rows[0].prompt, &rows[0].answer.spans),
        (&text(""), &Some(vec![span(2, 3)]))
    );

    let rows = demos(
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},{"role":"assistant","content":"a"},
            {"role":"user","content":"v"},{"role":"assistant","content":"b"}]}"#
            .replace('\n', "")
            .as_str(),
    );
    assert_eq!(rows[0].prompt, chat(&[("system", "s"), ("user", "u")]));
    assert_eq!(
        rows[0].answer.content,
        chat(&[("assistant", "a"), ("user", "v"), ("assistant", "b")])
    );
    assert_eq!(rows[0].answer.content.answer_text(), "b");
}

#[test]
fn a_pair_says_itself_which_answer_is_better() {
    let read = |column: &str| {
        pairs(&format!(
            r#"{{"prompt":"p","chosen":"a","rejected":"b"{column}}}"#
        ))[0]
            .preference
    };
    for (column, wanted) in [
        ("", None),
        (r#","preference":0.5"#, Some(0.5)),
        (r#","label":0"#, Some(0.0)),
        (r#","label":true"#, Some(1.0)),
        (r#","preference":0,"label":1"#, Some(0.0)),
        (r#","preference":null,"label":1"#, Some(1.0)),
        // A class, as many files have one.
        (r#","label":"harmless""#, None),
    ] {
        assert_eq!(read(column), wanted, "{column}");
    }
    let judged = |preference| {
        let mut row = pairs(r#"{"prompt":"p","chosen":"a","rejected":"b"}"#).remove(0);
        row.preference = preference;
        row.judged().map(|(better, _)| better.content.clone())
    };
    assert_eq!(judged(None), Some(text("a")));
    assert_eq!(judged(Some(0.0)), Some(text("b")));
    assert_eq!(judged(Some(0.5)), None);
    for column in [
        r#","preference":"yes""#,
        r#","preference":1.5"#,
        r#","label":-1"#,
    ] {
        let line = format!(r#"{{"prompt":"p","chosen":"a","rejected":"b"{column}}}"#);
        let error = error(&line).to_string();
        assert!(error.contains("x.jsonl, line 1"), "{error}");
    }
}

#[test]
fn wrong_steps_become_spans() {
    let rows = demos(r#"{"prompt":"p","completions":["åä","","xyz"],"labels":[true,true,false]}"#);
    assert_eq!(rows[0].answer.content, text("åä\n\nxyz"));
    assert_eq!(rows[0].answer.spans, Some(vec![span(4, 7)]));
    let rows = demos(
        "{\"steps\":[\"a\",\"bc\"],\"mistake_index\":1}\n{\"steps\":[\"a\"],\"mistake_index\":null}",
    );
    assert_eq!(rows[0].answer.spans, Some(vec![span(2, 4)]));
    assert_eq!(rows[1].answer.spans, Some(vec![]));
}

#[test]
fn labelled_answers_keep_their_labels_and_good_ones_alone_are_demonstrations() {
    let text = "{\"prompt\":\"p\",\"completion\":\"good\",\"label\":true}\n{\"prompt\":\"p\",\"completion\":\"bad\",\"label\":false,\"spans\":[[0,3]],\"rewards\":[-1]}";
    let labels = |text: &str| -> Vec<bool> { unpaired(text).iter().map(|r| r.label).collect() };
    assert_eq!(labels(text), [true, false]);
    let rows = unpaired(text);
    assert_eq!(rows[1].answer.spans, Some(vec![span(0, 3)]));
    assert_eq!(rows[1].answer.true_rewards, Some(vec![-1.0]));
    let (_, errors) = read_jsonl_report(text.as_bytes(), "x.jsonl");
    assert_eq!(errors, []);
    let good = read_jsonl(text.as_bytes(), "x").unwrap().chosen_answers();
    let Rows::Demonstrations(good) = good else {
        panic!("{good:?}")
    };
    assert_eq!(good.len(), 1);
    assert_eq!(good[0].answer.content, self::text("good"));
    // Labels as numbers, as some tables hold them.
    let numbers = text.replace("true", "1").replace("false", "0");
    assert_eq!(labels(&numbers), [true, false]);
    // A file of one kind of answer is fine here; who learns from two sets will miss the other.
    assert_eq!(
        labels("{\"prompt\":\"p\",\"completion\":\"c\",\"label\":false}"),
        [false]
    );
    // A row that lost its label is of another shape, and told with its line.
    let lost = format!(
        "{text}\n{}",
        r#"{"prompt":"p","completion":"c","label":null}"#
    );
    let lost = error(&lost);
    assert_eq!(lost.place, Place::Line(3));
    assert!(lost.to_string().contains("label (true or false"), "{lost}");
}

#[test]
fn chats_of_demonstrations_are_read_in_every_form() {
    let (user, says) = (
        r#"{"role":"user","content":"u"}"#,
        r#"{"role":"assistant","content":"a"}"#,
    );
    for line in [
        format!(r#"{{"prompt":[{user}],"completion":[{says}]}}"#),
        format!(r#"{{"prompt":[{user}],"completion":"a"}}"#),
        format!(r#"{{"prompt":"u","completion":[{says}]}}"#),
        format!(r#"{{"messages":[{user},{says}]}}"#),
        format!(r#"{{"prompt":[{user}],"completions":["a"],"labels":[1]}}"#),
    ] {
        let rows = demos(&line);
        assert_eq!(rows[0].prompt, chat(&[("user", "u")]), "{line}");
        assert_eq!(
            rows[0].answer.content,
            chat(&[("assistant", "a")]),
            "{line}"
        );
    }
}

#[test]
fn marks_and_nul_characters_are_text_as_usual() {
    let rows = read_jsonl(
        b"\xEF\xBB\xBF{\"text\":\"a\\u0000b\"}\r\n\xEF\xBB\xBF{\"text\":\"\\ud83d\\ude00\"}",
        "x",
    )
    .unwrap();
    let Rows::Demonstrations(rows) = rows else {
        panic!()
    };
    assert_eq!(rows[0].answer.content, text("a\0b"));
    assert_eq!(rows[1].answer.content, text("😀"));
}

#[test]
fn empty_and_identical_answers_are_kept_and_noted() {
    let text = "{\"prompt\":\"p\",\"chosen\":\"same\",\"rejected\":\"same\"}\n{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\" \"}";
    assert_eq!(pairs(text).len(), 2);
    let (rows, notes) = read_jsonl_report(text.as_bytes(), "x.jsonl");
    assert_eq!(rows.map(|rows| rows.len()), Some(2));
    let said: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert!(notes.iter().all(DataError::is_note));
    assert_eq!(said.len(), 2);
    assert!(
        said[0].starts_with("x.jsonl, line 1: `chosen` and `rejected` are identical"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("x.jsonl, line 2: `rejected` is empty"),
        "{said:?}"
    );
}

/// (line, part of the message). Each message also begins with the file and the line.
const BAD: &[(&str, &str)] = &[
    (
        r#"{"prompt":"p","chosen":"a","rejected":"b""#,
        "not JSON at column 41",
    ),
    (r#"{"text":"é" "x"}"#, "not JSON at column 13"),
    ("{\"text\":\"a\0b\"}", "control character"),
    (
        r#"{"text":"a\ud800b"}"#,
        r"lone surrogate \ud800 at column 11",
    ),
    (
        r#"{"text":"é\\\uDC00"}"#,
        r"lone surrogate \uDC00 at column 13",
    ),
    (r#"{"text":"\ud800\ud800"}"#, "lone surrogate"),
    ("[1]", "found a list"),
    ("\"text\"", "found a string"),
    ("{}", "columns found: none; needed: chosen + rejected"),
    (
        r#"{"question":"p","chosen":null}"#,
        "columns found: chosen (null), question; needed",
    ),
    (
        r#"{"text":5}"#,
        "column `text` holds a number, needed: a string",
    ),
    (
        r#"{"prompt":1,"chosen":"a","rejected":"b"}"#,
        "column `prompt` holds a number",
    ),
    (
        r#"{"prompt":"p","chosen":"a","rejected":[]}"#,
        "differ in kind",
    ),
    (
        r#"{"chosen":[{"role":"user","content":"a"}],"rejected":[{"role":"user","content":"b"}]}"#,
        "no turn with the role",
    ),
    (
        r#"{"messages":[{"role":"user","content":"a"}]}"#,
        "column `messages` has no turn",
    ),
    (
        r#"{"messages":[{"role":"user"}]}"#,
        "column `messages[0].content` holds nothing",
    ),
    (
        r#"{"messages":["hi"]}"#,
        "column `messages[0]` holds a string",
    ),
    (r#"{"messages":"hi"}"#, "column `messages` holds a string"),
    (
        r#"{"text":"ab","spans":[[2,1]]}"#,
        "`spans[0]` has the span [2, 1] that ends before",
    ),
    (
        r#"{"text":"éé","spans":[[0,1],[0,3]]}"#,
        "`spans[1]` has the span [0, 3] but the text has 2 code points",
    ),
    (
        r#"{"text":"ab","spans":[[-1,1]]}"#,
        "column `spans[0][0]` holds a number below 0, needed: a whole number",
    ),
    (
        r#"{"text":"ab","spans":[[0,1],[0.5,1]]}"#,
        "column `spans[1][0]` holds a broken number",
    ),
    (
        r#"{"text":"ab","spans":[[0,1180591620717411303424]]}"#,
        "column `spans[0][1]` holds a number that is too large",
    ),
    (
        r#"{"text":"ab","spans":[["0",1]]}"#,
        "column `spans[0][0]` holds a string",
    ),
    (
        r#"{"text":"ab","spans":[[0]]}"#,
        "column `spans[0]` holds a list of fewer than two entries, needed: [start, end]",
    ),
    (
        r#"{"text":"ab","spans":"0-1"}"#,
        "column `spans` holds a string",
    ),
    (
        r#"{"prompt":"p","completions":["a"],"labels":[true,false]}"#,
        "`completions` has 1 entries and `labels` has 2",
    ),
    (
        r#"{"prompt":"p","completions":["a"],"labels":[2]}"#,
        "column `labels[0]` holds a number",
    ),
    (
        r#"{"steps":["a"],"mistake_index":1}"#,
        "`mistake_index` is 1 but there are 1 steps",
    ),
    (
        r#"{"steps":["a"],"mistake_index":-1}"#,
        "column `mistake_index`",
    ),
    (
        r#"{"text":"a","rewards":[1,2],"reward_std":[1]}"#,
        "`rewards` has 2 entries and `reward_std` has 1",
    ),
    (
        r#"{"text":"a","reward_std":[1]}"#,
        "`rewards` has 0 entries",
    ),
    (
        r#"{"text":"a","rewards":[1],"reward_std":[-1]}"#,
        "column `reward_std[0]` holds -1",
    ),
    (r#"{"text":"a","rewards":[1e300]}"#, "fits 32-bit floats"),
    (
        r#"{"prompt":"p","chosen":"a","rejected":"b","margin":"much"}"#,
        "column `margin` holds a string",
    ),
    (r#"{"id":[],"text":"a"}"#, "column `id` holds a list"),
];

#[test]
fn every_bad_row_is_named_with_its_place_and_the_way_out() {
    for (line, part) in BAD {
        let said = error(format!("\n{line}\n")).to_string();
        assert!(
            said.starts_with("x.jsonl, line 2: ") && said.contains(part),
            "{line}\n{said}"
        );
    }
}

#[test]
fn a_report_collects_all_broken_lines_and_keeps_the_good_ones() {
    let lines: Vec<&str> = std::iter::once(r#"{"text":"good"}"#)
        .chain(BAD.iter().map(|(line, _)| *line))
        .collect();
    let (rows, errors) = read_jsonl_report(lines.join("\n").as_bytes(), "x.jsonl");
    assert_eq!(rows.map(|rows| rows.len()), Some(1));
    let places: Vec<Place> = errors.iter().map(|error| error.place).collect();
    assert_eq!(
        places,
        (0..BAD.len())
            .map(|index| Place::Line(index + 2))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_row_of_another_shape_is_told_what_the_file_needs() {
    let said = error("{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n{\"text\":\"a\"}")
        .to_string();
    assert_eq!(
        said,
        "x.jsonl, line 2: columns found: text; needed as in the first row: prompt, chosen, rejected; put rows of other \
         shapes into their own file"
    );
}

#[test]
fn other_encodings_are_told_to_become_utf8() {
    let said = error(b"{\"text\":\"\xC3\xA9\xFF\"}").to_string();
    assert_eq!(
        said,
        "x.jsonl, line 1: invalid UTF-8 at column 11: byte 0xFF; save the file as UTF-8"
    );
    assert!(error(b"\xFF\xFE{\0").to_string().contains("UTF-16"));
    assert!(error(b"\xFE\xFF\0{").to_string().starts_with("x.jsonl: "));
}

#[test]
fn a_line_beyond_the_limit_is_not_parsed() {
    let long = format!("{{\"text\":\"{}\"}}", "a".repeat(MAX_LINE_BYTES));
    let said = error(&long).to_string();
    assert!(said.contains("more than the limit of 16777216"), "{said}");
}

#[test]
fn a_file_without_rows_says_so() {
    for bytes in [&b""[..], b"\n \r\n", b"\xEF\xBB\xBF"] {
        assert_eq!(
            error(bytes).to_string(),
            "x.jsonl: no rows; check that the right file was given"
        );
    }
    assert_eq!(read_json(b"[]", "x").unwrap_err().problem, Problem::NoRows);
}

#[test]
fn a_flood_of_errors_is_cut_off_and_counted() {
    let (rows, errors) = read_jsonl_report("x\n".repeat(MAX_ERRORS + 5).as_bytes(), "x.jsonl");
    assert_eq!((rows, errors.len()), (None, MAX_ERRORS + 1));
    assert_eq!(
        errors.last().map(|error| &error.problem),
        Some(&Problem::MoreErrors { count: 5 })
    );
    // Notes never crowd out an error.
    let notes = "{\"text\":\"\"}\n".repeat(MAX_ERRORS + 5) + "broken";
    let (rows, errors) = read_jsonl_report(notes.as_bytes(), "x.jsonl");
    assert_eq!(rows.map(|rows| rows.len()), Some(MAX_ERRORS + 5));
    assert!(
        errors
            .iter()
            .any(|error| matches!(error.problem, Problem::BrokenJson { .. }))
    );
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let said = error(format!("{{\"text\":{}", "[".repeat(1_000_000))).to_string();
    assert!(said.contains("recursion limit"), "{said}");
}

#[test]
fn a_json_array_is_read_as_rows() {
    let rows = read_json(b" [{\"text\":\"a\"},\n{\"text\":\"b\"}]", "x.json").unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        read_json(b"{\"text\":\"a\"}\n{\"text\":\"b\"}", "x.json").unwrap(),
        rows.clone()
    );
    let said = read_json(b"[{\"text\":\"a\"},\n{\"txt\":\"b\"}]", "x.json")
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("x.json, row 2: columns found: txt"),
        "{said}"
    );
    let said = read_json(b"[{\"text\":\"a\"},\n{\"text\" \"b\"}]", "x.json")
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("x.json, line 2: not JSON at column 9"),
        "{said}"
    );
}

#[test]
fn a_key_that_stands_twice_is_an_error_that_names_line_and_key() {
    let good = "{\"text\":\"a\"}\n";
    let twice = "{\"text\":\"b\",\"text\":\"c\"}\n";
    let said = error(format!("{good}{twice}")).to_string();
    assert!(
        said.starts_with("x.jsonl, line 2: the key `text` stands twice"),
        "{said}"
    );
    let array = format!("[{good},{twice}]");
    let said = read_json(array.as_bytes(), "x.json")
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("x.json, line 2: the key `text` stands twice"),
        "{said}"
    );
    // Two rows, and two turns of one row, may well have the same keys.
    let turns =
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
    assert_eq!(demos(&format!("{turns}\n{turns}")).len(), 2);
}
