//! Where things are, how child processes start, and the tools that building the page needs.
//!
//! Rust tools are built once into the per-user cache directory, at versions that this file and `Cargo.lock` fix. Nothing is
//! downloaded as a binary.

use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The newest release that builds with the pinned toolchain.
const WASM_PACK_VERSION: &str = "0.15.1";
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";
/// What the current Vite asks for.
const MIN_NODE: (u32, u32) = (20, 19);
/// Copy of the lock file that `node_modules` was installed from.
const LOCK_STAMP: &str = ".installed-from-lock";

/// The repository and the directories that commands run with.
pub struct House {
    pub root: PathBuf,
    /// Cargo's outputs, shared by every checkout of this user: dependencies are compiled once.
    target: PathBuf,
    /// `cargo install --root` of wasm-pack and wasm-bindgen-cli.
    tools: PathBuf,
}

impl House {
    pub fn find() -> Result<Self> {
        // `cargo run` sets this to the manifest of the package it runs, so a moved checkout is found too.
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let Some(root) = Path::new(&manifest_dir).parent().map(Path::to_owned) else {
            bail!(
                "{} has no parent directory",
                Path::new(&manifest_dir).display()
            );
        };
        if !root.join("Cargo.lock").is_file() {
            bail!(
                "{} is not the avascope repository: it has no Cargo.lock",
                root.display()
            );
        }
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = cache_dir(std::env::consts::OS, variable)
            .unwrap_or_else(|| root.join("target").join("cache"));
        let target = variable("AVASCOPE_TARGET_DIR")
            .or_else(|| variable("CARGO_TARGET_DIR"))
            .map_or_else(|| cache.join("target"), PathBuf::from);
        let target = std::path::absolute(&target)
            .with_context(|| format!("finding {}", target.display()))?;
        Ok(Self {
            root,
            target,
            tools: cache.join("tools"),
        })
    }

    pub fn pkg(&self) -> PathBuf {
        self.root.join("pkg")
    }

    pub fn www(&self) -> PathBuf {
        self.root.join("www")
    }

    pub fn dist(&self) -> PathBuf {
        self.www().join("dist")
    }

    /// A program of the workspace's release build.
    pub fn binary(&self, name: &str) -> PathBuf {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        self.target.join("release").join(name)
    }

    /// A file among the build outputs that no other run of xtask writes.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let name = format!("{name}-{}.txt", std::process::id());
        self.target.join(name)
    }

    pub fn browser_tests(&self) -> PathBuf {
        self.root.join("tests").join("browser")
    }

    /// A child process in the repository's root that sees our tools first and shares the target directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        let mut search = vec![self.tools.join("bin")];
        search.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        // Fails only for a directory whose name contains the separator: then PATH stays as it is.
        if let Ok(path) = std::env::join_paths(search) {
            command.env("PATH", path);
        }
        // `cargo run` describes xtask's own package in these. Build scripts that watch them (ring's does) would run
        // again, with all that depends on them, each time cargo is started now from here and now by hand.
        for (name, _) in std::env::vars_os() {
            let leaked = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
            });
            if leaked {
                command.env_remove(name);
            }
        }
        command
    }

    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command.args(arguments);
        command
    }

    /// For WebAssembly: flags from the environment would replace those of `.cargo/config.toml`, without which the random
    /// number generator does not compile.
    pub fn without_rustflags(mut command: Command) -> Command {
        command
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }

    pub fn npm(&self, directory: &Path, arguments: &[&str]) -> Command {
        // On Windows npm is a script, which is only found by its full name.
        let mut command = self.command(if cfg!(windows) { "npm.cmd" } else { "npm" });
        command.current_dir(directory).args(arguments);
        command
    }

    /// The WebAssembly target, wasm-pack, and the wasm-bindgen that fits `Cargo.lock`.
    pub fn ensure_wasm_tools(&self) -> Result<()> {
        self.ensure_wasm_target()?;
        self.ensure_cargo_tool("wasm-pack", "wasm-pack", WASM_PACK_VERSION)?;
        let lock_path = self.root.join("Cargo.lock");
        let lock = std::fs::read_to_string(&lock_path)
            .with_context(|| format!("reading {}", lock_path.display()))?;
        let Some(version) = locked_version(&lock, "wasm-bindgen") else {
            bail!(
                "{} does not name the package wasm-bindgen",
                lock_path.display()
            );
        };
        // Module and command must agree to the last digit: the format between them is private to each release.
        self.ensure_cargo_tool("wasm-bindgen", "wasm-bindgen-cli", version)
    }

    pub fn ensure_wasm_target(&self) -> Result<()> {
        let directory = output_of(self.command("rustc").args([
            "--print",
            "target-libdir",
            "--target",
            WASM_TARGET,
        ]));
        if directory.is_some_and(|directory| Path::new(&directory).is_dir()) {
            return Ok(());
        }
        println!("The Rust target {WASM_TARGET} is missing: adding it.");
        run(self.command("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
            format!(
                "Rust's standard library for {WASM_TARGET} is needed to build the page. With rustup: `rustup target add \
                 {WASM_TARGET}`; with a distribution's Rust, its package for that target (Debian: \
                 `apt-get install libstd-rust-dev-wasm32`)"
            )
        })
    }

    /// Takes the program from our tools or from PATH where its version is `version`, and builds it otherwise.
    fn ensure_cargo_tool(&self, program: &str, package: &str, version: &str) -> Result<()> {
        let found = output_of(self.command(program).arg("--version"));
        if found.as_deref().and_then(version_word) == Some(version) {
            return Ok(());
        }
        println!("{package} {version} is missing: building it (a few minutes, once).");
        let wanted = format!("{package}@{version}");
        let install = |locked: &[&str]| {
            let mut command = self.cargo(&["install", "--force", "--root"]);
            command.arg(&self.tools).args(locked).arg(&wanted);
            run(&mut command)
        };
        // The versions that its makers tested with come first. A registry mirror that lags behind may lack one of them:
        // then whichever compatible versions it has.
        install(&["--locked"])
            .or_else(|error| {
                println!("{error:#}; trying with the versions that this registry has");
                install(&[])
            })
            .with_context(|| {
                format!(
                    "{package} {version} is needed to build the page and could not be installed into {}. It is a Rust \
                     program that needs a C compiler (Debian: `apt-get install build-essential`; macOS: `xcode-select \
                     --install`; Windows: the C++ build tools of Visual Studio). By hand: `cargo install {wanted}`",
                    self.tools.display()
                )
            })
    }

    pub fn ensure_node(&self) -> Result<()> {
        const HOW: &str = "Debian: `apt-get install nodejs npm` where that is new enough, else the packages on nodejs.org; \
                           macOS: `brew install node`; Windows: `winget install OpenJS.NodeJS.LTS`";
        let (major, minor) = MIN_NODE;
        let Some(version) = output_of(self.command("node").arg("--version")) else {
            bail!(
                "Node.js {major}.{minor} or newer is needed for the page and was not found. {HOW}"
            );
        };
        if node_version(&version).is_none_or(|found| found < MIN_NODE) {
            bail!(
                "Node.js {major}.{minor} or newer is needed for the page; this is {version}. {HOW}"
            );
        }
        if output_of(&mut self.npm(&self.root, &["--version"])).is_none() {
            bail!("npm, which comes with Node.js, was not found. {HOW}");
        }
        Ok(())
    }

    /// `npm ci`, left out where `node_modules` already came from the same lock file.
    pub fn npm_ci(&self, directory: &Path) -> Result<()> {
        self.ensure_node()?;
        let lock_path = directory.join("package-lock.json");
        let lock = std::fs::read(&lock_path)
            .with_context(|| format!("reading {}", lock_path.display()))?;
        let stamp = directory.join("node_modules").join(LOCK_STAMP);
        if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
            return Ok(());
        }
        run(&mut self.npm(directory, &["ci", "--no-audit", "--no-fund"])).with_context(|| {
            format!(
                "the npm packages of {} could not be installed",
                directory.display()
            )
        })?;
        std::fs::write(&stamp, &lock).with_context(|| format!("writing {}", stamp.display()))
    }
}

/// The per-user directory for what can be made again; `None` where the system does not say.
fn cache_dir(os: &str, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).map(PathBuf::from);
    let base = match os {
        "windows" => path("LOCALAPPDATA"),
        "macos" => path("HOME").map(|home| home.join("Library").join("Caches")),
        // A relative XDG directory is invalid and to be ignored, says its specification.
        _ => path("XDG_CACHE_HOME")
            .filter(|base| base.is_absolute() || os != std::env::consts::OS)
            .or_else(|| path("HOME").map(|home| home.join(".cache"))),
    };
    base.map(|base| base.join("avascope"))
}

/// The version of `package` in the text of a `Cargo.lock`; the first where there are several.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    lock.split("[[package]]").find_map(|entry| {
        let field = |name: &str| {
            entry.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(" = \"")?
                    .strip_suffix('"')
            })
        };
        (field("name")? == package).then(|| field("version"))?
    })
}

/// `0.2.130` of `wasm-bindgen 0.2.130 (abcdef)`.
fn version_word(text: &str) -> Option<&str> {
    text.split_whitespace().nth(1)
}

/// Major and minor number of `v20.20.2`.
fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What a command prints, trimmed; `None` where it is missing or fails.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command with its output in sight, and fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    println!("$ {line}");
    let status = command.status().with_context(|| {
        format!(
            "`{}` could not be started; is it installed and in PATH?",
            command.get_program().to_string_lossy()
        )
    })?;
    match status.code() {
        _ if status.success() => Ok(()),
        Some(code) => bail!("`{line}` failed with exit code {code}"),
        None => bail!("`{line}` was stopped by a signal"),
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "\
version = 4

[[package]]
name = \"wasm-bindgen-futures\"
version = \"0.4.80\"
dependencies = [
 \"wasm-bindgen\",
]

[[package]]
name = \"wasm-bindgen\"
version = \"0.2.130\"
source = \"registry\"
";

    #[test]
    fn the_locked_version_is_that_of_the_package_with_exactly_that_name() {
        assert_eq!(locked_version(LOCK, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(LOCK, "wasm-bindgen-futures"), Some("0.4.80"));
        assert_eq!(locked_version(LOCK, "wasm"), None);
        assert_eq!(locked_version("", "wasm-bindgen"), None);
        assert_eq!(
            locked_version(&LOCK.replace('\n', "\r\n"), "wasm-bindgen"),
            Some("0.2.130")
        );
    }

    #[test]
    fn the_repositorys_own_lock_file_names_wasm_bindgen() {
        let lock = std::fs::read_to_string(House::find().unwrap().root.join("Cargo.lock")).unwrap();
        assert!(
            locked_version(&lock, "wasm-bindgen")
                .is_some_and(|version| version.starts_with("0.2."))
        );
    }

    #[test]
    fn versions_are_read_from_what_the_tools_print() {
        assert_eq!(
            version_word("wasm-bindgen 0.2.130 (1a2b3c)"),
            Some("0.2.130")
        );
        assert_eq!(version_word("wasm-pack 0.15.1"), Some("0.15.1"));
        assert_eq!(version_word("oops"), None);
        assert_eq!(node_version("v20.20.2"), Some((20, 20)));
        assert_eq!(node_version("v8.1.0\n"), Some((8, 1)));
        assert_eq!(node_version("20"), None);
        assert!((20, 18) < MIN_NODE && (22, 0) > MIN_NODE);
    }

    #[test]
    fn each_system_has_its_own_cache_directory() {
        let both = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "XDG_CACHE_HOME" => Some(OsString::from("/x")),
            "LOCALAPPDATA" => Some(OsString::from("/l")),
            _ => None,
        };
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/h"));
        assert_eq!(cache_dir("linux", both), Some(PathBuf::from("/x/avascope")));
        assert_eq!(
            cache_dir("linux", home),
            Some(PathBuf::from("/h/.cache/avascope"))
        );
        assert_eq!(
            cache_dir("macos", both),
            Some(PathBuf::from("/h/Library/Caches/avascope"))
        );
        assert_eq!(
            cache_dir("windows", both),
            Some(PathBuf::from("/l/avascope"))
        );
        assert_eq!(cache_dir("linux", |_| None), None);
    }

    #[test]
    fn a_command_that_fails_is_named_with_its_exit_code() {
        let missing = format!(
            "{:#}",
            run(&mut Command::new("avascope-no-such-program")).unwrap_err()
        );
        assert!(
            missing.contains("could not be started; is it installed"),
            "{missing}"
        );
        let failing = format!(
            "{:#}",
            run(Command::new("rustc").arg("--no-such-flag")).unwrap_err()
        );
        assert!(
            failing.contains("`rustc --no-such-flag` failed with exit code 1"),
            "{failing}"
        );
    }
}
