//! A registry that discards content. The sink counts requests and bytes, stores names and sizes, and verifies nothing.
//!
//! `push-side-by-side.sh` pushes to the sink to measure only the client. As the `AWS_ENDPOINT_URL` of the command line,
//! the sink also answers the AWS calls of a login.
//!
//! `sink [--delay MILLISECONDS] [--tls CERTIFICATE KEY]` prints `PLAIN=<host>` and, with a certificate for 0.0.0.0,
//! `TLS=<host>`, which logins are then for. `GET /counts` returns the number of requests and of body bytes since the
//! last such request. `DELETE /counts` also deletes the stored names and sizes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ark_container_core::distribution::Manifest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use hyper::http::response::Builder;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// On Linux, a connection to this address reaches this machine. Clients use TLS, because the address is not a loopback
/// address.
const TLS_ADDRESS: &str = "0.0.0.0";
/// The size of the read buffer of a connection.
const BUFFER_SIZE: usize = 256 * 1024;
const ACCOUNT: &str = "123456789012";

type Answer = Response<Full<Bytes>>;

struct Sink {
    delay: Duration,
    /// The host that logins are for.
    registry: String,
    requests: AtomicU64,
    bytes: AtomicU64,
    contents: Mutex<Contents>,
}

/// Names and sizes of the pushed content.
#[derive(Default)]
struct Contents {
    /// Sizes by the last segment of the URL.
    uploads: HashMap<String, u64>,
    /// Sizes by the path of the URL.
    blobs: HashMap<String, u64>,
    /// Manifests by the path of the URL, with the digest and with the tag.
    manifests: HashMap<String, Manifest>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut delay = Duration::ZERO;
    let mut tls = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--delay" => delay = Duration::from_millis(value()?.parse()?),
            "--tls" => tls = Some(acceptor(&value()?, &value()?)?),
            _ => return Err(format!("unknown: {argument}").into()),
        }
    }
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let encrypted = TcpListener::bind((TLS_ADDRESS, 0)).await?;
    let hosts = (plain.local_addr()?, encrypted.local_addr()?);
    let registry = if tls.is_some() { hosts.1 } else { hosts.0 }.to_string();
    let sink = Arc::new(Sink {
        delay,
        registry,
        requests: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        contents: Mutex::default(),
    });
    let mut stdout = io::stdout();
    writeln!(stdout, "PLAIN={}", hosts.0)?;
    if tls.is_some() {
        writeln!(stdout, "TLS={}", hosts.1)?;
    }
    writeln!(stdout)?;
    stdout.flush()?;
    match tls {
        Some(tls) => {
            tokio::try_join!(accept(plain, None, &sink), accept(encrypted, Some(tls), &sink))
                .map(drop)?
        }
        None => accept(plain, None, &sink).await?,
    }
    Ok(())
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    sink: &Arc<Sink>,
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (sink, tls) = (Arc::clone(sink), tls.clone());
        tokio::spawn(async move {
            // Clients may close connections.
            let _ = match tls {
                None => serve(TokioIo::new(stream), sink).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(TokioIo::new(stream), sink).await,
                    Err(_) => Ok(()),
                },
            };
        });
    }
}

async fn serve<S>(stream: S, sink: Arc<Sink>) -> hyper::Result<()>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(move |request| {
        let sink = Arc::clone(&sink);
        async move { Ok::<_, Infallible>(sink.answer(request).await) }
    });
    http1::Builder::new().max_buf_size(BUFFER_SIZE).serve_connection(stream, service).await
}

impl Sink {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        match (&head.method, path.as_str()) {
            (&Method::GET, "/counts") => return self.counts(),
            (&Method::DELETE, "/counts") => {
                *self.contents() = Contents::default();
                return self.counts();
            }
            (&Method::POST, "/") => return self.aws(body, head.headers.get("x-amz-target")).await,
            _ => {}
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_manifest = path.contains("/manifests/");
        let answer = if is_manifest && head.method == Method::PUT {
            self.put_manifest(&path, media_type.unwrap_or_default(), body).await
        } else if is_manifest {
            self.manifest(&path)
        } else if path.contains("/blobs/uploads/") {
            let size = self.discard(body).await;
            self.upload(&head.method, &path, head.uri.query().unwrap_or_default(), size)
        } else if path.contains("/blobs/") {
            match self.contents().blobs.get(&path) {
                Some(size) => empty(Response::builder().header(CONTENT_LENGTH, *size)),
                None => empty(Response::builder().status(StatusCode::NOT_FOUND)),
            }
        } else {
            empty(Response::builder())
        };
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        answer
    }

    fn counts(&self) -> Answer {
        let requests = self.requests.swap(0, Ordering::Relaxed);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        Response::new(Full::from(format!("{requests} {bytes}\n")))
    }

    /// Reads a body to its end, and returns its length in bytes.
    async fn discard(&self, mut body: Incoming) -> u64 {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        size
    }

    async fn put_manifest(&self, path: &str, media_type: &str, body: Incoming) -> Answer {
        let Ok(body) = body.collect().await else {
            return empty(Response::builder().status(StatusCode::BAD_REQUEST));
        };
        let manifest = Manifest::new(media_type, body.to_bytes());
        let digest = manifest.digest.to_string();
        let by_digest = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/{digest}"));
        let mut contents = self.contents();
        contents.manifests.extend(by_digest.map(|by_digest| (by_digest, manifest.clone())));
        contents.manifests.insert(path.to_owned(), manifest);
        let answer = Response::builder().status(StatusCode::CREATED);
        empty(answer.header("docker-content-digest", digest).header(LOCATION, path))
    }

    fn manifest(&self, path: &str) -> Answer {
        match self.contents().manifests.get(path) {
            Some(manifest) => Response::builder()
                .header("docker-content-digest", manifest.digest.to_string())
                .header(CONTENT_TYPE, &manifest.media_type)
                .body(Full::from(manifest.bytes.clone()))
                .unwrap_or_default(),
            None => empty(Response::builder().status(StatusCode::NOT_FOUND)),
        }
    }

    /// Answers an upload request with a body of `size` bytes.
    fn upload(&self, method: &Method, path: &str, query: &str, size: u64) -> Answer {
        let mut contents = self.contents();
        let (folder, id) = path.rsplit_once('/').unwrap_or_default();
        let id = match id {
            "" => format!("{}", contents.uploads.len()),
            id => id.to_owned(),
        };
        let upload = contents.uploads.entry(id.clone()).or_default();
        *upload += size;
        let size = *upload;
        let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
        if let Some(digest) = digest {
            let digest = digest.replace("%3A", ":");
            let blobs = folder.trim_end_matches("/uploads");
            let blob = format!("{blobs}/{digest}");
            contents.blobs.insert(blob.clone(), size);
            let answer = Response::builder().status(StatusCode::CREATED).header(LOCATION, blob);
            return empty(answer.header("docker-content-digest", digest));
        }
        let status = match *method {
            Method::GET | Method::DELETE => StatusCode::NO_CONTENT,
            _ => StatusCode::ACCEPTED,
        };
        let answer = Response::builder().status(status).header(LOCATION, format!("{folder}/{id}"));
        empty(answer.header(RANGE, format!("0-{}", size.saturating_sub(1))))
    }

    /// Answers the AWS calls of a login.
    async fn aws(&self, body: Incoming, target: Option<&HeaderValue>) -> Answer {
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let target = target.and_then(|target| target.to_str().ok()).unwrap_or_default();
        let answer = match target.rsplit_once('.') {
            Some((_, "GetAuthorizationToken")) => {
                let login = json!({
                    "authorizationToken": STANDARD.encode("AWS:password"),
                    "expiresAt": 4_102_444_800_u64,
                    "proxyEndpoint": format!("https://{}", self.registry),
                });
                json!({"authorizationData": [login]}).to_string()
            }
            _ if body.windows(17).any(|window| window == b"GetCallerIdentity") => format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::{ACCOUNT}:user/bench</Arn>\
                 <UserId>bench</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
            _ => return empty(Response::builder().status(StatusCode::BAD_REQUEST)),
        };
        Response::new(Full::from(answer))
    }
}

fn empty(answer: Builder) -> Answer {
    answer.body(Full::default()).unwrap_or_default()
}
