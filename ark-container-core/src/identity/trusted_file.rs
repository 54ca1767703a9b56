//! Reading a file that gives rights: only if nobody else can have written it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, ResourceKind, Result};

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Far more than who belongs where, or than all keys of an identity provider, in bytes.
const MAX_LEN: u64 = 16 * 1024 * 1024;

/// The text of the file at `path`, which is a `what`, such as `memberships file`.
///
/// # Errors
/// [`Error::NotFound`] if there is none, [`Error::InvalidInput`] if others can change it, it is no regular
/// file or too long, and [`Error::Failed`] if it cannot be read.
pub(super) fn read(path: &Path, what: &str) -> Result<String> {
    let file = path.display();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(ResourceKind::File, &file),
        _ => Error::failed(format!("cannot read the {what} {file}")).with_source(error),
    };
    let named = format!("{what} {file}");
    // Opening a pipe would wait for its other end.
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    check_file(path, &named, &opened).map_err(failed)??;
    for folder in folders(path).map_err(failed)? {
        check_folder(&named, &folder).map_err(failed)??;
    }
    let mut text = String::new();
    opened.take(MAX_LEN + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_LEN {
        return Err(Error::invalid(format!("the {named} is longer than {MAX_LEN} bytes")));
    }
    Ok(text)
}

/// What was opened is what is checked: it cannot be exchanged in between.
fn check_file(path: &Path, named: &str, opened: &File) -> io::Result<Result<()>> {
    let metadata = opened.metadata()?;
    let file = path.display();
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(if !metadata.is_file() {
        Err(Error::invalid(format!("the {named} is no regular file")))
    } else if !is_trusted(&metadata) {
        Err(Error::invalid(format!(
            "the {named} is another user's, who could give themselves rights in it; \
             take it over: chown $(id -un) {file}"
        )))
    } else if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        Err(Error::invalid(format!(
            "other users can write to the {named}, and could give themselves rights \
             in it; close it to them: chmod go-w {file}"
        )))
    } else {
        Ok(())
    })
}

/// Whoever can write to a folder can exchange its files, unless it is sticky.
fn check_folder(named: &str, folder: &Path) -> io::Result<Result<()>> {
    let metadata = fs::metadata(folder)?;
    let shown = folder.display();
    let is_open = metadata.mode() & WRITABLE_BY_OTHERS != 0 && metadata.mode() & STICKY == 0;
    Ok(if !is_trusted(&metadata) {
        Err(Error::invalid(format!(
            "the folder {shown} is another user's, who could exchange the {named}; \
             keep that in a folder of your own"
        )))
    } else if is_open {
        Err(Error::invalid(format!(
            "other users can write to the folder {shown}, and could exchange the {named}; \
             close it to them: chmod go-w {shown}"
        )))
    } else {
        Ok(())
    })
}

/// The folder of the file, and that of what it is a link to.
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

/// Root can write everything anyway.
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

    fn refused(path: &Path) -> String {
        match read(path, "memberships file") {
            Err(Error::InvalidInput { message, .. }) => message,
            other => panic!("{other:?}"),
        }
    }

    /// A folder with the file `memberships.toml` in it.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memberships.toml");
        fs::write(&path, "# text").unwrap();
        // Whatever the umask is.
        chmod(&path, 0o644);
        (folder, path)
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let (_folder, path) = folder();
        for mode in [0o620, 0o602, 0o666] {
            chmod(&path, mode);
            assert!(refused(&path).ends_with(&format!("chmod go-w {}", path.display())));
        }
        for mode in [0o600, 0o644, 0o444] {
            chmod(&path, mode);
            assert_eq!(read(&path, "memberships file").unwrap(), "# text");
        }
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_unless_it_is_sticky() {
        let (folder, path) = folder();
        for mode in [0o770, 0o707] {
            chmod(folder.path(), mode);
            assert!(refused(&path).ends_with(&format!("chmod go-w {}", folder.path().display())));
        }
        for mode in [0o1777, 0o755] {
            chmod(folder.path(), mode);
            assert_eq!(read(&path, "memberships file").unwrap(), "# text");
        }
    }

    #[test]
    fn a_link_is_as_safe_as_what_it_leads_to() {
        let (folder, path) = folder();
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, "memberships file").unwrap(), "# text");
        chmod(folder.path(), 0o777);
        assert!(refused(&link).contains(folder.path().to_str().unwrap()));
        chmod(folder.path(), 0o700);
        chmod(other.path(), 0o777);
        assert!(refused(&link).contains(other.path().to_str().unwrap()));
        chmod(other.path(), 0o700);
        chmod(&path, 0o666);
        assert!(refused(&link).contains("chmod go-w"));
    }

    #[test]
    fn only_root_and_the_own_user_are_trusted() {
        let (folder, path) = folder();
        let own = fs::metadata(&path).unwrap().uid();
        // Only root can give a file away.
        if own != 0 {
            assert!(is_trusted(&fs::metadata("/").unwrap()));
            return;
        }
        chown(&path, Some(4711), None).unwrap();
        assert!(refused(&path).contains("is another user's"));
        chown(&path, Some(own), None).unwrap();
        chown(folder.path(), Some(4711), None).unwrap();
        assert!(refused(&path).contains("is another user's"));
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let (folder, _) = folder();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(refused(&path).ends_with("is no regular file"));
    }
}
