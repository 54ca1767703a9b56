//! [`Scripted`]: a registry for tests that gives prepared answers and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::credentials::{Password, RegistryCredentials};
use crate::distribution::{Client, Retry};
use crate::model::{Access, RegistryHost, RepositoryPath, RepositoryUrl, Scope};

const DEADLINE: Duration = Duration::from_secs(20);

/// One answer per connection, in order; `{host}` in an answer stands for the server's own address.
pub(crate) struct Scripted {
    host: RegistryHost,
    worker: JoinHandle<Vec<Request>>,
}

/// What was asked.
pub(crate) struct Request {
    /// Method, target and version.
    pub(crate) line: String,
    /// The other lines of its head, in lower case but for their values.
    pub(crate) headers: Vec<(String, String)>,
    /// As far as it came.
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

    /// A client that tries nothing again.
    pub(crate) fn client(&self) -> Client {
        self.patient_client().with_retry(Retry::never())
    }

    /// A client that tries again at once.
    pub(crate) fn patient_client(&self) -> Client {
        let scope = Scope::repository(self.url().path().clone(), Access::Push);
        let password = Password::new("hunter2".to_owned());
        let credentials =
            RegistryCredentials::new(self.host.clone(), password, SystemTime::UNIX_EPOCH, scope);
        let at_once = Retry::default().with_delays(Duration::ZERO, Duration::ZERO);
        Client::new(self.url(), credentials).unwrap().with_retry(at_once)
    }

    /// What it was asked, once all its answers are given.
    pub(crate) fn requests(self) -> Vec<Request> {
        self.worker.join().unwrap()
    }
}

/// An answer with a body of its true length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// An answer with an error body as the specification has it.
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
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                return stream;
            }
            Err(_) if started.elapsed() < DEADLINE => {
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
    // The sender may fail to send all that it promised.
    let _ = reader.take(length).read_to_end(&mut request.body);
    // Each request comes on a connection of its own, so that the answers keep their order.
    let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let _ = stream.write_all(answer.as_bytes());
    request
}
