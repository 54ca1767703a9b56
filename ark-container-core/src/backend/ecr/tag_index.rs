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
        Ok(stream::empty().boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use serde_json::{Value, json};

    use super::super::scripted::{ACCOUNT, Answer, Asked, Scripted, described};
    use super::*;
    use crate::backend::RegistryBackend;
    use crate::model::Organizations;

    const OTHER: OrganizationId = OrganizationId::from_u128(7);

    fn name(organization: OrganizationId, number: usize) -> String {
        format!("prod/{organization}/n{number}")
    }

    fn arn(name: &str) -> String {
        format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}")
    }

    fn index_page(arns: impl IntoIterator<Item = String>, next: &str) -> Answer {
        let rows: Vec<_> =
            arns.into_iter().map(|arn| json!({"ResourceARN": arn, "Tags": []})).collect();
        Answer::ok(json!({"ResourceTagMappingList": rows, "PaginationToken": next}))
    }

    /// Describes what exists, as ECR does: one missing name fails the call.
    fn describe(asked: &Asked, exists: impl Fn(&str) -> bool) -> Answer {
        let names = asked.input["repositoryNames"].as_array().expect("names").iter();
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        assert!(names.len() <= 100, "{}", names.len());
        match names.iter().find(|name| !exists(name)) {
            Some(missing) => Answer::error(
                400,
                "RepositoryNotFoundException",
                &format!("The repository with name '{missing}' does not exist"),
            ),
            None => {
                let rows: Vec<_> = names.iter().map(|name| described(name)).collect();
                Answer::ok(json!({"repositories": rows}))
            }
        }
    }

    async fn names(
        backend: &EcrBackend,
        organizations: impl IntoIterator<Item = OrganizationId>,
    ) -> Result<Vec<String>> {
        let organizations: Organizations = organizations.into_iter().collect();
        let rows = backend.list_repositories(&organizations);
        let mut names: Vec<String> =
            rows.map_ok(|row| row.url.path().to_string()).try_collect().await?;
        names.sort();
        Ok(names)
    }

    #[tokio::test]
    async fn a_hundred_repositories_cost_two_calls() {
        let all: Vec<String> = (0..100).map(|number| name(OrganizationId::TBD, number)).collect();
        let arns: Vec<String> = all.iter().map(|name| arn(name)).collect();
        let aws = Scripted::new(move |asked| match asked.operation.as_str() {
            "GetResources" => index_page(arns.clone(), ""),
            _ => describe(asked, |_| true),
        });
        let mut expected = all;
        expected.sort();
        assert_eq!(names(&aws.backend, [OrganizationId::TBD]).await.unwrap(), expected);
        assert_eq!(aws.operations(), ["GetResources", "DescribeRepositories"]);
        let asked = &aws.asked()[0].input;
        assert_eq!(asked["ResourcesPerPage"], 100);
        assert_eq!(asked["ResourceTypeFilters"], json!(["ecr:repository"]));
        let organization = OrganizationId::TBD.to_string();
        assert_eq!(
            asked["TagFilters"],
            json!([{"Key": "ark:organization", "Values": [organization]}])
        );
    }

    #[tokio::test]
    async fn a_tag_does_not_smuggle_a_repository_into_an_organization() {
        let own = name(OrganizationId::TBD, 1);
        let foreign = [
            name(OTHER, 2),
            format!("dev/{}/n3", OrganizationId::TBD),
            "somewhere-else".to_owned(),
        ];
        let mut arns: Vec<String> = foreign.iter().map(|name| arn(name)).collect();
        arns.push(arn(&own));
        arns.push(arn(&own).replace(ACCOUNT, "111122223333"));
        arns.push(arn(&own).replace("us-east-1", "eu-west-1"));
        arns.push("arn:aws:s3:::bucket".to_owned());
        let aws = Scripted::new(move |asked| match asked.operation.as_str() {
            "GetResources" => index_page(arns.clone(), ""),
            _ => describe(asked, |_| true),
        });
        let expected = [own];
        assert_eq!(names(&aws.backend, [OrganizationId::TBD]).await.unwrap(), expected);
        assert_eq!(aws.asked()[1].input["repositoryNames"], json!(expected));
    }

    #[tokio::test]
    async fn what_the_index_has_too_late_is_left_out() {
        let all: Vec<String> = (0..7).map(|number| name(OrganizationId::TBD, number)).collect();
        let arns: Vec<String> = all.iter().map(|name| arn(name)).collect();
        let aws = Scripted::new(move |asked| match asked.operation.as_str() {
            "GetResources" => index_page(arns.clone(), ""),
            _ => describe(asked, |name| !name.ends_with("n2") && !name.ends_with("n6")),
        });
        let expected: Vec<String> = [0, 1, 3, 4, 5].map(|i| all[i].clone()).to_vec();
        assert_eq!(names(&aws.backend, [OrganizationId::TBD]).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn short_and_empty_pages_of_the_index_are_followed() {
        let aws = Scripted::new(|asked| match asked.operation.as_str() {
            "GetResources" => match asked.input["PaginationToken"].as_str() {
                None => index_page([], "a"),
                Some("a") => index_page([arn(&name(OrganizationId::TBD, 1))], "b"),
                _ => index_page([arn(&name(OrganizationId::TBD, 2))], ""),
            },
            _ => describe(asked, |_| true),
        });
        let expected = [1, 2].map(|number| name(OrganizationId::TBD, number));
        assert_eq!(names(&aws.backend, [OrganizationId::TBD]).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_token_of_the_index_that_comes_again_is_an_error() {
        let aws = Scripted::new(|_| index_page([], "a"));
        let error = names(&aws.backend, [OrganizationId::TBD]).await.unwrap_err();
        assert!(error.to_string().contains("one page token twice"), "{error}");
    }

    #[tokio::test]
    async fn the_account_is_read_where_the_index_is_not_permitted() {
        let all = [name(OrganizationId::TBD, 1), name(OTHER, 1), name(OrganizationId::GLOBAL, 1)];
        let rows: Vec<Value> = all.iter().map(|name| described(name)).collect();
        for (status, code) in [(400, "AccessDeniedException"), (500, "InternalServiceException")] {
            let rows = rows.clone();
            let aws = Scripted::new(move |asked| match asked.operation.as_str() {
                "GetResources" => Answer::error(status, code, "no"),
                _ => Answer::ok(json!({"repositories": rows})),
            });
            let mut expected = all[..2].to_vec();
            expected.sort();
            assert_eq!(names(&aws.backend, [OrganizationId::TBD, OTHER]).await.unwrap(), expected);
            let scans =
                aws.operations().iter().filter(|name| *name == "DescribeRepositories").count();
            assert_eq!(scans, 1);
        }
    }

    #[tokio::test]
    async fn an_index_that_breaks_off_is_an_error() {
        let aws = Scripted::new(|asked| match asked.operation.as_str() {
            "GetResources" => match asked.input["PaginationToken"].as_str() {
                None => index_page([arn(&name(OrganizationId::TBD, 1))], "a"),
                _ => Answer::error(500, "InternalServiceException", "no"),
            },
            _ => describe(asked, |_| true),
        });
        let organizations = Organizations::from(OrganizationId::TBD);
        let rows: Vec<_> = aws.backend.list_repositories(&organizations).collect().await;
        assert!(matches!(rows.as_slice(), [Ok(_), Err(Error::Temporary { .. })]), "{rows:?}");
    }

    #[tokio::test]
    async fn organizations_are_asked_about_on_their_own() {
        let asked_for = StdMutex::new(Vec::new());
        let aws = Scripted::new(move |asked| match asked.operation.as_str() {
            "GetResources" => {
                let organization = asked.input["TagFilters"][0]["Values"][0].as_str().unwrap();
                asked_for.lock().unwrap().push(organization.to_owned());
                index_page([arn(&name(organization.parse().unwrap(), 1))], "")
            }
            _ => describe(asked, |_| true),
        });
        let organizations: Vec<_> = (0..20).map(OrganizationId::from_u128).collect();
        let expected: Vec<_> = organizations.iter().map(|id| name(*id, 1)).collect();
        assert_eq!(names(&aws.backend, organizations).await.unwrap(), expected);
    }
}
