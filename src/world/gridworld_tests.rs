use super::*;

const CLIFF: &str = "......\n......\nSCCCCG";

#[test]
fn maps_that_make_no_world_are_refused_in_words() {
    for (map, word) in [
        ("", "0 cells"),
        ("S.\n...", "line 2 of the map has 3"),
        ("..", "0 starts"),
        ("SS", "2 starts"),
        ("S?", "'?'"),
    ] {
        let error = Gridworld::from_map(map).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(matches!(
        Gridworld::from_map(&".".repeat(30_000)),
        Err(GridError::Size(_))
    ));
    let world = Gridworld::from_map("S.").unwrap();
    assert!(world.clone().with_slip(1.5).is_err());
    assert!(world.value_iteration(|_, _, _| 0.0, 1.5).is_err());
    assert!(world.soft_value_iteration(|_, _, _| 0.0, 0.9, 0.0).is_err());
    assert!(world.demonstrations(&[], 1, 1, &mut Rng::new(1)).is_err());
}

#[test]
fn a_loop_that_pays_forever_is_an_error_and_no_endless_run() {
    let world = Gridworld::from_map("S.").unwrap();
    assert!(matches!(
        world.value_iteration(|_, _, _| 1.0, 1.0),
        Err(GridError::NotSettled { .. })
    ));
    assert!(matches!(
        world.value_iteration(|_, _, _| f64::NAN, 0.9),
        Err(GridError::NotSettled { .. })
    ));
}

#[test]
fn walls_and_borders_stop_a_move_and_ends_are_left_never() {
    let world = Gridworld::from_map("S#G\n...").unwrap();
    let to = |s, a| world.step_to(s, a);
    assert_eq!([to(0, 0), to(0, 1), to(0, 2), to(0, 3)], [0, 0, 3, 0]);
    assert_eq!([to(4, 0), to(5, 0), to(5, 1), to(5, 2)], [4, 2, 5, 5]);
    assert_eq!(to(2, 2), 2);
    assert!(world.is_terminal(2) && !world.is_terminal(1));
    assert_eq!(world.cell(99), Cell::Wall);
}

#[test]
fn the_optimal_path_walks_along_the_cliff_and_on_ice_keeps_away_from_it() {
    let world = Gridworld::from_map(CLIFF).unwrap();
    let rewards = world.state_rewards(-1.0, 0.0, -100.0);
    let plan = world
        .value_iteration(|_, _, next| rewards[next], 1.0)
        .unwrap();
    // Up, five to the right, down onto the goal (entering which is free): six steps of -1.
    assert!((plan.values[world.start()] + 6.0).abs() < 1e-9);
    assert_eq!(plan.best_actions(1e-9)[6 + 2], [false, true, false, false]);
    let icy = world.with_slip(0.4).unwrap();
    let plan = icy
        .value_iteration(|_, _, next| rewards[next], 1.0)
        .unwrap();
    assert!(plan.best_actions(1e-9)[6 + 2][0], "{:?}", plan.q[8]);
}

#[test]
fn values_satisfy_the_bellman_equation_on_random_worlds() {
    let mut rng = Rng::new(3);
    for _ in 0..20 {
        let world = random_world(&mut rng);
        let rewards: Vec<f64> = (0..world.states()).map(|_| rng.normal()).collect();
        let (gamma, beta) = (0.9, 2.0);
        let hard = world
            .value_iteration(|_, _, next| rewards[next], gamma)
            .unwrap();
        let soft = world
            .soft_value_iteration(|_, _, next| rewards[next], gamma, beta)
            .unwrap();
        for s in 0..world.states() {
            if world.is_terminal(s) || world.cell(s) == Cell::Wall {
                assert_eq!((hard.values[s], soft.values[s]), (0.0, 0.0));
                continue;
            }
            for plan in [&hard, &soft] {
                for a in 0..4 {
                    let expected: f64 = world
                        .transitions(s, a)
                        .iter()
                        .map(|&(next, p)| p * (rewards[next] + gamma * plan.values[next]))
                        .sum();
                    assert!((plan.q[s][a] - expected).abs() < 1e-8);
                }
            }
            let best = hard.q[s].iter().copied().fold(f64::MIN, f64::max);
            assert!((hard.values[s] - best).abs() < 1e-8);
            let sum: f64 = soft.q[s].iter().map(|q| (beta * q).exp()).sum();
            assert!((soft.values[s] - sum.ln() / beta).abs() < 1e-8);
            // Soft values exceed hard ones by at most log(4)/beta a step.
            let gap = soft.values[s] - hard.values[s];
            assert!(gap > -1e-8 && gap < 4f64.ln() / beta / (1.0 - gamma) + 1e-8);
        }
        let sharp = world
            .soft_value_iteration(|_, _, next| rewards[next], gamma, 1e6)
            .unwrap();
        assert!(
            hard.values
                .iter()
                .zip(&sharp.values)
                .all(|(a, b)| (a - b).abs() < 1e-4)
        );
    }
}

#[test]
fn a_good_guess_gives_the_same_values_in_fewer_sweeps() {
    let world = Gridworld::from_map(CLIFF).unwrap().with_slip(0.2).unwrap();
    let rewards = world.state_rewards(-0.1, 1.0, -1.0);
    let cold = world
        .value_iteration(|_, _, next| rewards[next], 0.95)
        .unwrap();
    let warm = world
        .value_iteration_from(|_, _, next| rewards[next], 0.95, &cold.values)
        .unwrap();
    assert!(warm.sweeps < cold.sweeps);
    assert!(
        cold.values
            .iter()
            .zip(&warm.values)
            .all(|(a, b)| (a - b).abs() < 1e-8)
    );
    assert!(
        world
            .value_iteration_from(|_, _, _| 0.0, 0.9, &[0.0])
            .is_err()
    );
}

#[test]
fn slips_and_boltzmann_choices_come_as_often_as_stated() {
    let world = Gridworld::from_map("...\n.S.\n...")
        .unwrap()
        .with_slip(0.3)
        .unwrap();
    let policy = boltzmann(&[[0.0, 1.0, 0.0, -1.0]; 9], 1.0);
    let total: f64 = policy[0].iter().sum();
    assert!(
        (total - 1.0).abs() < 1e-12 && (policy[0][1] / policy[0][0] - 1f64.exp()).abs() < 1e-12
    );
    let mut rng = Rng::new(5);
    let n = 40_000;
    let episodes = world.demonstrations(&policy, n, 1, &mut rng).unwrap();
    let close = |count: usize, p: f64| {
        let n = n as f64;
        assert!(
            (count as f64 - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt(),
            "{count} {p}"
        );
    };
    let mut moved = [0usize; 9];
    for (a, p) in policy[4].iter().enumerate() {
        close(episodes.iter().filter(|e| e[0].action == a).count(), *p);
    }
    for e in &episodes {
        moved[e[0].next_state] += 1;
    }
    // To the right: by choice without a slip, or by a slip from up or down.
    close(
        moved[5],
        0.7 * policy[4][1] + 0.15 * (policy[4][0] + policy[4][2]),
    );
}

#[test]
fn rows_follow_the_episode_and_end_without_a_next_action() {
    let world = Gridworld::from_map("S..G").unwrap();
    let mut policy = vec![[0.0; 4]; 4];
    policy.iter_mut().for_each(|row| row[1] = 1.0);
    let episodes = world
        .demonstrations(&policy, 2, 10, &mut Rng::new(1))
        .unwrap();
    let rows = sarsa_rows(&episodes);
    assert_eq!(rows.len(), 6);
    assert_eq!(
        rows[0],
        SarsaRow {
            state: 0,
            action: 1,
            next_state: 1,
            next_action: Some(1),
            done: false
        }
    );
    assert_eq!(
        rows[2],
        SarsaRow {
            state: 2,
            action: 1,
            next_state: 3,
            next_action: None,
            done: true
        }
    );
    let cut = world
        .demonstrations(&policy, 1, 2, &mut Rng::new(1))
        .unwrap();
    assert_eq!(
        sarsa_rows(&cut)[1],
        SarsaRow {
            state: 1,
            action: 1,
            next_state: 2,
            next_action: None,
            done: false
        }
    );
}

/// A 5 x 4 world with a goal, some walls and cliffs and maybe ice.
pub(in crate::world) fn random_world(rng: &mut Rng) -> Gridworld {
    let mut map = String::new();
    for row in 0..4 {
        for column in 0..5 {
            map.push(match (row, column) {
                (0, 0) => 'S',
                (3, 4) => 'G',
                _ => ['.', '.', '.', '.', '.', '#', 'C'][rng.below(7)],
            });
        }
        map.push('\n');
    }
    Gridworld::from_map(&map)
        .unwrap()
        .with_slip([0.0, 0.2][rng.below(2)])
        .unwrap()
}
