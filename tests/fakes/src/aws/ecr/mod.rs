//! Amazon ECR, according to its service model of 2015-09-21.
//!
//! Source: <https://github.com/boto/botocore/blob/develop/botocore/data/ecr/2015-09-21/service-2.json.gz>, and for
//! error messages, reported output of the AWS CLI.

mod images;
mod repositories;
mod settings;

use std::collections::BTreeMap;

use ark_container_core::credentials::USERNAME;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::aws::iam::Circumstances;
use crate::aws::protocol::ApiError;
use crate::aws::registries::Repository;
use crate::aws::secret;
use crate::aws::server::{Exchange, Paging};
use crate::aws::world::epoch_seconds;

/// The default number of entries in a page, in all listings of ECR.
const DEFAULT_PAGE_SIZE: usize = 100;

/// Source: `MaxResults` in the service model: 1 to 1,000.
const MAX_PAGE_SIZE: usize = 1_000;

/// Source: `RepositoryName` in the service model.
const NAME_PATTERN: &str =
    "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(\\/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*";

/// Returns the response to a signed request.
pub(super) async fn answer(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    match exchange.operation.as_str() {
        "CreateRepository" => repositories::create(exchange).await,
        "DescribeRepositories" => repositories::describe(exchange),
        "DeleteRepository" => repositories::delete(exchange).await,
        "PutLifecyclePolicy" => settings::put_lifecycle_policy(exchange),
        "GetLifecyclePolicy" => settings::get_lifecycle_policy(exchange),
        "SetRepositoryPolicy" => settings::set_repository_policy(exchange),
        "GetRepositoryPolicy" => settings::get_repository_policy(exchange),
        "TagResource" => settings::tag_resource(exchange),
        "UntagResource" => settings::untag_resource(exchange),
        "ListTagsForResource" => settings::list_tags(exchange),
        "DescribeImages" => images::describe(exchange).await,
        "UpdateImageStorageClass" => images::update_storage_class(exchange).await,
        "ListImages" => images::list(exchange).await,
        "BatchGetImage" => images::get(exchange).await,
        "BatchDeleteImage" => images::delete(exchange).await,
        "GetAuthorizationToken" => get_authorization_token(exchange),
        operation => Err(ApiError::new(
            exchange.service.error_codes().unknown_operation,
            format!("the fake of AWS does not support the operation {operation} of ECR"),
        )),
    }
}

/// Source: `InvalidParameterException` in the service model.
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

/// Returns ECR's error for an invalid parameter.
fn unsatisfied(parameter: &str, constraint: &str) -> ApiError {
    invalid(format!(
        "Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'"
    ))
}

/// Checks a name against `RepositoryName` of the service model: 2 to 256 characters of its pattern.
fn check_name(name: &str) -> Result<(), ApiError> {
    if name.len() < 2 {
        return Err(unsatisfied(
            "repositoryName",
            "Member must have length greater than or equal to 2",
        ));
    }
    if name.len() > 256 {
        return Err(unsatisfied(
            "repositoryName",
            "Member must have length less than or equal to 256",
        ));
    }
    match name.split('/').all(is_component) {
        true => Ok(()),
        false => {
            let constraint = format!("must satisfy regular expression '{NAME_PATTERN}'");
            Err(unsatisfied("repositoryName", &constraint))
        }
    }
}

fn is_component(component: &str) -> bool {
    let is_word = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    let is_separator = |text: &str| {
        matches!(text, "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|b| b == b'-'))
    };
    let separators = component.split(is_word).filter(|separator| !separator.is_empty());
    component.starts_with(is_word) && component.ends_with(is_word) && { separators }
        .all(is_separator)
}

/// Returns the account of the requested registry. The default is the caller's own account.
fn registry_id(exchange: &Exchange<'_>, asked: Option<String>) -> Result<String, ApiError> {
    match asked {
        Some(asked) => Ok(asked),
        None => Ok(exchange.caller()?.account.clone()),
    }
}

/// Returns the ARN of a repository.
///
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
fn arn(exchange: &Exchange<'_>, account: &str, name: &str) -> String {
    let host = &exchange.world.host;
    format!("arn:{}:ecr:{}:{account}:repository/{name}", host.partition(), host.region())
}

/// Returns the account and the name in a repository's ARN.
fn parse_arn(exchange: &Exchange<'_>, text: &str) -> Result<(String, String), ApiError> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let host = &exchange.world.host;
    match parts[..] {
        ["arn", partition, "ecr", region, account, resource]
            if partition == host.partition() && region == host.region() =>
        {
            let name = resource.strip_prefix("repository/");
            let name = name.ok_or_else(|| unsatisfied("resourceArn", "Invalid ARN"))?;
            Ok((registry_id(exchange, Some(account.to_owned()))?, name.to_owned()))
        }
        _ => Err(unsatisfied("resourceArn", "Invalid ARN")),
    }
}

/// Returns a repository if it exists and the caller may perform the operation on it.
///
/// A caller without permission does not learn whether the repository exists.
fn allowed(
    exchange: &mut Exchange<'_>,
    account: &str,
    name: &str,
    request_tags: Option<&BTreeMap<String, String>>,
) -> Result<Repository, ApiError> {
    let repository =
        exchange.world.registries.with(account, |repositories| repositories.get(name).cloned());
    let circumstances = Circumstances { request_tags, repository: repository.as_ref() };
    let (action, resource) = (exchange.action(), arn(exchange, account, name));
    exchange.authorize(&action, &resource, &circumstances)?;
    repository.ok_or_else(|| missing(account, name))
}

/// Source: `RepositoryNotFoundException` in the service model.
fn missing(account: &str, name: &str) -> ApiError {
    ApiError::new(
        "RepositoryNotFoundException",
        format!(
            "The repository with name '{name}' does not exist in the registry with id '{account}'"
        ),
    )
}

/// Checks `maxResults` and `nextToken`.
fn paging(
    exchange: &Exchange<'_>,
    max_results: Option<i64>,
    next_token: Option<String>,
) -> Result<Paging, ApiError> {
    let size = match max_results {
        None => DEFAULT_PAGE_SIZE,
        Some(asked) => match usize::try_from(asked) {
            Ok(size @ 1..=MAX_PAGE_SIZE) => size,
            Ok(0) | Err(_) => {
                let least = "Member must have value greater than or equal to 1";
                return Err(unsatisfied("maxResults", least));
            }
            Ok(_) => {
                let most = "Member must have value less than or equal to 1000";
                return Err(unsatisfied("maxResults", most));
            }
        },
    };
    Paging::new(exchange, size, next_token).ok_or_else(|| unsatisfied("nextToken", "Invalid token"))
}

/// The size of a password, as at AWS: long passwords have broken clients.
const PASSWORD_BYTES: usize = 1_400;

/// Source: `GetAuthorizationTokenRequest` in the service model. The fake ignores `registryIds`: a token is valid for
/// all registries that its principal may access.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizationRequest {
    #[serde(default, rename = "registryIds")]
    _registry_ids: Vec<String>,
}

/// Returns `{ authorizationData: [{ authorizationToken, expiresAt, proxyEndpoint }] }`.
fn get_authorization_token(exchange: &mut Exchange<'_>) -> Result<Value, ApiError> {
    let _: AuthorizationRequest = exchange.request()?;
    exchange.authorize("ecr:GetAuthorizationToken", "*", &Circumstances::default())?;
    let password =
        secret::<PASSWORD_BYTES>().map_err(|error| ApiError::internal(exchange.service, error))?;
    let token = STANDARD.encode(format!("{USERNAME}:{password}"));
    let world = exchange.world;
    let expires_at = world.logins.add(password, exchange.caller()?, exchange.now());
    let endpoint = world.front.get().unwrap_or(&world.registry_host);
    Ok(json!({ "authorizationData": [{
        "authorizationToken": token,
        "expiresAt": epoch_seconds(expires_at),
        "proxyEndpoint": format!("http://{endpoint}"),
    }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_service_model() {
        for good in ["ab", "a/b", "a.b_c__d--e", "0/1", "prod/2ea25035-6aa4-42fb/x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(257);
        for bad in
            ["", "a", "A1", "a/", "/a", "a//b", "a..b", "a___b", "-a", "a-", "a b", "é1", &long]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name(&long[1..]).is_ok());
    }
}
