//! Embeds the page's token view for `avascope inspect`, where the page has been built; a placeholder otherwise, which
//! `inspect` turns into an error that says so.

use std::path::Path;
use std::{env, fs};

fn main() {
    let report = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("../www/dist-report/report.html");
    println!("cargo:rerun-if-changed={}", report.display());
    let html = fs::read_to_string(&report).unwrap_or_default();
    let out = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("report.html");
    if let Err(error) = fs::write(&out, html) {
        println!("cargo:warning=cannot write {}: {error}", out.display());
    }
}
