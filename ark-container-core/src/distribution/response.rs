//! Reading responses: bodies of bounded size, pages of listings, and content at presigned URLs.

use std::collections::{HashSet, VecDeque};

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
#[cfg(feature = "ecr")]
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;

use super::client::Request;
use super::client::{Client, RESPONSE_TIMEOUT};
use super::error::{RequestTarget, broken, redacted, silent};
use crate::error::{Error, Result};
use crate::model::Tag;

/// The bytes that are read of a refusal, and of content that is not used.
pub(super) const MAX_ERROR_BODY_LEN: usize = 64 * 1024;

/// Reads the next piece of a body, or `None` at its end.
pub(super) async fn next_piece(response: &mut Response) -> Result<Option<Bytes>> {
    match timeout(RESPONSE_TIMEOUT, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(broken(&Method::GET, response.url(), error)),
        Err(_) => Err(silent(&Method::GET, response.url())),
    }
}

/// Reads at most `limit` bytes, and returns whether that is the whole body, or the error that ended it.
pub(super) async fn read_up_to(response: &mut Response, limit: usize) -> (Vec<u8>, Result<bool>) {
    let mut body = Vec::new();
    loop {
        match next_piece(response).await {
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
pub(super) async fn read_whole(response: &mut Response, limit: usize) -> Result<Vec<u8>> {
    match read_up_to(response, limit).await {
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
    serde_json::from_slice(body).map_err(|error| {
        let url = redacted(response.url());
        Error::failed(format!("GET {url}: the answer makes no sense")).with_source(error)
    })
}

/// AWS ECR's largest page.
const PAGE: &str = "1000";
/// Room for registries that do not know pages, and for AWS ECR's 100,000 tags.
const MAX_PAGE_LEN: usize = 16 * 1024 * 1024;

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
        let pages = pages::<Page>(self.clone(), RequestTarget::Repository, first);
        let tags = |page: Page| {
            let tags = page.tags.unwrap_or_default().into_iter();
            stream::iter(tags.filter_map(|tag| tag.parse().ok()).map(Ok))
        };
        pages.map_ok(tags).try_flatten().boxed()
    }
}

/// Fetches the pages of a listing, each once.
pub(super) fn pages<T: DeserializeOwned + Send + 'static>(
    client: Client,
    target: RequestTarget,
    first: Result<Url>,
) -> BoxStream<'static, Result<T>> {
    let ahead = VecDeque::from([first]);
    let state = (client, target, ahead, HashSet::new());
    stream::try_unfold(state, |(client, target, mut ahead, mut seen)| async move {
        let Some(url) = ahead.pop_front().transpose()? else { return Ok(None) };
        if !seen.insert(url.clone()) {
            let message = format!("the pages of {} go round in a circle", client.repository());
            return Err(Error::failed(message));
        }
        let request = Request::new(Method::GET, url);
        let (response, body) = client.fetch(request, target.clone(), MAX_PAGE_LEN).await?;
        let next = next_target(response.headers());
        ahead.extend(next.map(|target| client.resolve(response.url(), &target)));
        let page = parse_json(&response, &body)?;
        Ok(Some((page, (client, target, ahead, seen))))
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
