//! Reads a file that grants rights, only if no other user can have written it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::encoding::decode;
use crate::error::{Error, ResourceKind, Result};

const STICKY: u32 = 0o1000;
pub(super) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The longest memberships file or key set.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Opens a file for reading. A pipe is opened without waiting for its other end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Returns the text of the file at `path`, which is a `kind`, such as `memberships file`.
///
/// # Errors
/// [`Error::NotFound`] if it does not exist, [`Error::InvalidInput`] if other users can change it, or it is
/// not a regular file or too long, and [`Error::Failed`] if it cannot be read.
pub(super) fn read(path: &Path, kind: &str) -> Result<String> {
    let named = format!("{kind} {}", path.display());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(ResourceKind::File, path.display()),
        _ => Error::failed(format!("cannot read the {named}")).with_source(error),
    };
    let file = open(path).map_err(failed)?;
    // The opened file is checked, so it cannot be replaced between check and use.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    check_file(path, &named, &metadata)?;
    for folder in folders(path).map_err(failed)? {
        check_folder(&named, &folder, &fs::metadata(&folder).map_err(failed)?)?;
    }
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::invalid(format!("the {named} is longer than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(content).map_err(|error| {
        let problem = decode(error.as_bytes()).err().unwrap_or_default();
        Error::invalid(format!("the {named} cannot be decoded: {problem}"))
    })
}

fn check_file(path: &Path, named: &str, metadata: &Metadata) -> Result<()> {
    let file = path.display();
    if !metadata.is_file() {
        return Err(Error::invalid(format!("the {named} is no regular file")));
    }
    if !is_trusted(metadata) {
        return Err(Error::invalid(format!(
            "the {named} is another user's, who could give themselves rights in it; \
             take it over: chown $(id -un) {file}"
        )));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::invalid(format!(
            "other users can write to the {named}, and could give themselves rights \
             in it; close it to them: chmod go-w {file}"
        )));
    }
    Ok(())
}

/// A user that can write to a folder can replace its files, unless it is sticky.
fn check_folder(named: &str, folder: &Path, metadata: &Metadata) -> Result<()> {
    let shown = folder.display();
    if !is_trusted(metadata) {
        return Err(Error::invalid(format!(
            "the folder {shown} is another user's, who could exchange the {named}; \
             keep that in a folder of your own"
        )));
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 && metadata.mode() & STICKY == 0 {
        return Err(Error::invalid(format!(
            "other users can write to the folder {shown}, and could exchange the {named}; \
             close it to them: chmod go-w {shown}"
        )));
    }
    Ok(())
}

/// Returns the folder of the file, and the folder of the target if the file is a link.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let real = fs::canonicalize(path)?;
    let named = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::canonicalize(parent)?,
        _ => fs::canonicalize(".")?,
    };
    let mut folders = vec![named];
    folders.extend(real.parent().map(Path::to_owned).filter(|real| *real != folders[0]));
    Ok(folders)
}

/// Returns whether the owner is this process's user or root, who can write everything anyway.
fn is_trusted(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn rejection(path: &Path) -> String {
        read(path, "memberships file").unwrap_err().to_string()
    }

    /// A folder with the file `memberships.toml` in it, with modes that no umask changes.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memberships.toml");
        fs::write(&path, "# text").unwrap();
        chmod(&path, 0o644);
        (folder, path)
    }

    #[test]
    fn file_or_folder_writable_by_others_is_rejected() {
        let (folder, path) = folder();
        for (object, mode, accepted) in [
            (path.as_path(), 0o620, false),
            (&path, 0o602, false),
            (&path, 0o666, false),
            (&path, 0o600, true),
            (&path, 0o444, true),
            (folder.path(), 0o770, false),
            (folder.path(), 0o707, false),
            (folder.path(), 0o1777, true),
            (folder.path(), 0o755, true),
        ] {
            chmod(object, mode);
            match accepted {
                true => assert_eq!(read(&path, "memberships file").unwrap(), "# text"),
                false => {
                    let hint = format!("chmod go-w {}", object.display());
                    assert!(rejection(&path).ends_with(&hint), "{hint} {mode:o}");
                    chmod(object, 0o700);
                }
            }
        }
    }

    #[test]
    fn link_is_as_safe_as_its_target() {
        let (folder, path) = folder();
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, "memberships file").unwrap(), "# text");
        for unsafe_folder in [folder.path(), other.path()] {
            chmod(unsafe_folder, 0o777);
            assert!(rejection(&link).contains(unsafe_folder.to_str().unwrap()));
            chmod(unsafe_folder, 0o700);
        }
        chmod(&path, 0o666);
        assert!(rejection(&link).contains("chmod go-w"));
    }

    #[test]
    fn file_or_folder_of_another_user_is_rejected() {
        let (folder, path) = folder();
        let own = fs::metadata(&path).unwrap().uid();
        // Only root can give a file away.
        if own != 0 {
            assert!(is_trusted(&fs::metadata("/").unwrap()));
            return;
        }
        for object in [path.as_path(), folder.path()] {
            chown(object, Some(4711), None).unwrap();
            assert!(rejection(&path).contains("is another user's"));
            chown(object, Some(own), None).unwrap();
        }
    }

    #[test]
    fn pipe_is_rejected_without_waiting() {
        let (folder, _) = folder();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(rejection(&path).ends_with("is no regular file"));
    }
}
