//! [`Walk`]: gathering all that an image names.

use std::collections::HashSet;

use super::super::damaged;
use super::layout::{Layout, blob_name};
use crate::distribution::{ImageManifest, Index, Manifest, Referring};
use crate::error::{Error, Result};
use crate::model::{Descriptor, Digest, media_type};
use crate::push::{LocalBlob, LocalImage};

/// An index of indexes is legal, but nobody builds a tower of them.
pub(super) const MAX_DEPTH: usize = 4;
/// Far more than there are platforms; a bound on what a hostile layout makes us hold.
pub(super) const MAX_MANIFESTS: usize = 256;
/// What the manifests of an image may amount to, in bytes: each may have 4 MiB, and has a few kB.
const MAX_MANIFESTS_LEN: usize = 32 * 1024 * 1024;

/// A walk through a layout, which takes each of its parts once.
pub(super) struct Walk<'a> {
    layout: Layout<'a>,
    seen: HashSet<Digest>,
    manifests: Vec<Manifest>,
    manifests_len: usize,
    blobs: Vec<LocalBlob>,
    has_tars: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(layout: Layout<'a>) -> Self {
        Self {
            layout,
            seen: HashSet::new(),
            manifests: Vec::new(),
            manifests_len: 0,
            blobs: Vec::new(),
            has_tars: false,
        }
    }

    pub(super) fn layout(&self) -> Layout<'a> {
        self.layout
    }

    /// What a manifest says that it refers to.
    ///
    /// One that cannot be read says nothing: it is not of the image that is meant.
    pub(super) fn subject(&self, descriptor: &Descriptor) -> Option<Digest> {
        if !media_type::is_manifest(&descriptor.media_type)
            && !media_type::is_index(&descriptor.media_type)
        {
            return None;
        }
        let manifest = self.layout.manifest(descriptor).ok()?;
        Some(Referring::of(&manifest)?.subject.digest)
    }

    /// The image below `root`, with what refers to it among `top`; and whether any of its layers is
    /// not compressed.
    pub(super) fn image(
        mut self,
        root: &Descriptor,
        top: &[Descriptor],
    ) -> Result<(LocalImage, bool)> {
        self.visit(root, 0)?;
        let mut manifests = std::mem::take(&mut self.manifests);
        let has_tars = self.has_tars;
        self.visit_referrers(top)?;
        // Each comes after what it names, so the root is the last.
        match manifests.pop() {
            Some(root) => {
                let image = LocalImage::whole(manifests, root, self.manifests, self.blobs);
                Ok((image, has_tars))
            }
            None => Err(damaged(self.layout.name(), "it has no image")),
        }
    }

    /// Takes in what refers to what was taken in, until there is no more.
    fn visit_referrers(&mut self, top: &[Descriptor]) -> Result<()> {
        let mut looked_at = HashSet::new();
        let mut referring: Vec<(Digest, &Descriptor)> = Vec::new();
        for descriptor in top {
            if !self.seen.contains(&descriptor.digest) && looked_at.insert(&descriptor.digest) {
                referring.extend(self.subject(descriptor).map(|subject| (subject, descriptor)));
            }
        }
        while let Some(next) = referring.iter().position(|(subject, _)| self.seen.contains(subject))
        {
            let (_, descriptor) = referring.swap_remove(next);
            self.visit(descriptor, 0)?;
        }
        Ok(())
    }

    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if depth > MAX_DEPTH || self.seen.len() > MAX_MANIFESTS {
            return Err(too_many(self.layout));
        }
        let name = blob_name(&descriptor.digest);
        let kind = descriptor.media_type.as_str();
        if !media_type::is_index(kind) && !media_type::is_manifest(kind) {
            let problem = format!("{kind:?} is no type of a manifest");
            return Err(damaged(self.layout.place(&name), problem));
        }
        let manifest = self.layout.manifest(descriptor)?;
        self.manifests_len += manifest.bytes.len();
        if self.manifests_len > MAX_MANIFESTS_LEN {
            let problem = format!("its manifests have more than {MAX_MANIFESTS_LEN} bytes");
            return Err(damaged(self.layout.name(), problem));
        }
        if media_type::is_index(kind) {
            let index: Index = self.layout.parse(&name, &manifest.bytes)?;
            for child in &index.manifests {
                self.visit(child, depth + 1)?;
            }
        } else {
            let image: ImageManifest = self.layout.parse(&name, &manifest.bytes)?;
            self.has_tars |= image.layers.iter().any(is_tar);
            for blob in std::iter::once(&image.config).chain(&image.layers) {
                // A layer that is to be had elsewhere may be absent.
                if blob.urls.is_empty() || self.layout.has(&blob_name(&blob.digest)) {
                    self.blobs.push(self.layout.blob(blob)?);
                }
            }
        }
        self.manifests.push(manifest);
        Ok(())
    }
}

/// Whether a layer is a tar that is not compressed, by OCI's words and by docker's.
fn is_tar(layer: &Descriptor) -> bool {
    layer.media_type.ends_with(".tar")
}

pub(super) fn too_many(layout: Layout<'_>) -> Error {
    damaged(layout.name(), "its indexes name too many others")
}
