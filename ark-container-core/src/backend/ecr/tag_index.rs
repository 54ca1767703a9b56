//! The tag index: repositories by the resource tag of their organization.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_resourcegroupstagging::types::TagFilter;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::backend::EcrBackend;
use super::repositories::{Pages, listing, scan};
use crate::backend::Repository;
use crate::error::{Error, Result};
use crate::model::{OrganizationId, RepositoryPath};

/// The resource tag that names the organization of a repository.
pub(super) const ORGANIZATION_TAG: &str = "ark:organization";

/// Maximum number of resources in a page of the tag index.
///
/// Source: `ResourcesPerPage` of GetResources,
/// <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>
const MAX_RESOURCES_PER_PAGE: i32 = 100;

/// Maximum number of organizations that are looked up at once.
const MAX_CONCURRENT_ORGANIZATIONS: usize = 8;

/// The repositories of organizations by the index; by the scan where the index cannot be asked.
pub(super) fn list(
    backend: EcrBackend,
    organizations: BTreeSet<OrganizationId>,
) -> BoxStream<'static, Result<Repository>> {
    let listing = Arc::new(TagIndexListing {
        backend,
        any: AtomicBool::new(false),
        unlisted: Mutex::default(),
        refused: AtomicBool::new(false),
    });
    let one = {
        let listing = Arc::clone(&listing);
        move |organization| listing.clone().organization(organization)
    };
    let indexed =
        stream::iter(organizations).map(one).flatten_unordered(MAX_CONCURRENT_ORGANIZATIONS);
    let rest = stream::once(listing.rest()).try_flatten();
    // After an error there is nothing more.
    let mut failed = false;
    let rows = indexed.chain(rest);
    rows.take_while(move |row| {
        let go_on = !failed;
        failed |= row.is_err();
        std::future::ready(go_on)
    })
    .boxed()
}

/// What a listing of several organizations has found out.
#[derive(Debug)]
struct TagIndexListing {
    backend: EcrBackend,
    /// Whether the index had anything.
    any: AtomicBool,
    /// Whether AWS refused the index, as it will for the next organization.
    refused: AtomicBool,
    /// The organizations of which the index did not tell.
    unlisted: Mutex<BTreeSet<OrganizationId>>,
}

impl TagIndexListing {
    /// The repositories of one organization, a page of the index at a time.
    fn organization(
        self: Arc<Self>,
        organization: OrganizationId,
    ) -> BoxStream<'static, Result<Repository>> {
        listing(move |mut pages| {
            let listing = Arc::clone(&self);
            async move {
                let Some(paths) = listing.page(organization, &mut pages).await? else {
                    return Ok(None);
                };
                Ok(Some((listing.backend.describe_several(paths).await?, pages)))
            }
        })
    }

    /// One page of the index; `None` where the scan is to be asked instead.
    async fn page(
        &self,
        organization: OrganizationId,
        pages: &mut Pages,
    ) -> Result<Option<Vec<RepositoryPath>>> {
        let first = pages.token().is_none();
        if first && self.refused.load(Ordering::Relaxed) {
            self.leave_to_scan(organization);
            return Ok(None);
        }
        let filter =
            TagFilter::builder().key(ORGANIZATION_TAG).values(organization.to_string()).build();
        let answer = self
            .backend
            .tagging()
            .await?
            .get_resources()
            .resource_type_filters("ecr:repository")
            .tag_filters(filter)
            .resources_per_page(MAX_RESOURCES_PER_PAGE)
            .set_pagination_token(pages.token())
            .send()
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.backend.call("list by tags the repositories of").error(error);
                // What was listed cannot be taken back, and without credentials a scan fails too.
                if !first || matches!(error, Error::Unauthenticated { .. }) {
                    return Err(error);
                }
                tracing::warn!(%error, "the index of tags is not there, the account is read instead");
                self.refused.store(true, Ordering::Relaxed);
                self.leave_to_scan(organization);
                return Ok(None);
            }
        };
        let resources = answer.resource_tag_mapping_list.unwrap_or_default();
        if !resources.is_empty() {
            self.any.store(true, Ordering::Relaxed);
        }
        pages.advance(answer.pagination_token, &format!("the index of {organization}"))?;
        let mut paths = BTreeSet::new();
        for arn in resources.iter().filter_map(|resource| resource.resource_arn()) {
            paths.extend(self.path(arn).filter(|path| path.organization() == organization));
        }
        Ok(Some(paths.into_iter().collect()))
    }

    /// The path of a repository of this registry and stage.
    ///
    /// Anybody may tag a repository: what counts is where it is.
    fn path(&self, arn: &str) -> Option<RepositoryPath> {
        let path = arn.strip_prefix(&self.backend.ecr_host().repository_arn_like(""))?;
        let path: RepositoryPath = path.parse().ok()?;
        (*path.stage() == self.backend.config().stage).then_some(path)
    }

    fn leave_to_scan(&self, organization: OrganizationId) {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner).insert(organization);
    }

    /// What the index did not tell.
    async fn rest(self: Arc<Self>) -> Result<BoxStream<'static, Result<Repository>>> {
        let unlisted =
            std::mem::take(&mut *self.unlisted.lock().unwrap_or_else(PoisonError::into_inner));
        if !unlisted.is_empty() {
            return Ok(scan(self.backend.clone(), unlisted.into_iter().collect()));
        }
        if !self.any.load(Ordering::Relaxed) {
            self.backend.check_caller().await?;
        }
        Ok(stream::empty().boxed())
    }
}

#[cfg(test)]
mod tests;
