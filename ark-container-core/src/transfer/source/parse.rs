//! Parses image sources. Without a prefix, detects the source from the existing files and images.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, fs, io};

use futures_util::future::join;
use tokio::time::timeout;

use super::engine::{Engine, EngineError};
use super::{ImageSource, Kind, layout};
use crate::error::{Error, Result};
use crate::model::ImageReference;
use crate::transfer::selector::{ImageSelector, split_path};

/// The prefixes of sources and targets.
pub(in crate::transfer) const OCI_LAYOUT: &str = "oci";
pub(in crate::transfer) const OCI_ARCHIVE: &str = "oci-archive";
pub(in crate::transfer) const DOCKER_ARCHIVE: &str = "docker-archive";
const STANDARD_INPUT: &str = "-";

/// Checks which paths exist, to separate the path from the selector.
impl FromStr for ImageSource {
    type Err = Error;

    fn from_str(input: &str) -> Result<Self> {
        if input == STANDARD_INPUT {
            return Ok(Self::standard_input());
        }
        let Some((prefix, rest)) = input.split_once(':') else { return parse_unprefixed(input) };
        if prefix == STANDARD_INPUT {
            let selector = (!rest.is_empty()).then(|| rest.into());
            return Ok(Kind::StandardInput.with(selector));
        }
        if input.starts_with(ImageReference::PREFIX) {
            return Err(Error::invalid(format!(
                "{input} is an image in a registry; copy it instead of pushing it"
            )));
        }
        if let Some(engine) = Engine::ALL.into_iter().find(|engine| engine.prefix() == prefix) {
            engine.check("image source", rest)?;
            return Ok(Kind::Engine(engine, rest.to_owned()).into());
        }
        let kind: fn(PathBuf) -> Kind = match prefix {
            OCI_LAYOUT => Kind::OciLayout,
            OCI_ARCHIVE => Kind::OciArchive,
            DOCKER_ARCHIVE => Kind::DockerArchive,
            _ => return parse_unprefixed(input),
        };
        let (path, selector) = split_path(rest);
        if path.as_os_str().is_empty() {
            return Err(Error::invalid(format!("image source {input:?} names no path")));
        }
        Ok(kind(path).with(selector))
    }
}

impl Kind {
    fn with(self, selector: Option<ImageSelector>) -> ImageSource {
        ImageSource { kind: self, selector }
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
            Kind::Engine(engine, reference) => write!(f, "{}:{reference}", engine.prefix())?,
            Kind::Unprefixed(text) => f.write_str(text)?,
        }
        match &self.selector {
            Some(selector) => write!(f, ":{selector}"),
            None => Ok(()),
        }
    }
}

/// Returns the error of a text that is not an image source.
pub(super) fn no_source(text: &str) -> Error {
    Error::invalid(format!(
        "{text:?} is not an image source: {}; write {FORMS}",
        path_problem(text)
    ))
}

/// Returns the reason why the path in a text is not a source.
fn path_problem(text: &str) -> &'static str {
    match fs::metadata(split_path(text).0) {
        Ok(metadata) if metadata.is_dir() => "the folder has no file oci-layout",
        Ok(_) => "it is a device or socket",
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "it cannot be read",
        Err(_) => "the file does not exist",
    }
}

/// The forms of a source, for errors.
const FORMS: &str = "docker-daemon:REF, podman:REF, docker-archive:FILE[:REF], \
    oci:DIR[:REF], oci-archive:FILE[:REF], or - for an archive on standard input";

/// The timeout of docker and podman for a source without a prefix.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(5);

/// Parses a source without a prefix. A text that cannot be the name of an image must be an existing path.
fn parse_unprefixed(text: &str) -> Result<ImageSource> {
    match (is_name(text), file(text)) {
        (true, _) => Ok(Kind::Unprefixed(text.to_owned()).into()),
        (false, Some(source)) => Ok(source),
        (false, None) => Err(no_source(text)),
    }
}

/// Returns the only source that a text can refer to.
pub(super) async fn find_unprefixed(text: &str) -> Result<ImageSource> {
    let (docker, podman) = join(has(Engine::Docker, text), has(Engine::Podman, text)).await;
    let mut found: Vec<ImageSource> = file(text).into_iter().collect();
    let engines = [(Engine::Docker, &docker), (Engine::Podman, &podman)];
    for (engine, result) in engines {
        if matches!(result, Ok(true)) {
            found.push(Kind::Engine(engine, text.to_owned()).into());
        }
    }
    match (found.pop(), found.as_slice()) {
        (Some(source), []) => Ok(source),
        (Some(last), others) => {
            let mut choices: Vec<String> = others.iter().map(prefixed).collect();
            choices.push(prefixed(&last));
            let choices = choices.join(" or ");
            Err(Error::invalid(format!("{text:?} is ambiguous; write {choices}")))
        }
        (None, _) => {
            let problems: Vec<String> = engines
                .iter()
                .map(|(engine, result)| match result {
                    Ok(_) => format!("{} has no such image", engine.program()),
                    Err(problem) => format!("{} {problem}", engine.program()),
                })
                .collect();
            let problems = problems.join(", ");
            Err(Error::invalid(format!(
                "{text:?} is not an image source: {}, {problems}; write {FORMS}",
                path_problem(text)
            )))
        }
    }
}

/// Returns whether an engine has an image of this name, or the reason why this is unknown.
async fn has(engine: Engine, name: &str) -> Result<bool, &'static str> {
    match timeout(ENGINE_TIMEOUT, engine.id(name)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(EngineError::NoSuchImage)) => Ok(false),
        Ok(Err(EngineError::NotInstalled)) => Err("is not installed"),
        Ok(Err(EngineError::Other(message))) => {
            tracing::debug!(
                engine = engine.program(),
                output = message,
                "cannot look up the image"
            );
            Err("does not respond")
        }
        Err(_) => Err("does not respond"),
    }
}

/// Returns the layout or archive at the path in a text.
fn file(text: &str) -> Option<ImageSource> {
    let (path, selector) = split_path(text);
    if path.join(layout::MARKER).is_file() {
        return Some(Kind::OciLayout(path).with(selector));
    }
    let kind = fs::metadata(&path).ok()?.file_type();
    (kind.is_file() || kind.is_fifo()).then(|| Kind::Archive(path).with(selector))
}

/// Returns the unambiguous text of a source.
fn prefixed(source: &ImageSource) -> String {
    match &source.kind {
        // The name of an image cannot start with a folder.
        Kind::Archive(path) if path.is_relative() => format!("./{source}"),
        _ => source.to_string(),
    }
}

/// Returns whether a text can be the name of an image.
///
/// Source: <https://github.com/distribution/reference/blob/v0.6.0/reference.go>
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    text.bytes().all(allowed) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_like_text_is_not_an_image_name() {
        for name in ["alpine", "alpine:3", "host.example:5000/a/b@sha256:00", "image.tar", "0f"] {
            assert!(is_name(name), "{name}");
        }
        for path in ["", "./image.tar", "../x", "/x", "~x", "-x", "a b", "a\0", "ü", ".", "@x"] {
            assert!(!is_name(path), "{path}");
        }
    }
}
