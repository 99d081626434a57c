//! `avascope bench --kernels`: which kernels of a GPU step take the time, and whether one takes more than its work.
//!
//! CubeCL, which launches Burn's GPU kernels, can log every launch with its duration when a `cubecl.toml` in the working
//! folder asks for it. It reads that file once in a process, and logging slows the step; so the bench runs again as two
//! processes of its own in a temporary folder, with few and with more steps. The difference of the two logs is what the
//! additional steps launched: neither warm-up nor the measurement of the peak is in it.

use crate::args::BenchArgs;
use crate::models;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
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

/// All launches of one kernel on one number of workgroups, a step's worth.
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
    /// Share of the workgroups among kernels of its pool: the matrix products, or all others. Workgroups of one kernel
    /// have one size, so this stands for the share of arithmetic among matrix products (up to their inner dimension,
    /// which the log does not tell) and for the share of the bytes among the others.
    pub work_share: f64,
    /// Share of the time within the same pool.
    pub pool_time_share: f64,
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
}

type Totals = BTreeMap<(String, u64), (u64, f64)>;

/// Runs the bench twice more, with logging, and takes the difference.
pub fn kernels(args: &BenchArgs) -> Result<Kernels> {
    let folder = tempfile::tempdir().context("making a temporary folder for the kernel log")?;
    let short = logged_run(args, 1, folder.path())?;
    let long = logged_run(args, 1 + STEPS, folder.path())?;
    difference(&short, &long, STEPS)
}

fn logged_run(args: &BenchArgs, steps: usize, folder: &Path) -> Result<Totals> {
    let log = folder.join(format!("kernels-{steps}.txt"));
    let quoted = toml::Value::String(log.display().to_string());
    std::fs::write(
        folder.join("cubecl.toml"),
        format!("[profiling]\nlogger = {{ level = \"full\", file = {quoted} }}\n"),
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
    let text = std::fs::read(&log).with_context(|| {
        format!(
            "{} was not written: `{}` launches no kernels that can be timed",
            log.display(),
            args.device
        )
    })?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

fn whole(path: &Path) -> Result<std::path::PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} cannot be opened", path.display()))
}

/// Sums a log by kernel and workgroups. A launch is logged as `| 241.59µs   | TYPE: INFO ... CubeCount (x, y, z)`, over
/// several lines; anything else, such as the summary tables, is passed over.
fn parse(log: &str) -> Totals {
    let mut totals = Totals::new();
    let mut open: Option<(String, f64)> = None;
    for line in log.lines() {
        if let Some((seconds, name)) = launch(line) {
            open = Some((name, seconds));
        }
        let Some(at) = line.rfind("CubeCount (") else {
            continue;
        };
        let groups = line[at + "CubeCount (".len()..]
            .trim_end()
            .trim_end_matches(')')
            .split(',')
            .map(|n| n.trim().parse::<u64>().ok())
            .try_fold(1u64, |product, n| product.checked_mul(n?));
        if let (Some((name, seconds)), Some(groups)) = (open.take(), groups) {
            let total = totals.entry((name, groups)).or_insert((0, 0.0));
            total.0 += 1;
            total.1 += seconds;
        }
    }
    totals
}

/// Duration and kernel of a launch's first line.
fn launch(line: &str) -> Option<(f64, String)> {
    let (duration, rest) = line.strip_prefix("| ")?.split_once('|')?;
    let duration = duration.trim();
    let unit = duration.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let scale = match &duration[unit..] {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    let seconds = duration[..unit].parse::<f64>().ok()? * scale;
    let kernel = rest.trim_start();
    let end = kernel.find(": ").unwrap_or(kernel.len());
    Some((seconds, short_name(&kernel[..end])))
}

/// `a::b::Kernel<c::d::MulOp>` as `Kernel<MulOp>`. Kernels with many parameters (the matrix products) keep their own name
/// only, which is what tells them apart.
fn short_name(path: &str) -> String {
    let last = |path: &str| path.rsplit("::").next().unwrap_or(path).to_string();
    match path.split_once('<') {
        None => last(path),
        Some((kernel, parameters)) => {
            let parameters = parameters.trim_end_matches('>');
            if parameters.contains([',', '<']) || parameters.ends_with("TensorArgs") {
                last(kernel)
            } else {
                format!("{}<{}>", last(kernel), last(parameters))
            }
        }
    }
}

fn is_product(name: &str) -> bool {
    name.contains("Matmul")
}

fn difference(short: &Totals, long: &Totals, steps: usize) -> Result<Kernels> {
    let per_step = 1.0 / steps as f64;
    let mut all: Vec<Kernel> = long
        .iter()
        .filter_map(|((name, groups), (launches, seconds))| {
            let before = short.get(&(name.clone(), *groups)).map_or(0, |t| t.0);
            let more = launches.checked_sub(before).filter(|more| *more > 0)?;
            Some(Kernel {
                name: name.clone(),
                groups: *groups,
                launches: more as f64 * per_step,
                // The mean launch of the longer run: a difference of two sums of times would be mostly noise.
                seconds: seconds / *launches as f64 * more as f64 * per_step,
                time_share: 0.0,
                work_share: 0.0,
                pool_time_share: 0.0,
                suspicious: false,
            })
        })
        .collect();
    if all.is_empty() {
        bail!("the log of the longer run holds no launch that the shorter one does not");
    }
    let sum = |product: Option<bool>, value: &dyn Fn(&Kernel) -> f64| -> f64 {
        all.iter()
            .filter(|k| product.is_none_or(|wanted| is_product(&k.name) == wanted))
            .map(value)
            .sum()
    };
    let seconds = sum(None, &|k| k.seconds);
    let launches = sum(None, &|k| k.launches);
    let groups = |k: &Kernel| k.launches * k.groups as f64;
    let pools = [false, true].map(|p| (sum(Some(p), &|k| k.seconds), sum(Some(p), &groups)));
    for kernel in &mut all {
        let (time, work) = pools[usize::from(is_product(&kernel.name))];
        kernel.time_share = kernel.seconds / seconds;
        kernel.pool_time_share = kernel.seconds / time;
        kernel.work_share = groups(kernel) / work;
        kernel.suspicious = kernel.time_share >= NOTICEABLE
            && kernel.pool_time_share >= SUSPICIOUS * kernel.work_share;
    }
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(Kernels {
        suspicious: all.iter().filter(|k| k.suspicious).cloned().collect(),
        top: all.into_iter().take(SHOWN).collect(),
        launches,
        seconds,
        matmul_share: pools[1].0 / seconds,
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
            "{:<44}{:>8}{:>10}{:>9}{:>8}{:>12}{:>12}",
            "kernel", "groups", "launches", "ms", "time", "time, pool", "work, pool"
        ),
    ];
    let row = |k: &Kernel| {
        format!(
            "{:<44}{:>8}{:>10.0}{:>9.2}{:>7.1}%{:>11.1}%{:>11.2}%{}",
            k.name,
            k.groups,
            k.launches,
            1e3 * k.seconds,
            100.0 * k.time_share,
            100.0 * k.pool_time_share,
            100.0 * k.work_share,
            if k.suspicious { "  !" } else { "" }
        )
    };
    lines.extend(kernels.top.iter().map(row));
    lines.push(
        "pool: the matrix products, or all other kernels; work: workgroups, which stand for arithmetic among matrix products \
         and for bytes among the others"
            .into(),
    );
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
    use super::*;

    const LOG: &str = "\
| 2ms        | burn_cubecl::kernel::binary::KernelBinop<burn_cubecl::kernel::MulOp>: Info {
    dtype: Float (
        F32,
    ),
} CubeCount (8, 2, 1)
| 500µs      | cubek_matmul::entry::MatmulEntry<a::TensorArgs, b::C<d::E>>: Info {} CubeCount (4, 1, 1)
|⎺⎺⎺⎺|
| Name                  | Duration | Num Computed | Ratio |
| burn_cubecl::kernel::X | 2ms | 1 | 80 % |
| not measured | burn_cubecl::kernel::Y: Info {} CubeCount (9, 9, 9)
| 1.5s       | cubek_reduce::ReduceKernel<cubek_reduce::args::TensorArgs>: Info {} CubeCount (1, 1, 1)
| 3ns        | a::Copy: Info {} CubeCount (18446744073709551615, 2, 1)
";

    #[test]
    fn a_log_is_read_launch_by_launch() {
        let totals = parse(LOG);
        let expected: Totals = [
            (("KernelBinop<MulOp>".to_string(), 16), (1, 2e-3)),
            (("MatmulEntry".to_string(), 4), (1, 5e-4)),
            (("ReduceKernel".to_string(), 1), (1, 1.5)),
        ]
        .into();
        assert_eq!(totals, expected);
    }

    #[test]
    fn what_more_steps_launch_is_a_step() {
        let totals = |binops: u64, slow: u64| -> Totals {
            [
                (("Warm".to_string(), 5), (7, 1.0)),
                (
                    ("KernelBinop<MulOp>".to_string(), 100),
                    (binops, binops as f64 * 1e-3),
                ),
                (("Gather".to_string(), 1), (slow, slow as f64 * 4e-3)),
                (
                    ("MatmulEntry".to_string(), 2),
                    (binops, binops as f64 * 1e-3),
                ),
            ]
            .into()
        };
        let found = difference(&totals(6, 3), &totals(12, 5), 2).unwrap();
        assert_eq!(found.launches, 7.0);
        let names: Vec<_> = found.top.iter().map(|k| k.name.as_str()).collect();
        assert_eq!(names, ["Gather", "KernelBinop<MulOp>", "MatmulEntry"]);
        // A step: one gather of 4 ms, three products and three multiplications of 1 ms each.
        assert!((found.seconds - 0.010).abs() < 1e-12);
        assert!((found.matmul_share - 0.3).abs() < 1e-12);
        // 4 of 7 ms with 1 of 301 workgroups.
        assert_eq!(found.suspicious.len(), 1);
        assert_eq!(found.suspicious[0].name, "Gather");
        assert!((found.top[0].work_share - 1.0 / 301.0).abs() < 1e-12);
        assert!(difference(&totals(6, 3), &totals(6, 3), 2).is_err());
    }
}
