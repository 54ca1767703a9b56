//! Images: manifests with their tags, listed and deleted as users see them.

use super::layout::{Locked, RepositoryFolder};
use super::manifest_file::ManifestHeader;
use super::{Store, manifests, tags};
use crate::backend::Image;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Digest, Reference, RepositoryPath};

impl Store {
    /// The images of a repository, the newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no repository.
    pub(crate) fn images(&self, path: &RepositoryPath) -> Result<Vec<Image>> {
        let folder = self.folder(path)?;
        let digests = manifests::digests(&folder)?;
        // After the manifests: every tag of one that is listed is then seen.
        let mut tags = tags::by_manifest(&folder)?;
        let mut images = Vec::with_capacity(digests.len());
        for digest in digests {
            // Deleted meanwhile where there is none.
            if let Some(header) = ManifestHeader::read(&folder, &digest)? {
                let tags = tags.remove(&digest).unwrap_or_default();
                images.push(Image {
                    tags,
                    platforms: header.platforms,
                    ..Image::new(digest, header.media_type, header.image_size, header.pushed_at)
                });
            }
        }
        folder.confirm()?;
        images.sort_unstable_by(|a, b| {
            b.pushed_at.cmp(&a.pushed_at).then_with(|| a.digest.cmp(&b.digest))
        });
        Ok(images)
    }

    /// Deletes an image by digest, with its tags; or a tag, and the image with its last tag.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the image; [`Error::Conflict`] if it is named by
    /// digest and an index refers to it.
    pub(crate) fn delete_image(&self, path: &RepositoryPath, reference: &Reference) -> Result<()> {
        let locked = self.lock(path)?;
        let digest = manifests::resolve(&locked.folder, reference)?;
        let index = index_of(&locked.folder, &digest)?;
        match (reference, index) {
            (Reference::Digest(_), None) => manifests::remove(&locked, &digest),
            (Reference::Digest(_), Some(index)) => {
                let name = manifests::image_name(&locked.folder, reference);
                let problem = format!("is part of the index {index}");
                Err(Error::conflict(ResourceKind::Image, name, problem))
            }
            (Reference::Tag(tag), index) => {
                tags::remove(&locked, tag)?;
                remove_untagged(&locked, &digest, index)
            }
        }
    }
}

fn remove_untagged(locked: &Locked, digest: &Digest, index: Option<Digest>) -> Result<()> {
    let tagged = tags::by_manifest(&locked.folder)?.contains_key(digest);
    if tagged || index.is_some() { Ok(()) } else { manifests::remove(locked, digest) }
}

/// An index that refers to a manifest.
fn index_of(folder: &RepositoryFolder, digest: &Digest) -> Result<Option<Digest>> {
    for candidate in manifests::digests(folder)? {
        let header = ManifestHeader::read(folder, &candidate)?;
        if header.is_some_and(|header| header.children.contains(digest)) {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
