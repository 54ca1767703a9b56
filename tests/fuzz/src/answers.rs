//! Responses of a registry to the client.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use ark_container_core::Result;
use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::distribution::{Client, Retry};
use ark_container_core::model::{
    Access, Digest, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Scope,
};
use aws_lc_rs::digest::SHA256;
use futures_util::TryStreamExt as _;

use crate::environment;

const PASSWORD: &str = "a-password-that-nobody-may-see";
/// User and password in the form of HTTP Basic authentication.
const ENCODED: &str = "QVdTOmEtcGFzc3dvcmQtdGhhdC1ub2JvZHktbWF5LXNlZQ==";
const CONTENT: &[u8] = b"{}";

/// A server that sends its queued responses, one for each connection.
struct Server {
    host: RegistryHost,
    answers: Mutex<VecDeque<Vec<u8>>>,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    SERVER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let host = listener.local_addr().expect("it listens").into();
        let listener = LISTENER.get_or_init(|| listener);
        std::thread::spawn(|| listener.incoming().flatten().for_each(|stream| serve(&stream)));
        Server { host, answers: Mutex::default() }
    })
}

fn serve(mut stream: &TcpStream) {
    // A client that has disconnected is ignored.
    let heads = BufReader::new(stream).lines().map_while(std::result::Result::ok);
    heads.take_while(|line| !line.is_empty()).for_each(drop);
    let answer = server().answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let _ = stream.write_all(&answer.unwrap_or_default());
    let _ = stream.shutdown(Shutdown::Both);
}

/// Runs an operation of the client.
///
/// The input is the operation, a line break, and the responses, separated by `---` lines. `@host@` is replaced by the
/// server's own host. Line breaks in response heads are replaced by those of HTTP.
pub fn answers(data: &[u8]) {
    let server = server();
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((operation, answers)) = text.split_once('\n') else { return };
    if leads_elsewhere(answers) {
        return;
    }
    let answers = answers.split("\n---\n").map(|answer| {
        let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
        let answer = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
        answer.replace("@host@", server.host.as_str()).into_bytes()
    });
    let answers = answers.collect();
    *server.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    environment::runtime().block_on(run(operation, &server.host));
}

/// Returns whether a response sends the client to another host. The target must not leave this machine.
fn leads_elsewhere(answers: &str) -> bool {
    let lower = answers.to_ascii_lowercase();
    let away = |(at, _)| {
        let host = answers[at + 2..].strip_prefix("@host@");
        !host.is_some_and(|rest| rest.starts_with(['/', '"', '\r', '\n', '>']) || rest.is_empty())
    };
    lower.contains(['\\', '\t', '\r'])
        || lower.contains("https:")
        || lower.contains("http:@")
        || lower.match_indices("//").any(away)
        || lower.match_indices("http:").any(|(at, _)| !lower[at + 5..].starts_with("//@host@"))
}

async fn run(operation: &str, host: &RegistryHost) {
    let path: RepositoryPath =
        "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse().expect("a path");
    let scope = Scope::repository(path.clone(), Access::Push);
    let password = Password::new(PASSWORD.to_owned());
    let expires_at = SystemTime::now();
    let credentials = RegistryCredentials::new(host.clone(), password, expires_at, scope);
    let url = RepositoryUrl::new(host.clone(), path.clone());
    let client = Client::new(url, credentials).expect("a client").with_retry(Retry::never());
    let digest = digest(CONTENT);
    let tag: Reference = "v1".parse().expect("a tag");
    match operation {
        "manifest" => check_output(&client.manifest(&tag).await),
        "fetch" => {
            let by_digest = client.fetch_manifest(&digest.clone().into()).await;
            check_output(&by_digest);
            assert!(by_digest.is_err() || by_digest.is_ok_and(|found| found.bytes == CONTENT));
        }
        "fetch-tag" => {
            let found = client.fetch_manifest(&tag).await;
            check_output(&found);
            if let Ok(found) = found
                && found.digest.to_string().starts_with("sha256:")
            {
                assert_eq!(found.digest, self::digest(&found.bytes));
            }
        }
        "blob" => {
            let blob = async { client.fetch_blob(&digest).await?.try_collect::<Vec<_>>().await };
            let blob = blob.await;
            check_output(&blob);
            assert!(blob.is_err() || blob.is_ok_and(|pieces| pieces.concat() == CONTENT));
        }
        "blob-from" => {
            let rest = async {
                let rest = client.fetch_blob_from(&digest, 1).await?;
                rest.pieces.try_collect::<Vec<_>>().await
            };
            check_output(&rest.await);
        }
        "tags" => check_output(&client.tags().try_collect::<Vec<_>>().await),
        "referrers" => check_output(&client.referrers(&digest, None).await),
        "upload" => check_output(&client.start_upload().await),
        "mount" => check_output(&client.mount_blob(&digest, &path).await),
        _ => {}
    }
}

fn digest(content: &[u8]) -> Digest {
    let found = aws_lc_rs::digest::digest(&SHA256, content);
    Digest::from_bytes(ark_container_core::model::Algorithm::Sha256, found.as_ref())
        .expect("32 bytes")
}

/// Checks that an outcome shows no password, and that its errors have no control characters.
fn check_output<T: Debug>(outcome: &Result<T>) {
    let shown = format!("{outcome:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains(ENCODED), "{shown}");
    let mut error = outcome.as_ref().err().map(|error| error as &dyn std::error::Error);
    while let Some(cause) = error {
        let text = cause.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        error = cause.source();
    }
}
