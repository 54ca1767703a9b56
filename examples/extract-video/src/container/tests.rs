use std::io::Cursor;

use serde_json::{Value, json};

use super::{Container, container};
use crate::error::Error;

/// A clip by ffmpeg: five frames of H.264, with the header at the end.
const CLIP: &[u8] = include_bytes!("../../samples/clip.mp4");
/// The same clip in fragments.
const FRAGMENTS: &[u8] = include_bytes!("../../samples/fragments.mp4");

fn read(file: &[u8]) -> Result<Container, Error> {
    container(Cursor::new(file))
}

fn json_of(file: &[u8]) -> Value {
    serde_json::to_value(read(file).unwrap()).unwrap()
}

fn error(file: &[u8]) -> String {
    read(file).unwrap_err().to_string()
}

/// Returns a box with content.
fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    sized(8 + u32::try_from(content.len()).unwrap(), kind, content)
}

/// Returns a box with a false size.
fn sized(size: u32, kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes(), &kind[..], content].concat()
}

/// Returns a file with a movie of two seconds and further boxes in its header.
fn file(more: &[u8]) -> Vec<u8> {
    let header = [&[0; 12][..], &1000_u32.to_be_bytes(), &2000_u32.to_be_bytes()].concat();
    let movie = boxed(b"moov", &[&boxed(b"mvhd", &header), more].concat());
    [boxed(b"ftyp", b"isom\0\0\x02\0mp41"), movie].concat()
}

/// Returns the offset of the movie header, which is the last box of the clip.
fn movie_offset() -> usize {
    CLIP.windows(4).position(|window| window == b"moov").unwrap() - 4
}

#[test]
fn clip_of_ffmpeg_is_described() {
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
fn fragmented_file_has_no_frame_count() {
    let found = json_of(FRAGMENTS);
    assert_eq!((&found["fragmented"], &found["duration_seconds"]), (&json!(true), &json!(null)));
    let track = &found["tracks"][0];
    assert_eq!((&track["frames"], &track["width"]), (&json!(null), &json!(64)));
    let length = boxed(b"mehd", b"\x01\0\0\0\0\0\0\x01\0\0\0\0");
    let found = json_of(&file(&boxed(b"mvex", &length)));
    assert_eq!(found["duration_seconds"], json!(2.0_f64.powi(32) / 1000.0));
}

#[test]
fn sizes_of_64_bits_are_read() {
    let wide = sized(1, b"mdat", &[&18_u64.to_be_bytes()[..], b"xx"].concat());
    let rest = sized(0, b"mdat", b"until the end");
    let found = json_of(&[file(&[0; 4]), wide, rest].concat());
    assert_eq!((&found["duration_seconds"], &found["cut_off"]), (&json!(2.0), &json!(null)));
}

#[test]
fn durations_have_two_sizes_and_may_be_unknown() {
    let duration = |version: u8, timescale: u32, duration: &[u8]| {
        let times = vec![0; duration.len() * 2];
        let header = [&[version, 0, 0, 0], &times[..], &timescale.to_be_bytes(), duration].concat();
        json_of(&boxed(b"moov", &boxed(b"mvhd", &header)))["duration_seconds"].clone()
    };
    assert_eq!(duration(1, 2, &u64::to_be_bytes(1 << 40)), json!(2.0_f64.powi(39)));
    assert_eq!(duration(0, 0, &[0, 0, 0, 9]), json!(null), "no ticks per second");
    assert_eq!(duration(0, 9, &[0xff; 4]), json!(null));
    assert_eq!(duration(1, 9, &[0xff; 8]), json!(null));
}

#[test]
fn truncated_file_says_where_it_ends() {
    let start = movie_offset();
    let whole = [&CLIP[start..], &boxed(b"mdat", &[1; 100])].concat();
    let found = json_of(&whole[..whole.len() - 7]);
    assert_eq!(found["tracks"][0]["frames"], json!(5));
    let at = CLIP.len() - start;
    assert_eq!(found["cut_off"], json!(format!("box mdat at {at} lacks 7 bytes")));

    let cut =
        format!("no header (moov), since the file is truncated: box moov at {start} lacks 1 bytes");
    assert_eq!(error(&CLIP[..CLIP.len() - 1]), cut);
    let unfinished = "no header (moov): the recording was not finished";
    assert_eq!(error(&CLIP[..start]), unfinished);
}

#[test]
fn other_files_are_no_container() {
    for file in [&b""[..], b"short", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"#!/bin/sh\nexit 1\n"] {
        assert_eq!(error(file), "not an MP4 or QuickTime file");
    }
}

#[test]
fn false_sizes_and_short_boxes_are_errors() {
    let claims = |size: u64| sized(1, b"trak", &size.to_be_bytes());
    for (child, expected) in [
        (sized(7, b"trak", &[]), "box trak has a size of 7 bytes where 8 are left"),
        (sized(9, b"trak", &[]), "box trak has a size of 9 bytes where 8 are left"),
        (claims(15), "box trak has a size of 15 bytes where 16 are left"),
        (claims(1 << 40), "box trak has a size of 1099511627776 bytes where 16 are left"),
        (boxed(b"trak", &boxed(b"tkhd", &[0; 15])), "a box is shorter than its fields"),
        (boxed(b"trak", &[]).repeat(1001), "more than 1000 tracks"),
    ] {
        assert_eq!(error(&file(&child)), format!("invalid header: {expected}"));
    }
    let empty = boxed(b"free", &[]).repeat(1_000_001);
    assert_eq!(error(&empty), "invalid header: more than 1000000 boxes");
}

#[test]
fn damaged_file_never_panics() {
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
    assert!(survivors > 1000, "most damage is in media data: {survivors}");
}
