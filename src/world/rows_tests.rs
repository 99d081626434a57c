use super::*;

fn text(content: &Content) -> &str {
    match content {
        Content::Text(text) => text,
        Content::Messages(_) => panic!("the world writes plain text"),
    }
}

#[test]
fn rows_depend_on_the_seed_and_their_place_only() {
    let noise = PreferenceNoise::default();
    let few = Language.preferences(20, 6, noise).unwrap();
    let many = Language.preferences(50, 6, noise).unwrap();
    assert_eq!(few[..], many[..20]);
    assert_ne!(few, Language.preferences(20, 7, noise).unwrap());
    assert_eq!(
        Language.demonstrations(10, 6)[..],
        Language.demonstrations(30, 6)[..10]
    );
    assert_ne!(
        Language.demonstrations(10, 6),
        Language.demonstrations(10, 7)
    );
    assert_eq!(Language.corpus(10, 6)[..], Language.corpus(30, 6)[..10]);
    assert_eq!((few[3].id.as_str(), few[3].line), ("world-000003", 4));
}

#[test]
fn every_row_carries_the_truth_of_its_words() {
    for row in Language
        .preferences(200, 1, PreferenceNoise::default())
        .unwrap()
    {
        assert_ne!(row.chosen, row.rejected);
        for answer in [&row.chosen, &row.rejected] {
            let truths = Language.answer_rewards(text(&row.prompt), text(&answer.content));
            assert_eq!(
                answer.true_rewards,
                Some(truths.iter().map(|t| t.mean).collect())
            );
            assert_eq!(
                answer.true_reward_std,
                Some(truths.iter().map(|t| t.std).collect())
            );
        }
    }
}

#[test]
fn labels_follow_the_stated_noise() {
    for (seed, noise) in [
        (1, PreferenceNoise::default()),
        (
            2,
            PreferenceNoise {
                inverse_temperature: 0.5,
                flip: 0.0,
            },
        ),
        (
            3,
            PreferenceNoise {
                inverse_temperature: 3.0,
                flip: 0.2,
            },
        ),
    ] {
        let rows = Language.preferences(12_000, seed, noise).unwrap();
        // In each bin of the true difference: labels that agree with the truth, against the law's own sum and variance.
        // The last bin takes all large differences: there are few of them.
        let mut bins = [(0.0f64, 0.0f64, 0.0f64); 5];
        for row in &rows {
            let difference =
                known_return(&row.chosen).unwrap() - known_return(&row.rejected).unwrap();
            if difference != 0.0 {
                let p = noise.label_probability(difference.abs());
                let bin = &mut bins[(difference.abs() as usize).min(4)];
                bin.0 += f64::from(u8::from(difference > 0.0));
                bin.1 += p;
                bin.2 += p * (1.0 - p);
            }
        }
        for (agreed, expected, variance) in bins {
            assert!(variance > 5.0, "{bins:?}");
            assert!(
                (agreed - expected).abs() < 4.0 * variance.sqrt(),
                "{noise:?}: {agreed} of {expected}"
            );
        }
        let ceiling = pair_ceiling(&rows, noise).unwrap();
        println!("{noise:?}: {ceiling:?}");
        assert!(
            (ceiling.accuracy - ceiling.expected_accuracy).abs()
                < 4.0 * (0.25 / 12_000.0f64).sqrt()
        );
    }
}

#[test]
fn a_sharp_annotator_without_flips_is_always_right_and_a_blunt_one_tosses_coins() {
    let sharp = PreferenceNoise {
        inverse_temperature: f64::INFINITY,
        flip: 0.0,
    };
    let rows = Language.preferences(2000, 4, sharp).unwrap();
    let ties = rows
        .iter()
        .filter(|r| known_return(&r.chosen) == known_return(&r.rejected))
        .count();
    let ceiling = pair_ceiling(&rows, sharp).unwrap();
    assert!((ceiling.accuracy - (1.0 - 0.5 * ties as f64 / 2000.0)).abs() < 1e-12);
    assert!(ties < 100, "{ties}");
    let blunt = PreferenceNoise {
        inverse_temperature: 0.0,
        flip: 0.0,
    };
    let ceiling = pair_ceiling(&Language.preferences(4000, 4, blunt).unwrap(), blunt).unwrap();
    assert!((ceiling.accuracy - 0.5).abs() < 4.0 * (0.25 / 4000.0f64).sqrt());
    assert!((ceiling.log_loss - 2.0f64.ln()).abs() < 1e-12);
}

#[test]
fn impossible_noise_is_refused() {
    for noise in [
        PreferenceNoise {
            inverse_temperature: -1.0,
            flip: 0.0,
        },
        PreferenceNoise {
            inverse_temperature: f64::NAN,
            flip: 0.0,
        },
        PreferenceNoise {
            inverse_temperature: 1.0,
            flip: 0.6,
        },
        PreferenceNoise {
            inverse_temperature: 1.0,
            flip: f64::NAN,
        },
    ] {
        assert!(Language.preferences(1, 1, noise).is_err(), "{noise:?}");
    }
    assert_eq!(pair_ceiling(&[], PreferenceNoise::default()), None);
    assert_eq!(longer_wins(&[]), None);
}

#[test]
fn the_longer_answer_wins_half_of_the_time() {
    let noise = PreferenceNoise {
        inverse_temperature: f64::INFINITY,
        flip: 0.0,
    };
    let balance = longer_wins(&Language.preferences(20_000, 5, noise).unwrap()).unwrap();
    println!("{balance:?}");
    assert!(balance.pairs > 10_000);
    assert!((balance.longer_wins - 0.5).abs() < 0.025, "{balance:?}");
}

#[test]
fn the_class_table_says_what_the_law_says() {
    let rows = Rows::Preferences(
        Language
            .preferences(5000, 8, PreferenceNoise::default())
            .unwrap(),
    );
    let table = Language.class_statistics(&rows);
    for (class, row) in &table {
        println!("{class:?}: {row:?}");
    }
    assert!(!table.contains_key(&WordClass::Prompt));
    for silent in [
        WordClass::Function,
        WordClass::Noun,
        WordClass::Negator,
        WordClass::Intensifier,
        WordClass::Opener,
    ] {
        assert_eq!(table[&silent].percentiles, [0.0; 5], "{silent:?}");
    }
    assert!(
        table[&WordClass::Sentiment].percentiles[0] < -1.0
            && table[&WordClass::Sentiment].percentiles[4] > 1.0
    );
    assert!(table[&WordClass::Sentiment].mean.abs() < 0.2);
    assert!((table[&WordClass::Stutter].mean + 0.8).abs() < 1e-6);
}

#[test]
fn percentiles_are_nearest_ranks() {
    let statistics = ClassStatistics::of((1..=20).rev().map(|v| v as f32).collect(), 0.1).unwrap();
    assert_eq!(statistics.percentiles, [1.0, 5.0, 10.0, 15.0, 19.0]);
    assert_eq!(ClassStatistics::of(Vec::new(), 0.1), None);
}

#[test]
fn json_lines_carry_every_column_and_short_numbers() {
    let mut rows = Language
        .preferences(3, 2, PreferenceNoise::default())
        .unwrap();
    rows[1].margin = Some(0.7);
    rows[1].strength = Some(-0.3);
    rows[1].chosen.spans = Some(vec![Span { start: 1, end: 4 }]);
    let jsonl = rows_to_jsonl(&Rows::Preferences(rows.clone()));
    let lines: Vec<Value> = jsonl
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(line["id"], json!(row.id));
        assert_eq!(line["prompt"], json!(text(&row.prompt)));
        assert_eq!(line["rejected"], json!(text(&row.rejected.content)));
        let rewards: Vec<f32> = serde_json::from_value(line["chosen_rewards"].clone()).unwrap();
        assert_eq!(Some(rewards), row.chosen.true_rewards);
        let stds: Vec<f32> = serde_json::from_value(line["rejected_reward_std"].clone()).unwrap();
        assert_eq!(Some(stds), row.rejected.true_reward_std);
    }
    assert!(!jsonl.contains("0000001"), "{jsonl}");
    assert_eq!(lines[1]["margin"].to_string(), "0.7");
    assert_eq!(lines[1]["strength"].to_string(), "-0.3");
    assert_eq!(lines[1]["chosen_spans"], json!([[1, 4]]));
    assert!(lines[0].get("margin").is_none() && lines[0].get("chosen_spans").is_none());

    let demonstrations = Language.demonstrations(2, 2);
    let jsonl = rows_to_jsonl(&Rows::Demonstrations(demonstrations.clone()));
    let line: Value = serde_json::from_str(jsonl.lines().next().unwrap()).unwrap();
    assert_eq!(
        line["completion"],
        json!(text(&demonstrations[0].answer.content))
    );
    let rewards: Vec<f32> = serde_json::from_value(line["rewards"].clone()).unwrap();
    assert_eq!(Some(rewards), demonstrations[0].answer.true_rewards);
    assert!(line["reward_std"].is_array());
}

#[test]
fn error_spans_cover_the_words_below_the_threshold() {
    let answer = "it was not good and  dirty";
    let truths = Language.answer_rewards("review the soup :", answer);
    let spans = Language.error_spans(answer, &truths, -0.5);
    let words: Vec<&str> = spans.iter().map(|s| &answer[s.start..s.end]).collect();
    assert_eq!(words, ["good", "dirty"]);
    assert!(Language.error_spans("", &[], 0.0).is_empty());
}
