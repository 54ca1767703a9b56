//! Boxes, of which ISO base media files consist: a size, four letters, and a content.
//!
//! Source: ISO/IEC 14496-12, 4.2.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use crate::error::Error;

/// A day in fragments of a quarter of a second has fewer; each that is met takes a read of the file.
const MOST_BOXES: u32 = 1_000_000;

/// What is read of a box whose fields are of interest: all of these are in its first bytes.
const MOST_FIELDS: u64 = 256;

/// Four letters, such as `moov`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FourCc(pub(super) [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(formatter)
    }
}

/// Where a box is.
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaBox {
    pub(super) kind: FourCc,
    /// Of its size, from the start of the file.
    start: u64,
    /// Of what follows size and letters.
    content: u64,
    /// Never beyond the end of the box that it is in.
    end: u64,
    /// By how many bytes it claims more than there are.
    pub(super) lacks: u64,
}

impl MediaBox {
    /// How an error calls it.
    pub(super) fn name(&self) -> String {
        format!("box {} at {}", self.kind, self.start)
    }

    pub(super) fn cut_off(&self) -> String {
        format!("{} lacks {} bytes", self.name(), self.lacks)
    }

    fn too_short(&self) -> Error {
        Error::Broken(format!("{} is too short for what it must say", self.name()))
    }
}

/// A file whose boxes are looked at one after another.
#[derive(Debug)]
pub(super) struct Boxes<R> {
    input: R,
    length: u64,
    met: u32,
}

impl<R: Read + Seek> Boxes<R> {
    pub(super) fn new(mut input: R) -> Result<Self, Error> {
        let length = input.seek(SeekFrom::End(0))?;
        Ok(Self { input, length, met: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Visits the boxes of the file. The last may claim more than there is.
    pub(super) fn all(
        &mut self,
        visit: impl FnMut(&mut Self, MediaBox) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.between(0, self.length, visit)
    }

    /// Visits the boxes in a box, none of which may claim more than there is.
    pub(super) fn within(
        &mut self,
        parent: &MediaBox,
        mut visit: impl FnMut(&mut Self, MediaBox) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.between(parent.content, parent.end, |boxes, child| {
            if child.lacks > 0 {
                return Err(Error::Broken(format!("{} in {}", child.cut_off(), parent.name())));
            }
            visit(boxes, child)
        })
    }

    fn between(
        &mut self,
        start: u64,
        end: u64,
        mut visit: impl FnMut(&mut Self, MediaBox) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut position = start;
        while let Some(found) = self.at(position, end)? {
            position = found.end;
            visit(self, found)?;
        }
        Ok(())
    }

    /// The box at a position; none where what is left is less than a box, as QuickTime leaves it.
    fn at(&mut self, start: u64, end: u64) -> Result<Option<MediaBox>, Error> {
        let left = end - start;
        if left < 8 {
            return Ok(None);
        }
        self.met += 1;
        if self.met > MOST_BOXES {
            return Err(Error::Broken(format!("it has more than {MOST_BOXES} boxes")));
        }
        self.input.seek(SeekFrom::Start(start))?;
        let (size, kind): ([u8; 4], [u8; 4]) = (self.bytes()?, self.bytes()?);
        let (header, size) = match u32::from_be_bytes(size) {
            // It takes all the rest.
            0 => (8, left),
            // The size follows, in eight bytes.
            1 if left >= 16 => (16, u64::from_be_bytes(self.bytes()?)),
            size => (8, size.into()),
        };
        let found = MediaBox {
            kind: FourCc(kind),
            start,
            content: start + header,
            end: start + size.min(left),
            lacks: size.saturating_sub(left),
        };
        if size < header {
            return Err(Error::Broken(format!("{} says that it has {size} bytes", found.name())));
        }
        Ok(Some(found))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The first bytes of a box's content.
    pub(super) fn fields(&mut self, of: &MediaBox) -> Result<Fields, Error> {
        let most = MOST_FIELDS.min(of.end - of.content);
        let mut bytes = Vec::new();
        self.input.seek(SeekFrom::Start(of.content))?;
        self.input.by_ref().take(most).read_to_end(&mut bytes)?;
        Ok(Fields { of: *of, bytes, position: 0 })
    }
}

/// The content of a box, from which numbers are taken.
#[derive(Debug)]
pub(super) struct Fields {
    of: MediaBox,
    bytes: Vec<u8>,
    position: usize,
}

impl Fields {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let (taken, _) = rest.split_first_chunk().ok_or_else(|| self.of.too_short())?;
        self.position += N;
        Ok(*taken)
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.position += bytes;
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.take().map(u32::from_be_bytes)
    }

    /// A number that has 64 bits in version 1 of a box, and 32 in version 0.
    pub(super) fn wide(&mut self, version: u8) -> Result<u64, Error> {
        if version == 1 { self.take().map(u64::from_be_bytes) } else { self.u32().map(u64::from) }
    }

    /// A length in ticks, for which all ones stand for one that is not known.
    pub(super) fn ticks(&mut self, version: u8) -> Result<Option<u64>, Error> {
        let ticks = self.wide(version)?;
        let unknown = if version == 1 { u64::MAX } else { u32::MAX.into() };
        Ok((ticks != unknown).then_some(ticks))
    }

    /// The version of a box that has one, with which its content starts.
    pub(super) fn version(&mut self) -> Result<u8, Error> {
        let [version, ..] = self.take::<4>()?;
        Ok(version)
    }

    /// The version of a header, and behind it the times of the creation and of the last change, which
    /// nobody asks for.
    pub(super) fn version_and_times(&mut self) -> Result<u8, Error> {
        let version = self.version()?;
        self.wide(version)?;
        self.wide(version)?;
        Ok(version)
    }

    /// What letters are left.
    pub(super) fn four_ccs(&mut self) -> impl Iterator<Item = FourCc> {
        std::iter::from_fn(|| self.take().ok().map(FourCc))
    }
}
