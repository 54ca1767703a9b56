//! What a repository has: its tags, and the manifests that refer to another.

use std::collections::{HashSet, VecDeque};

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::body::parse_json;
use super::client::Client;
use super::document::Index;
use super::error::Subject;
use super::link;
use super::request::Request;
use crate::error::{Error, Result};
use crate::model::Descriptor;
use crate::model::{Digest, Reference, Tag};

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

    /// The manifests whose subject is `digest`: of one artifact type, or all.
    ///
    /// # Behavior
    /// - On a registry without this part of the API, those that clients have listed under a tag
    ///   that stands for it.
    /// - What nothing refers to has none, and so has what does not exist.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let mut url = self.url(&format!("referrers/{digest}"))?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", artifact_type);
        }
        let subject = Subject::Image(digest.clone().into());
        let pages = pages::<Index>(self.clone(), subject, Ok(url));
        let listed = pages.map_ok(|page| stream::iter(page.manifests.into_iter().map(Ok)));
        let mut referrers: Vec<Descriptor> = match listed.try_flatten().try_collect().await {
            Err(Error::NotFound { .. }) => self.referrers_by_tag(digest).await?,
            listed => listed?,
        };
        if let Some(artifact_type) = artifact_type {
            // The specification does not oblige a registry to filter.
            referrers.retain(|found| found.artifact_type.as_deref() == Some(artifact_type));
        }
        Ok(referrers)
    }

    async fn referrers_by_tag(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        // A tag has at most 128 characters, so that of a SHA-512 is cut.
        let mut tag = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        tag.truncate(128);
        match self.fetch_manifest(&Reference::Tag(tag.parse()?)).await {
            Ok(index) => serde_json::from_slice::<Index>(&index.bytes)
                .map(|index| index.manifests)
                .map_err(|error| Error::failed(format!("tag {tag} stands for no index"), error)),
            Err(Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// The pages of a listing, each once.
fn pages<T: DeserializeOwned + Send + 'static>(
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
            return Err(Error::Failed { message, source: None });
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
