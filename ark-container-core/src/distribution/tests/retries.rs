//! What is tried again, and what is found out by asking.

use super::*;

const LOST: &str = "";
const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";

#[tokio::test]
async fn what_fails_for_now_is_asked_again() {
    let registry = Scripted::new([
        answer("429 Too Many Requests", &["Retry-After: 0"], ""),
        answer("408 Request Timeout", &[], ""),
        answer("502 Bad Gateway", &[], ""),
        LOST.to_owned(),
        answer("200 OK", &[], ""),
    ]);
    let client = registry.patient_client();
    assert!(client.blob_exists(&digest()).await.unwrap());
    assert_eq!((client.retry().retries(), client.retry().overloads()), (4, 1));
    let lines: Vec<String> = registry.requests().into_iter().map(|asked| asked.line).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| *line == lines[0]), "{lines:?}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let registry = Scripted::new([CUT.to_owned(), answer("200 OK", &[], "{}")]);
    let manifest = registry.patient_client().fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
    assert_eq!(manifest.bytes, "{}");
    let page = answer("200 OK", &[], r#"{"tags":["a"]}"#);
    let registry = Scripted::new([CUT.to_owned(), page]);
    let tags: Vec<_> = registry.patient_client().tags().try_collect().await.unwrap();
    assert_eq!(tags.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_final() {
    for status in ["400 Bad Request", "403 Forbidden", "404 Not Found", "501 Not Implemented"] {
        let registry = Scripted::new([answer(status, &[], "")]);
        let client = registry.patient_client();
        client.start_upload().await.unwrap_err();
        assert_eq!(client.retry().retries(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_not_put_twice() {
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let there = format!("Docker-Content-Digest: {}", manifest.digest);
    let found = format!("HTTP/1.1 200 OK\r\n{there}\r\nContent-Length: 2\r\n\r\n");
    let registry = Scripted::new([LOST.to_owned(), found]);
    registry.patient_client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap();
    let requests = registry.requests();
    assert!(requests[0].line.starts_with("PUT ") && requests[1].line.starts_with("HEAD "));
}

#[tokio::test]
async fn a_manifest_that_did_not_arrive_is_put_again() {
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
async fn a_tag_that_may_not_be_moved_and_stands_for_the_image_is_no_conflict() {
    let manifest = Manifest::new(media_type::OCI_MANIFEST, "{}");
    let there = format!("Docker-Content-Digest: {}", manifest.digest);
    let found = format!("HTTP/1.1 200 OK\r\n{there}\r\nContent-Length: 2\r\n\r\n");
    let immutable = refusal("400 Bad Request", "TAG_INVALID", "the repository is immutable");
    let registry = Scripted::new([immutable.clone(), found]);
    registry.client().put_manifest(&"v1".parse().unwrap(), &manifest).await.unwrap();

    let other = format!("Docker-Content-Digest: {}", digest());
    let found = format!("HTTP/1.1 200 OK\r\n{other}\r\nContent-Length: 2\r\n\r\n");
    let registry = Scripted::new([immutable, found]);
    let put = registry.client().put_manifest(&"v1".parse().unwrap(), &manifest).await;
    assert!(matches!(put, Err(Error::Conflict { .. })), "{put:?}");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let url = format!("{host}/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo");
    let client = Client::new(url.parse().unwrap(), credentials_for(&host)).unwrap();
    // Answers with content that the client has no use for.
    let answers = ["200 OK", "202 Accepted", "404 Not Found", "201 Created"];
    let serving = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for status in answers {
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
    let asking = async {
        assert!(client.blob_exists(&digest).await.unwrap());
        let upload = client.start_upload().await.unwrap();
        client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap_err();
        client.finish_with_part(&upload, &digest, 0..0, pieces(&[])).await.unwrap();
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn manifests_reach_ecr_at_the_pace_that_it_allows() {
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
