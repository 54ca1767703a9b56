//! How a registry ends, and what remains of what was running.

use std::time::Duration;

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::{Error, RegistryBackend};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::server::{OURS, Server, path, read_to_end, sample, sha256};

#[tokio::test]
async fn a_running_upload_is_finished_before_the_registry_ends() {
    let mut server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(500_000);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..1000]).await;
    client.wait_for_size(&upload, 1000).await;
    server.tell_to_stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(&bytes[1000..]).await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 202 "), "{reply}");
    assert!(reply.contains("range: 0-499999"), "{reply}");
    server.stopped().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_goes_on_at_the_next_registry() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path());
    let app = path(OURS, "app");
    server.create(&app).await;
    let client = server.our_client().await;
    let bytes = sample(500_000);
    let upload = client.start_upload(&app).await;
    let half = 123_456;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..half]).await;
    client.wait_for_size(&upload, half).await;
    server.tell_to_stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    tokio::time::resume();
    server.stopped().await;
    assert_eq!(read_to_end(&mut stream).await, "");

    let server = Server::start_in(folder.path());
    let client = server.our_client().await;
    let status = client.get(&upload).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), format!("0-{}", half - 1));
    client.chunk(&upload, half, &bytes[half..]).await.expect(StatusCode::ACCEPTED);
    let created = client.put(&format!("{upload}?digest={}", sha256(&bytes)), "").await;
    let location = created.expect(StatusCode::CREATED).header("location");
    assert!(client.get(&location).await.body == bytes);
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end_up() {
    let server = Server::start().await;
    let client = server.our_client().await;
    client.get("/v2/").await.expect(StatusCode::OK);
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let started = std::time::Instant::now();
    server.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn dropping_the_future_cuts_everything() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    let registry = Registry::bind(backend, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = registry.local_addr();
    let serving = tokio::spawn(registry.serve(std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\n").await.unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(read_to_end(&mut stream).await, "");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_announced_registry_is_the_host_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    let bind = || Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let default = backend.host();
    let quiet = bind();
    assert_eq!(backend.host(), default);
    let registry = bind().announced().unwrap();
    assert_eq!(backend.host().to_string(), registry.local_addr().to_string());
    assert!(matches!(quiet.announced(), Err(Error::Conflict { .. })));
    registry.serve(async {}).await.unwrap();
    assert_eq!(backend.host(), default);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told() {
    let server = Server::start().await;
    let error = Registry::bind(server.backend.clone(), server.address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", server.address));
}
