//! What the registry writes to the log.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use tracing::Level;

use super::server::{OURS, Server, path};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_request_is_one_event_without_its_password() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let server = Server::start().await;
    let mut client = server.our_client().await;
    let app = path(OURS, "app");
    let digest = client.push_blob(&app, b"twelve bytes").await;
    client.get(&format!("/v2/{app}/blobs/{digest}")).await.expect(StatusCode::OK);
    let good = std::mem::replace(&mut client.password, "a-wrong-password".to_owned());
    client.get("/v2/").await.expect(StatusCode::UNAUTHORIZED);

    let wanted = [
        "method=POST kind=\"uploads\" status=201 received=12 sent=0",
        "method=GET kind=\"blob\" status=200 received=0 sent=12",
        "method=GET kind=\"base\" status=401 received=0",
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    while !wanted.iter().all(|event| log.text().contains(event)) {
        assert!(Instant::now() < deadline, "{}", log.text());
        tokio::task::yield_now().await;
    }
    let text = log.text();
    assert_eq!(text.matches(" request ").count(), wanted.len(), "{text}");
    for secret in [good.as_str(), "a-wrong-password", "Basic "] {
        assert!(!text.contains(secret), "{text}");
    }
}
