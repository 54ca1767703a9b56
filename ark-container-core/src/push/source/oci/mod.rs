//! Images in an OCI layout: in a folder, or in an archive of one.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

mod layout;
mod platform;
mod walk;

use std::collections::BTreeMap;

use self::walk::Walk;
use super::docker_archive::familiar;
use super::{choose, damaged};
use crate::distribution::Index;
use crate::error::Result;
use crate::model::{Descriptor, Digest};
use crate::push::{LocalImage, PlatformChoice};

pub(super) use self::layout::{Layout, MARKER};

const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, where docker writes only the tag into the other.
///
/// Source: <https://github.com/containerd/containerd/blob/v2.0.0/core/images/annotations.go>
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The image of the layout that `reference` names, or its only one.
pub(super) fn open(
    layout: Layout<'_>,
    reference: Option<&str>,
    choice: &PlatformChoice,
) -> Result<LocalImage> {
    Ok(look_through(layout, reference, choice)?.0)
}

/// The same; `None` if any of its layers is not compressed.
pub(super) fn open_compressed(
    layout: Layout<'_>,
    reference: Option<&str>,
    choice: &PlatformChoice,
) -> Result<Option<LocalImage>> {
    let (image, has_tars) = look_through(layout, reference, choice)?;
    Ok((!has_tars).then_some(image))
}

/// The image, and whether it has layers that are not compressed.
fn look_through(
    layout: Layout<'_>,
    reference: Option<&str>,
    choice: &PlatformChoice,
) -> Result<(LocalImage, bool)> {
    if !layout.has(MARKER) {
        let problem = format!("it is no OCI layout, for it has no file {MARKER}");
        return Err(damaged(layout.name(), problem));
    }
    let top: Index = layout.parse(INDEX, &layout.read(INDEX)?)?;
    let walk = Walk::new(layout);
    let named = pick(&walk, &top.manifests, reference)?;
    let root = platform::narrow(&walk, named, choice)?;
    walk.image(&root, &top.manifests)
}

fn pick(walk: &Walk<'_>, images: &[Descriptor], reference: Option<&str>) -> Result<Descriptor> {
    let layout = walk.layout();
    let choices: Vec<&str> = images.iter().filter_map(name).collect();
    let mut matching: BTreeMap<&Digest, &Descriptor> = BTreeMap::new();
    for image in images {
        if reference.is_none_or(|reference| is_named(image, reference)) {
            matching.insert(&image.digest, image);
        }
    }
    if reference.is_none() && matching.len() > 1 {
        // What refers to another is not what is meant.
        matching.retain(|_, image| walk.subject(image).is_none());
    }
    match (matching.pop_first(), matching.is_empty(), reference) {
        (Some((_, image)), true, _) => Ok(image.clone()),
        (Some(_), false, Some(reference)) => {
            Err(damaged(layout.name(), format!("it has several images of the name {reference}")))
        }
        (None, _, None) => Err(damaged(layout.name(), "it has no image")),
        _ => Err(choose(layout.name(), reference, &choices)),
    }
}

/// What people call an image.
fn name(image: &Descriptor) -> Option<&str> {
    let annotation = |key: &str| image.annotations.get(key).map(String::as_str);
    annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME))
}

fn is_named(image: &Descriptor, reference: &str) -> bool {
    let annotation = |key: &str| image.annotations.get(key).map(String::as_str);
    annotation(REF_NAME) == Some(reference)
        || annotation(CONTAINERD_NAME).is_some_and(|name| familiar(name) == familiar(reference))
}
