//! The local registry with too many clients, a full disk or no inodes. Acknowledged content is kept.
//!
//! Tests with a thousand connections, or without free file descriptors, need their own process: tests/cli/load.rs. The
//! tests there do not depend on the registry's limits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::backend::local::{LocalBackend, Registry};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::registry::server::{
    Answer, OURS, RegistryClient, Server, pass, path, read_to_end, sample, sha256,
};
use crate::small_disk::SmallDisk;

/// A copy of `MAX_CONNECTIONS` in `registry/connection.rs`.
const MAX_CONNECTIONS: usize = 256;

#[tokio::test]
async fn unfinished_headers_free_their_connections() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let mut crowd = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /v2/ HTTP/1.1\r\nx-slow: ").await.unwrap();
        crowd.push(slow);
    }
    let mut late = client.send_part(Method::GET, "/v2/", 0, b"").await;
    let mut start = [0; 12];
    // An occasional byte does not extend the deadline of the headers.
    for _ in 0..4 {
        for slow in &mut crowd {
            // The last writes fail, since the registry has closed the connection.
            let _ = slow.write_all(b"x").await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        pass(Duration::from_secs(25)).await;
    }
    late.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    for mut slow in crowd {
        let reply = read_to_end(&mut slow).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply}");
    }
}

#[tokio::test]
async fn slow_upload_is_not_cut() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(20);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..1]).await;
    for sent in 1..bytes.len() {
        client.wait_for_size(&upload, sent).await;
        pass(Duration::from_secs(50)).await;
        stream.write_all(&bytes[sent..=sent]).await.unwrap();
    }
    client.wait_for_size(&upload, bytes.len()).await;
    let finish = format!("{upload}?digest={}", sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}

/// Expects the answer of a registry whose disk is full.
#[track_caller]
fn expect_full(answer: Answer) {
    let answer = answer.expect_error(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN");
    assert_eq!(answer.message(), "the registry's disk is full");
}

async fn assert_kept(client: &RegistryClient, digest: &str, layer: &[u8]) {
    let app = path(OURS, "app");
    let manifest = client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
    assert_eq!(sha256(&manifest.body), digest);
    let blob = client.get(&format!("/v2/{app}/blobs/{}", sha256(layer))).await;
    assert!(blob.expect(StatusCode::OK).body == layer);
}

#[tokio::test]
async fn upload_resumes_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), "size=8m,mode=0700");
    let server = Server::start_in(&folder.path().join("registry"));
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
    assert!(stored >= 1_000_000, "acknowledged bytes are lost: {stored} are stored");
    client.chunk(&upload, stored, &bytes[stored..]).await.expect(StatusCode::ACCEPTED);
    let created = client.put(&format!("{upload}?digest={}", sha256(&bytes)), "").await;
    let location = created.expect(StatusCode::CREATED).header("location");
    assert!(client.get(&location).await.body == bytes);
    assert_kept(&client, &digest, &kept).await;
}

#[tokio::test]
async fn exhausted_inodes_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), "size=8m,nr_inodes=200,mode=0700");
    let server = Server::start_in(&folder.path().join("registry"));
    let app = path(OURS, "app");
    server.create(&app).await;
    let client = server.our_client().await;
    let kept = sample(50_000);
    let digest = client.push_image(&app, "v1", &kept).await;
    let other = client.image(&app, b"other").await;
    let media_type = other["mediaType"].as_str().unwrap();

    fill_with_files(&disk);
    expect_full(client.post(&format!("/v2/{app}/blobs/uploads/")).await);
    expect_full(client.put_manifest(&app, "v1", media_type, &other).await);
    assert_kept(&client, &digest, &kept).await;
    disk.free();

    let put = client.put_manifest(&app, "v2", media_type, &other).await;
    put.expect(StatusCode::CREATED);
    client.push_image(&app, "v3", b"another").await;
    assert_kept(&client, &digest, &kept).await;
}

/// Creates files until no more can be created.
fn fill_with_files(disk: &SmallDisk) {
    fs::create_dir(disk.filler()).unwrap();
    let is_made = |number| File::create(disk.filler().join(format!("{number}"))).is_ok();
    assert!((0..10_000).any(|number: u32| !is_made(number)), "the disk has no limit of files");
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the files of a repository's uploads.
fn uploads(root: &Path, repository: &str) -> Vec<PathBuf> {
    let folder = root.join(repository).join("_repository/uploads");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Sets the modification time of a file, unless the file is gone.
fn date(file: &Path, time: SystemTime) {
    if let Ok(file) = File::options().write(true).open(file) {
        file.set_modified(time).unwrap();
    }
}

/// Starts registries, each of which sweeps at its start, until at most `left` uploads remain.
async fn sweep_to(left: usize, backend: &LocalBackend, repository: &str, before: impl Fn()) {
    let count = || uploads(backend.directory(), repository).len();
    let deadline = Instant::now() + TIMEOUT;
    while count() > left {
        assert!(Instant::now() < deadline, "{} are not swept", count());
        before();
        let registry = Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let serving = tokio::spawn(registry.announced().unwrap().serve(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        serving.abort();
        let _ = serving.await;
    }
    assert_eq!(count(), left);
}

#[tokio::test]
async fn abandoned_uploads_are_deleted() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let bytes = sample(300_000);
    for number in 0..20 {
        let (method, url) = match number % 2 {
            0 => (Method::PATCH, client.start_upload(&app).await),
            _ => (Method::POST, format!("/v2/{app}/blobs/uploads/?digest={}", sha256(&bytes))),
        };
        drop(client.send_part(method, &url, bytes.len(), &bytes[..10_000]).await);
    }
    let running = client.start_upload(&app).await;
    let part = &bytes[..100_000];
    let stream = client.send_part(Method::PATCH, &running, bytes.len(), part).await;
    client.wait_for_size(&running, part.len()).await;

    // The age of the files simulates a clock that is two days ahead. Bytes that clients sent before they disconnected
    // may still arrive.
    let (backend, name) = (&server.backend, app.to_string());
    let age = || {
        for file in uploads(backend.directory(), &name) {
            date(&file, SystemTime::now() - 2 * DAY);
        }
    };
    sweep_to(1, backend, &name, age).await;
    let status = client.get(&running).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), format!("0-{}", part.len() - 1));
    drop(stream);
    client.chunk(&running, part.len(), &bytes[part.len()..]).await.expect(StatusCode::ACCEPTED);
    let finish = format!("{running}?digest={}", sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn clock_set_back_does_not_end_uploads() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let bytes = sample(300_000);
    let future = client.start_upload(&app).await;
    client.patch(&future, &bytes[..1000]).await.expect(StatusCode::ACCEPTED);
    let [file] = &uploads(server.backend.directory(), &app.to_string())[..] else { panic!() };
    date(file, SystemTime::now() + 2 * DAY);
    let abandoned = client.start_upload(&app).await;
    let files = uploads(server.backend.directory(), &app.to_string());
    date(files.iter().find(|other| *other != file).unwrap(), SystemTime::now() - 2 * DAY);

    sweep_to(1, &server.backend, &app.to_string(), || ()).await;
    client.get(&abandoned).await.expect_error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN");
    client.chunk(&future, 1000, &bytes[1000..]).await.expect(StatusCode::ACCEPTED);
    let finish = format!("{future}?digest={}", sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}
