//! Files from outside that are wrong, and the layouts of those that are right.

use super::*;
use crate::text::TextError;
use serde_json::{Value, json};

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn word_level() -> Value {
    json!({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "the": 3, "cat": 4}, "unk_token": "<unk>"}})
}

fn load(tokenizer: &Value, config: &Value) -> Result<TextTokenizer, TextError> {
    TextTokenizer::from_hf(&bytes(tokenizer), Some(&bytes(config)), None)
}

#[test]
fn special_tokens_are_read_as_strings_and_as_objects() {
    for bos in [
        json!("<s>"),
        json!({"content": "<s>", "lstrip": false, "__type": "AddedToken"}),
    ] {
        let config = json!({"bos_token": bos, "eos_token": "</s>", "pad_token": null, "add_bos_token": true,
            "add_eos_token": false, "model_max_length": 1e30});
        let tok = load(&word_level(), &config).unwrap();
        assert_eq!((tok.bos(), tok.eos(), tok.pad()), (Some(1), Some(2), None));
        let encoding = tok.encode("the cat", true).unwrap();
        assert_eq!(encoding.ids, [1, 3, 4]);
        assert_eq!(encoding.offsets, [(0, 0), (0, 3), (4, 7)]);
        assert_eq!(tok.encode("the cat", false).unwrap().ids, [3, 4]);
        let again = TextTokenizer::from_hf(
            &tok.to_tokenizer_json().unwrap(),
            Some(&tok.to_tokenizer_config_json().unwrap()),
            None,
        )
        .unwrap();
        assert_eq!(again.encode("the cat", true).unwrap(), encoding);
    }
}

#[test]
fn a_model_max_length_beyond_64_bits_is_no_problem() {
    let config = br#"{"model_max_length": 1000000000000000019884624838656, "eos_token": "</s>"}"#;
    assert_eq!(
        TextTokenizer::from_hf(&bytes(&word_level()), Some(config), None)
            .unwrap()
            .eos(),
        Some(2)
    );
}

#[test]
fn the_default_one_of_several_named_templates_is_taken_and_a_file_of_its_own_wins() {
    let named = json!({"chat_template": [{"name": "tool_use", "template": "tool"}, {"name": "default", "template": "x"}]});
    assert_eq!(
        load(&word_level(), &named)
            .unwrap()
            .render_chat(&[], false)
            .unwrap(),
        "x"
    );
    let file =
        TextTokenizer::from_hf(&bytes(&word_level()), Some(&bytes(&named)), Some("file")).unwrap();
    assert_eq!(file.render_chat(&[], false).unwrap(), "file");
    let again = TextTokenizer::from_hf(
        &file.to_tokenizer_json().unwrap(),
        Some(&file.to_tokenizer_config_json().unwrap()),
        None,
    )
    .unwrap();
    assert_eq!(again.render_chat(&[], false).unwrap(), "file");
    let unnamed =
        json!({"chat_template": [{"name": "a", "template": "x"}, {"name": "b", "template": "x"}]});
    assert!(
        load(&word_level(), &unnamed)
            .unwrap_err()
            .to_string()
            .contains("default")
    );
    assert!(load(&word_level(), &json!({"chat_template": 3})).is_err());
}

#[test]
fn templates_have_what_transformers_gives_them() {
    let render = |template: &str| {
        TextTokenizer::from_hf(
            &bytes(&word_level()),
            Some(br#"{"bos_token": "<s>"}"#),
            Some(template),
        )
        .unwrap()
        .render_chat(&[message("user", " <a> & 'b' ")], true)
    };
    assert_eq!(
        render("{{ bos_token }}{{ eos_token }}|{{ messages[0].content.strip() }}").unwrap(),
        "<s>|<a> & 'b'"
    );
    assert_eq!(
        render("{{ messages[0].content|tojson }} {{ {'a': [1, 'é']}|tojson }}").unwrap(),
        "\" <a> & 'b' \" {\"a\": [1, \"é\"]}"
    );
    assert_eq!(render("{{ [1]|tojson(indent=2) }}").unwrap(), "[\n  1\n]");
    assert_eq!(
        render("  {% if tools is none %}\n  x\n  {% endif %}\ny\n").unwrap(),
        "  x\ny"
    );
    assert_eq!(
        render("{% generation %}g{%- endgeneration %}").unwrap(),
        "g"
    );
    assert_eq!(
        render("{% for m in messages %}{% break %}{% endfor %}z").unwrap(),
        "z"
    );
    assert_eq!(render("{{ strftime_now is defined }}").unwrap(), "False");
    assert!(
        render("{{ strftime_now('%Y') }}")
            .unwrap_err()
            .to_string()
            .contains("today's date")
    );
    assert_eq!(
        render("{{ raise_exception('roles must alternate') }}"),
        Err(TextError::TemplateRefused {
            reason: "roles must alternate".into()
        })
    );
    assert!(matches!(
        render("{% for"),
        Err(TextError::TemplateFailed { .. })
    ));
    assert!(matches!(
        render("{{ nothing.at_all.here }}"),
        Err(TextError::TemplateFailed { .. })
    ));
}

#[test]
fn a_config_of_another_model_is_told_apart() {
    let error = load(&word_level(), &json!({"eos_token": "<|eot_id|>"})).unwrap_err();
    assert!(error.to_string().contains("<|eot_id|>"));
    let error = load(
        &word_level(),
        &json!({"added_tokens_decoder": {"7": {"content": "</s>"}}}),
    )
    .unwrap_err();
    assert!(
        matches!(error, TextError::VocabularyDisagreement { here: 7, .. }),
        "{error}"
    );
    let mut tokenizer = word_level();
    tokenizer["added_tokens"] = json!([{"id": 9, "content": "cat", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}]);
    let error = load(&tokenizer, &json!({})).unwrap_err();
    assert!(
        matches!(error, TextError::VocabularyDisagreement { here: 9, .. }),
        "{error}"
    );
}

#[test]
fn two_tokens_with_one_id_are_an_error() {
    let mut tokenizer = word_level();
    tokenizer["model"]["vocab"]["dog"] = json!(4);
    assert!(
        load(&tokenizer, &json!({}))
            .unwrap_err()
            .to_string()
            .contains("id 4")
    );
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    let tok = load(&word_level(), &json!({})).unwrap();
    assert_eq!(
        tok.decode(&[3, 5], true),
        Err(TextError::IdOutOfRange {
            id: 5,
            vocab_size: 5
        })
    );
    assert_eq!(
        tok.decode(&[u32::MAX], false),
        Err(TextError::IdOutOfRange {
            id: u32::MAX,
            vocab_size: 5
        })
    );
}

#[test]
fn no_file_makes_the_reader_panic() {
    assert!(matches!(
        TextTokenizer::from_hf(b"", None, None),
        Err(TextError::Broken { .. })
    ));
    assert!(matches!(
        TextTokenizer::from_hf(b"{}", None, None),
        Err(TextError::Broken { .. })
    ));
    assert!(matches!(
        TextTokenizer::from_hf(&bytes(&word_level()), Some(b"[]"), None),
        Err(TextError::Broken { .. })
    ));
    let sequence = |inner: Value| json!({"type": "Sequence", "processors": [inner]});
    let template = |single: Value| json!({"type": "TemplateProcessing", "single": [single], "pair": [], "special_tokens": {}});
    let wrong = [
        (
            "post_processor",
            template(json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}})),
        ),
        (
            "post_processor",
            sequence(template(
                json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}}),
            )),
        ),
        (
            "post_processor",
            template(json!({"Sequence": {"id": "B", "type_id": 0}})),
        ),
        (
            "decoder",
            json!({"type": "Strip", "content": " ", "start": 0, "stop": 1}),
        ),
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
        (
            "normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]], "continuing_subword_prefix": "####"}),
        ),
        (
            "model",
            json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}),
        ),
    ];
    for (part, value) in wrong {
        let mut tokenizer = word_level();
        tokenizer[part] = value;
        assert!(
            load(&tokenizer, &json!({})).is_err(),
            "{part}: {}",
            tokenizer[part]
        );
    }
    // Every truncation of a good file.
    let good = byte_tokenizer(&["</s>"], None).to_tokenizer_json().unwrap();
    for cut in (0..good.len()).step_by(97) {
        assert!(TextTokenizer::from_hf(&good[..cut], None, None).is_err());
    }
}

#[test]
fn what_the_file_says_about_cutting_padding_and_chance_is_left_out() {
    let mut tokenizer = word_level();
    tokenizer["truncation"] =
        json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
    tokenizer["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"});
    assert_eq!(
        load(&tokenizer, &json!({}))
            .unwrap()
            .encode("the cat", true)
            .unwrap()
            .ids,
        [3, 4]
    );
    let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "dropout": 1.0});
    let tok = load(
        &json!({"version": "1.0", "added_tokens": [], "model": model}),
        &json!({}),
    )
    .unwrap();
    assert_eq!(tok.encode("ab", true).unwrap().ids, [2]);
}
