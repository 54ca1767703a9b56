use std::os::unix::fs::{MetadataExt, symlink};

use super::super::tests::{Sample, path, path_in, sha256};
use super::*;
use crate::backend::CreateOptions;
use crate::model::OrganizationId;

#[test]
fn missing_blob_and_missing_repository_have_distinct_errors() {
    let (sample, repository) = Sample::with_repository("a");
    let error = sample.store.open_blob(&repository, &sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Blob, .. }));
    let error = sample.store.open_blob(&path("b"), &sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
}

#[test]
fn mount_shares_file_and_outlives_its_source() {
    let (sample, from) = Sample::with_repository("from");
    let to = sample.create("to/here");
    let digest = sample.push_blob(&from, b"blob");
    assert!(sample.store.mount_blob(&from, &to, &digest).unwrap());
    assert!(sample.store.mount_blob(&from, &to, &digest).unwrap(), "a second time");
    let (file, _) = sample.store.open_blob(&to, &digest).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    sample.store.delete_repository(&from, true).unwrap();
    assert_eq!(sample.read_blob(&to, &digest), b"blob");
    sample.store.delete_blob(&to, &digest).unwrap();
    assert!(matches!(sample.store.delete_blob(&to, &digest), Err(Error::NotFound { .. })));
}

#[test]
fn mount_across_organizations_or_stages_fails() {
    let (sample, from) = Sample::with_repository("a");
    let digest = sample.push_blob(&from, b"blob");
    let stage: RepositoryPath = from.to_string().replacen("prod", "dev", 1).parse().unwrap();
    for to in [path_in(OrganizationId::GLOBAL, "a"), stage] {
        sample.store.create_repository(&to, &CreateOptions::default()).unwrap();
        assert!(!sample.store.mount_blob(&from, &to, &digest).unwrap());
        assert!(matches!(sample.store.open_blob(&to, &digest), Err(Error::NotFound { .. })));
    }
}

#[test]
fn missing_blob_is_not_mounted() {
    let (sample, repository) = Sample::with_repository("a");
    let digest = sha256(b"x");
    assert!(!sample.store.mount_blob(&path("none"), &repository, &digest).unwrap());
    let other = sample.create("b");
    assert!(!sample.store.mount_blob(&other, &repository, &digest).unwrap());
    let error = sample.store.mount_blob(&repository, &path("none"), &digest).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
}

#[test]
fn symbolic_link_is_not_a_blob() {
    let (sample, repository) = Sample::with_repository("a");
    sample.push_blob(&repository, b"blob");
    let secret = sample.folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let digest = sha256(b"secret");
    let blobs = sample.folder.path().join(repository.to_string()).join("_repository/blobs");
    symlink(&secret, blobs.join("sha256").join(digest.hex())).unwrap();
    let is_missing = || {
        let found = sample.store.open_blob(&repository, &digest);
        matches!(found, Err(Error::NotFound { kind: ResourceKind::Blob, .. }))
    };
    assert!(is_missing());
    let other = sample.create("b");
    assert!(!sample.store.mount_blob(&repository, &other, &digest).unwrap());
    // A link in place of a parent folder is not followed either.
    let elsewhere = sample.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join(digest.hex()), "secret").unwrap();
    std::fs::remove_dir_all(blobs.join("sha256")).unwrap();
    symlink(&elsewhere, blobs.join("sha256")).unwrap();
    assert!(is_missing());
}

#[test]
fn upload_ids_have_one_spelling() {
    let text = "00112233445566778899aabbccddeeff";
    assert_eq!(text.parse::<UploadId>().unwrap().to_string(), text);
    for bad in ["", "0", "+0112233445566778899aabbccddeeff", "../x", &text.to_uppercase()] {
        assert!(bad.parse::<UploadId>().is_err(), "{bad}");
    }
}

#[test]
fn upload_resumes_in_another_process() {
    let (sample, path) = Sample::with_repository("a");
    let id = sample.store.start_upload(&path).unwrap();
    let mut upload = sample.store.open_upload(&path, &id).unwrap();
    upload.write(b"one ").unwrap();
    upload.write(b"two ").unwrap();
    drop(upload);
    let other = sample.reopened();
    assert_eq!(other.upload_size(&path, &id).unwrap(), 8);
    let mut upload = other.open_upload(&path, &id).unwrap();
    assert_eq!(upload.size(), 8);
    upload.write(b"three").unwrap();
    assert_eq!(upload.size(), 13);
    upload.finish(&sha256(b"one two three")).unwrap();
    assert_eq!(sample.read_blob(&path, &sha256(b"one two three")), b"one two three");
    let after = sample.store.open_upload(&path, &id).unwrap_err();
    assert!(matches!(after, Error::NotFound { kind: ResourceKind::Upload, .. }));
}

#[test]
fn upload_has_one_writer_at_a_time() {
    let (sample, path) = Sample::with_repository("a");
    let id = sample.store.start_upload(&path).unwrap();
    let upload = sample.store.open_upload(&path, &id).unwrap();
    let other = sample.reopened();
    let error = other.open_upload(&path, &id).unwrap_err();
    assert_eq!(error.to_string(), format!("upload {id} is in use"));
    assert!(matches!(other.cancel_upload(&path, &id), Err(Error::Conflict { .. })));
    drop(upload);
    other.cancel_upload(&path, &id).unwrap();
    assert!(matches!(sample.store.upload_size(&path, &id), Err(Error::NotFound { .. })));
}

#[test]
fn wrong_digest_ends_upload() {
    let (sample, path) = Sample::with_repository("a");
    let id = sample.store.start_upload(&path).unwrap();
    let mut upload = sample.store.open_upload(&path, &id).unwrap();
    upload.write(b"x").unwrap();
    let error = upload.finish(&sha256(b"y")).unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }));
    assert!(error.to_string().contains(&sha256(b"x").to_string()), "{error}");
    assert!(matches!(sample.store.upload_size(&path, &id), Err(Error::NotFound { .. })));
    for text in [b"x", b"y"] {
        let found = sample.store.open_blob(&path, &sha256(text));
        assert!(matches!(found, Err(Error::NotFound { .. })));
    }
}

#[test]
fn empty_blobs_and_sha512_are_accepted() {
    let (sample, path) = Sample::with_repository("a");
    for (algorithm, bytes) in [
        (Algorithm::Sha256, &b""[..]),
        (Algorithm::Sha512, b""),
        (Algorithm::Sha512, &[7; 300_000]),
    ] {
        let digest = Digester::digest(algorithm, bytes);
        let id = sample.store.start_upload(&path).unwrap();
        let mut upload = sample.store.open_upload(&path, &id).unwrap();
        upload.write(bytes).unwrap();
        upload.finish(&digest).unwrap();
        assert_eq!(sample.read_blob(&path, &digest), bytes);
    }
}

#[test]
fn stored_blob_stays_and_truncated_one_is_replaced() {
    let (sample, path) = Sample::with_repository("a");
    let digest = sample.push_blob(&path, b"blob");
    let inode = || sample.store.open_blob(&path, &digest).unwrap().0.metadata().unwrap().ino();
    let first = inode();
    sample.push_blob(&path, b"blob");
    assert_eq!(inode(), first);
    let folder = sample.store.folder(&path).unwrap();
    assert!(folder.file_names(&folder.uploads()).unwrap().is_empty());
    fs::write(folder.blob(&digest), b"bl").unwrap();
    sample.push_blob(&path, b"blob");
    assert_eq!(sample.read_blob(&path, &digest), b"blob");
}

#[test]
fn upload_ends_with_its_repository() {
    let (sample, repository) = Sample::with_repository("a");
    let id = sample.store.start_upload(&repository).unwrap();
    let mut upload = sample.store.open_upload(&repository, &id).unwrap();
    sample.store.delete_repository(&repository, false).unwrap();
    upload.write(b"x").unwrap();
    let error = upload.finish(&sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
    let folder = sample.store.repository_folder(&repository);
    assert!(!folder.as_path().exists(), "a deleted repository was recreated in part");
    // An upload does not end in a new repository of the same name either.
    sample.create("a");
    let mut upload = {
        let id = sample.store.start_upload(&repository).unwrap();
        sample.store.open_upload(&repository, &id).unwrap()
    };
    sample.store.delete_repository(&repository, false).unwrap();
    sample.create("a");
    upload.write(b"x").unwrap();
    let error = upload.finish(&sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Upload, .. }));
    let none = sample.store.start_upload(&path("none")).unwrap_err();
    assert!(matches!(none, Error::NotFound { kind: ResourceKind::Repository, .. }));
}

fn id(number: usize) -> UploadId {
    format!("{number:032x}").parse().unwrap()
}

fn hasher(bytes: &[u8]) -> Digester {
    let mut hasher = Digester::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher
}

#[test]
fn cached_hash_is_taken_once_and_for_its_length_only() {
    let upload_hashes = UploadHashes::default();
    upload_hashes.store(id(1), 3, hasher(b"abc"));
    assert!(upload_hashes.take(id(2), 3).is_none());
    let cached = upload_hashes.take(id(1), 3).unwrap();
    assert_eq!(cached.finish(), Digester::digest(Algorithm::Sha256, b"abc"));
    assert!(upload_hashes.take(id(1), 3).is_none());
    upload_hashes.store(id(1), 3, hasher(b"abc"));
    assert!(upload_hashes.take(id(1), 4).is_none());
    assert!(upload_hashes.take(id(1), 3).is_none());
}

#[test]
fn oldest_hashes_are_evicted() {
    let upload_hashes = UploadHashes::default();
    for number in 0..=MAX_CACHED_HASHES {
        upload_hashes.store(id(number), 0, hasher(b""));
    }
    assert!(upload_hashes.take(id(0), 0).is_none());
    assert!(upload_hashes.take(id(1), 0).is_some());
    assert!(upload_hashes.take(id(MAX_CACHED_HASHES), 0).is_some());
}
