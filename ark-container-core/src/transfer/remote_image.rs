//! [`RemoteImage`]: the manifests of an image in a registry; and [`Resolve`], what an image is without fetching
//! it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::progress::{Event, Progress};
use crate::backend::RegistryBackend;
use crate::connection::{Connection, connection_options};
use crate::distribution::{
    Client, ImageManifest, Index, MAX_INDEX_DEPTH, MAX_MANIFESTS, Manifest, Referring, UNKNOWN_OS,
    images_for, platform_names,
};
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
        self.name()
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
        let below = fetch_below(source, &root).await?;
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
        while !level.is_empty() {
            let listed = level.into_iter().map(|subject| referrers(client, subject));
            let listed = stream::iter(listed.collect::<Vec<_>>()).buffered(CONCURRENT_REQUESTS);
            let mut found: Vec<Manifest> = listed.try_collect::<Vec<_>>().await?.concat();
            found.retain(|manifest| seen.insert(manifest.digest.clone()));
            level = found.iter().map(|manifest| manifest.digest.clone()).collect();
            for manifest in found {
                let below = fetch_below(client, &manifest).await?;
                let mut walk = Walk { below, seen, children: vec![], blobs: vec![] };
                walk.visit(&manifest)?;
                self.referrers.extend(walk.children.into_iter().chain([manifest]));
                self.blobs.extend(walk.blobs);
                seen = walk.seen;
            }
            if self.referrers.len() > MAX_MANIFESTS {
                return Err(damaged(&self.root, "too many others refer to it"));
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
        let Manifest { media_type, digest, bytes, .. } = &self.root;
        Descriptor::new(media_type, digest.clone(), bytes.len() as u64)
    }
}

/// Fetches the referrers of a manifest.
async fn referrers(client: &Client, subject: Digest) -> Result<Vec<Manifest>> {
    let listed = match client.referrers(&subject, None).await {
        Err(error @ Error::PermissionDenied { .. }) => {
            tracing::warn!(%error, "what refers to the image cannot be listed, and stays behind");
            Vec::new()
        }
        listed => listed?,
    };
    if listed.len() > MAX_MANIFESTS {
        let message = format!("too many manifests refer to {subject}");
        return Err(Error::failed(message));
    }
    let fetched = listed.into_iter().map(|referrer| async move {
        match client.fetch_manifest(&referrer.digest.into()).await {
            // The list that clients keep under a tag may name what was deleted.
            Err(Error::NotFound { .. }) => Ok(None),
            fetched => fetched.map(Some),
        }
    });
    let fetched = stream::iter(fetched.collect::<Vec<_>>()).buffered(CONCURRENT_REQUESTS);
    let mut found: Vec<Option<Manifest>> = fetched.try_collect().await?;
    found.retain(|manifest| {
        let referring = manifest.as_ref().and_then(Referring::of);
        referring.is_some_and(|referring| referring.subject.digest == subject)
    });
    Ok(found.into_iter().flatten().collect())
}

/// Fetches the manifests that an index names, and those that the indexes among them name.
async fn fetch_below(
    source: &impl ManifestSource,
    root: &Manifest,
) -> Result<HashMap<Digest, Manifest>> {
    let mut found = HashMap::new();
    let mut level = vec![root.clone()];
    for depth in 0.. {
        let mut wanted = Vec::new();
        for index in level.iter().filter(|manifest| media_type::is_index(&manifest.media_type)) {
            wanted.extend(parse::<Index>(index)?.manifests);
        }
        let mut seen = HashSet::new();
        wanted.retain(|child| {
            !found.contains_key(&child.digest) && seen.insert(child.digest.clone())
        });
        if wanted.is_empty() {
            break;
        }
        if depth == MAX_INDEX_DEPTH || found.len() + wanted.len() > MAX_MANIFESTS {
            return Err(damaged(root, "its indexes name too many others"));
        }
        level = stream::iter(wanted)
            .map(|child| async move {
                let fetched = source.manifest(&child.digest.clone().into()).await?;
                // The media type in the index counts, not the one of the registry.
                Ok::<_, Error>(Manifest { media_type: child.media_type, ..fetched })
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
        let images = parse::<Index>(&root)?.manifests;
        let image = one_of(source, &images, wanted)?;
        return source.manifest(&image.digest.clone().into()).await;
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
        let images = parse::<Index>(root)?.manifests;
        let named = images.into_iter().filter_map(|image| image.platform);
        return Ok(named.filter(|platform| platform.os != UNKNOWN_OS).collect());
    }
    Ok(configured(source, root).await?.into_iter().collect())
}

/// Returns the platform in the configuration of an image; an artifact has none.
async fn configured(source: &impl ManifestSource, manifest: &Manifest) -> Result<Option<Platform>> {
    let config = parse::<ImageManifest>(manifest)?.config;
    Ok(serde_json::from_slice(&source.config(&config).await?).ok())
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

fn parse<T: DeserializeOwned>(manifest: &Manifest) -> Result<T> {
    serde_json::from_slice(&manifest.bytes).map_err(|error| {
        Error::failed(format!("manifest {} makes no sense", manifest.digest)).with_source(error)
    })
}

fn damaged(manifest: &Manifest, problem: &str) -> Error {
    let message = format!("manifest {}: {problem}", manifest.digest);
    Error::failed(message)
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
        if media_type::is_index(&manifest.media_type) {
            for child in parse::<Index>(manifest)?.manifests {
                if !self.seen.insert(child.digest.clone()) {
                    continue;
                }
                if let Some(child) = self.below.remove(&child.digest) {
                    self.visit(&child)?;
                    self.children.push(child);
                }
            }
        } else if media_type::is_manifest(&manifest.media_type) {
            let image: ImageManifest = parse(manifest)?;
            for blob in std::iter::once(image.config).chain(image.layers) {
                if self.seen.insert(blob.digest.clone()) {
                    self.blobs.push(blob);
                }
            }
        } else {
            let problem = format!("{:?} is no type of a manifest", manifest.media_type);
            return Err(damaged(manifest, &problem));
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
