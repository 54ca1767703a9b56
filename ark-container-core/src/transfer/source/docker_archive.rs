//! Images in an archive of `docker save` or `podman save`, old style and new.
//!
//! Source: <https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md#combined-image-json--filesystem-changeset-format>

use std::io::Read;

use serde::Deserialize;

use super::archive::{Archive, Region};
use super::layout::{self, Layout};
use super::{choose, damaged, elsewhere};
use crate::digester::Digester;
use crate::distribution::Manifest;
use crate::error::{Error, Result};
use crate::model::{Algorithm, Digest, Platform};
use crate::model::{Descriptor, media_type};
use crate::transfer::{ImageSelector, Layer, LocalBlob, LocalImage, PlatformChoice};

/// The file that makes an archive one of docker's.
pub(super) const LISTING: &str = "manifest.json";
/// Also for the listing, and for the configuration, which the daemon limits in no other way.
const MAX_JSON_LEN: usize = Manifest::MAX_LEN;
const PIECE_LEN: usize = 256 * 1024;

/// One image in the listing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// The image of an archive that is selected, or its only one.
///
/// Since docker 25, there is an OCI layout in it as well. Where docker keeps its images as they came
/// from a registry, that has their own manifests, and is taken; else it was made up to be saved, with
/// layers that are not compressed.
///
/// Source: <https://docs.docker.com/engine/release-notes/25.0/>
pub(super) fn open(
    archive: &Archive,
    selector: Option<&ImageSelector>,
    choice: &PlatformChoice,
) -> Result<LocalImage> {
    if !archive.has(layout::MARKER) {
        return listed(archive, selector, choice);
    }
    match layout::open_compressed(Layout::Archive(archive), selector, choice)? {
        Some(image) => Ok(image),
        None => listed(archive, selector, choice),
    }
}

/// The image as the listing has it.
fn listed(
    archive: &Archive,
    selector: Option<&ImageSelector>,
    choice: &PlatformChoice,
) -> Result<LocalImage> {
    let listing: Vec<Listed> = parse(archive, LISTING, &archive.read(LISTING, MAX_JSON_LEN)?)?;
    let listed = pick(archive, listing, selector)?;
    let content = archive.read(&listed.config, MAX_JSON_LEN)?;
    let config: Config = parse(archive, &listed.config, &content)?;
    config.check(archive, choice)?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let names = listed.layers.unwrap_or_default();
    if diff_ids.len() != names.len() {
        let (promised, found) = (diff_ids.len(), names.len());
        let problem = format!("its configuration has {promised} layers, its listing {found}");
        return Err(damaged(archive.file().name(), problem));
    }
    let digest = Digester::digest(Algorithm::Sha256, &content);
    let (config, config_blob) = part(archive, &listed.config, media_type::OCI_CONFIG, digest)?;
    let layers = names.iter().zip(diff_ids).map(|(name, diff_id)| layer(archive, name, diff_id));
    Ok(LocalImage::in_parts(config, config_blob, layers.collect::<Result<_>>()?))
}

fn pick(
    archive: &Archive,
    mut images: Vec<Listed>,
    selector: Option<&ImageSelector>,
) -> Result<Listed> {
    let path = archive.file().name();
    let tags = |image: &Listed| image.repo_tags.clone().unwrap_or_default();
    let positions = images.iter().enumerate();
    let choices: Vec<String> = positions
        .flat_map(|(position, image)| match tags(image) {
            tags if tags.is_empty() => vec![format!("@{position}")],
            tags => tags,
        })
        .collect();
    let found = match selector {
        None if images.is_empty() => return Err(damaged(path, "its listing names no image")),
        None => (images.len() == 1).then_some(0),
        Some(ImageSelector::Name(name)) => {
            let is = |matches: &dyn Fn(&str) -> bool| {
                images.iter().position(|image| tags(image).iter().any(|tag| matches(tag)))
            };
            is(&|tag| tag == name).or_else(|| is(&|tag| familiar(tag) == familiar(name)))
        }
        Some(ImageSelector::Index(position)) => (*position < images.len()).then_some(*position),
        Some(ImageSelector::Digest(digest)) => {
            // The digest of its configuration, which is its ID in docker.
            let mut found = None;
            for (position, image) in images.iter().enumerate() {
                let config = archive.read(&image.config, MAX_JSON_LEN)?;
                if found.is_none() && Digester::digest(digest.algorithm(), &config) == *digest {
                    found = Some(position);
                }
            }
            found
        }
    };
    match found {
        Some(position) => Ok(images.swap_remove(position)),
        None => Err(choose(path, selector, &choices)),
    }
}

impl Config {
    /// Refuses an image for another platform than the one that is asked for.
    fn check(&self, archive: &Archive, choice: &PlatformChoice) -> Result<()> {
        let PlatformChoice::One(wanted) = choice else { return Ok(()) };
        let found = Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        };
        match wanted.admits(&found) {
            true => Ok(()),
            false => Err(elsewhere(archive.file().name(), wanted, [&found])),
        }
    }
}

/// A name as docker shows it: without the registry that it assumes, with the tag that it assumes.
pub(super) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') { short.to_owned() } else { format!("{short}:latest") }
}

fn parse<T: for<'de> Deserialize<'de>>(archive: &Archive, name: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        Error::failed(format!("{name} in {} makes no sense", archive.file().name()))
            .with_source(error)
    })
}

/// A layer: a plain tar, or one that was compressed by whoever wrote the archive.
fn layer(archive: &Archive, name: &str, diff_id: Digest) -> Result<Layer> {
    let region = archive.find(name)?;
    let mut magic = Vec::new();
    archive
        .reader(Region { size: region.size.min(4), ..region })
        .read_to_end(&mut magic)
        .map_err(|error| archive.unreadable(error))?;
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => {
            let digest = hash(archive, region)?;
            let (descriptor, blob) = part(archive, name, media_type::OCI_LAYER_GZIP, digest)?;
            Ok(Layer::Ready(descriptor, blob))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let digest = hash(archive, region)?;
            let (descriptor, blob) = part(archive, name, media_type::OCI_LAYER_ZSTD, digest)?;
            Ok(Layer::Ready(descriptor, blob))
        }
        _ => {
            let Region { offset, size } = region;
            let file = archive.file();
            Ok(Layer::Tar(LocalBlob::member(diff_id, size, file, offset, name.to_owned())))
        }
    }
}

fn hash(archive: &Archive, region: Region) -> Result<Digest> {
    let mut reader = archive.reader(region);
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(digester.finish()),
            Ok(read) => digester.update(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(archive.unreadable(error)),
        }
    }
}

fn part(
    archive: &Archive,
    name: &str,
    media_type: &str,
    digest: Digest,
) -> Result<(Descriptor, LocalBlob)> {
    let Region { offset, size } = archive.find(name)?;
    let descriptor = Descriptor::new(media_type, digest.clone(), size);
    let blob = LocalBlob::member(digest, size, archive.file(), offset, name.to_owned());
    Ok((descriptor, blob))
}
