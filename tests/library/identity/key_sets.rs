//! Key sets: their sources, the number of fetches, and failed fetches.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ark_container_core::Error;
use ark_container_core::identity::{KeySet, TokenVerifier};
use ark_container_core::testing::TokenIssuer;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{AUDIENCE, everything, issuer, replace, user};
use crate::registry::server::pass;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn verifier(server: &KeyServer) -> TokenVerifier {
    TokenVerifier::new(KeySet::url(&server.url).unwrap(), AUDIENCE)
}

fn token(issuer: &TokenIssuer) -> String {
    issuer.token(&user("alice")).unwrap()
}

async fn is_accepted(verifier: &TokenVerifier, token: &str) -> bool {
    match verifier.verify(token).await {
        Ok(principal) => principal.to_string() == "user:alice",
        Err(Error::Unauthenticated { .. }) => false,
        Err(error) => panic!("{}", everything(&error)),
    }
}

/// Returns the error of a verification that failed because the keys are not available.
async fn verification_error(verifier: &TokenVerifier, token: &str) -> Error {
    let error = verifier.verify(token).await.unwrap_err();
    assert!(!matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    error
}

#[tokio::test]
async fn key_server_is_asked_once_for_many_tokens() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    assert_eq!(server.requests(), 0);
    let token = token(&issuer);
    let verdicts = join_all((0..20).map(|_| is_accepted(&verifier, &token))).await;
    assert_eq!(verdicts, [true; 20]);
    assert!(is_accepted(&verifier.clone(), &token).await);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn unknown_keys_are_fetched_once_a_minute() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    let known = token(&issuer);
    assert!(is_accepted(&verifier, &known).await);
    for asked in 2..5 {
        pass(MINUTE).await;
        let unknown = (0..20).map(|number| {
            let token = user("alice").with_header("kid", format!("unknown-{number}"));
            issuer.token(&token).unwrap()
        });
        let verdicts =
            join_all(unknown.map(async |token| is_accepted(&verifier, &token).await)).await;
        assert_eq!(verdicts, [false; 20]);
        assert!(is_accepted(&verifier, &known).await);
        assert_eq!(server.requests(), asked);
    }
}

#[tokio::test]
async fn cancelled_verification_does_not_repeat_the_fetch() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    assert!(is_accepted(&verifier, &token(&issuer)).await);
    pass(MINUTE).await;
    server.hold();
    let unknown = issuer.token(&user("alice").with_header("kid", "unknown")).unwrap();
    for _ in 0..3 {
        let timeout = Duration::from_millis(20);
        assert!(tokio::time::timeout(timeout, verifier.verify(&unknown)).await.is_err());
    }
    server.release_one();
    assert!(!is_accepted(&verifier, &unknown).await);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn new_key_is_found_and_retired_key_rejected() {
    let mut issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    let old = token(&issuer);
    assert!(is_accepted(&verifier, &old).await);

    issuer.rotate().unwrap();
    server.publish(&issuer);
    let new = token(&issuer);
    pass(MINUTE).await;
    assert!(is_accepted(&verifier, &new).await && is_accepted(&verifier, &old).await);

    issuer.retire_former_keys();
    server.publish(&issuer);
    pass(15 * MINUTE).await;
    assert!(!is_accepted(&verifier, &old).await);
    assert!(is_accepted(&verifier, &new).await);
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn known_keys_outlive_their_server_by_a_day() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    let token = token(&issuer);
    assert!(is_accepted(&verifier, &token).await);
    for (status, body) in [("503 Down", ""), ("200 OK", "<html>"), ("200 OK", "{\"keys\": []}")] {
        server.answer("/keys", status, body);
        pass(15 * MINUTE).await;
        let before = server.requests();
        for _ in 0..3 {
            assert!(is_accepted(&verifier, &token).await, "{status}");
        }
        assert_eq!(server.requests(), before + 1, "{status}");
    }
    server.answer("/keys", "503 Down", "");
    pass(DAY).await;
    assert!(verification_error(&verifier, &token).await.is_temporary());
    server.publish(&issuer);
    pass(MINUTE).await;
    assert!(is_accepted(&verifier, &token).await);
}

#[tokio::test]
async fn slow_key_server_does_not_block_known_keys() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let verifier = verifier(&server);
    let token = token(&issuer);
    assert!(is_accepted(&verifier, &token).await);
    pass(15 * MINUTE).await;
    server.hold();
    let first = tokio::spawn({
        let (verifier, token) = (verifier.clone(), token.clone());
        async move { is_accepted(&verifier, &token).await }
    });
    while server.requests() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(is_accepted(&verifier, &token).await);
    assert!(!first.is_finished());
    server.release_one();
    assert!(first.await.unwrap());
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn failed_key_fetch_is_retried_at_the_next_token() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    server.answer("/keys", "503 Down", "");
    let (verifier, token) = (verifier(&server), token(&issuer));
    let error = verification_error(&verifier, &token).await;
    assert!(error.is_temporary());
    let url = &server.url;
    assert_eq!(
        error.to_string(),
        format!("the token cannot be verified without the keys of {url}")
    );
    assert!(everything(&error).contains(&format!("GET {url}: 503")), "{}", everything(&error));
    server.publish(&issuer);
    assert!(is_accepted(&verifier, &token).await);
}

#[tokio::test]
async fn invalid_key_sets_are_rejected() {
    let issuer = issuer();
    let server = KeyServer::start(&issuer).await;
    let token = token(&issuer);
    let long = issuer.key_set_json() + &" ".repeat(1024 * 1024);
    for (status, body, problem) in [
        ("404 Not Found", "", "404"),
        ("204 No Content", "", "204"),
        ("200 OK", "", "it is not a JSON Web Key Set"),
        ("200 OK", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}", "it has no public key"),
        ("200 OK", &long, "the answer is longer than 1048576 bytes"),
    ] {
        server.answer("/keys", status, body);
        let error = verification_error(&verifier(&server), &token).await;
        assert!(!error.is_temporary() && everything(&error).contains(problem), "{error:?}");
    }
}

#[tokio::test]
async fn redirect_is_followed_on_the_same_server_only() {
    let issuer = issuer();
    let (server, other) = (KeyServer::start(&issuer).await, KeyServer::start(&issuer).await);
    let token = token(&issuer);

    server.redirect("/keys", &other.url);
    let error = verification_error(&verifier(&server), &token).await;
    assert!(everything(&error).contains("it redirects to another server"), "{error:?}");
    assert_eq!(other.requests(), 0);

    server.redirect("/keys", "/moved");
    server.answer("/moved", "200 OK", &issuer.key_set_json());
    assert!(is_accepted(&verifier(&server), &token).await);

    server.redirect("/moved", &other.url);
    verification_error(&verifier(&server), &token).await;
    assert_eq!(other.requests(), 0);

    server.redirect("/moved", "/keys");
    let error = verification_error(&verifier(&server), &token).await;
    assert!(everything(&error).contains("it redirects again and again"), "{error:?}");
}

#[tokio::test]
async fn invalid_key_file_keeps_the_old_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let mut issuer = issuer();
    replace(&file, &issuer.key_set_json());
    let verifier = TokenVerifier::new(KeySet::file(&file), AUDIENCE);
    let old = token(&issuer);
    assert!(is_accepted(&verifier, &old).await);

    replace(&file, "{\"keys\": [");
    pass(MINUTE).await;
    assert!(is_accepted(&verifier, &old).await);

    fs::remove_file(&file).unwrap();
    pass(MINUTE).await;
    assert!(is_accepted(&verifier, &old).await);

    issuer.rotate().unwrap();
    issuer.retire_former_keys();
    replace(&file, &issuer.key_set_json());
    pass(Duration::from_secs(1)).await;
    assert!(is_accepted(&verifier, &token(&issuer)).await);
    assert!(!is_accepted(&verifier, &old).await);
}

#[tokio::test]
async fn key_file_writable_by_others_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let issuer = issuer();
    let verifier = TokenVerifier::new(KeySet::file(&file), AUDIENCE);
    let error = verification_error(&verifier, &token(&issuer)).await;
    assert!(everything(&error).contains("does not exist"), "{error:?}");

    replace(&file, &issuer.key_set_json());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    let error = verification_error(&verifier, &token(&issuer)).await;
    assert!(everything(&error).contains("chmod go-w"), "{error:?}");
}

/// A server with prepared answers, keys at `/keys`, and 404 for other paths.
struct KeyServer {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    /// By path.
    answers: Mutex<HashMap<String, String>>,
    requests: AtomicUsize,
    /// A permit for each answer to send, while answers are held back.
    gate: Semaphore,
}

impl KeyServer {
    async fn start(issuer: &TokenIssuer) -> Self {
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

    /// Returns the number of requests.
    fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Serves the keys of `issuer` from now on.
    fn publish(&self, issuer: &TokenIssuer) {
        self.answer("/keys", "200 OK", &issuer.key_set_json());
    }

    /// Answers requests for `path` with this status and body from now on.
    fn answer(&self, path: &str, status: &str, body: &str) {
        self.insert(path, status, "", body);
    }

    /// Redirects from `path` to `target` from now on.
    fn redirect(&self, path: &str, target: &str) {
        self.insert(path, "302 Found", &format!("location: {target}\r\n"), "");
    }

    fn insert(&self, path: &str, status: &str, head: &str, body: &str) {
        let len = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\n{head}content-length: {len}\r\nconnection: close\r\n\r\n{body}"
        );
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Holds back all answers from now on.
    fn hold(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Releases one answer.
    fn release_one(&self) {
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

/// Answers one request. Errors are ignored, since a client may disconnect.
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
