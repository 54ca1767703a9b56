//! Sources without a prefix: told from what is there.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::timeout;

use super::engine::{Engine, Refusal};
use super::parse::{FORMS, no_source, split_reference};
use super::{ImageSource, Kind, oci};
use crate::error::{Error, Result};

/// How long docker and podman are waited for. Who means them for certain says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// A source of which only the text is known. What can be nothing but a path is looked at at once.
pub(super) fn parse(text: &str) -> Result<ImageSource> {
    match (is_name(text), file(text)) {
        (true, _) => Ok(Kind::Unprefixed(text.to_owned()).into()),
        (false, Some(source)) => Ok(source),
        (false, None) => Err(no_source(text)),
    }
}

/// The only thing that a text stands for.
pub(super) async fn find(text: &str) -> Result<ImageSource> {
    let (docker, podman) = join(has(Engine::Docker, text), has(Engine::Podman, text)).await;
    let mut found: Vec<ImageSource> = file(text).into_iter().collect();
    let engines = [(Engine::Docker, &docker), (Engine::Podman, &podman)];
    for (engine, answer) in engines {
        if matches!(answer, Ok(true)) {
            found.push(Kind::Engine(engine).with(Some(text)));
        }
    }
    match (found.pop(), found.as_slice()) {
        (Some(source), []) => Ok(source),
        (Some(last), others) => {
            let mut choices: Vec<String> = others.iter().map(prefixed).collect();
            choices.push(prefixed(&last));
            let choices = choices.join(" or ");
            Err(Error::invalid(format!("{text:?} may be several things; write {choices}")))
        }
        (None, _) => {
            let why: Vec<String> = engines
                .iter()
                .map(|(engine, answer)| match answer {
                    Ok(_) => format!("{} has no such image", engine.program()),
                    Err(problem) => format!("{} {problem}", engine.program()),
                })
                .collect();
            let why = why.join(", ");
            Err(Error::invalid(format!(
                "{text:?} is no image source: there is no such file, {why}; write {FORMS}"
            )))
        }
    }
}

/// Whether an engine has an image of this name; else why it could not say.
async fn has(engine: Engine, name: &str) -> Result<bool, &'static str> {
    match timeout(PATIENCE, engine.id(name)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(Refusal::NoSuchImage)) => Ok(false),
        Ok(Err(Refusal::NotInstalled)) => Err("is not installed"),
        Ok(Err(Refusal::Other(words))) => {
            tracing::debug!(engine = engine.program(), words, "it does not say what it has");
            Err("does not answer")
        }
        Err(_) => Err("does not answer"),
    }
}

/// The layout or archive that a text is the path of.
fn file(text: &str) -> Option<ImageSource> {
    let (path, reference) = split_reference(text);
    if path.join(oci::MARKER).is_file() {
        Some(Kind::OciLayout(path).with(reference))
    } else if path.is_file() {
        Some(Kind::Archive(path).with(reference))
    } else {
        None
    }
}

/// What a source is to be written as so that it can be nothing else.
fn prefixed(source: &ImageSource) -> String {
    match &source.kind {
        // A path with a folder in front is no name of an image.
        Kind::Archive(path) if path.is_relative() => format!("./{source}"),
        _ => source.to_string(),
    }
}

/// Whether a text may be the name of an image.
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
    fn what_starts_like_a_path_is_no_name() {
        for name in ["alpine", "alpine:3", "host.example:5000/a/b@sha256:00", "image.tar", "0f"] {
            assert!(is_name(name), "{name}");
        }
        for path in ["", "./image.tar", "../x", "/x", "~x", "-x", "a b", "a\0", "ü", ".", "@x"] {
            assert!(!is_name(path), "{path}");
        }
    }
}
