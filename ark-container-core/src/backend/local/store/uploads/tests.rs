use super::super::sample::{Sample, path, sha256};
use super::*;
use crate::digester::Digester;

#[test]
fn ids_have_one_spelling() {
    let text = "00112233445566778899aabbccddeeff";
    assert_eq!(text.parse::<UploadId>().unwrap().to_string(), text);
    for bad in ["", "0", "+0112233445566778899aabbccddeeff", "../x", &text.to_uppercase()] {
        assert!(bad.parse::<UploadId>().is_err(), "{bad}");
    }
}

#[test]
fn an_upload_goes_on_in_another_process() {
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
fn an_upload_is_written_by_one_at_a_time() {
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
fn a_wrong_digest_ends_the_upload() {
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
fn empty_blobs_and_other_algorithms_are_taken() {
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
fn a_blob_that_is_there_stays_and_one_that_is_cut_short_is_replaced() {
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
fn an_upload_ends_with_its_repository() {
    let (sample, repository) = Sample::with_repository("a");
    let id = sample.store.start_upload(&repository).unwrap();
    let mut upload = sample.store.open_upload(&repository, &id).unwrap();
    sample.store.delete_repository(&repository, false).unwrap();
    upload.write(b"x").unwrap();
    let error = upload.finish(&sha256(b"x")).unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }));
    let folder = sample.store.place_of(&repository);
    assert!(!folder.as_path().exists(), "a deleted repository came back as a torso");
    // Nor does it get into one that took the name meanwhile.
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
