//! [`Directory`]: opens and replaces files in a directory whose content somebody else may have prepared.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::hash::BuildHasher as _;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};

/// Prefix of the name of a file that is being written.
const NEW_PREFIX: &str = ".ark-new-";

/// A directory, by its handle. Links on the path that it was opened by are followed; no link below it is.
///
/// Every component of a relative path is opened relative to the handle of its parent. Opening a file does not
/// wait, and returns a regular file only: a link, a named pipe, a device or a folder is an error that names it.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    handle: Arc<File>,
    path: Arc<Path>,
}

impl Directory {
    /// Opens the directory at a path that the user chose.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self { handle: Arc::new(handle.into()), path: path.into() }),
            Err(Errno::NOENT) => Err(Error::not_found(ResourceKind::File, path.display())),
            Err(error) => Err(cannot("open", path, error)),
        }
    }

    /// Opens the directory at a path that the user chose, and creates it with its missing parents.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| cannot("create", path, error))?;
        Self::open(path)
    }

    /// Returns the path that it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it has no entries.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let failed = |error| cannot("read", &self.path, error);
        for entry in Dir::read_from(&*self.handle).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if ![c".", c".."].contains(&name.as_c_str()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist; [`Error::Failed`] if it is not a regular file.
    pub(crate) fn file(&self, relative: impl AsRef<Path>) -> Result<(File, Metadata)> {
        let (parent, name) = self.parent_of(relative.as_ref(), false)?;
        parent.open_at(name, OFlags::RDONLY, FileType::RegularFile)
    }

    /// Returns whether a file exists.
    ///
    /// # Errors
    /// Those of [`file`](Self::file), except [`Error::NotFound`].
    pub(crate) fn has(&self, relative: impl AsRef<Path>) -> Result<bool> {
        match self.file(relative) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of [`file`](Self::file), and [`Error::Failed`] if it is larger.
    pub(crate) fn read(&self, relative: impl AsRef<Path>, limit: usize) -> Result<Vec<u8>> {
        let path = self.path.join(&relative);
        let (file, _) = self.file(relative)?;
        let mut content = Vec::new();
        let read = file.take(limit as u64 + 1).read_to_end(&mut content);
        read.map_err(|error| cannot("read", &path, error))?;
        if content.len() > limit {
            let message = format!("{} is larger than {limit} bytes", path.display());
            return Err(Error::failed(message));
        }
        Ok(content)
    }

    /// Opens a file for reading and writing, and creates it if it does not exist.
    ///
    /// Writing to it changes a file elsewhere if it has another name there: see [`is_own`].
    ///
    /// # Errors
    /// [`Error::Failed`] if it is not a regular file.
    pub(crate) fn open_or_create(&self, relative: impl AsRef<Path>) -> Result<(File, Metadata)> {
        let (parent, name) = self.parent_of(relative.as_ref(), true)?;
        parent.open_at(name, OFlags::RDWR | OFlags::CREATE, FileType::RegularFile)
    }

    /// Opens a file to continue writing to it, and creates it if it does not exist.
    ///
    /// Anything else than a file that [`is_own`] loses this name first, so that writing changes no other file.
    ///
    /// # Errors
    /// [`Error::Failed`] if it is a folder.
    pub(crate) fn resume(&self, relative: impl AsRef<Path>) -> Result<File> {
        let (parent, name) = self.parent_of(relative.as_ref(), true)?;
        let kind = FileType::RegularFile;
        match parent.stat(name) {
            Ok(stat)
                if kind_of(&stat) == kind && stat.st_uid == own_uid() && stat.st_nlink == 1 =>
            {
                let (file, metadata) = parent.open_at(name, OFlags::RDWR, kind)?;
                if is_own(&metadata) {
                    return Ok(file);
                }
            }
            Err(Errno::NOENT) => {}
            _ => rustix::fs::unlinkat(&*parent.handle, name, AtFlags::empty())
                .map_err(|error| parent.problem("remove", name, kind, error))?,
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(parent.open_at(name, flags, kind)?.0)
    }

    /// Creates a file that appears at a relative path, and replaces what is there, once it is
    /// [published](NewFile::publish).
    pub(crate) fn create_new(&self, relative: impl AsRef<Path>) -> Result<NewFile> {
        let (directory, name) = self.parent_of(relative.as_ref(), true)?;
        let temporary = format!("{NEW_PREFIX}{:016x}", RandomState::new().hash_one(()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (file, _) = directory.open_at(temporary.as_ref(), flags, FileType::RegularFile)?;
        Ok(NewFile { directory, temporary, name: name.to_owned(), file, published: false })
    }

    /// Writes a file so that it exists as a whole or not at all, also after a loss of power.
    pub(crate) fn replace(&self, relative: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        let path = self.path.join(&relative);
        let mut new = self.create_new(relative)?;
        new.file.write_all(content).map_err(|error| cannot("write", &path, error))?;
        new.publish()
    }

    /// Moves a file durably, and replaces what is at its new path.
    pub(crate) fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (old_parent, old) = self.parent_of(from.as_ref(), false)?;
        let (parent, name) = self.parent_of(to.as_ref(), true)?;
        rustix::fs::renameat(&*old_parent.handle, old, &*parent.handle, name)
            .map_err(|error| parent.problem("write", name, FileType::RegularFile, error))?;
        parent.sync()
    }

    /// Removes a file, or a link.
    pub(crate) fn remove(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.unlink(relative.as_ref(), AtFlags::empty())
    }

    /// Removes an empty folder.
    pub(crate) fn remove_directory(&self, relative: impl AsRef<Path>) -> Result<()> {
        self.unlink(relative.as_ref(), AtFlags::REMOVEDIR)
    }

    fn unlink(&self, relative: &Path, flags: AtFlags) -> Result<()> {
        let (parent, name) = self.parent_of(relative, false)?;
        rustix::fs::unlinkat(&*parent.handle, name, flags)
            .map_err(|error| cannot("remove", &parent.path.join(name), error))
    }

    /// Makes changes of its entries durable.
    fn sync(&self) -> Result<()> {
        self.handle.sync_all().map_err(|error| cannot("write", &self.path, error))
    }

    /// Opens the parent of a relative path, and returns it with the last component. Missing folders are created
    /// if `create` is set.
    fn parent_of<'a>(&self, relative: &'a Path, create: bool) -> Result<(Self, &'a OsStr)> {
        let outside = || {
            let (path, directory) = (relative.display(), self.path.display());
            Error::invalid(format!("{path} is not a path of a file in {directory}"))
        };
        let name = relative.file_name().ok_or_else(outside)?;
        let mut parent = self.clone();
        for component in relative.parent().unwrap_or(Path::new("")).components() {
            let Component::Normal(name) = component else { return Err(outside()) };
            parent = parent.child(name, create)?;
        }
        Ok((parent, name))
    }

    fn child(&self, name: &OsStr, create: bool) -> Result<Self> {
        let path = self.path.join(name);
        if create {
            match rustix::fs::mkdirat(&*self.handle, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(cannot("create", &path, error)),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (handle, _) = self.open_at(name, flags, FileType::Directory)?;
        Ok(Self { handle: Arc::new(handle), path: path.into() })
    }

    /// Opens an entry, which must be of the `wanted` kind.
    fn open_at(&self, name: &OsStr, flags: OFlags, wanted: FileType) -> Result<(File, Metadata)> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        let opened = rustix::fs::openat(&*self.handle, name, flags, mode);
        let file = File::from(opened.map_err(|error| self.problem("open", name, wanted, error))?);
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| cannot("read", &self.path.join(name), error))?;
        // The handle is checked: the name may already stand for another file.
        let is_wanted = match wanted {
            FileType::Directory => metadata.is_dir(),
            _ => metadata.is_file(),
        };
        if is_wanted {
            return Ok((file, metadata));
        }
        Err(self.problem("open", name, wanted, Errno::INVAL))
    }

    fn stat(&self, name: &OsStr) -> Result<Stat, Errno> {
        rustix::fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the error of an operation on an entry, which may fail because the entry is of another kind.
    fn problem(&self, verb: &str, name: &OsStr, wanted: FileType, error: Errno) -> Error {
        let path = self.path.join(name);
        match self.stat(name).map(|stat| kind_of(&stat)) {
            Err(Errno::NOENT) if error == Errno::NOENT => {
                Error::not_found(ResourceKind::File, path.display())
            }
            Ok(found) if found != wanted => {
                let (path, wanted) = (path.display(), describe(wanted));
                let found = describe(found);
                Error::failed(format!("{path} is {found}, not {wanted}; replace or remove it"))
            }
            _ => cannot(verb, &path, error),
        }
    }
}

/// A file under a temporary name, which is removed on drop unless it was published.
#[derive(Debug)]
pub(crate) struct NewFile {
    directory: Directory,
    temporary: String,
    name: OsString,
    file: File,
    published: bool,
}

impl NewFile {
    /// Moves it durably to its path, and replaces what is there.
    pub(crate) fn publish(mut self) -> Result<()> {
        let path = self.directory.path.join(&self.name);
        self.file.sync_all().map_err(|error| cannot("write", &path, error))?;
        self.directory.rename(&self.temporary, &self.name)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.published {
            // It is of no use to anybody, and nothing reads it.
            let _ = self.directory.remove(&self.temporary);
        }
    }
}

/// The size of a piece that is copied and then hashed: small enough that it is still in the processor's cache.
const COPIED_PIECE_BYTES: u64 = 1024 * 1024;
const BUFFER_BYTES: usize = 128 * 1024;

/// Copies a range of a file into another file from a position on, and hashes what was written there.
///
/// The kernel copies the data if it can. File systems with reflinks share the blocks. `copied` is called with
/// the length of each piece, and ends the copy by returning `false`.
pub(crate) fn copy(
    (source, range): (&File, Range<u64>),
    (target, mut at): (&File, u64),
    digester: &mut Digester,
    mut copied: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut from = range.start;
    while from < range.end {
        let wanted = (range.end - from).min(COPIED_PIECE_BYTES);
        let mut length = copy_in_kernel((source, from), (target, at), wanted)?;
        for start in (0..length).step_by(BUFFER_BYTES) {
            let rest = usize::try_from(length - start).unwrap_or(BUFFER_BYTES);
            let piece = &mut buffer[..rest.min(BUFFER_BYTES)];
            target.read_exact_at(piece, at + start)?;
            digester.update(piece);
        }
        if length == 0 {
            let wanted = usize::try_from(wanted).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let read = source.read_at(&mut buffer[..wanted], from)?;
            if read == 0 {
                let problem = format!("it ends {} bytes too early", range.end - from);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
            }
            target.write_all_at(&buffer[..read], at)?;
            digester.update(&buffer[..read]);
            length = read as u64;
        }
        (from, at) = (from + length, at + length);
        if !copied(length) {
            return Err(io::Error::other("the copy was cancelled"));
        }
    }
    Ok(())
}

/// Copies a piece within the kernel, and returns its length; 0 if the kernel cannot copy between these files.
#[cfg(target_os = "linux")]
fn copy_in_kernel(
    (source, mut from): (&File, u64),
    (target, mut at): (&File, u64),
    length: u64,
) -> io::Result<u64> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut at), length) {
        Ok(copied) => Ok(copied as u64),
        // Source: <https://man7.org/linux/man-pages/man2/copy_file_range.2.html#ERRORS>
        Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn copy_in_kernel(_: (&File, u64), _: (&File, u64), _: u64) -> io::Result<u64> {
    Ok(0)
}

/// Returns whether a file belongs to the user of this process and has one name, so that writing to it changes no
/// file that somebody else linked here.
pub(crate) fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == own_uid() && metadata.nlink() == 1
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the error of an operation on a file or folder.
pub(crate) fn cannot(verb: &str, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::failed(format!("cannot {verb} {}", path.display())).with_source(error.into())
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "a file of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::model::Algorithm;

    fn directory() -> (TempDir, Directory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        (folder, directory)
    }

    /// Puts every kind of entry that is not a file of its own into a folder, and returns their names.
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
    fn paths_out_of_the_directory_are_refused() {
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
    fn resumed_file_is_no_other_file() {
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
        // No temporary file stays, also after a failure.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn range_of_a_file_is_copied_and_hashed() {
        let content: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&content).unwrap();
        let range = 3..content.len() as u64 - 5;
        // A file in memory is on another file system, between which older kernels do not copy.
        let other = rustix::fs::memfd_create("other", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        for target in [tempfile::tempfile().unwrap(), File::from(other)] {
            target.write_all_at(b"kept", 0).unwrap();
            let (mut digester, mut lengths) = (Digester::new(Algorithm::Sha256), 0);
            let more = |length| {
                lengths += length;
                true
            };
            copy((&source, range.clone()), (&target, 4), &mut digester, more).unwrap();
            let mut found = Vec::new();
            (&target).seek(SeekFrom::Start(0)).unwrap();
            (&target).read_to_end(&mut found).unwrap();
            let expected = &content[3..content.len() - 5];
            assert!(found[..4] == *b"kept" && found[4..] == *expected);
            assert_eq!(digester.finish(), Digester::digest(Algorithm::Sha256, expected));
            assert_eq!(lengths, expected.len() as u64);
        }
    }

    #[test]
    fn copy_fails_on_short_source_or_cancellation() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(b"0123456789", 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        let mut digester = Digester::new(Algorithm::Sha256);
        let error = copy((&source, 4..11), (&target, 0), &mut digester, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "it ends 1 bytes too early");
        let error = copy((&source, 0..10), (&target, 0), &mut digester, |_| false).unwrap_err();
        assert_eq!(error.to_string(), "the copy was cancelled");
    }

    #[test]
    fn length_of_a_read_is_limited() {
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
        let written = || {
            let mut new = directory.create_new("a/new").unwrap();
            new.file.write_all(&content).unwrap();
            new
        };
        let new = written();
        assert_eq!(new.file.metadata().unwrap().len(), content.len() as u64);
        assert!(!directory.has("a/new").unwrap());
        new.publish().unwrap();
        assert!(directory.read("a/new", content.len()).unwrap() == content);
        drop(written());
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
