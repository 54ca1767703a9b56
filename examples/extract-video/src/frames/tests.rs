use std::env;
use std::fs;
use std::io::{BufReader, Cursor};
use std::path::PathBuf;
use std::process;

use serde_json::{Value, json};

use super::picture::{Size, jpeg_size, png_size};
use super::{Collected, FrameName, read};

fn png_of(width: u32, height: u32) -> Vec<u8> {
    let start = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
    [&start[..], &width.to_be_bytes(), &height.to_be_bytes(), b"\x08\x02\0\0\0crc!"].concat()
}

/// Returns a JPEG whose frame header follows other segments.
fn jpeg_of(width: u16, height: u16, segments: &[u8]) -> Vec<u8> {
    let frame = [&b"\xff\xff\xc2\0\x11\x08"[..], &height.to_be_bytes(), &width.to_be_bytes()];
    [b"\xff\xd8", segments, &frame.concat()].concat()
}

fn size_of_jpeg(file: &[u8]) -> Size {
    jpeg_size(BufReader::new(Cursor::new(file)))
}

/// A folder that is deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let path = env::temp_dir().join(format!("extract-video-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        for (name, content) in files {
            fs::write(path.join(name), content).unwrap();
        }
        Self(path)
    }

    fn json(&self) -> Value {
        serde_json::to_value(read(&self.0).unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn folder_of_frames_is_described() {
    let folder = Folder::with(
        "frames",
        &[
            ("left_009.png", png_of(640, 480)),
            ("left_0010.png", png_of(640, 480)),
            ("left_13.png", png_of(64, 48)),
            ("left_14.png", b"nothing".to_vec()),
            ("Right 2 (1).JPG", jpeg_of(4000, 3000, b"")),
            ("notes.txt", Vec::new()),
            ("cover.png", png_of(1, 1)),
        ],
    );
    fs::create_dir(folder.0.join("left_11.png")).unwrap();
    let right = json!({
        "pattern": "Right 2 (*).JPG", "frames": 1, "first": 1, "last": 1, "missing": 0, "gaps": [],
        "repeated": 0, "dimensions": [{"width": 4000, "height": 3000, "frames": 1}], "unreadable": 0
    });
    let left = json!({
        "pattern": "left_*.png", "frames": 4, "first": 9, "last": 14, "missing": 2,
        "gaps": [{"first": 11, "last": 12}], "repeated": 0,
        "dimensions": [
            {"width": 64, "height": 48, "frames": 1}, {"width": 640, "height": 480, "frames": 2}
        ],
        "unreadable": 1
    });
    assert_eq!(folder.json(), json!({"sequences": [right, left], "other_entries": 3}));
}

#[test]
fn folder_without_frames_is_an_error() {
    let folder = Folder::with("none", &[("notes.txt", Vec::new())]);
    let told = read(&folder.0).unwrap_err().to_string();
    assert_eq!(told, "the folder has no numbered frame, such as frame_0001.png");
}

#[test]
fn name_is_split_at_its_last_number() {
    let number = |name| FrameName::parse(name).map(|name| (name.number, name.pattern()));
    let some = |number, pattern: &str| Some((number, pattern.to_owned()));
    assert_eq!(number("0.png"), some(0, "*.png"));
    assert_eq!(number("cam2_000123.left.jpeg"), some(123, "cam2_*.left.jpeg"));
    assert_eq!(number("é٣1ü.PNG"), some(1, "é٣*ü.PNG"));
    let more_than_64_bits = "18446744073709551616.png";
    for none in ["png", ".png", "a.png", "1", "1.mp4", "x.1", more_than_64_bits] {
        assert_eq!(number(none), None, "{none}");
    }
}

#[test]
fn missing_numbers_are_counted_and_first_gaps_listed() {
    let collect = |numbers: &[u64]| {
        let mut collected = Collected::default();
        numbers.iter().for_each(|number| collected.add(*number, Some((1, 1))));
        serde_json::to_value(collected.sequence(String::new())).unwrap()
    };
    let all = collect(&[u64::MAX, 0, 0]);
    assert_eq!((&all["missing"], &all["repeated"]), (&json!(u64::MAX - 1), &json!(1)));
    let odd: Vec<u64> = (0..300).map(|index| 2 * index + 1).collect();
    let odd = collect(&odd);
    assert_eq!((&odd["missing"], odd["gaps"].as_array().unwrap().len()), (&json!(299), 100));
    assert_eq!(odd["gaps"][1], json!({"first": 4, "last": 4}));
}

#[test]
fn png_size_is_at_the_start() {
    assert_eq!(png_size(&png_of(33, 17)[..]), Some((33, 17)));
    assert_eq!(png_size(&png_of(33, 0)[..]), None);
    for end in 0..24 {
        assert_eq!(png_size(&png_of(33, 17)[..end]), None);
    }
}

#[test]
fn jpeg_size_follows_other_segments() {
    assert_eq!(size_of_jpeg(&jpeg_of(33, 17, b"")), Some((33, 17)));
    // Metadata with a thumbnail, and a table whose marker is in the range of frame headers.
    let thumbnail = jpeg_of(1, 1, b"");
    let length = u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes();
    let segments = [b"\xff\xe1", &length[..], &thumbnail, b"\xff\xc4\0\x04\xff\xc0"].concat();
    let file = jpeg_of(33, 17, &segments);
    assert_eq!(size_of_jpeg(&file), Some((33, 17)));
    for end in 0..file.len() {
        assert_eq!(size_of_jpeg(&file[..end]), None, "{end}");
    }
}

#[test]
fn jpeg_without_frame_header_has_no_size() {
    for segments in [
        b"\xff\xe0\0\x01".to_vec(),
        b"\xff\xe0\xff\xff".to_vec(),
        b"\xff\xda\0\x02".to_vec(),
        b"no marker".to_vec(),
        b"\xff\xe0\0\x02".repeat(10_000),
        b"\xff".repeat(100_000),
    ] {
        assert_eq!(size_of_jpeg(&jpeg_of(33, 17, &segments)), None);
    }
    assert_eq!(size_of_jpeg(&jpeg_of(33, 0, b"")), None, "the height follows the picture data");
}
