//! The local registry over HTTP: a sequence of requests, with invariants after each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ark_container_core::RegistryBackend as _;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::model::{Access, OrganizationId, RepositoryPath, Scope, Stage};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::environment;
use crate::tree::{Tree, hex};

const OURS: OrganizationId = OrganizationId::TBD;
const THEIRS: OrganizationId = OrganizationId::from_u128(0xf00d);
const THEIR_CONTENT: &[u8] = b"the secret content of another organization";
/// The timeout of a response, far longer than any response takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests to a registry, and checks its responses and its folder.
///
/// The input is a list of requests, separated by `---` lines. A request has a method and a target, headers, an empty
/// line, and a body. Placeholders are replaced:
/// - `@app@` and `@other@` by the repositories that the password has access to;
/// - `@theirs@` and `@their-digest@` by a repository without access, and the digest of its blob;
/// - `@location@` by the last header `Location` of a response;
/// - `@digest:N@` and `@size:N@` by digest and size of the body of request N, counted from 0.
pub fn registry(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let outside = environment::folder();
    let tree = Tree::new(outside.path());
    let backend = LocalBackend::open(Some(&tree.root)).expect("a folder");
    let served = Served::start(&backend);
    served.prepare(&backend);
    let theirs = tree.snapshot(THEIRS);
    let mut client = Client::of(&served);
    for request in text.split("\n---\n") {
        let changes = client.send(request, &tree);
        tree.check_entries();
        if changes {
            tree.check_content(OURS, &["app", "other"], &client.deleted);
            assert_eq!(tree.snapshot(THEIRS), theirs, "the other organization has changed");
        }
    }
}

/// A registry that stops on drop.
struct Served {
    address: SocketAddr,
    password: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(backend: &LocalBackend) -> Self {
        let any_port = "127.0.0.1:0".parse().expect("an address");
        let registry = Registry::bind(backend.clone(), any_port).expect("a port is free");
        let address = registry.local_addr();
        let serving = environment::runtime().spawn(async {
            registry.serve(std::future::pending()).await.expect("it serves");
        });
        let password = password(backend, OURS);
        Self { address, password, serving }
    }

    fn prepare(&self, backend: &LocalBackend) {
        for (organization, name) in [(OURS, "app"), (OURS, "other"), (THEIRS, "app")] {
            let path = path(organization, name);
            let options = CreateOptions::default();
            let created =
                environment::runtime().block_on(backend.create_repository(&path, &options));
            created.expect("it is new");
        }
        let target = format!(
            "/v2/{}/blobs/uploads/?digest=sha256:{}",
            path(THEIRS, "app"),
            hex(THEIR_CONTENT)
        );
        let answer = self.exchange(
            &head("POST", &target, &password(backend, THEIRS), THEIR_CONTENT),
            THEIR_CONTENT,
        );
        assert!(answer.starts_with(b"HTTP/1.1 201"));
    }

    /// Sends a request on a new connection, and returns the whole response.
    fn exchange(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a time");
        let mut answer = Vec::new();
        // The registry may reject the request before the end of the body, and then close the connection.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no answer: {error}"),
        }
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn path(organization: OrganizationId, name: &str) -> RepositoryPath {
    let name = name.parse().expect("a name");
    RepositoryPath::new(Stage::default(), organization, name).expect("a path")
}

fn password(backend: &LocalBackend, organization: OrganizationId) -> String {
    let scope = Scope::organizations(Stage::default(), [organization], Access::Delete);
    let credentials = environment::runtime()
        .block_on(backend.credentials(&scope, &Default::default()))
        .expect("a password");
    credentials.password.expose().to_owned()
}

fn head(method: &str, target: &str, password: &str, body: &[u8]) -> String {
    let basic = STANDARD.encode(format!("AWS:{password}"));
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\
         Authorization: Basic {basic}\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// The sender of the requests, with the state of previous requests.
struct Client<'a> {
    served: &'a Served,
    bodies: Vec<Vec<u8>>,
    location: String,
    /// The targets of successful deletions. Manifests may still refer to them.
    deleted: Vec<String>,
}

impl<'a> Client<'a> {
    fn of(served: &'a Served) -> Self {
        Self { served, bodies: Vec::new(), location: String::new(), deleted: Vec::new() }
    }

    /// Sends a request, and checks the response. Returns whether the request may have changed the registry.
    fn send(&mut self, request: &str, tree: &Tree) -> bool {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let body = self.fill(body).into_bytes();
        self.bodies.push(body.clone());
        let head = self.fill(head);
        let mut lines = head.lines();
        let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else {
            return false;
        };
        let mut head = self::head(method, target, &self.served.password, &body);
        head.truncate(head.len() - 2);
        for line in lines {
            // A request that sets its own length or keeps the connection open could wait for ever.
            let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
            let is_framing = ["content-length", "transfer-encoding", "connection", "upgrade"]
                .contains(&name.as_str());
            if !line.is_empty() && !is_framing {
                head += &format!("{line}\r\n");
            }
        }
        let answer = self.served.exchange(&format!("{head}\r\n"), &body);
        let answer = Answer::parse(&answer, method);
        answer.check(tree, &self.served.password);
        if method == "DELETE" && answer.status == 202 {
            self.deleted.push(target.replace("%3A", ":").replace("%3a", ":"));
        }
        if let Some(location) = answer.header("location") {
            self.location = location.to_owned();
        }
        !matches!(method, "GET" | "HEAD")
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text
            .replace("@app@", &format!("/v2/{}", path(OURS, "app")))
            .replace("@other@", &format!("/v2/{}", path(OURS, "other")))
            .replace("@theirs@", &format!("/v2/{}", path(THEIRS, "app")))
            .replace("@their-digest@", &format!("sha256:{}", hex(THEIR_CONTENT)))
            .replace("@location@", &self.location);
        for (index, body) in self.bodies.iter().enumerate() {
            text = text.replace(&format!("@digest:{index}@"), &format!("sha256:{}", hex(body)));
            text = text.replace(&format!("@size:{index}@"), &body.len().to_string());
        }
        text
    }
}

/// A parsed response.
struct Answer<'a> {
    method: &'a str,
    status: u16,
    head: String,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn parse(answer: &'a [u8], method: &'a str) -> Self {
        let at =
            answer.windows(4).position(|end| end == b"\r\n\r\n").expect("the head of an answer");
        let head = std::str::from_utf8(&answer[..at]).expect("a head is text");
        let body = &answer[at + 4..];
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        match status {
            // The final response follows.
            100..200 => Self::parse(body, method),
            _ => Self { method, status, head: head.to_owned(), body },
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    fn check(&self, tree: &Tree, password: &str) {
        let Self { method, status, head, body } = self;
        assert!((200..500).contains(status), "{method}: {head}");
        if *method != "HEAD" {
            let length = self.header("content-length").map(str::parse);
            assert!(length.is_none_or(|length| length == Ok(body.len())), "{head}");
        }
        let text = String::from_utf8_lossy(body);
        let root = tree.root.to_string_lossy();
        assert!(
            ![head, &*text].iter().any(|text| text.contains(&*root) || text.contains(password)),
            "{head}"
        );
        assert!(!body.windows(THEIR_CONTENT.len()).any(|part| part == THEIR_CONTENT), "{head}");
        // Error responses of the HTTP library have no body.
        let is_ours = self.header("docker-distribution-api-version").is_some();
        if *status >= 400 && is_ours && *method != "HEAD" {
            let error: Value = serde_json::from_slice(body).expect("an error response is JSON");
            assert!(
                error["errors"][0]["code"].as_str().is_some_and(|code| !code.is_empty()),
                "{error}"
            );
        }
        if let Some(digest) = self.header("docker-content-digest")
            && let Some(expected) = digest.strip_prefix("sha256:")
            && *status == 200
            && *method == "GET"
        {
            assert_eq!(hex(body), expected, "{head}");
        }
    }
}
