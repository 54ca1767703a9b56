//! Images in a folder of the OCI image layout.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{choose, damaged};
use crate::distribution::{ImageManifest, Index, Manifest};
use crate::error::{Error, Result};
use crate::model::Digest;
use crate::model::{Descriptor, media_type};
use crate::push::{LocalBlob, LocalImage, regular_file};

/// The file that makes a folder a layout.
pub(super) const MARKER: &str = "oci-layout";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// An index of indexes is legal, but nobody builds a tower of them.
const MAX_DEPTH: usize = 4;
/// Far more than there are platforms; a bound on what a hostile layout makes us hold.
const MAX_MANIFESTS: usize = 256;

/// The image of the layout at `path` that `reference` names, or its only one.
pub(super) fn open(path: &Path, reference: Option<&str>) -> Result<LocalImage> {
    if !path.join(MARKER).is_file() {
        return Err(damaged(path, format!("it is no OCI layout, for it has no file {MARKER}")));
    }
    let top: Index = parse(&path.join("index.json"))?;
    let root = pick(path, top.manifests, reference)?;
    let mut walk = Walk { layout: path, seen: HashSet::new(), manifests: vec![], blobs: vec![] };
    walk.visit(&root, 0)?;
    // Each comes after what it names, so the root is the last.
    match walk.manifests.pop() {
        Some(root) => Ok(LocalImage::new(walk.manifests, root, walk.blobs)),
        None => Err(damaged(path, "it has no image")),
    }
}

fn pick(path: &Path, images: Vec<Descriptor>, reference: Option<&str>) -> Result<Descriptor> {
    let name = |image: &Descriptor| image.annotations.get(REF_NAME).cloned();
    let choices: Vec<String> = images.iter().filter_map(name).collect();
    let mut matching: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for image in images {
        if reference.is_none() || name(&image).as_deref() == reference {
            matching.insert(image.digest.clone(), image);
        }
    }
    match (matching.pop_first(), matching.is_empty(), reference) {
        (Some((_, image)), true, _) => Ok(image),
        (Some(_), false, Some(reference)) => {
            Err(damaged(path, format!("it has several images of the name {reference}")))
        }
        (None, _, None) => Err(damaged(path, "it has no image")),
        _ => Err(choose(path, reference, &choices)),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let content = regular_file::read(path, Manifest::MAX_LEN)?;
    decode(path, &content)
}

fn decode<T: for<'de> Deserialize<'de>>(path: &Path, content: &[u8]) -> Result<T> {
    serde_json::from_slice(content)
        .map_err(|error| Error::failed(format!("{} makes no sense", path.display()), error))
}

/// A walk through all that an image names, each once.
struct Walk<'a> {
    layout: &'a Path,
    seen: HashSet<Digest>,
    manifests: Vec<Manifest>,
    blobs: Vec<LocalBlob>,
}

impl Walk<'_> {
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if depth > MAX_DEPTH || self.seen.len() > MAX_MANIFESTS {
            return Err(damaged(self.layout, "its indexes name too many others"));
        }
        let path = self.blob_path(&descriptor.digest);
        let manifest = self.read(descriptor, &path)?;
        if media_type::is_index(&descriptor.media_type) {
            let index: Index = decode(&path, &manifest.bytes)?;
            for child in &index.manifests {
                self.visit(child, depth + 1)?;
            }
        } else if media_type::is_manifest(&descriptor.media_type) {
            let image: ImageManifest = decode(&path, &manifest.bytes)?;
            for blob in std::iter::once(&image.config).chain(&image.layers) {
                self.blobs.extend(self.find(blob)?);
            }
        } else {
            let problem = format!("{:?} is no type of a manifest", descriptor.media_type);
            return Err(damaged(&path, problem));
        }
        self.manifests.push(manifest);
        Ok(())
    }

    fn read(&self, descriptor: &Descriptor, path: &Path) -> Result<Manifest> {
        let bytes = regular_file::read(path, Manifest::MAX_LEN)?;
        let algorithm = descriptor.digest.algorithm();
        let manifest = Manifest::with_algorithm(&descriptor.media_type, bytes, algorithm);
        if manifest.digest != descriptor.digest {
            return Err(damaged(path, format!("its content is {}", manifest.digest)));
        }
        self.check_size(descriptor, path, manifest.bytes.len() as u64)?;
        Ok(manifest)
    }

    /// A blob of the layout; `None` for a layer that is to be had elsewhere.
    fn find(&self, descriptor: &Descriptor) -> Result<Option<LocalBlob>> {
        let path = self.blob_path(&descriptor.digest);
        match regular_file::size(&path) {
            Err(Error::NotFound { .. }) if !descriptor.urls.is_empty() => Ok(None),
            found => {
                self.check_size(descriptor, &path, found?)?;
                let Descriptor { digest, size, .. } = descriptor;
                Ok(Some(LocalBlob::file(digest.clone(), *size, path)))
            }
        }
    }

    fn check_size(&self, descriptor: &Descriptor, path: &Path, found: u64) -> Result<()> {
        if found == descriptor.size {
            return Ok(());
        }
        let promised = descriptor.size;
        Err(damaged(path, format!("it has {found} bytes, and should have {promised}")))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.layout.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }
}
