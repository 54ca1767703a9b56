//! PNG: the size is at the start.
//!
//! Source: <https://www.w3.org/TR/png-3/#11IHDR>

use std::io::Read;

use super::Size;

/// The first two of the eight bytes that every PNG starts with.
pub(super) const MAGIC: [u8; 2] = [0x89, b'P'];

const START: &[u8; 16] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

/// The size of a picture.
pub(super) fn size(mut input: impl Read) -> Size {
    let mut start = [0; START.len()];
    let (mut width, mut height) = ([0; 4], [0; 4]);
    for field in [&mut start[..], &mut width, &mut height] {
        input.read_exact(field).ok()?;
    }
    let size = (u32::from_be_bytes(width), u32::from_be_bytes(height));
    (start == *START && size.0 > 0 && size.1 > 0).then_some(size)
}
