//! [`Unfinished`]: where uploads that broke off can go on, kept on disk for the next push.
//!
//! Each upload is a file, named by a hash of the repository's URL and what the blob is called: by its
//! digest, or by its diff ID and how it is compressed. Its lock is
//! held as long as the blob is sent, so that two pushes of the same blob have an upload each. Only the
//! user can read the files: whoever knows where an upload is could add to it. Nothing depends on
//! them: what cannot go on is sent from its start.

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
const LIMITS: Limits =
    Limits { max_len: 32 * 1024, kept_for: Duration::from_secs(24 * 60 * 60), most: 1024 };

/// Part of every file's name: a program of another format neither finds nor disturbs these files.
const FORMAT: u32 = 1;

/// The uploads of a user that broke off.
#[derive(Debug, Clone)]
pub(super) struct Unfinished(Folder);

/// One of them, while its blob is sent.
#[derive(Debug)]
pub(super) struct Held {
    folder: Folder,
    stem: String,
    key: String,
    /// Whatever still writes shares it, so that nobody else begins before that has ended.
    lock: Arc<File>,
}

/// The content of a file. The key stands in it, so that the copy of another file is not taken for it.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    location: String,
    offset: u64,
}

impl Unfinished {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(Folder::new(directory, LIMITS))
    }

    /// Takes hold of a blob's upload to a repository, and tells where it went as far as.
    ///
    /// `None` if another push has hold of it, or the disk cannot be used.
    pub(super) async fn hold(
        &self,
        client: &Client,
        blob: impl fmt::Display,
    ) -> Option<(Held, Option<(Upload, u64)>)> {
        let key = format!("{} {} {blob}", client.base(), client.repository());
        let digest = Digester::digest(Algorithm::Sha256, key.as_bytes());
        let stem = format!("upload-{FORMAT}-{}", digest.hex());
        let folder = self.0.clone();
        let holding = spawn_blocking(move || {
            folder.sweep()?;
            let Some(lock) = folder.try_hold(&stem)? else { return Ok(None) };
            let kept = folder.read(&stem);
            let held = Held { folder, stem, key, lock: Arc::new(lock) };
            let kept = kept.unwrap_or_else(|error| {
                held.warn(&error);
                None
            });
            let kept = kept.and_then(|json| serde_json::from_slice::<Kept>(&json).ok());
            let kept = kept.filter(|kept| kept.key == held.key);
            Ok(Some((held, kept)))
        });
        let held = holding.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (held, kept) = held.unwrap_or_else(|error| {
            warn(&self.0, &error);
            None
        })?;
        let place = kept.and_then(|kept| Some((Upload::at(&kept.location)?, kept.offset)));
        Some((held, place))
    }
}

impl Held {
    /// Keeps how far the upload is.
    pub(super) async fn keep(&self, upload: &Upload, offset: u64) {
        let kept = Kept { key: self.key.clone(), location: upload.location().to_string(), offset };
        let (folder, stem, lock) = (self.folder.clone(), self.stem.clone(), self.lock.clone());
        let keeping = spawn_blocking(move || {
            let _lock = lock;
            let json = serde_json::to_vec(&kept).map_err(io::Error::other)?;
            folder.write_soon(&stem, &json)
        });
        self.warn_of(keeping.await);
    }

    /// Forgets the upload: it is done, or given up.
    pub(super) async fn forget(self) {
        let (folder, stem) = (self.folder.clone(), self.stem.clone());
        let forgetting = spawn_blocking(move || folder.let_go(&stem));
        self.warn_of(forgetting.await);
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
    let folder = folder.path();
    tracing::warn!(?folder, %error, "an upload that breaks off now cannot go on later");
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
    async fn an_upload_is_kept_for_its_blob_and_repository_until_it_is_done() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Scripted::new([] as [&str; 0]));
        let client = registry.client();
        let unfinished = || Unfinished::new(folder.path().join("uploads"));
        let (held, place) = unfinished().hold(&client, blob(b"a")).await.unwrap();
        assert!(place.is_none());
        let upload = Upload::at("http://127.0.0.1:1/u?_state=x").unwrap();
        held.keep(&upload, 7).await;
        // Another push of the same blob has to do without.
        assert!(unfinished().hold(&client, blob(b"a")).await.is_none());
        let (_, other) = unfinished().hold(&client, blob(b"b")).await.unwrap();
        assert!(other.is_none());
        drop(held);

        let (held, place) = unfinished().hold(&client, blob(b"a")).await.unwrap();
        let (found, offset) = place.unwrap();
        assert_eq!((found.location(), offset), (upload.location(), 7));
        held.forget().await;
        let (_, place) = unfinished().hold(&client, blob(b"a")).await.unwrap();
        assert!(place.is_none());
    }

    #[tokio::test]
    async fn what_makes_no_sense_and_what_is_old_is_not_believed() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), Scripted::new([] as [&str; 0]));
        let client = registry.client();
        let unfinished = Unfinished::new(folder.path().join("uploads"));
        let upload = Upload::at("http://127.0.0.1:1/u").unwrap();
        let keep = async || {
            let (held, _) = unfinished.hold(&client, blob(b"a")).await.unwrap();
            held.keep(&upload, 7).await;
            held.folder.file(&held.stem)
        };
        let place = async || unfinished.hold(&client, blob(b"a")).await.unwrap().1;
        let file = keep().await;
        assert!(place().await.is_some());

        let content = fs::read_to_string(&file).unwrap();
        for damaged in
            ["", "{}", &content.replace("sha256:", "sha512:"), &content.replace("http:", "")]
        {
            keep().await;
            fs::write(&file, damaged).unwrap();
            assert!(place().await.is_none(), "{damaged}");
        }
        keep().await;
        let yesterday = std::time::SystemTime::now() - 2 * LIMITS.kept_for;
        fs::File::options().write(true).open(&file).unwrap().set_modified(yesterday).unwrap();
        assert!(place().await.is_none());
        assert!(!file.exists());
    }
}
