//! Describes a folder of numbered pictures, such as `frame_0001.png`.

mod picture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use picture::Size;

/// The maximum number of listed gaps. Further gaps are only counted.
const MAX_GAPS: usize = 100;

/// The frames in a folder, by their names and headers.
#[derive(Debug, Serialize)]
pub(crate) struct Frames {
    /// Sorted by name.
    sequences: Vec<Sequence>,
    /// Files and folders that are not numbered pictures.
    other_entries: u64,
}

/// Reads the names and headers of the pictures in a folder.
pub(crate) fn read(folder: &Path) -> Result<Frames, Error> {
    let mut sequences = BTreeMap::<String, Collected>::new();
    let mut other_entries = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(FrameName::parse);
        // Opening a pipe would wait for its writer.
        match name.filter(|_| path.is_file()) {
            Some(name) => {
                let collected = sequences.entry(name.pattern()).or_default();
                collected.add(name.number, picture::size(&path));
            }
            None => other_entries += 1,
        }
    }
    if sequences.is_empty() {
        return Err(Error::NoFrames);
    }
    let sequences =
        sequences.into_iter().map(|(pattern, collected)| collected.sequence(pattern)).collect();
    Ok(Frames { sequences, other_entries })
}

/// The parts of a frame's file name.
#[derive(Debug, PartialEq, Eq)]
struct FrameName<'a> {
    before: &'a str,
    number: u64,
    after: &'a str,
}

impl<'a> FrameName<'a> {
    /// Returns `None` if the name has no number or is not that of a PNG or JPEG.
    fn parse(name: &'a str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let known = ["png", "jpg", "jpeg"];
        if !known.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return None;
        }
        // The last number is that of the frame. Text before it can name the camera or the take.
        let end = stem.rfind(|letter: char| letter.is_ascii_digit())? + 1;
        let start = stem[..end].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
        let number = stem[start..end].parse().ok()?;
        Some(Self { before: &name[..start], number, after: &name[end..] })
    }

    /// Returns the common pattern of the names in the frame's sequence.
    fn pattern(&self) -> String {
        format!("{}*{}", self.before, self.after)
    }
}

/// The frames of a sequence, in any order.
#[derive(Debug, Default)]
struct Collected {
    numbers: Vec<u64>,
    sizes: BTreeMap<(u32, u32), u64>,
    unreadable: u64,
}

impl Collected {
    fn add(&mut self, number: u64, size: Size) {
        self.numbers.push(number);
        match size {
            Some(size) => *self.sizes.entry(size).or_default() += 1,
            None => self.unreadable += 1,
        }
    }

    /// Returns the sequence. At least one frame was added.
    fn sequence(mut self, pattern: String) -> Sequence {
        let frames = self.numbers.len() as u64;
        self.numbers.sort_unstable();
        self.numbers.dedup();
        let numbers = &self.numbers;
        let mut gaps: Vec<Gap> = Vec::new();
        let mut missing = 0;
        for pair in numbers.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            missing += after - before - 1;
            if after - before > 1 && gaps.len() < MAX_GAPS {
                gaps.push(Gap { first: before + 1, last: after - 1 });
            }
        }
        let sizes = self.sizes.into_iter();
        let dimensions =
            sizes.map(|((width, height), frames)| Dimensions { width, height, frames });
        Sequence {
            pattern,
            frames,
            first: numbers.first().copied().unwrap_or_default(),
            last: numbers.last().copied().unwrap_or_default(),
            missing,
            gaps,
            repeated: frames - numbers.len() as u64,
            dimensions: dimensions.collect(),
            unreadable: self.unreadable,
        }
    }
}

/// Frames whose names have the same pattern.
#[derive(Debug, Serialize)]
struct Sequence {
    /// The names of the files, with `*` instead of the number.
    pattern: String,
    /// The number of files.
    frames: u64,
    first: u64,
    last: u64,
    /// The number of missing numbers between `first` and `last`.
    missing: u64,
    /// The missing numbers.
    gaps: Vec<Gap>,
    /// The number of files with the number of another file, such as `1.png` and `01.png`.
    repeated: u64,
    /// The sizes that the frames have. A complete sequence has one size.
    dimensions: Vec<Dimensions>,
    /// The number of files whose header has no size.
    unreadable: u64,
}

/// The first and the last of consecutive missing numbers.
#[derive(Debug, Serialize)]
struct Gap {
    first: u64,
    last: u64,
}

/// The size of frames in pixels, and the number of frames with this size.
#[derive(Debug, Serialize)]
struct Dimensions {
    width: u32,
    height: u32,
    frames: u64,
}
