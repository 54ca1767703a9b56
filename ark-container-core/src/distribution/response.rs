//! Reads responses: bodies of bounded size, pages of listings, and content at presigned URLs.

use std::collections::{HashSet, VecDeque};
use std::ops::Deref;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
#[cfg(feature = "ecr")]
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LINK};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;

use super::client::Request;
use super::client::{Client, RESPONSE_TIMEOUT};
use super::error::{RequestTarget, connection_error, timeout_error};
use crate::error::{Error, Result};
use crate::model::Tag;
use crate::secrets::Secrets;
#[cfg(feature = "ecr")]
use crate::secrets::redacted;

/// The maximum number of bytes that are read of an error response, or of a body that is ignored.
pub(super) const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// The minimum mean rate of a response that is read as a whole. A manifest of 4 MiB takes at most 7 minutes.
const MIN_BODY_BYTES_PER_SECOND: u64 = 16 * 1024;
/// The minimum mean rate of a blob, which is lower since several blobs share a slow link.
const MIN_BLOB_BYTES_PER_SECOND: u64 = 1024;
/// The time before the mean rate counts. A longer time than the timeout, since a timeout is retried.
const SLOW_START_PERIOD: Duration = RESPONSE_TIMEOUT.saturating_mul(2);

/// A response whose body is read in bounded time, and whose texts for errors are redacted.
#[derive(Debug)]
pub(super) struct BoundedResponse {
    response: Response,
    /// The secrets that the texts redact.
    secrets: Secrets,
    /// The number of received bytes.
    received: u64,
    /// The total time spent waiting for them.
    waited: Duration,
}

impl BoundedResponse {
    /// Creates the response to a request that was sent with these secrets.
    pub(super) fn new(response: Response, secrets: &Secrets) -> Self {
        Self { response, secrets: secrets.clone(), received: 0, waited: Duration::ZERO }
    }

    /// Returns the URL after redirects, for errors.
    pub(super) fn redacted_url(&self) -> String {
        self.secrets.redacted(self.response.url())
    }

    /// Returns the value of a header for errors.
    pub(super) fn printable_header(&self, name: &HeaderName) -> String {
        let value = self.response.headers().get(name).map(HeaderValue::as_bytes);
        self.secrets.printable(&String::from_utf8_lossy(value.unwrap_or_default()))
    }

    /// Reads the next piece of a blob, or returns `None` at its end.
    pub(super) async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        self.next_piece_at(MIN_BLOB_BYTES_PER_SECOND).await
    }

    async fn next_piece_at(&mut self, min_rate: u64) -> Result<Option<Bytes>> {
        let started = Instant::now();
        let allowed = SLOW_START_PERIOD + Duration::from_secs(self.received / min_rate);
        let remaining = allowed.saturating_sub(self.waited);
        match timeout(RESPONSE_TIMEOUT.min(remaining), self.response.chunk()).await {
            Ok(Ok(piece)) => {
                self.waited += started.elapsed();
                self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
            Ok(Err(error)) => Err(connection_error(&Method::GET, &self.redacted_url(), error)),
            Err(_) if remaining < RESPONSE_TIMEOUT => {
                let (redacted_url, received) = (self.redacted_url(), self.received);
                let seconds = (self.waited + remaining).as_secs();
                let message = format!(
                    "GET {redacted_url}: the response is too slow: {received} bytes in {seconds} s"
                );
                Err(Error::failed(message))
            }
            Err(_) => Err(timeout_error(&Method::GET, &self.redacted_url())),
        }
    }

    /// Reads at most `limit` bytes, and returns whether they are the whole body, or the error that interrupted it.
    pub(super) async fn read_up_to(&mut self, limit: usize) -> (Vec<u8>, Result<bool>) {
        let mut body = Vec::new();
        loop {
            match self.next_piece_at(MIN_BODY_BYTES_PER_SECOND).await {
                Ok(Some(piece)) => {
                    let room = limit - body.len();
                    body.extend_from_slice(&piece[..piece.len().min(room)]);
                    if piece.len() > room {
                        return (body, Ok(false));
                    }
                }
                Ok(None) => return (body, Ok(true)),
                Err(error) => return (body, Err(error)),
            }
        }
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(super) async fn read_whole(&mut self, limit: usize) -> Result<Vec<u8>> {
        match self.read_up_to(limit).await {
            (body, Ok(true)) => Ok(body),
            (_, Ok(false)) => {
                let url = self.redacted_url();
                let message = format!("GET {url}: the response is longer than {limit} bytes");
                Err(Error::failed(message))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// Parses a body as JSON. The error does not show the content.
    pub(super) fn parse_json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let url = self.redacted_url();
            Error::failed(format!(
                "GET {url}: the response is not the expected JSON, at line {line}, column {column}"
            ))
        })
    }
}

impl Deref for BoundedResponse {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

/// The maximum page size of AWS ECR, as a query parameter.
const PAGE_SIZE: &str = "1000";
/// The maximum size of a page. Fits the 100,000 tags of AWS ECR, for registries without pages.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;
/// The maximum total size of the pages of tags, which are streamed.
const MAX_TAGS_BYTES: usize = 64 * 1024 * 1024;
/// The maximum number of pages of a listing.
const MAX_PAGES: usize = 10_000;

impl Client {
    /// Lists the tags of the repository, in the order of the registry. Ignores invalid tags.
    ///
    /// # Errors
    /// The stream ends after an error. The first item is [`Error::NotFound`] if the repository does not exist.
    /// [`Error::Failed`] also if the registry repeats a page.
    pub fn tags(&self) -> BoxStream<'static, Result<Tag>> {
        #[derive(Deserialize)]
        struct Page {
            // Some registries write `null` for an empty list.
            tags: Option<Vec<String>>,
        }
        let mut first = self.url("tags/list");
        if let Ok(url) = &mut first {
            url.query_pairs_mut().append_pair("n", PAGE_SIZE);
        }
        let target = RequestTarget::Repository;
        let pages = pages::<Page>(self.clone(), target, first, MAX_PAGES, MAX_TAGS_BYTES);
        let tags = |page: Page| {
            let tags = page.tags.unwrap_or_default().into_iter();
            stream::iter(tags.filter_map(|tag| tag.parse().ok()).map(Ok))
        };
        pages.map_ok(tags).try_flatten().boxed()
    }
}

/// Fetches the pages of a listing, all from the same registry and with at most `limit` bytes in total.
pub(super) fn pages<T: DeserializeOwned + Send + 'static>(
    client: Client,
    target: RequestTarget,
    first: Result<Url>,
    max_pages: usize,
    limit: usize,
) -> BoxStream<'static, Result<T>> {
    let ahead = VecDeque::from([first]);
    let state = (client, target, ahead, HashSet::new(), limit);
    stream::try_unfold(state, move |(client, target, mut ahead, mut seen, room)| async move {
        let Some(url) = ahead.pop_front().transpose()? else { return Ok(None) };
        if url.origin() != client.base().origin() {
            let message = format!("the next page of {} is on another host", client.name());
            return Err(Error::failed(message));
        }
        if !seen.insert(url.clone()) {
            let message = format!("the listing of {} repeats a page", client.name());
            return Err(Error::failed(message));
        }
        if seen.len() > max_pages {
            let message = format!("{} lists more than {max_pages} pages", client.name());
            return Err(Error::failed(message));
        }
        let request = Request::new(Method::GET, url);
        let (response, body) = client.fetch(request, target.clone(), MAX_PAGE_BYTES).await?;
        let next = next_target(response.headers());
        ahead.extend(next.map(|target| client.resolve(response.url(), &target)));
        let page = response.parse_json(&body)?;
        let room = room.checked_sub(body.len()).ok_or_else(|| {
            Error::failed(format!("{} lists more than {limit} bytes", client.name()))
        })?;
        Ok(Some((page, (client, target, ahead, seen, room))))
    })
    .boxed()
}

fn next_target(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    links.filter_map(parse_next_link).next().map(str::to_owned)
}

/// Returns the target of `rel="next"` in a `Link` header, relative or absolute.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc8288#section-3>
pub(super) fn parse_next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        // The parameters of this link end at the start of the next link.
        let end = after.find('<').unwrap_or(after.len());
        let next = after[..end].split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let relations = value.trim().trim_matches('"');
                name.trim().eq_ignore_ascii_case("rel")
                    && relations.split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
            })
        });
        if next {
            return Some(target);
        }
        rest = &after[end..];
    }
    None
}

/// Fetches at most `limit` bytes from a presigned URL, such as those of S3. Errors do not show the query.
///
/// # Errors
/// [`Error::Temporary`] if the server is unreachable, or responds with 5xx; [`Error::Failed`] for other responses.
#[cfg(feature = "ecr")]
pub(crate) async fn fetch_presigned(url: &str, limit: usize) -> Result<Vec<u8>> {
    let url: Url = url
        .parse()
        .map_err(|error| Error::failed("the location of a blob is not a URL").with_source(error))?;
    let response = timeout(RESPONSE_TIMEOUT, reqwest::get(url.clone())).await;
    let response = response.map_err(|_| timeout_error(&Method::GET, &redacted(&url)))?;
    let response =
        response.map_err(|error| connection_error(&Method::GET, &redacted(&url), error))?;
    let mut reply = BoundedResponse::new(response, &Secrets::default());
    match reply.status() {
        StatusCode::OK => reply.read_whole(limit).await,
        status => {
            let message = format!("GET {}: HTTP {}", redacted(&url), status.as_u16());
            Err(match status.is_server_error() {
                true => Error::temporary(message),
                false => Error::failed(message),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_is_found_among_other_links() {
        assert_eq!(
            parse_next_link("</v2/a/tags/list?n=1>; rel=\"next\""),
            Some("/v2/a/tags/list?n=1")
        );
        assert_eq!(parse_next_link("<a>; rel=prev, <b>; title=\"x\"; rel=next"), Some("b"));
        assert_eq!(parse_next_link("<a>; rel=\"first next\""), Some("a"));
    }

    #[test]
    fn header_without_next_page_is_ignored() {
        for header in ["", "<a", "<a>", "<a>; rel=\"prev\"", "a; rel=next", "<a>; title=next"] {
            assert_eq!(parse_next_link(header), None, "{header}");
        }
    }
}
