//! Image sources as text.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::engine::Engine;
use super::{ImageSource, Kind, unprefixed};
use crate::error::{Error, Result};

const OCI_LAYOUT: &str = "oci";
const OCI_ARCHIVE: &str = "oci-archive";
const DOCKER_ARCHIVE: &str = "docker-archive";
const STANDARD_INPUT: &str = "-";

/// Looks at the file system to tell path and reference apart.
impl FromStr for ImageSource {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self> {
        let (prefix, rest) = input.split_once(':').unwrap_or((input, ""));
        if prefix == STANDARD_INPUT {
            let reference = Some(rest).filter(|rest| !rest.is_empty());
            return Ok(Kind::StandardInput.with(reference));
        }
        if !input.contains(':') {
            return unprefixed::parse(input);
        }
        if let Some(engine) = Engine::ALL.into_iter().find(|engine| engine.prefix() == prefix) {
            engine.check(rest)?;
            return Ok(Kind::Engine(engine).with(Some(rest)));
        }
        let kind: fn(PathBuf) -> Kind = match prefix {
            OCI_LAYOUT => Kind::OciLayout,
            OCI_ARCHIVE => Kind::OciArchive,
            DOCKER_ARCHIVE => Kind::DockerArchive,
            _ => return unprefixed::parse(input),
        };
        let (path, reference) = split_reference(rest);
        if path.as_os_str().is_empty() {
            return Err(Error::invalid(format!("image source {input:?} names no path")));
        }
        Ok(kind(path).with(reference))
    }
}

impl Kind {
    pub(super) fn with(self, reference: Option<&str>) -> ImageSource {
        ImageSource { kind: self, reference: reference.map(str::to_owned) }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::OciLayout(path) => write!(f, "{OCI_LAYOUT}:{}", path.display())?,
            Kind::OciArchive(path) => write!(f, "{OCI_ARCHIVE}:{}", path.display())?,
            Kind::DockerArchive(path) => write!(f, "{DOCKER_ARCHIVE}:{}", path.display())?,
            Kind::Archive(path) => write!(f, "{}", path.display())?,
            Kind::StandardInput => f.write_str(STANDARD_INPUT)?,
            Kind::Engine(engine) => f.write_str(engine.prefix())?,
            Kind::Unprefixed(text) => f.write_str(text)?,
        }
        match &self.reference {
            Some(reference) => write!(f, ":{reference}"),
            None => Ok(()),
        }
    }
}

/// The longest path that exists and what follows; else all up to the first colon is the path.
pub(super) fn split_reference(text: &str) -> (PathBuf, Option<&str>) {
    let whole = PathBuf::from(text);
    if whole.exists() {
        return (whole, None);
    }
    let colons: Vec<usize> = text.match_indices(':').map(|(offset, _)| offset).collect();
    let existing = colons.iter().rev().find(|offset| Path::new(&text[..**offset]).exists());
    match existing.or(colons.first()) {
        Some(offset) => {
            let reference = Some(&text[offset + 1..]).filter(|reference| !reference.is_empty());
            (text[..*offset].into(), reference)
        }
        None => (whole, None),
    }
}

/// The error of a text that says nothing of an image.
pub(super) fn no_source(text: &str) -> Error {
    Error::invalid(format!(
        "{text:?} is no image source: there is neither an OCI layout nor an archive; write {FORMS}"
    ))
}

/// All that a source can be.
pub(super) const FORMS: &str = "docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], \
    oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input";
