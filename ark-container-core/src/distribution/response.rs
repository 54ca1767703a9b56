//! Reading responses: bodies of bounded size, pages of listings, and content at presigned URLs.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
#[cfg(feature = "ecr")]
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
#[cfg(feature = "ecr")]
use tokio::time::timeout;
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use super::client::Request;
use super::client::{Client, RESPONSE_TIMEOUT};
use super::error::{RequestTarget, broken, redacted, silent};
use crate::error::{BoxError, Error, Result};
use crate::model::Tag;

/// The bytes that are read of a refusal, and of content that is not used.
pub(super) const MAX_ERROR_BODY_LEN: usize = 64 * 1024;

/// The time for a body that is read into memory. A slow link needs it; a hostile registry could send a
/// byte a minute for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads the next piece of a body, or `None` at its end.
pub(super) async fn next_piece(response: &mut Response) -> Result<Option<Bytes>> {
    next_piece_until(response, Instant::now() + RESPONSE_TIMEOUT).await
}

async fn next_piece_until(response: &mut Response, deadline: Instant) -> Result<Option<Bytes>> {
    match timeout_at(deadline, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(broken(&Method::GET, response.url(), error)),
        Err(_) => Err(silent(&Method::GET, response.url())),
    }
}

/// Reads at most `limit` bytes until `timeout`, and returns whether that is the whole body, or the error
/// that ended it.
async fn read_up_to(
    response: &mut Response,
    limit: usize,
    timeout: Duration,
) -> (Vec<u8>, Result<bool>) {
    let deadline = Instant::now() + timeout;
    let mut body = Vec::new();
    loop {
        let silence = Instant::now() + RESPONSE_TIMEOUT;
        match next_piece_until(response, deadline.min(silence)).await {
            Ok(Some(piece)) => {
                let room = limit - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.len() > room {
                    return (body, Ok(false));
                }
            }
            Ok(None) => return (body, Ok(true)),
            Err(_) if Instant::now() >= deadline => {
                let url = redacted(response.url());
                let seconds = timeout.as_secs();
                let message = format!("GET {url}: the answer did not end within {seconds} s");
                return (body, Err(Error::failed(message)));
            }
            Err(error) => return (body, Err(error)),
        }
    }
}

/// Reads what comes soon of a refusal, or of content that is not used.
pub(super) async fn read_error_body(response: &mut Response) -> Vec<u8> {
    read_up_to(response, MAX_ERROR_BODY_LEN, RESPONSE_TIMEOUT).await.0
}

/// Reads a whole body, which may not be longer than `limit` bytes.
pub(super) async fn read_whole(response: &mut Response, limit: usize) -> Result<Vec<u8>> {
    match read_up_to(response, limit, BODY_TIMEOUT).await {
        (body, Ok(true)) => Ok(body),
        (_, Ok(false)) => {
            let url = redacted(response.url());
            let message = format!("GET {url}: the answer is longer than {limit} bytes");
            Err(Error::failed(message))
        }
        (_, Err(error)) => Err(error),
    }
}

/// Parses a body as JSON.
pub(super) fn parse_json<T: DeserializeOwned>(response: &Response, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| invalid_response(response, error))
}

/// Returns the error of a body that is not what it should be.
pub(super) fn invalid_response(response: &Response, cause: impl Into<BoxError>) -> Error {
    let url = redacted(response.url());
    Error::failed(format!("GET {url}: the answer makes no sense")).with_source(cause)
}

/// AWS ECR's largest page.
const PAGE: &str = "1000";
/// The maximum size of a page, in bytes: room for registries that do not know pages, and for AWS ECR's
/// 100,000 tags.
const MAX_PAGE_LEN: usize = 16 * 1024 * 1024;
/// The bounds of a listing, which a hostile registry could continue for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListingBounds {
    /// The maximum number of pages.
    pub(super) pages: usize,
    /// The maximum size of all pages and of their URLs, in bytes.
    pub(super) bytes: usize,
}

/// Some 500,000 tags of the maximum length.
const TAGS_BOUNDS: ListingBounds = ListingBounds { pages: 10_000, bytes: 64 * 1024 * 1024 };

impl Client {
    /// Lists the tags of the repository, in the registry's order. Invalid tags are left out.
    ///
    /// # Errors
    /// The stream's first item is [`Error::NotFound`] if the repository does not exist. After an error
    /// it ends; one comes too where the registry's pages go round in a circle, or where the list has more
    /// than 64 MiB or 10,000 pages.
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
        let pages = pages(self.clone(), target, first, TAGS_BOUNDS, parse_json::<Page>);
        let tags = |page: Page| {
            let tags = page.tags.unwrap_or_default().into_iter();
            stream::iter(tags.filter_map(|tag| tag.parse().ok()).map(Ok))
        };
        pages.map_ok(tags).try_flatten().boxed()
    }
}

/// Fetches the pages of a listing, each once, within bounds.
pub(super) fn pages<T: Send + 'static>(
    client: Client,
    target: RequestTarget,
    first: Result<Url>,
    bounds: ListingBounds,
    parse: fn(&Response, &[u8]) -> Result<T>,
) -> BoxStream<'static, Result<T>> {
    struct State {
        client: Client,
        next: Option<Result<Url>>,
        seen: HashSet<Url>,
        bytes: usize,
    }
    let state = State { client, next: Some(first), seen: HashSet::new(), bytes: 0 };
    stream::try_unfold(state, move |mut state| {
        let target = target.clone();
        async move {
            let Some(url) = state.next.take().transpose()? else { return Ok(None) };
            let endless = |problem: String| {
                let repository = state.client.repository();
                Err(Error::failed(format!("a listing of {repository} {problem}")))
            };
            state.bytes += url.as_str().len();
            if !state.seen.insert(url.clone()) {
                return endless("goes round in a circle".to_owned());
            }
            if state.seen.len() > bounds.pages {
                return endless(format!("has more than {} pages", bounds.pages));
            }
            let request = Request::new(Method::GET, url);
            let (response, body) = state.client.fetch(request, target, MAX_PAGE_LEN).await?;
            state.bytes += body.len();
            if state.bytes > bounds.bytes {
                return endless(format!("has more than {} bytes", bounds.bytes));
            }
            let next = next_target(response.headers());
            state.next = next.map(|target| state.client.resolve(response.url(), &target));
            Ok(Some((parse(&response, &body)?, state)))
        }
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
    let answer = answer.map_err(|_| silent(&Method::GET, &url))?;
    let mut response = answer.map_err(|error| broken(&Method::GET, &url, error))?;
    match response.status() {
        StatusCode::OK => read_whole(&mut response, limit).await,
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
