//! Tests uploads of blobs with prepared responses.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::digester::Digester;
use crate::distribution::Upload;
use crate::error::Error;
use crate::files::Directory;
use crate::model::Algorithm;
use crate::testing::MockRegistryBackend;
use crate::testing::scripted::{Scripted, answer, refusal};
use crate::transfer::compress::Compression;
use crate::transfer::progress::BlobState;

/// Records the states of blobs.
#[derive(Default)]
struct States(Mutex<Vec<BlobState>>);

impl Progress for States {
    fn event(&self, event: &Event<'_>) {
        if let Event::Blob { state, .. } = event {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(*state);
        }
    }
}

/// Sends one blob of `content` with the digest of `claimed`.
async fn send(registry: &Scripted, content: &[u8], claimed: &[u8]) -> (Result<Outcome>, States) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path()).unwrap();
    directory.replace("layer", content).unwrap();
    let digest = Digester::digest(Algorithm::Sha256, claimed);
    let blob = Blob::file(&Descriptor::new("", digest, content.len() as u64), &directory, "layer");
    send_blob(registry, &blob, None).await
}

async fn send_blob(
    registry: &Scripted,
    blob: &Blob,
    cache: Option<&PushCache>,
) -> (Result<Outcome>, States) {
    let known = blob.descriptor();
    let (client, states) = (registry.patient_client(), States::default());
    let connection = Connection::new(Arc::new(MockRegistryBackend::new()));
    let target = RegistryTarget {
        client: &client,
        connection: &connection,
        tag: None,
        compressor: Compressor::new(Compression::default()),
        cache,
        mounts: Mounts::Nowhere,
        progress: &states,
    };
    let sent = target.write(blob, Some(&known), &Counter::default()).await;
    (sent, states)
}

fn opened() -> String {
    answer("202 Accepted", &["Location: /u"], "")
}

#[tokio::test]
async fn blob_with_lost_response_is_sent_once() {
    let exists = answer("200 OK", &[], "");
    let registry = Scripted::new([opened(), String::new(), exists]);
    let (sent, states) = send(&registry, b"content", b"content").await;
    assert_eq!(sent.unwrap().state, BlobState::Sent);
    let expected = [BlobState::Sending, BlobState::Retrying, BlobState::Sending];
    assert_eq!(states.0.into_inner().unwrap(), expected);
    assert!(registry.requests()[2].line.starts_with("HEAD "));
}

#[tokio::test]
async fn interrupted_upload_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, size) = (folder.path().join("layer"), 65 * 1024 * 1024);
    std::fs::File::create(&file).unwrap().set_len(size).unwrap();
    let digest = Digester::digest(Algorithm::Sha256, b"content");
    let directory = Directory::open(folder.path()).unwrap();
    let blob = Blob::file(&Descriptor::new("", digest.clone(), size), &directory, "layer");
    let received = format!("Range: 0-{}", size - 8);
    let status = answer("204 No Content", &["Location: /u", &received], "");
    let registry = Scripted::new([status, answer("201 Created", &[], "")]);

    let cache = PushCache::new(folder.path().to_owned());
    let (record, _) = cache.uploads().lock(&registry.client(), &digest).await.unwrap();
    let upload = Upload::at(&format!("http://{}/u", registry.host())).unwrap();
    record.write(&upload, 16 * 1024 * 1024).await;
    drop(record);
    let (sent, _) = send_blob(&registry, &blob, Some(&cache)).await;
    assert_eq!(sent.unwrap().resumed, size - 7);
    let requests = registry.requests();
    assert!(requests[0].line.starts_with("GET /u "), "{}", requests[0].line);
    assert!(requests[1].line.starts_with("PUT /u?digest="), "{}", requests[1].line);
    assert_eq!(requests[1].body.len(), 7);
}

#[tokio::test]
async fn blob_that_was_not_stored_is_sent_again() {
    let missing = answer("404 Not Found", &[], "");
    let unknown = refusal("404 Not Found", "BLOB_UPLOAD_UNKNOWN", "");
    let busy = answer("503 Service Unavailable", &["Retry-After: 0"], "");
    for (failure, cancels) in [(String::new(), 0), (unknown, 0), (busy, 1)] {
        let mut answers = vec![opened(), failure];
        answers.extend(vec![answer("204 No Content", &[], ""); cancels]);
        answers.extend([missing.clone(), opened(), answer("201 Created", &[], "")]);
        let registry = Scripted::new(answers);
        send(&registry, b"content", b"content").await.0.unwrap();
        let requests = registry.requests();
        assert_eq!(requests.last().unwrap().body, b"content");
    }
}

#[tokio::test]
async fn blob_with_wrong_digest_is_retried_or_fails() {
    let invalid = refusal("400 Bad Request", "DIGEST_INVALID", "not what it says");
    let cancelled = answer("204 No Content", &[], "");
    let registry = Scripted::new([
        opened(),
        invalid.clone(),
        cancelled.clone(),
        answer("404 Not Found", &[], ""),
        opened(),
        answer("201 Created", &[], ""),
    ]);
    send(&registry, b"content", b"content").await.0.unwrap();

    let registry = Scripted::new([opened(), invalid, cancelled]);
    let error = send(&registry, b"content", b"other").await.0.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("/layer is damaged: it is not sha256:"), "{error}");
}

#[tokio::test]
async fn permanent_upload_error_is_not_retried() {
    let registry = Scripted::new([
        opened(),
        refusal("413 Content Too Large", "SIZE_INVALID", "too large"),
        answer("204 No Content", &[], ""),
    ]);
    let error = send(&registry, b"content", b"content").await.0.unwrap_err();
    assert!(error.to_string().ends_with("/layer cannot be sent"), "{error}");
    assert_eq!(registry.requests().len(), 3);
}
