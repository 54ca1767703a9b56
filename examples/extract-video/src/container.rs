//! Reads the headers of video containers of the ISO base media family: MP4, QuickTime, 3GP.
//!
//! A file consists of boxes. A box has a size, a type of four letters, and content, which may be further boxes.
//!
//! Source: ISO/IEC 14496-12.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Serialize;

use crate::error::Error;

/// Types of the first box of a container.
const FIRST_BOXES: [&[u8; 4]; 8] =
    [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"];

/// A day-long recording in fragments of a quarter of a second has fewer. The program reads the file once per box.
const MAX_TOP_LEVEL_BOXES: u32 = 1_000_000;

/// The header of a day-long recording is smaller. The program holds the header in memory.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// No camera has more. Each track takes memory.
const MAX_TRACKS: usize = 1000;

/// The content of the headers of a file.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Container {
    bytes: u64,
    /// The main specification of the file. The first QuickTime files do not have it.
    brand: Option<String>,
    compatible_brands: Vec<String>,
    duration_seconds: Option<f64>,
    /// Whether the samples are listed in fragments, and not in the header.
    fragmented: bool,
    tracks: Vec<Track>,
    /// The box that the end of the file truncates.
    cut_off: Option<String>,
}

/// The header of a track: video, audio or other data. An unknown value is `null`.
#[derive(Debug, Default, Serialize)]
struct Track {
    id: Option<u32>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Four letters, such as `avc1` for H.264 and `hvc1` for HEVC.
    codec: Option<String>,
    duration_seconds: Option<f64>,
    /// ISO 639-2. `und` is an undetermined language.
    language: Option<String>,
    /// Width and height in pixels, for video only.
    width: Option<u16>,
    height: Option<u16>,
    frames: Option<u32>,
    frames_per_second: Option<f64>,
}

/// Reads the headers of a file.
pub(crate) fn read(path: &Path) -> Result<Container, Error> {
    // Headers are small and far apart. A larger buffer would read media data.
    container(BufReader::with_capacity(512, File::open(path)?))
}

fn container(mut input: impl Read + Seek) -> Result<Container, Error> {
    let length = input.seek(SeekFrom::End(0))?;
    let mut container = Container { bytes: length, ..Container::default() };
    let (mut position, mut count, mut has_movie) = (0, 0, false);
    while position < length {
        input.seek(SeekFrom::Start(position))?;
        let left = length - position;
        let Some(found) = BoxHeader::parse(&read_bytes(&mut input, 16)?, left) else { break };
        let name = format!("box {} at {position}", text(found.kind));
        if count == 0 && !FIRST_BOXES.contains(&&found.kind) {
            return Err(Error::NotAContainer);
        }
        count += 1;
        if count > MAX_TOP_LEVEL_BOXES {
            return Err(Error::Broken(format!("more than {MAX_TOP_LEVEL_BOXES} boxes")));
        }
        if found.size < found.header {
            return Err(Error::Broken(format!("{name} has a size of {} bytes", found.size)));
        }
        if found.size > left {
            container.cut_off = Some(format!("{name} lacks {} bytes", found.size - left));
            break;
        }
        if matches!(&found.kind, b"ftyp" | b"moov") {
            if found.size > MAX_HEADER_BYTES {
                return Err(Error::Broken(format!(
                    "{name} has more than {MAX_HEADER_BYTES} bytes"
                )));
            }
            input.seek(SeekFrom::Start(position + found.header))?;
            let content = read_bytes(&mut input, found.size - found.header)?;
            match &found.kind {
                b"ftyp" => read_brands(&content, &mut container)?,
                _ => read_movie(&content, &mut container)?,
            }
            has_movie |= &found.kind == b"moov";
        }
        position += found.size;
    }
    match (count, has_movie) {
        (0, _) => Err(Error::NotAContainer),
        (_, false) => Err(Error::NoMovie { cut_off: container.cut_off }),
        (_, true) => Ok(container),
    }
}

fn read_brands(file_type: &[u8], container: &mut Container) -> Result<(), Error> {
    container.brand = Some(text(field(file_type, 0)?));
    let brands = file_type.get(8..).unwrap_or_default().chunks_exact(4);
    // Some writers pad the list with zeros.
    let brands = brands.filter(|brand| *brand != [0; 4]);
    container.compatible_brands = brands.map(|brand| brand.escape_ascii().to_string()).collect();
    Ok(())
}

fn read_movie(movie: &[u8], container: &mut Container) -> Result<(), Error> {
    let header = find(movie, &[b"mvhd"])?;
    let header = header.ok_or_else(|| Error::Broken("box moov has no mvhd".to_owned()))?;
    let (timescale, duration) = timescale_and_duration(header)?;
    container.duration_seconds = seconds(duration, timescale);
    if find(movie, &[b"mvex"])?.is_some() {
        // The header of a fragmented movie has the duration before the first fragment.
        container.fragmented = true;
        let duration = match find(movie, &[b"mvex", b"mehd"])? {
            Some(extends) => ticks(extends, 4)?,
            None => None,
        };
        container.duration_seconds = seconds(duration, timescale);
    }
    for child in children(movie) {
        if let (b"trak", content) = child? {
            if container.tracks.len() == MAX_TRACKS {
                return Err(Error::Broken(format!("more than {MAX_TRACKS} tracks")));
            }
            container.tracks.push(read_track(content, container.fragmented)?);
        }
    }
    Ok(())
}

fn read_track(track_box: &[u8], fragmented: bool) -> Result<Track, Error> {
    let mut track = Track::default();
    if let Some(header) = find(track_box, &[b"tkhd"])? {
        track.id = Some(u32::from_be_bytes(field(header, after_times(header)?)?));
    }
    if let Some(handler) = find(track_box, &[b"mdia", b"hdlr"])? {
        track.kind = Some(kind_of_handler(field(handler, 8)?));
    }
    if let Some(header) = find(track_box, &[b"mdia", b"mdhd"])? {
        let (timescale, duration) = timescale_and_duration(header)?;
        track.duration_seconds = seconds(duration, timescale).filter(|_| !fragmented);
        let language = if field::<1>(header, 0)? == [1] { 32 } else { 20 };
        track.language = language_code(u16::from_be_bytes(field(header, language)?));
    }
    let is_video = track.kind.as_deref() == Some("video");
    let table: [&[u8; 4]; 3] = [b"mdia", b"minf", b"stbl"];
    let in_table = |kind| find(track_box, &[table[0], table[1], table[2], kind]);
    if let Some(descriptions) = in_table(b"stsd")?
        && u32::from_be_bytes(field(descriptions, 4)?) > 0
    {
        // The first description. Others are for sections of a track with another codec.
        let size = u32::from_be_bytes(field(descriptions, 8)?);
        track.codec = Some(text(field(descriptions, 12)?));
        if is_video && size >= 36 {
            track.width = Some(u16::from_be_bytes(field(descriptions, 40)?));
            track.height = Some(u16::from_be_bytes(field(descriptions, 42)?));
        }
    }
    if is_video && !fragmented {
        let sizes = in_table(b"stsz")?.or(in_table(b"stz2")?);
        let count = sizes.map(|sizes| field(sizes, 8)).transpose()?;
        track.frames = count.map(u32::from_be_bytes);
    }
    let duration = track.duration_seconds.filter(|duration| *duration > 0.0);
    track.frames_per_second =
        track.frames.zip(duration).map(|(frames, duration)| f64::from(frames) / duration);
    Ok(track)
}

fn kind_of_handler(handler: [u8; 4]) -> String {
    match &handler {
        b"vide" => "video".to_owned(),
        b"soun" => "audio".to_owned(),
        b"text" | b"sbtl" | b"subt" => "subtitles".to_owned(),
        b"meta" => "metadata".to_owned(),
        b"tmcd" => "timecode".to_owned(),
        _ => text(handler),
    }
}

/// Unpacks three letters of five bits each. QuickTime uses its own numbers instead.
fn language_code(packed: u16) -> Option<String> {
    let letter = |shift: u16| match (packed >> shift) & 31 {
        index @ 1..=26 => Some(char::from(b'`' + index as u8)),
        _ => None,
    };
    [letter(10), letter(5), letter(0)].into_iter().collect()
}

/// Returns the ticks per second and the ticks of the boxes `mvhd` and `mdhd`.
fn timescale_and_duration(header: &[u8]) -> Result<(u32, Option<u64>), Error> {
    let offset = after_times(header)?;
    Ok((u32::from_be_bytes(field(header, offset)?), ticks(header, offset + 4)?))
}

/// Returns the offset after the version and two times, which have 64 bits in version 1 and 32 in version 0.
fn after_times(header: &[u8]) -> Result<usize, Error> {
    Ok(if field(header, 0)? == [1] { 20 } else { 12 })
}

/// Returns a duration, which has 64 bits in version 1 of a box and 32 in version 0. All ones mean unknown.
fn ticks(content: &[u8], offset: usize) -> Result<Option<u64>, Error> {
    let (ticks, unknown) = match field(content, 0)? {
        [1] => (u64::from_be_bytes(field(content, offset)?), u64::MAX),
        _ => (u32::from_be_bytes(field(content, offset)?).into(), u32::MAX.into()),
    };
    Ok((ticks != unknown).then_some(ticks))
}

fn seconds(ticks: Option<u64>, timescale: u32) -> Option<f64> {
    ticks.filter(|_| timescale > 0).map(|ticks| ticks as f64 / f64::from(timescale))
}

/// The header of a box.
struct BoxHeader {
    kind: [u8; 4],
    /// The number of bytes of the header.
    header: u64,
    /// The number of bytes of the header and the content.
    size: u64,
}

impl BoxHeader {
    /// Parses the start of a box; `None` if fewer bytes are `left` than a header has.
    fn parse(start: &[u8], left: u64) -> Option<Self> {
        let (size, rest) = start.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (header, size) = match (u32::from_be_bytes(*size), rest.first_chunk()) {
            (0, _) => (8, left),
            (1, Some(size)) => (16, u64::from_be_bytes(*size)),
            (size, _) => (8, size.into()),
        };
        Some(Self { kind: *kind, header, size })
    }
}

/// Returns the boxes in a box: the type and the content of each.
fn children(parent: &[u8]) -> impl Iterator<Item = Result<(&[u8; 4], &[u8]), Error>> {
    let mut rest = parent;
    std::iter::from_fn(move || {
        let found = BoxHeader::parse(rest, rest.len() as u64)?;
        let (start, left) = (rest, rest.len());
        let end = usize::try_from(found.size).unwrap_or(usize::MAX);
        let content = start.get(found.header as usize..end);
        rest = start.get(end..).unwrap_or_default();
        Some(match (content, start[4..].first_chunk()) {
            (Some(content), Some(kind)) => Ok((kind, content)),
            _ => Err(Error::Broken(format!(
                "box {} has a size of {} bytes where {left} are left",
                text(found.kind),
                found.size
            ))),
        })
    })
}

/// Returns the content of the first box at a path of types below a box.
fn find<'a>(parent: &'a [u8], path: &[&[u8; 4]]) -> Result<Option<&'a [u8]>, Error> {
    let [kind, below @ ..] = path else { return Ok(Some(parent)) };
    for child in children(parent) {
        let (found, content) = child?;
        if found == *kind {
            return find(content, below);
        }
    }
    Ok(None)
}

/// Returns the bytes of a field at an offset of a box's content.
fn field<const N: usize>(content: &[u8], offset: usize) -> Result<[u8; N], Error> {
    let bytes = content.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or_else(|| Error::Broken("a box is shorter than its fields".to_owned()))
}

fn text(letters: [u8; 4]) -> String {
    letters.escape_ascii().to_string()
}

/// Reads at most `limit` bytes.
fn read_bytes(input: &mut impl Read, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    input.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
