use super::lora::{Gathering, gradients_of};
use super::tests::{CHECKPOINT, cpu, fitted_over, token_stds, trained};
use super::*;
use crate::eval::laplace::KfacLayer;
use crate::eval::matrix::{Cholesky, Matrix};
use crate::model::{Decoder, Weight};
use crate::random::Rng;
use crate::train::{LoraConfig, Trainable};
use burn::tensor::{Tensor, TensorData};
use pollster::block_on;
use serde_json::json;

fn adapters() -> Trainable {
    Trainable::Lora(LoraConfig {
        r: 3,
        alpha: 6.0,
        targets: vec!["q_proj".into(), "down_proj".into()],
    })
}

fn random(rows: usize, cols: usize, rng: &mut Rng) -> Matrix {
    Matrix::new(rows, cols, (0..rows * cols).map(|_| rng.normal()).collect()).unwrap()
}

/// s2 |G|^2 minus what a dense H = sum c vec(G) vec(G)^T takes away.
fn dense_variance(gradients: &[(Matrix, f64)], query: &Matrix, s2: f64) -> f64 {
    let n = query.values().len();
    let mut precision = Matrix::zeros(n, n);
    for i in 0..n {
        for j in 0..n {
            let sum = |(g, c): &(Matrix, f64)| c * g.values()[i] * g.values()[j];
            *precision.at(i, j) = gradients.iter().map(sum).sum();
        }
        *precision.at(i, i) += 1.0 / s2;
    }
    let half = Cholesky::new("dense", &precision)
        .unwrap()
        .half_solve(query.values())
        .unwrap();
    half.iter().map(|v| v * v).sum()
}

#[test]
fn the_factors_are_exact_where_the_curvature_is_a_kronecker_product() {
    let mut rng = Rng::new(4);
    // All x y^T of two sets with product weights: H = (sum x x^T) kron (sum y y^T).
    let (xs, ys) = (random(3, 5, &mut rng), random(2, 2, &mut rng));
    let mut gathering = Gathering::new(5, 2);
    let mut all = Vec::new();
    for i in 0..3 {
        for j in 0..2 {
            let values = xs
                .row(i)
                .iter()
                .flat_map(|x| ys.row(j).iter().map(move |y| x * y));
            let gradient = Matrix::new(5, 2, values.collect()).unwrap();
            gathering.add(&gradient, 0.7).unwrap();
            all.push((gradient, 0.7));
        }
    }
    let factors = gathering.finish(Matrix::zeros(5, 2)).unwrap();
    for s2 in [0.1, 2.0] {
        let layer = KfacLayer::new(factors.large.clone(), factors.small.clone(), s2).unwrap();
        for _ in 0..4 {
            let query = random(5, 2, &mut rng);
            let (got, exact) = (
                layer.variance(&query).unwrap(),
                dense_variance(&all, &query, s2),
            );
            assert!((got - exact).abs() < 1e-6 * exact, "{got} {exact}");
        }
    }
}

#[test]
fn a_long_side_keeps_its_leading_directions_and_never_claims_more_than_it_saw() {
    let mut rng = Rng::new(5);
    let (d, r) = (150, 2);
    let mut gathering = Gathering::new(d, r);
    // Three directions that matter, among a little noise; one gradient after another, so that compression happens often.
    let strong = random(3, d, &mut rng);
    let right = random(1, r, &mut rng);
    let mut trace = 0.0;
    for i in 0..60 {
        let noise = random(d, r, &mut rng);
        let values = (0..d * r)
            .map(|at| strong.row(i % 3)[at / r] * right.row(0)[at % r] + 0.01 * noise.values()[at]);
        let gradient = Matrix::new(d, r, values.collect()).unwrap();
        trace += gradient.values().iter().map(|v| v * v).sum::<f64>();
        gathering.add(&gradient, 1.0).unwrap();
    }
    let factors = gathering.finish(Matrix::zeros(d, r)).unwrap();
    assert_eq!(factors.large.cols(), 10);
    let kept: f64 = factors.large.values().iter().map(|v| v * v).sum();
    assert!(
        kept <= trace * 1.000001 && kept > 0.99 * trace,
        "{kept} of {trace}"
    );
    let layer = KfacLayer::new(factors.large, factors.small, 1.0).unwrap();
    let along = |vector: &[f64]| {
        let size: f64 = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale: f64 = right.values().iter().map(|v| v * v).sum::<f64>().sqrt();
        let values = vector
            .iter()
            .flat_map(|x| right.row(0).iter().map(move |y| x * y / size / scale));
        layer
            .variance(&Matrix::new(d, r, values.collect()).unwrap())
            .unwrap()
    };
    for i in 0..3 {
        assert!(along(strong.row(i)) < 0.01);
    }
    let mut elsewhere = random(1, d, &mut rng).values().to_vec();
    for i in 0..3 {
        // Not orthogonal to each other, so twice.
        for k in [i, (i + 1) % 3, (i + 2) % 3].repeat(20) {
            let row = strong.row(k);
            let share =
                crate::eval::matrix::dot(&elsewhere, row) / crate::eval::matrix::dot(row, row);
            elsewhere
                .iter_mut()
                .zip(row)
                .for_each(|(e, s)| *e -= share * s);
        }
    }
    assert!(along(&elsewhere) > 0.5);
}

#[test]
fn token_gradients_are_finite_differences_of_the_reward() {
    let (scorer, _, encoded) = trained("bradley_terry_sum", json!({}), 16, adapters());
    let device = cpu().device.autodiff();
    let side = encoded[0].sides[..1].to_vec();
    let step = side[0].encoded.resp.iter().position(|r| *r).unwrap();
    let mut tracked: Decoder = scorer.model.decoder.clone();
    let lora = tracked.lora.as_mut().unwrap();
    lora.weights = lora.weights.clone().trainable(&device, |_| true);
    let pick = |_: &crate::reward::Steps, mean: Tensor<2>| mean.narrow(1, step, 1);
    let gradients = block_on(gradients_of(&scorer, &tracked, &side, pick)).unwrap();
    // Four matrices in each of two layers.
    assert_eq!(gradients.len(), 8);
    let mut rng = Rng::new(8);
    for (name, gradient) in &gradients {
        let direction = random(gradient.rows(), gradient.cols(), &mut rng);
        let slope: f64 = crate::eval::matrix::dot(gradient.values(), direction.values());
        let reward = |by: f64| {
            let mut moved = super::tests::copy(&scorer);
            let weights = moved.model.decoder.lora.take().unwrap();
            let mut lora = weights;
            lora.weights = lora.weights.map_each(|at, weight| match weight {
                Weight::Matrix(w) if at == name => {
                    let [rows, cols] = w.dims();
                    let transposed = name.ends_with("lora_B.weight");
                    let values: Vec<f32> = (0..rows * cols)
                        .map(|i| {
                            let (a, b) = (i / cols, i % cols);
                            let value = if transposed {
                                direction.row(b)[a]
                            } else {
                                direction.row(a)[b]
                            };
                            (by * value) as f32
                        })
                        .collect();
                    let shift = TensorData::new(values, [rows, cols]);
                    Weight::Matrix(w.clone() + Tensor::from_data(shift, &w.device()))
                }
                weight => weight,
            });
            moved.model.decoder.lora = Some(lora);
            let records = block_on(moved.score(&encoded[..1])).unwrap().records;
            f64::from(records[0].tokens[1].mean)
        };
        let h = 4e-3;
        let brute = (reward(h) - reward(-h)) / (2.0 * h);
        let size = 0.02 * brute.abs().max(slope.abs()) + 5e-4;
        assert!((slope - brute).abs() < size, "{name}: {slope} {brute}");
    }
}

#[test]
fn adapters_add_ignorance_to_the_heads_and_come_back_from_the_file() {
    for method in ["bradley_terry_sum", "bradley_terry"] {
        let (mut scorer, data, encoded) = trained(method, json!({}), 20, adapters());
        let prior = PriorVariance::Given(0.3);
        let head = fitted_over(&scorer, &data, &encoded, Over::Head, prior);
        let lora = fitted_over(&scorer, &data, &encoded, Over::Lora, prior);
        let read = LaplaceFit::from_bytes(&lora.to_bytes().unwrap()).unwrap();
        assert_eq!(read.adapters, lora.adapters);
        assert_eq!(read.adapters.len(), 8);

        scorer.set_laplace(&head, CHECKPOINT).unwrap();
        let small = block_on(scorer.score(&encoded[..3])).unwrap().records;
        scorer.set_laplace(&read, CHECKPOINT).unwrap();
        let large = block_on(scorer.score(&encoded[..3])).unwrap().records;
        for (a, b) in token_stds(&small).iter().zip(token_stds(&large)) {
            assert!(b >= *a && b.is_finite());
        }
        let sum = |all: &[f64]| all.iter().sum::<f64>();
        // After a dozen steps the head is still near 0, and the adapters matter little to it.
        assert!(sum(&token_stds(&large)) > 1.00001 * sum(&token_stds(&small)));
        scorer.set_batch_size(1);
        let alone = block_on(scorer.score(&encoded[..3])).unwrap().records;
        for (a, b) in large.iter().zip(&alone) {
            let (a, b) = (a.score.ignorance.unwrap(), b.score.ignorance.unwrap());
            assert!((a.sum - b.sum).abs() < 1e-3 * (1.0 + a.sum), "{method}");
            let (a, b) = (a.margin.unwrap(), b.margin.unwrap());
            assert!((a - b).abs() < 1e-3 * (1.0 + a), "{method}");
        }
        let mut twins = encoded[0].clone();
        twins.sides[1] = twins.sides[0].clone();
        let records = block_on(scorer.score(&[twins])).unwrap().records;
        assert!(records[0].score.ignorance.unwrap().margin.unwrap() < 1e-3);
    }
    let (scorer, data, encoded) = trained("bradley_terry_sum", json!({}), 8, Trainable::Heads);
    let error = block_on(LaplaceFit::new(
        &scorer,
        (&data, &encoded),
        (CHECKPOINT, &crate::data::fingerprint(&data)),
        (Over::Lora, PriorVariance::Given(1.0)),
    ))
    .unwrap_err();
    assert!(error.to_string().contains("no adapter"), "{error}");
}
