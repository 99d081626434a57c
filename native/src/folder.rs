//! Run folders: one writer at a time, and files that are complete or not there at all.

use crate::talk::say;
use crate::{exit, files};
use anyhow::{Context as _, Result};
use avascope::train::describe_checkpoint;
use fs4::fs_std::FileExt as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A folder that this process writes to, and no other until it ends.
pub struct RunFolder {
    path: PathBuf,
    // The lock lives as long as the open file.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder where needed and locks it. A folder that another process writes to is an error.
    pub fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        let lock_path = path.join(".lock");
        let lock = File::create(&lock_path)
            .with_context(|| format!("cannot write into {}", path.display()))?;
        if !lock.try_lock_exclusive().unwrap_or(false) {
            return Err(exit::with_code(
                exit::USAGE,
                format!(
                    "another run is writing into {}; wait for it, or choose another --out",
                    path.display()
                ),
            ));
        }
        let folder = Self {
            path: path.to_path_buf(),
            _lock: lock,
        };
        folder.remove_unfinished();
        Ok(folder)
    }

    /// Takes away what a run that was killed in the middle of writing left of its checkpoints and exported weights: they are
    /// large, and nothing reads them. Only the holder of the lock writes such files.
    fn remove_unfinished(&self) {
        for (part, beginning) in [("checkpoints", "step-"), ("final", "")] {
            for entry in fs::read_dir(self.path.join(part))
                .into_iter()
                .flatten()
                .flatten()
            {
                let name = entry.file_name();
                let unfinished = name
                    .to_string_lossy()
                    .strip_prefix('.')
                    .is_some_and(|name| name.starts_with(beginning) && name.contains(".partial-"));
                if unfinished {
                    // One that cannot be removed only takes space.
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of the folder: complete or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// Checkpoints in the folder, oldest first. Unfinished files are not among them.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        checkpoints(&self.path)
    }

    /// Takes away all checkpoints but the `limit` newest ones up to step `written`, which was just written; 0 keeps all. The
    /// one of step `best` stays in any case. What has a higher number is not this run's, and neither counts nor goes. To be
    /// called once a newer one is complete: at every moment there is one to go on from.
    pub fn keep_newest(&self, limit: usize, written: usize, best: Option<usize>) {
        if limit == 0 {
            return;
        }
        let mut own = by_step(&self.path);
        own.retain(|(step, _)| *step <= written);
        let old = own.len().saturating_sub(limit);
        for (step, path) in &own[..old] {
            if best == Some(*step) || holds_another_step(*step, path) {
                continue;
            }
            if let Err(error) = fs::remove_file(path) {
                say!(
                    "warning   an old checkpoint takes space, and cannot be removed: {}: {error}",
                    path.display()
                );
            }
        }
    }
}

/// A checkpoint's name in a run's folder.
pub fn checkpoint_name(step: usize) -> String {
    format!("checkpoints/step-{step:06}.safetensors")
}

/// The step in a checkpoint's name, where that name is exactly as [`checkpoint_name`] writes it.
pub fn step_of(checkpoint: &Path) -> Option<usize> {
    let name = checkpoint.file_name()?.to_str()?;
    let digits = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
    let step: usize = digits.parse().ok()?;
    // Other spellings of the number are a person's.
    (checkpoint_name(step) == format!("checkpoints/{name}")).then_some(step)
}

/// Complete checkpoints of a run's folder, oldest first: by their steps, since beyond a million the names no longer sort so.
/// Folders, and files under names of a person's own, a copy for instance, are not among them.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    by_step(run).into_iter().map(|(_, path)| path).collect()
}

/// [`checkpoints`] with the steps in their names.
fn by_step(run: &Path) -> Vec<(usize, PathBuf)> {
    let mut found: Vec<(usize, PathBuf)> = fs::read_dir(run.join("checkpoints"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| Some((step_of(&path)?, path)))
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort();
    found
}

/// Whether a file says of itself that it holds another step than its name does: a person gave it that name. One that is too
/// damaged to say anything does not.
fn holds_another_step(step: usize, path: &Path) -> bool {
    let said = files::map_safetensors(path)
        .ok()
        .and_then(|bytes| describe_checkpoint(&bytes).ok());
    said.is_some_and(|said| said.step != step)
}

/// Where bytes for a path go.
enum Target {
    /// Into a file of that path, the end of all symbolic links: replaced as a whole.
    File(PathBuf),
    /// Through what is there: a device, a pipe or a socket is written to and never replaced.
    Through,
}

/// Most symbolic links that are followed, as on Linux.
const MOST_LINKS: usize = 40;

/// Follows symbolic links by hand, also one whose end is not there yet.
fn target(path: &Path) -> std::io::Result<Target> {
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let kind = match fs::symlink_metadata(&at) {
            Ok(found) => found.file_type(),
            // Nothing is there yet; or the write itself says what is wrong with the path.
            Err(_) => return Ok(Target::File(at)),
        };
        if kind.is_file() || kind.is_dir() {
            return Ok(Target::File(at));
        }
        // What /dev/stdout and its like end in is an open file, whatever its path was.
        if !kind.is_symlink() || at.starts_with("/proc") || at.starts_with("/dev/fd") {
            return Ok(Target::Through);
        }
        let to = fs::read_link(&at)?;
        at = at.parent().unwrap_or(Path::new("")).join(to);
    }
    Err(std::io::Error::other("too many symbolic links"))
}

/// Where a path leads: as it is written, and, where something is there, behind all symbolic links.
fn places(path: &Path) -> impl Iterator<Item = PathBuf> {
    [std::path::absolute(path), fs::canonicalize(path)]
        .into_iter()
        .flatten()
}

/// Whether a folder is a run's.
fn is_run(folder: &Path) -> bool {
    folder.join("run.toml").is_file()
}

/// Whether a path is the folder in which a run keeps its checkpoints or its trained model.
pub fn is_part_of_run(folder: &Path) -> bool {
    places(folder).any(|place| {
        (place.ends_with("checkpoints") || place.ends_with("final"))
            && place.parent().is_some_and(is_run)
    })
}

/// Whether a file is one of those of which a run is made. What was measured of it (`checkpoints/trust.json`), and whatever
/// else a person puts beside them, is not.
fn is_file_of_run(file: &Path) -> bool {
    places(file).any(|place| {
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return false;
        };
        let name = name.to_string_lossy();
        if is_part_of_run(folder) {
            return folder.ends_with("final")
                || name.starts_with("step-") && name.ends_with(".safetensors");
        }
        let own = ["run.toml", "held_out.jsonl", "metrics.jsonl", ".lock"];
        own.contains(&&*name) && is_run(folder)
    })
}

/// Refuses an output that is one of the inputs, which would be replaced by what is made of it, or a file of which a run is
/// made.
pub fn refuse_inputs(out: Option<&Path>, inputs: &[&Path]) -> Result<()> {
    let Some(out) = out else {
        return Ok(());
    };
    // What is not there, or no regular file, cannot be replaced.
    let place = |path: &Path| {
        let whole = fs::canonicalize(path).ok()?;
        whole.is_file().then_some(whole)
    };
    let Some(whole) = place(out) else {
        return Ok(());
    };
    if is_file_of_run(out) {
        return Err(exit::with_code(
            exit::USAGE,
            format!(
                "--out {} is a file of a run, which would be lost; choose another --out",
                out.display()
            ),
        ));
    }
    match inputs
        .iter()
        .any(|input| place(input).as_ref() == Some(&whole))
    {
        true => Err(exit::with_code(
            exit::USAGE,
            format!(
                "--out {} is a file that is read here, and would be replaced; choose another --out",
                out.display()
            ),
        )),
        false => Ok(()),
    }
}

/// Writes beside the target, flushes to the disk, and renames: a crash or a full disk leaves the old file whole. Symbolic
/// links stay, and the file that they lead to is replaced; a device, a pipe or a socket is written to.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let named = || format!("cannot write {}", path.display());
    let resolved = match target(path).with_context(named)? {
        Target::File(file) => file,
        Target::Through => {
            let mut open = fs::OpenOptions::new()
                .append(true)
                .open(path)
                .with_context(named)?;
            return open
                .write_all(bytes)
                .and_then(|()| open.flush())
                .with_context(named);
        }
    };
    let path = resolved.as_path();
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let partial = folder.join(format!(".{name}.partial-{}", std::process::id()));
    let written = (|| -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        // The rename itself is durable once the folder is flushed; not every system lets a folder be opened.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&partial);
        return Err(error).with_context(|| {
            format!(
                "cannot write {} ({} bytes); the file that was there before is untouched. Free some space or choose another folder",
                path.display(),
                bytes.len()
            )
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A target that is a folder cannot be replaced: the write fails, and nothing partial stays behind.
        let blocked = folder.path().join("blocked");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write_atomic(&blocked, b"x").is_err());
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert!(
            left.iter()
                .all(|name| !name.to_string_lossy().contains("partial")),
            "{left:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_the_file_they_lead_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"old").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink(at("link"), at("second")).unwrap();
        std::os::unix::fs::symlink("not yet there", at("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        write_atomic(&at("second"), b"new").unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        write_atomic(&at("dangling"), b"x").unwrap();
        assert_eq!(fs::read(at("not yet there")).unwrap(), b"x");
        for name in ["link", "second", "dangling"] {
            assert!(at(name).is_symlink(), "{name}");
        }
        assert!(write_atomic(&at("loop"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link] {
            let read = {
                let pipe = pipe.clone();
                std::thread::spawn(move || fs::read(pipe).unwrap())
            };
            write_atomic(path, b"lines").unwrap();
            assert_eq!(read.join().unwrap(), b"lines");
        }
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(link.is_symlink());
    }

    #[test]
    fn an_output_that_is_an_input_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("rows"), b"x").unwrap();
        let (rows, other) = (at("rows"), at("other"));
        let same = folder.path().join(".").join("rows");
        let said = refuse_inputs(Some(&same), &[&other, &rows]).unwrap_err();
        assert!(said.to_string().contains("choose another --out"), "{said}");
        refuse_inputs(Some(&other), &[&rows, &other]).unwrap();
        refuse_inputs(None, &[&rows]).unwrap();
    }

    #[test]
    fn an_output_that_is_a_file_of_a_run_is_refused_and_any_other_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let own = [
            "run/run.toml",
            "run/held_out.jsonl",
            "run/metrics.jsonl",
            "run/.lock",
            "run/checkpoints/step-000001.safetensors",
            "run/final/config.json",
        ];
        let others = [
            "run/scores.jsonl",
            "run/checkpoints/trust.json",
            "run/checkpoints/mine.safetensors",
            "run/ignorance/laplace-step-000001.safetensors",
            "held_out.jsonl",
            "final/config.json",
        ];
        for name in own.iter().chain(&others) {
            write_atomic(&at(name), b"x").unwrap();
        }
        let refused = |name: &str| refuse_inputs(Some(&at(name)), &[]).is_err();
        for name in own {
            assert!(refused(name), "{name}");
        }
        assert!(refused("run/final/../run.toml"));
        for name in others.iter().chain(&["run/final/new.json"]) {
            assert!(!refused(name), "{name}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("run/run.toml", at("link")).unwrap();
            assert!(refused("link"));
        }
        assert!(is_part_of_run(&at("run/checkpoints")) && is_part_of_run(&at("run/./final/.")));
        assert!(!is_part_of_run(&at("run/other")) && !is_part_of_run(&at("final")));
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        // Linux's /dev/full answers every write with "no space left".
        if !Path::new("/dev/full").exists() {
            crate::test_data::skipped("writing to a full disk", "this system has no /dev/full");
            return;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        assert!(file.write_all(&[0; 4096]).is_err());
        let error = write_atomic(Path::new("/dev/full/inside"), b"x").unwrap_err();
        assert!(format!("{error:#}").contains("/dev/full"));
    }

    #[test]
    fn checkpoints_are_told_by_their_steps_and_other_files_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(folder.path()).unwrap();
        for step in [1_000_000, 7, 999_999] {
            run.write(&checkpoint_name(step), b"x").unwrap();
        }
        for name in [
            "step-best.safetensors",
            "zzz.safetensors",
            "trust.json",
            "step-000009.txt",
            "step-9.safetensors",
            "step-0000009.safetensors",
            "step-+00009.safetensors",
        ] {
            run.write(&format!("checkpoints/{name}"), b"x").unwrap();
        }
        fs::create_dir(folder.path().join(checkpoint_name(8))).unwrap();
        let names: Vec<_> = run
            .checkpoints()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "step-000007.safetensors",
                "step-999999.safetensors",
                "step-1000000.safetensors"
            ]
        );
    }

    #[test]
    fn the_newest_checkpoints_and_the_best_one_are_kept_and_no_other_file_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(folder.path()).unwrap();
        for step in [5, 10, 999_999, 1_000_000] {
            run.write(&checkpoint_name(step), b"x").unwrap();
        }
        let others = [
            "checkpoints/step-best.safetensors",
            "checkpoints/trust.json",
        ];
        for name in others {
            run.write(name, b"x").unwrap();
        }
        let steps = || -> Vec<PathBuf> {
            let found = run.checkpoints();
            found
                .iter()
                .map(|path| path.file_stem().unwrap().into())
                .collect()
        };
        run.keep_newest(0, 1_000_000, None);
        assert_eq!(steps().len(), 4);
        // What has a higher number than what was just written stays, and takes no place.
        run.keep_newest(2, 10, None);
        assert_eq!(steps().len(), 4);
        run.keep_newest(2, 1_000_000, Some(5));
        let kept = ["step-000005", "step-999999", "step-1000000"].map(PathBuf::from);
        assert_eq!(steps(), kept);
        run.keep_newest(1, 1_000_000, None);
        assert_eq!(steps(), [PathBuf::from("step-1000000")]);
        run.keep_newest(9, 1_000_000, None);
        assert_eq!(steps().len(), 1);
        assert!(others.iter().all(|name| folder.path().join(name).is_file()));
    }

    #[test]
    fn what_a_killed_run_left_unfinished_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(folder.path()).unwrap();
        let kept = [
            "checkpoints/step-000001.safetensors",
            "checkpoints/.trust.json.partial-7",
            "final/config.json",
            ".records.jsonl.partial-7",
        ];
        let gone = [
            "checkpoints/.step-000002.safetensors.partial-7",
            "final/.model.safetensors.partial-7",
        ];
        for name in kept.iter().chain(&gone) {
            run.write(name, b"x").unwrap();
        }
        drop(run);
        let _run = RunFolder::open(folder.path()).unwrap();
        assert!(kept.iter().all(|name| folder.path().join(name).is_file()));
        assert!(gone.iter().all(|name| !folder.path().join(name).exists()));
    }

    #[test]
    fn a_second_run_into_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::open(folder.path()).unwrap();
        let second = RunFolder::open(folder.path());
        assert!(second.err().unwrap().to_string().contains("another run"));
        drop(first);
        assert!(RunFolder::open(folder.path()).is_ok());
    }
}
