//! Forwarding of requests, with faults.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};

use super::{Fault, Link};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The digest of empty content.
const ANOTHER_DIGEST: HeaderValue = HeaderValue::from_static(
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Returns the response to a request. An error closes the connection without a response.
pub(super) async fn answer(
    link: Arc<Link>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let fault = link.plan().request(&kind(&head));
    match fault {
        None => pass(&link, &head, content(body)).await,
        Some(Fault::Refused { status, retry_after, read }) => {
            if read {
                body.collect().await.map_err(io::Error::other)?;
            }
            let status = StatusCode::from_u16(status).map_err(io::Error::other)?;
            let mut refusal = refusal(status, "TOOMANYREQUESTS");
            let retry_after = retry_after.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds)));
            refusal.headers_mut().extend(retry_after);
            Ok(refusal)
        }
        Some(Fault::Unauthorized) => {
            body.collect().await.map_err(io::Error::other)?;
            let mut refusal = refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
            let challenge = HeaderValue::from_static("Basic realm=\"faulty\"");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            Ok(refusal)
        }
        Some(Fault::Torn { after }) => {
            // The registry receives the same partial body as the link.
            let mut left = after;
            let partial = content(body).map_ok(move |mut bytes| {
                bytes.truncate(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                left -= bytes.len() as u64;
                bytes
            });
            let torn = partial.take_while(|bytes| {
                let continues = bytes.as_ref().is_ok_and(|bytes| !bytes.is_empty());
                std::future::ready(continues)
            });
            let cut = stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) });
            // The client does not receive the response.
            let _ = pass(&link, &head, torn.chain(cut)).await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Fault::LostAnswer) => {
            pass(&link, &head, content(body)).await?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Fault::Twice) => {
            let whole = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let again = || stream::iter([Ok(whole.clone())]);
            pass(&link, &head, again()).await?;
            pass(&link, &head, again()).await
        }
        Some(Fault::WrongDigest) => {
            let mut answer = pass(&link, &head, content(body)).await?;
            if let Some(digest) = answer.headers_mut().get_mut(CONTENT_DIGEST) {
                *digest = ANOTHER_DIGEST;
            }
            Ok(answer)
        }
        Some(Fault::ShortAnswer { missing }) => {
            let answer = pass(&link, &head, content(body)).await?;
            let (head, body) = answer.into_parts();
            let whole = body.collect().await?.to_bytes();
            let kept = whole.len().saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX));
            let kept =
                [Ok(Frame::data(whole.slice(..kept))), Err(io::ErrorKind::ConnectionReset.into())];
            let short = StreamBody::new(stream::iter(kept));
            // An empty body cannot be shortened.
            let body = match whole.is_empty() {
                true => empty(),
                false => short.boxed_unsync(),
            };
            Ok(Response::from_parts(head, body))
        }
        Some(Fault::Late(delay)) => {
            let answer = pass(&link, &head, content(body)).await?;
            tokio::time::sleep(delay).await;
            Ok(answer)
        }
    }
}

/// Returns the kind that a request is counted as. The random IDs of uploads are omitted.
fn kind(head: &Parts) -> String {
    let path = head.uri.path();
    let path = match path.split_once("/blobs/uploads/") {
        Some((_, "")) => "uploads",
        Some(_) => "upload",
        None => path.splitn(6, '/').last().unwrap_or_default(),
    };
    format!("{} {path}?{}", head.method, head.uri.query().unwrap_or_default())
}

fn content(body: Incoming) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    TryStreamExt::map_err(body.into_data_stream(), io::Error::other)
}

/// Forwards a request, and returns the response of the registry.
async fn pass(
    link: &Link,
    head: &Parts,
    content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> io::Result<Response<Body>> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request =
        link.client.request(head.method.clone(), format!("http://{}{path}", link.upstream));
    for (name, value) in head.headers.iter().filter(|(name, _)| **name != HOST) {
        request = request.header(name, value);
    }
    if head.headers.get(CONTENT_LENGTH).is_none_or(|length| length != "0") {
        request = request.body(reqwest::Body::wrap_stream(content));
    }
    let answer = request.send().await.map_err(io::Error::other)?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let body = answer.bytes_stream().map_ok(Frame::data).map_err(io::Error::other);
    response.body(StreamBody::new(body).boxed_unsync()).map_err(io::Error::other)
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!(r#"{{"errors":[{{"code":"{code}","message":"a fault on demand"}}]}}"#);
    let mut refusal =
        Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync());
    *refusal.status_mut() = status;
    refusal
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}
