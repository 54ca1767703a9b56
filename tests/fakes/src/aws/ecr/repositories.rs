//! `CreateRepository`, `DescribeRepositories`, `DeleteRepository`.

use std::collections::BTreeMap;

use ark_container_core::Error;
use ark_container_core::backend::{CreateOptions, DeleteOptions, RegistryBackend, TagMutability};
use ark_container_core::model::{RepositoryPath, TagPattern};
use serde::Deserialize;
use serde_json::{Value, json};

use super::settings::{Tag, checked_tags};
use super::{allowed, arn, check_name, invalid, missing, paging, registry_id, unsatisfied};
use crate::aws::iam::Circumstances;
use crate::aws::protocol::ApiError;
use crate::aws::registries::{Encryption, ExclusionFilter, Mutability, Repository, behind};
use crate::aws::server::Exchange;
use crate::aws::world::epoch_seconds;

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>
const MAX_REPOSITORIES: usize = 100_000;

/// Source: `ImageTagMutabilityExclusionFilters` in the service model: 1 to 5.
const MAX_FILTERS: usize = 5;

/// Source: `RepositoryNameList` in the service model: 1 to 100.
const MAX_NAMES: usize = 100;

/// The ID of the AWS managed key for ECR in the fake's account.
const ECR_KEY: &str = "0ec20000-0000-4000-8000-000000000000";

/// Source: `CreateRepositoryRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateRequest {
    registry_id: Option<String>,
    repository_name: String,
    #[serde(default)]
    tags: Vec<Tag>,
    image_tag_mutability: Option<Mutability>,
    #[serde(default)]
    image_tag_mutability_exclusion_filters: Vec<ExclusionFilter>,
    image_scanning_configuration: Option<ScanningConfiguration>,
    encryption_configuration: Option<Encryption>,
}

/// Source: `ImageScanningConfiguration` in the service model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScanningConfiguration {
    #[serde(default)]
    scan_on_push: bool,
}

/// Returns `{ repository }`.
pub(super) async fn create(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: CreateRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id.clone())?;
    let name = request.repository_name.clone();
    check_name(&name)?;
    let tags = checked_tags(&request.tags)?;
    let repository = requested(exchange, request, tags)?;

    let resource = arn(exchange, &account, &name);
    let given = Circumstances { request_tags: Some(&repository.tags), repository: None };
    exchange.authorize("ecr:CreateRepository", &resource, &given)?;
    if !repository.tags.is_empty() {
        exchange.authorize("ecr:TagResource", &resource, &given)?;
    }

    let registries = &exchange.world.registries;
    let _change = registries.change().await;
    let (exists, count) = registries.with(&account, |all| (all.contains_key(&name), all.len()));
    if exists {
        return Err(ApiError::new(
            "RepositoryAlreadyExistsException",
            format!(
                "The repository with name '{name}' already exists in the registry with id \
                 '{account}'"
            ),
        ));
    }
    if count >= MAX_REPOSITORIES {
        let message = format!("The registry with id '{account}' has {count} repositories already");
        return Err(ApiError::new("LimitExceededException", message));
    }
    let repository = store(exchange, &account, &name, repository).await?;
    let answer = json!({ "repository": described(exchange, &account, &name, &repository) });
    registries.with(&account, |all| all.insert(name, repository));
    Ok(answer)
}

/// Returns the requested repository. Fails if its settings are invalid or inconsistent.
fn requested(
    exchange: &Exchange<'_>,
    request: CreateRequest,
    tags: BTreeMap<String, String>,
) -> Result<Repository, ApiError> {
    let mutability = request.image_tag_mutability.unwrap_or_default();
    let filters = request.image_tag_mutability_exclusion_filters;
    let with_filters =
        matches!(mutability, Mutability::MutableWithExclusion | Mutability::ImmutableWithExclusion);
    if with_filters == filters.is_empty() {
        let constraint = "settings that end with EXCLUSION, and only these, need filters";
        return Err(unsatisfied("imageTagMutabilityExclusionFilters", constraint));
    }
    let wrong = |filter: &ExclusionFilter| {
        filter.filter_type != "WILDCARD" || filter.filter.parse::<TagPattern>().is_err()
    };
    if filters.len() > MAX_FILTERS || filters.iter().any(wrong) {
        let constraint = "1 to 5 filters of the pattern '^[0-9a-zA-Z._*-]{1,128}$'";
        return Err(unsatisfied("imageTagMutabilityExclusionFilters", constraint));
    }
    let mut encryption = request.encryption_configuration.unwrap_or_default();
    match (encryption.encryption_type.as_str(), &encryption.kms_key) {
        ("AES256", Some(_)) => {
            return Err(invalid("A KMS key needs the encryption type KMS or KMS_DSSE"));
        }
        // Source: `kmsKey` in the service model. The default is the AWS managed key for ECR.
        ("KMS" | "KMS_DSSE", None) => {
            let host = &exchange.world.host;
            let (partition, region, account) = (host.partition(), host.region(), host.account());
            encryption.kms_key =
                Some(format!("arn:{partition}:kms:{region}:{account}:key/{ECR_KEY}"));
        }
        ("AES256" | "KMS" | "KMS_DSSE", _) => {}
        _ => return Err(unsatisfied("encryptionType", "one of AES256, KMS, KMS_DSSE")),
    }
    Ok(Repository {
        mutability,
        exclusion_filters: filters,
        scan_on_push: request.image_scanning_configuration.is_some_and(|scan| scan.scan_on_push),
        encryption,
        tags,
        ..Repository::new(exchange.now())
    })
}

/// Creates a repository in the store, if the store supports its account and name.
async fn store(
    exchange: &Exchange<'_>,
    account: &str,
    name: &str,
    repository: Repository,
) -> Result<Repository, ApiError> {
    let world = exchange.world;
    let store = &world.registries.store;
    let path = name.parse::<RepositoryPath>().ok().filter(|path| *path.stage() == store.stage());
    let Some(path) = path.filter(|_| account == world.host.account()) else {
        return Ok(repository);
    };
    let mut options = CreateOptions::default().with_tag_mutability(match repository.mutability {
        Mutability::Mutable | Mutability::MutableWithExclusion => TagMutability::Mutable,
        Mutability::Immutable | Mutability::ImmutableWithExclusion => TagMutability::Immutable,
    });
    for filter in &repository.exclusion_filters {
        let filter =
            filter.filter.parse().map_err(|error| ApiError::internal(exchange.service, error))?;
        options = options.with_mutability_exclusion(filter);
    }
    for (key, value) in &repository.tags {
        options = options.with_resource_tag(key, value);
    }
    let created = store.create_repository(&path, &options).await;
    created.map_err(|error| ApiError::internal(exchange.service, error))?;
    Ok(Repository { path: Some(path), ..repository })
}

/// Source: `DescribeRepositoriesRequest` in the service model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribeRequest {
    registry_id: Option<String>,
    repository_names: Option<Vec<String>>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// Returns `{ repositories, nextToken }`.
pub(super) fn describe(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: DescribeRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let Some(names) = request.repository_names else {
        let paging = paging(exchange, request.max_results, request.next_token)?;
        let all = arn(exchange, &account, "*");
        exchange.authorize("ecr:DescribeRepositories", &all, &Circumstances::default())?;
        let (page, next) = exchange.world.registries.with(&account, |repositories| {
            paging.page(exchange, behind(repositories, paging.after()), |name, repository| {
                described(exchange, &account, name, repository)
            })
        });
        return Ok(match next {
            Some(next) => json!({ "repositories": page, "nextToken": next }),
            None => json!({ "repositories": page }),
        });
    };
    // Source: `maxResults` in the service model: "This option cannot be used when you specify
    // repositories with repositoryNames."
    if request.max_results.is_some() || request.next_token.is_some() {
        return Err(invalid("maxResults and nextToken cannot be used with repositoryNames"));
    }
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(unsatisfied("repositoryNames", "Member must have length from 1 to 100"));
    }
    let mut found = Vec::with_capacity(names.len());
    for name in &names {
        check_name(name)?;
        let repository = allowed(exchange, &account, name, None)?;
        found.push(described(exchange, &account, name, &repository));
    }
    Ok(json!({ "repositories": found }))
}

/// Source: `DeleteRepositoryRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteRequest {
    registry_id: Option<String>,
    repository_name: String,
    #[serde(default)]
    force: bool,
}

/// Returns `{ repository }`.
pub(super) async fn delete(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: DeleteRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let name = request.repository_name;
    check_name(&name)?;
    let registries = &exchange.world.registries;
    let _change = registries.change().await;
    let repository = allowed(exchange, &account, &name, None)?;
    if let Some(path) = &repository.path {
        let options = DeleteOptions::default().with_force(request.force);
        let deleted = registries.store.delete_repository(path, &options).await;
        deleted.map_err(|error| match error {
            Error::Conflict { .. } => ApiError::new(
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{name}' in registry with id '{account}' cannot be \
                     deleted because it still contains images"
                ),
            ),
            Error::NotFound { .. } => missing(&account, &name),
            error => ApiError::internal(exchange.service, error),
        })?;
    }
    registries.with(&account, |all| all.remove(&name));
    Ok(json!({ "repository": described(exchange, &account, &name, &repository) }))
}

/// Source: `Repository` in the service model.
fn described(exchange: &Exchange<'_>, account: &str, name: &str, repository: &Repository) -> Value {
    let mut described = json!({
        "repositoryArn": arn(exchange, account, name),
        "registryId": account,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", exchange.world.registry_host),
        "createdAt": epoch_seconds(repository.created_at),
        "imageTagMutability": repository.mutability,
        "imageScanningConfiguration": { "scanOnPush": repository.scan_on_push },
        "encryptionConfiguration": repository.encryption,
    });
    if !repository.exclusion_filters.is_empty() {
        described["imageTagMutabilityExclusionFilters"] = json!(repository.exclusion_filters);
    }
    described
}
