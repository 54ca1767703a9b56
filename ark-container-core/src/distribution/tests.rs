//! Tests the client with prepared responses.

mod foreign;
mod hostile;
mod logins;
mod referrers;

use std::error::Error as _;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::bytes::Bytes;

use super::{Client, DistributionError, Manifest, Mount, Retry};
use crate::credentials::{Password, RegistryCredentials};
use crate::error::{BoxError, Error, ResourceKind};
use crate::model::media_type;
use crate::model::{Access, Algorithm, Digest, Reference, Scope};
use crate::testing::scripted::{Scripted, answer, refusal};

fn digest() -> Digest {
    crate::digester::Digester::digest(Algorithm::Sha256, b"content")
}

fn pieces(
    pieces: &[&'static [u8]],
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> + 'static {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
    stream::iter(pieces)
}

/// Returns the response that opens an upload.
fn opened() -> String {
    answer("202 Accepted", &["Location: /u"], "")
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Returns the error of fetching the manifest at `v1` with a prepared response.
async fn fetch_error(answer: String) -> Error {
    let registry = Scripted::new([answer]);
    let tag: Reference = "v1".parse().unwrap();
    registry.client().fetch_manifest(&tag).await.unwrap_err()
}

/// Returns the error of putting a manifest at `v1` with a prepared response.
async fn put_error(answer: String) -> Error {
    let registry = Scripted::new([answer]);
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    registry.client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap_err()
}

#[tokio::test]
async fn error_response_becomes_its_error_variant() {
    let error = fetch_error(refusal("401 Unauthorized", "UNAUTHORIZED", "who are you?")).await;
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    assert!(chain(&error).contains("UNAUTHORIZED: who are you?"));

    let expired = "Your authorization token has expired. Reauthenticate and try again.";
    let error = fetch_error(refusal("403 Forbidden", "DENIED", expired)).await;
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");

    let error = fetch_error(refusal("403 Forbidden", "DENIED", "not yours")).await;
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("the login as AWS may not pull from 127.0.0.1:"), "{text}");
    assert!(text.ends_with("/test/repo (DENIED: not yours)"), "{text}");

    let error = fetch_error(refusal("404 Not Found", "NAME_UNKNOWN", "")).await;
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }), "{error:?}");
    let error = fetch_error(refusal("404 Not Found", "MANIFEST_UNKNOWN", "")).await;
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Image, .. }), "{error:?}");

    for status in ["408 T", "429 Too Many Requests", "500 E", "502 E", "503 E", "504 E"] {
        assert!(fetch_error(answer(status, &[], "")).await.is_temporary(), "{status}");
    }
    for status in ["400 Bad Request", "405 Method Not Allowed", "501 E", "202 Accepted"] {
        let error = fetch_error(answer(status, &[], "")).await;
        assert!(matches!(error, Error::Failed { .. }), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn immutable_tag_is_a_conflict() {
    let ecr = "The image tag 'v1' already exists and cannot be overwritten because the repository \
               is immutable.";
    let answers =
        [refusal("400 Bad Request", "TAG_INVALID", ecr), refusal("409 Conflict", "DENIED", "no")];
    for answer in answers {
        let error = put_error(answer).await;
        assert!(matches!(error, Error::Conflict { kind: ResourceKind::Image, .. }), "{error:?}");
        assert!(error.to_string().contains("/test/repo:v1 cannot be changed: "), "{error}");
    }
}

#[tokio::test]
async fn manifest_with_missing_blobs_is_not_not_found() {
    let error = put_error(refusal("404 Not Found", "MANIFEST_BLOB_UNKNOWN", "no layer")).await;
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(chain(&error).ends_with("MANIFEST_BLOB_UNKNOWN: no layer"), "{}", chain(&error));
    let error = put_error(refusal("404 Not Found", "NAME_UNKNOWN", "")).await;
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Repository, .. }), "{error:?}");
}

#[tokio::test]
async fn response_without_json_is_shortened_to_one_line() {
    let page = format!("<html>\r\n\x1b[31mbad\tgateway{}</html>", " x".repeat(100_000));
    let error = fetch_error(answer("400 Bad Request", &[], &page)).await;
    let text = chain(&error);
    assert!(text.contains("400 Bad Request: <html> [31mbad gateway x x"), "{text}");
    assert!(text.len() < 800 && !text.contains(['\n', '\x1b']), "{text}");
}

#[tokio::test]
async fn error_source_has_status_url_and_codes() {
    let error = fetch_error(refusal("400 Bad Request", "MANIFEST_INVALID", "odd")).await;
    let cause = error.source().unwrap().downcast_ref::<DistributionError>().unwrap();
    assert_eq!(cause.status(), 400);
    assert!(cause.has_code("MANIFEST_INVALID") && !cause.has_code("odd"));
    assert!(cause.url().ends_with("/test/repo/manifests/v1"), "{}", cause.url());
    assert_eq!(cause.messages()[0].message, "odd");
}

#[tokio::test]
async fn unreachable_registry_is_a_temporary_error() {
    let closed = Scripted::new(Vec::<String>::new());
    let endpoint = closed.host().clone();
    closed.requests();
    let registry = Scripted::new(Vec::<String>::new());
    let credentials = credentials_for(registry.host().as_str());
    let client = Client::with_endpoint(registry.url(), credentials, &endpoint).unwrap();
    let client = client.with_retry(Retry::never());
    let lookup_error = async || client.blob_exists(&digest()).await.unwrap_err();
    let error = lookup_error().await;
    assert!(error.is_temporary() && error.to_string().ends_with("cannot connect"), "{error}");
    // A wrong host or port fails within 5 s.
    let retry = Retry::default();
    let (mut tries, mut delays) = (retry.tries(), Vec::new());
    while let Ok(delay) = tries.failed(lookup_error().await) {
        delays.push(delay);
    }
    assert!(delays.len() >= 3, "{delays:?}");
    assert!(delays.iter().sum::<Duration>() <= Duration::from_secs(5), "{delays:?}");
    let broken = Scripted::new(["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"]);
    let error = broken.client().fetch_manifest(&"v1".parse().unwrap()).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}

fn credentials_for(host: &str) -> RegistryCredentials {
    let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse().unwrap();
    let password = Password::new("hunter2".to_owned());
    let scope = Scope::repository(path, Access::Push);
    let expiry = std::time::SystemTime::UNIX_EPOCH;
    RegistryCredentials::new(host.parse().unwrap(), password, expiry, scope)
}

#[test]
fn plain_http_is_limited_to_loopback_hosts() {
    let scheme = |host: &str| {
        let url = format!("{host}/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo");
        let client = Client::new(url.parse().unwrap(), credentials_for(host)).unwrap();
        client.url("manifests/v1").unwrap().scheme().to_owned()
    };
    for host in ["127.0.0.1:5050", "127.9.9.9", "[::1]:5050", "localhost", "localhost:1"] {
        assert_eq!(scheme(host), "http", "{host}");
    }
    for host in ["10.0.0.1:5000", "registry.example", "localhost.example", "128.0.0.1"] {
        assert_eq!(scheme(host), "https", "{host}");
    }
}

/// The type of the first TLS record, which is the first byte of a connection.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc8446#section-5.1>
const HANDSHAKE_RECORD_TYPE: u8 = 22;

#[tokio::test]
async fn other_hosts_get_tls_before_any_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The client does not recognize this form of a loopback address, and uses TLS.
    let host = format!("[::ffff:127.0.0.1]:{}", address.port());
    let url = format!("{host}/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo");
    let client = Client::new(url.parse().unwrap(), credentials_for(&host)).unwrap();
    let client = client.with_retry(Retry::never());
    let digest = digest();
    let (first_byte, result) = tokio::join!(
        async {
            use tokio::io::AsyncReadExt;
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_u8().await.unwrap()
        },
        client.blob_exists(&digest)
    );
    assert_eq!(first_byte, HANDSHAKE_RECORD_TYPE);
    let error = result.unwrap_err();
    assert!(error.to_string().starts_with("HEAD https://[::ffff:7f00:1]:"), "{error}");
}

#[test]
fn credentials_of_another_registry_are_rejected() {
    let registry = Scripted::new(Vec::<String>::new());
    let error = Client::new(registry.url(), credentials_for("h.example")).unwrap_err();
    assert!(error.to_string().starts_with("the credentials are for h.example, not"), "{error}");
}

#[tokio::test]
async fn password_is_sent_but_never_printed() {
    let registry = Scripted::new([refusal("401 Unauthorized", "UNAUTHORIZED", "no")]);
    let client = registry.client();
    let error = client.start_upload().await.unwrap_err();
    let encoded = "QVdTOmh1bnRlcjI=";
    for text in [format!("{client:?}"), format!("{error:?}"), chain(&error)] {
        assert!(!text.contains("hunter2") && !text.contains(encoded), "{text}");
    }
    let requests = registry.requests();
    assert_eq!(requests[0].header("authorization"), Some("Basic QVdTOmh1bnRlcjI="));
    assert!(!requests[0].line.contains("hunter2"));
}

#[tokio::test]
async fn redirect_to_another_host_sends_no_password() {
    let storage = Scripted::new([answer("200 OK", &[], "content")]);
    let target = format!("Location: http://{}/bucket/key?signature=s", storage.host());
    let registry = Scripted::new([answer("307 Temporary Redirect", &[&target], "")]);
    let content: Vec<_> =
        registry.client().fetch_blob(&digest()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(content.concat(), b"content");
    assert!(registry.requests()[0].header("authorization").is_some());
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn redirect_loop_is_an_error() {
    let redirect = answer("307 Temporary Redirect", &["Location: /again"], "");
    let registry = Scripted::new(vec![redirect; 6]);
    let error = registry.client().fetch_manifest(&"v1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(chain(&error).contains("redirects more than 5 times"), "{}", chain(&error));
    assert_eq!(registry.requests().len(), 6);
}

#[tokio::test]
async fn blob_with_wrong_digest_fails() {
    let registry = Scripted::new([answer("200 OK", &[], "cuntent")]);
    let stream = registry.client().fetch_blob(&digest()).await.unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().ends_with(&format!("for blob {}", digest())), "{error}");
}

#[tokio::test]
async fn upload_follows_location_and_keeps_its_query() {
    let relative = "Location: /v2/x/uploads/1?_state=a%3D%3D";
    let absolute = "Location: http://{host}/v2/x/uploads/1?_state=a%3D%3D";
    let contents: [&[&[u8]]; 2] = [&[b"con", b"tent"], &[]];
    for (location, content) in [relative, absolute].into_iter().zip(contents) {
        let registry = Scripted::new([
            answer("202 Accepted", &[location], ""),
            answer("201 Created", &[], ""),
        ]);
        let client = registry.client();
        let upload = client.start_upload().await.unwrap();
        let size = content.concat().len();
        client.upload_blob(&upload, &digest(), size as u64, pieces(content)).await.unwrap();
        let requests = registry.requests();
        assert!(requests[0].line.starts_with("POST /v2/prod/"), "{}", requests[0].line);
        assert!(requests[0].line.contains("/test/repo/blobs/uploads/ "), "{}", requests[0].line);
        let expected = digest().to_string().replace(':', "%3A");
        let line = format!("PUT /v2/x/uploads/1?_state=a%3D%3D&digest={expected} HTTP/1.1");
        assert_eq!(requests[1].line, line);
        assert_eq!(requests[1].header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(requests[1].header("transfer-encoding"), None);
        assert!(requests[1].header("authorization").is_some());
        assert_eq!(requests[1].body, content.concat());
    }
}

#[tokio::test]
async fn upload_to_another_host_sends_no_password() {
    let storage = Scripted::new([answer("201 Created", &[], "")]);
    let location = format!("Location: http://{}/u", storage.host());
    let registry = Scripted::new([answer("202 Accepted", &[&location], "")]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    client.upload_blob(&upload, &digest(), 7, pieces(&[b"content"])).await.unwrap();
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn content_error_hides_error_of_the_registry() {
    let failing = pieces(&[b"con"]).chain(stream::iter([Err(io::Error::other("disk on fire"))]));
    for (content, cause) in [
        (pieces(&[b"con"]).boxed(), "it ends 4 bytes too early"),
        (failing.boxed(), "disk on fire"),
        (pieces(&[b"content and more"]).boxed(), "it is longer than expected"),
    ] {
        let registry = Scripted::new([opened(), answer("400 Bad Request", &[], "")]);
        let client = registry.client();
        let upload = client.start_upload().await.unwrap();
        let error = client.upload_blob(&upload, &digest(), 7, content).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        assert!(chain(&error).ends_with(cause), "{}", chain(&error));
    }
}

#[tokio::test]
async fn response_without_upload_location_fails() {
    let registry = Scripted::new([answer("202 Accepted", &[], "")]);
    let error = registry.client().start_upload().await.unwrap_err();
    assert!(error.to_string().ends_with("the response has no upload location"), "{error}");
}

#[tokio::test]
async fn mount_without_success_opens_an_upload() {
    let from = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/other".parse().unwrap();
    let registry = Scripted::new([
        answer("201 Created", &["Location: /b"], ""),
        opened(),
        answer("204 No Content", &["Range: 0-99"], ""),
    ]);
    let client = registry.client();
    assert!(matches!(client.mount_blob(&digest(), &from).await.unwrap(), Mount::Mounted));
    let Mount::Upload(upload) = client.mount_blob(&digest(), &from).await.unwrap() else {
        panic!("the blob is not mounted")
    };
    assert_eq!(client.upload_status(&upload).await.unwrap().1, 100);
    let requests = registry.requests();
    let query = format!("?mount={}&from=", digest().to_string().replace(':', "%3A"));
    assert!(requests[0].line.contains(&query), "{}", requests[0].line);
    assert_eq!(requests[2].line, "GET /u HTTP/1.1");
}

#[tokio::test]
async fn missing_digest_header_fetches_the_manifest() {
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json; charset=utf-8";
    let registry = Scripted::new([answer("200 OK", &[], ""), answer("200 OK", &[kind], "{}")]);
    let found = registry.client().manifest(&"v1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found.digest, crate::digester::Digester::digest(Algorithm::Sha256, b"{}"));
    assert_eq!((found.size, found.media_type.as_str()), (2, media_type::OCI_MANIFEST));
}

#[tokio::test]
async fn manifest_with_wrong_digest_is_rejected() {
    let registry = Scripted::new([answer("200 OK", &[], "{}")]);
    let error = registry.client().fetch_manifest(&digest().into()).await.unwrap_err();
    assert!(error.to_string().starts_with("the registry sent sha256:44136fa3"), "{error}");
    let other = format!("Docker-Content-Digest: {}", digest());
    let error = put_error(answer("201 Created", &[&other], "")).await;
    assert!(error.to_string().starts_with("the registry stored sha256:"), "{error}");
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let registry = Scripted::new([
        answer("200 OK", &["Link: </next?last=b>; rel=\"next\""], r#"{"tags":["a","b"]}"#),
        answer("200 OK", &[], r#"{"tags":["c","-"]}"#),
    ]);
    let tags: Vec<_> = registry.client().tags().try_collect().await.unwrap();
    let tags: Vec<_> = tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["a", "b", "c"]);
    let requests = registry.requests();
    assert!(requests[0].line.contains("/test/repo/tags/list?n=1000 "), "{}", requests[0].line);
    assert_eq!(requests[1].line, "GET /next?last=b HTTP/1.1");

    let none = Scripted::new([answer("200 OK", &[], r#"{"tags":null}"#)]);
    assert!(none.client().tags().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn repeated_page_is_an_error() {
    let page = answer("200 OK", &["Link: </next>; rel=next"], r#"{"tags":["a"]}"#);
    let registry = Scripted::new(vec![page; 2]);
    let error = registry.client().tags().try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().ends_with("repeats a page"), "{error}");
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn temporary_error_of_the_content_stays_temporary() {
    let temporary = || Error::temporary("the other registry restarts");
    let errors: [(BoxError, bool); 4] = [
        (temporary().into(), true),
        (io::Error::other(temporary()).into(), true),
        (Error::failed("damaged").into(), false),
        (io::Error::other("damaged").into(), false),
    ];
    for (cause, expected) in errors {
        let registry = Scripted::new([opened(), String::new()]);
        let client = registry.client();
        let upload = client.start_upload().await.unwrap();
        let content = stream::iter([Err::<Bytes, _>(cause)]);
        let error = client.upload_blob(&upload, &digest(), 7, content).await.unwrap_err();
        assert_eq!(error.is_temporary(), expected, "{error:?}");
        assert_eq!(error.to_string(), "the content of the blob cannot be read");
    }
}

#[tokio::test]
async fn small_blob_is_uploaded_once_and_fetched_whole() {
    let missing = answer("404 Not Found", &[], "");
    let lost = String::new();
    let exists = answer("200 OK", &[], "");
    let registry = Scripted::new([missing, opened(), lost, exists]);
    let uploaded = registry.patient_client().upload_blob_bytes("content").await;
    assert_eq!(uploaded.unwrap(), digest());
    assert_eq!(registry.requests()[2].body, b"content");

    let fetch = async |content: &str, limit| {
        let registry = Scripted::new([answer("200 OK", &[], content)]);
        registry.client().fetch_blob_bytes(&digest(), limit).await
    };
    assert_eq!(fetch("content", 7).await.unwrap(), "content");
    for (content, limit) in [("content", 6), ("contend", 7)] {
        let error = fetch(content, limit).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn fetched_blob_can_be_streamed_to_upload() {
    let source = Scripted::new([answer("200 OK", &[], "content")]);
    let target = Scripted::new([opened(), answer("201 Created", &[], "")]);
    let content = source.client().fetch_blob(&digest()).await.unwrap();
    let upload = target.client().start_upload().await.unwrap();
    target.client().upload_blob(&upload, &digest(), 7, content).await.unwrap();
    assert_eq!(target.requests()[1].body, b"content");
}

#[tokio::test]
async fn part_has_its_range_and_next_location() {
    let registry = Scripted::new([
        answer("202 Accepted", &["Location: /u/0"], ""),
        answer("202 Accepted", &["Location: /u/1?_state=x", "Range: 0-2"], ""),
        // The responses of AWS ECR have another status and always the range of the first part.
        answer("201 Created", &["Range: 0-2"], ""),
        answer("201 Created", &[], ""),
    ]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    let upload = client.append_part(&upload, 0..3, pieces(&[b"con"])).await.unwrap();
    let upload = client.append_part(&upload, 3..5, pieces(&[b"t", b"e"])).await.unwrap();
    client.finish_with_part(&upload, &digest(), 5..7, pieces(&[b"nt"])).await.unwrap();
    let requests = registry.requests();
    let query = digest().to_string().replace(':', "%3A");
    for (request, line, range, body) in [
        (&requests[1], "PATCH /u/0 HTTP/1.1", "0-2", &b"con"[..]),
        (&requests[2], "PATCH /u/1?_state=x HTTP/1.1", "3-4", b"te"),
        (&requests[3], &format!("PUT /u/1?_state=x&digest={query} HTTP/1.1"), "5-6", b"nt"),
    ] {
        assert_eq!(request.line, line);
        assert_eq!(request.header("content-range"), Some(range));
        assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(request.body, body);
    }
}

#[tokio::test]
async fn part_at_wrong_offset_fails_with_416() {
    let message = "First byte of the layer part is 0 instead of 5";
    let wrong_offset = refusal("416 Range Not Satisfiable", "BLOB_UPLOAD_INVALID", message);
    let registry = Scripted::new([opened(), wrong_offset]);
    let client = registry.patient_client();
    let upload = client.start_upload().await.unwrap();
    let error = client.append_part(&upload, 0..3, pieces(&[b"con"])).await.unwrap_err();
    let refusal = DistributionError::of(&error).unwrap();
    assert_eq!((refusal.status(), refusal.expected_offset()), (416, Some(5)));
    assert_eq!(registry.requests().len(), 2);
}

#[tokio::test]
async fn upload_status_has_offset_and_location() {
    let registry = Scripted::new([
        answer("202 Accepted", &["Location: /u/0"], ""),
        answer("204 No Content", &["Location: /u/1", "Range: 0-4"], ""),
        answer("404 Not Found", &[], ""),
    ]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    let (upload, offset) = client.upload_status(&upload).await.unwrap();
    assert_eq!((upload.location().path(), offset), ("/u/1", 5));
    let error = client.upload_status(&upload).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: ResourceKind::Upload, .. }), "{error:?}");
}

const LOST_RESPONSE: &str = "";
/// Returns the response to HEAD for a manifest of two bytes.
fn found(digest: &Digest) -> String {
    format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 2\r\n\r\n")
}

const CUT_RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";

#[tokio::test]
async fn temporary_error_is_retried() {
    let registry = Scripted::new([
        answer("429 Too Many Requests", &["Retry-After: 0"], ""),
        answer("408 Request Timeout", &[], ""),
        answer("502 Bad Gateway", &[], ""),
        LOST_RESPONSE.to_owned(),
        answer("200 OK", &[], ""),
    ]);
    let client = registry.patient_client();
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert_eq!((client.retry().retries(), client.retry().overloads()), (4, 1));
    let lines: Vec<String> = registry.requests().into_iter().map(|request| request.line).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| *line == lines[0]), "{lines:?}");
}

#[tokio::test]
async fn interrupted_response_is_retried() {
    let registry = Scripted::new([CUT_RESPONSE.to_owned(), answer("200 OK", &[], "{}")]);
    let manifest = registry.patient_client().fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
    assert_eq!(manifest.bytes, "{}");
    let page = answer("200 OK", &[], r#"{"tags":["a"]}"#);
    let registry = Scripted::new([CUT_RESPONSE.to_owned(), page]);
    let tags: Vec<_> = registry.patient_client().tags().try_collect().await.unwrap();
    assert_eq!(tags.len(), 1);
}

#[tokio::test]
async fn permanent_error_is_not_retried() {
    for status in ["400 Bad Request", "403 Forbidden", "404 Not Found", "501 Not Implemented"] {
        let registry = Scripted::new([answer(status, &[], "")]);
        let client = registry.patient_client();
        client.start_upload().await.unwrap_err();
        assert_eq!(client.retry().retries(), 0, "{status}");
    }
}

#[tokio::test]
async fn manifest_with_lost_response_is_put_once() {
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let stored = found(&manifest.digest);
    let registry = Scripted::new([LOST_RESPONSE.to_owned(), stored]);
    registry.patient_client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap();
    let requests = registry.requests();
    assert!(requests[0].line.starts_with("PUT ") && requests[1].line.starts_with("HEAD "));
}

#[tokio::test]
async fn manifest_that_was_not_stored_is_put_again() {
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let registry = Scripted::new([
        answer("503 Service Unavailable", &[], ""),
        answer("404 Not Found", &[], ""),
        answer("201 Created", &[], ""),
    ]);
    registry.patient_client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap();
    let requests = registry.requests();
    assert!(requests[2].line.starts_with("PUT "));
    assert_eq!((&requests[0].body, &requests[2].body), (&b"{}".to_vec(), &b"{}".to_vec()));
}

#[tokio::test]
async fn immutable_tag_of_same_image_is_no_conflict() {
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let stored = found(&manifest.digest);
    let immutable = refusal("400 Bad Request", "TAG_INVALID", "the repository is immutable");
    let registry = Scripted::new([immutable.clone(), stored]);
    registry.client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap();

    let registry = Scripted::new([immutable, found(&digest())]);
    let put = registry.client().put_manifest(&"v1".parse().unwrap(), &manifest).await;
    assert!(matches!(put, Err(Error::Conflict { .. })), "{put:?}");
}

#[tokio::test]
async fn connection_is_reused_for_next_request() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let url = format!("{host}/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo");
    let client = Client::new(url.parse().unwrap(), credentials_for(&host)).unwrap();
    // Each response has content that the client ignores.
    let statuses = ["200 OK", "202 Accepted", "404 Not Found", "201 Created"];
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for status in statuses {
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(connection.read_buf(&mut seen).await.unwrap(), 0, "{status}");
            }
            let is_head = seen.starts_with(b"HEAD");
            seen.clear();
            let head = format!("HTTP/1.1 {status}\r\nLocation: /u\r\nContent-Length: 2\r\n\r\n");
            let body = if is_head { "" } else { "{}" };
            connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    };
    let digest = digest();
    let requests = async {
        assert!(client.blob_exists(&digest).await.unwrap());
        let upload = client.start_upload().await.unwrap();
        client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap_err();
        client.finish_with_part(&upload, &digest, 0..0, pieces(&[])).await.unwrap();
    };
    tokio::join!(serving, requests);
}

#[tokio::test]
async fn manifests_respect_the_rate_limit_of_ecr() {
    let registry = Scripted::new(vec![answer("201 Created", &[], ""); 12]);
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
    let url = format!("{host}/{}", registry.url().path()).parse().unwrap();
    let client = Client::with_endpoint(url, credentials_for(host), registry.host()).unwrap();
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let reference: Reference = manifest.digest.clone().into();
    let started = std::time::Instant::now();
    let puts = (0..12).map(|_| client.put_manifest(&reference, &manifest));
    let puts = futures_util::future::join_all(puts).await;
    assert!(puts.into_iter().all(|put| put.is_ok()));
    assert!(started.elapsed() >= std::time::Duration::from_secs(1));
}
