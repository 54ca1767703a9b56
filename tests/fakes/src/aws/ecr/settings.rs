//! `PutLifecyclePolicy`, `GetLifecyclePolicy`, `SetRepositoryPolicy`, `GetRepositoryPolicy`, `TagResource`,
//! `UntagResource`, `ListTagsForResource`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{allowed, invalid, missing, parse_arn, registry_id, unsatisfied};
use crate::aws::policy::Policy;
use crate::aws::protocol::{ApiError, is_tag_text};
use crate::aws::registries::{Repository, RepositoryPolicy};
use crate::aws::server::Exchange;

/// Source: `LifecyclePolicyText` in the service model: 100 to 30,720 characters.
const LIFECYCLE_POLICY_CHARS: std::ops::RangeInclusive<usize> = 100..=30_720;

/// Source: `PutLifecyclePolicyRequest` in the service model; required: all but `registryId`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutRequest {
    registry_id: Option<String>,
    repository_name: String,
    lifecycle_policy_text: String,
}

/// Returns `{ registryId, repositoryName, lifecyclePolicyText }`.
pub(super) fn put_lifecycle_policy(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: PutRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let (name, text) = (request.repository_name, request.lifecycle_policy_text);
    if !LIFECYCLE_POLICY_CHARS.contains(&text.chars().count()) {
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

/// Returns `{ registryId, repositoryName, lifecyclePolicyText }`. The fake does not evaluate lifecycle policies.
pub(super) fn get_lifecycle_policy(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    get_policy(exchange, "Lifecycle", "lifecyclePolicyText", |repository| {
        repository.lifecycle_policy
    })
}

/// Source: `RepositoryPolicyText` in the service model: 0 to 10,240 characters.
const MAX_REPOSITORY_POLICY_CHARS: usize = 10_240;

/// Source: `SetRepositoryPolicyRequest` in the service model; required: `repositoryName`, `policyText`.
/// The fake ignores `force`: the policy may deny its author access.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetRequest {
    registry_id: Option<String>,
    repository_name: String,
    policy_text: String,
    #[serde(default, rename = "force")]
    _force: bool,
}

/// Returns `{ registryId, repositoryName, policyText }`.
pub(super) fn set_repository_policy(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: SetRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let (name, text) = (request.repository_name, request.policy_text);
    if text.chars().count() > MAX_REPOSITORY_POLICY_CHARS {
        let constraint = "Member must have length less than or equal to 10240";
        return Err(unsatisfied("PolicyText", constraint));
    }
    allowed(exchange, &account, &name, None)?;
    let parsed = Policy::parse_resource_based(&text).map_err(|error| {
        unsatisfied("PolicyText", &format!("Invalid repository policy provided: {error}"))
    })?;
    exchange.world.registries.with(&account, |repositories| {
        let repository = repositories.get_mut(&name).ok_or_else(|| missing(&account, &name))?;
        repository.policy = Some(RepositoryPolicy { text: text.clone(), parsed });
        Ok(json!({ "registryId": account, "repositoryName": name, "policyText": text }))
    })
}

/// Returns `{ registryId, repositoryName, policyText }`.
pub(super) fn get_repository_policy(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    get_policy(exchange, "Repository", "policyText", |repository| {
        repository.policy.map(|policy| policy.text)
    })
}

/// Source: `GetLifecyclePolicyRequest` and `GetRepositoryPolicyRequest` in the service model; required:
/// `repositoryName`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GetRequest {
    registry_id: Option<String>,
    repository_name: String,
}

/// Returns the text of a policy of a `kind` as the `member` of the response.
fn get_policy(
    exchange: &mut Exchange<'_>,
    kind: &str,
    member: &str,
    text: impl FnOnce(Repository) -> Option<String>,
) -> Result<Value, ApiError> {
    let request: GetRequest = exchange.request()?;
    let account = registry_id(exchange, request.registry_id)?;
    let name = request.repository_name;
    let repository = allowed(exchange, &account, &name, None)?;
    let text = text(repository).ok_or_else(|| {
        ApiError::new(
            format!("{kind}PolicyNotFoundException"),
            format!(
                "{kind} policy does not exist for the repository with name '{name}' in the \
                 registry with id '{account}'"
            ),
        )
    })?;
    Ok(json!({ "registryId": account, "repositoryName": name, member: text }))
}

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html>
const MAX_TAGS: usize = 50;
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;

/// Source: `Tag` in the service model; required: `Key`, `Value`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Tag {
    key: String,
    value: String,
}

/// Returns the tags of a request. Fails if a tag is invalid.
pub(super) fn checked_tags(tags: &[Tag]) -> Result<BTreeMap<String, String>, ApiError> {
    let invalid = |message: String| Err(ApiError::new("InvalidTagParameterException", message));
    let mut checked = BTreeMap::new();
    for Tag { key, value } in tags {
        if key.is_empty() || key.chars().count() > MAX_KEY_CHARS || !is_tag_text(key) {
            return invalid(format!("Invalid tag key '{key}'"));
        }
        if key.to_lowercase().starts_with("aws:") {
            return invalid(format!("The tag key '{key}' has the prefix that AWS reserves"));
        }
        if value.chars().count() > MAX_VALUE_CHARS || !is_tag_text(value) {
            return invalid(format!("Invalid value of the tag '{key}'"));
        }
        if checked.insert(key.clone(), value.clone()).is_some() {
            return invalid(format!("The tag key '{key}' is given twice"));
        }
    }
    check_count(&checked)?;
    Ok(checked)
}

fn check_count(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if tags.len() <= MAX_TAGS {
        return Ok(());
    }
    let message = format!("A repository has {MAX_TAGS} tags at most, not {}", tags.len());
    Err(ApiError::new("TooManyTagsException", message))
}

/// Source: `TagResourceRequest` in the service model; both are required.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddRequest {
    resource_arn: String,
    tags: Vec<Tag>,
}

/// Returns `{}`.
pub(super) fn tag_resource(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: AddRequest = exchange.request()?;
    let (account, name) = parse_arn(exchange, &request.resource_arn)?;
    let added = checked_tags(&request.tags)?;
    allowed(exchange, &account, &name, Some(&added))?;
    exchange.world.registries.with(&account, |repositories| {
        let repository = repositories.get_mut(&name).ok_or_else(|| missing(&account, &name))?;
        let mut tags = repository.tags.clone();
        tags.extend(added);
        check_count(&tags)?;
        repository.tags = tags;
        Ok(json!({}))
    })
}

/// Source: `UntagResourceRequest` in the service model; both are required.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemoveRequest {
    resource_arn: String,
    tag_keys: Vec<String>,
}

/// Returns `{}`.
pub(super) fn untag_resource(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: RemoveRequest = exchange.request()?;
    let (account, name) = parse_arn(exchange, &request.resource_arn)?;
    allowed(exchange, &account, &name, None)?;
    exchange.world.registries.with(&account, |repositories| {
        let repository = repositories.get_mut(&name).ok_or_else(|| missing(&account, &name))?;
        repository.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(json!({}))
    })
}

/// Source: `ListTagsForResourceRequest` in the service model; required: `resourceArn`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListRequest {
    resource_arn: String,
}

/// Returns `{ tags }`.
pub(super) fn list_tags(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let request: ListRequest = exchange.request()?;
    let (account, name) = parse_arn(exchange, &request.resource_arn)?;
    let repository = allowed(exchange, &account, &name, None)?;
    let tags = repository.tags.into_iter().map(|(key, value)| Tag { key, value });
    Ok(json!({ "tags": tags.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(tags: &[(&str, &str)]) -> Option<String> {
        let tag = |(key, value): &(&str, &str)| Tag { key: (*key).into(), value: (*value).into() };
        let tags: Vec<Tag> = tags.iter().map(tag).collect();
        checked_tags(&tags).err().map(|error| error.code.into_owned())
    }

    #[test]
    fn tags_have_limits() {
        assert_eq!(code(&[("ark:organization", "ä 1"), ("b", "")]), None);
        let invalid = Some("InvalidTagParameterException".to_owned());
        for tags in [&[("", "")][..], &[("aws:a", "")], &[("a", "*")], &[("a", "1"), ("a", "2")]] {
            assert_eq!(code(tags), invalid, "{tags:?}");
        }
        let keys: Vec<String> = (0..51).map(|number| number.to_string()).collect();
        let tags: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(code(&tags[..50]), None);
        assert_eq!(code(&tags), Some("TooManyTagsException".to_owned()));
    }
}
