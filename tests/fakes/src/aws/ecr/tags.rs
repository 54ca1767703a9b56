//! `TagResource`, `ListTagsForResource`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{allowed, missing, parse_arn};
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html>
const MOST_TAGS: usize = 50;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

/// Source: `Tag` in the service model; required: `Key`, `Value`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Tag {
    key: String,
    value: String,
}

/// The tags of a request, if each can be one.
pub(super) fn checked_tags(tags: &[Tag]) -> Result<BTreeMap<String, String>, ApiError> {
    let invalid = |message: String| Err(ApiError::new("InvalidTagParameterException", message));
    let mut checked = BTreeMap::new();
    for Tag { key, value } in tags {
        let allowed = |text: &str| {
            text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
        };
        if key.is_empty() || key.chars().count() > LONGEST_KEY || !allowed(key) {
            return invalid(format!("Invalid tag key '{key}'"));
        }
        if key.to_lowercase().starts_with("aws:") {
            return invalid(format!(
                "The tag key '{key}' has the prefix that AWS keeps for itself"
            ));
        }
        if value.chars().count() > LONGEST_VALUE || !allowed(value) {
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
    if tags.len() <= MOST_TAGS {
        return Ok(());
    }
    let message = format!("A repository has {MOST_TAGS} tags at most, not {}", tags.len());
    Err(ApiError::new("TooManyTagsException", message))
}

/// Source: `TagResourceRequest` in the service model; both are required.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddRequest {
    resource_arn: String,
    tags: Vec<Tag>,
}

/// Answers `{}`.
pub(super) fn add(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
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

/// Source: `ListTagsForResourceRequest` in the service model; required: `resourceArn`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListRequest {
    resource_arn: String,
}

/// Answers `{ tags }`.
pub(super) fn list(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
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
    fn tags_have_bounds() {
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
