//! Describes repositories of the account by name, and lists them by a full scan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{EncryptionType, ImageTagMutability, Tag};
use futures_util::future::join;
use futures_util::stream::BoxStream;

use super::backend::EcrBackend;
use super::errors::REPOSITORY_NOT_FOUND;
use super::pages::{Page, listing};
use crate::backend::{Encryption, Repository, TagMutability};
use crate::error::{Error, ResourceKind, Result};
use crate::model::{EcrHost, Organizations, RepositoryPath, RepositoryUrl, TagPattern};

/// The maximum number of repositories in a page of the scan.
///
/// Source: `maxResults` of DescribeRepositories in the ECR service model.
const MAX_PAGE_REPOSITORIES: i32 = 1000;

/// Lists the repositories of `organizations` by a full scan of the account. `first` is the first page, if it was
/// requested already.
pub(super) fn scan(
    backend: EcrBackend,
    organizations: Organizations,
    first: Option<Page<Repository>>,
) -> BoxStream<'static, Result<Repository>> {
    listing(
        format!("the list of {backend}"),
        first,
        |row| row.url.path(),
        move |token| {
            let (backend, organizations) = (backend.clone(), organizations.clone());
            async move { account_page(&backend, &organizations, token).await }
        },
    )
}

/// Returns the repositories of `organizations` in one page of the account.
pub(super) async fn account_page(
    backend: &EcrBackend,
    organizations: &Organizations,
    token: Option<String>,
) -> Result<Page<Repository>> {
    let response = backend
        .ecr()
        .await?
        .describe_repositories()
        .registry_id(backend.ecr_host().account())
        .max_results(MAX_PAGE_REPOSITORIES)
        .set_next_token(token)
        .send()
        .await;
    let response =
        response.map_err(|error| backend.call("list the repositories of").error(error))?;
    let found = response.repositories.unwrap_or_default();
    let mut rows = Vec::new();
    for repository in found {
        // A name that is not a repository path belongs to no organization.
        let path = repository.repository_name().and_then(|name| name.parse().ok());
        let ours = |path: &RepositoryPath| {
            *path.stage() == backend.config().stage && organizations.contains(path.organization())
        };
        if let Some(path) = path.filter(ours) {
            rows.push(repository_from(backend, path, &repository)?);
        }
    }
    Ok((rows, response.next_token))
}

/// The maximum number of repositories that one call describes by name.
///
/// Source: `RepositoryNameList` in the ECR service model.
pub(super) const MAX_CALL_NAMES: usize = 100;

/// A repository with the settings that only [`create`](super::create) compares.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) repository: Repository,
    pub(super) encryption: Encryption,
    pub(super) scan_on_push: bool,
}

impl EcrBackend {
    /// Describes a repository with its resource tags.
    pub(super) async fn describe(&self, path: &RepositoryPath) -> Result<Described> {
        let ecr = self.ecr().await?;
        let describing = ecr
            .describe_repositories()
            .registry_id(self.ecr_host().account())
            .repository_names(path.to_string())
            .send();
        let arn = self.ecr_host().repository_arn(path);
        let tagged = ecr.list_tags_for_resource().resource_arn(arn).send();
        let (described, tagged) = join(describing, tagged).await;
        let described = match described {
            Ok(described) => described,
            Err(error) => return Err(self.call_on("describe", path).error(error)),
        };
        let missing = || Error::not_found(ResourceKind::Repository, path);
        let found = described.repositories().first().ok_or_else(missing)?;
        let tagged = match tagged {
            Ok(tagged) => tagged,
            Err(error) => return Err(self.call_on("read the tags of", path).error(error)),
        };
        let mut repository = repository_from(self, path.clone(), found)?;
        repository.resource_tags = Some(resource_tags(tagged.tags.unwrap_or_default()));
        let encryption = found.encryption_configuration();
        let key = encryption.and_then(|encryption| encryption.kms_key()).map(str::to_owned);
        Ok(Described {
            repository,
            encryption: match encryption.map(|encryption| encryption.encryption_type()) {
                None | Some(EncryptionType::Aes256) => Encryption::Aes256,
                Some(EncryptionType::KmsDsse) => Encryption::KmsDsse { key },
                Some(_) => Encryption::Kms { key },
            },
            scan_on_push: found
                .image_scanning_configuration()
                .is_some_and(|scanning| scanning.scan_on_push()),
        })
    }

    /// Describes up to [`MAX_CALL_NAMES`] repositories, without their resource tags. Missing ones are left out.
    ///
    /// One missing name fails the whole AWS call. The names are then requested again in halves.
    pub(super) async fn describe_several(
        &self,
        paths: Vec<RepositoryPath>,
    ) -> Result<Vec<Repository>> {
        let mut found = Vec::with_capacity(paths.len());
        let mut left = vec![paths];
        while let Some(mut names) = left.pop() {
            let texts = names.iter().map(ToString::to_string).collect();
            let request = self.ecr().await?.describe_repositories();
            let request = request.registry_id(self.ecr_host().account());
            let response = match request.set_repository_names(Some(texts)).send().await {
                Ok(response) => response,
                Err(error) if error.code() == Some(REPOSITORY_NOT_FOUND) => {
                    if names.len() > 1 {
                        let second = names.split_off(names.len() / 2);
                        left.extend([second, names]);
                    }
                    continue;
                }
                Err(error) => {
                    return Err(self.call("list the repositories of").error(error));
                }
            };
            for repository in response.repositories() {
                let name = repository.repository_name().unwrap_or_default();
                if let Some(path) = names.iter().find(|path| path.to_string() == name) {
                    found.push(repository_from(self, path.clone(), repository)?);
                }
            }
        }
        Ok(found)
    }
}

/// Converts a repository in a response of AWS. The result has no resource tags.
pub(super) fn repository_from(
    backend: &EcrBackend,
    path: RepositoryPath,
    repository: &aws_sdk_ecr::types::Repository,
) -> Result<Repository> {
    let unclear = |error| {
        let message = format!("AWS returned an invalid description of {path} in {backend}");
        Error::failed(message).with_source(error)
    };
    let filters = repository.image_tag_mutability_exclusion_filters();
    let filters: Result<BTreeSet<TagPattern>, _> =
        filters.iter().map(|filter| filter.filter().parse()).collect();
    let filters = filters.map_err(unclear)?;
    // AWS always returns its default host name. The URL has the configured host, which may be for FIPS or IPv6.
    // An emulator is reachable only at the host that it returns.
    let own = RepositoryUrl::new(backend.ecr_host().registry_host().clone(), path.clone());
    let returned: Option<RepositoryUrl> =
        repository.repository_uri().map(str::parse).transpose().map_err(unclear)?;
    let url = match returned {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::TryStreamExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::scripted::{ACCOUNT, Request, Response, Scripted, described};
    use super::*;
    use crate::backend::{CreateOptions, RegistryBackend};
    use crate::error::Error;
    use crate::model::OrganizationId;

    const ORGANIZATION: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn name(number: usize) -> String {
        format!("prod/{ORGANIZATION}/n{number}")
    }

    /// Returns the names in a listing of all organizations.
    async fn names(backend: &EcrBackend) -> Result<Vec<String>> {
        let rows = backend.list_repositories(&Organizations::All);
        rows.map_ok(|row| row.url.path().to_string()).try_collect().await
    }

    /// Returns a page with these names and the token of the next page.
    fn page_of(names: &[String], next: Option<&str>) -> Response {
        let rows: Vec<_> = names.iter().map(|name| described(name)).collect();
        let mut page = json!({"repositories": rows});
        if let Some(next) = next {
            page["nextToken"] = next.into();
        }
        Response::ok(page)
    }

    /// Returns a registry with these pages. The token of a page is its number.
    fn paged(pages: Vec<Vec<String>>) -> impl Fn(&Request) -> Response {
        move |request| {
            let number: usize = match request.input["nextToken"].as_str() {
                Some(token) => token.parse().unwrap(),
                None => 0,
            };
            let next = (number + 1 < pages.len()).then(|| (number + 1).to_string());
            page_of(&pages[number], next.as_deref())
        }
    }

    #[tokio::test]
    async fn repositories_outside_of_the_scheme_are_skipped() {
        let rows = [
            "djt-mapping-pipeline-ecr".to_owned(),
            format!("dev/{ORGANIZATION}/a"),
            format!("prod/{}/a", ORGANIZATION.to_uppercase()),
            "prod/no-guid/a".to_owned(),
            format!("prod/{ORGANIZATION}"),
            name(1),
        ];
        let aws = Scripted::new(move |_| page_of(&rows, None));
        assert_eq!(names(&aws.backend).await.unwrap(), [name(1)]);
        assert_eq!(aws.requests()[0].input["maxResults"], 1000);
    }

    #[tokio::test]
    async fn short_and_empty_pages_are_followed() {
        let aws = Scripted::new(paged(vec![vec![], vec![name(1)], vec![], vec![], vec![name(2)]]));
        assert_eq!(names(&aws.backend).await.unwrap(), [name(1), name(2)]);
        assert_eq!(aws.requests().len(), 5);
    }

    #[tokio::test]
    async fn repeated_page_token_is_an_error() {
        for cycle in [vec!["a", "a"], vec!["a", "b", "a"]] {
            let tokens = Mutex::new(cycle.into_iter());
            let aws = Scripted::new(move |_| page_of(&[], tokens.lock().unwrap().next()));
            let error = names(&aws.backend).await.unwrap_err();
            assert!(matches!(error, Error::Failed { .. }), "{error}");
            assert!(error.to_string().contains("one page token twice"), "{error}");
        }
    }

    #[tokio::test]
    async fn first_row_needs_only_the_first_page() {
        let aws = Scripted::new(paged(vec![vec![name(1)], vec![name(2)]]));
        let mut rows = aws.backend.list_repositories(&Organizations::All);
        assert!(rows.try_next().await.unwrap().is_some());
        assert_eq!(aws.requests().len(), 1);
    }

    #[tokio::test]
    async fn row_has_the_settings_of_the_repository() {
        let mut row = described(&name(1));
        row["imageTagMutability"] = "IMMUTABLE_WITH_EXCLUSION".into();
        row["imageTagMutabilityExclusionFilters"] =
            json!([{"filterType": "WILDCARD", "filter": "dev-*"}]);
        let aws = Scripted::new(move |_| Response::ok(json!({"repositories": [row]})));
        let rows: Vec<_> =
            aws.backend.list_repositories(&Organizations::All).try_collect().await.unwrap();
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(row.tag_mutability, crate::backend::TagMutability::Immutable);
        assert_eq!(row.mutability_exclusions, ["dev-*".parse().unwrap()].into());
        let since = row.created_at.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_millis(), 1_790_000_000_500);
        assert_eq!(row.resource_tags, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn listing_with_faults_is_complete_or_an_error(
            sizes in proptest::collection::vec(0usize..4, 1..8),
            faults in proptest::collection::vec(0u8..8, 0..12),
        ) {
            let mut next = 0..;
            let pages: Vec<Vec<String>> = sizes
                .iter()
                .map(|size| (&mut next).take(*size).map(name).collect())
                .collect();
            let all: Vec<String> = pages.concat();
            let faults = Mutex::new(faults.into_iter());
            let pages = paged(pages);
            let aws = Scripted::new(move |request| match faults.lock().unwrap().next() {
                Some(0) => Response::error(400, "ThrottlingException", "Rate exceeded"),
                Some(1) => Response::error(500, "ServerException", "try again"),
                Some(2) => Response::raw(503, "<html>".to_owned()),
                _ => pages(request),
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            match runtime.block_on(names(&aws.backend)) {
                Ok(listed) => prop_assert_eq!(listed, all),
                Err(error) => prop_assert!(error.is_temporary(), "{:?}", error),
            }
        }
    }

    #[tokio::test]
    async fn throttled_page_is_retried() {
        let throttled = Mutex::new(2);
        let pages = paged(vec![vec![name(1)], vec![name(2)]]);
        let aws = Scripted::new(move |request| {
            let mut left = throttled.lock().unwrap();
            if request.input["nextToken"] == "1" && *left > 0 {
                *left -= 1;
                return Response::error(400, "ThrottlingException", "Rate exceeded");
            }
            pages(request)
        });
        assert_eq!(names(&aws.backend).await.unwrap(), [name(1), name(2)]);
        assert_eq!(aws.requests().len(), 4);
    }

    #[tokio::test]
    async fn listing_of_no_organization_makes_no_call() {
        let aws = Scripted::new(|_| page_of(&[], None));
        let none: Vec<_> =
            aws.backend.list_repositories(&Organizations::none()).try_collect().await.unwrap();
        assert!(none.is_empty() && aws.requests().is_empty());
    }

    #[tokio::test]
    async fn full_scan_does_not_call_the_tag_index() {
        let rows = [name(1), format!("prod/{}/a", OrganizationId::GLOBAL)];
        let aws = Scripted::built(
            |builder| builder.with_full_scan(true),
            super::super::scripted::ACCOUNT,
            move |_| page_of(&rows, None),
        );
        let organizations = Organizations::from(OrganizationId::TBD);
        let listed: Vec<_> =
            aws.backend.list_repositories(&organizations).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(aws.operations(), ["DescribeRepositories"]);
    }

    #[tokio::test]
    async fn repository_url_has_configured_host() {
        for host in [
            "095412845506.dkr.ecr-fips.us-east-1.amazonaws.com",
            "095412845506.dkr-ecr.us-east-1.on.aws",
        ] {
            let respond = |request: &Request| match request.operation.as_str() {
                "CreateRepository" => Response::ok(json!({"repository": described(&name(1))})),
                "ListTagsForResource" => Response::ok(json!({"tags": []})),
                _ => page_of(&[name(1)], None),
            };
            let aws = Scripted::at(host, |builder| builder, ACCOUNT, respond);
            let path = name(1).parse().unwrap();
            let created = aws.backend.create_repository(&path, &CreateOptions::default()).await;
            let found = aws.backend.describe_repository(&path).await.unwrap();
            let listed = aws.backend.list_repositories(&Organizations::All);
            let listed: Vec<_> = listed.try_collect().await.unwrap();
            for url in [&created.unwrap().url, &found.url, &listed[0].url] {
                assert_eq!(url.to_string(), format!("{host}/{path}"));
                assert_eq!(url.host(), &aws.backend.host());
            }
        }
    }
}
