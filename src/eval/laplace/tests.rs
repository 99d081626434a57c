use super::*;
use crate::eval::best_of_n::{Penalty, best};
use crate::eval::gaussian::expected_sigmoid;
use crate::eval::testing::{all_close, close, floats, golden, rows};
use serde_json::Value;

fn differences(file: &Value) -> Matrix {
    let (pos, neg) = (
        rows(&file["inputs"]["features_pos"]),
        rows(&file["inputs"]["features_neg"]),
    );
    let minus = |(p, n): (&Vec<f64>, &Vec<f64>)| p.iter().zip(n).map(|(p, n)| p - n).collect();
    Matrix::from_rows(&pos.iter().zip(&neg).map(minus).collect::<Vec<Vec<f64>>>()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn the_linear_posterior_matches_the_golden_values() {
    let Some(file) = golden("laplace") else {
        return;
    };
    let (inputs, expected) = (&file["inputs"], &file["expected"]);
    let f = differences(&file);
    let got = Laplace::fit(&f, number(&inputs["prior_variance"])).unwrap();
    all_close(&file, "theta", got.theta(), &floats(&expected["theta_map"]));
    all_close(
        &file,
        "ggn",
        got.ggn().values(),
        &rows(&expected["ggn"]).concat(),
    );
    all_close(
        &file,
        "covariance",
        got.covariance().unwrap().values(),
        &rows(&expected["covariance"]).concat(),
    );
    close(
        &file,
        "log_likelihood",
        got.log_likelihood(),
        number(&expected["log_likelihood"]),
    );
    close(
        &file,
        "log_evidence",
        got.log_evidence(),
        number(&expected["log_evidence"]),
    );

    let queries = rows(&inputs["query_features"]);
    let predicted: Vec<Predictive> = queries.iter().map(|q| got.predict(q).unwrap()).collect();
    let means: Vec<f64> = predicted.iter().map(|p| p.mean).collect();
    let variances: Vec<f64> = predicted.iter().map(|p| p.variance).collect();
    all_close(
        &file,
        "query_mean",
        &means,
        &floats(&expected["query_mean"]),
    );
    all_close(
        &file,
        "query_variance",
        &variances,
        &floats(&expected["query_variance"]),
    );

    let (k, stds) = (
        number(&inputs["k"]),
        variances.iter().map(|v| v.sqrt()).collect::<Vec<_>>(),
    );
    let by_std = Penalty::Std(k).apply(&means, &stds).unwrap();
    let by_variance = Penalty::Variance(k).apply(&means, &stds).unwrap();
    all_close(
        &file,
        "std_penalised",
        &by_std,
        &floats(&expected["std_penalised"]),
    );
    all_close(
        &file,
        "variance_penalised",
        &by_variance,
        &floats(&expected["variance_penalised"]),
    );
    for (name, scores) in [
        ("mean", &means),
        ("std_penalised", &by_std),
        ("variance_penalised", &by_variance),
    ] {
        assert_eq!(
            best(scores).unwrap() as u64,
            expected["best"][name].as_u64().unwrap(),
            "{name}"
        );
    }
    let tiny = |p: Penalty| p.apply(&[1.2], &[0.7]).unwrap()[0];
    close(
        &file,
        "one line std",
        tiny(Penalty::Std(0.5)),
        number(&expected["one_line"]["std"]),
    );
    close(
        &file,
        "one line var",
        tiny(Penalty::Variance(0.5)),
        number(&expected["one_line"]["var"]),
    );
}

#[test]
fn a_pair_s_probability_matches_the_golden_values() {
    let Some(file) = golden("laplace") else {
        return;
    };
    let expected = &file["expected"]["pair_0_minus_1"];
    let got = Laplace::fit(
        &differences(&file),
        number(&file["inputs"]["prior_variance"]),
    )
    .unwrap();
    let queries = rows(&file["inputs"]["query_features"]);
    let pair = got.compare(&queries[0], &queries[1]).unwrap();
    close(&file, "mean", pair.mean, number(&expected["mean"]));
    close(
        &file,
        "variance",
        pair.variance,
        number(&expected["variance"]),
    );
    close(
        &file,
        "mackay",
        pair.probability(),
        number(&expected["mackay"]),
    );
    close(
        &file,
        "map_probability",
        sigmoid(pair.mean),
        number(&expected["map_probability"]),
    );
    let apart: f64 = queries[..2]
        .iter()
        .map(|q| got.predict(q).unwrap().variance)
        .sum();
    close(
        &file,
        "variance_if_independent",
        apart,
        number(&expected["variance_if_independent"]),
    );
    let exact = expected_sigmoid(pair.mean, pair.variance);
    close(
        &file,
        "exact_expectation_of_sigmoid",
        exact,
        number(&expected["exact_expectation_of_sigmoid"]),
    );
}

#[test]
fn kfac_matches_the_golden_values() {
    let Some(file) = golden("laplace") else {
        return;
    };
    let s2 = number(&file["inputs"]["prior_variance"]);
    let matrix = |v: &Value| Matrix::from_rows(&rows(v)).unwrap();
    let (mut total, mut log_det) = (vec![0.0; 4], 0.0);
    for layer in file["inputs"]["kfac_layers"].as_array().unwrap() {
        let posterior = KfacLayer::new(matrix(&layer["B"]), matrix(&layer["L"]), s2).unwrap();
        let gradients: Vec<Matrix> = layer["G"].as_array().unwrap().iter().map(matrix).collect();
        let covariance = posterior.covariance(&gradients).unwrap();
        total
            .iter_mut()
            .zip(covariance.values())
            .for_each(|(t, c)| *t += c);
        log_det += posterior.log_det();
    }
    let expected = &file["expected"]["kfac"];
    all_close(
        &file,
        "kfac variance",
        &total,
        &rows(&expected["variance"]).concat(),
    );
    close(
        &file,
        "kfac logdet",
        log_det,
        number(&expected["logdet_I_plus_s2_H"]),
    );
}

#[test]
fn woodbury_equals_the_dense_form() {
    let Some(file) = golden("laplace") else {
        return;
    };
    let (f, s2) = (
        differences(&file),
        number(&file["inputs"]["prior_variance"]),
    );
    let dense = Laplace::fit(&f, s2).unwrap();
    let m = margins(&f, dense.theta());
    let thin = Woodbury::new(&f, &m, s2).unwrap();
    for q in rows(&file["inputs"]["query_features"]) {
        close(
            &file,
            "variance",
            thin.variance(&q).unwrap(),
            dense.predict(&q).unwrap().variance,
        );
    }
    let evidence = log_evidence(
        dense.log_likelihood(),
        dot(dense.theta(), dense.theta()),
        thin.log_det(),
        s2,
    );
    close(&file, "evidence", evidence, dense.log_evidence());
}

#[test]
fn a_sharp_prior_leaves_no_variance_and_no_information_leaves_the_prior() {
    let f = Matrix::from_rows(&[vec![1.0, 0.5], vec![-0.3, 1.0]]).unwrap();
    let sharp = Laplace::fit(&f, 1e-12).unwrap();
    assert!(sharp.predict(&[1.0, 1.0]).unwrap().variance < 1e-11);
    let none = Matrix::from_rows(&[vec![0.0, 0.0]]).unwrap();
    let prior = Laplace::fit(&none, 0.7)
        .unwrap()
        .predict(&[1.0, 2.0])
        .unwrap();
    assert!((prior.variance - 0.7 * 5.0).abs() < 1e-12 && prior.mean == 0.0);
}

#[test]
fn separable_pairs_and_a_wide_prior_still_converge() {
    let f = Matrix::from_rows(&[vec![30.0, 1.0], vec![20.0, -1.0]]).unwrap();
    assert!(Laplace::fit(&f, 1e6).unwrap().theta()[0] > 0.0);
}

#[test]
fn bad_inputs_are_errors() {
    let f = Matrix::from_rows(&[vec![1.0, 0.5]]).unwrap();
    assert!(matches!(
        Laplace::fit(&f, 0.0),
        Err(EvalError::Range {
            what: "prior variance",
            ..
        })
    ));
    assert!(Laplace::fit(&f, f64::NAN).is_err());
    assert!(Laplace::at(&f, vec![1.0], 1.0).is_err());
    assert!(Laplace::linearised(&f, &[1.0, 2.0], vec![0.0, 0.0], 1.0).is_err());
    assert!(Laplace::linearised(&f, &[1.0], vec![0.0], 1.0).is_err());
    let fitted = Laplace::fit(&f, 1.0).unwrap();
    assert!(fitted.predict(&[1.0]).is_err() && fitted.compare(&[1.0, 2.0], &[1.0]).is_err());
    assert!(
        Woodbury::new(&f, &[1.0], 1.0)
            .unwrap()
            .variance(&[1.0])
            .is_err()
    );
    let layer = KfacLayer::new(f.clone(), Matrix::from_rows(&[vec![1.0]]).unwrap(), 1.0).unwrap();
    assert!(layer.covariance(&[]).is_err() && layer.covariance(std::slice::from_ref(&f)).is_err());
    assert!(KfacLayer::new(f.clone(), f, 1.0).is_err());
}

#[test]
fn with_a_gaussian_likelihood_it_is_exact_bayesian_linear_regression() {
    // y = theta . x + noise of variance v: Sigma = (X^T X / v + I / s2)^-1, which for two weights has a closed form.
    let x = [[1.0, 0.5], [-0.3, 2.0], [0.8, -1.1], [1.7, 0.2]];
    let (v, s2) = (0.4, 1.5);
    let sum = |i: usize, j: usize| x.iter().map(|r| r[i] * r[j]).sum::<f64>() / v;
    let ggn = Matrix::from_rows(&[vec![sum(0, 0), sum(0, 1)], vec![sum(1, 0), sum(1, 1)]]).unwrap();
    let got = Laplace::of_curvature(ggn, vec![0.0; 2], 0.0, s2).unwrap();
    let (a, b, c) = (sum(0, 0) + 1.0 / s2, sum(0, 1), sum(1, 1) + 1.0 / s2);
    let determinant = a * c - b * b;
    let expected = [
        c / determinant,
        -b / determinant,
        -b / determinant,
        a / determinant,
    ];
    let covariance = got.covariance().unwrap();
    for (got, expected) in covariance.values().iter().zip(expected) {
        assert!((got - expected).abs() < 1e-14);
    }
    let query = [0.7, -0.4];
    let exact = expected[0] * 0.49 - 2.0 * 0.28 * expected[1] + expected[3] * 0.16;
    assert!((got.predict(&query).unwrap().variance - exact).abs() < 1e-14);
    let w = got.whitener().unwrap();
    let white: f64 = (0..2)
        .map(|i| crate::eval::matrix::dot(w.row(i), &query).powi(2))
        .sum();
    assert!((white - exact).abs() < 1e-14);
}
