use std::os::unix::fs::{MetadataExt, symlink};

use super::super::sample::{Sample, path, path_in, sha256};
use super::*;
use crate::backend::CreateOptions;
use crate::model::OrganizationId;

#[test]
fn a_missing_blob_and_a_missing_repository_are_told_apart() {
    let (sample, repository) = Sample::with_repository("a");
    let error = sample.store.open_blob(&repository, &sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Blob, .. }));
    let error = sample.store.open_blob(&path("b"), &sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
}

#[test]
fn a_mount_shares_the_file_and_outlives_the_other_name() {
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
fn nothing_is_mounted_across_organizations_or_stages() {
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
fn what_cannot_be_mounted_is_to_be_uploaded() {
    let (sample, repository) = Sample::with_repository("a");
    let digest = sha256(b"x");
    assert!(!sample.store.mount_blob(&path("none"), &repository, &digest).unwrap());
    let other = sample.create("b");
    assert!(!sample.store.mount_blob(&other, &repository, &digest).unwrap());
    let error = sample.store.mount_blob(&repository, &path("none"), &digest).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
}

#[test]
fn a_link_is_no_blob_and_leads_nowhere() {
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
    // A link in the way there is no better.
    let elsewhere = sample.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join(digest.hex()), "secret").unwrap();
    std::fs::remove_dir_all(blobs.join("sha256")).unwrap();
    symlink(&elsewhere, blobs.join("sha256")).unwrap();
    assert!(is_missing());
}
