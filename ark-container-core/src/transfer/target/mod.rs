//! [`ImageTarget`]: the location on this machine that an image is written to.

pub(super) mod archive;
pub(super) mod layout;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::selector::{ImageSelector, split_path};
use super::source::{DOCKER_ARCHIVE, Engine, OCI_ARCHIVE, OCI_LAYOUT};
use crate::error::{Error, Result};

const STANDARD_OUTPUT: &str = "-";
/// The forms of a target, for errors.
const FORMS: &str = "oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], \
    docker-daemon:NAME, podman:NAME, or - for an archive on standard output";

/// The location on this machine that an image is written to, with the name of the image.
///
/// | target | image |
/// |---|---|
/// | `oci:DIR[:NAME]` | in a folder in the OCI image layout, which keeps its other images |
/// | `oci-archive:FILE[:NAME]` | in a new archive of such a folder |
/// | `docker-archive:FILE[:NAME]` | in a new archive that `docker load` reads |
/// | `docker-daemon:NAME` | in the docker daemon of the `docker` command |
/// | `podman:NAME` | in podman |
/// | `-[:NAME]` | in an archive on standard output |
///
/// Paths and names can contain colons: the longest existing start of the text belongs to the path, which extends to
/// the next colon after it. An [`ImageSource`](super::ImageSource) with the same text is the written image.
///
/// ```
/// use ark_container_core::transfer::ImageTarget;
///
/// let target: ImageTarget = "oci:build/image:v1".parse()?;
/// assert_eq!(target, ImageTarget::oci_layout("build/image").with_name("v1"));
/// assert_eq!(target.to_string(), "oci:build/image:v1");
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageTarget {
    pub(super) kind: TargetKind,
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TargetKind {
    OciLayout(PathBuf),
    OciArchive(PathBuf),
    DockerArchive(PathBuf),
    Engine(Engine),
    StandardOutput,
}

impl ImageTarget {
    /// Creates a target: a folder in the OCI image layout. A pull creates the folder if it does not exist.
    pub fn oci_layout(path: impl Into<PathBuf>) -> Self {
        TargetKind::OciLayout(path.into()).into()
    }

    /// Creates a target: a new archive of a folder in the OCI image layout.
    pub fn oci_archive(path: impl Into<PathBuf>) -> Self {
        TargetKind::OciArchive(path.into()).into()
    }

    /// Creates a target: a new archive for `docker load` and `podman load`.
    pub fn docker_archive(path: impl Into<PathBuf>) -> Self {
        TargetKind::DockerArchive(path.into()).into()
    }

    /// Creates a target: an image with this name in the docker daemon of the `docker` command.
    pub fn docker_daemon(name: impl Into<String>) -> Self {
        Self::from(TargetKind::Engine(Engine::Docker)).with_name(name)
    }

    /// Creates a target: an image with this name in podman, by the `podman` command.
    pub fn podman(name: impl Into<String>) -> Self {
        Self::from(TargetKind::Engine(Engine::Podman)).with_name(name)
    }

    /// Creates a target: an archive on standard output.
    pub fn standard_output() -> Self {
        TargetKind::StandardOutput.into()
    }

    /// Sets the name of the image in the target.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Returns the path of the folder or file; `None` for other targets.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            TargetKind::OciLayout(path)
            | TargetKind::OciArchive(path)
            | TargetKind::DockerArchive(path) => Some(path),
            TargetKind::Engine(_) | TargetKind::StandardOutput => None,
        }
    }

    /// Returns the path of the folder in the OCI image layout; `None` for other targets.
    pub fn layout(&self) -> Option<&Path> {
        match &self.kind {
            TargetKind::OciLayout(path) => Some(path),
            _ => None,
        }
    }

    /// Returns whether the target is an archive on standard output.
    pub fn is_standard_output(&self) -> bool {
        self.kind == TargetKind::StandardOutput
    }

    /// Returns the name of the image in the target, if one is set.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// A folder in the OCI image layout.
impl From<PathBuf> for ImageTarget {
    fn from(path: PathBuf) -> Self {
        Self::oci_layout(path)
    }
}

/// A folder in the OCI image layout.
impl From<&Path> for ImageTarget {
    fn from(path: &Path) -> Self {
        Self::oci_layout(path)
    }
}

impl From<TargetKind> for ImageTarget {
    fn from(kind: TargetKind) -> Self {
        Self { kind, name: None }
    }
}

/// Checks which paths exist, to separate the path from the name.
impl FromStr for ImageTarget {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self> {
        let (prefix, rest) = input.split_once(':').unwrap_or((input, ""));
        let engine = Engine::ALL.into_iter().find(|engine| engine.prefix() == prefix);
        if let Some(engine) = engine {
            engine.check("image target", rest)?;
            return Ok(Self::from(TargetKind::Engine(engine)).with_name(rest));
        }
        let kind: fn(PathBuf) -> TargetKind = match prefix {
            STANDARD_OUTPUT => {
                let name = (!rest.is_empty()).then(|| rest.to_owned());
                return Ok(Self { name, ..Self::standard_output() });
            }
            OCI_LAYOUT => TargetKind::OciLayout,
            OCI_ARCHIVE => TargetKind::OciArchive,
            DOCKER_ARCHIVE => TargetKind::DockerArchive,
            _ => {
                return Err(Error::invalid(format!(
                    "{input:?} is not an image target; write {FORMS}"
                )));
            }
        };
        let (path, selector) = split_path(rest);
        if path.as_os_str().is_empty() {
            return Err(Error::invalid(format!("image target {input:?} names no path")));
        }
        match selector {
            None => Ok(kind(path).into()),
            Some(ImageSelector::Name(name)) => Ok(Self::from(kind(path)).with_name(name)),
            Some(selector) => Err(Error::invalid(format!(
                "image target {input:?} ends with {selector}, which is not a name; remove it, or write a name \
                 such as v1"
            ))),
        }
    }
}

impl fmt::Display for ImageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TargetKind::OciLayout(path) => write!(f, "{OCI_LAYOUT}:{}", path.display())?,
            TargetKind::OciArchive(path) => write!(f, "{OCI_ARCHIVE}:{}", path.display())?,
            TargetKind::DockerArchive(path) => write!(f, "{DOCKER_ARCHIVE}:{}", path.display())?,
            TargetKind::Engine(engine) => f.write_str(engine.prefix())?,
            TargetKind::StandardOutput => f.write_str(STANDARD_OUTPUT)?,
        }
        match &self.name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_kinds_are_printed_as_parsed() {
        for (text, target) in [
            ("oci:new", ImageTarget::oci_layout("new")),
            ("oci:new:v1", ImageTarget::oci_layout("new").with_name("v1")),
            ("oci-archive:x.tar:a:1", ImageTarget::oci_archive("x.tar").with_name("a:1")),
            ("docker-archive:x.tar", ImageTarget::docker_archive("x.tar")),
            ("docker-daemon:h.example:5000/a:1", ImageTarget::docker_daemon("h.example:5000/a:1")),
            ("podman:a", ImageTarget::podman("a")),
            ("-", ImageTarget::standard_output()),
            ("-:a:1", ImageTarget::standard_output().with_name("a:1")),
        ] {
            let parsed: ImageTarget = text.parse().unwrap();
            assert_eq!(parsed, target, "{text}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn invalid_target_is_rejected() {
        for (text, problem) in [
            ("", "\"\" is not an image target; write oci:DIR[:NAME], "),
            ("build", "\"build\" is not an image target; write "),
            ("docker:x", " is not an image target; write "),
            ("oci:", "names no path"),
            ("oci::v1", "names no path"),
            ("oci:new:@2", "ends with @2, which is not a name"),
            ("docker-daemon:", "image target \"docker-daemon:\" names no image"),
            ("podman:-q", "names an option"),
        ] {
            let error = text.parse::<ImageTarget>().unwrap_err();
            assert!(matches!(error, Error::InvalidInput { .. }), "{text} {error:?}");
            assert!(error.to_string().contains(problem), "{text} {error}");
        }
    }

    #[test]
    fn source_and_target_accept_path_with_colon() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ws:1")).unwrap();
        let text = format!("oci:{}/ws:1/out:v9", folder.path().display());
        let target: ImageTarget = text.parse().unwrap();
        let source: crate::transfer::ImageSource = text.parse().unwrap();
        assert_eq!(target.path(), Some(&*folder.path().join("ws:1/out")));
        assert_eq!((target.path(), target.name()), (source.path(), Some("v9")));
    }
}
