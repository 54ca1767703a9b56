//! [`PendingUploads`]: caches interrupted uploads on disk, so that the next push resumes them.
//!
//! Each upload has a file, named by a hash of the URL of the repository and of the blob: its digest, or its diff ID and
//! the compression. The file is locked while the blob is sent, so that two concurrent pushes of a blob use two uploads.
//! Only the user can read the files, since the location of an upload is secret. A blob whose upload cannot be resumed
//! is sent from the start.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::digester::Digester;
use crate::distribution::{Client, Upload};
use crate::model::Algorithm;
use crate::private_folder::{Folder, Limits};

/// Registries keep unfinished uploads for a day at most, some for a week.
const UPLOAD_LIMITS: Limits = Limits {
    prefix: "upload",
    max_bytes: 32 * 1024,
    max_age: Duration::from_secs(24 * 60 * 60),
    max_files: 1024,
};

/// The version of the file format, in every file name, so that other versions ignore the files.
const FORMAT_VERSION: u32 = 1;

/// The interrupted uploads of a user.
#[derive(Debug, Clone)]
pub(super) struct PendingUploads(Folder);

/// The file of one upload, locked while its blob is sent.
#[derive(Debug)]
pub(super) struct UploadRecord {
    folder: Folder,
    stem: String,
    key: String,
    /// The lock on the file. Each running write shares it, so that another push starts only after the write.
    lock: Arc<File>,
}

/// The content of a file, with its key, so that a copy of another file is invalid.
#[derive(Serialize, Deserialize)]
struct Content {
    key: String,
    location: String,
    offset: u64,
}

impl PendingUploads {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(Folder::new(directory, UPLOAD_LIMITS))
    }

    /// Locks the record of an upload of `blob` to a repository. Returns `None` if another push has locked the record,
    /// or the disk fails. Otherwise returns the record, and the upload to resume with its offset.
    pub(super) async fn lock(
        &self,
        client: &Client,
        blob: impl fmt::Display,
    ) -> Option<(UploadRecord, Option<(Upload, u64)>)> {
        let key = format!("{} {} {blob}", client.base(), client.name());
        let digest = Digester::digest(Algorithm::Sha256, key.as_bytes());
        let stem = format!("upload-{FORMAT_VERSION}-{}", digest.hex());
        let folder = self.0.clone();
        let locking = spawn_blocking(move || {
            folder.sweep()?;
            let Some(lock) = folder.try_lock_single(&stem)? else { return Ok(None) };
            let kept = folder.read(&stem);
            let record = UploadRecord { folder, stem, key, lock: Arc::new(lock) };
            let kept = kept.unwrap_or_else(|error| {
                record.warn(&error);
                None
            });
            let kept = kept.and_then(|json| serde_json::from_slice::<Content>(&json).ok());
            let kept = kept.filter(|kept| kept.key == record.key);
            Ok(Some((record, kept)))
        });
        let locked = locking.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (record, kept) = locked.unwrap_or_else(|error| {
            warn(&self.0, &error);
            None
        })?;
        let upload = kept.and_then(|kept| Some((Upload::at(&kept.location)?, kept.offset)));
        Some((record, upload))
    }
}

impl UploadRecord {
    /// Writes the location and the offset of the upload.
    pub(super) async fn write(&self, upload: &Upload, offset: u64) {
        let location = upload.location().to_string();
        let content = Content { key: self.key.clone(), location, offset };
        let (folder, stem, lock) = (self.folder.clone(), self.stem.clone(), self.lock.clone());
        let writing = spawn_blocking(move || {
            let _lock = lock;
            let json = serde_json::to_vec(&content).map_err(io::Error::other)?;
            folder.write_without_sync(&stem, &json)
        });
        self.warn_of(writing.await);
    }

    /// Removes the record of a finished or abandoned upload.
    pub(super) async fn remove(self) {
        let (folder, stem) = (self.folder.clone(), self.stem.clone());
        let removing = spawn_blocking(move || folder.remove_locked(&stem));
        self.warn_of(removing.await);
    }

    fn warn_of(&self, outcome: Result<io::Result<()>, tokio::task::JoinError>) {
        if let Err(error) = outcome.map_err(io::Error::other).and_then(|outcome| outcome) {
            self.warn(&error);
        }
    }

    fn warn(&self, error: &io::Error) {
        warn(&self.folder, error);
    }
}

fn warn(folder: &Folder, error: &io::Error) {
    let folder = folder.path().display();
    tracing::warn!(
        "an interrupted upload cannot be resumed later: cannot write its state to {folder}: {error}"
    );
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::Digest;
    use crate::testing::scripted::Scripted;

    fn blob(content: &[u8]) -> Digest {
        Digester::digest(Algorithm::Sha256, content)
    }

    #[tokio::test]
    async fn pending_upload_is_cached_until_it_is_removed() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Scripted::new([] as [&str; 0]));
        let client = registry.client();
        let uploads = || PendingUploads::new(folder.path().join("uploads"));
        let (record, pending) = uploads().lock(&client, blob(b"a")).await.unwrap();
        assert!(pending.is_none());
        let upload = Upload::at("http://127.0.0.1:1/u?_state=x").unwrap();
        record.write(&upload, 7).await;
        // Another push cannot use the upload of the same blob.
        assert!(uploads().lock(&client, blob(b"a")).await.is_none());
        let (_, other) = uploads().lock(&client, blob(b"b")).await.unwrap();
        assert!(other.is_none());
        drop(record);

        let (record, pending) = uploads().lock(&client, blob(b"a")).await.unwrap();
        let (found, offset) = pending.unwrap();
        assert_eq!((found.location(), offset), (upload.location(), 7));
        record.remove().await;
        let (_, pending) = uploads().lock(&client, blob(b"a")).await.unwrap();
        assert!(pending.is_none());
    }

    #[tokio::test]
    async fn invalid_or_old_pending_upload_is_ignored() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Scripted::new([] as [&str; 0]));
        let client = registry.client();
        let uploads = PendingUploads::new(folder.path().join("uploads"));
        let upload = Upload::at("http://127.0.0.1:1/u").unwrap();
        let keep = async || {
            let (record, _) = uploads.lock(&client, blob(b"a")).await.unwrap();
            record.write(&upload, 7).await;
            record.folder.file(&record.stem)
        };
        let pending = async || uploads.lock(&client, blob(b"a")).await.unwrap().1;
        let file = keep().await;
        assert!(pending().await.is_some());

        let content = fs::read_to_string(&file).unwrap();
        for damaged in
            ["", "{}", &content.replace("sha256:", "sha512:"), &content.replace("http:", "")]
        {
            keep().await;
            fs::write(&file, damaged).unwrap();
            assert!(pending().await.is_none(), "{damaged}");
        }
        keep().await;
        let yesterday = std::time::SystemTime::now() - 2 * UPLOAD_LIMITS.max_age;
        fs::File::options().write(true).open(&file).unwrap().set_modified(yesterday).unwrap();
        assert!(pending().await.is_none());
        assert!(!file.exists());
    }
}
