//! The listener of the API, and [`Exchange`]: a request that is being processed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::aws::accounts::Caller;
use crate::aws::faults::Kind;
use crate::aws::iam::{Circumstances, check_access, denied_message};
use crate::aws::protocol::{ApiError, Service, xml_document, xml_nested, xml_text};
use crate::aws::sigv4::{Signature, SignatureError};
use crate::aws::world::{Call, World, http_date};
use crate::aws::{ecr, sts, tagging};

/// The maximum size of a request body. Requests of the three services are smaller.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Serves until `stop` is cancelled, which closes all connections.
pub(super) async fn serve(listener: TcpListener, world: Arc<World>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, world.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => tracing::warn!(%error, "the fake of AWS cannot accept a connection"),
        }
    }
}

async fn connection(stream: TcpStream, world: Arc<World>) {
    // A failure only delays responses.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(world.clone(), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the fake of AWS ended early");
    }
}

/// Returns the response to a request. An error closes the connection without a response.
async fn answer(
    world: Arc<World>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body =
        Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
    let request_id = world.next_request_id();
    let Some((service, operation)) = Service::of(&parts.headers, &body) else {
        let error = ApiError::new("UnknownOperationException", "");
        return Ok(refusal(&world, Service::Ecr, &error, &request_id));
    };
    let mut exchange = Exchange::new(&world, service, operation, &body, request_id);
    tokio::time::sleep(exchange.delay()).await;
    let cut = exchange.has_fault(&Kind::Cut);
    let result = if cut { Err(cut_off()) } else { handle(&mut exchange, &parts).await };
    world.record.add(Call {
        action: exchange.action(),
        resources: std::mem::take(&mut exchange.resources),
        principal: exchange.caller.as_ref().map(|caller| caller.arn.clone()),
        error: result.as_ref().err().map(|error| error.code.to_string()),
        request_id: exchange.request_id.clone(),
    });
    if cut || exchange.has_fault(&Kind::LostAnswer) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(match result {
        Ok(reply) => success(&world, reply, &exchange.request_id),
        Err(error) => refusal(&world, service, &error, &exchange.request_id),
    })
}

/// Returns the recorded error of a request whose connection a fault has closed.
fn cut_off() -> ApiError {
    ApiError::new("ConnectionCut", "the connection was cut on demand")
}

async fn handle(
    exchange: &mut Exchange<'_>,
    parts: &hyper::http::request::Parts,
) -> Result<Reply, ApiError> {
    exchange.fault()?;
    // A token authenticates this operation, and not a signature.
    // Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
    let unsigned = exchange.operation == sts::ASSUME_ROLE_WITH_WEB_IDENTITY;
    if !unsigned || exchange.service != Service::Sts {
        exchange.authenticate(parts)?;
    }
    match exchange.service {
        Service::Ecr => ecr::answer(exchange).await.map(Reply::Json),
        Service::Tagging => tagging::answer(exchange).await.map(Reply::Json),
        Service::Sts => sts::answer(exchange).map(|(name, content)| Reply::Xml(name, content)),
    }
}

fn success(world: &World, reply: Reply, request_id: &str) -> Response<Full<Bytes>> {
    match reply {
        Reply::Json(value) => {
            response(world, StatusCode::OK, Format::Json, value.to_string(), request_id)
        }
        Reply::Xml(name, mut content) => {
            let request_id_element = xml_text("RequestId", request_id);
            content.push(xml_nested("ResponseMetadata", &[request_id_element]));
            let text = xml_document(name, &content);
            response(world, StatusCode::OK, Format::Xml, text, request_id)
        }
    }
}

fn refusal(
    world: &World,
    service: Service,
    error: &ApiError,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let (format, text) = match service {
        Service::Sts => (Format::Xml, error.to_xml(request_id)),
        Service::Ecr | Service::Tagging => (Format::Json, error.to_json(service).to_string()),
    };
    response(world, error.status, format, text, request_id)
}

enum Format {
    Json,
    Xml,
}

fn response(
    world: &World,
    status: StatusCode,
    format: Format,
    text: String,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let content_type = match format {
        Format::Json => "application/x-amz-json-1.1",
        Format::Xml => "text/xml",
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let date = http_date(world.clock.now());
    for (name, value) in [
        (CONTENT_TYPE.as_str(), content_type),
        ("x-amzn-requestid", request_id),
        (DATE.as_str(), &date),
    ] {
        // All values are valid header values.
        if let (Ok(name), Ok(value)) =
            (hyper::header::HeaderName::try_from(name), hyper::header::HeaderValue::from_str(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The response of a service.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// A document of the query protocol: the name and the children of the root element.
    Xml(&'static str, Vec<String>),
}

/// A request, and the state of its processing.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) world: &'a World,
    pub(super) service: Service,
    pub(super) operation: String,
    pub(super) request_id: String,
    pub(super) body: &'a [u8],
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) resources: Vec<String>,
    faults: Vec<Kind>,
}

impl<'a> Exchange<'a> {
    /// Starts the processing of a request, and determines its faults.
    pub(super) fn new(
        world: &'a World,
        service: Service,
        operation: String,
        body: &'a [u8],
        request_id: String,
    ) -> Self {
        let faults = world.faults.next(&format!("{}:{operation}", service.prefix()));
        Self {
            world,
            service,
            operation,
            request_id,
            body,
            caller: None,
            resources: Vec::new(),
            faults,
        }
    }

    /// Returns the action of the operation in policies.
    pub(super) fn action(&self) -> String {
        format!("{}:{}", self.service.prefix(), self.operation)
    }

    pub(super) fn has_fault(&self, kind: &Kind) -> bool {
        self.faults.contains(kind)
    }

    pub(super) fn delay(&self) -> Duration {
        let delays = self.faults.iter().filter_map(|fault| match fault {
            Kind::Slow(delay) => Some(*delay),
            _ => None,
        });
        delays.sum()
    }

    /// Returns the maximum number of entries in a page: `asked`, unless a fault reduces it.
    pub(super) fn page_size(&self, asked: usize) -> usize {
        let limits = self.faults.iter().filter_map(|fault| match fault {
            Kind::ShortPage(size) => Some(*size),
            _ => None,
        });
        limits.fold(asked, usize::min)
    }

    /// Fails with the error of the first fault that has one.
    pub(super) fn fault(&self) -> Result<(), ApiError> {
        let codes = self.service.error_codes();
        for fault in &self.faults {
            return Err(match fault {
                // Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors.html>
                Kind::Throttle => ApiError::new(codes.throttled, "Rate exceeded"),
                Kind::ServerError => ApiError::new(
                    codes.internal,
                    "These errors are usually caused by a server-side issue.",
                )
                .with_status(StatusCode::INTERNAL_SERVER_ERROR),
                Kind::Error { code, message } => ApiError::new(code.clone(), message),
                Kind::ExpiredToken => self.expired_token(),
                _ => continue,
            });
        }
        Ok(())
    }

    /// Verifies the signature of the request, and sets the caller.
    pub(super) fn authenticate(&mut self, parts: &Parts) -> Result<(), ApiError> {
        let codes = self.service.error_codes();
        let refused = |error| match error {
            SignatureError::Missing => {
                ApiError::new(codes.missing_token, "Missing Authentication Token")
            }
            SignatureError::Incomplete(problem) => {
                ApiError::new(codes.incomplete_signature, problem)
            }
            SignatureError::Wrong(problem) => ApiError::new(codes.wrong_signature, problem),
        };
        let refused = |error| refused(error).with_status(codes.forbidden);
        let unknown = || {
            let message = "The security token included in the request is invalid.";
            ApiError::new(codes.unknown_key, message).with_status(codes.forbidden)
        };
        let world = self.world;
        let signature = Signature::of(&parts.headers).map_err(refused)?;
        let credential = world.accounts.credential(&signature.access_key_id);
        let credential = credential.ok_or_else(unknown)?;
        let now = world.clock.now();
        // The global endpoint of STS is in us-east-1.
        // Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_region-endpoints.html>
        let regions: &[&str] = match self.service {
            Service::Sts => &[world.host.region(), "us-east-1"],
            Service::Ecr | Service::Tagging => &[world.host.region()],
        };
        signature.check_scope(now, self.service.signing_name(), regions).map_err(refused)?;
        signature.check(&credential.key.secret, parts, self.body).map_err(refused)?;
        let token = parts.headers.get("x-amz-security-token").and_then(|value| value.to_str().ok());
        if token != credential.session_token.as_deref() {
            return Err(unknown());
        }
        let expired = credential.caller.expires_at.is_some_and(|expires_at| expires_at <= now);
        self.caller = Some(credential.caller);
        if expired { Err(self.expired_token()) } else { Ok(()) }
    }

    fn expired_token(&self) -> ApiError {
        let codes = self.service.error_codes();
        let message = "The security token included in the request is expired";
        ApiError::new(codes.expired_token, message).with_status(codes.forbidden)
    }

    /// Returns the principal that signed the request.
    pub(super) fn caller(&self) -> Result<Arc<Caller>, ApiError> {
        let unsigned = || ApiError::internal(self.service, "an operation without a caller");
        self.caller.clone().ok_or_else(unsigned)
    }

    /// Checks that policies allow the caller an action on a resource, or on `*`.
    pub(super) fn authorize(
        &mut self,
        action: &str,
        resource: &str,
        circumstances: &Circumstances<'_>,
    ) -> Result<(), ApiError> {
        let caller = self.caller()?;
        if !self.resources.iter().any(|known| known == resource) {
            self.resources.push(resource.to_owned());
        }
        check_access(&caller, action, resource, circumstances).map_err(|refusal| {
            self.access_denied(denied_message(&caller.arn, action, resource, refusal))
        })
    }

    pub(super) fn access_denied(&self, message: String) -> ApiError {
        let codes = self.service.error_codes();
        ApiError::new(codes.access_denied, message).with_status(codes.forbidden)
    }

    /// Parses a request of the JSON protocol.
    ///
    /// A member that the fake does not support is an error, so that no test passes because a member was ignored.
    pub(super) fn request<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(self.body)
            .map_err(|error| ApiError::new("SerializationException", error.to_string()))
    }

    pub(super) fn now(&self) -> SystemTime {
        self.world.clock.now()
    }
}

/// The requested page of a listing.
#[derive(Debug, Clone)]
pub(super) struct Paging {
    size: usize,
    token: Option<String>,
    /// The number of previous pages.
    number: u64,
    /// The last key of the previous page.
    after: Option<String>,
}

impl Paging {
    /// Creates a page of at most `size` entries; `None` if the token is not that of a page, or has expired.
    pub(super) fn new(exchange: &Exchange<'_>, size: usize, token: Option<String>) -> Option<Self> {
        let Some(token) = token else {
            return Some(Self { size, token: None, number: 0, after: None });
        };
        if exchange.has_fault(&Kind::ExpiredPageToken) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(&token).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (number, after) = text.strip_prefix("page ")?.split_once(' ')?;
        let number = number.parse().ok()?;
        let after = (!after.is_empty()).then(|| after.to_owned());
        Some(Self { size, token: Some(token), number, after })
    }

    /// Returns the last key of the previous page.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Returns the entries of this page, and the token of the next page. `entries` start after the previous page.
    ///
    /// The token has the last key and not its position, so that creations and deletions do not shift later pages.
    pub(super) fn page<'k, V, T>(
        &self,
        exchange: &Exchange<'_>,
        entries: impl IntoIterator<Item = (&'k String, V)>,
        describe: impl Fn(&str, V) -> T,
    ) -> (Vec<T>, Option<String>) {
        let size = exchange.page_size(self.size);
        let mut entries = entries.into_iter();
        let (mut page, mut last) = (Vec::new(), self.after.as_deref().unwrap_or_default());
        for (key, entry) in entries.by_ref().take(size) {
            last = key;
            page.push(describe(key, entry));
        }
        let next = entries.next().is_some().then(|| match &self.token {
            Some(token) if exchange.has_fault(&Kind::RepeatedToken) => token.clone(),
            _ => URL_SAFE_NO_PAD.encode(format!("page {} {last}", self.number + 1)),
        });
        (page, next)
    }
}
