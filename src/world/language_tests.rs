//! One test for each sentence of the law in `language.rs`.

use super::*;

/// Mean reward of each word of an answer to "review the soup :".
fn means(answer: &str) -> Vec<f32> {
    Language
        .answer_rewards("review the soup :", answer)
        .iter()
        .map(|t| t.mean)
        .collect()
}

fn of(answer: &str, word: &str) -> f32 {
    let at = answer.split_whitespace().position(|w| w == word).unwrap();
    means(answer)[at]
}

fn close(a: f32, b: f32) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

#[test]
fn the_vocabulary_is_small_and_without_doubles() {
    let words = Language.words();
    let unique: std::collections::BTreeSet<_> = words.iter().collect();
    assert_eq!(unique.len(), words.len());
    let punctuation = LEXICON.iter().filter(|e| e.class == Punctuation).count();
    assert!(
        (48..=96).contains(&(words.len() - punctuation)),
        "{}",
        words.len()
    );
    assert!(
        words
            .iter()
            .all(|w| !w.contains(char::is_whitespace) && !w.starts_with("##"))
    );
    // One bit of `Reader::said` each.
    assert!(words.len() <= 128);
}

#[test]
fn praise_and_blame_are_balanced() {
    let sum: f32 = LEXICON
        .iter()
        .filter(|e| e.class == Sentiment)
        .map(|e| e.value)
        .sum();
    close(sum, 0.0);
}

#[test]
fn negation_flips_the_next_sentiment_word_and_only_that() {
    let plain = of("it was good and clean", "good");
    close(plain, 0.8);
    close(of("it was not good and clean", "good"), -plain);
    close(
        of("it was not good and clean", "clean"),
        of("it was good and clean", "clean"),
    );
    close(of("it was not never good", "good"), plain);
    close(of("we never loved the soup", "loved"), -1.1);
    close(of("it was not bad", "bad"), 0.8);
    close(of("it was not bad", "not"), 0.0);
}

#[test]
fn negation_ends_with_its_clause() {
    for border in [",", ".", "but"] {
        close(
            of(&format!("it was not there {border} it was good"), "good"),
            0.8,
        );
    }
    close(of("it was not there and it was good", "good"), -0.8);
}

#[test]
fn intensifiers_scale_the_next_sentiment_word_and_meet_negation() {
    close(of("it was very good", "good"), 1.2);
    close(of("it was slightly good", "good"), 0.4);
    close(of("it was not very good", "good"), -1.2);
    close(of("it was very not good", "good"), -1.2);
    close(of("it was very good and clean", "clean"), 0.5);
    close(of("it was very there , it was good", "good"), 0.8);
    close(of("it was very really very good", "good"), 1.6);
}

#[test]
fn a_sentiment_said_twice_pays_once() {
    close(of("it was good", "good"), 0.8);
    let all = means("it was good , it was good");
    close(all[6], 0.0);
}

#[test]
fn the_sign_of_cold_depends_on_what_is_cold() {
    close(of("the soup was cold", "cold"), -0.8);
    close(of("the beer was cold", "cold"), 0.8);
    close(of("the beer was not cold", "cold"), -0.8);
    close(of("the band was very loud", "loud"), 1.05);
    close(of("the room was loud", "loud"), -0.7);
    // "it" is the last noun, in the prompt if need be.
    let beer = Language.answer_rewards("review the beer :", "it was cold");
    close(beer[2].mean, 0.8);
}

#[test]
fn naming_the_topic_pays_once_and_another_topic_costs() {
    let all = means("the soup and the soup and the train");
    close(all[1], 0.5);
    close(all[4], 0.0);
    close(all[7], -0.5);
}

#[test]
fn a_promise_is_paid_or_punished_on_the_later_word() {
    let kept = means("they promised a gift , later they kept it .");
    close(kept[1], 0.0);
    close(kept[7], 1.4);
    close(kept[9], 0.0);
    let broke = means("they promised a gift , later they broke it .");
    close(broke[7], -1.4);
    // The same words without the promise are worth nothing, and one promise is settled once.
    close(of("they liked a gift , later they kept it .", "kept"), 0.0);
    let twice = means("they promised a gift , they kept it and they kept it .");
    close(twice[6], 1.4);
    close(twice[10], 0.0);
    // Each debt has its own words.
    close(of("they promised a gift , it arrived", "arrived"), 0.0);
    close(of("we ordered a cake , it arrived", "arrived"), 0.9);
    close(of("we ordered a cake , it vanished", "vanished"), -0.9);
}

#[test]
fn a_full_stop_costs_while_a_promise_is_open() {
    let all = means("they promised a gift . they kept it .");
    close(all[4], -0.4);
    close(all[8], 0.0);
    close(of("we ordered a cake .", "."), 0.0);
}

#[test]
fn some_words_count_only_together() {
    for (first, second, value) in [
        ("salt", "pepper", 1.0),
        ("milk", "lemon", -1.0),
        ("sun", "sea", 1.2),
        ("rain", "picnic", -1.2),
    ] {
        for (a, b) in [(first, second), (second, first)] {
            let alone = means(&format!("there was {a} . there was rain ."));
            if a != "picnic" {
                assert!(alone.iter().all(|m| *m == 0.0), "{a}: {alone:?}");
            }
            let both = means(&format!("there was {a} and {b} , then {a} and {b} ."));
            let sum: f32 = both.iter().sum();
            close(both[4], value);
            close(sum, value);
        }
    }
    // Halves of different pairs are not a pair.
    assert!(means("with salt and with lemon").iter().all(|m| *m == 0.0));
}

#[test]
fn a_stutter_costs_and_does_nothing_else() {
    let all = means("it was not not good good");
    close(all[3], -0.8);
    close(all[4], -0.8);
    close(all[5], -0.8);
}

#[test]
fn prompts_and_foreign_words_are_worth_nothing() {
    let text = [
        "describe", "the", "awful", "soup", ":", "zebra", "was", "<eos>",
    ];
    let truths = Language.true_rewards(&text);
    assert!(truths.iter().all(|t| t.mean == 0.0));
    assert!(truths[..5].iter().all(|t| t.std == 0.0));
    assert!(truths[5..].iter().all(|t| t.std > 0.0));
    assert!(Language.true_rewards(&[]).is_empty());
}

#[test]
fn the_spread_differs_by_class() {
    let truths = Language.answer_rewards(
        "review the soup :",
        "they promised it , they kept it and it was cold .",
    );
    let stds: Vec<f32> = truths.iter().map(|t| t.std).collect();
    assert_eq!(
        stds,
        [
            0.05, 0.1, 0.05, 0.05, 0.05, 0.6, 0.05, 0.05, 0.05, 0.05, 0.5, 0.05
        ]
    );
}

#[test]
fn one_evaluators_rewards_have_the_stated_mean_and_spread() {
    let truths = Language.answer_rewards("review the beer :", "the beer was very superb");
    let mut rng = crate::random::Rng::new(4);
    let n = 20_000;
    let (mut sum, mut squares) = (0.0f64, 0.0f64);
    for _ in 0..n {
        let r = f64::from(Language.evaluate_once(&truths, &mut rng)[4]);
        sum += r;
        squares += r * r;
    }
    let mean = sum / f64::from(n);
    let std = (squares / f64::from(n) - mean * mean).sqrt();
    assert!(
        (mean - 2.4).abs() < 0.011 && (std - 0.3).abs() < 0.008,
        "{mean} {std}"
    );
}

#[test]
fn causes_point_at_the_earlier_word() {
    let text = "review the beer : they promised a cake , it was not cold but they kept it with salt and pepper";
    let words: Vec<&str> = text.split_whitespace().collect();
    let readings = Language.readings(&words);
    let cause = |word: &str| {
        let at = words.iter().position(|w| *w == word).unwrap();
        readings[at].cause.map(|c| words[c])
    };
    assert_eq!(cause("kept"), Some("promised"));
    assert_eq!(cause("cold"), Some("not"));
    assert_eq!(cause("pepper"), Some("salt"));
    assert_eq!(cause("salt"), None);
}

#[test]
fn a_reward_never_depends_on_what_comes_later() {
    for i in 0..300 {
        let text = Language.corpus(1, i).remove(0);
        let words: Vec<&str> = text.split_whitespace().collect();
        let whole = Language.true_rewards(&words);
        for n in 0..=words.len() {
            assert_eq!(Language.true_rewards(&words[..n]), whole[..n]);
        }
    }
}
