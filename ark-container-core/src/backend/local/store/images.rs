//! Listing and deletion of images and tags.
//!
//! A tag is a file that holds the digest of its manifest.

use std::collections::BTreeMap;

use super::Store;
use super::files::{self, cannot, remove_file};
use super::layout::{Locked, MANIFESTS, RepositoryFolder, tag_of_file};
use super::manifests::{ManifestHeader, find_manifest, image_name, missing_image, resolve};
use crate::backend::Image;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Digest, Reference, RepositoryPath, Tag};

impl Store {
    /// Lists the images of a repository, the newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn images(&self, path: &RepositoryPath) -> Result<Vec<Image>> {
        let folder = self.folder(path)?;
        let digests = folder.digests(MANIFESTS)?;
        // Tags are read after the manifests, so that no tag of a listed image is missed.
        let mut tags = tags_by_digest(&folder)?;
        let mut images = Vec::with_capacity(digests.len());
        for digest in digests {
            // A missing manifest was deleted meanwhile.
            if let Some(header) = ManifestHeader::read(&folder, &digest)? {
                let tags = tags.remove(&digest).unwrap_or_default();
                images.push(Image { tags, ..header.into_image(digest) });
            }
        }
        folder.confirm()?;
        images.sort_unstable_by(|a, b| {
            b.pushed_at.cmp(&a.pushed_at).then_with(|| a.digest.cmp(&b.digest))
        });
        Ok(images)
    }

    /// Describes the image that a tag or digest names, with the details in its manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist.
    pub(crate) fn image(&self, path: &RepositoryPath, reference: &Reference) -> Result<Image> {
        let folder = self.folder(path)?;
        let (digest, header, manifest) = find_manifest(&folder, reference)?;
        let media_type = header.media_type.clone();
        let mut image = header.into_image(digest);
        image.set_manifest(&media_type, &manifest);
        image.tags = tags_of(&folder, &image.digest)?;
        folder.confirm()?;
        Ok(image)
    }

    /// Deletes an image by digest with its tags and blobs, or deletes a tag. An image whose last tag is deleted is
    /// deleted too. Returns the digest of the image.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the image does not exist; [`Error::Conflict`] if `reference` is a
    /// digest and an index refers to the image.
    pub(crate) fn delete_image(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Digest> {
        let locked = self.lock(path)?;
        let digest = resolve(&locked.folder, reference)?;
        let index = index_of(&locked.folder, &digest)?;
        match (reference, index) {
            (Reference::Digest(_), None) => self.remove_manifest(&locked, &digest)?,
            (Reference::Digest(_), Some(index)) => {
                let name = image_name(&locked.folder, reference);
                let problem = format!("is part of the index {index}");
                return Err(Error::conflict(ResourceKind::Image, name, problem));
            }
            (Reference::Tag(tag), index) => {
                remove_tag(&locked, tag)?;
                let is_needed = index.is_some() || !tags_of(&locked.folder, &digest)?.is_empty();
                if !is_needed {
                    self.remove_manifest(&locked, &digest)?;
                }
            }
        }
        Ok(digest)
    }
}

/// Returns an index that refers to a manifest, if there is one.
pub(super) fn index_of(folder: &RepositoryFolder, digest: &Digest) -> Result<Option<Digest>> {
    for candidate in folder.digests(MANIFESTS)? {
        let header = ManifestHeader::read(folder, &candidate)?;
        if header.is_some_and(|header| header.children.contains(digest)) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

impl Store {
    /// Lists at most `limit` tags of a repository after `last`, sorted by their bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    pub(crate) fn tags_after(
        &self,
        path: &RepositoryPath,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Tag>> {
        let folder = self.folder(path)?;
        let tags = folder.first_files(&folder.tags(), limit, |name| {
            tag_of_file(name).filter(|tag| last.is_none_or(|last| tag.as_str() > last))
        })?;
        folder.confirm()?;
        Ok(tags)
    }

    /// Deletes a tag and keeps its image.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the tag does not exist.
    pub(crate) fn delete_tag(&self, path: &RepositoryPath, tag: &Tag) -> Result<()> {
        let locked = self.lock(path)?;
        if remove_tag(&locked, tag)? {
            Ok(())
        } else {
            Err(missing_image(&locked.folder, &Reference::Tag(tag.clone())))
        }
    }

    /// Sets a tag to a manifest.
    pub(super) fn set_tag(&self, locked: &Locked, tag: &Tag, digest: &Digest) -> Result<()> {
        let path = locked.folder.tag(tag);
        locked.folder.create_parents(&path)?;
        self.publish(&path, digest.to_string().as_bytes())
    }
}

/// Returns the digest of the manifest that a tag names; `None` if the tag does not exist.
pub(super) fn tagged_digest(folder: &RepositoryFolder, tag: &Tag) -> Result<Option<Digest>> {
    let path = folder.tag(tag);
    if !folder.is_reachable(&path)? {
        return Ok(None);
    }
    let Some(bytes) = files::read_file(&path).map_err(cannot("read", &path))? else {
        return Ok(None);
    };
    let digest = String::from_utf8_lossy(&bytes).parse();
    digest
        .map(Some)
        .map_err(|error| Error::failed(format!("{} is damaged", path.display())).with_source(error))
}

/// Groups the tags by their manifest, sorted by their bytes.
fn tags_by_digest(folder: &RepositoryFolder) -> Result<BTreeMap<Digest, Vec<Tag>>> {
    let mut tags = BTreeMap::<_, Vec<Tag>>::new();
    for tag in folder.first_files(&folder.tags(), usize::MAX, tag_of_file)? {
        if let Some(digest) = tagged_digest(folder, &tag)? {
            tags.entry(digest).or_default().push(tag);
        }
    }
    Ok(tags)
}

/// Lists the tags of a manifest, sorted by their bytes. No other tag is held in memory.
pub(super) fn tags_of(folder: &RepositoryFolder, digest: &Digest) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    for name in folder.files(&folder.tags())? {
        let Some(tag) = name?.to_str().and_then(tag_of_file) else { continue };
        if tagged_digest(folder, &tag)?.as_ref() == Some(digest) {
            tags.push(tag);
        }
    }
    tags.sort_unstable();
    Ok(tags)
}

/// Removes a tag. Returns whether it existed.
pub(super) fn remove_tag(locked: &Locked, tag: &Tag) -> Result<bool> {
    let path = locked.folder.tag(tag);
    if !locked.folder.is_reachable(&path)? {
        return Ok(false);
    }
    remove_file(&path).map_err(cannot("delete", &path))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{INDEX, MANIFEST, Sample, descriptor, index_of};
    use super::*;

    fn delete(sample: &Sample, path: &RepositoryPath, reference: &str) -> Result<Digest> {
        sample.store.delete_image(path, &reference.parse().unwrap())
    }

    fn digests(sample: &Sample, path: &RepositoryPath) -> Vec<Digest> {
        sample.store.images(path).unwrap().into_iter().map(|image| image.digest).collect()
    }

    /// Pushes an image and an index that refers to it.
    fn with_index(sample: &Sample, path: &RepositoryPath) -> (Digest, Digest) {
        let child = sample.manifest(path, b"layer");
        let digest = sample.put(path, "child", MANIFEST, &child).unwrap().digest;
        let descriptor = descriptor(MANIFEST, child.as_bytes());
        let index = index_of(INDEX, &[descriptor.clone(), descriptor]);
        (digest, sample.put(path, "index", INDEX, &index).unwrap().digest)
    }

    #[test]
    fn images_are_described_newest_first() {
        let (sample, path) = Sample::with_repository("a");
        let (child, index) = with_index(&sample, &path);
        sample.push_image(&path, "also", b"layer");
        let images = sample.store.images(&path).unwrap();
        assert_eq!([&images[0].digest, &images[1].digest], [&index, &child]);
        assert!(images[0].pushed_at >= images[1].pushed_at);
        let tags = |image: &Image| image.tags.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!([tags(&images[0]), tags(&images[1])], [vec!["index"], vec!["also", "child"]]);
        let platforms: Vec<_> = images.iter().map(|image| image.platforms[0].to_string()).collect();
        assert_eq!(platforms, ["linux/arm64/v8"; 2]);
        let manifest = |digest: &Digest| {
            sample.store.manifest(&path, &digest.clone().into()).unwrap().bytes.len() as u64
        };
        let config = br#"{"os":"linux","architecture":"arm64","variant":"v8"}"#.len() as u64;
        assert_eq!(images[1].size, manifest(&child) + config + b"layer".len() as u64);
        assert_eq!(images[0].size, manifest(&index) + images[1].size, "a child counts once");
    }

    #[test]
    fn index_has_platforms_of_its_images() {
        let (sample, path) = Sample::with_repository("a");
        let child = sample.manifest(&path, b"layer");
        sample.put(&path, "child", MANIFEST, &child).unwrap();
        let on = |platform: &str| {
            let descriptor = descriptor(MANIFEST, child.as_bytes());
            descriptor.replacen('{', &format!(r#"{{"platform":{platform},"#), 1)
        };
        let children = [
            on(r#"{"os":"windows","architecture":"amd64","os.version":"10.0"}"#),
            on(r#"{"os":"linux","architecture":"amd64"}"#),
            // If the index does not name the platform, that of the image applies.
            on(r#"{"os":"unknown","architecture":"unknown"}"#),
        ];
        sample.put(&path, "index", INDEX, &index_of(INDEX, &children)).unwrap();
        let images = sample.store.images(&path).unwrap();
        let platforms: Vec<_> = images[0].platforms.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8", "windows/amd64"]);
    }

    #[test]
    fn deleted_last_tag_deletes_its_image() {
        let (sample, path) = Sample::with_repository("a");
        let digest = sample.push_image(&path, "v1", b"layer");
        sample.push_image(&path, "v2", b"layer");
        delete(&sample, &path, "v1").unwrap();
        assert_eq!(digests(&sample, &path), [digest]);
        delete(&sample, &path, "v2").unwrap();
        assert!(digests(&sample, &path).is_empty());
        let again = delete(&sample, &path, "v2").unwrap_err();
        assert!(matches!(again, Error::NotFound { kind: ResourceKind::Image, .. }));
    }

    #[test]
    fn image_of_index_stays_until_index_is_deleted() {
        let (sample, path) = Sample::with_repository("a");
        let (child, index) = with_index(&sample, &path);
        let error = delete(&sample, &path, &child.to_string()).unwrap_err();
        assert_eq!(error.to_string(), format!("image {path}@{child} is part of the index {index}"));
        delete(&sample, &path, "child").unwrap();
        assert_eq!(digests(&sample, &path), [index.clone(), child.clone()]);
        delete(&sample, &path, &index.to_string()).unwrap();
        delete(&sample, &path, &child.to_string()).unwrap();
        assert!(sample.store.tags(&path).unwrap().is_empty());
    }

    #[test]
    fn foreign_files_among_manifests_and_tags_are_ignored() {
        let (sample, path) = Sample::with_repository("a");
        let digest = sample.push_image(&path, "v1", b"layer");
        let folder = sample.store.folder(&path).unwrap();
        let manifests = folder.as_path().join(MANIFESTS);
        std::fs::write(manifests.join("sha256/README"), "").unwrap();
        std::fs::write(folder.tags().join("not a tag"), "").unwrap();
        std::os::unix::fs::symlink(folder.manifest(&digest), manifests.join("sha512")).unwrap();
        std::os::unix::fs::symlink(folder.tags().join("v1"), folder.tags().join("link")).unwrap();
        let images = sample.store.images(&path).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].tags.len(), 1);
    }
}
