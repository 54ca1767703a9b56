//! Reading responses: bodies of bounded size, pages of listings, and content at presigned URLs.

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
use super::error::{RequestTarget, broken, silent};
use crate::error::{Error, Result};
use crate::model::Tag;
use crate::secrets::Secrets;
#[cfg(feature = "ecr")]
use crate::secrets::redacted;

/// The bytes that are read of a refusal, and of content that is not used.
pub(super) const MAX_ERROR_BODY_LEN: usize = 64 * 1024;

/// The mean rate, in bytes per second, below which an answer fails that is read as a whole.
///
/// A document of 4 MiB then takes 7 minutes at most, however slowly a registry sends it.
const MIN_DOCUMENT_RATE: u64 = 16 * 1024;
/// The mean rate, in bytes per second, below which a blob fails. Several blobs share a slow link.
const MIN_BLOB_RATE: u64 = 1024;
/// The time that an answer has to reach this rate. It is longer than a timeout, which is retried.
const SLOW_START: Duration = RESPONSE_TIMEOUT.saturating_mul(2);

/// An answer whose body is read piece by piece. Its texts are safe to show.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response,
    /// What errors may not show of the answer.
    secrets: Secrets,
    /// The bytes that were read, and the time that was spent waiting for them.
    received: u64,
    waited: Duration,
}

impl Reply {
    /// Returns an answer to a request that was sent with these secrets.
    pub(super) fn new(response: Response, secrets: &Secrets) -> Self {
        Self { response, secrets: secrets.clone(), received: 0, waited: Duration::ZERO }
    }

    /// Returns the URL for errors, after redirects.
    pub(super) fn shown_url(&self) -> String {
        self.secrets.redacted(self.response.url())
    }

    /// Returns the value of a header for errors.
    pub(super) fn shown_header(&self, name: &HeaderName) -> String {
        let value = self.response.headers().get(name).map(HeaderValue::as_bytes);
        self.secrets.printable(&String::from_utf8_lossy(value.unwrap_or_default()))
    }

    /// Reads the next piece of a blob, or `None` at its end.
    pub(super) async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        self.next_piece_at(MIN_BLOB_RATE).await
    }

    async fn next_piece_at(&mut self, min_rate: u64) -> Result<Option<Bytes>> {
        let started = Instant::now();
        let due = SLOW_START + Duration::from_secs(self.received / min_rate);
        let left = due.saturating_sub(self.waited);
        match timeout(RESPONSE_TIMEOUT.min(left), self.response.chunk()).await {
            Ok(Ok(piece)) => {
                self.waited += started.elapsed();
                self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
            Ok(Err(error)) => Err(broken(&Method::GET, &self.shown_url(), error)),
            Err(_) if left < RESPONSE_TIMEOUT => {
                let (shown_url, received) = (self.shown_url(), self.received);
                let seconds = (self.waited + left).as_secs();
                let message = format!(
                    "GET {shown_url}: the answer is too slow: {received} bytes in {seconds} s"
                );
                Err(Error::failed(message))
            }
            Err(_) => Err(silent(&Method::GET, &self.shown_url())),
        }
    }

    /// Reads at most `limit` bytes, and returns whether that is the whole body, or the error that ended it.
    pub(super) async fn read_up_to(&mut self, limit: usize) -> (Vec<u8>, Result<bool>) {
        let mut body = Vec::new();
        loop {
            match self.next_piece_at(MIN_DOCUMENT_RATE).await {
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

    /// Reads a whole body, which may not be longer than `limit` bytes.
    pub(super) async fn read_whole(&mut self, limit: usize) -> Result<Vec<u8>> {
        match self.read_up_to(limit).await {
            (body, Ok(true)) => Ok(body),
            (_, Ok(false)) => {
                let url = self.shown_url();
                let message = format!("GET {url}: the answer is longer than {limit} bytes");
                Err(Error::failed(message))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// Parses a body as JSON. The error does not show its content.
    pub(super) fn parse_json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let url = self.shown_url();
            Error::failed(format!(
                "GET {url}: the answer is invalid JSON or of another form, at line {line}, column \
                 {column}"
            ))
        })
    }
}

impl Deref for Reply {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

/// AWS ECR's largest page.
const PAGE: &str = "1000";
/// Room for registries that do not know pages, and for AWS ECR's 100,000 tags.
const MAX_PAGE_LEN: usize = 16 * 1024 * 1024;
/// The maximum length of all pages of tags together, which are streamed.
const MAX_TAGS_LEN: usize = 64 * 1024 * 1024;
/// The maximum number of pages of a listing.
const MAX_PAGES: usize = 10_000;

impl Client {
    /// Lists the tags of the repository, in the registry's order. Invalid tags are left out.
    ///
    /// # Errors
    /// The stream's first item is [`Error::NotFound`] if the repository does not exist. After an error
    /// it ends; one comes too where the registry's pages go round in a circle.
    pub fn tags(&self) -> BoxStream<'static, Result<Tag>> {
        #[derive(Deserialize)]
        struct Page {
            // Some registries write `null` for none.
            tags: Option<Vec<String>>,
        }
        let mut first = self.url("tags/list");
        if let Ok(url) = &mut first {
            url.query_pairs_mut().append_pair("n", PAGE);
        }
        let target = RequestTarget::Repository;
        let pages = pages::<Page>(self.clone(), target, first, MAX_PAGES, MAX_TAGS_LEN);
        let tags = |page: Page| {
            let tags = page.tags.unwrap_or_default().into_iter();
            stream::iter(tags.filter_map(|tag| tag.parse().ok()).map(Ok))
        };
        pages.map_ok(tags).try_flatten().boxed()
    }
}

/// Fetches the pages of a listing, each once and all from the same registry. All pages together have at most
/// `limit` bytes.
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
            let message = format!("the pages of {} go round in a circle", client.name());
            return Err(Error::failed(message));
        }
        if seen.len() > max_pages {
            let message = format!("{} lists more than {max_pages} pages", client.name());
            return Err(Error::failed(message));
        }
        let request = Request::new(Method::GET, url);
        let (response, body) = client.fetch(request, target.clone(), MAX_PAGE_LEN).await?;
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
        // The parameters of this link end where the next link starts.
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

/// The content at a URL that carries its own permission, such as those of S3, no longer than `limit`.
///
/// Errors do not show its query.
///
/// # Errors
/// [`Error::Temporary`] where it cannot be reached or fails for now; [`Error::Failed`] for other answers.
#[cfg(feature = "ecr")]
pub(crate) async fn fetch_presigned(url: &str, limit: usize) -> Result<Vec<u8>> {
    let url: Url = url
        .parse()
        .map_err(|error| Error::failed("the place of a blob is no URL").with_source(error))?;
    let answer = timeout(RESPONSE_TIMEOUT, reqwest::get(url.clone())).await;
    let answer = answer.map_err(|_| silent(&Method::GET, &redacted(&url)))?;
    let answer = answer.map_err(|error| broken(&Method::GET, &redacted(&url), error))?;
    let mut reply = Reply::new(answer, &Secrets::default());
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
    fn the_next_page_is_found_among_other_links() {
        assert_eq!(
            parse_next_link("</v2/a/tags/list?n=1>; rel=\"next\""),
            Some("/v2/a/tags/list?n=1")
        );
        assert_eq!(parse_next_link("<a>; rel=prev, <b>; title=\"x\"; rel=next"), Some("b"));
        assert_eq!(parse_next_link("<a>; rel=\"first next\""), Some("a"));
    }

    #[test]
    fn what_is_no_next_page_gives_none() {
        for header in ["", "<a", "<a>", "<a>; rel=\"prev\"", "a; rel=next", "<a>; title=next"] {
            assert_eq!(parse_next_link(header), None, "{header}");
        }
    }
}
