//! Video containers of the ISO base media family: MP4, QuickTime, 3GP.

mod boxes;
mod movie;
#[cfg(test)]
mod tests;
mod track;

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use boxes::{Boxes, MediaBox};
use movie::Movie;

/// Of boxes that a file may begin with; whatever else it begins with is no container.
const FIRST_BOXES: [&[u8; 4]; 8] =
    [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp"];

/// What the headers of a file say.
#[derive(Debug, Serialize)]
pub(crate) struct Container {
    bytes: u64,
    /// The specification that the file follows above all; QuickTime's first files name none.
    brand: Option<String>,
    compatible_brands: Vec<String>,
    #[serde(flatten)]
    movie: Movie,
    /// Why the file cannot be played to its end.
    cut_off: Option<String>,
}

/// Reads the headers of a file.
pub(crate) fn read(path: &Path) -> Result<Container, Error> {
    // Headers are small and close to each other; larger pieces would read media that is skipped.
    container(BufReader::with_capacity(512, File::open(path)?))
}

fn container(input: impl Read + Seek) -> Result<Container, Error> {
    let mut boxes = Boxes::new(input)?;
    let (mut first, mut brands, mut movie, mut cut_off) = (true, None, None, None);
    boxes.all(|boxes, found| {
        if std::mem::take(&mut first) && !FIRST_BOXES.contains(&&found.kind.0) {
            return Err(Error::NotAContainer);
        }
        if found.lacks > 0 {
            cut_off = Some(found.cut_off());
        }
        match &found.kind.0 {
            b"ftyp" => brands = Some(self::brands(boxes, &found)?),
            b"moov" if found.lacks == 0 => movie = Some(movie::read(boxes, &found)?),
            _ => {}
        }
        Ok(())
    })?;
    if first {
        return Err(Error::NotAContainer);
    }
    let Some(movie) = movie else { return Err(Error::NoMovie { cut_off }) };
    let (brand, compatible_brands) = brands.unwrap_or_default();
    Ok(Container { bytes: boxes.length(), brand, compatible_brands, movie, cut_off })
}

fn brands<R: Read + Seek>(
    boxes: &mut Boxes<R>,
    file_type: &MediaBox,
) -> Result<(Option<String>, Vec<String>), Error> {
    let mut fields = boxes.fields(file_type)?;
    let brand = boxes::FourCc(fields.take()?).to_string();
    let _minor_version = fields.u32()?;
    // Some writers fill the list up with zeros.
    let named = fields.four_ccs().filter(|brand| brand.0 != [0; 4]);
    Ok((Some(brand), named.map(|brand| brand.to_string()).collect()))
}
