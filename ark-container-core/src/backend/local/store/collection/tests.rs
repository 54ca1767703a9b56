use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::super::tests::{
    CONFIG, INDEX, LAYER, MANIFEST, Sample, descriptor, index_of, manifest_of, sha256,
};
use super::super::{PutManifestError, SweepResult};
use super::*;

const SWEEP_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A client of the registry.
struct Client {
    store: Store,
    path: RepositoryPath,
}

impl Client {
    fn new(sample: &Sample, path: &RepositoryPath, password: &str) -> Self {
        Self { store: sample.store.for_client(password.as_bytes()), path: path.clone() }
    }

    fn has(&self, blob: &[u8]) -> bool {
        self.store.open_blob(&self.path, &sha256(blob)).is_ok()
    }

    fn reserve(&self, blob: &[u8]) -> bool {
        self.store.reserve_blob(&self.path, &sha256(blob)).is_ok()
    }

    fn upload(&self, blob: &[u8]) {
        let id = self.store.start_upload(&self.path).unwrap();
        let mut upload = self.store.open_upload(&self.path, &id).unwrap();
        upload.write(blob).unwrap();
        upload.finish(&sha256(blob)).unwrap();
    }

    /// Puts a manifest whose configuration and layer are these blobs.
    fn put(&self, tag: &str, config: &[u8], layer: &[u8]) -> Result<Digest, PutManifestError> {
        let text = manifest_of(MANIFEST, &descriptor(CONFIG, config), &[descriptor(LAYER, layer)]);
        let reference = tag.parse().unwrap();
        let put = self.store.put_manifest(&self.path, &reference, MANIFEST, text.as_bytes());
        put.map(|put| put.digest)
    }

    /// Uploads the missing blobs, as clients do, and puts the manifest.
    fn push(&self, tag: &str, config: &[u8], layer: &[u8]) -> Result<Digest, PutManifestError> {
        for blob in [config, layer] {
            if !self.reserve(blob) {
                self.upload(blob);
            }
        }
        self.put(tag, config, layer)
    }

    fn delete(&self, reference: &str) {
        self.store.delete_image(&self.path, &reference.parse().unwrap()).unwrap();
    }

    /// Makes a file one day old.
    fn age(&self, file: impl FnOnce(&RepositoryFolder) -> std::path::PathBuf) {
        let folder = self.store.folder(&self.path).unwrap();
        let file = File::options().write(true).open(file(&folder)).unwrap();
        file.set_modified(SystemTime::now() - SWEEP_AGE).unwrap();
    }
}

#[test]
fn deleted_image_frees_its_unshared_blobs() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    let first = client.push("v1", b"config 1", b"layer").unwrap();
    client.push("v2", b"config 2", b"layer").unwrap();
    // A tag that moves deletes no image.
    client.push("v1", b"config 3", b"layer 3").unwrap();
    assert!(client.has(b"config 1"));
    client.delete(&first.to_string());
    assert!(!client.has(b"config 1") && client.has(b"layer") && client.has(b"config 3"));
    client.delete("v1");
    assert!(!client.has(b"config 3") && !client.has(b"layer 3") && client.has(b"layer"));
    let last = client.store.manifest(&path, &"v2".parse().unwrap()).unwrap().digest;
    client.store.delete_manifest(&path, &last).unwrap();
    let folder = client.store.folder(&path).unwrap();
    assert!(folder.digests(BLOBS).unwrap().is_empty());
    assert!(folder.digests(RESERVATIONS).unwrap().is_empty());
}

#[test]
fn reserved_blob_stays_until_manifest_is_put() {
    let (sample, path) = Sample::with_repository("a");
    let [one, two] = ["one", "two"].map(|client| Client::new(&sample, &path, client));
    let first = one.push("v1", b"config 1", b"layer").unwrap();
    assert!(two.reserve(b"layer"));
    // A manifest of one client ends no reservation of another client, even if it is put again.
    assert_eq!(one.push("v1", b"config 1", b"layer").unwrap(), first);
    one.put("v1", b"config 1", b"layer").unwrap();
    one.delete("v1");
    assert!(!two.has(b"config 1") && two.has(b"layer"));
    two.upload(b"config 2");
    two.put("v2", b"config 2", b"layer").unwrap();
    two.delete("v2");
    assert!(!two.has(b"layer") && !two.has(b"config 2"));
}

#[test]
fn reservations_of_one_password_are_counted() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config 1", b"layer").unwrap();
    assert!(client.reserve(b"layer") && client.reserve(b"layer"));
    client.upload(b"config 2");
    client.put("v2", b"config 2", b"layer").unwrap();
    client.delete("v1");
    client.delete("v2");
    assert!(client.has(b"layer"), "one of two manifests has not arrived");
}

#[test]
fn upload_and_later_check_are_one_reservation() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    for blob in [&b"config"[..], b"layer"] {
        client.upload(blob);
        assert!(client.reserve(blob));
    }
    client.put("v1", b"config", b"layer").unwrap();
    client.delete("v1");
    assert!(!client.has(b"config") && !client.has(b"layer"));
}

#[test]
fn mounted_blob_is_reserved() {
    let (sample, from) = Sample::with_repository("from");
    let to = sample.create("to");
    let layer = sample.push_blob(&from, b"layer");
    Client::new(&sample, &from, "one").age(|folder| folder.blob(&layer));
    let client = Client::new(&sample, &to, "two");
    assert!(client.store.mount_blob(&from, &to, &layer).unwrap());
    assert_eq!(sample.store.sweep(SWEEP_AGE).unwrap(), SweepResult::default());
    client.upload(b"config");
    client.put("v1", b"config", b"layer").unwrap();
    client.delete("v1");
    assert!(!client.has(b"layer"));
    assert_eq!(sample.read_blob(&from, &layer), b"layer");
}

#[test]
fn sweep_removes_old_blobs_without_manifest_and_reservation() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config", b"layer").unwrap();
    let [young, reserved, asked, stored] =
        [b"young", b"valid", b"asked", b"store"].map(|blob| (client.upload(blob), sha256(blob)).1);
    for digest in [&reserved, &asked, &stored, &sha256(b"config")] {
        client.age(|folder| folder.blob(digest));
    }
    client.age(|folder| folder.reservations(&asked));
    client.age(|folder| folder.reservations(&young));
    // An expired reservation does not prevent a new one.
    assert!(client.reserve(b"asked"));
    // A blob may have no reservations file.
    fs::remove_file(client.store.folder(&path).unwrap().reservations(&stored)).unwrap();
    assert_eq!(
        sample.store.sweep(SWEEP_AGE).unwrap(),
        SweepResult { blobs: 1, ..Default::default() }
    );
    assert!(!client.has(b"store"));
    for blob in [&b"young"[..], b"valid", b"asked", b"config", b"layer"] {
        assert!(client.has(blob), "{blob:?}");
    }
    let folder = client.store.folder(&path).unwrap();
    assert_eq!(
        folder.digests(RESERVATIONS).unwrap().len(),
        2,
        "the old reservation of the young blob ended"
    );
    let swept = sample.store.sweep(Duration::ZERO).unwrap();
    assert_eq!(swept, SweepResult { blobs: 3, ..Default::default() });
    assert!(folder.digests(RESERVATIONS).unwrap().is_empty());
}

#[test]
fn deletion_removes_old_blobs_of_interrupted_pushes() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config", b"layer").unwrap();
    let cut = sample.push_blob(&path, b"cut");
    client.age(|folder| folder.blob(&cut));
    client.age(|folder| folder.reservations(&cut));
    client.delete("v1");
    assert!(!client.has(b"cut"));
}

#[cfg(feature = "push")]
#[test]
fn ended_transfer_leaves_no_reservation() {
    let (sample, path) = Sample::with_repository("a");
    let other = Client::new(&sample, &path, "other");
    other.push("v1", b"config", b"layer").unwrap();
    assert!(other.reserve(b"layer"));
    let transfer = sample.store.for_one_transfer();
    let client = Client { store: transfer.for_client(b"client"), path: path.clone() };
    assert!(client.reserve(b"config") && client.reserve(b"layer"));
    transfer.end_all_reservations(&path).unwrap();
    other.delete("v1");
    assert!(!other.has(b"config"), "reserved by the transfer alone");
    assert!(other.has(b"layer"), "reserved by the other client");
}

#[test]
fn blob_with_too_many_reservations_keeps_them() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config", b"layer").unwrap();
    let file = client.store.folder(&path).unwrap().reservations(&sha256(b"layer"));
    for _ in 0..MAX_RESERVATIONS {
        assert!(client.reserve(b"layer"));
    }
    let full = fs::metadata(&file).unwrap().len();
    assert!(client.reserve(b"layer"));
    client.put("v1", b"config", b"layer").unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), full);
    client.delete("v1");
    assert!(client.has(b"layer"));
}

#[test]
fn damaged_manifest_keeps_all_blobs() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    let damaged = client.push("damaged", b"config 1", b"layer 1").unwrap();
    client.push("v2", b"config 2", b"layer 2").unwrap();
    let file = client.store.folder(&path).unwrap().manifest(&damaged);
    let text = fs::read_to_string(&file).unwrap();
    // The JSON is valid, and names another blob.
    let other = text.replace(sha256(b"layer 1").hex(), sha256(b"other").hex());
    for text in [other, text.replace("config", "confic")] {
        fs::write(&file, text).unwrap();
        let store = sample.reopened();
        store.delete_image(&path, &"v2".parse().unwrap()).unwrap();
        assert_eq!(store.sweep(Duration::ZERO).unwrap(), SweepResult::default());
        assert!(client.has(b"layer 1") && client.has(b"layer 2"));
        let refused = store.delete_blob(&path, &sha256(b"layer 1")).unwrap_err();
        assert!(refused.to_string().ends_with("is damaged"), "{refused}");
        client.put("v2", b"config 2", b"layer 2").unwrap();
    }
    fs::remove_file(file).unwrap();
    assert_eq!(sample.store.sweep(Duration::ZERO).unwrap().blobs, 2);
    assert!(!client.has(b"layer 1") && client.has(b"layer 2"));
}

#[test]
fn blob_of_a_manifest_or_build_cache_is_not_deleted() {
    let (sample, path) = Sample::with_repository("a");
    let store = &sample.store;
    let image = sample.push_image(&path, "v1", b"layer");
    let cached = sample.push_blob(&path, b"cached");
    let index = index_of(INDEX, &[descriptor(LAYER, b"cached")]);
    let index = sample.put(&path, "cache", INDEX, &index).unwrap().digest;
    for (blob, manifest) in [(sha256(b"layer"), image), (cached, index)] {
        let error = store.delete_blob(&path, &blob).unwrap_err();
        assert!(matches!(error, Error::Conflict { kind: ResourceKind::Blob, .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("blob {blob} is part of the image {manifest}"));
    }
    let free = sample.push_blob(&path, b"free");
    store.delete_blob(&path, &free).unwrap();
    assert!(matches!(store.delete_blob(&path, &free), Err(Error::NotFound { .. })));
    assert!(
        store
            .folder(&path)
            .unwrap()
            .metadata(&store.folder(&path).unwrap().reservations(&free))
            .unwrap()
            .is_none()
    );
}

#[test]
fn cache_of_references_is_bounded() {
    let references = References::default();
    let named = |count: usize| (0..count).map(|n| sha256(&n.to_le_bytes())).collect();
    let add = |manifest: &[u8], count: usize| {
        references.get_or_read(&sha256(manifest), || Ok(named(count))).unwrap();
    };
    let is_cached = |manifest: &[u8]| {
        let read = || Err(Error::failed("not cached"));
        references.get_or_read(&sha256(manifest), read).is_ok()
    };
    add(b"large", MAX_CACHED_REFERENCES - 10);
    add(b"small", 5);
    assert!(is_cached(b"large") && is_cached(b"small"));
    add(b"more", 5);
    assert!(is_cached(b"more") && !(is_cached(b"large") && is_cached(b"small")));
    add(b"huge", MAX_CACHED_REFERENCES);
    assert!(!is_cached(b"huge"));
}

/// The number of pushes of each client in the tests with threads.
const PUSHES: usize = 60;

#[test]
fn concurrent_pushes_and_deletions_lose_no_blob() {
    let (sample, path) = Sample::with_repository("a");
    let other = sample.create("b");
    sample.push_blob(&other, b"mounted");
    let running = AtomicUsize::new(4);
    thread::scope(|scope| {
        for number in 0..4 {
            let (sample, path, other, running) = (&sample, &path, &other, &running);
            scope.spawn(move || {
                // Two clients of one process, and two processes.
                let sample_store =
                    if number < 2 { sample.store.clone() } else { sample.reopened() };
                let store = sample_store.for_client(&[number]);
                let client = Client { store, path: path.clone() };
                let layers = [&b"one"[..], b"two", b"mounted"];
                for round in 0..PUSHES {
                    let (config, layer) = ([number], layers[round % layers.len()]);
                    let mounted = sha256(b"mounted");
                    if layer == b"mounted" && !client.reserve(layer) {
                        client.store.mount_blob(other, path, &mounted).unwrap();
                    }
                    let image = client.push(&number.to_string(), &config, layer).unwrap();
                    for blob in [&config[..], layer] {
                        assert!(client.has(blob), "an acknowledged image lacks a blob");
                    }
                    client.delete(&image.to_string());
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            let store = sample.reopened();
            while running.load(Ordering::Acquire) > 0 {
                store.sweep(SWEEP_AGE).unwrap();
            }
        });
    });
    assert!(sample.store.images(&path).unwrap().is_empty());
    sample.store.sweep(Duration::ZERO).unwrap();
    let folder = sample.store.folder(&path).unwrap();
    assert!(folder.digests(BLOBS).unwrap().is_empty());
    assert!(folder.digests(RESERVATIONS).unwrap().is_empty());
}

#[test]
fn blob_is_reserved_or_removed_and_never_both() {
    let (sample, path) = Sample::with_repository("a");
    let pusher = Client::new(&sample, &path, "pusher");
    let client = Client { store: sample.reopened().for_client(b"client"), path: path.clone() };
    let (mut reserved, mut missing) = (0, 0);
    for round in 0..200 {
        pusher.push("v1", b"config", b"layer").unwrap();
        let is_reserved = thread::scope(|scope| {
            let reserving = scope.spawn(|| {
                thread::sleep(Duration::from_micros(round * 37 % 2000));
                client.reserve(b"layer")
            });
            pusher.delete("v1");
            reserving.join().unwrap()
        });
        assert_eq!(client.has(b"layer"), is_reserved, "round {round}");
        if is_reserved {
            reserved += 1;
            client.upload(b"config");
            client.put("v2", b"config", b"layer").unwrap();
            client.delete("v2");
        } else {
            missing += 1;
        }
        assert!(!client.has(b"layer"));
    }
    assert!(reserved > 0 && missing > 0, "{reserved} reserved, {missing} missing");
}

#[test]
fn expired_reservation_ends_beside_new_one() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config", b"layer").unwrap();
    let file = client.store.folder(&path).unwrap().reservations(&sha256(b"layer"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, format!("{:032x} found 1000\n", 1)).unwrap();
    assert!(client.reserve(b"layer"));
    client.put("v1", b"config", b"layer").unwrap();
    client.delete("v1");
    assert!(!client.has(b"layer"));
}

#[test]
fn reservations_of_killed_process_count() {
    let (sample, path) = Sample::with_repository("a");
    let client = Client::new(&sample, &path, "client");
    client.push("v1", b"config", b"layer").unwrap();
    let file = client.store.folder(&path).unwrap().reservations(&sha256(b"layer"));
    // The process was killed in the middle of a line.
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "00").unwrap();
    client.put("v1", b"config", b"layer").unwrap();
    client.delete("v1");
    assert!(client.has(b"layer"));
    client.age(|folder| folder.reservations(&sha256(b"layer")));
    client.age(|folder| folder.blob(&sha256(b"layer")));
    assert_eq!(sample.store.sweep(SWEEP_AGE).unwrap().blobs, 1);
}
