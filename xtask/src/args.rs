//! The command line of `cargo xtask`, read without a library: there are five commands and seven flags.

use crate::stages::Stage;
use anyhow::{Result, bail};

pub const USAGE: &str = "\
cargo xtask <command>

  demo [--port N] [--no-open]     build the page, serve it on this machine, open the browser
  serve [--port N] [--no-open]    serve the page that is already built
  build [--optimize]              build pkg/ (wasm-pack) and www/dist (Vite); --optimize runs wasm-opt, which takes minutes
  test [--only A,B] [--skip A,B]  run every check: fmt, clippy, test, page, unit, browser; at the end stands what was skipped
       [--require-shared]         fail where something is skipped for want of the shared folder of golden values, models, data
  size [--no-opt]                 sizes of the page's WebAssembly: raw, after wasm-opt, and Brotli; fails above the limit

Build outputs go to $AVASCOPE_TARGET_DIR, else $CARGO_TARGET_DIR, else avascope/target in the user's cache directory.
The shared folder is $AVASCOPE_SHARED, else `shared` beside the checkout; AVASCOPE_REQUIRE_SHARED=1 is --require-shared.
Chromium is looked for in $CHROME, $CHROMIUM_PATH, PATH and the usual places.
";

/// The port tried first; the next free ones follow where it is taken and none was asked for.
pub const DEFAULT_PORT: u16 = 8080;

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Build {
        optimize: bool,
    },
    /// `port` is `None` where the person named none: then a free one is looked for.
    Demo {
        port: Option<u16>,
        open: bool,
    },
    Serve {
        port: Option<u16>,
        open: bool,
    },
    Size {
        optimize: bool,
    },
    Test(Choice),
}

/// Which stages of `cargo xtask test` run, and what they must not do without.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub only: Vec<Stage>,
    pub skip: Vec<Stage>,
    /// Whether a test that is skipped for want of the shared folder fails the run.
    pub require_shared: bool,
}

impl Choice {
    pub fn includes(&self, stage: Stage) -> bool {
        (self.only.is_empty() || self.only.contains(&stage)) && !self.skip.contains(&stage)
    }
}

/// Reads the words after `cargo xtask`. Flags take their value as `--port 9000` or `--port=9000`.
pub fn parse(words: &[String]) -> Result<Command> {
    let Some((name, rest)) = words.split_first() else {
        return Ok(Command::Help);
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    let mut flags = Flags::new(name, rest)?;
    let command = match name.as_str() {
        "help" | "--help" | "-h" => Command::Help,
        "demo" => Command::Demo {
            port: flags.port()?,
            open: !flags.switch("--no-open")?,
        },
        "serve" => Command::Serve {
            port: flags.port()?,
            open: !flags.switch("--no-open")?,
        },
        "build" => Command::Build {
            optimize: flags.switch("--optimize")?,
        },
        "size" => Command::Size {
            optimize: !flags.switch("--no-opt")?,
        },
        "test" => Command::Test(Choice {
            only: flags.stages("--only")?,
            skip: flags.stages("--skip")?,
            require_shared: flags.switch("--require-shared")?,
        }),
        other => bail!("`{other}` is not a command of xtask\n\n{USAGE}"),
    };
    flags.finish()?;
    Ok(command)
}

/// Flags of one command, taken out as they are read; what is left over at the end is a mistake.
struct Flags<'a> {
    command: &'a str,
    given: Vec<(String, Option<String>)>,
}

impl<'a> Flags<'a> {
    fn new(command: &'a str, words: &[String]) -> Result<Self> {
        let mut given = Vec::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                bail!(
                    "`{word}` is not expected after `cargo xtask {command}`; `cargo xtask --help` lists the flags"
                );
            }
            match word.split_once('=') {
                Some((flag, value)) => given.push((flag.to_owned(), Some(value.to_owned()))),
                None => given.push((
                    word.clone(),
                    words.next_if(|next| !next.starts_with("--")).cloned(),
                )),
            }
        }
        Ok(Self { command, given })
    }

    fn take(&mut self, flag: &str) -> Option<Option<String>> {
        let place = self.given.iter().position(|(name, _)| name == flag)?;
        Some(self.given.remove(place).1)
    }

    fn switch(&mut self, flag: &str) -> Result<bool> {
        match self.take(flag) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => bail!("`{flag}` takes no value, but `{value}` was given"),
        }
    }

    fn port(&mut self) -> Result<Option<u16>> {
        match self.take("--port") {
            None => Ok(None),
            Some(None) => bail!("`--port` needs a number, as in `--port 9000`"),
            Some(Some(value)) => match value.parse::<u16>() {
                Ok(port) => Ok(Some(port)),
                Err(_) => {
                    bail!("`--port {value}`: a port is a number from 0 (any free one) to 65535")
                }
            },
        }
    }

    fn stages(&mut self, flag: &str) -> Result<Vec<Stage>> {
        match self.take(flag) {
            None => Ok(Vec::new()),
            Some(None) => bail!(
                "`{flag}` needs stages, as in `{flag} fmt,clippy`; there are: {}",
                Stage::names()
            ),
            Some(Some(value)) => value
                .split(',')
                .map(|name| Stage::from_name(name.trim()))
                .collect(),
        }
    }

    fn finish(self) -> Result<()> {
        match self.given.first() {
            None => Ok(()),
            Some((flag, _)) => bail!(
                "`cargo xtask {}` has no flag `{flag}` (or it was given twice); `cargo xtask --help` lists the flags",
                self.command
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn every_command_reads_with_its_flags() {
        assert_eq!(parsed("").unwrap(), Command::Help);
        assert_eq!(parsed("demo --help").unwrap(), Command::Help);
        assert_eq!(
            parsed("demo").unwrap(),
            Command::Demo {
                port: None,
                open: true
            }
        );
        assert_eq!(
            parsed("demo --no-open --port 9000").unwrap(),
            Command::Demo {
                port: Some(9000),
                open: false
            }
        );
        assert_eq!(
            parsed("serve --port=0").unwrap(),
            Command::Serve {
                port: Some(0),
                open: true
            }
        );
        assert_eq!(
            parsed("build --optimize").unwrap(),
            Command::Build { optimize: true }
        );
        assert_eq!(
            parsed("size --no-opt").unwrap(),
            Command::Size { optimize: false }
        );
    }

    #[test]
    fn stages_are_chosen_by_name() {
        let Command::Test(choice) = parsed("test --only fmt,clippy,test --skip test").unwrap()
        else {
            panic!("not a test command");
        };
        assert!(choice.includes(Stage::Fmt) && choice.includes(Stage::Clippy));
        assert!(!choice.includes(Stage::Test) && !choice.includes(Stage::Browser));
        assert!(Choice::default().includes(Stage::Browser) && !choice.require_shared);
        let Command::Test(choice) = parsed("test --require-shared --skip browser").unwrap() else {
            panic!("not a test command");
        };
        assert!(choice.require_shared && !choice.includes(Stage::Browser));
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        for (line, expected) in [
            ("dmeo", "`dmeo` is not a command"),
            ("demo --prot 1", "no flag `--prot`"),
            ("demo --port", "needs a number"),
            ("demo --port 70000", "0 (any free one) to 65535"),
            ("demo --no-open yes", "takes no value"),
            ("demo page", "not expected"),
            ("test --only fmt,tset", "`tset` is not a stage"),
            ("test --only fmt --only test", "given twice"),
        ] {
            let message = format!("{:#}", parsed(line).unwrap_err());
            assert!(message.contains(expected), "`{line}` says: {message}");
        }
    }
}
