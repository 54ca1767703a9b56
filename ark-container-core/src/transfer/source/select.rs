//! [`Candidate`]: an image that a layout or archive lists; and which of them is meant.

use super::super::image::Source;
use super::super::platforms::configured;
use super::docker_archive::familiar;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Index, Platform, media_type};

/// An image in the list of a layout or archive.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The names that it has, the one for people first.
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// Whether it refers to another one, as a signature does.
    pub(super) is_referrer: bool,
}

/// The choice of an image in a layout or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageSelector {
    /// By one of its names.
    Name(String),
    /// By its digest.
    Digest(Digest),
    /// By its position, from 0 on.
    Index(usize),
}

impl ImageSelector {
    pub(super) fn parse(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix('@') {
            if let Ok(digest) = rest.parse() {
                return Self::Digest(digest);
            }
            if let Ok(index) = rest.parse() {
                return Self::Index(index);
            }
        }
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Digest)
    }
}

/// Returns the manifest of the selected image, or of the only one.
///
/// Several images that differ in their platform alone are one image: a layout may list its platforms itself.
pub(super) async fn find(
    source: &dyn Source,
    candidates: &[Candidate],
    selector: Option<&ImageSelector>,
) -> Result<Manifest> {
    let mut found: Vec<&Candidate> = match selector {
        None => candidates.iter().filter(|candidate| !candidate.is_referrer).collect(),
        Some(ImageSelector::Name(name)) => named(candidates, name),
        Some(ImageSelector::Digest(digest)) => {
            candidates.iter().filter(|candidate| candidate.descriptor.digest == *digest).collect()
        }
        Some(ImageSelector::Index(index)) => candidates.get(*index).into_iter().collect(),
    };
    if found.is_empty() && selector.is_none() {
        // An image that refers to another one can be the only one.
        found = candidates.iter().collect();
    }
    let mut digests = Vec::new();
    found.retain(|candidate| {
        let is_new = !digests.contains(&&candidate.descriptor.digest);
        digests.push(&candidate.descriptor.digest);
        is_new
    });
    match found.as_slice() {
        [candidate] => source.manifest(&candidate.descriptor).await,
        [] => Err(none_or_several(source, candidates, selector, "has no image")),
        several => match index_of_platforms(source, several).await? {
            Some(index) => Ok(index),
            None => Err(none_or_several(source, candidates, selector, "has several images")),
        },
    }
}

fn named<'a>(candidates: &'a [Candidate], name: &str) -> Vec<&'a Candidate> {
    let with = |matches: &dyn Fn(&String) -> bool| -> Vec<&Candidate> {
        candidates.iter().filter(|candidate| candidate.names.iter().any(matches)).collect()
    };
    match with(&|own| own == name) {
        exact if !exact.is_empty() => exact,
        _ => with(&|own| familiar(own) == familiar(name)),
    }
}

/// Returns an index of these images if each is for a platform of its own.
async fn index_of_platforms(
    source: &dyn Source,
    candidates: &[&Candidate],
) -> Result<Option<Manifest>> {
    let mut platforms: Vec<Platform> = Vec::new();
    let mut images = Vec::new();
    for candidate in candidates {
        let mut descriptor = candidate.descriptor.clone();
        if descriptor.platform.is_none() && media_type::is_manifest(&descriptor.media_type) {
            // One that cannot be read is not for a platform.
            let platform = async {
                let manifest = source.manifest(&descriptor).await?;
                configured(source, &manifest).await
            };
            descriptor.platform = platform.await.unwrap_or_default();
        }
        let Some(platform) = &descriptor.platform else { return Ok(None) };
        if platform.is_known() && platforms.iter().any(|other| other.is_same_as(platform)) {
            return Ok(None);
        }
        platforms.push(platform.clone());
        descriptor.annotations.retain(|key, _| !key.ends_with("image.ref.name"));
        images.push(descriptor);
    }
    Index::new(images).to_manifest().map(Some)
}

/// Returns the error of a selection that fits no image, or several.
fn none_or_several(
    source: &dyn Source,
    candidates: &[Candidate],
    selector: Option<&ImageSelector>,
    problem: &str,
) -> Error {
    let selected = match selector {
        None => String::new(),
        Some(ImageSelector::Name(name)) => format!(" {name}"),
        Some(ImageSelector::Digest(digest)) => format!(" @{digest}"),
        Some(ImageSelector::Index(index)) => format!(" @{index}"),
    };
    let choices: Vec<String> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !candidate.is_referrer)
        .map(|(index, candidate)| {
            candidate.names.first().cloned().unwrap_or_else(|| format!("@{index}"))
        })
        .collect();
    let name = source.name();
    if choices.is_empty() {
        return Error::failed(format!("{name} lists no image"));
    }
    let choices = choices.join(", ");
    Error::invalid(format!("{name} {problem}{selected}; choose one of: {choices}"))
}
