//! [`Model`]: what the registry has acknowledged, and what it may have done beyond that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use ark_container_core::model::{Digest, Tag};

/// The states that something may be in: one, or several while an operation on it is not answered.
#[derive(Debug, Clone)]
pub(super) struct Possible<T>(BTreeSet<T>);

impl<T: Ord + Default> Default for Possible<T> {
    fn default() -> Self {
        Self(BTreeSet::from([T::default()]))
    }
}

impl<T: Ord + Clone + Debug> Possible<T> {
    fn change(&mut self, to: T, acknowledged: bool) {
        if acknowledged {
            self.0.clear();
        }
        self.0.insert(to);
    }

    /// Whether it is so, certainly.
    pub(super) fn is(&self, state: &T) -> bool {
        self.0.len() == 1 && self.0.contains(state)
    }

    /// Makes sure that `found` is possible. It is certain from then on: what was seen once stays.
    pub(super) fn observe(&mut self, what: &dyn Debug, found: &T) {
        assert!(self.0.contains(found), "{what:?} is {found:?}, and may be {:?}", self.0);
        self.0 = BTreeSet::from([found.clone()]);
    }
}

/// What an operation changes.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Repository { name: String, there: bool },
    Blob { name: String, digest: Digest },
    Image { name: String, digest: Digest, there: bool },
    Tag { name: String, tag: Tag, target: Option<Digest> },
}

impl Effect {
    /// A repository has a blob.
    pub(super) fn blob(name: &str, digest: Digest) -> Self {
        Self::Blob { name: name.to_owned(), digest }
    }

    /// A repository has an image.
    pub(super) fn image(name: &str, digest: Digest) -> Self {
        Self::Image { name: name.to_owned(), digest, there: true }
    }

    /// A tag stands for an image.
    pub(super) fn tag(name: &str, tag: &Tag, target: Digest) -> Self {
        Self::Tag { name: name.to_owned(), tag: tag.clone(), target: Some(target) }
    }
}

/// A repository, by name; what is not entered is not there.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) there: Possible<bool>,
    pub(super) blobs: BTreeMap<Digest, Possible<bool>>,
    pub(super) images: BTreeMap<Digest, Possible<bool>>,
    pub(super) tags: BTreeMap<Tag, Possible<Option<Digest>>>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) repositories: BTreeMap<String, Contents>,
}

impl Model {
    /// An operation that would do this has begun.
    pub(super) fn begin(&mut self, effect: &Effect) {
        self.change(effect, false);
    }

    /// The registry said that this is done.
    pub(super) fn acknowledge(&mut self, effect: &Effect) {
        self.change(effect, true);
    }

    fn change(&mut self, effect: &Effect, acknowledged: bool) {
        match effect.clone() {
            Effect::Repository { name, there } => {
                self.contents(name).there.change(there, acknowledged);
            }
            Effect::Blob { name, digest } => {
                let blob = self.contents(name).blobs.entry(digest).or_default();
                blob.change(true, acknowledged);
            }
            Effect::Image { name, digest, there } => {
                let image = self.contents(name).images.entry(digest).or_default();
                image.change(there, acknowledged);
            }
            Effect::Tag { name, tag, target } => {
                self.contents(name).tags.entry(tag).or_default().change(target, acknowledged);
            }
        }
    }

    fn contents(&mut self, name: String) -> &mut Contents {
        self.repositories.entry(name).or_default()
    }

    /// The repositories that are certainly there.
    pub(super) fn existing(&self) -> Vec<String> {
        let existing = self.repositories.iter().filter(|(_, contents)| contents.there.is(&true));
        existing.map(|(name, _)| name.clone()).collect()
    }
}

impl Contents {
    /// The tags that certainly stand for an image.
    pub(super) fn tagged(&self) -> Vec<(Tag, Digest)> {
        let tagged = self.tags.iter().filter_map(|(tag, targets)| {
            let mut targets = targets.0.iter();
            match (targets.next(), targets.next()) {
                (Some(Some(digest)), None) => Some((tag.clone(), digest.clone())),
                _ => None,
            }
        });
        tagged.collect()
    }
}
