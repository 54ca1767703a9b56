//! A disk without room for bytes, or for files: the client is told, and goes on once there is room.

use reqwest::StatusCode;

use super::small_disk::SmallDisk;
use crate::registry::server::{Answer, Client, OURS, Server, path, sample, sha256};

/// What a client is told by a registry whose disk is full.
#[track_caller]
fn expect_full(answer: Answer) {
    let answer = answer.expect_error(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN");
    assert_eq!(answer.message(), "the registry's disk is full");
}

async fn assert_kept(client: &Client, digest: &str, layer: &[u8]) {
    let app = path(OURS, "app");
    let manifest = client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
    assert_eq!(sha256(&manifest.body), digest);
    let blob = client.get(&format!("/v2/{app}/blobs/{}", sha256(layer))).await;
    assert!(blob.expect(StatusCode::OK).body == layer);
}

#[tokio::test]
async fn an_upload_goes_on_where_the_disk_was_full() {
    let disk = SmallDisk::mount("size=8m,mode=0700");
    let server = Server::start_in(&disk.registry());
    let app = path(OURS, "app");
    server.create(&app).await;
    let client = server.our_client().await;
    let kept = sample(50_000);
    let digest = client.push_image(&app, "v1", &kept).await;

    let bytes = sample(3_000_000);
    let upload = client.start_upload(&app).await;
    client.patch(&upload, &bytes[..1_000_000]).await.expect(StatusCode::ACCEPTED);
    disk.fill(300_000);
    expect_full(client.patch(&upload, &bytes[1_000_000..]).await);
    assert_kept(&client, &digest, &kept).await;
    disk.free();

    let status = client.get(&upload).await.expect(StatusCode::NO_CONTENT).header("range");
    let stored = status.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!(stored >= 1_000_000, "{stored} of what was acknowledged");
    client.chunk(&upload, stored, &bytes[stored..]).await.expect(StatusCode::ACCEPTED);
    let created = client.put(&format!("{upload}?digest={}", sha256(&bytes)), "").await;
    let location = created.expect(StatusCode::CREATED).header("location");
    assert!(client.get(&location).await.body == bytes);
    assert_kept(&client, &digest, &kept).await;
}

#[tokio::test]
async fn without_room_for_another_file_nothing_is_lost() {
    let disk = SmallDisk::mount("size=8m,nr_inodes=200,mode=0700");
    let server = Server::start_in(&disk.registry());
    let app = path(OURS, "app");
    server.create(&app).await;
    let client = server.our_client().await;
    let kept = sample(50_000);
    let digest = client.push_image(&app, "v1", &kept).await;
    let other = client.image(&app, b"other").await;
    let media_type = other["mediaType"].as_str().unwrap();

    disk.fill_with_files();
    expect_full(client.post(&format!("/v2/{app}/blobs/uploads/")).await);
    expect_full(client.put_manifest(&app, "v1", media_type, &other).await);
    assert_kept(&client, &digest, &kept).await;
    disk.free();

    let put = client.put_manifest(&app, "v2", media_type, &other).await;
    put.expect(StatusCode::CREATED);
    client.push_image(&app, "v3", b"another").await;
    assert_kept(&client, &digest, &kept).await;
}
