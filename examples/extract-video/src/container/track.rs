//! One track of a movie: video, audio, or what goes along with them.
//!
//! Source: ISO/IEC 14496-12, 8.3 to 8.7.

use std::io::{Read, Seek};

use serde::Serialize;

use super::boxes::{Boxes, FourCc, MediaBox};
use super::movie::seconds;
use crate::error::Error;

/// What the header says of a track. `null` is what it does not say.
#[derive(Debug, Default, Serialize)]
pub(super) struct Track {
    id: Option<u32>,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Four letters, such as `avc1` for H.264 and `hvc1` for HEVC.
    codec: Option<String>,
    duration_seconds: Option<f64>,
    /// ISO 639-2, where `und` stands for an undetermined one.
    language: Option<String>,
    /// In pixels, as video is coded. A sample of it is a frame.
    width: Option<u16>,
    height: Option<u16>,
    frames: Option<u32>,
    frames_per_second: Option<f64>,
}

impl Track {
    /// Leaves what the header of a movie in fragments does not know.
    pub(super) fn forget_what_fragments_add_to(&mut self) {
        (self.duration_seconds, self.frames, self.frames_per_second) = (None, None, None);
    }

    fn is_video(&self) -> bool {
        self.kind.as_deref() == Some("video")
    }
}

/// Reads a track box.
pub(super) fn read<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    track_box: &MediaBox,
) -> Result<Track, Error> {
    let mut track = Track::default();
    boxes.within(track_box, |boxes, child| {
        match &child.kind.0 {
            b"tkhd" => track.id = Some(id(boxes, &child)?),
            b"mdia" => media(boxes, &child, &mut track)?,
            _ => {}
        }
        Ok(())
    })?;
    // The boxes that these are from may be in any order.
    if !track.is_video() {
        (track.width, track.height, track.frames) = (None, None, None);
    }
    let duration = track.duration_seconds.filter(|duration| *duration > 0.0);
    track.frames_per_second =
        track.frames.zip(duration).map(|(frames, duration)| f64::from(frames) / duration);
    Ok(track)
}

fn id<R: Read + Seek>(boxes: &mut Boxes<R>, header: &MediaBox) -> Result<u32, Error> {
    let mut fields = boxes.fields(header)?;
    fields.version_and_times()?;
    fields.u32()
}

fn media<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    media: &MediaBox,
    track: &mut Track,
) -> Result<(), Error> {
    boxes.within(media, |boxes, child| {
        match &child.kind.0 {
            b"mdhd" => media_header(boxes, &child, track)?,
            b"hdlr" => track.kind = Some(handler(boxes, &child)?),
            b"minf" => boxes.within(&child, |boxes, child| match &child.kind.0 {
                b"stbl" => sample_table(boxes, &child, track),
                _ => Ok(()),
            })?,
            _ => {}
        }
        Ok(())
    })
}

fn media_header<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    header: &MediaBox,
    track: &mut Track,
) -> Result<(), Error> {
    let mut fields = boxes.fields(header)?;
    let version = fields.version_and_times()?;
    let timescale = fields.u32()?;
    let duration = fields.ticks(version)?;
    track.duration_seconds = duration.and_then(|duration| seconds(duration, timescale));
    track.language = language(fields.u16()?);
    Ok(())
}

/// Three letters of five bits each; QuickTime has numbers of its own in their place.
fn language(packed: u16) -> Option<String> {
    let letter = |shift: u16| match (packed >> shift) & 31 {
        index @ 1..=26 => Some(char::from(b'`' + index as u8)),
        _ => None,
    };
    [letter(10), letter(5), letter(0)].into_iter().collect()
}

fn handler<R: Read + Seek>(boxes: &mut Boxes<R>, handler: &MediaBox) -> Result<String, Error> {
    let mut fields = boxes.fields(handler)?;
    fields.skip(8);
    let kind = FourCc(fields.take()?);
    Ok(match &kind.0 {
        b"vide" => "video".to_owned(),
        b"soun" => "audio".to_owned(),
        b"text" | b"sbtl" | b"subt" => "subtitles".to_owned(),
        b"meta" => "metadata".to_owned(),
        b"tmcd" => "timecode".to_owned(),
        _ => kind.to_string(),
    })
}

fn sample_table<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    table: &MediaBox,
    track: &mut Track,
) -> Result<(), Error> {
    boxes.within(table, |boxes, child| {
        match &child.kind.0 {
            b"stsd" => sample_description(boxes, &child, track)?,
            // The sizes of all samples: in both boxes their number comes third.
            b"stsz" | b"stz2" => {
                let mut fields = boxes.fields(&child)?;
                fields.skip(8);
                track.frames = Some(fields.u32()?);
            }
            _ => {}
        }
        Ok(())
    })
}

/// The first description; others are for parts of a track that are coded in another way.
fn sample_description<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    descriptions: &MediaBox,
    track: &mut Track,
) -> Result<(), Error> {
    let mut fields = boxes.fields(descriptions)?;
    let _version = fields.version()?;
    if fields.u32()? == 0 {
        return Ok(());
    }
    let size = fields.u32()?;
    track.codec = Some(FourCc(fields.take()?).to_string());
    // Shorter ones are of text, and have no dimensions.
    if size >= 36 {
        fields.skip(24);
        (track.width, track.height) = (Some(fields.u16()?), Some(fields.u16()?));
    }
    Ok(())
}
