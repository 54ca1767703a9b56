//! [`Archive`]: finds the members of a tar file, without unpacking it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use tar::EntryType;

use super::damaged;
use crate::error::{Error, Result};
use crate::transfer::decompress::CompressionFormat;
use crate::transfer::local_file::{Cursor, OpenFile, PIECE_BYTES};

/// The maximum total size of the headers of an archive: about 100,000 members. Limits the memory for a hostile archive.
const MAX_HEADERS_BYTES: u64 = 64 * 1024 * 1024;
/// The maximum length of a chain of links, which detects a loop.
const MAX_LINKS: usize = 8;
/// The size of a header in a tar file.
const BLOCK_BYTES: u64 = 512;

/// The members of a tar file by their names.
#[derive(Debug)]
pub(super) struct Archive {
    file: OpenFile,
    members: Members,
}

#[derive(Debug, Default)]
struct Members {
    first: HashMap<PathBuf, Member>,
    repeats: HashMap<PathBuf, Repeats>,
}

/// The members with the same name as an earlier member.
#[derive(Debug, Default)]
struct Repeats {
    members: Vec<Member>,
    /// Whether all are identical to the first member. Compared once, since a listing can name a member often.
    are_identical: OnceLock<bool>,
}

#[derive(Debug)]
enum Member {
    File(Region),
    /// A link to another member, by the full name.
    Link(PathBuf),
    Folder,
    /// An unsupported member, with its kind, such as a device or a link out of the archive.
    Other(&'static str),
}

/// The location of a member in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Archive {
    /// Reads the headers of an archive.
    ///
    /// No error contains bytes of the file, which may be a private file that was named by mistake. Errors of the tar
    /// library may contain such bytes, and are therefore replaced.
    pub(super) fn read_from(file: OpenFile) -> Result<Self> {
        check_first_header(&file)?;
        let headers =
            HeaderReader { file: file.at(0), position: 0, remaining_bytes: MAX_HEADERS_BYTES };
        let mut tar = tar::Archive::new(headers);
        let members = index(&mut tar, file.length());
        let members = members.map_err(|fault| {
            let HeaderReader { position, remaining_bytes, .. } = tar.into_inner();
            match fault {
                Fault::Problem(problem) => damaged(file.name(), problem),
                Fault::Tar(error) if error.raw_os_error().is_some() => unreadable(&file, error),
                Fault::Tar(_) if remaining_bytes == 0 => {
                    let problem = format!("its headers have more than {MAX_HEADERS_BYTES} bytes");
                    damaged(file.name(), problem)
                }
                Fault::Tar(_) if position >= file.length() && position % BLOCK_BYTES != 0 => {
                    damaged(file.name(), "the tar archive ends in the middle of a header")
                }
                Fault::Tar(_) => {
                    let problem =
                        format!("the tar archive has an invalid header before byte {position}");
                    damaged(file.name(), problem)
                }
            }
        })?;
        Ok(Self { file, members })
    }

    /// Returns the file of the archive.
    pub(super) fn file(&self) -> &OpenFile {
        &self.file
    }

    /// Returns whether the archive has a member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        resolve_within(Path::new(""), Path::new(name))
            .is_some_and(|name| self.members.first.contains_key(&name))
    }

    /// Returns the location of a member. Follows links.
    pub(super) fn find(&self, name: &str) -> Result<Region> {
        let Some(mut target) = resolve_within(Path::new(""), Path::new(name)) else {
            return Err(damaged(self.file.name(), format!("{name} is outside the archive")));
        };
        for _ in 0..MAX_LINKS {
            if !self.is_unambiguous(&target)? {
                let problem = format!("it has several members {} that differ", target.display());
                return Err(damaged(self.file.name(), problem));
            }
            match self.members.first.get(&target) {
                Some(Member::File(region)) => return Ok(*region),
                Some(Member::Link(next)) => target.clone_from(next),
                Some(Member::Folder) => {
                    return Err(damaged(
                        self.file.name(),
                        format!("its member {name} is a folder"),
                    ));
                }
                Some(Member::Other(kind)) => {
                    return Err(damaged(self.file.name(), format!("its member {name} is {kind}")));
                }
                None => return Err(damaged(self.file.name(), format!("it has no member {name}"))),
            }
        }
        Err(damaged(self.file.name(), format!("the links of its member {name} form a loop")))
    }

    /// Returns whether all members of a name are identical.
    ///
    /// Programs that unpack an archive use the last member of a name. Programs that stream it use the first one. If
    /// these members differ, one archive contains two images.
    fn is_unambiguous(&self, name: &Path) -> Result<bool> {
        let Some(repeats) = self.members.repeats.get(name) else { return Ok(true) };
        if let Some(known) = repeats.are_identical.get() {
            return Ok(*known);
        }
        let first = self.members.first.get(name);
        let mut are_identical = true;
        for repeat in &repeats.members {
            are_identical &= match (first, repeat) {
                // If a file is added twice, tar writes a link to itself.
                (Some(_), Member::Link(target)) if target == name => true,
                (Some(Member::Link(one)), Member::Link(other)) => one == other,
                (Some(Member::File(one)), Member::File(other)) => self.is_same(*one, *other)?,
                _ => false,
            };
        }
        Ok(*repeats.are_identical.get_or_init(|| are_identical))
    }

    /// Returns whether two regions have the same content.
    fn is_same(&self, one: Region, other: Region) -> Result<bool> {
        if one.size != other.size {
            return Ok(false);
        }
        let (mut one_reader, mut other_reader) = (self.reader(one), self.reader(other));
        let (mut one_piece, mut other_piece) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        let mut remaining = one.size;
        while remaining > 0 {
            let length = usize::try_from(remaining).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let read = one_reader
                .read_exact(&mut one_piece[..length])
                .and_then(|()| other_reader.read_exact(&mut other_piece[..length]));
            read.map_err(|error| self.unreadable(error))?;
            if one_piece[..length] != other_piece[..length] {
                return Ok(false);
            }
            remaining -= length as u64;
        }
        Ok(true)
    }

    /// Reads the content of a member of at most `limit` bytes.
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

    /// Returns a reader of the content at a location.
    pub(super) fn reader(&self, region: Region) -> impl Read + use<> {
        self.file.at(region.offset).take(region.size)
    }

    /// Returns the error of an archive that the operating system cannot read.
    pub(super) fn unreadable(&self, error: io::Error) -> Error {
        unreadable(&self.file, error)
    }
}

fn unreadable(file: &OpenFile, error: io::Error) -> Error {
    Error::failed(format!("{} cannot be read", file.name())).with_source(error)
}

/// Rejects a file that starts neither with the header of a member nor with the end of an empty archive.
fn check_first_header(file: &OpenFile) -> Result<()> {
    let mut start = Vec::new();
    let read = file.at(0).take(BLOCK_BYTES).read_to_end(&mut start);
    read.map_err(|error| unreadable(file, error))?;
    if start.len() as u64 == BLOCK_BYTES && is_header(&start) {
        return Ok(());
    }
    let problem = match likely_kind(&start) {
        _ if start.is_empty() => format!("{} is empty", file.name()),
        Some(kind) => format!("{} is not a tar archive: it looks like {kind}", file.name()),
        None => format!("{} is not a tar archive", file.name()),
    };
    Err(Error::failed(problem))
}

/// Returns whether a block is a header with a correct checksum, or the end of an archive.
///
/// Source: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06>
fn is_header(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let is_digit = |byte: &u8| (b'0'..=b'7').contains(byte);
    let digits =
        block[CHECKSUM].iter().skip_while(|byte| **byte == b' ').take_while(|b| is_digit(b));
    let expected = digits.fold(0, |sum, digit| 8 * sum + u32::from(digit - b'0'));
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let found = sum(&block[..CHECKSUM.start]) + 8 * u32::from(b' ') + sum(&block[CHECKSUM.end..]);
    found == expected || block.iter().all(|byte| *byte == 0)
}

/// Returns the likely kind of a file with this start, without any bytes of the file.
fn likely_kind(start: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 7] = [
        (
            b"version https://git-lfs.github.com/",
            "a Git LFS pointer; fetch the file with git lfs pull",
        ),
        (b"<!doctype html", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"<?xml", "an XML document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\xff\xfe", UTF16),
        (b"\xfe\xff", UTF16),
    ];
    const UTF16: &str =
        "UTF-16 text, as PowerShell writes redirected output; write the archive with --output";
    if CompressionFormat::detect(start).is_some() {
        return Some("a file that is compressed twice");
    }
    let text = start.trim_ascii_start();
    let is_start = |signature: &[u8]| {
        text.get(..signature.len()).is_some_and(|start| start.eq_ignore_ascii_case(signature))
    };
    let known = SIGNATURES.iter().find(|(signature, _)| is_start(signature));
    known.map(|(_, kind)| *kind).or_else(|| is_text(start).then_some("text"))
}

/// Returns whether this is the start of a UTF-8 text.
fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be incomplete.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace())
}

/// The reason why reading the headers of an archive failed.
enum Fault {
    /// An error of the tar library, whose text may contain bytes of the file.
    Tar(io::Error),
    Problem(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Tar(error)
    }
}

fn index(archive: &mut tar::Archive<HeaderReader>, length: u64) -> Result<Members, Fault> {
    let mut members = Members::default();
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let is_sparse = is_sparse(&mut entry)?;
        // A member with a name outside the archive is harmless: no lookup finds it, and no member is unpacked.
        let Some(name) = resolve_within(Path::new(""), &entry.path()?) else { continue };
        let region = Region { offset: entry.raw_file_position(), size: entry.size() };
        let target = entry.link_name()?;
        let linked = |folder: &Path| {
            let target = resolve_within(folder, target.as_deref()?)?;
            Some(Member::Link(target))
        };
        let outside = Member::Other("a link out of the archive");
        let member = match entry.header().entry_type() {
            _ if is_sparse => {
                Member::Other("a sparse file; write the archive without tar's --sparse")
            }
            EntryType::Regular | EntryType::Continuous => {
                let end = region.offset.checked_add(region.size);
                if end.is_none_or(|end| end > length) {
                    let problem = format!("it ends in the middle of {}", name.display());
                    return Err(Fault::Problem(problem));
                }
                Member::File(region)
            }
            EntryType::Symlink => linked(name.parent().unwrap_or(Path::new(""))).unwrap_or(outside),
            EntryType::Link => linked(Path::new("")).unwrap_or(outside),
            EntryType::Directory => Member::Folder,
            _ => Member::Other("a special file"),
        };
        match members.first.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert(member)),
            Entry::Occupied(entry) if is_folder(entry.get()) && is_folder(&member) => {}
            Entry::Occupied(entry) => {
                let repeats = members.repeats.entry(entry.key().clone()).or_default();
                repeats.members.push(member);
            }
        }
    }
    Ok(members)
}

/// Returns whether a member is a sparse file, whose data is a map of the file and its non-empty regions.
///
/// Source: <https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>
fn is_sparse(entry: &mut tar::Entry<'_, HeaderReader>) -> io::Result<bool> {
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

/// Resolves a name relative to a folder of the archive; `None` if the result is outside the archive.
fn resolve_within(folder: &Path, name: &Path) -> Option<PathBuf> {
    let mut resolved = folder.to_owned();
    for component in name.components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::ParentDir if resolved.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

/// A reader with a limit on the read bytes. Skipped bytes do not count.
struct HeaderReader {
    file: Cursor,
    /// The position after the last read.
    position: u64,
    remaining_bytes: u64,
}

impl Read for HeaderReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.position += read as u64;
        self.remaining_bytes = self.remaining_bytes.saturating_sub(read as u64);
        match self.remaining_bytes {
            0 => Err(io::Error::other("too many headers")),
            _ => Ok(read),
        }
    }
}

impl Seek for HeaderReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(position)?;
        Ok(self.position)
    }
}
