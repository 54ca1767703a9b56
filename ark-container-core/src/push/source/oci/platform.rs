//! Which image of an index is meant.

use std::collections::HashSet;

use serde::Deserialize;

use super::super::{elsewhere, several};
use super::layout::{Layout, blob_name};
use super::walk::{MAX_DEPTH, MAX_MANIFESTS, Walk, too_many};
use crate::distribution::{ImageManifest, Index};
use crate::error::Result;
use crate::model::{Descriptor, Platform, media_type};
use crate::push::PlatformChoice;

/// What builders write for what is attached to an image, which runs nowhere.
///
/// Source: <https://github.com/moby/buildkit/blob/v0.18.0/docs/attestations/attestation-storage.md>
const UNKNOWN: &str = "unknown";

/// An image that an index names, at any depth.
struct Entry {
    image: Descriptor,
    platform: Option<Platform>,
    is_here: bool,
}

/// What is meant of the image that `named` stands for.
pub(super) fn narrow(
    walk: &Walk<'_>,
    named: Descriptor,
    choice: &PlatformChoice,
) -> Result<Descriptor> {
    let layout = walk.layout();
    if !media_type::is_index(&named.media_type) {
        return match choice {
            PlatformChoice::One(wanted) => only(layout, named, wanted),
            PlatformChoice::Only | PlatformChoice::All => Ok(named),
        };
    }
    match choice {
        PlatformChoice::All => Ok(named),
        PlatformChoice::One(wanted) => one(layout, &entries(layout, &named)?, wanted),
        PlatformChoice::Only => {
            let entries = entries(layout, &named)?;
            undisputed(layout, named, &entries)
        }
    }
}

/// An image that no index is around, if it is for the platform.
fn only(layout: Layout<'_>, image: Descriptor, wanted: &Platform) -> Result<Descriptor> {
    let found = platform_of(layout, &image);
    match &found {
        Some(found) if wanted.admits(found) => Ok(image),
        found => Err(elsewhere(layout.name(), wanted, found)),
    }
}

/// The image for a platform: the one that says so to the letter before others that would do.
fn one(layout: Layout<'_>, entries: &[Entry], wanted: &Platform) -> Result<Descriptor> {
    let images: Vec<(&Descriptor, &Platform)> = entries
        .iter()
        .filter_map(|entry| Some((&entry.image, entry.platform.as_ref()?)))
        .filter(|(_, found)| wanted.admits(found))
        .collect();
    let exact = images.iter().find(|(_, found)| wanted.is_same_as(found));
    match (exact, images.as_slice()) {
        (Some((image, _)), _) | (None, [(image, _)]) => Ok((*image).clone()),
        (None, []) => {
            let found = entries.iter().filter_map(|entry| entry.platform.as_ref());
            Err(elsewhere(layout.name(), wanted, found))
        }
        (None, several_fit) => {
            Err(several(layout.name(), several_fit.iter().map(|(_, platform)| *platform)))
        }
    }
}

/// The whole index if it has one platform, or its one image that is here.
fn undisputed(layout: Layout<'_>, index: Descriptor, entries: &[Entry]) -> Result<Descriptor> {
    let images: Vec<(&Descriptor, &Platform)> = entries
        .iter()
        .filter(|entry| entry.is_here)
        .filter_map(|entry| Some((&entry.image, entry.platform.as_ref()?)))
        .collect();
    match images.as_slice() {
        [first, others @ ..] if others.iter().any(|other| !first.1.is_same_as(other.1)) => {
            Err(several(layout.name(), images.iter().map(|(_, platform)| *platform)))
        }
        [(image, _)] if entries.iter().any(|entry| !entry.is_here) => Ok((*image).clone()),
        _ => Ok(index),
    }
}

/// The images of an index and of those in it.
fn entries(layout: Layout<'_>, index: &Descriptor) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut indexes = vec![(index.clone(), 0)];
    let mut seen = HashSet::new();
    while let Some((descriptor, depth)) = indexes.pop() {
        let content = layout.manifest(&descriptor)?;
        let index: Index = layout.parse(&blob_name(&descriptor.digest), &content.bytes)?;
        for image in index.manifests {
            // Named by several, it would be walked through as often as there are ways to it.
            if !seen.insert(image.digest.clone()) {
                continue;
            }
            if entries.len() + indexes.len() > MAX_MANIFESTS || depth > MAX_DEPTH {
                return Err(too_many(layout));
            }
            let is_here = layout.has(&blob_name(&image.digest));
            if media_type::is_index(&image.media_type) && is_here {
                indexes.push((image, depth + 1));
                continue;
            }
            let platform = image.platform.clone().or_else(|| platform_of(layout, &image));
            let platform = platform.filter(|platform| platform.os != UNKNOWN);
            entries.push(Entry { image, platform, is_here });
        }
    }
    Ok(entries)
}

/// What an image says in its configuration; `None` if it says nothing of the kind.
fn platform_of(layout: Layout<'_>, image: &Descriptor) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(flatten)]
        platform: Platform,
    }

    let manifest = layout.manifest(image).ok()?;
    let manifest: ImageManifest = serde_json::from_slice(&manifest.bytes).ok()?;
    let config = layout.manifest(&manifest.config).ok()?;
    let named: Named = serde_json::from_slice(&config.bytes).ok()?;
    Some(named.platform)
}
