use super::head::{HeadCurvature, head_parameters};
use super::*;
use crate::data::fingerprint;
use crate::device::{DeviceChoice, OpenDevice, open};
use crate::model::Weight;
use crate::objective::Progress;
use crate::reward::{HEAD_BIAS, HEAD_WEIGHT, RewardHead, TokenRewardRecord};
use crate::text::{EncodeOptions, Truncation};
use crate::train::dataset::layout;
use crate::train::extras::extras;
use crate::train::forward::{Reader, steps_of};
use crate::train::run::count;
use crate::train::scorer::pad_of;
use crate::train::{Run, Scored, TrainConfig, Trainable, encode_rows, world_model, world_rows};
use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::{Value, json};

pub(super) const CHECKPOINT: &str = "a digest";

pub(super) fn cpu() -> OpenDevice {
    block_on(open(DeviceChoice::Cpu)).unwrap()
}

/// A tiny run on `rows` pairs of the world, and those rows as tokens.
pub(super) fn trained(
    method: &str,
    options: Value,
    rows: usize,
    trainable: Trainable,
) -> (Scorer, Rows, Vec<EncodedRow>) {
    let device = cpu();
    let model = world_model(&device.device).unwrap();
    let data = world_rows(rows, 5, false);
    let held_out = world_rows(3, 6, false);
    let config = TrainConfig {
        method: method.into(),
        options,
        steps: 12,
        batch_size: 4,
        learning_rate: 5e-3,
        eval_steps: 0,
        trainable,
        ..TrainConfig::default()
    };
    let mut run = Run::new(config, model, data.clone(), held_out, device).unwrap();
    while run.finished().is_none() {
        block_on(run.advance()).unwrap();
    }
    let scorer = run.scorer().unwrap();
    let encoded = encode(&scorer, &data);
    (scorer, data, encoded)
}

fn encode(scorer: &Scorer, rows: &Rows) -> Vec<EncodedRow> {
    let options = EncodeOptions {
        max_length: 128,
        truncation: Truncation::KeepEnd,
        append_eos: true,
    };
    encode_rows(rows, &scorer.model.tokenizer, &options).unwrap()
}

fn fitted(
    scorer: &Scorer,
    data: &Rows,
    encoded: &[EncodedRow],
    prior: PriorVariance,
) -> LaplaceFit {
    fitted_over(scorer, data, encoded, Over::Head, prior)
}

pub(super) fn fitted_over(
    scorer: &Scorer,
    data: &Rows,
    encoded: &[EncodedRow],
    over: Over,
    prior: PriorVariance,
) -> LaplaceFit {
    let print = fingerprint(data);
    block_on(LaplaceFit::new(
        scorer,
        (data, encoded),
        (CHECKPOINT, &print),
        (over, prior),
    ))
    .unwrap()
}

pub(super) fn copy(scorer: &Scorer) -> Scorer {
    scorer.copied()
}

/// The gradient of the summed loss in the head's mean weights and bias, by autodiff, at theta plus a shift.
fn gradient(scorer: &Scorer, rows: &[EncodedRow], shift: &[f32]) -> Vec<f64> {
    let device = scorer.device.device.clone().autodiff();
    let h = shift.len() - 1;
    let added = Tensor::<2>::from_data(TensorData::new(shift[..h].to_vec(), [h, 1]), &device);
    let added = Tensor::cat(vec![added, Tensor::zeros([h, 1], &device)], 1);
    let lift = |t: Tensor<2>| Tensor::<2>::from_inner(t);
    let weight = (lift(scorer.head.weights.matrix(HEAD_WEIGHT)) + added)
        .detach()
        .require_grad();
    let bias = Tensor::<1>::from_inner(scorer.head.weights.vector(HEAD_BIAS));
    let bias = (bias + Tensor::from_floats([shift[h], 0.0], &device))
        .detach()
        .require_grad();
    let mut head: RewardHead = scorer.head.clone();
    head.weights = head.weights.map_each(|_, weight| match weight {
        Weight::Matrix(t) => Weight::Matrix(Tensor::from_inner(t)),
        Weight::Vector(t) => Weight::Vector(Tensor::from_inner(t)),
    });
    head.weights
        .insert(HEAD_WEIGHT, Weight::Matrix(weight.clone()));
    head.weights.insert(HEAD_BIAS, Weight::Vector(bias.clone()));
    let mut decoder = scorer.model.decoder.clone();
    decoder.weights = decoder.weights.trainable(&device, |_| false);
    let members: Vec<&EncodedRow> = rows.iter().collect();
    let layout = layout(&members, pad_of(&scorer.model.tokenizer));
    let reader = Reader {
        decoder: &decoder,
        head: &head,
        objective: scorer.objective.as_ref(),
        reference: None,
    };
    let normaliser = count(std::slice::from_ref(&layout));
    let steps = steps_of(reader, &layout, normaliser, &device);
    let more = extras(scorer.objective.as_ref(), &members, &layout, &device).unwrap();
    let loss = scorer
        .objective
        .evaluate(&steps.with_extras(more), Progress::END)
        .loss;
    let gradients = loss.mul_scalar(rows.len() as f64).backward();
    let of_weight = block_on(crate::train::read(
        weight.grad(&gradients).unwrap().narrow(1, 0, 1),
    ))
    .unwrap();
    let of_bias = block_on(crate::train::read(bias.grad(&gradients).unwrap())).unwrap();
    let mut all: Vec<f64> = of_weight.into_iter().map(f64::from).collect();
    all.push(f64::from(of_bias[0]));
    all
}

fn score_total(record: &crate::reward::TokenRewardRecord) -> Option<crate::reward::ScoreTotal> {
    record.score.total
}

#[test]
fn the_heads_curvature_is_the_hessian_of_the_loss_by_brute_force() {
    for (method, options) in [
        ("bradley_terry", json!({})),
        ("bradley_terry_sum", json!({"label_smoothing": 0.1})),
        (
            "bradley_terry",
            json!({"score": "mean", "rwt": "reward", "rwt_sqrt_d": true}),
        ),
        ("pref_transformer", json!({"pool": "sum"})),
        ("irl_margin", json!({"kind": "logistic"})),
    ] {
        let (scorer, _, encoded) = trained(method, options.clone(), 20, Trainable::Full);
        let rows = &encoded[..6];
        let gathered = block_on(HeadCurvature::gather(&scorer, rows)).unwrap();
        let d = gathered.theta.len();
        let scale = gathered
            .ggn
            .values()
            .iter()
            .fold(0.0f64, |a, v| a.max(v.abs()));
        assert!(scale > 0.0, "{method}");
        // A few columns of the Hessian, the bias's among them, by central differences of the gradient.
        let step = 0.004f32;
        for column in [0, 7, 31, d - 1] {
            let mut shift = vec![0.0f32; d];
            shift[column] = step;
            let above = gradient(&scorer, rows, &shift);
            shift[column] = -step;
            let below = gradient(&scorer, rows, &shift);
            for row in 0..d {
                let brute = (above[row] - below[row]) / (2.0 * f64::from(step));
                let got = gathered.ggn.row(row)[column];
                assert!(
                    (got - brute).abs() <= 5e-3 * scale,
                    "{method} {options} [{row}, {column}]: {got} {brute}, scale {scale}"
                );
            }
        }
    }
}

pub(super) fn token_stds(records: &[TokenRewardRecord]) -> Vec<f64> {
    records
        .iter()
        .flat_map(|record| &record.tokens)
        .map(|token| f64::from(token.ignorance_std.expect("asked for")))
        .collect()
}

#[test]
fn scores_of_the_posterior_are_j_sigma_j_and_batches_do_not_matter() {
    for (method, options) in [
        ("bradley_terry_sum", json!({})),
        ("bradley_terry", json!({})),
        ("ava_p", json!({})),
        ("preference_probit", json!({})),
    ] {
        let (mut scorer, data, encoded) = trained(method, options, 24, Trainable::Full);
        let fit = fitted(&scorer, &data, &encoded, PriorVariance::Given(0.5));
        scorer.set_laplace(&fit, CHECKPOINT).unwrap();
        scorer.set_batch_size(1);
        let alone = block_on(scorer.score(&encoded[..5])).unwrap().records;
        scorer.set_batch_size(5);
        let together = block_on(scorer.score(&encoded[..5])).unwrap().records;
        for (a, b) in token_stds(&alone).iter().zip(token_stds(&together)) {
            assert!(
                *a > 0.0 && (a - b).abs() < 1e-4 * (1.0 + a),
                "{method}: {a} {b}"
            );
        }
        for record in &alone {
            let score = record.score.ignorance.unwrap();
            let last = record.tokens.last().unwrap();
            assert_eq!(Some(score.last), last.ignorance_std, "{method}");
            // A sum's standard deviation is at most the sum of the tokens' (they may share everything).
            let most: f32 = record.tokens.iter().filter_map(|t| t.ignorance_std).sum();
            assert!(score.sum <= most * 1.001, "{method}");
            let expected = score.sum / record.tokens.len() as f32;
            assert!((score.mean - expected).abs() < 1e-4 * (1.0 + expected));
            assert!(score.margin.is_some());
            for token in &record.tokens {
                let ignorance = token.ignorance_std.unwrap();
                match token.total_std {
                    Some(total) => {
                        assert!(scorer.objective.informs_std());
                        assert!((total - ignorance.hypot(token.std)).abs() < 1e-5);
                    }
                    None => assert!(!scorer.objective.informs_std()),
                }
            }
            match score_total(record) {
                Some(total) => {
                    assert!(scorer.objective.informs_std(), "{method}");
                    assert!((total.sum - score.sum.hypot(record.score.sum_std)).abs() < 1e-4);
                    assert_eq!(Some(total.last), last.total_std);
                    let n = record.tokens.len() as f32;
                    let mean = score.mean.hypot(record.score.sum_std / n);
                    assert!((total.mean - mean).abs() < 1e-5);
                }
                None => assert!(!scorer.objective.informs_std(), "{method}"),
            }
        }
        // Of a margin: both answers' own spreads of the score that ranks, and what is unknown of the difference.
        for pair in alone.chunks(2) {
            let [Some(a), Some(b)] = [score_total(&pair[0]), score_total(&pair[1])] else {
                continue;
            };
            assert_eq!(scorer.ranking_score(), ScoreKind::Sum);
            let own = pair[0].score.sum_std.hypot(pair[1].score.sum_std);
            let ignorance = pair[0].score.ignorance.unwrap().margin.unwrap();
            assert_eq!(a.margin, b.margin);
            assert!((a.margin.unwrap() - own.hypot(ignorance)).abs() < 1e-4 * (1.0 + own));
        }
        // Identical answers leave nothing to be ignorant of in their comparison.
        let mut twins = encoded[0].clone();
        twins.sides[1] = twins.sides[0].clone();
        let records = block_on(scorer.score(&[twins])).unwrap().records;
        assert!(records[0].score.ignorance.unwrap().margin.unwrap() < 1e-5);
    }
}

#[test]
fn more_pairs_never_leave_more_ignorance_and_none_leave_the_prior() {
    let (mut scorer, data, encoded) = trained("bradley_terry_sum", json!({}), 40, Trainable::Full);
    let Rows::Preferences(rows) = &data else {
        panic!("pairs");
    };
    let mut before: Option<Vec<f64>> = None;
    for n in [2, 10, 40] {
        let part = Rows::Preferences(rows[..n].to_vec());
        let fit = fitted(&scorer, &part, &encoded[..n], PriorVariance::Given(1.0));
        scorer.set_laplace(&fit, CHECKPOINT).unwrap();
        let now = token_stds(&block_on(scorer.score(&encoded[..8])).unwrap().records);
        if let Some(before) = &before {
            assert!(
                now.iter()
                    .zip(before)
                    .all(|(now, before)| *now <= before * 1.0001)
            );
            assert!(now.iter().sum::<f64>() < 0.99 * before.iter().sum::<f64>());
        }
        before = Some(now);
    }
    // A vanishing prior leaves nothing to learn and nothing to be ignorant of.
    let fit = fitted(&scorer, &data, &encoded, PriorVariance::Given(1e-12));
    scorer.set_laplace(&fit, CHECKPOINT).unwrap();
    let stds = token_stds(&block_on(scorer.score(&encoded[..8])).unwrap().records);
    assert!(stds.iter().all(|s| *s < 1e-4));
}

#[test]
fn a_constant_added_to_every_token_is_no_ignorance_of_last_scores() {
    let (mut scorer, data, encoded) = trained("bradley_terry", json!({}), 24, Trainable::Full);
    let fit = fitted(&scorer, &data, &encoded, PriorVariance::Given(1.0));
    let d = fit.centre.len();
    // The bias's own feature is 1 for every token: centred, it is gone, whatever its prior.
    assert!((fit.centre[d - 1] - 1.0).abs() < 1e-6);
    let bias_row = fit.curvature.row(d - 1);
    assert!(bias_row.iter().all(|v| v.abs() < 1e-9));
    scorer.set_laplace(&fit, CHECKPOINT).unwrap();
    let small = token_stds(&block_on(scorer.score(&encoded[..4])).unwrap().records);
    assert!(small.iter().all(|s| s.is_finite()));
}

#[test]
fn the_file_comes_back_whole_and_belongs_to_one_checkpoint() {
    let (mut scorer, data, encoded) = trained("bradley_terry_sum", json!({}), 40, Trainable::Heads);
    let fit = fitted(&scorer, &data, &encoded, PriorVariance::Evidence);
    assert!(fit.summary().prior_variance > 1e-6 && fit.summary().log_evidence.is_finite());
    let bytes = fit.to_bytes().unwrap();
    let read = LaplaceFit::from_bytes(&bytes).unwrap();
    assert_eq!(read.summary(), fit.summary());
    assert_eq!(read.curvature, fit.curvature);
    assert_eq!(read.centre, fit.centre);

    let error = scorer
        .set_laplace(&read, "another")
        .unwrap_err()
        .to_string();
    assert!(error.contains("another checkpoint"), "{error}");
    for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
        assert!(LaplaceFit::from_bytes(&bytes[..cut]).is_err());
    }
    let mut damaged = bytes.clone();
    let last = damaged.len() - 3;
    damaged[last] ^= 1;
    let error = LaplaceFit::from_bytes(&damaged).unwrap_err().to_string();
    assert!(error.contains("SHA-256"), "{error}");

    let other = world_rows(40, 9, false);
    let print = fingerprint(&data);
    let error = block_on(LaplaceFit::new(
        &scorer,
        (&other, &encode(&scorer, &other)),
        (CHECKPOINT, &print),
        (Over::Head, PriorVariance::Evidence),
    ))
    .unwrap_err();
    assert!(error.to_string().contains("not the rows"), "{error}");
}

#[test]
fn methods_without_a_preference_likelihood_on_the_head_are_told() {
    for (method, options) in [
        ("fine_grained", json!({})),
        ("irl_margin", json!({"kind": "hinge"})),
        ("ava_p", json!({"cer_weight": 0.0})),
        ("ava_p", json!({"cer": "sigmoid"})),
    ] {
        let (scorer, _, encoded) = trained(method, options, 8, Trainable::Full);
        let error = block_on(HeadCurvature::gather(&scorer, &encoded)).unwrap_err();
        assert!(
            matches!(error, TrainError::Ignorance(_)),
            "{method}: {error}"
        );
    }
}

#[test]
fn dropout_on_the_head_has_its_closed_form() {
    let (scorer, _, encoded) = trained("bradley_terry_sum", json!({}), 24, Trainable::Full);
    let dropout = Dropout {
        rate: 0.2,
        samples: 600,
        seed: 3,
    };
    let rows = &encoded[..2];
    let scored = block_on(scorer.score_with_dropout(rows, &dropout)).unwrap();
    let plain = block_on(scorer.score(rows)).unwrap();
    let theta = block_on(head_parameters(&scorer)).unwrap();
    let members: Vec<&EncodedRow> = rows.iter().collect();
    let layout = layout(&members, pad_of(&scorer.model.tokenizer));
    let trunk = crate::train::forward::run_trunk(
        &scorer.model.decoder,
        scorer.objective.as_ref(),
        &layout,
        &scorer.device.device,
        false,
    );
    let (_, features) = steps_and_features(&scorer, &layout, &trunk);
    let [_, s, d] = features.tokens.dims();
    let values = block_on(crate::train::read(features.tokens)).unwrap();
    let mask = layout.step_mask();
    let mut ratios = Vec::new();
    for (k, (record, before)) in scored.records.iter().zip(&plain.records).enumerate() {
        // Records are row by row, the layout side by side.
        let sequence = (k % 2) * rows.len() + k / 2;
        let steps = (0..s).filter(|step| mask[sequence * s + step]);
        for (step, (token, before)) in steps.zip(record.tokens.iter().zip(&before.tokens)) {
            assert_eq!(token.mean, before.mean);
            let at = (sequence * s + step) * d;
            // Var[w . (m h)/(1-p)] = p/(1-p) sum (w h)^2; the bias is never dropped.
            let exact: f64 = (0..d - 1)
                .map(|i| (theta[i] * f64::from(values[at + i])).powi(2))
                .sum::<f64>()
                * (0.2 / 0.8);
            ratios.push(f64::from(token.ignorance_std.unwrap()).powi(2) / exact);
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    // 600 samples: a variance is known to about 6 %, and all tokens share the masks.
    assert!((mean - 1.0).abs() < 0.15, "{mean}");
    assert!(ratios.iter().all(|r| (0.6..1.5).contains(r)), "{ratios:?}");
    let again = block_on(scorer.score_with_dropout(rows, &dropout)).unwrap();
    assert_eq!(again.records, scored.records);
    for wrong in [
        Dropout {
            rate: 0.0,
            ..dropout
        },
        Dropout {
            rate: f64::NAN,
            ..dropout
        },
        Dropout {
            samples: 1,
            ..dropout
        },
    ] {
        assert!(block_on(scorer.score_with_dropout(rows, &wrong)).is_err());
    }
}

#[test]
fn a_credit_s_margin_has_the_spread_of_the_scores_that_it_is_made_of() {
    let run = crate::train::testing::trained("bradley_terry", json!({}), 3, 60);
    let dropout = Dropout {
        rate: 0.2,
        samples: 4,
        seed: 1,
    };
    let margins = |name: &str| -> Vec<f32> {
        let credit = crate::credit::by_name(name).expect("a credit");
        let scorer = run.scorer_with(credit).expect("a scorer");
        let scored = block_on(scorer.score_with_dropout(run.held_out(), &dropout)).unwrap();
        let scores = scored.records.iter().map(|record| record.score.ignorance);
        scores.filter_map(|score| score?.margin).collect()
    };
    // The last token's score, spread evenly and added up again.
    for (a, b) in margins("own").iter().zip(margins("uniform")) {
        assert!(*a > 0.0 && (a - b).abs() < 1e-4 * a, "{a} {b}");
    }
}

#[test]
fn masks_that_change_nothing_are_no_certainty() {
    let run = crate::train::testing::trained("dpo", json!({}), 2, 40);
    let dropout = Dropout {
        rate: 0.1,
        samples: 2,
        seed: 0,
    };
    let scorer = run.scorer().expect("a scorer");
    let Err(error) = block_on(scorer.score_with_dropout(run.held_out(), &dropout)) else {
        panic!("log-ratios do not read the reward head");
    };
    assert!(error.to_string().contains("no mask changes"), "{error}");
}

#[test]
fn an_ensemble_has_the_members_mean_and_spread_and_one_is_none() {
    let (scorer, _, encoded) = trained("ava_p", json!({}), 12, Trainable::Full);
    let first = block_on(scorer.score(&encoded[..2])).unwrap();
    let moved = |by: f32, std: f32| {
        let mut records = first.records.clone();
        for token in records.iter_mut().flat_map(|r| &mut r.tokens) {
            token.mean += by;
            token.std = std;
        }
        for record in &mut records {
            record.score = crate::reward::AnswerScore::from_tokens(&record.tokens);
        }
        Scored {
            records,
            terms: Default::default(),
            z: Vec::new(),
            log_policy: Vec::new(),
        }
    };
    let members = || {
        let mut all = vec![moved(-1.0, 0.3), moved(0.0, 0.4), moved(1.0, 0.5)];
        // The members' maps passed their truths, the average was not asked.
        for record in all.iter_mut().flat_map(|member| &mut member.records) {
            record.provenance.trust = crate::reward::Trust::Checked;
            record.provenance.checked = vec!["spans on x.jsonl".into()];
        }
        all
    };
    let kind = ScoreKind::Sum;
    let both = combine(members(), kind).unwrap();
    for (record, plain) in both.records.iter().zip(&first.records) {
        assert_eq!(record.provenance.trust, crate::reward::Trust::Exploratory);
        assert!(record.provenance.checked.is_empty());
        for (token, plain) in record.tokens.iter().zip(&plain.tokens) {
            assert!((token.mean - plain.mean).abs() < 1e-5);
            // Sample variance of -1, 0, 1.
            assert!((token.ignorance_std.unwrap() - 1.0).abs() < 1e-4);
            let std = (0.5f32 / 3.0).sqrt();
            assert!((token.std - std).abs() < 1e-6);
            assert!((token.total_std.unwrap() - std.hypot(1.0)).abs() < 1e-4);
        }
        let n = record.tokens.len() as f32;
        let score = record.score.ignorance.unwrap();
        assert!((score.sum - n).abs() < 1e-3 && (score.last - 1.0).abs() < 1e-4);
    }
    // The shift is common to both answers: only their lengths leave a trace in the comparison.
    let lengths = [both.records[0].tokens.len(), both.records[1].tokens.len()];
    let margin = both.records[0].score.ignorance.unwrap().margin.unwrap();
    assert!((margin - lengths[0].abs_diff(lengths[1]) as f32).abs() < 1e-3);

    let error = combine(vec![moved(0.0, 1.0)], kind)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("ensemble of one"), "{error}");
    let mut other = moved(0.0, 1.0);
    other.records.reverse();
    assert!(combine(vec![moved(0.0, 1.0), other], kind).is_err());
}
