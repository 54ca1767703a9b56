//! Blobs, manifests, tags and referrers: writing, reading, listing and deletion.

use std::fs;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::{CreateOptions, TagMutability};
use ark_container_core::distribution::Client;
use ark_container_core::model::{Access, RepositoryUrl, Scope};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::server::{
    Answer, OCI_INDEX, OCI_MANIFEST, OURS, RegistryClient, Server, all_of, answer, descriptor,
    path, sample, sha256, sha512,
};

#[tokio::test]
async fn blob_is_read_whole_or_in_part() {
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
async fn blob_is_deleted() {
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
async fn blob_of_an_image_is_not_deleted() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let image = client.push_image(&app, "v1", b"layer").await;
    let url = format!("/v2/{app}/blobs/{}", sha256(b"layer"));
    let refused = client.delete(&url).await;
    let refused = refused.expect_error(StatusCode::METHOD_NOT_ALLOWED, "DENIED");
    assert!(refused.message().ends_with(&format!("is part of the image {image}")), "{refused:?}");
    assert_eq!(refused.header("allow"), "GET, HEAD");
    assert_eq!(client.get(&url).await.expect(StatusCode::OK).body, b"layer");
    let manifest = format!("/v2/{app}/manifests/{image}");
    client.delete(&manifest).await.expect(StatusCode::ACCEPTED);
    client.get(&url).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn blob_that_a_pushing_client_found_stays() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let scope = |access| Scope::repository(app.clone(), access);
    let url = format!("/v2/{app}/blobs/{}", sha256(b"layer"));
    for (access, stays) in [(Access::Pull, false), (Access::Push, true)] {
        let image = client.push_image(&app, "v1", b"layer").await;
        let other = server.client(&scope(access)).await;
        other.head(&url).await.expect(StatusCode::OK);
        client.delete(&format!("/v2/{app}/manifests/{image}")).await.expect(StatusCode::ACCEPTED);
        let found = other.get(&url).await.status == StatusCode::OK;
        assert_eq!(found, stays, "{access:?}");
    }
}

#[tokio::test]
async fn invalid_digest_is_rejected() {
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

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

async fn docker_image(
    client: &RegistryClient,
    repository: &ark_container_core::model::RepositoryPath,
) -> Value {
    client.push_blob(repository, b"layer").await;
    client.push_blob(repository, b"{}").await;
    json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer")],
    })
}

#[tokio::test]
async fn oci_and_docker_manifests_are_read_back() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    for (tag, media_type, manifest) in [
        ("oci", OCI_MANIFEST, client.image(&app, b"layer").await),
        ("docker", DOCKER_MANIFEST, docker_image(&client, &app).await),
    ] {
        let text = manifest.to_string();
        let digest = sha256(text.as_bytes());
        let put = client.put_manifest(&app, tag, media_type, &manifest).await;
        let put = put.expect(StatusCode::CREATED);
        assert_eq!(put.header("location"), format!("/v2/{app}/manifests/{digest}"));
        assert_eq!(put.header("docker-content-digest"), digest);
        assert!(put.headers.get("oci-subject").is_none());
        for reference in [tag, &digest] {
            let url = format!("/v2/{app}/manifests/{reference}");
            // The Accept header of a client does not change the manifest.
            let request = client.request(Method::GET, &url).header("accept", "application/xml");
            let got = answer(request).await.expect(StatusCode::OK);
            assert_eq!(got.body, text.as_bytes(), "to the byte");
            assert_eq!(got.header("content-type"), media_type);
            assert_eq!(got.header("docker-content-digest"), digest);
            let head = client.head(&url).await.expect(StatusCode::OK);
            assert_eq!(head.header("content-length"), text.len().to_string());
            assert_eq!(head.header("content-type"), media_type);
            assert!(head.body.is_empty());
        }
    }
}

#[tokio::test]
async fn index_needs_its_manifests() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    for (kind, child_kind) in [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)] {
        let child = match child_kind {
            OCI_MANIFEST => client.image(&app, b"layer").await,
            _ => docker_image(&client, &app).await,
        };
        let text = child.to_string();
        let mut entry = descriptor(child_kind, text.as_bytes());
        entry["platform"] = json!({ "os": "linux", "architecture": "arm64" });
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [entry] });
        let missing = client.put_manifest(&app, "multi", kind, &index).await;
        let missing = missing.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
        let digest = sha256(text.as_bytes());
        assert_eq!(missing.json()["errors"][0]["detail"]["digest"], digest);
        client.put_manifest(&app, &digest, child_kind, &child).await.expect(StatusCode::CREATED);
        client.put_manifest(&app, "multi", kind, &index).await.expect(StatusCode::CREATED);
        let got = client.get(&format!("/v2/{app}/manifests/multi")).await.expect(StatusCode::OK);
        assert_eq!(got.json(), index);
    }
}

#[tokio::test]
async fn manifest_with_missing_blob_is_rejected() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let manifest = client.image(&app, b"layer").await;
    let layer = sha256(b"layer");
    client.delete(&format!("/v2/{app}/blobs/{layer}")).await.expect(StatusCode::ACCEPTED);
    let refused = client.put_manifest(&app, "v1", OCI_MANIFEST, &manifest).await;
    let refused = refused.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digest"], layer);
    let missing = client.get(&format!("/v2/{app}/manifests/v1")).await;
    missing.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn manifest_is_put_by_its_own_digest_only() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let manifest = client.image(&app, b"layer").await;
    let text = manifest.to_string();
    for digest in [sha256(text.as_bytes()), sha512(text.as_bytes())] {
        let put = client.put_manifest(&app, &digest, OCI_MANIFEST, &manifest).await;
        assert_eq!(put.expect(StatusCode::CREATED).header("docker-content-digest"), digest);
        client.get(&format!("/v2/{app}/manifests/{digest}")).await.expect(StatusCode::OK);
    }
    let wrong = client.put_manifest(&app, &sha256(b"x"), OCI_MANIFEST, &manifest).await;
    wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

#[tokio::test]
async fn invalid_manifest_is_rejected() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let url = format!("/v2/{app}/manifests/v1");
    let put = async |media_type: Option<&str>, body: Vec<u8>| {
        let mut request = client.request(Method::PUT, &url).body(body);
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        answer(request).await
    };
    let manifest = client.image(&app, b"layer").await.to_string().into_bytes();
    for (media_type, body) in [
        (None, manifest.clone()),
        (Some(""), manifest.clone()),
        (Some(OCI_INDEX), manifest.clone()),
        (Some("text/plain"), manifest.clone()),
        (Some(OCI_MANIFEST), b"".to_vec()),
        (Some(OCI_MANIFEST), b"not json".to_vec()),
        (Some(OCI_MANIFEST), b"{}".to_vec()),
        (Some(OCI_MANIFEST), b"\xff\xfe".to_vec()),
    ] {
        let refused = put(media_type, body).await;
        refused.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    }
    let parameters = format!("{OCI_MANIFEST}; charset=utf-8");
    put(Some(&parameters), manifest).await.expect(StatusCode::CREATED);
    assert_eq!(client.get(&url).await.header("content-type"), OCI_MANIFEST);
}

#[tokio::test]
async fn manifest_keeps_its_first_media_type() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let fixed = path(OURS, "fixed");
    let options = CreateOptions::default().with_tag_mutability(TagMutability::Immutable);
    server.backend.create_repository(&fixed, &options).await.unwrap();
    // A manifest without a media type could be an image manifest or an index.
    let mut manifest = client.image(&fixed, b"layer").await;
    manifest.as_object_mut().unwrap().remove("mediaType");
    let text = manifest.to_string();
    client.put_manifest(&fixed, "v1", OCI_MANIFEST, &manifest).await.expect(StatusCode::CREATED);
    let list = |kind: &str, child_kind: &str| {
        let child = descriptor(child_kind, text.as_bytes());
        json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [child] })
    };
    let index = list(OCI_INDEX, OCI_MANIFEST);
    client.put_manifest(&fixed, "multi", OCI_INDEX, &index).await.expect(StatusCode::CREATED);
    for reference in ["v1", &sha256(text.as_bytes()), "v2"] {
        let again = client.put_manifest(&fixed, reference, DOCKER_MANIFEST, &manifest).await;
        again.expect(StatusCode::CREATED);
        let head = client.head(&format!("/v2/{fixed}/manifests/{reference}")).await;
        assert_eq!(head.header("content-type"), OCI_MANIFEST);
    }
    let other = list(DOCKER_LIST, DOCKER_MANIFEST);
    let refused = client.put_manifest(&fixed, "list", DOCKER_LIST, &other).await;
    refused.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    // A manifest in an index keeps its type after deletion, even if it is put with another type.
    let url = format!("/v2/{fixed}/manifests/{}", sha256(text.as_bytes()));
    client.delete(&url).await.expect(StatusCode::ACCEPTED);
    client.image(&fixed, b"layer").await;
    let other = client.put_manifest(&fixed, "v3", DOCKER_MANIFEST, &manifest).await;
    other.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    let same = client.put_manifest(&fixed, "v3", OCI_MANIFEST, &manifest).await;
    same.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn manifest_has_at_most_4_mib() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let mut manifest = client.image(&app, b"layer").await;
    let pad = |manifest: &mut Value, length: usize| {
        manifest["pad"] = json!("");
        let bare = manifest.to_string().len();
        manifest["pad"] = json!("x".repeat(length - bare));
        assert_eq!(manifest.to_string().len(), length);
    };
    pad(&mut manifest, 4 << 20);
    client.put_manifest(&app, "most", OCI_MANIFEST, &manifest).await.expect(StatusCode::CREATED);
    pad(&mut manifest, (4 << 20) + 1);
    let refused = client.put_manifest(&app, "more", OCI_MANIFEST, &manifest).await;
    refused.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID");
    // The limit also applies without a Content-Length.
    let frames: Vec<_> = (0..6).map(|_| Ok::<_, String>(vec![b'x'; 1 << 20])).collect();
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(frames));
    let request = client.request(Method::PUT, &format!("/v2/{app}/manifests/more"));
    let refused = answer(request.header("content-type", OCI_MANIFEST).body(stream)).await;
    refused.expect_error(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID");
}

#[tokio::test]
async fn tags_and_references_are_checked() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let manifest = client.image(&app, b"layer").await;
    for tag in [".x", "-x", "a%20b", &"x".repeat(129)] {
        let url = format!("/v2/{app}/manifests/{tag}");
        let put = client.put_manifest(&app, tag, OCI_MANIFEST, &manifest).await;
        put.expect_error(StatusCode::BAD_REQUEST, "TAG_INVALID");
        client.get(&url).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        client.delete(&url).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    }
    let half = client.get(&format!("/v2/{app}/manifests/sha256:00")).await;
    half.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

#[tokio::test]
async fn immutable_tag_keeps_its_image() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let fixed = path(OURS, "fixed");
    let options = CreateOptions::default().with_tag_mutability(TagMutability::Immutable);
    server.backend.create_repository(&fixed, &options).await.unwrap();
    let first = client.push_image(&fixed, "v1", b"one").await;
    client.push_image(&fixed, "v1", b"one").await;
    let second = client.image(&fixed, b"two").await;
    let refused = client.put_manifest(&fixed, "v1", OCI_MANIFEST, &second).await;
    let refused = refused.expect_error(StatusCode::BAD_REQUEST, "TAG_INVALID");
    assert!(refused.message().contains("immutable"), "{}", refused.message());
    assert!(refused.message().contains(&first), "{}", refused.message());
    let kept = client.head(&format!("/v2/{fixed}/manifests/v1")).await;
    assert_eq!(kept.header("docker-content-digest"), first);
}

#[tokio::test]
async fn tags_and_manifests_are_deleted() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let digest = client.push_image(&app, "one", b"layer").await;
    client.push_image(&app, "two", b"layer").await;
    client.push_image(&app, "three", b"layer").await;
    let url = |reference: &str| format!("/v2/{app}/manifests/{reference}");

    client.delete(&url("one")).await.expect(StatusCode::ACCEPTED);
    client.get(&url("one")).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    client.get(&url("two")).await.expect(StatusCode::OK);
    client.delete(&url("one")).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");

    client.delete(&url(&digest)).await.expect(StatusCode::ACCEPTED);
    for gone in ["two", "three", &digest] {
        client.get(&url(gone)).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        let head = client.head(&url(gone)).await.expect(StatusCode::NOT_FOUND);
        assert!(head.body.is_empty());
    }
    let tags = client.get(&format!("/v2/{app}/tags/list")).await;
    assert_eq!(tags.json()["tags"], json!([]));
}

#[tokio::test]
async fn manifest_of_an_index_is_deleted_by_digest() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let child = client.image(&app, b"layer").await.to_string();
    let digest = client.push_image(&app, "child", b"layer").await;
    let entry = descriptor(OCI_MANIFEST, child.as_bytes());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry] });
    client.put_manifest(&app, "multi", OCI_INDEX, &index).await.expect(StatusCode::CREATED);
    let url = format!("/v2/{app}/manifests/{digest}");
    client.delete(&url).await.expect(StatusCode::ACCEPTED);
    client.get(&url).await.expect_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    client.get(&format!("/v2/{app}/manifests/multi")).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn tag_pages_link_to_the_next() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let url = format!("/v2/{app}/tags/list");
    let empty = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(empty.json(), json!({ "name": app.to_string(), "tags": [] }));
    for tag in ["b", "a", "B", "1.0", "_x"] {
        client.push_image(&app, tag, b"layer").await;
    }
    let all = ["1.0", "B", "_x", "a", "b"];
    let answer = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(answer.json()["tags"], json!(all));
    assert!(answer.headers.get("link").is_none());

    let (mut seen, mut next) = (Vec::new(), Some(format!("{url}?n=2")));
    while let Some(url) = next {
        let page = client.get(&url).await.expect(StatusCode::OK);
        let tags = page.json()["tags"].as_array().unwrap().clone();
        assert!(tags.len() <= 2);
        seen.extend(tags);
        next = next_page(&page);
    }
    assert_eq!(seen, all);

    let none = client.get(&format!("{url}?n=0")).await.expect(StatusCode::OK);
    assert_eq!(none.json()["tags"], json!([]));
    assert!(none.headers.get("link").is_none());
    let rest = client.get(&format!("{url}?last=C")).await.expect(StatusCode::OK);
    assert_eq!(rest.json()["tags"], json!(["_x", "a", "b"]));
    let wrong = client.get(&format!("{url}?n=-1")).await;
    wrong.expect_error(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID");
    assert!(client.head(&url).await.expect(StatusCode::OK).body.is_empty());
}

/// Returns the target of the link to the next page.
fn next_page(page: &Answer) -> Option<String> {
    let link = page.headers.get("link")?.to_str().unwrap();
    let target = link.strip_prefix('<').unwrap();
    Some(target.strip_suffix(">; rel=\"next\"").unwrap().to_owned())
}

#[tokio::test]
async fn tags_without_a_page_size_are_paged() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    client.push_image(&app, "0", b"layer").await;
    let tags = server.backend.directory().join(app.to_string()).join("_repository/tags");
    for number in 1..=1000 {
        fs::hard_link(tags.join("0"), tags.join(number.to_string())).unwrap();
    }
    let page = client.get(&format!("/v2/{app}/tags/list")).await.expect(StatusCode::OK);
    assert_eq!(page.json()["tags"].as_array().unwrap().len(), 1000);
    let last = client.get(&next_page(&page).unwrap()).await.expect(StatusCode::OK);
    assert_eq!(last.json()["tags"], json!(["999"]));
    assert!(next_page(&last).is_none());
}

#[tokio::test]
async fn referrers_are_paged_by_size() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let subject = client.image(&app, b"layer").await;
    let digest = sha256(subject.to_string().as_bytes());
    for number in 0..8 {
        let mut referrer = subject.clone();
        referrer["artifactType"] = json!(format!("x/{}", number % 2));
        referrer["annotations"] = json!({ "n": format!("{number}{}", "x".repeat(100_000)) });
        referrer["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": subject.to_string().len() });
        let own = sha256(referrer.to_string().as_bytes());
        let put = client.put_manifest(&app, &own, OCI_MANIFEST, &referrer).await;
        put.expect(StatusCode::CREATED);
    }
    for (query, expected) in [("", 8), ("?artifactType=x%2F1", 4)] {
        let (mut found, mut pages) = (0, 0);
        let mut next = Some(format!("/v2/{app}/referrers/{digest}{query}"));
        while let Some(url) = next {
            let page = client.get(&url).await.expect(StatusCode::OK);
            assert!(page.body.len() < 512 * 1024, "{}", page.body.len());
            found += types(&page.json()).len();
            pages += 1;
            next = next_page(&page);
        }
        assert_eq!(found, expected, "{query}");
        assert!(pages > 1, "{query}");
    }
    // The library's client follows the pages.
    let scope = all_of(OURS);
    let credentials = server.backend.credentials(&scope, &Default::default()).await.unwrap();
    let url = RepositoryUrl::new(credentials.host.clone(), app.clone());
    let own = Client::with_endpoint(url, credentials, &server.address.into()).unwrap();
    let listed = own.referrers(&digest.parse().unwrap(), None).await.unwrap();
    assert_eq!(listed.len(), 8);
}

#[tokio::test]
async fn too_many_annotations_are_invalid() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let mut image = client.image(&app, b"layer").await;
    let annotations = (0..1001).map(|number| (number.to_string(), json!("")));
    image["annotations"] = Value::Object(annotations.collect());
    let put = client.put_manifest(&app, "v1", OCI_MANIFEST, &image).await;
    let put = put.expect_error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID");
    let expected = "the manifest is invalid: it has 1001 annotations, of at most 1000";
    assert_eq!(put.message(), expected);
}

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let subject = client.image(&app, b"layer").await;
    let digest = sha256(subject.to_string().as_bytes());
    let url = format!("/v2/{app}/referrers/{digest}");

    let unknown = client.get(&url).await.expect(StatusCode::OK);
    assert_eq!(unknown.header("content-type"), OCI_INDEX);
    let empty = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    assert_eq!(unknown.json(), empty);

    // A referrer may be pushed before its subject.
    for kind in ["application/vnd.example.signature", "application/vnd.example.sbom"] {
        let mut referrer = subject.clone();
        referrer["artifactType"] = json!(kind);
        referrer["annotations"] = json!({ "org.example": kind });
        referrer["subject"] = json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": subject.to_string().len() });
        let own = sha256(referrer.to_string().as_bytes());
        let put = client.put_manifest(&app, &own, OCI_MANIFEST, &referrer).await;
        assert_eq!(put.expect(StatusCode::CREATED).header("oci-subject"), digest);
    }
    client.put_manifest(&app, "v1", OCI_MANIFEST, &subject).await.expect(StatusCode::CREATED);

    let all = client.get(&url).await.expect(StatusCode::OK);
    assert!(all.headers.get("oci-filters-applied").is_none());
    assert_eq!(types(&all.json()).len(), 2);

    let sbom = "application/vnd.example.sbom";
    let some = client.get(&format!("{url}?artifactType={sbom}")).await.expect(StatusCode::OK);
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    assert_eq!(types(&some.json()), [sbom]);
    assert_eq!(some.json()["manifests"][0]["annotations"]["org.example"], sbom);
    let none = client.get(&format!("{url}?artifactType=x/y")).await.expect(StatusCode::OK);
    assert_eq!(none.json(), empty);

    let referrer = all.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    client.delete(&format!("/v2/{app}/manifests/{referrer}")).await.expect(StatusCode::ACCEPTED);
    assert_eq!(types(&client.get(&url).await.json()).len(), 1);

    let wrong = client.get(&format!("/v2/{app}/referrers/sha256:x")).await;
    wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}

fn types(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap();
    manifests.iter().map(|entry| entry["artifactType"].as_str().unwrap().to_owned()).collect()
}
