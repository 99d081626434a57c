//! What CubeCL's logs tell of a step: every launch with its duration and its number of workgroups, and, from the log of
//! compilations, how many threads a workgroup of that kernel has. Neither names a tensor's shape. What a launch does is
//! worked out from that: a thread of an elementwise kernel handles one vector of every array that is bound to it, and a
//! workgroup of a matrix product computes one tile of the result, which together with the products that a step has tells
//! which of them it was.

use std::collections::BTreeMap;

/// What one launch does, as far as the logs tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Bytes that are read and written at most: the last workgroup may be partly idle, and a small array that is spread
    /// over a large one is counted at the large one's size.
    Bytes(u64),
    /// A matrix product whose workgroups compute one tile each of `rows` by `columns`. No log tells its inner dimension.
    Tiles { rows: u64, columns: u64 },
    /// A reduction, whose threads read lines of a length that no log tells, or a kernel that says nothing of itself.
    Unknown,
}

/// Launches of one kernel that do the same work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launch {
    /// The kernel's type, without module paths.
    pub name: String,
    /// Workgroups.
    pub groups: u64,
    /// What it does.
    pub work: Work,
}

/// Number and seconds of all launches, by kernel and work.
pub type Totals = BTreeMap<Launch, (u64, f64)>;

/// Sums a log of launches. A launch is logged as `| 241.59µs   | TYPE: INFO ... CubeCount (x, y, z)`, over several lines;
/// anything else, such as the summary tables, is passed over.
pub fn totals(launches: &str, compilations: &str) -> Totals {
    let threads = threads(compilations);
    let mut totals = Totals::new();
    let mut open: Option<(f64, String)> = None;
    for line in launches.lines() {
        if let Some((seconds, kernel)) = first_line(line) {
            open = Some((seconds, kernel.to_string()));
        } else if let Some((_, kernel)) = &mut open {
            kernel.push_str(line);
        }
        let Some(at) = line.rfind(" CubeCount (") else {
            continue;
        };
        let groups = line[at + " CubeCount (".len()..]
            .trim_end()
            .trim_end_matches(')')
            .split(',')
            .map(|n| n.trim().parse::<u64>().ok())
            .try_fold(1u64, |product, n| product.checked_mul(n?));
        let (Some((seconds, kernel)), Some(groups)) = (open.take(), groups) else {
            continue;
        };
        let kernel = kernel.rsplit_once(" CubeCount (").map_or("", |(k, _)| k);
        let name = short_name(kernel.split(": ").next().unwrap_or(kernel));
        let key = bare(kernel);
        let launch = Launch {
            work: work(&name, &key, groups, threads.get(&key).copied()),
            name,
            groups,
        };
        let total = totals.entry(launch).or_insert((0, 0.0));
        total.0 += 1;
        total.1 += seconds;
    }
    totals
}

/// Duration of a launch and the rest of its first line.
fn first_line(line: &str) -> Option<(f64, &str)> {
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
    Some((seconds, rest.trim_start()))
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

/// A kernel's text without what the two logs lay out differently: white space, and commas before a closing bracket.
fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        if matches!(c, ')' | ']' | '}') && bare.ends_with(',') {
            bare.pop();
        }
        bare.push(c);
    }
    bare
}

/// Threads of a workgroup, by kernel. One that was compiled for several sizes has them for tensors smaller than a
/// workgroup; the largest is what counts.
fn threads(compilations: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for block in compilations.split("[START_KERNEL_COMPILATION]").skip(1) {
        let read = || {
            let id = block.split_once("id: KernelId {")?.1;
            let id = id.split_once("\nsource:").map_or(id, |(id, _)| id);
            let (kernel, rest) = id.split_once("type: ")?.1.split_once("address_type:")?;
            let (dims, rest) = rest.split_once("cube_dim: ")?.1.split_once('}')?;
            let (_, info) = rest.split_once("info: ")?;
            let info = bare(info);
            let info = match info.strip_suffix('}')?.trim_end_matches(',') {
                "None" => "Noinfo",
                info => info,
            };
            let threads = ["x:", "y:", "z:"].iter().try_fold(1u64, |product, axis| {
                product.checked_mul(number_behind(&bare(dims), axis)?)
            })?;
            let kernel = bare(kernel);
            Some((format!("{}:{info}", kernel.trim_end_matches(',')), threads))
        };
        if let Some((kernel, threads)) = read() {
            let known = found.entry(kernel).or_insert(0);
            *known = threads.max(*known);
        }
    }
    found
}

/// The number right behind the first `name` that begins a word.
fn number_behind(text: &str, name: &str) -> Option<u64> {
    let begins = |at: &usize| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let at = text.match_indices(name).map(|(at, _)| at).find(begins)?;
    let rest = &text[at + name.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

pub fn is_product(name: &str) -> bool {
    name.contains("Matmul")
}

/// What a launch does, by its bare text and the threads of a workgroup.
fn work(name: &str, bare: &str, groups: u64, threads: Option<u64>) -> Work {
    let known = match is_product(name) {
        true => tiles(bare),
        false => threads
            .and_then(|threads| bytes(name, bare, groups.checked_mul(threads)?))
            .map(Work::Bytes),
    };
    known.unwrap_or(Work::Unknown)
}

/// What a workgroup computes of a matrix product: a tile of tiles of partitions of tiles.
fn tiles(bare: &str) -> Option<Work> {
    let (mut rows, mut columns) = (1u64, 1u64);
    for part in [
        "tile_size:TileSize{",
        "partition_size:PartitionSize{",
        "stage_size:StageSize{",
    ] {
        let sizes = bare.split_once(part)?.1.split('}').next()?;
        rows = rows.checked_mul(number_behind(sizes, "m:")?)?;
        columns = columns.checked_mul(number_behind(sizes, "n:")?)?;
    }
    (rows > 0 && columns > 0).then_some(Work::Tiles { rows, columns })
}

fn bytes(name: &str, bare: &str, threads: u64) -> Option<u64> {
    if name.starts_with("Reduce") {
        return None;
    }
    let arrays = bare.matches("BufferCompilationArg{").count() as u64;
    let width = number_behind(bare, "n:").unwrap_or(1).max(1);
    let vectors = number_behind(bare, "num_vectors_per_unit:").unwrap_or(1);
    let size = match bare.split_once("dtype").map_or("", |(_, rest)| rest) {
        "" => return None,
        rest => size_of(rest),
    };
    let all = threads.checked_mul(width.checked_mul(vectors)?)?;
    all.checked_mul(size.checked_mul(arrays)?)
        .filter(|bytes| *bytes > 0)
}

/// Bytes of the first type that is named.
fn size_of(types: &str) -> u64 {
    let kind = types.split_once('(').map_or("", |(_, rest)| rest);
    let kind = kind.split(')').next().unwrap_or("");
    let bits: String = kind.chars().filter(char::is_ascii_digit).collect();
    match bits.as_str() {
        "8" => 1,
        "16" => 2,
        "64" => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCHES: &str = "\
| 2ms        | burn_cubecl::kernel::binary::KernelBinop<burn_cubecl::kernel::MulOp>: KernelBinopInfo {
    n: 4,
    dtype: Float (
        F16,
    ),
    lhs: ArrayView {
        buffer: BufferCompilationArg {
            inplace: None,
        },
    },
    out: ArrayView {
        buffer: BufferCompilationArg {
            inplace: Some (
                0,
            ),
        },
        layout: a: : Plain,
    },
} CubeCount (8, 2, 1)
| 500µs      | cubek_matmul::entry::MatmulEntry<a::TensorArgs, b::C<d::E>>: MatmulEntryInfo {
    blueprint: TilingScheme {
        tile_size: TileSize {
            m: 4,
            n: 4,
            k: 4,
        },
        partition_size: PartitionSize {
            m: 2,
            n: 2,
            k: 2,
        },
        stage_size: StageSize {
            m: 8,
            n: 4,
            k: 1,
        },
    },
} CubeCount (3, 1, 1)
|⎺⎺⎺⎺|
| Name                  | Duration | Num Computed | Ratio |
| burn_cubecl::kernel::X | 2ms | 1 | 80 % |
| not measured | burn_cubecl::kernel::Y: Info {} CubeCount (9, 9, 9)
| 1.5s       | cubek_reduce::ReduceKernel<cubek_reduce::args::TensorArgs>: Info {} CubeCount (1, 1, 1)
| 3ns        | a::Copy: Info {} CubeCount (18446744073709551615, 2, 1)
";

    const COMPILATIONS: &str = "\
[START_KERNEL_COMPILATION]
name: burn_cubecl::kernel::binary::KernelBinop<
    burn_cubecl::kernel::MulOp,
>
id: KernelId {
    type: burn_cubecl::kernel::binary::KernelBinop<burn_cubecl::kernel::MulOp>,
    address_type: U32,
    cube_dim: Dim3 {
        x: 8,
        y: 4,
        z: 1,
    },
    mode: Checked,
    info: KernelBinopInfo {
        n: 4,
        dtype: Float(
            F16,
        ),
        lhs: ArrayView {
            buffer: BufferCompilationArg {
                inplace: None,
            },
        },
        out: ArrayView {
            buffer: BufferCompilationArg {
                inplace: Some(
                    0,
                ),
            },
            layout: a::Plain,
        },
    },
}
source:
```wgsl
@group(0) }
[END_KERNEL_COMPILATION]
[START_KERNEL_COMPILATION]
nothing that can be read
";

    #[test]
    fn a_log_is_read_launch_by_launch() {
        let launch = |name: &str, groups, work| Launch {
            name: name.into(),
            groups,
            work,
        };
        let expected: Totals = [
            // 16 groups of 32 threads with 4 halves of 2 arrays.
            (
                launch("KernelBinop<MulOp>", 16, Work::Bytes(16 * 32 * 4 * 2 * 2)),
                (1, 2e-3),
            ),
            (
                launch(
                    "MatmulEntry",
                    3,
                    Work::Tiles {
                        rows: 64,
                        columns: 32,
                    },
                ),
                (1, 5e-4),
            ),
            (launch("ReduceKernel", 1, Work::Unknown), (1, 1.5)),
        ]
        .into();
        assert_eq!(totals(LAUNCHES, COMPILATIONS), expected);
        // Without the threads nothing is known of bytes.
        let blind = totals(LAUNCHES, "");
        assert!(blind.contains_key(&launch("KernelBinop<MulOp>", 16, Work::Unknown)));
    }

    #[test]
    fn numbers_are_those_of_whole_names() {
        assert_eq!(number_behind("Info{in:3,n:4}", "n:"), Some(4));
        assert_eq!(number_behind("{n:12,dtype", "n:"), Some(12));
        assert_eq!(number_behind("{in:3}", "n:"), None);
    }
}
