//! [`Contents`]: the expected images and tags of a repository.

use std::collections::{BTreeMap, BTreeSet};

use ark_container_core::model::{Digest, Tag};

use crate::Problem;

/// The images of a repository, and the image of each tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) images: BTreeSet<Digest>,
    pub(crate) tags: BTreeMap<Tag, Digest>,
}

impl Contents {
    pub(crate) fn with_image(&self, tag: &Tag, digest: &Digest) -> Self {
        let mut after = self.clone();
        after.images.insert(digest.clone());
        after.tags.insert(tag.clone(), digest.clone());
        after
    }

    pub(crate) fn without_tag(&self, tag: &Tag) -> Self {
        let mut after = self.clone();
        after.tags.remove(tag);
        after
    }

    pub(crate) fn without_image(&self, digest: &Digest) -> Self {
        let mut after = self.clone();
        after.images.remove(digest);
        after.tags.retain(|_, target| target != digest);
        after
    }

    /// Returns whether the repository is between two states: each image and tag is as in one of them, and the image of
    /// each tag exists.
    fn is_between(&self, before: &Self, after: &Self) -> bool {
        let images = before.images.symmetric_difference(&after.images).collect::<BTreeSet<_>>();
        let images_are = self.images.symmetric_difference(&after.images);
        let tags = before.tags.keys().chain(after.tags.keys()).chain(self.tags.keys());
        images_are.into_iter().all(|image| images.contains(image))
            && tags.into_iter().all(|tag| {
                let found = self.tags.get(tag);
                found == before.tags.get(tag) || found == after.tags.get(tag)
            })
            && self.tags.values().all(|target| self.images.contains(target))
    }
}

/// Checks the state of a repository after an interrupted operation. `None` is no repository.
pub(crate) fn check_interrupted(
    before: &Option<Contents>,
    after: &Option<Contents>,
    found: &Option<Contents>,
) -> Result<(), Problem> {
    let possible = match (before, after, found) {
        (Some(before), Some(after), Some(found)) => found.is_between(before, after),
        _ => found == before || found == after,
    };
    if possible {
        return Ok(());
    }
    Err(format!("{found:?} is not between {before:?} and {after:?}").into())
}
