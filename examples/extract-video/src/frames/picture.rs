//! Reads the size of a picture from the header of a PNG or JPEG.
//!
//! Sources: <https://www.w3.org/TR/png-3/#11IHDR> and ITU-T T.81, annex B.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Width and height of a picture in pixels; `None` if its header does not have them.
pub(super) type Size = Option<(u32, u32)>;

/// Reads the size of a picture. The content determines the format, not the file name.
pub(super) fn size(path: &Path) -> Size {
    let mut input = BufReader::with_capacity(512, File::open(path).ok()?);
    let mut magic = [0; 2];
    input.read_exact(&mut magic).ok()?;
    input.rewind().ok()?;
    match magic {
        PNG_MAGIC => png_size(input),
        JPEG_MAGIC => jpeg_size(input),
        _ => None,
    }
}

/// The first two of the eight bytes that every PNG starts with.
const PNG_MAGIC: [u8; 2] = [0x89, b'P'];

const PNG_START: &[u8; 16] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

/// Returns the size of a PNG.
pub(super) fn png_size(mut input: impl Read) -> Size {
    let mut start = [0; PNG_START.len()];
    let (mut width, mut height) = ([0; 4], [0; 4]);
    for field in [&mut start[..], &mut width, &mut height] {
        input.read_exact(field).ok()?;
    }
    let size = (u32::from_be_bytes(width), u32::from_be_bytes(height));
    (start == *PNG_START && size.0 > 0 && size.1 > 0).then_some(size)
}

/// The first two bytes of every JPEG.
const JPEG_MAGIC: [u8; 2] = [0xff, 0xd8];

/// The metadata of any camera takes fewer. The program reads the file once per segment.
const MAX_JPEG_SEGMENTS: usize = 10_000;

/// Returns the size of a JPEG.
pub(super) fn jpeg_size<R: Read + Seek>(mut input: BufReader<R>) -> Size {
    if bytes(&mut input)? != JPEG_MAGIC {
        return None;
    }
    for _ in 0..MAX_JPEG_SEGMENTS {
        match bytes(&mut input)? {
            // A fill byte before a marker. The second byte may be the first of the marker.
            [0xff, 0xff] => input.seek_relative(-1).ok()?,
            // 0xc4, 0xc8 and 0xcc are tables. The others are frame headers.
            [0xff, marker @ 0xc0..=0xcf] if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, _, _precision, h1, h0, w1, w0] = bytes(&mut input)?;
                let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                // If the height is 0, it follows the picture data.
                return (width > 0 && height > 0).then_some((width.into(), height.into()));
            }
            // The picture data, or the end of the picture.
            [0xff, 0xd9 | 0xda] => return None,
            [0xff, _] => {
                // The length includes its own two bytes.
                let length = u16::from_be_bytes(bytes(&mut input)?).checked_sub(2)?;
                input.seek_relative(length.into()).ok()?;
            }
            _ => return None,
        }
    }
    None
}

fn bytes<const N: usize>(input: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
