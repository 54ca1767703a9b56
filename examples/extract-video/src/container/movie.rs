//! The movie box, in which the header is.
//!
//! Source: ISO/IEC 14496-12, 8.2, 8.8.

use std::io::{Read, Seek};

use serde::Serialize;

use super::boxes::{Boxes, MediaBox};
use super::track::{self, Track};
use crate::error::Error;

/// More than any camera has; each takes memory.
const MOST_TRACKS: usize = 1000;

/// What the movie box says.
#[derive(Debug, Default, Serialize)]
pub(super) struct Movie {
    duration_seconds: Option<f64>,
    /// Whether samples are listed in fragments all over the file, and not in the header.
    fragmented: bool,
    tracks: Vec<Track>,
}

/// Reads the movie box.
pub(super) fn read<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    movie_box: &MediaBox,
) -> Result<Movie, Error> {
    let mut movie = Movie::default();
    let (mut header, mut fragments) = (None, None);
    boxes.within(movie_box, |boxes, child| {
        match &child.kind.0 {
            b"mvhd" => header = Some(self::header(boxes, &child)?),
            b"mvex" => {
                movie.fragmented = true;
                fragments = fragments_duration(boxes, &child)?;
            }
            b"trak" if movie.tracks.len() == MOST_TRACKS => {
                return Err(Error::Broken(format!("it has more than {MOST_TRACKS} tracks")));
            }
            b"trak" => movie.tracks.push(track::read(boxes, &child)?),
            _ => {}
        }
        Ok(())
    })?;
    let Some((timescale, duration)) = header else {
        return Err(Error::Broken(format!("{} has no mvhd", movie_box.name())));
    };
    // A file that was written as it was recorded says 0, or how long the part before its fragments is.
    let duration = if movie.fragmented { fragments } else { duration };
    movie.duration_seconds = duration.and_then(|duration| seconds(duration, timescale));
    if movie.fragmented {
        movie.tracks.iter_mut().for_each(Track::forget_what_fragments_add_to);
    }
    Ok(movie)
}

/// Ticks per second, and the duration in ticks.
fn header<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    header: &MediaBox,
) -> Result<(u32, Option<u64>), Error> {
    let mut fields = boxes.fields(header)?;
    let version = fields.version_and_times()?;
    Ok((fields.u32()?, fields.ticks(version)?))
}

/// How long the movie is with all its fragments, where that was known in the end.
fn fragments_duration<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    extends: &MediaBox,
) -> Result<Option<u64>, Error> {
    let mut duration = None;
    boxes.within(extends, |boxes, child| {
        if &child.kind.0 == b"mehd" {
            let mut fields = boxes.fields(&child)?;
            let version = fields.version()?;
            duration = fields.ticks(version)?;
        }
        Ok(())
    })?;
    Ok(duration)
}

/// A length of time; a clock that does not tick measures none.
pub(super) fn seconds(ticks: u64, timescale: u32) -> Option<f64> {
    (timescale > 0).then(|| ticks as f64 / f64::from(timescale))
}
