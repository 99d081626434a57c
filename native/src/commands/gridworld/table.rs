//! What was found, for people: small maps and a table with one column for each number of demonstrations.

use super::{Lesson, Shaping};
use crate::args::GridworldArgs;
use avascope::eval::{Metric, PosteriorAgreement};
use avascope::train::gridworld::{StateReward, Study};
use avascope::world::learning::Race;
use avascope::world::{Cell, Gridworld};

const LABEL: usize = 46;
const COLUMN: usize = 11;

/// Lines of text.
pub fn table(lesson: &Lesson, world: &Gridworld, args: &GridworldArgs) -> Vec<String> {
    let mut lines = vec![format!(
        "map {} ({} cells can be entered; slip {}); rewards of entering: floor {}, goal {}, cliff {}; gamma {}",
        lesson.map,
        lesson.free_cells,
        args.slip,
        args.step_reward,
        args.goal_reward,
        args.cliff_reward,
        args.gamma
    )];
    lines.extend(lesson.lines.iter().map(|line| format!("    {line}")));
    lines.push(format!(
        "demonstrator: softmax of beta Q* at beta {}; at most {} steps; seed {}",
        args.beta, args.limit, args.seed
    ));
    lines.push(format!(
        "AVRIL: lambda {}, kappa {}, prior N(0, {}^2), {} Adam steps, learning rate {}",
        args.lambda, args.kappa, args.prior_std, args.steps, args.learning_rate
    ));
    lines.push(format!(
        "exact: Bayesian inverse RL by MCMC, the same beta, gamma and prior; {} chains, {} sweeps of warm-up, {} kept",
        args.chains, args.warmup, args.draws
    ));
    if let Some(study) = lesson.studies.last() {
        lines.push(String::new());
        lines.push(format!(
            "reward of entering each cell from {} demonstrations: mean (sigma)",
            study.demonstrations
        ));
        lines.push("AVRIL; * = never entered, which leaves the prior".into());
        lines.extend(map(world, study, |s| {
            let star = if s.entered == 0 { "*" } else { "" };
            (s.avril_mean, s.avril_std, star)
        }));
        lines.push("exact (MCMC)".into());
        lines.extend(map(world, study, |s| (s.mcmc_mean, s.mcmc_std, "")));
    }
    lines.push(String::new());
    lines.extend(figures(lesson));
    lines.push(String::new());
    match &lesson.d_shape {
        Shaping::Race(race) => lines.extend(shaping(race, args)),
        Shaping::Undefined { undefined } => lines.push(format!("D-Shape  {undefined}")),
    }
    lines
}

/// A map of numbers, one row of cells a line.
fn map(
    world: &Gridworld,
    study: &Study,
    of: impl Fn(&StateReward) -> (f64, f64, &'static str),
) -> Vec<String> {
    let cell = |state: usize| {
        let Some(found) = study.states.iter().find(|s| s.state == state) else {
            return format!("{:>15}", "######");
        };
        let mark = match found.cell {
            Cell::Goal => 'G',
            Cell::Cliff => 'C',
            _ if state == world.start() => 'S',
            _ => '.',
        };
        let (mean, std, star) = of(found);
        format!("{:>15}", format!("{mark}{mean:+.2} ({std:.2}){star}"))
    };
    let width = world.width().max(1);
    (0..world.states() / width)
        .map(|row| (row * width..(row + 1) * width).map(cell).collect())
        .collect()
}

fn line(label: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells.map(|cell| format!("{cell:>COLUMN$}")).collect();
    format!("{label:<LABEL$}{cells}")
}

fn short(metric: &Metric) -> String {
    metric
        .value
        .map_or("undefined".into(), |value| format!("{value:.3}"))
}

fn figures(lesson: &Lesson) -> Vec<String> {
    let studies = &lesson.studies;
    let row = |label: &str, of: &dyn Fn(&Study) -> String| line(label, studies.iter().map(of));
    let mut lines = vec![
        row("demonstrations", &|s| s.demonstrations.to_string()),
        row("  steps", &|s| s.steps.to_string()),
        row("  ended on goal / cliff / cut off", &|s| {
            format!("{}/{}/{}", s.reached_a_goal, s.fell, s.cut_off)
        }),
        row("exact: proposals accepted", &|s| {
            format!("{:.3}", s.mcmc.acceptance)
        }),
        row("  worst R-hat over states", &|s| {
            format!("{:.4}", s.mcmc.worst_r_hat)
        }),
        row("  fewest effective draws over states", &|s| {
            format!("{:.0}", s.mcmc.fewest_effective_draws)
        }),
        row("AVRIL: steps used", &|s| s.avril_rows.to_string()),
    ];
    let times = [
        "  loss before training",
        "  loss half-way",
        "  loss at the end",
    ];
    for (i, time) in times.into_iter().enumerate() {
        lines.push(row(time, &|s| format!("{:.4}", s.avril_losses[i])));
    }
    lines.push(row("  entered states at the least sigma", &|s| {
        s.avril_at_floor.to_string()
    }));
    type Reading = fn(&Study) -> &PosteriorAgreement;
    let kinds: [(&str, Reading); 2] = [
        ("over entered states", |s| &s.entered_states),
        ("over all states", |s| &s.all_states),
    ];
    for (name, of) in kinds {
        lines.push(row(&format!("AVRIL against exact, {name}"), &|s| {
            of(s).count.to_string()
        }));
        lines.push(row("  Pearson of means", &|s| short(&of(s).pearson)));
        lines.push(row("  Spearman of means", &|s| short(&of(s).spearman)));
        lines.push(row("  root mean square difference of means", &|s| {
            short(&of(s).difference)
        }));
        lines.push(row("    after the best common shift", &|s| {
            short(&of(s).difference_after_shift)
        }));
        lines.push(row("  sigma AVRIL / exact, geometric mean", &|s| {
            short(&of(s).std_ratio)
        }));
        lines.push(row("    least and greatest", &|s| {
            format!(
                "{:.2}-{:.2}",
                of(s).least_std_ratio,
                of(s).greatest_std_ratio
            )
        }));
        lines.push(row("  exact means in AVRIL's 95 % interval", &|s| {
            short(&of(s).coverage)
        }));
        lines.push(row("    after the best common shift", &|s| {
            short(&of(s).coverage_after_shift)
        }));
    }
    lines.push(row("Pearson with the true rewards, entered: AVRIL", &|s| {
        short(&s.avril_with_truth)
    }));
    lines.push(row("  exact", &|s| short(&s.mcmc_with_truth)));
    for reason in reasons(studies) {
        lines.push(format!("    {reason}"));
    }
    match &lesson.growth {
        Some(growth) => {
            lines.push(format!(
                "mean sigma over the {} states that {} demonstrations enter",
                growth.states, growth.demonstrations[0]
            ));
            let stds = |label: &str, values: &[f64], ratio: f64, smaller: usize| {
                line(label, values.iter().map(|v| format!("{v:.3}")))
                    + &format!(
                        "   last/first {ratio:.3}; smaller in {smaller} of {}",
                        growth.states
                    )
            };
            let (ratio, smaller) = (growth.avril_ratio, growth.avril_smaller);
            lines.push(stds("  AVRIL", &growth.avril_std, ratio, smaller));
            let (ratio, smaller) = (growth.mcmc_ratio, growth.mcmc_smaller);
            lines.push(stds("  exact", &growth.mcmc_std, ratio, smaller));
        }
        None => lines.push(
            "sigma with more demonstrations: undefined for one number of them; give two or more"
                .into(),
        ),
    }
    lines
}

/// Why numbers of the table are undefined, each reason once.
fn reasons(studies: &[Study]) -> Vec<&str> {
    let mut reasons: Vec<&str> = studies
        .iter()
        .flat_map(|s| {
            let (a, b) = (&s.entered_states, &s.all_states);
            [
                &a.pearson,
                &a.spearman,
                &b.pearson,
                &b.spearman,
                &s.avril_with_truth,
                &s.mcmc_with_truth,
            ]
        })
        .filter_map(|metric| metric.undefined.as_deref())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

fn shaping(race: &Race, args: &GridworldArgs) -> Vec<String> {
    let kept = &race.kept;
    let mut lines = vec![
        format!(
            "D-Shape along the shortest demonstration that ends on a goal, {} steps; value of the start: random {:.3}, best {:.3}, good from {:.3}",
            race.demonstration_steps, race.random_value, race.best_value, race.good_value
        ),
        format!(
            "shaping keeps the best actions in {} of {} pairs (state, time), exact values; largest |Q_shaped - (Q - phi)| {:.1e}; without potential 0 at ends {} of {}",
            kept.pairs - kept.changed,
            kept.pairs,
            kept.largest_difference,
            kept.pairs - kept.changed_without_end,
            kept.pairs
        ),
        format!(
            "{:<26}{:>14}{:>14}{:>14}{:>12}{:>14}",
            "steps to a good policy", "median", "least", "most", "reached", "good at end"
        ),
    ];
    for heat in &race.heats {
        let steps = || heat.racers.iter().filter_map(|r| r.steps);
        let number = |n: Option<usize>| n.map_or("never".into(), |n| n.to_string());
        let reached = steps().count();
        let most = if reached < heat.racers.len() {
            "never".into()
        } else {
            number(steps().max())
        };
        let median = heat
            .median_steps
            .value
            .map_or("undefined".into(), |v| format!("{v:.0}"));
        let of = |n: usize| format!("{n}/{}", heat.racers.len());
        let good = heat.racers.iter().filter(|r| r.good_at_the_end).count();
        lines.push(format!(
            "{:<26}{median:>14}{:>14}{most:>14}{:>12}{:>14}",
            heat.learner.replace('_', " "),
            number(steps().min()),
            of(reached),
            of(good)
        ));
        if let Some(reason) = &heat.median_steps.undefined {
            lines.push(format!("    {reason}"));
        }
    }
    lines.push(format!(
        "{} seeds, {} episodes of at most {} steps each; steps count exploration and no replayed update",
        args.seeds, args.episodes, args.limit
    ));
    lines
}
