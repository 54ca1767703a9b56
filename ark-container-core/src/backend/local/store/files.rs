//! Durable files: a file is either complete or absent, even after a `kill -9` or a loss of power.
//!
//! No function of this module follows symbolic links.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::Directory;

/// Returns the error of an operation on a file or folder, such as `cannot read <path>`.
pub(super) fn cannot(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot {verb} {}", path.display());
    move |error| Error::failed(message).with_source(error)
}

/// Turns the error of a missing file or parent folder into `None`.
pub(super) fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the metadata of a regular file; `None` for a link and for anything else.
pub(super) fn file_metadata(path: &Path) -> io::Result<Option<Metadata>> {
    Ok(none_if_missing(fs::symlink_metadata(path))?.filter(Metadata::is_file))
}

/// Returns whether the path is a folder, and not a link to one.
pub(super) fn is_folder(path: &Path) -> io::Result<bool> {
    Ok(none_if_missing(fs::symlink_metadata(path))?.is_some_and(|metadata| metadata.is_dir()))
}

/// Iterates over the entries of a folder whose type is `wanted`; a missing folder has none.
pub(super) fn entry_names(
    folder: &Path,
    wanted: fn(&FileType) -> bool,
) -> Result<impl Iterator<Item = Result<OsString>>> {
    let entries = none_if_missing(fs::read_dir(folder)).map_err(cannot("read", folder))?;
    let names = entries.into_iter().flatten().filter_map(move |entry| {
        let name = entry.and_then(|entry| {
            let kind = none_if_missing(entry.file_type())?;
            Ok(kind.as_ref().is_some_and(wanted).then(|| entry.file_name()))
        });
        name.map_err(cannot("read", folder)).transpose()
    });
    Ok(names)
}

/// Opens a regular file and reads its metadata; `None` if it is missing, a link or a device.
pub(super) fn open_file(
    path: &Path,
    options: &mut OpenOptions,
) -> io::Result<Option<(File, Metadata)>> {
    // Without O_NONBLOCK, opening a pipe waits for its other end.
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => None,
        opened => none_if_missing(opened)?,
    };
    let Some(file) = file else { return Ok(None) };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// Reads a small file; `None` if it does not exist.
pub(super) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some((mut file, _)) = open_file(path, OpenOptions::new().read(true))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a new file and syncs its content. Its name is durable once the parent folder is synced.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a folder durably unless it exists. A link to a folder is an error.
pub(super) fn require_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let is_folder = fs::symlink_metadata(path)?.is_dir();
            if is_folder { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
        }
        Err(error) => Err(error),
    }
}

/// Opens a lock file and creates it if it is missing.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    let folder = path.parent().unwrap_or(path);
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    Directory::open(folder)?.open_lock(name)
}

/// Syncs the folder that holds `path`, so that a rename, link or removal there is durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file durably. Returns whether it existed.
pub(super) fn remove_file(path: &Path) -> io::Result<bool> {
    let removed = none_if_missing(fs::remove_file(path))?.is_some();
    if removed {
        sync_parent(path)?;
    }
    Ok(removed)
}

/// A file or folder under a temporary name, which is removed on drop unless it was published.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    published: bool,
}

impl Temporary {
    /// Creates a file with this content and syncs it.
    pub(super) fn file(path: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let temporary = Self { path, published: false };
        write_new(&temporary.path, bytes)?;
        Ok(temporary)
    }

    /// Creates an empty folder.
    pub(super) fn folder(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self { path, published: false })
    }

    /// Moves the file or folder durably to `target`, and replaces an existing file.
    pub(super) fn publish_as(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.published = true;
        sync_parent(target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published && fs::remove_file(&self.path).is_err() {
            // Leftovers are not read, and a sweep removes them.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Times in the store's files: RFC 3339 in UTC, to the nanosecond.
pub(super) mod rfc3339 {
    use std::borrow::Cow;
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}
