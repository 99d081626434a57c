use super::*;
use crate::random::Rng;
use crate::world::gridworld::{boltzmann, tests::random_world};

fn config(episodes: usize, seeds: usize) -> RaceConfig {
    let mut learner = DShapeConfig::default();
    learner.learner.gamma = 0.9;
    learner.learner.episodes = episodes;
    learner.learner.limit = 100;
    RaceConfig {
        learner,
        seeds,
        good: 0.95,
    }
}

#[test]
fn the_value_of_a_policy_is_that_of_its_bellman_equation() {
    let mut rng = Rng::new(5);
    for _ in 0..20 {
        let world = random_world(&mut rng);
        let rewards: Vec<f64> = (0..world.states()).map(|_| rng.normal()).collect();
        let plan = world
            .value_iteration(|_, _, next| rewards[next], 0.9)
            .unwrap();
        let best = boltzmann(&plan.q, 1e9);
        let value = start_value(&world, &rewards, 0.9, 1000, |_, s| best[s]);
        assert!((value - plan.values[world.start()]).abs() < 1e-6);
        let random = start_value(&world, &rewards, 0.9, 1000, |_, _| [0.25; 4]);
        assert!(random <= value + 1e-9);
    }
    // One step, half of it onto the goal.
    let world = Gridworld::from_map("SG").unwrap();
    let half = start_value(&world, &[0.0, 3.0], 0.9, 1, |_, _| [0.5, 0.5, 0.0, 0.0]);
    assert!((half - 1.5).abs() < 1e-12);
}

#[test]
fn a_race_counts_steps_and_shaping_keeps_the_optimum() {
    let world = Gridworld::from_map("S.....\n......\n.....G").unwrap();
    let rewards = world.state_rewards(-1.0, 0.0, 0.0);
    let demonstration = [0, 1, 2, 3, 4, 5, 11, 17];
    let config = |seeds| {
        let mut config = config(200, seeds);
        config.learner.learner.gamma = 0.99;
        config
    };
    let result = race(&world, &rewards, &demonstration, &config(5)).unwrap();
    assert_eq!(result.demonstration_steps, 7);
    assert!(result.random_value < result.good_value && result.good_value < result.best_value);
    assert_eq!(result.kept.changed, 0);
    assert!(result.kept.largest_difference < 1e-7);
    assert_eq!(result.kept.pairs, 17 * 8);
    let names: Vec<&str> = result.heats.iter().map(|h| h.learner).collect();
    assert_eq!(names, ["q_learning", "d_shape_without_shaping", "d_shape"]);
    for racer in &result.heats[2].racers {
        // The shortest way has seven steps: no policy is found to be good before one episode of them.
        assert!(racer.steps.unwrap() >= 7, "{racer:?}");
        assert!(racer.value_at_the_end <= result.best_value + 1e-9);
    }
    // The slowest shaped learner is quicker than the quickest of the same learners without shaping. Were both alike, five
    // against five would part like this once in 252 times.
    let steps = |i: usize| -> Vec<usize> {
        let racers = &result.heats[i].racers;
        racers
            .iter()
            .map(|r| r.steps.unwrap_or(usize::MAX))
            .collect()
    };
    let names = names.into_iter().zip((0..3).map(steps));
    println!("steps to a good policy: {:?}", names.collect::<Vec<_>>());
    assert!(steps(2).iter().max() < steps(1).iter().min(), "{result:?}");
    // The same seeds run the same race, and one seed's run does not depend on how many there are.
    let alone = race(&world, &rewards, &demonstration, &config(1)).unwrap();
    for (heat, other) in result.heats.iter().zip(&alone.heats) {
        assert_eq!(heat.racers[0], other.racers[0]);
    }
}

#[test]
fn the_optimum_moves_where_the_potential_of_an_end_is_not_zero() {
    // From the left cell it is best to go left; a demonstration at the far right makes ends on the left look bad.
    let world = Gridworld::from_map("GS.......G").unwrap();
    let rewards = world.state_rewards(0.0, 1.0, -1.0);
    let kept = super::super::d_shape::optimum_kept(&world, &rewards, &[1, 9], 0.9).unwrap();
    assert_eq!(kept.changed, 0);
    assert!(kept.changed_without_end > 0, "{kept:?}");
    assert!(super::super::d_shape::optimum_kept(&world, &rewards, &[], 0.9).is_err());
    assert!(super::super::d_shape::optimum_kept(&world, &[0.0], &[1], 0.9).is_err());
}

#[test]
fn a_median_among_learners_that_never_got_there_is_undefined() {
    let world = Gridworld::from_map("S.....\n......\n.....G").unwrap();
    let rewards = world.state_rewards(-0.1, 1.0, -1.0);
    let mut short = config(1, 2);
    short.learner.learner.limit = 2;
    short.good = 1.0;
    let result = race(&world, &rewards, &[0, 1], &short).unwrap();
    for heat in &result.heats {
        assert!(heat.racers.iter().all(|r| !r.good_at_the_end));
        let reason = heat.median_steps.undefined.as_deref().unwrap();
        assert!(reason.contains("1 episodes"), "{reason}");
    }
    // Where all rewards are equal and no policy is better than another, there is nothing to count steps to.
    let flat = race(&world, &[0.0; 18], &[0, 1], &config(2, 2)).unwrap();
    assert_eq!(flat.best_value, flat.random_value);
    for heat in &flat.heats {
        let reason = heat.median_steps.undefined.as_deref().unwrap();
        assert!(reason.contains("as good as the best"), "{reason}");
    }
    for bad in [
        RaceConfig {
            seeds: 0,
            ..short.clone()
        },
        RaceConfig {
            good: 0.0,
            ..short.clone()
        },
        RaceConfig {
            good: f64::NAN,
            ..short.clone()
        },
        config(0, 1),
    ] {
        assert!(race(&world, &rewards, &[0, 1], &bad).is_err());
    }
}
