//! `SetRepositoryPolicy`, `GetRepositoryPolicy`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{allowed, missing, registry_id, unsatisfied};
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;
use crate::aws::policy::Policy;
use crate::aws::registries::RepositoryPolicy;

/// Source: `RepositoryPolicyText` in the service model: 0 to 10,240 characters.
const LONGEST: usize = 10_240;

/// Source: `SetRepositoryPolicyRequest` in the service model; required: `repositoryName`, `policyText`.
/// Nobody is kept from shutting themselves out, which `force` is for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetRequest {
    registry_id: Option<String>,
    repository_name: String,
    policy_text: String,
    #[serde(default, rename = "force")]
    _force: bool,
}

/// Answers `{ registryId, repositoryName, policyText }`.
pub(super) fn set(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: SetRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let (name, text) = (request.repository_name, request.policy_text);
    if text.chars().count() > LONGEST {
        let constraint = "Member must have length less than or equal to 10240";
        return Err(unsatisfied("PolicyText", constraint));
    }
    allowed(exchange, &account, &name, None)?;
    let judged = Policy::parse_resource_based(&text).map_err(|error| {
        unsatisfied("PolicyText", &format!("Invalid repository policy provided: {error}"))
    })?;
    exchange.world.registries.with(&account, |repositories| {
        let repository = repositories.get_mut(&name).ok_or_else(|| missing(&account, &name))?;
        repository.policy = Some(RepositoryPolicy { text: text.clone(), judged });
        Ok(json!({ "registryId": account, "repositoryName": name, "policyText": text }))
    })
}

/// Source: `GetRepositoryPolicyRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GetRequest {
    registry_id: Option<String>,
    repository_name: String,
}

/// Answers `{ registryId, repositoryName, policyText }`.
pub(super) fn get(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: GetRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let name = request.repository_name;
    let repository = allowed(exchange, &account, &name, None)?;
    let policy = repository.policy.ok_or_else(|| {
        ApiError::new(
            "RepositoryPolicyNotFoundException",
            format!(
                "Repository policy does not exist for the repository with name '{name}' in the \
                 registry with id '{account}'"
            ),
        )
    })?;
    Ok(json!({ "registryId": account, "repositoryName": name, "policyText": policy.text }))
}
