//! `avascope bench --kernels`: which kernels of a GPU step take the time, and whether one takes more than its work.
//!
//! CubeCL, which launches Burn's GPU kernels, can log every launch with its duration when a `cubecl.toml` in the working
//! folder asks for it, and every kernel that it compiles. It reads that file once in a process, and logging slows the step; so the bench runs again as two
//! processes of its own in a temporary folder, with few and with more steps. The difference of the two logs is what the
//! additional steps launched: neither warm-up nor the measurement of the peak is in it.

mod log;

use self::log::{Totals, Work, is_product, totals};
use crate::args::BenchArgs;
use crate::models;
use anyhow::{Context, Result, bail};
use avascope::train::Product;
use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// Steps that the longer run has more than the shorter one.
const STEPS: usize = 3;
/// Kernels shown.
const SHOWN: usize = 10;
/// A kernel is pointed out when its share of the time is this many times its share of the work...
const SUSPICIOUS: f64 = 10.0;
/// ...and at least this share of the whole step's kernel time.
const NOTICEABLE: f64 = 0.01;

/// All launches of one kernel that do the same work, a step's worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kernel {
    /// Its type, without module paths.
    pub name: String,
    /// Workgroups of a launch.
    pub groups: u64,
    /// Launches in a step.
    pub launches: f64,
    /// Seconds in a step, all launches together.
    pub seconds: f64,
    /// Share of the step's kernel time.
    pub time_share: f64,
    /// Share of the time of its pool: the matrix products, or the other kernels, whose work is known.
    pub pool_time_share: f64,
    /// Floating-point operations of a matrix product in a step, two for each multiplication with its addition.
    pub flop: Option<f64>,
    /// A step has other than so many products that cut into as many tiles: `flop` is then launches times their mean.
    pub approximate: bool,
    /// Bytes that another kernel reads and writes in a step, at most.
    pub bytes: Option<f64>,
    /// Share of the pool's work: of the arithmetic of the matrix products, or of the bytes among the others. `None` where the
    /// work is not known.
    pub work_share: Option<f64>,
    /// It takes far more time than work.
    pub suspicious: bool,
}

/// The kernels of a step, the most expensive first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kernels {
    /// The most expensive ones.
    pub top: Vec<Kernel>,
    /// All that are suspicious, also beyond the most expensive ones.
    pub suspicious: Vec<Kernel>,
    /// Launches of a step.
    pub launches: f64,
    /// Kernel seconds of a step, as logged: the device's own clock, without what lies between launches.
    pub seconds: f64,
    /// Share of the matrix products in that time.
    pub matmul_share: f64,
    /// Share of the kernels in that time whose work the logs do not tell.
    pub unknown_share: f64,
}

/// Runs the bench twice more, with logging, and takes the difference.
/// `products`: those of a step.
pub fn kernels(args: &BenchArgs, products: &[Product]) -> Result<Kernels> {
    let folder = tempfile::tempdir().context("making a temporary folder for the kernel log")?;
    let short = logged_run(args, 1, folder.path())?;
    let long = logged_run(args, 1 + STEPS, folder.path())?;
    difference(&short, &long, STEPS, products)
}

fn logged_run(args: &BenchArgs, steps: usize, folder: &Path) -> Result<Totals> {
    let log = folder.join(format!("kernels-{steps}.txt"));
    let compiled = folder.join(format!("compiled-{steps}.txt"));
    let quoted = |path: &Path| toml::Value::String(path.display().to_string());
    std::fs::write(
        folder.join("cubecl.toml"),
        format!(
            "[profiling]\nlogger = {{ level = \"full\", file = {} }}\n[compilation]\nlogger = {{ level = \"full\", file = {} }}\n",
            quoted(&log),
            quoted(&compiled)
        ),
    )
    .with_context(|| format!("writing {}", folder.join("cubecl.toml").display()))?;

    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.current_dir(folder);
    command.args(["bench", "--json", "--score-pairs", "0"]);
    command.args(["--device", &args.device, "--trainable", &args.trainable]);
    for (flag, value) in [
        ("--pairs", Some(args.pairs)),
        ("--tokens", Some(args.tokens)),
        ("--prompt", args.prompt),
        ("--steps", Some(steps)),
    ] {
        if let Some(value) = value {
            command.args([flag, &value.to_string()]);
        }
    }
    // The other process runs in another folder: paths have to be whole.
    if let Some(model) = args.model.model.as_deref().filter(|m| *m != models::WORLD) {
        command.arg("--model").arg(whole(Path::new(model))?);
    }
    if let Some(tokenizer) = &args.model.tokenizer {
        command.arg("--tokenizer").arg(whole(tokenizer)?);
    }
    let output = command.output().context("running the bench again")?;
    if !output.status.success() {
        bail!(
            "the bench with kernel logging failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let launches = std::fs::read(&log).with_context(|| {
        format!(
            "{} was not written: `{}` launches no kernels that can be timed",
            log.display(),
            args.device
        )
    })?;
    // Without it the launches are there, and what they do is not known.
    let compilations = std::fs::read(&compiled).unwrap_or_default();
    Ok(totals(
        &String::from_utf8_lossy(&launches),
        &String::from_utf8_lossy(&compilations),
    ))
}

fn whole(path: &Path) -> Result<std::path::PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} cannot be opened", path.display()))
}

/// Operations of a launch in `groups` workgroups of one tile each, and how many products of a step cut into as many.
fn arithmetic(products: &[Product], groups: u64, tile: [u64; 2]) -> Option<(f64, usize)> {
    let cut = |p: &&Product| {
        let [rows, columns] = [(p.rows, tile[0]), (p.columns, tile[1])]
            .map(|(size, tile)| (size as u64).div_ceil(tile));
        p.batch as u64 * rows * columns == groups
    };
    let (flop, times) = (products.iter().filter(cut)).fold((0.0, 0), |(flop, times), p| {
        (flop + p.times as f64 * p.flop(), times + p.times)
    });
    (times > 0).then(|| (flop / times as f64, times))
}

fn difference(
    short: &Totals,
    long: &Totals,
    steps: usize,
    products: &[Product],
) -> Result<Kernels> {
    let per_step = 1.0 / steps as f64;
    let mut all: Vec<Kernel> = long
        .iter()
        .filter_map(|(launch, (launches, seconds))| {
            let before = short.get(launch).map_or(0, |t| t.0);
            let more = launches.checked_sub(before).filter(|more| *more > 0)?;
            let more = more as f64 * per_step;
            let (mut flop, mut bytes, mut approximate) = (None, None, false);
            match launch.work {
                Work::Tiles { rows, columns } => {
                    let found = arithmetic(products, launch.groups, [rows, columns]);
                    flop = found.map(|(each, _)| each * more);
                    approximate = found.is_some_and(|(_, times)| times as f64 != more);
                }
                Work::Bytes(each) => bytes = Some(each as f64 * more),
                Work::Unknown => {}
            }
            Some(Kernel {
                name: launch.name.clone(),
                groups: launch.groups,
                launches: more,
                // The mean launch of the longer run: a difference of two sums of times would be mostly noise.
                seconds: seconds / *launches as f64 * more,
                time_share: 0.0,
                pool_time_share: 0.0,
                flop,
                approximate,
                bytes,
                work_share: None,
                suspicious: false,
            })
        })
        .collect();
    if all.is_empty() {
        bail!("the log of the longer run holds no launch that the shorter one does not");
    }
    let sum = |of: &dyn Fn(&Kernel) -> f64| all.iter().map(of).sum::<f64>();
    let seconds = sum(&|k| k.seconds);
    let launches = sum(&|k| k.launches);
    let share_of = |which: &dyn Fn(&Kernel) -> bool| {
        sum(&|k| if which(k) { k.seconds } else { 0.0 }) / seconds
    };
    let matmul_share = share_of(&|k| is_product(&k.name));
    let unknown_share = share_of(&|k| k.flop.is_none() && k.bytes.is_none());
    // Time and work of the kernels whose work is counted alike.
    let pool = |work: &dyn Fn(&Kernel) -> Option<f64>| {
        let known = all.iter().filter_map(|k| Some((k.seconds, work(k)?)));
        known.fold((0.0, 0.0), |sum, k| (sum.0 + k.0, sum.1 + k.1))
    };
    let (multiplying, others) = (pool(&|k| k.flop), pool(&|k| k.bytes));
    for kernel in &mut all {
        kernel.time_share = kernel.seconds / seconds;
        let known = match (kernel.flop, kernel.bytes) {
            (Some(flop), _) => Some((flop, multiplying)),
            (_, Some(bytes)) => Some((bytes, others)),
            _ => None,
        };
        if let Some((work, (pool_seconds, pool_work))) = known {
            let share = work / pool_work;
            kernel.pool_time_share = kernel.seconds / pool_seconds;
            kernel.work_share = Some(share);
            kernel.suspicious =
                kernel.time_share >= NOTICEABLE && kernel.pool_time_share >= SUSPICIOUS * share;
        }
    }
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(Kernels {
        suspicious: all.iter().filter(|k| k.suspicious).cloned().collect(),
        top: all.into_iter().take(SHOWN).collect(),
        launches,
        seconds,
        matmul_share,
        unknown_share,
    })
}

/// The table as lines.
pub fn table(kernels: &Kernels) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!(
            "a step launches {:.0} kernels, {:.1} ms of kernel time, {:.0} % of it matrix products; the most expensive:",
            kernels.launches,
            1e3 * kernels.seconds,
            100.0 * kernels.matmul_share
        ),
        format!(
            "{:<40}{:>8}{:>9}{:>9}{:>8}{:>12}{:>12}{:>9}{:>9}{:>9}",
            "kernel",
            "groups",
            "launches",
            "ms",
            "time",
            "time, pool",
            "arithmetic",
            "bytes",
            "GB/s",
            "GFLOP/s"
        ),
    ];
    let row = |k: &Kernel| {
        let share = |known: Option<f64>, other: Option<f64>| match (known, other, k.work_share) {
            (Some(_), _, Some(share)) => {
                let about = if k.approximate { "~" } else { "" };
                format!("{about}{:.2}%", 100.0 * share)
            }
            (_, Some(_), _) => "-".into(),
            _ => "?".into(),
        };
        let rate = |work: Option<f64>| {
            let rate = work.map(|work| format!("{:.1}", 1e-9 * work / k.seconds));
            rate.unwrap_or_default()
        };
        let pool = k
            .work_share
            .map(|_| format!("{:.1}%", 100.0 * k.pool_time_share));
        format!(
            "{:<40}{:>8}{:>9.0}{:>9.2}{:>7.1}%{:>12}{:>12}{:>9}{:>9}{:>9}{}",
            k.name,
            k.groups,
            k.launches,
            1e3 * k.seconds,
            100.0 * k.time_share,
            pool.unwrap_or_default(),
            share(k.flop, k.bytes),
            share(k.bytes, k.flop),
            rate(k.bytes),
            rate(k.flop),
            if k.suspicious { "  !" } else { "" }
        )
    };
    lines.extend(kernels.top.iter().map(row));
    lines.extend([
        "pool: the matrix products, or the other kernels, as far as their work is known".into(),
        "arithmetic: share of the multiplications of all matrix products. The log tells a launch's tiles, and the step's own list \
         of products which of them cut into so many; ~ where not exactly as many do, and their mean stands in"
            .into(),
        "bytes: share of what the other kernels read and write at most: threads x vector width x bound arrays".into(),
        format!(
            "?: reductions and such ({:.0} % of the time), whose log does not tell how much a thread of theirs reads",
            100.0 * kernels.unknown_share
        ),
    ]);
    if kernels.suspicious.is_empty() {
        lines.push(format!(
            "no kernel with {:.0} % of the time or more takes {SUSPICIOUS:.0} times its share of the work",
            100.0 * NOTICEABLE
        ));
    } else {
        lines.push(format!(
            "! takes {SUSPICIOUS:.0} times its share of the work or more:"
        ));
        lines.extend(kernels.suspicious.iter().map(row));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::log::Launch;
    use super::*;

    #[test]
    fn what_more_steps_launch_is_a_step_and_time_stands_beside_work() {
        let totals = |binops: u64, slow: u64| -> Totals {
            let tile = Work::Tiles {
                rows: 4,
                columns: 2,
            };
            let launch = |name: &str, work, launches: u64, each: f64| {
                let launch = Launch {
                    name: name.into(),
                    groups: 1,
                    work,
                };
                (launch, (launches, launches as f64 * each))
            };
            [
                launch("Warm", Work::Bytes(5), 7, 0.1),
                launch("KernelBinop<MulOp>", Work::Bytes(100), binops, 1e-3),
                launch("Gather", Work::Bytes(1), slow, 4e-3),
                launch("MatmulEntry", tile, binops, 1e-3),
                launch("ReduceKernel", Work::Unknown, binops, 1e-3),
            ]
            .into()
        };
        let product = |rows, inner, times| Product {
            batch: 1,
            rows,
            inner,
            columns: 2,
            times,
        };
        // Two with one tile, and one that needs more.
        let products = [product(4, 5, 2), product(3, 8, 1), product(5, 100, 1)];
        let found = difference(&totals(6, 3), &totals(12, 5), 2, &products).unwrap();
        assert_eq!(found.launches, 10.0);
        let names: Vec<_> = found.top.iter().map(|k| k.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "Gather",
                "KernelBinop<MulOp>",
                "MatmulEntry",
                "ReduceKernel"
            ]
        );
        // A step: one gather of 4 ms, and three of each other of 1 ms each.
        assert!((found.seconds - 0.013).abs() < 1e-12);
        assert!((found.matmul_share - 3.0 / 13.0).abs() < 1e-12);
        assert!((found.unknown_share - 3.0 / 13.0).abs() < 1e-12);
        // 4 of 7 ms with 1 of 301 bytes.
        assert_eq!(found.suspicious.len(), 1);
        assert_eq!(found.suspicious[0].name, "Gather");
        assert!((found.top[0].work_share.unwrap() - 1.0 / 301.0).abs() < 1e-12);
        assert!((found.top[0].pool_time_share - 4.0 / 7.0).abs() < 1e-12);
        let lines = table(&found);
        let line = |name: &str| lines.iter().find(|l| l.starts_with(name)).unwrap().clone();
        assert!(line("Gather").contains("0.33%") && line("Gather").ends_with('!'));
        assert!(line("ReduceKernel").contains('?') && line("MatmulEntry").contains("100.00%"));
        let product = &found.top[2];
        assert_eq!(product.flop, Some(2.0 * (2.0 * 40.0 + 48.0)));
        assert!(!product.approximate);
        // Three launches, and two products that could be meant.
        let found = difference(&totals(6, 3), &totals(12, 5), 2, &products[..1]).unwrap();
        assert_eq!(found.top[2].flop, Some(3.0 * 80.0));
        assert!(found.top[2].approximate && table(&found)[5].contains("~100.00%"));
        // None that could: its arithmetic is not known.
        let found = difference(&totals(6, 3), &totals(12, 5), 2, &products[2..]).unwrap();
        assert_eq!((found.top[2].flop, found.top[2].work_share), (None, None));
        assert!(difference(&totals(6, 3), &totals(6, 3), 2, &products).is_err());
    }
}
