//! Images in an archive of `docker save` or `podman save`, old style and new.
//!
//! Source: <https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md#combined-image-json--filesystem-changeset-format>

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::archive::{Archive, Region};
use super::{choose, damaged, oci_layout};
use crate::digester::Digester;
use crate::distribution::{ImageManifest, Manifest};
use crate::error::{Error, Result};
use crate::model::{Algorithm, Digest};
use crate::model::{Descriptor, media_type};
use crate::push::{LocalBlob, LocalImage, regular_file};

const LISTING: &str = "manifest.json";
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
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// The image of the archive at `path` that `reference` names, or its only one.
pub(super) fn open(path: &Path, reference: Option<&str>) -> Result<LocalImage> {
    let archive = Archive::open(path)?;
    if !archive.has(LISTING) {
        let hint = match archive.has(oci_layout::MARKER) {
            true => "it is an OCI archive: unpack it and name the folder, as oci:DIR",
            false => "it is no docker archive, for it has no manifest.json",
        };
        return Err(damaged(path, hint));
    }
    let listing: Vec<Listed> = parse(&archive, LISTING, &archive.read(LISTING, MAX_JSON_LEN)?)?;
    let listed = pick(path, listing, reference)?;
    let content = archive.read(&listed.config, MAX_JSON_LEN)?;
    let config: Config = parse(&archive, &listed.config, &content)?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let names = listed.layers.unwrap_or_default();
    if diff_ids.len() != names.len() {
        let (promised, found) = (diff_ids.len(), names.len());
        let problem = format!("its configuration has {promised} layers, its listing {found}");
        return Err(damaged(path, problem));
    }
    let digest = Digester::digest(Algorithm::Sha256, &content);
    let (config, config_blob) = part(&archive, &listed.config, media_type::OCI_CONFIG, digest)?;
    let layers: Vec<_> = names
        .iter()
        .zip(diff_ids)
        .map(|(name, diff_id)| layer(&archive, name, diff_id))
        .collect::<Result<_>>()?;
    let (layers, layer_blobs): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
    // The manifest that such an archive lacks.
    let root = ImageManifest::new(config, layers).to_manifest()?;
    let blobs = std::iter::once(config_blob).chain(layer_blobs);
    Ok(LocalImage::new(Vec::new(), root, blobs.collect()))
}

fn pick(path: &Path, mut images: Vec<Listed>, reference: Option<&str>) -> Result<Listed> {
    let tags = |image: &Listed| image.repo_tags.clone().unwrap_or_default();
    let choices: Vec<String> = images.iter().flat_map(tags).collect();
    if let Some(reference) = reference {
        let is = |matches: &dyn Fn(&str) -> bool| {
            images.iter().position(|image| tags(image).iter().any(|tag| matches(tag)))
        };
        let exactly = is(&|tag| tag == reference);
        match exactly.or_else(|| is(&|tag| familiar(tag) == familiar(reference))) {
            Some(index) => Ok(images.swap_remove(index)),
            None => Err(choose(path, Some(reference), &choices)),
        }
    } else {
        match (images.pop(), images.is_empty()) {
            (Some(image), true) => Ok(image),
            (None, _) => Err(damaged(path, "its listing names no image")),
            (Some(_), false) => Err(choose(path, None, &choices)),
        }
    }
}

/// A name as docker shows it: without the registry that it assumes, with the tag that it assumes.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains(':') { short.to_owned() } else { format!("{short}:latest") }
}

fn parse<T: for<'de> Deserialize<'de>>(archive: &Archive, name: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| {
        Error::failed(format!("{name} in {} makes no sense", archive.path().display()), error)
    })
}

/// A layer. Where it is a plain tar, it is called by its diff ID, and the registry verifies that.
fn layer(archive: &Archive, name: &str, diff_id: Digest) -> Result<(Descriptor, LocalBlob)> {
    let region = archive.find(name)?;
    let mut magic = Vec::new();
    archive
        .reader(Region { size: region.size.min(4), ..region })?
        .read_to_end(&mut magic)
        .map_err(|error| regular_file::unreadable(archive.path(), error))?;
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => {
            let digest = hash(archive, region)?;
            part(archive, name, media_type::OCI_LAYER_GZIP, digest)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let digest = hash(archive, region)?;
            part(archive, name, media_type::OCI_LAYER_ZSTD, digest)
        }
        _ => part(archive, name, media_type::OCI_LAYER, diff_id),
    }
}

fn hash(archive: &Archive, region: Region) -> Result<Digest> {
    let mut reader = archive.reader(region)?;
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(digester.finish()),
            Ok(read) => digester.update(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(regular_file::unreadable(archive.path(), error)),
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
    let blob = LocalBlob::member(digest, size, archive.path(), offset, name.to_owned());
    Ok((descriptor, blob))
}
