//! `avascope fetch` against a hub of our own on this machine, which speaks as much of the Hugging Face hub's protocol as
//! its client asks for: information on a repository, and files by byte range.

use super::support::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Files by path, and every request so far as `METHOD path range`.
struct Hub {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn serve(files: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early is no failure of the test.
                let _ = answer(stream, &files, &log);
            }
        });
        Self { address, requests }
    }

    fn fetch(&self, folder: &std::path::Path, words: &[&str]) -> Done {
        let output = command()
            .current_dir(folder)
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
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"e{}\"\r\n\
         x-repo-commit: 0123456789abcdef0123456789abcdef01234567\r\nConnection: close\r\n\r\n",
        to - from,
        to.saturating_sub(1),
        bytes.len(),
        path.len()
    )?;
    stream.write_all(&bytes[from..to])
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
    let body = |hub: &Hub| {
        let requests = hub.requests.lock().expect("no test panicked");
        requests
            .iter()
            .filter(|r| **r == format!("{path} bytes=0-"))
            .count()
    };
    assert_eq!(body(&hub), 1);
    // The second time nothing is loaded again.
    hub.fetch(
        folder.path(),
        &["dataset:some/pairs!part/test.jsonl", "--out", "rows"],
    )
    .code(0);
    assert_eq!(body(&hub), 1);
    avascope(folder.path(), "data check", &[&file]).code(0);
    // A wrong hash is found and the file is not left lying about.
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
    assert!(!folder.path().join(&file).exists());
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
