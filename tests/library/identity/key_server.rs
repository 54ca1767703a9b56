//! [`KeyServer`]: a server of keys on a free port, which counts how often it is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ark_container_core::testing::TokenIssuer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Gives prepared answers, keys at `/keys`, and 404 for all else.
pub(crate) struct KeyServer {
    pub(crate) url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    /// By path.
    answers: Mutex<HashMap<String, String>>,
    requests: AtomicUsize,
    /// A permit for each answer that may go out, while answers are held.
    gate: Semaphore,
}

impl KeyServer {
    pub(crate) async fn start(issuer: &TokenIssuer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            requests: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        let server = Self { url, shared, serving };
        server.publish(issuer);
        server
    }

    /// How often it was asked.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Answers with the keys of `issuer` from now on.
    pub(crate) fn publish(&self, issuer: &TokenIssuer) {
        self.answer("/keys", "200 OK", &issuer.key_set_json());
    }

    /// Answers requests for `path` with this status and body from now on.
    pub(crate) fn answer(&self, path: &str, status: &str, body: &str) {
        self.insert(path, status, "", body);
    }

    /// Redirects from `path` to `target` from now on.
    pub(crate) fn redirect(&self, path: &str, target: &str) {
        self.insert(path, "302 Found", &format!("location: {target}\r\n"), "");
    }

    fn insert(&self, path: &str, status: &str, head: &str, body: &str) {
        let len = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\n{head}content-length: {len}\r\nconnection: close\r\n\r\n{body}"
        );
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Lets nobody have an answer from now on.
    pub(crate) fn hold(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets one answer go out.
    pub(crate) fn let_one_go(&self) {
        self.shared.gate.add_permits(1);
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&shared)));
    }
}

/// Answers one request; that the client is gone is nobody's business.
async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    shared.gate.acquire().await.unwrap().forget();
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let known = shared.answers.lock().unwrap().get(path).cloned();
    let answer = known.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\n\r\n".to_owned());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
