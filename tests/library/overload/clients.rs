//! Clients that take up a place without doing much with it.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::registry::server::{OURS, Server, path, read_to_end, sample, sha256};

/// As many as are served at once.
const PLACES: usize = 256;

/// Lets time pass at once where nothing else is to be done.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_crowd_that_never_finishes_its_headers_makes_way() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES {
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /v2/ HTTP/1.1\r\nx-slow: ").await.unwrap();
        crowd.push(slow);
    }
    let mut late = client.send_part(Method::GET, "/v2/", 0, b"").await;
    let mut start = [0; 12];
    // A byte now and then is no reason to wait for longer: headers have a time of their own.
    for _ in 0..4 {
        for slow in &mut crowd {
            // At last it has been cut.
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
async fn an_upload_may_take_its_time() {
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
