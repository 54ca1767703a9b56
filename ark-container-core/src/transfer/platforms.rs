//! [`PlatformChoice`]: selects the platforms of an image. The rules are the same for every source.

use std::collections::HashSet;

use super::image::Source;
use crate::distribution::{Manifest, ManifestBounds, images_for, platform_names};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Platform, media_type};

/// The selection of platforms of an image with an index.
///
/// If the source does not have the selected platforms, the error is [`Error::InvalidInput`], with the existing ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformChoice {
    /// The image as it is at the source: the whole index with all its platforms and attestations.
    ///
    /// After a pull, docker has only one of the platforms in the index. Then this is the image for that platform. For
    /// any other source, a missing platform is an error.
    #[default]
    AsIs,
    /// The image for this platform, without the index.
    One(Platform),
    /// The whole index with all its platforms. A missing platform is an error.
    All,
}

/// An image in an index, at any depth.
struct Entry {
    image: Descriptor,
    platform: Option<Platform>,
    exists: bool,
}

/// Returns the selected image in `root`.
pub(super) async fn select(
    source: &dyn Source,
    root: Manifest,
    choice: &PlatformChoice,
) -> Result<Manifest> {
    if !media_type::is_index(&root.media_type) {
        let PlatformChoice::One(wanted) = choice else { return Ok(root) };
        return match configured(source, &root).await? {
            Some(found) if wanted.admits(&found) => Ok(root),
            found => Err(no_such_platform(source, wanted, &found)),
        };
    }
    let is_whole = match choice {
        PlatformChoice::One(_) => false,
        _ => is_complete(source, &root).await?,
    };
    if is_whole {
        return Ok(root);
    }
    let entries = entries(source, &root).await?;
    let images = entries.iter().filter_map(|entry| Some((entry, entry.platform.as_ref()?)));
    let existing: Vec<(&Descriptor, &Platform)> = images
        .clone()
        .filter(|(entry, _)| entry.exists)
        .map(|(entry, platform)| (&entry.image, platform))
        .collect();
    let missing =
        platform_names(images.filter(|(entry, _)| !entry.exists).map(|(_, platform)| platform));
    match choice {
        PlatformChoice::One(wanted) => {
            match images_for(existing.iter().copied(), wanted).as_slice() {
                [(image, _)] => source.manifest(image).await,
                [] => Err(no_such_platform(
                    source,
                    wanted,
                    existing.into_iter().map(|(_, found)| found),
                )),
                fitting => Err(ambiguous(source, wanted, fitting.iter().map(|(_, found)| *found))),
            }
        }
        PlatformChoice::AsIs if existing.len() == 1 && source.may_lack_platforms() => {
            source.manifest(existing[0].0).await
        }
        _ if missing.is_empty() => Ok(root),
        PlatformChoice::AsIs | PlatformChoice::All => {
            let found = platform_names(existing.into_iter().map(|(_, found)| found));
            Err(Error::invalid(format!(
                "{} does not have all platforms of the image; it has {found}, and lacks {missing}",
                source.name()
            )))
        }
    }
}

/// Returns the platforms of an image, from its index or its configuration.
pub(super) async fn platforms(source: &dyn Source, root: &Manifest) -> Result<Vec<Platform>> {
    if !media_type::is_index(&root.media_type) {
        return Ok(configured(source, root).await?.into_iter().collect());
    }
    let entries = entries(source, root).await?;
    Ok(entries.into_iter().filter_map(|entry| entry.platform).collect())
}

/// Returns whether the source has all images in an index.
async fn is_complete(source: &dyn Source, index: &Manifest) -> Result<bool> {
    for child in index.content()?.listed() {
        if !source.has(child).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the images in an index and in its nested indexes.
async fn entries(source: &dyn Source, root: &Manifest) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut indexes = vec![(root.clone(), 0)];
    let mut seen = HashSet::new();
    let mut bounds = ManifestBounds::default();
    while let Some((index, depth)) = indexes.pop() {
        for image in index.content()?.into_listed() {
            // An image in several indexes counts once.
            if !seen.insert(image.digest.clone()) {
                continue;
            }
            let exists = source.has(&image).await?;
            if media_type::is_index(&image.media_type) && exists {
                let counted = bounds.add(image.size, depth + 1);
                counted
                    .map_err(|problem| Error::failed(format!("{}: {problem}", source.name())))?;
                indexes.push((source.manifest(&image).await?, depth + 1));
                continue;
            }
            let mut platform = image.platform.clone();
            if platform.is_none() && exists && media_type::is_manifest(&image.media_type) {
                platform = configured(source, &source.manifest(&image).await?).await?;
            }
            let platform = platform.filter(Platform::is_known);
            entries.push(Entry { image, platform, exists });
        }
    }
    Ok(entries)
}

/// Returns the platform in the configuration of an image; `None` for an artifact.
pub(super) async fn configured(
    source: &dyn Source,
    manifest: &Manifest,
) -> Result<Option<Platform>> {
    match manifest.content()?.image_config() {
        Some(config) => Ok(Platform::of_config(source.config(config).await?.as_slice())),
        None => Ok(None),
    }
}

fn no_such_platform<'a>(
    source: &dyn Source,
    wanted: &Platform,
    found: impl IntoIterator<Item = &'a Platform>,
) -> Error {
    let found = match platform_names(found) {
        found if found.is_empty() => "its platform is unknown".to_owned(),
        found => format!("it has: {found}"),
    };
    Error::invalid(format!("{} has no image for {wanted}; {found}", source.name()))
}

fn ambiguous<'a>(
    source: &dyn Source,
    wanted: &Platform,
    found: impl IntoIterator<Item = &'a Platform>,
) -> Error {
    let found = platform_names(found);
    Error::invalid(format!(
        "{} has several images for {wanted}; choose one of: {found}",
        source.name()
    ))
}
