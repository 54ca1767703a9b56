//! Who may take a role: whoever has a token of the identity provider, for this audience, with its tags.

use super::IamDeployment;
use super::document::{PolicyDocument, Principal, Statement};
use super::tags::{Family, KIND, KINDS};

/// The second one is needed because the token carries session tags.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_permissions-required>
const TAKE: [&str; 2] = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"];

/// Of the access role: every kind of principal.
pub(super) fn of_access_role(deployment: &IamDeployment) -> PolicyDocument {
    PolicyDocument::new([statement(deployment)])
}

/// Of the administrator's role: who administers at least one organization.
pub(super) fn of_administrator_role(deployment: &IamDeployment) -> PolicyDocument {
    let administers = format!("aws:RequestTag/{}", Family::Administers.name());
    PolicyDocument::new([statement(deployment).when("Null", administers, ["false"])])
}

/// While a role is assumed, the token's tags are those of the request.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html>, and
/// for the conditions on tags <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>
fn statement(deployment: &IamDeployment) -> Statement {
    let tags = [KIND, "organization*", "administers*"];
    Statement::allow(TAKE)
        .called("Tokens")
        .of(Principal::Provider(deployment.provider_arn()))
        .when("StringEquals", format!("{}:aud", deployment.provider), [&deployment.audience])
        .when("StringEquals", format!("aws:RequestTag/{KIND}"), KINDS)
        .when("ForAllValues:StringLike", "aws:TagKeys", tags)
}
