//! [`Memory`]: what pushes remember on disk for those that follow.
//!
//! What a layer became when it was compressed is a file of its own, named by a hash of the layer's
//! diff ID and of how it was compressed. Where blobs were sent to is a file for each organization of
//! each registry. Only files that are the user's own are read, and each carries a hash of
//! itself, so that what a disk or a hand has changed is not believed.
//!
//! Nothing depends on it: what is not remembered is compressed and sent again. So where it fails, that
//! is a warning in the log.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::Compression;
use crate::digester::Digester;
use crate::model::{Algorithm, Descriptor, Digest, RegistryHost, RepositoryPath};
use crate::private_folder::{Folder, Limits};

/// After this long a layer is compressed once more, which does no harm.
const KEPT_FOR: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// Some 20 MB on disk.
const LAYERS: Limits = Limits { max_len: 4 * 1024, kept_for: KEPT_FOR, most: 4096 };
const PLACES: Limits = Limits { max_len: 4 * 1024 * 1024, kept_for: KEPT_FOR, most: 64 };
/// Of how many blobs of an organization it is remembered where they are.
const MOST_BLOBS: usize = 4096;
/// In how many repositories at most: one is enough for a mount, if it is still there.
const MOST_REPOSITORIES: usize = 4;

/// How long a push waits for another to write where blobs are, before it leaves that be.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PERIOD: Duration = Duration::from_millis(10);

/// What pushes remember on disk.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    layers: Folder,
    places: Folder,
}

/// Where blobs of an organization are, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Places(Vec<Place>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    blob: Digest,
    repositories: Vec<RepositoryPath>,
}

/// The content of a file. The key stands in it, so that the copy of another file is not taken for it.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    key: String,
    value: T,
}

impl Memory {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            layers: Folder::new(directory.join("layers"), LAYERS),
            places: Folder::new(directory.join("places"), PLACES),
        }
    }

    /// What each of these layers became when it was compressed, as far as that is known.
    pub(super) async fn compressed(
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

    /// Remembers what a layer became.
    pub(super) async fn remember_compressed(
        &self,
        compression: Compression,
        diff_id: &Digest,
        became: &Descriptor,
    ) {
        let (folder, key) = (self.layers.clone(), layer_key(compression, diff_id));
        let became = became.clone();
        let writing = spawn_blocking(move || report(&folder, write(&folder, &key, became)));
        // It panics if at all, and then says so itself.
        let _ = writing.await;
    }

    /// Where blobs of the organization that owns `path` are.
    pub(super) async fn places(&self, registry: &RegistryHost, path: &RepositoryPath) -> Places {
        let (folder, key) = (self.places.clone(), places_key(registry, path));
        let reading = spawn_blocking(move || read(&folder, &key));
        reading.await.ok().flatten().unwrap_or_default()
    }

    /// Remembers that the repository at `path` has these blobs, and forgets what is too old.
    pub(super) async fn remember_places(
        &self,
        registry: &RegistryHost,
        path: &RepositoryPath,
        blobs: Vec<Digest>,
    ) {
        let (memory, key, path) = (self.clone(), places_key(registry, path), path.clone());
        let writing = spawn_blocking(move || {
            let folder = &memory.places;
            report(folder, add_places(folder, &key, &path, blobs));
            for folder in [&memory.layers, folder] {
                report(folder, folder.sweep());
            }
        });
        // It panics if at all, and then says so itself.
        let _ = writing.await;
    }
}

impl Places {
    /// The repositories beside `own` that have a blob, the likeliest first.
    pub(super) fn beside<'a>(
        &'a self,
        own: &'a RepositoryPath,
        blob: &Digest,
    ) -> impl Iterator<Item = &'a RepositoryPath> {
        let place = self.0.iter().find(|place| place.blob == *blob);
        let repositories = place.into_iter().flat_map(|place| place.repositories.iter().rev());
        repositories.filter(move |repository| *repository != own)
    }

    /// Whether all these blobs are known to be there.
    pub(super) fn have_all<'a>(
        &self,
        path: &RepositoryPath,
        mut blobs: impl Iterator<Item = &'a Digest>,
    ) -> bool {
        let here = self.0.iter().filter(|place| place.repositories.contains(path));
        let here: HashSet<&Digest> = here.map(|place| &place.blob).collect();
        blobs.all(|blob| here.contains(blob))
    }

    fn add(&mut self, path: &RepositoryPath, blob: Digest) {
        let known = self.0.iter().position(|place| place.blob == blob);
        let mut place = match known {
            Some(index) => self.0.remove(index),
            None => Place { blob, repositories: Vec::new() },
        };
        place.repositories.retain(|repository| repository != path);
        place.repositories.push(path.clone());
        let too_many = place.repositories.len().saturating_sub(MOST_REPOSITORIES);
        place.repositories.drain(..too_many);
        self.0.push(place);
    }
}

fn layer_key(compression: Compression, diff_id: &Digest) -> String {
    format!("{diff_id} {}", compression.recipe())
}

fn places_key(registry: &RegistryHost, path: &RepositoryPath) -> String {
    format!("{registry}/{}/{}", path.stage(), path.organization())
}

fn add_places(
    folder: &Folder,
    key: &str,
    path: &RepositoryPath,
    blobs: Vec<Digest>,
) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let _lock = loop {
        match folder.try_lock(&stem(key))? {
            Some(lock) => break lock,
            None if Instant::now() < deadline => sleep(LOCK_PERIOD),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    let mut places: Places = read(folder, key).unwrap_or_default();
    for blob in blobs {
        places.add(path, blob);
    }
    let too_many = places.0.len().saturating_sub(MOST_BLOBS);
    places.0.drain(..too_many);
    write(folder, key, places)
}

/// What is kept under a key; nothing where that makes no sense.
fn read<T: DeserializeOwned>(folder: &Folder, key: &str) -> Option<T> {
    let content = match folder.read(&stem(key)) {
        Ok(content) => content?,
        Err(error) => {
            report(folder, Err(error));
            return None;
        }
    };
    let kept = open(&content).filter(|kept: &Kept<T>| kept.key == key);
    if kept.is_none() {
        tracing::warn!(file = %folder.file(&stem(key)).display(), "it makes no sense, and is ignored");
    }
    kept.map(|kept| kept.value)
}

fn open<T: DeserializeOwned>(content: &[u8]) -> Option<Kept<T>> {
    let newline = content.iter().position(|byte| *byte == b'\n')?;
    let (seal, json) = (&content[..newline], &content[newline + 1..]);
    (seal == hash(json).hex().as_bytes()).then(|| serde_json::from_slice(json).ok())?
}

fn write<T: Serialize>(folder: &Folder, key: &str, value: T) -> io::Result<()> {
    let json = serde_json::to_vec(&Kept { key: key.to_owned(), value })?;
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

fn report(folder: &Folder, result: io::Result<()>) {
    if let Err(error) = result {
        let folder = folder.path();
        tracing::warn!(?folder, %error, "what pushes remember is of no use");
    }
}

#[cfg(test)]
mod tests;
