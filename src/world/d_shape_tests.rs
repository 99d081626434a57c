use super::*;
use crate::world::gridworld::{Cell, Gridworld, tests::random_world};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect()
}

fn positions(value: &Value) -> Vec<Position> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| numbers(v).try_into().unwrap())
        .collect()
}

#[test]
fn every_golden_value_is_met() {
    let Some(golden) = crate::test_data::golden("d_shape") else {
        return;
    };
    let (inputs, expected, tolerance) =
        (&golden["inputs"], &golden["expected"], &golden["tolerance"]);
    let (absolute, relative) = (
        tolerance["f64_abs"].as_f64().unwrap(),
        tolerance["f64_rel"].as_f64().unwrap(),
    );
    let close = |name: &str, ours: f64, theirs: &Value| {
        let theirs = theirs.as_f64().unwrap();
        assert!(
            (ours - theirs).abs() <= absolute + relative * theirs.abs(),
            "{name}: {ours}, golden {theirs}"
        );
    };
    let all = |name: &str, ours: &[f64], theirs: &Value| {
        assert_eq!(ours.len(), theirs.as_array().unwrap().len(), "{name}");
        ours.iter()
            .zip(theirs.as_array().unwrap())
            .for_each(|(a, b)| close(name, *a, b));
    };
    let gamma = inputs["gamma"].as_f64().unwrap();
    let (states, demonstration) = (
        positions(&inputs["states"]),
        positions(&inputs["demonstration"]),
    );
    let task = numbers(&inputs["task_reward"]);
    let episode = ShapedEpisode::new(&states, &demonstration, &task, gamma, false).unwrap();
    all("potential", &episode.potential, &expected["potential"]);
    all("shaping", &episode.shaping, &expected["shaping"]);
    all("reward", &episode.reward, &expected["reward"]);
    all(
        "terminal",
        &shaping(&episode.potential, gamma, true),
        &expected["shaping_terminal_zero"],
    );
    let sum = discounted_sum(&episode.shaping, gamma);
    close("sum", sum, &expected["discounted_sum_of_shaping"]);
    for case in expected["relabelled"].as_array().unwrap() {
        let at = |key: &str| case[key].as_u64().unwrap() as usize;
        let ours = episode.relabel(at("step"), at("goal_step")).unwrap();
        assert_eq!(ours.goal.to_vec(), numbers(&case["goal"]));
        assert_eq!(ours.next_goal.to_vec(), numbers(&case["next_goal"]));
        close("relabelled shaping", ours.shaping, &case["shaping"]);
        close("relabelled reward", ours.reward, &case["reward"]);
        close("code reward", ours.code_reward, &case["code_reward"]);
    }
    let line = ShapedEpisode::new(
        &[[9.0, 0.0], [9.0, 1.0]],
        &[[9.0, 1.0], [9.0, 2.0]],
        &[-1.0],
        1.0,
        false,
    )
    .unwrap();
    close(
        "one line",
        line.shaping[0],
        &expected["one_line"]["shaping"],
    );
    close("one line", line.reward[0], &expected["one_line"]["reward"]);
}

#[test]
fn the_sum_of_shaping_telescopes() {
    let mut rng = Rng::new(12);
    for _ in 0..200 {
        let (n, gamma) = (rng.below(12), rng.uniform());
        let phi: Vec<f64> = (0..=n).map(|_| -10.0 * rng.uniform()).collect();
        let plain = discounted_sum(&shaping(&phi, gamma, false), gamma);
        assert!((plain - (gamma.powi(n as i32) * phi[n] - phi[0])).abs() < 1e-10);
        if n > 0 {
            let ended = discounted_sum(&shaping(&phi, gamma, true), gamma);
            assert!((ended + phi[0]).abs() < 1e-10);
        }
    }
    assert!(shaping(&[], 0.9, true).is_empty() && shaping(&[1.0], 0.9, true).is_empty());
}

#[test]
fn shaping_by_a_state_potential_keeps_every_best_action() {
    let mut rng = Rng::new(13);
    for _ in 0..30 {
        let world = random_world(&mut rng);
        let rewards: Vec<f64> = (0..world.states()).map(|_| rng.normal()).collect();
        let goal = world.position(rng.below(world.states()));
        let phi = |s: usize| {
            if world.is_terminal(s) {
                0.0
            } else {
                potential(world.position(s), goal)
            }
        };
        let gamma = 0.9;
        let plain = world
            .value_iteration(|_, _, next| rewards[next], gamma)
            .unwrap();
        let shaped = world
            .value_iteration(
                |s, _, next| rewards[next] + gamma * phi(next) - phi(s),
                gamma,
            )
            .unwrap();
        assert_eq!(plain.best_actions(1e-6), shaped.best_actions(1e-6));
        for s in
            (0..world.states()).filter(|&s| !world.is_terminal(s) && world.cell(s) != Cell::Wall)
        {
            for a in 0..4 {
                assert!((shaped.q[s][a] - (plain.q[s][a] - phi(s))).abs() < 1e-7);
            }
        }
    }
}

/// Q(t, s, a) over a finite number of steps by backward induction, with potentials phi(t, s).
fn backward(
    world: &Gridworld,
    rewards: &[f64],
    horizon: usize,
    gamma: f64,
    phi: impl Fn(usize, usize) -> f64,
) -> Vec<Vec<[f64; 4]>> {
    let n = world.states();
    let mut values = vec![0.0; n];
    let mut all = Vec::new();
    for t in (0..horizon).rev() {
        let q: Vec<[f64; 4]> = (0..n)
            .map(|s| {
                std::array::from_fn(|a| {
                    let worth = |(to, p): &(usize, f64)| {
                        p * (rewards[*to] + gamma * phi(t + 1, *to) - phi(t, s)
                            + gamma * values[*to])
                    };
                    world.transitions(s, a).iter().map(worth).sum()
                })
            })
            .collect();
        let best = |s: usize| q[s].iter().copied().fold(f64::MIN, f64::max);
        values = (0..n)
            .map(|s| if world.is_terminal(s) { 0.0 } else { best(s) })
            .collect();
        all.push(q);
    }
    all.reverse();
    all
}

#[test]
fn goals_that_move_in_time_keep_every_best_action_only_with_zero_at_the_end() {
    let mut rng = Rng::new(14);
    let horizon = 12;
    let mut changed_without = 0;
    for _ in 0..30 {
        let world = random_world(&mut rng);
        let rewards: Vec<f64> = (0..world.states()).map(|_| 0.3 * rng.normal()).collect();
        let goals: Vec<usize> = (0..6).map(|_| rng.below(world.states())).collect();
        let gamma = 0.95;
        let distance = |t: usize, s: usize| {
            potential(
                world.position(s),
                world.position(aligned(&goals, t).unwrap()),
            )
        };
        let ended = |t: usize, s: usize| {
            if t == horizon || world.is_terminal(s) {
                0.0
            } else {
                distance(t, s)
            }
        };
        let plain = backward(&world, &rewards, horizon, gamma, |_, _| 0.0);
        let shaped = backward(&world, &rewards, horizon, gamma, ended);
        let open = backward(&world, &rewards, horizon, gamma, distance);
        for t in 0..horizon {
            for s in (0..world.states()).filter(|&s| !world.is_terminal(s)) {
                for a in 0..4 {
                    assert!((shaped[t][s][a] - (plain[t][s][a] - ended(t, s))).abs() < 1e-9);
                    let differs = (open[t][s][a] - (plain[t][s][a] - distance(t, s))).abs() > 1e-3;
                    changed_without += usize::from(differs);
                }
            }
        }
    }
    // The other side of the claim: without the zero the values differ by more than a function of the state.
    assert!(changed_without > 1000, "{changed_without}");
}

#[test]
fn a_demonstration_that_ends_early_holds_its_last_state() {
    assert_eq!(aligned(&[3, 5], 0), Some(3));
    assert_eq!(aligned(&[3, 5], 9), Some(5));
    assert_eq!(aligned::<usize>(&[], 0), None);
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let p = [0.0, 0.0];
    assert!(matches!(
        ShapedEpisode::new(&[p], &[p], &[1.0], 0.9, true),
        Err(DShapeError::Lengths { .. })
    ));
    assert!(matches!(
        ShapedEpisode::new(&[p, p], &[p], &[1.0], 0.9, true),
        Err(DShapeError::Lengths { .. })
    ));
    let episode = ShapedEpisode::new(&[p, p], &[p, p], &[1.0], 0.9, true).unwrap();
    assert!(
        episode.relabel(0, 0).is_ok()
            && episode.relabel(1, 0).is_err()
            && episode.relabel(0, 1).is_err()
    );
    let world = Gridworld::from_map("SG").unwrap();
    let config = DShapeConfig::default();
    assert!(d_shape_q_learning(&world, &[0.0], &[0], &config).is_err());
    assert!(d_shape_q_learning(&world, &[0.0; 2], &[], &config).is_err());
    assert!(d_shape_q_learning(&world, &[0.0; 2], &[2], &config).is_err());
    assert!(
        d_shape_q_learning(
            &world,
            &[0.0; 2],
            &[0],
            &DShapeConfig {
                buffer: 0,
                ..config
            }
        )
        .is_err()
    );
}

#[test]
fn a_learner_that_is_watched_can_be_stopped_and_without_shaping_learns_the_plain_values() {
    let world = Gridworld::from_map("S.#\n..C\n..G").unwrap();
    let rewards = world.state_rewards(-0.1, 1.0, -1.0);
    let demonstration = [0, 3, 6, 7, 8];
    let mut config = DShapeConfig::default();
    config.learner.gamma = 0.9;
    config.learner.alpha = 0.5;
    config.learner.epsilon = 1.0;
    config.learner.episodes = 300;
    let plan = world
        .value_iteration(|_, _, next| rewards[next], 0.9)
        .unwrap();
    for shaped in [true, false] {
        config.shaped = shaped;
        let (table, log) = d_shape_q_learning(&world, &rewards, &demonstration, &config).unwrap();
        // Row (state, goal 0) at the start: the plain value, less the potential where there is shaping.
        let phi = if shaped {
            potential(world.position(0), world.position(0))
        } else {
            0.0
        };
        for (learned, exact) in table.q[0].iter().zip(&plan.q[0]) {
            assert!((learned - (exact - phi)).abs() < 0.02, "{learned} {exact}");
        }
        let mut seen = 0;
        let (_, short) =
            d_shape_q_learning_until(&world, &rewards, &demonstration, &config, |_, _| {
                seen += 1;
                seen < 5
            })
            .unwrap();
        assert_eq!((seen, &log[..5]), (5, &short[..]));
    }
}

#[test]
fn a_demonstration_brings_the_learner_to_the_goal_sooner() {
    let world =
        Gridworld::from_map("S.......\n........\n........\n........\n........\n.......G").unwrap();
    let rewards = vec![-1.0; world.states()];
    let demonstration: Vec<usize> = (0..8).chain((1..6).map(|row| row * 8 + 7)).collect();
    let learner = QLearningConfig {
        episodes: 60,
        seed: 2,
        ..QLearningConfig::default()
    };
    let (_, plain) = super::super::q_learning::q_learning(&world, &rewards, &learner).unwrap();
    let config = DShapeConfig {
        learner,
        ..DShapeConfig::default()
    };
    let (table, shaped) = d_shape_q_learning(&world, &rewards, &demonstration, &config).unwrap();
    let steps = |log: &[EpisodeLog]| log.iter().map(|e| e.steps).sum::<usize>();
    println!(
        "steps of 60 episodes: plain {}, shaped {}",
        steps(&plain),
        steps(&shaped)
    );
    assert!(2 * steps(&shaped) < steps(&plain));
    assert_eq!(table.q.len(), 48 * 48);
    let (again, _) = d_shape_q_learning(&world, &rewards, &demonstration, &config).unwrap();
    assert_eq!(table, again);
}
