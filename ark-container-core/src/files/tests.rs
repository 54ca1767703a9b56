use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

use super::*;

fn directory() -> (TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    (folder, directory)
}

/// Creates one entry of each kind that is not a regular file, and returns their names.
fn prepare(folder: &Path, victim: &Path) -> [&'static str; 4] {
    symlink(victim, folder.join("link")).unwrap();
    symlink(folder.join("missing"), folder.join("dangling")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    fs::create_dir(folder.join("folder")).unwrap();
    ["link", "dangling", "pipe", "folder"]
}

#[test]
fn only_regular_files_are_opened() {
    let (folder, directory) = directory();
    let victim = tempfile::NamedTempFile::new().unwrap();
    for name in prepare(folder.path(), victim.path()) {
        let errors = [
            directory.file(name).unwrap_err(),
            directory.read(name, 10).unwrap_err(),
            directory.has(name).unwrap_err(),
            directory.open_or_create(name).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            let start = format!("{} is a ", folder.path().join(name).display());
            assert!(text.starts_with(&start) && text.contains(", not a file;"), "{text}");
        }
    }
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn links_in_the_middle_of_a_path_are_not_followed() {
    let (folder, directory) = directory();
    let (outside, _) = self::directory();
    fs::create_dir(outside.path().join("below")).unwrap();
    fs::write(outside.path().join("below/file"), "secret").unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    symlink(outside.path(), folder.path().join("link")).unwrap();
    symlink(outside.path(), folder.path().join("a/link")).unwrap();
    for parent in ["link", "link/below", "a/link", "a/link/below"] {
        let path = format!("{parent}/file");
        for error in [
            directory.file(&path).unwrap_err(),
            directory.replace(&path, b"x").unwrap_err(),
            directory.resume(&path).unwrap_err(),
            directory.rename("a", &path).unwrap_err(),
            directory.remove(&path).unwrap_err(),
        ] {
            assert!(error.to_string().contains("link is a symbolic link, not a folder"));
        }
    }
    assert_eq!(fs::read(outside.path().join("below/file")).unwrap(), b"secret");
}

#[test]
fn paths_outside_directory_are_rejected() {
    let (_folder, directory) = directory();
    for path in ["", "..", "../x", "/etc/hostname", "a/..", "a/../../x"] {
        let error = directory.replace(path, b"x").unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{path}: {error:?}");
    }
}

#[test]
fn missing_files_are_not_found() {
    let (folder, directory) = directory();
    assert!(!directory.has("a/b").unwrap());
    for error in [
        directory.file("b").unwrap_err(),
        directory.read("a/b", 1).unwrap_err(),
        Directory::open(&folder.path().join("a")).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    }
    assert!(directory.is_empty().unwrap());
}

#[test]
fn resumed_file_changes_no_other_file() {
    let (folder, directory) = directory();
    let victim = folder.path().join("victim");
    fs::write(&victim, "victim").unwrap();
    let [link, dangling, pipe, _] = prepare(folder.path(), &victim);
    fs::hard_link(&victim, folder.path().join("hard")).unwrap();
    for name in [link, dangling, pipe, "hard", "new"] {
        let mut file = directory.resume(name).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), name.as_bytes());
        let again = directory.resume(name).unwrap();
        assert_eq!(again.metadata().unwrap().len(), name.len() as u64);
    }
    let error = directory.resume("folder").unwrap_err().to_string();
    assert!(error.ends_with("folder is a folder, not a file; replace or remove it"), "{error}");
    assert_eq!(fs::read(&victim).unwrap(), b"victim");
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn replaced_link_leaves_its_target() {
    let (folder, directory) = directory();
    let victim = folder.path().join("victim");
    fs::write(&victim, "victim").unwrap();
    for name in &prepare(folder.path(), &victim)[..3] {
        directory.replace(name, b"new").unwrap();
        assert_eq!(directory.read(name, 3).unwrap(), b"new");
    }
    let error = directory.replace("folder", b"new").unwrap_err().to_string();
    assert!(error.contains("is a folder, not a file"), "{error}");
    assert_eq!(fs::read(&victim).unwrap(), b"victim");
    // No temporary file stays, even after a failure.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[test]
fn read_length_is_limited() {
    let (_folder, directory) = directory();
    directory.replace("a/file", b"12345").unwrap();
    assert_eq!(directory.read("a/file", 5).unwrap(), b"12345");
    let error = directory.read("a/file", 4).unwrap_err().to_string();
    assert!(error.ends_with("a/file is larger than 4 bytes"), "{error}");
}

#[test]
fn new_file_appears_when_it_is_published() {
    let (folder, directory) = directory();
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let new = directory.create_new("a/new").unwrap();
    assert!(!directory.has("a/new").unwrap());
    new.publish(&content).unwrap();
    assert!(directory.read("a/new", content.len()).unwrap() == content);
    drop(directory.create_new("a/new").unwrap());
    assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
}
