//! [`RemoteImage`]: the manifests of an image in a registry; and [`Resolve`], what an image is without fetching
//! it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, Serializer};

use super::progress::{Event, Progress};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, connection_options};
use crate::distribution::{Client, Manifest, ManifestBounds, images_for, platform_names};
use crate::error::{Error, Result};
use crate::model::{
    Access, Descriptor, Digest, Platform, Reference, RepositoryPath, Scope, media_type,
};

/// How many manifests are asked for at once.
const CONCURRENT_REQUESTS: usize = 8;

/// Far more than a configuration has.
pub(crate) const MAX_CONFIG_BYTES: usize = 8 * 1024 * 1024;

/// A source of the manifests of a repository.
#[async_trait]
pub(crate) trait ManifestSource: Send + Sync {
    /// Returns the name of the repository, with its host.
    fn repository(&self) -> String;

    /// Fetches the manifest at a tag or digest.
    async fn manifest(&self, reference: &Reference) -> Result<Manifest>;

    /// Fetches the content of a configuration.
    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>>;
}

#[async_trait]
impl ManifestSource for Client {
    fn repository(&self) -> String {
        Self::repository(self).to_string()
    }

    async fn manifest(&self, reference: &Reference) -> Result<Manifest> {
        self.fetch_manifest(reference).await
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.fetch_blob_bytes(&config.digest, MAX_CONFIG_BYTES).await?.into())
    }
}

/// An image in a registry, with its manifests in memory.
#[derive(Debug)]
pub(crate) struct RemoteImage {
    /// The manifest or index of the whole image.
    pub(super) root: Manifest,
    /// The manifests and indexes below it, each after those that it names.
    pub(super) children: Vec<Manifest>,
    /// The referrers of these, such as signatures, with what is below them, each after what it names.
    pub(super) referrers: Vec<Manifest>,
    /// Configurations and layers, including those of referrers, each once, the largest first.
    pub(super) blobs: Vec<Descriptor>,
}

impl RemoteImage {
    /// Fetches the manifests of the image that `reference` names, or of that for `platform` in it.
    pub(super) async fn fetch(
        source: &impl ManifestSource,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let mut root = source.manifest(reference).await?;
        if let Some(platform) = platform {
            root = for_platform(source, root, platform).await?;
        }
        let mut bounds = ManifestBounds::default();
        let below = fetch_below(source, &root, &mut bounds).await?;
        let mut walk = Walk { below, seen: HashSet::new(), children: vec![], blobs: vec![] };
        walk.visit(&root)?;
        let Walk { children, mut blobs, .. } = walk;
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        Ok(Self { root, children, referrers: vec![], blobs })
    }

    /// Adds the referrers of the image and of its parts, and the referrers of those.
    pub(super) async fn with_referrers(mut self, client: &Client) -> Result<Self> {
        let own = self.children.iter().chain([&self.root]).map(|manifest| manifest.digest.clone());
        let mut level: Vec<Digest> = own.collect();
        let blobs = self.blobs.iter().map(|blob| blob.digest.clone());
        let mut seen: HashSet<Digest> = level.iter().cloned().chain(blobs).collect();
        let mut bounds = ManifestBounds::default();
        while !level.is_empty() {
            let listed = level.into_iter().map(|subject| referrers(client, subject));
            let listed = stream::iter(listed.collect::<Vec<_>>()).buffered(CONCURRENT_REQUESTS);
            let mut wanted = listed.try_collect::<Vec<_>>().await?.concat();
            wanted.retain(|(_, referrer)| seen.insert(referrer.digest.clone()));
            for (subject, referrer) in &wanted {
                let bounded = bounds.add(referrer.size, 0);
                bounded
                    .map_err(|problem| damaged(subject, &format!("of its referrers, {problem}")))?;
            }
            let found = fetch_referrers(client, wanted).await?;
            level = found.iter().map(|manifest| manifest.digest.clone()).collect();
            for manifest in found {
                let below = fetch_below(client, &manifest, &mut bounds).await?;
                let mut walk = Walk { below, seen, children: vec![], blobs: vec![] };
                walk.visit(&manifest)?;
                self.referrers.extend(walk.children.into_iter().chain([manifest]));
                self.blobs.extend(walk.blobs);
                seen = walk.seen;
            }
        }
        self.blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        Ok(self)
    }

    /// Reports the blobs of the image, before any is transferred.
    pub(super) fn report_blobs(&self, progress: &dyn Progress) {
        for blob in &self.blobs {
            progress.event(&Event::Found { blob: &blob.digest, size: blob.size, is_tar: false });
        }
    }

    /// Returns the descriptor of the image.
    pub(super) fn descriptor(&self) -> Descriptor {
        self.root.descriptor()
    }
}

/// Lists the referrers of a manifest, each with its subject.
async fn referrers(client: &Client, subject: Digest) -> Result<Vec<(Digest, Descriptor)>> {
    let listed = match client.referrers(&subject, None).await {
        Err(error @ Error::PermissionDenied { .. }) => {
            tracing::warn!(%error, "what refers to the image cannot be listed, and stays behind");
            Vec::new()
        }
        listed => listed?,
    };
    Ok(listed.into_iter().map(|referrer| (subject.clone(), referrer)).collect())
}

/// Fetches the manifests that were listed as referrers and that have that subject.
async fn fetch_referrers(
    client: &Client,
    wanted: Vec<(Digest, Descriptor)>,
) -> Result<Vec<Manifest>> {
    let fetched = wanted.into_iter().map(|(subject, referrer)| async move {
        let fetched = match client.fetch_manifest(&referrer.digest.clone().into()).await {
            // The list that clients keep under a tag may name what was deleted.
            Err(Error::NotFound { .. }) => return Ok::<_, Error>(None),
            fetched => fetched?.described_by(&referrer)?,
        };
        let is_referrer = fetched.content()?.subject().is_some_and(|found| found.digest == subject);
        Ok(is_referrer.then_some(fetched))
    });
    let fetched = stream::iter(fetched.collect::<Vec<_>>()).buffered(CONCURRENT_REQUESTS);
    Ok(fetched.try_collect::<Vec<_>>().await?.into_iter().flatten().collect())
}

/// Fetches the manifests that an index names, and those that the indexes among them name.
async fn fetch_below(
    source: &impl ManifestSource,
    root: &Manifest,
    bounds: &mut ManifestBounds,
) -> Result<HashMap<Digest, Manifest>> {
    let mut found = HashMap::new();
    let mut level = vec![root.clone()];
    for depth in 0.. {
        let mut wanted = Vec::new();
        for manifest in &level {
            wanted.extend(manifest.content()?.manifests().cloned());
        }
        let mut seen = HashSet::new();
        wanted.retain(|child| {
            !found.contains_key(&child.digest) && seen.insert(child.digest.clone())
        });
        if wanted.is_empty() {
            break;
        }
        for child in &wanted {
            let bounded = bounds.add(child.size, depth + 1);
            bounded.map_err(|problem| damaged(&root.digest, &problem))?;
        }
        level = stream::iter(wanted)
            .map(|child| async move {
                source.manifest(&child.digest.clone().into()).await?.described_by(&child)
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        found.extend(level.iter().map(|manifest| (manifest.digest.clone(), manifest.clone())));
    }
    Ok(found)
}

/// Returns the image for a platform: one of an index, or the only one.
async fn for_platform(
    source: &impl ManifestSource,
    root: Manifest,
    wanted: &Platform,
) -> Result<Manifest> {
    if media_type::is_index(&root.media_type) {
        let content = root.content()?;
        let image = one_of(source, content.listed(), wanted)?;
        return source.manifest(&image.digest.clone().into()).await?.described_by(image);
    }
    let Some(found) = configured(source, &root).await? else {
        return Err(no_such_platform(source, wanted, []));
    };
    match wanted.admits(&found) {
        true => Ok(root),
        false => Err(no_such_platform(source, wanted, [&found])),
    }
}

/// Returns the image for a platform in an index.
fn one_of<'a>(
    source: &impl ManifestSource,
    images: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor> {
    let platforms = || images.iter().filter_map(|image| Some((image, image.platform.as_ref()?)));
    match images_for(platforms(), wanted).as_slice() {
        [(image, _)] => Ok(image),
        _ => Err(no_such_platform(source, wanted, platforms().map(|(_, platform)| platform))),
    }
}

/// Returns the platforms of an image, from its index or its configuration.
pub(super) async fn platforms(
    source: &impl ManifestSource,
    root: &Manifest,
) -> Result<Vec<Platform>> {
    if media_type::is_index(&root.media_type) {
        let images = root.content()?.into_listed();
        let named = images.into_iter().filter_map(|image| image.platform);
        return Ok(named.filter(Platform::is_known).collect());
    }
    Ok(configured(source, root).await?.into_iter().collect())
}

/// Returns the platform in the configuration of an image; an artifact has none.
async fn configured(source: &impl ManifestSource, manifest: &Manifest) -> Result<Option<Platform>> {
    match manifest.content()?.image_config() {
        Some(config) => Ok(Platform::of_config(&source.config(config).await?)),
        None => Ok(None),
    }
}

fn no_such_platform<'a>(
    source: &impl ManifestSource,
    wanted: &Platform,
    found: impl IntoIterator<Item = &'a Platform>,
) -> Error {
    let found = match platform_names(found) {
        found if found.is_empty() => "none".to_owned(),
        found => found,
    };
    let repository = source.repository();
    Error::invalid(format!(
        "the image in {repository} is not for {wanted}, or for several such; it is for: {found}"
    ))
}

fn damaged(manifest: &Digest, problem: &str) -> Error {
    Error::failed(format!("manifest {manifest}: {problem}"))
}

/// Collects all manifests and blobs of an image, each once.
struct Walk {
    below: HashMap<Digest, Manifest>,
    seen: HashSet<Digest>,
    children: Vec<Manifest>,
    blobs: Vec<Descriptor>,
}

impl Walk {
    fn visit(&mut self, manifest: &Manifest) -> Result<()> {
        let content = manifest.content()?;
        for child in content.manifests() {
            if !self.seen.insert(child.digest.clone()) {
                continue;
            }
            if let Some(child) = self.below.remove(&child.digest) {
                self.visit(&child)?;
                self.children.push(child);
            }
        }
        for blob in content.blobs() {
            if self.seen.insert(blob.digest.clone()) {
                self.blobs.push(blob.clone());
            }
        }
        Ok(())
    }
}

/// A look at the manifests of one image, without fetching a layer. Awaiting it runs it.
///
/// # Errors
/// Those of [`Pull`](super::Pull), but for the disk's.
#[derive(Debug, Clone)]
#[must_use = "an image is resolved when this is awaited"]
pub struct Resolve {
    connection: Connection,
    path: RepositoryPath,
    reference: Reference,
    platform: Option<Platform>,
}

connection_options!(Resolve);

impl Resolve {
    /// Resolves the image that `reference` names in the repository at `path`, with all its platforms.
    pub fn new(
        backend: Arc<dyn RegistryBackend>,
        path: &RepositoryPath,
        reference: Reference,
    ) -> Self {
        let connection = Connection::new(backend);
        Self { connection, path: path.clone(), reference, platform: None }
    }

    /// Resolves the image for one platform in an index.
    pub fn with_platform(self, platform: Platform) -> Self {
        Self { platform: Some(platform), ..self }
    }

    async fn run(self) -> Result<ResolvedImage> {
        let Self { connection, path, reference, platform } = self;
        let resolve = async |connection: Connection| {
            let scope = Scope::repository(path.clone(), Access::Pull);
            let client = connection.client(&path, &scope).await?;
            ResolvedImage::look_up(&client, &reference, platform.as_ref()).await
        };
        connection.serve_while(resolve).await
    }
}

impl IntoFuture for Resolve {
    type Output = Result<ResolvedImage>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The image at a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// The image by digest, `<repository URL>@<digest>`: what one pins. It is no
    /// [`ImageUrl`](crate::model::ImageUrl) since the repository may belong to no organization.
    pub url: String,
    digest: Digest,
    /// The media type of the manifest or index.
    pub media_type: String,
    /// The bytes of manifests, configurations and layers as they are stored, each once.
    pub size: u64,
    /// The platforms that it runs on: several for an index, none where nothing says. JSON has their names.
    #[serde(serialize_with = "as_names")]
    pub platforms: Vec<Platform>,
}

fn as_names<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(Platform::to_string))
}

impl ResolvedImage {
    /// The digest of the image's manifest or index.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Resolves an image, or the one for `platform` in it, by its manifests.
    pub(crate) async fn look_up(
        source: &impl ManifestSource,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self> {
        let image = RemoteImage::fetch(source, reference, platform).await?;
        let platforms = platforms(source, &image.root).await?;
        let RemoteImage { root, children, blobs, .. } = image;
        let manifests = children.iter().chain([&root]).map(|manifest| manifest.bytes.len() as u64);
        Ok(Self {
            size: manifests.chain(blobs.iter().map(|blob| blob.size)).sum(),
            url: format!("{}@{}", source.repository(), root.digest),
            digest: root.digest,
            media_type: root.media_type,
            platforms,
        })
    }
}
