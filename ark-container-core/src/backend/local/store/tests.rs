//! Several who use one folder at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::sample::{MANIFEST, Sample, path};
use super::*;
use crate::backend::CreateOptions;
use crate::model::{Organizations, Stage};

/// What may be answered while somebody else deletes the repository.
fn unless_gone<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

#[test]
fn creation_at_once_gives_everyone_the_same_repository() {
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
fn pushes_listings_and_deletions_at_once_never_see_half_of_anything() {
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

/// Pushes an image as a client would; whatever is missing is because the repository was deleted.
fn push(store: &Store, path: &crate::model::RepositoryPath, layer: &[u8]) -> Result<()> {
    let config = b"{}";
    for blob in [&config[..], layer] {
        let id = store.start_upload(path)?;
        let mut upload = store.open_upload(path, &id)?;
        upload.write(blob)?;
        upload.finish(&sample::sha256(blob))?;
    }
    let layers = [sample::descriptor(sample::LAYER, layer)];
    let text = sample::manifest_of(MANIFEST, &sample::descriptor(sample::CONFIG, config), &layers);
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
fn tags_and_deletions_at_once_leave_no_tag_without_its_image() {
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
fn a_tag_that_moves_is_found_at_any_moment() {
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
fn a_sweep_removes_what_is_old_and_open_nowhere() {
    let (sample, path) = Sample::with_repository("a/b");
    let store = &sample.store;
    let [abandoned, running] = [(); 2].map(|()| store.start_upload(&path).unwrap());
    let upload = store.open_upload(&path, &running).unwrap();
    assert_eq!(store.sweep(Duration::from_secs(3600)).unwrap(), SweepResult::default());
    let swept = store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, SweepResult { uploads: 1, leftovers: 0 });
    assert!(store.upload_size(&path, &abandoned).is_err());
    assert_eq!(store.upload_size(&path, &running).unwrap(), 0);
    drop(upload);
}

#[test]
fn leftovers_of_killed_processes_go_and_nothing_else() {
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
    assert_eq!(fresh.leftovers, 2, "only the trash: what is temporary may be in use");
    let swept = sample.store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, SweepResult { uploads: 0, leftovers: 2 });
    assert!(outside.join("file").exists(), "a link was followed");
    assert_eq!(sample.store.images(&path).unwrap()[0].digest, digest);
}

#[test]
fn a_link_in_place_of_the_trash_is_refused() {
    let sample = Sample::new();
    let root = sample.folder.path();
    let outside = root.join("outside");
    fs::create_dir_all(outside.join("folder")).unwrap();
    fs::remove_dir(root.join("_trash")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("_trash")).unwrap();
    assert_eq!(sample.store.sweep(Duration::ZERO).unwrap(), SweepResult::default());
    assert!(outside.join("folder").exists());
    assert!(Store::open(root.to_path_buf()).is_err());
}
