//! Does ignorance shrink where data is, and stay where it is not?
//!
//! Trains token rewards on 250, 1,000 and 4,000 pairs of the built-in world from which every answer with one of six
//! sentiment words was taken out, and asks each estimate of ignorance about two groups of sentiment words in fresh rows:
//! those that training saw and those that it never saw. What comes out is printed as a Markdown table, with the map's
//! real error beside it; nothing is tuned to make it look well.
//!
//! ```text
//! cargo run --release --example ignorance_sweep -- [bradley_terry_sum | ava_p | ...] [full | lora | heads] [steps] [members] [draw]
//! ```
//!
//! `draw` numbers the rows that are drawn (0, 1, ...). Laplace is left out of methods that it does not fit, and says so.

use avascope::data::{Content, PreferenceRow, Rows, fingerprint};
use avascope::device::{DeviceChoice, open};
use avascope::eval::Gauge;
use avascope::reward::{TokenRewardRecord, Trust};
use avascope::text::{EncodeOptions, Truncation};
use avascope::train::ignorance::{Dropout, LaplaceFit, Over, PriorVariance, combine};
use avascope::train::{
    EncodedRow, LoraConfig, Run, Scorer, TrainConfig, TrainError, Trainable, encode_rows,
    world_model, world_rows,
};
use avascope::world::{Language, WordClass};
use pollster::block_on;

/// Sentiment words that training never sees, of both signs and of all sizes.
const UNSEEN: [&str; 6] = ["lovely", "fresh", "enjoyed", "rude", "dull", "hated"];
/// Training pairs.
const SIZES: [usize; 3] = [250, 1000, 4000];
/// The digest of a checkpoint that is never written.
const NAME: &str = "in memory";

fn text(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Messages(_) => String::new(),
    }
}

fn is_clean(row: &PreferenceRow) -> bool {
    [&row.chosen, &row.rejected].iter().all(|answer| {
        text(&answer.content)
            .split_whitespace()
            .all(|word| !UNSEEN.contains(&word))
    })
}

/// What one estimate says of the two groups of words.
#[derive(Clone, Copy)]
struct Group {
    tokens: usize,
    ignorance: f64,
    /// The same in units of the true rewards.
    scaled: f64,
    error: f64,
}

/// Mean ignorance and root mean squared error (after one scale and offset for all tokens) of sentiment words that
/// training saw, and of those that it did not.
fn groups(records: &[TokenRewardRecord]) -> Result<[Group; 2], Box<dyn std::error::Error>> {
    let language = Language::new();
    let known: Vec<_> = records
        .iter()
        .flat_map(|record| &record.tokens)
        .filter_map(|token| {
            Some((
                token,
                f64::from(token.true_mean?),
                f64::from(token.ignorance_std?),
            ))
        })
        .collect();
    let means: Vec<f64> = known.iter().map(|(t, ..)| f64::from(t.mean)).collect();
    let truths: Vec<f64> = known.iter().map(|(_, truth, _)| *truth).collect();
    let gauge = Gauge::PositiveAffine.fit(&means, &truths)?;
    let fitted = gauge.apply(&means);
    Ok([false, true].map(|unseen| {
        let mut group = Group {
            tokens: 0,
            ignorance: 0.0,
            scaled: 0.0,
            error: 0.0,
        };
        for ((token, truth, ignorance), fitted) in known.iter().zip(&fitted) {
            let word = token.text.trim();
            let sentiment = language.class(word) == Some(WordClass::Sentiment);
            if sentiment && UNSEEN.contains(&word) == unseen {
                group.tokens += 1;
                group.ignorance += ignorance;
                group.error += (fitted - truth).powi(2);
            }
        }
        let n = group.tokens.max(1) as f64;
        Group {
            ignorance: group.ignorance / n,
            scaled: gauge.scale.abs() * group.ignorance / n,
            error: (group.error / n).sqrt(),
            ..group
        }
    }))
}

fn train(config: &TrainConfig, rows: &Rows) -> Result<(Scorer, String), TrainError> {
    let device =
        block_on(open(DeviceChoice::Cpu)).map_err(|e| TrainError::Device(e.to_string()))?;
    let model = world_model(&device.device)?;
    let Rows::Preferences(few) = world_rows(1, 1, false) else {
        return Err(TrainError::Rows("the world draws pairs".into()));
    };
    let mut run = Run::new(
        config.clone(),
        model,
        rows.clone(),
        Rows::Preferences(few),
        device,
    )?;
    while run.finished().is_none() {
        block_on(run.advance())?;
    }
    let mut scorer = run.scorer()?;
    scorer.set_trust(Trust::Exploratory, Vec::new());
    Ok((scorer, fingerprint(rows)))
}

fn encode(scorer: &Scorer, rows: &Rows) -> Result<Vec<EncodedRow>, TrainError> {
    let options = EncodeOptions {
        max_length: 128,
        truncation: Truncation::KeepEnd,
        append_eos: true,
    };
    encode_rows(rows, &scorer.model().tokenizer, &options)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let method = words.next().unwrap_or_else(|| "bradley_terry_sum".into());
    let trainable = match words.next().as_deref() {
        None | Some("full") => Trainable::Full,
        Some("lora") => Trainable::Lora(LoraConfig::default()),
        Some("heads") => Trainable::Heads,
        Some(other) => return Err(format!("`{other}`: name full, lora or heads").into()),
    };
    let steps: usize = words.next().map_or(Ok(1500), |n| n.parse())?;
    let members: u64 = words.next().map_or(Ok(5), |n| n.parse())?;
    let draw: u64 = words.next().map_or(Ok(0), |n| n.parse())?;

    let Rows::Preferences(drawn) = world_rows(20_000, 17 + 1000 * draw, false) else {
        return Err("the world draws pairs".into());
    };
    let clean: Vec<PreferenceRow> = drawn.into_iter().filter(is_clean).collect();
    let fresh = world_rows(400, 18 + 1000 * draw, false);
    println!(
        "{method}, {trainable:?}, {steps} steps, ensembles of {members}, draw {draw}; {} of 20,000 pairs have none of {UNSEEN:?}\n",
        clean.len()
    );
    println!(
        "| estimate | pairs | ignorance, seen words | ignorance, unseen words | unseen / seen | in true units, seen | unseen | error, seen | error, unseen |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let row = |name: &str, pairs: usize, [seen, unseen]: [Group; 2]| {
        println!(
            "| {name} | {pairs} | {:.4} | {:.4} | {:.2} | {:.3} | {:.3} | {:.3} | {:.3} |",
            seen.ignorance,
            unseen.ignorance,
            unseen.ignorance / seen.ignorance,
            seen.scaled,
            unseen.scaled,
            seen.error,
            unseen.error
        );
        [seen.ignorance, unseen.ignorance]
    };
    let mut laplace = vec![
        ("Laplace, prior 1", Over::Head, PriorVariance::Given(1.0)),
        ("Laplace, evidence", Over::Head, PriorVariance::Evidence),
    ];
    if matches!(trainable, Trainable::Lora(_)) {
        // The adapters are where a trunk can learn that it does not know a word.
        laplace.push((
            "Laplace with adapters, prior 1",
            Over::Lora,
            PriorVariance::Given(1.0),
        ));
        laplace.push((
            "Laplace with adapters, evidence",
            Over::Lora,
            PriorVariance::Evidence,
        ));
    }
    let names = laplace.iter().map(|(name, ..)| *name);
    let mut found: Vec<(&str, Vec<[f64; 2]>)> = names
        .chain(["ensemble", "dropout 0.1"])
        .map(|name| (name, Vec::new()))
        .collect();
    let [ensemble, dropped_out] = [laplace.len(), laplace.len() + 1];
    for size in SIZES {
        if clean.len() < size {
            return Err(format!("only {} clean pairs were drawn", clean.len()).into());
        }
        let rows = Rows::Preferences(clean[..size].to_vec());
        let config = |seed| TrainConfig {
            method: method.clone(),
            steps,
            seed,
            eval_steps: 0,
            eval_rows: 1,
            trainable: trainable.clone(),
            ..TrainConfig::default()
        };
        let mut scores = Vec::new();
        let mut first = None;
        for seed in 0..members {
            let (scorer, print) = train(&config(seed), &rows)?;
            let queries = encode(&scorer, &fresh)?;
            scores.push(block_on(scorer.score(&queries))?);
            if first.is_none() {
                first = Some((scorer, print, queries));
            }
        }
        let Some((mut scorer, print, queries)) = first else {
            return Err("at least two members are needed".into());
        };
        let encoded = encode(&scorer, &rows)?;
        let dropout = Dropout {
            rate: 0.1,
            samples: 32,
            seed: 0,
        };
        let dropped = block_on(scorer.score_with_dropout(&queries, &dropout))?;
        for (at, (_, over, prior)) in laplace.iter().enumerate() {
            let fit = match block_on(LaplaceFit::new(
                &scorer,
                (&rows, &encoded),
                (NAME, &print),
                (*over, *prior),
            )) {
                Ok(fit) => fit,
                Err(TrainError::Ignorance(why)) => {
                    eprintln!("{} at {size} pairs: {why}", found[at].0);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            scorer.set_laplace(&fit, NAME)?;
            let said = groups(&block_on(scorer.score(&queries))?.records)?;
            let name = match prior {
                PriorVariance::Given(_) => found[at].0.to_string(),
                PriorVariance::Evidence => {
                    format!("{} ({:.2e})", found[at].0, fit.summary().prior_variance)
                }
            };
            found[at].1.push(row(&name, size, said));
        }
        let ranking = scorer.objective().ranking_score();
        let said = groups(&combine(scores, ranking)?.records)?;
        let said = row(found[ensemble].0, size, said);
        found[ensemble].1.push(said);
        let said = row(found[dropped_out].0, size, groups(&dropped.records)?);
        found[dropped_out].1.push(said);
    }
    println!("\nfrom {} to {} pairs:", SIZES[0], SIZES[SIZES.len() - 1]);
    for (name, sizes) in &found {
        let (Some(a), Some(b)) = (sizes.first(), sizes.last()) else {
            continue;
        };
        println!(
            "{name}: seen words x {:.2}, unseen words x {:.2}",
            b[0] / a[0],
            b[1] / a[1]
        );
    }
    // The one thing that must hold whatever the truth of the rest: with a fixed prior, data can only remove ignorance, and
    // sixteen times the pairs remove a good part of it where they are.
    let (_, sizes) = &found[0];
    if let (Some(few), Some(many)) = (sizes.first(), sizes.get(SIZES.len() - 1))
        && many[0] >= 0.8 * few[0]
    {
        return Err(
            "ignorance about words that training saw did not shrink with sixteen times the pairs"
                .into(),
        );
    }
    Ok(())
}
