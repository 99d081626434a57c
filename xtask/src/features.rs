//! Features of Burn that nothing here may be built with, whichever dependency would bring them.

use crate::tools::{House, WASM_TARGET, output_of};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// Beginnings of such features' names: kernels are measured against each other, and fused ones compiled, during the first steps.
const TUNING: [&str; 2] = ["autotune", "fusion"];
/// Beginnings of the names of the crates that have them.
const CRATES: [&str; 3] = ["burn", "cubecl", "cubek"];
/// The crate that picks kernels: a list of features without it is not the one that was asked for.
const KERNELS: &str = "burn-cubecl";

/// Fails where the page or the command is built with one of those features.
pub fn check(house: &House) -> Result<()> {
    let page = ["-p", "avascope", "--target", WASM_TARGET];
    let command = ["--workspace"];
    for (what, packages) in [("the page", &page[..]), ("the command", &command[..])] {
        let on = switched_on(&tree(house, packages)?).with_context(|| what.to_owned())?;
        if !on.is_empty() {
            bail!("{}", reproach(what, &on, packages));
        }
        println!("{what} is built without {}", TUNING.join(" and "));
    }
    Ok(())
}

fn tree(house: &House, packages: &[&str]) -> Result<String> {
    const WORDS: [&str; 6] = [
        "tree",
        "--locked",
        "-e",
        "normal,features",
        "--prefix",
        "none",
    ];
    let ask = |more: &[&str]| {
        let mut cargo = House::without_rustflags(house.cargo(&WORDS));
        output_of(cargo.args(packages).args(more))
    };
    // Whoever has built this once needs no network for it.
    ask(&["--offline"]).or_else(|| ask(&[])).with_context(|| {
        format!(
            "`cargo {} {}` failed; by hand it says why",
            WORDS.join(" "),
            packages.join(" ")
        )
    })
}

fn reproach(what: &str, on: &[String], packages: &[&str]) -> String {
    format!(
        "{what} is built with {}: Burn then measures kernels against each other during the first steps. The page hangs \
         meanwhile, for minutes on a software adapter, and which kernel wins depends on the moment, so that equal runs may no \
         longer give equal losses. Take the feature out of Cargo.toml (`default-features = false` where a dependency brings \
         it); `cargo tree -e features -i {KERNELS} {}` shows the way it came",
        on.join(", "),
        packages.join(" ")
    )
}

/// `crate/feature` for each feature that must be off, from what `cargo tree -e features` prints: lines such as
/// `burn-cubecl v0.22.1` and `burn-cubecl feature "std" (*)`, with or without the drawing of a tree before them.
fn switched_on(tree: &str) -> Result<Vec<String>> {
    let mut on = BTreeSet::new();
    let mut kernels = false;
    for line in tree.lines() {
        let line = line.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let Some((name, rest)) = line.split_once(' ') else {
            continue;
        };
        kernels |= name == KERNELS;
        let feature = rest.strip_prefix("feature \"");
        let Some(feature) = feature.and_then(|rest| rest.split('"').next()) else {
            continue;
        };
        if CRATES.iter().any(|start| name.starts_with(start))
            && TUNING.iter().any(|start| feature.starts_with(start))
        {
            on.insert(format!("{name}/{feature}"));
        }
    }
    if !kernels {
        bail!(
            "`cargo tree -e features` names no {KERNELS}, so that nothing can be said of its features; if Burn's crates have \
             other names now, xtask/src/features.rs has to learn them"
        );
    }
    Ok(on.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT: &str = "\
avascope v0.1.0 (/house/avascope)
├── burn feature \"std\"
│   ├── burn v0.22.1
│   │   └── burn-core v0.22.1
│   └── burn-core feature \"std\"
├── burn-wgpu feature \"std\"
│   └── burn-wgpu v0.22.1
│       └── burn-cubecl feature \"wgpu\"
│           └── burn-cubecl v0.22.1
├── serde feature \"default\" (*)
└── tower feature \"fusion\"
";

    #[test]
    fn a_build_without_tuning_passes() {
        assert!(switched_on(WITHOUT).unwrap().is_empty());
    }

    #[test]
    fn each_tuning_feature_is_found_once_with_its_crate() {
        let more = "\
│       └── burn-cubecl feature \"autotune\"
│           └── burn-cubecl v0.22.1 (*)
burn-wgpu feature \"fusion\"
burn-cubecl feature \"autotune\" (*)
cubecl feature \"autotune-checks\"
";
        let on = switched_on(&format!("{WITHOUT}{more}")).unwrap();
        assert_eq!(
            on,
            [
                "burn-cubecl/autotune",
                "burn-wgpu/fusion",
                "cubecl/autotune-checks"
            ]
        );
        let said = reproach("the page", &on, &["-p", "avascope"]);
        assert!(
            said.contains("the page is built with burn-cubecl/autotune, burn-wgpu/fusion"),
            "{said}"
        );
        assert!(said.contains("hangs"), "{said}");
    }

    #[test]
    fn a_list_without_the_crate_of_kernels_is_no_proof() {
        for text in [
            "",
            "avascope v0.1.0 (/house/avascope)\nserde feature \"default\"\n",
        ] {
            let message = format!("{:#}", switched_on(text).unwrap_err());
            assert!(message.contains("names no burn-cubecl"), "{message}");
        }
    }
}
