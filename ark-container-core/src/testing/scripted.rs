//! [`Scripted`]: a server for tests that returns prepared responses and records requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::credentials::{Password, RegistryCredentials};
use crate::distribution::{Client, Retry};
use crate::model::{Access, RegistryHost, RepositoryPath, RepositoryUrl, Scope};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns one response per connection, in order. `{host}` in a response is replaced by the address of the server.
pub(crate) struct Scripted {
    host: RegistryHost,
    worker: JoinHandle<Vec<Request>>,
}

/// A recorded request.
pub(crate) struct Request {
    /// The request line: method, target and version.
    pub(crate) line: String,
    /// The headers. Names are in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, as far as it was received.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Scripted {
    pub(crate) fn new<A: Into<String>>(answers: impl IntoIterator<Item = A>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = RegistryHost::from(listener.local_addr().unwrap());
        let fill = |answer: A| answer.into().replace("{host}", host.as_str());
        let answers: Vec<String> = answers.into_iter().map(fill).collect();
        let worker = std::thread::spawn(move || {
            answers.iter().map(|answer| serve(&accept(&listener), answer)).collect()
        });
        Self { host, worker }
    }

    pub(crate) fn host(&self) -> &RegistryHost {
        &self.host
    }

    pub(crate) fn url(&self) -> RepositoryUrl {
        let path: RepositoryPath =
            "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse().unwrap();
        RepositoryUrl::new(self.host.clone(), path)
    }

    /// Returns a client without retries.
    pub(crate) fn client(&self) -> Client {
        self.patient_client().with_retry(Retry::never())
    }

    /// Returns a client that retries without delay.
    pub(crate) fn patient_client(&self) -> Client {
        let scope = Scope::repository(self.url().path().clone(), Access::Push);
        let password = Password::new("hunter2".to_owned());
        let credentials =
            RegistryCredentials::new(self.host.clone(), password, SystemTime::UNIX_EPOCH, scope);
        let at_once = Retry::default().with_delays(Duration::ZERO, Duration::ZERO);
        Client::new(self.url(), credentials).unwrap().with_retry(at_once)
    }

    /// Returns the recorded requests, after all responses are sent.
    pub(crate) fn requests(self) -> Vec<Request> {
        self.worker.join().unwrap()
    }
}

/// Returns a response with a correct content length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Returns a response with an error body of the OCI distribution specification.
pub(crate) fn refusal(status: &str, code: &str, message: &str) -> String {
    let body = serde_json::json!({"errors": [{"code": code, "message": message, "detail": {}}]});
    answer(status, &["Content-Type: application/json"], &body.to_string())
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(REQUEST_TIMEOUT)).unwrap();
                return stream;
            }
            Err(_) if started.elapsed() < REQUEST_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("fewer requests than answers: {error}"),
        }
    }
}

fn serve(mut stream: &TcpStream, answer: &str) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<_> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request { line: lines.swap_remove(0), headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    // The sender may send less than the content length.
    let _ = reader.take(length).read_to_end(&mut request.body);
    // Each request has a separate connection, so that the responses keep their order.
    let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _ = stream.write_all(answer.as_bytes());
    request
}
