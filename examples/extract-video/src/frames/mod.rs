//! A folder of numbered pictures, such as `frame_0001.png`.

mod jpeg;
mod png;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use sequence::{Collected, FrameName, Sequence};

/// What the names and headers in a folder say.
#[derive(Debug, Serialize)]
pub(crate) struct Frames {
    /// By name.
    sequences: Vec<Sequence>,
    /// Files and folders that are no numbered pictures.
    other_entries: u64,
}

/// Looks at the pictures of a folder.
pub(crate) fn read(folder: &Path) -> Result<Frames, Error> {
    let mut sequences = BTreeMap::<String, Collected>::new();
    let mut other_entries = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(FrameName::parse);
        // Opening a pipe would wait for whoever writes to it.
        match name.filter(|_| path.is_file()) {
            Some(name) => {
                let collected = sequences.entry(name.pattern()).or_default();
                collected.add(name.number, size(&path));
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

/// Width and height of a picture in pixels; none where its header does not say them.
type Size = Option<(u32, u32)>;

/// Goes by what the file is, and not by what it is called.
fn size(path: &Path) -> Size {
    let mut input = BufReader::with_capacity(512, File::open(path).ok()?);
    let mut magic = [0; 2];
    input.read_exact(&mut magic).ok()?;
    input.rewind().ok()?;
    match magic {
        png::MAGIC => png::size(input),
        jpeg::MAGIC => jpeg::size(input),
        _ => None,
    }
}
