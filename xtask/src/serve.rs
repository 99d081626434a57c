//! A static file server for the built page, on this machine only: GET and HEAD, one thread a connection.
//!
//! It stands in for any static host while developing. It is not meant for a network: it binds to the loopback address,
//! speaks no TLS and compresses nothing.

use crate::args::DEFAULT_PORT;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest request line plus headers that is read; a browser's own stay far below.
const MAX_REQUEST_BYTES: u64 = 32 * 1024;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `root` until the process is stopped, and opens the browser on it.
pub fn demo(root: &Path, port: Option<u16>, open: bool) -> Result<()> {
    if !root.join("index.html").is_file() {
        bail!(
            "there is no page in {}; build it with `cargo xtask build`",
            root.display()
        );
    }
    let root = root
        .canonicalize()
        .with_context(|| format!("opening {}", root.display()))?;
    let listener = listen(port)?;
    let url = format!("http://localhost:{}/", listener.local_addr()?.port());
    println!("\navascope is at {url}   (Ctrl+C stops it)");
    if open && !open_browser(&url) {
        println!("No browser could be opened from here: open that address yourself.");
    }
    serve(&listener, &root);
    Ok(())
}

/// The port asked for, or else the first free one from 8080 on, or else any free one.
fn listen(port: Option<u16>) -> Result<TcpListener> {
    if let Some(port) = port {
        return TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("port {port} cannot be used; leave `--port` out to get a free one")
        });
    }
    (DEFAULT_PORT..DEFAULT_PORT + 20)
        .chain([0])
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .context("no free port was found on the loopback address")
}

fn serve(listener: &TcpListener, root: &Path) {
    for stream in listener.incoming().flatten() {
        let root = root.to_owned();
        // A browser that hangs up in the middle of an answer is no news.
        std::thread::spawn(move || drop(answer(stream, &root)));
    }
}

fn answer(stream: TcpStream, root: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut reader = BufReader::new((&stream).take(MAX_REQUEST_BYTES));
    let mut request_line = String::new();
    reader.read_line(&mut request_line)?;
    // The headers are read to their end so that closing does not reset the connection under the answer.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }

    let mut words = request_line.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if method != "GET" && method != "HEAD" {
        return plain(
            &stream,
            "405 Method Not Allowed",
            "Only GET and HEAD are answered here.\n",
        );
    }
    let Some(path) = resolve(root, target) else {
        return plain(&stream, "404 Not Found", "No such file.\n");
    };
    let Ok(mut file) = File::open(&path) else {
        return plain(&stream, "404 Not Found", "No such file.\n");
    };
    let length = file.metadata()?.len();
    head(&stream, "200 OK", content_type(&path), length)?;
    if method == "GET" {
        std::io::copy(&mut file, &mut &stream)?;
    }
    Ok(())
}

fn plain(stream: &TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    head(
        stream,
        status,
        "text/plain; charset=utf-8",
        body.len() as u64,
    )?;
    let mut stream = stream;
    stream.write_all(body.as_bytes())
}

fn head(
    mut stream: &TcpStream,
    status: &str,
    content_type: &str,
    length: u64,
) -> std::io::Result<()> {
    // `no-store`: after a rebuild a reload must show the new page, never a cached one.
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes())
}

/// The file that a request target names below `root` (canonical), or `None` where it names none or points outside.
fn resolve(root: &Path, target: &str) -> Option<PathBuf> {
    let relative = safe_path(target)?;
    let mut path = root.join(relative);
    if path.is_dir() {
        path.push("index.html");
    }
    // Canonical, so that a symbolic link that leads out of the folder is not followed either.
    let path = path.canonicalize().ok()?;
    (path.starts_with(root) && path.is_file()).then_some(path)
}

/// The request target as a relative path: query cut off, percent signs decoded, and nothing in it that could climb out.
fn safe_path(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let decoded = percent_decode(path)?;
    let mut relative = PathBuf::new();
    for part in decoded.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            // Backslash and colon separate folders and drives on Windows; NUL ends a name in C.
            _ if part.contains(['\\', ':', '\0']) => return None,
            _ => relative.push(part),
        }
    }
    Some(relative)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Module scripts and streaming WebAssembly compilation are refused by browsers when the type is wrong.
fn content_type(path: &Path) -> &'static str {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("")
        .to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "jsonl" | "ndjson" => "application/x-ndjson; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "wasm" => "application/wasm",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        _ => "application/octet-stream",
    }
}

/// Tries the system's opener; `false` where there is none, or no screen to show a browser on.
fn open_browser(url: &str) -> bool {
    let candidates: &[(&str, &[&str])] = if cfg!(target_os = "macos") {
        &[("open", &[])]
    } else if cfg!(windows) {
        // The empty string is the window title, which `start` takes from the first quoted word.
        &[("cmd", &["/c", "start", ""])]
    } else {
        let has_screen = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        if !has_screen {
            return false;
        }
        &[("xdg-open", &[]), ("wslview", &[]), ("gio", &["open"])]
    };
    candidates.iter().any(|(program, arguments)| {
        Command::new(program)
            .args(*arguments)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_that_browsers_insist_on_are_right() {
        for (name, expected) in [
            ("avascope_bg.wasm", "application/wasm"),
            ("assets/index-abc.JS", "text/javascript; charset=utf-8"),
            ("index.html", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("model.safetensors", "application/octet-stream"),
            ("LICENSE", "application/octet-stream"),
        ] {
            assert_eq!(content_type(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn request_targets_become_relative_paths() {
        for (target, expected) in [
            ("/", ""),
            ("/index.html?x=1#y", "index.html"),
            ("/assets/a%20b.js", "assets/a b.js"),
            ("//assets/./x", "assets/x"),
            ("/caf%C3%A9", "café"),
        ] {
            assert_eq!(safe_path(target), Some(PathBuf::from(expected)), "{target}");
        }
    }

    #[test]
    fn request_targets_that_climb_out_are_refused() {
        for target in [
            "/../secret",
            "/a/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/a%2f..%2f..%2fsecret",
            "/..\\secret",
            "/c:/windows",
            "/a%00b",
            "/%zz",
            "/%f",
            "/%ff",
            "http://elsewhere/",
            "",
        ] {
            assert_eq!(safe_path(target), None, "{target}");
        }
    }

    fn get(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_server_answers_files_below_its_root_and_nothing_else() {
        let base =
            std::env::temp_dir().join(format!("avascope-xtask-serve-{}", std::process::id()));
        let root = base.join("dist");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(base.join("secret"), "secret").unwrap();
        std::fs::write(root.join("index.html"), "<p>front").unwrap();
        std::fs::write(root.join("sub/index.html"), "<p>sub").unwrap();
        std::fs::write(root.join("x.wasm"), "\0asm").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(base.join("secret"), root.join("link")).unwrap();

        let listener = listen(Some(0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let canonical = root.canonicalize().unwrap();
        std::thread::spawn(move || serve(&listener, &canonical));

        let front = get(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            front.starts_with("HTTP/1.1 200 OK") && front.ends_with("<p>front"),
            "{front}"
        );
        assert!(get(port, "GET /sub/ HTTP/1.1\r\n\r\n").ends_with("<p>sub"));
        let wasm = get(port, "HEAD /x.wasm HTTP/1.1\r\n\r\n");
        assert!(
            wasm.contains("Content-Type: application/wasm") && wasm.contains("Content-Length: 4"),
            "{wasm}"
        );
        assert!(wasm.ends_with("\r\n\r\n"), "a HEAD answer has no body");
        for target in ["/../secret", "/%2e%2e/secret", "/missing", "/link"] {
            let answer = get(port, &format!("GET {target} HTTP/1.1\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 404"), "{target}: {answer}");
        }
        assert!(get(port, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_taken_port_is_passed_over_unless_it_was_asked_for() {
        let first = listen(None).unwrap();
        let second = listen(None).unwrap();
        let taken = first.local_addr().unwrap().port();
        assert_ne!(taken, second.local_addr().unwrap().port());
        let message = format!("{:#}", listen(Some(taken)).unwrap_err());
        assert!(message.contains("leave `--port` out"), "{message}");
    }
}
