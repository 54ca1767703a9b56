//! `PutLifecyclePolicy`, `GetLifecyclePolicy`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{allowed, invalid, missing, registry_id, unsatisfied};
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;

/// Source: `LifecyclePolicyText` in the service model: 100 to 30,720 characters.
const LENGTHS: std::ops::RangeInclusive<usize> = 100..=30_720;

/// Source: `PutLifecyclePolicyRequest` in the service model; required: all but `registryId`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutRequest {
    registry_id: Option<String>,
    repository_name: String,
    lifecycle_policy_text: String,
}

/// Answers `{ registryId, repositoryName, lifecyclePolicyText }`.
pub(super) fn put(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: PutRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let (name, text) = (request.repository_name, request.lifecycle_policy_text);
    if !LENGTHS.contains(&text.chars().count()) {
        let constraint = "Member must have length from 100 to 30720";
        return Err(unsatisfied("lifecyclePolicyText", constraint));
    }
    allowed(exchange, &account, &name, None)?;
    let has_rules =
        |policy: Value| policy["rules"].as_array().is_some_and(|rules| !rules.is_empty());
    if !serde_json::from_str(&text).is_ok_and(has_rules) {
        let message =
            "Lifecycle policy validation failure: no JSON object with an array of 'rules'";
        return Err(invalid(message));
    }
    exchange.world.registries.with(&account, |repositories| {
        let repository = repositories.get_mut(&name).ok_or_else(|| missing(&account, &name))?;
        repository.lifecycle_policy = Some(text.clone());
        Ok(json!({ "registryId": account, "repositoryName": name, "lifecyclePolicyText": text }))
    })
}

/// Source: `GetLifecyclePolicyRequest` in the service model; required: `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GetRequest {
    registry_id: Option<String>,
    repository_name: String,
}

/// Answers `{ registryId, repositoryName, lifecyclePolicyText }`: nothing is ever evaluated here.
pub(super) fn get(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: GetRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let name = request.repository_name;
    let repository = allowed(exchange, &account, &name, None)?;
    let text = repository.lifecycle_policy.ok_or_else(|| {
        ApiError::new(
            "LifecyclePolicyNotFoundException",
            format!(
                "Lifecycle policy does not exist for the repository with name '{name}' in the \
                 registry with id '{account}'"
            ),
        )
    })?;
    Ok(json!({ "registryId": account, "repositoryName": name, "lifecyclePolicyText": text }))
}
