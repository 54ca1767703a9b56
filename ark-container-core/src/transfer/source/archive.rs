//! [`Archive`]: where the members of a tar file are in it, without unpacking it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::damaged;
use crate::error::{Error, Result};
use crate::transfer::local_file::{Cursor, OpenFile};

/// What the headers of an archive may amount to: about 100,000 members. A bound on the memory that
/// a hostile archive can make us take.
const MAX_HEADERS_LEN: u64 = 64 * 1024 * 1024;
/// A link to a link is legal, but not in a circle.
const MAX_LINKS: usize = 8;

/// The members of a tar file by their names.
#[derive(Debug)]
pub(super) struct Archive {
    file: OpenFile,
    members: HashMap<PathBuf, Member>,
}

#[derive(Debug)]
enum Member {
    File(Region),
    /// To another member, by its whole name.
    Link(PathBuf),
    Folder,
    /// What no image is made of: a device, a link that leaves the archive.
    Other(&'static str),
}

/// A part of the archive's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Archive {
    /// Reads the headers of an archive.
    pub(super) fn read_from(file: OpenFile) -> Result<Self> {
        let headers = Headers { file: file.at(0), budget: MAX_HEADERS_LEN };
        let members = index(headers, file.length()).map_err(|error| {
            Error::failed(format!("{} is no whole archive", file.name())).with_source(error)
        })?;
        Ok(Self { file, members })
    }

    /// The archive's file.
    pub(super) fn file(&self) -> &OpenFile {
        &self.file
    }

    /// Whether there is a member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        within(Path::new(""), Path::new(name)).is_some_and(|name| self.members.contains_key(&name))
    }

    /// Where the content of a member is, behind any links to it.
    pub(super) fn find(&self, name: &str) -> Result<Region> {
        let Some(mut target) = within(Path::new(""), Path::new(name)) else {
            return Err(damaged(self.file.name(), format!("{name} is outside the archive")));
        };
        for _ in 0..MAX_LINKS {
            match self.members.get(&target) {
                Some(Member::File(region)) => return Ok(*region),
                Some(Member::Link(next)) => target.clone_from(next),
                Some(Member::Folder) => {
                    return Err(damaged(
                        self.file.name(),
                        format!("its member {name} is a folder"),
                    ));
                }
                Some(Member::Other(what)) => {
                    return Err(damaged(self.file.name(), format!("its member {name} is {what}")));
                }
                None => return Err(damaged(self.file.name(), format!("it has no member {name}"))),
            }
        }
        Err(damaged(self.file.name(), format!("its member {name} is a circle of links")))
    }

    /// The content of a member, which may not be larger than `limit`.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>> {
        let region = self.find(name)?;
        if region.size > limit as u64 {
            let problem = format!("its member {name} is larger than {limit} bytes");
            return Err(damaged(self.file.name(), problem));
        }
        let mut content = Vec::new();
        let read = self.reader(region).read_to_end(&mut content);
        let read = read.map_err(|error| self.unreadable(error))? as u64;
        if read < region.size {
            return Err(damaged(self.file.name(), format!("it ends in the middle of {name}")));
        }
        Ok(content)
    }

    /// A reader of a part.
    pub(super) fn reader(&self, region: Region) -> impl Read + use<> {
        self.file.at(region.offset).take(region.size)
    }

    /// The error where the operating system does not let the archive be read.
    pub(super) fn unreadable(&self, error: io::Error) -> Error {
        Error::failed(format!("{} cannot be read", self.file.name())).with_source(error)
    }
}

fn index(headers: Headers, length: u64) -> io::Result<HashMap<PathBuf, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(headers);
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let is_sparse = is_sparse(&mut entry)?;
        // A name that leads out of the archive cannot be asked for, and nothing is unpacked.
        let Some(name) = within(Path::new(""), &entry.path()?) else { continue };
        let region = Region { offset: entry.raw_file_position(), size: entry.size() };
        let target = entry.link_name()?;
        let linked = |folder: &Path| {
            let target = within(folder, target.as_deref()?)?;
            Some(Member::Link(target))
        };
        let outside = Member::Other("a link out of the archive");
        let member = match entry.header().entry_type() {
            _ if is_sparse => Member::Other("a file with holes"),
            EntryType::Regular | EntryType::Continuous => {
                let end = region.offset.checked_add(region.size);
                if end.is_none_or(|end| end > length) {
                    let problem = format!("it ends in the middle of {}", name.display());
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
                }
                Member::File(region)
            }
            EntryType::Symlink => linked(name.parent().unwrap_or(Path::new(""))).unwrap_or(outside),
            EntryType::Link => linked(Path::new("")).unwrap_or(outside),
            EntryType::Directory => Member::Folder,
            _ => Member::Other("something special"),
        };
        match members.entry(name) {
            Entry::Vacant(place) => drop(place.insert(member)),
            // Whoever unpacks it takes the last one, whoever reads on the way the first one: two
            // images in one archive. Folders come several times in honest ones.
            Entry::Occupied(mut place) if !is_folder(place.get()) || !is_folder(&member) => {
                place.insert(Member::Other("there twice"));
            }
            Entry::Occupied(_) => {}
        }
    }
    Ok(members)
}

/// Whether what follows is not the file but a map of it, with what is between its holes.
///
/// Source: <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>
fn is_sparse(entry: &mut tar::Entry<'_, Headers>) -> io::Result<bool> {
    if entry.header().entry_type() == EntryType::GNUSparse {
        return Ok(true);
    }
    let Some(extensions) = entry.pax_extensions()? else { return Ok(false) };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_folder(member: &Member) -> bool {
    matches!(member, Member::Folder)
}

/// A name seen from a folder of the archive; `None` if that is outside.
fn within(folder: &Path, name: &Path) -> Option<PathBuf> {
    let mut whole = folder.to_owned();
    for component in name.components() {
        match component {
            Component::Normal(part) => whole.push(part),
            Component::CurDir => {}
            Component::ParentDir if whole.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole)
}

/// A file of which only so much may be read; what is sought past is free.
struct Headers {
    file: Cursor,
    budget: u64,
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        match self.budget.checked_sub(read as u64) {
            Some(budget) => {
                self.budget = budget;
                Ok(read)
            }
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "it has too many headers")),
        }
    }
}

impl Seek for Headers {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
