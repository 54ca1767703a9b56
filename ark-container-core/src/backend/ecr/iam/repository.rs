//! The repository policy: no identity of this deployment reaches another organization's repository,
//! even under a role whose own policies are wider.

use super::document::{PolicyDocument, Principal, Statement};
use super::permissions::changes;
use super::tags::{Family, KIND};
use crate::backend::ecr::index::ORGANIZATION_TAG;
use crate::model::OrganizationId;

/// The policy that fits every repository: it asks for the repository's own tag.
///
/// Who lacks a tag has a value in its place that no repository has, and is denied. It speaks only of sessions
/// with the deployment's tags: the account's own administrators and services have no organization.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policies.html>
pub(super) fn policy() -> PolicyDocument {
    let resource_tag = || format!("aws:ResourceTag/{ORGANIZATION_TAG}");
    let global = || OrganizationId::GLOBAL.to_string();
    let own = Family::Organization.variables_or_none();
    let own = own.chain(Family::Administers.variables_or_none());
    let denied = |statement: Statement| {
        let is_of_deployment = format!("aws:PrincipalTag/{KIND}");
        statement.of(Principal::Anyone).when("Null", is_of_deployment, ["false"])
    };
    let elsewhere = denied(Statement::deny(["ecr:*"]).called("OtherOrganizations")).when(
        "StringNotEquals",
        resource_tag(),
        own.chain([global()]),
    );
    let global_changes = denied(Statement::deny(changes()).called("GlobalIsForAdministrators"))
        .when("StringEquals", resource_tag(), [global()])
        .when("StringNotEquals", resource_tag(), Family::Administers.variables_or_none());
    PolicyDocument::new([elsewhere, global_changes])
}
