//! Blobs, read and deleted.

use reqwest::{Method, StatusCode};

use super::server::{OURS, Server, answer, path, sample, sha256};

#[tokio::test]
async fn a_blob_is_read_whole_or_in_part() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let bytes = sample(1_000_000);
    let digest = client.push_blob(&app, &bytes).await;
    let url = format!("/v2/{app}/blobs/{digest}");

    let head = client.head(&url).await.expect(StatusCode::OK);
    assert_eq!(head.header("content-length"), "1000000");
    assert_eq!(head.header("docker-content-digest"), digest);
    assert!(head.body.is_empty());
    let whole = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-length"), "1000000");
    assert!(whole.body == bytes);

    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=300000-699999", 300_000, 699_999),
        ("bytes=999999-", 999_999, 999_999),
        ("bytes=-10", 999_990, 999_999),
        ("bytes=5-2000000", 5, 999_999),
    ] {
        let part = answer(client.request(Method::GET, &url).header("range", range)).await;
        let part = part.expect(StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/1000000"));
        assert!(part.body == bytes[first..=last], "{range}");
    }
    let behind = answer(client.request(Method::GET, &url).header("range", "bytes=1000000-")).await;
    let behind = behind.expect_error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID");
    assert_eq!(behind.header("content-range"), "bytes */1000000");
    let two = answer(client.request(Method::GET, &url).header("range", "bytes=0-1,5-6")).await;
    assert!(two.expect(StatusCode::OK).body == bytes);
}

#[tokio::test]
async fn a_blob_is_deleted() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let digest = client.push_blob(&app, b"blob").await;
    let url = format!("/v2/{app}/blobs/{digest}");
    client.delete(&url).await.expect(StatusCode::ACCEPTED);
    client.get(&url).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    client.delete(&url).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn what_is_no_digest_is_told_as_such() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let upper = sha256(b"x").to_uppercase();
    for digest in ["x", "sha256:", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e", &upper] {
        let url = format!("/v2/{app}/blobs/{digest}");
        client.get(&url).await.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        client.delete(&url).await.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    let missing = client.head(&format!("/v2/{app}/blobs/{}", sha256(b"missing"))).await;
    assert!(missing.expect(StatusCode::NOT_FOUND).body.is_empty());
}
