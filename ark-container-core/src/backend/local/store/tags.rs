//! Tags: files that hold the digest of the manifest that they stand for.

use std::collections::BTreeMap;

use super::durable::{self, cannot, remove_file};
use super::layout::{Locked, RepositoryFolder};
use super::{Store, manifests};
use crate::error::{Error, Result};
use crate::model::{Digest, Reference, RepositoryPath, Tag};

impl Store {
    /// The tags of a repository, in the order of their bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no repository.
    pub(crate) fn tags(&self, path: &RepositoryPath) -> Result<Vec<Tag>> {
        let folder = self.folder(path)?;
        let tags = all(&folder)?;
        folder.confirm()?;
        Ok(tags)
    }

    /// Removes a tag alone; its image stays.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the repository or the tag.
    pub(crate) fn delete_tag(&self, path: &RepositoryPath, tag: &Tag) -> Result<()> {
        let locked = self.lock(path)?;
        if remove(&locked, tag)? {
            Ok(())
        } else {
            Err(manifests::missing_image(&locked.folder, &Reference::Tag(tag.clone())))
        }
    }

    /// Makes a tag stand for a manifest.
    pub(super) fn set_tag(&self, locked: &Locked, tag: &Tag, digest: &Digest) -> Result<()> {
        let path = locked.folder.tag(tag);
        locked.folder.make_way(&path)?;
        self.publish(&path, digest.to_string().as_bytes())
    }
}

/// The tags of a repository, in the order of their bytes.
fn all(folder: &RepositoryFolder) -> Result<Vec<Tag>> {
    let names = folder.file_names(&folder.tags())?;
    let mut tags: Vec<Tag> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    tags.sort_unstable();
    Ok(tags)
}

/// The manifest that a tag stands for.
pub(super) fn target(folder: &RepositoryFolder, tag: &Tag) -> Result<Option<Digest>> {
    let path = folder.tag(tag);
    if !folder.reaches(&path)? {
        return Ok(None);
    }
    let Some(bytes) = durable::read_file(&path).map_err(cannot("read", &path))? else {
        return Ok(None);
    };
    let digest = String::from_utf8_lossy(&bytes).parse();
    digest.map(Some).map_err(|error| Error::failed(format!("{} is damaged", path.display()), error))
}

/// The tags of each manifest that has some, in the order of their bytes.
pub(super) fn by_manifest(folder: &RepositoryFolder) -> Result<BTreeMap<Digest, Vec<Tag>>> {
    let mut tags = BTreeMap::<_, Vec<Tag>>::new();
    for tag in all(folder)? {
        if let Some(digest) = target(folder, &tag)? {
            tags.entry(digest).or_default().push(tag);
        }
    }
    Ok(tags)
}

/// Removes a tag; whether it was there.
pub(super) fn remove(locked: &Locked, tag: &Tag) -> Result<bool> {
    let path = locked.folder.tag(tag);
    if !locked.folder.reaches(&path)? {
        return Ok(false);
    }
    remove_file(&path).map_err(cannot("delete", &path))
}
