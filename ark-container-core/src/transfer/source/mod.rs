//! [`ImageSource`]: where on this machine an image comes from.

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
use self::engine::Engine;
use self::layout::{Layout, LayoutSource};
use self::select::{Candidate, ImageSelector};
use super::image::Source;
use super::local_file::OpenFile;
use super::platforms::PlatformChoice;
use crate::distribution::Manifest;
use crate::error::{Error, ResourceKind, Result};
use crate::files::Directory;

/// Where on this machine an image comes from, and which image of it where it has several.
///
/// Written as skopeo does:
///
/// | source | image |
/// |---|---|
/// | `docker-daemon:REF` | of the docker daemon that the `docker` command reaches, by name or ID |
/// | `podman:REF` | of podman, by name or ID |
/// | `docker-archive:FILE[:REF]` | in an archive of `docker save` or `podman save` |
/// | `oci:DIR[:REF]` | in a folder in the OCI image layout |
/// | `oci-archive:FILE[:REF]` | in an archive of such a folder |
/// | `-[:REF]` | in an archive of either kind on standard input |
///
/// Archives may be compressed with gzip or zstd. Since paths and references may have colons too, the
/// longest path that exists is taken for the path. Without a prefix the source is told from what is
/// there: a folder, an archive of either kind, an image of docker or podman. If several are, that is
/// an error.
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
    reference: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    OciLayout(PathBuf),
    OciArchive(PathBuf),
    DockerArchive(PathBuf),
    /// Of the two, what it turns out to be.
    Archive(PathBuf),
    StandardInput,
    Engine(Engine),
    /// What may be a path or the name of an image, or both.
    Unprefixed(String),
}

impl ImageSource {
    /// A folder in the OCI image layout, with its only image.
    ///
    /// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>
    pub fn oci_layout(path: impl Into<PathBuf>) -> Self {
        Kind::OciLayout(path.into()).into()
    }

    /// An archive of a folder in the OCI image layout, with its only image.
    pub fn oci_archive(path: impl Into<PathBuf>) -> Self {
        Kind::OciArchive(path.into()).into()
    }

    /// An archive as `docker save` and `podman save` write it, with its only image.
    pub fn docker_archive(path: impl Into<PathBuf>) -> Self {
        Kind::DockerArchive(path.into()).into()
    }

    /// An image of the docker daemon, by name or ID.
    ///
    /// The `docker` command is asked for it, so that `DOCKER_HOST` and contexts count as they do there.
    pub fn docker_daemon(reference: impl Into<String>) -> Self {
        Self::from(Kind::Engine(Engine::Docker)).with_reference(reference)
    }

    /// An image of podman, by name or ID. The `podman` command is asked for it.
    pub fn podman(reference: impl Into<String>) -> Self {
        Self::from(Kind::Engine(Engine::Podman)).with_reference(reference)
    }

    /// An archive on standard input, with its only image. It can be read once.
    pub fn standard_input() -> Self {
        Kind::StandardInput.into()
    }

    /// This source with the image named: in a layout by its `org.opencontainers.image.ref.name`, in a
    /// docker archive by one of its tags.
    pub fn with_reference(self, reference: impl Into<String>) -> Self {
        Self { reference: Some(reference.into()), ..self }
    }

    /// The folder or file, where it is known to be one.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::OciLayout(path)
            | Kind::OciArchive(path)
            | Kind::DockerArchive(path)
            | Kind::Archive(path) => Some(path),
            Kind::StandardInput | Kind::Engine(_) | Kind::Unprefixed(_) => None,
        }
    }

    /// The name of the image in it, where one was given.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }
}

impl From<Kind> for ImageSource {
    fn from(kind: Kind) -> Self {
        Self { kind, reference: None }
    }
}

/// What was looked for in a file that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Docker,
    Oci,
    Either,
}

/// Opens a source, and finds the image that it names.
pub(super) async fn open(
    source: &ImageSource,
    _platforms: &PlatformChoice,
) -> Result<(Box<dyn Source>, Manifest)> {
    let found;
    let source = match &source.kind {
        Kind::Unprefixed(text) => {
            found = parse::find_unprefixed(text).await?;
            &found
        }
        _ => source,
    };
    let selector = source.reference().map(ImageSelector::parse);
    match &source.kind {
        Kind::OciLayout(path) => {
            let path = canonical(path)?;
            let layout =
                in_background(move || LayoutSource::open(Layout::Folder(Directory::open(&path)?)));
            with_root(Opened::Layout(layout.await?), selector.as_ref()).await
        }
        Kind::OciArchive(path) => open_path(path, Format::Oci, selector).await,
        Kind::DockerArchive(path) => open_path(path, Format::Docker, selector).await,
        Kind::Archive(path) => open_path(path, Format::Either, selector).await,
        Kind::StandardInput => {
            open_archive(spool::standard_input().await?, Format::Either, selector).await
        }
        Kind::Engine(engine) => {
            let file = engine.save(source.reference().unwrap_or_default()).await?;
            // It was saved by its ID, so it is the only one there.
            open_archive(file, Format::Docker, None).await
        }
        Kind::Unprefixed(text) => Err(parse::no_source(text)),
    }
}

/// An archive or folder whose list of images was read.
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
    let root = select::find(&*source, &candidates, selector).await?;
    Ok((source, root))
}

async fn open_path(
    path: &Path,
    format: Format,
    selector: Option<ImageSelector>,
) -> Result<(Box<dyn Source>, Manifest)> {
    let path = canonical(path)?;
    let file = in_background(move || OpenFile::open(&path)).await?;
    open_archive(spool::unpacked(file).await?, format, selector).await
}

async fn open_archive(
    file: OpenFile,
    format: Format,
    selector: Option<ImageSelector>,
) -> Result<(Box<dyn Source>, Manifest)> {
    let opened = in_background(move || {
        let archive = Arc::new(Archive::read_from(file)?);
        let has_listing = archive.has(docker_archive::LISTING);
        let is_oci = format == Format::Oci
            || (format == Format::Either && !has_listing && archive.has(layout::MARKER));
        if is_oci {
            LayoutSource::open(Layout::Archive(archive)).map(Opened::Layout)
        } else if has_listing && archive.has(layout::MARKER) {
            // Since version 25, docker writes both.
            LayoutSource::of_docker(&archive).map(Opened::Layout)
        } else {
            DockerArchive::open(&archive).map(Opened::DockerArchive)
        }
    });
    with_root(opened.await?, selector.as_ref()).await
}

/// Returns the path without links. The user named the links on the way to it; in it they are not followed.
fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|_| Error::not_found(ResourceKind::File, path.display()))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|error| Error::failed("reading the image").with_source(error))?
}

/// Returns the error of a source that is damaged or of another format.
fn damaged(source: impl fmt::Display, problem: impl fmt::Display) -> Error {
    Error::failed(format!("{source}: {problem}"))
}
