//! `avascope gridworld`: inverse RL on a small world where the exact posterior can be had.

mod table;

use super::{open_device, print_line, wait};
use crate::args::GridworldArgs;
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use avascope::objective::avril::AvrilOptions;
use avascope::random::Rng;
use avascope::train::TrainError;
use avascope::train::gridworld::{AvrilTableConfig, Growth, Study, growth, train_avril_table};
use avascope::world::birl::{BirlConfig, Posterior, sample_posterior};
use avascope::world::d_shape::DShapeConfig;
use avascope::world::learning::{Race, RaceConfig, race};
use avascope::world::q_learning::QLearningConfig;
use avascope::world::{
    Cell, Episode, Gridworld, MAPS, TeachingMap, boltzmann, sarsa_rows, teaching_world,
};
use serde::Serialize;

/// Most cells that can be entered: a sweep of the sampler solves the world once for each of them.
const MOST_CELLS: usize = 100;
/// Most episodes in all.
const MOST_DEMONSTRATIONS: usize = 10_000;
/// Most numbers of demonstrations: each has a sampler of its own at the same time, and a column of the table.
const MOST_STUDIES: usize = 8;
/// Most steps of all episodes together, which are held in memory.
const MOST_STEPS: usize = 1_000_000;
/// Largest map file in bytes: more than the largest world needs.
const MOST_BYTES: u64 = 1 << 20;
/// Independent draws below which a reference is called uncertain; 400 is a usual least.
const FEW_DRAWS: f64 = 400.0;
/// R-hat above which chains are called apart (A. Vehtari et al., 2021).
const APART: f64 = 1.01;

/// D-Shape's part, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Shaping {
    Race(Race),
    Undefined { undefined: String },
}

/// Everything that was found.
#[derive(Serialize)]
struct Lesson<'a> {
    schema: &'static str,
    map: &'a str,
    lines: Vec<String>,
    free_cells: usize,
    settings: serde_json::Value,
    studies: Vec<Study>,
    /// Absent where only one number of demonstrations was asked for.
    growth: Option<Growth>,
    d_shape: Shaping,
}

/// Draws demonstrations, learns from them by every method, and compares.
pub fn run(args: GridworldArgs) -> Result<()> {
    let text = read_map(&args.map)?;
    let world = teaching_world(&text)
        .with_context(|| format!("map {}", args.map))?
        .with_slip(args.slip)?;
    let free_cells = (0..world.states())
        .filter(|&s| world.cell(s) != Cell::Wall)
        .count();
    if free_cells > MOST_CELLS {
        return Err(exit::with_code(
            exit::DATA,
            format!(
                "map {}: {free_cells} cells can be entered; exact sampling is for small worlds, at most {MOST_CELLS}: cut the map, or put walls # where nobody goes",
                args.map
            ),
        ));
    }
    let (avril, birl, races) = configs(&args);
    check(&args, &avril, &races)?;
    birl.check(free_cells)?;
    let rewards = world.state_rewards(args.step_reward, args.goal_reward, args.cliff_reward);
    let episodes = demonstrations(&world, &rewards, &args)?;
    let device = open_device(&args.device)?;
    let quiet = args.quiet;
    if !quiet {
        say!(
            "{} · sampling {} posteriors over {free_cells} rewards, {} chains of {} sweeps each",
            args.map,
            args.demonstrations.len(),
            args.chains,
            args.warmup.saturating_add(args.draws)
        );
    }
    if args.lambda >= args.kappa {
        say!(
            "warning   --lambda {} is not below --kappa {}: AVRIL's sigma then has no least value of its own, and falls as long as training goes on where residuals agree",
            args.lambda,
            args.kappa
        );
    }

    // The chains need no device: they run beside AVRIL's training and the learners.
    let (studies, shaping) = std::thread::scope(|scope| -> Result<_> {
        let chains: Vec<_> = args
            .demonstrations
            .iter()
            .map(|&n| {
                let (world, birl, rows) = (&world, &birl, sarsa_rows(&episodes[..n]));
                scope.spawn(move || sample_posterior(world, &rows, birl))
            })
            .collect();
        let mut tables = Vec::new();
        for &n in &args.demonstrations {
            let rows = sarsa_rows(&episodes[..n]);
            let trained = train_avril_table(world.states(), &rows, &avril, &device.device);
            tables.push(wait(trained).map_err(diverged)?);
            if !quiet {
                say!("AVRIL trained on {n} demonstrations");
            }
        }
        let shaping = shaping(&world, &rewards, &episodes, &races)?;
        let mut studies = Vec::new();
        for ((chain, table), &n) in chains.into_iter().zip(&tables).zip(&args.demonstrations) {
            let posterior: Posterior = match chain.join() {
                Ok(posterior) => posterior?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            let first = &episodes[..n];
            studies.push(Study::new(
                &world, &rewards, first, table, &birl, &posterior,
            )?);
        }
        Ok((studies, shaping))
    })?;
    for study in &studies {
        let (r_hat, draws) = (study.mcmc.worst_r_hat, study.mcmc.fewest_effective_draws);
        if r_hat > APART || draws < FEW_DRAWS {
            say!(
                "warning   the reference for {} demonstrations is not settled: R-hat {r_hat:.3} (trust below {APART}), {draws:.0} effective draws (want {FEW_DRAWS:.0}); use a larger --draws",
                study.demonstrations
            );
        }
    }
    let lesson = Lesson {
        schema: "avascope.gridworld/1",
        map: &args.map,
        lines: text.lines().map(String::from).collect(),
        free_cells,
        settings: settings(&args),
        growth: growth(&studies),
        studies,
        d_shape: shaping,
    };
    if args.json {
        return print_line(&serde_json::to_string_pretty(&lesson)?);
    }
    table::table(&lesson, &world, &args)
        .iter()
        .try_for_each(|line| print_line(line))
}

/// AVRIL's tables have no checkpoint to go back to: what helps is another setting.
fn diverged(error: TrainError) -> anyhow::Error {
    match error {
        TrainError::NonFinite {
            term, value, step, ..
        } => exit::with_code(
            exit::DATA,
            format!(
                "{term} became {value} in {step} steps: use a smaller --learning-rate or --beta"
            ),
        ),
        error => error.into(),
    }
}

/// The text of a built-in map or of a file.
fn read_map(name: &str) -> Result<String> {
    if let Some(map) = TeachingMap::named(name) {
        return Ok(map.text.into());
    }
    let built_in: Vec<&str> = MAPS.iter().map(|map| map.name).collect();
    let context = || {
        format!(
            "map {name}: it is none of the built-in ones ({}), and as a file",
            built_in.join(", ")
        )
    };
    let length = std::fs::metadata(name).with_context(context)?.len();
    if length > MOST_BYTES {
        return Err(exit::with_code(
            exit::DATA,
            format!("map {name}: {length} bytes; a map has at most {MOST_BYTES}"),
        ));
    }
    let bytes = std::fs::read(name).with_context(context)?;
    String::from_utf8(bytes).map_err(|error| {
        exit::with_code(
            exit::DATA,
            format!(
                "map {name}: byte {} is no UTF-8 text; a map is plain text of . # C G S",
                error.utf8_error().valid_up_to()
            ),
        )
    })
}

fn configs(args: &GridworldArgs) -> (AvrilTableConfig, BirlConfig, RaceConfig) {
    let avril = AvrilTableConfig {
        avril: AvrilOptions {
            beta: args.beta,
            gamma: args.gamma,
            kappa: args.kappa,
            lambda: args.lambda,
            prior_sd: args.prior_std,
            mean: true,
        },
        steps: args.steps,
        learning_rate: args.learning_rate,
        ..AvrilTableConfig::default()
    };
    let birl = BirlConfig {
        beta: args.beta,
        gamma: args.gamma,
        prior_std: args.prior_std,
        chains: args.chains,
        warmup: args.warmup,
        draws: args.draws,
        seed: args.seed,
    };
    let races = RaceConfig {
        learner: DShapeConfig {
            learner: QLearningConfig {
                gamma: args.gamma,
                episodes: args.episodes,
                limit: args.limit,
                seed: args.seed,
                ..QLearningConfig::default()
            },
            ..DShapeConfig::default()
        },
        seeds: args.seeds,
        good: args.good,
    };
    (avril, birl, races)
}

/// What can be refused before anything is computed, but for the sampler's settings.
fn check(args: &GridworldArgs, avril: &AvrilTableConfig, races: &RaceConfig) -> Result<()> {
    let usage = |message: String| Err(exit::with_code(exit::USAGE, message));
    let counts = &args.demonstrations;
    let most = MOST_DEMONSTRATIONS;
    if counts.iter().any(|&n| n == 0 || n > most) {
        return usage(format!(
            "--demonstrations {}: each number must lie between 1 and {most}; nothing is learned from none",
            list(counts)
        ));
    }
    if counts.windows(2).any(|pair| pair[0] >= pair[1]) {
        return usage(format!(
            "--demonstrations {}: give the numbers in rising order, each once",
            list(counts)
        ));
    }
    if counts.len() > MOST_STUDIES {
        return usage(format!(
            "--demonstrations has {} numbers; give at most {MOST_STUDIES}",
            counts.len()
        ));
    }
    let longest = counts.last().copied().unwrap_or(0);
    if longest.saturating_mul(args.limit) > MOST_STEPS {
        return usage(format!(
            "{longest} demonstrations of at most --limit {} steps may have {} steps; at most {MOST_STEPS} are held: ask for fewer, or shorter ones",
            args.limit,
            longest.saturating_mul(args.limit)
        ));
    }
    for (name, value) in [
        ("--step-reward", args.step_reward),
        ("--goal-reward", args.goal_reward),
        ("--cliff-reward", args.cliff_reward),
    ] {
        if !(value.is_finite() && value.abs() <= 1e6) {
            return usage(format!(
                "{name} is {value}; it must lie between -1000000 and 1000000"
            ));
        }
    }
    if !(0.0..1.0).contains(&args.gamma) {
        return usage(format!(
            "--gamma is {}; it must be at least 0 and below 1, so that every reward table has values",
            args.gamma
        ));
    }
    avril.check()?;
    races.check()?;
    Ok(())
}

fn list(counts: &[usize]) -> String {
    let words: Vec<String> = counts.iter().map(usize::to_string).collect();
    words.join(",")
}

/// The expert's episodes, as many as the largest set needs.
fn demonstrations(
    world: &Gridworld,
    rewards: &[f64],
    args: &GridworldArgs,
) -> Result<Vec<Episode>> {
    let plan = world.value_iteration(|_, _, next| rewards[next], args.gamma)?;
    let expert = boltzmann(&plan.q, args.beta);
    let most = args.demonstrations.iter().copied().max().unwrap_or(0);
    Ok(world.demonstrations(&expert, most, args.limit, &mut Rng::new(args.seed))?)
}

/// The race along the shortest demonstration that ends on a goal, the first of equals.
fn shaping(
    world: &Gridworld,
    rewards: &[f64],
    episodes: &[Episode],
    races: &RaceConfig,
) -> Result<Shaping> {
    let reaches = |e: &&Episode| {
        e.last()
            .is_some_and(|step| world.cell(step.next_state) == Cell::Goal)
    };
    let Some(episode) = episodes.iter().filter(reaches).min_by_key(|e| e.len()) else {
        return Ok(Shaping::Undefined {
            undefined: format!(
                "undefined: none of the {} demonstrations ends on a goal, so there is none to shape by; use a larger --beta or --limit",
                episodes.len()
            ),
        });
    };
    let states: Vec<usize> = std::iter::once(world.start())
        .chain(episode.iter().map(|step| step.next_state))
        .collect();
    Ok(Shaping::Race(race(world, rewards, &states, races)?))
}

fn settings(args: &GridworldArgs) -> serde_json::Value {
    serde_json::json!({
        "slip": args.slip,
        "step_reward": args.step_reward,
        "goal_reward": args.goal_reward,
        "cliff_reward": args.cliff_reward,
        "gamma": args.gamma,
        "demonstrations": args.demonstrations,
        "beta": args.beta,
        "limit": args.limit,
        "seed": args.seed,
        "prior_std": args.prior_std,
        "lambda": args.lambda,
        "kappa": args.kappa,
        "steps": args.steps,
        "learning_rate": args.learning_rate,
        "chains": args.chains,
        "warmup": args.warmup,
        "draws": args.draws,
        "episodes": args.episodes,
        "seeds": args.seeds,
        "good": args.good,
    })
}
