use super::*;
use crate::world::gridworld::{boltzmann, sarsa_rows};

fn row(state: usize, action: usize) -> SarsaRow {
    SarsaRow {
        state,
        action,
        next_state: state,
        next_action: None,
        done: false,
    }
}

#[test]
fn the_sampler_recovers_a_posterior_that_can_be_integrated() {
    // Two floor cells in a row; the demonstrator mostly goes to, or stays in, the right one.
    let world = Gridworld::from_map("S.").unwrap();
    let rows: Vec<SarsaRow> = [
        (0, 1, 6),
        (0, 0, 1),
        (0, 3, 1),
        (1, 1, 3),
        (1, 2, 2),
        (1, 3, 1),
    ]
    .iter()
    .flat_map(|&(s, a, n)| vec![row(s, a); n])
    .collect();
    let config = BirlConfig {
        beta: 2.0,
        gamma: 0.5,
        chains: 4,
        warmup: 500,
        draws: 6000,
        seed: 3,
        ..BirlConfig::default()
    };

    // Naive integration over both rewards on a grid of 0.1.
    let axis: Vec<f64> = (-55..=55).map(|i| f64::from(i) / 10.0).collect();
    let (mut mass, mut first, mut second, mut cross) = (0.0, [0.0; 2], [0.0; 2], 0.0);
    for &a in &axis {
        for &b in &axis {
            let p = log_posterior(&world, &rows, &[a, b], &config)
                .unwrap()
                .exp();
            mass += p;
            cross += p * a * b;
            for (i, r) in [a, b].into_iter().enumerate() {
                first[i] += p * r;
                second[i] += p * r * r;
            }
        }
    }
    let posterior = sample_posterior(&world, &rows, &config).unwrap();
    for (i, marginal) in posterior.marginals.iter().enumerate() {
        let mean = first[i] / mass;
        let std = (second[i] / mass - mean * mean).sqrt();
        println!("state {i}: integrated {mean:.4} +- {std:.4}; {marginal:?}");
        assert!(
            marginal.r_hat < 1.01 && marginal.effective_draws > 1000.0,
            "{marginal:?}"
        );
        assert!(
            (marginal.mean - mean).abs() < 4.0 * marginal.standard_error,
            "{marginal:?} {mean}"
        );
        assert!(
            (marginal.std / std - 1.0).abs() < 0.06,
            "{marginal:?} {std}"
        );
        assert!(
            mean.abs() > 10.0 * marginal.standard_error,
            "the case must be able to fail"
        );
    }
    let all: Vec<&Vec<f64>> = posterior.draws.iter().flatten().collect();
    let sampled = all.iter().map(|d| d[0] * d[1]).sum::<f64>() / all.len() as f64;
    assert!(
        (sampled - cross / mass).abs() < 0.05,
        "{sampled} {}",
        cross / mass
    );
    assert!(
        (0.3..0.6).contains(&posterior.acceptance),
        "{}",
        posterior.acceptance
    );
}

#[test]
fn without_demonstrations_the_posterior_is_the_prior() {
    let world = Gridworld::from_map("S#G").unwrap();
    let config = BirlConfig {
        prior_std: 1.5,
        draws: 4000,
        ..BirlConfig::default()
    };
    let posterior = sample_posterior(&world, &[], &config).unwrap();
    let states: Vec<usize> = posterior.marginals.iter().map(|m| m.state).collect();
    assert_eq!(states, [0, 2]);
    for m in &posterior.marginals {
        assert!(
            m.mean.abs() < 4.0 * m.standard_error && (m.std - 1.5).abs() < 0.1,
            "{m:?}"
        );
    }
}

#[test]
fn the_goal_is_found_to_be_worth_more_than_the_cliff() {
    let world = Gridworld::from_map("...\nS.C\n..G").unwrap();
    let rewards = world.state_rewards(-0.1, 1.5, -1.5);
    let plan = world
        .value_iteration(|_, _, next| rewards[next], 0.9)
        .unwrap();
    let policy = boltzmann(&plan.q, 3.0);
    let rows = sarsa_rows(
        &world
            .demonstrations(&policy, 40, 30, &mut Rng::new(2))
            .unwrap(),
    );
    let config = BirlConfig {
        beta: 3.0,
        ..BirlConfig::default()
    };
    let posterior = sample_posterior(&world, &rows, &config).unwrap();
    println!(
        "R-hat {:.3}, draws {:.0}",
        posterior.worst_r_hat(),
        posterior.fewest_effective_draws()
    );
    assert!(posterior.worst_r_hat() < 1.01 && posterior.fewest_effective_draws() > 400.0);
    let mean = |state| {
        posterior
            .marginals
            .iter()
            .find(|m| m.state == state)
            .unwrap()
            .mean
    };
    assert!(
        mean(8) > mean(5) + 1.0,
        "goal {} cliff {}",
        mean(8),
        mean(5)
    );
    // A cell that the demonstrations say little about keeps most of the prior's width.
    assert!(posterior.marginals.iter().all(|m| m.std < 1.3));
}

#[test]
fn the_same_seed_gives_the_same_draws() {
    let world = Gridworld::from_map("S.G").unwrap();
    let config = BirlConfig {
        chains: 2,
        warmup: 20,
        draws: 20,
        ..BirlConfig::default()
    };
    let rows = [row(0, 1), row(1, 1)];
    let first = sample_posterior(&world, &rows, &config).unwrap();
    assert_eq!(first, sample_posterior(&world, &rows, &config).unwrap());
    assert_ne!(
        first,
        sample_posterior(&world, &rows, &BirlConfig { seed: 1, ..config }).unwrap()
    );
}

#[test]
fn settings_and_rows_outside_their_range_are_refused() {
    let world = Gridworld::from_map("S#G").unwrap();
    let good = BirlConfig::default();
    for config in [
        BirlConfig {
            gamma: 1.0,
            ..good.clone()
        },
        BirlConfig {
            beta: f64::NAN,
            ..good.clone()
        },
        BirlConfig {
            prior_std: 0.0,
            ..good.clone()
        },
        BirlConfig {
            chains: 1,
            ..good.clone()
        },
        BirlConfig {
            draws: usize::MAX,
            ..good.clone()
        },
        BirlConfig {
            warmup: usize::MAX,
            ..good.clone()
        },
    ] {
        assert!(
            sample_posterior(&world, &[], &config).is_err(),
            "{config:?}"
        );
    }
    for bad in [row(0, 4), row(1, 0), row(2, 0), row(99, 0)] {
        assert!(matches!(
            sample_posterior(&world, &[bad], &good),
            Err(BirlError::Row { .. })
        ));
    }
    assert!(log_posterior(&world, &[], &[0.0], &good).is_err());
}

#[test]
fn convergence_measures_tell_good_chains_from_bad_ones() {
    let noise = |stream, shift: f64, keep: f64| -> Vec<f64> {
        let mut rng = Rng::stream(8, stream);
        let mut x = 0.0;
        let next = |_| {
            x = keep * x + (1.0 - keep * keep).sqrt() * rng.normal();
            x + shift
        };
        (0..2000).map(next).collect()
    };
    let independent: Vec<Vec<f64>> = (0..4).map(|c| noise(c, 0.0, 0.0)).collect();
    let (r_hat, draws) = convergence(&independent);
    assert!(
        r_hat < 1.005 && (draws / 8000.0 - 1.0).abs() < 0.15,
        "{r_hat} {draws}"
    );
    // An autoregressive chain with coefficient c has n (1 - c) / (1 + c) effective draws.
    let slow: Vec<Vec<f64>> = (0..4).map(|c| noise(c, 0.0, 0.8)).collect();
    let (r_hat, draws) = convergence(&slow);
    assert!(
        r_hat < 1.03 && (draws / (8000.0 / 9.0) - 1.0).abs() < 0.3,
        "{r_hat} {draws}"
    );
    let apart: Vec<Vec<f64>> = (0..4).map(|c| noise(c, c as f64, 0.0)).collect();
    let (r_hat, draws) = convergence(&apart);
    assert!(r_hat > 1.3 && draws < 20.0, "{r_hat} {draws}");
    let drifting: Vec<Vec<f64>> = independent
        .iter()
        .map(|c| {
            c.iter()
                .enumerate()
                .map(|(i, x)| x + i as f64 / 500.0)
                .collect()
        })
        .collect();
    assert!(convergence(&drifting).0 > 1.3);
    assert_eq!(convergence(&[vec![2.0; 10], vec![2.0; 10]]), (1.0, 20.0));
    assert_eq!(convergence(&[vec![1.0; 10], vec![1.0; 4]]).1, 0.0);
    assert_eq!(convergence(&[]).1, 0.0);
}
