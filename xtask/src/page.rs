//! Building the page: `pkg/` from the library with wasm-pack, `www/dist` from `www/` with Vite, and measuring it.

use crate::tools::{House, run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Largest WebAssembly that the page may ask a visitor to fetch, in bytes after Brotli.
const SIZE_LIMIT: u64 = 3_500_000;
/// About what hosts compress with; the highest, 11, takes minutes for a few percent.
const BROTLI_QUALITY: &str = "9";
/// What the module's build adds to the release profile: size before speed, except in arithmetic.
const PAGE_PROFILE: &str = ".cargo/page.toml";
/// What rustc's default and `.cargo/config.toml` let the compiler use; wasm-opt has to be told.
const WASM_FEATURES: [&str; 7] = [
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-mutable-globals",
    "--enable-multivalue",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Builds the whole page; `optimize` runs wasm-opt over the engine in between.
pub fn build(house: &House, optimize: bool) -> Result<()> {
    let start = Instant::now();
    // Asked for first: a missing Node.js should not be told after minutes of compiling.
    house.ensure_node()?;
    build_engine(house)?;
    if optimize {
        let engine = engine(house);
        let optimized = engine.with_extension("opt.wasm");
        wasm_opt(house, &engine, &optimized)?;
        std::fs::rename(&optimized, &engine)
            .with_context(|| format!("replacing {}", engine.display()))?;
    }
    house.npm_ci(&house.www())?;
    run(&mut house.npm(&house.www(), &["run", "build"]))?;
    // The token view as one file, which the command embeds for `avascope inspect`.
    run(&mut house.npm(&house.www(), &["run", "build:report"]))?;
    let index = house.dist().join("index.html");
    if !index.is_file() {
        bail!(
            "Vite ended without an error, but {} is not there",
            index.display()
        );
    }
    println!(
        "The page is in {} ({:.0} s).",
        house.dist().display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn engine(house: &House) -> PathBuf {
    house.pkg().join("avascope_bg.wasm")
}

fn build_engine(house: &House) -> Result<()> {
    house.ensure_wasm_tools()?;
    // `no-install`: wasm-bindgen is the one that was just made sure of. `no-opt`: wasm-opt is a step of our own.
    let arguments = [
        "build",
        "--mode",
        "no-install",
        "--release",
        "--target",
        "web",
        "--out-dir",
        "pkg",
        "--no-opt",
        // Behind this wasm-pack hands everything to Cargo.
        "--",
        "--config",
        PAGE_PROFILE,
    ];
    let mut wasm_pack = House::without_rustflags(house.command("wasm-pack"));
    run(wasm_pack.args(arguments))?;
    let path = engine(house);
    let module = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    check_constructors(&module)
}

/// Refuses a module that runs its static constructors at every call from JavaScript.
///
/// The linker wraps every export so when the module never calls `__wasm_call_ctors` itself, and marks the wrappers with
/// this suffix. The page then crawls or hangs, which is hard to trace back to its cause.
fn check_constructors(module: &[u8]) -> Result<()> {
    const MARK: &[u8] = b".command_export";
    if module.windows(MARK.len()).any(|window| window == MARK) {
        bail!(
            "every export of the page's WebAssembly is wrapped in a command that runs all constructors again. The module's \
             start function has to call `__wasm_call_ctors` once, before anything else"
        );
    }
    Ok(())
}

/// Prints what the engine weighs and fails above the limit. `optimize` measures it after wasm-opt, as it is published.
pub fn size(house: &House, optimize: bool) -> Result<()> {
    house.ensure_node()?;
    build_engine(house)?;
    let engine = engine(house);
    let mut rows = vec![("as built", engine.clone())];
    let optimized = engine.with_extension("opt.wasm");
    if optimize {
        wasm_opt(house, &engine, &optimized)?;
        rows.push(("after wasm-opt", optimized.clone()));
    }
    let mut published = 0;
    println!("\n{:<16}{:>12}{:>14}", "", "raw", "Brotli");
    for (name, path) in rows {
        let raw = std::fs::metadata(&path)
            .with_context(|| format!("reading {}", path.display()))?
            .len();
        published = brotli_size(house, &path)?;
        println!(
            "{name:<16}{:>12}{:>14}",
            megabytes(raw),
            megabytes(published)
        );
    }
    if optimize {
        std::fs::remove_file(&optimized)
            .with_context(|| format!("removing {}", optimized.display()))?;
    }
    if published > SIZE_LIMIT {
        bail!(
            "the page's WebAssembly takes {} after Brotli; the limit is {}",
            megabytes(published),
            megabytes(SIZE_LIMIT)
        );
    }
    println!("within the limit of {} after Brotli", megabytes(SIZE_LIMIT));
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    // A size in bytes is far below 2^53: the conversion is exact.
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn npm_tools(house: &House) -> PathBuf {
    house.root.join("xtask").join("npm")
}

/// wasm-opt from npm's `binaryen`, which is itself WebAssembly and so runs wherever Node.js does.
fn wasm_opt(house: &House, from: &Path, to: &Path) -> Result<()> {
    let tools = npm_tools(house);
    house.npm_ci(&tools)?;
    println!("wasm-opt takes minutes for a module of this size.");
    let start = Instant::now();
    let mut command = house.command("node");
    command.arg(tools.join("node_modules/binaryen/bin/wasm-opt"));
    run(command
        .arg(from)
        .arg("-Oz")
        .args(WASM_FEATURES)
        .arg("-o")
        .arg(to))?;
    println!("wasm-opt took {:.0} s.", start.elapsed().as_secs_f64());
    Ok(())
}

fn brotli_size(house: &House, path: &Path) -> Result<u64> {
    let mut command = house.command("node");
    command
        .arg(npm_tools(house).join("brotli-size.mjs"))
        .arg(path)
        .arg(BROTLI_QUALITY);
    let printed = crate::tools::output_of(&mut command)
        .with_context(|| format!("Node.js could not compress {}", path.display()))?;
    printed.parse().with_context(|| {
        format!("expected a number of bytes, but brotli-size.mjs printed `{printed}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_that_run_all_constructors_are_refused() {
        assert!(check_constructors(b"\0asm....name train.command_export end").is_err());
        assert!(check_constructors(b"\0asm....name train end").is_ok());
        assert!(check_constructors(b"").is_ok());
    }

    #[test]
    fn sizes_are_shown_in_millions_of_bytes() {
        assert_eq!(megabytes(SIZE_LIMIT), "3.50 MB");
        assert_eq!(megabytes(0), "0.00 MB");
    }
}
