//! Checks of paths: whether another user could have prepared the target of a path, or could replace it.
//!
//! A path is walked from `/`, one component at a time. The walk resolves links itself, so that each folder and link on
//! the way is checked by the handle that is used afterwards.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use secrecy::zeroize::Zeroizing;

use super::{Directory, cannot, kind_of, own_uid};
use crate::encoding::decode;
use crate::error::{Error, ResourceKind, Result};
use crate::escape::quote_for_shell;

/// The sticky bit of a mode. In a sticky folder, users can replace only their own files.
pub(super) const STICKY_MODE: u32 = 0o1000;
const WRITABLE_BY_GROUP_OR_OTHERS: u32 = 0o022;
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// The owner of the files of users without an ID in a user namespace of Linux.
const UNKNOWN_UID: u32 = 65534;

/// The maximum number of links on a path, as on Linux.
const MAX_LINKS: usize = 40;

/// The folder in which a repository of a local registry keeps its blobs. Clients choose their content.
const REPOSITORY_FOLDER: &str = "_repository";

/// The requirements for the folders and links on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Folders belong to this user or root, and only these can write to them, unless they are sticky.
    Owner,
    /// The same, but groups may write to folders, as to `/var/log`.
    Group,
    /// Folders may belong to any user.
    Links,
}

/// A walk along a path. `kind` names the target in errors, such as `memberships file`.
///
/// A link is followed only if no other user can have created it: the link belongs to this user or root, or is in a
/// folder that belongs to them and that no other user can write to. On Linux, `protected_symlinks` sets the same rule
/// for sticky folders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathWalk<'a> {
    pub(crate) path: &'a Path,
    pub(crate) kind: &'a str,
    pub(crate) trust: Trust,
    /// Whether missing folders are created, accessible to this user only.
    pub(crate) create: bool,
    /// Whether the last component may be a link.
    pub(crate) follow_last: bool,
}

/// Opens a security-relevant file for reading, if only this user and root can have written it.
///
/// `kind` names the file in errors, such as `memberships file`.
///
/// # Errors
/// - [`Error::NotFound`] if the file or its folder does not exist.
/// - [`Error::InvalidInput`] if another user can have changed the file.
/// - [`Error::Failed`] if the file cannot be opened, is not a regular file, or a link on the path has no target.
pub(crate) fn open_trusted(path: &Path, kind: &str) -> Result<(File, Metadata)> {
    PathWalk { path, kind, trust: Trust::Owner, create: false, follow_last: true }.open()
}

/// Reads a security-relevant file of at most `limit` bytes.
///
/// # Errors
/// Those of [`open_trusted`], and [`Error::InvalidInput`] if the file is larger.
pub(crate) fn read_trusted(path: &Path, kind: &str, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    let (file, metadata) = open_trusted(path, kind)?;
    read_limited(&file, &metadata, limit).map_err(|error| cannot("read", path, error))?.ok_or_else(
        || Error::invalid(format!("the {kind} {} is larger than {limit} bytes", path.display())),
    )
}

/// Reads the text of a security-relevant file of at most `limit` bytes.
///
/// # Errors
/// Those of [`read_trusted`], and [`Error::InvalidInput`] with the encoding of the file if it is not UTF-8.
pub(crate) fn read_trusted_text(path: &Path, kind: &str, limit: usize) -> Result<String> {
    let content = read_trusted(path, kind, limit)?.to_vec();
    String::from_utf8(content).map_err(|error| {
        let problem = decode(error.as_bytes()).err().unwrap_or_default();
        Error::invalid(format!("the {kind} {} cannot be decoded: {problem}", path.display()))
    })
}

/// Opens a log file for appending. A missing file is created, accessible to this user only. The group of an existing
/// file may have write access.
///
/// `kind` names the file in errors, such as `audit file`.
///
/// # Errors
/// [`Error::InvalidInput`] if another user can have prepared or can replace the file; [`Error::Failed`] if it cannot
/// be opened or is not a regular file.
pub fn open_to_append(path: &Path, kind: &str) -> Result<File> {
    let walk = PathWalk { path, kind, trust: Trust::Group, create: false, follow_last: false };
    let (folder, name) = walk.find()?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let (file, metadata) = folder.open_at(&name, flags, FileType::RegularFile)?;
    walk.check_file(&folder, &metadata)?;
    Ok(file)
}

/// Returns the folder and the name of an output file. The folder may belong to any user.
pub(super) fn resolve_output(path: &Path) -> Result<(Directory, OsString)> {
    let kind = "output file";
    let walk = PathWalk { path, kind, trust: Trust::Links, create: false, follow_last: true };
    match walk.find() {
        Ok((folder, name)) => Ok((Directory { is_private: false, ..folder }, name)),
        Err(Error::NotFound { .. }) => Err(cannot("write", path, Errno::NOENT)),
        Err(error) => Err(error),
    }
}

/// Creates a folder that only this user and root can write to or replace, such as for executable files. An existing
/// folder is checked.
///
/// Missing parents are created too. New folders are accessible to this user only.
///
/// # Errors
/// [`Error::InvalidInput`] if another user can write to the folder, or can change a folder or link on the path;
/// [`Error::Failed`] if the folder cannot be created.
pub fn create_trusted_folder(path: &Path) -> Result<()> {
    Directory::create_trusted(path, "folder").map(|_| ())
}

impl Directory {
    /// Opens a security-relevant folder, if only this user and root can change or replace it.
    ///
    /// # Errors
    /// Those of [`open_trusted`](self::open_trusted).
    #[cfg(feature = "local")]
    pub(crate) fn open_trusted(path: &Path, kind: &str) -> Result<Self> {
        PathWalk { path, kind, trust: Trust::Owner, create: false, follow_last: true }.open_folder()
    }

    /// Opens a folder as [`open_trusted`](Self::open_trusted) does, and creates missing folders.
    pub(crate) fn create_trusted(path: &Path, kind: &str) -> Result<Self> {
        PathWalk { path, kind, trust: Trust::Owner, create: true, follow_last: true }.open_folder()
    }
}

impl PathWalk<'_> {
    /// Opens the file for reading without checks of its owner and mode.
    ///
    /// # Errors
    /// Those of [`open_trusted`], except those for the owner and mode of the file.
    pub(crate) fn open_unchecked(self) -> Result<(File, Metadata)> {
        Ok(self.open_in_folder()?.1)
    }

    fn open_in_folder(self) -> Result<(Directory, (File, Metadata))> {
        let (folder, name) = self.find()?;
        let opened = folder.open_at(&name, OFlags::RDONLY, FileType::RegularFile);
        let opened = opened.map_err(|error| match error {
            Error::NotFound { .. } => self.not_found(),
            error => error,
        })?;
        Ok((folder, opened))
    }

    fn open(self) -> Result<(File, Metadata)> {
        let (folder, (file, metadata)) = self.open_in_folder()?;
        self.check_file(&folder, &metadata)?;
        if folder.path.components().any(|part| part.as_os_str() == REPOSITORY_FOLDER) {
            let problem = "is in a repository, whose clients choose its content";
            return Err(self.rejected(problem, "move it to another folder"));
        }
        Ok((file, metadata))
    }

    pub(super) fn open_folder(self) -> Result<Directory> {
        let (folder, name) = self.run()?;
        let folder = match name {
            None => folder,
            Some(name) => match folder.child(&name, self.create) {
                Err(Error::NotFound { .. }) => return Err(self.not_found()),
                opened => opened?,
            },
        };
        self.check_own_folder(&folder)?;
        Ok(folder)
    }

    /// Returns the folder and the name of a file, as [`find`](Self::find) does, if no other user can write to the
    /// folder.
    pub(crate) fn find_in_own_folder(self) -> Result<(Directory, OsString)> {
        let (folder, name) = self.find()?;
        PathWalk { path: &folder.path, ..self }.check_own_folder(&folder)?;
        Ok((folder, name))
    }

    fn check_own_folder(&self, folder: &Directory) -> Result<()> {
        let metadata = folder.metadata()?;
        let is_safe = match self.trust {
            Trust::Links => metadata.uid() == own_uid(),
            _ => is_trusted(metadata.uid()),
        };
        if !is_safe {
            return Err(self.rejected("belongs to another user", "choose a folder of your own"));
        }
        if writers(&metadata) & WRITABLE_BY_GROUP_OR_OTHERS != 0 {
            let help = format!("restrict its permissions: chmod go-w {}", quote(&folder.path));
            return Err(self.rejected("is writable by other users", &help));
        }
        Ok(())
    }

    /// Returns the folder and the name of a file. The file may be missing and may belong to any user.
    ///
    /// # Errors
    /// Those of [`open_trusted`].
    pub(crate) fn find(self) -> Result<(Directory, OsString)> {
        let (folder, name) = self.run()?;
        let is_folder =
            || Error::failed(format!("{} is a folder, not a file", folder.path.display()));
        let name = name.ok_or_else(is_folder)?;
        Ok((folder, name))
    }

    /// Walks to the folder of the last component. Returns the folder and the name of the last component; `None` for
    /// the name if the path ends with the folder itself, such as a path that ends with `..`.
    fn run(self) -> Result<(Directory, Option<OsString>)> {
        let absolute =
            std::path::absolute(self.path).map_err(|error| cannot("find", self.path, error))?;
        // The remaining components in reverse order, each with whether it comes from a link.
        let mut rest = Vec::new();
        push_components(&mut rest, &absolute, false);
        let (mut folder, mut links) = (self.root()?, 0);
        while let Some((name, is_of_link)) = rest.pop() {
            if name == ".." {
                folder = folder.parent()?;
                self.check_folder(&folder)?;
                continue;
            }
            let is_last = rest.is_empty();
            let path = folder.path.join(&name);
            let found = match folder.stat(&name) {
                Ok(stat) => Some((kind_of(&stat), stat.st_uid)),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(cannot("open", &path, error)),
            };
            match found {
                _ if is_last && !self.follow_last => return Ok((folder, Some(name))),
                Some((FileType::Symlink, owner)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(cannot("open", self.path, Errno::LOOP));
                    }
                    self.check_link(&folder, &path, owner)?;
                    let target = rustix::fs::readlinkat(&*folder.handle, &name, Vec::new());
                    let target = target.map_err(|error| cannot("read", &path, error))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        folder = self.root()?;
                    }
                    push_components(&mut rest, &target, true);
                }
                // A link without a target is an error, and not a missing file: the file was meant to exist.
                None if is_of_link => {
                    let (from, missing) = (self.path.display(), path.display());
                    if std::fs::metadata(self.path).is_ok() {
                        let message = format!("{from} is a pipe or a socket, not a file");
                        return Err(Error::failed(message)
                            .with_help("write the content to a file, and name that file"));
                    }
                    let message = format!("{from} leads to {missing}, which does not exist");
                    return Err(Error::failed(message)
                        .with_help(format!("replace the link, or create {missing}")));
                }
                _ if is_last => return Ok((folder, Some(name))),
                None if !self.create => return Err(self.not_found()),
                _ => {
                    folder = folder.child(&name, self.create)?;
                    self.check_folder(&folder)?;
                }
            }
        }
        Ok((folder, None))
    }

    fn root(&self) -> Result<Directory> {
        let root = Directory::open(Path::new("/"))?.private();
        self.check_folder(&root)?;
        Ok(root)
    }

    fn check_folder(&self, folder: &Directory) -> Result<()> {
        let (forbidden, mode) = match self.trust {
            Trust::Owner => (WRITABLE_BY_GROUP_OR_OTHERS, "go-w"),
            Trust::Group => (WRITABLE_BY_OTHERS, "o-w"),
            Trust::Links => return Ok(()),
        };
        let metadata = folder.metadata()?;
        let path = quote(&folder.path);
        let problem = |problem: &str| {
            let (folder, kind, file) = (folder.path.display(), self.kind, self.path.display());
            Error::invalid(format!(
                "the folder {folder} {problem}, who could replace the {kind} {file}"
            ))
        };
        if !may_own_folder(metadata.uid()) {
            let help = "choose a path in a folder of your own";
            return Err(problem("belongs to another user").with_help(help));
        }
        if writers(&metadata) & forbidden != 0 && metadata.mode() & STICKY_MODE == 0 {
            let help = format!("restrict its permissions: chmod {mode} {path}");
            return Err(problem("is writable by other users").with_help(help));
        }
        Ok(())
    }

    fn check_link(&self, folder: &Directory, path: &Path, owner: u32) -> Result<()> {
        let metadata = folder.metadata()?;
        let is_closed = writers(&metadata) & WRITABLE_BY_GROUP_OR_OTHERS == 0;
        if is_trusted(owner) || is_closed && may_own_folder(metadata.uid()) {
            return Ok(());
        }
        let (link, kind, file) = (path.display(), self.kind, self.path.display());
        let message = format!("the link {link} to the {kind} {file} belongs to another user");
        Err(Error::invalid(message).with_help("name a path without this link"))
    }

    /// Checks an open file. The check of the handle excludes a replacement between check and use.
    fn check_file(&self, folder: &Directory, file: &Metadata) -> Result<()> {
        let path = quote(self.path);
        if !is_trusted(file.uid()) {
            let help = "copy it to a folder of your own, if you trust its content";
            return Err(self.rejected("belongs to another user, who can change it", help));
        }
        let (forbidden, mode) = match self.trust {
            Trust::Group => (WRITABLE_BY_OTHERS, "o-w"),
            _ => (WRITABLE_BY_GROUP_OR_OTHERS, "go-w"),
        };
        if writers(file) & forbidden != 0 {
            let help = format!("restrict its permissions: chmod {mode} {path}");
            return Err(self.rejected("can be changed by other users", &help));
        }
        // In a folder that all users can write to, another user can create a hard link to any file.
        let is_in_open_folder = writers(&folder.metadata()?) & WRITABLE_BY_GROUP_OR_OTHERS != 0;
        if file.nlink() > 1 && (is_in_open_folder || self.trust == Trust::Group) {
            let problem = "has a second hard link, which another user may have created";
            return Err(self.rejected(problem, "copy it to a folder of your own"));
        }
        Ok(())
    }

    fn rejected(&self, problem: &str, help: &str) -> Error {
        let (kind, path) = (self.kind, self.path.display());
        Error::invalid(format!("the {kind} {path} {problem}")).with_help(help)
    }

    fn not_found(&self) -> Error {
        Error::not_found(ResourceKind::File, self.path.display())
    }
}

/// Adds the components of a path before the remaining ones.
fn push_components(rest: &mut Vec<(OsString, bool)>, path: &Path, is_of_link: bool) {
    let components = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    rest.extend(components.map(|name| (name, is_of_link)));
}

/// Returns whether a path has an entry, even an unreadable one or a link without a target.
pub(crate) fn has_name(path: &Path) -> bool {
    let found = std::fs::symlink_metadata(path);
    !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file; `None` if it is longer than `limit`.
pub(crate) fn read_limited(
    file: &File,
    metadata: &Metadata,
    limit: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(limit);
    // The full capacity is reserved at once, because a growing vector leaves copies of a secret in memory.
    let mut content = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= limit).then_some(content))
}

/// Returns the mode bits that give other users than the owner write access.
fn writers(metadata: &Metadata) -> u32 {
    let bits = metadata.mode() & WRITABLE_BY_GROUP_OR_OTHERS;
    match bits & !WRITABLE_BY_OTHERS != 0 && is_private_group(metadata.uid(), metadata.gid()) {
        true => bits & WRITABLE_BY_OTHERS,
        false => bits,
    }
}

/// Returns whether a user is the only member of a group. Debian and other systems create such a group for each user
/// and give it write access to new files.
///
/// A group that is not in `/etc/group`, such as one of a directory service, counts as shared. On macOS, all groups do,
/// because the directory service also adds members to the groups of `/etc/group`.
///
/// Source: <https://wiki.debian.org/UserPrivateGroups>
fn is_private_group(user: u32, group: u32) -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    cfg!(target_os = "linux")
        && is_private_group_in(&read("/etc/passwd"), &read("/etc/group"), user, group)
}

fn is_private_group_in(users: &str, groups: &str, user: u32, group: u32) -> bool {
    let number = |field: Option<&str>| field?.parse::<u32>().ok();
    let users: Vec<(&str, Option<u32>, Option<u32>)> = users
        .lines()
        .map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            (name, number(fields.nth(1)), number(fields.next()))
        })
        .collect();
    let members: Vec<&str> = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| number(fields.get(2).copied()) == Some(group))
        .filter_map(|fields| fields.get(3).copied())
        .collect();
    let is_user = |name: &str| users.iter().any(|(own, id, _)| *own == name && *id == Some(user));
    // The group of root counts as shared.
    user != 0
        && !members.is_empty()
        && members
            .iter()
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
            .all(is_user)
        && users.iter().all(|(_, id, primary)| *primary != Some(group) || *id == Some(user))
}

/// Returns whether a user is the user of this process or root. Root can write to any file.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == own_uid()
}

/// Returns whether the owner of a folder on a path is this user or root. In a user namespace without root, such as a
/// sandbox of bubblewrap, folders of root have the owner [`UNKNOWN_UID`].
///
/// Source: <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>
fn may_own_folder(owner: u32) -> bool {
    static IS_A_USER: LazyLock<bool> = LazyLock::new(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let has_unknown = |line: &str| {
            let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
            let [start, _, count] = numbers[..] else { return false };
            UNKNOWN_UID.checked_sub(start).is_some_and(|offset| offset < count)
        };
        map.is_empty() || map.lines().any(has_unknown)
    });
    is_trusted(owner) || owner == UNKNOWN_UID && !*IS_A_USER
}

/// Quotes a path as an argument of a shell command.
pub(super) fn quote(path: &Path) -> String {
    quote_for_shell(&path.display().to_string())
}

#[cfg(test)]
mod tests;
