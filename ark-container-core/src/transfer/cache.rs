//! [`PushCache`]: caches digests of compressed layers, locations of blobs, and pending uploads on disk.
//!
//! Each descriptor of a compressed layer has a file, named by a hash of the diff ID of the layer and of the
//! compression. The locations of blobs have one file per organization and registry. The cache reads only files of the
//! user. Each file contains a hash of its content, so that a changed file is ignored.
//!
//! The cache is optional: a layer without an entry is compressed and sent again. A failure of the disk is therefore
//! only a warning in the log.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::compress::Compression;
use super::pending_uploads::PendingUploads;
use crate::digester::Digester;
use crate::model::{Algorithm, Descriptor, Digest, RegistryHost, RepositoryPath};
use crate::private_folder::{Folder, Limits};

const MAX_AGE: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// Some 20 MB on disk.
const LAYER_LIMITS: Limits =
    Limits { prefix: "", max_bytes: 4 * 1024, max_age: MAX_AGE, max_files: 4096 };
const LOCATION_LIMITS: Limits =
    Limits { prefix: "", max_bytes: 4 * 1024 * 1024, max_age: MAX_AGE, max_files: 64 };
/// The blobs of an organization whose locations are kept, at most.
const MAX_BLOBS: usize = 4096;
/// The maximum number of cached repositories per blob: a mount needs one that still has the blob.
const MAX_REPOSITORIES_PER_BLOB: usize = 4;

/// The maximum time that a push waits for another push that writes locations.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A cache directory that pushes share.
#[derive(Debug, Clone)]
pub(super) struct PushCache {
    layers: Folder,
    locations: Folder,
    uploads: PendingUploads,
}

/// The repositories of an organization that have its blobs. The latest pushed blob is the last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobLocations(Vec<BlobLocation>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BlobLocation {
    blob: Digest,
    repositories: Vec<RepositoryPath>,
}

/// The content of a file, with its key, so that a copy of another file is invalid.
#[derive(Serialize, Deserialize)]
struct Entry<T> {
    key: String,
    value: T,
}

impl PushCache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            layers: Folder::new(directory.join("layers"), LAYER_LIMITS),
            locations: Folder::new(directory.join("locations"), LOCATION_LIMITS),
            uploads: PendingUploads::new(directory.join("uploads")),
        }
    }

    /// Returns the interrupted uploads.
    pub(super) fn uploads(&self) -> &PendingUploads {
        &self.uploads
    }

    /// Returns the descriptor of each of these layers after compression; `None` if it is not cached.
    pub(super) async fn compressed_layers(
        &self,
        compression: Compression,
        diff_ids: Vec<Digest>,
    ) -> Vec<Option<Descriptor>> {
        let (folder, count) = (self.layers.clone(), diff_ids.len());
        let reading = spawn_blocking(move || {
            let key = |diff_id| layer_key(compression, diff_id);
            diff_ids.iter().map(|diff_id| read(&folder, &key(diff_id))).collect()
        });
        reading.await.unwrap_or_else(|_| vec![None; count])
    }

    /// Adds the descriptor of a layer after compression.
    pub(super) async fn add_compressed_layer(
        &self,
        compression: Compression,
        diff_id: &Digest,
        compressed: &Descriptor,
    ) {
        let (folder, key) = (self.layers.clone(), layer_key(compression, diff_id));
        let compressed = compressed.clone();
        let writing =
            spawn_blocking(move || warn_on_error(&folder, write(&folder, &key, compressed)));
        // The only error is a panic, which prints its own message.
        let _ = writing.await;
    }

    /// Returns the locations of the blobs of the organization that owns `path`.
    pub(super) async fn locations(
        &self,
        registry: &RegistryHost,
        path: &RepositoryPath,
    ) -> BlobLocations {
        let (folder, key) = (self.locations.clone(), locations_key(registry, path));
        let reading = spawn_blocking(move || read(&folder, &key));
        reading.await.ok().flatten().unwrap_or_default()
    }

    /// Adds the repository at `path` to the locations of these blobs, and removes old entries.
    pub(super) async fn add_locations(
        &self,
        registry: &RegistryHost,
        path: &RepositoryPath,
        blobs: Vec<Digest>,
    ) {
        let (cache, key, path) = (self.clone(), locations_key(registry, path), path.clone());
        let writing = spawn_blocking(move || {
            let folder = &cache.locations;
            warn_on_error(folder, add_locations(folder, &key, &path, blobs));
            for folder in [&cache.layers, folder] {
                warn_on_error(folder, folder.sweep());
            }
        });
        // The only error is a panic, which prints its own message.
        let _ = writing.await;
    }
}

impl BlobLocations {
    /// Returns the repositories other than `own` that have a blob, the latest first.
    pub(super) fn other_repositories<'a>(
        &'a self,
        own: &'a RepositoryPath,
        blob: &Digest,
    ) -> impl Iterator<Item = &'a RepositoryPath> {
        let location = self.0.iter().find(|location| location.blob == *blob);
        let repositories = location.into_iter().flat_map(|found| found.repositories.iter().rev());
        repositories.filter(move |repository| *repository != own)
    }

    /// Returns whether the repository at `path` is a cached location of all these blobs.
    pub(super) fn have_all<'a>(
        &self,
        path: &RepositoryPath,
        mut blobs: impl Iterator<Item = &'a Digest>,
    ) -> bool {
        let cached = self.0.iter().filter(|location| location.repositories.contains(path));
        let cached: HashSet<&Digest> = cached.map(|location| &location.blob).collect();
        blobs.all(|blob| cached.contains(blob))
    }

    fn add(&mut self, path: &RepositoryPath, blob: Digest) {
        let index = self.0.iter().position(|location| location.blob == blob);
        let mut location = match index {
            Some(index) => self.0.remove(index),
            None => BlobLocation { blob, repositories: Vec::new() },
        };
        location.repositories.retain(|repository| repository != path);
        location.repositories.push(path.clone());
        let excess = location.repositories.len().saturating_sub(MAX_REPOSITORIES_PER_BLOB);
        location.repositories.drain(..excess);
        self.0.push(location);
    }
}

fn layer_key(compression: Compression, diff_id: &Digest) -> String {
    format!("{diff_id} {}", compression.encoder_version())
}

fn locations_key(registry: &RegistryHost, path: &RepositoryPath) -> String {
    format!("{registry}/{}/{}", path.stage(), path.organization())
}

fn add_locations(
    folder: &Folder,
    key: &str,
    path: &RepositoryPath,
    blobs: Vec<Digest>,
) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    let _lock = loop {
        match folder.try_lock(&stem(key))? {
            Some(lock) => break lock,
            None if Instant::now() < deadline => sleep(LOCK_POLL_INTERVAL),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    let mut locations: BlobLocations = read(folder, key).unwrap_or_default();
    for blob in blobs {
        locations.add(path, blob);
    }
    let excess = locations.0.len().saturating_sub(MAX_BLOBS);
    locations.0.drain(..excess);
    write(folder, key, locations)
}

/// Reads the value of a key, unless the entry is invalid.
fn read<T: DeserializeOwned>(folder: &Folder, key: &str) -> Option<T> {
    let content = match folder.read(&stem(key)) {
        Ok(content) => content?,
        Err(error) => {
            warn_on_error(folder, Err(error));
            return None;
        }
    };
    let entry = parse(&content).filter(|entry: &Entry<T>| entry.key == key);
    if entry.is_none() {
        let file = folder.file(&stem(key));
        tracing::info!(file = %file.display(), "ignoring an invalid entry of the push cache");
    }
    entry.map(|entry| entry.value)
}

fn parse<T: DeserializeOwned>(content: &[u8]) -> Option<Entry<T>> {
    let newline = content.iter().position(|byte| *byte == b'\n')?;
    let (checksum, json) = (&content[..newline], &content[newline + 1..]);
    (checksum == hash(json).hex().as_bytes()).then(|| serde_json::from_slice(json).ok())?
}

fn write<T: Serialize>(folder: &Folder, key: &str, value: T) -> io::Result<()> {
    let json = serde_json::to_vec(&Entry { key: key.to_owned(), value })?;
    let mut content = format!("{}\n", hash(&json).hex()).into_bytes();
    content.extend_from_slice(&json);
    folder.write(&stem(key), &content)
}

fn stem(key: &str) -> String {
    hash(key.as_bytes()).hex().to_owned()
}

fn hash(content: &[u8]) -> Digest {
    Digester::digest(Algorithm::Sha256, content)
}

fn warn_on_error(folder: &Folder, result: io::Result<()>) {
    if let Err(error) = result {
        // The warning names the parent of all folders of the cache, so that repeated warnings are identical.
        let folder = folder.path().parent().unwrap_or(folder.path()).display();
        tracing::warn!("the push cache in {folder} cannot be used: {error}");
    }
}

#[cfg(test)]
mod tests;
