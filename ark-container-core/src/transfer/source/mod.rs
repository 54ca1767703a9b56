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
pub(super) use self::engine::Engine;
use self::layout::Layout;
pub(super) use self::parse::{DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_LAYOUT};
use crate::distribution::platform_names;
use crate::error::{Error, ResourceKind, Result};
use crate::model::Platform;
use crate::transfer::local_file::OpenFile;
use crate::transfer::{ImageSelector, LocalImage, PlatformChoice};

/// Where on this machine an image is read from, and which image of it where it has several.
///
/// Written as skopeo does:
///
/// | source | image |
/// |---|---|
/// | `docker-daemon:REF` | of the docker daemon that the `docker` command reaches, by name or ID |
/// | `podman:REF` | of podman, by name or ID; a manifest list with all its platforms |
/// | `docker-archive:FILE[:SELECTOR]` | in an archive of `docker save` or `podman save` |
/// | `oci:DIR[:SELECTOR]` | in a folder in the OCI image layout |
/// | `oci-archive:FILE[:SELECTOR]` | in an archive of such a folder |
/// | `-[:SELECTOR]` | in an archive of either kind on standard input |
///
/// A `SELECTOR` is a name, a digest as `@sha256:…`, or a position as `@0`: see [`ImageSelector`]. `DIR@sha256:…`
/// means the same as `DIR:@sha256:…`.
///
/// Archives may be compressed with gzip, zstd, xz or bzip2. A `FILE` may be a named pipe, `/dev/stdin` or what
/// a shell puts for `<(…)`. Paths and names may have colons: the longest part of the text that exists belongs
/// to the path, which extends to the next colon.
///
/// Without a prefix the source is told from what is there: a folder, an archive of either kind, an image of
/// docker or podman. If several are, that is an error.
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
    /// Of the two, what it turns out to be.
    Archive(PathBuf),
    StandardInput,
    /// An image by its name or ID.
    Engine(Engine, String),
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
        Kind::Engine(Engine::Docker, reference.into()).into()
    }

    /// An image of podman, by name or ID. The `podman` command is asked for it.
    pub fn podman(reference: impl Into<String>) -> Self {
        Kind::Engine(Engine::Podman, reference.into()).into()
    }

    /// An archive on standard input, with its only image. It can be read once.
    pub fn standard_input() -> Self {
        Kind::StandardInput.into()
    }

    /// Selects the image: by name, by digest (`@sha256:…`) or by position (`@0`).
    ///
    /// For docker and podman, which keep all their images, this replaces the name or ID.
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

    /// The folder or file, where it is known to be one.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::OciLayout(path)
            | Kind::OciArchive(path)
            | Kind::DockerArchive(path)
            | Kind::Archive(path) => Some(path),
            Kind::StandardInput | Kind::Engine(..) | Kind::Unprefixed(_) => None,
        }
    }

    /// The selected image of a layout or archive, where one is selected.
    pub fn selector(&self) -> Option<&ImageSelector> {
        self.selector.as_ref()
    }
}

impl From<Kind> for ImageSource {
    fn from(kind: Kind) -> Self {
        Self { kind, selector: None }
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
    let selector = source.selector.clone();
    match &source.kind {
        Kind::OciLayout(path) => open_layout(canonical(path)?, selector, choice.clone()).await,
        Kind::OciArchive(path) => {
            open_archive(spool::open(path).await?, Format::Oci, selector, choice.clone()).await
        }
        Kind::DockerArchive(path) => {
            open_archive(spool::open(path).await?, Format::Docker, selector, choice.clone()).await
        }
        Kind::Archive(path) => {
            open_archive(spool::open(path).await?, Format::Either, selector, choice.clone()).await
        }
        Kind::StandardInput => {
            let file = spool::standard_input().await?;
            open_archive(file, Format::Either, selector, choice.clone()).await
        }
        Kind::Engine(engine, reference) => {
            // The archive has no other image than this one.
            let file = engine.save(reference, choice).await?;
            open_archive(file, Format::Either, None, choice.clone()).await
        }
        Kind::Unprefixed(text) => Err(parse::no_source(text)),
    }
}

async fn open_layout(
    path: PathBuf,
    selector: Option<ImageSelector>,
    choice: PlatformChoice,
) -> Result<LocalImage> {
    in_background(move || {
        let name = path.display();
        if path.is_file() {
            let problem = format!("it is a file, not a folder; name it as oci-archive:{name}");
            return Err(damaged(name, problem));
        }
        let opened = layout::open(Layout::Folder(&path), selector.as_ref(), &choice);
        opened.map_err(|error| match error {
            // The layout exists: what does not is a file that its documents name.
            Error::NotFound { kind: ResourceKind::File, name: missing, .. } => {
                damaged(name, format!("the layout is incomplete, it lacks the file {missing}"))
            }
            error => error,
        })
    })
    .await
}

async fn open_archive(
    file: OpenFile,
    format: Format,
    selector: Option<ImageSelector>,
    choice: PlatformChoice,
) -> Result<LocalImage> {
    in_background(move || {
        let archive = Archive::read_from(file)?;
        let is_docker = archive.has(docker_archive::LISTING);
        let is_oci = archive.has(layout::MARKER);
        let problem = match format {
            Format::Docker | Format::Either if is_docker => {
                return docker_archive::open(&archive, selector.as_ref(), &choice);
            }
            Format::Oci | Format::Either if is_oci => {
                return layout::open(Layout::Archive(&archive), selector.as_ref(), &choice);
            }
            Format::Oci if is_docker => "it is a docker archive: name it as docker-archive:FILE",
            Format::Docker if is_oci => "it is an OCI archive: name it as oci-archive:FILE",
            Format::Oci => "it is no OCI archive, for it has no file oci-layout",
            Format::Docker => "it is no docker archive, for it has no manifest.json",
            Format::Either => {
                "it is no archive of an image, for it has neither manifest.json nor oci-layout"
            }
        };
        Err(damaged(archive.file().name(), problem))
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
///
/// A choice is the name of an image, or its position where it has none.
fn choose<S: AsRef<str>>(
    source: impl fmt::Display,
    selector: Option<&ImageSelector>,
    choices: &[S],
) -> Error {
    let problem = match selector {
        Some(selector) => format!("has no image {selector}"),
        None => "has several images".to_owned(),
    };
    let choices: Vec<&str> = choices.iter().map(AsRef::as_ref).collect();
    match choices.as_slice() {
        [] => Error::invalid(format!("{source} {problem}")),
        choices => {
            Error::invalid(format!("{source} {problem}; name one of: {}", choices.join(", ")))
        }
    }
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
