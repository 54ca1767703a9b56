//! JPEG: the size is in the header of the frame, behind segments of any number and length.
//!
//! Source: ITU-T T.81, annex B.

use std::io::{BufReader, Read, Seek};

use super::Size;

/// What every JPEG starts with.
pub(super) const MAGIC: [u8; 2] = [0xff, 0xd8];

/// Metadata of any camera takes fewer; each takes a read of the file.
const MOST_SEGMENTS: usize = 10_000;

/// The size of a picture.
pub(super) fn size<R: Read + Seek>(mut input: BufReader<R>) -> Size {
    if bytes(&mut input)? != MAGIC {
        return None;
    }
    for _ in 0..MOST_SEGMENTS {
        match bytes(&mut input)? {
            // Filling before a marker, of which the second may be the first byte.
            [0xff, 0xff] => input.seek_relative(-1).ok()?,
            // Of these, three are tables, and the others are headers of frames.
            [0xff, marker @ 0xc0..=0xcf] if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, _, _precision, h1, h0, w1, w0] = bytes(&mut input)?;
                let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                // A height of 0 comes at the end of the picture.
                return (width > 0 && height > 0).then_some((width.into(), height.into()));
            }
            // The data of the picture, or its end.
            [0xff, 0xd9 | 0xda] => return None,
            [0xff, _] => {
                // The length counts itself.
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
