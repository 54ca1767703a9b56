//! Opening the files of a source, which may come from anyone: never through a symbolic link.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, ResourceKind, Result};

/// Opens a regular file that is not a symbolic link, and tells its size.
///
/// # Errors
/// [`Error::NotFound`] if it does not exist, [`Error::Failed`] if it is of another kind.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    let unreadable = |error| unreadable(path, error);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let named = regular(path)?;
    let file = File::open(path).map_err(unreadable)?;
    let opened = file.metadata().map_err(unreadable)?;
    if !same(&named, &opened) {
        let message = format!("{} was replaced while it was opened", path.display());
        return Err(Error::failed(message));
    }
    Ok((file, opened.len()))
}

/// The size of a regular file that is not a symbolic link.
///
/// # Errors
/// Those of [`open`].
pub(super) fn size(path: &Path) -> Result<u64> {
    Ok(regular(path)?.len())
}

/// The whole of a file, which may not be larger than `limit`.
///
/// # Errors
/// Those of [`open`], and [`Error::Failed`] if it is larger.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut content = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| unreadable(path, error))?;
    if content.len() > limit {
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(Error::failed(message));
    }
    Ok(content)
}

/// The error of a file that the operating system does not let us read.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(ResourceKind::File, path.display()),
        _ => Error::failed(format!("{} cannot be read", path.display())).with_source(error),
    }
}

fn regular(path: &Path) -> Result<Metadata> {
    let metadata = fs::symlink_metadata(path).map_err(|error| unreadable(path, error))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    let kind = if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_dir() {
        "a folder"
    } else {
        "something special"
    };
    let message = format!("{} is {kind}, not a file", path.display());
    Err(Error::failed(message))
}

#[cfg(unix)]
fn same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same(one: &Metadata, other: &Metadata) -> bool {
    one.file_type() == other.file_type()
}
