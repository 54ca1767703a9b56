//! Repositories of the account: described by name, and listed by a full scan page by page.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::SystemTime;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{EncryptionType, ImageTagMutability, Tag};
use futures_util::future::join;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::backend::EcrBackend;
use super::errors::REPOSITORY_NOT_FOUND;
use crate::backend::{Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{EcrHost, Organizations, RepositoryPath, RepositoryUrl, TagPattern};

/// Maximum number of repositories in a page of the scan.
///
/// Source: `maxResults` of DescribeRepositories in the ECR service model.
const MAX_REPOSITORIES_PER_PAGE: i32 = 1000;

/// The repositories of `organizations`, found by reading through the account.
///
/// Holds one page at a time, and the tokens of those that were read.
pub(super) fn scan(
    backend: EcrBackend,
    organizations: Organizations,
) -> BoxStream<'static, Result<Repository>> {
    listing(move |mut pages| {
        let (backend, organizations) = (backend.clone(), organizations.clone());
        async move {
            let rows = scan_page(&backend, &organizations, &mut pages).await?;
            Ok(Some((rows, pages)))
        }
    })
}

async fn scan_page(
    backend: &EcrBackend,
    organizations: &Organizations,
    pages: &mut Pages,
) -> Result<Vec<Repository>> {
    let answer = backend
        .ecr()
        .await?
        .describe_repositories()
        .max_results(MAX_REPOSITORIES_PER_PAGE)
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
            rows.push(repository_from(backend, path, &repository)?);
        }
    }
    Ok(rows)
}

/// Maximum number of repositories that one call describes by name.
///
/// Source: `RepositoryNameList` in the ECR service model.
const MAX_NAMES_PER_CALL: usize = 100;

/// A repository with what only its creation asks about.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) repository: Repository,
    pub(super) encryption: Encryption,
    pub(super) scan_on_push: bool,
}

impl EcrBackend {
    /// A repository with its resource tags.
    pub(super) async fn describe(&self, path: &RepositoryPath) -> Result<Described> {
        let ecr = self.ecr().await?;
        let describing = ecr.describe_repositories().repository_names(path.to_string()).send();
        let arn = self.ecr_host().repository_arn(path);
        let tagged = ecr.list_tags_for_resource().resource_arn(arn).send();
        let (described, tagged) = join(describing, tagged).await;
        let described = match described {
            Ok(described) => described,
            Err(error) => return Err(self.call_on("describe", path).failed(error).await),
        };
        let missing = || Error::not_found(ResourceKind::Repository, path);
        let found = described.repositories().first().ok_or_else(missing)?;
        self.check_registry(found.registry_id()).await?;
        let tagged = match tagged {
            Ok(tagged) => tagged,
            Err(error) => return Err(self.call_on("read the tags of", path).failed(error).await),
        };
        let mut repository = repository_from(self, path.clone(), found)?;
        repository.resource_tags = Some(resource_tags(tagged.tags.unwrap_or_default()));
        let encryption = found.encryption_configuration();
        Ok(Described {
            repository,
            encryption: match encryption.map(|encryption| encryption.encryption_type()) {
                None | Some(EncryptionType::Aes256) => Encryption::Aes256,
                Some(_) => {
                    Encryption::Kms { key: encryption.and_then(|e| e.kms_key()).map(str::to_owned) }
                }
            },
            scan_on_push: found
                .image_scanning_configuration()
                .is_some_and(|scanning| scanning.scan_on_push()),
        })
    }

    /// The repositories of these that exist, without their resource tags.
    ///
    /// One missing name fails a call of AWS whole, so that it is asked again in halves.
    pub(super) async fn describe_several(
        &self,
        paths: Vec<RepositoryPath>,
    ) -> Result<Vec<Repository>> {
        let mut found = Vec::with_capacity(paths.len());
        let mut left: Vec<Vec<RepositoryPath>> =
            paths.chunks(MAX_NAMES_PER_CALL).rev().map(<[_]>::to_vec).collect();
        while let Some(mut names) = left.pop() {
            let texts = names.iter().map(ToString::to_string).collect();
            let ecr = self.ecr().await?;
            let answer = ecr.describe_repositories().set_repository_names(Some(texts)).send().await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if error.code() == Some(REPOSITORY_NOT_FOUND) => {
                    if names.len() > 1 {
                        let second = names.split_off(names.len() / 2);
                        left.extend([second, names]);
                    }
                    continue;
                }
                Err(error) => {
                    return Err(self.call("list the repositories of").failed(error).await);
                }
            };
            for repository in answer.repositories() {
                self.check_registry(repository.registry_id()).await?;
                let name = repository.repository_name().unwrap_or_default();
                if let Some(path) = names.iter().find(|path| path.to_string() == name) {
                    found.push(repository_from(self, path.clone(), repository)?);
                }
            }
        }
        Ok(found)
    }
}

/// A repository without its resource tags.
pub(super) fn repository_from(
    backend: &EcrBackend,
    path: RepositoryPath,
    repository: &aws_sdk_ecr::types::Repository,
) -> Result<Repository> {
    let unclear = |error| {
        Error::failed(format!("AWS describes {path} in {backend} invalidly")).with_source(error)
    };
    let filters = repository.image_tag_mutability_exclusion_filters();
    let filters: Result<BTreeSet<TagPattern>, _> =
        filters.iter().map(|filter| filter.filter().parse()).collect();
    let filters = filters.map_err(unclear)?;
    // AWS answers with its default host name, also where the configured one is for FIPS or IPv6: the
    // URL has the configured one. Clients reach an emulator at its own address only, as for logins.
    let own = RepositoryUrl::new(backend.ecr_host().registry_host().clone(), path.clone());
    let answered: Option<RepositoryUrl> =
        repository.repository_uri().map(str::parse).transpose().map_err(unclear)?;
    let url = match answered {
        Some(url) if url.host().as_str().parse::<EcrHost>().is_err() => url,
        _ => own,
    };
    Ok(Repository {
        created_at: repository.created_at().and_then(|at| SystemTime::try_from(*at).ok()),
        tag_mutability: match repository.image_tag_mutability() {
            Some(ImageTagMutability::Immutable | ImageTagMutability::ImmutableWithExclusion) => {
                TagMutability::Immutable
            }
            _ => TagMutability::Mutable,
        },
        mutability_exclusions: filters,
        ..Repository::new(url)
    })
}

fn resource_tags(tags: Vec<Tag>) -> BTreeMap<String, String> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
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
            Some(token) if !self.seen.insert(token.clone()) => Err(Error::failed(format!(
                "{what} goes round in circles: AWS gave one page token twice"
            ))),
            next => Ok(next.is_some()),
        }
    }
}

/// A listing, a page at a time.
///
/// `page` fetches the page that the token is for, and gives it with where the listing has come to; `None`
/// ends the listing there.
pub(super) fn listing<T, P, F>(page: P) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    P: Fn(Pages) -> F + Send + 'static,
    F: Future<Output = Result<Option<(Vec<T>, Pages)>>> + Send + 'static,
{
    let pages = stream::try_unfold(Some(Pages::default()), move |pages| {
        let fetched = pages.map(&page);
        async move {
            let Some(fetched) = fetched else { return Ok(None) };
            let Some((rows, pages)) = fetched.await? else { return Ok(None) };
            let more = pages.next.is_some().then_some(pages);
            Ok::<_, Error>(Some((stream::iter(rows.into_iter().map(Ok)), more)))
        }
    });
    pages.try_flatten().boxed()
}

#[cfg(test)]
mod tests;
