//! [`ImageSource`]: where on this machine an image comes from.

mod archive;
mod docker_archive;
mod oci_layout;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::LocalImage;
use crate::error::{Error, ResourceKind, Result};

const OCI_LAYOUT: &str = "oci";
const DOCKER_ARCHIVE: &str = "docker-archive";

/// Where on this machine an image comes from, and which image of it where it has several.
///
/// Written as skopeo does: `oci:DIR[:REF]` or `docker-archive:FILE[:REF]`. Since paths and references
/// may have colons too, the longest path that exists is taken for the path. Without a prefix the kind
/// is told from what is there.
///
/// ```
/// use ark_container_core::push::ImageSource;
///
/// let source: ImageSource = "docker-archive:build/image.tar:team/tool:v1".parse()?;
/// let same = ImageSource::docker_archive("build/image.tar").with_reference("team/tool:v1");
/// assert_eq!(source, same);
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageSource {
    kind: Kind,
    path: PathBuf,
    reference: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    OciLayout,
    DockerArchive,
}

impl ImageSource {
    /// A folder in the OCI image layout, with its only image.
    ///
    /// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>
    pub fn oci_layout(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::OciLayout, path: path.into(), reference: None }
    }

    /// An archive as `docker save` and `podman save` write it, with its only image.
    pub fn docker_archive(path: impl Into<PathBuf>) -> Self {
        Self { kind: Kind::DockerArchive, path: path.into(), reference: None }
    }

    /// This source with the image named: in a layout by its `org.opencontainers.image.ref.name`, in a
    /// docker archive by one of its tags.
    pub fn with_reference(self, reference: impl Into<String>) -> Self {
        Self { reference: Some(reference.into()), ..self }
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the image in it, where one was given.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }
}

/// Looks at the file system to tell path and reference apart.
impl FromStr for ImageSource {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self> {
        let (kind, rest) = match input.split_once(':') {
            Some((OCI_LAYOUT, rest)) => (Some(Kind::OciLayout), rest),
            Some((DOCKER_ARCHIVE, rest)) => (Some(Kind::DockerArchive), rest),
            _ => (None, input),
        };
        let (path, reference) = split_reference(rest);
        let kind = match kind {
            Some(_) if path.as_os_str().is_empty() => {
                return Err(Error::invalid(format!("image source {input:?} names no path")));
            }
            Some(kind) => kind,
            None if path.join(oci_layout::MARKER).is_file() => Kind::OciLayout,
            None if path.is_file() => Kind::DockerArchive,
            None => {
                return Err(Error::invalid(format!(
                    "{input:?} is no image source: there is neither an OCI layout nor an archive; \
                     write oci:DIR[:REF] or docker-archive:FILE[:REF]"
                )));
            }
        };
        Ok(Self { kind, path, reference: reference.map(str::to_owned) })
    }
}

/// The longest path that exists and what follows; else all up to the first colon is the path.
fn split_reference(text: &str) -> (PathBuf, Option<&str>) {
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

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.kind {
            Kind::OciLayout => OCI_LAYOUT,
            Kind::DockerArchive => DOCKER_ARCHIVE,
        };
        write!(f, "{prefix}:{}", self.path.display())?;
        match &self.reference {
            Some(reference) => write!(f, ":{reference}"),
            None => Ok(()),
        }
    }
}

/// Looks through a source. This reads files, so it blocks.
pub(super) fn open(source: &ImageSource) -> Result<LocalImage> {
    // The path is the user's own word, so links are followed to it; in it they are not.
    let path = std::fs::canonicalize(&source.path)
        .map_err(|_| Error::not_found(ResourceKind::File, source.path.display()))?;
    match source.kind {
        Kind::OciLayout => oci_layout::open(&path, source.reference()),
        Kind::DockerArchive => docker_archive::open(&path, source.reference()),
    }
}

/// The error where a source has several images and it is not clear which one is meant.
fn choose(path: &Path, reference: Option<&str>, choices: &[String]) -> Error {
    let problem = match reference {
        Some(reference) => format!("has no image {reference}"),
        None => "has several images".to_owned(),
    };
    let choices = match choices {
        [] => "it has none with a name".to_owned(),
        choices => format!("name one of: {}", choices.join(", ")),
    };
    Error::invalid(format!("{} {problem}; {choices}", path.display()))
}

/// The error of a source that is not what it should be.
fn damaged(path: &Path, problem: impl fmt::Display) -> Error {
    Error::Failed { message: format!("{}: {problem}", path.display()), source: None }
}
