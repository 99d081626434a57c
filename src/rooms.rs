//! One way, no turning back: a room uses only rooms before it. This test reads the sources and says where one turns.

use std::fs;
use std::path::{Path, PathBuf};

/// Every room, and before it all that it may use.
const ORDER: [&str; 16] = [
    // Plain words for errors, and random numbers: of use to everybody.
    "plain",
    "random",
    "device",
    // Files of models, GGUF's tokenizer among them.
    "model",
    "text",
    "data",
    // Statistics on the host, in f64.
    "eval",
    "world",
    "reward",
    "objective",
    "credit",
    "policy",
    "train",
    "compare",
    "web",
    "lib",
];

/// Sources of the library, without tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the library") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let test = name.contains("test") || name == "golden.rs" || name == "rooms.rs";
        if path.is_dir() && !test {
            sources(&path, found);
        } else if name.ends_with(".rs") && !test {
            found.push(path);
        }
    }
}

/// The rooms that a file names behind `crate::`, each with its line, up to the file's own tests.
fn used(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .flat_map(|(i, line)| {
            line.match_indices("crate::").map(move |(at, word)| {
                let rest = &line[at + word.len()..];
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                (i + 1, rest[..end.unwrap_or(rest.len())].to_string())
            })
        })
        .collect()
}

#[test]
fn a_room_uses_only_rooms_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 100, "{}", files.len());
    let place = |room: &str| ORDER.iter().position(|known| *known == room);
    let mut turns = Vec::new();
    for path in files {
        let inside = path.strip_prefix(&root).expect("a source").to_path_buf();
        let first = inside.iter().next().unwrap_or_default().to_string_lossy();
        let room = first.trim_end_matches(".rs");
        let own = place(room).unwrap_or_else(|| panic!("`{room}` has no place in ORDER"));
        for (line, other) in used(&fs::read_to_string(&path).expect("a source")) {
            // Types of the test build's generator and the like are no rooms.
            let Some(at) = place(&other) else { continue };
            if at > own {
                turns.push(format!("src/{}:{line} uses {other}", inside.display()));
            }
        }
    }
    assert!(turns.is_empty(), "{}", turns.join("\n"));
}

/// Whether the page differs from the command is decided in few places, so that all else is the same code.
#[test]
fn the_page_s_target_is_asked_for_in_three_places() {
    const PLACES: [&str; 3] = ["web/", "device.rs", "model/host/passes.rs"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let asks: Vec<String> = files
        .iter()
        .filter(|path| {
            let text = fs::read_to_string(path).expect("a source");
            text.contains("target_family") || text.contains("\"wasm32\"")
        })
        .map(|path| path.strip_prefix(&root).expect("a source"))
        .map(|path| path.display().to_string())
        .collect();
    let stray = |path: &&String| !PLACES.iter().any(|place| path.starts_with(place));
    let strays: Vec<_> = asks.iter().filter(stray).collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert!(asks.len() >= PLACES.len(), "{asks:?}");
}

#[test]
fn rooms_are_found_in_use_lines_and_paths() {
    let text = "use crate::data::Span;\nlet x = crate::eval::mean(crate::random::f());\n// crate::web\n#[cfg(test)]\nmod tests { use crate::train; }";
    let rooms: Vec<_> = used(text)
        .into_iter()
        .map(|(line, room)| format!("{line} {room}"))
        .collect();
    assert_eq!(rooms, ["1 data", "2 eval", "2 random"]);
}
