//! Half-open uploads, and a clock that jumps while they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::backend::local::{LocalBackend, Registry};
use reqwest::{Method, StatusCode};

use crate::registry::server::{OURS, Server, path, sample, sha256};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(20);

/// The files of a repository's uploads.
fn uploads(root: &Path, repository: &str) -> Vec<PathBuf> {
    let folder = root.join(repository).join("_repository/uploads");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Dates a file, unless it is gone.
fn date(file: &Path, time: SystemTime) {
    if let Ok(file) = File::options().write(true).open(file) {
        file.set_modified(time).unwrap();
    }
}

/// Starts registries, each of which sweeps at once, until just so many uploads are left.
async fn sweep_to(left: usize, backend: &LocalBackend, repository: &str, before: impl Fn()) {
    let count = || uploads(backend.directory(), repository).len();
    let deadline = Instant::now() + PATIENCE;
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
async fn uploads_whose_clients_went_away_are_swept_and_a_running_one_is_not() {
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

    // For the registry it is as if its clock had jumped two days ahead. What clients sent before they went
    // may still be on its way.
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
async fn a_clock_that_was_set_back_ends_no_upload() {
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
