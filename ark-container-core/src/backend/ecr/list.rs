//! The scan: every repository of the account, page by page.

use futures_util::stream::BoxStream;

use super::backend::EcrBackend;
use super::describe;
use super::pages::{self, Pages};
use crate::backend::Repository;
use crate::error::Result;
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
    pages::listing(move |mut pages| {
        let (backend, organizations) = (backend.clone(), organizations.clone());
        async move {
            let rows = page(&backend, &organizations, &mut pages).await?;
            Ok(Some((rows, pages)))
        }
    })
}

async fn page(
    backend: &EcrBackend,
    organizations: &Organizations,
    pages: &mut Pages,
) -> Result<Vec<Repository>> {
    let answer = backend
        .ecr()
        .await?
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
    let mut rows = Vec::new();
    for repository in found {
        // Whatever else is in the account is not of an organization.
        let path = repository.repository_name().and_then(|name| name.parse().ok());
        let ours = |path: &RepositoryPath| {
            *path.stage() == backend.config().stage && organizations.contains(path.organization())
        };
        if let Some(path) = path.filter(ours) {
            rows.push(describe::row(backend, path, &repository)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
