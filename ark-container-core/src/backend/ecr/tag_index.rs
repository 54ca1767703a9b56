//! [`list`]: the organization listing, from the account and the tag index.
//!
//! # Algorithm
//! 1. The first page of the account (DescribeRepositories, 1,000 repositories) and of the tag index (GetResources by
//!    the tag `ark:organization`, 20 organizations per call) are requested concurrently.
//! 2. If the page is the whole account, it is the complete result.
//! 3. Otherwise the result is the union of that page, the tag index, and the [cached](super::listing_cache)
//!    repositories that this user created in the last hour. The listing counts as incomplete, because the index lags
//!    and lacks untagged repositories.
//! 4. If the tag index is unavailable, the scan of the account continues after its first page. If the index is denied
//!    or unreachable, the next attempt is an hour later. The index belongs to the caller's account, so callers of
//!    another account scan too.
//! 5. If AWS denies the listing of the account to the caller, the result is that of the index. For an hour this process
//!    does not request the account again, and neither do other sessions of the same role.

use std::collections::{BTreeSet, HashSet};
use std::error::Error as _;
use std::pin::pin;

use aws_sdk_resourcegroupstagging::types::TagFilter;
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::backend::EcrBackend;
use super::errors::AwsRefusal;
use super::listing_cache::Fact;
use super::pages::{Page, listing};
use super::repositories::{MAX_CALL_NAMES, account_page, scan};
use crate::backend::Repository;
use crate::error::{Error, Result};
use crate::model::{OrganizationId, Organizations, RepositoryPath};

/// The resource tag that names the organization of a repository.
pub(super) const ORGANIZATION_TAG: &str = "ark:organization";

/// The maximum number of resources in a page of the tag index.
///
/// Source: `ResourcesPerPage` of GetResources,
/// <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>
const MAX_PAGE_RESOURCES: i32 = 100;

/// The maximum number of organizations in one call of the tag index.
///
/// Source: `TagFilter$Values` of GetResources: up to 20 values.
const MAX_CALL_ORGANIZATIONS: usize = 20;

/// The maximum number of concurrent listings of the tag index, each for up to [`MAX_CALL_ORGANIZATIONS`]
/// organizations.
const MAX_CONCURRENT_LISTINGS: usize = 8;

type Repositories = BoxStream<'static, Result<Repository>>;

/// Lists the repositories of some organizations by the algorithm of this module.
pub(super) fn list(backend: EcrBackend, organizations: BTreeSet<OrganizationId>) -> Repositories {
    stream::once(open(backend, organizations)).try_flatten().boxed()
}

/// The result of the first page of the account.
enum Account {
    /// The whole account.
    Whole(Vec<Repository>),
    /// A page that is not the last.
    Part(Page<Repository>),
    /// A denial by AWS: the error, or `None` for a cached denial.
    Denied(Option<Error>),
}

async fn open(
    backend: EcrBackend,
    organizations: BTreeSet<OrganizationId>,
) -> Result<Repositories> {
    let ids: Vec<OrganizationId> = organizations.iter().copied().collect();
    let mut queries = ids
        .chunks(MAX_CALL_ORGANIZATIONS)
        .map(|some| IndexQuery { backend: backend.clone(), organizations: some.into() });
    let Some(query) = queries.next() else { return Ok(stream::empty().boxed()) };
    let cache = backend.listing_cache();
    let account = Organizations::Only(organizations.clone());

    let credentials_source = backend.config().credentials_source();
    let missing = Fact::IndexMissing(&credentials_source);
    let index =
        async { if cache.has(missing).await { None } else { Some(query.page(None).await) } };
    let page = first_page(&backend, &account);
    let (page, index) = match select(pin!(page), pin!(index)).await {
        // The result does not need the index.
        Either::Left((Ok(whole @ Account::Whole(_)), _)) => (whole, None),
        Either::Left((page, index)) => (page?, index.await),
        Either::Right((index, page)) => (page.await?, index),
    };
    let index = match (&page, index) {
        (Account::Whole(_), _) => None,
        (Account::Denied(_), None) => Some(query.page(None).await),
        (_, index) => index,
    };
    let index = match index {
        // Without credentials a scan fails too.
        Some(Err(error @ Error::Unauthenticated { .. })) => return Err(error),
        Some(Err(error)) => {
            tracing::info!(%error, "the tag index is unavailable: the account is scanned instead");
            // A temporary error of the service is not cached.
            let has_response = error.source().is_some_and(|source| source.is::<AwsRefusal>());
            if !(error.is_temporary() && has_response) {
                cache.add(missing).await;
            }
            None
        }
        Some(Ok((paths, None))) if paths.is_empty() && is_foreign(&backend).await => None,
        Some(Ok(index)) => Some(index),
        None => None,
    };
    let (rows, index) = match (page, index) {
        (Account::Whole(rows), _) => return Ok(given(rows)),
        (Account::Part(page), None) => return Ok(scan(backend, account, Some(page))),
        (Account::Denied(None), None) => return Ok(scan(backend, account, None)),
        (Account::Denied(Some(error)), None) => return Err(error),
        (Account::Part((rows, _)), Some(index)) => (rows, index),
        (Account::Denied(_), Some(index)) => (Vec::new(), index),
    };

    cache.set_incomplete();
    let mut known: HashSet<RepositoryPath> =
        rows.iter().map(|row| row.url.path().clone()).collect();
    let mut created = cache.created().await;
    created.retain(|path| {
        organizations.contains(&path.organization())
            && backend.has_stage_of(path)
            && known.insert(path.clone())
    });

    let others: Vec<_> = queries.map(|query| query.list(None)).collect();
    let others = stream::iter(others).flatten_unordered(MAX_CONCURRENT_LISTINGS);
    let indexed = query.list(Some(index)).chain(others);
    let indexed = indexed.try_filter(move |path| std::future::ready(!known.contains(path)));
    let paths = stream::iter(created).map(Ok).chain(indexed).try_chunks(MAX_CALL_NAMES);
    let described = paths.map_err(|error| error.1).and_then(move |paths| {
        let backend = backend.clone();
        async move { Ok(given(backend.describe_several(paths).await?)) }
    });
    Ok(given(rows).chain(described.try_flatten()).boxed())
}

fn given(rows: Vec<Repository>) -> Repositories {
    stream::iter(rows).map(Ok).boxed()
}

async fn first_page(backend: &EcrBackend, organizations: &Organizations) -> Result<Account> {
    let cache = backend.listing_cache();
    let config = backend.config();
    let denied = match &config.web_identity {
        Some(_) => Fact::AccountDenied(config.role_arn.as_deref()),
        None => Fact::AccountDenied(None),
    };
    if cache.has(denied).await {
        return Ok(Account::Denied(None));
    }
    match account_page(backend, organizations, None).await {
        Ok((rows, None)) => Ok(Account::Whole(rows)),
        Ok(page) => Ok(Account::Part(page)),
        Err(error @ Error::PermissionDenied { .. }) => {
            cache.add(denied).await;
            Ok(Account::Denied(Some(error)))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether the caller is known to be of another account than the registry.
async fn is_foreign(backend: &EcrBackend) -> bool {
    let caller = backend.caller_in_time().await;
    caller.is_some_and(|caller| caller.account != backend.ecr_host().account())
}

/// A listing of the tag index for up to [`MAX_CALL_ORGANIZATIONS`] organizations.
#[derive(Debug, Clone)]
struct IndexQuery {
    backend: EcrBackend,
    organizations: Box<[OrganizationId]>,
}

impl IndexQuery {
    /// Lists the repositories in the index. `first` is the first page, if it was requested already.
    fn list(
        self,
        first: Option<Page<RepositoryPath>>,
    ) -> BoxStream<'static, Result<RepositoryPath>> {
        listing(
            format!("the tag index of {}", self.backend),
            first,
            |path| path,
            move |token| {
                let query = self.clone();
                async move { query.page(token).await }
            },
        )
    }

    async fn page(&self, token: Option<String>) -> Result<Page<RepositoryPath>> {
        let values = self.organizations.iter().map(ToString::to_string).collect();
        let filter = TagFilter::builder().key(ORGANIZATION_TAG).set_values(Some(values)).build();
        let response = self
            .backend
            .tagging()
            .await?
            .get_resources()
            .resource_type_filters("ecr:repository")
            .tag_filters(filter)
            .resources_per_page(MAX_PAGE_RESOURCES)
            .set_pagination_token(token)
            .send()
            .await;
        let operation = "list by tags the repositories of";
        let response = response.map_err(|error| self.backend.call(operation).error(error))?;
        let resources = response.resource_tag_mapping_list.unwrap_or_default();
        let arns = resources.iter().filter_map(|resource| resource.resource_arn());
        let token = response.pagination_token.filter(|token| !token.is_empty());
        Ok((arns.filter_map(|arn| self.path(arn)).collect(), token))
    }

    /// Returns the path of a repository of this registry, stage and listing, or `None` for another resource.
    ///
    /// The tag of a repository may be wrong. Only its path says to which organization it belongs.
    fn path(&self, arn: &str) -> Option<RepositoryPath> {
        let path = arn.strip_prefix(&self.backend.ecr_host().repository_arn_like(""))?;
        let path: RepositoryPath = path.parse().ok()?;
        let is_listed =
            self.organizations.contains(&path.organization()) && self.backend.has_stage_of(&path);
        is_listed.then_some(path)
    }
}

#[cfg(test)]
mod tests;
