//! Sample stores for the tests of this module, and tests of concurrent processes in one folder.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::manifests::ManifestPut;
use super::*;
use crate::backend::CreateOptions;
use crate::digester::Digester;
use crate::model::{
    Algorithm, Descriptor, Digest, OrganizationId, Organizations, Reference, RepositoryPath, Stage,
    Tag,
};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A stored manifest.
#[derive(Debug)]
pub(super) struct StoredManifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

impl Store {
    pub(super) fn manifest(
        &self,
        path: &RepositoryPath,
        reference: &Reference,
    ) -> Result<StoredManifest> {
        let mut open = self.open_manifest(path, reference)?;
        let mut bytes = Vec::new();
        open.file.read_to_end(&mut bytes).unwrap();
        Ok(StoredManifest { digest: open.digest, media_type: open.media_type, bytes })
    }

    pub(super) fn tags(&self, path: &RepositoryPath) -> Result<Vec<Tag>> {
        self.tags_after(path, None, usize::MAX)
    }

    pub(super) fn referrers(
        &self,
        path: &RepositoryPath,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let digests = self.referrers_after(path, subject, None, usize::MAX)?;
        let referrers = digests.iter().map(|digest| self.referrer(path, subject, digest));
        referrers.filter_map(Result::transpose).collect()
    }
}

/// A store in a temporary folder.
pub(super) struct Sample {
    pub(super) store: Store,
    pub(super) folder: tempfile::TempDir,
}

impl Sample {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_path_buf()).unwrap();
        store.create().unwrap();
        Self { store, folder }
    }

    /// Creates a store with a repository.
    pub(super) fn with_repository(name: &str) -> (Self, RepositoryPath) {
        let sample = Self::new();
        let path = sample.create(name);
        (sample, path)
    }

    pub(super) fn create(&self, name: &str) -> RepositoryPath {
        let path = path(name);
        self.store.create_repository(&path, &CreateOptions::default()).unwrap();
        path
    }

    /// Opens the store as another process does.
    pub(super) fn reopened(&self) -> Store {
        Store::open(self.folder.path().to_path_buf()).unwrap()
    }

    pub(super) fn push_blob(&self, path: &RepositoryPath, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        let id = self.store.start_upload(path).unwrap();
        let mut upload = self.store.open_upload(path, &id).unwrap();
        upload.write(bytes).unwrap();
        upload.finish(&digest).unwrap();
        digest
    }

    pub(super) fn read_blob(&self, path: &RepositoryPath, digest: &Digest) -> Vec<u8> {
        let (mut file, size) = self.store.open_blob(path, digest).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        bytes
    }

    /// Pushes an image of one layer to a tag.
    pub(super) fn push_image(&self, path: &RepositoryPath, tag: &str, layer: &[u8]) -> Digest {
        self.put(path, tag, MANIFEST, &self.manifest(path, layer)).unwrap().digest
    }

    /// Pushes the blobs of an image and returns its manifest.
    pub(super) fn manifest(&self, path: &RepositoryPath, layer: &[u8]) -> String {
        let config = br#"{"os":"linux","architecture":"arm64","variant":"v8"}"#;
        self.push_blob(path, config);
        self.push_blob(path, layer);
        manifest_of(MANIFEST, &descriptor(CONFIG, config), &[descriptor(LAYER, layer)])
    }

    pub(super) fn put(
        &self,
        path: &RepositoryPath,
        reference: &str,
        media_type: &str,
        manifest: &str,
    ) -> Result<ManifestPut, PutManifestError> {
        let reference = reference.parse().unwrap();
        self.store.put_manifest(path, &reference, media_type, manifest.as_bytes())
    }
}

pub(super) fn path(name: &str) -> RepositoryPath {
    path_in(OrganizationId::TBD, name)
}

pub(super) fn path_in(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digester::digest(Algorithm::Sha256, bytes)
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let (digest, size) = (sha256(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

pub(super) fn manifest_of(media_type: &str, config: &str, layers: &[String]) -> String {
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]}}"#
    )
}

pub(super) fn index_of(media_type: &str, manifests: &[String]) -> String {
    let manifests = manifests.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{manifests}]}}"#)
}

/// Returns `None` if another thread has deleted the repository.
fn unless_gone<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

#[test]
fn concurrent_creations_return_same_repository() {
    let sample = Sample::new();
    let records: Vec<_> = thread::scope(|scope| {
        let create = || {
            let store = sample.reopened();
            store.create_repository(&path("a/b"), &CreateOptions::default()).unwrap()
        };
        let threads = [(); 4].map(|()| scope.spawn(create));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(records.iter().all(|record| *record == records[0]));
}

#[test]
fn concurrent_changes_are_atomic() {
    let (sample, path) = Sample::with_repository("a");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let store = sample.reopened();
            for round in 0..40 {
                unless_gone(store.delete_repository(&path, true));
                if round % 2 == 0 {
                    unless_gone(store.delete_repository(&path, false));
                }
                store.create_repository(&path, &CreateOptions::default()).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        for layer in [b"one", b"two"] {
            let (sample, path, done) = (&sample, &path, &done);
            scope.spawn(move || {
                let store = sample.reopened();
                while !done.load(Ordering::Acquire) {
                    unless_gone(push(&store, path, layer));
                }
            });
        }
        scope.spawn(|| {
            let store = sample.reopened();
            while !done.load(Ordering::Acquire) {
                for listed in store.repositories(&Stage::default(), &Organizations::All) {
                    assert_eq!(listed.unwrap().0, path);
                }
                for image in unless_gone(store.images(&path)).unwrap_or_default() {
                    unless_gone(store.manifest(&path, &image.digest.into()));
                }
            }
        });
    });
    push(&sample.store, &path, b"one").unwrap();
    assert!(!sample.store.images(&path).unwrap().is_empty());
}

/// Pushes an image as a client does. A missing blob means that the repository was deleted.
fn push(store: &Store, path: &crate::model::RepositoryPath, layer: &[u8]) -> Result<()> {
    let config = b"{}";
    for blob in [&config[..], layer] {
        let id = store.start_upload(path)?;
        let mut upload = store.open_upload(path, &id)?;
        upload.write(blob)?;
        upload.finish(&sha256(blob))?;
    }
    let layers = [descriptor(LAYER, layer)];
    let text = manifest_of(MANIFEST, &descriptor(CONFIG, config), &layers);
    let tag = "latest".parse()?;
    match store.put_manifest(path, &tag, MANIFEST, text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(PutManifestError::Missing(digest)) => {
            Err(Error::not_found(crate::error::ResourceKind::Blob, digest))
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn concurrent_tagging_and_deletion_leave_no_dangling_tag() {
    let (sample, path) = Sample::with_repository("a");
    thread::scope(|scope| {
        for layer in [b"one", b"two"] {
            let (sample, path) = (&sample, &path);
            scope.spawn(move || {
                let store = sample.reopened();
                for _ in 0..30 {
                    push(&store, path, layer).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let (store, latest) = (sample.reopened(), "latest".parse().unwrap());
            for _ in 0..60 {
                unless_gone(store.delete_image(&path, &latest));
            }
        });
    });
    push(&sample.store, &path, b"one").unwrap();
    let latest = "latest".parse().unwrap();
    assert!(sample.store.manifest(&path, &latest).is_ok());
    let images = sample.store.images(&path).unwrap();
    assert_eq!(images.iter().flat_map(|image| &image.tags).count(), 1);
}

#[test]
fn moving_tag_is_always_found() {
    let (sample, path) = Sample::with_repository("a");
    let latest = "latest".parse().unwrap();
    push(&sample.store, &path, b"zero").unwrap();
    let moved = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let store = sample.reopened();
            for layer in [b"one", b"two"].repeat(20) {
                let old = store.manifest(&path, &latest).unwrap().digest;
                push(&store, &path, layer).unwrap();
                store.delete_manifest(&path, &old).unwrap();
            }
            moved.store(true, Ordering::Release);
        });
        while !moved.load(Ordering::Acquire) {
            sample.store.manifest(&path, &latest).unwrap();
        }
    });
}

#[test]
fn sweep_removes_old_uploads_that_are_not_open() {
    let (sample, path) = Sample::with_repository("a/b");
    let store = &sample.store;
    let [abandoned, running] = [(); 2].map(|()| store.start_upload(&path).unwrap());
    let upload = store.open_upload(&path, &running).unwrap();
    assert_eq!(store.sweep(Duration::from_secs(3600)).unwrap(), SweepResult::default());
    let swept = store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, SweepResult { uploads: 1, ..Default::default() });
    assert!(store.upload_size(&path, &abandoned).is_err());
    assert_eq!(store.upload_size(&path, &running).unwrap(), 0);
    drop(upload);
}

#[test]
fn sweep_removes_only_leftovers_of_killed_processes() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_image(&path, "v1", b"layer");
    let root = sample.folder.path();
    let outside = root.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "").unwrap();
    fs::create_dir_all(root.join("_trash/x/blobs")).unwrap();
    fs::create_dir_all(root.join("_tmp/y")).unwrap();
    fs::write(root.join("_tmp/z"), "").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("_trash/link")).unwrap();
    let fresh = sample.store.sweep(Duration::from_secs(3600)).unwrap();
    assert_eq!(fresh.leftovers, 2, "only the trash: temporary files may be in use");
    let swept = sample.store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, SweepResult { leftovers: 2, ..Default::default() });
    assert!(outside.join("file").exists(), "a link was followed");
    assert_eq!(sample.store.images(&path).unwrap()[0].digest, digest);
}

#[test]
fn symbolic_link_as_trash_is_rejected() {
    let sample = Sample::new();
    let root = sample.folder.path();
    let outside = root.join("outside");
    fs::create_dir_all(outside.join("folder")).unwrap();
    fs::remove_dir(root.join("_trash")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("_trash")).unwrap();
    assert_eq!(sample.store.sweep(Duration::ZERO).unwrap(), SweepResult::default());
    assert!(outside.join("folder").exists());
    assert!(sample.store.create().is_err());
}

#[test]
fn opening_and_reading_write_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("new/registry");
    let store = Store::open(root.clone()).unwrap();
    let stage = Stage::default();
    assert_eq!(store.repositories(&stage, &Organizations::All).count(), 0);
    assert!(store.organizations(&stage).unwrap().is_empty());
    assert!(matches!(store.tags(&path("a")), Err(Error::NotFound { .. })));
    assert_eq!(store.sweep(Duration::ZERO).unwrap(), SweepResult::default());
    assert!(!parent.path().join("new").exists());
    store.create_repository(&path("a"), &CreateOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "1");
}

#[test]
fn folder_of_other_files_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_path_buf();
    let store = Store::open(root.clone()).unwrap();
    fs::write(root.join("memberships.toml"), "").unwrap();
    fs::create_dir(root.join("_tmp")).unwrap();
    Store::open(root.clone()).unwrap();
    fs::write(root.join("main.c"), "").unwrap();
    for error in [
        Store::open(root.clone()).unwrap_err(),
        store.create_repository(&path("a"), &CreateOptions::default()).unwrap_err(),
    ] {
        let expected = format!("{} is not the folder of a registry: it has main.c", root.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    assert_eq!(fs::read_dir(&root).unwrap().count(), 3);
    let file = root.join("main.c");
    let error = Store::open(file.clone()).unwrap_err();
    let expected = format!("{} is a file, not a folder; replace or remove it", file.display());
    assert_eq!(error.to_string(), expected);
}
