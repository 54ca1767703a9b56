//! What a repository has, page by page: its tags.

use std::collections::{HashSet, VecDeque};

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::body::parse_json;
use super::client::Client;
use super::error::Subject;
use super::link;
use super::request::Request;
use crate::error::{Error, Result};
use crate::model::Tag;

/// AWS ECR's largest page.
const PAGE: &str = "1000";
/// Room for registries that do not know pages, and for AWS ECR's 100,000 tags.
const MAX_PAGE_LEN: usize = 16 * 1024 * 1024;

impl Client {
    /// The tags of the repository, in the registry's order. Those that are no tags are left out.
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
        let pages = pages::<Page>(self.clone(), Subject::Repository, first);
        let tags = |page: Page| {
            let tags = page.tags.unwrap_or_default().into_iter();
            stream::iter(tags.filter_map(|tag| tag.parse().ok()).map(Ok))
        };
        pages.map_ok(tags).try_flatten().boxed()
    }
}

/// The pages of a listing, each once.
pub(super) fn pages<T: DeserializeOwned + Send + 'static>(
    client: Client,
    subject: Subject,
    first: Result<Url>,
) -> BoxStream<'static, Result<T>> {
    let ahead = VecDeque::from([first]);
    let state = (client, subject, ahead, HashSet::new());
    stream::try_unfold(state, |(client, subject, mut ahead, mut seen)| async move {
        let Some(url) = ahead.pop_front().transpose()? else { return Ok(None) };
        if !seen.insert(url.clone()) {
            let message = format!("the pages of {} go round in a circle", client.repository());
            return Err(Error::failed(message));
        }
        let request = Request::new(Method::GET, url);
        let (response, body) = client.fetch(request, subject.clone(), MAX_PAGE_LEN).await?;
        let next = next_target(response.headers());
        ahead.extend(next.map(|target| client.resolve(response.url(), &target)));
        let page = parse_json(&response, &body)?;
        Ok(Some((page, (client, subject, ahead, seen))))
    })
    .boxed()
}

fn next_target(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    links.filter_map(link::next_target).next().map(str::to_owned)
}
