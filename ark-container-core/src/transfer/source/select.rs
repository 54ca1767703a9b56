//! [`Candidate`]: an image that a layout or archive lists; and the selection of one candidate.

use super::docker_archive::familiar;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, Index, Platform, media_type};
use crate::transfer::image::Source;
use crate::transfer::platforms::configured;
use crate::transfer::selector::ImageSelector;

/// An image in the list of a layout or archive.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// The names. Errors suggest the first one.
    pub(super) names: Vec<String>,
    pub(super) descriptor: Descriptor,
    /// The image ID in docker: the digest of the configuration.
    pub(super) id: Option<Digest>,
    /// Whether the image has a subject in the same source, as a signature has.
    pub(super) is_referrer: bool,
}

impl Candidate {
    fn has_digest(&self, digest: &Digest) -> bool {
        self.descriptor.digest == *digest || self.id.as_ref() == Some(digest)
    }
}

/// Returns the manifest of the selected image, or of the only one.
///
/// Several images that differ only in their platform are one image: a layout may list platforms without an index.
pub(super) async fn find(
    source: &dyn Source,
    candidates: &[Candidate],
    selector: Option<&ImageSelector>,
) -> Result<Manifest> {
    let mut found: Vec<&Candidate> = match selector {
        None => candidates.iter().filter(|candidate| !candidate.is_referrer).collect(),
        Some(ImageSelector::Name(name)) => named(candidates, name),
        Some(ImageSelector::Digest(digest)) => {
            candidates.iter().filter(|candidate| candidate.has_digest(digest)).collect()
        }
        Some(ImageSelector::Index(index)) => candidates.get(*index).into_iter().collect(),
    };
    if found.is_empty() && selector.is_none() {
        // All candidates may be referrers.
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

/// Returns an index of these images if each has a different platform.
async fn index_of_platforms(
    source: &dyn Source,
    candidates: &[&Candidate],
) -> Result<Option<Manifest>> {
    let mut platforms: Vec<Platform> = Vec::new();
    let mut images = Vec::new();
    for candidate in candidates {
        let mut descriptor = candidate.descriptor.clone();
        if descriptor.platform.is_none() && media_type::is_manifest(&descriptor.media_type) {
            // An unreadable image has no platform.
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

/// Returns the error of a selection that matches no image or several images.
fn none_or_several(
    source: &dyn Source,
    candidates: &[Candidate],
    selector: Option<&ImageSelector>,
    problem: &str,
) -> Error {
    let selected = selector.map(|selector| format!(" {selector}")).unwrap_or_default();
    let choices: Vec<String> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !candidate.is_referrer)
        .map(|(index, candidate)| {
            let is_own = |name: &&String| {
                candidates.iter().filter(|other| other.names.first() == Some(name)).count() == 1
            };
            let name = candidate.names.first().filter(is_own);
            name.cloned().unwrap_or_else(|| format!("@{index}"))
        })
        .collect();
    let name = source.name();
    if choices.is_empty() {
        return Error::failed(format!("{name} lists no image"));
    }
    let choices = choices.join(", ");
    Error::invalid(format!("{name} {problem}{selected}; name one of: {choices}"))
}
