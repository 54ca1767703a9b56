//! [`Prune`]: deletes old images of a repository. Images that other images need are not deleted.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::Catalog;
use crate::backend::{Image, ImageState, RegistryBackend as _};
use crate::error::{Error, Result};
use crate::model::{
    Algorithm, Digest, REFERRERS_TAG_DIGITS, Reference, RepositoryPath, Tag, TagPattern, media_type,
};

/// The default minimum age of an image without a tag. A push uploads the manifests of an index before the
/// index, and sets the tag last.
const UNTAGGED_AGE: Duration = Duration::from_secs(60 * 60);
/// The maximum number of concurrent descriptions of images.
const CONCURRENT_DESCRIPTIONS: usize = 8;

impl Catalog {
    /// Prepares the deletion of old images of a repository. [`Prune::plan`] returns the images that would
    /// be deleted. Awaiting the result deletes them.
    pub fn prune(&self, name: impl Into<String>) -> Prune {
        Prune { catalog: self.clone(), name: name.into(), rules: PruneRules::default() }
    }
}

/// A deletion of old images of one repository, by [`Catalog::prune`]. Awaiting it plans and runs the deletion.
///
/// # Behavior
/// - Nothing is deleted unless [`with_kept_newest`](Self::with_kept_newest) or
///   [`with_untagged`](Self::with_untagged) is called.
/// - An index is deleted with its images, and an image with its referrers, such as signatures. A referrer is also found
///   by a tag with the digest of its subject. Images of an index and referrers do not count as separate images.
/// - The images of a kept index are kept, as are the subject of a kept referrer and the referrers of a kept image.
/// - Archived images are kept, and do not count among the newest.
/// - Images are deleted by digest. An image whose tags changed since the plan is kept.
///
/// # Errors
/// See [`RegistryBackend::list_images`](crate::RegistryBackend::list_images) and
/// [`delete_image`](crate::RegistryBackend::delete_image). After an error, the images deleted so far stay
/// deleted, and the same call deletes the rest.
#[derive(Debug, Clone)]
#[must_use = "images are deleted when this is awaited"]
pub struct Prune {
    catalog: Catalog,
    name: String,
    rules: PruneRules,
}

impl Prune {
    /// Deletes tagged images, except for the `count` newest ones by time of push.
    pub fn with_kept_newest(mut self, count: usize) -> Self {
        self.rules.keep_newest = Some(count);
        self
    }

    /// Deletes only images that are older than `age`, by time of push. The default is no minimum age for
    /// tagged images, and one hour for images without a tag, which may belong to a push in progress.
    pub fn with_min_age(mut self, age: Duration) -> Self {
        self.rules.older_than = Some(age);
        self
    }

    /// Keeps each image with a matching tag. Such an image does not count among the newest. May be called repeatedly.
    pub fn with_kept_tags(mut self, pattern: TagPattern) -> Self {
        self.rules.keep_tags.push(pattern);
        self
    }

    /// Also deletes images without a tag, unless they belong to an index or refer to an image.
    pub fn with_untagged(mut self, untagged: bool) -> Self {
        self.rules.untagged = untagged;
        self
    }

    /// Returns the images to delete, without deleting them.
    ///
    /// # Errors
    /// [`Error::Parse`] or [`Error::InvalidInput`] if the name is invalid. Otherwise see
    /// [`RegistryBackend::list_images`](crate::RegistryBackend::list_images).
    pub async fn plan(self) -> Result<PrunePlan> {
        let Self { catalog, name, rules } = self;
        let path = catalog.path(&name)?;
        let listed = catalog.backend.list_images(&path);
        // An image in the archive is kept there on purpose.
        let listed = listed.try_filter(|image| ready(image.state == ImageState::Active));
        let described = listed.map(|image| describe(&catalog, &path, image));
        let described = described.buffer_unordered(CONCURRENT_DESCRIPTIONS);
        let found: Vec<Option<Image>> = described.try_collect().await?;
        let all: Vec<Image> = found.into_iter().flatten().collect();
        let total = all.len();
        let images = rules.select(all, SystemTime::now());
        Ok(PrunePlan { kept: total - images.len(), images, catalog, path })
    }

    async fn run(self) -> Result<Pruned> {
        let plan = self.plan().await?;
        let mut pruned = Pruned { deleted: Vec::new(), changed: Vec::new(), kept: plan.kept };
        let mut steps = plan.run();
        while let Some(step) = steps.try_next().await? {
            match step {
                PruneStep::Deleted(image) => pruned.deleted.push(image),
                PruneStep::Changed(image) => pruned.changed.push(image),
            }
        }
        Ok(pruned)
    }
}

impl IntoFuture for Prune {
    type Output = Result<Pruned>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Adds the children and the subject to a listed image, if the listing lacks them. Returns `None` if the
/// image was deleted in the meantime.
async fn describe(
    catalog: &Catalog,
    path: &RepositoryPath,
    image: Result<Image>,
) -> Result<Option<Image>> {
    let image = image?;
    let refers_to_nothing = image.media_type == media_type::DOCKER_MANIFEST;
    let is_told = !image.platforms.is_empty() || image.subject.is_some();
    if refers_to_nothing || is_told && media_type::is_manifest(&image.media_type) {
        return Ok(Some(image));
    }
    match catalog.backend.describe_image(path, &image.digest.clone().into()).await {
        Ok(described) => Ok(Some(described)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The images that a [`Prune`] deletes.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PrunePlan {
    /// The images to delete. Each index precedes its images.
    pub images: Vec<Image>,
    /// The number of images that are kept.
    pub kept: usize,
    #[serde(skip)]
    catalog: Catalog,
    #[serde(skip)]
    path: RepositoryPath,
}

impl PrunePlan {
    /// Returns the repository.
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// Deletes the images one by one. The stream ends after an error.
    ///
    /// An image is kept if its tags have changed since the plan was made, or if it belongs to a new index.
    pub fn run(self) -> BoxStream<'static, Result<PruneStep>> {
        let Self { images, catalog, path, .. } = self;
        let steps = stream::iter(images).then(move |image| {
            let (catalog, path) = (catalog.clone(), path.clone());
            async move { delete(&catalog, &path, image).await }
        });
        let mut has_failed = false;
        let until_error = steps.take_while(move |step| {
            let had_failed = std::mem::replace(&mut has_failed, step.is_err());
            std::future::ready(!had_failed)
        });
        until_error.boxed()
    }
}

async fn delete(catalog: &Catalog, path: &RepositoryPath, image: Image) -> Result<PruneStep> {
    let reference = Reference::Digest(image.digest.clone());
    let is_same = match catalog.backend.describe_image(path, &reference).await {
        Ok(now) => (&now.tags, now.pushed_at) == (&image.tags, image.pushed_at),
        Err(Error::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    if !is_same {
        return Ok(PruneStep::Changed(image));
    }
    match catalog.backend.delete_image(path, &reference).await {
        Ok(_) => Ok(PruneStep::Deleted(image)),
        Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ok(PruneStep::Changed(image)),
        Err(error) => Err(error),
    }
}

/// The result for one image of a [`PrunePlan`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PruneStep {
    /// The image was deleted.
    Deleted(Image),
    /// The image has changed since the plan: it was kept, or another program deleted it.
    Changed(Image),
}

/// The result of a [`Prune`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Pruned {
    /// The images that were deleted.
    pub deleted: Vec<Image>,
    /// The images that were not deleted because they have changed since the plan.
    pub changed: Vec<Image>,
    /// The number of images that the rules keep.
    pub kept: usize,
}

/// The rules of a [`Prune`].
#[derive(Debug, Clone, Default)]
struct PruneRules {
    keep_newest: Option<usize>,
    older_than: Option<Duration>,
    keep_tags: Vec<TagPattern>,
    untagged: bool,
}

impl PruneRules {
    /// Returns the images to delete. Each index precedes its images.
    fn select(&self, images: Vec<Image>, now: SystemTime) -> Vec<Image> {
        let graph = Graph::new(&images);
        let chosen = self.chosen(&images, &graph, now);
        // An index is deleted with its images, and an image with its referrers.
        let going = closure(chosen.clone(), |at| [&graph.children[at], &graph.referrers[at]]);
        let stays = |at: &usize| {
            // An image with a tag is kept without its index.
            let has_own_right = graph.is_tagged[*at] && !graph.is_attached(*at);
            !going.contains(at)
                || has_own_right && !chosen.contains(at)
                || self.keeps_tag(&images[*at])
        };
        let kept = closure((0..images.len()).filter(stays).collect(), |at| {
            [&graph.children[at], &graph.referrers[at], &graph.subjects[at]]
        });
        let deleted = graph.indexes_first(|at| !kept.contains(&at));
        let mut images: Vec<Option<Image>> = images.into_iter().map(Some).collect();
        deleted.into_iter().filter_map(|at| images[at].take()).collect()
    }

    /// Returns the images that the rules select, without their children and referrers.
    fn chosen(&self, images: &[Image], graph: &Graph, now: SystemTime) -> HashSet<usize> {
        let newest = self.newest(images, graph);
        let is_older = |at: usize, default: Duration| {
            let age = self.older_than.unwrap_or(default);
            now.checked_sub(age).is_some_and(|limit| images[at].pushed_at <= limit)
        };
        let chosen = (0..images.len()).filter(|&at| {
            if graph.is_attached(at) || self.keeps_tag(&images[at]) {
                return false;
            }
            match graph.is_tagged[at] {
                true => !newest.contains(&at) && is_older(at, Duration::ZERO),
                false => self.untagged && !graph.is_child[at] && is_older(at, UNTAGGED_AGE),
            }
        });
        chosen.collect()
    }

    /// Returns the newest tagged images, which are kept.
    fn newest(&self, images: &[Image], graph: &Graph) -> HashSet<usize> {
        let counts = |at: &usize| {
            graph.is_tagged[*at] && !graph.is_attached(*at) && !self.keeps_tag(&images[*at])
        };
        let mut counted: Vec<usize> = (0..images.len()).filter(counts).collect();
        counted.sort_by(|a, b| {
            let (a, b) = (&images[*a], &images[*b]);
            b.pushed_at.cmp(&a.pushed_at).then_with(|| b.tags.cmp(&a.tags))
        });
        counted.into_iter().take(self.keep_newest.unwrap_or(usize::MAX)).collect()
    }

    fn keeps_tag(&self, image: &Image) -> bool {
        image.tags.iter().any(|tag| self.keep_tags.iter().any(|pattern| pattern.matches(tag)))
    }
}

/// The references between the images of a repository. An image is identified by its position in the listing.
struct Graph {
    /// Whether each image has a tag that does not name a subject.
    is_tagged: Vec<bool>,
    children: Vec<Vec<usize>>,
    is_child: Vec<bool>,
    subjects: Vec<Vec<usize>>,
    referrers: Vec<Vec<usize>>,
}

impl Graph {
    fn new(images: &[Image]) -> Self {
        let positions: HashMap<&Digest, usize> =
            images.iter().enumerate().map(|(at, image)| (&image.digest, at)).collect();
        let position = |digest: &Digest| positions.get(digest).copied();
        let by_digest_tag: HashMap<String, usize> = images
            .iter()
            .enumerate()
            .map(|(at, image)| (image.digest.referrers_tag(), at))
            .collect();
        let is_own_tag = |tag: &Tag| !is_digest_tag(tag);
        let mut graph = Self {
            is_tagged: images.iter().map(|image| image.tags.iter().any(is_own_tag)).collect(),
            children: Vec::new(),
            is_child: vec![false; images.len()],
            subjects: Vec::new(),
            referrers: vec![Vec::new(); images.len()],
        };
        for (at, image) in images.iter().enumerate() {
            let children: Vec<_> =
                image.children.iter().filter_map(|child| position(&child.digest)).collect();
            children.iter().for_each(|&child| graph.is_child[child] = true);
            graph.children.push(children);
            let by_tag = image.tags.iter().filter_map(|tag| by_digest_tag.get(stem(tag)).copied());
            let subjects: Vec<_> =
                image.subject.iter().filter_map(position).chain(by_tag).collect();
            subjects.iter().for_each(|&subject| graph.referrers[subject].push(at));
            graph.subjects.push(subjects);
        }
        graph
    }

    /// Returns whether the image refers to an image of the repository.
    fn is_attached(&self, at: usize) -> bool {
        !self.subjects[at].is_empty()
    }

    /// Returns the wanted positions, each index before its images, because a registry rejects the deletion of an
    /// image of an index. Referrers come last, so that an interruption leaves few images without their referrers.
    fn indexes_first(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut wanted: Vec<usize> = (0..self.children.len()).filter(|at| is_wanted(*at)).collect();
        wanted.sort_by_key(|at| self.is_attached(*at));
        let mut indexes = vec![0; self.children.len()];
        let children = wanted.iter().flat_map(|at| &self.children[*at]);
        children.for_each(|child| indexes[*child] += 1);
        let mut ordered: Vec<usize> =
            wanted.iter().copied().filter(|at| indexes[*at] == 0).collect();
        let mut next = 0;
        while let Some(&at) = ordered.get(next) {
            for &child in &self.children[at] {
                indexes[child] -= 1;
                if indexes[child] == 0 && is_wanted(child) {
                    ordered.push(child);
                }
            }
            next += 1;
        }
        ordered
    }
}

/// Returns the positions in `from`, and the positions reachable from them by `next`.
fn closure<'a, const N: usize>(
    mut from: HashSet<usize>,
    next: impl Fn(usize) -> [&'a Vec<usize>; N],
) -> HashSet<usize> {
    let mut waiting: Vec<usize> = from.iter().copied().collect();
    while let Some(at) = waiting.pop() {
        let reached = next(at).into_iter().flatten();
        waiting.extend(reached.filter(|at| from.insert(**at)));
    }
    from
}

/// Returns a tag without the suffix of a signature.
fn stem(tag: &Tag) -> &str {
    tag.as_str().split_once('.').map_or(tag.as_str(), |(stem, _)| stem)
}

/// Returns whether a tag names an image by its digest.
fn is_digest_tag(tag: &Tag) -> bool {
    let Some((algorithm, hex)) = stem(tag).split_once('-') else { return false };
    [Algorithm::Sha256, Algorithm::Sha512].iter().any(|known| known.as_str() == algorithm)
        && hex.len() == REFERRERS_TAG_DIGITS
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
