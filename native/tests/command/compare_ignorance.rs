//! `avascope compare` with `[[ignorance]]`: every estimate of how far a map may be off stands in the folder, and what cannot be
//! estimated says why.

use crate::support::*;
use serde_json::Value;
use std::fs;

const TINY: &str = "
out = 'out'
world_rows = 120
device = 'cpu'
seeds = [0, 1]
test = 0.3
validation = 0.1
resamples = 100

[train]
steps = 6
batch_size = 4
trainable = { mode = 'lora', r = 2, alpha = 4.0, targets = ['q_proj'] }

[[method]]
name = 'ava_p'

[[method]]
name = 'ava_d'

[[ignorance]]
kind = 'laplace'
over = 'lora'
prior_variance = 1.0

[[ignorance]]
kind = 'dropout'
samples = 2
";

#[test]
fn every_estimate_stands_beside_every_system() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    fs::write(here.join("compare.toml"), TINY).unwrap();
    avascope(here, "compare compare.toml", &[])
        .code(0)
        .says(&["ignorance Laplace, head and adapters, prior variance 1; dropout 0.1, 2 masks"]);
    let text = fs::read_to_string(here.join("out/results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    let lines = results["ignorance"].as_array().expect("lines");
    // Two systems by two estimates, and the seeds of each as one ensemble.
    assert_eq!(lines.len(), 6);
    let of = |system: &str, estimate: &str| {
        let found = lines.iter().find(|line| {
            line["system"] == system && line["estimate"].as_str().unwrap().contains(estimate)
        });
        found.unwrap_or_else(|| panic!("no {estimate} of {system}"))
    };
    let laplace = of("ava_p", "Laplace");
    assert_eq!(laplace["seeds"], 2);
    let detail = laplace["detail"].as_str().expect("a detail");
    assert!(detail.contains("Kronecker"), "{detail}");
    for name in ["ignorance / spread of the map", "95 % coverage, total"] {
        let figures = laplace["figures"].as_array().unwrap();
        let figure = figures.iter().find(|figure| figure["name"] == name);
        let figure = figure.unwrap_or_else(|| panic!("no {name}"));
        assert!(
            figure["value"].is_number() || figure["undefined"].is_string(),
            "{figure}"
        );
    }
    let without = of("ava_d", "Laplace");
    let why = without["failure"].as_str().expect("a reason");
    assert!(why.contains("no preference likelihood"), "{why}");
    assert!(of("ava_d", "dropout")["failure"].is_null());
    assert_eq!(of("ava_p", "ensemble")["seeds"], 2);
    let table = fs::read_to_string(here.join("out/table.md")).unwrap();
    assert!(table.contains("## Ignorance") && !table.contains("NaN"));
    let page = fs::read_to_string(here.join("out/report.html")).unwrap();
    assert!(page.contains("the seeds as one ensemble (2 seeds)"));
    // What is there is read again, with the same numbers.
    avascope(here, "compare compare.toml", &[]).code(0);
    assert_eq!(
        fs::read_to_string(here.join("out/table.md")).unwrap(),
        table
    );
}

#[test]
fn a_wrong_estimate_is_told_before_anything_is_trained() {
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path();
    for (from, to, words) in [
        ("kind = 'dropout'", "kind = 'dropuot'", "`[[ignorance]]` 2"),
        ("samples = 2", "samples = 1", "at least 2"),
        ("over = 'lora'", "ovre = 'lora'", "ovre"),
        (
            "mode = 'lora', r = 2, alpha = 4.0, targets = ['q_proj']",
            "mode = 'heads'",
            "no adapter trains",
        ),
    ] {
        fs::write(here.join("compare.toml"), TINY.replace(from, to)).unwrap();
        avascope(here, "compare compare.toml", &[])
            .code(2)
            .says(&[words]);
        assert!(!here.join("out").exists());
    }
}
