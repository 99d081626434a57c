//! What tests read beside the checkout: golden values, oracles, small models and data. Tests only.
//!
//! A machine without them still runs the other tests, and each one that is left out says so (see [`skipped`]).

mod skips;

pub(crate) use skips::{folder, path, skipped};

use serde_json::Value;

/// The bytes of a file of the shared folder, or `None` after saying that it is left out. A file that is there and cannot be
/// read fails the test.
#[track_caller]
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    let path = path(name)?;
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// The same of a JSON file.
#[track_caller]
pub(crate) fn json(name: &str) -> Option<Value> {
    let bytes = read(name)?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => panic!("{name} of the shared folder is not JSON: {error}"),
    }
}

/// The golden values `golden/<name>.json`.
#[track_caller]
pub(crate) fn golden(name: &str) -> Option<Value> {
    json(&format!("golden/{name}.json"))
}

mod tests {
    use super::skips::{absent, append, line, place};
    use std::panic::Location;
    use std::path::Path;

    #[test]
    fn a_skip_is_one_line_of_place_what_and_why() {
        assert_eq!(
            line(
                "room::tests::a_fact",
                "golden/x.json",
                "the shared folder\n  is absent: set AVASCOPE_SHARED"
            ),
            "room::tests::a_fact: golden/x.json: the shared folder is absent: set AVASCOPE_SHARED\n"
        );
        // What is left out holds no separator, whatever it is called.
        assert_eq!(line("a", "b: c", "d"), "a: b, c: d\n");
    }

    #[test]
    fn a_skip_names_the_running_test_or_its_line() {
        let place = place(Location::caller());
        let named = place.ends_with("a_skip_names_the_running_test_or_its_line");
        assert!(named || place.contains("test_data.rs:"), "{place}");
        assert!(!place.contains(": "), "{place}");
    }

    #[test]
    fn a_missing_folder_is_told_from_a_missing_file() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        let no_folder = absent(&checkout.join("no-such-folder"));
        let no_file = absent(checkout);
        assert!(
            no_folder.ends_with("no-such-folder is absent"),
            "{no_folder}"
        );
        assert!(no_file.ends_with("does not hold it"), "{no_file}");
        // By these words `cargo xtask test --require-shared` knows them.
        for reason in [no_folder, no_file] {
            assert!(reason.starts_with("the shared folder "), "{reason}");
        }
    }

    #[test]
    fn lines_written_side_by_side_do_not_mix() {
        let name = format!("avascope-skips-{}.txt", std::process::id());
        let file = std::env::temp_dir().join(name);
        let lines: Vec<String> = (0..8)
            .map(|thread| line(&format!("test_{thread}"), &"x".repeat(300), "a reason"))
            .collect();
        let at = &file;
        std::thread::scope(|scope| {
            for line in &lines {
                scope.spawn(move || (0..50).for_each(|_| append(at, line)));
            }
        });
        let text = std::fs::read_to_string(&file).expect("a file of lines");
        std::fs::remove_file(&file).expect("a file that can be removed");
        for line in &lines {
            assert_eq!(text.matches(line.as_str()).count(), 50);
        }
        assert_eq!(text.lines().count(), 8 * 50);
    }
}
