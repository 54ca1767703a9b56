//! Images in an OCI layout: in a folder, or in an archive of one.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::archive::Archive;
use super::docker_archive::familiar;
use super::{choose, damaged, elsewhere, several};
use crate::distribution::{Manifest, ManifestBounds, images_for};
use crate::error::Result;
use crate::model::{Descriptor, Digest, ManifestContent, Platform, media_type};
use crate::transfer::local_file::{read_regular, regular_size};
use crate::transfer::{LocalBlob, LocalImage, PlatformChoice};

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
    let top = layout.parse(INDEX, media_type::OCI_INDEX, &layout.read(INDEX)?)?;
    let walk = Walk::new(layout);
    let named = pick(&walk, top.listed(), reference)?;
    let root = narrow(&walk, named, choice)?;
    walk.image(&root, top.listed())
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

/// An image that an index names, at any depth.
struct Entry {
    image: Descriptor,
    platform: Option<Platform>,
    is_here: bool,
}

/// What is meant of the image that `named` stands for.
fn narrow(walk: &Walk<'_>, named: Descriptor, choice: &PlatformChoice) -> Result<Descriptor> {
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
    let images = entries.iter().filter_map(|entry| Some((&entry.image, entry.platform.as_ref()?)));
    match images_for(images, wanted).as_slice() {
        [(image, _)] => Ok((*image).clone()),
        [] => {
            let found = entries.iter().filter_map(|entry| entry.platform.as_ref());
            Err(elsewhere(layout.name(), wanted, found))
        }
        fitting => Err(several(layout.name(), fitting.iter().map(|(_, platform)| *platform))),
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
    let mut bounds = ManifestBounds::default();
    while let Some((descriptor, depth)) = indexes.pop() {
        bounds.add(descriptor.size, depth).map_err(|problem| damaged(layout.name(), problem))?;
        for image in layout.content(&descriptor)?.1.into_listed() {
            // Named by several, it would be walked through as often as there are ways to it.
            if !seen.insert(image.digest.clone()) {
                continue;
            }
            let is_here = layout.has(&blob_name(&image.digest));
            if media_type::is_index(&image.media_type) && is_here {
                indexes.push((image, depth + 1));
                continue;
            }
            let platform = image.platform.clone().or_else(|| platform_of(layout, &image));
            let platform = platform.filter(Platform::is_known);
            entries.push(Entry { image, platform, is_here });
        }
    }
    Ok(entries)
}

/// What an image says in its configuration; `None` if it says nothing of the kind.
fn platform_of(layout: Layout<'_>, image: &Descriptor) -> Option<Platform> {
    let (_, content) = layout.content(image).ok()?;
    let config = layout.manifest(content.image_config()?).ok()?;
    Platform::of_config(&config.bytes)
}

/// A walk through a layout, which takes each of its parts once.
struct Walk<'a> {
    layout: Layout<'a>,
    seen: HashSet<Digest>,
    manifests: Vec<Manifest>,
    bounds: ManifestBounds,
    blobs: Vec<LocalBlob>,
    has_tars: bool,
}

impl<'a> Walk<'a> {
    fn new(layout: Layout<'a>) -> Self {
        Self {
            layout,
            seen: HashSet::new(),
            manifests: Vec::new(),
            bounds: ManifestBounds::default(),
            blobs: Vec::new(),
            has_tars: false,
        }
    }

    fn layout(&self) -> Layout<'a> {
        self.layout
    }

    /// What a manifest says that it refers to.
    ///
    /// One that cannot be read says nothing: it is not of the image that is meant.
    fn subject(&self, descriptor: &Descriptor) -> Option<Digest> {
        if !descriptor.is_manifest() {
            return None;
        }
        let (_, content) = self.layout.content(descriptor).ok()?;
        Some(content.subject()?.digest.clone())
    }

    /// The image below `root`, with what refers to it among `top`; and whether any of its layers is
    /// not compressed.
    fn image(mut self, root: &Descriptor, top: &[Descriptor]) -> Result<(LocalImage, bool)> {
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
        let bounded = self.bounds.add(descriptor.size, depth);
        bounded.map_err(|problem| damaged(self.layout.name(), problem))?;
        let (manifest, content) = self.layout.content(descriptor)?;
        for child in content.manifests() {
            self.visit(child, depth + 1)?;
        }
        for blob in content.blobs() {
            self.has_tars |= is_tar(blob);
            // A layer that is to be had elsewhere may be absent.
            if !blob.may_be_missing() || self.layout.has(&blob_name(&blob.digest)) {
                self.blobs.push(self.layout.blob(blob)?);
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

/// The file that makes a folder or an archive a layout.
pub(super) const MARKER: &str = "oci-layout";

/// The files of a layout.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout<'a> {
    /// In a folder.
    Folder(&'a Path),
    /// In an archive, which is not unpacked.
    Archive(&'a Archive),
}

impl<'a> Layout<'a> {
    /// What errors call it.
    fn name(self) -> Cow<'a, str> {
        match self {
            Self::Folder(path) => path.to_string_lossy(),
            Self::Archive(archive) => archive.file().name().into(),
        }
    }

    /// What errors call a file of it.
    fn place(self, name: &str) -> String {
        match self {
            Self::Folder(path) => path.join(name).display().to_string(),
            Self::Archive(archive) => format!("{name} in {}", archive.file().name()),
        }
    }

    /// Whether it has a file of this name.
    fn has(self, name: &str) -> bool {
        match self {
            Self::Folder(path) => path.join(name).is_file(),
            Self::Archive(archive) => archive.has(name),
        }
    }

    /// A file that is to be held in memory: no larger than a manifest may be.
    fn read(self, name: &str) -> Result<Vec<u8>> {
        match self {
            Self::Folder(path) => read_regular(&path.join(name), Manifest::MAX_LEN),
            Self::Archive(archive) => archive.read(name, Manifest::MAX_LEN),
        }
    }

    /// Parses a manifest or index in a file.
    fn parse(self, name: &str, media_type: &str, bytes: &[u8]) -> Result<ManifestContent> {
        ManifestContent::parse(media_type, bytes)
            .map_err(|problem| damaged(self.place(name), format!("it is invalid: {problem}")))
    }

    /// A manifest or index with its content.
    fn content(self, descriptor: &Descriptor) -> Result<(Manifest, ManifestContent)> {
        let manifest = self.manifest(descriptor)?;
        let name = blob_name(&descriptor.digest);
        let content = self.parse(&name, &manifest.media_type, &manifest.bytes)?;
        Ok((manifest, content))
    }

    /// A manifest or index, which is what its descriptor says.
    fn manifest(self, descriptor: &Descriptor) -> Result<Manifest> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.read(&name)?;
        let algorithm = descriptor.digest.algorithm();
        let manifest = Manifest::with_algorithm(&descriptor.media_type, bytes, algorithm);
        if manifest.digest != descriptor.digest {
            let problem = format!("its content is {}", manifest.digest);
            return Err(damaged(self.place(&name), problem));
        }
        self.check_size(descriptor, manifest.bytes.len() as u64)?;
        Ok(manifest)
    }

    /// A configuration or layer, whose content is yet to be looked at.
    fn blob(self, descriptor: &Descriptor) -> Result<LocalBlob> {
        let Descriptor { digest, size, .. } = descriptor;
        let name = blob_name(digest);
        match self {
            Self::Folder(path) => {
                let path = path.join(name);
                self.check_size(descriptor, regular_size(&path)?)?;
                Ok(LocalBlob::file(digest.clone(), *size, path))
            }
            Self::Archive(archive) => {
                let region = archive.find(&name)?;
                self.check_size(descriptor, region.size)?;
                let file = archive.file();
                Ok(LocalBlob::member(digest.clone(), *size, file, region.offset, name))
            }
        }
    }

    fn check_size(self, descriptor: &Descriptor, found: u64) -> Result<()> {
        let promised = descriptor.size;
        if found == promised {
            return Ok(());
        }
        let problem = format!("it has {found} bytes, and should have {promised}");
        Err(damaged(self.place(&blob_name(&descriptor.digest)), problem))
    }
}

/// The file of a blob.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}
