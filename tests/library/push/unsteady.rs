//! [`Unsteady`]: a proxy in front of a registry that cuts connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ark_container_core::model::RegistryHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards and counts the bytes to the registry. Cuts the connection that carries the chosen byte, and no other.
pub(super) struct Unsteady {
    pub(super) host: RegistryHost,
    passed: Arc<AtomicU64>,
    cut_at: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Unsteady {
    pub(super) async fn to(registry: &RegistryHost) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().into();
        let (passed, cut_at) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let counters = (passed.clone(), cut_at.clone());
        let registry = registry.to_string();
        let serving = tokio::spawn(async move {
            let mut links = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let registry = TcpStream::connect(&registry).await.unwrap();
                links.spawn(pass(client, registry, counters.0.clone(), counters.1.clone()));
            }
        });
        Self { host, passed, cut_at, serving }
    }

    /// Cuts the connection after `bytes` more bytes.
    pub(super) fn cut_after(&self, bytes: u64) {
        self.cut_at.store(self.passed() + bytes, Ordering::Relaxed);
    }

    /// Returns the number of bytes that have reached the registry.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` bytes have reached the registry.
    pub(super) async fn wait_for(&self, bytes: u64) {
        let waiting = async {
            while self.passed() < bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
    }
}

impl Drop for Unsteady {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Forwards bytes until one side closes the connection or it is cut.
async fn pass(
    mut client: TcpStream,
    mut registry: TcpStream,
    passed: Arc<AtomicU64>,
    cut_at: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_registry, mut to_registry) = registry.split();
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await.unwrap_or(0);
            if read == 0 || to_registry.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            let read = read as u64;
            let before = passed.fetch_add(read, Ordering::Relaxed);
            if (before..before + read).contains(&cut_at.load(Ordering::Relaxed)) {
                return;
            }
        }
    };
    let back = tokio::io::copy(&mut from_registry, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}
