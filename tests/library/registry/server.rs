//! A registry on a free port, a client that speaks to it, content to send, and a log.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{HintCommands, LocalBackend, Registry};
use ark_container_core::model::{Access, OrganizationId, RepositoryPath, Scope, Stage};
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const OURS: OrganizationId = OrganizationId::TBD;
pub(crate) const THEIRS: OrganizationId = OrganizationId::from_u128(0xf00d);

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How long anything may take that a test waits for.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn path(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

/// Everything of an organization.
pub(crate) fn all_of(organization: OrganizationId) -> Scope {
    Scope::organizations(Stage::default(), [organization], Access::Delete)
}

/// The commands that the errors of a [`Server`] suggest.
pub(crate) const COMMANDS: HintCommands = HintCommands {
    login: |path| format!("log-in {}", path.map_or("any".to_owned(), ToString::to_string)),
    create_repository: |path| format!("create {path}"),
};

/// A registry that runs until it is stopped or dropped.
pub(crate) struct Server {
    pub(crate) backend: LocalBackend,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<ark_container_core::Result<()>>,
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Serves a new folder with the repository `app` of each organization.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(folder.path());
        server._folder = Some(folder);
        for organization in [OURS, THEIRS] {
            server.create(&path(organization, "app")).await;
        }
        server
    }

    /// Serves a folder as it is.
    pub(crate) fn start_in(folder: &Path) -> Self {
        let backend = LocalBackend::open(Some(folder)).unwrap();
        let any_port = "127.0.0.1:0".parse().unwrap();
        let registry = Registry::bind(backend.clone(), any_port).unwrap();
        let registry = registry.with_hint_commands(COMMANDS);
        let address = registry.local_addr();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(registry.serve(async { drop(stopped.await) }));
        Self { backend, address, stop: Some(stop), serving, _folder: None }
    }

    pub(crate) async fn create(&self, path: &RepositoryPath) {
        self.backend.create_repository(path, &CreateOptions::default()).await.unwrap();
    }

    /// Tells the registry to stop, without waiting until it has.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the registry has stopped.
    pub(crate) async fn stopped(mut self) {
        self.tell_to_stop();
        self.serving.await.unwrap().unwrap();
    }

    /// A client with credentials for a scope.
    pub(crate) async fn client(&self, scope: &Scope) -> Client {
        let credentials = self.backend.credentials(scope, &Default::default()).await.unwrap();
        Client::new(self.address, credentials.password.expose())
    }

    /// A client that may do everything in our organization.
    pub(crate) async fn our_client(&self) -> Client {
        self.client(&all_of(OURS)).await
    }
}

/// Speaks HTTP to a registry with one password.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    pub(crate) password: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, password: impl Into<String>) -> Self {
        Self { http: reqwest::Client::new(), address, password: password.into() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).basic_auth("AWS", Some(&self.password))
    }

    /// The same without credentials.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).timeout(TIMEOUT)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        answer(self.request(Method::HEAD, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        answer(self.request(Method::POST, path)).await
    }

    pub(crate) async fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        answer(self.request(Method::PUT, path).body(bytes.into())).await
    }

    pub(crate) async fn patch(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        answer(self.request(Method::PATCH, path).body(bytes.into())).await
    }

    /// A chunk that says where it starts.
    pub(crate) async fn chunk(&self, path: &str, start: usize, bytes: &[u8]) -> Answer {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        let request = self.request(Method::PATCH, path).header("content-range", range);
        answer(request.body(bytes.to_vec())).await
    }

    /// Uploads a blob and answers its digest.
    pub(crate) async fn push_blob(&self, repository: &RepositoryPath, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let url = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let request = self.request(Method::POST, &url).body(bytes.to_vec());
        answer(request).await.expect(StatusCode::CREATED);
        digest
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &RepositoryPath,
        reference: &str,
        media_type: &str,
        manifest: &Value,
    ) -> Answer {
        let url = format!("/v2/{repository}/manifests/{reference}");
        let request = self.request(Method::PUT, &url).header("content-type", media_type);
        answer(request.body(manifest.to_string())).await
    }

    /// Pushes an image with one layer, and answers its digest.
    pub(crate) async fn push_image(
        &self,
        repository: &RepositoryPath,
        reference: &str,
        layer: &[u8],
    ) -> String {
        let manifest = self.image(repository, layer).await;
        let put = self.put_manifest(repository, reference, OCI_MANIFEST, &manifest).await;
        put.expect(StatusCode::CREATED);
        sha256(manifest.to_string().as_bytes())
    }

    /// The manifest of an image with one layer, whose blobs are uploaded.
    pub(crate) async fn image(&self, repository: &RepositoryPath, layer: &[u8]) -> Value {
        self.push_blob(repository, layer).await;
        self.push_blob(repository, b"{}").await;
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, b"{}"),
            "layers": [descriptor(OCI_LAYER, layer)],
        })
    }

    /// Starts an upload and answers its URL.
    pub(crate) async fn start_upload(&self, repository: &RepositoryPath) -> String {
        let started = self.post(&format!("/v2/{repository}/blobs/uploads/")).await;
        started.expect(StatusCode::ACCEPTED).header("location")
    }

    /// Opens a connection and sends a request that announces `length` bytes, and some of them.
    pub(crate) async fn send_part(
        &self,
        method: Method,
        url: &str,
        length: usize,
        part: &[u8],
    ) -> TcpStream {
        let credentials = format!("AWS:{}", self.password);
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        let head = format!(
            "{method} {url} HTTP/1.1\r\nhost: registry\r\nauthorization: Basic {encoded}\r\n\
             content-length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(part).await.unwrap();
        stream
    }

    /// Waits until an upload has this many bytes.
    pub(crate) async fn wait_for_size(&self, upload: &str, size: usize) {
        let wanted = format!("0-{}", size - 1);
        let deadline = std::time::Instant::now() + TIMEOUT;
        while self.get(upload).await.expect(StatusCode::NO_CONTENT).header("range") != wanted {
            assert!(std::time::Instant::now() < deadline, "the bytes do not arrive");
        }
    }
}

/// What a registry answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The answer, if its status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        self
    }

    /// The answer, if it is an error with this status and code.
    #[track_caller]
    pub(crate) fn expect_error(self, status: StatusCode, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}", answer.message());
        assert_eq!(answer.header("content-type"), "application/json");
        answer
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap().to_owned()
    }
}

/// Lets this much time pass at once, for everything that goes by tokio's clock.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

/// What remains to be read of a connection that the other side closes.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // Whether the other side closes or resets, nothing more comes.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(digest(&SHA256, bytes).as_ref()))
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(digest(&SHA512, bytes).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

/// Bytes that do not repeat soon.
pub(crate) fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What a program writes to its log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
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
