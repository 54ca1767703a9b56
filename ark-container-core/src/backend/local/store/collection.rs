//! Removal of unneeded blobs.
//!
//! # Rules
//! - A blob is *referenced* while a manifest of its repository names it. A referenced blob is never removed.
//! - A client *reserves* a blob when the registry reports to the client that it has the blob: after an upload, a mount
//!   or a `HEAD`. A reserved blob is not removed. A reservation ends when the client puts a manifest that names the
//!   blob, or after [`RESERVATION_LIFETIME`].
//! - The deletion of an image removes the blobs of the image that are neither referenced nor reserved. Other
//!   unreferenced and unreserved blobs are removed by the next deletion or sweep after [`RESERVATION_LIFETIME`] in the
//!   repository.
//! - A repository with a manifest that cannot be read keeps all of its blobs.
//!
//! # Locks
//! - The repository's lock protects manifests and the removal of blobs: no manifest changes between the check and the
//!   removal of a blob.
//! - The reservations lock protects reservations and the removal of blobs: a client reserves a blob, which prevents its
//!   removal, or finds the blob missing.
//! - A process that needs both locks takes the repository's lock first.
//! - The reservations of a killed process end after [`RESERVATION_LIFETIME`].

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Store;
use super::files::{self, cannot, none_if_missing};
use super::layout::{BLOBS, Locked, MANIFESTS, RESERVATIONS, RepositoryFolder};
use super::manifests::{damaged, read_manifest};
use crate::digester::Digester;
use crate::error::{Error, ResourceKind, Result};
use crate::model::{Digest, ManifestContent, RepositoryPath};

/// The age at which a reservation ends.
const RESERVATION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of reservations of one blob. A blob with this many reservations keeps them until they expire.
const MAX_RESERVATIONS: usize = 1000;

/// The holder of reservations: one client of one process that serves the folder.
#[derive(Debug, Clone)]
pub(super) struct ReservationHolder {
    process: u64,
    /// The hash of the client; `0` for the process itself.
    client: u64,
    /// The keys of the hash of clients. Other processes do not know them.
    keys: RandomState,
}

impl ReservationHolder {
    /// Returns a new holder for a process.
    pub(super) fn new() -> Self {
        let keys = RandomState::new();
        Self { process: keys.hash_one(std::process::id()), client: 0, keys }
    }

    fn id(&self, client: u64) -> String {
        format!("{:016x}{client:016x}", self.process)
    }
}

/// The reason for a reservation. An upload of a blob and a later check by the same client are one reservation: docker
/// checks each blob after its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReservationReason {
    Uploaded,
    Found,
}

impl ReservationReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Found => "found",
        }
    }
}

/// The locked reservations of a repository's blobs: a file for each blob, with a line for each reservation.
pub(super) struct Reservations<'a> {
    folder: &'a RepositoryFolder,
    _lock: File,
}

impl RepositoryFolder {
    /// Waits for the reservations lock.
    pub(super) fn lock_reservations(&self) -> Result<Reservations<'_>> {
        let path = self.reservations_lock();
        let lock = files::open_lock(&path)?;
        lock.lock().map_err(cannot("lock", &path))?;
        Ok(Reservations { folder: self, _lock: lock })
    }
}

impl Reservations<'_> {
    /// Adds a reservation.
    pub(super) fn add(
        &self,
        digest: &Digest,
        holder: &ReservationHolder,
        reason: ReservationReason,
    ) -> Result<()> {
        let id = holder.id(holder.client);
        let line = |reason: ReservationReason| format!("{id} {}", reason.as_str());
        let mut reservations = self.of(digest)?;
        let uploaded = line(ReservationReason::Uploaded);
        let is_check_after_upload = |reservation: &String| {
            reason == ReservationReason::Found && reservation.starts_with(&uploaded)
        };
        let reservation = format!("{} {}", line(reason), unix_seconds(SystemTime::now()));
        match reservations.iter().position(is_check_after_upload) {
            Some(position) => reservations[position] = reservation,
            None if reservations.len() < MAX_RESERVATIONS => reservations.push(reservation),
            None => {}
        }
        self.write(digest, &reservations)
    }

    /// Ends one reservation of the client, or one of its process if the client has none.
    fn end_one(&self, digest: &Digest, holder: &ReservationHolder) -> Result<()> {
        let mut reservations = self.of(digest)?;
        let ids = [holder.client, 0].map(|client| holder.id(client));
        let found = ids
            .iter()
            .find_map(|id| reservations.iter().position(|reservation| reservation.starts_with(id)));
        match found {
            Some(position) if reservations.len() < MAX_RESERVATIONS => {
                reservations.remove(position);
                self.write(digest, &reservations)
            }
            _ => Ok(()),
        }
    }

    /// Ends all reservations of the clients of a process.
    #[cfg(feature = "push")]
    fn end_all(&self, holder: &ReservationHolder) -> Result<()> {
        let process = format!("{:016x}", holder.process);
        for digest in self.folder.digests(RESERVATIONS)? {
            let mut reservations = self.of(&digest)?;
            let count = reservations.len();
            reservations.retain(|reservation| !reservation.starts_with(&process));
            if reservations.len() < count {
                self.write(&digest, &reservations)?;
            }
        }
        Ok(())
    }

    /// Returns the unexpired reservations of a blob.
    fn of(&self, digest: &Digest) -> Result<Vec<String>> {
        self.made_after(digest, SystemTime::now() - RESERVATION_LIFETIME)
    }

    /// Returns whether a blob has no reservation that was made after `before`.
    fn has_no_reservation(&self, digest: &Digest, before: SystemTime) -> Result<bool> {
        Ok(self.made_after(digest, before)?.is_empty())
    }

    fn made_after(&self, digest: &Digest, before: SystemTime) -> Result<Vec<String>> {
        let path = self.folder.reservations(digest);
        let file = self.folder.metadata(&path)?;
        if file.is_none_or(|file| is_older(&file, before)) {
            return Ok(Vec::new());
        }
        let bytes = files::read_file(&path).map_err(cannot("read", &path))?.unwrap_or_default();
        let is_newer = |reservation: &&str| {
            let made =
                reservation.splitn(3, ' ').nth(2).and_then(|seconds| seconds.parse::<u64>().ok());
            // An incomplete line of a killed process has no time. The line expires with the file.
            made.is_none_or(|made| made > unix_seconds(before))
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().filter(is_newer).map(str::to_owned).collect())
    }

    /// Replaces the reservations of a blob. A process that is killed meanwhile may leave ended reservations.
    fn write(&self, digest: &Digest, reservations: &[String]) -> Result<()> {
        let path = self.folder.reservations(digest);
        if reservations.is_empty() {
            return self.delete(digest);
        }
        self.folder.create_parents(&path)?;
        let text = reservations.join("\n") + "\n";
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let opened =
            files::open_file(&path, &mut options).map_err(self.folder.cannot("write", &path))?;
        let Some((mut file, _)) = opened else {
            // The folder of a repository that was deleted meanwhile is missing too.
            self.folder.confirm()?;
            return Err(Error::failed(format!("cannot write {}", path.display()))
                .with_source("it is not a file"));
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.set_len(text.len() as u64))
            .map_err(cannot("write", &path))
    }

    /// Ends all reservations of a blob.
    pub(super) fn delete(&self, digest: &Digest) -> Result<()> {
        let path = self.folder.reservations(digest);
        if self.folder.is_reachable(&path)? {
            none_if_missing(fs::remove_file(&path)).map_err(cannot("delete", &path))?;
        }
        Ok(())
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn is_older(metadata: &Metadata, before: SystemTime) -> bool {
    metadata.modified().is_ok_and(|time| time <= before)
}

impl Store {
    /// Returns a store with its own holder, whose reservations end separately.
    #[cfg(feature = "push")]
    pub(crate) fn for_one_transfer(&self) -> Self {
        Self { reservation_holder: ReservationHolder::new(), ..self.clone() }
    }

    /// Returns the store for the requests of a client. The header `Authorization` identifies the client.
    pub(crate) fn for_client(&self, authorization: &[u8]) -> Self {
        let client = self.reservation_holder.keys.hash_one(authorization);
        Self {
            reservation_holder: ReservationHolder { client, ..self.reservation_holder.clone() },
            ..self.clone()
        }
    }

    /// Reserves a blob for a client that may put a manifest with the blob. Returns the size in bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist.
    pub(crate) fn reserve_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<u64> {
        let folder = self.folder(path)?;
        let reserved = self.reserve_stored(&folder, digest, ReservationReason::Found)?;
        reserved.map(|blob| blob.len()).ok_or_else(|| missing_blob(&folder, digest))
    }

    /// Reserves a blob if the repository has it.
    pub(super) fn reserve_stored(
        &self,
        folder: &RepositoryFolder,
        digest: &Digest,
        reason: ReservationReason,
    ) -> Result<Option<Metadata>> {
        let blob = folder.blob(digest);
        if folder.metadata(&blob)?.is_none() {
            return Ok(None);
        }
        let reservations = folder.lock_reservations()?;
        let found = folder.metadata(&blob)?;
        if found.is_some() {
            reservations.add(digest, &self.reservation_holder, reason)?;
        }
        Ok(found)
    }

    /// Ends the client's reservations of the blobs of a manifest that was put.
    pub(super) fn end_reservations(&self, folder: &RepositoryFolder, content: &ManifestContent) {
        let blobs: BTreeSet<&Digest> = content.blobs().map(|blob| &blob.digest).collect();
        let ended = folder.lock_reservations().and_then(|reservations| {
            blobs
                .into_iter()
                .try_for_each(|blob| reservations.end_one(blob, &self.reservation_holder))
        });
        if let Err(error) = ended {
            tracing::debug!(%error, "cannot end reservations of blobs; they expire later");
        }
    }

    /// Ends the reservations of all clients of this process in a repository.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not exist.
    #[cfg(feature = "push")]
    pub(crate) fn end_all_reservations(&self, path: &RepositoryPath) -> Result<()> {
        let folder = self.folder(path)?;
        folder.lock_reservations()?.end_all(&self.reservation_holder)
    }

    /// Deletes a blob from one repository, whether or not a client reserved it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository or the blob does not exist; [`Error::Conflict`] if a manifest names the
    /// blob.
    pub(crate) fn delete_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<()> {
        let locked = self.lock(path)?;
        let folder = &locked.folder;
        for manifest in folder.digests(MANIFESTS)? {
            if self.blobs_of(folder, &manifest)?.contains(digest) {
                let problem = format!("is part of the image {manifest}");
                return Err(Error::conflict(ResourceKind::Blob, digest, problem));
            }
        }
        let reservations = folder.lock_reservations()?;
        let blob = folder.blob(digest);
        let exists = folder.metadata(&blob)?.is_some();
        if !exists || !files::remove_file(&blob).map_err(cannot("delete", &blob))? {
            return Err(missing_blob(folder, digest));
        }
        reservations.delete(digest)
    }

    /// Removes the unneeded blobs of a deleted image. The next sweep retries a failed removal.
    pub(super) fn collect_released(&self, locked: &Locked, blobs: &BTreeSet<Digest>) {
        if let Err(error) = self.collect(locked, blobs, SystemTime::now() - RESERVATION_LIFETIME) {
            let repository = locked.folder.path();
            tracing::warn!(%repository, %error, "cannot remove the blobs of a deleted image");
        }
    }

    /// Removes the unreferenced blobs without a reservation after `before`, if they are in `released` or were stored
    /// before `before`. Returns their number.
    pub(super) fn collect(
        &self,
        locked: &Locked,
        released: &BTreeSet<Digest>,
        before: SystemTime,
    ) -> Result<usize> {
        let folder = &locked.folder;
        let mut unreferenced: BTreeSet<Digest> = folder.digests(BLOBS)?.into_iter().collect();
        for manifest in folder.digests(MANIFESTS)? {
            for blob in &*self.blobs_of(folder, &manifest)? {
                unreferenced.remove(blob);
            }
        }
        let mut removed = 0;
        for digest in unreferenced {
            let blob = folder.blob(&digest);
            let reservations = folder.lock_reservations()?;
            let is_needless = released.contains(&digest)
                || folder.metadata(&blob)?.is_some_and(|blob| is_older(&blob, before));
            if is_needless && reservations.has_no_reservation(&digest, before)? {
                fs::remove_file(&blob).map_err(cannot("delete", &blob))?;
                removed += 1;
            }
        }
        for digest in folder.digests(RESERVATIONS)? {
            let reservations = folder.lock_reservations()?;
            if reservations.has_no_reservation(&digest, before)? {
                reservations.delete(&digest)?;
            }
        }
        Ok(removed)
    }

    /// Returns the blobs that a manifest names.
    pub(super) fn blobs_of(
        &self,
        folder: &RepositoryFolder,
        digest: &Digest,
    ) -> Result<Arc<BTreeSet<Digest>>> {
        self.references.get_or_read(digest, || {
            // A missing manifest names no blobs.
            let Some((header, bytes)) = read_manifest(folder, digest)? else {
                return Ok(BTreeSet::new());
            };
            let problem = |problem: String| damaged(&folder.manifest(digest), problem);
            let actual = Digester::digest(digest.algorithm(), &bytes);
            if actual != *digest {
                return Err(problem(format!("its digest is {actual}")));
            }
            let content = ManifestContent::parse(&header.media_type, &bytes).map_err(problem)?;
            Ok(content.blobs().map(|blob| blob.digest.clone()).collect())
        })
    }
}

/// The maximum number of cached references, of up to 300 bytes each.
const MAX_CACHED_REFERENCES: usize = 30_000;

/// A cache of the blobs that manifests name, so that a deletion of many images reads each manifest once. A manifest
/// names the same blobs in all repositories.
#[derive(Debug, Clone, Default)]
pub(super) struct References(Arc<Mutex<CachedReferences>>);

#[derive(Debug, Default)]
struct CachedReferences {
    blobs: HashMap<Digest, Arc<BTreeSet<Digest>>>,
    count: usize,
}

impl References {
    /// Returns the blobs of a manifest from the cache, or reads them. A full cache evicts other manifests.
    ///
    /// Manifests are read one at a time to limit the memory for large ones.
    fn get_or_read(
        &self,
        manifest: &Digest,
        read: impl FnOnce() -> Result<BTreeSet<Digest>>,
    ) -> Result<Arc<BTreeSet<Digest>>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blobs) = cached.blobs.get(manifest) {
            return Ok(Arc::clone(blobs));
        }
        let blobs = Arc::new(read()?);
        // A manifest without blobs may be missing.
        if blobs.is_empty() || blobs.len() >= MAX_CACHED_REFERENCES {
            return Ok(blobs);
        }
        while cached.count + blobs.len() >= MAX_CACHED_REFERENCES {
            let Some(other) = cached.blobs.keys().next().cloned() else { break };
            let removed = cached.blobs.remove(&other);
            cached.count -= removed.map_or(0, |blobs| 1 + blobs.len());
        }
        cached.count += 1 + blobs.len();
        cached.blobs.insert(manifest.clone(), Arc::clone(&blobs));
        Ok(blobs)
    }
}

/// Returns the error of a missing blob, or of its repository if that was deleted.
pub(super) fn missing_blob(folder: &RepositoryFolder, digest: &Digest) -> Error {
    match folder.confirm() {
        Ok(()) => Error::not_found(ResourceKind::Blob, digest),
        Err(gone) => gone,
    }
}

#[cfg(test)]
mod tests;
