use super::*;
use crate::train::gridworld::{Study, growth};
use crate::world::birl::{BirlConfig, sample_posterior};
use crate::world::{Episode, Gridworld, Rng, boltzmann, sarsa_rows};

fn demonstrations(map: &str, n: usize, limit: usize) -> (Gridworld, Vec<f64>, Vec<Episode>) {
    let world = Gridworld::from_map(map).unwrap();
    let rewards = world.state_rewards(-0.1, 1.0, -1.0);
    let plan = world
        .value_iteration(|_, _, next| rewards[next], 0.9)
        .unwrap();
    let policy = boltzmann(&plan.q, 3.0);
    let episodes = world
        .demonstrations(&policy, n, limit, &mut Rng::new(4))
        .unwrap();
    (world, rewards, episodes)
}

fn config(lambda: f64, steps: usize) -> AvrilTableConfig {
    AvrilTableConfig {
        avril: AvrilOptions {
            beta: 3.0,
            gamma: 0.9,
            lambda,
            ..AvrilOptions::default()
        },
        steps,
        ..AvrilTableConfig::default()
    }
}

fn train(world: &Gridworld, rows: &[SarsaRow], config: &AvrilTableConfig) -> AvrilTable {
    let device = Device::flex();
    pollster::block_on(train_avril_table(world.states(), rows, config, &device)).unwrap()
}

#[test]
fn trained_tables_satisfy_the_conditions_of_a_minimum() {
    let (world, _, episodes) = demonstrations("...G\n.#.C\nS...", 30, 40);
    let rows = sarsa_rows(&episodes);
    let config = config(0.5, 3000);
    let table = train(&world, &rows, &config);
    assert!(table.losses[2] < table.losses[0]);
    assert!(table.losses[2] <= table.losses[1] + 1e-3);
    // With residuals d of the rows that enter a state, dL/dmu = kappa n mu - lambda sum (d - mu)/s^2 and
    // dL/drho = (kappa s^2 - kappa + lambda) n - lambda sum (d - mu)^2/s^2 are 0.
    let options = &config.avril;
    for s in 0..world.states() {
        let residuals: Vec<f64> = rows
            .iter()
            .filter(|r| r.next_state == s && (r.done || r.next_action.is_some()))
            .map(|r| {
                let next = r.next_action.map_or(0.0, |a| table.q[s][a]);
                table.q[r.state][r.action] - options.gamma * next
            })
            .collect();
        assert_eq!(residuals.len(), table.entered[s]);
        let (n, mean, std) = (residuals.len() as f64, table.means[s], table.stds[s]);
        if residuals.is_empty() {
            assert_eq!((mean, std), (0.0, 1.0), "state {s} keeps the prior");
            continue;
        }
        let sum: f64 = residuals.iter().map(|d| d - mean).sum();
        let squares: f64 = residuals.iter().map(|d| (d - mean).powi(2)).sum();
        let variance = std * std;
        let by_mean = mean - options.lambda * sum / (n * variance);
        let by_std = variance - 1.0 + options.lambda - options.lambda * squares / (n * variance);
        assert!(
            by_mean.abs() < 0.02 && by_std.abs() < 0.02,
            "state {s}: {by_mean} {by_std}"
        );
    }
}

#[test]
fn with_equal_weights_and_one_certain_residual_sigma_falls_without_end() {
    let (world, _, _) = demonstrations("SG", 1, 1);
    let row = SarsaRow {
        state: 0,
        action: 1,
        next_state: 1,
        next_action: None,
        done: true,
    };
    let table = train(&world, &[row; 3], &config(1.0, 3000));
    assert_eq!((table.rows, table.left_out), (3, 0));
    assert!(table.stds[1] < 0.1, "{table:?}");
    // It has no least value of its own: it falls as long as training goes on, down to what is allowed.
    let short = train(&world, &[row; 3], &config(1.0, 200));
    assert!(short.stds[1] > table.stds[1], "{short:?}");
    let floor = AvrilTableConfig {
        rho_min: -1.0,
        ..config(1.0, 3000)
    };
    let stopped = train(&world, &[row; 3], &floor);
    assert_eq!((stopped.at_floor, table.entered[0]), (1, 0));
    assert!((stopped.stds[1] - (-1.0f64).exp()).abs() < 1e-6);
    // A smaller weight of the TD term leaves sigma^2 = 1 - lambda / kappa where the residual is met.
    let wide = train(&world, &[row; 3], &config(0.25, 3000));
    assert!((wide.stds[1].powi(2) - 0.75).abs() < 0.1, "{wide:?}");
    assert_eq!(wide.at_floor, 0);
}

#[test]
fn both_posteriors_stand_side_by_side_and_only_the_sampled_one_must_narrow() {
    let (world, rewards, episodes) = demonstrations("..G\nS.C", 60, 30);
    let birl = BirlConfig {
        beta: 3.0,
        chains: 2,
        warmup: 200,
        draws: 800,
        ..BirlConfig::default()
    };
    let studies: Vec<Study> = [3, 60]
        .iter()
        .map(|&n| {
            let rows = sarsa_rows(&episodes[..n]);
            let table = train(&world, &rows, &config(1.0, 400));
            let posterior = sample_posterior(&world, &rows, &birl).unwrap();
            Study::new(&world, &rewards, &episodes[..n], &table, &birl, &posterior).unwrap()
        })
        .collect();
    let [few, many] = &studies[..] else {
        panic!("two studies")
    };
    assert_eq!((few.demonstrations, many.demonstrations), (3, 60));
    assert_eq!(few.states.len(), 6);
    assert_eq!(many.all_states.count, 6);
    assert!(few.entered_states.count <= many.entered_states.count);
    assert_eq!(
        many.reached_a_goal + many.fell + many.cut_off,
        many.demonstrations
    );
    let growth = growth(&studies).unwrap();
    assert_eq!(growth.demonstrations, [3, 60]);
    assert!(growth.mcmc_ratio < 0.95, "{growth:?}");
    assert!(growth.avril_ratio.is_finite() && growth.avril_smaller <= growth.states);
    assert!(super::super::growth(&studies[..1]).is_none());
    let none = Study::new(
        &world,
        &rewards[1..],
        &episodes,
        &train(&world, &sarsa_rows(&episodes), &config(1.0, 1)),
        &birl,
        &sample_posterior(&world, &[], &birl).unwrap(),
    );
    assert!(none.is_err());
}

#[test]
fn rows_and_settings_that_cannot_be_used_are_refused() {
    let device = Device::flex();
    let row = SarsaRow {
        state: 0,
        action: 1,
        next_state: 0,
        next_action: None,
        done: false,
    };
    let said = |states, rows: &[SarsaRow], config: &AvrilTableConfig| {
        pollster::block_on(train_avril_table(states, rows, config, &device))
            .unwrap_err()
            .to_string()
    };
    let good = config(1.0, 1);
    assert!(said(2, &[], &good).contains("draw more"));
    assert!(said(2, &[row], &good).contains("draw more"));
    let far = SarsaRow {
        next_state: 2,
        done: true,
        ..row
    };
    assert!(said(2, &[far], &good).contains("row 0"));
    let mut bad = good.clone();
    bad.avril.prior_sd = 0.0;
    assert!(said(2, &[row], &bad).contains("prior_sd"));
    bad = AvrilTableConfig {
        learning_rate: f64::NAN,
        ..good.clone()
    };
    assert!(said(2, &[row], &bad).contains("learning_rate"));
    bad = AvrilTableConfig { steps: 0, ..good };
    assert!(said(2, &[row], &bad).contains("steps"));
}
