//! [`Archive`]: where the members of a tar file are in it, without unpacking it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::damaged;
use crate::error::{Error, Result};
use crate::push::regular_file;

/// What the headers of an archive may amount to: about 100,000 members. A bound on the memory that
/// a hostile archive can make us take.
const MAX_HEADERS_LEN: u64 = 64 * 1024 * 1024;
/// A link to a link is legal, but not in a circle.
const MAX_LINKS: usize = 8;

/// How compressed files start, and what turns them into an archive that can be read.
const COMPRESSIONS: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "unzstd"),
    (b"\xfd7zXZ\0", "unxz"),
    (b"BZh", "bunzip2"),
];

/// The members of a tar file by their names.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<PathBuf, Member>,
}

#[derive(Debug)]
enum Member {
    File(Region),
    /// To another member, by its whole name.
    Link(PathBuf),
    /// What no image is made of: a folder, a device, a link that leaves the archive.
    Other(&'static str),
}

/// A part of the archive's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Archive {
    /// Reads the headers of the archive at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = regular_file::open(path)?;
        let mut start = Vec::new();
        let unreadable = |error| regular_file::unreadable(path, error);
        (&file).take(8).read_to_end(&mut start).map_err(unreadable)?;
        let compression = COMPRESSIONS.iter().find(|(magic, _)| start.starts_with(magic));
        if let Some((_, remedy)) = compression {
            let problem = format!("it is compressed; decompress it first, with {remedy}");
            return Err(damaged(path, problem));
        }
        file.rewind().map_err(unreadable)?;
        let headers = Headers { file: &file, budget: MAX_HEADERS_LEN };
        let members = index(headers, length).map_err(|error| {
            Error::failed(format!("{} is no whole archive", path.display()), error)
        })?;
        Ok(Self { path: path.to_owned(), file, members })
    }

    /// The archive's file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        within(Path::new(""), Path::new(name)).is_some_and(|name| self.members.contains_key(&name))
    }

    /// Where the content of a member is, behind any links to it.
    pub(super) fn find(&self, name: &str) -> Result<Region> {
        let Some(mut target) = within(Path::new(""), Path::new(name)) else {
            return Err(damaged(&self.path, format!("{name} is outside the archive")));
        };
        for _ in 0..MAX_LINKS {
            match self.members.get(&target) {
                Some(Member::File(region)) => return Ok(*region),
                Some(Member::Link(next)) => target.clone_from(next),
                Some(Member::Other(what)) => {
                    return Err(damaged(&self.path, format!("its member {name} is {what}")));
                }
                None => return Err(damaged(&self.path, format!("it has no member {name}"))),
            }
        }
        Err(damaged(&self.path, format!("its member {name} is a circle of links")))
    }

    /// The content of a member, which may not be larger than `limit`.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Vec<u8>> {
        let region = self.find(name)?;
        if region.size > limit as u64 {
            let problem = format!("its member {name} is larger than {limit} bytes");
            return Err(damaged(&self.path, problem));
        }
        let mut content = Vec::new();
        self.reader(region)?
            .read_to_end(&mut content)
            .map_err(|error| regular_file::unreadable(&self.path, error))?;
        Ok(content)
    }

    /// A reader of a part. There may be only one at a time.
    pub(super) fn reader(&self, region: Region) -> Result<impl Read> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(region.offset))
            .map_err(|error| regular_file::unreadable(&self.path, error))?;
        Ok(file.take(region.size))
    }
}

fn index(headers: Headers<'_>, length: u64) -> io::Result<HashMap<PathBuf, Member>> {
    let mut members = HashMap::new();
    let mut archive = tar::Archive::new(headers);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
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
            EntryType::Directory => Member::Other("a folder"),
            _ => Member::Other("something special"),
        };
        members.insert(name, member);
    }
    Ok(members)
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
struct Headers<'a> {
    file: &'a File,
    budget: u64,
}

impl Read for Headers<'_> {
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

impl Seek for Headers<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
