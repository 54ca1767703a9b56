use std::collections::HashSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::*;

/// Environment variable with the audit file, for a process that runs this test binary again.
const FILE: &str = "ARK_TEST_AUDIT_FILE";

/// Environment variable with the name of the writer, for such a process.
const WRITER: &str = "ARK_TEST_AUDIT_WRITER";

const LINES: usize = 40;

fn folder() -> (TempDir, AuditFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = AuditFile::new(folder.path().join("audit.jsonl"));
    (folder, file)
}

fn content(file: &AuditFile) -> String {
    fs::read_to_string(file.path()).unwrap()
}

/// Returns the text of the source of an error.
fn cause(error: &Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

/// Returns a line whose length depends on writer and number. Most lines are longer than the buffer of a pipe.
fn long_line(writer: &str, number: usize) -> String {
    format!("{writer} {number} {}\n", writer.repeat(1 + number * 97))
}

/// Runs the same test in another process, behind a shell command that ends in `exec "$0" "$@"`.
fn again(test: &str, shell: &str, file: &AuditFile, writer: &str) -> Child {
    let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    Command::new("sh")
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(FILE, file.path())
        .env(WRITER, writer)
        .spawn()
        .unwrap()
}

#[test]
fn file_is_created_for_its_owner_and_may_be_rotated() {
    let (_folder, file) = folder();
    file.append_blocking("first\n").unwrap();
    file.append_blocking("second\n").unwrap();
    assert_eq!(content(&file), "first\nsecond\n");
    assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o7777, 0o600);
    File::options().write(true).truncate(true).open(file.path()).unwrap();
    file.append_blocking("third\n").unwrap();
    assert_eq!(content(&file), "third\n");
    fs::remove_file(file.path()).unwrap();
    file.append_blocking("fourth\n").unwrap();
    assert_eq!(content(&file), "fourth\n");
}

#[test]
fn concurrent_writers_write_whole_lines() {
    const TEST: &str = "concurrent_writers_write_whole_lines";
    if let (Some(path), Ok(writer)) = (std::env::var_os(FILE), std::env::var(WRITER)) {
        let file = &AuditFile::new(path);
        return thread::scope(|scope| {
            for thread in ["a", "b", "c"] {
                let writer = format!("{writer}{thread}");
                scope.spawn(move || {
                    for number in 0..LINES {
                        file.append_blocking(&long_line(&writer, number)).unwrap();
                    }
                });
            }
        });
    }
    let (folder, file) = folder();
    let writers = ["1", "2", "3", "4", "5", "6"];
    let mut children = writers.map(|writer| again(TEST, r#"exec "$0" "$@""#, &file, writer));
    // Meanwhile the file is moved away, as by log rotation.
    let mut moved = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let away = folder.path().join(format!("audit.{moved}"));
        moved += usize::from(fs::rename(file.path(), away).is_ok());
        thread::sleep(Duration::from_millis(1));
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let files = fs::read_dir(folder.path()).unwrap();
    let text: String =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let expected: HashSet<String> = writers
        .iter()
        .flat_map(|writer| ["a", "b", "c"].map(|thread| format!("{writer}{thread}")))
        .flat_map(|writer| (0..LINES).map(move |number| long_line(&writer, number)))
        .collect();
    assert_eq!(text.lines().count(), expected.len());
    for line in text.split_inclusive('\n') {
        assert!(expected.contains(line), "torn: {line}");
    }
    assert!(moved > 0);
}

#[test]
fn line_that_does_not_fit_is_removed() {
    const TEST: &str = "line_that_does_not_fit_is_removed";
    if let Some(path) = std::env::var_os(FILE) {
        let file = AuditFile::new(path);
        file.append_blocking("before\n").unwrap();
        let error = file.append_blocking(&format!("{}\n", "x".repeat(9000))).unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        assert_eq!(content(&file), "before\n");
        return file.append_blocking("after\n").unwrap();
    }
    let (_folder, file) = folder();
    // The system writes only the beginning of the line, up to the limit, as on a full disk.
    let limited = r#"trap "" XFSZ; ulimit -f 4; exec "$0" "$@""#;
    let status = again(TEST, limited, &file, "").wait().unwrap();
    assert!(status.success());
    assert_eq!(content(&file), "before\nafter\n");
}

// Other systems have no `/dev/full`.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_an_error() {
    let mut full = File::options().read(true).append(true).open("/dev/full").unwrap();
    assert_eq!(append(&mut full, "line\n").unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn incomplete_line_is_ended_before_the_next() {
    let (_folder, file) = folder();
    fs::write(file.path(), "whole\n{\"time\":\"20").unwrap();
    file.append_blocking("next\n").unwrap();
    file.append_blocking("last\n").unwrap();
    assert_eq!(content(&file), "whole\n{\"time\":\"20\nnext\nlast\n");
}

#[test]
fn waiting_writer_notices_that_the_file_was_moved() {
    let (folder, file) = folder();
    file.append_blocking("first\n").unwrap();
    let held = file.open_locked().unwrap();
    let waiting = thread::spawn({
        let file = file.clone();
        move || file.append_blocking("second\n")
    });
    let moved = folder.path().join("audit.1");
    fs::rename(file.path(), &moved).unwrap();
    assert!(!file.is_current(&held).unwrap());
    drop(held);
    waiting.join().unwrap().unwrap();
    assert_eq!(fs::read_to_string(moved).unwrap(), "first\n");
    assert_eq!(content(&file), "second\n");
}

#[test]
fn audit_file_must_be_a_regular_file() {
    let (folder, file) = folder();
    let target = folder.path().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, file.path()).unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, problem) in [
        (file.path(), "is a symbolic link, not a file"),
        (Path::new("/dev/null"), "is a device, not a file"),
        (&pipe, "is a named pipe, not a file"),
        (folder.path(), "is a folder, not a file"),
        (&folder.path().join("missing/audit.jsonl"), "does not exist"),
    ] {
        let error = AuditFile::new(path).append_blocking("line\n").unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        let message = format!("cannot write to the audit file {}", path.display());
        assert_eq!(error.to_string(), message);
        assert!(cause(&error).contains(problem), "{}: {}", path.display(), cause(&error));
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "");
    fs::remove_file(&target).unwrap();
    file.append_blocking("line\n").unwrap_err();
    assert!(!target.exists());
}

#[test]
fn file_writable_by_every_user_is_rejected() {
    let (_folder, file) = folder();
    fs::write(file.path(), "").unwrap();
    let set = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o602);
    let error = file.append_blocking("line\n").unwrap_err();
    assert!(cause(&error).contains("chmod o-w"), "{error:?}");
    // Log rotation may create a file that the group can write to.
    set(0o660);
    file.append_blocking("line\n").unwrap();
    assert_eq!(content(&file), "line\n");
}

#[test]
fn lock_timeout_is_temporary() {
    let (_folder, file) = folder();
    let _held = file.open_locked().unwrap();
    let error = lock(&file.open().unwrap(), Instant::now()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(file.error(error).is_temporary());
}
