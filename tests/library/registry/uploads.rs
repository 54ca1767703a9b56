//! Uploads: in one request, in two, in parts; resumed, mounted, cancelled.

use ark_container_core::model::{Access, Scope};
use reqwest::{Method, StatusCode};

use super::server::{OURS, Server, THEIRS, all_of, answer, path, sample, sha256, sha512};

#[tokio::test]
async fn blob_is_uploaded_in_one_request() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    for (bytes, digest) in [
        (sample(3_000_000), sha256(&sample(3_000_000))),
        (b"sha512".to_vec(), sha512(b"sha512")),
        (Vec::new(), sha256(b"")),
    ] {
        let url = format!("/v2/{app}/blobs/uploads/?digest={}", digest.replace(':', "%3A"));
        let request = client.request(Method::POST, &url).body(bytes.clone());
        let created = answer(request).await.expect(StatusCode::CREATED);
        assert_eq!(created.header("docker-content-digest"), digest);
        let blob = client.get(&created.header("location")).await.expect(StatusCode::OK);
        assert!(blob.body == bytes);
    }
}

#[tokio::test]
async fn blob_is_uploaded_in_two_requests() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(100_000);
    for digest in [sha256(&bytes), sha512(&bytes)] {
        let upload = client.start_upload(&path(OURS, "app")).await;
        let created = client.put(&format!("{upload}?digest={digest}"), bytes.clone()).await;
        let location = created.expect(StatusCode::CREATED).header("location");
        assert!(client.get(&location).await.body == bytes);
        let gone = client.get(&upload).await;
        gone.expect_error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn blob_of_unknown_length_is_uploaded() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(1_000_000);
    let frames: Vec<_> = bytes.chunks(1000).map(|part| Ok::<_, String>(part.to_vec())).collect();
    let upload = client.start_upload(&path(OURS, "app")).await;
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(frames));
    let sent = answer(client.request(Method::PATCH, &upload).body(stream)).await;
    let sent = sent.expect(StatusCode::ACCEPTED);
    assert_eq!(sent.header("range"), "0-999999");
    let finish = format!("{}?digest={}", sent.header("location"), sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn parts_out_of_order_are_rejected_with_the_offset() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(300);
    let started = client.post(&format!("/v2/{}/blobs/uploads/", path(OURS, "app"))).await;
    let started = started.expect(StatusCode::ACCEPTED);
    let upload = started.header("location");
    assert!(upload.ends_with(&started.header("docker-upload-uuid")));
    let first = client.chunk(&upload, 0, &bytes[..100]).await.expect(StatusCode::ACCEPTED);
    assert_eq!(first.header("range"), "0-99");

    for start in [0, 99, 101, 200] {
        let wrong = client.chunk(&upload, start, &bytes[..50]).await;
        let wrong = wrong.expect_error(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
        assert_eq!(wrong.header("range"), "0-99");
        assert_eq!(wrong.header("location"), upload);
    }
    for range in ["x", "5-1", "100-", "bytes"] {
        let request = client.request(Method::PATCH, &upload).header("content-range", range);
        let wrong = answer(request.body("x")).await;
        wrong.expect_error(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
    }
    let request = client.request(Method::PATCH, &upload).header("content-range", "100-199");
    let short = answer(request.body("x")).await;
    short.expect_error(StatusCode::BAD_REQUEST, "SIZE_INVALID");

    let status = client.get(&upload).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), "0-99");
    client.chunk(&upload, 100, &bytes[100..200]).await.expect(StatusCode::ACCEPTED);
    let digest = sha256(&bytes);
    let finish = format!("{upload}?digest={digest}");
    let early = client.request(Method::PUT, &finish).header("content-range", "0-99");
    let early = answer(early.body(bytes[200..].to_vec())).await;
    early.expect_error(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID");
    let last = client.request(Method::PUT, &finish).header("content-range", "200-299");
    let created = answer(last.body(bytes[200..].to_vec())).await.expect(StatusCode::CREATED);
    assert!(client.get(&created.header("location")).await.body == bytes);
}

#[tokio::test]
async fn content_with_another_digest_is_rejected() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    for digest in [sha256(b"other"), sha512(b"other")] {
        let upload = client.start_upload(&app).await;
        let wrong = client.put(&format!("{upload}?digest={digest}"), "content").await;
        wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let url = format!("/v2/{app}/blobs/uploads/?digest={digest}");
        let wrong = answer(client.request(Method::POST, &url).body("content")).await;
        wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
        let blob = client.head(&format!("/v2/{app}/blobs/{digest}")).await;
        blob.expect(StatusCode::NOT_FOUND);
    }
    let upload = client.start_upload(&app).await;
    for query in ["", "?digest=", "?digest=md5:00", "?digest=sha256:00"] {
        let wrong = client.put(&format!("{upload}{query}"), "content").await;
        wrong.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
    }
    // None of these requests has used the content of the upload or ended it.
    let digest = sha256(b"content");
    let finish = format!("{upload}?digest={digest}");
    client.put(&finish, "content").await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn upload_is_cancelled() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let upload = client.start_upload(&app).await;
    client.patch(&upload, "some").await.expect(StatusCode::ACCEPTED);
    client.delete(&upload).await.expect(StatusCode::NO_CONTENT);
    let uploads = format!("/v2/{app}/blobs/uploads");
    for url in [upload, format!("{uploads}/{}", "0".repeat(32)), format!("{uploads}/..x")] {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let gone = answer(client.request(method, &url)).await;
            gone.expect_error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
        }
    }
}

#[tokio::test]
async fn upload_belongs_to_its_repository() {
    let server = Server::start().await;
    server.create(&path(OURS, "second")).await;
    let client = server.our_client().await;
    let upload = client.start_upload(&path(OURS, "app")).await;
    let elsewhere = upload.replace("/app/", "/second/");
    let unknown = client.patch(&elsewhere, "x").await;
    unknown.expect_error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn interrupted_upload_is_resumed() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(2_000_000);
    let digest = sha256(&bytes);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let half = 777_777;
    let stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..half]).await;
    client.wait_for_size(&upload, half).await;
    drop(stream);
    let rest = client.chunk(&upload, half, &bytes[half..]).await.expect(StatusCode::ACCEPTED);
    assert_eq!(rest.header("range"), "0-1999999");
    let created = client.put(&format!("{upload}?digest={digest}"), "").await;
    let location = created.expect(StatusCode::CREATED).header("location");
    assert!(client.get(&location).await.body == bytes);
}

#[tokio::test]
async fn concurrent_requests_of_one_upload_are_ordered() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(100_000);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let mut running = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..50_000]).await;
    client.wait_for_size(&upload, 50_000).await;
    // The second request waits for the first. The error then has the offset of the upload.
    let second = tokio::spawn({
        let (client, upload, bytes) = (client.clone(), upload.clone(), bytes.clone());
        async move { client.chunk(&upload, 50_000, &bytes[50_000..]).await }
    });
    tokio::io::AsyncWriteExt::write_all(&mut running, &bytes[50_000..]).await.unwrap();
    client.wait_for_size(&upload, 100_000).await;
    second.await.unwrap().expect(StatusCode::RANGE_NOT_SATISFIABLE);
    let finish = format!("{upload}?digest={}", sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_clients_push_the_same_layer() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let layer = sample(2_000_000);
    let pushes: Vec<_> = (0..8)
        .map(|_| {
            let (client, app, layer) = (client.clone(), app.clone(), layer.clone());
            tokio::spawn(async move {
                let upload = client.start_upload(&app).await;
                let digest = sha256(&layer);
                client.patch(&upload, layer).await.expect(StatusCode::ACCEPTED);
                client.put(&format!("{upload}?digest={digest}"), "").await
            })
        })
        .collect();
    for push in pushes {
        push.await.unwrap().expect(StatusCode::CREATED);
    }
    let blob = client.get(&format!("/v2/{app}/blobs/{}", sha256(&layer))).await;
    assert!(blob.expect(StatusCode::OK).body == layer);
}

#[tokio::test]
async fn blob_is_mounted_within_an_organization() {
    let server = Server::start().await;
    let (app, second) = (path(OURS, "app"), path(OURS, "second"));
    server.create(&second).await;
    let client = server.our_client().await;
    let digest = client.push_blob(&app, b"shared").await;
    let mount = format!("/v2/{second}/blobs/uploads/?mount={digest}&from={app}");
    let mounted = client.post(&mount).await.expect(StatusCode::CREATED);
    assert_eq!(mounted.header("docker-content-digest"), digest);
    let location = mounted.header("location");
    assert_eq!(location, format!("/v2/{second}/blobs/{digest}"));
    assert_eq!(client.get(&location).await.body, b"shared");
    client.delete(&format!("/v2/{app}/blobs/{digest}")).await.expect(StatusCode::ACCEPTED);
    assert_eq!(client.get(&location).await.body, b"shared", "each repository has its own");
}

#[tokio::test]
async fn unmountable_blob_is_uploaded() {
    let server = Server::start().await;
    let (app, theirs) = (path(OURS, "app"), path(THEIRS, "app"));
    let (second, third) = (path(OURS, "second"), path(OURS, "third"));
    server.create(&second).await;
    let client = server.our_client().await;
    let secret = server.client(&all_of(THEIRS)).await.push_blob(&theirs, b"secret").await;
    let own = client.push_blob(&app, b"own").await;
    let both = Scope::organizations(Default::default(), [OURS, THEIRS], Access::Push);
    let both = server.client(&both).await;
    let narrow = server.client(&Scope::repository(second.clone(), Access::Push)).await;
    let missing = sha256(b"missing");
    for (who, client, digest, from) in [
        ("another organization's", &client, &secret, theirs.to_string()),
        ("a readable blob of another organization", &both, &secret, theirs.to_string()),
        ("a blob of a repository outside the scope", &narrow, &own, app.to_string()),
        ("a missing blob", &client, &missing, app.to_string()),
        ("from no repository", &client, &own, third.to_string()),
        ("from no name", &client, &own, "x".to_owned()),
    ] {
        let mount = format!("/v2/{second}/blobs/uploads/?mount={digest}&from={from}");
        let started = client.post(&mount).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{who}: {started:?}");
        let upload = started.header("location");
        client
            .put(&format!("{upload}?digest={}", sha256(b"x")), "x")
            .await
            .expect(StatusCode::CREATED);
        let blob = client.head(&format!("/v2/{second}/blobs/{digest}")).await;
        assert_eq!(blob.status, StatusCode::NOT_FOUND, "{who}");
    }
    let no_source = format!("/v2/{second}/blobs/uploads/?mount={own}");
    client.post(&no_source).await.expect(StatusCode::ACCEPTED);
    let wrong = format!("/v2/{second}/blobs/uploads/?mount=x&from={app}");
    client.post(&wrong).await.expect_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID");
}
