//! What tests left out, and why: each adds a line `place: what: why` to the file that `AVASCOPE_SKIPS` names
//! (`src/test_data/skips.rs` and `tests/browser/shared.mjs` write them), since the output of a test that passes is hidden. Most of
//! them read golden values, oracles, models or data from a folder beside the checkout, which a machine may lack.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

/// Tells tests the file to which they add what they leave out.
pub const SKIPS: &str = "AVASCOPE_SKIPS";
/// Names the folder that tests read, where it is not `shared` beside the checkout.
const SHARED: &str = "AVASCOPE_SHARED";
/// The same as `--require-shared`, for machines where the folder must not be forgotten.
const REQUIRE_SHARED: &str = "AVASCOPE_REQUIRE_SHARED";
/// How every reason begins that has to do with that folder.
const WANT_OF_SHARED: &str = "the shared folder ";
/// So many of the things left out are named for each reason.
const NAMED: usize = 3;

/// Refuses a folder that was named and does not exist, and an absent one where it is required. Returns whether it is.
pub fn check_shared(root: &Path, flag: bool) -> Result<bool> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let required = flag || variable(REQUIRE_SHARED).is_some_and(|value| value != "0");
    check_folder(root, variable(SHARED), required)?;
    Ok(required)
}

/// The folder by the tests' own rule: a relative path counts from the checkout.
fn check_folder(root: &Path, named: Option<OsString>, required: bool) -> Result<()> {
    let beside = root.parent().unwrap_or(root).join("shared");
    let folder = named.as_ref().map_or(beside, |named| root.join(named));
    if folder.is_dir() {
        return Ok(());
    }
    if named.is_some() {
        bail!(
            "{SHARED} names {}, which is not a folder; without it tests look for the folder `shared` beside the checkout",
            folder.display()
        );
    }
    if required {
        bail!(
            "{WANT_OF_SHARED}{} is absent, and --require-shared or {REQUIRE_SHARED} asks for it; {SHARED} names another one",
            folder.display()
        );
    }
    Ok(())
}

/// Makes an empty file for this run's lines.
pub fn begin(file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    std::fs::write(file, "").with_context(|| format!("writing {}", file.display()))
}

/// Reads this run's lines and takes the file away.
pub fn end(file: &Path) -> Result<Skips> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
    Ok(Skips::of(&text))
}

/// Checks that were left out, wholly or in part.
pub struct Skips {
    /// By reason: places, each with what it left out. A test that says the same twice counts once.
    reasons: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl Skips {
    /// Of lines `place: what: why`.
    fn of(text: &str) -> Self {
        let mut reasons: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut parts = line.splitn(3, ": ");
            // A line of another form is still a skip: it is shown, not dropped.
            let mut part = |absent: &str| parts.next().unwrap_or(absent).to_owned();
            let (place, what, why) = (part(""), part("?"), part("no reason was given"));
            reasons.entry(why).or_default().insert((place, what));
        }
        Self { reasons }
    }

    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Places that left something out for want of the shared folder or of something in it.
    pub fn for_shared(&self) -> usize {
        let wanting = |why: &str| why.starts_with(WANT_OF_SHARED);
        places((self.reasons.iter()).filter_map(|(why, left_out)| wanting(why).then_some(left_out)))
    }

    /// How many checks were left out, then each reason with its number of places, the most frequent one first.
    pub fn summary(&self) -> String {
        if self.is_empty() {
            return "skipped: nothing\n".to_owned();
        }
        let mut text = format!(
            "skipped, wholly or in part: {}\n",
            checks(places(self.reasons.values()))
        );
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        // Stable: reasons of equal weight keep the order of their words.
        reasons.sort_by_key(|(_, left_out)| std::cmp::Reverse(places([*left_out])));
        for (why, left_out) in reasons {
            let count = places([left_out]);
            text.push_str(&format!("{count:>5}  {why} ({})\n", named(left_out)));
        }
        text
    }
}

/// Places among what was left out for some reasons, each counted once.
fn places<'a>(reasons: impl IntoIterator<Item = &'a BTreeSet<(String, String)>>) -> usize {
    let all = reasons.into_iter().flatten();
    all.map(|(place, _)| place).collect::<BTreeSet<_>>().len()
}

/// The first things left out, and how many more there are.
fn named(left_out: &BTreeSet<(String, String)>) -> String {
    let what: BTreeSet<&str> = left_out.iter().map(|(_, what)| what.as_str()).collect();
    let first: Vec<&str> = what.iter().copied().take(NAMED).collect();
    let first = first.join(", ");
    match what.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// `1 check`, `2 checks`.
pub fn checks(count: usize) -> String {
    format!("{count} check{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
objective::ava_d::tests::golden: golden/ava_d.json: the shared folder /x/shared is absent
objective::ava_d::tests::golden: golden/ava_d.json: the shared folder /x/shared is absent
objective::ava_d::tests::on_a_gpu: the same on a GPU: AVASCOPE_TEST_WGPU is not 1
files::tests::rows: data: the shared folder /x/shared is absent
text::tests::gguf: smollm2.gguf: it is not there: fetch it
text::tests::properties: oracle/gpt2: the shared folder /x/shared is absent
text::tests::properties: oracle/qwen2: the shared folder /x/shared is absent
";

    #[test]
    fn the_summary_counts_places_by_reason() {
        let skips = Skips::of(LINES);
        let expected = "\
skipped, wholly or in part: 5 checks
    3  the shared folder /x/shared is absent (data, golden/ava_d.json, oracle/gpt2 and 1 more)
    1  AVASCOPE_TEST_WGPU is not 1 (the same on a GPU)
    1  it is not there: fetch it (smollm2.gguf)
";
        assert_eq!(skips.summary(), expected);
        assert_eq!(skips.for_shared(), 3);
        let one = Skips::of("a::b: c: d\n");
        assert_eq!(
            one.summary(),
            "skipped, wholly or in part: 1 check\n    1  d (c)\n"
        );
        assert_eq!(one.for_shared(), 0);
    }

    #[test]
    fn nothing_skipped_is_said_and_no_line_is_lost() {
        assert_eq!(Skips::of("\n").summary(), "skipped: nothing\n");
        let odd = Skips::of("only words\n");
        assert!(!odd.is_empty());
        assert!(odd.summary().contains("1  no reason was given (?)"));
    }

    #[test]
    fn a_run_begins_with_an_empty_file_and_takes_it_away() {
        let name = format!("avascope-xtask-skips-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let file = folder.join("inside/skips.txt");
        begin(&file).unwrap();
        std::fs::write(&file, "a: b: c\n").unwrap();
        begin(&file).unwrap();
        assert!(end(&file).unwrap().is_empty());
        assert!(end(&file).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_named_has_to_exist_and_an_absent_one_only_where_it_is_required() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let nowhere = here.join("no-such-folder/checkout");
        let said = |root: &Path, named: Option<&str>, required: bool| match check_folder(
            root,
            named.map(OsString::from),
            required,
        ) {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(said(&nowhere, None, false), "");
        assert!(said(&nowhere, None, true).contains("is absent, and --require-shared"));
        // A relative path counts from the checkout.
        assert_eq!(said(here, Some("src"), true), "");
        for required in [false, true] {
            let wrong = said(here, Some("no-such-folder"), required);
            assert!(wrong.contains("AVASCOPE_SHARED names"), "{wrong}");
        }
    }
}
