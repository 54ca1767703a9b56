use std::io::{self, Cursor, Read, Seek, SeekFrom};

use serde_json::{Value, json};

use super::{Container, container};
use crate::error::Error;

/// Written by ffmpeg: five frames of H.264, the header at the end.
const CLIP: &[u8] = include_bytes!("../../samples/clip.mp4");
/// The same in fragments.
const FRAGMENTS: &[u8] = include_bytes!("../../samples/fragments.mp4");

fn read(file: &[u8]) -> Result<Container, Error> {
    container(Cursor::new(file))
}

fn json_of(file: &[u8]) -> Value {
    serde_json::to_value(read(file).unwrap()).unwrap()
}

fn told(file: &[u8]) -> String {
    read(file).unwrap_err().to_string()
}

/// A box with a content.
fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    sized(8 + u32::try_from(content.len()).unwrap(), kind, content)
}

/// A box that says that it has another size.
fn sized(size: u32, kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes(), &kind[..], content].concat()
}

/// The box of a file that starts at its top level.
fn top_level(file: &'static [u8], kind: &[u8; 4]) -> &'static [u8] {
    let mut rest = file;
    loop {
        let size = u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
        let (first, others) = rest.split_at(size);
        if &first[4..8] == kind {
            return first;
        }
        rest = others;
    }
}

/// A movie of two seconds, with further boxes.
fn movie(more: &[Vec<u8>]) -> Vec<u8> {
    let mut fields = vec![0; 12];
    fields.extend(1000_u32.to_be_bytes());
    fields.extend(2000_u32.to_be_bytes());
    boxed(b"moov", &[boxed(b"mvhd", &fields), more.concat()].concat())
}

/// A file with such a movie.
fn file(more: &[Vec<u8>]) -> Vec<u8> {
    [boxed(b"ftyp", b"isom\0\0\x02\0mp41"), movie(more)].concat()
}

#[test]
fn a_clip_of_ffmpeg_says_what_ffmpeg_was_told() {
    let track = json!({
        "id": 1, "type": "video", "codec": "avc1", "duration_seconds": 0.2, "language": "und",
        "width": 64, "height": 48, "frames": 5, "frames_per_second": 25.0
    });
    let expected = json!({
        "bytes": CLIP.len(), "brand": "isom", "compatible_brands": ["isom", "iso2", "avc1", "mp41"],
        "duration_seconds": 0.2, "fragmented": false, "tracks": [track], "cut_off": null
    });
    assert_eq!(json_of(CLIP), expected);
}

#[test]
fn fragments_add_to_what_the_header_says() {
    let found = json_of(FRAGMENTS);
    assert_eq!((&found["fragmented"], &found["duration_seconds"]), (&json!(true), &json!(null)));
    assert_eq!(
        (&found["tracks"][0]["frames"], &found["tracks"][0]["width"]),
        (&json!(null), &json!(64))
    );
    let length = boxed(b"mehd", b"\x01\0\0\0\0\0\0\x01\0\0\0\0");
    let told = json_of(&file(&[boxed(b"mvex", &length)]));
    assert_eq!(told["duration_seconds"], json!(2.0_f64.powi(32) / 1000.0));
}

#[test]
fn the_header_may_come_first() {
    let parts = [b"ftyp", b"moov", b"mdat"].map(|kind| top_level(CLIP, kind));
    let mut found = json_of(&parts.concat());
    found["bytes"] = json!(CLIP.len());
    assert_eq!(found, json_of(CLIP));
}

#[test]
fn quicktime_needs_no_brand_and_ends_with_zeros() {
    let found = json_of(&movie(&[vec![0; 4]]));
    assert_eq!((&found["brand"], &found["duration_seconds"]), (&json!(null), &json!(2.0)));
}

#[test]
fn sizes_may_have_64_bits_or_take_the_rest() {
    let wide = sized(1, b"mdat", &[&18_u64.to_be_bytes()[..], b"xx"].concat());
    let rest = sized(0, b"mdat", b"what comes until the end");
    let found = json_of(&[file(&[]), wide, rest].concat());
    assert_eq!((&found["duration_seconds"], &found["cut_off"]), (&json!(2.0), &json!(null)));
}

#[test]
fn times_may_have_64_bits_and_be_unknown() {
    let header = |version: u8, timescale: u32, duration: &[u8]| {
        let mut fields = vec![version, 0, 0, 0];
        fields.extend(vec![0; duration.len() * 2]);
        fields.extend(timescale.to_be_bytes());
        fields.extend(duration);
        json_of(&boxed(b"moov", &boxed(b"mvhd", &fields)))["duration_seconds"].clone()
    };
    assert_eq!(header(1, 2, &u64::to_be_bytes(1 << 40)), json!(2.0_f64.powi(39)));
    assert_eq!(header(0, 0, &[0, 0, 0, 9]), json!(null), "a clock that does not tick");
    assert_eq!(header(0, 9, &[0xff; 4]), json!(null));
    assert_eq!(header(1, 9, &[0xff; 8]), json!(null));
}

#[test]
fn what_no_player_knows_is_told_as_it_is() {
    let media = boxed(b"mdia", &boxed(b"hdlr", b"\0\0\0\0\0\0\0\0\x01\xff\"x"));
    let found = json_of(&file(&[boxed(b"trak", &media)]));
    assert_eq!(found["tracks"][0]["type"], json!(r#"\x01\xff\"x"#));
    assert_eq!(found["tracks"][0]["codec"], json!(null));
}

#[test]
fn media_that_is_cut_off_leaves_the_header() {
    let whole = [top_level(CLIP, b"moov"), top_level(CLIP, b"mdat")].concat();
    let found = json_of(&whole[..whole.len() - 7]);
    assert_eq!(found["tracks"][0]["frames"], json!(5));
    let at = top_level(CLIP, b"moov").len();
    assert_eq!(found["cut_off"], json!(format!("box mdat at {at} lacks 7 bytes")));
}

#[test]
fn a_header_that_is_cut_off_or_missing_is_an_error() {
    let start = CLIP.len() - top_level(CLIP, b"moov").len();
    let cut =
        format!("it has no header (moov), for it is cut off: box moov at {start} lacks 1 bytes");
    assert_eq!(told(&CLIP[..CLIP.len() - 1]), cut);
    let media = "it has no header (moov), for it is cut off: box mdat at 40 lacks 12 bytes";
    assert_eq!(told(&CLIP[..start - 12]), media);
    let unfinished = "it has no header (moov): the recording was not finished";
    assert_eq!(told(&CLIP[..start]), unfinished);
}

#[test]
fn what_is_no_container_is_told_so() {
    for file in [&b""[..], b"short", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"#!/bin/sh\nexit 1\n"] {
        assert_eq!(told(file), "it is no MP4 or QuickTime file");
    }
}

#[test]
fn sizes_that_lie_are_an_error_that_says_where() {
    for (child, told_of_it) in [
        (sized(7, b"trak", &[]), "box trak at 56 says that it has 7 bytes"),
        (sized(1, b"trak", &[]), "box trak at 56 says that it has 1 bytes"),
        (sized(1, b"trak", &15_u64.to_be_bytes()), "box trak at 56 says that it has 15 bytes"),
        (sized(9, b"trak", &[]), "box trak at 56 lacks 1 bytes in box moov at 20"),
        (
            sized(1, b"trak", &u64::MAX.to_be_bytes()),
            "box trak at 56 lacks 18446744073709551599 bytes in box moov at 20",
        ),
        (
            boxed(b"trak", &boxed(b"tkhd", &[0; 15])),
            "box tkhd at 64 is too short for what it must say",
        ),
    ] {
        assert_eq!(told(&file(&[child])), format!("its header is broken: {told_of_it}"));
    }
}

#[test]
fn any_byte_may_be_wrong_and_any_end_missing() {
    let mut survivors = 0;
    for sample in [CLIP, FRAGMENTS] {
        for end in 0..sample.len() {
            let _ = read(&sample[..end]);
        }
        for position in 0..sample.len() {
            for value in [0, 1, 7, 0x7f, 0xff] {
                let mut damaged = sample.to_vec();
                damaged[position] = value;
                survivors += u32::from(read(&damaged).is_ok());
            }
        }
    }
    assert!(survivors > 1000, "most damage is where nothing is read: {survivors}");
}

#[test]
fn nesting_is_followed_no_deeper_than_headers_are() {
    let mut nested = Vec::new();
    for depth in 0..100_000_u32 {
        nested.extend((8 * (100_000 - depth)).to_be_bytes());
        nested.extend(b"trak");
    }
    let found = json_of(&file(&[nested]));
    assert_eq!(found["tracks"].as_array().unwrap().len(), 1);
}

#[test]
fn boxes_without_end_are_an_error() {
    let tracks = vec![boxed(b"trak", &[]); 1001];
    assert_eq!(told(&file(&tracks)), "its header is broken: it has more than 1000 tracks");
    let empty = boxed(b"free", &[]).repeat(1_000_001);
    assert_eq!(told(&empty), "its header is broken: it has more than 1000000 boxes");
}

/// A file that is 4 EiB long, of which nothing but the header is worth reading.
struct Enormous {
    header: Vec<u8>,
    position: u64,
    read: u64,
}

const LENGTH: u64 = 1 << 62;

impl Read for &mut Enormous {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let into = &mut into[..1];
        let position = usize::try_from(self.position).unwrap();
        into[0] = self.header.get(position).copied().unwrap_or(0xff);
        self.position += 1;
        self.read += 1;
        Ok(1)
    }
}

impl Seek for &mut Enormous {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::End(offset) => LENGTH.checked_add_signed(offset).unwrap(),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset).unwrap(),
        };
        Ok(self.position)
    }
}

#[test]
fn what_is_read_does_not_grow_with_the_file() {
    let movie = file(&[]);
    let rest = LENGTH - movie.len() as u64;
    let media = sized(1, b"mdat", &rest.to_be_bytes());
    let mut enormous = Enormous { header: [movie, media].concat(), position: 0, read: 0 };
    let found = container(&mut enormous).unwrap();
    assert_eq!((found.bytes, found.cut_off), (LENGTH, None));
    assert!(enormous.read < 200, "{} bytes", enormous.read);

    // The same where the header itself claims to be enormous.
    let brands = sized(1, b"ftyp", &(LENGTH - 1000).to_be_bytes());
    let mut enormous = Enormous { header: brands, position: 0, read: 0 };
    assert!(container(&mut enormous).is_err());
    assert!(enormous.read < 400, "{} bytes", enormous.read);
}
