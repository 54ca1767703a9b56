//! [`RegistryClient`]: a plain HTTP client of a registry, and the content that tests send with it.

#![expect(clippy::unwrap_used, reason = "the functions that tests share are tests too")]

use std::net::SocketAddr;
use std::time::Duration;

use ark_container_core::model::{OrganizationId, RepositoryPath, Stage};
use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The organization of the caller.
pub const OURS: OrganizationId = OrganizationId::TBD;
/// Another organization.
pub const THEIRS: OrganizationId = OrganizationId::from_u128(0xf00d);

/// The media type of an image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of an uncompressed layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The timeout of a request, and of a wait for the registry.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the path of a repository in the default stage.
pub fn path(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

/// A client that sends requests to a registry unchanged and with one password.
#[derive(Debug, Clone)]
pub struct RegistryClient {
    http: reqwest::Client,
    address: SocketAddr,
    /// The password of each request.
    pub password: String,
}

impl RegistryClient {
    /// Returns a client of the registry at an address.
    pub fn new(address: SocketAddr, password: impl Into<String>) -> Self {
        Self { http: reqwest::Client::new(), address, password: password.into() }
    }

    /// Builds a request with the password.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).basic_auth("AWS", Some(&self.password))
    }

    /// Builds a request without credentials.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).timeout(TIMEOUT)
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    /// Sends a HEAD.
    pub async fn head(&self, path: &str) -> Answer {
        answer(self.request(Method::HEAD, path)).await
    }

    /// Sends a DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Sends a POST without a body.
    pub async fn post(&self, path: &str) -> Answer {
        answer(self.request(Method::POST, path)).await
    }

    /// Sends a PUT.
    pub async fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        answer(self.request(Method::PUT, path).body(bytes.into())).await
    }

    /// Sends a PATCH.
    pub async fn patch(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Answer {
        answer(self.request(Method::PATCH, path).body(bytes.into())).await
    }

    /// Sends a part of an upload with its offset.
    pub async fn chunk(&self, path: &str, start: usize, bytes: &[u8]) -> Answer {
        let range = format!("{start}-{}", start + bytes.len() - 1);
        let request = self.request(Method::PATCH, path).header("content-range", range);
        answer(request.body(bytes.to_vec())).await
    }

    /// Uploads a blob and returns its digest.
    pub async fn push_blob(&self, repository: &RepositoryPath, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let url = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let request = self.request(Method::POST, &url).body(bytes.to_vec());
        answer(request).await.expect(StatusCode::CREATED);
        digest
    }

    /// Uploads a manifest to a tag or digest.
    pub async fn put_manifest(
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

    /// Pushes an image with one layer and returns its digest.
    pub async fn push_image(
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

    /// Uploads the blobs of an image with one layer and returns its manifest.
    pub async fn image(&self, repository: &RepositoryPath, layer: &[u8]) -> Value {
        self.push_blob(repository, layer).await;
        self.push_blob(repository, b"{}").await;
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, b"{}"),
            "layers": [descriptor(OCI_LAYER, layer)],
        })
    }

    /// Starts an upload and returns its URL.
    pub async fn start_upload(&self, repository: &RepositoryPath) -> String {
        let started = self.post(&format!("/v2/{repository}/blobs/uploads/")).await;
        started.expect(StatusCode::ACCEPTED).header("location")
    }

    /// Opens a connection, and sends a request that announces `length` bytes with only the first of them, `part`.
    pub async fn send_part(
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
    pub async fn wait_for_size(&self, upload: &str, size: usize) {
        let wanted = format!("0-{}", size - 1);
        let deadline = std::time::Instant::now() + TIMEOUT;
        while self.get(upload).await.expect(StatusCode::NO_CONTENT).header("range") != wanted {
            assert!(std::time::Instant::now() < deadline, "the upload does not reach the size");
        }
    }
}

/// The response of a registry, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status of the response.
    pub status: StatusCode,
    /// The headers of the response.
    pub headers: reqwest::header::HeaderMap,
    /// The body of the response.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the response, which must have this status.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        self
    }

    /// Returns the response, which must be an error with this status and code.
    #[track_caller]
    pub fn expect_error(self, status: StatusCode, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["errors"][0]["code"], code, "{}", answer.message());
        assert_eq!(answer.header("content-type"), "application/json");
        answer
    }

    /// Returns the body, which must be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the message of the first error in the body.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }

    /// Returns a header, which must be present.
    #[track_caller]
    pub fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().unwrap().to_owned()
    }
}

/// Sends a request and reads the whole response.
pub async fn answer(request: RequestBuilder) -> Answer {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

/// Returns the SHA-256 digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(digest(&SHA256, bytes).as_ref()))
}

/// Returns the SHA-512 digest of `bytes`.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(digest(&SHA512, bytes).as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the OCI descriptor of `bytes`.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

/// Returns bytes that do not compress.
pub fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
