//! Decompresses archives and layers. Detects the format from the first bytes.

use std::io::{self, Read};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

/// The logarithm of the maximum window of zstd, and of the maximum memory of xz, in bytes: 128 MiB, the default
/// maximum of zstd. `xz -9` needs 65 MiB.
const MAX_WINDOW_LOG: u32 = 27;

/// The compression of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompressionFormat {
    Bzip2,
    Gzip,
    Xz,
    Zstd,
}

impl CompressionFormat {
    /// The length of the longest signature.
    pub(super) const MAX_SIGNATURE_BYTES: usize = 10;

    /// Returns the format of a stream with this start; `None` if the stream is not compressed.
    ///
    /// Sources: <https://en.wikipedia.org/wiki/List_of_file_signatures>,
    /// <https://en.wikipedia.org/wiki/Bzip2#File_format>,
    /// <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.2> for the skippable frames that pzstd writes
    pub(super) fn detect(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // With the magic number of a block or of the end, since text can also start with "BZh".
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Some(Self::Bzip2)
            }
            _ => None,
        }
    }

    /// Returns a reader of the decompressed content of all concatenated streams or frames.
    ///
    /// The reader fails for a truncated stream, and for trailing bytes.
    pub(super) fn decoder<'a>(
        self,
        compressed: impl Read + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Bzip2 => Box::new(MultiBzDecoder::new(compressed)),
            Self::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Self::Xz => {
                let stream = Stream::new_stream_decoder(1 << MAX_WINDOW_LOG, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(compressed, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(compressed)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Returns a reader of the decompressed content of a stream, or of the stream itself if it is not compressed.
pub(super) fn decompress<'a>(
    mut stream: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::new();
    stream.by_ref().take(CompressionFormat::MAX_SIGNATURE_BYTES as u64).read_to_end(&mut start)?;
    let format = CompressionFormat::detect(&start);
    let stream = io::Cursor::new(start).chain(stream);
    match format {
        Some(format) => format.decoder(stream),
        None => Ok(Box::new(stream)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(content: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(content: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    /// Compresses as pzstd does: before each frame, a skippable frame contains the size of the frame.
    fn pzstd(content: &[u8]) -> Vec<u8> {
        let mut frames = Vec::new();
        for half in content.chunks(content.len().div_ceil(2).max(1)) {
            let frame = zstd(half);
            frames.extend_from_slice(b"\x50\x2a\x4d\x18\x04\0\0\0");
            frames.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
            frames.extend_from_slice(&frame);
        }
        frames
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const FORMATS: [(CompressionFormat, Encode); 5] = [
        (CompressionFormat::Gzip, gzip),
        (CompressionFormat::Bzip2, bzip2),
        (CompressionFormat::Xz, xz),
        (CompressionFormat::Zstd, zstd),
        (CompressionFormat::Zstd, pzstd),
    ];

    fn decompressed(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompress(stream)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn compression_is_detected_and_decompressed() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        for (format, encode) in FORMATS {
            let stream = encode(&content);
            assert_eq!(CompressionFormat::detect(&stream), Some(format));
            assert!(decompressed(&stream).unwrap() == content, "{format:?}");
            // Concatenated streams are one stream.
            let twice = [stream.clone(), stream].concat();
            assert!(decompressed(&twice).unwrap() == content.repeat(2), "{format:?}");
        }
        assert_eq!(CompressionFormat::detect(&bzip2(b"")), Some(CompressionFormat::Bzip2));
    }

    #[test]
    fn truncated_stream_and_trailing_bytes_are_errors() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        for (format, encode) in FORMATS {
            let stream = encode(&content);
            for length in
                [stream.len() - 1, stream.len() / 2, CompressionFormat::MAX_SIGNATURE_BYTES]
            {
                assert!(decompressed(&stream[..length]).is_err(), "{format:?} {length}");
            }
            let trailing = [&stream[..], b"trailing bytes"].concat();
            assert!(decompressed(&trailing).is_err(), "{format:?}");
        }
    }

    #[test]
    fn uncompressed_stream_is_passed_through() {
        for content in [&b""[..], b"a", b"BZh is the start of a name", b"0123456789abcdef"] {
            assert_eq!(CompressionFormat::detect(content), None);
            assert_eq!(decompressed(content).unwrap(), content);
        }
    }

    #[test]
    fn xz_that_needs_too_much_memory_is_rejected() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(9).unwrap();
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(options.dict_size(256 << 20));
        let check = liblzma::stream::Check::Crc32;
        let encoder = Stream::new_stream_encoder(&filters, check).unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), encoder);
        encoder.write_all(b"x").unwrap();
        let error = decompressed(&encoder.finish().unwrap()).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}
