//! The scan: every repository of the account, page by page.

use std::collections::HashSet;
use std::collections::VecDeque;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::backend::EcrBackend;
use super::describe;
use crate::backend::Repository;
use crate::error::{Error, Result};
use crate::model::{Organizations, RepositoryPath};

/// The most that a page has.
///
/// Source: `maxResults` of DescribeRepositories in the ECR service model.
const PAGE: i32 = 1000;

/// The repositories of `organizations`, found by reading through the account.
///
/// Holds one page at a time, and the tokens of those that were read.
pub(super) fn scan(
    backend: EcrBackend,
    organizations: Organizations,
) -> BoxStream<'static, Result<Repository>> {
    let pages = stream::try_unfold(Some(Pages::default()), move |pages| {
        let (backend, organizations) = (backend.clone(), organizations.clone());
        async move {
            let Some(mut pages) = pages else { return Ok(None) };
            let rows = page(&backend, &organizations, &mut pages).await?;
            let more = pages.next.is_some().then_some(pages);
            Ok::<_, Error>(Some((stream::iter(rows.into_iter().map(Ok)), more)))
        }
    });
    pages.try_flatten().boxed()
}

/// Where a listing in pages has come to.
#[derive(Debug, Default)]
pub(super) struct Pages {
    next: Option<String>,
    seen: HashSet<String>,
    pub(super) any: bool,
}

impl Pages {
    /// The token for the page to ask for; none for the first.
    pub(super) fn token(&self) -> Option<String> {
        self.next.clone()
    }

    /// Whether there is another page after the one that gave `token`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the token was given before: the listing would never end.
    pub(super) fn advance(&mut self, token: Option<String>, what: &str) -> Result<bool> {
        self.next = token.filter(|token| !token.is_empty());
        match &self.next {
            Some(token) if !self.seen.insert(token.clone()) => Err(Error::Failed {
                message: format!("{what} goes round in circles: AWS gave one page token twice"),
                source: None,
            }),
            next => Ok(next.is_some()),
        }
    }
}

async fn page(
    backend: &EcrBackend,
    organizations: &Organizations,
    pages: &mut Pages,
) -> Result<VecDeque<Repository>> {
    let answer = backend
        .ecr()
        .await
        .describe_repositories()
        .max_results(PAGE)
        .set_next_token(pages.token())
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(backend.call("list the repositories of").failed(error).await),
    };
    let found = answer.repositories.unwrap_or_default();
    backend.check_registry(found.first().and_then(|row| row.registry_id())).await?;
    pages.any |= !found.is_empty();
    let more = pages.advance(answer.next_token, &format!("the list of {backend}"))?;
    if !more && !pages.any {
        backend.check_caller().await?;
    }
    let mut rows = VecDeque::new();
    for repository in found {
        // Whatever else is in the account is not of an organization.
        let path = repository.repository_name().and_then(|name| name.parse().ok());
        let ours = |path: &RepositoryPath| {
            *path.stage() == backend.config().stage && organizations.contains(path.organization())
        };
        if let Some(path) = path.filter(ours) {
            rows.push_back(describe::row(backend, path, &repository)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
