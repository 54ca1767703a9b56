use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// Returns a deployment with long names, in the partition with the longest name.
fn longest() -> IamDeployment {
    let host = "095412845506.dkr.ecr-fips.us-gov-west-1.amazonaws.com".parse().unwrap();
    let stage = "integration-tests-of-a-large-team".parse().unwrap();
    let provider = "login.a-large-company.example.com/realms/containers";
    IamDeployment::new(host, stage, provider, "ark-catalog-container-tool")
        .unwrap()
        .with_repository_policy()
}

fn deployment(provider: &str, audience: &str) -> Result<IamDeployment> {
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
    IamDeployment::new(host, Stage::default(), provider, audience)
}

fn usual() -> IamDeployment {
    deployment("auth.example.com", "ark").unwrap()
}

fn documents(policies: &IamPolicies) -> Vec<Value> {
    let IamPolicies { access_role, administrator_role, repository_policy } = policies;
    let roles = [access_role, administrator_role];
    let documents = roles.into_iter().flat_map(|role| [&role.trust, &role.permissions]);
    let documents = documents.chain(repository_policy);
    documents.map(|document| serde_json::from_str(&document.to_string()).unwrap()).collect()
}

/// The limits ignore white space.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>, and for a
/// repository policy `RepositoryPolicyText` in the service model of ECR.
#[test]
fn policies_are_within_the_limits_of_aws() {
    for policies in [usual().policies(), longest().policies()] {
        for role in [&policies.access_role, &policies.administrator_role] {
            let (trust, permissions) = (role.trust.to_string(), role.permissions.to_string());
            assert!(trust.len() <= 2_048, "{} of {trust}", trust.len());
            assert!(permissions.len() <= 10_240, "{} of {permissions}", permissions.len());
        }
        let repository = policies.repository_policy.map(|policy| policy.to_string());
        assert!(repository.is_none_or(|policy| policy.len() <= 10_240));
    }
}

/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html>
#[test]
fn statement_names_are_unique_and_alphanumeric() {
    for document in documents(&longest().policies()) {
        let mut sids = BTreeSet::new();
        for statement in document["Statement"].as_array().unwrap() {
            let sid = statement["Sid"].as_str().unwrap();
            assert!(sid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{sid}");
            assert!(sids.insert(sid), "{sid}");
        }
    }
}

#[test]
fn only_login_and_tag_index_are_allowed_on_all_resources() {
    for document in documents(&longest().policies()) {
        for statement in document["Statement"].as_array().unwrap() {
            let resources = statement["Resource"].as_array().into_iter().flatten();
            for resource in resources.map(|resource| resource.as_str().unwrap()) {
                let organization = resource.split("repository/").nth(1);
                let organization = organization.and_then(|path| path.split('/').nth(1));
                if organization.is_some_and(|organization| !organization.contains('*')) {
                    continue;
                }
                let actions = statement["Action"].as_array().unwrap();
                let everywhere = ["ecr:GetAuthorizationToken", "tag:GetResources"];
                assert!(
                    actions.iter().all(|action| everywhere.contains(&action.as_str().unwrap()))
                );
            }
            let allows = statement["Effect"] == "Allow";
            let actions = statement["Action"].to_string();
            assert!(!allows || !actions.contains('*'), "{actions}");
        }
    }
}

#[test]
fn repository_policy_adds_only_administrators_permissions() {
    let (without, with) = (usual().policies(), usual().with_repository_policy().policies());
    assert_eq!(without.repository_policy, None);
    assert!(with.repository_policy.is_some());
    assert_eq!(without.access_role, with.access_role);
    assert_eq!(without.administrator_role.trust, with.administrator_role.trust);
    let (without, with) =
        (without.administrator_role.permissions, with.administrator_role.permissions);
    assert!(!without.to_string().contains("RepositoryPolicy"));
    let added = r#""ecr:GetRepositoryPolicy","ecr:SetRepositoryPolicy","#;
    assert_eq!(with.to_string().replace(added, ""), without.to_string());
}

/// Other principals must not expire images, or allow others to delete them.
#[test]
fn only_administrators_set_policies_of_repositories() {
    let permissions = longest().policies().access_role.permissions.to_string();
    for action in ["LifecyclePolicy", "RepositoryPolicy", "UntagResource", "Delete"] {
        assert!(!permissions.contains(action), "{action}");
    }
}

#[test]
fn policy_variables_have_a_default() {
    for document in documents(&longest().policies()) {
        let text = document.to_string();
        for variable in text.split("${").skip(1) {
            let (variable, _) = variable.split_once('}').unwrap();
            assert!(variable.ends_with(", '-'"), "{variable}");
        }
    }
}

#[test]
fn additional_actions_are_for_users_and_administrators() {
    let profile = "arn:aws:signer:us-east-1:095412845506:/signing-profiles/release";
    let sign = AdditionalAction::new("signer:SignPayload", profile).unwrap();
    let policies = usual().with_additional_actions([sign]).policies();
    let [access, administrator] = [policies.access_role, policies.administrator_role].map(|role| {
        let permissions: Value = serde_json::from_str(&role.permissions.to_string()).unwrap();
        let statements = permissions["Statement"].as_array().unwrap().clone();
        statements.into_iter().find(|statement| statement["Sid"] == "Additional1").unwrap()
    });
    let expected = serde_json::json!({
        "Sid": "Additional1",
        "Effect": "Allow",
        "Action": ["signer:SignPayload"],
        "Resource": [profile],
    });
    assert_eq!(administrator, expected);
    assert_eq!(access["Condition"]["StringEquals"]["aws:PrincipalTag/kind"][0], "user");
    assert_eq!(
        (&access["Action"], &access["Resource"]),
        (&expected["Action"], &expected["Resource"])
    );
}

#[test]
fn policies_name_the_partition_of_the_registry() {
    let policies = longest().policies();
    let text = serde_json::to_string(&policies).unwrap();
    assert!(text.contains("arn:aws-us-gov:iam::095412845506:oidc-provider/login."));
    assert!(!text.contains("arn:aws:"));
}

#[test]
fn provider_is_a_host_with_optional_path() {
    let written = |provider| deployment(provider, "ark").unwrap().policies();
    assert_eq!(written("https://auth.example.com"), written("auth.example.com"));
    for (provider, problem) in [
        ("", "it has no host"),
        ("http://auth.example.com", "':' is not allowed"),
        ("auth.example.com:8443", "':' is not allowed"),
        ("/realms/ark", "it has no host"),
        ("auth.example.com/*", "'*' is not allowed"),
        (&format!("auth.{}.com", "x".repeat(255)), "longer than 255 characters"),
    ] {
        let error = deployment(provider, "ark").unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn audience_is_text_without_variables() {
    assert!(deployment("auth.example.com", "https://ark.example.com/ ö").is_ok());
    for (audience, problem) in [
        ("", "it is empty"),
        ("${aws:username}", "'$' is not allowed"),
        ("a\nb", "'\\n' is not allowed"),
        (&"x".repeat(256), "longer than 255 characters"),
    ] {
        let error = deployment("auth.example.com", audience).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
