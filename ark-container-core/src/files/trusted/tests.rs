use std::fs::{self, Permissions};
#[cfg(target_os = "linux")]
use std::os::unix::fs::chown;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;
use crate::files::OutputFile;

const KIND: &str = "memberships file";

/// The user that opens files, if the tests run as root.
#[cfg(target_os = "linux")]
const USER_UID: u32 = 4711;

/// The user that prepares files for [`USER_UID`].
#[cfg(target_os = "linux")]
const OTHER_UID: u32 = 65534;

/// Runs work as another user on a new thread; `None` if this process may not change its user.
#[cfg(target_os = "linux")]
fn as_user<T: Send>(id: u32, work: impl FnOnce() -> T + Send) -> Option<T> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let work = move || {
        set_thread_groups(&[]).ok()?;
        set_thread_res_gid(gid, gid, gid).ok()?;
        set_thread_res_uid(uid, uid, uid).ok()?;
        Some(work())
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn rejection(path: &Path) -> String {
    read_trusted(path, KIND, 10).unwrap_err().to_string()
}

fn is_accepted(path: &Path) -> bool {
    read_trusted(path, KIND, 10).is_ok_and(|content| *content == b"# text")
}

/// Creates a folder with the file `memberships.toml`, with modes that do not depend on the umask.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memberships.toml");
    fs::write(&path, "# text").unwrap();
    chmod(&path, 0o644);
    (folder, path)
}

#[test]
fn file_or_folder_writable_by_others_is_rejected() {
    let (folder, path) = folder();
    let metadata = fs::metadata(&path).unwrap();
    let is_private = is_private_group(metadata.uid(), metadata.gid());
    for (object, mode, accepted) in [
        (path.as_path(), 0o620, is_private),
        (&path, 0o602, false),
        (&path, 0o666, false),
        (&path, 0o600, true),
        (&path, 0o444, true),
        (folder.path(), 0o770, is_private),
        (folder.path(), 0o707, false),
        (folder.path(), 0o1777, true),
        (folder.path(), 0o755, true),
    ] {
        chmod(object, mode);
        if accepted {
            assert!(is_accepted(&path), "{mode:o}");
        } else {
            let hint = format!("chmod go-w {}", object.display());
            assert!(rejection(&path).ends_with(&hint), "{hint} {mode:o}");
            chmod(object, 0o700);
        }
    }
}

#[test]
fn group_of_one_user_is_private() {
    let users = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:\nbobby:x:1001:1001::/:\ncarol:x:1002:100::/:\n";
    let groups =
        "root:x:0:\nusers:x:100:alice\nalice:x:1000:\nbobby:x:1001:bobby,alice\nown:x:1003:alice\n";
    for (user, group, expected) in [
        (1000, 1000, true),
        (1000, 1003, true),
        (1001, 1001, false),
        (1002, 100, false),
        (1000, 100, false),
        (1000, 1001, false),
        (1000, 4711, false),
        (0, 0, false),
    ] {
        assert_eq!(is_private_group_in(users, groups, user, group), expected, "{user} {group}");
    }
    assert!(!is_private_group_in("", "", 1000, 1000));
}

#[test]
fn folders_on_path_of_link_are_checked() {
    let (folder, _) = folder();
    let other = tempfile::tempdir().unwrap();
    for path in ["a/b", "c"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let file = folder.path().join("a/b/memberships.toml");
    fs::rename(folder.path().join("memberships.toml"), &file).unwrap();
    // A link to a folder, a relative link with "..", and an absolute link.
    symlink("a", folder.path().join("folder")).unwrap();
    symlink("../folder/b/../b/memberships.toml", folder.path().join("c/link")).unwrap();
    symlink(folder.path().join("c/link"), other.path().join("link")).unwrap();
    let link = other.path().join("link");
    assert!(is_accepted(&link));
    for unsafe_folder in ["a", "a/b", "c", "."].map(|name| folder.path().join(name)) {
        chmod(&unsafe_folder, 0o777);
        let message = rejection(&link);
        let shown = fs::canonicalize(&unsafe_folder).unwrap();
        assert!(message.ends_with(&format!("chmod go-w {}", shown.display())), "{message}");
        chmod(&unsafe_folder, 0o755);
    }
    chmod(&file, 0o666);
    assert!(rejection(&link).contains("chmod go-w"));
}

#[test]
fn link_without_target_is_not_a_missing_file() {
    let (folder, path) = folder();
    let at = |name: &str| folder.path().join(name);
    symlink("missing", at("dangling")).unwrap();
    symlink("dangling", at("chain")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("missing", at("folder-link")).unwrap();
    for name in ["missing", "missing/below"] {
        let error = read_trusted(&at(name), KIND, 10).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    }
    for (name, problem) in [
        ("dangling", "missing, which does not exist"),
        ("chain", "missing, which does not exist"),
        ("folder-link/below", "missing, which does not exist"),
        ("loop", "cannot open"),
        ("memberships.toml/below", "is a file, not a folder"),
        (".", "is a folder, not a file"),
        ("..", "is a folder, not a file"),
    ] {
        let error = read_trusted(&at(name), KIND, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{name}: {error:?}");
        assert!(error.to_string().contains(problem), "{name}: {error}");
    }
    assert!(is_accepted(&path));
}

#[test]
fn pipe_or_long_file_is_rejected_without_waiting() {
    let (folder, path) = folder();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(rejection(&pipe).contains("is a named pipe, not a file"));
    fs::write(&path, "12345678901").unwrap();
    assert!(rejection(&path).ends_with("is larger than 10 bytes"));
}

#[test]
fn file_in_a_repository_of_a_registry_is_rejected() {
    let (folder, path) = folder();
    let blob = folder.path().join("prod/a/_repository/blobs/sha256/0");
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::rename(&path, &blob).unwrap();
    symlink(&blob, &path).unwrap();
    for path in [&path, &blob] {
        let message = rejection(path);
        assert!(message.contains("is in a repository, whose clients choose"), "{message}");
    }
}

/// Creates a home of [`USER_UID`] with a file, and a folder that all users can write to, such as `/tmp`.
#[cfg(target_os = "linux")]
fn two_users() -> (TempDir, PathBuf, PathBuf) {
    let (folder, file) = folder();
    chmod(folder.path(), 0o711);
    let (home, shared) = (folder.path().join("home"), folder.path().join("shared"));
    for (path, mode) in [(&home, 0o755), (&shared, 0o1777)] {
        fs::create_dir(path).unwrap();
        chmod(path, mode);
    }
    fs::rename(file, home.join("file")).unwrap();
    for path in [&home, &home.join("file")] {
        // Without root, `chown` fails and the tests end early.
        let _ = chown(path, Some(USER_UID), Some(USER_UID));
    }
    (folder, home, shared)
}

#[cfg(target_os = "linux")]
#[test]
fn links_and_folders_of_another_user_are_rejected() {
    let (_folder, home, shared) = two_users();
    let prepared = as_user(OTHER_UID, || {
        symlink(home.join("file"), shared.join("theirs")).unwrap();
        symlink(&home, shared.join("their-folder-link")).unwrap();
        fs::create_dir(shared.join("their-folder")).unwrap();
        fs::write(shared.join("their-file"), "# text").unwrap();
        symlink(home.join("file"), shared.join("their-folder/link")).unwrap();
    });
    if prepared.is_none() {
        return;
    }
    // Linux denies this to other users by default, other systems do not.
    fs::hard_link(home.join("file"), shared.join("hard-link")).unwrap();
    symlink(home.join("file"), shared.join("of-root")).unwrap();
    let checked = as_user(USER_UID, || {
        symlink(home.join("file"), shared.join("own")).unwrap();
        symlink(shared.join("theirs"), home.join("chain")).unwrap();
        for accepted in [shared.join("own"), shared.join("of-root")] {
            assert!(is_accepted(&accepted), "{}", rejection(&accepted));
        }
        assert!(is_accepted(&home.join("file")));
        for (path, problem) in [
            (shared.join("theirs"), "belongs to another user; name a path without this link"),
            (home.join("chain"), "belongs to another user; name a path without this link"),
            (shared.join("their-folder-link/file"), "belongs to another user; name a path"),
            (shared.join("their-folder/link"), "folder belongs to another user, who could"),
            (shared.join("their-file"), "belongs to another user, who can change it"),
            (shared.join("hard-link"), "has a second hard link"),
        ] {
            let message = rejection(&path);
            assert!(message.contains(problem), "{message}");
        }
    });
    assert!(checked.is_some());
}

#[cfg(target_os = "linux")]
#[test]
fn file_of_a_kubernetes_mount_is_accepted() {
    let (folder, _) = folder();
    chmod(folder.path(), 0o755);
    let mount = folder.path().join("mount");
    let version = mount.join("..2026_11_29");
    for (path, mode) in [(&mount, 0o1777), (&version, 0o2755)] {
        fs::create_dir(path).unwrap();
        chmod(path, mode);
    }
    fs::write(version.join("token"), "# text").unwrap();
    chmod(&version.join("token"), 0o640);
    let _ = chown(version.join("token"), None, Some(USER_UID));
    symlink("..2026_11_29", mount.join("..data")).unwrap();
    symlink("..data/token", mount.join("token")).unwrap();
    assert!(is_accepted(&mount.join("token")));
    let accepted = as_user(USER_UID, || is_accepted(&mount.join("token")));
    assert_ne!(accepted, Some(false));
}

#[cfg(target_os = "linux")]
#[test]
fn folder_that_cannot_be_entered_is_not_a_missing_file() {
    let (_folder, home, _) = two_users();
    let closed = home.join("closed");
    fs::create_dir(&closed).unwrap();
    chmod(&closed, 0o700);
    symlink("closed/file", home.join("link")).unwrap();
    as_user(USER_UID, || {
        for path in [closed.join("file"), closed.join("folder/file"), home.join("link")] {
            let error = read_trusted(&path, KIND, 10).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
        }
    });
}

#[cfg(all(target_os = "linux", any(feature = "ecr", feature = "push")))]
#[test]
fn prepared_folder_is_not_opened() {
    let (_folder, home, shared) = two_users();
    let prepared = as_user(OTHER_UID, || {
        fs::create_dir(shared.join("theirs")).unwrap();
        chmod(&shared.join("theirs"), 0o777);
        symlink(&home, shared.join("link")).unwrap();
    });
    let opened = as_user(USER_UID, || {
        for path in ["theirs", "theirs/below", "link/below"].map(|name| shared.join(name)) {
            let error = create_trusted_folder(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert!(!path.ends_with("below") || !path.exists());
        }
        for path in ["theirs", "link/below"].map(|name| shared.join(name)) {
            let error = Directory::open_private(&path, KIND, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        }
        for path in [shared.join("own/below"), home.join("own")] {
            create_trusted_folder(&path).unwrap();
            Directory::open_private(&path, KIND, false).unwrap();
            chmod(&path, 0o770);
            let message = create_trusted_folder(&path).unwrap_err().to_string();
            assert!(message.ends_with(&format!("chmod go-w {}", path.display())), "{message}");
        }
    });
    assert_eq!(prepared, opened);
}

#[cfg(any(feature = "ecr", feature = "push"))]
#[test]
fn folder_that_is_a_link_is_not_private() {
    let (folder, _) = folder();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    symlink(&target, folder.path().join("link")).unwrap();
    let error = Directory::open_private(&folder.path().join("link"), KIND, true).unwrap_err();
    assert!(error.to_string().contains("link is a symbolic link, not a folder"), "{error}");
    // A link among the parent folders is allowed.
    Directory::open_private(&folder.path().join("link/below"), KIND, true).unwrap();
    assert!(target.join("below").is_dir());
}

#[test]
fn output_file_changes_no_other_file() {
    let (folder, file) = folder();
    let at = |name: &str| folder.path().join(name);
    symlink(&file, at("link")).unwrap();
    fs::hard_link(&file, at("hard-link")).unwrap();
    for name in ["hard-link", "new"] {
        OutputFile::create(&at(name)).unwrap().publish(b"result").unwrap();
        assert_eq!(fs::read(at(name)).unwrap(), b"result");
    }
    assert_eq!(fs::read(&file).unwrap(), b"# text");
    // A link of this user is followed, and its target is replaced.
    OutputFile::create(&at("link")).unwrap().publish(b"linked").unwrap();
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"linked");
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let device = Path::new("/dev/null");
    for path in [folder.path(), &at("missing/file"), &at("new/file"), &at("pipe"), device] {
        OutputFile::create(path).unwrap_err();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
}

#[cfg(target_os = "linux")]
#[test]
fn output_file_follows_no_link_of_another_user() {
    let (_folder, home, shared) = two_users();
    let prepared = as_user(OTHER_UID, || {
        symlink(&home, shared.join("link")).unwrap();
        fs::write(shared.join("theirs"), "").unwrap();
    });
    let checked = as_user(USER_UID, || {
        for name in ["link/file", "theirs"] {
            OutputFile::create(&shared.join(name)).unwrap_err();
        }
        assert_eq!(fs::read(home.join("file")).unwrap(), b"# text");
        OutputFile::create(&shared.join("own")).unwrap().publish(b"result").unwrap();
    });
    assert_eq!(prepared, checked);
}
