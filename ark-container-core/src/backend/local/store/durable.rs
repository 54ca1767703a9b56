//! Files that are whole or not there, at any kill -9 or loss of power, and links that are never followed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The error of something that could not be done to a file or folder.
pub(super) fn cannot(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot {verb} {}", path.display());
    move |error| Error::failed(message, error)
}

/// `None` where there is no such file, or no folder that it could be in.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What is known of a regular file; `None` for a link and for anything else.
pub(super) fn file_metadata(path: &Path) -> io::Result<Option<Metadata>> {
    Ok(found(fs::symlink_metadata(path))?.filter(Metadata::is_file))
}

/// Whether there is a folder, and not a link to one.
pub(super) fn is_folder(path: &Path) -> io::Result<bool> {
    Ok(found(fs::symlink_metadata(path))?.is_some_and(|metadata| metadata.is_dir()))
}

/// The names in a folder of those that are `wanted`, which no link is; none where there is no folder.
pub(super) fn names(folder: &Path, wanted: fn(&FileType) -> bool) -> Result<Vec<OsString>> {
    let Some(entries) = found(fs::read_dir(folder)).map_err(cannot("read", folder))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(cannot("read", folder))?;
        let kind = found(entry.file_type()).map_err(cannot("read", folder))?;
        if kind.as_ref().is_some_and(wanted) {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// Opens a regular file, with what is known of it; `None` if there is none, or a link or device.
pub(super) fn open_file(
    path: &Path,
    options: &mut OpenOptions,
) -> io::Result<Option<(File, Metadata)>> {
    // Opening a pipe would wait for its other end.
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => None,
        opened => found(opened)?,
    };
    let Some(file) = file else { return Ok(None) };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

/// The whole of a small file; `None` if there is none.
pub(super) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some((mut file, _)) = open_file(path, OpenOptions::new().read(true))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a new file and waits until its bytes are on the disk; its name is once the parent is synced.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Creates a folder that only its owner may enter, and the folders above it; those that are there stay.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates a folder and makes it last unless it is there; a link to one is not.
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

/// Opens a file that is there to be locked, creating it if need be.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    match open_file(path, &mut options).map_err(cannot("open", path))? {
        Some((file, _)) => Ok(file),
        None => Err(Error::failed(format!("cannot use {}", path.display()), "it is not a file")),
    }
}

/// Makes what was renamed, linked or removed beside `path` last.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file for good; whether it was there.
pub(super) fn remove_file(path: &Path) -> io::Result<bool> {
    let removed = found(fs::remove_file(path))?.is_some();
    if removed {
        sync_parent(path)?;
    }
    Ok(removed)
}

/// A file or folder under a temporary name, which goes unless it is moved to its place.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    /// A file that is complete and on the disk.
    pub(super) fn file(path: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let temporary = Self { path, placed: false };
        write_new(&temporary.path, bytes)?;
        Ok(temporary)
    }

    /// An empty folder.
    pub(super) fn folder(path: PathBuf) -> io::Result<Self> {
        fs::create_dir(&path)?;
        Ok(Self { path, placed: false })
    }

    /// Moves it to its place, over a file that is there, and makes it last.
    pub(super) fn place(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.placed = true;
        sync_parent(target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed && fs::remove_file(&self.path).is_err() {
            // What stays is swept: it hides nothing and is in nobody's way.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
