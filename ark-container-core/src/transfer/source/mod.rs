//! [`ImageSource`]: where on this machine an image comes from.

mod archive;
mod docker_archive;
mod engine;
mod layout;
mod parse;
mod spool;
#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use self::archive::Archive;
use self::engine::Engine;
use self::layout::Layout;
use crate::distribution::platform_names;
use crate::error::{Error, ResourceKind, Result};
use crate::model::Platform;
use crate::transfer::local_file::OpenFile;
use crate::transfer::{LocalImage, PlatformChoice};

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

/// Looks through a source.
pub(super) async fn open(source: &ImageSource, choice: &PlatformChoice) -> Result<LocalImage> {
    let found;
    let source = match &source.kind {
        Kind::Unprefixed(text) => {
            found = parse::find_unprefixed(text).await?;
            &found
        }
        _ => source,
    };
    let reference = source.reference().map(str::to_owned);
    match &source.kind {
        Kind::OciLayout(path) => open_layout(canonical(path)?, reference, choice.clone()).await,
        Kind::OciArchive(path) => open_path(path, Format::Oci, reference, choice).await,
        Kind::DockerArchive(path) => open_path(path, Format::Docker, reference, choice).await,
        Kind::Archive(path) => open_path(path, Format::Either, reference, choice).await,
        Kind::StandardInput => {
            let file = spool::standard_input().await?;
            open_archive(file, Format::Either, reference, choice.clone()).await
        }
        Kind::Engine(engine) => {
            let file = engine.save(source.reference().unwrap_or_default()).await?;
            // It was saved by its ID, so it is the only one there.
            open_archive(file, Format::Docker, None, choice.clone()).await
        }
        Kind::Unprefixed(text) => Err(parse::no_source(text)),
    }
}

async fn open_path(
    path: &Path,
    format: Format,
    reference: Option<String>,
    choice: &PlatformChoice,
) -> Result<LocalImage> {
    let path = canonical(path)?;
    let file = in_background(move || OpenFile::open(&path)).await?;
    open_archive(spool::unpacked(file).await?, format, reference, choice.clone()).await
}

async fn open_layout(
    path: PathBuf,
    reference: Option<String>,
    choice: PlatformChoice,
) -> Result<LocalImage> {
    in_background(move || layout::open(Layout::Folder(&path), reference.as_deref(), &choice)).await
}

async fn open_archive(
    file: OpenFile,
    format: Format,
    reference: Option<String>,
    choice: PlatformChoice,
) -> Result<LocalImage> {
    in_background(move || {
        let archive = Archive::read_from(file)?;
        let is_oci = !archive.has(docker_archive::LISTING) && archive.has(layout::MARKER);
        if format == Format::Oci || (format == Format::Either && is_oci) {
            layout::open(Layout::Archive(&archive), reference.as_deref(), &choice)
        } else {
            docker_archive::open(&archive, reference.as_deref(), &choice)
        }
    })
    .await
}

/// The path without links: it is the user's own word, so they are followed to it; in it they are not.
fn canonical(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|_| Error::not_found(ResourceKind::File, path.display()))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    work.await.map_err(|error| Error::failed("looking through the image").with_source(error))?
}

/// The error where a source has several images and it is not clear which one is meant.
fn choose<S: AsRef<str>>(
    source: impl fmt::Display,
    reference: Option<&str>,
    choices: &[S],
) -> Error {
    let problem = match reference {
        Some(reference) => format!("has no image {reference}"),
        None => "has several images".to_owned(),
    };
    let choices: Vec<&str> = choices.iter().map(AsRef::as_ref).collect();
    let choices = match choices.as_slice() {
        [] => "it has none with a name".to_owned(),
        choices => format!("name one of: {}", choices.join(", ")),
    };
    Error::invalid(format!("{source} {problem}; {choices}"))
}

/// The error of an image for several platforms of which none is chosen.
fn several<'a>(
    source: impl fmt::Display,
    platforms: impl IntoIterator<Item = &'a Platform>,
) -> Error {
    let platforms = platform_names(platforms);
    Error::invalid(format!(
        "{source} has an image for several platforms; choose one (--platform) or all \
         (--all-platforms) of: {platforms}"
    ))
}

/// The error of an image that is not for the platform that is asked for.
fn elsewhere<'a>(
    source: impl fmt::Display,
    wanted: &Platform,
    found: impl IntoIterator<Item = &'a Platform>,
) -> Error {
    let found = match platform_names(found) {
        found if found.is_empty() => "it does not say what it runs on".to_owned(),
        found => format!("it has: {found}"),
    };
    Error::invalid(format!("{source} has no image for {wanted}; {found}"))
}

/// The error of a source that is not what it should be.
fn damaged(source: impl fmt::Display, problem: impl fmt::Display) -> Error {
    Error::failed(format!("{source}: {problem}"))
}
