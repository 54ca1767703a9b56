//! [`ImageSource`]: the location on this machine that an image is read from.

mod archive;
mod docker_archive;
mod engine;
mod layout;
mod parse;
mod registry;
mod select;
mod spool;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::archive::Archive;
use self::docker_archive::DockerArchive;
pub(super) use self::docker_archive::familiar;
pub(super) use self::engine::Engine;
use self::layout::{Layout, LayoutSource};
pub(super) use self::parse::{DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_LAYOUT};
pub(crate) use self::registry::{RegistryImage, RegistrySource};
use self::select::Candidate;
use super::image::{Source, incomplete};
use super::in_background;
use super::local_file::OpenFile;
use super::platforms::PlatformChoice;
use super::selector::ImageSelector;
use crate::distribution::Manifest;
use crate::error::{Error, ResourceKind, Result};
use crate::files::Directory;

/// The location on this machine that an image is read from, with the selection of the image.
///
/// The text form is that of skopeo:
///
/// | source | image |
/// |---|---|
/// | `docker-daemon:REF` | in the docker daemon of the `docker` command, by name or ID |
/// | `podman:REF` | in podman, by name or ID; a manifest list with all its platforms |
/// | `docker-archive:FILE[:SELECTOR]` | in an archive of `docker save` or `podman save` |
/// | `oci:DIR[:SELECTOR]` | in a folder in the OCI image layout |
/// | `oci-archive:FILE[:SELECTOR]` | in an archive of such a folder |
/// | `-[:SELECTOR]` | in a docker or OCI archive on standard input |
///
/// A `SELECTOR` is a name, a digest such as `@sha256:…`, or a position such as `@0`: see [`ImageSelector`].
/// `DIR@sha256:…` is the same as `DIR:@sha256:…`.
///
/// An archive can be compressed with gzip, zstd, xz or bzip2. A `FILE` can be a named pipe, `/dev/stdin` or a process
/// substitution `<(…)` of a shell. Paths and names can contain colons: the longest existing start of the text belongs
/// to the path, which extends to the next colon after it.
///
/// Without a prefix, the text is the path of a folder or of a docker or OCI archive, or the name of an image in docker
/// or podman. If several of these exist, the text is ambiguous, which is an error.
///
/// ```
/// use ark_container_core::transfer::ImageSource;
///
/// let source: ImageSource = "docker-archive:build/image.tar:team/tool:v1".parse()?;
/// let same = ImageSource::docker_archive("build/image.tar").with_reference("team/tool:v1");
/// assert_eq!(source, same);
/// assert_eq!("podman:tool".parse::<ImageSource>()?, ImageSource::podman("tool"));
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageSource {
    kind: Kind,
    selector: Option<ImageSelector>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    OciLayout(PathBuf),
    OciArchive(PathBuf),
    DockerArchive(PathBuf),
    /// An OCI or docker archive, whose format is detected.
    Archive(PathBuf),
    StandardInput,
    /// An image by its name or ID.
    Engine(Engine, String),
    /// A text without a prefix: a path or the name of an image.
    Unprefixed(String),
}

impl ImageSource {
    /// Creates a source: the only image in a folder in the OCI image layout.
    ///
    /// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>
    pub fn oci_layout(path: impl Into<PathBuf>) -> Self {
        Kind::OciLayout(path.into()).into()
    }

    /// Creates a source: the only image in an archive of a folder in the OCI image layout.
    pub fn oci_archive(path: impl Into<PathBuf>) -> Self {
        Kind::OciArchive(path.into()).into()
    }

    /// Creates a source: the only image in an archive of `docker save` or `podman save`.
    pub fn docker_archive(path: impl Into<PathBuf>) -> Self {
        Kind::DockerArchive(path.into()).into()
    }

    /// Creates a source: an image of the docker daemon, by name or ID.
    ///
    /// The `docker` command saves the image, so that `DOCKER_HOST` and contexts apply.
    pub fn docker_daemon(reference: impl Into<String>) -> Self {
        Kind::Engine(Engine::Docker, reference.into()).into()
    }

    /// Creates a source: an image of podman, by name or ID. The `podman` command saves the image.
    pub fn podman(reference: impl Into<String>) -> Self {
        Kind::Engine(Engine::Podman, reference.into()).into()
    }

    /// Creates a source: the only image in an archive on standard input. The source can be opened once.
    pub fn standard_input() -> Self {
        Kind::StandardInput.into()
    }

    /// Selects the image: by name, by digest (`@sha256:…`) or by position (`@0`).
    ///
    /// For docker and podman, the selector replaces the name or ID.
    pub fn with_reference(self, selector: impl Into<ImageSelector>) -> Self {
        let selector = selector.into();
        match (self.kind, selector) {
            (Kind::Engine(engine, _), ImageSelector::Digest(id)) => {
                Kind::Engine(engine, id.to_string()).into()
            }
            (Kind::Engine(engine, _), other) => Kind::Engine(engine, other.to_string()).into(),
            (Kind::Unprefixed(text), selector) => {
                Kind::Unprefixed(format!("{text}:{selector}")).into()
            }
            (kind, selector) => Self { kind, selector: Some(selector) },
        }
    }

    /// Returns the path of the folder or file; `None` for other sources and for a text without a prefix.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::OciLayout(path)
            | Kind::OciArchive(path)
            | Kind::DockerArchive(path)
            | Kind::Archive(path) => Some(path),
            Kind::StandardInput | Kind::Engine(..) | Kind::Unprefixed(_) => None,
        }
    }

    /// Returns the selected image of a layout or archive.
    pub fn selector(&self) -> Option<&ImageSelector> {
        self.selector.as_ref()
    }
}

impl From<Kind> for ImageSource {
    fn from(kind: Kind) -> Self {
        Self { kind, selector: None }
    }
}

/// The expected format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Docker,
    Oci,
    Either,
}

/// Opens a source, and reads the manifest of the selected image.
pub(super) async fn open(
    source: &ImageSource,
    platforms: &PlatformChoice,
) -> Result<(Box<dyn Source>, Manifest)> {
    let found;
    let source = match &source.kind {
        Kind::Unprefixed(text) => {
            found = parse::find_unprefixed(text).await?;
            &found
        }
        _ => source,
    };
    let selector = source.selector();
    match &source.kind {
        Kind::OciLayout(path) => open_layout(canonical(path)?, selector).await,
        Kind::OciArchive(path) => {
            open_archive(spool::open(path).await?, Format::Oci, selector).await
        }
        Kind::DockerArchive(path) => {
            open_archive(spool::open(path).await?, Format::Docker, selector).await
        }
        Kind::Archive(path) => {
            open_archive(spool::open(path).await?, Format::Either, selector).await
        }
        Kind::StandardInput => {
            open_archive(spool::standard_input().await?, Format::Either, selector).await
        }
        Kind::Engine(engine, reference) => {
            // The archive has only this image.
            let file = engine.save(reference, platforms).await?;
            open_archive(file, Format::Either, None).await
        }
        Kind::Unprefixed(text) => Err(parse::no_source(text)),
    }
}

/// An opened archive or folder.
enum Opened {
    Layout(LayoutSource),
    DockerArchive(DockerArchive),
}

async fn with_root(
    opened: Opened,
    selector: Option<&ImageSelector>,
) -> Result<(Box<dyn Source>, Manifest)> {
    let (source, candidates): (Box<dyn Source>, Vec<Candidate>) = match opened {
        Opened::Layout(layout) => {
            let candidates = layout.candidates();
            (Box::new(layout), candidates)
        }
        Opened::DockerArchive(archive) => {
            let candidates = archive.candidates();
            (Box::new(archive), candidates)
        }
    };
    let root = select::find(&*source, &candidates, selector).await;
    let root = root.map_err(|error| incomplete(&*source, error))?;
    Ok((source, root))
}

async fn open_layout(
    path: PathBuf,
    selector: Option<&ImageSelector>,
) -> Result<(Box<dyn Source>, Manifest)> {
    let opening = in_background(move || {
        if path.is_file() {
            let name = path.display();
            let problem = format!("it is a file, not a folder; name it as oci-archive:{name}");
            return Err(damaged(name, problem));
        }
        LayoutSource::open(Layout::Folder(Directory::open(&path)?))
    });
    with_root(Opened::Layout(opening.await?), selector).await
}

async fn open_archive(
    file: OpenFile,
    format: Format,
    selector: Option<&ImageSelector>,
) -> Result<(Box<dyn Source>, Manifest)> {
    let opening = in_background(move || {
        let archive = Arc::new(Archive::read_from(file)?);
        let is_docker = archive.has(docker_archive::LISTING);
        let is_oci = archive.has(layout::MARKER);
        let problem = match format {
            // Docker writes both files since version 25.
            Format::Docker | Format::Either if is_docker && is_oci => {
                return LayoutSource::of_docker(&archive).map(Opened::Layout);
            }
            Format::Docker | Format::Either if is_docker => {
                return DockerArchive::open(&archive).map(Opened::DockerArchive);
            }
            Format::Oci | Format::Either if is_oci => {
                return LayoutSource::open(Layout::Archive(archive)).map(Opened::Layout);
            }
            Format::Oci if is_docker => "it is a docker archive: name it as docker-archive:FILE",
            Format::Docker if is_oci => "it is an OCI archive: name it as oci-archive:FILE",
            Format::Oci => "it is not an OCI archive: the file oci-layout is missing",
            Format::Docker => "it is not a docker archive: manifest.json is missing",
            Format::Either => {
                "it is not an archive of an image: manifest.json and oci-layout are missing"
            }
        };
        Err(damaged(archive.file().name(), problem))
    });
    with_root(opening.await?, selector).await
}

/// Returns the path without links. Links on the path are trusted, since the user named them. Links in the folder are
/// not followed.
fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|_| Error::not_found(ResourceKind::File, path.display()))
}

/// Returns the error of a source that is damaged or has another format.
fn damaged(source: impl fmt::Display, problem: impl fmt::Display) -> Error {
    Error::failed(format!("{source}: {problem}"))
}
