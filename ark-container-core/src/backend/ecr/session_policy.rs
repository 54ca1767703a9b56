//! [`session_policy()`]: the policy of an STS session for a scope.
//!
//! AWS allows an action of a session only if both its role and its policy allow it. The policy thus narrows any role.
//! The policy names each organization of the scope. AWS accepts 2,048 characters, which is room for 18 organizations
//! in a region such as `us-east-1`. A login for more fails with `InvalidInput`. Session tags are no alternative: the
//! policy of the role would need a statement for each of a fixed number of tags, and a role without these statements
//! could not be detected.
//!
//! Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use super::iam::{PolicyDocument, Statement, allow_additional};
use crate::error::{Error, Result};
use crate::model::{Access, AdditionalAction, EcrHost, Scope, ScopeTarget};

/// The maximum length of a session policy.
///
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MAX_POLICY_CHARS: usize = 2048;

/// The action of a login, which cannot be restricted to a repository. The session policy restricts the token instead.
///
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
pub(super) const LOGIN_ACTION: &str = "ecr:GetAuthorizationToken";

/// The actions that each access level adds to the lower levels.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>
const ACTIONS: [(Access, &[&str]); 3] = [
    (
        Access::Pull,
        &[
            "ecr:BatchCheckLayerAvailability",
            "ecr:GetDownloadUrlForLayer",
            "ecr:BatchGetImage",
            // Lists the tags of a repository over HTTP.
            "ecr:ListImages",
        ],
    ),
    (
        Access::Push,
        &[
            "ecr:InitiateLayerUpload",
            "ecr:UploadLayerPart",
            "ecr:CompleteLayerUpload",
            "ecr:PutImage",
        ],
    ),
    (Access::Delete, &["ecr:BatchDeleteImage"]),
];

/// Returns the ECR actions of an access level, including those of the lower levels.
pub(super) fn registry_actions(access: Access) -> impl Iterator<Item = &'static str> {
    let levels = ACTIONS.iter().filter(move |(level, _)| *level <= access);
    levels.flat_map(|(_, actions)| *actions).copied()
}

/// Returns the session policy that allows only `scope` in the registry of `host` and, for pushes and deletions, the
/// `additional` actions.
///
/// # Errors
/// [`Error::InvalidInput`] if the scope names no organization, or if the policy is too long.
pub(super) fn session_policy(
    host: &EcrHost,
    scope: &Scope,
    additional: &[AdditionalAction],
) -> Result<String> {
    let policy = policy(host, scope, additional)?;
    if policy.len() <= MAX_POLICY_CHARS {
        return Ok(policy);
    }
    let length = format!("takes {} characters of {MAX_POLICY_CHARS}", policy.len());
    Err(too_long(&length, scope, "set fewer additional_actions"))
}

/// Returns the error of a scope whose policy is too long. `remedy` is the hint for a scope of one repository.
pub(super) fn too_long(length: &str, scope: &Scope, remedy: &str) -> Error {
    let (target, remedy) = match scope.target() {
        ScopeTarget::Repository(path) => (path.to_string(), remedy),
        ScopeTarget::Organizations(_, organizations) => (
            format!("{} organizations", organizations.len()),
            "request fewer organizations at a time, or one repository",
        ),
    };
    Error::invalid(format!(
        "credentials for {target} need a session policy that {length}; {remedy}"
    ))
}

fn policy(host: &EcrHost, scope: &Scope, additional: &[AdditionalAction]) -> Result<String> {
    let resources: Vec<String> = match scope.target() {
        ScopeTarget::Repository(path) => vec![host.repository_arn(path)],
        ScopeTarget::Organizations(stage, organizations) => organizations
            .iter()
            .map(|organization| host.repository_arn_like(format_args!("{stage}/{organization}/*")))
            .collect(),
    };
    if resources.is_empty() {
        return Err(Error::invalid("the scope names no organization"));
    }
    let actions: Vec<&str> = registry_actions(scope.access()).collect();
    let login = Statement::allow([LOGIN_ACTION]).on(["*".to_owned()]);
    let mut statements = vec![login, Statement::allow(actions).on(resources)];
    if scope.access() >= Access::Push {
        statements.extend(additional.iter().map(allow_additional));
    }
    Ok(PolicyDocument::new(statements).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::{OrganizationId, RepositoryPath, Stage};

    const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";

    fn host() -> EcrHost {
        HOST.parse().unwrap()
    }

    fn organizations(count: u128) -> impl Iterator<Item = OrganizationId> {
        (0..count).map(|bits| OrganizationId::from_u128(bits << 64 | bits))
    }

    /// Returns IAM's decision on one policy with the wildcards `*` and `?`.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
    fn allows(policy: &Value, action: &str, resource: &str) -> bool {
        let texts = |value: &Value| -> Vec<String> {
            let values = value.as_array().unwrap();
            values.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        policy["Statement"].as_array().unwrap().iter().any(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            texts(&statement["Action"]).iter().any(|pattern| matches(pattern, action))
                && texts(&statement["Resource"]).iter().any(|pattern| matches(pattern, resource))
        })
    }

    fn matches(pattern: &str, text: &str) -> bool {
        crate::model::matches_wildcards(pattern, text, |_| true)
    }

    #[test]
    fn policy_is_as_short_as_possible() {
        let path = format!("prod/{}/a", OrganizationId::TBD).parse().unwrap();
        let policy = session_policy(&host(), &Scope::repository(path, Access::Pull), &[]).unwrap();
        assert_eq!(
            policy,
            "{\"Version\":\"2012-10-17\",\"Statement\":[\
             {\"Effect\":\"Allow\",\"Action\":[\"ecr:GetAuthorizationToken\"],\"Resource\":[\"*\"]},\
             {\"Effect\":\"Allow\",\"Action\":[\"ecr:BatchCheckLayerAvailability\",\
             \"ecr:GetDownloadUrlForLayer\",\"ecr:BatchGetImage\",\"ecr:ListImages\"],\
             \"Resource\":[\"arn:aws:ecr:us-east-1:095412845506:repository/\
             prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a\"]}]}"
        );
    }

    #[test]
    fn session_policy_fits_eighteen_organizations() {
        for access in [Access::Pull, Access::Push] {
            let scope = Scope::organizations(Stage::default(), organizations(18), access);
            assert!(session_policy(&host(), &scope, &[]).is_ok(), "{access}");
        }
        let scope = Scope::organizations(Stage::default(), organizations(19), Access::Push);
        let error = session_policy(&host(), &scope, &[]).unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.starts_with("credentials for 19 organizations need a"), "{error}");
        assert!(error.contains("of 2048; request fewer organizations"), "{error}");
    }

    #[test]
    fn additional_actions_are_allowed_for_push_and_delete() {
        let sign = AdditionalAction::new("signer:SignPayload", "arn:aws:signer:*").unwrap();
        let path: RepositoryPath = format!("prod/{}/a", OrganizationId::TBD).parse().unwrap();
        for (access, expected) in
            [(Access::Pull, false), (Access::Push, true), (Access::Delete, true)]
        {
            let scope = Scope::repository(path.clone(), access);
            let policy = session_policy(&host(), &scope, std::slice::from_ref(&sign)).unwrap();
            let policy: Value = serde_json::from_str(&policy).unwrap();
            let profile = "arn:aws:signer:us-east-1:1:/p";
            assert_eq!(allows(&policy, "signer:SignPayload", profile), expected, "{access}");
            assert!(!allows(&policy, "signer:SignPayload", &host().repository_arn(&path)));
        }
    }

    #[test]
    fn longest_path_fits_in_every_partition() {
        let name = "a".repeat(256 - "prod//".len() - OrganizationId::PRINTED_LEN);
        let path: RepositoryPath = format!("prod/{}/{name}", OrganizationId::TBD).parse().unwrap();
        for host in [HOST, "095412845506.dkr.ecr.us-gov-west-1.amazonaws.com"] {
            let scope = Scope::repository(path.clone(), Access::Delete);
            assert!(session_policy(&host.parse().unwrap(), &scope, &[]).is_ok(), "{host}");
        }
    }

    #[test]
    fn scope_without_organizations_has_no_policy() {
        let scope = Scope::organizations(Stage::default(), [], Access::Pull);
        let error = session_policy(&host(), &scope, &[]).unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    }

    fn access() -> impl Strategy<Value = Access> {
        prop::sample::select(vec![Access::Pull, Access::Push, Access::Delete])
    }

    /// Generates paths from a small set, so that they often repeat or have a common prefix.
    fn path() -> impl Strategy<Value = RepositoryPath> {
        ("prod|prod2|dev", 0u128..4, "a(/b|b|-b)?").prop_map(|(stage, bits, name)| {
            let organization = OrganizationId::from_u128(bits);
            format!("{stage}/{organization}/{name}").parse().unwrap()
        })
    }

    fn scope() -> impl Strategy<Value = Scope> {
        let organizations = prop::collection::btree_set(0u128..4, 1..4);
        let wide = ("prod|dev", organizations, access()).prop_map(|(stage, bits, access)| {
            let ids: BTreeSet<_> = bits.into_iter().map(OrganizationId::from_u128).collect();
            Scope::organizations(stage.parse().unwrap(), ids, access)
        });
        prop_oneof![
            (path(), access()).prop_map(|(path, access)| Scope::repository(path, access)),
            wide
        ]
    }

    proptest! {
        #[test]
        fn policy_allows_exactly_its_scope(
            scope in scope(),
            path in path(),
            level in 0usize..3,
        ) {
            let text = session_policy(&host(), &scope, &[]).unwrap();
            let policy: Value = serde_json::from_str(&text).unwrap();
            let (needed, actions) = ACTIONS[level];
            for action in actions {
                let own = host().repository_arn(&path);
                prop_assert_eq!(allows(&policy, action, &own), scope.covers(&path, needed));
                for elsewhere in [
                    "095412845507.dkr.ecr.us-east-1.amazonaws.com",
                    "095412845506.dkr.ecr.us-east-2.amazonaws.com",
                    "095412845506.dkr.ecr.cn-north-1.amazonaws.com.cn",
                ] {
                    let foreign = elsewhere.parse::<EcrHost>().unwrap().repository_arn(&path);
                    prop_assert!(!allows(&policy, action, &foreign));
                }
            }
            for forbidden in ["ecr:DeleteRepository", "ecr:SetRepositoryPolicy", "sts:AssumeRole"] {
                prop_assert!(!allows(&policy, forbidden, &host().repository_arn(&path)));
            }
            prop_assert!(allows(&policy, LOGIN_ACTION, "*"));
        }

        #[test]
        fn policy_length_is_within_the_limit(count in 1u128..40, access in access()) {
            let scope = Scope::organizations(Stage::default(), organizations(count), access);
            if let Ok(policy) = session_policy(&host(), &scope, &[]) {
                prop_assert!(policy.chars().count() <= MAX_POLICY_CHARS);
            } else {
                prop_assert!(count > 17, "{} organizations fit", count);
            }
        }
    }
}
